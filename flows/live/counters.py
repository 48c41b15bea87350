"""What a server of predictions counts, as metrics for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.live.following import Follower

#: Seconds: from a row of a small model to many rows of a large one.
_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Counters:
    """Requests by chain and status, how long they took, and where each chain stands.

    Parameters
    ----------
    followers
        Of the chains that are served.
    """

    def __init__(self, followers: Iterable[Follower]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "lindley_serve_requests", "Requests for predictions", ["chain", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "lindley_serve_seconds",
            "Seconds from a request to its answer",
            ["chain"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Standings(tuple(followers)))

    def answered(self, chain: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(chain, str(status)).inc()
        self._seconds.labels(chain).observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Standings(Collector):
    """The links that answer, read when they are asked for."""

    def __init__(self, followers: tuple[Follower, ...]) -> None:
        self._followers = followers

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge for each fact."""
        for name, meaning, value in (
            ("link", "Number of the link that answers", lambda f: f.snapshot.link.view.number or 0),
            ("version", "Version that answers", lambda f: f.snapshot.link.view.version),
            ("following", "1 if that is the newest link, 0 if the newest was refused", _follows),
            ("head_moves", "Links that took over from another since the start", lambda f: f.moves),
            ("load_seconds", "Seconds that the newest one took to load and check", lambda f: f.seconds),
            ("looked_age_seconds", "Time since the registry answered last", _age),
        ):
            family = GaugeMetricFamily(f"lindley_serve_{name}", meaning, labels=["chain"])
            for follower in self._followers:
                family.add_metric([follower.chain], float(value(follower)))
            yield family


def _follows(follower: Follower) -> bool:
    return not follower.standing.why


def _age(follower: Follower) -> float:
    return time.monotonic() - follower.standing.looked
