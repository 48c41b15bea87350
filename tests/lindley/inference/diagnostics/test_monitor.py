"""The monitor of slow movement: its false alarms, what it finds and when, and its state as a value."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lindley.inference.diagnostics import monitor as module
from lindley.inference.diagnostics.monitor import ALARM, Alarm, Observation, monitor, moved, watched
from lindley.ledger.record import canonical

#: Chains that are watched beside each other, and the rows of a batch.
CHAINS, ROWS = 300, 10


def first_alarms(pulls: np.ndarray, share: np.ndarray, others: int = 3) -> np.ndarray:
    """Return the link [chain] at which each of many chains alarms, infinite where none does.

    It makes the bets of `monitor`, without its state as JSON.

    Parameters
    ----------
    pulls, share
        Arrays [link, chain] of one coordinate, and [link]. Beside it are other statistics in which nothing
        happens, one of them a coordinate.
    """
    links, chains = pulls.shape
    z = np.concatenate(
        [pulls[..., None], np.random.default_rng(1).normal(size=(links, chains, others))], axis=2
    )
    count = z.shape[2]
    wealth = np.full((chains, count, 2, len(module._STEADY) + module._CELLS), -np.inf)
    squares, information, found = np.zeros((chains, count)), 0.0, np.full(chains, np.inf)
    for link in range(links):
        stake = -np.log((link + module._EARLY) * module._harmonic() * count)
        spread = module.scale(link, squares)
        both, rest = slice(0, 2), slice(2, None)
        wealth[:, both] = module.bet(
            wealth[:, both], z[link, :, both], spread[:, both], share[link], information, stake
        )
        wealth[:, rest] = module.bet(wealth[:, rest], z[link, :, rest], spread[:, rest], None, 0.0, stake)
        wealth = np.minimum(wealth, module._MOST)
        squares += np.minimum(z[link] ** 2, 100.0)
        information -= np.log1p(-share[link])
        alarmed = np.logaddexp.reduce(wealth.reshape(chains, -1), axis=1) > -np.log(ALARM)
        found[alarmed & np.isinf(found)] = link + 1
    return found


def means(true: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pulls [link, chain] and shares [link] of the mean of a normal with sd 1, with a flat prior."""
    rng = np.random.default_rng(seed)
    rows, mean, pulls, share = 0.01, np.zeros(CHAINS), [], []
    for value in true:
        y = value + rng.normal(size=CHAINS) / np.sqrt(ROWS)
        pulls.append((y - mean) / np.sqrt(1 / rows + 1 / ROWS))
        share.append(ROWS / (rows + ROWS))
        mean, rows = (rows * mean + ROWS * y) / (rows + ROWS), rows + ROWS
    return np.array(pulls), np.array(share)


def log_sds(variances: np.ndarray, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of the log sd of a normal with known mean: pulls are normal scores of predictive F ratios."""
    rng = np.random.default_rng(seed)
    before, squares, pulls, share = 4.0, np.full(CHAINS, 4.0), [], []
    for variance in variances:
        found = variance * rng.chisquare(rows, size=CHAINS)
        tail = stats.f.sf(found / rows / (squares / before), rows, before)
        pulls.append(stats.norm.isf(np.clip(tail, 1e-12, 1 - 1e-12)))
        share.append(rows / (before + rows))
        squares, before = squares + found, before + rows
    return np.array(pulls), np.array(share)


def test_static_chains_of_a_thousand_links_alarm_at_most_as_often_as_stated() -> None:
    rng = np.random.default_rng(2)
    found = first_alarms(rng.normal(size=(1000, 100)), 1 / (2.0 + np.arange(1000)), others=1)
    # Measured on 1,500 chains with four statistics: 0.2%, 0.8%, 1.6%, 2.3% after 30, 100, 300, 1,000 links.
    assert np.isfinite(found).sum() <= stats.binom.ppf(0.999, 100, ALARM)


def test_pulls_that_are_more_spread_than_they_should_are_no_movement() -> None:
    # Overdispersed outcomes: every batch conflicts more than it should, in either direction.
    rng = np.random.default_rng(3)
    found = first_alarms(1.5 * rng.normal(size=(150, 100)), 1 / (2.0 + np.arange(150)))
    assert np.isfinite(found).mean() < 0.1


@pytest.mark.parametrize(("at", "delay", "least"), [(10, 30, 0.65), (20, 40, 0.65), (20, 100, 0.85)])
def test_one_jump_of_six_posterior_sds_is_found(at: int, delay: int, least: float) -> None:
    # No sequential test finds it quickly: twice the rows before it move the belief by four sds, ever.
    true = np.where(np.arange(at + delay) < at, 0.0, 6 / np.sqrt(at * ROWS))
    found = first_alarms(*means(true, at)) - at
    assert (found <= 0).mean() < 0.01
    assert (found <= delay).mean() > least


@pytest.mark.parametrize(("start", "by"), [(0, 35), (5, 35), (10, 40)])
def test_a_slope_of_a_bit_more_than_a_noise_sd_in_thirty_batches_is_found(start: int, by: int) -> None:
    rows = np.arange(by) * ROWS + ROWS / 2
    found = first_alarms(*means(np.maximum(rows - start * ROWS, 0) * 1.2 / 300, start + 1))
    assert (found <= by).mean() > 0.95


@pytest.mark.parametrize(("at", "rows", "delay", "least"), [(40, 10, 30, 0.9), (20, 50, 5, 0.9)])
def test_a_variance_that_doubles_is_found(at: int, rows: int, delay: int, least: float) -> None:
    variances = np.where(np.arange(at + delay) < at, 1.0, 2.0)
    found = first_alarms(*log_sds(variances, rows, 5)) - at
    assert (found <= 0).mean() < 0.02
    assert (found <= delay).mean() > least


def observations(pulls: np.ndarray) -> list[Observation]:
    return [
        Observation({"mu": float(round(z, 6))}, {"mu": 0.1}, conflict=0.0, fit=0.0, setting="a")
        for z in pulls
    ]


def test_the_state_makes_the_same_bets() -> None:
    pulls, share = np.random.default_rng(6).normal(size=40) + 0.4, np.full(40, 0.1)
    state: dict[str, object] = {}
    wealth = np.full((1, 2, len(module._STEADY) + module._CELLS), -np.inf)
    squares = information = 0.0
    for link, one in enumerate(observations(pulls)):
        state, _ = monitor(json.loads(canonical(state)), one)
        stake = -np.log((link + module._EARLY) * module._harmonic() * 3)
        spread = module.scale(link, squares)
        wealth = module.bet(wealth, pulls[[link]], spread, share[link], information, stake)
        squares, information = squares + pulls[link] ** 2, information - np.log1p(-0.1)
    stated = state["statistics"]["pull of mu"]["wealth"]  # type: ignore[index]
    for row, exact in zip(stated, wealth[0], strict=True):
        for place, value in row.items():
            # Rounded down to thousandths at each link.
            assert exact[int(place)] - 0.05 < value / 1000 <= exact[int(place)] + 1e-9


def test_an_alarm_stands_until_another_model_or_policy_begins_anew() -> None:
    watching: dict[str, object] = {}
    for one in observations(np.linspace(0.5, 3.0, 20)):
        watching = watched(watching, one)
    alarm = moved(watching)
    assert alarm is not None
    assert (alarm.statistic, alarm.kind, alarm.sign) == ("pull of mu", "steady", 1)
    assert "mu keeps moving up" in alarm.text
    assert "forget={'mu': ...}" in alarm.text
    quiet = observations(np.zeros(1))[0]
    later = watched(watching, quiet)
    assert moved(later) == alarm
    assert moved(watched(later, replace(quiet, setting="b"))) is None
    assert moved(watched({}, quiet)) is None


@pytest.mark.parametrize(
    ("alarm", "words"),
    [
        (Alarm("pull of beta[x1]", "jump", -1, 9), "beta[x1] jumped down"),
        (Alarm("fit", "steady", -1, 9), "less likely than the model says"),
        (Alarm("fit", "steady", 1, 9), "more likely than the model says"),
        (Alarm("conflict", "steady", 1, 9), "more often than chance"),
    ],
)
def test_an_alarm_proposes_what_fits(alarm: Alarm, words: str) -> None:
    assert words in alarm.text
    assert "found after 9 links" in alarm.text


def test_a_fit_that_worsens_is_a_changed_model() -> None:
    state: dict[str, object] = {}
    for _ in range(12):
        state, alarm = monitor(state, Observation(conflict=0.2, fit=-2.5))
    assert alarm is not None
    assert (alarm.statistic, alarm.sign) == ("fit", -1)


def test_a_link_without_observation_leaves_the_state() -> None:
    state, _ = monitor({}, observations(np.ones(1))[0])
    assert monitor(state, Observation(setting="a"))[0] == state


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(
        st.builds(
            Observation,
            pulls=st.dictionaries(st.sampled_from(["mu", "b[x]", "b[y]"]), numbers, max_size=3),
            share=st.dictionaries(st.sampled_from(["mu", "b[x]"]), numbers, max_size=2),
            conflict=st.none() | numbers,
            fit=st.none() | numbers,
            setting=st.sampled_from(["a", "b"]),
        ),
        max_size=6,
    )
)
@settings(deadline=None, max_examples=25)
def test_a_state_is_canonical_json_whatever_was_observed(seen: list[Observation]) -> None:
    state: dict[str, object] = {}
    for one in seen:
        again, alarm = monitor(json.loads(canonical(state)), one)
        state, same = monitor(state, one)
        assert canonical(again) == canonical(state)
        assert alarm == same
        assert state["setting"] == one.setting
