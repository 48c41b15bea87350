"""Units sold by price: the model of README."""

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        price = pm.Data("price", batch["price"].to_numpy())
        sold = pm.Data("sold", batch["units"].to_numpy())
        base = pm.Normal("base", 3, 1)
        elasticity = pm.Normal("elasticity", -1, 1)
        pm.Poisson("units", pm.math.exp(base + elasticity * pm.math.log(price)), observed=sold)
    return model


declaration = Declaration(
    name="daily_sales",
    build=build,
    schema=pa.schema([("day", pa.date32()), ("price", pa.float64()), ("units", pa.int64())]),
    row_key=("day",),
    observed=("units",),
)
