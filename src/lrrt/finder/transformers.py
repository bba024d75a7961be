"""Range tests within the ``Trainer`` of Hugging Face's transformers, and before it."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback  # absolute: the package, not this module

from lrrt.errors import InputError
from lrrt.finder.curve import Curve, Suggestion
from lrrt.finder.live_model import Batch, Step
from lrrt.finder.range_test import check_callback, check_reached, lr_to_train_at, run_range_test
from lrrt.finder.rules import DEFAULT_RULE
from lrrt.finder.torch import TorchSession, open_session

#: Options of a range test that the trainer has its own of.
OF_THE_TRAINER = (
    *("model", "loss", "data", "optimizer", "accumulate", "batch_loss", "autocast", "scaler"),
    *("clip_norm", "create_graph"),
)


class RangeTestCallback(TrainerCallback):
    """Range tests before epochs of a training, which goes on as if there had been none.

    ``trainer.add_callback(RangeTestCallback(trainer))``: each step of a test is the trainer's own
    ``training_step`` with its loss, precision, accumulation and clipping.

    Parameters
    ----------
    trainer : transformers.Trainer
        The trainer whose callback this is; the Trainer does not pass itself.
    epochs : sequence of int
        Before which epochs to test, from 0.
    rule : str
    set_lr : bool
        Train on at what the rule suggests, if it suggests something and nothing speaks against it
        (its ``cautions``); a line on standard error says what was done. The trainer's
        schedule then has it as its peak. Groups keep their ratios.
    **options
        As of :func:`lrrt.range_test`.

    After ``train``, ``curves`` and ``suggestions`` hold the results by epoch.
    """

    def __init__(
        self,
        trainer: Any,
        epochs: Iterable[int] = (0,),
        rule: str = DEFAULT_RULE,
        set_lr: bool = False,
        **options: Any,
    ):
        if not hasattr(trainer, "training_step"):
            raise InputError("trainer", type(trainer).__name__, "the Trainer that is to train")
        self.epochs = check_callback(epochs, rule, options)
        for name in set(OF_THE_TRAINER) & set(options):
            raise InputError(name, options[name], "left out; the trainer has its own")
        self.trainer, self.rule, self.set_lr, self.options = trainer, rule, set_lr, options
        self.curves: dict[int, Curve] = {}
        self.suggestions: dict[int, Suggestion] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        check_reached(self.epochs, state.num_train_epochs)
        schedule = kwargs["lr_scheduler"]
        schedule = getattr(schedule, "scheduler", schedule)  # accelerate's around it
        if self.set_lr and not hasattr(schedule, "lr_lambdas"):
            raise InputError(
                "set_lr", True, f"False with {type(schedule).__name__}; it has no factor to change"
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = round(state.epoch or 0)
        if epoch not in self.epochs:
            return
        trainer = self.trainer
        arguments = self.options | {
            "model": trainer.model_wrapped,
            "data": kwargs["train_dataloader"],
            "optimizer": trainer.optimizer,
            "accumulate": args.gradient_accumulation_steps,
            "batch_loss": functools.partial(_loss, trainer),
        }
        kind = functools.partial(TrainerSession, trainer=trainer)
        curve = run_range_test(functools.partial(open_session, kind=kind), arguments)
        suggestion = curve.suggest(self.rule)
        self.curves[epoch], self.suggestions[epoch] = curve, suggestion
        lr = lr_to_train_at(curve, suggestion, epoch) if self.set_lr else None
        if lr is not None:
            _set_peak(kwargs["lr_scheduler"], lr)


def _loss(trainer: Any, model: Any, batch: Batch) -> Any:
    """The trainer's loss of a batch to validate on."""
    with trainer.compute_loss_context_manager():
        return trainer.compute_loss(model, trainer._prepare_inputs(batch))


def _set_peak(schedule: Any, lr: float) -> None:
    """Make ``lr`` what the schedule's factors multiply, for the largest group; the others keep
    their ratios to it."""
    schedule = getattr(schedule, "scheduler", schedule)
    factor = lr / max(schedule.base_lrs)
    schedule.base_lrs = [base * factor for base in schedule.base_lrs]
    for group, base in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] *= factor
        group["initial_lr"] = base
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]


@dataclass(kw_only=True)
class TrainerSession(TorchSession):
    """Steps as the trainer takes them."""

    trainer: Any

    def kept_besides(self) -> tuple[list[Any], list[Any]]:
        return [], [self.trainer]

    def step(self, batches: list[Batch], lr: float) -> Step | None:
        self.steering.set(lr)
        trainer, total = self.trainer, 0.0
        accelerator, count = trainer.accelerator, len(batches)
        batches, items = trainer.get_batch_samples(iter(batches), count, trainer.args.device)
        trainer.current_gradient_accumulation_steps = count  # it does so before each step, too
        self.forget_gradients()
        for index, batch in enumerate(batches):
            last = index == count - 1
            accelerator.gradient_state._set_sync_gradients(last)
            apart = contextlib.nullcontext() if last else accelerator.no_sync(self.model)
            with apart:  # the loss is divided by the batches, or by all their items
                total += self.loss_value(trainer.training_step(self.model, batch, items))
        if not math.isfinite(total):
            return Step(total, 0.0, math.nan)
        norm = self._clipped_norm()
        if trainer.args.max_grad_norm and trainer.args.max_grad_norm > 0:
            accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        self.optimizer.step()
        self.steps_taken += 1
        self.steering.check()
        return Step(total, 0.0, norm)
