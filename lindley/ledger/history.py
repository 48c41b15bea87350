"""The chain as people read it: one view per version, oldest first."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import UnknownLink
from lindley.ledger.artifact_names import PLOTS, RECORD
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import fetch_listed, find_chain, read_record

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lindley.prior.matched import MatchedPrior


@dataclass(frozen=True)
class LinkView:
    """One version of a chain.

    Parameters
    ----------
    number
        Place in the chain; None for a version that is no link.
    status
        ``accepted``, ``quarantined`` or ``superseded``.
    created
        When it was registered, ISO 8601 in UTC, as the registry says.
    counted
        Whether the head counts its own batch.
    retracted
        Numbers of the links whose batches it takes out.
    taken_out_by
        Number of the link that took its batch out; None where none did.
    """

    number: int | None
    version: int
    kind: str
    status: str
    record_digest: str
    previous: str
    prior: str
    batch_digest: str
    origin: str
    rows: int
    run_id: str
    created: str
    reasons: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    counted: bool = False
    retracted: tuple[int, ...] = ()
    taken_out_by: int | None = None


def history(ledger: Ledger, name: str, *, every: bool = False) -> list[LinkView]:
    """Return a chain's links, oldest first.

    Parameters
    ----------
    ledger
        Where the chain is kept.
    name
        The chain.
    every
        Also quarantined and superseded versions, in version order.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    chain = find_chain(ledger, name)
    counted = {link.number for link in chain.at_head}
    views = [_link_view(chain, link, link.number in counted) for link in chain.links]
    if not every:
        return views
    own = [_view(version, None, "quarantined") for version in chain.quarantined]
    own += [_view(version, None, "superseded") for version in chain.superseded]
    # Those that a branch continues are versions of another chain, with numbers of their own.
    return [*views[: chain.base], *sorted([*views[chain.base :], *own], key=lambda view: view.version)]


def _link_view(chain: Chain, link: ChainLink, counted: bool) -> LinkView:
    """Return the view of a link."""
    gone = [chain.link_of(record) for record in link.version.retracted]
    taker = chain.taken_out(link)
    return replace(
        _view(link.version, link.number, "accepted"),
        counted=counted,
        retracted=tuple(other.number for other in gone if other is not None),
        taken_out_by=taker.number if taker is not None and not counted else None,
    )


def _view(version: Version, number: int | None, status: str) -> LinkView:
    return LinkView(
        number=number,
        version=version.number,
        kind=version.kind,
        status=status,
        record_digest=version.record,
        previous=version.previous,
        prior=version.prior,
        batch_digest=version.batch,
        origin=version.origin,
        rows=version.rows,
        run_id=version.run_id,
        created=version.created,
        reasons=version.reasons,
        metrics=version.metrics,
    )


@dataclass(frozen=True)
class Link:
    """One link of a chain, read from the ledger; every artifact is checked against its digest."""

    chain: str
    view: LinkView
    ledger: Ledger

    @cached_property
    def record(self) -> dict[str, Any]:
        """The link's record."""
        link = find_chain(self.ledger, self.chain).link_of(self.view.record_digest)
        if link is None:
            raise UnknownLink(f"{self.chain} has no link {self.view.record_digest[:12]}")
        return read_record(self.ledger, link)

    @property
    def parameters(self) -> list[str]:
        """Names of the coordinates that this link's belief covers."""
        from lindley.model.coordinates import Coordinates  # the readers import the numerical stack

        return Coordinates.from_list(self.record["posterior"]["coordinates"]).names

    def trace(self) -> xr.DataTree:
        """Return the trace (ArviZ's schema), in memory; no model is needed to read it.

        Raises
        ------
        LedgerCorrupt
            If the file is not the one that the record lists.
        """
        from lindley.ledger.netcdf import read_trace  # the readers import the numerical stack

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
        from lindley.batch.parquet_format import read_stored  # the readers import the numerical stack

        if not self.view.batch_digest:
            return None
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            frame: pd.DataFrame = read_stored(self._fetch("batch.parquet", Path(scratch))).to_pandas()
            return frame

    def matched_prior(self) -> MatchedPrior:
        """Return the matched prior: what the next link starts from."""
        from lindley.ledger.netcdf import read_matched_prior  # the readers import the numerical stack

        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            return read_matched_prior(self._fetch("matched_prior.nc", Path(scratch)))

    def artifacts(self) -> dict[str, int]:
        """Return the size in bytes of every artifact by path."""
        return self.ledger.artifacts(self.view.run_id)

    def download(self, path: str, folder: Path) -> Path:
        """Fetch one artifact into `folder`, checked against its digest; return where it is.

        Plots (``plots/...``) are not part of the record and have no digest there; `lindley plots` draws them
        again from the trace, which has one.
        """
        return self._fetch(path, folder)

    def _fetch(self, path: str, folder: Path) -> Path:
        """Fetch an artifact and compare its digest with the record's."""
        run_id = self.view.run_id
        if path == RECORD or path.startswith(PLOTS):
            return self.ledger.download(run_id, folder, path)
        what = f"The artifact {path} of {self.chain} link {self.view.number}"
        return fetch_listed(self.ledger, run_id, self.record, path, folder, what)


def find_link(ledger: Ledger, reference: str) -> Link:
    """Return the link that a reference names; see `lindley.api.load`."""
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
