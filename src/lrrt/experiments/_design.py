"""Range tests at the scale of the weights sweep, which several experiments are made of."""

import dataclasses
from typing import Any

from lrrt.config import Config, Scaled
from lrrt.core.protocol import Protocol
from lrrt.runs.spec import RunSpec
from lrrt.runs.specify import ramp_steps, specify


def like_weights_sweep(
    config: Config,
    dataset_digest: str,
    backend: str,
    protocol: Protocol,
    settings: Scaled,
) -> RunSpec:
    """A range test with the steps, precision and first seed of the weights sweep, and the study's
    batch size, network and device where ``settings`` have none of their own."""
    sweep = config.sweeps["weights"]
    own_scale = settings.batch_size is not None or settings.depth is not None
    return specify(
        config,
        dataset_digest,
        "range_test",
        backend,
        protocol,
        seed=sweep.seed,
        model=config.model.of_depth(settings.depth),
        batch_size=settings.batch_size or config.sweep.batch_size,
        steps=ramp_steps(sweep, protocol, config.data.train_images // config.sweep.batch_size),
        precision=sweep.precision,
        devices={} if own_scale else sweep.devices,
    )


def with_next_seeds(spec: RunSpec, runs: int) -> tuple[RunSpec, ...]:
    """``spec`` and the runs after it, each with the next seed of weights and order."""
    seeds = range(spec.weights_seed, spec.weights_seed + runs)
    return tuple(dataclasses.replace(spec, weights_seed=seed, order_seed=seed) for seed in seeds)


def range_tests(
    config: Config,
    dataset_digest: str,
    backend: str,
    protocol_name: str,
    settings: Any,
) -> tuple[RunSpec, ...]:
    """Range tests of a protocol as it is, so many as the section ``settings`` has runs; of equal
    seed, batch size and network they are those of the weights sweep."""
    protocol = config.protocols[protocol_name]
    return with_next_seeds(
        like_weights_sweep(config, dataset_digest, backend, protocol, settings), settings.runs
    )


def with_ramp(spec: RunSpec, **changes: object) -> RunSpec:
    """``spec`` with fields of its ramp changed."""
    ramp = dataclasses.replace(spec.protocol.ramp, **changes)
    protocol = dataclasses.replace(spec.protocol, ramp=ramp)
    return dataclasses.replace(spec, protocol=protocol, steps=ramp.steps)
