"""Curves recorded elsewhere: read what other finders leave behind, and undo their smoothing."""

import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrrt.errors import InputError
from lrrt.finder.checks import check_count
from lrrt.finder.curve import COLUMNS, Curve

LR_NAMES = ("lr", "lrs", "learning_rate", "learning_rates", "lr_history")
LOSS_NAMES = ("loss", "losses", "train_loss", "batch_loss")


def unsmooth_ema(smoothed: np.ndarray, beta: float = 0.98, offset: int = 0) -> np.ndarray:
    """The raw losses, (steps,), behind an EMA whose k-th value was divided by
    ``1 - beta**(k + offset)``: the inverse of :func:`lrrt.core.smoothing.ema` for offset 0."""
    counts = np.arange(1, len(smoothed) + 1)
    average = smoothed * (1 - beta ** (counts + offset))
    return (average - beta * np.concatenate([[0.0], average[:-1]])) / (1 - beta)


def unsmooth_seeded(smoothed: np.ndarray, share: float = 0.05) -> np.ndarray:
    """The raw losses, (steps,), behind an average that starts at the first loss and of which each
    new one has ``share``."""
    raw = np.array(smoothed, dtype=np.float64)
    raw[1:] = (smoothed[1:] - (1 - share) * smoothed[:-1]) / share
    return raw


@dataclass(frozen=True)
class Tool:
    """Another finder: what its record is called, and how to get the raw losses back."""

    record: str
    raw: Callable[[np.ndarray], np.ndarray]


TOOLS = {
    "raw": Tool("losses of single batches, not smoothed", np.asarray),
    "fastai": Tool("learn.recorder.lrs and .losses", unsmooth_ema),
    "torch_lr_finder": Tool("LRFinder.history", unsmooth_seeded),
    "ignite": Tool("FastaiLRFinder.get_results()", unsmooth_seeded),
    "lightning": Tool("lr_finder.results", lambda s: unsmooth_ema(s, offset=1)),
    "ktrain": Tool("learner.lr_finder.lrs and .losses", unsmooth_ema),
    "keras_lr_finder": Tool("LRFinder.lrs and .losses", np.asarray),
    "keras": Tool("a CSVLogger's file with a learning rate column", np.asarray),
}


def load(
    path: str | Path,
    source: str = "raw",
    lr: str | None = None,
    loss: str | None = None,
    steps: int | None = None,
) -> Curve:
    """Read a curve from ``.csv``, ``.tsv`` or ``.json``, or such text from standard input (``-``).

    A JSON file that :meth:`Curve.save` wrote comes back whole; so do the columns of a CSV, which
    has no more: if the test ended early, give ``steps``. Otherwise the columns are found by their
    usual names (``lr``, ``lrs``, ``learning_rate``; ``loss``, ``losses``, ``train_loss``), or
    given. JSON is a mapping of columns, or a list of rows.

    Parameters
    ----------
    source : str
        Which finder recorded it (``TOOLS``): its smoothing is undone, exactly but for rounding,
        so that every rule starts from raw losses.
    lr, loss : str, optional
        The columns' names.
    steps : int, optional
        How many steps the test was to have, if it ended early: some rules count by it.

    Raises
    ------
    InputError
        If there is no such file, or it is no curve.
    """
    if source not in TOOLS:
        raise InputError("from", source, f"one of: {', '.join(TOOLS)}")
    path = Path(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError("file", str(path), f"a readable file ({reason})") from None
    text = text.removeprefix("\ufeff")
    is_json = path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "["))
    table = _json(path, text) if is_json else _csv(path, text)
    if is_json and "planned_lr" in table and "about" in table:
        return Curve.from_dict(table)
    if "verdict" in table and "runs" in table:
        raise InputError("file", str(path), "one curve; it is an audit: lrrt.Audit.load reads it")
    lrs = _column(path, table, "lr", lr, LR_NAMES)
    losses = _column(path, table, "loss", loss, LOSS_NAMES)
    rest = {name: _own(path, table, name) for name in COLUMNS if name in table}
    values = _checked(path, lrs, losses, rest)
    raw = TOOLS[source].raw(values["loss"])
    notes, names = [], {str(name).lower() for name in table}
    if source == "keras" or (source == "raw" and "epoch" in names and "step" not in names):
        notes.append("Keras logs an epoch's mean loss, with penalties: each row is an epoch.")
    elif source == "raw" and names <= {*LR_NAMES, *LOSS_NAMES, ""}:
        notes.append(
            "The losses are taken as raw. If fastai, torch_lr_finder, ignite or lightning recorded "
            "them, they are smoothed: name it as the source."
        )
    missing = np.isnan(values["loss"])
    if missing.any():
        notes.append(f"Row {missing.argmax() + 1} has no loss; rules see what is before it.")
    if (raw < 0).any() and not (values["loss"] < 0).any():
        notes.append(
            f"Without the smoothing of {source} some losses are below zero: the record is rounded, "
            "or another tool's."
        )
    planned = None if steps is None else _planned(values["lr"], check_count("steps", steps))
    return Curve(
        **(values | {"loss": raw}),
        planned_lr=planned,
        stopped="" if planned is None or len(planned) == len(raw) else "as recorded",
        notes=tuple(notes),
        about={"file": path.name},
    )


def _planned(lrs: np.ndarray, steps: int) -> np.ndarray:
    """The ramp that begins with ``lrs``, (steps,), its last step's factor going on."""
    missing = steps - len(lrs)
    if missing < 0 or (missing and len(lrs) < 2):
        raise InputError("steps", steps, f"at least the {len(lrs)} recorded")
    if not missing:
        return lrs
    factors = (lrs[-1] / lrs[-2]) ** np.arange(1, missing + 1)
    return np.concatenate([lrs, lrs[-1] * factors])


def _checked(path: Path, lrs: np.ndarray, losses: np.ndarray, rest: dict) -> dict[str, Any]:
    if len(lrs) != len(losses):
        raise InputError(
            "file", str(path), f"as many losses ({len(losses)}) as learning rates ({len(lrs)})"
        )
    if not len(lrs):
        raise InputError("file", str(path), "a curve of at least one step; it is empty")
    bad = ~(np.isfinite(lrs) & (lrs > 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            "file", str(path), f"positive, finite learning rates; row {row + 1} has {lrs[row]:g}"
        )
    if (np.diff(lrs) < 0).any():
        row = int((np.diff(lrs) < 0).argmax()) + 2
        raise InputError("file", str(path), f"a learning rate that rises; it falls at row {row}")
    if len(lrs) > 1 and lrs[-1] == lrs[0]:
        raise InputError("file", str(path), f"a learning rate that rises; it stays at {lrs[0]:g}")
    zeros, unknown = np.zeros(len(lrs)), np.full(len(lrs), math.nan)
    defaults = {"penalty": zeros, "grad_norm": unknown}
    return defaults | rest | {"lr": lrs, "loss": losses}


def _csv(path: Path, text: str) -> dict[str, list]:
    text = re.sub(r"\A\s*\n", "", text)  # blank lines
    first = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InputError("file", str(path), f"a table that can be read ({error})") from None
    if len(rows) < 2:
        raise InputError("file", str(path), "a header and at least one row")
    names = [name.strip() for name in rows[0]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            "file", str(path), f"column names that differ; {twice[0]!r} is there twice"
        )
    uneven = [i for i, row in enumerate(rows) if len(row) != len(names)]
    if uneven:
        raise InputError("file", str(path), f"{len(names)} values in row {uneven[0]}, as named")
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits; too deep
        raise InputError("file", str(path), f"JSON ({error})") from None
    if isinstance(found, list) and found and all(isinstance(row, Mapping) for row in found):
        found = {name: [row.get(name) for row in found] for name in found[0]}
    if not isinstance(found, Mapping):
        raise InputError("file", str(path), "a mapping of columns, or a list of rows")
    return dict(found)


def _column(
    path: Path, table: Mapping, key: str, given: str | None, usual: tuple[str, ...]
) -> np.ndarray:
    by_name = {name.lower(): name for name in table}
    names = [given] if given is not None else [by_name[n] for n in usual if n in by_name]
    if not names or names[0] not in table:
        raise InputError(
            f"{key} column",
            given or "none found",
            f"named by --{key} COLUMN ({key}= in Python), one of: {', '.join(map(str, table))}",
        )
    return _own(path, table, names[0])


def _own(path: Path, table: Mapping, name: str) -> np.ndarray:
    if not isinstance(table[name], list):
        raise InputError("file", str(path), f"a list of numbers as {name}")
    values = np.empty(len(table[name]))
    for row, value in enumerate(table[name]):
        try:
            # Keras's CSVLogger writes NA for what an epoch has not.
            values[row] = math.nan if value in ("", "NA", None) else _number(value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                "file", str(path), f"numbers in the column {name}; row {row + 1} has {value!r:.40}"
            ) from None
    return values


def _number(value: Any) -> float:
    """Also of a tensor's text, which fastai's losses become in a CSV file: ``TensorBase(2.31)``."""
    if isinstance(value, str):
        value = re.sub(r"^\w*tensor\w*\((.*?)(,.*)?\)$", r"\1", value.strip(), flags=re.IGNORECASE)
    return float(value)
