"""Time updates beside pooled fits, and late links beside early ones: ``python -m benchmarks.drift.speed``.

Everything runs in one warm process with one BLAS thread, without a ledger. Both sides of a comparison take
turns, so that other load on the machine falls on both; on a loaded machine, ``--cpu`` counts CPU-seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.drift.chains import MODELS
from benchmarks.drift.streams import Stream, batches
from benchmarks.fidelity.cases import CASES, load_cases
from lindley.batch.batch import batch_from_frame
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.sampling import FitSettings
from lindley.inference.step import fit
from lindley.model.declaration import Declaration, load_file
from lindley.model.graph import carried_variables
from lindley.seeds import derive_seed

#: Seconds that an update may take beyond the pooled fit of all rows.
EXCESS = 0.5
#: Ratio of a late link's time to that of an early one.
GROWTH = 1.1
#: Reference cases that are timed by default: those without differential equations, which take hours.
QUICK_CASES = ("sblri-blr", "earnings-earn_height", "kidiq-kidscore_interaction", "mesquite-mesquite",
               "GLM_Poisson_Data-GLM_Poisson_model", "dogs-dogs", "dugongs_data-dugongs_model",
               "eight_schools-eight_schools_noncentered")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; returns 0, or 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.speed", description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(QUICK_CASES), help="reference cases; none to skip")
    parser.add_argument("--late", type=int, default=1000, help="the late link; 0 to skip")
    parser.add_argument("--rows", type=int, default=6000, help="rows of a batch of the long chain")
    parser.add_argument("--refit-rows", type=int, help="another budget; small batches are then large ones")
    parser.add_argument("--repeats", type=int, default=9, help="updates timed at either place of it")
    parser.add_argument("--cpu", action="store_true", help="CPU-seconds of the process, all its threads")
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu else time.perf_counter
    good = True
    with threadpool_limits(limits=1, user_api="blas"):
        if options.cases:
            print("| case | batches | update | pooled fit | update - pooled, median | largest |")
            print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in options.cases:
            good &= _case(name, clock)
        if options.late:
            good &= _growth(options, clock)
    return 0 if good else 1


def _case(name: str, clock: Callable[[], float]) -> bool:
    """Time each update of a reference case beside the pooled fit of all its rows so far."""
    (case,) = load_cases(CASES, [name])
    chain, updates, pooled = MemoryChain(), [], []
    for place, frame in enumerate(case.batches):
        data = _data(case.declaration, frame, place)
        options = Options(seed=derive_seed(name, str(place)))
        # Once before, so that neither side compiles.
        grown = advance(chain, data, options)[0]
        everything = replace(data, batches=grown.batches)
        start = Start(near=chain.head)
        fit(start, everything, options)
        sides: list[tuple[list[float], Callable[[], Any]]] = [
            (updates, lambda c=chain, d=data, o=options: advance(c, d, o)),
            (pooled, lambda s=start, e=everything, o=options: fit(s, e, o)),
        ]
        for times, work in sides if place % 2 else reversed(sides):
            times.append(_seconds(work, clock))
        chain = grown
    excess = np.array(updates) - np.array(pooled)
    print(
        f"| {name} | {len(updates)} | {np.median(updates):.2f} | {np.median(pooled):.2f} "
        f"| {np.median(excess):+.2f} | {excess.max():+.2f} |",
        flush=True,
    )
    return bool(np.median(excess) <= EXCESS)


def _growth(options: argparse.Namespace, clock: Callable[[], float]) -> bool:
    """Time updates at link 10 and at a late link of a chain of large batches, in turns.

    The links between are fitted with few draws: what matters is how many there are.
    """
    late, rows, repeats = options.late, options.rows, options.repeats
    stream = Stream(name=f"growth-{late}", family="static", model="line", links=late + repeats, rows=rows)
    declaration = load_file(MODELS / f"{stream.model}.py")
    if options.refit_rows is not None:
        policy = replace(declaration.policy, refit_rows=options.refit_rows)
        declaration = replace(declaration, policy=policy)
    frames = batches(stream)
    few = FitSettings(tune=200, draws=250, attempts=1)
    chain, kept, begun = MemoryChain(), {}, time.perf_counter()
    for place, frame in enumerate(frames[: late - 1]):
        if place + 1 == 10:
            kept[10] = chain
        options = Options(seed=derive_seed(stream.name, str(place)), settings=few)
        chain = advance(chain, _data(declaration, frame, place), options)[0]
        if (place + 1) % 100 == 0:
            print(f"{place + 1} links, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    kept[late] = chain
    times: dict[int, list[float]] = {place: [] for place in kept}
    for turn, frame in enumerate(frames[late - 1 : late + repeats - 1]):
        data = _data(declaration, frame, late - 1 + turn)
        options = Options(seed=derive_seed(stream.name, "timed", str(turn)))
        for place in kept if turn % 2 else reversed(kept):
            seconds = _seconds(lambda c=kept[place], d=data, o=options: advance(c, d, o), clock)
            if turn:  # the first warms up
                times[place].append(seconds)
    medians = {place: float(np.median(found)) for place, found in times.items()}
    ratio = medians[late] / medians[10]
    print(f"\n| link | update, median of {repeats - 1} |\n| ---: | ---: |")
    for place, seconds in medians.items():
        print(f"| {place} | {seconds:.3f} |")
    print(f"\nlink {late} takes {ratio:.2f} times link 10 ({rows} rows a batch)")
    return ratio <= GROWTH


def _data(declaration: Declaration, frame: pd.DataFrame, place: int) -> Data:
    batch = batch_from_frame(frame, declaration, f"batch {place + 1}")
    carried = carried_variables(declaration, batch.frame())
    return Data(declaration=declaration, batches=(batch,), carried=carried)


def _seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    begun = clock()
    work()
    return clock() - begun


if __name__ == "__main__":
    sys.exit(main())
