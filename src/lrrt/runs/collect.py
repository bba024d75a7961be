"""From stored results to tables."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from lrrt.core.curve import COLUMNS
from lrrt.errors import InputError
from lrrt.runs.plan import Training
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store, write_whole

TEXT = ("run", "backend", "protocol", "sweep")
WHOLE = ("weights_seed", "order_seed", "batch_size", "step")


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
        depend on the rows. ``attrs`` holds ``data_digests`` and ``versions`` (distinct, of
        packages), which Parquet keeps.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    parts, versions = [], []
    for spec in specs:
        result = store.get(spec.key)
        if result is None:
            raise InputError("run", spec.key[:12], f"a run kept in {store.path}")
        part = pd.DataFrame(result.arrays).assign(
            run=spec.key[:12],
            backend=spec.backend,
            protocol=names["protocol"],
            sweep=names["sweep"],
            weights_seed=spec.weights_seed,
            order_seed=spec.order_seed,
            batch_size=spec.batch_size,
            step=range(spec.steps),
        )
        parts.append(part.reindex(columns=COLUMNS))
        if result.record["versions"] not in versions:
            versions.append(result.record["versions"])
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    types = {
        name: "str" if name in TEXT else "int64" if name in WHOLE else "float64" for name in COLUMNS
    }
    table = table.astype(types)
    table.attrs = {
        "data_digests": sorted({spec.data_digest for spec in specs}),
        "versions": versions,
    }
    return table


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
        result = store.get(spec.key)
        if result is None:
            raise InputError("training", spec.key[:12], f"a run kept in {store.path}")
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
    empty = pd.DataFrame(columns=list(TRAINING_TYPES)).astype(TRAINING_TYPES)
    table = pd.concat(parts, ignore_index=True) if parts else empty
    table.attrs = {
        "data_digests": sorted({training.spec.data_digest for training in trainings}),
        "versions": versions,
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


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as Parquet, whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
