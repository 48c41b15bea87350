"""What a ledger must do: the one boundary between the core and the place where beliefs are kept.

The order in which a link comes into being is the caller's (`lindley.operations.plan`): artifacts, read back
and verified; then the version, with all its tags in the call that creates it; then the head hint.
Nothing is overwritten and nothing is deleted through this interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lindley.errors import HomeRefused
from lindley.ledger.chain import Version
from lindley.model.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """What a run shows to people beside its artifacts.

    Parameters
    ----------
    name
        Run name.
    params, metrics, tags
        As in the registry's interface; names are sanitised there.
    note
        Markdown.
    frame, batch_digest, origin
        The batch, for registries that track datasets; None for a run without a batch.
    """

    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    frame: pd.DataFrame | None = None
    batch_digest: str = ""
    origin: str = ""


class RunStatus(StrEnum):
    """Whether a run is open, and how it ended."""

    RUNNING = "running"
    FINISHED = "finished"
    KILLED = "killed"


@dataclass(frozen=True)
class RunState:
    """What a run holds, as read back.

    Parameters
    ----------
    deleted
        Whether it was deleted and can still be restored; its files are there until a garbage collection.
    params
        As in `Run`, with the names that the ledger gives them.
    note
        As in `Run`.
    """

    status: RunStatus
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    deleted: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Home:
    """Where the runs of a chain are kept: in MLflow an experiment.

    Parameters
    ----------
    name
        As people know it.
    deleted
        Whether it was deleted and can still be restored: it takes no new run, and a garbage collection
        removes the files of its runs.
    restore
        How people restore it.
    elsewhere
        Address to which the files of its runs would go, where that is none that the ledger itself chooses.
    roots
        In words, what the ledger chooses.
    """

    name: str
    deleted: bool = False
    restore: str = ""
    elsewhere: str = ""
    roots: str = ""

    def require(self, chain: str) -> None:
        """Check that it takes another run of a chain.

        Raises
        ------
        HomeRefused
            If it was deleted, or its files would go elsewhere.
        """
        if self.elsewhere:
            raise HomeRefused(
                f"{self.name} sends the batches and beliefs of {chain} to another place than its server does",
                expected=f"an address of its own {self.roots}",
                found=self.elsewhere,
                todo="find out who created it. If the address is right, set LINDLEY_ARTIFACT_ROOT to it or "
                "to what it lies below; if not, rename it (`mlflow experiments rename`), and run this again",
            )
        if self.deleted:
            raise HomeRefused(
                f"{self.name}, where the runs of {chain} are kept, was deleted",
                expected="a place that takes the run of a new link",
                found="one that was deleted with all its runs: the next garbage collection of the server "
                "removes their files for good",
                todo=f"restore it ({self.restore}), then run this again",
            )


class Ledger(Protocol):
    """Where chains are kept."""

    def chains(self) -> list[str]:
        """Return the names of all chains, sorted."""

    def home(self, chain: str) -> Home | None:
        """Return where the runs of a chain are kept, deleted or not; None before the first of them."""

    def genesis(self, chain: str) -> bytes | None:
        """Return the bytes of a chain's genesis record; None if there is no such chain.

        Raises
        ------
        LedgerCorrupt
            If the bytes are missing or do not have the digest that the registry states; `expected` is
            then "sha256 " and that digest.
        """

    def claim(self, chain: str, genesis: bytes, description: str) -> bytes:
        """Start a chain, atomically; return the genesis record that holds (another writer's, if it won)."""

    def versions(self, chain: str, *, fresh: bool = True) -> list[Version]:
        """Return all versions of a chain in number order.

        Unless it has to be `fresh`, what this process listed before may be taken as it was, as far as the
        newest version of it; what came since is always there.
        """

    def loaded_from(self, chain: str, number: int) -> str:
        """Return the address from which the registry loads the belief of a version; empty if it is unknown.

        It need not be the version's `source`.
        """

    def package(
        self, folder: Path, declaration: Declaration, draws: Path | None, example: pd.DataFrame | None
    ) -> None:
        """Add to `folder` what the registry needs to serve the belief, without pickles.

        The folder holds the model file already. `draws` is None for a panel, whose members are added
        later. `example` has a few rows as a prediction takes them, or is None.
        """

    def open_run(self, chain: str, run: Run) -> str:
        """Start a run and log everything of `run`; return its id."""

    def kept(
        self, params: Mapping[str, str], metrics: Mapping[str, float]
    ) -> tuple[dict[str, str], dict[str, float]]:
        """Return parameters and metrics as a run keeps them: with other names, or cut off, where it must."""

    def upload(self, run_id: str, folder: Path) -> None:
        """Store every file below `folder` as an artifact of the run."""

    def download(self, run_id: str, folder: Path, path: str = "") -> Path:
        """Fetch an artifact (or all of them) of a run into `folder`; return where it is.

        Raises
        ------
        LedgerCorrupt
            If there is no such artifact.
        """

    def artifacts(self, run_id: str) -> dict[str, int]:
        """Return the size in bytes of every artifact of a run by path."""

    def close_run(
        self, run_id: str, status: RunStatus, state: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        """End a run as `RunStatus.FINISHED` or `RunStatus.KILLED`; `state` is a `Status`, or empty.

        `metrics` are those that were not known when it was opened.
        """

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to a run, closed or not, in one call."""

    def run_state(self, run_id: str) -> RunState | None:
        """Return what a run holds; None if there is no such run."""

    def shown_records(self, run_id: str) -> dict[str, str]:
        """Return the record digests that entries beside a run's version state, by the entries' ids.

        They show the version to people: in MLflow, logged models. None has to be there.
        """

    def run_states(self, chain: str) -> dict[str, RunState]:
        """Return what every run of a chain holds by its id, in few calls however many runs there are."""

    def register(self, chain: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        """Create the next version of a chain from a run's artifacts; return its number."""

    def head_hint(self, chain: str) -> int | None:
        """Return the version that the alias ``head`` points at; None if it points nowhere."""

    def set_head_hint(self, chain: str, number: int) -> None:
        """Point the alias ``head`` at a version, and those that other tools expect for it."""

    def challenger(self, chain: str) -> int | None:
        """Return the version that the alias ``challenger`` points at; None if it points nowhere."""

    def set_challenger(self, chain: str, number: int | None) -> None:
        """Point the alias ``challenger`` at a version, or remove it."""

    def dead_runs(self, chain: str) -> list[str]:
        """Return the ids of open runs whose process died on this machine, or has been elsewhere for hours."""

    def registered_runs(self, chain: str) -> list[str]:
        """Return the ids of runs whose state is one of `REGISTERED`: each has a version.

        Those of deleted runs are among them.
        """

    def urls(self, chain: str, run_id: str, number: int | None) -> dict[str, str]:
        """Return addresses of the run and version for people; empty where nothing serves pages."""
