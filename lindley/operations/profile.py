"""The profile of a chain: where the seconds of each link went, from what its runs hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lindley.ledger.chain import ChainLink
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.timing import PHASES, PLOTS, SAMPLE, TOTAL, metric


@dataclass(frozen=True)
class Line:
    """One link's profile.

    Parameters
    ----------
    link, kind
        Its number and kind.
    seconds
        By phase, in the order in which they come; only those that its run holds.
    total
        From the reading of its batch until it was registered, the time between the phases included; plots
        are drawn later. None where the run does not state it.
    ess
        The smallest bulk or tail ESS of a coordinate; None without a fit.
    """

    link: int
    kind: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    total: float | None = None
    ess: float | None = None

    @property
    def between(self) -> float | None:
        """The part of the total that no phase states; None without a total."""
        stated = sum(value for name, value in self.seconds.items() if name != PLOTS)
        return None if self.total is None else max(self.total - stated, 0.0)

    @property
    def ess_per_second(self) -> float | None:
        """The smallest ESS per second of sampling; None where nothing was sampled."""
        sampled = self.seconds.get(SAMPLE, 0.0)
        return self.ess / sampled if self.ess is not None and sampled > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON-able values."""
        return {"link": self.link, "kind": self.kind} | self.metrics()

    def metrics(self) -> dict[str, Any]:
        """Return everything of it that is measured."""
        return {
            "seconds": dict(self.seconds),
            "between": self.between,
            "total": self.total,
            "ess_min": self.ess,
            "ess_per_second": self.ess_per_second,
        }


@dataclass(frozen=True)
class Profile:
    """The profile of a chain's own links, oldest first."""

    chain: str
    lines: tuple[Line, ...]

    def phases(self) -> list[str]:
        """Return the phases that any of the links went through, in their order."""
        found = {name for line in self.lines for name in line.seconds}
        return [name for name in PHASES if name in found]

    def medians(self) -> dict[str, Any]:
        """Return the medians over the links that have a value."""
        lines = self.lines
        return {
            "seconds": {name: _median([line.seconds.get(name) for line in lines]) for name in self.phases()},
            "between": _median([line.between for line in lines]),
            "total": _median([line.total for line in lines]),
            "ess_min": _median([line.ess for line in lines]),
            "ess_per_second": _median([line.ess_per_second for line in lines]),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the profile as JSON-able values."""
        links = [line.as_dict() for line in self.lines]
        return {"chain": self.chain, "links": links, "median": self.medians()}


def profile(ledger: Ledger, name: str, last: int | None = None) -> Profile:
    """Return where the seconds of a chain's links went.

    Parameters
    ----------
    ledger, name
        Where the chain is kept, and its name. Of a branch only its own links: the others are in the profile
        of the chain that it continues.
    last
        Only this many of the newest links.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    own = find_chain(ledger, name).own
    runs = ledger.run_states(name)
    lines = []
    for link in own if last is None else own[max(0, len(own) - last) :]:
        state = runs.get(link.version.run_id)
        lines.append(_line(link, state.metrics if state else {}))
    return Profile(name, tuple(lines))


def _line(link: ChainLink, logged: Mapping[str, float]) -> Line:
    stated = link.version.metrics
    ess = [stated[name] for name in ("ess_bulk_min", "ess_tail_min") if name in stated]
    seconds = {name: logged[metric(name)] for name in PHASES if metric(name) in logged}
    # A copy has the metrics of the link that was fitted, but no fit.
    fitted = SAMPLE in seconds or not seconds
    return Line(
        link=link.number,
        kind=link.version.kind,
        seconds=seconds,
        total=logged.get(metric(TOTAL)),
        ess=min(ess, default=None) if fitted else None,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
