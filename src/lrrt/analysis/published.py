"""What the blog post published, read from its figures, its text and its notebooks.

"The Learning Rate Finder Technique: How Reliable Is It?", Simona Maggio: ResNet-56 on CIFAR-10,
batch 512, n = 20 runs per sweep; bars are the 10 % and 90 % quantiles of the LR across runs.
"""

import numpy as np
import pandas as pd

RUNS = 20
USUAL_LR = 0.1  # "the usual value is around 0.1", SGD on such networks
VALIDATION_MINUTES = (1.5, 50.0)  # a range test without and with validation at every step
VALIDATION_COST = VALIDATION_MINUTES[1] / VALIDATION_MINUTES[0]  # 33 times

_NONE = np.nan  # a bar too short to read
_TABLE = (
    ("keras", "blog_keras", "weights", "min_lr", 1.02e-1, 1.4e-2, 2.9e-1),
    ("keras", "blog_keras", "weights", "max_lr", 2.05, 1.5e-1, 3.05),
    ("keras", "blog_keras", "order", "min_lr", 8.06e-2, 7.6e-3, 2.5e-1),
    ("keras", "blog_keras", "order", "max_lr", 8.66e-1, 8.2e-2, 2.63),
    ("torch", "blog_fastai", "weights", "min_lr", 5.46e-4, 2.1e-4, 9.0e-4),
    ("torch", "blog_fastai", "weights", "max_lr", 4.22e-1, 6.8e-2, 1.02),
    ("torch", "blog_fastai", "order", "min_lr", 6.03e-4, _NONE, _NONE),
    ("torch", "blog_fastai", "order", "max_lr", 1.44e-1, 4.5e-2, 3.0e-1),
)


def published() -> pd.DataFrame:
    """The eight published medians: backend, protocol, sweep, quantity, median, q10, q90.

    ``sweep`` is ``weights`` (new weights and new order each run) or ``order`` (same weights, new
    order); ``quantity`` is ``min_lr`` or ``max_lr``; q10 and q90 are NaN where not published.
    """
    columns = ["backend", "protocol", "sweep", "quantity", "median", "q10", "q90"]
    return pd.DataFrame(list(_TABLE), columns=columns)
