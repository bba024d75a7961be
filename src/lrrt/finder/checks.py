"""Checks of a user's arguments, each with one clear message."""

import errno
import math
import os
import tempfile
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
PAGES = (".html", ".htm")  # endings of a page


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


def check_target(key: str, path: str | Path, *suffixes: str) -> Path:
    """``path``; raises :class:`InputError` unless a file that ends in one of ``suffixes`` can be
    written there, which may be minutes later."""
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise InputError(key, str(path), f"a file name that ends in {' or '.join(suffixes)}")
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        words = f"a file that can be written ({error.strerror})"
        raise InputError(key, str(path), words) from None
    return target
