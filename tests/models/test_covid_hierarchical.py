"""The hierarchical COVID chain: batches of its source, equations, and the pooled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.errors import BatchRefused, BatchUnreadable
from lindley.model.declaration import load_declaration
from lindley.model.graph import take_apart
from tests.models.covid_pooled import MODELS, pooled
from tests.support import oracles

JHU = MODELS.parent / "data/reference/covid/time_series_covid19_confirmed_global.csv.gz"
MONTHS = [str(month) for month in pd.period_range("2020-03", "2021-01", freq="M")]
declaration = load_declaration("covid_hierarchical", MODELS)
parts = declaration.build.__globals__


def month(cases: dict[str, list[int]], first: str = "2020-04-05", before: int = 1000) -> pd.DataFrame:
    """Return rows as `split` cuts them."""
    frames = []
    for country, counts in cases.items():
        frame = pd.DataFrame(
            {"date": pd.date_range(first, periods=len(counts), freq="7D"), "country": country}
        )
        frame["week"] = range(1, len(counts) + 1)
        frame["cases"] = counts
        frame["before"] = before + np.cumsum([0, *counts[:-1]])
        frame["recent"] = counts[0]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def built(frame: pd.DataFrame):
    return declaration.build(batch_from_frame(frame, declaration).frame())


def pointwise(model) -> np.ndarray:
    return model.compile_logp(model.observed_RVs, sum=False, mode="FAST_COMPILE")(model.initial_point())[0]


class TestMadeUpSource:
    """Johns Hopkins' layout, made up: cumulated counts at Sundays, the same on the days between."""

    def cumulated(self, days: int = 70) -> pd.DataFrame:
        dates = pd.date_range("2020-02-23", periods=days)  # a Sunday
        weeks = np.arange(days) // 7
        counts = {"Brazil": 90 + 20 * weeks, "South Africa": 90 + 20 * weeks}
        counts |= {"US": 1000 + 100 * weeks, "India": 50 + 10 * weeks}
        return pd.DataFrame(counts, index=dates)

    def write(self, path: Path, counts: pd.DataFrame, provinces: tuple[str, ...] = ()) -> str:
        names = [f"{day.month}/{day.day}/{day.year % 100:02d}" for day in counts.index]
        rows = [["", country, 1.0, 2.0, *counts[country]] for country in counts if country not in provinces]
        for country in provinces:
            rows += [[part, country, 1.0, 2.0, *(counts[country] // 2)] for part in ("East", "West")]
        # A territory of a country with a row of its own, and a country that the model does not know.
        rows += [["Island", "US", 1.0, 2.0, *[7] * len(names)], ["", "Italy", 1.0, 2.0, *[9] * len(names)]]
        head = ["Province/State", "Country/Region", "Lat", "Long"]
        pd.DataFrame(rows, columns=[*head, *names]).to_csv(path, index=False)
        return str(path)

    def test_weeks_belong_to_the_month_of_their_sunday_and_begin_with_a_hundred(self, tmp_path: Path) -> None:
        source = self.write(tmp_path / "source.csv", self.cumulated())
        batches = dict(declaration.split(source))
        assert list(batches) == ["covid_hierarchical-2020-03", "covid_hierarchical-2020-04"]
        march, april = batches.values()
        us, brazil = march[march["country"] == "US"], march[march["country"] == "Brazil"]
        # The week to 1 March has no week before it in the source.
        assert us["date"].tolist() == list(pd.date_range("2020-03-08", "2020-03-29", freq="7D"))
        assert us["week"].tolist() == [1, 2, 3, 4]
        assert us["before"].tolist() == [1100, 1200, 1300, 1400]
        assert brazil["before"].iloc[0] == 110
        assert set(march["country"]) == {"Brazil", "US"}
        assert set(april["country"]) == {"Brazil", "India", "US"}
        india = april[april["country"] == "India"]
        assert india[["week", "before"]].to_numpy().tolist() == [[1, 100], [2, 110], [3, 120], [4, 130]]
        assert india["recent"].tolist() == [10] * 4
        for frame in batches.values():
            assert batch_from_frame(frame, declaration).rows == len(frame)

    def test_a_week_with_a_correction_is_left_out_and_the_others_keep_their_number(
        self, tmp_path: Path
    ) -> None:
        counts = self.cumulated()
        counts.loc["2020-03-22":, "US"] -= 150
        counts.loc["2020-03-29":, "Brazil"] -= 30
        batches = dict(declaration.split(self.write(tmp_path / "source.csv", counts)))
        march, april = batches.values()
        us = march[march["country"] == "US"]
        assert us["week"].tolist() == [1, 2, 4]
        assert us["before"].tolist() == [1100, 1200, 1250]
        # The last week of March was a correction: `recent` holds the new cases of the week before.
        assert april.loc[april["country"] == "Brazil", "recent"].tolist() == [20] * 4

    def test_provinces_are_summed_and_later_days_change_no_earlier_batch(self, tmp_path: Path) -> None:
        counts = self.cumulated()
        want = list(declaration.split(self.write(tmp_path / "whole.csv", counts)))
        parted = self.write(tmp_path / "parted.csv", counts, provinces=("India", "Brazil"))
        short = self.write(tmp_path / "short.csv", counts.iloc[:-10])
        for source, months in ((parted, 2), (short, 1)):
            batches = list(declaration.split(source))
            assert len(batches) == months
            for (stem, frame), (other_stem, other) in zip(batches, want, strict=False):
                assert stem == other_stem
                pd.testing.assert_frame_equal(frame, other)

    @pytest.mark.parametrize(
        "text", ["a,b\n1,2\n", "Province/State,Country/Region,Lat,Long,1/22/20\n,Italy,1,2,500\n"]
    )
    def test_a_source_of_another_kind_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "source.csv").write_text(text)
        with pytest.raises(BatchUnreadable, match="cannot be used"):
            list(declaration.split(str(tmp_path / "source.csv")))


class TestJohnsHopkins:
    @pytest.fixture
    def batches(self) -> dict[str, pd.DataFrame]:
        return dict(declaration.split(str(JHU)))

    def test_eleven_months_with_the_countries_that_report(self, batches: dict[str, pd.DataFrame]) -> None:
        assert list(batches) == [f"covid_hierarchical-{name}" for name in MONTHS]
        for name, frame in zip(MONTHS, batches.values(), strict=True):
            here = [c for c, (_, first, last) in parts["COUNTRIES"].items() if first <= name <= last]
            assert sorted(set(frame["country"])) == sorted(here)
            assert (frame["date"].dt.strftime("%Y-%m") == name).all()
            assert batch_from_frame(frame, declaration).rows == len(frame)
            assert (frame[["cases", "before", "recent"]] > 0).all(axis=None)
        assert sum(map(len, batches.values())) == 156

    def test_new_cases_add_up_to_the_cumulated_counts(self, batches: dict[str, pd.DataFrame]) -> None:
        rows = pd.concat(batches.values())
        table = pd.read_csv(JHU)
        for country, cases in rows.groupby("country"):
            counts = table[(table["Country/Region"] == country) & table["Province/State"].isna()].iloc[0]
            last = cases["date"].max()
            end = counts[f"{last.month}/{last.day}/{last.year % 100:02d}"]
            assert cases["before"].min() + cases["cases"].sum() == end


class TestEquations:
    def test_weeks_agree_with_scipy_and_start_from_known_states(self) -> None:
        contact, mu, population = np.array([0.35, 0.12]), np.array([1 / 7, 0.1]), 1.0
        s0 = np.array([[0.99, 0.7], [0.95, 0.69], [0.9, 0.68]])
        i0 = np.array([2e-3, 1e-2])
        s, i = pytensor.function(
            [], list(parts["sir"](*map(pt.as_tensor, (contact, mu, s0, i0)))), mode="FAST_COMPILE"
        )()
        for week in range(3):
            start = i0 if week == 0 else i[week - 1]
            exact_s, exact_i = oracles.sir(contact, mu, s0[week], start, population=population, times=[0, 7])
            np.testing.assert_allclose(s0[week] - s[week], s0[week] - exact_s[:, -1], rtol=2e-4)
            np.testing.assert_allclose(i[week], exact_i[:, -1], rtol=2e-4)

    def test_without_recovery_the_population_is_constant(self) -> None:
        s0, i0 = np.array([[0.999, 0.9]]), np.array([1e-3, 0.1])
        values = map(pt.as_tensor, (np.array([0.4, 0.4]), np.zeros(2), s0, i0))
        s, i = pytensor.function([], list(parts["sir"](*values)), mode="FAST_COMPILE")()
        np.testing.assert_allclose(s[0] + i[0], 1, atol=1e-4)


class TestModel:
    CASES = {"US": [500, 700, 900, 1200], "Brazil": [100, 90, 80, 70]}

    def test_countries_are_labels_and_variables_of_the_month_are_local(self) -> None:
        frame = month({**self.CASES, "South Africa": [40, 60]})
        model = built(frame)
        graph = take_apart(declaration, model, declaration.carried)
        assert [variable.name for variable in graph.local] == ["log_R", "incidence0"]
        labels = {variable.name: variable.block.labels for variable in graph.carried if variable.block.dims}
        assert labels == dict.fromkeys(["lambda_offset", "mu_offset"], (("Brazil", "South Africa", "US"),))
        assert graph.coordinates.size == 6 + 2 * 3
        assert set(declaration.carried) == {variable.name for variable in graph.carried}

    def test_rows_find_their_country_and_week(self) -> None:
        frame = month(self.CASES)
        alone = {name: pointwise(built(frame[frame["country"] == name])) for name in self.CASES}
        both = pointwise(built(frame))
        by_row = batch_from_frame(frame, declaration).frame()["country"].to_numpy()
        for name, terms in alone.items():
            np.testing.assert_allclose(both[by_row == name], terms, rtol=1e-10)

    def test_a_missing_week_leaves_the_others_where_they_are(self) -> None:
        # In the first week, so that the known states before the others do not change.
        frame = month({"US": [500, 700, 900]})
        gap = pointwise(built(frame.drop(index=0).assign(recent=500)))
        whole = pointwise(built(frame))
        # The missing week starts from the next one's susceptible: a thousandth at most.
        np.testing.assert_allclose(gap, whole[1:], rtol=1e-3)

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"country": ["US", "US", "Utopia", "Utopia"]}, "Utopia"),
            ({"recent": [1, 1, 2, 1]}, "2 values of recent for US"),
        ],
    )
    def test_a_batch_other_than_one_month_is_refused(self, change: dict[str, list], found: str) -> None:
        frame = month({"US": [500, 700, 900, 1200]}).assign(**change)
        with pytest.raises(BatchRefused, match=found):
            built(frame)

    def test_the_pooled_model_of_one_month_is_the_month(self) -> None:
        frame = month(self.CASES)
        single, together = (
            model.compile_logp(mode="FAST_COMPILE")(model.initial_point())
            for model in (built(frame), pooled([frame]))
        )
        assert together == pytest.approx(single, rel=1e-10)

    def test_the_pooled_model_has_its_own_state_in_every_month(self) -> None:
        frames = [month(self.CASES), month({"US": [1300], "India": [50]}, first="2020-05-03", before=9000)]
        model = pooled(frames)
        assert list(model.coords["cell"]) == ["0 Brazil", "0 US", "1 India", "1 US"]
        assert list(model.coords["country"]) == ["Brazil", "India", "US"]
        observed = np.concatenate([pointwise(built(frame)) for frame in frames])
        np.testing.assert_allclose(np.sort(pointwise(model)), np.sort(observed), rtol=1e-10)
