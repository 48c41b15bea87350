"""The members of a panel as a registered model has them: its own files, and those of the runs it names.

A model's folder holds the members that its link changed, and the index: in which link each member's newest
row is. `POINTERS` names the run of each of these links. Whatever is fetched from there is checked: an index
against its digest, a member against its leaf.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lindley.cache import Recent
from lindley.errors import LedgerCorrupt, LedgerUnavailable
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.panel.index import ENTRIES, Index, conformed
from lindley.panel.key import MemberKey, read_key
from lindley.panel.row import MemberRow, read_table, rows_by_key
from lindley.panel.serving.predictor import MemberPredictor

SCHEMA = "lindley-pointers/1"
#: Fetches a file of a run into a folder, and returns where it is.
Fetch = Callable[[str, str, Path], Path]
#: Bytes of the rows of other links that a model keeps.
_KEPT = 2**28


def pointers_of(
    index: Index, link: int, runs: Callable[[int], str], checkpoint: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what `Artifact.POINTERS` states of a link.

    Parameters
    ----------
    index
        All members after the link.
    link
        Its number.
    runs
        Returns the run of an earlier link.
    checkpoint
        Sha256 of the index of all members that an earlier link wrote.
    about
        Chain, `by` and constants.
    """
    own = index.written == 0
    links = {*index.links()} | (set() if own else {index.checkpoint_link})
    return {
        "schema": SCHEMA,
        **about,
        "link": link,
        "checkpoint": None if own else {"link": index.checkpoint_link, "sha256": checkpoint},
        "runs": {str(number): runs(number) for number in sorted(links - {link})},
    }


class StoredMembers:
    """Reads the members that a registered model has.

    Parameters
    ----------
    folder
        Of the model's files, with `Artifact.POINTERS`, `Artifact.MEMBERS` and `Artifact.INDEX`.
    fetch
        Fetches files of other runs.
    """

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        self._folder, self._fetch = folder, fetch
        self._about = _pointers(folder)
        self.by = tuple(self._about["by"])
        self.constants: dict[str, float] = dict(self._about["constants"])
        self._tables: Recent[pa.Table] = Recent(_KEPT, lambda table: int(table.nbytes))
        own = conformed(read_table(self._own(Artifact.INDEX)), ENTRIES, "members")
        held = self._about["checkpoint"]
        checkpoint, recent = own, ENTRIES.empty_table()
        if held is not None:
            checkpoint, recent = self._checkpoint(held["link"], held["sha256"]), own
        self._index = Index(checkpoint, recent, {})

    def newest(self, keys: Sequence[MemberKey]) -> dict[MemberKey, MemberRow]:
        """Return the newest rows of members, checked against their leaves."""
        return self._index.newest(keys, self._rows)

    def everyone(self) -> list[MemberKey]:
        """Return the keys of all members, sorted."""
        return [read_key(text, self.by) for text in sorted(self._index.entries(), key=str.encode)]

    def _rows(self, link: int, keys: Sequence[MemberKey]) -> dict[str, MemberRow]:
        """Return rows that a link wrote, by canonical key."""
        table = self._tables.get(link, lambda: self._table(link, Artifact.MEMBERS))
        return rows_by_key(table, self.by, keys)

    def _checkpoint(self, link: int, stated: str) -> pa.Table:
        """Return the index of all members that a link wrote."""

        def read(path: Path) -> pa.Table:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != stated:
                raise LedgerCorrupt(
                    f"The index of link {link} is not the one that the model names",
                    expected=f"sha256 {stated}",
                    found=found,
                    todo="run `lindley verify`; restore the artifacts from a backup",
                )
            return conformed(read_table(path), ENTRIES, "members")

        return self._of_run(link, Artifact.INDEX, read)

    def _table(self, link: int, name: str) -> pa.Table:
        if link == self._about["link"]:
            return read_table(self._own(name))
        return self._of_run(link, name, read_table)

    def _of_run(self, link: int, name: str, read: Callable[[Path], pa.Table]) -> pa.Table:
        """Return a table of another link's run."""
        run = self._about["runs"].get(str(link))
        if run is None:
            raise LedgerCorrupt(f"The model names no run of link {link}", expected="a run of each link")
        beside = _beside(self._folder, run, name)
        if beside is not None:
            return read(beside)
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            try:
                path = self._fetch(run, name, Path(scratch))
            except Exception as error:  # stores of all kinds raise errors of any type
                raise LedgerUnavailable(
                    f"Members that link {link} wrote last cannot be fetched from its run {run}",
                    expected="a tracking server or store that holds the panel's runs",
                    found=f"{type(error).__name__}: {str(error)[:200]}",
                    todo="set MLFLOW_TRACKING_URI as for the registry that the model comes from",
                ) from error
            return read(path)

    def _own(self, name: str) -> Path:
        return self._folder / Path(name).name


def predictor(folder: Path, declaration: Declaration, fetch: Fetch) -> MemberPredictor:
    """Return what predicts for the members of a registered model."""
    members = StoredMembers(folder, fetch)
    return MemberPredictor(declaration, members, members.constants)


def _pointers(folder: Path) -> dict[str, Any]:
    """Return the pointers of a model's folder."""
    path = folder / Path(Artifact.POINTERS).name
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LedgerCorrupt(
            f"{path.name} of a registered model cannot be read",
            expected=f"JSON of the schema {SCHEMA}",
            found=f"{type(error).__name__}: {str(error)[:200]}",
        ) from error
    return dict(found)


def _beside(folder: Path, run: str, name: str) -> Path | None:
    """Return a file of another run, where the model lies in a store on this disk; None elsewhere.

    Artifacts lie in ``EXPERIMENT/RUN/artifacts`` there, and `name` starts at the run's folder of artifacts.
    """
    depth = len(Path(Artifact.POINTERS).parts) - 1
    own = folder.resolve().parents[depth - 1]
    found = own.parent.parent / run / own.name / name
    return found if run.isalnum() and own.name == "artifacts" and found.is_file() else None
