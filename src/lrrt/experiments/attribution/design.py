"""From one protocol to another, factor by factor: the range tests of an attribution."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lrrt.config import Config
from lrrt.core.protocol import FACTORS, Protocol
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.experiments._design import like_weights_sweep, with_next_seeds
from lrrt.experiments.attribution.section import Section
from lrrt.runs.spec import RunSpec

ALONE, SEQUENCE, ALL = "alone", "sequence", "all"
SCREEN, STUDY = "screen", "study"


def with_factors(protocol: Protocol, other: Protocol, factors: Iterable[str]) -> Protocol:
    """``protocol`` with the fields of ``factors`` (:data:`.protocol.FACTORS`) of ``other``.

    All factors exchanged give ``other``, but for ``home``, which changes no number.

    Raises
    ------
    InputError
        For a factor that does not exist.
    """
    for factor in factors:
        if factor not in FACTORS:
            raise InputError("factor", factor, f"one of: {', '.join(FACTORS)}")
        for path in FACTORS[factor]:
            section, _, name = path.rpartition(".")
            if section:
                theirs = getattr(getattr(other, section), name)
                inner = dataclasses.replace(getattr(protocol, section), **{name: theirs})
                protocol = dataclasses.replace(protocol, **{section: inner})
            else:
                protocol = dataclasses.replace(protocol, **{name: getattr(other, name)})
    return protocol


def differing(protocol: Protocol, other: Protocol, factors: Iterable[str]) -> list[str]:
    """Those of ``factors`` whose exchange changes ``protocol``."""
    return [name for name in factors if with_factors(protocol, other, [name]) != protocol]


class Rung(NamedTuple):
    """A step on the way from one protocol to the other, with its paired runs.

    ``scale``: the network and batch size of the ``screen``, or of the ``study``. ``design``:
    ``alone`` (one factor exchanged in a protocol as it is), ``sequence`` (one more factor, those
    before it exchanged already) or ``all`` (the whole way). ``order`` and ``step``: of a sequence,
    from 0; -1 elsewhere. ``factor``: empty for ``all``. ``origin`` and ``target``: the protocol
    that is changed, and the one that it is changed towards. ``before`` and ``after``:
    specifications, run i of each with the same seeds; a specification's own protocol reads it.
    """

    scale: str
    design: str
    order: int
    step: int
    factor: str
    origin: str
    target: str
    before: tuple[RunSpec, ...]
    after: tuple[RunSpec, ...]


class Design(NamedTuple):
    rungs: list[Rung]

    @property
    def specs(self) -> list[RunSpec]:
        return specs_of(self.rungs)


def design(config: Config, dataset: Dataset) -> Design:
    """:func:`rungs`."""
    return Design(rungs(config, dataset.digest))


def rungs(config: Config, dataset_digest: str) -> list[Rung]:
    """What ``config.attribution`` asks for; nothing where it has no runs.

    The screen exchanges each factor alone, from both ends, and all in sequences. At the study's own
    scale the confirmed ones are exchanged in sequence, as listed and in reverse: of two factors
    these are all sequences. A factor in which the two protocols agree is left out. What a rung
    shares with another, or with the weights sweep, is one run: keys are equal where only the
    reading differs.
    """
    screen = config.attribution
    study = dataclasses.replace(
        screen,
        factors=screen.confirmed,
        runs=screen.confirmed_runs,
        orders=2,
        batch_size=None,
        depth=None,
    )
    made = []
    for scale, settings in ((SCREEN, screen), (STUDY, study)):
        if screen.runs and settings.runs and settings.factors:
            made += _ladder(config, dataset_digest, scale, settings)
    return made


def _ladder(config: Config, dataset_digest: str, scale: str, settings: Section) -> Iterator[Rung]:
    start, end = settings.start, settings.end
    ends = {name: config.protocols[name] for name in (start, end)}
    factors = differing(ends[start], ends[end], settings.factors)

    def specs(origin: str, target: str, factors: Iterable[str]) -> tuple[RunSpec, ...]:
        protocol = with_factors(ends[origin], ends[target], factors)
        spec = like_weights_sweep(config, dataset_digest, settings.backend, protocol, settings)
        return with_next_seeds(spec, settings.runs)

    yield Rung(scale, ALL, -1, -1, "", start, end, specs(start, end, []), specs(end, start, []))
    if scale == SCREEN:
        for (origin, target), factor in itertools.product(((start, end), (end, start)), factors):
            sides = specs(origin, target, []), specs(origin, target, [factor])
            yield Rung(scale, ALONE, -1, -1, factor, origin, target, *sides)
    for number, order in enumerate(orders(factors, settings.orders, config.sweep.seed)):
        for i, factor in enumerate(order):
            sides = (specs(start, end, order[:count]) for count in (i, i + 1))
            yield Rung(scale, SEQUENCE, number, i, factor, start, end, *sides)


def orders(factors: list[str], count: int, seed: int) -> list[list[str]]:
    """The listed order, then random ones, each the reverse of the one before it in turn.

    A permutation and its reverse together vary less than two independent ones do (antithetic
    sampling of Shapley values; Mitchell et al., 2022). The listed one is not random, so that the
    mean over few orders is one over those orders, not an unbiased estimate of a Shapley value.
    """
    random = np.random.default_rng([seed, len(factors)])
    found: list[list[str]] = []
    for i in range(count):
        if i % 2:
            found.append(found[-1][::-1])
        else:
            found.append(list(factors) if i == 0 else [str(f) for f in random.permutation(factors)])
    return found


def specs_of(rungs: Iterable[Rung]) -> list[RunSpec]:
    """The runs behind ``rungs``, no run twice: the first seed of every rung before the second of
    any, so that what is finished makes a smaller attribution."""
    sides = [side for rung in rungs for side in (rung.before, rung.after)]
    turns = itertools.zip_longest(*sides)
    return list({spec.key: spec for turn in turns for spec in turn if spec}.values())
