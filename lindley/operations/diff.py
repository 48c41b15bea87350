"""Compare two beliefs: parameters, distances, and the batches that only one of them counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import wasserstein_distance

from lindley.ledger.history import Link, find_link
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.model.coordinates import Coordinates
from lindley.model.natural_scale import element_labels
from lindley.report.numbers import finite_or_none

_COLUMNS = ("mean", "sd", "q05", "q95")


@dataclass(frozen=True)
class Difference:
    """What differs between two beliefs, A and B.

    Parameters
    ----------
    sides
        Of each: chain, link, version, kind, record, model and origin of the belief.
    parameters
        Index ``parameter``, those of both; columns a_mean, a_sd, a_q05, a_q95, the same of b, shift
        (difference of the means, b - a, in pooled sds), sd_ratio (b over a) and distance (Wasserstein-1
        of the margins in pooled sds). The pooled sd is the root of the mean of both variances.
    only_a, only_b
        Parameters of only one of them.
    hellinger, divergence
        Distance of the joint beliefs over the carried coordinates of both, by their means and
        covariances: Hellinger's, 0 to 1, and Jeffreys' divergence in nats (see `joint_distance`). None
        where they share no coordinate.
    coordinates
        Number of these coordinates.
    batches
        By ``a``, ``b`` and ``both``: the counted batches, each with digest, origin, rows and where it counts.
    same_model
        Whether the same code fitted both.
    """

    sides: tuple[dict[str, Any], dict[str, Any]]
    parameters: pd.DataFrame
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    hellinger: float | None
    divergence: float | None
    coordinates: int
    batches: dict[str, list[dict[str, Any]]]
    same_model: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values; what is not defined is None."""
        rows = self.parameters.reset_index().to_dict(orient="records")
        return {
            "a": self.sides[0],
            "b": self.sides[1],
            "parameters": [{str(k): finite_or_none(v) for k, v in row.items()} for row in rows],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "hellinger": finite_or_none(self.hellinger),
            "divergence": finite_or_none(self.divergence),
            "coordinates": self.coordinates,
            "batches": self.batches,
            "same_model": self.same_model,
        }


def diff(ledger: Ledger, a: str, b: str) -> Difference:
    """Compare two beliefs, of one chain or of two.

    Parameters
    ----------
    a, b
        References such as ``coins@3``; see `lindley.load`.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such link.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    one, two = find_link(ledger, a), find_link(ledger, b)
    trees = [link.trace() for link in (one, two)]
    tables = [link.summary() for link in (one, two)]
    places = [_places(link, tree) for link, tree in zip((one, two), trees, strict=True)]
    shared = [name for name in places[0] if name in places[1]]
    hellinger = divergence = None
    if shared:
        (mean_a, cov_a), (mean_b, cov_b) = (
            _moments(tree, [held[name] for name in shared]) for tree, held in zip(trees, places, strict=True)
        )
        hellinger, divergence = joint_distance(mean_a, cov_a, mean_b, cov_b)
    names = [set(table.index) for table in tables]
    return Difference(
        sides=(side_of(one), side_of(two)),
        parameters=_parameters(tables, trees),
        only_a=tuple(name for name in tables[0].index if name not in names[1]),
        only_b=tuple(name for name in tables[1].index if name not in names[0]),
        hellinger=hellinger,
        divergence=divergence,
        coordinates=len(shared),
        batches=_batches(ledger, one, two),
        same_model=one.record["model"]["digest"] == two.record["model"]["digest"],
    )


def joint_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> tuple[float, float]:
    """Return Hellinger's distance and Jeffreys' divergence of two normal distributions.

    Parameters
    ----------
    mean_a, mean_b
        Arrays [coordinate].
    cov_a, cov_b
        Arrays [coordinate, coordinate].

    Returns
    -------
    tuple
        The distance, 0 to 1, and the sum of both Kullback-Leibler divergences in nats; NaN where a
        covariance is singular.

    Notes
    -----
    With M the mean of both covariances and d the difference of the means, the squared distance is
    1 - (det A det B)^(1/4) / det(M)^(1/2) exp(-d' M^-1 d / 8) (Pardo 2006, Statistical Inference Based on
    Divergence Measures, section 2.1); Jeffreys 1946, Proc. R. Soc. A 186:453, for the divergence.
    """
    between, middle = mean_b - mean_a, (cov_a + cov_b) / 2
    dets = [np.linalg.slogdet(matrix) for matrix in (cov_a, cov_b, middle)]
    if any(sign <= 0 or not np.isfinite(value) for sign, value in dets):
        return np.nan, np.nan
    (_, log_a), (_, log_b), (_, log_m) = dets
    overlap = (log_a + log_b) / 4 - log_m / 2 - between @ np.linalg.solve(middle, between) / 8
    inverse = np.linalg.inv(cov_a) + np.linalg.inv(cov_b)
    spread = np.trace(np.linalg.solve(cov_b, cov_a) + np.linalg.solve(cov_a, cov_b)) / 2 - len(between)
    return float(np.sqrt(max(-np.expm1(overlap), 0.0))), float(spread + between @ inverse @ between / 2)


def _parameters(tables: list[pd.DataFrame], trees: list[xr.DataTree]) -> pd.DataFrame:
    """Return the parameters of both side by side, with the distances of their margins."""
    found = side_by_side(tables)
    shared = [str(name) for name in found.index]
    draws, shares = [_draws(tree, shared) for tree in trees], [_share(tree) for tree in trees]
    apart = [
        wasserstein_distance(draws[0][name], draws[1][name], shares[0], shares[1])
        if name in draws[0] and name in draws[1]
        else np.nan
        for name in shared
    ]
    pooled = np.sqrt((found["a_sd"] ** 2 + found["b_sd"] ** 2) / 2)
    found["distance"] = np.array(apart, float) / pooled.where(pooled > 0).to_numpy(float)
    return found


def side_by_side(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the parameters that two summaries share: those of both, shift and ratio of sds."""
    one, two = (table[~table.index.duplicated()] for table in tables)
    shared = [name for name in one.index if name in two.index]
    one, two = one.loc[shared], two.loc[shared]
    columns = {f"a_{name}": one[name] for name in _COLUMNS} | {f"b_{name}": two[name] for name in _COLUMNS}
    found = pd.DataFrame(columns, index=pd.Index(shared, name="parameter"))
    pooled = np.sqrt((one["sd"] ** 2 + two["sd"] ** 2) / 2)
    pooled = pooled.where(pooled > 0)
    found["shift"] = (two["mean"] - one["mean"]) / pooled
    found["sd_ratio"] = two["sd"] / one["sd"].where(one["sd"] > 0)
    return found


def _draws(tree: xr.DataTree, wanted: list[str]) -> dict[str, np.ndarray]:
    """Return the draws [draw] of scalars by their labels."""
    found = {}
    for array in tree["posterior"].dataset.data_vars.values():
        flat = array.values.reshape(array.shape[0] * array.shape[1], -1)
        for place, label in enumerate(element_labels(array)):
            if label in wanted:
                found[label] = flat[:, place].astype(float)
    return found


def _share(tree: xr.DataTree) -> np.ndarray | None:
    """Return the weight of each draw, none below 0; None where all weigh the same."""
    group = tree["coordinates"].dataset
    return np.maximum(group["weight"].values.ravel(), 0.0) if "weight" in group else None


def _places(link: Link, tree: xr.DataTree) -> dict[tuple[str, str], int]:
    """Return where each carried coordinate is among the draws', by its name and transform."""
    coordinates = Coordinates.from_list(link.of_one_belief["posterior"]["coordinates"])
    transforms = [block.transform for block in coordinates.blocks for _ in range(block.size)]
    if tree["coordinates"]["u"].shape[-1] != len(transforms):
        return {}
    return {key: place for place, key in enumerate(zip(coordinates.names, transforms, strict=True))}


def _moments(tree: xr.DataTree, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [coordinate] and covariance [coordinate, coordinate] of weighted draws."""
    u = np.asarray(tree["coordinates"]["u"].values)
    u, share = u.reshape(-1, u.shape[-1])[:, places], _share(tree)
    weights = np.full(len(u), 1 / len(u)) if share is None else share / share.sum()
    mean = weights @ u
    return mean, (u - mean).T @ (weights[:, None] * (u - mean))


def side_of(link: Link) -> dict[str, Any]:
    """Return what a difference states of one of the links."""
    view = link.view
    return {
        "chain": link.chain,
        "link": view.number,
        "version": view.version,
        "kind": view.kind,
        "record": view.record_digest,
        "prior": view.prior,
        "model": link.record["model"]["digest"],
    }


def _batches(ledger: Ledger, one: Link, two: Link) -> dict[str, list[dict[str, Any]]]:
    """Return the batches that only one of two beliefs counts, and those that both do."""
    counted = []
    for side in (one, two):
        chain = find_chain(ledger, side.chain)
        links = chain.counted(chain.link_of(side.view.record_digest))
        counted.append({link.version.batch: link for link in links})

    def described(side: int, wanted: bool) -> list[dict[str, Any]]:
        return [
            {"digest": batch, "origin": link.version.origin, "rows": link.version.rows, "link": link.number}
            for batch, link in counted[side].items()
            if (batch in counted[1 - side]) == wanted
        ]

    return {"a": described(0, False), "b": described(1, False), "both": described(0, True)}
