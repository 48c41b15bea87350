"""Put Lindley's work pool, deployments and automation on a Prefect server.

The work pool's template has neither a command nor an environment: a run can bring none of its own, and
Prefect's server refuses one that tries. The automation marks runs whose process has vanished as crashed;
without it Prefect shows them as running for ever.
"""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from flows.own_run import POSTPONED
from flows.server.prefect_module import command
from flows.states import STATE_NAMES
from lindley.errors import LindleyError
from tasks.names import DECIDE

#: Name of the automation.
AUTOMATION = "Lindley: mark runs without heartbeat as crashed"
#: Seconds without a heartbeat after which a run is dead; workers send one every 30 s.
SILENT_SECONDS = 90


#: Name of the automation that calls the webhook, and of the block with its address.
NOTIFICATION = "Lindley: call the webhook"
_BLOCK = "lindley-webhook"
#: What the webhook gets; the filter writes JSON.
_BODY = (
    '{"event": {{ event.event | tojson }}, "id": {{ event.id | string | tojson }}, '
    '"occurred": {{ event.occurred | string | tojson }}, "chain": {{ event.resource.name | tojson }}, '
    '"payload": {{ event.payload | tojson }}}'
)

_HEARTBEAT = "prefect.flow-run.heartbeat"
#: Names of states without a process, which are what the events of runs are called.
_ENDED = {"Suspended", "Completed", "Failed", "Cancelled", "Crashed", "TimedOut", "Verified", POSTPONED}
_ENDED |= set(STATE_NAMES.values())


class DeployFailed(LindleyError):
    """Prefect's server did not take the deployments."""


def pool_template(*, foreign_runs: bool) -> dict[str, Any] | None:
    """Return the template of the work pool's jobs; None for Prefect's own.

    Parameters
    ----------
    foreign_runs
        Runs may have a command, an environment and a working folder of their own.
    """
    if foreign_runs:
        return None
    name = {"title": "Name", "type": "string", "description": "Name of the process."}
    return {
        "job_configuration": {"name": "{{ name }}"},
        "variables": {"type": "object", "properties": {"name": name}, "additionalProperties": False},
    }


def automation(pool: str) -> AutomationCore:
    """Return the automation that marks runs of a work pool as crashed when their heartbeats stop.

    Runs that ask a person are left out. Their first heartbeat may reach the server after the event of their
    suspension, and would then count as the last sign of a process that died.
    """
    return AutomationCore(
        name=AUTOMATION,
        description="Marks a flow run whose process was killed; its file is taken again.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT} | {f"prefect.flow-run.{name}" for name in _ENDED},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[
                ResourceSpecification({"prefect.resource.role": "work-pool", "prefect.resource.name": pool}),
                ResourceSpecification(
                    {"prefect.resource.role": "deployment", "prefect.resource.name": f"!{DECIDE}"}
                ),
            ],
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="Its process sent no heartbeat for a while; a file that is still in the landing "
                "folder is taken again.",
                force=False,  # a run that has ended stays as it is
            )
        ],
    )


def notification(block: UUID) -> AutomationCore:
    """Return the automation that calls a webhook, whose block is given, with every event of a chain."""
    return AutomationCore(
        name=NOTIFICATION,
        description="Sends events of chains to a webhook.",
        trigger=EventTrigger(
            expect={"lindley.link.*", "lindley.chain.*"},
            match={"prefect.resource.id": "lindley.chain.*"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[CallWebhook(block_document_id=block, payload=_BODY)],
    )


def notify_by(client: SyncPrefectClient, url: str) -> None:
    """Store the address of a webhook as a secret, and let an automation call it.

    Raises
    ------
    DeployFailed
        If it is no address of a web server; the message does not quote it, since it may hold a secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeployFailed(
            "The address of the webhook cannot be used",
            expected="https://HOST/... or http://HOST/...",
            found=f"an address of the scheme {parts.scheme[:20]!r}",
            todo="correct --notify or LINDLEY_NOTIFY",
        )
    block = Webhook(url=SecretStr(url)).save(_BLOCK, overwrite=True)
    _set_automation(client, notification(cast("UUID", block)))


def deploy(file: Path, pool: str, *, foreign_runs: bool = False, notify: str = "") -> None:
    """Put everything on the Prefect server of the environment; what is there already is replaced.

    Parameters
    ----------
    file
        The ``prefect.yaml`` with the deployments.
    pool
        Name of the work pool, which the deployments name too.
    foreign_runs
        See `pool_template`.
    notify
        Address of a webhook that gets every event of a chain; empty to change nothing.

    Raises
    ------
    DeployFailed
        If the deployments are refused.
    """
    template = pool_template(foreign_runs=foreign_runs)
    wanted = WorkPoolCreate(name=pool, type="process")
    if template is not None:
        wanted = WorkPoolCreate(name=pool, type="process", base_job_template=template)
    with get_client(sync_client=True) as client:
        client.create_work_pool(wanted, overwrite=True)
        _deploy_flows(file)
        _set_automation(client, automation(pool))
        if notify:
            notify_by(client, notify)


def _deploy_flows(file: Path) -> None:
    deploy_all = command("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file))
    done = subprocess.run(deploy_all, check=False, capture_output=True, text=True, cwd=file.parent)
    if done.returncode != 0:
        raise DeployFailed(
            f"The deployments of {file.name} were not taken",
            expected="`prefect deploy --all` to end with exit code 0",
            found=f"{done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}",
            todo=f"correct {file}, or the address of the Prefect server",
        )


def _set_automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Create an automation, or update the one of its name."""
    there = client.read_automations_by_name(wanted.name)
    if there:
        client.update_automation(there[0].id, wanted)
    else:
        client.create_automation(wanted)
