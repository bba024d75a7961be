"""The curves of every sweep."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lrrt.analysis.suggestions import CURVE_TYPES, MEASURED, curves_file
from lrrt.experiments.sweep.design import Design
from lrrt.runs.result_tables import provenance
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store, load_result

#: Of every sweep's file (:func:`lrrt.analysis.suggestions.curves_file`).
SCHEMAS = {"curves": CURVE_TYPES}


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """``curves/<backend>-<protocol>-<sweep>.parquet`` of every case (:func:`curve_table`)."""
    return {
        curves_file(case): curve_table(
            specs, dict(zip(("protocol", "sweep"), case[1:], strict=True)), store
        )
        for case, specs in design.runs.items()
    }


def curve_table(specs: list[RunSpec], names: Mapping[str, str], store: Store) -> pd.DataFrame:
    """All range tests ``specs``, one row per step, with
    :data:`lrrt.analysis.suggestions.CURVE_TYPES`.

    Parameters
    ----------
    names : mapping
        The names that go into the columns ``protocol`` and ``sweep``.

    Returns
    -------
    DataFrame
        In the order of ``specs``; validation columns are NaN where a run has none. Types do not
        depend on the rows. ``attrs``: :func:`lrrt.runs.result_tables.provenance`.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    results = [load_result(store, spec) for spec in specs]
    arrays = {
        name: [
            result.arrays.get(name, np.full(spec.steps, np.nan))
            for spec, result in zip(specs, results, strict=True)
        ]
        for name in MEASURED
    }
    steps = [spec.steps for spec in specs]
    labels = {
        "run": [spec.key[:12] for spec in specs],
        "backend": [spec.backend for spec in specs],
        "protocol": [names["protocol"]] * len(specs),
        "sweep": [names["sweep"]] * len(specs),
        "weights_seed": [spec.weights_seed for spec in specs],
        "order_seed": [spec.order_seed for spec in specs],
        "batch_size": [spec.batch_size for spec in specs],
        "device": [spec.device for spec in specs],
        "precision": [spec.precision for spec in specs],
    }
    # Whole columns: a table for each run would take minutes for ten thousand of them.
    columns = {
        name: np.repeat(np.array(values, dtype=CURVE_TYPES[name].replace("str", "object")), steps)
        for name, values in labels.items()
    }
    columns["step"] = np.concatenate([np.arange(count) for count in steps] or [[]])
    for name, parts in arrays.items():
        columns[name] = np.concatenate(parts or [[]])
    table = pd.DataFrame({name: columns[name] for name in CURVE_TYPES})
    table = table.astype(CURVE_TYPES)
    table.attrs = provenance(specs, results)
    return table
