"""The methods: Lindley's pull, and refits of all rows as people do them and as fast as they can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pymc as pm

import lindley
from benchmarks.speed.cold import child
from benchmarks.speed.posterior import Found, found_in
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import Pymc, sampled
from benchmarks.vintages.target import TARGET
from benchmarks.vintages.versions import Version
from flows.direct import core_steps
from flows.sequences.pull import pull
from lindley.ledger.reading import find_chain, read_record
from lindley.workspace import Workspace

#: A job for each version, as a schedule starts it.
PULL_JOBS, REFIT_JOBS = "lindley pull, a process each", "pm.sample of all rows, a process each"
#: One process for all versions.
PULLS, REFITS, COMPILED = "lindley pull", "pm.sample of all rows", "nutpie of all rows, compiled once"


class Method(Protocol):
    """One way to follow the source, with the state of its own."""

    def follow(self, version: Version) -> int:
        """Bring the belief up to a version; measured. Returns the number of fits."""

    def found(self) -> Found:
        """Return the newest posterior."""


@dataclass
class Pulls:
    """`lindley pull`: links with records in MLflow on SQLite; plots come later.

    Parameters
    ----------
    folder
        Of source, archive and ledger.
    apart
        Pull each version in a process of its own.
    """

    folder: Path
    apart: bool = False

    def __post_init__(self) -> None:
        """Open the ledger."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.workspace = workspace(self.folder)
        self.ledger = core_steps(plots=False).open_ledger(self.workspace)

    def follow(self, version: Version) -> int:
        file, before = self.folder / "target.csv", self._links()
        version.write(file)
        if self.apart:
            child("benchmarks.vintages.once", "pull", str(self.folder), "0", str(file), environment={})
        else:
            pulled(self.folder)
        return self._links() - before

    def found(self) -> Found:
        trace = lindley.load(f"{TARGET.chain}@head", workspace=self.workspace).trace()
        return found_in(trace, TARGET.variables)

    def named(self) -> list[frozenset[tuple[str, str]]]:
        """Return the revised rows that the record of each correction names, oldest first."""
        records = [read_record(self.ledger, link) for link in find_chain(self.ledger, TARGET.chain).links]
        changes = [record["batch"].get("changes") for record in records]
        return [frozenset(map(tuple, one["revised"]["keys"])) for one in changes if one]

    def _links(self) -> int:
        known = self.ledger.genesis(TARGET.chain) is not None
        return len(find_chain(self.ledger, TARGET.chain).links) if known else 0


@dataclass
class Refits:
    """PyMC with its defaults: a model of all rows for each version, logged as in the article.

    Parameters
    ----------
    folder
        Of the registry.
    apart
        Refit each version in a process of its own.
    """

    folder: Path
    apart: bool = False

    def __post_init__(self) -> None:
        """Open a registry."""
        self.pymc = Pymc(Registry(self.folder, TARGET.chain), TARGET, pooled=True)
        self.link = 0

    def follow(self, version: Version) -> int:
        self.link += 1
        file = _parquet(self.folder, version)
        if self.apart:
            module = "benchmarks.vintages.once"
            child(module, "refit", str(self.folder), str(self.link), str(file), environment={})
        else:
            self.pymc.update(self.link, [file])
        return 1

    def found(self) -> Found:
        return self.pymc.found()


@dataclass
class Compiled:
    """nutpie with Lindley's settings: compiled once, its data set for each version; logged."""

    folder: Path
    _function: Any = None
    _trace: Any = None
    _links: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Open a registry."""
        self.registry = Registry(self.folder, TARGET.chain)

    def follow(self, version: Version) -> int:
        import nutpie  # as in benchmarks.speed.rivals: the other methods do not need it

        self._links += 1
        data = TARGET.data(pd.read_parquet(_parquet(self.folder, version)))
        if self._function is None:
            with pm.Model() as model:
                TARGET.likelihood(TARGET.priors(), {key: pm.Data(key, value) for key, value in data.items()})
            self._function = nutpie.compile_pymc_model(model)
        self._trace = sampled(self._function.with_data(**data), self._links)
        self.registry.log(self._trace, {"rows": len(data["observed"])}, {"data version": version.as_of})
        return 1

    def found(self) -> Found:
        return found_in(self._trace, TARGET.variables)


def workspace(folder: Path) -> Workspace:
    """Return the workspace of the chain below a folder."""
    data = folder / "data"
    return Workspace(
        root=folder,
        models=TARGET.models,
        landing=data / "landing",
        store=data / "store",
        rejected=data / "rejected",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )


def pulled(folder: Path) -> None:
    """Pull the file ``target.csv`` of a folder into its chain.

    Raises
    ------
    RuntimeError
        If a link was refused.
    """
    result = pull(core_steps(plots=False), workspace(folder), TARGET.chain)
    if result.status not in ("accepted", "unchanged"):
        raise RuntimeError(f"the pull was {result.status}: {result.message}")


def _parquet(folder: Path, version: Version) -> Path:
    path = folder / f"{version.as_of}.parquet"
    version.rows.to_parquet(path)
    return path


METHODS = {
    PULL_JOBS: lambda folder: Pulls(folder, apart=True),
    REFIT_JOBS: lambda folder: Refits(folder, apart=True),
    PULLS: Pulls,
    REFITS: Refits,
    COMPILED: Compiled,
}
