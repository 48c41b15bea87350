"""What is found out about a model and a batch before sampling, in lines for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lindley.model.meaning.adding_up import Meaning
from lindley.report.numbers import format_number
from lindley.report.text import counted


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is found out about a model and a batch before sampling.

    Parameters
    ----------
    carried, local
        Number of coordinates by variable.
    state
        Carried quantity by the variable that takes its value.
    inlined
        Arrays that the model holds as constants, by their use.
    meaning
        Whether the rows of two batches add up.
    predicted
        Observed variables that can be drawn.
    not_drawn
        Why other variables cannot be drawn, by name.
    left_out
        Sentences on other descriptions that fail.
    prediction
        Why the registered belief could not predict; empty where it can.
    seconds
        Of compiling; 0 where the process had the functions already.
    attempts
        How often a fit is sampled at most until the gate passes it.
    ranges
        By observed variable, the 5%, 50% and 95% quantiles of its prior predictive and of the batch.
    """

    carried: dict[str, int]
    local: dict[str, int]
    state: dict[str, str]
    inlined: tuple[str, ...]
    meaning: Meaning
    predicted: tuple[str, ...]
    not_drawn: dict[str, str]
    left_out: tuple[str, ...]
    prediction: str
    seconds: float
    attempts: int
    ranges: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def later(self) -> tuple[str, ...]:
        """What would be refused or left out later, in sentences."""
        found = list(self.meaning.later)
        if self.prediction:
            found.append(f"the registered belief cannot predict: {self.prediction}")
        return (*found, *self.left_out)

    def lines(self) -> tuple[str, str, str]:
        """Return it in three lines: what is carried, whether rows add up, what it computes."""
        return self._variables(), self._rows(), self._functions()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "carried": self.carried,
            "local": self.local,
            "state": self.state,
            "inlined": list(self.inlined),
            "rows": self.meaning.as_dict(),
            "predicted": list(self.predicted),
            "not_drawn": self.not_drawn,
            "compile_seconds": self.seconds,
            "attempts": self.attempts,
            "ranges": self.ranges,
            "later": list(self.later),
        }

    def _variables(self) -> str:
        parts = [f"carried {_sizes(self.carried)}"]
        parts += [f"local {_sizes(self.local)}"] if self.local else []
        parts += (
            [f"state {', '.join(f'{to} from {of}' for to, of in self.state.items())}"] if self.state else []
        )
        parts += [f"constants of the graph: {', '.join(self.inlined)}"] if self.inlined else []
        return "; ".join(parts)

    def _rows(self) -> str:
        if self.meaning.adds_up:
            return "rows of two batches add up"
        if self.meaning.adds_up is None:
            return f"whether rows of two batches add up cannot be tried: {'; '.join(self.meaning.why)}"
        return f"rows of two batches do not add up: {'; '.join(self.meaning.why)}"

    def _functions(self) -> str:
        compiled = f"compiled in {self.seconds:.1f} s" if self.seconds >= 0.05 else "compiled before"
        drawn = (
            f"predictive draws of {', '.join(self.predicted)}" if self.predicted else "no predictive draws"
        )
        parts = [compiled, drawn, *(f"none of {name}: {why}" for name, why in self.not_drawn.items())]
        sampled = f"sampled at most {counted(self.attempts, 'time')}, until the gate passes"
        return "; ".join([*parts, sampled, *self.later])


def _sizes(variables: dict[str, int]) -> str:
    """Return variables with their numbers of coordinates, where these are not one."""
    if not variables:
        return "nothing"
    shown = [name if size == 1 else f"{name} ({size})" for name, size in variables.items()]
    return f"{', '.join(shown)}, {counted(sum(variables.values()), 'coordinate')}"


def range_rows(findings: Findings) -> list[dict[str, str]]:
    """Return a row per observed variable: the ranges of its prior predictive and of the batch."""
    return [
        {"outcome": name} | {what: " to ".join(map(format_number, (q[0], q[-1]))) for what, q in of.items()}
        for name, of in findings.ranges.items()
    ]
