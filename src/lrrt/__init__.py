"""How reliable is the learning-rate finder? Study and library of the learning rate range test.

For a model of your own: :func:`range_test` and :func:`audit`. They are imported when first used,
so that ``import lrrt`` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "range_test": "lrrt.finder.range_test",
    "set_lr": "lrrt.finder.rates",
    "audit": "lrrt.finder.audit",
    "Audit": "lrrt.finder.audit_result",
    "Curve": "lrrt.finder.curve",
    "Suggestion": "lrrt.finder.curve",
    "instability_lr": "lrrt.finder.instability",
    "load": "lrrt.finder.recorded_curves",
    "pool": "lrrt.finder.pooling",
    "Pooled": "lrrt.core.edge",
    "InputError": "lrrt.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
