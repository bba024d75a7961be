"""This library's own: a sixth of the edge of instability, read without lag off the raw loss.

The edge is the geometric middle of the LR where nine tenths of the fall are made and the LR where
the loss is back at its start, moved back by five steps. Losses are averaged over 0.4 decades to
either side; no stop depends on the loss's level or sign. It abstains where the loss never falls by
more than its noise, or never rises again. How and why: :mod:`lrrt.core.edge`, which also reads
several range tests as one and knows of one cycle.
"""

import numpy as np

from lrrt.core.edge import doubts, edge, pooled
from lrrt.core.rules import Suggestion, abstain


def suggest(lr: np.ndarray, loss: np.ndarray, *, schedule: str = "constant") -> Suggestion:
    found = pooled([(lr, loss)], schedule)
    return abstain(found.reason) if found.lr is None else Suggestion(None, found.lr)


def cautions(lr: np.ndarray, loss: np.ndarray) -> list[str]:
    return doubts([(lr, loss)], edge([(lr, loss)]))
