"""The chain as people read it: one view per version, oldest first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import not_of_panels
from lindley.ledger.chain import Chain, ChainLink, Version, records_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import fetch_listed, find_chain, read_table, record_of
from lindley.ledger.record import Artifact, Status
from lindley.ledger.references import choose_link
from lindley.report.text import counted as count_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lindley.model.declaration import Declaration
    from lindley.prior.matched import MatchedPrior
    from lindley.serving.predict import Predictor


@dataclass(frozen=True)
class LinkView:
    """One version of a chain.

    Parameters
    ----------
    number
        Place in the chain; None for a version that is no link.
    status
        One of `REGISTERED`, or `Status.SUPERSEDED`.
    created
        When it was registered, ISO 8601 in UTC, from the registry.
    reasons, warnings
        Why the gate refused its fit, and what to watch although it passed.
    counted
        Whether the head counts its own batch.
    retracted
        Numbers of the links whose batches it takes out.
    joined
        Files of the quarantined batches that count from it on.
    taken_out_by
        Number of the link that took its batch out; None where none did.
    who, why
        Of a decision of a person on another version: who decided so, and why.
    decided
        Of that other version: what was decided, by whom and why, in words; empty where nothing was.
    waits
        Of a candidate: whether nobody has decided on it.
    stale
        Whether it was fitted on a head that has moved since, so that it has to be fitted again.
    """

    number: int | None
    version: int
    kind: str
    status: Status
    record_digest: str
    previous: str
    prior: str
    batch_digest: str
    origin: str
    rows: int
    run_id: str
    created: str
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    counted: bool = False
    retracted: tuple[int, ...] = ()
    joined: tuple[str, ...] = ()
    taken_out_by: int | None = None
    who: str = ""
    why: str = ""
    decided: str = ""
    waits: bool = False
    stale: bool = False

    @property
    def amendments(self) -> list[str]:
        """Sentences on what it takes out or joins, and on whether its own batch still counts."""
        found = [f"also counts {', '.join(self.joined)}, quarantined before"] if self.joined else []
        if self.who:
            found.append(f"{_VERDICTS[self.status]} by {self.who}: {self.why}")
        if self.decided:
            found.append(self.decided)
        if self.waits:
            found.append("fitted on a head that has moved: to be fitted again" if self.stale
                         else "a person has to approve or reject it")  # fmt: skip
        if self.retracted:
            found.append(f"takes out {', '.join(f'link {number}' for number in self.retracted)}")
        if self.batch_digest and self.number and not self.counted:
            by = f", taken out by link {self.taken_out_by}" if self.taken_out_by else ""
            found.append(f"no longer counted{by}")
        return found


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
    return views_of(find_chain(ledger, name), every=every)


def views_of(chain: Chain, *, every: bool = False) -> list[LinkView]:
    """Return the links of a chain, oldest first; see `history`."""
    counted = set(records_of(chain.at_head))
    views = [_link_view(chain, link, link.version.record in counted) for link in chain.links]
    if not every:
        return views
    own = [_view(version, version.status, **_decided(chain, version))
           for version in (*chain.quarantined, *chain.candidates, *chain.rejections)]  # fmt: skip
    own += [_view(version, Status.SUPERSEDED) for version in chain.superseded]
    # The links that a branch continues are versions of another chain, with numbers of their own.
    return [*views[: chain.base], *sorted([*views[chain.base :], *own], key=lambda view: view.version)]


def waiting(chain: Chain) -> list[LinkView]:
    """Return the quarantined versions whose batches the chain does not count, in version order."""
    return [_view(version, Status.QUARANTINED) for version in chain.waiting]


def undecided(chain: Chain) -> list[LinkView]:
    """Return the candidates on which a person has to decide, in version order; see `Chain.undecided`."""
    return [_view(version, version.status, **_decided(chain, version)) for version in chain.undecided]


def _decided(chain: Chain, version: Version) -> dict[str, Any]:
    """Return the fields of a view on what a person decided, or has to decide, of a version."""
    decision, waits = chain.decided.get(version.record), version in chain.undecided
    sentence = f"{_VERDICTS[decision.status]} by {decision.who}: {decision.why}" if decision else ""
    return {"decided": sentence, "waits": waits, "stale": waits and version.previous != chain.head_digest}


#: What the version of a decision states.
_VERDICTS = {Status.ACCEPTED: "approved", Status.REJECTED: "rejected"}


def _link_view(chain: Chain, link: ChainLink, counted: bool) -> LinkView:
    """Return the view of a link."""
    gone = [chain.brought.get(record) for record in link.version.retracted]
    taker = chain.taken_out(link)
    return _view(
        link.version,
        Status.ACCEPTED,
        number=link.number,
        counted=counted,
        retracted=tuple(other.number for other in gone if other is not None),
        joined=tuple(version.origin for version in link.joined),
        taken_out_by=taker.number if taker is not None and not counted else None,
    )


def _view(version: Version, status: Status, *, number: int | None = None, **place: Any) -> LinkView:
    """Return the view of a version; `place` holds what depends on other links."""
    same = (
        "kind", "previous", "prior", "origin", "rows", "run_id", "created", "reasons", "warnings", "metrics",
        "who", "why",
    )  # fmt: skip
    return LinkView(
        number=number,
        version=version.number,
        status=status,
        record_digest=version.record,
        batch_digest=version.batch,
        **{name: getattr(version, name) for name in same},
        **place,
    )


@dataclass(frozen=True)
class Link:
    """One link of a chain, read from the ledger; every artifact is checked against its digest.

    Parameters
    ----------
    waiting
        Files of the quarantined batches that the chain's head does not count.
    """

    chain: str
    view: LinkView
    ledger: Ledger
    waiting: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line: which link it is, its batch, its record."""
        view = self.view
        warned = f", {count_of(len(view.warnings), 'warning')}" if view.warnings else ""
        batch = f": {view.origin}, {count_of(view.rows, 'row')}" if view.batch_digest else ""
        return f"{self.chain}@{view.number} ({view.kind}){batch}, record {view.record_digest[:12]}{warned}"

    __repr__ = __str__

    @cached_property
    def record(self) -> dict[str, Any]:
        """The link's record."""
        view = self.view
        return record_of(self.ledger, view.run_id, view.record_digest, f"link {view.number}")

    @property
    def parameters(self) -> list[str]:
        """Names of the coordinates that this link's belief covers."""
        from lindley.model.coordinates import Coordinates  # the readers import the numerical stack

        return Coordinates.from_list(self.of_one_belief["posterior"]["coordinates"]).names

    @property
    def has_members(self) -> bool:
        """Whether it is a link of a panel; its record need not be read."""
        return "members" in self.view.metrics

    @property
    def of_one_belief(self) -> dict[str, Any]:
        """The link's record.

        Raises
        ------
        PanelRefused
            If it is that of a panel.
        """
        if "panel" in self.record:
            raise not_of_panels(self.chain, "its links hold no single belief", "read one of its members")
        return self.record

    def trace(self) -> xr.DataTree:
        """Return the trace (ArviZ's schema), in memory; no model is needed to read it.

        Raises
        ------
        LedgerCorrupt
            If the file is not the one that the record lists.
        """
        from lindley.ledger.netcdf import read_trace  # the readers import the numerical stack

        _ = self.of_one_belief
        return self._read(Artifact.TRACE, read_trace)

    def summary(self) -> pd.DataFrame:
        """Return the summary table at full precision, indexed by parameter."""
        return self._read(Artifact.SUMMARY, read_table)

    def batch(self) -> pd.DataFrame | None:
        """Return the batch as a frame; None for a link without a batch of its own."""
        from lindley.batch.parquet_format import read_stored  # the readers import the numerical stack

        if not self.view.batch_digest:
            return None
        return self._read(Artifact.BATCH, lambda path: read_stored(path).to_pandas())

    def matched_prior(self) -> MatchedPrior:
        """Return the matched prior: what the next link starts from."""
        from lindley.ledger.netcdf import read_matched_prior  # the readers import the numerical stack

        _ = self.of_one_belief
        return self._read(Artifact.MATCHED_PRIOR, read_matched_prior)

    def artifacts(self) -> dict[str, int]:
        """Return the size in bytes of every artifact by path."""
        return self.ledger.artifacts(self.view.run_id)

    def download(self, path: str, folder: Path) -> Path:
        """Fetch one artifact into `folder`, checked against its digest; return where it is.

        Plots (``plots/...``) are not part of the record and have no digest there; `lindley plots` draws them
        again from the trace, which has one.
        """
        run_id = self.view.run_id
        if path == Artifact.RECORD or path.startswith(Artifact.PLOTS):
            return self.ledger.download(run_id, folder, path)
        what = f"The artifact {path} of {self.chain} link {self.view.number}"
        return fetch_listed(self.ledger, run_id, self.record, path, folder, what)

    def predict(self, inputs: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
        """Summarise the posterior predictive distribution at new inputs; see `lindley.serving.predict`.

        Draws and model are checked against their digests before the model's code runs. MLflow is not asked
        where they are, and its copy of Lindley's code is not used. Any number of threads may call it.

        Raises
        ------
        LedgerCorrupt
            If a file is not the one that the record lists.
        BatchRefused
            If the inputs do not fit the schema, or the model cannot predict for them.
        """
        return self.predictor.predict(inputs, seed=seed)

    @cached_property
    def predictor(self) -> Predictor:
        """What answers for the belief: draws for predictions, and the model that is stored with them."""
        return self.predictor_with(None)

    def predictor_with(self, declaration: Declaration | None) -> Predictor:
        """Return `predictor` with a declaration that was loaded from the same model code; None loads it."""
        import xarray as xr  # see `trace`

        from lindley.serving.predict import Predictor

        name = next(path for path in self.of_one_belief["artifacts"] if path.endswith("/draws.nc"))

        def loaded(path: Path) -> xr.Dataset:
            with xr.open_dataset(path, engine="h5netcdf") as draws:
                return draws.load()

        return Predictor(self._read(name, loaded), declaration or self.declaration())

    def declaration(self) -> Declaration:
        """Return the declaration that is stored with the link; executes the code of its model.

        Model and modules are checked against their digests before.
        """
        from lindley.model.declaration import load_stored  # see `trace`

        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            stored = Artifact.MODULES in self.record["artifacts"]
            modules = self.download(Artifact.MODULES, Path(scratch)) if stored else None
            return self._read(Artifact.MODEL, lambda path: load_stored(path, modules))

    def download_belief(self, folder: Path) -> Path:
        """Fetch the MLflow model into `folder`, every file checked against its digest; return where it is.

        Files that the record does not list are left out. Load the result with `mlflow.pyfunc.load_model`.

        Raises
        ------
        LedgerCorrupt
            If a file is missing, or not the one that the record lists.
        """
        for path in self.record["artifacts"]:
            if path.startswith("belief/"):
                self.download(path, folder)
        return folder / "belief"

    def _read[T](self, path: str, reader: Callable[[Path], T]) -> T:
        """Fetch an artifact, check it, and read it."""
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            return reader(self.download(path, Path(scratch)))


def find_link(ledger: Ledger, reference: str) -> Link:
    """Return the link that a reference names: ``CHAIN``, or ``CHAIN@`` and a word for `choose_link`.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    name, _, place = reference.partition("@")
    chain = find_chain(ledger, name)
    link = choose_link(chain, place)
    view = _link_view(chain, link, link in chain.at_head)
    return Link(name, view, ledger, tuple(version.origin for version in chain.waiting))
