"""From a raw curve to what a protocol's finder would have recorded on the way."""

import numpy as np

from lrrt.core.curve import Curve
from lrrt.core.protocol import Protocol
from lrrt.core.ramp import grid


def recording(curve: Curve, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates and raw losses, each (steps,), as the protocol's finder pairs them.

    With pairing ``"before"`` batch i's loss is beside the rate it trained at; with ``"after"``
    beside the schedule's value i, set after it and one step ahead. The loss includes the L2
    penalty where ``protocol.weight_decay.recorded`` says so. Nothing is smoothed or stopped.
    """
    lr = curve.lr
    if protocol.ramp.pairing == "after":
        lr = grid(protocol.ramp, len(curve.lr))
    loss = curve.loss
    if protocol.weight_decay.recorded:
        with np.errstate(invalid="ignore", over="ignore"):
            loss = loss + curve.penalty
    return lr.copy(), loss.copy()
