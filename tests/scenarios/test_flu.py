"""The embedded demo's chain against the pooled fit of the whole outbreak."""

from pathlib import Path

import pandas as pd

from lindley.batch.batch import batch_from_frame
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.inference.step import step
from lindley.model.declaration import load_declaration
from lindley.model.graph import build, default_carried

ROOT = Path(__file__).parents[2]


def test_seven_updates_agree_with_the_pooled_fit_and_the_published_value():
    declaration = load_declaration("boarding_school_flu", ROOT / "models")
    frames = [frame for _, frame in declaration.split(str(ROOT / "data" / "boarding_school_flu.csv"))]
    assert [len(frame) for frame in frames] == [2] * 7
    batches = [batch_from_frame(frame, declaration) for frame in frames]
    whole = batch_from_frame(pd.concat(frames), declaration)
    first = batches[0].frame()
    carried = default_carried(declaration, build(declaration, first), first)

    def data(batch):
        return Data(declaration=declaration, batches=(batch,), carried=carried)

    settings = FitSettings(tune=300, draws=800)
    _, pooled = step(Start(), data(whole), Options(seed=1, settings=settings))
    belief = None
    for seed, batch in enumerate(batches):
        belief, info = step(Start(prior=belief), data(batch), Options(seed=seed, settings=settings))
        assert info.gate.passed, info.gate.reasons
    for name in ("beta", "gamma", "R0"):
        ours, reference = info.summary.loc[name], pooled.summary.loc[name]
        # The error is that of the match, not of Monte Carlo: measured at 0.05 to 0.45 pooled sds and sd
        # ratios of 0.86 to 1.09 over seeds. The joint normal ends at 0.5 to 1.1 sds and ratios of 2 to 5.
        assert abs(ours["mean"] - reference["mean"]) < 0.6 * reference["sd"], name
        assert 0.75 < ours["sd"] / reference["sd"] < 1.3, name
    assert info.summary.loc["R0", "q05"] < 3.2 < info.summary.loc["R0", "q95"]
