"""The Python API: load any link of a chain, search runs, verify.

>>> import lindley
>>> link = lindley.load("boarding_school_flu@head")      # doctest: +SKIP
>>> link.trace()["posterior"]["R0"].mean()               # doctest: +SKIP
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.artifact_names import PLOTS, RECORD
from lindley.errors import UnknownLink
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lindley.history import LinkView
    from lindley.ledger import Ledger
    from lindley.prior import MatchedPrior
    from lindley.verifier import Report


@dataclass(frozen=True)
class Link:
    """One link of a chain, read from the ledger; every artifact is checked against its digest."""

    chain: str
    view: LinkView
    ledger: Ledger

    @cached_property
    def record(self) -> dict[str, Any]:
        """The link's record."""
        from lindley.reading import find_chain, read_record  # the readers import the numerical stack

        link = find_chain(self.ledger, self.chain).link_of(self.view.record_digest)
        if link is None:
            raise UnknownLink(f"{self.chain} has no link {self.view.record_digest[:12]}")
        return read_record(self.ledger, link)

    @property
    def parameters(self) -> list[str]:
        """Names of the coordinates that this link's belief covers."""
        from lindley.coordinates import Coordinates  # the readers import the numerical stack

        return Coordinates.from_list(self.record["posterior"]["coordinates"]).names

    def trace(self) -> xr.DataTree:
        """Return the trace (ArviZ's schema), in memory; no model is needed to read it.

        Raises
        ------
        LedgerCorrupt
            If the file is not the one that the record lists.
        """
        from lindley.arrays import read_trace  # the readers import the numerical stack

        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            return read_trace(self._fetch("trace.nc", Path(scratch)))

    def summary(self) -> pd.DataFrame:
        """Return the summary table at full precision, indexed by parameter."""
        import pandas as pd  # imported on use, to keep `import lindley` light

        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            # pandas reads floats to the last digit, which is what was written.
            return pd.read_csv(self._fetch("summary.csv", Path(scratch)), index_col="parameter")

    def batch(self) -> pd.DataFrame | None:
        """Return the batch as a frame; None for a link without one (kind ``import``)."""
        from lindley.readers import read_stored  # the readers import the numerical stack

        if not self.view.batch_digest:
            return None
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            frame: pd.DataFrame = read_stored(self._fetch("batch.parquet", Path(scratch))).to_pandas()
            return frame

    def matched_prior(self) -> MatchedPrior:
        """Return the matched prior: what the next link starts from."""
        from lindley.arrays import read_matched_prior  # the readers import the numerical stack

        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            return read_matched_prior(self._fetch("matched_prior.nc", Path(scratch)))

    def artifacts(self) -> dict[str, int]:
        """Return the size in bytes of every artifact by path."""
        return self.ledger.artifacts(self.view.run_id)

    def download(self, path: str, folder: Path) -> Path:
        """Fetch one artifact into `folder`, checked against its digest; return where it is.

        Pictures (``plots/...``) are no part of most records and have no digest there: `lindley plots` draws
        them again from the trace, which has one.
        """
        return self._fetch(path, folder)

    def _fetch(self, path: str, folder: Path) -> Path:
        """Fetch an artifact and compare its digest with the record's."""
        from lindley.reading import fetch_listed  # with the other readers

        run_id = self.view.run_id
        if path == RECORD or (path.startswith(PLOTS) and path not in self.record["artifacts"]):
            return self.ledger.download(run_id, folder, path)
        what = f"The artifact {path} of {self.chain} link {self.view.number}"
        return fetch_listed(self.ledger, run_id, self.record, path, folder, what)


def load(reference: str, *, workspace: Workspace | None = None) -> Link:
    """Load a link: ``"CHAIN"``, ``"CHAIN@head"`` or ``"CHAIN@3"`` (the third link).

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    from lindley.ledger import open_ledger  # imports the registry's client

    return find_link(open_ledger(workspace or Workspace.from_environment()), reference)


def find_link(ledger: Ledger, reference: str) -> Link:
    """Return the link that a reference names; see `load`."""
    from lindley.history import history  # with the other readers

    name, _, place = reference.partition("@")
    links = history(ledger, name)
    if links and place in {"", "head"}:
        return Link(chain=name, view=links[-1], ledger=ledger)
    found = [view for view in links if place.isdigit() and view.number == int(place)]
    if not found:
        raise UnknownLink(
            f"{name} has no link {place or 'head'!r}",
            expected=f"head, or a number from 1 to {len(links)}"
            if links
            else "a chain with at least one link",
            found=repr(reference),
            todo=f"run `lindley log {name}`",
        )
    return Link(chain=name, view=found[0], ledger=ledger)


def runs(chain: str, *, workspace: Workspace | None = None) -> pd.DataFrame:
    """Return one row per link, oldest first: digests, batch, figures (as columns), run id.

    Quarantined and superseded versions are among the rows, with their status.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    import pandas as pd  # imported on use, to keep `import lindley` light

    from lindley.history import history
    from lindley.ledger import open_ledger

    views = history(open_ledger(workspace or Workspace.from_environment()), chain, every=True)
    rows = []
    for view in views:
        fields = {name: getattr(view, name) for name in view.__dataclass_fields__ if name != "metrics"}
        rows.append(fields | view.metrics)
    return pd.DataFrame(rows)


def verify(chain: str, *, workspace: Workspace | None = None) -> Report:
    """Verify a chain: all digests and rules; see `lindley.verify`."""
    from lindley.evidence import verify_chain  # imports the numerical stack
    from lindley.ledger import open_ledger

    return verify_chain(open_ledger(workspace or Workspace.from_environment()), chain)
