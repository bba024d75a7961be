"""The trainings of one pair as rows and columns: whose weights, at whose learning rate."""

import pandas as pd

from lrrt.report import style
from lrrt.report.study import StudyData

KIND = {"min": "min", "middle": "middle", "max": "max"}


def cases(data: StudyData, table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (backend, protocol) pairs of ``table``, those at home first."""
    found = table[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(found, key=lambda case: (not data.is_home(*case), case))


def of_case(table: pd.DataFrame, backend: str, protocol: str) -> pd.DataFrame:
    return table[(table["backend"] == backend) & (table["protocol"] == protocol)]


def lr_words(lr_of: str, lr_kind: str) -> str:
    """Whose LR it is: "A's max LR", "LR 0.1 for both"."""
    if lr_of in ("A", "B"):
        return f"{lr_of}'s {KIND.get(lr_kind, lr_kind)}"
    return f"{lr_kind}"


def weights_words(weights: str, weights_from: str, policy: str = "constant") -> str:
    words = f"weights {weights}"
    if weights_from:
        words += f", loaded from {style.name(weights_from)}"
    if policy != "constant":
        words += f", {policy}"
    return words


def last_epochs(trainings: pd.DataFrame) -> pd.DataFrame:
    """The last epoch of each training (NaN losses where it stopped before its end), by training."""
    return trainings.sort_values("epoch").groupby("training", sort=False).tail(1)


def hover(row) -> str:
    """A row of outcomes or trainings in words."""
    return (
        f"{weights_words(row.weights, row.weights_from, row.policy)} (seed {row.weights_seed}), "
        f"{lr_words(row.lr_of, row.lr_kind)} LR {style.number(row.lr, 3)}"
    )
