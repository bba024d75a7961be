"""Every initial weights with every batch order and every augmentation: a crossed design."""

import dataclasses
import itertools
from typing import NamedTuple

from lrrt.config import Config
from lrrt.datasets import Dataset
from lrrt.experiments._design import like_weights_sweep
from lrrt.runs.spec import RunSpec


class DesignPoint(NamedTuple):
    """One combination; ``protocol`` is its name."""

    protocol: str
    spec: RunSpec


class Design(NamedTuple):
    points: list[DesignPoint]

    @property
    def specs(self) -> list[RunSpec]:
        return [point.spec for point in self.points]


def design(config: Config, dataset: Dataset) -> Design:
    """:func:`design_points`."""
    return Design(design_points(config, dataset.digest))


def design_points(config: Config, dataset_digest: str) -> list[DesignPoint]:
    """What ``config.variance`` asks for, by protocol; nothing where it has no weights.

    Seeds count from ``sweep.seed``. Where the augmentation is not a factor of its own (one level,
    or a protocol that has none) it goes with the order, as in a sweep, and cells are runs of the
    weights and the order sweep; with a factor of its own those with equal seeds of order and
    augmentation are.
    """
    settings, found = config.variance, []
    if settings.weights == 0:
        return found
    for name in settings.protocols:
        spec = like_weights_sweep(
            config, dataset_digest, settings.backend, config.protocols[name], settings
        )
        seeds = [
            range(config.sweep.seed, config.sweep.seed + n)
            for n in (settings.weights, settings.orders, settings.augmentations)
        ]
        augmented = spec.protocol.augmentation != "none" or spec.protocol.flip
        if not augmented or settings.augmentations == 1:
            seeds[2] = [None]
        names = ("weights_seed", "order_seed", "augmentation_seed")
        found += [
            DesignPoint(name, dataclasses.replace(spec, **dict(zip(names, seed, strict=True))))
            for seed in itertools.product(*seeds)
        ]
    return found
