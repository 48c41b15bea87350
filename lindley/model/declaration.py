"""The declaration of a chain: all that a user writes beside an ordinary PyMC model.

The model stays an ordinary function from a validated batch to a `pymc.Model` with its first
priors written as usual; Lindley swaps the priors itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lindley.errors import DeclarationRefused, UnknownChain
from lindley.model.code.digests import model_digest, source_digest
from lindley.model.code.execution import executed
from lindley.model.code.imports import Imports
from lindley.model.code.own import Lookup, beside
from lindley.model.code.stored import stored_modules
from lindley.model.policy import REST, PanelPolicy, Policy
from lindley.names import check_chain_name

if TYPE_CHECKING:
    import pandas as pd
    import pymc as pm

    from lindley.arrivals.sources.protocol import Source

#: Row keys of data without columns that identify a row (see `lindley.batch.row_keys`).
BY_CONTENT, BY_POSITION = ("(content)",), ("(position)",)
#: Separates the name of a chain from that of its branch.
BRANCH_MARK = "--"


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One chain: its name, model, schema, and the variables that are carried forward.

    Parameters
    ----------
    name
        The chain's name, also the name of its registered model.
    build
        Function from a validated batch (a pandas DataFrame) to a `pymc.Model`, with the genesis
        priors written as usual. It must be a pure function of its argument.
    schema
        A `pyarrow.Schema` (a field with ``nullable=False`` admits neither null nor NaN) or a
        pandera `DataFrameSchema`.
    row_key
        The columns that identify a row, so that rows are never counted twice; `BY_CONTENT` or `BY_POSITION`
        where there are none.
    observed
        Columns that the model conditions on as outcomes. They may be missing from the inputs of
        a prediction.
    carried
        Names of the free variables whose belief is carried forward. By default every free variable
        whose size does not depend on the batch.
    carry
        State: free variable -> quantity of this link's model whose posterior becomes the next
        link's prior of that variable, e.g. ``{"i0": "i_end"}``.
    potentials
        For each `pymc.Potential` of the model whether it is part of the ``"prior"`` (replaced by
        the matched prior after the first link) or of the ``"likelihood"`` (counted in every link).
    missing
        Spellings of null in CSV files beside the empty field, such as ``("NA", "NULL")``. A quoted value is
        text even so, unless the quoted empty text ``""`` is one of them.
    order_by
        Columns that batches are sorted by before they reach `build`; the row key by default.
    predict_new
        Dims whose labels a prediction may have although no batch had them: their elements are drawn from the
        model's own distribution, given all that the belief knows. By default they are refused.
    split
        Optional function that cuts an upstream source (a path or URL) into batches, oldest first:
        ``split(source) -> iterable of (stem, DataFrame)``. `lindley split` drops them as files.
    source
        Where the chain's rows come from, for `lindley pull`: `lindley.Snapshot`, `lindley.Sql` or
        `lindley.Delta`. What is new there becomes batches, cut by `split` where there is one.
    policy
        How beliefs are matched, kept exact, forgotten and refitted.
    constants
        Constants of preprocessing (means, scales), frozen at genesis: numbers by name, or a function
        that computes them from the first batch. `build` takes them as the keyword ``constants``.
    context
        How many rows before a batch the model conditions on (lags): `build` takes them as the keyword
        ``context``, a frame of at most so many rows, oldest first. They are not counted again.
    by
        Columns whose values are the key of a *member*: the chain is then a panel, and the model that of the
        rows of one key. They belong to the row key.
    panel
        How a panel treats its members.
    description
        One paragraph for people, shown in the registry.
    """

    name: str
    build: Callable[..., pm.Model]
    schema: Any
    row_key: tuple[str, ...]
    observed: tuple[str, ...] = ()
    carried: tuple[str, ...] | None = None
    carry: Mapping[str, str] = field(default_factory=dict)
    potentials: Mapping[str, Literal["prior", "likelihood"]] = field(default_factory=dict)
    order_by: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    predict_new: tuple[str, ...] = ()
    split: Callable[[str], Iterable[tuple[str, pd.DataFrame]]] | None = None
    source: Source | None = None
    policy: Policy = field(default_factory=Policy)
    constants: Mapping[str, float] | Callable[[pd.DataFrame], Mapping[str, float]] | None = None
    context: int = 0
    by: tuple[str, ...] = ()
    panel: PanelPolicy = field(default_factory=PanelPolicy)
    description: str = ""
    #: The file the declaration was loaded from, and its code as it was executed; set by `load_file`.
    file: Path | None = None
    code: str | None = field(default=None, repr=False)
    #: What it imports beside what Lindley itself is made with; set by `load_file`.
    imports: Imports = field(default_factory=Imports, repr=False)

    def __post_init__(self) -> None:
        """Check what can be checked without building the model."""
        check_chain_name(self.name)
        object.__setattr__(self, "policy", self.policy.sampled(panel=bool(self.by)))
        self._check_names()
        if not self.row_key:
            raise self._refused(
                expected="a row key of at least one column, so that no row can be counted twice",
                found="an empty row_key",
                todo="name the columns that identify a row, or declare lindley.BY_CONTENT or BY_POSITION",
            )
        if self.context < 0:
            raise self._refused(
                expected="context as a number of rows, 0 or more",
                found=repr(self.context),
                todo="give the number of rows before a batch that the model conditions on",
            )
        self._check_source()
        unknown = set(self.policy.forget) - {REST, *(self.carried or self.policy.forget)}
        if unknown:
            raise self._refused(
                expected=f"forgetting of carried variables: {', '.join(self.carried or ())}, or {REST!r}",
                found=", ".join(sorted(unknown)),
                todo="correct the names in `policy.forget`",
            )
        if self.by:
            self._check_panel()

    def _check_panel(self) -> None:
        """Refuse what a panel does not do; add the columns of `by` to the row key."""
        given = {"context": self.context, "carry": self.carry, "policy.robust": self.policy.robust}
        given["policy.approve"] = self.policy.approve != "never"
        names = [name for name, value in given.items() if value]
        if names or len(set(self.by)) != len(self.by):
            raise self._refused(
                expected="a panel whose members are fitted without context, carried state, mixtures and "
                "approval; columns that are named once",
                found=f"by={self.by!r} with {', '.join(names) or 'a column twice'}",
                todo="leave them out, or declare a chain for each key",
            )
        if self.row_key not in (BY_CONTENT, BY_POSITION):
            first = tuple(name for name in self.by if name not in self.row_key)
            object.__setattr__(self, "row_key", (*first, *self.row_key))

    @property
    def member(self) -> Declaration:
        """The declaration of one member of a panel: a chain of its own."""
        return replace(self, by=())

    def _check_source(self) -> None:
        """Refuse what cannot be pulled from, and rows that cannot be compared with what was pulled before."""
        if self.source is None:
            return
        if not callable(getattr(self.source, "read", None)):
            raise self._refused(
                expected="source as lindley.Snapshot, lindley.Sql or lindley.Delta",
                found=type(self.source).__name__,
                todo='write source=lindley.Snapshot("PATH or URL")',
            )
        if tuple(self.row_key) in (BY_CONTENT, BY_POSITION):
            raise self._refused(
                expected="columns that identify a row of a source, so that a revised row is known again",
                found=f"row_key={self.row_key!r}",
                todo="name the columns of the row key, or leave out source and drop files",
            )

    def _refused(self, *, expected: str, found: str, todo: str) -> DeclarationRefused:
        what = f"The declaration of {self.name} was refused"
        return DeclarationRefused(what, expected=expected, found=found[:200], todo=todo)

    def _check_names(self) -> None:
        """Refuse names that are given as something else."""
        for label in ("row_key", "observed", "carried", "order_by", "missing", "predict_new", "by"):
            value = getattr(self, label)
            if value is None and label in ("carried", "order_by"):
                continue
            if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
                single = isinstance(value, str)
                raise self._refused(
                    expected=f"{label} as a tuple of names",
                    found=repr(value),
                    todo=f"write {label}=({value!r},)" if single else f"list the names of {label}",
                )
        for label in ("carry", "potentials"):
            value = getattr(self, label)
            pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
            if not all(isinstance(name, str) for pair in pairs for name in pair):
                raise self._refused(
                    expected=f"{label} as a dict from name to name",
                    found=repr(value),
                    todo=f"write {label}={{'name': 'name'}}, or leave it out",
                )

    @property
    def in_order(self) -> bool:
        """Whether each batch continues from the one before: carried state, or rows of context."""
        return bool(self.carry or self.context)

    def extras(self, frame: pd.DataFrame, context: Any, constants: Any) -> dict[str, Any]:
        """Return the keyword arguments that `build` takes beside the rows."""
        found: dict[str, Any] = {}
        if self.constants is not None:
            found["constants"] = self.frozen_constants(frame) if constants is None else dict(constants)
        if self.context:
            found["context"] = frame.iloc[:0] if context is None else context
        return found

    def frozen_constants(self, frame: pd.DataFrame) -> dict[str, float]:
        """Return the constants of preprocessing, computed from the first batch where they are a function.

        Raises
        ------
        DeclarationRefused
            If the function raises, or gives anything but finite numbers by name.
        """
        if self.constants is None:
            return {}
        try:
            given = self.constants(frame) if callable(self.constants) else self.constants
            found = {str(name): float(value) for name, value in given.items()}
        except Exception as error:
            raise DeclarationRefused(
                f"The constants of {self.name} could not be computed from the first batch",
                expected="numbers by name",
                found=f"{type(error).__name__}: {error}",
                todo="call the declaration's constants function on this batch and correct the cause",
            ) from error
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise DeclarationRefused(
                f"The constants of {self.name} are not all finite",
                expected="finite numbers by name",
                found=", ".join(f"{name} = {found[name]}" for name in bad),
                todo="choose constants that the first batch determines",
            )
        return found

    @property
    def in_memory(self) -> bool:
        """Whether it was made without a file, so that its code cannot be recorded."""
        return self.file is None or self.code is None

    @property
    def source_text(self) -> str:
        """The code of the declaration's file as it was executed, whether or not the file has changed since.

        Raises
        ------
        DeclarationRefused
            If the declaration was made in memory: its code could not be recorded.
        """
        if self.file is None or self.code is None:
            raise DeclarationRefused(
                f"The declaration of {self.name} has no source file",
                expected="a declaration loaded from a file, so that its code can be recorded",
                found="a declaration made in memory",
                todo="put it into a file and use lindley.model.declaration.load_file",
            )
        return self.code

    @property
    def model_digest(self) -> str:
        """Digest of the code that was executed, modules included; comments and layout are left out."""
        return model_digest(source_digest(self.source_text), self.imports.digests)


def load_file(path: Path) -> Declaration:
    """Load the one declaration that a Python file defines.

    Modules beside it that it imports are its own (`lindley.model.code.own`). Executes the file; load only
    code that you trust. Each file is read once: the declaration keeps the code that was executed. A module
    elsewhere that it imports and that was changed since is imported anew.

    Raises
    ------
    DeclarationRefused
        If the file cannot be imported, or defines no declaration or more than one.
    """
    return _load(Path(path).resolve(), beside(Path(path).resolve()))


def load_stored(path: Path, modules: Path | None) -> Declaration:
    """Load the declaration that is stored with a link as a model file and an archive of modules, if any.

    Raises
    ------
    DeclarationRefused
        See `load_file`.
    """
    try:
        return _load(Path(path).resolve(), stored_modules(modules), stored=True)
    except ValueError as error:
        raise DeclarationRefused("The modules of the model cannot be read", found=str(error)) from error


def _load(path: Path, lookup: Lookup, *, stored: bool = False) -> Declaration:
    """Load a declaration; modules of its own are found by `lookup`."""
    if path.suffix != ".py":
        raise DeclarationRefused(f"{path.name} is not a Python file", todo="give a file that ends in .py")
    # First: at import it looks up the source of every frame above it, of which PyMC has many.
    import arviz_base  # noqa: F401

    try:
        module, code, imports = executed(path, lookup, stored=stored)
    except (Exception, SystemExit) as error:  # a script may end itself; this process goes on
        raise DeclarationRefused(
            f"The model file {path.name} cannot be imported",
            found=f"{type(error).__name__}: {error}",
            todo=f"run `python {path.name}` and correct the cause",
        ) from error
    found = [value for value in vars(module).values() if isinstance(value, Declaration)]
    if len(found) != 1:
        raise DeclarationRefused(
            f"The model file {path.name} was refused",
            expected="exactly one lindley.Declaration at module level",
            found=f"{len(found)}",
            todo="keep one chain per file",
        )
    return replace(found[0], file=path, code=code, imports=imports)


def load_declaration(name: str, models: Path) -> Declaration:
    """Load the declaration of chain `name` from the folder `models` (file ``NAME.py``).

    A branch ``SOURCE--NAME`` without a file of its own has the declaration of its source, under its name.

    Raises
    ------
    UnknownChain
        If the folder has no such file.
    DeclarationRefused
        If the file's declaration has another name.
    """
    check_chain_name(name)
    paths = (models / f"{stem}.py" for stem in (name, name.replace("-", "_")))
    path = next((path for path in paths if path.is_file()), None)
    if path is None and BRANCH_MARK in name:
        return replace(load_declaration(name.rpartition(BRANCH_MARK)[0], models), name=name)
    if path is None:
        known = ", ".join(declared_chains(models)) or "none"
        raise UnknownChain(
            f"No chain {name!r} is declared",
            expected=f"a file {name.replace('-', '_')}.py in {models.name}/",
            found=f"declared chains: {known}",
            todo="correct the name, or write the model file",
        )
    declaration = load_file(path)
    if declaration.name != name:
        raise DeclarationRefused(
            f"The model file {path.name} declares another chain",
            expected=name,
            found=declaration.name,
            todo="give file and declaration the same name",
        )
    return declaration


def is_declared(name: str, models: Path) -> bool:
    """Return whether `load_declaration` finds a file for a chain, without importing it."""
    own = any((models / f"{stem}.py").is_file() for stem in (name, name.replace("-", "_")))
    return own or (BRANCH_MARK in name and is_declared(name.rpartition(BRANCH_MARK)[0], models))


def declared_chains(models: Path) -> list[str]:
    """Return the names that the files of `models` could declare, without importing them.

    A file that nowhere names a declaration is a module that other files import.
    """
    if not models.is_dir():
        return []
    paths = (path for path in models.glob("*.py") if not path.stem.startswith("_"))
    return sorted(path.stem for path in paths if _may_declare(path))


def _may_declare(path: Path) -> bool:
    try:
        return b"eclaration" in path.read_bytes()
    except OSError:  # said where it is loaded
        return True
