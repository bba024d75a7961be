"""The grid of each setting: chosen from results by a fixed rule, cheapest settings first."""

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrrt.analysis.regret import COLLAPSE, training_score
from lrrt.config import Config
from lrrt.core.protocol import DataSection, Protocol
from lrrt.datasets import Dataset, load, open_dataset, save
from lrrt.experiments.oracle import beside
from lrrt.experiments.oracle.section import (
    EVALUATIONS,
    HIGHEST,
    Section,
    SettingSection,
)
from lrrt.runs import paths
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store

FIRST_DRAW = 100  # seeds of range tests begin here: none is a training's
SHORT_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of five short trainings
SHORT_EVALUATIONS = 5  # of each: its loss is that of the last fifth of its steps
NEAR = 3  # quarter decades on either side of the best coarse rate


class Setting(NamedTuple):
    """``dataset``: the file of its data; ``digest`` and ``classes`` are theirs."""

    name: str
    section: SettingSection
    protocol: Protocol
    dataset: Path
    digest: str
    classes: int

    @property
    def optimizer(self) -> str:
        return self.protocol.optimizer


class Run(NamedTuple):
    """A run and what it is for.

    ``stage``: ``range_test``, ``short``, ``instability``, ``coarse``, ``fine`` or ``edge``; or one
    of :mod:`lrrt.experiments.oracle.beside`. ``schedule``: of a training of full length. ``seed``:
    of a training, else the draw, from 0.
    """

    setting: str
    stage: str
    schedule: str
    seed: int
    spec: RunSpec


@dataclasses.dataclass(frozen=True)
class Design:
    """The settings and, as far as results say which, their runs; round 0 hangs on no result."""

    config: Config
    settings: list[Setting]

    @property
    def section(self) -> Section:
        return self.config.oracle

    @property
    def specs(self) -> list[RunSpec]:
        """The runs that hang on no result: range tests, short trainings, coarse grids."""
        return [run.spec for setting in self.settings for run in self.first(setting)]

    def plan(self, store: Store) -> list[Run]:
        """All runs, as far as the results in ``store`` say which."""
        of_rounds = [self.round(s, i, store) for s in self.settings for i in range(self.rounds)]
        runs = [run for of_round in of_rounds for run in of_round]
        return list({(run.setting, run.stage, run.spec.key): run for run in runs}.values())

    @property
    def rounds(self) -> int:
        """The coarse one, then one a seed of the fine grid and of the edge."""
        return 1 + max(self.section.fine_seeds, self.section.edge_seeds)

    def round(self, setting: Setting, number: int, store: Store) -> list[Run]:
        """The runs of one round of a setting; none where they hang on results that are missing."""
        if number == 0:
            return self.first(setting)
        if setting.section.repeats:
            return []
        found = []
        for schedule in self.section.schedules:
            scores = self._coarse_scores(setting, schedule, store)
            if scores is None:
                continue
            best, edge = best_and_edge(scores, self._floor(setting))
            if number <= self.section.fine_seeds:
                fine = [best + away for away in range(-NEAR, NEAR + 1)]
                found += self.at(setting, "fine", schedule, number, fine)
            if number <= self.section.edge_seeds and edge is not None:
                between = [edge + share for share in (0.5, 1.0, 1.5)]
                found += self.at(setting, "edge", schedule, number, between)
        return found

    def first(self, setting: Setting) -> list[Run]:
        """Range tests, short trainings and searches by draw, then the coarse grid by seed."""
        found, oracle, name = [], self.section, setting.name
        for draw in range(oracle.draws):
            for steps in oracle.ramps:
                seed = FIRST_DRAW + draw
                found.append(self.range_test(setting, "range_test", seed, steps, draw))
            for lr in SHORT_RATES if oracle.short_trainings and not setting.section.repeats else ():
                steps = main_ramp(oracle.ramps) // len(SHORT_RATES) // SHORT_EVALUATIONS
                more = {"lr": lr, "epochs": SHORT_EVALUATIONS}
                spec = self._spec(setting, "training", FIRST_DRAW + draw, steps, **more)
                found.append(Run(name, "short", "", draw, spec))
            if not setting.section.repeats:
                spec = self._spec(setting, "instability", FIRST_DRAW + draw, 1)
                found.append(Run(name, "instability", "", draw, spec))
        for seed, schedule in itertools.product(range(oracle.coarse_seeds), oracle.schedules):
            found += self.at(setting, "coarse", schedule, seed, self.coarse(setting))
        return found + beside.runs(self, setting, FIRST_DRAW)

    def range_test(self, setting: Setting, stage: str, seed: int, steps: int, draw: int) -> Run:
        return Run(setting.name, stage, "", draw, self._spec(setting, "range_test", seed, steps))

    def coarse(self, setting: Setting) -> list[int]:
        """Quarter decades (log10 times four) of the coarse grid, rising."""
        highest = round(4 * np.log10(HIGHEST[setting.optimizer]))
        return list(range(highest - 4 * self.section.decades, highest + 1, 2))

    def at(
        self, setting: Setting, stage: str, schedule: str, seed: int, quarters: list[float]
    ) -> list[Run]:
        """Trainings at so many quarter decades above 1."""
        return self.trainings(setting, stage, schedule, seed, list(map(rate, quarters)))

    def trainings(
        self, setting: Setting, stage: str, schedule: str, seed: int, lrs: list[float]
    ) -> list[Run]:
        steps = setting.section.steps // EVALUATIONS
        return [
            Run(
                setting.name,
                stage,
                schedule,
                seed,
                self._spec(
                    *(setting, "training", seed, steps),
                    lr=lr,
                    epochs=EVALUATIONS,
                    policy=schedule,
                ),
            )
            for lr in lrs
        ]

    def _spec(self, setting: Setting, kind: str, seed: int, steps: int, **more) -> RunSpec:
        protocol = setting.protocol
        if kind == "range_test":
            ramp = dataclasses.replace(protocol.ramp, steps=steps)
            protocol = dataclasses.replace(protocol, ramp=ramp)
        return RunSpec(
            kind=kind,
            backend=setting.section.backend,
            protocol=protocol,
            model=setting.section.model,
            data_digest=setting.digest,
            weights_seed=seed,
            order_seed=seed,
            batch_size=setting.section.batch_size,
            steps=steps,
            threads=self.config.launcher.threads,
            device=self.config.launcher.device,
            **more,
        )

    def _coarse_scores(
        self, setting: Setting, schedule: str, store: Store
    ) -> dict[int, tuple[float, float]] | None:
        """Value (more is better) and log-loss of the first seed's coarse trainings, by quarter
        decade; None unless all are there."""
        quarters = self.coarse(setting)
        runs = self.at(setting, "coarse", schedule, 0, quarters)
        results = [store.get(run.spec.key) for run in runs]
        if any(result is None for result in results):
            return None
        scores = [score(result, schedule, setting.classes) for result in results]
        return {
            quarter: (accuracy if setting.section.measure == "accuracy" else -log_loss, log_loss)
            for quarter, (accuracy, log_loss) in zip(quarters, scores, strict=True)
        }

    def _floor(self, setting: Setting) -> float:
        """Value of a guess."""
        by_accuracy = setting.section.measure == "accuracy"
        return 1 / setting.classes if by_accuracy else -float(np.log(setting.classes))

    def batches(self, store: Store) -> Iterator[tuple[Path, list[RunSpec]]]:
        """Tier by tier, round by round; all settings of a tier advance together. Ends after
        ``minutes``, between two batches of runs."""
        minutes, started = self.section.minutes, time.monotonic()
        tiers = sorted({setting.section.tier for setting in self.settings})
        for tier, number in itertools.product(tiers, range(self.rounds)):
            members = [setting for setting in self.settings if setting.section.tier == tier]
            for dataset in dict.fromkeys(setting.dataset for setting in members):
                if minutes is not None and time.monotonic() - started >= 60 * minutes:
                    return
                of_settings = [
                    [run.spec for run in self.round(setting, number, store)]
                    for setting in members
                    if setting.dataset == dataset
                ]
                specs = [spec for turn in itertools.zip_longest(*of_settings) for spec in turn]
                yield dataset, [spec for spec in specs if spec]


def design(config: Config, dataset: Dataset) -> Design:
    """The settings of ``oracle.tiers``, whose data sets are made where they are missing.

    ``dataset``, the study's own, is not used: a setting names its own.
    """
    oracle, opened, settings = config.oracle, {}, []
    for name, section in oracle.settings.items():
        if section.tier not in oracle.tiers:
            continue
        if section.data not in opened:
            opened[section.data] = prepare(oracle.data[section.data], paths.folder(config))
        protocol = config.protocols[section.protocol]
        settings.append(Setting(name, section, protocol, *opened[section.data]))
    return Design(config, settings)


def prepare(data: DataSection, folder: Path) -> tuple[Path, str, int]:
    """A data set's file in ``folder``/datasets, made unless it is there (its name says what of),
    its digest and its number of classes."""
    name = hashlib.sha256(json.dumps(dataclasses.asdict(data), sort_keys=True).encode())
    path = folder / "datasets" / f"{data.name}-{name.hexdigest()[:8]}.safetensors"
    if not path.exists():
        save(load(data), path)
    made = open_dataset(path)
    return path, made.digest, len(made.classes)


def rate(quarters: float) -> float:
    """The learning rate at so many quarter decades above 1, of three digits."""
    return float(f"{10 ** (quarters / 4):.3g}")


def main_ramp(ramps: list[int]) -> int:
    """The ramp that counts: 100 steps, or the longest."""
    return 100 if 100 in ramps else max(ramps)


def score(result: Result, schedule: str, classes: int) -> tuple[float, float]:
    """Accuracy and log-loss of a stored training (:func:`lrrt.analysis.regret.training_score`)."""
    evaluated = result.arrays["val_accuracy"], result.arrays["val_loss"]
    initial = result.record["initial_loss"]
    untrained = float(np.log(classes)) if initial is None else initial
    return training_score(*evaluated, schedule, 1 / classes, untrained)


def best_and_edge(scores: dict[int, tuple[float, float]], floor: float) -> tuple[int, int | None]:
    """The best coarse rate, and the last one above it before the first that collapses (None: none
    does), in quarter decades. Equal values are ranked by log-loss."""
    quarters = sorted(scores)
    best = max(quarters, key=lambda quarter: (scores[quarter][0], -scores[quarter][1]))
    least = floor + (1 - COLLAPSE) * (scores[best][0] - floor)
    above = [quarter for quarter in quarters if quarter > best and scores[quarter][0] < least]
    return best, above[0] - 2 if above else None
