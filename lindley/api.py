"""The Python API: load any link of a chain, search runs, verify.

>>> import lindley
>>> link = lindley.load("boarding_school_flu@head")      # doctest: +SKIP
>>> link.trace()["posterior"]["R0"].mean()               # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from lindley.ledger.history import Link
    from lindley.ledger.protocol import Ledger
    from lindley.verification.rules import Report


def load(
    reference: str,
    *,
    workspace: Workspace | None = None,
    key: Path | str | Sequence[Path | str] | None = None,
    witness: Path | str | Sequence[Path | str] | None = None,
    seen: Path | str | None = None,
) -> Link:
    """Load a link: ``"CHAIN"``, ``"CHAIN@head"``, ``"CHAIN@3"`` (the third link) or ``"CHAIN@DIGEST"``.

    That of a panel is a `lindley.panel.link.PanelLink`: ``.member(store=12)``, ``.frame()``, ``.members()``.

    Parameters
    ----------
    reference
        Which link.
    workspace
        Where the ledger is; the working folder by default.
    key
        Public keys (PEM files): the link must be signed by one of them.
    witness
        Head statements (`lindley head`): the chain must still have their history.
    seen
        A folder that remembers the newest head of each chain: the chain must still have the one that was seen
        last, so that a store that was put back to an earlier state is noticed.

    Raises
    ------
    LedgerCorrupt
        If the link is not signed, or the chain lacks links that were there.
    KeyRefused, WitnessRefused
        If a key or a witness cannot be used.
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    from lindley.verification.loading import Brought, checked_link, paths  # imports the numerical stack

    brought = Brought(keys=paths(key), witnesses=paths(witness), seen=None if seen is None else Path(seen))
    return checked_link(_ledger(workspace), reference, brought)


def runs(chain: str, *, workspace: Workspace | None = None) -> pd.DataFrame:
    """Return one row per link, oldest first: digests, batch, metrics (as columns), run id.

    Quarantined and superseded versions are among the rows, with their status.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    import pandas as pd  # imported on use, to keep `import lindley` light

    from lindley.ledger.history import history

    views = history(_ledger(workspace), chain, every=True)
    table = pd.DataFrame([vars(view) | view.metrics for view in views])
    return table.drop(columns="metrics", errors="ignore")


def verify(chain: str, *, workspace: Workspace | None = None) -> Report:
    """Verify a chain: all digests and rules; see `lindley.verify`."""
    from lindley.verification.gather import verify_chain  # imports the numerical stack

    return verify_chain(_ledger(workspace), chain)


def _ledger(workspace: Workspace | None) -> Ledger:
    from lindley.ledger.backend import open_ledger  # imports the registry's client

    return open_ledger(workspace or Workspace.from_environment(), create=False)
