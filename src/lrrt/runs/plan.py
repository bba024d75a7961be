"""From a configuration to the specifications of its runs: of a sweep, of trainings after it."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from lrrt import plugins
from lrrt.config import Config, ProtocolConfig, SweepConfig
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec


def sweep_specs(
    config: Config, dataset_digest: str, backend: str, protocol_name: str, sweep_name: str
) -> list[RunSpec]:
    """The range tests of one sweep, by batch size, then by run; no run twice.

    Run i has weights seed ``seed + i`` where the sweep asks for new weights (else ``seed``), and
    likewise its order seed. The steps are the sweep's, else the ramp's, else one epoch of whole
    batches; that epoch also where the sweep asks for it.

    Raises
    ------
    InputError
        For an unknown backend, protocol or sweep, naming those that exist, and for a batch larger
        than the training data.
    """
    plugins.check("lrrt.backends", backend, "backend")
    for key, name, known in (
        ("protocol", protocol_name, config.protocols),
        ("sweep", sweep_name, config.sweeps),
    ):
        if name not in known:
            raise InputError(key, name, f"one of: {', '.join(sorted(known))}")
    protocol, sweep = config.protocols[protocol_name], config.sweeps[sweep_name]
    runs = sweep.count(backend, protocol_name, protocol.home)
    specs = []
    for batch_size in sweep.batch_sizes:
        whole_batches = config.data.train_images // batch_size
        if whole_batches == 0:
            raise InputError(
                f"sweeps.{sweep_name}.batch_sizes",
                batch_size,
                f"at most data.train_images = {config.data.train_images}",
            )
        steps = ramp_steps(sweep, protocol, whole_batches)
        ramp = dataclasses.replace(protocol.ramp, steps=steps)
        specs += [
            RunSpec(
                kind="range_test",
                backend=backend,
                protocol=dataclasses.replace(protocol, ramp=ramp),
                model=config.model,
                data_digest=dataset_digest,
                weights_seed=sweep.seed + (i if sweep.new_weights else 0),
                order_seed=sweep.seed + (i if sweep.new_order else 0),
                batch_size=batch_size,
                steps=steps,
                validation=sweep.validation,
                threads=config.launcher.threads,
                **placed(config, backend, sweep.devices, sweep.precision),
            )
            for i in range(runs)
        ]
    # Where nothing is new from run to run, the runs are one and the same.
    return list({spec.key: spec for spec in specs}.values())


def placed(config: Config, backend: str, devices: Mapping[str, str], precision: str) -> dict:
    """``device`` and ``precision`` of a run: that of ``devices``, else the launcher's, and no TF32
    on a CPU."""
    device = devices.get(backend, config.launcher.device)
    in_full = device == "cpu" and precision == "tfloat32"
    return {"device": device, "precision": "float32" if in_full else precision}


def ramp_steps(sweep: SweepConfig, protocol: ProtocolConfig, whole_batches: int) -> int:
    """The sweep's, else the ramp's (unless the sweep asks for a whole epoch), else one epoch."""
    return sweep.steps or (not sweep.whole_epoch and protocol.ramp.steps) or whole_batches


def queue(config: Config, planned: Mapping[tuple[str, str, str], list[RunSpec]]) -> list[RunSpec]:
    """All range tests of a study: run i of every sweep, case and batch size, for each i in turn.

    ``planned``: :func:`sweep_specs` by backend, protocol and sweep.

    Of one i in the order of ``study.sweeps``; protocols on the backend that the post ran them on
    come before the others.
    """
    found: dict[int, list[RunSpec]] = {}
    cases = [
        (config.protocols[protocol].home != backend, backend, protocol)
        for backend in config.study.backends
        for protocol in config.study.protocols
    ]
    for sweep in config.study.sweeps:
        for _, backend, protocol in sorted(cases):
            counts: dict[int, int] = {}
            for spec in planned.get((backend, protocol, sweep), []):
                i = counts[spec.batch_size] = counts.get(spec.batch_size, -1) + 1
                found.setdefault(i, []).append(spec)
    return [spec for i in sorted(found) for spec in found[i]]


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
        spec = RunSpec(
            kind="training",
            backend=backend,
            protocol=config.protocols[protocol_name],
            model=config.model,
            data_digest=dataset_digest,
            weights_seed=int(run["weights_seed"]),
            order_seed=int(run["order_seed"]),
            batch_size=int(run["batch_size"]),
            steps=settings.steps_per_epoch or config.data.train_images // int(run["batch_size"]),
            threads=config.launcher.threads,
            **placed(config, backend, settings.devices, settings.precision),
            lr=settings.reference_lr if lr_of == "reference" else _lr(pair[lr_of], kind),
            epochs=settings.epochs,
        )
        spec = dataclasses.replace(spec, **changes)
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
        for kind in ("middle", "min")
        for weights in "AB"
        for lr_of in "AB"
    ]
    trainings += [training(weights, "reference", "reference") for weights in "AB"]
    trainings += [
        training("A", "A", "max", weights_from=other)
        for other in config.study.backends
        if other != backend
    ]
    trainings += [
        training(weights, lr_of, "max", policy=policy)
        for policy in settings.policies
        for weights in "AB"
        for lr_of in "AB"
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
