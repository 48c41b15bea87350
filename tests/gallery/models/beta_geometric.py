"""Purchases of customers by the beta-geometric/NBD density, as a potential."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    x, recency, age = (batch[name].to_numpy(dtype=float) for name in ("purchases", "recency", "age"))
    with pm.Model() as model:
        r, alpha = pm.Gamma("r", 2, 2), pm.Gamma("alpha", 2, 0.5)
        a, b = pm.Gamma("a", 2, 2), pm.Gamma("b", 2, 1)
        first = pm.math.log(alpha) * r + gammaln(r + x) - gammaln(r)
        alive = betaln(a, b + x) - betaln(a, b) - (r + x) * pm.math.log(alpha + age)
        gone = betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * pm.math.log(alpha + recency)
        both = pm.math.logaddexp(alive, gone)
        pm.Potential("likelihood", pm.math.sum(first + pm.math.switch(x > 0, both, alive)))
    return model


def gammaln(value):
    return pt.gammaln(value)


def betaln(one, other):
    return pt.gammaln(one) + pt.gammaln(other) - pt.gammaln(one + other)


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for batch in range(3):
        rows = []
        for customer in range(60):
            rate, quits, age = rng.gamma(1.0, 1 / 3.0), rng.beta(1.0, 3.0), rng.uniform(10, 30)
            count, last = 0, 0.0
            while True:
                following = last + rng.exponential(1 / rate)
                if following > age:
                    break
                count, last = count + 1, following
                if rng.random() < quits:
                    break
            rows.append({"id": customer + 60 * batch, "purchases": count, "recency": last, "age": age})
        yield f"b{batch}", pd.DataFrame(rows)


declaration = Declaration(
    name="beta-geometric",
    build=build,
    schema=pa.schema(
        [("id", pa.int64()), ("purchases", pa.int64()), ("recency", pa.float64()), ("age", pa.float64())]
    ),
    row_key=("id",),
    observed=("purchases", "recency"),
    split=split,
    potentials={"likelihood": "likelihood"},
)
