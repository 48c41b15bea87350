"""What a flow run shows in the Prefect UI: a summary, a table of parameters, a picture."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.options import artifact_key, flow_run_url, step

if TYPE_CHECKING:
    from lindley.operations.plan import Outcome, Plan, Registered


@step("publish")
def publish(plan: Plan, outcome: Outcome, registered: Registered) -> None:
    """Leave the link's summary, parameters and picture as artifacts of the flow run."""
    from lindley.report.tables import parameter_rows

    about = f"{registered.chain}, version {registered.version}, {registered.status}"

    def named(what: str, description: str) -> dict[str, str]:
        return {"key": artifact_key(registered.chain, what), "description": f"{about}: {description}"}

    create_markdown_artifact(summary_text(plan, outcome, registered), **named("summary", "what changed"))
    create_table_artifact(
        parameter_rows(outcome.summary), **named("parameters", "prior, posterior, movement")
    )
    create_markdown_artifact(picture_text(outcome), **named("prior-posterior", "the picture"))


def summary_text(plan: Plan, outcome: Outcome, registered: Registered) -> str:
    """Return the note of the link, as it became, with links to its MLflow run and version."""
    from lindley.report.note import NotedLink, link_note

    addresses = {
        "MLflow run": registered.run_url or "",
        "MLflow version": registered.version_url or "",
        "flow run": flow_run_url() or "",
    }
    link = NotedLink(
        chain=registered.chain,
        kind="update",
        number=registered.link,
        prior=plan.head.number if plan.head else None,
        status=registered.status,
        batch=plan.batch,
    )
    digests = {"record": registered.record_digest, "batch": plan.batch.digest, "previous": plan.previous}
    return link_note(outcome.summary, link, outcome.gate, digests=digests, addresses=addresses)


def picture_text(outcome: Outcome) -> str:
    """Return Markdown that holds the picture of prior and posterior itself.

    Not an image artifact: those show their URL below the picture, here as kilobytes of base64 that
    run across the page.
    """
    from lindley.report.figures import prior_posterior_figure, save

    buffer = io.BytesIO()
    save(prior_posterior_figure(outcome.trace), buffer)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"![Prior and posterior of every parameter](data:image/png;base64,{encoded})"
