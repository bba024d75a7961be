"""Frames small enough to check by hand: curves, suggestions, trainings, and studies of them."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from lrrt.analysis.suggestions import (
    CURVE_TYPES,
    SUGGESTION_TYPES,
)
from lrrt.claims.study import Study
from lrrt.config import Config, Sweep
from lrrt.core.protocol import Protocol, Ramp
from lrrt.experiments.transfer.tables import TRAINING_KEYS
from lrrt.report.study import StudyData

KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")
PROTOCOLS = {
    "blog_keras": Protocol(rule="blog_keras", home="keras"),
    "blog_fastai": Protocol(rule="blog_fastai", home="torch"),
}
STEPS = 60
LRS = np.geomspace(1e-7, 100, STEPS)


def write_params(config: Config, folder: Path = Path(".")) -> None:
    """``params.yaml`` with every section, as the stages read it."""
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    (folder / "params.yaml").write_text(text)


def study_of_nothing_but(config: Config, **frames: pd.DataFrame) -> StudyData:
    """A study with these frames; all others have no rows."""
    empty = dict.fromkeys(("curves", "suggestions", "trainings", "outcomes"), pd.DataFrame())
    return StudyData(config=config, pairs={}, **empty, **frames)


def curve(lr_min=1e-1, *, level=3.0, floor=1.0, flat_until=1e-4, explodes=True) -> np.ndarray:
    """A plateau, a straight fall (in log LR) down to ``floor`` at ``lr_min``, a steep rise."""
    x = np.log10(LRS)
    fall = np.clip((x - np.log10(flat_until)) / np.log10(lr_min / flat_until), 0, 1)
    rise = np.clip(x - np.log10(lr_min), 0, None) ** 2 * 8 if explodes else 0
    return level - (level - floor) * fall + rise


def curve_rows(losses, case=FASTAI, sweep="weights", batch_sizes=None, **columns) -> pd.DataFrame:
    """A curve table with one run per row of ``losses``."""
    parts = []
    for seed, loss in enumerate(losses):
        lr = np.geomspace(LRS[0], LRS[-1], len(loss))
        part = pd.DataFrame({"lr": lr, "loss": loss, "step": range(len(loss))})
        part = part.assign(
            run=f"run{seed}",
            backend=case[0],
            protocol=case[1],
            sweep=sweep,
            weights_seed=seed,
            order_seed=seed,
            batch_size=batch_sizes[seed] if batch_sizes else 64,
            penalty=0.0,
            grad_norm=1.0,
            val_loss=np.nan,
            val_accuracy=np.nan,
            device="cpu",
            precision="float32",
        ).assign(**columns)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[list(CURVE_TYPES)]


def suggestion_rows(ranges, case=FASTAI, sweep="weights", batch_sizes=None, fallback=False):
    """A suggestion table with the own rule's range of each run."""
    rows = [
        (
            f"run{seed}",
            *case,
            sweep,
            seed,
            seed,
            batch_sizes[seed] if batch_sizes else 64,
            case[1],
            low,
            high,
            fallback,
            "",
            None,
        )
        for seed, (low, high) in enumerate(ranges)
    ]
    return pd.DataFrame(rows, columns=list(SUGGESTION_TYPES)).astype(SUGGESTION_TYPES)


# --- tables


EMPTY = {
    "curves": pd.DataFrame(columns=list(CURVE_TYPES)),
    "suggestions": pd.DataFrame(columns=list(SUGGESTION_TYPES)).astype(SUGGESTION_TYPES),
    "trainings": pd.DataFrame(columns=[*TRAINING_KEYS, "epoch", "val_loss", "val_accuracy"]),
    "outcomes": pd.DataFrame(columns=[*TRAINING_KEYS, "epochs", "outcome", "reason"]),
    "pairs": {},
}


def config(**changes) -> Config:
    sweeps = dict.fromkeys(("weights", "order", "batch_size", "batch_size_epoch"), Sweep())
    found = Config(protocols=PROTOCOLS, sweeps=sweeps | {"validation": Sweep(validation="running")})
    found.report.bootstrap_resamples = 300
    return dataclasses.replace(found, **changes)


def posts_config() -> Config:
    ramp = Ramp(steps=100)
    fastai = dataclasses.replace(PROTOCOLS["blog_fastai"], ramp=ramp)
    found = config(protocols=PROTOCOLS | {"blog_fastai": fastai})
    found.model.depth, found.sweep.batch_size = 56, 512
    found.sweeps["weights"].batch_sizes = found.sweeps["validation"].batch_sizes = [512]
    found.data.name, found.data.train_images, found.data.test_images = "cifar10", 50000, 10000
    return found


def study(config_: Config | None = None, **frames) -> Study:
    lists = {
        name: pd.concat(value, ignore_index=True) if isinstance(value, list) else value
        for name, value in frames.items()
    }
    return Study(**(EMPTY | lists), config=config_ or config())


def trained(*cells: dict) -> dict[str, pd.DataFrame]:
    """Outcomes and trainings of one row or epoch per value given; defaults as the A -> B cell."""
    outcomes, trainings = [], []
    for number, given in enumerate(cells):
        cell = {
            "training": f"t{number}",
            "pair": "torch-blog_fastai",
            "backend": "torch",
            "protocol": "blog_fastai",
            "weights_seed": 0,
            "order_seed": 0,
            "batch_size": 64,
            "weights": "B",
            "lr_of": "A",
            "lr_kind": "max",
            "weights_from": "",
            "policy": "constant",
            "lr": 1.0,
            "run": f"r{number}",
            "outcome": "trains",
            "val_loss": [1.0],
            "val_accuracy": [0.5],
        } | given
        losses, accuracies = cell.pop("val_loss"), cell.pop("val_accuracy")
        counts = {"epochs": len(losses), "compared_epochs": 1}
        outcomes.append({"compared_outcome": cell["outcome"], "reason": ""} | counts | cell)
        for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1):
            measured = {"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy}
            measured["initial_loss"] = 2.3
            trainings.append({name: cell[name] for name in TRAINING_KEYS} | measured)
    return {"outcomes": pd.DataFrame(outcomes), "trainings": pd.DataFrame(trainings)}


def pairs(*disjoint: bool) -> dict:
    runs = {"A": {"run": "A"}, "B": {"run": "B"}}
    first, *others = (runs | {"gap_decades": 1.0, "disjoint": d} for d in disjoint)
    return {"torch-blog_fastai": first | {"further": others}}


def names(count: int) -> list[str]:
    return ["torch-blog_fastai", *(f"torch-blog_fastai-{i}" for i in range(2, count + 1))]
