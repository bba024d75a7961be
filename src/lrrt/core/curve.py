"""The curve of a range test, always raw: neither smoothed, nor trimmed, nor stopped."""

from dataclasses import dataclass, fields

import numpy as np

from lrrt.errors import InputError

#: Of a training, after each epoch: the mean loss of its steps, then what evaluations give.
EPOCH_MEASURES = ("train_loss", "train_eval_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True, eq=False)
class Curve:
    """One range test; float64 arrays of shape (steps,), losses in nats.

    ``lr``: trained at. ``loss`` (data alone), ``penalty`` (L2, 0 where there is none) and
    ``grad_norm`` (global, before clipping) are of the batch, before the update; ``val_loss`` and
    ``val_accuracy`` of all test images, after it, None where not asked for. Any loss may be
    infinite or NaN.

    Raises
    ------
    InputError
        If the arrays are not one-dimensional, of one length of at least 1.
    """

    lr: np.ndarray
    loss: np.ndarray
    penalty: np.ndarray
    grad_norm: np.ndarray
    val_loss: np.ndarray | None = None
    val_accuracy: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if value is None:
                raise InputError(f"curve.{field.name}", None, "one value for each step")
            array = np.asarray(value, dtype=np.float64)
            if array.ndim != 1 or array.size == 0 or array.shape != np.shape(self.lr):
                raise InputError(
                    f"curve.{field.name}",
                    array.shape,
                    f"the shape of lr, {np.shape(self.lr)}" if array.size else "at least one step",
                )
            object.__setattr__(self, field.name, array)
