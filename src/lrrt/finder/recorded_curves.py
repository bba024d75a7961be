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
from lrrt.finder.checks import MOST, check_count
from lrrt.finder.curve import COLUMNS, Curve

#: Usual names, the first found counts; Lightning's LearningRateMonitor adds the optimiser's
#: (``lr-SGD``).
LR_NAMES = ("lr", "lrs", "learning_rate", "learning_rates", "lr_history", r"lr-[^/]+(/pg\d+)?")
LOSS_NAMES = (
    "loss",
    "losses",
    "train_loss",
    "batch_loss",
    "train_loss_step",
    "loss_step",
    "train/loss",
    "training_loss",
)
EMPTY = ("", "NA", None)  # the last but one is Keras's CSVLogger's


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


def unshift_rates(lrs: np.ndarray) -> np.ndarray:
    """Rates (steps,) that were recorded one step too early: each the next step's, the first left
    out. It is what comes before by the ramp, which rises by a constant factor or amount."""
    if len(lrs) < 3:
        raise InputError(
            "lr", f"{len(lrs)} steps", "at least 3, to find the first rate by the ramp"
        )
    first = 2 * lrs[0] - lrs[1]
    by_amount = first > 0 and math.isclose(lrs[1] - lrs[0], lrs[2] - lrs[1], rel_tol=1e-4)
    return np.concatenate([[first if by_amount else lrs[0] ** 2 / lrs[1]], lrs[:-1]])


@dataclass(frozen=True)
class Tool:
    """Another finder: what its record is called, and how to get raw losses and their rates back."""

    record: str
    raw: Callable[[np.ndarray], np.ndarray]
    rates: Callable[[np.ndarray], np.ndarray] = np.asarray


TOOLS = {
    "raw": Tool("losses of single batches, not smoothed", np.asarray),
    "fastai": Tool("learn.recorder.lrs and .losses", unsmooth_ema),
    "torch_lr_finder": Tool("LRFinder.history", unsmooth_seeded),
    "ignite": Tool("FastaiLRFinder.get_results()", unsmooth_seeded, unshift_rates),
    "lightning": Tool("lr_finder.results", lambda s: unsmooth_ema(s, offset=1)),
    "ktrain": Tool("learner.lr_finder.lrs and .losses", unsmooth_ema),
    "keras_lr_finder": Tool("LRFinder.lrs and .losses", np.asarray),
    "keras": Tool("a CSVLogger's file with a learning rate column", np.asarray),
}


def load(
    path: str | Path,
    source: str | None = None,
    lr: str | None = None,
    loss: str | None = None,
    steps: int | None = None,
) -> Curve:
    """Read a curve from ``.csv``, ``.tsv``, ``.json`` or ``.jsonl``, or such text from standard
    input (``-``).

    A JSON file that :meth:`Curve.save` wrote comes back whole; so do the columns of a CSV, which
    has no more: if the test ended early, give ``steps``. Otherwise the columns are found by their
    usual names (``lr``, ``lrs``, ``learning_rate``, Lightning's ``lr-SGD``; ``loss``, ``losses``,
    ``train_loss``), or given. JSON is a mapping of columns, a list of rows, a row a line, or the
    ``trainer_state.json`` of a Hugging Face Trainer. Numbers may have decimal commas where another
    character parts the columns. Rows without a learning rate (evaluations) are left out; rates and
    losses of one step in rows of their own (Lightning's ``metrics.csv``) are put together.

    Parameters
    ----------
    source : str, optional
        Which finder recorded it (``TOOLS``): its smoothing is undone, exactly but for rounding,
        so that every rule starts from raw losses. Default: ``raw``, unless it is seen to be
        ignite's.
    lr, loss : str, optional
        The columns' names.
    steps : int, optional
        How many steps the test was to have, if it ended early: some rules count by it.

    Raises
    ------
    InputError
        If there is no such file, or it is no curve.
    """
    if source is not None and source not in TOOLS:
        raise InputError("from", source, f"one of: {', '.join(TOOLS)}")
    path = Path(path)
    if str(path) == "-" and sys.stdin is None:
        raise InputError("file", "-", "a readable file; standard input is closed")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError("file", str(path), f"a readable file ({reason})") from None
    text = text.removeprefix("\ufeff")
    is_json = ".json" in path.suffix.lower() or text.lstrip().startswith(("{", "["))
    table = _json(path, text) if is_json else _csv(path, text)
    if is_json and "planned_lr" in table and "about" in table:
        return Curve.from_dict(table)
    if "verdict" in table and "runs" in table:
        raise InputError("file", str(path), "one curve; it is an audit: lrrt.Audit.load reads it")
    names = {str(name).lower() for name in table}
    of_trainer = "log_history" in table
    table = _rows(path, table["log_history"]) if of_trainer else table
    lr = _column(path, table, "lr", lr, LR_NAMES)
    loss = _column(path, table, "loss", loss, LOSS_NAMES)
    table, notes = _training_rows(path, table, lr, loss)
    values = {name: _numbers(path, table, name) for name in COLUMNS if name in table}
    values |= {"lr": _numbers(path, table, lr), "loss": _numbers(path, table, loss)}
    _check(path, values["lr"], values["loss"])
    if of_trainer:
        notes.append(
            "The Trainer logs the mean loss since its last log: with logging_steps=1 that is each "
            "step's; old versions of transformers log it beside the next step's rate."
        )
        source = source or "raw"
    else:
        by_epoch = "epoch" in names and "step" not in names
        source, more = _recorded_by(source, by_epoch, values)
        notes += more
    tool = TOOLS[source]
    raw, lrs = tool.raw(values["loss"]), tool.rates(values["lr"])
    missing = np.isnan(values["loss"])
    if missing.any():
        notes.append(f"Row {missing.argmax() + 1} has no loss; rules see what is before it.")
    if (raw < 0).any() and not (values["loss"] < 0).any():
        notes.append(
            f"Without the smoothing of {source} some losses are below zero: the record is rounded, "
            "or another tool's."
        )
    planned = None if steps is None else _ramp_lrs(lrs, check_count("steps", steps, high=MOST))
    return Curve(
        **(values | {"lr": lrs, "loss": raw}),
        planned_lr=planned,
        stopped="" if planned is None or len(planned) == len(raw) else "as recorded",
        notes=tuple(notes),
        about={"file": path.name},
    )


def _recorded_by(
    source: str | None, by_epoch: bool, values: dict[str, np.ndarray]
) -> tuple[str, list[str]]:
    """Which tool it was (its name, if the user gave one), and what to note of that."""
    if source == "keras" or (source is None and by_epoch):
        words = "Keras logs an epoch's mean loss, with penalties: each row is an epoch."
        return source or "raw", [words]
    if source is not None:
        return source, []
    if _is_of_ignite(**values):
        words = (
            "Read as ignite's: the losses are smoothed, and the rates are the next steps'. Both "
            "are undone; name another source (raw, say) if it is not."
        )
        return "ignite", [words]
    if set(values) == {"lr", "loss"} or _looks_smooth(values["loss"]):
        words = (
            "The losses are taken as raw. If fastai, torch_lr_finder, ignite or lightning recorded "
            "them, they are smoothed: name it with --from (source)."
        )
        return "raw", [words]
    return "raw", []


def _is_of_ignite(lr: np.ndarray, loss: np.ndarray, **more: np.ndarray) -> bool:
    """Smoothed losses, not in Lightning's way, beside rates that begin one step after a round one:
    people start at 1e-5 or 3e-4, not at 1.148e-5."""
    if more or len(lr) < 20 or not _looks_smooth(loss):
        return False
    if loss[0] < 0.75 * np.median(loss[5:15]):  # Lightning's begins at half the loss
        return False
    return not _is_round(lr[0]) and _is_round(unshift_rates(lr)[0])


def _is_round(value: float) -> bool:
    return math.isclose(value, float(f"{value:.1e}"), rel_tol=1e-6)


def _looks_smooth(loss: np.ndarray) -> bool:
    """Whether losses eight steps apart differ by over twice as much as neighbours: those of raw
    losses that only scatter differ as much, those of ignite's average 2.6 times as much."""
    loss = loss[: int(np.append(np.isfinite(loss), False).argmin())]
    loss = loss[: max(20, len(loss) // 2)]
    if len(loss) < 20:
        return False
    near, far = (float(np.median(np.abs(loss[k:] - loss[:-k]))) for k in (1, 8))
    return far > 2 * near > 0


def _ramp_lrs(lrs: np.ndarray, steps: int) -> np.ndarray:
    """The ramp that begins with ``lrs``, (steps,), its last step's factor going on."""
    missing = steps - len(lrs)
    if missing < 0 or (missing and len(lrs) < 2):
        raise InputError("steps", steps, f"at least the {len(lrs)} recorded")
    if not missing:
        return lrs
    factors = (lrs[-1] / lrs[-2]) ** np.arange(1, missing + 1)
    return np.concatenate([lrs, lrs[-1] * factors])


def _check(path: Path, lrs: np.ndarray, losses: np.ndarray) -> None:
    """Raise :class:`InputError`, with the row, for what is no curve."""
    if len(lrs) != len(losses):
        raise InputError(
            _file(path), f"{len(lrs)} and {len(losses)}", "as many learning rates as losses"
        )
    if not len(lrs):
        raise InputError(_file(path), "none", "a curve of at least one step")
    bad = ~(np.isfinite(lrs) & (lrs > 0))
    if bad.any():
        row = int(bad.argmax())
        raise _bad(path, "positive, finite learning rates", f"{lrs[row]:g}", row)
    if (np.diff(lrs) < 0).any():
        row = int((np.diff(lrs) < 0).argmax()) + 1
        raise _bad(path, "a learning rate that rises", "a fall", row)
    if len(lrs) > 1 and lrs[-1] == lrs[0]:
        raise InputError(_file(path), float(lrs[0]), "a learning rate that rises; it stays there")


def _file(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


class _Shown(str):
    """Words that a message shows without quotes."""

    __repr__ = str.__str__


def _bad(path: Path, expected: str, found: str, row: int) -> InputError:
    return InputError(_file(path), _Shown(f"{found} in row {row + 1}"), expected)


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
        raise InputError(_file(path), twice, "column names that differ; this one is there twice")
    for row, cells in enumerate(rows[1:]):
        if len(cells) != len(names):
            raise _bad(path, f"{len(names)} values in each row, as named", str(len(cells)), row)
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}
    if delimiter == ",":
        return columns
    return {name: [_with_point(cell) for cell in cells] for name, cells in columns.items()}


def _with_point(cell: str) -> str:
    """A number with a decimal comma, as spreadsheets of many countries write it, with a point."""
    return (
        cell.replace(",", ".") if re.fullmatch(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*", cell) else cell
    )


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise InputError("file", str(path), f"JSON ({error})") from None
    except ValueError as error:  # or a number of 5000 digits
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            found = [json.loads(line) for line in lines] if len(lines) > 1 else None
        except (ValueError, RecursionError):
            found = None
        if found is None:
            raise InputError("file", str(path), f"JSON ({error})") from None
    if isinstance(found, list):
        return _rows(path, found)
    if not isinstance(found, Mapping):
        raise InputError("file", str(path), "a mapping of columns, or a list of rows")
    return dict(found)


def _rows(path: Path, rows: Any) -> dict[str, list]:
    """Columns of all that any row has; None where one has not."""
    if not (isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows)):
        raise InputError("file", str(path), "a mapping of columns, or a list of rows")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _column(path: Path, table: Mapping, key: str, given: str | None, usual: tuple[str, ...]) -> str:
    """The name of a column: as given, else by the usual names."""
    if given is not None and given in table:
        return given
    found = [name for n in usual for name in table if re.fullmatch(n, str(name).lower())]
    several = [name for name in found if re.match("lr-", str(name).lower())]
    if given is None and found and (found[0] not in several or len(several) == 1):
        return found[0]
    raise InputError(
        f"{key} column",
        given or several or "none found",
        f"a header that names it, or --{key} COLUMN ({key}= in Python) with one of: "
        f"{', '.join(map(str, table))}",
    )


def _training_rows(path: Path, table: dict, lr: str, loss: str) -> tuple[dict, list[str]]:
    """The table without rows that have no learning rate, and a note of how many they were; rate
    and loss of one ``step`` in two rows are put together first."""
    columns = [values for values in table.values() if isinstance(values, list)]
    if not isinstance(table[lr], list) or len({len(values) for values in columns}) != 1:
        return table, []
    lacking = [value in EMPTY for value in table[lr]]
    if not any(lacking) or all(lacking):
        return table, []
    steps = table.get("step")
    if isinstance(steps, list) and steps is not table[lr]:
        merged: dict[Any, dict] = {}
        for i, step in enumerate(steps):
            row = merged.setdefault(step if step not in EMPTY else f"row {i}", {})
            for name, values in table.items():
                row.setdefault(name, values[i])
                row[name] = values[i] if row[name] in EMPTY else row[name]
        table = _rows(path, list(merged.values()))
    whole = [a not in EMPTY and b not in EMPTY for a, b in zip(table[lr], table[loss], strict=True)]
    left_out = len(whole) - sum(whole)
    rows = f"{left_out} row{'s' * (left_out > 1)}"
    notes = [f"Left out: {rows} without a learning rate and a loss."] * bool(left_out)
    kept = {
        name: [value for value, is_whole in zip(values, whole, strict=True) if is_whole]
        for name, values in table.items()
    }
    return kept, notes


def _numbers(path: Path, table: Mapping, name: str) -> np.ndarray:
    if not isinstance(table[name], list):
        raise InputError("file", str(path), f"a list of numbers as {name}")
    values = np.empty(len(table[name]))
    for row, value in enumerate(table[name]):
        try:
            values[row] = math.nan if value in EMPTY else _number(value)
        except (TypeError, ValueError, OverflowError):
            shown = repr(value)[:40]
            raise _bad(path, f"numbers in the column {name}", shown, row) from None
    return values


def _number(value: Any) -> float:
    """Also of a tensor's text, which fastai's losses become in a CSV file: ``TensorBase(2.31)``;
    of several groups' rates the largest."""
    if isinstance(value, str):
        value = re.sub(r"^\w*tensor\w*\((.*?)(,.*)?\)$", r"\1", value.strip(), flags=re.IGNORECASE)
    return max(map(float, value)) if isinstance(value, list) and value else float(value)
