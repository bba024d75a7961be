"""Trainings, curves and scores of the oracle, as far as the store has their runs."""

import numpy as np
import pandas as pd

from lrrt.analysis import regret
from lrrt.analysis.candidate_rates import COLUMNS as SUGGESTED
from lrrt.analysis.candidate_rates import candidate_rates
from lrrt.core.protocol import ModelSection
from lrrt.experiments.oracle import beside
from lrrt.experiments.oracle.design import Design, Run, Setting, main_ramp, score
from lrrt.runs.store import Result, Store

#: (schedule, rule) of the one contrast that was named in advance.
PRIMARY = ("constant", "blog_fastai.middle")
FIVE_SHORT, INSTABILITY = "five_short", "instability"
GRID = ("coarse", "fine", "edge")
ENOUGH_SEEDS = 2  # of the fine grid, or all of them, for a setting to count

TRAINING_TYPES = {
    **dict.fromkeys(("setting", "optimizer", "schedule", "stage", "run"), "str"),
    "seed": "int64",
    "lr": "float64",
    **dict.fromkeys(("accuracy", "log_loss", "guess", "untrained"), "float64"),
    "diverged": "bool",
    "stopped_at_step": "Int64",
}
CURVE_TYPES = {
    **dict.fromkeys(("setting", "optimizer", "run"), "str"),
    **dict.fromkeys(("ramp_steps", "draw", "step"), "int64"),
    **dict.fromkeys(("lr", "loss"), "float64"),
}
SHORT_TYPES = {
    **dict.fromkeys(("setting", "optimizer", "run"), "str"),
    "draw": "int64",
    **dict.fromkeys(("lr", "loss"), "float64"),
}
INSTABILITY_TYPES = {name: SHORT_TYPES[name] for name in SHORT_TYPES if name != "loss"}
SETTING_TYPES = {
    **dict.fromkeys(("setting", "schedule", "optimizer", "backend", "data", "model"), "str"),
    **dict.fromkeys(("measure", "repeats"), "str"),
    **dict.fromkeys(("tier", "batch_size", "steps", "trainings", "fine_seeds", "draws"), "int64"),
    **dict.fromkeys(("best_lr", "best_value", "good_from", "good_to", "floor"), "float64"),
    **dict.fromkeys(("is_smoothed", "is_cut_off", "collapses", "counts"), "bool"),
}
SCORE_TYPES = {
    **dict.fromkeys(("setting", "optimizer", "schedule", "rule"), "str"),
    **dict.fromkeys(("ramp_steps", "draw"), "int64"),
    **dict.fromkeys(("suggested_lr", "best_lr", "regret_accuracy", "regret_log_loss"), "float64"),
    "regret_share": "float64",
    **dict.fromkeys(("collapsed", "abstained", "cautioned", "beyond_grid", "counts"), "bool"),
}
RULE_TYPES = {
    **dict.fromkeys(regret.RULE_COLUMNS, "float64"),
    **dict.fromkeys(("schedule", "rule", "worst_setting"), "str"),
    **dict.fromkeys(("ramp_steps", "settings", "text_settings", "draws"), "int64"),
}
SCHEMAS = {
    "oracle_trainings.parquet": TRAINING_TYPES,
    "oracle_curves.parquet": CURVE_TYPES,
    "oracle_short.parquet": SHORT_TYPES,
    "oracle_instability.parquet": INSTABILITY_TYPES,
    "oracle_settings.parquet": SETTING_TYPES,
    "oracle_scores.parquet": SCORE_TYPES,
    "oracle_rules.parquet": RULE_TYPES,
    **beside.SCHEMAS,
}


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """Of the runs that are there:

    ``oracle_trainings.parquet``: one row a training of a grid, its accuracy and log-loss as
    ``docs/ground_truth.md`` scores them. ``oracle_curves.parquet``: the range tests, a row a step;
    ``oracle_short.parquet``: the short trainings; ``oracle_instability.parquet``: the searches.
    ``oracle_settings.parquet``: a row a setting and schedule: what was trained, the best rate and
    the rates within five points of it (of accuracy; in log-loss five hundredths of its gain),
    whether it ``counts``. ``oracle_scores.parquet``: a row a suggestion
    (:func:`lrrt.analysis.regret.score_table`). ``oracle_rules.parquet``:
    :func:`lrrt.analysis.regret.rule_table` over the settings that count. And those of
    :func:`lrrt.experiments.oracle.beside.tables`.
    """
    results = [(run, store.get(run.spec.key)) for run in design.plan(store)]
    found = [(run, result) for run, result in results if result is not None]
    of_name = {setting.name: setting for setting in design.settings}
    trainings = training_table(found, of_name)
    curves, short = curve_table(found, of_name), short_table(found, of_name)
    searched = instability_table(found, of_name)
    enough = min(ENOUGH_SEEDS, design.section.fine_seeds)
    settings = setting_table(trainings, curves, of_name, enough)
    scores = score_frame(design, trainings, curves, short, searched, settings)
    rules = rule_frame(scores)
    made = {
        "oracle_trainings.parquet": trainings,
        "oracle_curves.parquet": curves,
        "oracle_short.parquet": short,
        "oracle_instability.parquet": searched,
        "oracle_settings.parquet": settings,
        "oracle_scores.parquet": scores.table,
        "oracle_rules.parquet": rules,
        **beside.tables(found, trainings, lambda run, result: scored(run, result, of_name)),
    }
    return {
        name: table.reindex(columns=list(SCHEMAS[name])).astype(SCHEMAS[name])
        for name, table in made.items()
    }


def scored(run: Run, result: Result, settings: dict[str, Setting]) -> tuple[float, float]:
    """Accuracy and log-loss of a training."""
    return score(result, run.schedule, settings[run.setting].classes)


def training_table(found: list[tuple[Run, Result]], settings: dict[str, Setting]) -> pd.DataFrame:
    """One row a training, columns and types of :data:`TRAINING_TYPES`."""
    rows = []
    for run, result in found:
        if run.stage not in GRID:
            continue
        setting = settings[run.setting]
        accuracy, log_loss = scored(run, result, settings)
        rows.append(
            {
                "setting": run.setting,
                "optimizer": setting.optimizer,
                "schedule": run.schedule,
                "stage": run.stage,
                "run": run.spec.key[:12],
                "seed": run.seed,
                "lr": run.spec.lr,
                "accuracy": accuracy,
                "log_loss": log_loss,
                "guess": 1 / setting.classes,
                "untrained": result.record["initial_loss"] or np.log(setting.classes),
                "diverged": not np.isfinite(result.arrays["val_loss"]).all(),
                "stopped_at_step": result.record["stopped_at_step"],
            }
        )
    # A rate of the coarse grid may be one of the fine grid's or the edge's with the same seed.
    table = pd.DataFrame(rows, columns=list(TRAINING_TYPES)).astype(TRAINING_TYPES)
    return table.drop_duplicates(["setting", "schedule", "run"], ignore_index=True)


def _of_draw(run: Run, settings: dict[str, Setting]) -> dict[str, object]:
    """What names a row of a run that is no training of a grid."""
    return {
        "setting": run.setting,
        "optimizer": settings[run.setting].optimizer,
        "run": run.spec.key[:12],
        "draw": run.seed,
    }


def curve_table(found: list[tuple[Run, Result]], settings: dict[str, Setting]) -> pd.DataFrame:
    """One row a step of a range test, the columns of :data:`CURVE_TYPES`."""
    parts = []
    for run, result in found:
        if run.stage == "range_test":
            arrays = result.arrays
            columns = {"step": np.arange(run.spec.steps), "ramp_steps": run.spec.steps}
            columns |= {name: arrays[name] for name in ("lr", "loss")}
            parts.append(pd.DataFrame(_of_draw(run, settings) | columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(CURVE_TYPES))


def short_table(found: list[tuple[Run, Result]], settings: dict[str, Setting]) -> pd.DataFrame:
    """``loss``: mean over the last fifth of the steps; infinite where the training diverged."""
    rows = [
        _of_draw(run, settings)
        | {
            "lr": run.spec.lr,
            "loss": np.nan_to_num(result.arrays["train_loss"][-1], nan=np.inf),
        }
        for run, result in found
        if run.stage == "short"
    ]
    return pd.DataFrame(rows, columns=list(SHORT_TYPES))


def instability_table(
    found: list[tuple[Run, Result]], settings: dict[str, Setting]
) -> pd.DataFrame:
    """``lr``: at which one step first raises its batch's loss; NaN where no rate does."""
    rows = [
        _of_draw(run, settings) | {"lr": result.arrays["lr"][0]}
        for run, result in found
        if run.stage == "instability"
    ]
    return pd.DataFrame(rows, columns=list(INSTABILITY_TYPES))


def network_name(model: ModelSection) -> str:
    """``cnn, depth 3, width 8, no batch norm``."""
    values = {key: value for key, value in vars(model).items() if key != "name"}
    if not values.get("dropout", True):
        del values["dropout"]
    plain = values.pop("batch_norm", True) is False
    words = [f"{key} {value}" for key, value in values.items()]
    return ", ".join([model.name, *words, *["no batch norm"] * plain])


def setting_table(
    trainings: pd.DataFrame, curves: pd.DataFrame, settings: dict[str, Setting], enough: int
) -> pd.DataFrame:
    """``enough``: fine seeds that a setting needs to count."""
    rows = []
    of_measure = {measure: regret.grids(trainings, measure) for measure in ("accuracy", "log_loss")}
    for (name, schedule), trained in trainings.groupby(["setting", "schedule"], sort=False):
        setting, section = settings[name], settings[name].section
        grid = of_measure[section.measure][name, schedule]
        lrs = np.geomspace(grid.rates[0], grid.rates[-1], 1001)
        lost = grid.regret(lrs).mean(axis=0)
        good = lrs[lost <= 0.05 * (1 if section.measure == "accuracy" else grid.gain)]
        whole = trained[trained["stage"] == "fine"].groupby("seed")["lr"].nunique()
        fine_seeds, drawn = int((whole >= regret.FINE).sum()), curves[curves["setting"] == name]
        draws = drawn["draw"].nunique()
        rows.append(
            {
                "setting": name,
                "schedule": schedule,
                "optimizer": setting.optimizer,
                "backend": section.backend,
                "data": section.data,
                "model": network_name(section.model),
                "measure": section.measure,
                "repeats": section.repeats or "",
                "tier": section.tier,
                "batch_size": section.batch_size,
                "steps": section.steps,
                "trainings": len(trained),
                "fine_seeds": fine_seeds,
                "draws": draws,
                "best_lr": grid.best.lr,
                "best_value": abs(float(grid.held_out[1].mean())),
                "good_from": good.min() if len(good) else np.nan,
                "good_to": good.max() if len(good) else np.nan,
                "floor": abs(grid.floor),
                "is_smoothed": grid.best.is_smoothed,
                "is_cut_off": grid.is_cut_off,
                "collapses": bool((lost > regret.COLLAPSE * grid.gain).any()),
                "counts": fine_seeds >= enough and not section.repeats and draws > 0,
            }
        )
    return pd.DataFrame(rows, columns=list(SETTING_TYPES)).astype(SETTING_TYPES)


def score_frame(
    design: Design,
    trainings: pd.DataFrame,
    curves: pd.DataFrame,
    short: pd.DataFrame,
    searched: pd.DataFrame,
    settings: pd.DataFrame,
) -> regret.Scores:
    """Scores of all suggestions; ``counts`` as in the table of settings."""
    if not len(curves) or not len(trainings):
        return regret.Scores(pd.DataFrame(columns=[*SCORE_TYPES, "place"]), {})
    ramp = main_ramp(design.section.ramps)
    searched = searched.assign(rule=INSTABILITY, ramp_steps=ramp, cautioned=False)[list(SUGGESTED)]
    parts = [candidate_rates(curves), five_short(short, ramp), searched]
    suggested = pd.concat([part for part in parts if len(part)], ignore_index=True)
    by_log_loss = set(settings.loc[settings["measure"] == "log_loss", "setting"])
    counted = settings[settings["counts"]].set_index(["setting", "schedule"]).index
    parts, by_seed = [], {}
    for schedule, trained in trainings.groupby("schedule", sort=False):
        own = [setting for setting, of_schedule in counted if of_schedule == schedule]
        teaching = suggested[suggested["setting"].isin(own) & (suggested["ramp_steps"] == ramp)]
        teaching = teaching[~teaching["rule"].str.match("fixed|random")]
        scaled = regret.times_constant(trained, teaching, schedule, by_log_loss=by_log_loss)
        rates = pd.concat([suggested, scaled[list(SUGGESTED)]], ignore_index=True)
        scores = regret.score_table(trained, rates, by_log_loss=by_log_loss)
        by_seed |= scores.by_seed
        parts.append(scores.table)
    table = pd.concat(parts, ignore_index=True)
    cases = table.set_index(["setting", "schedule"]).index
    table["counts"] = cases.isin(counted)
    return regret.Scores(table, by_seed)


def five_short(short: pd.DataFrame, ramp_steps: int) -> pd.DataFrame:
    """Of each draw's short trainings the rate of the lowest loss; none where all diverged."""
    rows = []
    for (setting, optimizer, draw), of_draw in short.groupby(["setting", "optimizer", "draw"]):
        best = of_draw.loc[of_draw["loss"].idxmin()]
        lr = best["lr"] if np.isfinite(best["loss"]) else np.nan
        rows.append((setting, optimizer, FIVE_SHORT, ramp_steps, draw, lr, False))
    return pd.DataFrame(rows, columns=list(SUGGESTED))


def rule_frame(scores: regret.Scores) -> pd.DataFrame:
    """:func:`lrrt.analysis.regret.rule_table` over the settings that count."""
    counted = scores.table[scores.table["counts"].astype(bool)]
    if not len(counted):
        return pd.DataFrame(columns=list(RULE_TYPES))
    return regret.rule_table(scores._replace(table=counted), primary=PRIMARY)
