"""What NeuralProphet reads its suggestions from: Lightning's smoothed losses, smoothed once more."""

import numpy as np


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
