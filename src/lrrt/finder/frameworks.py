"""The framework of a model, and what is done in each: it is looked up by name, never imported
before its user did."""

import importlib
import random
import sys
from typing import Any

import numpy as np

from lrrt.errors import InputError
from lrrt.finder.live_model import Session
from lrrt.finder.random_states import Later, keep_python_random

#: Framework by the root package of a model's class; the first found counts (a Keras model on
#: Keras's PyTorch backend is a torch.nn.Module, too).
ROOTS = {"keras": "keras", "torch": "torch"}


def framework_of(model: Any) -> str:
    """``"torch"`` or ``"keras"``.

    Raises
    ------
    InputError
        If ``model`` is neither.
    """
    found = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    for root, framework in ROOTS.items():
        if root in found:
            return framework
    raise InputError(
        "model", type(model).__name__, "a torch.nn.Module, or a compiled model of Keras 3"
    )


def open_session(model: Any, **options: Any) -> Session:
    """A session of the model's framework; ``options`` are those of :func:`lrrt.range_test` that
    concern model and data. The framework is imported by whoever made the model."""
    module = importlib.import_module(f"lrrt.finder.{framework_of(model)}")
    return module.open_session(model, **options)


def with_trace(model: Any) -> Any:
    """Of an audit's models: one alike, with the values of ``model``, whose training step has been
    traced; or ``model`` itself. See :mod:`lrrt.finder.keras_reuse`."""
    if framework_of(model) != "keras" or sys.modules["keras"].backend.backend() != "tensorflow":
        return model
    return importlib.import_module("lrrt.finder.keras_reuse").stand_in(model)


def forget_traces() -> None:
    """Let go of the model that :func:`with_trace` gave."""
    if "lrrt.finder.keras_reuse" in sys.modules:
        sys.modules["lrrt.finder.keras_reuse"].forget()


def keep_all_random(later: Later) -> None:
    """Those, and the global states of each framework that has been imported."""
    keep_python_random(later)
    if "torch" in sys.modules:
        importlib.import_module("lrrt.finder.torch_state").keep_torch_random(later)
    if "keras" in sys.modules:
        importlib.import_module("lrrt.finder.keras").keep_keras_random(later)


def seed_all(seed: int) -> set[str]:
    """Seed Python, NumPy and whichever of PyTorch and Keras has been imported; their names."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    loaded = {name for name in ("torch", "keras") if name in sys.modules}
    if "torch" in loaded:
        sys.modules["torch"].manual_seed(seed)
    if "keras" in loaded:
        sys.modules["keras"].utils.set_random_seed(seed % 2**32)
    return loaded
