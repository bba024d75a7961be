"""Checks of a user's arguments, each with one clear message."""

import math
import os
from collections.abc import Iterator, ValuesView
from pathlib import Path
from typing import Any

import numpy as np

from lrrt.errors import InputError


def check_above(key: str, value: Any, low: float) -> None:
    """Raise :class:`InputError` unless ``value`` is None or a finite number above ``low``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if value is not None and not (number and low < value < math.inf):
        raise InputError(key, value, f"a number above {low}, or None")


MOST = 10_000_000  # steps or runs: more are a slip, and would fill the memory


def check_count(key: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """``value`` as an int of at least ``low``, at most ``high``, or an :class:`InputError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InputError(key, value, f"an integer of at least {low}")
    if high is not None and value > high:
        raise InputError(key, value, f"at most {high:,}")
    return int(value)


def check_flag(key: str, value: Any, optional: bool = False) -> None:
    """Raise :class:`InputError` unless ``value`` is True or False, or None where ``optional``."""
    if not isinstance(value, bool | np.bool_) and not (optional and value is None):
        raise InputError(key, value, "True, False or None" if optional else "True or False")


def as_things(keep: Any) -> tuple:
    """What ``keep`` names: one thing, or several; a module or a loader is one, though it can be
    iterated."""
    several = isinstance(keep, list | tuple | set | ValuesView | Iterator)
    return tuple(keep) if several else (keep,)


def check_target(key: str, path: str | Path, suffix: str) -> None:
    """Raise :class:`InputError` unless a file that ends in ``suffix`` can be written there: it is
    to be after minutes of work."""
    target = Path(path).absolute()
    if target.suffix.lower() != suffix:
        raise InputError(key, str(path), f"a file name that ends in {suffix}")
    folder = next(parent for parent in target.parents if os.path.lexists(parent))
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(key, str(path), "a file that can be written")
