"""Range tests whose curvature is measured on the way, with and without clipping."""

import dataclasses
from typing import NamedTuple

import numpy as np

from lrrt.config import Config
from lrrt.core.protocol import Ramp
from lrrt.core.ramp import training_lrs
from lrrt.datasets import Dataset
from lrrt.experiments._design import range_tests
from lrrt.runs.spec import RunSpec

# Below, weights and curvature stay as they are at the start; above, the loss has exploded.
MEASURED_LRS = (1e-4, 20.0)


class Probe(NamedTuple):
    """A range test whose curvature is measured; ``clipped``: whether gradients are."""

    protocol: str
    clipped: bool
    spec: RunSpec


class Design(NamedTuple):
    probes: list[Probe]

    @property
    def specs(self) -> list[RunSpec]:
        return [probe.spec for probe in self.probes]


def design(config: Config, dataset: Dataset) -> Design:
    """:func:`probes`."""
    return Design(probes(config, dataset.digest))


def measured_steps(ramp: Ramp, steps: int, points: int) -> tuple[int, ...]:
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
