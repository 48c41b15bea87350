"""The methods: Lindley's pull, and refits of all rows as people do them and as fast as they can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pymc as pm
from pymc.distributions import transforms

import lindley
from benchmarks.speed.posterior import Found, found_in
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import Pymc, sampled
from benchmarks.speed.targets import Target, Values
from benchmarks.vintages.models.admissions import LOCATIONS, curve
from benchmarks.vintages.versions import Version
from flows.direct import core_steps
from flows.sequences.pull import pull
from lindley.ledger.reading import find_chain, read_record
from lindley.workspace import Workspace

CHAIN = "admissions"
MODELS = Path(__file__).with_name("models")
LINDLEY, REBUILT, COMPILED = "lindley pull", "pm.sample of all rows", "nutpie of all rows, compiled once"


class Method(Protocol):
    """One way to follow the source, with the state of its own."""

    name: str

    def follow(self, version: Version) -> int:
        """Bring the belief up to a version; measured. Returns the number of fits."""

    def found(self) -> Found:
        """Return the newest posterior."""


@dataclass
class Pulls:
    """`lindley pull` in one process: links with records in MLflow on SQLite; plots come later."""

    folder: Path
    name: str = LINDLEY

    def __post_init__(self) -> None:
        """Make the workspace."""
        data = self.folder / "data"
        self.workspace = Workspace(
            root=self.folder,
            models=MODELS,
            landing=data / "landing",
            store=data / "store",
            rejected=data / "rejected",
            tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}",
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = core_steps(plots=False).open_ledger(self.workspace)

    def follow(self, version: Version) -> int:
        version.write(self.folder / "target.csv")
        before = self._links()
        result = pull(core_steps(plots=False), self.workspace, CHAIN)
        if result.status not in ("accepted", "unchanged"):
            raise RuntimeError(f"{version.as_of} was {result.status}: {result.message}")
        return self._links() - before

    def found(self) -> Found:
        trace = lindley.load(f"{CHAIN}@head", workspace=self.workspace).trace()
        return found_in(trace, TARGET.variables)

    def named(self) -> list[frozenset[tuple[str, str]]]:
        """Return the revised rows that the record of each correction names, oldest first."""
        records = [read_record(self.ledger, link) for link in find_chain(self.ledger, CHAIN).links]
        changes = [record["batch"].get("changes") for record in records]
        return [frozenset(map(tuple, one["revised"]["keys"])) for one in changes if one]

    def _links(self) -> int:
        return len(find_chain(self.ledger, CHAIN).links) if self.ledger.genesis(CHAIN) is not None else 0


@dataclass
class Rebuilt:
    """PyMC with its defaults: a model of all rows for each version, logged and registered as in the article."""

    folder: Path
    name: str = REBUILT

    def __post_init__(self) -> None:
        """Open a registry."""
        self.pymc = Pymc(Registry(self.folder, CHAIN), TARGET, pooled=True)
        self.link = 0

    def follow(self, version: Version) -> int:
        self.link += 1
        self.pymc.update(self.link, [_parquet(self.folder, version)])
        return 1

    def found(self) -> Found:
        return self.pymc.found()


@dataclass
class Compiled:
    """nutpie with Lindley's settings: compiled once, data set anew for each version; logged and registered."""

    folder: Path
    name: str = COMPILED
    _function: Any = None
    _trace: Any = None
    _links: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Open a registry."""
        self.registry = Registry(self.folder, CHAIN)

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


def _parquet(folder: Path, version: Version) -> Path:
    path = folder / f"{version.as_of}.parquet"
    version.rows.to_parquet(path)
    return path


def _priors() -> Values:
    return {
        "level": pm.Normal("level", 3, 3, shape=len(LOCATIONS)),
        "season": pm.Normal("season", 0, 2, shape=4),
        "sigma": pm.HalfNormal("sigma", 2),
    }


def _data(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    rows = frame[frame["value"] != "NA"]
    places = {name: place for place, name in enumerate(LOCATIONS)}
    return {
        "place": rows["location"].map(places).to_numpy("int64"),
        "curve": curve(pd.to_datetime(rows["date"]).to_numpy("datetime64[D]")),
        "observed": np.log1p(rows["value"].astype(float).to_numpy()),
    }


def _likelihood(variables: Values, data: Values) -> None:
    mu = variables["level"][data["place"]] + data["curve"] @ variables["season"]
    pm.Normal("y", mu, variables["sigma"], observed=data["observed"])


#: The rivals' model, apart from Lindley's model file.
TARGET = Target(
    chain=CHAIN,
    models=MODELS,
    shapes={"level": (len(LOCATIONS),), "season": (4,), "sigma": ()},
    transforms={"level": None, "season": None, "sigma": transforms.log},
    priors=_priors,
    data=_data,
    likelihood=_likelihood,
)
METHODS = {LINDLEY: Pulls, REBUILT: Rebuilt, COMPILED: Compiled}
