"""An optimiser of another library as one of ours."""

import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrrt.core.protocol import Protocol
from lrrt.errors import InputError


def library_start(name: str, kind: str, **options: Any) -> Callable[..., "LibraryOptimizer"]:
    """The ``start`` of a relative of Adam: the class ``kind`` of the library ``name``, with the
    numbers of the protocol and ``options``."""

    def start(parameters: dict[str, Tensor], protocol: Protocol) -> LibraryOptimizer:
        """Raise :class:`InputError` where the library is not installed."""
        adams = {
            "betas": (protocol.beta1, protocol.beta2),
            "eps": protocol.epsilon,
            "weight_decay": protocol.weight_decay.value,
        }
        return LibraryOptimizer(parameters, getattr(_library(name), kind), **adams, **options)

    return start


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        words = f"one whose library is installed; `pip install {name}`"
        raise InputError("protocol.optimizer", name, words) from None


class LibraryOptimizer:
    """A ``torch.optim.Optimizer`` of the class ``kind``; never in a CUDA graph."""

    def __init__(
        self, parameters: dict[str, Tensor], kind: type[torch.optim.Optimizer], **options: Any
    ):
        self.parameters = list(parameters.values())
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            self.inner = kind(self.parameters, **options)  # some announce themselves
        self.averages = hasattr(self.inner, "eval")
        if self.averages:
            self.inner.train()

    def update(self, gradients: list[Tensor], lr: float) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.inner.param_groups:
            group["lr"] = lr
        self.inner.step()
        self.inner.zero_grad()

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """The parameters as they are to be evaluated: averages, where the optimiser has them."""
        if not self.averages:
            yield
            return
        self.inner.eval()
        try:
            yield
        finally:
            self.inner.train()

    def state(self) -> dict[str, Tensor]:
        written = io.BytesIO()
        torch.save(self.inner.state_dict(), written)
        return {"library.state": torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        stored = io.BytesIO(state["library.state"].tobytes())
        self.inner.load_state_dict(torch.load(stored, weights_only=True))
