"""Rules that read a learning-rate range off a curve, one module each, named after its source.

Each has ``suggest(lr, loss) -> Suggestion`` on recorded, raw float arrays of shape (steps,), at
least one step, any of them infinite or NaN: it smooths, stops and trims by itself, as its source
does, never warns and never raises. ``cautions(lr, loss)``, if it has that, gives what it
holds against its own answer, a clause each. It may take constants of its source (``beta``,
``stop_factor``, ``skip_start``, ``skip_end``) by keyword; the defaults are the source's.
"""

from dataclasses import dataclass

import numpy as np

from lrrt import plugins


@dataclass(frozen=True)
class Suggestion:
    """What a rule says about one curve.

    ``min_lr`` and ``max_lr`` bound the range; a rule that names one rate gives ``min_lr`` or
    ``max_lr`` by what its rate means, the other being None. Both are None where it abstains, and
    ``reason`` says why. ``fallback``: the rule failed half-way and answered something else
    instead. ``stop_step``: the step (from 0) at which its stop rule would have ended the test,
    None if never.
    """

    min_lr: float | None
    max_lr: float | None
    fallback: bool = False
    reason: str = ""
    stop_step: int | None = None

    @property
    def reversed(self) -> bool:
        """Whether min LR is above max LR, which is no range."""
        return None not in (self.min_lr, self.max_lr) and self.min_lr > self.max_lr


def abstain(reason: str, stop_step: int | None = None) -> Suggestion:
    """No suggestion, because of ``reason``."""
    return Suggestion(None, None, reason=reason, stop_step=stop_step)


def replay(rule_name: str, lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    """Apply the rule called ``rule_name`` to a recorded curve.

    Raises
    ------
    InputError
        If there is no such rule; the message lists those that exist.
    """
    return plugins.find("lrrt.core.rules", rule_name, "rule").suggest(lr, loss)
