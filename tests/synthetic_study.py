"""A small study made from formulas in a moment: every file that the report reads, none trained."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lrrt.analysis.tables import by_own_rule, suggestion_table
from lrrt.compose import composed_yaml
from lrrt.config import Config, from_mapping
from lrrt.core.curve import COLUMNS
from lrrt.core.ramp import training_lrs
from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf"
DIGEST = "d" * 64
VERSIONS = {"lrrt": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "torch": "2.13.0"}
STEPS = 60
EPOCHS = 4


def config(*overrides: str, name: str = "synthetic") -> Config:
    """The default study's configuration, smaller."""
    small = [f"study.name={name}", "sweep.runs=6", "sweep.crossed_runs=3", f"sweep.steps={STEPS}"]
    return from_mapping(OmegaConf.create(composed_yaml(CONF, [*small, *overrides])))


def loss_of(lr: np.ndarray, start: float, descent: float, explosion: float, noise) -> np.ndarray:
    """A plateau, a fall around LR ``descent``, an explosion around ``explosion``."""
    x = np.log10(lr)
    floor = 0.35 * start
    fall = (start - floor) / (1 + np.exp(-2.5 * (np.log10(descent) - x)))
    with np.errstate(over="ignore"):
        blow = np.exp(6 * (x - np.log10(explosion)))
    return floor + fall + blow + noise


def curves(config: Config, backend: str, protocol: str, sweep: str) -> pd.DataFrame:
    """Range tests of one case, as the sweep stage's tables have them."""
    sweep_config, details = config.sweeps[sweep], config.protocols[protocol]
    home = details.home == backend
    clipped = details.gradient_clip is not None
    parts = []
    for size in sweep_config.batch_sizes:
        for i in range(sweep_config.runs if home else sweep_config.crossed_runs):
            seeds = (i if sweep_config.new_weights else 0, i if sweep_config.new_order else 0)
            random = np.random.default_rng([seeds[0], seeds[1], size, clipped])
            steps = sweep_config.steps or STEPS
            lr = training_lrs(details.ramp, steps)
            scale = (10.0 if clipped else 0.3) * (size / 64) ** 0.7 * 10 ** random.normal(0, 0.3)
            start = 3.0 + 0.4 * random.normal()
            noise = random.normal(0, 0.9 / np.sqrt(size), steps)
            loss = loss_of(lr, start, scale / 300, scale, noise)
            loss[lr > 60 * scale] = np.nan
            part = pd.DataFrame({"lr": lr, "loss": loss, "grad_norm": 20.0, "step": range(steps)})
            part["penalty"] = 0.4 if details.weight_decay.kind == "l2" else 0.0
            if sweep_config.validation != "none":
                lag = 1.0 if sweep_config.validation == "batch" else 1.4
                part["val_loss"] = loss_of(lr, start, scale / 300, scale / 10, 0 * noise) * lag
                part["val_accuracy"] = np.clip(1 - part["val_loss"] / 3, 0.1, 0.9)
            names = {"run": f"{i:02d}{size:04d}{backend[0]}{protocol[5]}{sweep[0]}".ljust(12, "0"),
                     "backend": backend, "protocol": protocol, "sweep": sweep,
                     "weights_seed": seeds[0], "order_seed": seeds[1], "batch_size": size}  # fmt: skip
            parts.append(part.assign(**names).reindex(columns=COLUMNS))
    table = pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)
    table = table.astype({"val_loss": float, "val_accuracy": float})
    table.attrs = {"data_digests": [DIGEST], "versions": [VERSIONS]}
    return table


def pairs(config: Config, suggestions: pd.DataFrame) -> dict:
    """A and B of each case of the divergence stage: lowest and highest max LR."""
    found = {}
    for backend, protocol in config.divergence.pairs:
        rows = by_own_rule(suggestions, config.protocols)
        rows = rows[(rows["sweep"] == "weights") & (rows["backend"] == backend)]
        rows = rows[rows["protocol"] == protocol].dropna(subset=["min_lr", "max_lr"])
        rows = rows.sort_values("max_lr")
        ends = [rows.iloc[-1], rows.iloc[0]]
        gap = float(np.log10(ends[0]["min_lr"] / ends[1]["max_lr"]))
        members = {
            letter: {
                "run": row["run"], "weights_seed": int(row["weights_seed"]),
                "order_seed": int(row["order_seed"]),
                "min_lr": float(row["min_lr"]), "max_lr": float(row["max_lr"]),
            }
            for letter, row in zip("AB", ends, strict=True)
        }  # fmt: skip
        found[f"{backend}-{protocol}"] = members | {
            "gap_decades": gap, "disjoint": gap > 0, "n": len(rows),
            "disjoint_pairs": int(gap > 0), "pairs": len(rows) * (len(rows) - 1) // 2,
        }  # fmt: skip
    return found


def trainings(config: Config, pairs: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trainings of each pair at both ranges, and their outcomes; one transfer across backends."""
    epochs, outcomes = [], []
    for backend, protocol in config.divergence.pairs:
        pair = pairs[f"{backend}-{protocol}"]
        cells = [("both", "reference", 0.1)]
        for letter in "AB":
            low, high = pair[letter]["min_lr"], pair[letter]["max_lr"]
            cells += [(letter, "min", low), (letter, "middle", (low * high) ** 0.5),
                      (letter, "max", high)]  # fmt: skip
        grid = [(weights, "", *cell) for weights in "AB" for cell in cells]
        grid.append(("A", "torch" if backend == "keras" else "keras", "A", "max",
                     pair["A"]["max_lr"]))  # fmt: skip
        limit = pair["B"]["max_lr"] * 8
        for number, (weights, source, lr_of, lr_kind, lr) in enumerate(grid):
            same = {
                "training": f"{backend[0]}{protocol[5]}{number:02d}".ljust(12, "0"),
                "pair": f"{backend}-{protocol}", "backend": backend, "protocol": protocol,
                "weights_seed": pair[weights]["weights_seed"], "weights": weights, "lr_of": lr_of,
                "lr_kind": lr_kind, "weights_from": source, "policy": "constant", "lr": lr,
            }  # fmt: skip
            diverged = lr > limit
            speed = min(1.0, lr / limit * 4)
            outcome = "diverged" if diverged else "trains" if speed > 0.2 else "stalls"
            for epoch in range(1, EPOCHS + 1):
                loss = 2.3 * np.exp(-speed * epoch)
                loss = np.nan if diverged and epoch > 1 else loss * (30 if diverged else 1)
                accuracy = np.nan if np.isnan(loss) else float(np.clip(1 - loss / 2.5, 0.1, 1))
                epochs.append(same | {
                    "epoch": epoch, "step_lr": lr, "train_loss": loss, "train_eval_loss": loss,
                    "train_accuracy": accuracy, "val_loss": 1.1 * loss, "val_accuracy": accuracy,
                })  # fmt: skip
            outcomes.append(same | {
                "outcome": outcome, "reason": "by formula",
                "stopped_at_step": 41 if diverged else None,
            })  # fmt: skip
    return pd.DataFrame(epochs), pd.DataFrame(outcomes).astype({"stopped_at_step": "Int64"})


def write(root: Path, config: Config) -> None:
    """All files of the study under ``root``/data/<study>, and ``root``/params.yaml."""
    study = config.study
    folder = root / "data" / study.name
    (folder / "curves").mkdir(parents=True)
    tables = {
        (backend, protocol, sweep): curves(config, backend, protocol, sweep)
        for backend in study.backends for protocol in study.protocols for sweep in study.sweeps
    }  # fmt: skip
    for case, table in tables.items():
        table.to_parquet(folder / "curves" / f"{'-'.join(case)}.parquet", index=False)
    filled = [table for table in tables.values() if len(table)]
    suggestions = suggestion_table(pd.concat(filled, ignore_index=True), config.protocols)
    suggestions.to_parquet(folder / "suggestions.parquet", index=False)
    chosen = pairs(config, suggestions)
    epochs, outcomes = trainings(config, chosen)
    epochs.to_parquet(folder / "trainings.parquet", index=False)
    outcomes.to_parquet(folder / "outcomes.parquet", index=False)
    (folder / "pairs.json").write_text(json.dumps(chosen))
    described = {"name": config.data.name, "description": "Made from formulas; not a measurement.",
                 "digest": DIGEST, "images": {"train": 100, "test": 50}, "sources": {}}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(described))
    (folder / "samples.png").write_bytes(_dot())
    (root / "params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


def _dot() -> bytes:
    """A PNG of one pixel."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(buffer, "PNG")
    return buffer.getvalue()
