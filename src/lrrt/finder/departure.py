"""Whether an optimiser follows the rate that is set, by the steps that it takes."""

import math
from collections.abc import Callable

from lrrt.finder.live_model import Departure

FOLLOWS = 3.0  # a rate ten times as high makes a step at least so many times as large
DECADES = 6  # down from the last rate, that are tried where steps do not follow it


def measure(name: str, lr: float, move: Callable[[float], float]) -> Departure | None:
    """How the optimiser ``name`` departs from rates up to ``lr``, None if it follows them.

    ``move(rate)`` takes one step at ``rate`` and says how far it went; the same gradients each
    time.
    """
    rates, moves = [lr * 10.0**-k for k in range(DECADES + 1)], []
    for rate in rates:  # the highest first: mostly the first two tell
        moves.append(move(rate))
        if not 0 < moves[-1] < math.inf:
            return None
        if len(moves) > 1 and moves[-2] >= FOLLOWS * moves[-1]:
            break
    else:
        clause = f"a step at {lr:.2g} is as large as one at {rates[-1]:.2g}"
        return Departure(f"{name} does not use its learning rate: {clause}", 0.0)
    if len(moves) == 2:
        return None
    used = rates[len(moves) - 2] * moves[0] / moves[-2]
    clause = f"its steps at {lr:.2g} are as large as there"
    return Departure(f"{name} uses no rate above about {used:.1g}: {clause}", used)
