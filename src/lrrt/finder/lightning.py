"""Range tests within Lightning's ``Trainer.fit``; needs ``lightning`` or ``pytorch_lightning``."""

import contextlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from lrrt.errors import InputError
from lrrt.finder.curve import Curve, Suggestion
from lrrt.finder.range_test import check_callback, check_reached, lr_to_train_at, range_test
from lrrt.finder.rules import DEFAULT_RULE

if "pytorch_lightning" in sys.modules or not find_spec("lightning"):
    try:
        from pytorch_lightning import Callback
    except ModuleNotFoundError as error:
        if error.name != "pytorch_lightning":
            raise
        raise ModuleNotFoundError(
            "lrrt.finder.lightning needs Lightning: `pip install lightning`", name="lightning"
        ) from None
else:
    from lightning.pytorch import Callback


class RangeTestCallback(Callback):
    """Range tests before epochs of a training, which goes on as if there had been none.

    Model, optimiser, training data, precision, clipping by norm and accumulation are the trainer's;
    what ``training_step`` logs meanwhile is dropped.

    Parameters
    ----------
    epochs : sequence of int
        Before which epochs to test, from 0.
    rule : str
    set_lr : bool
        Train on at what the rule suggests, if it suggests something and nothing speaks against it
        (:attr:`lrrt.Suggestion.cautions`); standard error is told what was done. Groups keep their
        ratios.
    **options
        As of :func:`lrrt.range_test`.

    After ``fit``, ``curves`` and ``suggestions`` hold the results by epoch.
    """

    def __init__(
        self,
        epochs: Iterable[int] = (0,),
        rule: str = DEFAULT_RULE,
        set_lr: bool = False,
        **options: Any,
    ):
        super().__init__()
        self.epochs = check_callback(epochs, rule, options)
        self.rule, self.set_lr, self.options = rule, set_lr, options
        self.curves: dict[int, Curve] = {}
        self.suggestions: dict[int, Suggestion] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        _optimizer(trainer, pl_module)
        if trainer.max_epochs not in (None, -1):  # no limit
            check_reached(self.epochs, trainer.max_epochs)
        if self.set_lr and trainer.lr_scheduler_configs:
            raise InputError("set_lr", True, "False where a schedule sets the learning rate")
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == "value":
            raise InputError("gradient_clip_algorithm", "value", "norm, or no clipping")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch not in self.epochs:
            return
        optimizer = _optimizer(trainer, pl_module)
        steps = trainer.precision_plugin
        indexed = len(inspect.signature(pl_module.training_step).parameters) > 1

        def batch_loss(module: Any, batch: Any) -> Any:
            with steps.train_step_context():
                returned = module.training_step(*((batch, 0) if indexed else (batch,)))
            return returned["loss"] if isinstance(returned, dict) else returned

        with _without_logging(pl_module):
            curve = range_test(
                pl_module,
                data=trainer.train_dataloader,
                optimizer=optimizer,
                batch_loss=batch_loss,
                accumulate=trainer.accumulate_grad_batches,
                clip_norm=trainer.gradient_clip_val or None,
                scaler=getattr(steps, "scaler", None),
                **self.options,
            )
        suggestion = curve.suggest(self.rule)
        self.curves[trainer.current_epoch] = curve
        self.suggestions[trainer.current_epoch] = suggestion
        lr = lr_to_train_at(curve, suggestion, trainer.current_epoch) if self.set_lr else None
        if lr is not None:
            for group, ratio in zip(optimizer.param_groups, curve.about["ratios"], strict=True):
                group["lr"] = lr * ratio


def _optimizer(trainer: Any, pl_module: Any) -> Any:
    if not pl_module.automatic_optimization:
        raise InputError("automatic_optimization", False, "True")
    if len(trainer.optimizers) != 1:
        raise InputError("configure_optimizers", f"{len(trainer.optimizers)} optimisers", "one")
    return trainer.optimizers[0]


@contextlib.contextmanager
def _without_logging(pl_module: Any) -> Iterator[None]:
    """Within, ``self.log`` and ``self.log_dict`` do nothing: they would count the test's steps."""
    names = ("log", "log_dict")
    for name in names:
        setattr(pl_module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in names:
            delattr(pl_module, name)
