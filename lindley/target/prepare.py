"""Prepare a step: build and take apart the models, align the prior with them, compile the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lindley.batch.batch import Batch
from lindley.cache import Recent
from lindley.errors import LindleyError, ModelRefused
from lindley.model.coordinates import Coordinates, Layout, align
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph
from lindley.model.priors import undrawable
from lindley.prior.matched import MatchedPrior
from lindley.prior.mixture import Mixture
from lindley.prior.triangular import TriangularMap
from lindley.target.density import target
from lindley.target.engine import bind, compiled, lazy_table
from lindley.target.pool import BatchTerm, Pool
from lindley.target.problem import NOTHING_KNOWN, Known, Outcomes, Problem, Starts, initial_point
from lindley.target.quantities import Quantities
from lindley.target.reuse import built
from lindley.target.term import require_divisible, term
from lindley.target.whitening import of_whitened

#: Points at which the log likelihood of all rows in one table is compared with the sum over batches.
_CHECK_POINTS = 3
#: Condition number of the correlations above which a fit from genesis moves in a whitened space, as the steps
#: of a draw grow with its root. The function of the genesis fit serves both.
_CORRELATED = 25.0
#: Whether the rows of several batches may be fitted as one table, by the model's code, or by its build
#: function where it has no file.
_additive: Recent[bool] = Recent(256, lambda _: 1)


def prepare(
    prior: MatchedPrior | None,
    batches: Sequence[Batch],
    declaration: Declaration,
    carried: tuple[str, ...],
    phases: Callable[[str], Any],
    constants: dict[str, float] | None = None,
    known: Known = NOTHING_KNOWN,
) -> Problem:
    """Build the models, align the prior with them and compile the target.

    Parameters
    ----------
    prior
        The belief's matched prior; None before the first link.
    batches
        What is fitted, oldest first; the last one is the newest.
    declaration, carried, constants
        The chain's.
    phases
        Measures the time of each phase.
    known
        What is known before.

    Returns
    -------
    Problem
        With `components` where the prior is a mixture.
    """
    if prior is not None and len(prior.components) > 1:
        parts = [
            (weight, prepare(one, batches, declaration, carried, phases, constants, known))
            for weight, one in prior.components
        ]
        return replace(parts[0][1], components=tuple(parts), at=_by_part(prior, [one for _, one in parts]))
    setting = _Setting(prior, declaration, carried, phases, constants, known)
    with phases("build"):
        newest = setting.graph(batches[-1])
    apart = _apart(newest, known.adds_up)
    if len(batches) > 1 and not apart and not newest.local and not declaration.carry:
        found = setting.rows_together(batches, newest)
        if found is not None:
            return found
    with phases("build"):
        graphs = [*(setting.graph(batch) for batch in batches[:-1]), newest]
        layout = align(prior.coordinates if prior else None, [graph.coordinates for graph in graphs])
    if layout.plain and not apart:
        return setting.plain(newest, newest, layout, "")
    if declaration.policy.robust:
        raise ModelRefused(
            f"The robust mixture of {declaration.name} cannot be used here",
            expected="carried labels that stay the same",
            found="a batch with other labels",
            todo="set policy robust=0, or give the model the full list of labels in every batch",
        )
    return setting.one_by_one(graphs, layout)


def prepare_whole(
    prior: MatchedPrior | None,
    batches: Sequence[Batch],
    declaration: Declaration,
    carried: tuple[str, ...],
    phases: Callable[[str], Any],
    constants: dict[str, float] | None = None,
    known: Known = NOTHING_KNOWN,
) -> Problem:
    """Prepare the model of all rows, whether or not their log densities add up; see `prepare`.

    Where the rows are no model of their own (with state, with local variables of whole batches, or where the
    model cannot be built from them), the batches are fitted together as `prepare` does.
    """
    setting = _Setting(prior, declaration, carried, phases, constants, replace(known, seen=None))
    if len(batches) > 1 and not declaration.carry:
        with suppress(LindleyError), phases("build"):  # also what a build function refuses
            every, parts = setting.graph(*batches), [setting.graph(batch) for batch in batches]
            layout = align(prior.coordinates if prior else None, [every.coordinates])
            if layout.plain and _sizes_add_up(every, parts):
                return setting.plain(every, every, layout, "rows")
    return prepare(prior, batches, declaration, carried, phases, constants, known)


def _apart(graph: ModelGraph, adds_up: bool | None) -> bool:
    """Whether batches are fitted one by one, from the first one on: all then use what it compiles."""
    declaration = graph.declaration
    return bool(graph.local or declaration.carry or adds_up is False) and not declaration.policy.robust


def _sizes_add_up(every: ModelGraph, parts: Sequence[ModelGraph]) -> bool:
    """Whether local variables belong to rows: those of all rows are as many as those of the batches."""
    sizes = Counter[str]()
    for part in parts:
        sizes.update({variable.name: variable.block.size for variable in part.local})
    return sizes == Counter({variable.name: variable.block.size for variable in every.local})


def _by_part(prior: MatchedPrior, problems: Sequence[Problem]) -> Callable[..., Quantities[np.ndarray]]:
    """Return the quantities of a problem with a mixture as its prior: `Problem.at`.

    A point is whitened by the part that it most likely belongs to: far out, a map may overflow.
    """
    first = problems[0]
    known = prior.coordinates.names
    here = [known.index(name) for name in first.graph.coordinates.names if name in known]
    if first.pooled == "terms" or first.apart or len(here) < len(known) or not isinstance(prior.map, Mixture):
        return first.at  # it takes no whitened points
    mixture = prior.map.permuted(np.array(here, dtype=int))

    def at(u: np.ndarray, local: np.ndarray) -> Quantities[np.ndarray]:
        part_of = mixture.by_part(u).argmax(axis=0)
        found = {part: problems[part].at(u[part_of == part], local[part_of == part]) for part in set(part_of)}
        arrays = {part: quantities.flat() for part, quantities in found.items()}
        joined = [np.empty((len(u), *array.shape[1:]), array.dtype) for array in next(iter(arrays.values()))]
        for part, values in arrays.items():
            for whole, some in zip(joined, values, strict=True):
                whole[part_of == part] = some
        return next(iter(found.values())).filled(joined)

    return at


@dataclass(frozen=True)
class _Setting:
    """The arguments of `prepare` other than the batches."""

    prior: MatchedPrior | None
    declaration: Declaration
    carried: tuple[str, ...]
    phases: Callable[[str], Any]
    constants: dict[str, float] | None
    known: Known

    def graph(self, *batches: Batch) -> ModelGraph:
        """Return the model of all rows of some batches; see `built`."""
        return built(self.declaration, self.carried, self.constants, batches)

    def plain(self, fitted: ModelGraph, newest: ModelGraph, layout: Layout, pooled: str) -> Problem:
        """Return the problem of one table of rows whose labels are the belief's: one fused function."""
        prior, whitener = self.prior, self.known.whitener
        with self.phases("build"):
            aligned = None
            robust = self.declaration.policy.robust if prior is not None else 0.0
            if robust and undrawable(fitted):
                raise ModelRefused(
                    f"The robust mixture of {self.declaration.name} has no meaning",
                    expected="genesis priors that integrate to one, so that the mixture's weight is one",
                    found="; ".join(f"{name}: {why}" for name, why in undrawable(fitted).items()),
                    todo="give the variable a proper prior, or set policy robust=0",
                )
            whitens = prior is None and _helps(whitener, layout)
            around = whitener if whitens else prior
            if around is not None:
                aligned = around.ordered(layout.coordinates).first
                layout = align(layout.coordinates, [fitted.coordinates])
            symbolic = target(fitted, genesis=prior is None, robust=robust > 0)
            shown = symbolic
            if newest is not fitted:
                shown = target(newest, genesis=prior is None, robust=robust > 0)
        with self.phases("compile"):
            functions, before = compiled(symbolic)
            quantities = functions if newest is fitted else compiled(shown)[0]
            if self.known.seen is None:
                quantities.describe()
        inside = None if whitens else aligned
        arrays = inside.arrays() if inside is not None else ()
        if robust:
            arrays = (*arrays, np.array(robust))
        bound = bind(
            fitted.size,
            shown.names,
            functions["log_density"],
            lambda: quantities["quantities"],
            (*arrays, *symbolic.data_values),
            (*arrays, *shown.data_values),
            lambda: quantities["essential"],
        )
        if whitens and aligned is not None:
            bound = of_whitened(bound, aligned)

        def at(u: np.ndarray, local: np.ndarray) -> Quantities[np.ndarray]:
            z = u if aligned is None else aligned.inverse(u)[0]
            return bound.evaluate(np.concatenate([z, local], axis=1))

        return Problem(
            graph=newest,
            layout=layout,
            prior=aligned,
            local_names=_local_names([newest]),
            circular_locals=_circular_locals([newest]),
            bound=bound,
            at=at,
            outcomes=lambda: Outcomes(newest, shown, lambda: quantities["log_density"], arrays, inside),
            starts=Starts((newest,), layout, newest.size),
            genesis=self.prior is None,
            pooled=pooled,
            digest=symbolic.digest,
            inlined=symbolic.inlined if fitted.sized else 0,
            compiled_before=before,
        )

    def rows_together(self, batches: Sequence[Batch], newest: ModelGraph) -> Problem | None:
        """Return the problem of all rows in one table; None where that is another model.

        It is the same model when the log likelihoods add up, which is tried once for each build function.
        A build function may refuse rows of several batches in one table: it takes them one by one.
        """
        prior, seen = self.prior, self.known.seen
        with self.phases("build"):
            try:
                every = self.graph(*batches)
            except LindleyError:
                return None
            # Missing values of an earlier batch are local variables of that batch alone.
            if every.coordinates != newest.coordinates or every.local:
                return None
            layout = align(prior.coordinates if prior else None, [every.coordinates])
            if not layout.plain:
                return None

        def adds_up() -> bool:
            with self.phases("build"):
                before = self.graph(*batches[:-1])
            with self.phases("compile"):
                same = seen is not None and _same_names(seen, layout)
                return _adds_up(newest, before, every, seen if same else prior, layout)

        key = self.declaration.build if self.declaration.in_memory else self.declaration.model_digest
        if not _additive.get(key, adds_up):
            return None
        return self.plain(every, newest, layout, "rows")

    def one_by_one(self, graphs: list[ModelGraph], layout: Layout) -> Problem:
        """Return the problem of batches that are fitted together one by one."""
        prior, whitener, first_seen = self.prior, self.known.whitener, layout.first_seen
        with self.phases("build"):
            terms = [term(graph) for graph in graphs]
            for graph, own in zip(graphs, first_seen, strict=True):
                require_divisible(graph, own)
        # The head's state is that at the end of the newest batch: it says nothing of the first one's start.
        whitens = prior is None and whitener is not None and not graphs[-1].declaration.carry
        if whitens and whitener is not None:
            prior, layout = whitener, align(whitener.coordinates, [graph.coordinates for graph in graphs])
        pooled = "terms" if len(graphs) > 1 or not layout.plain else ""
        batches, start, before = [], layout.coordinates.size, True
        with self.phases("compile"):
            for item, graph, place, own in zip(terms, graphs, layout.model_at, first_seen, strict=True):
                functions, held = compiled(item)
                before = before and held
                stop = start + graph.size - graph.coordinates.size
                batches.append(BatchTerm(item, functions, place, own.astype(float), slice(start, stop)))
                start = stop
            map_ = prior.first if prior is not None else None
            pool, last = Pool(layout, map_, tuple(batches), whitens), batches[-1]
            bound = pool.bound()
            if self.known.seen is None:
                last.functions.describe()

        return Problem(
            graph=graphs[-1],
            layout=layout,
            prior=map_,
            local_names=_local_names(graphs),
            circular_locals=_circular_locals(graphs),
            bound=bound,
            at=last.quantities_at,
            outcomes=lambda: Outcomes(
                graphs[-1],
                last.term,
                lambda: last.functions["term"],
                (np.zeros(0), np.zeros(len(last.own)), np.zeros(len(last.term.state_at))),
            ),
            starts=Starts(tuple(graphs), layout, pool.size),
            genesis=self.prior is None,
            pooled=pooled,
            apart=True,
            digest=terms[-1].digest,
            inlined=terms[-1].inlined if graphs[-1].sized and not pooled else 0,
            compiled_before=before,
        )


def _helps(whitener: MatchedPrior | None, layout: Layout) -> bool:
    """Whether whitening saves more steps of the sampler than its compilation costs."""
    return whitener is not None and _same_names(whitener, layout) and whitener.condition() > _CORRELATED


def _same_names(prior: MatchedPrior, layout: Layout) -> bool:
    """Whether a prior has the coordinates of a layout, in whatever order."""
    return set(prior.coordinates.names) == set(layout.coordinates.names)


def _adds_up(
    newest: ModelGraph, before: ModelGraph, every: ModelGraph, prior: MatchedPrior | None, layout: Layout
) -> bool:
    """Whether the log likelihood of all rows is that of the newest batch plus that of the rows before."""
    # Only likelihoods are compared, so any prior serves: preferably one whose functions are compiled already.
    rng = np.random.default_rng(0)
    if prior is None:
        x = initial_point(newest) + rng.uniform(-0.5, 0.5, (_CHECK_POINTS, newest.size))
        map_, u = None, x
    else:
        x = rng.normal(size=(_CHECK_POINTS, newest.size))
        map_ = prior.ordered(layout.coordinates).first
        u = map_.forward(x)

    def likelihood(graph: ModelGraph, points: np.ndarray, map_: TriangularMap | None) -> np.ndarray:
        item = target(graph, genesis=map_ is None)
        arrays = (*(map_.arrays() if map_ is not None else ()), *item.data_values)
        functions = compiled(item)[0]
        name = functions.describe()
        names = item.names if name == "quantities" else item.names.essential()
        return names.filled(lazy_table(lambda: functions[name], arrays)(points)).log_likelihood

    whole, apart = likelihood(every, x, map_), likelihood(newest, x, map_)
    if before.coordinates == newest.coordinates:
        rest = likelihood(before, x, map_)
    else:
        # These rows lack some labels of the newest batch: evaluate at their own coordinates, without a map.
        names = newest.coordinates.names
        rest = likelihood(before, u[:, [names.index(name) for name in before.coordinates.names]], None)
    some = np.isfinite(apart + rest) | np.isfinite(whole)
    return bool(np.isclose(apart + rest, whole, rtol=1e-9, atol=1e-9)[some].all())


def _local_names(graphs: Sequence[ModelGraph]) -> tuple[str, ...]:
    """Name local variables; names of earlier batches' end in how many batches ago they were."""
    names = []
    for ago, graph in zip(range(len(graphs) - 1, -1, -1), graphs, strict=True):
        suffix = f" ({ago} before)" if ago else ""
        names += [name + suffix for variable in graph.local for name in variable.block.names()]
    return tuple(names)


def _circular_locals(graphs: Sequence[ModelGraph]) -> np.ndarray:
    """Return which local variables are angles, array [local] of bool."""
    blocks = [variable.block for graph in graphs for variable in graph.local]
    return Coordinates(tuple(blocks)).circular
