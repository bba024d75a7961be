"""How the constants of :mod:`lrrt.core.edge` score where they were chosen.

``python -m ground_truth.constants`` reads the tables of :mod:`ground_truth.development` (a minute),
changes one constant at a time, and writes ``results/constants.parquet``: a row a constant, value
and schedule. None of the oracle's settings is among those.
"""

from unittest.mock import patch

import numpy as np
import pandas as pd

from ground_truth.range_tests import RESULTS
from lrrt.analysis import regret
from lrrt.core import edge
from lrrt.files import write_whole

#: Values of each; the one in use among them.
TRIED = {
    "MARGIN": (2, 3, 4, 6, 8, 12),
    "WIDTH": (0.2, 0.3, 0.4, 0.6, 0.8),
    "CAP": (2, 4, 8, 16),
    "FALLEN": (0.7, 0.8, 0.9, 0.95),
    "LAG": (0, 2.5, 5, 7.5, 10),
    "OF_NOISE": (2, 4, 8),
}
STEPS = 100


def scored(constant: str, value: float) -> list[dict]:
    """Of one value: by schedule the mean loss over settings, in points, and how often ``edge``
    abstains (scored at the fixed default) and collapses."""
    trainings = pd.read_parquet(RESULTS / "development-trainings.parquet")
    curves = pd.read_parquet(RESULTS / "development-curves.parquet")
    grids = regret.grids(trainings, "accuracy")
    margins = edge.MARGIN
    if constant == "MARGIN":
        margins = dict.fromkeys(margins, value)
    rows = []
    with patch.object(edge, constant, margins if constant == "MARGIN" else value):
        tests = curves[curves["ramp_steps"] == STEPS].groupby(["setting", "optimizer", "draw"])
        for (setting, optimizer, _), test in tests:
            found = edge.edge([(test["lr"].to_numpy(), test["loss"].to_numpy())])
            for schedule, margin in margins.items():
                lr = regret.FIXED[optimizer][0] if isinstance(found, str) else found.lr / margin
                grid = grids[setting, schedule]
                lost = float(grid.regret(np.array([lr])).mean())
                collapsed = lost > regret.COLLAPSE * grid.gain
                rows.append((schedule, setting, lost, isinstance(found, str), collapsed))
    table = pd.DataFrame(rows, columns=["schedule", "setting", "points", "abstained", "collapsed"])
    table["points"] *= 100
    means = table.groupby(["schedule", "setting"]).mean().groupby("schedule").mean()
    named = {"constant": constant, "value": float(value)}
    return [
        {**named, "schedule": schedule, "settings": table["setting"].nunique(), **of_schedule}
        for schedule, of_schedule in means.to_dict("index").items()
    ]


def table() -> pd.DataFrame:
    tried = [(name, value) for name, values in TRIED.items() for value in values]
    return pd.DataFrame([row for name, value in tried for row in scored(name, value)])


def main() -> None:
    found = table()
    write_whole(RESULTS / "constants.parquet", found.to_parquet(index=False))
    print(found.pivot(index=["constant", "value"], columns="schedule", values="points").round(2))


if __name__ == "__main__":
    main()
