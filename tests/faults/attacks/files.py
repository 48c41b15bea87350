"""Tries on the landing folder: names, kinds of files, contents, and files that change under a reader."""

from __future__ import annotations

import gzip
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.sequences import files
from flows.sequences.steps import Steps
from flows.sequences.update import update_one
from flows.server.watch import Watcher
from lindley.arrivals.landing import arrivals
from lindley.batch.reading import read_batch
from lindley.errors import LindleyError
from lindley.ledger.history import history
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_declaration
from lindley.operations.log import log_plan
from lindley.workspace import Workspace
from tests.faults.attacks.documents import HOSTILE
from tests.faults.attacks.table import Surface, refused
from tests.support.fakes import MemoryLedger, declare
from tests.support.fits import Fits

LANDING = Surface("landing folder", "landing")
GOOD = "id,k,n\n1,3,10\n2,3,10\n"


@dataclass
class Landing:
    """A working folder with the chain ``coins``, its ledger in memory, and the steps of an update."""

    workspace: Workspace
    steps: Steps
    ledger: MemoryLedger
    declaration: Declaration

    @property
    def folder(self) -> Path:
        found = self.workspace.landing / "coins"
        found.mkdir(parents=True, exist_ok=True)
        return found

    def land(self, name: str | bytes, data: bytes = GOOD.encode()) -> Path:
        """Write a file of some age; return its path."""
        path = self.folder / os.fsdecode(name)
        path.write_bytes(data)
        os.utime(path, (1, 1))
        return path

    def look(self) -> tuple[list[str], list[str]]:
        """Let the watcher look; return the files that it announced, and what it said."""
        announced: list[str] = []
        said: list[str] = []
        watcher = Watcher(
            self.workspace,
            announce=lambda arrival: announced.append(arrival.path.name),
            finished=lambda arrival: files.finished(self.workspace, arrival.path),
            clock=lambda: 0.0,
            notify=lambda text: said.append(str(text)),
        )
        watcher.look()
        for text in said:
            assert text.isprintable(), ascii(text)
        return announced, said

    def update(self, name: str) -> str:
        """Update the chain with a file; return what became of it."""
        path = self.folder / name
        return refused(lambda: update_one(self.steps, self.workspace, "coins", path).status)


def landing(root: Path) -> Landing:
    """Return the ground of one try in an empty folder."""
    data, models = root / "data", root / "models"
    models.mkdir()
    places = [data / name for name in ("landing", "store", "rejected")]
    ledger = MemoryLedger()
    steps = Steps(
        open_ledger=lambda _: ledger,
        read=read_batch,
        plan=lambda planner, *given, **options: planner(*given, **options),
        fit=Fits(),
        log=log_plan,
        register=register_link,
        draw=lambda *_: None,
        announce=lambda *_: None,
        publish=lambda *_: None,
        notify=lambda _: None,
    )
    workspace = Workspace(root, models, *places, tracking_uri="sqlite:///unused")
    return Landing(workspace, steps, ledger, declare(models))


# -- names --------------------------------------------------------------------------------------------

_NAMES: dict[str, str | bytes] = {
    "with marks that turn and hide text, escapes and markup": HOSTILE.replace("\x00", "").replace("/", "_")
    + ".csv",
    "of 255 bytes": "n" * 251 + ".csv",
    "that is a template of Prefect's": "{{ event.id }}{% for x in y %}.csv",
    "that is a structure of Prefect's": '{"__prefect_kind": "jinja", "template": "x"}.csv',
    "that is a command": "$(touch pwned);`id`|x.csv",
    "with line feeds": "a\nb\r\nc.csv",
    "in decomposed Unicode": "u\u0308.csv",
    "that is a formula": "=HYPERLINK(1).csv",
    "with a trailing space and dot": "a.csv .csv",
    "like a drive or a URL": "file:%2f%2fetc%2fpasswd.csv",
}


@LANDING.each("a file name", _NAMES, "harmless")
def name(ground: Landing, given: str) -> str:
    ground.land(given)
    announced, _ = ground.look()
    assert announced == [given], ascii(announced)
    outcome = ground.update(given)
    assert outcome == "done: accepted", outcome
    shown = history(ground.ledger, "coins")[0].origin
    assert shown.isprintable(), ascii(shown)
    stored = [path.name for path in (ground.workspace.store / "coins").iterdir()]
    assert len(stored) == 1
    assert len(stored[0]) == 64 + len(".csv")
    return "harmless: a link, its name escaped"


_BYTES = {
    "that is not UTF-8": b"\xff\xfe.csv",
    "with half of a surrogate pair": b"\xed\xa0\x80.csv",
    "with an overlong slash": b"a\xc0\xafb.csv",
}


@LANDING.each("a file name", _BYTES, "refused")
def name_bytes(ground: Landing, given: bytes) -> str:
    ground.land(given)
    ground.land("good.csv")
    announced, _ = ground.look()
    assert announced == ["good.csv"]
    (aside,) = [path for path in (ground.workspace.rejected / "coins").iterdir() if path.suffix == ".csv"]
    assert aside.name.isprintable()
    return f"refused: it is {aside.name} in rejected"


_CHAINS = ["..", "Coins", "co\u0456ns", "coins ", "coins\n", "c" * 64, "-rf", "coins.", "con:", "\uff43oins"]


@LANDING.attempt("folders whose names look like that of a chain", "harmless")
def chains(ground: Landing) -> str:
    for index, folder in enumerate(_CHAINS[1:]):
        (ground.workspace.landing / folder).mkdir(parents=True)
        (ground.workspace.landing / folder / f"{index}.csv").write_text(GOOD)
    ground.land("good.csv")
    announced, _ = ground.look()
    assert announced == ["good.csv"], announced
    for chain in _CHAINS:
        outcome = refused(lambda chain=chain: files.locate(ground.workspace, chain, "good.csv"))
        assert outcome == "refused: NameRefused", (chain, outcome)
    return "harmless: they are left alone"


_REFERENCES = ["../x.csv", "a/../../x.csv", ".", "..", "", "a/b.csv", "~/x.csv"]


@LANDING.each("the file of a run is", dict(zip(map(ascii, _REFERENCES), _REFERENCES, strict=True)), "refused")
def reference(ground: Landing, given: str) -> str:
    def update() -> object:
        return update_one(
            ground.steps, ground.workspace, "coins", files.locate(ground.workspace, "coins", given)
        )

    return refused(update)


@LANDING.attempt("the file of a run has NUL in its name", "harmless")
def reference_nul(ground: Landing) -> str:
    outcome = ground.update("\x00.csv")
    return "harmless: there is no such file" if outcome == "done: gone" else outcome


# -- kinds of files -----------------------------------------------------------------------------------


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _device(path: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
    else:
        path.symlink_to("/dev/zero")


_KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": _pipe,
    "a socket": _socket,
    "a device": _device,
    "a folder": Path.mkdir,
    "a link to a secret": lambda path: path.symlink_to("/etc/passwd"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to /proc/self/environ": lambda path: path.symlink_to("/proc/self/environ"),
}


@LANDING.each("in place of a file", _KINDS, "refused")
def kind(ground: Landing, make: Callable[[Path], object]) -> str:
    make(ground.folder / "odd.csv")
    ground.land("good.csv")
    announced, _ = ground.look()
    assert announced == ["good.csv"]
    outcome = ground.update("odd.csv")
    assert ground.ledger.chains() == []
    assert ground.update("good.csv") == "done: accepted"
    return outcome


@LANDING.attempt("a hard link to a file that its owner still edits", "harmless")
def hard_link(ground: Landing) -> str:
    owned = ground.workspace.root / "owned.csv"
    owned.write_text(GOOD)
    os.link(owned, ground.folder / "linked.csv")
    os.utime(owned, (1, 1))
    assert ground.update("linked.csv") == "done: accepted"
    owned.write_text(GOOD.replace("3", "9"))
    batch = history(ground.ledger, "coins")[0]
    (stored,) = (ground.workspace.store / "coins").iterdir()
    changed = refused(lambda: read_batch(stored, ground.declaration).digest)
    held = ground.ledger.run_of("coins", 1).files["batch.parquet"]
    assert pa.BufferReader(held).size() > 0
    assert stored.stem not in changed
    return f"harmless: the ledger has the batch of link {batch.number}; its digest shows the change"


@LANDING.attempt("a pipe that takes the name of a file between the look and the reading", "refused")
def swapped_for_pipe(ground: Landing) -> str:
    path = ground.land("swap.csv")
    (arrival,) = arrivals(ground.workspace.landing)
    path.unlink()
    os.mkfifo(path)
    assert arrival.size > 0
    return ground.update("swap.csv")


@LANDING.attempt("a file whose content is exchanged while it is fitted", "harmless")
def swapped_content(ground: Landing) -> str:
    path = ground.land("swap.csv")
    other = ground.folder / ".other"
    other.write_text(GOOD.replace("10", "12").replace("1,", "7,").replace("2,", "8,"))
    plan = ground.steps.plan

    def exchange(*given: object, **options: object) -> object:
        other.replace(path)
        return plan(*given, **options)

    object.__setattr__(ground.steps, "plan", exchange)
    assert ground.update("swap.csv") == "done: accepted"
    object.__setattr__(ground.steps, "plan", plan)
    assert path.read_text().startswith("id,k,n\n7")
    os.utime(path, (1, 1))
    assert ground.update("swap.csv") == "done: accepted"
    return "harmless: each is a link of its own"


@LANDING.attempt("a lock file that is a link to a file of somebody's", "harmless")
def lock_link(ground: Landing) -> str:
    precious = ground.workspace.root / "precious"
    precious.write_text("precious")
    locks = ground.workspace.root / ".lindley" / "locks"
    locks.mkdir(parents=True)
    (locks / "coins.lock").symlink_to(precious)
    try:
        with files.turn(ground.workspace, "coins", 0.0):
            pass
    except (OSError, LindleyError):
        pass
    assert precious.read_text() == "precious", "the file behind the link is emptied"
    return "harmless: the file behind the link stays"


@LANDING.attempt("a lock that another process holds for ever", "harmless")
def lock_held(ground: Landing) -> str:
    with files.turn(ground.workspace, "coins") as held:
        assert held
        answers: list[bool] = []

        def other() -> None:
            with files.turn(ground.workspace, "coins", 0.2) as came:
                answers.append(came)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    return f"harmless: the other one goes on after its patience, with the lock {answers[0]}"


# -- contents -----------------------------------------------------------------------------------------


def _parquet(edit: dict[bytes, bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = pa.table({"id": [1, 2], "k": [3, 3], "n": [10, 10]})
        pq.write_table(table.replace_schema_metadata(edit), path.with_suffix(".parquet"))

    return write


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.with_suffix(".csv").write_text(text) and None


_HARMLESS: dict[str, Callable[[Path], None]] = {
    "Parquet with pandas metadata that names a class": _parquet(
        {b"pandas": b'{"index_columns": [], "columns": [{"name": "id", "pandas_type": "os.system"}]}'}
    ),
    "Parquet with 1 MB of metadata": _parquet({b"x": b"y" * 2**20}),
}
_REFUSED: dict[str, Callable[[Path], None]] = {
    "a gzip of a gzip": lambda path: (
        path.with_name("odd.csv.gz").write_bytes(gzip.compress(gzip.compress(GOOD.encode()))) and None
    ),
    "a gzip bomb of 1 GB": lambda path: (
        path.with_name("odd.csv.gz").write_bytes(gzip.compress(b"\0" * 2**24) * 64) and None
    ),
    "Parquet with an Arrow schema that is rubbish": _parquet({b"ARROW:schema": b"cos\nsystem\n"}),
    "a CSV with NUL": _text("id,k,n\n1,3\x00,10\n"),
    "a CSV with two columns of one name": _text("id,k,n,k\n1,3,10,4\n"),
    "a CSV with a column like one of the schema": _text("id,k,n\u200b\n1,3,10\n"),
    "a CSV with full-width digits": _text("id,k,n\n1,\uff13,10\n"),
    "a CSV with a number of 10,000 digits": _text(f"id,k,n\n1,3,{'9' * 10_000}\n"),
    "a CSV with NaN for a count": _text("id,k,n\n1,NaN,10\n"),
    "a CSV with Infinity for a count": _text("id,k,n\n1,Infinity,10\n"),
    "a pickle under the name of a CSV": lambda path: (
        path.with_suffix(".csv").write_bytes(b"\x80\x04cos\nsystem\n.") and None
    ),
    "Python under the name of a Parquet file": lambda path: (
        path.with_suffix(".parquet").write_text("import os\n") and None
    ),
}


def _landed(ground: Landing, write: Callable[[Path], None]) -> str:
    write(ground.folder / "odd")
    (path,) = ground.folder.iterdir()
    os.utime(path, (1, 1))
    return ground.update(path.name)


@LANDING.each("as content", _HARMLESS, "harmless")
def taken(ground: Landing, write: Callable[[Path], None]) -> str:
    outcome = _landed(ground, write)
    return "harmless: a link" if outcome == "done: accepted" else outcome


@LANDING.each("as content", _REFUSED, "refused")
def content(ground: Landing, write: Callable[[Path], None]) -> str:
    outcome = _landed(ground, write)
    assert ground.ledger.chains() == []
    return outcome


_CODE = {
    "that ends the process": "raise SystemExit(0)\n",
    "that never compiles": "(" * 10_000,
    "of NUL": "\0",
    "that imports itself": "import _self_of_coins\n",
    "without a declaration": "x = 1\n",
}


@LANDING.each("a model file", _CODE, "refused")
def code(ground: Landing, text: str) -> str:
    path = ground.workspace.models / "coins.py"
    path.write_text(text)
    return refused(lambda: load_declaration("coins", ground.workspace.models))


@LANDING.attempt("a module of the standard library's name beside the models", "harmless")
def shadow(ground: Landing) -> str:
    for name in ("json", "numpy", "pymc", "lindley", "pandas"):
        (ground.workspace.models / f"{name}.py").write_text("raise SystemExit\n")
    (ground.workspace.models / "x.pth").write_text("import evil\n")
    assert load_declaration("coins", ground.workspace.models).name == "coins"
    return "harmless: the folder is not on the path"
