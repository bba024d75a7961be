"""Set the rates of a live optimiser from a suggestion."""

import math
from typing import Any

from lrrt.errors import InputError
from lrrt.finder.curve import Suggestion


def set_lr(optimizer: Any, lr: float | Suggestion) -> None:
    """Train on at ``lr``: a PyTorch optimiser's largest rate is ``lr`` then, and its other
    parameter groups keep their ratios to it; a Keras optimiser has the one.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, or of Keras
    lr : float or Suggestion

    Raises
    ------
    InputError
        For a suggestion that abstains, and an optimiser whose rates a schedule sets.
    """
    rate = lr.lr if isinstance(lr, Suggestion) else lr
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise InputError("lr", str(lr), "a positive number, or a suggestion that has one")
    name = type(optimizer).__name__
    if hasattr(optimizer, "param_groups"):
        from lrrt.finder.torch_optimizer import Steering, group_ratios, rate_groups

        groups = rate_groups(optimizer)
        if any("initial_lr" in group for group in groups):
            raise InputError(
                "optimizer", f"{name} with a schedule", "one before its schedule is made"
            )
        Steering(optimizer, groups, group_ratios(groups, keep=True)[0]).set(float(rate))
    elif hasattr(optimizer, "learning_rate"):
        from lrrt.finder.keras import has_constant_lr

        if not has_constant_lr(optimizer):
            raise InputError("optimizer", f"{name} with a schedule", "one with a constant rate")
        optimizer.learning_rate = float(rate)
    else:
        raise InputError("optimizer", name, "an optimiser of PyTorch or Keras")
