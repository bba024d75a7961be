"""The two LRs of a table of suggestions, and which of its rows are a range."""

import pandas as pd

from lrrt.analysis.statistics import are_usable

QUANTITIES = ("min_lr", "max_lr")


def both_lrs(suggestions: pd.DataFrame) -> pd.DataFrame:
    """Those with both a min LR and a max LR that are finite and positive."""
    return suggestions[are_usable(suggestions[list(QUANTITIES)]).all(axis=1)]


def with_range(suggestions: pd.DataFrame) -> pd.DataFrame:
    """Those of :func:`both_lrs` whose min LR is not above their max LR, which would be no range."""
    rows = both_lrs(suggestions)
    return rows[rows["min_lr"] <= rows["max_lr"]]
