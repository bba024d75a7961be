"""From stored results to tables."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lrrt.core.curve import COLUMNS
from lrrt.runs.plan import Training
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store, kept, write_whole

TEXT = ("run", "backend", "protocol", "sweep")
WHOLE = ("weights_seed", "order_seed", "batch_size", "step")
MEASURED = ("lr", "loss", "penalty", "grad_norm", "val_loss", "val_accuracy")


def curves_file(case: tuple[str, str, str]) -> str:
    """Where in a study's folder the curves of a backend, protocol and sweep lie."""
    return f"curves/{'-'.join(case)}.parquet"


def empty_table(types: Mapping[str, str]) -> pd.DataFrame:
    """No rows of a table with these columns and types."""
    return pd.DataFrame(columns=list(types)).astype(types)


def _column(name: str, values: list) -> np.ndarray:
    return np.array(values, dtype=object if name in TEXT else np.int64)


def curve_table(specs: list[RunSpec], names: Mapping[str, str], store: Store) -> pd.DataFrame:
    """All range tests ``specs``, one row per step, with :data:`lrrt.core.curve.COLUMNS`.

    Parameters
    ----------
    names : mapping
        The names that go into the columns ``protocol`` and ``sweep``.

    Returns
    -------
    DataFrame
        In the order of ``specs``; validation columns are NaN where a run has none. Types do not
        depend on the rows. ``attrs`` holds ``data_digests``, ``versions`` (distinct, of packages)
        and ``places`` (distinct: device and precision), which Parquet keeps.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    arrays, versions = {name: [] for name in MEASURED}, []
    for spec in specs:
        result = kept(store, spec)
        for name, parts in arrays.items():
            parts.append(result.arrays.get(name, np.full(spec.steps, np.nan)))
        if result.record["versions"] not in versions:
            versions.append(result.record["versions"])
    steps = [spec.steps for spec in specs]
    labels = {
        "run": [spec.key[:12] for spec in specs],
        "backend": [spec.backend for spec in specs],
        "protocol": [names["protocol"]] * len(specs),
        "sweep": [names["sweep"]] * len(specs),
        "weights_seed": [spec.weights_seed for spec in specs],
        "order_seed": [spec.order_seed for spec in specs],
        "batch_size": [spec.batch_size for spec in specs],
    }
    # Whole columns: a table for each run would take minutes for ten thousand of them.
    columns = {name: np.repeat(_column(name, values), steps) for name, values in labels.items()}
    columns["step"] = np.concatenate([np.arange(count) for count in steps] or [[]])
    for name, parts in arrays.items():
        columns[name] = np.concatenate(parts or [[]])
    table = pd.DataFrame({name: columns[name] for name in COLUMNS})
    types = {**dict.fromkeys(TEXT, "str"), **dict.fromkeys(WHOLE, "int64")}
    table = table.astype({**types, **dict.fromkeys(MEASURED, "float64")})
    table.attrs = {
        "data_digests": sorted({spec.data_digest for spec in specs}),
        "versions": versions,
        "places": _places(specs),
    }
    return table


def _places(specs: Iterable[RunSpec]) -> list[str]:
    """Where, and in what precision: ``cpu, float32``."""
    return sorted({f"{spec.device}, {spec.precision}" for spec in specs})


TRAINING_TYPES = {
    "training": "str",
    "pair": "str",
    "backend": "str",
    "protocol": "str",
    "weights_seed": "int64",
    "order_seed": "int64",
    "batch_size": "int64",
    "weights": "str",
    "lr_of": "str",
    "lr_kind": "str",
    "weights_from": "str",
    "policy": "str",
    "lr": "float64",
    "run": "str",
    "epoch": "int64",
    "step_lr": "float64",
    "train_loss": "float64",
    "train_eval_loss": "float64",
    "train_accuracy": "float64",
    "val_loss": "float64",
    "val_accuracy": "float64",
    "initial_loss": "float64",
    "peak_loss": "float64",
    "stopped_at_step": "Int64",
}


def training_table(trainings: list[Training], store: Store) -> pd.DataFrame:
    """All ``trainings``, one row per epoch, columns and types of :data:`TRAINING_TYPES`.

    ``training`` names a training within a study and says what it is for; ``run`` is the result it
    comes from, which two trainings share where their LRs are equal. ``lr`` is the (largest) LR,
    ``step_lr`` that of the epoch's last step, ``weights_from`` empty where the weights were not
    passed through another backend. The losses and accuracies are those of
    :func:`lrrt.runs.execute.execute`: NaN from the epoch of a non-finite loss on, whose step is
    ``stopped_at_step``. ``attrs`` as of :func:`curve_table`.

    Raises
    ------
    InputError
        For a training that the store lacks.
    """
    parts, versions = [], []
    for pair, protocol, weights, lr_of, lr_kind, spec in trainings:
        result = kept(store, spec, "training")
        cell = "reference LR" if lr_of == "reference" else f"{lr_of}'s {lr_kind} LR"
        name = f"{pair}: weights {weights} at {cell}"
        name += f", from {spec.weights_from}" if spec.weights_from else ""
        name += f", {spec.policy}" if spec.policy != "constant" else ""
        arrays = dict(result.arrays)
        arrays["step_lr"] = arrays.pop("lr")
        labels = {
            "training": name,
            "pair": pair,
            "backend": spec.backend,
            "protocol": protocol,
            "weights_seed": spec.weights_seed,
            "order_seed": spec.order_seed,
            "batch_size": spec.batch_size,
            "weights": weights,
            "lr_of": lr_of,
            "lr_kind": lr_kind,
            "weights_from": spec.weights_from or "",
            "policy": spec.policy,
            "lr": spec.lr,
            "run": spec.key[:12],
        }
        record = {
            key: result.record[key] for key in ("initial_loss", "peak_loss", "stopped_at_step")
        }
        part = pd.DataFrame(arrays).assign(**labels, **record)[list(TRAINING_TYPES)]
        parts.append(part.astype(TRAINING_TYPES))
        if result.record["versions"] not in versions:
            versions.append(result.record["versions"])
    table = pd.concat(parts, ignore_index=True) if parts else empty_table(TRAINING_TYPES)
    table.attrs = {
        "data_digests": sorted({training.spec.data_digest for training in trainings}),
        "versions": versions,
        "places": _places(training.spec for training in trainings),
    }
    return table


def kept_seconds(runs: Iterable[str], store: Store) -> dict[str, float]:
    """Wall-clock seconds by run (as curves name it) of those that the store still has.

    They are kept out of the tables, which have the same bits however often they are made.
    """
    seconds = {}
    for run in sorted(set(runs)):
        for file in sorted((store.path / run[:2]).glob(f"{run}*.safetensors")):
            result = store.get(file.stem)
            if result is not None and "seconds" in result.record:
                seconds[run] = float(result.record["seconds"])
    return seconds


def table_checksum(table: pd.DataFrame) -> str:
    """SHA-256 (hex) of the names, kinds and values of the columns of ``table``.

    Equal before and after a way through Parquet, which makes one missing value of another and
    checks nothing: a flipped bit would become another number.
    """
    digest = hashlib.sha256(str(len(table)).encode())
    for name in table:
        column, absent = table[name], table[name].isna()
        kind = "str"
        if pd.api.types.is_numeric_dtype(column):
            kind = "float64" if pd.api.types.is_float_dtype(column) else "int64"
        digest.update(f"{name}:{kind}:".encode())
        digest.update(absent.to_numpy().tobytes())
        values = column.where(~absent, "" if kind == "str" else 0).astype(kind)
        content = "\0".join(values).encode() if kind == "str" else values.to_numpy().tobytes()
        digest.update(content)
    return digest.hexdigest()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as Parquet with its checksum, whole or not at all."""
    table = table.copy(deep=False)
    table.attrs = table.attrs | {"sha256": table_checksum(table)}
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
