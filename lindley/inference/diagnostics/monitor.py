"""A monitor of slow movement: what no single batch shows, all of them may show together.

If model and belief are right, a batch's pulls (`lindley.inference.diagnostics.conflict`) are standard normal
given all batches before it. Bets against that are fair: exp(b z - b^2/2) has mean 1 for any size b that is
chosen before the batch is seen. Their product from some link on is wealth that grows only where the pulls
have one sign there; the sum over the links at which the bets may have begun, each with a small stake, is a
Shiryaev-Roberts statistic (Shin, Ramdas & Rinaldo 2023, arXiv:2203.03532). By Doob's inequality the
probability that it ever exceeds all stakes put down divided by `ALARM` is at most `ALARM`, whatever the
dependence between coordinates (Vovk & Wang 2021, Annals of Statistics 49:1736).

Two kinds of bets are made on each pull, in both directions. Constant ones, for parameters that keep moving:
the belief lags behind by as much from link to link. And ones that fall as the belief learns, for a single
jump: a jump by a posterior sds before link j pulls at link t by a sqrt(share_t) times the ratio of the
posterior sds at t - 1 and j.

The state is a value; a record holds it with what was observed, so that a verifier recomputes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Probability of a false alarm over the first 1,000 links of a static chain, at most.
ALARM = 0.05
#: Stakes fall with the number of links, so that a change after few links is as soon found as one late, in
#: proportion: 1/(link + 10), summing to one over this many links.
_HORIZON, _EARLY = 1000, 10
#: Constant bets.
_STEADY = np.array([0.5, 1.0, 2.0])
#: Bets on jumps by 4 and 8 posterior sds, in cells by the information at the jump, a factor of two apart.
_JUMP, _CELLS = 4.0, 16
#: Largest bet, and largest pull that counts in the direction of a bet.
_LARGEST_BET, _LARGEST_PULL = 3.0, 4.0
#: Farthest score that is told apart from farther ones.
_FARTHEST = 1e3
#: Links that a scale of 1 counts for, in the estimate of the pulls' scale.
_SCALE_LINKS = 30.0
#: Wealth is kept in thousandths of a nat, rounded down, and not beyond this, in nats.
_UNIT, _MOST, _LEAST = 1000, 30.0, -40.0


@dataclass(frozen=True)
class Observation:
    """What one link observed of its batch.

    Parameters
    ----------
    pulls, share
        Signed pull by coordinate (standard normal if model and belief are right), and the expected share of
        the posterior's information that comes from the batch.
    conflict
        Normal score of the conflict's p-value, positive where the batch is surprising.
    fit
        Normal score of the log density of the outcomes, negative where they are less likely than simulated
        ones; None where nothing was simulated.
    setting
        What the state must be of: another model, or another policy of forgetting, begins a new one.
    """

    pulls: Mapping[str, float] = field(default_factory=dict)
    share: Mapping[str, float] = field(default_factory=dict)
    conflict: float | None = None
    fit: float | None = None
    setting: str = ""

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Observation:
        """Return the observation that a record states."""
        return cls(**{name: stated[name] for name in cls.__dataclass_fields__})

    def as_dict(self) -> dict[str, Any]:
        """Return the observation as JSON-able values, finite ones only."""
        return {
            "pulls": {name: _finite(value) for name, value in self.pulls.items() if np.isfinite(value)},
            "share": {name: _finite(value) for name, value in self.share.items() if np.isfinite(value)},
            "conflict": _finite(self.conflict),
            "fit": _finite(self.fit),
            "setting": self.setting,
        }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else min(max(value, -_FARTHEST), _FARTHEST)


@dataclass(frozen=True)
class Alarm:
    """What moved.

    Parameters
    ----------
    statistic
        ``pull of NAME``, ``conflict`` or ``fit``.
    kind
        ``steady`` or ``jump``.
    sign
        1 or -1: the direction of the movement.
    link
        Number of links watched when it was found.
    """

    statistic: str
    kind: str
    sign: int
    link: int

    def as_dict(self) -> dict[str, Any]:
        """Return the alarm as JSON-able values."""
        return {"statistic": self.statistic, "kind": self.kind, "sign": self.sign, "link": self.link}

    @property
    def text(self) -> str:
        """The alarm as a sentence, with what fits."""
        since = f"(found after {self.link} links; at most {ALARM:.0%} of static chains of 1,000 are flagged)"
        if self.statistic == "fit":
            less = "less" if self.sign < 0 else "more"
            return (
                f"the outcomes are {less} likely than the model says, over several batches {since}: change "
                "the model of their spread (a heavier tail, overdispersion, a spread that varies)"
            )
        if self.statistic == "conflict":
            return (
                f"batches conflict with the beliefs before them more often than chance {since}: the model "
                "leaves something out that differs between batches (a group, a covariate, an effect of the "
                "batch)"
            )
        name, way = self.statistic.removeprefix("pull of "), "up" if self.sign > 0 else "down"
        variable = name.partition("[")[0]
        forget = f"let the policy forget it (forget={{{variable!r}: ...}})"
        if self.kind == "jump":
            return (
                f"{name} jumped {way} and the belief follows slowly {since}: {forget}, branch off before the "
                "jump, or refit (rebase) if the chain is to average over it"
            )
        return f"{name} keeps moving {way} {since}: {forget}, or model it as state that is carried"


def monitor(state: Mapping[str, Any], observation: Observation) -> tuple[dict[str, Any], Alarm | None]:
    """Bet on one link, and return the state after it and the alarm that stands.

    Parameters
    ----------
    state
        The state before; empty for a new one.
    observation
        What the link observed.

    Returns
    -------
    tuple
        The state after, with ``links``, ``setting``, by statistic ``wealth`` (in thousandths of a nat),
        ``squares`` and ``information``, and ``alarm``; and the alarm, which stands until the state is begun
        anew.
    """
    observation = Observation.of(observation.as_dict())
    if not state or state.get("setting") != observation.setting:
        state = {"links": 0, "setting": observation.setting, "statistics": {}, "alarm": None}
    found = _values(observation)
    links = int(state["links"])
    before = dict(state["statistics"])
    if not found:
        return dict(state), standing(state)
    stake = -np.log((links + _EARLY) * _harmonic() * len(found))
    after = before | {name: _bet(before.get(name, {}), z, share, stake) for name, (z, share) in found.items()}
    alarm = standing(state) or _alarm(after, links + 1)
    new = {
        "links": links + 1,
        "setting": observation.setting,
        "statistics": after,
        "alarm": None if alarm is None else alarm.as_dict(),
    }
    return new, alarm


def watched(before: Mapping[str, Any], observation: Observation) -> dict[str, Any]:
    """Return what a record holds of the monitor: ``observed``, and ``state`` after it.

    Parameters
    ----------
    before
        The same of the belief before the batch; empty where nothing was watched.
    observation
        What the link observed.
    """
    state, _ = monitor(before.get("state", {}), observation)
    return {"observed": observation.as_dict(), "state": state}


def moved(watching: Mapping[str, Any]) -> Alarm | None:
    """Return the alarm that stands, of what `watched` returned."""
    return standing(watching.get("state", {}))


def standing(state: Mapping[str, Any]) -> Alarm | None:
    """Return the alarm of a state."""
    stated = state.get("alarm") if state else None
    if not stated:
        return None
    return Alarm(str(stated["statistic"]), str(stated["kind"]), int(stated["sign"]), int(stated["link"]))


def _values(observation: Observation) -> dict[str, tuple[float, float | None]]:
    """Return pull and share by statistic; no share for those on which only constant bets are made."""
    found: dict[str, tuple[float, float | None]] = {
        f"pull of {name}": (z, observation.share.get(name, 0.0)) for name, z in observation.pulls.items()
    }
    found |= {"conflict": (observation.conflict, None)} if observation.conflict is not None else {}
    return found | ({"fit": (observation.fit, None)} if observation.fit is not None else {})


def _bet(before: Mapping[str, Any], z: float, share: float | None, stake: float) -> dict[str, Any]:
    """Return the state of one statistic after a bet."""
    links, squares = int(before.get("links", 0)), float(before.get("squares", 0.0))
    information = float(before.get("information", 0.0))
    wealth = np.full((2, len(_STEADY) + _CELLS), -np.inf)
    for sign, stated in enumerate(before.get("wealth", ())):
        places = [int(place) for place in stated]
        wealth[sign, places] = np.array([float(value) for value in stated.values()]) / _UNIT
    wealth = bet(wealth, np.array(z), scale(links, squares), share, information, stake)
    if share is not None:
        information -= float(np.log1p(-min(max(share, 0.0), 1 - 1e-9)))
    kept = np.floor(np.clip(wealth, None, _MOST) * _UNIT)
    return {
        "links": links + 1,
        "squares": round(squares + min(z * z, 100.0), 6),
        "information": round(information, 6),
        "wealth": [
            {str(place): int(value) for place, value in enumerate(row) if value > _LEAST * _UNIT}
            for row in kept
        ],
    }


def scale(links: Any, squares: Any) -> Any:
    """Return the scale of a statistic's earlier pulls, at least 1: batches that vary more are no movement."""
    return np.sqrt(np.maximum((_SCALE_LINKS + squares) / (_SCALE_LINKS + links), 1.0))


def bet(
    wealth: np.ndarray, z: np.ndarray, spread: Any, share: Any, information: Any, stake: float
) -> np.ndarray:
    """Return the log wealth [..., direction, bet] after a link.

    Parameters
    ----------
    wealth
        Before it; minus infinity where no bet was made yet.
    z, spread
        The pull and its scale, arrays [...].
    share, information
        Expected share of the batch's information, and log of the information since the state began, arrays
        [...]. None: no bets on jumps.
    stake
        Log of what all new bets on this statistic stake together.
    """
    size, shape = len(_STEADY), wealth.shape[-1]
    bets, new = np.zeros((*z.shape, shape)), np.full((*z.shape, shape), -np.inf)
    bets[..., :size] = _STEADY
    if share is None:
        new[..., :size] = stake - np.log(2 * size)
    else:
        share, information = (np.broadcast_to(np.asarray(v, float), z.shape) for v in (share, information))
        cells = _JUMP * 2.0 ** (np.arange(_CELLS) / 2)
        root = np.sqrt(np.clip(share, 0, 1))[..., None] * np.exp(-information / 2)[..., None]
        bets[..., size:] = np.minimum(cells * root, _LARGEST_BET)
        new[..., :size] = stake - np.log(4 * size)
        first = np.clip(np.rint(information / np.log(2)), 0, _CELLS - 3).astype(int)
        for cell in (first, first + 2):
            np.put_along_axis(new, cell[..., None] + size, stake - np.log(8), axis=-1)
    won = np.logaddexp(wealth, new[..., None, :])
    signs = np.array([1.0, -1.0])
    pull = np.minimum(signs * (z / spread)[..., None], _LARGEST_PULL)[..., None]
    return won + bets[..., None, :] * pull - bets[..., None, :] ** 2 / 2


def _harmonic() -> float:
    """Return the sum of the stakes' weights over the horizon."""
    return float((1 / (np.arange(_HORIZON) + _EARLY)).sum())


def _alarm(statistics: Mapping[str, Any], link: int) -> Alarm | None:
    """Return what moved, where the wealth of all bets together is beyond the threshold."""
    rows = [
        (value / _UNIT, name, sign, int(place))
        for name, stated in statistics.items()
        for sign, row in zip((1, -1), stated["wealth"], strict=True)
        for place, value in row.items()
    ]
    if not rows or np.logaddexp.reduce([row[0] for row in rows]) < -np.log(ALARM):
        return None
    _, name, sign, place = max(rows)
    return Alarm(name, "steady" if place < len(_STEADY) else "jump", sign, link)
