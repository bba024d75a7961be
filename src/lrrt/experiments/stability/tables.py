"""Why the loss turns where it does: curvature and step size along a ramp."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lrrt.analysis.loss_minimum import lr_at_minimum
from lrrt.experiments.stability.design import Design, Probe
from lrrt.runs.result_tables import empty_table
from lrrt.runs.store import Store, load_result

RUN = ["protocol", "clipped", "weights_seed", "order_seed", "run"]
MECHANISM_TYPES = {
    "protocol": "str",
    "clipped": "bool",
    "weights_seed": "int64",
    "order_seed": "int64",
    "run": "str",
    "step": "int64",
    "lr": "float64",
    "effective_lr": "float64",
    "loss": "float64",
    "grad_norm": "float64",
    "update_ratio": "float64",
    "eigenvalue": "float64",
    "products": "float64",
    "bound": "float64",
    "momentum_bound": "float64",
}


SCHEMAS = {"mechanism.parquet": MECHANISM_TYPES}


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """``mechanism.parquet``, one row per run and step (:func:`mechanism`); none without runs."""
    return {"mechanism.parquet": mechanism(design.probes, store)}


def mechanism(probes: Iterable[Probe], store: Store) -> pd.DataFrame:
    """Every step of the ramps whose curvature was measured.

    Returns
    -------
    DataFrame
        One row per run and step, columns and types of :data:`MECHANISM_TYPES`. ``loss`` (data
        alone) and ``grad_norm`` (before clipping) are of every step; ``effective_lr`` is the LR
        times what clipping leaves of the gradient. NaN but at measured steps: ``eigenvalue``, the
        largest of the Hessian of what the step descends, on its batch (nats per squared unit of
        weight); ``products``, what it took; ``update_ratio``, norm of the update over norm of the
        trained weights. The largest LR at which a quadratic of this curvature is stable is
        ``bound`` = 2 / eigenvalue without momentum and ``momentum_bound`` = 2 (1 + momentum) /
        eigenvalue with (heavy ball; Polyak, 1964), NaN where the eigenvalue is not positive.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    parts = []
    for protocol, clipped, spec in probes:
        result = load_result(store, spec)
        names = ("lr", "loss", "grad_norm", "update_ratio", "eigenvalue", "products")
        found = {name: result.arrays[name] for name in names}
        scale = np.ones(spec.steps)
        if spec.protocol.gradient_clip is not None:
            clip = spec.protocol.gradient_clip
            scale = clip / np.maximum(found["grad_norm"], clip)
        positive = np.where(found["eigenvalue"] > 0, found["eigenvalue"], np.nan)
        labels = (protocol, clipped, spec.weights_seed, spec.order_seed, spec.key[:12])
        part = pd.DataFrame(
            dict(zip(RUN, labels, strict=True))
            | {"step": np.arange(spec.steps), "effective_lr": found["lr"] * scale}
            | {"bound": 2 / positive, "momentum_bound": 2 * (1 + spec.protocol.momentum) / positive}
            | found
        )
        parts.append(part[list(MECHANISM_TYPES)].astype(MECHANISM_TYPES))
    return pd.concat(parts, ignore_index=True) if parts else empty_table(MECHANISM_TYPES)


def crossing(run: pd.DataFrame) -> float:
    """The LR at which the effective LR of one run first exceeds the bound with momentum.

    Between measured steps it is where the logarithm of their ratio, interpolated over that of the
    LR, is 0; NaN where no measured step exceeds the bound.
    """
    known = run[run["momentum_bound"].notna()]
    x = np.log10(known["lr"].to_numpy())
    excess = np.log10((known["effective_lr"] / known["momentum_bound"]).to_numpy())
    above = np.flatnonzero(excess > 0)
    if not len(above):
        return np.nan
    i = above[0]
    if i == 0:
        return float(known["lr"].iloc[0])
    return float(10 ** np.interp(0, excess[i - 1 : i + 1], x[i - 1 : i + 1]))


def turns(table: pd.DataFrame) -> pd.DataFrame:
    """Where the loss turns, and where the steps outgrow the bound.

    Returns
    -------
    DataFrame
        One row per run of :func:`mechanism`: ``turn``, the LR at its lowest loss
        (:func:`lrrt.analysis.loss_minimum.lr_at_minimum`); ``crossing``, the LR at which the
        effective LR first exceeds the bound with momentum (:func:`crossing`); ``clipped_share`` of
        the gradient that clipping took off in the first step; the ``eigenvalue`` first measured and
        that ``at_turn``, at the measured step whose LR is nearest.
    """
    rows = []
    for case, run in table.groupby(RUN, sort=False):
        run = run.sort_values("step")
        measured = run[run["eigenvalue"].notna()]
        first, start, at_turn = run.iloc[0], np.nan, np.nan
        turned = lr_at_minimum(run["lr"].to_numpy(), run["loss"].to_numpy())
        if len(measured):
            start = measured["eigenvalue"].iloc[0]
            distance = np.abs(np.log(measured["lr"].to_numpy() / turned))
            at_turn = np.nan if np.isnan(turned) else measured["eigenvalue"].iloc[distance.argmin()]
        clipped_share = 1 - first["effective_lr"] / first["lr"]
        rows.append((*case, turned, crossing(run), clipped_share, start, at_turn))
    columns = [*RUN, "turn", "crossing", "clipped_share", "eigenvalue", "at_turn"]
    return pd.DataFrame(rows, columns=columns)
