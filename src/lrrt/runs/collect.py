"""From stored results to tables."""

import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lrrt.core.curve import COLUMNS
from lrrt.errors import InputError
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
    types = {name: "str" if name in TEXT else "int64" if name in WHOLE else "float64"
             for name in COLUMNS}
    table = table.astype(types)
    table.attrs = {
        "data_digests": sorted({spec.data_digest for spec in specs}),
        "versions": versions,
    }
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as Parquet, whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
