"""Pairs of runs whose suggestions lie far apart, and the trainings at those suggestions."""

import itertools
import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from lrrt.analysis.ranges import with_range
from lrrt.analysis.suggestions import SUGGESTION_TYPES, by_own_rule
from lrrt.config import Config
from lrrt.datasets import Dataset
from lrrt.experiments import Input
from lrrt.runs.spec import RunSpec
from lrrt.runs.specify import specify


def inputs(config: Config) -> dict[str, Input]:
    """The suggestions that A and B are chosen by."""
    command = "python -m lrrt.stages.suggest"
    return {"suggestions": Input(["suggestions.parquet"], list(SUGGESTION_TYPES), command)}


class Training(NamedTuple):
    """One training of a pair A, B, and what it is for.

    ``pair`` and ``protocol``: their names. ``weights``: whose initial weights (A or B).
    ``lr_of``: whose suggestion (A, B, or ``reference``). ``lr_kind``: ``min``, ``middle``
    (geometric mean of min and max), ``max`` or ``reference``.
    """

    pair: str
    protocol: str
    weights: str
    lr_of: str
    lr_kind: str
    spec: RunSpec


class Design(NamedTuple):
    """``pairs``: what :func:`choose_pairs` finds, by case; ``classes`` of the data set."""

    pairs: dict[str, Any]
    trainings: list[Training]
    classes: int

    @property
    def specs(self) -> list[RunSpec]:
        return training_queue(self.trainings)


def design(config: Config, dataset: Dataset, suggestions: pd.DataFrame) -> Design:
    """:func:`plan`, and a line on standard error for a case with fewer pairs than asked for."""
    chosen, trainings = plan(config, dataset.digest, suggestions)
    for case in config.divergence.cases:
        found = len(pairs_of(case.case, chosen[case.case]))
        if found < case.pairs:
            words = f"{found} of {case.pairs} pairs: {chosen[case.case]['n']} runs have a range"
            print(f"divergence: {case.case}: {words}", file=sys.stderr)
    return Design(chosen, trainings, len(dataset.classes))


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


def plan(
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
        then each one's second, what :func:`training_specs` makes of it, under its
        name of :func:`pairs_of`.
    """
    own = by_own_rule(suggestions, config.protocols)
    own = own[own["sweep"] == "weights"]
    chosen, found = {}, []
    for entry in config.divergence.cases:
        backend, protocol = entry.names
        rows = own[(own["backend"] == backend) & (own["protocol"] == protocol)]
        chosen[entry.case] = choose_pairs(rows, entry.pairs)
        for number, pair in enumerate(pairs_of(entry.case, chosen[entry.case]).items()):
            trained = {"swap": number < entry.swaps, "grid": number < entry.grids}
            identity = (dataset_digest, backend, protocol)
            found.append((number, training_specs(config, *identity, *pair, **trained)))
    found.sort(key=lambda pair: pair[0])  # which keeps the order of the cases
    return chosen, [training for _, trainings in found for training in trainings]


def training_specs(
    config: Config,
    dataset_digest: str,
    backend: str,
    protocol_name: str,
    pair_name: str,
    pair: Mapping[str, Mapping[str, Any]],
    *,
    swap: bool = True,
    grid: bool = True,
) -> list[Training]:
    """The trainings of one pair, the ones that matter most first.

    First A -> B: weights B at A's max LR, for ``divergence.transfer_epochs``; then its control,
    weights B at B's own max LR. With ``swap``, for ``divergence.epochs`` like the control: weights
    A at both, too, which tell another's LR from a higher one. With ``grid`` also
    the rest of {weights A, weights B} x {min, middle, max LR of A and of B}; both weights at
    ``divergence.reference_lr``; weights A, exported from each other backend of the study and
    loaded into this one, at A's max LR; and both weights at both max LRs by each policy of
    ``divergence.policies``.

    Everything but the LR is as in the range test of the weights in question: its protocol, batch
    size and ``order_seed``, so that the training begins with the batches of the range
    test, and a suggestion of A that is used on B is new to B's weights and batches alike.

    Parameters
    ----------
    pair : mapping
        ``A`` and ``B``, each with weights_seed, order_seed, batch_size, min_lr and max_lr.
    """
    settings = config.divergence

    def training(weights: str, lr_of: str, kind: str, **changes: Any) -> Training:
        run = pair[weights]
        batch_size = int(run["batch_size"])
        fields = {
            "weights_seed": int(run["weights_seed"]),
            "order_seed": int(run["order_seed"]),
            "lr": settings.reference_lr if lr_of == "reference" else _lr(pair[lr_of], kind),
            "epochs": settings.epochs,
        }
        spec = specify(
            config,
            dataset_digest,
            "training",
            backend,
            config.protocols[protocol_name],
            seed=0,
            batch_size=batch_size,
            steps=settings.steps_per_epoch or config.data.train_images // batch_size,
            precision=settings.precision,
            devices=settings.devices,
            **fields | changes,
        )
        return Training(pair_name, protocol_name, weights, lr_of, kind, spec)

    trainings = [
        training("B", "A", "max", epochs=settings.transfer_epochs),
        training("B", "B", "max"),
    ]
    if swap or grid:
        trainings += [training("A", "A", "max"), training("A", "B", "max")]
    if not grid:
        return trainings
    trainings += [
        training(weights, lr_of, kind)
        for kind, weights, lr_of in itertools.product(("middle", "min"), "AB", "AB")
    ]
    trainings += [training(weights, "reference", "reference") for weights in "AB"]
    trainings += [
        training("A", "A", "max", weights_from=other)
        for other in config.study.backends
        if other != backend
    ]
    trainings += [
        training(weights, lr_of, "max", policy=policy)
        for policy, weights, lr_of in itertools.product(settings.policies, "AB", "AB")
    ]
    return trainings


def training_queue(trainings: list[Training]) -> list[RunSpec]:
    """What matters most of every pair first, for whoever stops the study half-way.

    ``trainings``: :func:`training_specs` of one pair after the other.
    """
    pairs: dict[str, list[RunSpec]] = {}
    for training in trainings:
        pairs.setdefault(training.pair, []).append(training.spec)
    return [spec for rank in itertools.zip_longest(*pairs.values()) for spec in rank if spec]


def _lr(run: Mapping[str, Any], kind: str) -> float:
    low, high = float(run["min_lr"]), float(run["max_lr"])
    return {"min": low, "middle": (low * high) ** 0.5, "max": high}[kind]
