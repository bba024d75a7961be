"""The public table of trainings: read, checked, and each of its cases as a grid."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lrrt.analysis.regret import Grid
from lrrt.errors import InputError

ROWS, RATES = 1080, 36
PROBES = (20, 100, 300, 1000, 3000)  # steps
COLUMNS = (
    *("problem", "optimizer", "lr", "seed", "batch_size", "epochs", "epochs_logged"),
    *("steps_per_epoch", "final_accuracy", "best_accuracy", "final_test_loss", "best_test_loss"),
    *("initial_test_loss", "final_train_loss", *(f"train_loss_{steps}" for steps in PROBES)),
)


def read(path: str | Path) -> pd.DataFrame:
    """The table of ``shared/data/deepobs``'s form: a training a row.

    Raises
    ------
    InputError
        For a file that is missing or no such table: other columns, rows or rates.
    """
    try:
        table = pd.read_csv(path, na_values=["", "nan"], keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise InputError("table", str(path), f"a CSV file of public trainings; {reason}") from None
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise InputError("table", str(path), f"the columns {', '.join(absent)}, which it lacks")
    extra = [name for name in table if name not in COLUMNS]
    if extra:
        raise InputError("table", str(path), f"no columns {', '.join(map(str, extra))}")
    if len(table) != ROWS:
        raise InputError("table", str(path), f"{ROWS:,} trainings; it has {len(table):,}")
    rates = table.groupby(["problem", "optimizer"])["lr"].nunique()
    for case, count in rates[rates != RATES].items():
        raise InputError("table", str(path), f"{RATES} rates of {' '.join(case)}; it has {count}")
    for name in COLUMNS[2:]:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError("table", str(path), f"numbers in the column {name}")
    return table[list(COLUMNS)]


def cases(table: pd.DataFrame) -> Iterator[tuple[str, str, Grid]]:
    """Problem, optimiser and grid of the cases that have an accuracy (0 to 1).

    One seed a rate; where there are several their mean stands at that rate, so that the optimum is
    the parabola's own (no seed can be left out).
    """
    for (problem, optimizer), rows in table.groupby(["problem", "optimizer"]):
        if rows["final_accuracy"].isna().all():
            continue
        means = rows.groupby("lr")["final_accuracy"].mean()
        guess = guess_of(rows)
        yield problem, optimizer, Grid(means.index.to_numpy(), means.to_numpy()[None], guess)


def guess_of(rows: pd.DataFrame) -> float:
    """Accuracy of a network that has learnt nothing: the lowest one at the highest ten rates."""
    highest = np.sort(rows["lr"].unique())[-10:]
    return float(rows.loc[rows["lr"].isin(highest), "final_accuracy"].min())


def probes(table: pd.DataFrame) -> pd.DataFrame:
    """Of every case and number of steps, the rate of the lowest training loss after them.

    problem, optimizer, steps, lr: what a grid of short trainings would have taken; seed 42 alone.
    """
    rows = []
    for (problem, optimizer), case in table[table["seed"] == 42].groupby(["problem", "optimizer"]):
        for steps in PROBES:
            losses = case.set_index("lr")[f"train_loss_{steps}"]
            losses = losses[np.isfinite(losses)]
            if len(losses):
                row = {"problem": problem, "optimizer": optimizer, "steps": steps}
                rows.append(row | {"lr": float(losses.idxmin())})
    return pd.DataFrame(rows)
