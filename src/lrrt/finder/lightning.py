"""Range tests within Lightning's ``Trainer.fit``; needs ``lightning`` or ``pytorch_lightning``."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lrrt.errors import InputError
from lrrt.finder.curve import Curve, Suggestion
from lrrt.finder.live_model import Batch, Step
from lrrt.finder.range_test import check_callback, check_reached, lr_to_train_at, run_range_test
from lrrt.finder.rules import DEFAULT_RULE

HOME = "lightning.pytorch"
if "pytorch_lightning" in sys.modules or not find_spec("lightning"):
    HOME = "pytorch_lightning"
try:
    Callback = import_module(HOME).Callback
except ModuleNotFoundError as error:
    if error.name != HOME:
        raise
    raise ModuleNotFoundError(
        "lrrt.finder.lightning needs Lightning: `pip install lightning`", name="lightning"
    ) from None

from lrrt.finder.torch import TorchSession, open_session  # noqa: E402  PyTorch comes with Lightning

#: Options of a range test that the trainer has its own of.
OF_THE_TRAINER = (
    *("model", "loss", "data", "optimizer", "accumulate", "batch_loss", "autocast", "scaler"),
    *("clip_norm", "create_graph"),
)
#: Hooks of callbacks on the way of a step; what they keep in the callback is put back.
HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
RATES = ("lr", "learning_rate")  # names under which modules keep it, as Lightning's own finder has


class RangeTestCallback(Callback):
    """Range tests before epochs of a training, which goes on as if there had been none.

    Each step is the trainer's own: its transfer of batches, precision, strategy, accumulation and
    clipping, with all hooks of the module and those of callbacks that Lightning calls between the
    training step and the optimiser's. What is logged meanwhile is dropped. With several processes
    (DDP) the loss is their mean, and all decide alike.

    Parameters
    ----------
    epochs : sequence of int
        Before which epochs to test, from 0.
    rule : str
    set_lr : bool
        Train on at what the rule suggests, if it suggests something and nothing speaks against it
        (its ``cautions``); a line on standard error says what was done. Groups keep their
        ratios; ``lr`` or ``learning_rate`` of the module and its ``hparams`` follow.
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
        for name in set(OF_THE_TRAINER) & set(options):
            raise InputError(name, options[name], "left out; the trainer has its own")
        self.rule, self.set_lr, self.options = rule, set_lr, options
        self.curves: dict[int, Curve] = {}
        self.suggestions: dict[int, Suggestion] = {}
        self._due, self._session = False, None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        _check(trainer, pl_module)
        if trainer.max_epochs not in (None, -1):  # no limit
            check_reached(self.epochs, trainer.max_epochs)
        if self.set_lr and trainer.lr_scheduler_configs:
            raise InputError("set_lr", True, "False where a schedule sets the learning rate")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._due = trainer.current_epoch in self.epochs

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        # Only now have all callbacks prepared the epoch: its accumulation, thawed layers.
        if self._due:
            self._due = False
            self._test(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self._session is not None:
            self._session.note_norm()

    def _open(self, trainer: Any, **options: Any) -> LightningSession:
        kind = functools.partial(LightningSession, trainer=trainer)
        self._session = open_session(**options, kind=kind)
        return self._session

    def _test(self, trainer: Any, pl_module: Any) -> None:
        _check(trainer, pl_module)
        optimizer, epoch = trainer.optimizers[0], trainer.current_epoch
        arguments = self.options | {
            "model": trainer.strategy.model,
            "data": _Batches(trainer),
            "optimizer": optimizer,
            "accumulate": trainer.accumulate_grad_batches,
            "batch_loss": lambda _, batch: _training_loss(trainer, batch),
        }
        try:
            with _without_logging(pl_module):
                curve = run_range_test(functools.partial(self._open, trainer), arguments)
        finally:
            self._session = None
        suggestion = curve.suggest(self.rule)
        self.curves[epoch], self.suggestions[epoch] = curve, suggestion
        lr = lr_to_train_at(curve, suggestion, epoch) if self.set_lr else None
        if lr is not None:
            for group, ratio in zip(optimizer.param_groups, curve.about["ratios"], strict=True):
                group["lr"] = lr * ratio
            parsing = import_module(f"{HOME}.utilities.parsing")
            for name in RATES:
                if parsing.lightning_hasattr(pl_module, name):
                    parsing.lightning_setattr(pl_module, name, lr)


def _check(trainer: Any, pl_module: Any) -> None:
    if not pl_module.automatic_optimization:
        raise InputError("automatic_optimization", False, "True")
    if len(trainer.optimizers) != 1:
        raise InputError("configure_optimizers", f"{len(trainer.optimizers)} optimisers", "one")
    if trainer.strategy.handles_gradient_accumulation:
        raise InputError("strategy", type(trainer.strategy).__name__, "one device, or DDP")


class _Batches:
    """The batches of an epoch of the trainer, of one loader or of several."""

    def __init__(self, trainer: Any):
        self.loaders, self.mode = trainer.train_dataloader, trainer.fit_loop._combined_loader._mode
        count = trainer.num_training_batches
        self.count = None if math.isinf(count) else int(count)

    def __iter__(self) -> Iterator[Batch]:
        combined = import_module(f"{HOME}.utilities.combined_loader").CombinedLoader
        each = iter(combined(self.loaders, self.mode))
        return (batch for batch, _, _ in itertools.islice(each, self.count))


def _place(trainer: Any, batch: Batch) -> Batch:
    """On the device, by the trainer's own way: precision, hooks of module or DataModule."""
    call = import_module(f"{HOME}.trainer.call")
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)


def _training_loss(trainer: Any, batch: Batch) -> Any:
    """The module's loss of a batch to validate on."""
    module = trainer.lightning_module
    step = trainer.fit_loop.epoch_loop._build_kwargs(OrderedDict(), batch, 0)
    with trainer.precision_plugin.train_step_context():
        returned = module.training_step(*step.values())
    return returned["loss"] if isinstance(returned, dict) else returned


@dataclass(kw_only=True)
class LightningSession(TorchSession):
    """Steps as the trainer takes them."""

    trainer: Any
    norm: float = math.nan
    batches_read: int = 0

    def kept_besides(self) -> tuple[list[Any], list[Any]]:
        trainer, loop = self.trainer, self.trainer.fit_loop.epoch_loop
        of_steps = [
            callback
            for callback in trainer.callbacks
            if any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in HOOKS)
            and not isinstance(callback, RangeTestCallback)
        ]
        progress = loop.batch_progress, loop.automatic_optimization.optim_progress
        return [*progress, trainer.precision_plugin, *of_steps], [trainer]

    def step(self, batches: list[Batch], lr: float) -> Step | None:
        self.steering.set(lr)
        call = import_module(f"{HOME}.trainer.call")
        trainer, loop, losses = self.trainer, self.trainer.fit_loop.epoch_loop, []
        self.norm = math.nan
        for index, batch in enumerate(batches):
            # Within a step of so many batches; none is an epoch's last.
            loop.batch_progress.current.ready, loop.batch_progress.is_last_batch = index + 1, False
            number, self.batches_read = self.batches_read, self.batches_read + 1
            batch = _place(trainer, batch)
            call._call_lightning_module_hook(trainer, "on_train_batch_start", batch, number)
            inputs = loop._build_kwargs(OrderedDict(), batch, number)
            output = loop.automatic_optimization.run(self.optimizer, number, inputs)
            call._call_lightning_module_hook(trainer, "on_train_batch_end", output, batch, number)
            if "loss" in output:  # divided by the batches of a step
                losses.append(self.loss_value(output["loss"]) * len(batches))
        self.steering.check("optimizer_step, a hook or a schedule")
        if not losses:
            return None
        self.steps_taken += 1
        return Step(sum(losses) / len(losses), 0.0, self.norm)

    def note_norm(self) -> None:
        """Before the optimiser's step, and before clipping."""
        self.norm = self._clipped_norm()

    def _place(self, array: Any) -> Any:  # of batches to validate on, whole
        return array

    def _plain_loss(self, batch: Batch) -> tuple[Any, Any, Any]:
        return super()._plain_loss(_place(self.trainer, batch))

    def about(self) -> dict[str, Any]:
        return super().about() | {"model": type(self.trainer.lightning_module).__name__}


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
