"""Range tests with another ramp, and restarts: trainings at constant LRs."""

import dataclasses
from typing import NamedTuple

import pandas as pd

from lrrt.analysis.suggestions import CURVE_TYPES, curves_file
from lrrt.config import Config
from lrrt.core.protocol import Protocol
from lrrt.core.ramp import geometric_grid
from lrrt.datasets import Dataset
from lrrt.experiments import Input
from lrrt.experiments._design import range_tests, with_ramp
from lrrt.runs.spec import RunSpec

RESTART_LRS = (1e-3, 10.0)


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


class Design(NamedTuple):
    """``curves``: of the weights sweep, to replay; of no rows where nothing is asked for."""

    variants: list[Variant]
    restarts: list[Restart]
    curves: pd.DataFrame
    protocols: dict[str, Protocol]

    @property
    def specs(self) -> list[RunSpec]:
        specs = [spec for variant in self.variants for spec in variant.specs]
        return specs + [spec for r in self.restarts for spec in (r.spec, r.ramp)]


def weights_sweeps(config: Config) -> list[tuple[str, str, str]]:
    """The weights sweep of each protocol that the study has, at home or on the first backend that
    runs it."""
    settings, study = config.instrument, config.study
    names = [name for name in settings.protocols if settings.runs and name in study.protocols]
    homes = [config.protocols[name].home for name in names]
    known = [name for name in study.backends if config.sweeps["weights"].runs_on(name)]
    backends = [home if home in known else known[0] for home in homes]
    return [(backend, name, "weights") for backend, name in zip(backends, names, strict=True)]


def inputs(config: Config) -> dict[str, Input]:
    """The curves of :func:`weights_sweeps`, which are replayed."""
    files = [curves_file(case) for case in weights_sweeps(config)]
    return {"curves": Input(files, [*CURVE_TYPES], "python -m lrrt.stages.experiment sweep")}


def design(config: Config, dataset: Dataset, curves: pd.DataFrame) -> Design:
    """:func:`variants` and :func:`restarts`."""
    planned = (f(config, dataset.digest) for f in (variants, restarts))
    return Design(*planned, curves, config.protocols)


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
                specs = tuple(with_ramp(spec, **change) for spec in plain)
                found.append(Variant(name, setting, value, specs))
    return found


def restarts(config: Config, dataset_digest: str) -> list[Restart]:
    """Independent trainings of ``instrument.restart_steps`` at each of ``instrument.restarts`` LRs.

    A range test whose ramp does not rise is such a training: it begins with the weights and the
    batches of the ramp, and records the loss of every step.
    """
    settings, found = config.instrument, []
    lrs = geometric_grid(*RESTART_LRS, settings.restarts)
    for name in settings.protocols if settings.runs else []:
        for spec in range_tests(config, dataset_digest, settings.backend, name, settings):
            for lr in lrs:
                flat = with_ramp(
                    spec, start=lr, end=lr, shape="linear", steps=settings.restart_steps
                )
                found.append(Restart(name, lr, flat, spec))
    return found
