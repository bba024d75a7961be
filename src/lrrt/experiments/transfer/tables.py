"""The trainings of pairs of runs, epoch by epoch, and what became of them."""

import math
from typing import Any

import numpy as np
import pandas as pd

from lrrt.core.curve import EPOCH_MEASURES
from lrrt.experiments.transfer.design import Design, Training
from lrrt.runs.result_tables import empty_table, provenance
from lrrt.runs.store import Store, load_result

#: What tells one training of a study from another; both tables begin with it.
TRAINING_KEY_TYPES = {
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
}
TRAINING_KEYS = tuple(TRAINING_KEY_TYPES)
TRAINING_TYPES = (
    TRAINING_KEY_TYPES
    | {"epoch": "int64", "step_lr": "float64"}
    | dict.fromkeys(EPOCH_MEASURES, "float64")
    | {"initial_loss": "float64", "peak_loss": "float64", "stopped_at_step": "Int64"}
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
OUTCOME_TYPES = TRAINING_KEY_TYPES | {
    "epochs": "int64",
    "outcome": "str",
    "reason": "str",
    "stopped_at_step": "Int64",
    "initial_loss": "float64",
    "peak_loss": "float64",
    **{f"final_{name}": "float64" for name in EPOCH_MEASURES},
    "best_val_loss": "float64",
    "best_epoch": "Int64",
    "best_val_accuracy": "float64",
    "compared_epochs": "int64",
    "compared_outcome": "str",
    "compared_val_accuracy": "float64",
}
SCHEMAS = {"trainings.parquet": TRAINING_TYPES, "outcomes.parquet": OUTCOME_TYPES}


def tables(design: Design, store: Store) -> dict[str, Any]:
    """``trainings.parquet`` and ``outcomes.parquet``, in which the first pair of a case goes by the
    name ``<backend>-<protocol>``, the others by ``<backend>-<protocol>-2`` and so on, and
    ``pairs.json``, by that name (:func:`lrrt.experiments.transfer.design.choose_pairs`)."""
    trainings = training_table(design.trainings, store)
    return {
        "trainings.parquet": trainings,
        "outcomes.parquet": outcome_table(trainings, design.classes),
        "pairs.json": design.pairs,
    }


def training_table(trainings: list[Training], store: Store) -> pd.DataFrame:
    """All ``trainings``, one row per epoch, columns and types of :data:`TRAINING_TYPES`.

    ``training`` names a training within a study and says what it is for; ``run`` is the result it
    comes from, which two trainings share where their LRs are equal. ``lr`` is the (largest) LR,
    ``step_lr`` that of the epoch's last step, ``weights_from`` empty where the weights were not
    passed through another backend. The losses and accuracies are those of
    :func:`lrrt.runs.execute.execute`: NaN from the epoch of a non-finite loss on, whose step is
    ``stopped_at_step``. ``attrs``: :func:`lrrt.runs.result_tables.provenance`.

    Raises
    ------
    InputError
        For a training that the store lacks.
    """
    parts, results = [], []
    for pair, protocol, weights, lr_of, lr_kind, spec in trainings:
        result = load_result(store, spec, "training")
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
        results.append(result)
    table = pd.concat(parts, ignore_index=True) if parts else empty_table(TRAINING_TYPES)
    table.attrs = provenance([training.spec for training in trainings], results)
    return table


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
        One row per training, columns and types of :data:`OUTCOME_TYPES`: :data:`TRAINING_KEYS`,
        ``epochs``, ``outcome`` (one of :data:`OUTCOMES`) and ``reason`` (:func:`outcome`),
        ``stopped_at_step`` (from 0; null: it did not stop), ``initial_loss`` and ``peak_loss`` (of
        steps), the last epoch's ``final_train_loss``, ``final_train_eval_loss``,
        ``final_train_accuracy``, ``final_val_loss`` and ``final_val_accuracy`` (NaN where it
        stopped), and of all finished epochs the lowest ``best_val_loss``, the epoch it is of,
        ``best_epoch``, and the highest ``best_val_accuracy``. For comparisons, since more epochs
        give more chances to go wrong: ``compared_epochs``, those that every training has,
        ``compared_outcome`` after them (but for the peak loss, which is of all steps), and
        ``compared_val_accuracy``, the highest in them.
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
            {name: last[name] for name in TRAINING_KEYS}
            | {"epochs": len(epochs), "outcome": found, "reason": reason}
            | {name: last[name] for name in ("stopped_at_step", "initial_loss", "peak_loss")}
            | {f"final_{name}": last[name] for name in EPOCH_MEASURES}
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
