"""A little of `tests.faults.fuzz`; the whole of it is `make test-faults`."""

from __future__ import annotations

import sys

import pytest

from tests.faults import fuzz
from tests.faults.fuzz_targets import TARGETS

COUNT = 300


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_bytes_are_read_or_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # model files of one size within one second
    found = fuzz.fuzz(target, COUNT)
    assert found.failures == []
    assert found.runs == COUNT
    assert found.refused > COUNT / 10


def test_what_is_no_lindley_error_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that cannot fail would show nothing."""

    def reads(data: bytes) -> None:
        if len(data) % 2:
            raise ZeroDivisionError("a bug")
        if data.startswith(b"i"):
            until = fuzz.time.process_time() + 0.01
            while fuzz.time.process_time() < until:
                pass

    strategy, _ = TARGETS["csv"][0]()
    monkeypatch.setitem(TARGETS, "csv", (lambda: (strategy, reads), 1))
    monkeypatch.setattr(fuzz, "SECONDS", 0.005)
    found = fuzz.fuzz("csv", 50)
    assert any("ZeroDivisionError" in failure for failure in found.failures)
    assert any("seconds for" in failure for failure in found.failures)


def test_a_process_that_dies_is_a_failure_and_leaves_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "TARGETS", {"nothing": (None, 1)})
    monkeypatch.setattr(fuzz, "_SHARES", 1)
    (row,) = fuzz.main(10)
    assert (row.test, row.case, row.runs, row.undetected) == ("fuzz", "nothing", 0, 1)
    assert not row.ok
