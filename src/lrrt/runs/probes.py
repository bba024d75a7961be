"""Range tests that look at the range test: another ramp, restarts, the curvature on the way."""

import dataclasses
from typing import NamedTuple

import numpy as np

from lrrt.config import Config, InstrumentConfig, MechanismConfig, RampConfig
from lrrt.core.ramp import training_lrs
from lrrt.runs.ladder import as_swept, seeded
from lrrt.runs.spec import RunSpec

RESTART_LRS = (1e-3, 10.0)
# Below, weights and curvature stay as they are at the start; above, the loss has exploded.
MEASURED_LRS = (1e-4, 20.0)


class Variant(NamedTuple):
    """A protocol's range tests, one per paired seed, with one ``setting`` of the instrument at
    ``value`` (both as text; ``default`` and empty: the protocol as it is)."""

    protocol: str
    setting: str
    value: str
    specs: tuple[RunSpec, ...]


class Restart(NamedTuple):
    """A training at a constant LR, and the ramp from the same weights and order."""

    protocol: str
    lr: float
    spec: RunSpec
    ramp: RunSpec


def range_tests(
    config: Config,
    dataset_digest: str,
    backend: str,
    protocol_name: str,
    settings: InstrumentConfig | MechanismConfig,
) -> tuple[RunSpec, ...]:
    """Range tests of a protocol as it is, so many as ``settings`` has runs; of equal seed, batch
    size and network they are those of the weights sweep."""
    protocol = config.protocols[protocol_name]
    return seeded(as_swept(config, dataset_digest, backend, protocol, settings), settings.runs)


def ramped(spec: RunSpec, **changes: object) -> RunSpec:
    """``spec`` with fields of its ramp changed."""
    ramp = dataclasses.replace(spec.protocol.ramp, **changes)
    protocol = dataclasses.replace(spec.protocol, ramp=ramp)
    return dataclasses.replace(spec, protocol=protocol, steps=ramp.steps)


def variants(config: Config, dataset_digest: str) -> list[Variant]:
    """What ``config.instrument`` asks for, each protocol's default first; none without runs.

    A value that a protocol has already is left out.
    """
    settings, found = config.instrument, []
    for name in settings.protocols if settings.runs else []:
        plain = range_tests(config, dataset_digest, settings.backend, name, settings)
        ramp = plain[0].protocol.ramp
        found.append(Variant(name, "default", "", plain))
        changes = [("steps", str(steps), {"steps": steps}) for steps in settings.steps]
        changes += [
            ("range", f"{start:g} to {end:g}", {"start": start, "end": end})
            for start, end in settings.ranges
        ]
        changes += [("shape", shape, {"shape": shape}) for shape in settings.shapes]
        for setting, value, change in changes:
            if dataclasses.replace(ramp, **change) != ramp:
                specs = tuple(ramped(spec, **change) for spec in plain)
                found.append(Variant(name, setting, value, specs))
    return found


def restarts(config: Config, dataset_digest: str) -> list[Restart]:
    """Independent trainings of ``instrument.restart_steps`` at each of ``instrument.restarts`` LRs.

    A range test whose ramp does not rise is such a training: it begins with the weights and the
    batches of the ramp, and records the loss of every step.
    """
    settings, found = config.instrument, []
    lrs = np.geomspace(*RESTART_LRS, settings.restarts).tolist()
    for name in settings.protocols if settings.runs else []:
        for spec in range_tests(config, dataset_digest, settings.backend, name, settings):
            for lr in lrs:
                flat = ramped(spec, start=lr, end=lr, shape="linear", steps=settings.restart_steps)
                found.append(Restart(name, lr, flat, spec))
    return found


class Probe(NamedTuple):
    """A range test whose curvature is measured; ``clipped``: whether gradients are."""

    protocol: str
    clipped: bool
    spec: RunSpec


def measured_steps(ramp: RampConfig, steps: int, points: int) -> tuple[int, ...]:
    """At most ``points`` steps, evenly spaced over those within ``MEASURED_LRS`` (over the whole
    ramp, if none is)."""
    lrs = training_lrs(ramp, steps)
    inside = np.flatnonzero((lrs >= MEASURED_LRS[0]) & (lrs <= MEASURED_LRS[1]))
    first, last = (inside[0], inside[-1]) if len(inside) else (0, steps - 1)
    return tuple(sorted({int(step) for step in np.linspace(first, last, points)}))


def probes(config: Config, dataset_digest: str) -> list[Probe]:
    """What ``config.mechanism`` asks for: each protocol as it is, and with clipping exchanged.

    The norm that a protocol without clipping is clipped to is that of the study's first protocol
    that has one, else 1.
    """
    settings, found = config.mechanism, []
    norms = [config.protocols[name].gradient_clip for name in config.study.protocols]
    norm = next((norm for norm in norms if norm is not None), 1.0)
    for name in settings.protocols if settings.runs else []:
        for spec in range_tests(config, dataset_digest, "torch", name, settings):
            steps = measured_steps(spec.protocol.ramp, spec.steps, settings.points)
            own = spec.protocol.gradient_clip
            for clip in (own, None if own is not None else norm):
                protocol = dataclasses.replace(spec.protocol, gradient_clip=clip)
                probe = dataclasses.replace(
                    spec, kind="curvature", protocol=protocol, measured=steps
                )
                found.append(Probe(name, clip is not None, probe))
    return found
