"""From curves to suggestions: every rule replayed on every run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from lrrt import plugins
from lrrt.core.curve import Curve
from lrrt.core.protocol import Protocol
from lrrt.core.recording import recording
from lrrt.errors import InputError
from lrrt.runs.result_tables import table_checksum

# One run can be in several sweeps, and under several protocols that differ in the reading only.
RUN_KEYS = ("backend", "protocol", "sweep", "run")
IDENTITY_TYPES = {
    "run": "str",
    "backend": "str",
    "protocol": "str",
    "sweep": "str",
    "weights_seed": "int64",
    "order_seed": "int64",
    "batch_size": "int64",
}
#: The rule whose min LR is the steepest descent, and whose max LR the lowest loss, of the whole
#: smoothed curve.
STEEPEST = "blog_fastai"
MEASURED = tuple(field.name for field in fields(Curve))
#: Columns of the table of curves, one row per step.
CURVE_TYPES = (
    IDENTITY_TYPES
    | {"step": "int64"}
    | dict.fromkeys(MEASURED, "float64")
    | {"device": "str", "precision": "str"}
)
SUGGESTION_TYPES = IDENTITY_TYPES | {
    "rule": "str",
    "min_lr": "float64",
    "max_lr": "float64",
    "fallback": "bool",
    "reason": "str",
    "stop_step": "Int64",
}


def read_table(path: Path, columns: Sequence[str], command: str) -> pd.DataFrame:
    """The ``columns`` of a Parquet file that ``command`` writes.

    Raises
    ------
    InputError
        If the file is missing, is no Parquet file, was altered, or lacks one of the columns.
    """
    try:
        table = pd.read_parquet(path)
        checksum = table.attrs.pop("sha256", None)
        if checksum is not None and checksum != table_checksum(table):
            raise ValueError("its checksum does not match its content")
    except FileNotFoundError:
        raise InputError("table", str(path), f"a file; `{command}` writes it") from None
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        reason = (str(error).splitlines() or ["cut"])[0]
        raise InputError(
            "table", str(path), f"a Parquet file ({reason}); `{command}` writes it again"
        ) from None
    absent = [name for name in columns if name not in table]
    if absent:
        raise InputError("table", str(path), f"a table with the columns {', '.join(absent)}")
    return table[list(columns)]


def curves_file(case: tuple[str, str, str]) -> str:
    """Where in a study's folder the curves of a backend, protocol and sweep lie."""
    return f"curves/{'-'.join(case)}.parquet"


def runs_of(curves: pd.DataFrame) -> Iterator[tuple[dict, Curve]]:
    """Each run of a curve table, once per sweep and protocol it is in: its identity and curve.

    The identity has the columns :data:`IDENTITY_TYPES`; the order is that of first appearance. The
    validation of a curve is None where all of its values are null. (Slices of arrays, since a
    DataFrame per run would cost more than all the rules.)
    """
    if not len(curves):
        return
    codes = curves.groupby(list(RUN_KEYS), sort=False, observed=True).ngroup().to_numpy()
    order = np.lexsort((curves["step"].to_numpy(), codes))
    bounds = np.flatnonzero(np.diff(codes[order], prepend=-1, append=-1))
    arrays = {name: curves[name].to_numpy(np.float64)[order] for name in MEASURED}
    identities = curves[list(IDENTITY_TYPES)].iloc[order[bounds[:-1]]].to_dict("records")
    for identity, start, end in zip(identities, bounds[:-1], bounds[1:], strict=True):
        run = {name: values[start:end] for name, values in arrays.items()}
        for name in ("val_loss", "val_accuracy"):
            if np.isnan(run[name]).all():
                run[name] = None
        yield identity, Curve(**run)


def suggestion_table(curves: pd.DataFrame, protocols: Mapping[str, Protocol]) -> pd.DataFrame:
    """Every rule of :mod:`lrrt.core.rules` on every run, and every one of
    :mod:`lrrt.core.accuracy_rules` on those that were validated at each step.

    Parameters
    ----------
    curves : DataFrame
        One row per step, columns :data:`CURVE_TYPES`.
    protocols : mapping
        By name; a protocol says what its finder would have recorded of a curve.

    Returns
    -------
    DataFrame
        One row per run and rule, columns and types of :data:`SUGGESTION_TYPES`. Where a rule
        abstains, ``min_lr`` and ``max_lr`` are NaN and ``reason`` says why; ``stop_step`` is null
        where its stop rule would not have ended the test.

    Raises
    ------
    InputError
        If a curve's protocol is not among ``protocols``.
    """
    # Found once: to look a module up for each curve would take longer than the rule itself.
    of_loss, of_accuracy = (
        {name: plugins.find(package, name, "rule").suggest for name in plugins.names(package)}
        for package in ("lrrt.core.rules", "lrrt.core.accuracy_rules")
    )
    rows = []
    for identity, curve in runs_of(curves):
        if identity["protocol"] not in protocols:
            raise InputError(
                "protocol", identity["protocol"], f"one of: {', '.join(sorted(protocols))}"
            )
        lr, loss = recording(curve, protocols[identity["protocol"]])
        found_by = {rule: suggest(lr, loss) for rule, suggest in of_loss.items()}
        if curve.val_accuracy is not None:  # after the update, so beside the LR trained at
            for rule, suggest in of_accuracy.items():
                found_by[rule] = suggest(curve.lr, curve.val_accuracy)
        for rule, found in found_by.items():
            rows.append(
                (
                    *(identity[name] for name in IDENTITY_TYPES),
                    rule,
                    found.min_lr,
                    found.max_lr,
                    found.fallback,
                    found.reason,
                    found.stop_step,
                )
            )
    return pd.DataFrame(rows, columns=list(SUGGESTION_TYPES)).astype(SUGGESTION_TYPES)


def by_own_rule(suggestions: pd.DataFrame, protocols: Mapping[str, Protocol]) -> pd.DataFrame:
    """The suggestions that each protocol's own rule makes, of all rules' in the table."""
    own = suggestions["protocol"].map({name: p.rule for name, p in protocols.items()})
    return suggestions[suggestions["rule"] == own]
