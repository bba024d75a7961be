"""Live PyTorch models: one training step of any model, loss and optimiser, put back afterwards."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch  # absolute: the framework, not this module
from torch import Tensor, nn

from lrrt.errors import InputError
from lrrt.finder import torch_state
from lrrt.finder.checks import as_things, check_above, check_count, check_flag
from lrrt.finder.data import (
    ArrayBatches,
    as_batches,
    batch_length,
    check_batching,
    digest,
    leaves,
    limit,
    map_arrays,
    shape_of,
    validation_batches,
)
from lrrt.finder.live_model import Batch, Departure, Step
from lrrt.finder.torch_loading import gathered
from lrrt.finder.torch_norm import GradientNorm
from lrrt.finder.torch_optimizer import (
    Closures,
    Steering,
    asks_for_closure,
    check_optimizer,
    closure_kind,
    group_notes,
    group_ratios,
    parameters_of,
)
from lrrt.finder.torch_ranks import check_ranks, mean_over_ranks, over_ranks, several_ranks

SKIPPED = (
    "The scaler skipped {} of {} steps, whose gradients were not finite: a lower init_scale skips "
    "fewer."
)
LEAST_MOVING = 1e-4  # a learning rate below which rounding may leave every parameter as it was


def open_session(
    model: nn.Module,
    *,
    loss: Any = None,
    data: Any = None,
    optimizer: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    accumulate: int | None = None,
    validation: Any = None,
    keep: Any = (),
    batch_loss: Any = None,
    autocast: torch.dtype | None = None,
    scaler: Any = None,
    clip_norm: float | None = None,
    keep_ratios: bool = True,
    create_graph: bool = False,
    kind: Callable[..., TorchSession] | None = None,
) -> TorchSession:
    """See :func:`lrrt.range_test` for the parameters; ``kind`` makes the session, if it is to be
    another than :class:`TorchSession`.

    Raises
    ------
    InputError
        For one that cannot be tested.
    """
    _check_model(model)
    groups = check_optimizer(optimizer, list(model.parameters()))
    check_ranks(model)
    if torch.is_inference_mode_enabled():
        raise InputError("torch.inference_mode", "on", "off: nothing trains in it")
    _check_losses(loss, batch_loss)
    halves = (torch.bfloat16, torch.float16)  # others switch autocast off, with a warning
    if autocast is not None and not any(autocast is half for half in halves):
        raise InputError("autocast", autocast, "a type: torch.bfloat16 or torch.float16")
    check_above("clip_norm", clip_norm, 0)
    check_flag("keep_ratios", keep_ratios)
    check_flag("create_graph", create_graph)
    _check_loaders(data=data, validation=validation)
    check_batching(batch_size, seed, data, validation)
    if validation is not None:
        wanted = as_batches(validation, "validation", batch_size, shuffle=False)
        validation = validation_batches(gathered(wanted))
    closure = closure_kind(optimizer)
    if closure != Closures.NONE and scaler is not None:
        raise InputError("scaler", type(scaler).__name__, "None for an optimiser with a closure")
    ratios, notes = group_ratios(groups, keep_ratios)
    return (kind or TorchSession)(
        model=model,
        loss=loss,
        batch_loss=batch_loss,
        optimizer=optimizer,
        data=gathered(as_batches(data, "data", batch_size, seed)),
        validation=validation,
        keep=as_things(keep),
        accumulate=check_count("accumulate", 1 if accumulate is None else accumulate),
        autocast_dtype=autocast,
        scaler=_copy(scaler),
        clip_norm=clip_norm,
        steering=Steering(optimizer, groups, ratios),
        closure=closure,
        create_graph=create_graph,
        notes=[*notes, *group_notes(groups)],
    )


def _check_model(model: nn.Module) -> None:
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise InputError("model", name, "a torch.nn.Module")
    parameters = list(model.parameters())
    if not parameters:
        raise InputError("model", name, "a model with parameters")
    tensors = (*parameters, *model.buffers())
    if any(torch.nn.parameter.is_lazy(t) for t in tensors):
        raise InputError("model", name, "a model whose lazy layers have seen a batch")
    if any(t.is_meta for t in tensors):
        raise InputError("model", name, "a model with values; some of it is on the meta device")
    if any(t.is_inference() for t in tensors):
        raise InputError("model", name, "a model made outside torch.inference_mode()")
    if not any(parameter.requires_grad for parameter in parameters):
        raise InputError("model", name, "one with a parameter to train; all are frozen")


def _check_losses(loss: Any, batch_loss: Any) -> None:
    if isinstance(loss, type):
        raise InputError(
            "loss", f"the class {loss.__name__}", f"an object of it: {loss.__name__}()"
        )
    if loss is not None and not callable(loss):
        raise InputError("loss", type(loss).__name__, "a function of (model output, targets)")
    if batch_loss is not None and (loss is not None or not callable(batch_loss)):
        raise InputError("batch_loss", batch_loss, "a function of (model, batch), without loss")


def _check_loaders(**sources: Any) -> None:
    """A data set alone has no batches."""
    for key, source in sources.items():
        if isinstance(source, torch.utils.data.IterableDataset):
            raise InputError(
                key,
                type(source).__name__,
                "a DataLoader of it; with batch_size=None, if it yields batches",
            )
        if isinstance(source, torch.utils.data.Dataset):
            raise InputError(key, type(source).__name__, "a DataLoader of that data set")


def _copy(scaler: Any) -> Any:
    """A copy of the scaler with its scale, so that the user's own is never touched."""
    if scaler is None:
        return None
    if not all(hasattr(scaler, name) for name in ("scale", "unscale_", "step", "update")):
        raise InputError("scaler", type(scaler).__name__, "a torch.amp.GradScaler, or None")
    try:
        return copy.deepcopy(scaler)
    except AssertionError:
        raise InputError(
            "scaler", "amid a step", "one between update() and the next unscale_() or step()"
        ) from None


@dataclass
class TorchSession:
    """See :class:`lrrt.finder.live_model.Session`; made by :func:`open_session`."""

    model: nn.Module
    loss: Any
    batch_loss: Any
    optimizer: Any
    data: Iterable[Batch]
    validation: Iterable[Batch] | None
    keep: tuple
    accumulate: int
    autocast_dtype: torch.dtype | None
    scaler: Any
    clip_norm: float | None
    steering: Steering
    closure: str  # one of Closures
    create_graph: bool
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parameters = list(self.model.parameters())
        self.device = parameters[0].device
        self.dtype = next((p.dtype for p in parameters if p.is_floating_point()), None)
        self.together = several_ranks()
        self.own_data = isinstance(self.data, ArrayBatches)
        self.called = self.model
        trained = parameters_of(self.optimizer)
        self.mixed = len({(p.device, p.dtype) for p in trained}) > 1 or self.dtype != torch.float32

    def preserve_random_state(self) -> contextlib.AbstractContextManager[None]:
        sources = [s for s in (self.data, self.validation) if s is not None]
        return torch_state.preserve_random_state(sources, self.keep)

    def prepare(self) -> None:
        pass

    @contextlib.contextmanager
    def preserve_model(self) -> Iterator[None]:
        others, without = self.kept_besides()
        held = self.loss, self.batch_loss, self.optimizer, *others
        kept = torch_state.preserve_model([self.model], *held, without=without)
        with kept as states, torch.enable_grad():
            if not self.model.training:
                self.model.train()
            self.trained = parameters_of(self.optimizer)
            everything = {id(p): p for p in (*self.model.parameters(), *self.trained)}
            self.with_gradients = list(everything.values())
            self.gradient_norm = GradientNorm(self.trained)
            self.states, self.steps_taken, self.skipped = states, 0, 0
            self.reached = self.with_gradient = False
            self.steering.begin()
            self.steering.note_estimate()
            yield

    def kept_besides(self) -> tuple[list[Any], list[Any]]:
        """What of a trainer is to be put back, and what that refers to and is to be left alone."""
        return [], []

    def step(self, batches: list[Batch], lr: float) -> Step | None:
        self.steering.set(lr)
        if self.closure == Closures.ALONE:
            return self._closure_step(batches)
        loss = self._backward(batches)
        if not math.isfinite(loss):
            return Step(loss, 0.0, math.nan)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = self._clipped_norm()
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif self.closure == Closures.AFTER:
            self.optimizer.step(self._closure(batches, []))
        else:
            self._plain_step(batches)
        self.steps_taken += 1
        self.steering.check()
        return Step(loss, 0.0, norm)

    def _plain_step(self, batches: list[Batch]) -> None:
        try:
            self.optimizer.step()
        except Exception as error:
            if self.steps_taken or not asks_for_closure(error):
                raise
            self.closure = Closures.AFTER
            self.optimizer.step(self._closure(batches, []))

    def _closure_step(self, batches: list[Batch]) -> Step:
        seen: list[tuple[float, float]] = []
        self.optimizer.step(self._closure(batches, seen))
        self.steps_taken += 1
        self.steering.check()
        if not seen:
            raise InputError(
                "optimizer", type(self.optimizer).__name__, "one that calls its closure"
            )
        return Step(seen[0][0], 0.0, seen[0][1])

    def _closure(self, batches: list[Batch], seen: list) -> Callable[[], Tensor]:
        """The loss with its gradients; each call is added to ``seen``."""

        def closure() -> Tensor:
            with torch.enable_grad():
                loss = self._backward(batches)
            seen.append((loss, self._clipped_norm()))
            return torch.tensor(loss)

        return closure

    def end(self, lr: float) -> Departure | None:
        """See :meth:`lrrt.finder.live_model.Session.end`."""
        if not self.steps_taken:
            return None
        self.steering.note_estimate()
        self.notes += self.steering.decay_notes(lr)
        if self.skipped:
            self.notes.append(SKIPPED.format(self.skipped, self.steps_taken))
        if not self.reached:
            raise InputError(
                "optimizer",
                type(self.optimizer).__name__,
                "one with a parameter that the loss depends on; none of its parameters had a "
                "gradient when it was to step",
            )
        rounded_away = lr < LEAST_MOVING or not self.with_gradient
        if not rounded_away and not self.states.copies.have_moved(self.trained):
            raise InputError(
                "optimizer",
                type(self.optimizer).__name__,
                f"one whose steps move the model: after {self.steps_taken} steps up to a rate of "
                f"{lr:.2g} every parameter is what it was",
            )
        alone = self.closure == Closures.NONE and not self.create_graph
        return self.steering.departure(lr, alone)

    def _backward(self, batches: list[Batch]) -> float:
        """Mean loss; its gradients are in the parameters."""
        self.forget_gradients()
        total, count = 0.0, len(batches)
        for index, batch in enumerate(batches):
            with self._synchronise(index == count - 1):
                loss = self._loss(batch)[0]
                total += self.loss_value(loss)
                if not math.isfinite(total):
                    break
                if count > 1:
                    loss = loss / count
                if self.scaler is not None:
                    loss = self.scaler.scale(loss)
                loss.backward(create_graph=self.create_graph)
        return total / count

    def forget_gradients(self) -> None:
        for parameter in self.with_gradients:
            parameter.grad = None

    def loss_value(self, loss: Tensor) -> float:
        """Of several ranks their mean, the same for all."""
        return mean_over_ranks(loss) if self.together else loss.item()

    def _synchronise(self, last: bool) -> contextlib.AbstractContextManager:
        """Gradients of several ranks are averaged with those of the last batch of a step."""
        return contextlib.nullcontext() if last or not self.together else self.model.no_sync()

    def _clipped_norm(self) -> float:
        """The global gradient norm; the gradients are then clipped."""
        gradients = [p.grad for p in self.trained if p.grad is not None]
        if not gradients:
            return 0.0
        self.reached = True
        dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
        if self.mixed:
            device, norms = dense[0].device, torch._foreach_norm(dense)
            norm = torch.linalg.vector_norm(torch.stack([n.to(device).float() for n in norms]))
        else:
            norm = self.gradient_norm(dense)
        norm = norm.item()
        self.with_gradient |= norm > 0
        self.skipped += self.scaler is not None and not math.isfinite(norm)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        return norm

    def _loss(self, batch: Batch) -> tuple[Tensor, Any, Any]:
        """Loss of a batch, model output and targets (None where unknown)."""
        if self.autocast_dtype is None:
            return self._plain_loss(batch)
        with torch.autocast(self.device.type, dtype=self.autocast_dtype):
            return self._plain_loss(batch)

    def _plain_loss(self, batch: Batch) -> tuple[Tensor, Any, Any]:
        if self.loss is not None and _is_tensor_pair(batch):  # most are: the short way
            inputs, targets = (t.to(self.device) for t in batch)
            outputs = self.called(inputs)
            return _scalar(self.loss(outputs, targets)), outputs, targets
        batch = map_arrays(self._place, batch, whole=True)
        outputs = targets = None
        if self.batch_loss is not None:
            loss = self.batch_loss(self.called, batch)
        elif self.loss is None:
            try:
                outputs = _call(self.called, batch)
            except TypeError as error:
                raise InputError(
                    "loss",
                    None,
                    "a function of (model output, targets), unless the model takes the whole "
                    f"batch and returns its loss; it failed on it ({error})",
                ) from error
            loss = _own_loss(outputs)
            targets = batch.get("labels") if isinstance(batch, Mapping) else None
            is_mapping = isinstance(outputs, Mapping)
            outputs = outputs.get("logits") if is_mapping else getattr(outputs, "logits", None)
        else:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise InputError(
                    "data",
                    _describe(batch),
                    "pairs (inputs, targets), or arrays as a tuple (x, y) with batch_size, "
                    "(x, x) for an autoencoder; for other batches batch_loss(model, batch)",
                )
            inputs, targets = batch
            if isinstance(targets, int | float) or shape_of(targets) == ():
                raise InputError(
                    "data",
                    _describe(batch),
                    "batches, whose targets have a first axis, no single samples: a DataLoader "
                    "of them, or arrays as a tuple (x, y) with batch_size",
                )
            outputs = _call(self.called, inputs)
            loss = self.loss(outputs, targets)
        return _scalar(loss), outputs, targets

    def _place(self, array: Any) -> Any:
        """As a tensor on the model's device; NumPy's default types become PyTorch's."""
        if isinstance(array, np.ndarray | np.generic):
            if array.dtype.kind not in "biufc":
                raise InputError("data", f"dtype {array.dtype}", "arrays of numbers")
            array = torch.as_tensor(array)
            if array.is_floating_point() and self.dtype is not None:
                array = array.to(self.dtype)
            elif array.dtype in (torch.int16, torch.int32):
                array = array.long()
        if isinstance(array, Mapping):
            array = copy.copy(array)  # Hugging Face's moves itself, in place
        return array.to(self.device) if hasattr(array, "to") else array

    def fingerprint(self, whole: bool) -> dict[str, Any]:
        """See :meth:`lrrt.finder.live_model.Session.fingerprint`."""
        parts = {
            "model": self.model,
            "loss": self.loss,
            "batch_loss": self.batch_loss,
            "optimizer": self.optimizer,
        }
        return torch_state.fingerprint(parts, self.kept_besides()[1], whole)

    def evaluate(self) -> tuple[float, float]:
        modes = {module: module.training for module in self.model.modules()}
        total = correct = count = judged = 0
        random_state = torch_state.preserve_random_state([self.validation], ())
        with random_state, self._evaluating(), torch.no_grad():
            self.model.eval()
            # Of ranks with unlike numbers of batches none waits for another.
            self.called = self.model.module if self.together else self.model
            try:
                for batch in limit(self.validation):
                    loss, outputs, targets = self._loss(batch)
                    size = batch_length(batch)
                    total += loss.item() * size
                    count += size
                    right = _right(outputs, targets)
                    if right is not None:
                        correct += right.sum().item()
                        judged += right.numel()
            finally:
                self.called = self.model
                for module, training in modes.items():  # a parent before its children
                    if module.training != training:
                        module.train(training)  # its own may do more: LoRA's splits the weights
                        module.training = training
        if self.together:
            total, count, correct, judged = over_ranks([total, count, correct, judged])
        return total / count, correct / judged if judged else math.nan

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Within, an optimiser with modes (schedule-free) is in its ``eval()``."""
        if not callable(getattr(self.optimizer, "eval", None)):
            yield
            return
        with torch_state.preserve_model([], self.optimizer):
            self.steering.set_mode("eval")
            yield

    def about(self) -> dict[str, Any]:
        return {
            "framework": f"torch {torch.__version__}",
            "model": type(self.model).__name__,
            "optimizer": type(self.optimizer).__name__,
            "device": str(self.device),
            "ratios": list(self.steering.ratios),
            "autocast": None if self.autocast_dtype is None else str(self.autocast_dtype),
            "clip_norm": None if self.clip_norm is None else float(self.clip_norm),
            "weights": digest(list(self.model.parameters())),
        }


def _is_tensor_pair(batch: Batch) -> bool:
    """Whether it is inputs and targets, both plain tensors, the targets with a first axis."""
    return (
        type(batch) in (tuple, list)
        and len(batch) == 2
        and type(batch[0]) is Tensor
        and type(batch[1]) is Tensor
        and batch[1].ndim > 0
    )


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and not isinstance(inputs, nn.utils.rnn.PackedSequence):
        return model(*inputs)
    return model(inputs)


def _own_loss(outputs: Any) -> Any:
    """The loss that a model returns: itself, ``.loss``, ``["loss"]``, or the first of a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    if getattr(outputs, "loss", None) is not None:
        return outputs.loss
    if isinstance(outputs, Mapping) and "loss" in outputs:
        return outputs["loss"]
    if isinstance(outputs, tuple) and outputs:
        return outputs[0]
    raise InputError(
        "loss", None, "a function of (model output, targets), since the model returns no loss"
    )


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise InputError("loss", type(loss).__name__, "a function that returns a scalar tensor")
    if loss.numel() != 1:
        raise InputError(
            "loss", f"of shape {tuple(loss.shape)}", "a scalar: its mean over the batch, say"
        )
    if torch.is_grad_enabled() and not loss.requires_grad:
        raise InputError("loss", "a constant", "a loss that depends on a parameter to train")
    return loss if loss.ndim == 0 else loss.reshape(())


def _right(outputs: Any, targets: Any) -> Tensor | None:
    """Which samples are classified rightly, where that is what the model does."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return None
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1] or targets.is_floating_point():
        return None
    if outputs.shape[1] < 2:  # of one logit the largest says nothing
        return None
    return outputs.argmax(1) == targets


def _describe(batch: Any) -> str:
    shapes = [str(shape_of(leaf) or ()) for leaf in leaves(batch)]
    return f"{type(batch).__name__} of {', '.join(shapes)}"
