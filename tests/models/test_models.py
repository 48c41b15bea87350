"""The example chains: they load, fit their schema and descriptions, and cut their sources as documented."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.testing import assert_no_rvs

from lindley.batch.batch import batch_from_frame
from lindley.errors import BatchRefused, BatchUnreadable
from lindley.model.declaration import Declaration, declared_chains, load_declaration
from lindley.model.graph import take_apart
from lindley.target.density import target
from tests.support import oracles

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
REFERENCE = ROOT / "data" / "reference"
FLU = ROOT / "data" / "boarding_school_flu.csv"
CASES = [3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4]


def flu_frames() -> list[pd.DataFrame]:
    frames = [rows for _, rows in load("boarding_school_flu").split(str(FLU))]
    return [frames[0], pd.concat(frames[1:3], ignore_index=True)]


def covid_frames() -> list[pd.DataFrame]:
    days = pd.date_range("2020-03-04", periods=14)
    cases = np.round(40 * np.exp(0.2 * np.arange(14))).astype("int64")
    rows = pd.DataFrame({"date": days, "day": [*range(1, 8)] * 2, "cases": cases})
    # A day is missing from the second week.
    return [rows[:7].reset_index(drop=True), rows[7:].drop(index=9).reset_index(drop=True)]


def hierarchical_frames() -> list[pd.DataFrame]:
    def month(first: str, cases: list[int], before: int) -> pd.DataFrame:
        weeks = len(cases) // 2
        rows = pd.DataFrame(
            {"date": pd.date_range(first, periods=weeks, freq="7D"), "week": range(1, weeks + 1)}
        )
        rows = pd.concat([rows.assign(country=name) for name in ("US", "Brazil")], ignore_index=True)
        return rows.assign(cases=cases, before=before, recent=[cases[0]] * weeks + [cases[weeks]] * weeks)

    # A week is missing from the second month. New countries change the graph: test_covid_hierarchical.
    april = month("2020-04-05", [500, 700, 900, 1200, 100, 90, 80, 70], before=2000)
    return [april, month("2020-05-03", [1500, 1400, 1300, 60, 50, 40], before=9000).drop(index=4)]


def coin_frames() -> list[pd.DataFrame]:
    frame = pd.DataFrame({"id": range(12), "k": [1, 0, 2] * 4, "n": [3, 2, 5] * 4})
    return [frame[:5], frame[5:]]


def mean_frames() -> list[pd.DataFrame]:
    frame = pd.DataFrame({"id": range(12), "y": np.linspace(-1, 4, 12)})
    return [frame[:5], frame[5:]]


def regression_frames() -> list[pd.DataFrame]:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(12, 4)), columns=["x1", "x2", "x3", "y"])
    frame.insert(0, "row", range(12))
    return [frame[:5], frame[5:]]


def article_frames() -> list[pd.DataFrame]:
    def outbreak(batch: int, i0: float, days: int) -> pd.DataFrame:
        day = np.arange(1, days + 1)
        return pd.DataFrame(
            {"batch": batch, "day": day, "i0": i0, "infected_fraction": i0 * np.exp(0.1 * day)}
        )

    return [outbreak(1, 0.02, 5), outbreak(2, 0.015, 7)]


FRAMES = {
    "beta_binomial": coin_frames,
    "boarding_school_flu": flu_frames,
    "covid_hierarchical": hierarchical_frames,
    "covid_sir": covid_frames,
    "normal_mean": mean_frames,
    "regression_stream": regression_frames,
    "sir_article": article_frames,
}


def load(name: str) -> Declaration:
    return load_declaration(name, MODELS)


def helper(name: str, function: str):
    """Return another function of a model's file."""
    return load(name).build.__globals__[function]


def test_every_model_file_is_tested() -> None:
    assert declared_chains(MODELS) == sorted(FRAMES)


@pytest.mark.parametrize("name", FRAMES)
class TestEveryChain:
    def test_its_batches_fit_its_schema(self, name: str) -> None:
        declaration = load(name)
        for frame in FRAMES[name]():
            batch = batch_from_frame(frame, declaration)
            assert batch.rows == len(frame)
            assert set(declaration.observed) <= set(batch.table.column_names)

    def test_its_density_is_finite_at_the_initial_point(self, name: str) -> None:
        declaration = load(name)
        for frame in FRAMES[name]():
            model = declaration.build(batch_from_frame(frame, declaration).frame())
            terms = model.compile_logp(sum=False, mode="FAST_COMPILE")(model.initial_point())
            assert all(np.isfinite(term).all() for term in terms)
            assert {variable.name for variable in model.observed_RVs} == set(declaration.observed)
            assert not any(model.rvs_to_initial_values.values())

    def test_one_compiled_function_serves_all_its_batches(self, name: str) -> None:
        declaration = load(name)
        digests, inlined = set(), set()
        for frame in FRAMES[name]():
            model = declaration.build(batch_from_frame(frame, declaration).frame())
            carried = declaration.carried or tuple(variable.name for variable in model.free_RVs)
            link = target(take_apart(declaration, model, carried), genesis=False)
            digests.add(link.digest)
            inlined.add(link.inlined)
        assert len(digests) == 1
        assert len(inlined) == 1

    def test_it_describes_itself(self, name: str) -> None:
        declaration = load(name)
        assert 40 < len(declaration.description) < 110
        assert declaration.build.__doc__
        assert len((MODELS / f"{name}.py").read_text().splitlines()) < 200


class TestSplits:
    def test_flu_comes_in_seven_batches_of_two_days(self) -> None:
        batches = list(load("boarding_school_flu").split(str(FLU)))
        assert [stem for stem, _ in batches] == [f"boarding_school_flu-{n:02d}" for n in range(1, 8)]
        assert [len(rows) for _, rows in batches] == [2] * 7
        together = pd.concat([rows for _, rows in batches], ignore_index=True)
        assert together["cases"].tolist() == CASES
        assert together["date"].tolist() == pd.date_range("1978-01-22", periods=14).tolist()

    @pytest.mark.parametrize(("name", "column"), [("beta_binomial", "k"), ("normal_mean", "y")])
    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_conjugate_sources_come_in_batches_of_ten_rows_by_id(
        self, tmp_path: Path, name: str, column: str, suffix: str
    ) -> None:
        rows = pd.DataFrame({"id": range(25), column: np.arange(25) % 3, "n": 4})
        path = tmp_path / f"source{suffix}"
        write = rows.to_csv if suffix == ".csv" else rows.to_parquet
        rows = rows.sample(frac=1, random_state=1)
        write(path, index=False)
        batches = list(load(name).split(str(path)))
        assert [stem for stem, _ in batches] == [f"{name}-{n:03d}" for n in (1, 2, 3)]
        assert [rows["id"].tolist() for _, rows in batches] == [
            list(range(10)),
            list(range(10, 20)),
            list(range(20, 25)),
        ]

    def test_regression_stream_comes_in_its_ten_batches_with_a_row_key(self) -> None:
        declaration = load("regression_stream")
        batches = list(declaration.split(str(REFERENCE / "article/regression_batches.parquet")))
        assert [stem for stem, _ in batches] == [f"regression_stream-{n:03d}" for n in range(10)]
        assert pd.concat([rows["row"] for _, rows in batches]).tolist() == list(range(2000))
        for _, rows in batches:
            assert batch_from_frame(rows, declaration).rows == 200

    def test_sir_article_comes_in_two_outbreaks(self) -> None:
        declaration = load("sir_article")
        batches = list(declaration.split(str(REFERENCE / "article/sir_article_batches.parquet")))
        assert [(stem, len(rows)) for stem, rows in batches] == [
            ("sir_article-001", 40),
            ("sir_article-002", 40),
        ]
        for _, rows in batches:
            assert batch_from_frame(rows, declaration).rows == 40

    def test_sir_article_refuses_a_batch_of_two_outbreaks(self) -> None:
        with pytest.raises(BatchRefused, match="mixes outbreaks"):
            load("sir_article").build(pd.concat(article_frames()))


class TestCovidSource:
    CUMULATED = [80, 100, 110, 130, 170, 160, 200, 260, 300, 390, 400, 500, 600, 720, 800, 960, 1000]

    def wide(self) -> pd.DataFrame:
        """Johns Hopkins' layout: the US as one row, Australia by state, dates as m/d/yy columns."""
        days = pd.date_range("2020-03-01", periods=len(self.CUMULATED))
        names = [f"{day.month}/{day.day}/{day.year % 100:02d}" for day in days]
        places = [("", "US", 40.0, -100.0), ("Victoria", "Australia", -37.8, 144.9)]
        head = pd.DataFrame(places, columns=["Province/State", "Country/Region", "Lat", "Long"])
        counts = pd.DataFrame([self.CUMULATED, [0] * len(names)], columns=names)
        return pd.concat([head, counts], axis=1)

    def test_weeks_start_at_the_first_day_with_a_hundred_and_are_whole(self, tmp_path: Path) -> None:
        self.wide().to_csv(tmp_path / "wide.csv", index=False)
        batches = list(load("covid_sir").split(str(tmp_path / "wide.csv")))
        assert [stem for stem, _ in batches] == ["covid_sir-001", "covid_sir-002"]
        first, second = (rows for _, rows in batches)
        # The count fell on 6 March: that day's cases are unknown.
        assert first["day"].tolist() == [1, 2, 3, 4, 6, 7]
        assert first["cases"].tolist() == [20, 10, 20, 40, 40, 60]
        assert first["date"].tolist() == [pd.Timestamp(2020, 3, day) for day in (2, 3, 4, 5, 7, 8)]
        assert second["day"].tolist() == list(range(1, 8))
        assert second["date"].iloc[0] == pd.Timestamp(2020, 3, 9)

    def test_packed_and_tidy_sources_give_the_same_batches(self, tmp_path: Path) -> None:
        self.wide().to_csv(tmp_path / "wide.csv", index=False)
        (tmp_path / "wide.csv.gz").write_bytes(gzip.compress((tmp_path / "wide.csv").read_bytes()))
        days = pd.date_range("2020-03-01", periods=len(self.CUMULATED))
        tidy = pd.DataFrame({"date": days, "confirmed": self.CUMULATED, "deaths": 0})
        tidy.to_csv(tmp_path / "tidy.csv", index=False)
        split = load("covid_sir").split
        want = list(split(str(tmp_path / "wide.csv")))
        for name in ("wide.csv.gz", "tidy.csv"):
            for (stem, rows), (other_stem, other) in zip(split(str(tmp_path / name)), want, strict=True):
                assert stem == other_stem
                pd.testing.assert_frame_equal(rows, other)

    def test_later_days_do_not_change_earlier_batches(self, tmp_path: Path) -> None:
        wide = self.wide()
        wide.to_csv(tmp_path / "later.csv", index=False)
        wide.iloc[:, :-4].to_csv(tmp_path / "earlier.csv", index=False)
        split = load("covid_sir").split
        earlier, later = list(split(str(tmp_path / "earlier.csv"))), list(split(str(tmp_path / "later.csv")))
        assert len(earlier) == 1
        assert len(later) == 2
        pd.testing.assert_frame_equal(earlier[0][1], later[0][1])

    def test_a_country_without_a_row_of_its_own_is_the_sum_of_its_provinces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wide = self.wide()
        parts = wide.iloc[[0, 0]].assign(**{"Province/State": ["East", "West"]})
        parts.to_csv(tmp_path / "parts.csv", index=False)
        confirmed = helper("covid_sir", "read_confirmed")(str(tmp_path / "parts.csv"))
        assert confirmed.tolist() == [2 * count for count in self.CUMULATED]

    @pytest.mark.parametrize(
        "text",
        [
            "a,b\n1,2\n",
            "date,confirmed\n2020-03-01,7\n",
            "Province/State,Country/Region,Lat,Long,1/22/20\n,Italy,1,2,500\n",
        ],
    )
    def test_a_source_of_another_kind_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "source.csv").write_text(text)
        with pytest.raises(BatchUnreadable, match="Johns Hopkins"):
            list(load("covid_sir").split(str(tmp_path / "source.csv")))

    def test_johns_hopkins_own_file_gives_157_weeks_from_march_2020(self) -> None:
        declaration = load("covid_sir")
        source = REFERENCE / "covid/time_series_covid19_confirmed_global.csv.gz"
        batches = list(declaration.split(str(source)))
        assert len(batches) == 157
        first = batches[0][1]
        assert first["date"].iloc[0] == pd.Timestamp(2020, 3, 4)
        assert first["cases"].tolist() == [33, 77, 53, 166, 116, 75, 188]
        tidy = list(declaration.split(str(REFERENCE / "covid/USA.csv")))
        for (stem, rows), (other_stem, other) in zip(batches, tidy, strict=True):
            assert stem == other_stem
            pd.testing.assert_frame_equal(rows, other)
        # One fall of the US series, on 5 March 2023.
        assert [stem for stem, rows in batches if len(rows) < 7] == ["covid_sir-157"]
        assert batch_from_frame(batches[39][1], declaration).rows == 7


def evaluated(*outputs):
    return pytensor.function([], list(outputs), mode="FAST_COMPILE")()


class TestEquations:
    """The models' Runge-Kutta steps against SciPy's adaptive integrator."""

    def test_flu(self) -> None:
        beta, gamma, s0, i0 = (pt.constant(value, dtype="float64") for value in (1.73, 0.54, 762, 1))
        s, i = evaluated(*helper("boarding_school_flu", "sir")(beta, gamma, s0, i0, n_steps=14 * 8))
        args = [np.array([value]) for value in (1.73, 0.54, 762.0, 1.0)]
        exact_s, exact_i = oracles.sir(*args, population=763, times=np.arange(1, 15))
        np.testing.assert_allclose(s[7::8], exact_s[0], rtol=2e-5)
        np.testing.assert_allclose(i[7::8], exact_i[0], rtol=2e-5)

    def test_covid_with_a_constant_contact_rate(self) -> None:
        values = [np.log(0.5), 0.0, 1 / 7, 3.2e8, 2e5]
        s, i = evaluated(*helper("covid_sir", "sir")(*(pt.constant(v, dtype="float64") for v in values)))
        args = [np.array([value]) for value in (0.5, 1 / 7, 3.2e8, 2e5)]
        exact_s, exact_i = oracles.sir(*args, population=329_466_283, times=np.arange(8))
        np.testing.assert_allclose(-np.diff(s), -np.diff(exact_s[0]), rtol=1e-4)
        np.testing.assert_allclose(i, exact_i[0], rtol=1e-4)

    def test_article(self) -> None:
        values = [pt.constant(value, dtype="float64") for value in (0.25, 1 / 7, 0.02)]
        (infected,) = evaluated(helper("sir_article", "sir")(*values, n_steps=40 * 2))
        args = [np.array([value]) for value in (0.25, 1 / 7, 0.98, 0.02)]
        exact = oracles.sir(*args, population=1, times=np.arange(1, 41))[1][0]
        np.testing.assert_allclose(infected[1::2], exact, rtol=1e-5)


class TestFlu:
    def test_a_batch_goes_on_where_the_one_before_ended(self) -> None:
        sir = helper("boarding_school_flu", "sir")
        constants = [pt.constant(value, dtype="float64") for value in (1.7, 0.5, 762, 1)]
        s, i = sir(*constants, n_steps=4 * 8)
        middle = sir(*constants, n_steps=2 * 8)
        again_s, again_i = sir(*constants[:2], middle[0][-1], middle[1][-1], n_steps=2 * 8)
        whole_s, whole_i, part_s, part_i = evaluated(s[-1], i[-1], again_s[-1], again_i[-1])
        np.testing.assert_allclose([part_s, part_i], [whole_s, whole_i], rtol=1e-12)

    def test_scores_change_the_coordinates_and_not_the_priors(self) -> None:
        model = load("boarding_school_flu").build(flu_frames()[0])
        scores = pt.dvector("scores")
        for name in ("phi_inv", "beta", "gamma"):
            rv = model[name]
            transform = model.rvs_to_transforms[rv]
            value = transform.backward(scores, *rv.owner.inputs)
            back = transform.forward(value, *rv.owner.inputs)
            log_prior = pm.logp(transform.prior, value) + transform.log_jac_det(scores, *rv.owner.inputs)
            assert_no_rvs(log_prior)
            at = np.linspace(-3, 3, 7)
            function = pytensor.function([scores], [value, back, log_prior], mode="FAST_COMPILE")
            values, returned, log_density = function(at)
            assert (np.diff(values) > 0).all()
            assert (values > 0).all()
            np.testing.assert_allclose(returned, at, atol=1e-4)
            np.testing.assert_allclose(log_density, -0.5 * at**2 - 0.5 * np.log(2 * np.pi), atol=1e-6)

    def test_a_missing_day_leaves_the_others_where_they_are(self) -> None:
        frame = flu_frames()[1]
        build = load("boarding_school_flu").build
        whole, gap = build(frame), build(frame.drop(index=2))
        point = whole.initial_point()
        term = {
            model: model.compile_logp(model.observed_RVs, sum=False, mode="FAST_COMPILE")(point)[0]
            for model in (whole, gap)
        }
        np.testing.assert_allclose(term[gap], term[whole][[0, 1, 3]], rtol=1e-10)

    def test_the_exact_posterior_of_all_days_is_the_published_one(self) -> None:
        exact = oracles.boarding_school_flu(np.array(CASES)).as_dict()
        assert exact["beta"][0] == pytest.approx(1.73, abs=0.01)
        assert exact["gamma"][0] == pytest.approx(0.54, abs=0.01)
        assert exact["R0"][0] == pytest.approx(3.2, abs=0.05)
