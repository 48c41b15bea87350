"""What a flow run shows in the Prefect UI: a summary, a table of parameters, a plot."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.options import artifact_key, flow_run_url, step

if TYPE_CHECKING:
    import pandas as pd

    from lindley.ledger.registration import Registered
    from lindley.ledger.writing import LoggedLink
    from lindley.operations.panel.fit import PanelOutcome
    from lindley.operations.plan import Outcome, Plan


@step("publish")
def publish(
    plan: Plan, outcome: Outcome | PanelOutcome, logged: LoggedLink | None, registered: Registered | None
) -> None:
    """Leave what was fitted as artifacts of the flow run.

    Of a pooled refit that is its comparison with the chain; of another link its summary, parameters and plot.
    """
    from lindley.operations.panel.fit import PanelOutcome as Members
    from lindley.report.tables import audit_rows

    chain = plan.declaration.name
    if isinstance(outcome, Members):
        if logged is not None and registered is not None:
            _publish_panel(plan, outcome, logged, registered)
    elif outcome.audit is not None:
        create_table_artifact(
            audit_rows(outcome.audit),
            key=artifact_key(chain, "audit"),
            description=f"{chain}: the chain against the pooled refit, in pooled sds",
        )
    elif logged is not None and registered is not None:
        _publish_link(outcome, logged, registered)


def _named(registered: Registered, what: str, description: str) -> dict[str, str]:
    """Return key and description of an artifact."""
    about = f"{registered.chain}, version {registered.version}, {registered.status}"
    return {"key": artifact_key(registered.chain, what), "description": f"{about}: {description}"}


def _publish_panel(plan: Plan, outcome: PanelOutcome, logged: LoggedLink, registered: Registered) -> None:
    """Leave a panel at a glance: its note, the members that moved most, and the worst ones."""
    from lindley.operations.panel.log import summary_of, worst_rows

    text = summary_text(summary_of(plan, outcome), logged, registered)
    text += "\n\n" + " ".join(f"{sentence}." for sentence in outcome.highlights(None))
    create_markdown_artifact(text, **_named(registered, "summary", "what changed"))
    create_table_artifact(worst_rows(outcome.rows), **_named(registered, "members", "the worst ones first"))


def _publish_link(outcome: Outcome, logged: LoggedLink, registered: Registered) -> None:
    from lindley.report.tables import parameter_rows

    def named(what: str, description: str) -> dict[str, str]:
        return _named(registered, what, description)

    text = summary_text(outcome.info.summary, logged, registered)
    create_markdown_artifact(text, **named("summary", "what changed"))
    create_table_artifact(
        parameter_rows(outcome.info.summary), **named("parameters", "prior, posterior, movement")
    )
    create_markdown_artifact(plot_text(outcome), **named("prior-posterior", "the plot"))


def summary_text(summary: pd.DataFrame, logged: LoggedLink, registered: Registered) -> str:
    """Return the note of the link, as it became, with links to its MLflow run and version."""
    from lindley.inference.diagnostics.gate import Gate
    from lindley.ledger.writing import whole_note
    from lindley.report.note import link_note

    noted = replace(logged.noted, number=registered.link, status=registered.status)
    addresses = {
        "MLflow run": registered.run_url or "",
        "MLflow version": registered.version_url or "",
        "flow run": flow_run_url() or "",
    }
    text = link_note(summary, noted, Gate(**logged.record["gate"]))
    return whole_note(text, logged.record, logged.record_digest, addresses)


def plot_text(outcome: Outcome) -> str:
    """Return Markdown that holds the plot of prior and posterior itself.

    Not an image artifact: those show their URL below the plot, here as kilobytes of base64 that
    run across the page.
    """
    from lindley.report.figures import prior_posterior_figure, save

    buffer = io.BytesIO()
    save(prior_posterior_figure(outcome.info.trace), buffer)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"![Prior and posterior of every parameter](data:image/png;base64,{encoded})"
