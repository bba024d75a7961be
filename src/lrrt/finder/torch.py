"""Live PyTorch models: one training step of any model, loss and optimiser, put back afterwards."""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch  # absolute: the framework, not this module
from torch import Tensor, nn

from lrrt.errors import InputError
from lrrt.finder import torch_state
from lrrt.finder.checks import check_above, check_count
from lrrt.finder.data import (
    as_batches,
    batch_length,
    check_batching,
    digest,
    leaves,
    limited,
    mapped,
    validation_batches,
)
from lrrt.finder.live_model import Batch, Step

GROUPS_ALIKE = (
    "All parameter groups have a learning rate of 0, so that there are no ratios to keep: the test "
    "gave all the same."
)


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
) -> "TorchSession":
    """See :func:`lrrt.range_test` for the parameters.

    Raises
    ------
    InputError
        For one that cannot be tested.
    """
    _check_model(model, optimizer)
    if torch.is_inference_mode_enabled():
        raise InputError("torch.inference_mode", "on", "off: nothing trains in it")
    if isinstance(loss, type):
        raise InputError(
            "loss", f"the class {loss.__name__}", f"an object of it: {loss.__name__}()"
        )
    if loss is not None and not callable(loss):
        raise InputError("loss", type(loss).__name__, "a function of (model output, targets)")
    if batch_loss is not None and (loss is not None or not callable(batch_loss)):
        raise InputError("batch_loss", batch_loss, "a function of (model, batch), without loss")
    halves = (torch.bfloat16, torch.float16)  # others switch autocast off, with a warning
    if autocast is not None and not any(autocast is half for half in halves):
        raise InputError("autocast", autocast, "a type: torch.bfloat16 or torch.float16")
    check_above("clip_norm", clip_norm, 0)
    for key, source in (("data", data), ("validation", validation)):
        if isinstance(source, torch.utils.data.IterableDataset):
            raise InputError(
                key,
                type(source).__name__,
                "a DataLoader of it; with batch_size=None, if it yields batches",
            )
        if isinstance(source, torch.utils.data.Dataset):
            raise InputError(key, type(source).__name__, "a DataLoader of that data set")
    check_batching(batch_size, seed, data, validation)
    if validation is not None:
        wanted = as_batches(validation, "validation", batch_size, shuffle=False)
        validation = validation_batches(wanted)
    with_closure = torch_state.needs_closure(optimizer)
    if with_closure and scaler is not None:
        raise InputError("scaler", type(scaler).__name__, "None for an optimiser with a closure")
    ratios, notes = _ratios(optimizer, keep_ratios)
    return TorchSession(
        model=model,
        loss=loss,
        batch_loss=batch_loss,
        optimizer=optimizer,
        data=as_batches(data, "data", batch_size, seed),
        validation=validation,
        keep=tuple(keep) if isinstance(keep, Iterable) else (keep,),
        accumulate=check_count("accumulate", 1 if accumulate is None else accumulate),
        autocast_dtype=autocast,
        scaler=_copied(scaler),
        clip_norm=clip_norm,
        ratios=ratios,
        with_closure=with_closure,
        notes=notes,
    )


def _check_model(model: nn.Module, optimizer: Any) -> None:
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
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "step"):
        value = None if optimizer is None else type(optimizer).__name__
        raise InputError("optimizer", value, "the torch.optim.Optimizer of the model")
    own = {id(parameter) for parameter in parameters}
    held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in own]
    if not held:
        raise InputError(
            "optimizer",
            type(optimizer).__name__,
            "the optimiser of this model; it holds none of its parameters",
        )
    if not any(parameter.requires_grad for parameter in held):
        raise InputError(
            "optimizer",
            type(optimizer).__name__,
            "one that holds a parameter to train; all that it holds are frozen",
        )
    if any(group.get("lr") is None for group in optimizer.param_groups):
        raise InputError(
            "optimizer",
            type(optimizer).__name__,
            "one whose parameter groups all have an lr, which the test raises (Adafactor: lr=1e-3, "
            "relative_step=False)",
        )


def _copied(scaler: Any) -> Any:
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


def _ratios(optimizer: Any, keep: bool) -> tuple[list[float], list[str]]:
    """Each parameter group's LR as a share of the largest, and what must be noted.

    Where a warm-up has them all at 0, they are as before the schedule.
    """
    groups = optimizer.param_groups
    lrs = [float(group["lr"]) for group in groups]
    if keep and not max(lrs) > 0:
        lrs = [float(group.get("initial_lr", 0)) for group in groups]
    if keep and max(lrs) > 0:
        return [lr / max(lrs) for lr in lrs], []
    return [1.0] * len(lrs), [GROUPS_ALIKE] if keep and len(lrs) > 1 else []


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
    ratios: list[float]  # of each parameter group's LR to the largest
    with_closure: bool
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parameters = list(self.model.parameters())
        self.device = parameters[0].device
        self.dtype = next((p.dtype for p in parameters if p.is_floating_point()), None)

    def random_kept(self) -> contextlib.AbstractContextManager[None]:
        sources = [s for s in (self.data, self.validation) if s is not None]
        return torch_state.random_kept(sources, self.keep)

    def prepare(self) -> None:
        pass

    @contextlib.contextmanager
    def model_kept(self) -> Iterator[None]:
        modules = [m for m in (self.model, self.loss) if isinstance(m, nn.Module)]
        with torch_state.model_kept(modules, self.optimizer), torch.enable_grad():
            if not self.model.training:
                self.model.train()
            yield

    def step(self, batches: list[Batch], lr: float) -> Step:
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], Tensor):  # captured in a graph, maybe: stay in place
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio
        if self.with_closure:
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
        else:
            self.optimizer.step()
        self._forget_gradients()
        return Step(loss, 0.0, norm)

    def _closure_step(self, batches: list[Batch]) -> Step:
        seen: list[tuple[float, float]] = []

        def closure() -> float:
            loss = self._backward(batches)
            seen.append((loss, self._clipped_norm()))
            return torch.tensor(loss)

        self.optimizer.step(closure)
        self._forget_gradients()
        return Step(seen[0][0], 0.0, seen[0][1])

    def _backward(self, batches: list[Batch]) -> float:
        """Mean loss; its gradients are in the parameters."""
        self._forget_gradients()
        total = 0.0
        for batch in batches:
            loss = self._loss(batch)[0]
            total += loss.item()
            if not math.isfinite(total):
                break
            loss = loss / len(batches)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return total / len(batches)

    def _trained(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _forget_gradients(self) -> None:
        for parameter in (*self.model.parameters(), *self._trained()):
            parameter.grad = None

    def _clipped_norm(self) -> float:
        """The global gradient norm; the gradients are then clipped."""
        gradients = [p.grad for p in self._trained() if p.grad is not None]
        if not gradients:
            return 0.0
        dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
        norms = [torch.linalg.vector_norm(g).to(dense[0].device).float() for g in dense]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained(), self.clip_norm)
        return norm.item()

    def _loss(self, batch: Batch) -> tuple[Tensor, Any, Any]:
        """Loss of a batch, model output and targets (None where unknown)."""
        batch = mapped(self._placed, batch, whole=True)
        with self._autocast():
            outputs = targets = None
            if self.batch_loss is not None:
                loss = self.batch_loss(self.model, batch)
            elif self.loss is None:
                try:
                    outputs = _called(self.model, batch)
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
                        _described(batch),
                        "pairs (inputs, targets), or arrays as a tuple (x, y) with batch_size, "
                        "(x, x) for an autoencoder; for other batches batch_loss(model, batch)",
                    )
                inputs, targets = batch
                if isinstance(targets, int | float) or getattr(targets, "shape", None) == ():
                    raise InputError(
                        "data",
                        _described(batch),
                        "batches, whose targets have a first axis, no single samples: a DataLoader "
                        "of them, or arrays as a tuple (x, y) with batch_size",
                    )
                outputs = _called(self.model, inputs)
                loss = self.loss(outputs, targets)
        return _scalar(loss), outputs, targets

    def _placed(self, array: Any) -> Any:
        """As a tensor on the model's device; NumPy's default types become PyTorch's."""
        if isinstance(array, np.ndarray | np.generic):
            array = torch.as_tensor(array)
            if array.is_floating_point() and self.dtype is not None:
                array = array.to(self.dtype)
            elif array.dtype in (torch.int16, torch.int32):
                array = array.long()
        if isinstance(array, Mapping):
            array = copy.copy(array)  # Hugging Face's moves itself, in place
        return array.to(self.device) if hasattr(array, "to") else array

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def evaluate(self) -> tuple[float, float]:
        modes = {module: module.training for module in self.model.modules()}
        total = correct = count = judged = 0
        with torch_state.random_kept([self.validation], ()), torch.no_grad():
            self.model.eval()
            try:
                for batch in limited(self.validation):
                    loss, outputs, targets = self._loss(batch)
                    size = batch_length(batch)
                    total += loss.item() * size
                    count += size
                    right = _right(outputs, targets)
                    if right is not None:
                        correct += right.sum().item()
                        judged += right.numel()
            finally:
                for module, training in modes.items():  # a parent before its children
                    if module.training != training:
                        module.train(training)  # its own may do more: LoRA's splits the weights
                        module.training = training
        return total / count, correct / judged if judged else math.nan

    def about(self) -> dict[str, Any]:
        return {
            "framework": f"torch {torch.__version__}",
            "model": type(self.model).__name__,
            "optimizer": type(self.optimizer).__name__,
            "device": str(self.device),
            "ratios": list(self.ratios),
            "autocast": None if self.autocast_dtype is None else str(self.autocast_dtype),
            "clip_norm": None if self.clip_norm is None else float(self.clip_norm),
            "weights": digest(list(self.model.parameters())),
        }


def _called(model: nn.Module, inputs: Any) -> Any:
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
    return loss.reshape(())


def _right(outputs: Any, targets: Any) -> Tensor | None:
    """Which samples are classified rightly, where that is what the model does."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return None
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1] or targets.is_floating_point():
        return None
    if outputs.shape[1] < 2:  # of one logit the largest says nothing
        return None
    return outputs.argmax(1) == targets


def _described(batch: Any) -> str:
    shapes = [str(tuple(getattr(leaf, "shape", ()))) for leaf in leaves(batch)]
    return f"{type(batch).__name__} of {', '.join(shapes)}"
