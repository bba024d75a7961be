"""Smith (2017, Cyclical learning rates, section 3.3): where the accuracy starts to rise and stops.

The learning rate rises linearly for some epochs, and the validation accuracy is plotted over it:
``min_lr`` (his ``base_lr``) is where it "starts to increase", ``max_lr`` where it "slows, becomes
ragged, or starts to fall". Smith reads both by eye. Here, of the rise from the first accuracy to
the highest:

- minimum: the last step before a twentieth of the rise is made;
- maximum: the first step with nine tenths of it (it slows), or the last before the accuracy first
  falls by more than a tenth of it (ragged or falling), whichever comes first.

These three shares are ours. It abstains on a rise of less than 5 points, which may be chance.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain

LEAST_RISE = 0.05
RISES, SLOWS, FALLS = 0.05, 0.9, 0.1  # shares of the rise


def suggest(lr: np.ndarray, accuracy: np.ndarray) -> Suggestion:
    known = np.isfinite(accuracy)
    lr, accuracy = lr[known], accuracy[known]
    if len(lr) < 3:
        return abstain(f"too few accuracies: {len(lr)}, it needs 3")
    rise = accuracy.max() - accuracy[0]
    if rise < LEAST_RISE:
        return abstain(f"the accuracy rises by {100 * rise:.1f} points, less than 5")
    made = (accuracy - accuracy[0]) / rise
    start = int((made > RISES).argmax()) - 1
    falls = made < np.maximum.accumulate(made) - FALLS
    falls[: start + 1] = False
    end = int((made >= SLOWS).argmax())
    if falls.any():
        end = min(end, int(falls.argmax()) - 1)
    return Suggestion(float(lr[start]), float(lr[end]))
