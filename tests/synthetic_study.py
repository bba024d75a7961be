"""A study made from formulas in a moment: planned and collected as a real one, not trained."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from frames import write_params
from omegaconf import OmegaConf
from PIL import Image

from lrrt import plugins
from lrrt.analysis.suggestions import curves_file, suggestion_table
from lrrt.compose import composed_yaml
from lrrt.config import Config, from_mapping
from lrrt.core.ramp import training_lrs
from lrrt.experiments import Input
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result

CONF = Path(__file__).parents[1] / "conf"
DIGEST = "d" * 64
EVIL = "<script>alert('$x$ & \"y\"')</script>"  # for what no page may run
EVIL_PROTOCOL = '<b>"$x$&'
VERSIONS = {"lrrt": "0.1.0", "python": "3.11.7", "numpy": "2.4.6"}
SMALL = (
    "data=digits",
    "data.train_images=12800",
    "data.test_images=300",
    "model=resnet8_half",
    "protocols.blog_keras.augmentation=shift",
    "protocols.blog_keras.flip=true",
    "protocols.blog_fastai.augmentation=crop",
    "protocols.blog_fastai.flip=true",
    "sweep.batch_size=64",
    "sweep.runs=6",
    "sweep.crossed_runs=3",
    "sweep.steps=60",
    "sweeps.order.runs=6",
    "sweeps.order.crossed_runs=1",
    "sweeps.batch_size.batch_sizes=[32,64,128]",
    "sweeps.batch_size.runs=1",
    "sweeps.batch_size.crossed_runs=1",
    "sweeps.batch_size.steps=60",
    "sweeps.validation.crossed_runs=1",
    "divergence.cases=[{case: keras-blog_keras, pairs: 2, grids: 1}, "
    "{case: torch-blog_fastai, pairs: 2, grids: 1}]",
    "divergence.policies=[]",
    "divergence.epochs=3",
    "divergence.transfer_epochs=3",
    "divergence.steps_per_epoch=30",
    "attribution.factors=[gradient_clip]",
    "attribution.runs=2",
    "attribution.orders=0",
    "variance.protocols=[blog_fastai]",
    "variance.weights=3",
    "variance.orders=4",
    "instrument.protocols=[blog_fastai]",
    "instrument.runs=2",
    "instrument.steps=[50]",
    "instrument.restarts=5",
    "instrument.batch_size=16",
    "mechanism.protocols=[blog_keras]",
    "mechanism.runs=1",
    "mechanism.points=6",
    "mechanism.batch_size=16",
)


def config(*overrides: str, name: str = "synthetic") -> Config:
    """The default study's configuration, smaller."""
    return from_mapping(
        OmegaConf.create(composed_yaml(CONF, [f"study.name={name}", *SMALL, *overrides]))
    )


class Formulas:
    """In a store's place: the result of each specification, from formulas and its seeds."""

    path = "formulas"

    def __init__(self, specs: list[RunSpec]):
        self.specs = {spec.key: spec for spec in specs}

    def get(self, key: str) -> Result:
        spec = self.specs[key]
        kinds = {"range_test": range_test, "training": training, "curvature": curvature}
        kinds["instability"] = instability
        arrays, record = kinds[spec.kind](spec)
        return Result(arrays, record | {"versions": VERSIONS, "seconds": 1.0})


def explosion(spec: RunSpec) -> float:
    """The LR at which this network's loss explodes."""
    clipped = spec.protocol.gradient_clip is not None
    seeds = [spec.weights_seed, spec.order_seed, clipped, *_own(spec.augmentation_seed)]
    random = np.random.default_rng(seeds)
    scale = (spec.batch_size / 64) ** 0.7 * 10 ** random.normal(0, 0.4)
    return (30.0 if clipped else 1.0) * float(scale)


def _own(augmentation_seed: int | None) -> list[int]:
    return [] if augmentation_seed is None else [augmentation_seed]


def range_test(spec: RunSpec) -> tuple[dict, dict]:
    """A plateau, a fall, an explosion, then losses that are not finite."""
    random = np.random.default_rng([spec.weights_seed, spec.order_seed, spec.batch_size])
    lr = training_lrs(spec.protocol.ramp, spec.steps)
    limit = explosion(spec)
    start = 3.0 + 0.4 * random.normal()
    fall = 0.65 * start / (1 + (limit / 300 / lr) ** 1.1)
    with np.errstate(over="ignore"):
        loss = start - fall + (lr / limit) ** 2.6
    arrays = {"lr": lr, "grad_norm": np.full(spec.steps, 20.0)}
    arrays["loss"] = loss + random.normal(0, 0.9 / np.sqrt(spec.batch_size), spec.steps)
    arrays["loss"][lr > 60 * limit] = np.nan
    arrays["penalty"] = np.full(spec.steps, 0.4 if spec.protocol.weight_decay.kind == "l2" else 0)
    if spec.validation != "none":
        arrays["val_loss"] = start - fall + (10 * lr / limit) ** 2.6
        arrays["val_loss"] *= 1.0 if spec.validation == "batch" else 1.3
        arrays["val_accuracy"] = np.clip(1 - arrays["val_loss"] / 3, 0.1, 0.9)
    return arrays, {}


def instability(spec: RunSpec) -> tuple[dict, dict]:
    """A rate of its own, a decade below the explosion."""
    return {"lr": np.array([explosion(spec) / 10])}, {}


def curvature(spec: RunSpec) -> tuple[dict, dict]:
    """The range test, and an eigenvalue that its LR overtakes a decade below the explosion."""
    arrays, record = range_test(spec)
    measured = np.full(spec.steps, np.nan)
    measured[list(spec.measured)] = 1.0
    measured[~np.isfinite(arrays["loss"])] = np.nan
    arrays["eigenvalue"] = measured * 20 / explosion(spec)
    arrays["products"], arrays["update_ratio"] = 6 * measured, arrays["lr"] * measured
    return arrays, record


def training(spec: RunSpec) -> tuple[dict, dict]:
    """Faster at larger LRs, up to one at which it diverges."""
    limit = explosion(spec) / 4
    epoch = np.arange(1, spec.epochs + 1, dtype=float)
    loss = 2.3 * np.exp(-min(1.0, 3 * spec.lr / limit) * epoch)
    record = {"stopped_at_step": None, "initial_loss": 2.6, "peak_loss": 2.7}
    if spec.lr > limit:
        loss[1:] = np.nan
        record |= {"stopped_at_step": spec.steps + 3, "peak_loss": 1e9}
    accuracy = np.clip(1 - loss / 2.5, 0.1, 1)
    arrays = {"epoch": epoch, "lr": np.full(spec.epochs, spec.lr), "train_loss": loss}
    arrays |= {"train_eval_loss": loss, "train_accuracy": accuracy}
    arrays |= {"val_loss": 1.1 * loss, "val_accuracy": accuracy}
    return arrays, record


def frames(config: Config) -> dict[str, Any]:
    """What every experiment writes, and ``suggestions.parquet``, by file name."""
    dataset = SimpleNamespace(digest=DIGEST, classes=tuple("0123456789"))
    found: dict[str, Any] = {}

    def read(asked: Input) -> pd.DataFrame:
        parts = [found[file] for file in asked.files]
        return pd.concat(parts or [pd.DataFrame(columns=[*asked.columns])], ignore_index=True)

    # A setting of the oracle has a data set of its own, which nothing here reads.
    unprepared = mock.patch(
        "lrrt.experiments.oracle.design.prepare", return_value=(Path("none"), DIGEST, 10)
    )
    for name in ("sweep", *(n for n in plugins.names("lrrt.experiments") if n != "sweep")):
        design, tables = (
            plugins.part("lrrt.experiments", name, p, "") for p in ("design", "tables")
        )
        inputs = design.inputs(config) if hasattr(design, "inputs") else {}
        frames = {key: read(asked) for key, asked in inputs.items()}
        with unprepared:
            made = design.design(config, dataset, **frames)
        found |= tables.tables(made, Formulas(made.specs))
        found[f"timings/{name}.json"] = {spec.key[:12]: 1.0 for spec in made.specs}
        if name == "sweep":
            tables_of_curves = [found[curves_file(case)] for case in config.cases]
            curves = pd.concat(tables_of_curves, ignore_index=True)
            found["suggestions.parquet"] = suggestion_table(curves, config.protocols)
    return found


def write(root: Path, config: Config) -> None:
    """All files of the study under ``root``/data/<study>, and ``root``/params.yaml."""
    folder = root / "data" / config.study.name
    for inner in ("curves", "timings"):
        (folder / inner).mkdir(parents=True)
    for file, content in frames(config).items():
        if isinstance(content, pd.DataFrame):
            content.to_parquet(folder / file, index=False)
        else:
            (folder / file).write_text(json.dumps(content))
    described = {
        "name": config.data.name,
        "description": "Made from formulas; not a measurement.",
        "digest": DIGEST,
        "images": {"train": 100, "test": 50},
        "classes": list("0123456789"),
        "sources": {},
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(picture, "PNG")
    (folder / "samples.png").write_bytes(picture.getvalue())
    write_params(config, root)
