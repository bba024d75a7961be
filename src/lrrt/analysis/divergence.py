"""Does one run's suggestion hold for another? Pairs of runs, and outcomes of trainings."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from lrrt.analysis.ranges import with_range
from lrrt.analysis.tables import by_own_rule
from lrrt.config import Config
from lrrt.runs.collect import TRAINING_TYPES
from lrrt.runs.plan import Training, training_specs

#: What tells one training of a study from another; the outcome table begins with it.
CELL = (
    "training",
    "pair",
    "backend",
    "protocol",
    "weights_seed",
    "order_seed",
    "batch_size",
    "weights",
    "lr_of",
    "lr_kind",
    "weights_from",
    "policy",
    "lr",
    "run",
)
# Times the initial loss: beyond what one batch differs from another. At harmless LRs the largest
# loss of a step was up to 1.1 times the first (batch size 64).
BLOW_UP = 1.5
OVERFIT_MARGIN = 0.10  # of the lowest validation loss
STALL_SHARE = 0.10  # of the loss of a uniform guess
#: What became of a training: the first that applies, in words. The training loss of an epoch is the
#: mean over its steps.
OUTCOMES = {
    "diverged": (
        "The loss of a step, or the loss evaluated after the last epoch, was not finite; or the "
        "last epoch's training loss is not below that of the first step; or a step's loss exceeded "
        f"{BLOW_UP:g} times that of the first and the last epoch's training loss is not below that "
        "of a uniform guess: what is left does not know more than that."
    ),
    "lags": (
        f"The last epoch's training loss is not above {1 - STALL_SHARE:.0%} of that of a uniform "
        "guess, but evaluated with batch norm's running statistics the loss on training images is "
        "not below it."
    ),
    "overfits": (
        f"The last epoch's validation loss is at least {OVERFIT_MARGIN:.0%} above its lowest, "
        "while the loss on training images, evaluated in the same way (same statistics, no "
        "augmentation), is lower than it was then: fitting on no longer helps."
    ),
    "stalls": (
        f"The last epoch's training loss is above {1 - STALL_SHARE:.0%} of that of a uniform guess."
    ),
    "trains": "Anything else.",
}
HARMED = ("diverged", "overfits")
#: In words, of trainings that lag. (By hand, ResNet-20 by the Keras protocol at LR 3.16, after 390
#: steps: the loss of 2,000 training images was 4.04 by the running statistics, 2.22 by those of
#: batches of 512, and in training 2.24 over the last 65 steps.)
LAGGING = (
    "To lag looks like overfitting in curves of training and validation loss, and is not: training "
    "images do as badly by batch norm's running statistics, which lag behind weights that move too "
    "fast, and in a training too short for them."
)
MEASURED = ("train_loss", "train_eval_loss", "train_accuracy", "val_loss", "val_accuracy")
OUTCOME_TYPES = {name: TRAINING_TYPES[name] for name in CELL} | {
    "epochs": "int64",
    "outcome": "str",
    "reason": "str",
    "stopped_at_step": "Int64",
    "initial_loss": "float64",
    "peak_loss": "float64",
    **{f"final_{name}": "float64" for name in MEASURED},
    "best_val_loss": "float64",
    "best_epoch": "Int64",
    "best_val_accuracy": "float64",
    "compared_epochs": "int64",
    "compared_outcome": "str",
    "compared_val_accuracy": "float64",
}


def gap_decades(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Distance in decades between two LR ranges; negative: the length of their overlap."""
    (low, high), (other_low, other_high) = first, second
    return math.log10(max(low, other_low)) - math.log10(min(high, other_high))


def choose_pairs(suggestions: pd.DataFrame, count: int = 1) -> dict[str, Any]:
    """The runs A and B whose suggested ranges lie furthest apart, ``count`` times.

    Of all pairs of runs, the one with the largest gap in log10 between their ranges [min LR, max
    LR] (:func:`gap_decades`): where no two ranges are disjoint, that is the least overlap. A is
    the run with the higher range (its max LR, then its min LR, decides). Each further pair is the
    one furthest apart among the runs not used yet: no run is in two pairs, so that what the pairs
    do are independent trials. Ties go to the smaller seeds.

    Parameters
    ----------
    suggestions : DataFrame
        One rule's, on the runs of one sweep of one backend and protocol. Runs without a range
        (:func:`lrrt.analysis.ranges.with_range`) take no part.

    Returns
    -------
    dict
        ``A``, ``B`` (each run, weights_seed, order_seed, batch_size, min_lr, max_lr),
        ``gap_decades`` (negative: an overlap) and ``disjoint`` of the first pair; ``further``, a
        list of the same four of each further pair; ``n`` (runs with a range), ``abstained``
        (runs without one), ``pairs`` (of runs, n (n - 1) / 2) and ``disjoint_pairs`` among them.
        Without two ranges ``A``, ``B`` and ``gap_decades`` are None.
    """
    seeds = ["weights_seed", "order_seed", "batch_size", "run"]
    kept = with_range(suggestions).sort_values(seeds, kind="stable")
    runs = [
        {
            "run": str(row.run),
            "weights_seed": int(row.weights_seed),
            "order_seed": int(row.order_seed),
            "batch_size": int(row.batch_size),
            "min_lr": float(row.min_lr),
            "max_lr": float(row.max_lr),
        }
        for row in kept.itertuples()
    ]
    bounds = [(run["min_lr"], run["max_lr"]) for run in runs]
    gaps = {
        (i, j): gap_decades(bounds[i], bounds[j])
        for i, j in itertools.combinations(range(len(runs)), 2)
    }
    chosen: list[dict[str, Any]] = []
    used: set[int] = set()
    for (i, j), gap in sorted(gaps.items(), key=lambda item: -item[1]):
        if len(chosen) == count:
            break
        if used & {i, j}:
            continue
        used |= {i, j}
        higher = max(i, j, key=lambda k: (bounds[k][1], bounds[k][0], -k))
        lower = i + j - higher
        chosen.append(
            {"A": runs[higher], "B": runs[lower], "gap_decades": gap, "disjoint": gap > 0}
        )
    first = chosen[0] if chosen else dict.fromkeys(("A", "B", "gap_decades")) | {"disjoint": False}
    return first | {
        "further": chosen[1:],
        "n": len(runs),
        "abstained": len(suggestions) - len(runs),
        "disjoint_pairs": sum(gap > 0 for gap in gaps.values()),
        "pairs": len(gaps),
    }


def pairs_of(name: str, case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All pairs of a case of pairs.json by their names: ``name``, then ``name-2``, ``name-3``..."""
    if case["A"] is None:
        return {}
    first = {key: case[key] for key in ("A", "B", "gap_decades", "disjoint")}
    numbered = enumerate(case.get("further", ()), start=2)
    return {name: first} | {f"{name}-{number}": pair for number, pair in numbered}


def planned(
    config: Config, dataset_digest: str, suggestions: pd.DataFrame
) -> tuple[dict[str, Any], list[Training]]:
    """The pairs of ``divergence.cases`` and their trainings.

    Parameters
    ----------
    suggestions : DataFrame
        Of all sweeps and rules; A and B come from the weights sweep, by the protocol's own rule.

    Returns
    -------
    (pairs, trainings)
        What :func:`choose_pairs` finds, by case; and one pair after the other, each case's first,
        then each one's second, what :func:`lrrt.runs.plan.training_specs` makes of it, under its
        name of :func:`pairs_of`.
    """
    own = by_own_rule(suggestions, config.protocols)
    own = own[own["sweep"] == "weights"]
    chosen, found = {}, []
    for asked in config.divergence.cases:
        backend, protocol = asked.names
        rows = own[(own["backend"] == backend) & (own["protocol"] == protocol)]
        chosen[asked.case] = choose_pairs(rows, asked.pairs)
        for number, pair in enumerate(pairs_of(asked.case, chosen[asked.case]).items()):
            trained = {"swap": number < asked.swaps, "grid": number < asked.grids}
            identity = (dataset_digest, backend, protocol)
            found.append((number, training_specs(config, *identity, *pair, **trained)))
    found.sort(key=lambda pair: pair[0])  # which keeps the order of the cases
    return chosen, [training for _, trainings in found for training in trainings]


def outcome(epochs: pd.DataFrame, classes: int) -> tuple[str, str]:
    """What became of one training (:data:`OUTCOMES`), and why, with the numbers that decide.

    Parameters
    ----------
    epochs : DataFrame
        The rows of one training of a training table, or its first ones.
    classes : int
        Number of classes; a uniform guess has the loss ln ``classes``.

    Returns
    -------
    (outcome, reason)
    """
    epochs = epochs.sort_values("epoch")
    last = epochs.iloc[-1]
    initial, peak = last["initial_loss"], last["peak_loss"]
    final, chance = last["train_loss"], math.log(classes)
    if not np.isfinite(final):
        return "diverged", f"the loss was not finite at step {int(last['stopped_at_step']) + 1}"
    if not np.isfinite([last["val_loss"], last["train_eval_loss"]]).all():
        return "diverged", "evaluated after the last step, the loss is not finite"
    ended = f"training loss of the last epoch {final:.3g}"
    if not final < initial:
        return "diverged", f"{ended}, not below the initial {initial:.3g}"
    if peak > BLOW_UP * initial and not final < chance:
        return "diverged", (
            f"a step's loss reached {peak:.3g}, {peak / initial:.3g} times the initial "
            f"{initial:.3g}, and the {ended} is not below a guess, {chance:.3g}"
        )
    learnt = f"{ended}, {final / chance:.0%} of a guess's {chance:.3g}"
    stalls = final > (1 - STALL_SHARE) * chance
    if not stalls and last["train_eval_loss"] >= chance:
        evaluated = f"evaluated with running statistics it is {last['train_eval_loss']:.3g}"
        return "lags", f"{learnt}; {evaluated} on training images"
    validation = epochs["val_loss"].fillna(np.inf).to_numpy()
    fitted = epochs["train_eval_loss"].to_numpy()
    best = int(np.argmin(validation))
    if validation[-1] >= (1 + OVERFIT_MARGIN) * validation[best] and fitted[-1] < fitted[best]:
        return "overfits", (
            f"validation loss rose from {validation[best]:.3g} after epoch {best + 1} to "
            f"{validation[-1]:.3g} after epoch {len(epochs)}, while that of training images fell "
            f"from {fitted[best]:.3g} to {fitted[-1]:.3g}"
        )
    return ("stalls" if stalls else "trains"), learnt


def outcome_table(trainings: pd.DataFrame, classes: int) -> pd.DataFrame:
    """The outcome of each training of a training table, in the order of the table.

    Returns
    -------
    DataFrame
        One row per training, columns and types of :data:`OUTCOME_TYPES`: :data:`CELL`, ``epochs``,
        ``outcome`` (one of :data:`OUTCOMES`) and ``reason`` (:func:`outcome`), ``stopped_at_step``
        (from 0; null: it did not stop), ``initial_loss`` and ``peak_loss`` (of steps), the last
        epoch's ``final_train_loss``, ``final_train_eval_loss``, ``final_train_accuracy``,
        ``final_val_loss`` and ``final_val_accuracy`` (NaN where it stopped), and of all finished
        epochs the lowest ``best_val_loss``, the epoch it is of, ``best_epoch``, and the highest
        ``best_val_accuracy``. For comparisons, since more epochs give more chances to go wrong:
        ``compared_epochs``, those that every training has, ``compared_outcome`` after them (but
        for the peak loss, which is of all steps), and ``compared_val_accuracy``, the highest in
        them.
    """
    common = trainings.groupby("training")["epoch"].max().min()
    rows = []
    for _, epochs in trainings.groupby("training", sort=False):
        epochs = epochs.sort_values("epoch")
        last, first = epochs.iloc[-1], epochs[epochs["epoch"] <= common]
        found, reason = outcome(epochs, classes)
        finite = epochs[np.isfinite(epochs["val_loss"])]
        best = finite.loc[finite["val_loss"].idxmin()] if len(finite) else None
        rows.append(
            {name: last[name] for name in CELL}
            | {"epochs": len(epochs), "outcome": found, "reason": reason}
            | {name: last[name] for name in ("stopped_at_step", "initial_loss", "peak_loss")}
            | {f"final_{name}": last[name] for name in MEASURED}
            | {
                "best_val_loss": np.nan if best is None else best["val_loss"],
                "best_epoch": pd.NA if best is None else best["epoch"],
                "best_val_accuracy": epochs["val_accuracy"].max(),
                "compared_epochs": common,
                "compared_outcome": outcome(first, classes)[0],
                "compared_val_accuracy": first["val_accuracy"].max(),
            }
        )
    return pd.DataFrame(rows, columns=list(OUTCOME_TYPES)).astype(OUTCOME_TYPES)
