"""Run the drift benchmark: ``python -m benchmarks.drift.run``; see README.md."""

from __future__ import annotations

import argparse
import csv
import hashlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.drift import table
from benchmarks.drift.chains import COLUMNS, run_stream
from benchmarks.drift.streams import Stream, every_stream

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".benchmarks" / "drift"
#: Largest streams of --quick, and how many of each family.
QUICK_ROWS, QUICK_LINKS, QUICK_STREAMS = 1400, 45, 2
QUICK_MODELS = ("poisson", "line", "scale", "regression6")
#: Seed of the order of --sample.
SAMPLE = 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 (a missed bar, a failure, or unfinished streams) or 2 (no stream)."""
    begun = time.perf_counter()
    options = _options(arguments)
    chosen = _chosen(options)
    if not chosen:
        print("No stream has such a name", file=sys.stderr)
        return 2
    code = code_digest()
    if options.refit_rows is not None:
        code += f"/{options.refit_rows}"
    folder = options.work
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [stream for stream in chosen if not _finished(folder, stream, None if options.keep else code)]
    print(f"{len(chosen)} streams, {len(chosen) - len(waiting)} of them finished before", flush=True)
    failed = []
    for count, (stream, error) in enumerate(_work(waiting, folder, code, options, begun), 1):
        took = time.perf_counter() - begun
        print(f"{took:6.0f} s  {count}/{len(waiting)}  {stream.name}{error}", flush=True)
        if error:
            failed.append(stream.name)
    good = _report(chosen, folder, options, None if options.keep else code)
    print(f"total time {time.perf_counter() - begun:.0f} s with {options.jobs} process(es)")
    return 0 if good and not failed else 1


def code_digest() -> str:
    """Return a digest of the code whose results are comparable: Lindley's, and the streams'."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "lindley").rglob("*.py"), *HERE.rglob("*.py")]):
        # The page may be made again from the same links.
        if path.name not in ("table.py", "run.py", "speed.py"):
            found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def write_stream(stream: Stream, folder: Path, code: str, refit_rows: int | None = None) -> None:
    """Run a stream and write its links; the file gets its name when it is complete."""
    part = folder / f"{stream.name}.part"
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "code"), lineterminator="\n")
        writer.writeheader()
        for row in run_stream(stream, refit_rows):
            writer.writerow({name: _text(value) for name, value in row.items()} | {"code": code})
            file.flush()
    part.rename(folder / f"{stream.name}.csv")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.run", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="streams whose names contain one of these")
    parser.add_argument("--quick", action="store_true", help="few and short streams; no page")
    parser.add_argument("--sample", type=int, metavar="N", help="only the first N streams of a random order")
    parser.add_argument("--refit-rows", type=int, metavar="N", help="another budget of rows than the default")
    parser.add_argument("--jobs", type=int, default=2, help="processes; results do not depend on it")
    parser.add_argument("--minutes", type=float, default=90, help="no stream starts after that")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the links, one file per stream")
    parser.add_argument("--keep", action="store_true", help="links that other code made count as finished")
    parser.add_argument("--out", type=Path, default=HERE / "results.csv", help="place of results.csv")
    parser.add_argument("--page", type=Path, default=HERE / "README.md", help="page that holds the table")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Stream]:
    """Return the streams to run, those of one model together: a process compiles a model once.

    A sample is in its random order: what is finished when it is stopped is a sample, too.
    """
    found = every_stream()
    if options.sample is not None:
        random.Random(SAMPLE).shuffle(found)
        return found[: options.sample]
    if options.quick:
        small = [
            stream
            for stream in found
            if stream.total <= QUICK_ROWS and stream.links <= QUICK_LINKS and stream.model in QUICK_MODELS
        ]
        families = dict.fromkeys(stream.family for stream in small)
        found = [s for family in families for s in [s for s in small if s.family == family][:QUICK_STREAMS]]
    if options.only:
        found = [stream for stream in found if any(text in stream.name for text in options.only)]
    return sorted(found, key=lambda stream: (not stream.name.startswith("known"), stream.model))


def _finished(folder: Path, stream: Stream, code: str | None) -> bool:
    """Whether the links of a stream are there, made by this code (None: by any)."""
    path = folder / f"{stream.name}.csv"
    if not path.is_file():
        return False
    return code is None or bool((table.read_links(path)["code"] == code).all())


def _work(
    streams: Sequence[Stream], folder: Path, code: str, options: argparse.Namespace, begun: float
) -> Iterator[tuple[Stream, str]]:
    """Run the streams; yields each with its failure, or an empty text."""
    if not streams:
        return
    deadline = begun + 60 * options.minutes
    if options.jobs == 1:
        for stream in streams:
            if time.perf_counter() < deadline:
                yield stream, _tried(stream, folder, code, options.refit_rows)
        return
    # Inherited by the processes: threads of BLAS would compete for the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {
            pool.submit(_tried, stream, folder, code, options.refit_rows): stream for stream in streams
        }
        try:
            for done in as_completed(list(running), timeout=max(0.0, deadline - time.perf_counter())):
                yield running[done], done.result()
        except TimeoutError:
            for future in running:
                future.cancel()


def _tried(stream: Stream, folder: Path, code: str, refit_rows: int | None) -> str:
    try:
        write_stream(stream, folder, code, refit_rows)
    except Exception as error:
        return f": failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return ""


def _report(chosen: Sequence[Stream], folder: Path, options: argparse.Namespace, code: str | None) -> bool:
    """Print the table, write the files of a whole run; returns whether all is there and no bar is missed."""
    done = [stream for stream in chosen if _finished(folder, stream, code)]
    if not done:
        print("no stream is finished")
        return False
    links = table.assessed(
        pd.concat([table.read_links(folder / f"{s.name}.csv") for s in done], ignore_index=True)
    )
    found, rows = table.by_family(links), table.by_stream(links)
    text = table.markdown(found)
    print(text)
    for row in rows:
        if row["unflagged"]:
            print(
                f"wrong and unflagged: {row['stream']}, {row['unflagged']} links, largest true error "
                f"{row['true_largest']:.3f}, stated {row['stated_there']:.3f} (link {row['at_link']})"
            )
    part = options.quick or options.only or options.refit_rows is not None
    whole = not part and len(done) == len(chosen)
    if options.sample is not None:
        total = len(every_stream())
        text = f"{len(done)} of the {total} streams, drawn at random (`--sample {len(done)}`):\n\n{text}"
    out = options.out if whole else folder / "results.csv"
    _write(out, rows)
    if whole:
        table.write_page(options.page, text)
    missed = found[-1].missed
    print(
        f"{len(done)} of {len(chosen)} streams finished; {out.name} written; bars missed: {missed or 'none'}"
    )
    return len(done) == len(chosen) and not missed


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _text(value) for name, value in row.items()})


def _text(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
