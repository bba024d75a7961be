"""The one-step instability search on a live model."""

import contextlib
import itertools
from typing import Any

from lrrt.core.instability import search
from lrrt.errors import InputError
from lrrt.finder.checks import check_above, check_count
from lrrt.finder.data import endless
from lrrt.finder.frameworks import open_session


def instability_lr(
    model: Any,
    loss: Any = None,
    data: Any = None,
    optimizer: Any = None,
    *,
    start: float = 1e-6,
    end: float = 1e3,
    halvings: int = 4,
    **options: Any,
) -> float | None:
    """The lowest learning rate at which one step raises the loss of its own batch.

    Doubles from ``start`` and then bisects (:mod:`lrrt.core.instability`): some 25 trials of two
    steps on one batch, where a range test takes 100. The model and all that
    :func:`lrrt.range_test` puts back are as before after every trial; both losses of a trial see
    the same random states, so the same dropout. An upper bound, not a suggestion: the rate that
    trains best lies mostly far below it.

    Parameters
    ----------
    model, loss, data, optimizer, **options
        Those of :func:`lrrt.range_test` that concern model and data (``batch_size``, ``accumulate``
        and so on).
    start, end : float
        Between which rates it looks.
    halvings : int
        Of the last factor of 2: 4 give the rate to 4 %.

    Returns
    -------
    float or None
        None where no rate up to ``end`` raises the loss, or ``start`` does already.

    Raises
    ------
    InputError
        As :func:`lrrt.range_test` does.
    """
    for key, value in (("start", start), ("end", end)):
        check_above(key, value, 0)
        if value is None:
            raise InputError(key, value, "a number above 0")
    if end <= start:
        raise InputError("end", end, f"a number above start, {start:g}")
    check_count("halvings", halvings, low=0)
    session = open_session(model, loss=loss, data=data, optimizer=optimizer, **options)
    session.prepare()
    with session.preserve_random_state():
        batches = endless(session.data, session.accumulate, session.notes)
        with contextlib.closing(batches):
            first = list(itertools.islice(batches, session.accumulate))

    def losses(lr: float) -> tuple[float, float]:
        found = []
        with session.preserve_model():
            for _ in range(2):
                with session.preserve_random_state():
                    step = session.step(first, lr)
                found.append(step.loss + step.penalty)
        return found[0], found[1]

    return search(losses, start, end, halvings)
