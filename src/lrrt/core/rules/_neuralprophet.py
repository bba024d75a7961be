"""What NeuralProphet reads: Lightning's smoothed losses, smoothed once more."""

import numpy as np


def finite_end(lr: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without the steps at the end whose loss is infinite.

    The package never ends a test early. One that ended early is filled up with infinite losses
    (:meth:`lrrt.Curve.recorded`), which the package would take for a descent.
    """
    known = np.flatnonzero(loss != np.inf)
    end = known[-1] + 1 if len(known) else 0
    return lr[:end], loss[:end]


def steepest(smoothed: np.ndarray, half_window: int) -> int:
    """Step of the least gradient by step of ``smoothed`` under a Hamming window.

    The ends are padded with their own value; a NaN counts as the least. At least two steps; a half
    window of 0 smooths nothing.
    """
    if half_window:
        window = np.hamming(2 * half_window)
        padded = np.pad(smoothed, half_window, mode="edge")
        smoothed = np.convolve(window / window.sum(), padded, "valid")[1:]
    return int(np.gradient(smoothed).argmin())
