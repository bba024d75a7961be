"""What the reading of a range test owes to the instrument: smoothing, trim, stop, and the ramp.

An effect is the mean over paired seeds of log10(LR with the setting) - log10(LR by default).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from lrrt import plugins
from lrrt.analysis.loss_minimum import SHORTEST, before_explosion, spline
from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import paired_effect
from lrrt.analysis.stored_curves import stored_recording
from lrrt.analysis.suggestions import STEEPEST, runs_of
from lrrt.core import rules
from lrrt.core.protocol import Protocol
from lrrt.core.recording import recording
from lrrt.core.rules import blog_fastai
from lrrt.experiments.sensitivity.design import Design, Restart, Variant
from lrrt.runs.store import Store, load_result

#: Settings of a rule that act on a finished curve: name, value as text, the rule's keywords.
REPLAYED = (
    *(("beta", f"{beta:g}", {"beta": beta}) for beta in (0.0, 0.9, 0.95, 0.99)),
    ("trim", "none", {"skip_start": 0, "skip_end": 0}),
    ("trim", "first 20", {"skip_start": 20}),
    ("trim", "last 20", {"skip_end": 20}),
    *(("stop factor", f"{factor:g}", {"stop_factor": factor}) for factor in (2.0, 8.0)),
    ("stop factor", "none", {"stop_factor": np.inf}),
)
MEAN_BETA = 0.9  # what is left of the noise of a mean over runs needs less smoothing
LAST = 5  # steps whose mean is a restart's loss

SENSITIVITY_TYPES = {
    "protocol": "str",
    "backend": "str",
    "rule": "str",
    "setting": "str",
    "value": "str",
    "quantity": "str",
    "n": "int64",
    "abstained": "int64",
    "default": "float64",
    "effect": "float64",
    "low": "float64",
    "high": "float64",
}
RESTART_TYPES = {
    "protocol": "str",
    "backend": "str",
    "weights_seed": "int64",
    "order_seed": "int64",
    "lr": "float64",
    "steps": "int64",
    "run": "str",
    "first_loss": "float64",
    "loss": "float64",
    "ramp": "str",
    "ramp_loss": "float64",
}

SCHEMAS = {
    "instrument.parquet": SENSITIVITY_TYPES,
    "instrument_restarts.parquet": RESTART_TYPES,
}

Pair = tuple[float | None, float | None]  # min and max LR


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """``instrument.parquet``: one row per protocol, rule, setting, value and quantity, none without
    runs: replays on curves of the weights sweep, other ramps, and restarts, whose runs are in
    ``instrument_restarts.parquet``."""
    found = restart_table(design.restarts, store)
    parts = [variant_table(design.variants, store), restart_effects(found)]
    if len(design.curves):
        parts.insert(0, replay_table(design.curves, design.protocols))
    return {
        "instrument_restarts.parquet": found,
        "instrument.parquet": pd.concat(parts, ignore_index=True),
    }


def two_sided(loss: np.ndarray, beta: float = 0.98) -> np.ndarray:
    """Average with weights ``beta**(2 |i - j|)`` on both sides of step i, shape (steps,).

    A forward and a backward average, which do not lag, with the ends' bias corrected. The square
    takes as much of a white noise out of it as :func:`lrrt.core.smoothing.ema` with ``beta`` does,
    in the limit of ``beta`` near 1; it blurs as far to both sides as that does to one.
    """

    def both(values: np.ndarray) -> np.ndarray:
        forward, backward = (lfilter([1], [1, -(beta**2)], v) for v in (values, values[::-1]))
        return forward + backward[::-1] - values

    loss = np.asarray(loss, dtype=np.float64)
    return both(loss) / both(np.ones_like(loss))


def landmarks(lr: np.ndarray, smoothed: np.ndarray) -> Pair:
    """What the rule :data:`.STEEPEST` makes of a smoothed curve: the LR at its steepest descent,
    trimmed as there, and a tenth of that at its lowest point; None for too short a curve."""
    part = slice(blog_fastai.SKIP_START, len(lr) - blog_fastai.SKIP_END)
    if len(lr[part]) < 2:
        return None, None
    steepest = np.gradient(smoothed[part]).argmin()
    return float(lr[part][steepest]), float(lr[smoothed.argmin()] / 10)


SMOOTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "two-sided": two_sided,
    "spline": spline,
}


# --- effects


def _row(identity: tuple, default: Sequence[Pair], other: Sequence[Pair]) -> list:
    rows = []
    for i, quantity in enumerate(QUANTITIES):
        before, after = (
            np.log10([np.nan if pair[i] is None else pair[i] for pair in pairs])
            for pairs in (default, other)
        )
        found = paired_effect(before, after)
        counts, interval = (found.n, found.abstained), (found.low, found.high)
        rows.append((*identity, quantity, *counts, found.before, found.effect, *interval))
    return rows


def _table(rows: list) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(SENSITIVITY_TYPES)).astype(SENSITIVITY_TYPES)


def _pair(found: rules.Suggestion) -> Pair:
    return found.min_lr, found.max_lr


def replay_table(curves: pd.DataFrame, protocols: Mapping[str, Protocol]) -> pd.DataFrame:
    """Settings that act on a finished curve: of each protocol's own rule, and of the smoothing.

    Parameters
    ----------
    curves : DataFrame
        Range tests (:data:`.suggestions.CURVE_TYPES`), those of a backend and protocol on one grid.

    Returns
    -------
    DataFrame
        One row per backend, protocol, value and quantity, columns and types of
        :data:`SENSITIVITY_TYPES`: over the ``n`` runs with a suggestion on both sides the geometric
        mean of the LR by ``default``, the ``effect`` in decades, and its 95 % Student t interval
        over runs ``low``, ``high`` (NaN for fewer than two); ``abstained``: the other runs.

        ``beta``, ``trim`` and ``stop factor`` (:data:`REPLAYED`) are those of the own rule.
        ``smoothing``: the steepest descent and a tenth of the LR at the lowest loss, by the rule
        :data:`STEEPEST`, with its EMA and of the curve smoothed ``two-sided``, by a ``spline``, or
        averaged over all runs (``mean of runs``, and lightly smoothed). An effect is the EMA's lag
        turned round, as far as it does not come from where the curve ends: the EMA's at the rule's
        own stop, the others, which see the explosion early, before it. (All runs share that mean:
        its own error is not in the interval.)
    """
    cases: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for identity, curve in runs_of(curves):
        case = identity["protocol"], identity["backend"]
        cases.setdefault(case, []).append(recording(curve, protocols[case[0]]))
    rows = []
    for case, runs in cases.items():
        rule = protocols[case[0]].rule
        suggest = plugins.find("lrrt.core.rules", rule, "rule").suggest
        known = inspect.signature(suggest).parameters
        default = [_pair(suggest(*run)) for run in runs]
        for setting, value, changes in REPLAYED:
            if changes.keys() <= known.keys():
                other = [_pair(suggest(*run, **changes)) for run in runs]
                rows += _row((*case, rule, setting, value), default, other)
        lagging = [_pair(rules.replay(STEEPEST, *run)) for run in runs]
        for name, smooth in SMOOTHERS.items():
            cut = [before_explosion(*run) for run in runs]
            other = [
                landmarks(lr, smooth(loss)) if len(lr) >= SHORTEST else (None, None)
                for lr, loss in cut
            ]
            rows += _row((*case, STEEPEST, "smoothing", name), lagging, other)
        if len(runs) > 1:
            with np.errstate(invalid="ignore", over="ignore"):
                mean = np.mean([loss for _, loss in runs], axis=0)
            lr, loss = before_explosion(runs[0][0], mean)
            common = landmarks(lr, two_sided(loss, MEAN_BETA))
            rows += _row(
                (*case, STEEPEST, "smoothing", "mean of runs"), lagging, [common] * len(runs)
            )
    return _table(rows)


def variant_table(variants: Iterable[Variant], store: Store) -> pd.DataFrame:
    """The effect of settings of the ramp on every rule, from runs of their own.

    Returns
    -------
    DataFrame
        As of :func:`replay_table`; one row per variant other than the default, rule and quantity.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    rows, default = [], {}
    for variant in variants:
        curves = [stored_recording(spec, store) for spec in variant.specs]
        for rule in plugins.names("lrrt.core.rules"):
            found = [_pair(rules.replay(rule, *curve)) for curve in curves]
            if variant.setting == "default":
                default[variant.protocol, rule] = found
                continue
            identity = (variant.protocol, variant.specs[0].backend, rule, *variant[1:3])
            rows += _row(identity, default[variant.protocol, rule], found)
    return _table(rows)


def restart_table(restarts: Iterable[Restart], store: Store) -> pd.DataFrame:
    """What independent trainings at constant LRs come to, beside the ramp at the same LR.

    Returns
    -------
    DataFrame
        One row per restart, columns and types of :data:`RESTART_TYPES`: the data loss of its first
        step, ``loss``: the mean of its last :data:`LAST`; ``ramp_loss``: the :func:`spline` through
        the ramp's, at this LR. Infinite where a step's is not finite, and where the ramp has
        exploded (:func:`before_explosion`).

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    rows, smoothed = [], {}
    for protocol, lr, spec, ramp in restarts:
        if ramp.key not in smoothed:
            arrays = load_result(store, ramp).arrays
            lrs, losses = before_explosion(arrays["lr"], arrays["loss"])
            short = len(lrs) < SHORTEST
            smoothed[ramp.key] = (lrs[:0], losses[:0]) if short else (lrs, spline(losses))
        loss = load_result(store, spec).arrays["loss"]
        last = loss[-LAST:].mean() if np.isfinite(loss).all() else np.inf
        lrs, losses = smoothed[ramp.key]
        beside = np.inf
        if len(lrs) and lr <= lrs[-1]:
            beside = float(np.interp(np.log10(lr), np.log10(lrs), losses))
        rows.append(
            (
                protocol,
                spec.backend,
                spec.weights_seed,
                spec.order_seed,
                lr,
                spec.steps,
                spec.key[:12],
                loss[0],
                last,
                ramp.key[:12],
                beside,
            )
        )
    return pd.DataFrame(rows, columns=list(RESTART_TYPES)).astype(RESTART_TYPES)


def restart_effects(restarts: pd.DataFrame) -> pd.DataFrame:
    """Where the loss of restarts turns, relative to where the ramp's does, on the same LRs.

    Returns
    -------
    DataFrame
        As of :func:`replay_table`, the setting ``restarts``, of max LR alone: the LR at the
        ``lowest`` loss, and the ``largest`` LR at which the loss is below that of the first step
        (at most the largest that was tried).
    """
    rows = []
    for (protocol, backend, steps), group in restarts.groupby(
        ["protocol", "backend", "steps"], sort=False
    ):
        found: dict[tuple[str, str], list[Pair]] = {}
        for _, run in group.groupby(["weights_seed", "order_seed"]):
            for column in ("ramp_loss", "loss"):
                falls = run.loc[run[column] < run["first_loss"], "lr"]
                lowest = run.loc[run[column].idxmin(), "lr"] if len(falls) else None
                largest = falls.max() if len(falls) else None
                found.setdefault(("lowest", column), []).append((None, lowest))
                found.setdefault(("largest", column), []).append((None, largest))
        for name in ("lowest", "largest"):
            identity = (protocol, backend, "", "restarts", f"{steps} steps, {name}")
            pairs = found[name, "ramp_loss"], found[name, "loss"]
            rows += _row(identity, *pairs)[1:]
    return _table(rows)
