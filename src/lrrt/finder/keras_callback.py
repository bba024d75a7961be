"""Range tests within ``fit`` of Keras 3."""

from collections.abc import Iterable
from typing import Any

import keras

from lrrt.errors import InputError
from lrrt.finder.curve import Curve, Suggestion
from lrrt.finder.keras import has_constant_lr
from lrrt.finder.range_test import check_callback, check_reached, lr_to_train_at, range_test
from lrrt.finder.rules import DEFAULT_RULE


class RangeTestCallback(keras.callbacks.Callback):
    """Range tests within ``fit``, which goes on as if there had been none.

    Parameters
    ----------
    data, batch_size, **options
        As of :func:`lrrt.range_test`; ``fit`` does not tell a callback its data.
    epochs : sequence of int
        Before which epochs to test, from 0.
    rule : str
    set_lr : bool
        Train on at what the rule suggests, if it suggests something and nothing speaks against it
        (its ``cautions``); a line on standard error says what was done.

    After ``fit``, ``curves`` and ``suggestions`` hold the results by epoch.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        *,
        epochs: Iterable[int] = (0,),
        rule: str = DEFAULT_RULE,
        set_lr: bool = False,
        **options: Any,
    ):
        super().__init__()
        self.data, self.batch_size, self.options = data, batch_size, options
        self.epochs = check_callback(epochs, rule, options)
        self.rule, self.set_lr = rule, set_lr
        self.curves: dict[int, Curve] = {}
        self.suggestions: dict[int, Suggestion] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        check_reached(self.epochs, self.params["epochs"])
        if self.set_lr and not has_constant_lr(self.model.optimizer):
            raise InputError(
                "set_lr", True, "False where the optimiser has a schedule as learning rate"
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch not in self.epochs:
            return
        curve = range_test(self.model, data=self.data, batch_size=self.batch_size, **self.options)
        suggestion = curve.suggest(self.rule)
        self.curves[epoch], self.suggestions[epoch] = curve, suggestion
        lr = lr_to_train_at(curve, suggestion, epoch) if self.set_lr else None
        if lr is not None:
            self.model.optimizer.learning_rate = lr
