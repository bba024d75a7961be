"""What the pages say of the ground truth, from its tables: blocks for ``docs/generate.py``."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import rule_scores
import yaml

ROOT = Path(__file__).parents[1]
ORACLE, EXTERNAL = ROOT / "data" / "oracle", ROOT / "ground_truth" / "results"
SCHEDULES = {"constant": "constant rate", "one_cycle": "one cycle"}
PRIMARY = "blog_fastai.middle"
RUNS = ("trainings", "curves", "short", "instability")  # tables with a run a row, or more
NONE_YET = "No setting is complete yet."


def table(name: str) -> pd.DataFrame:
    return pd.read_parquet(ORACLE / f"oracle_{name}.parquet")


def rows(header: list[str], lines: list[list]) -> str:
    ruled = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in ruled)


def main_rules() -> pd.DataFrame:
    """The table of rules at the main ramp; empty while no setting counts."""
    if not (ORACLE / "oracle_rules.parquet").exists():
        return pd.DataFrame(columns=["rule", "schedule", "ramp_steps"])
    rules = table("rules")
    return rules[rules["ramp_steps"] == 100]


def planned() -> int:
    """How many settings the study of the ground truth has, without those that repeat one."""
    study = yaml.safe_load((ROOT / "conf" / "study" / "oracle.yaml").read_text())
    return sum("repeats" not in setting for setting in study["oracle"]["settings"].values())


def oracle_counts() -> str:
    """How much of the protocol has been run."""
    settings = table("settings")
    counted = settings[settings["counts"]].groupby("schedule")["setting"].nunique()
    words = [f"{counted.get(key, 0)} with {name}" for key, name in rule_scores.SCHEDULES.items()]
    is_repeat, by_log_loss = settings["repeats"] != "", settings["measure"] == "log_loss"
    repeats = settings.loc[is_repeat, "setting"].nunique()
    texts = settings.loc[settings["counts"] & by_log_loss, "setting"].nunique()
    of_text = f" ({texts} of them are text and have no points of accuracy)" if texts else ""
    trainings, curves = table("trainings"), table("curves")
    tests = len(curves[["setting", "ramp_steps", "draw"]].drop_duplicates())
    hours, diverged = sum(seconds().values()) / 3600, int(trainings["diverged"].sum())
    return (
        f"{settings.loc[~is_repeat, 'setting'].nunique()} of {planned()} settings have been begun; "
        f"{' and '.join(words)} count{of_text}. {repeats} more repeat one of them. They have "
        f"{len(trainings):,} trainings of grids ({diverged} diverged), {tests} range tests "
        f"and took {hours:.1f} hours of wall-clock time on one shared core."
    )


def seconds() -> dict[str, float]:
    """Wall-clock seconds by run."""
    return json.loads((ORACLE / "timings" / "oracle.json").read_text())


def oracle_settings() -> str:
    """A row a setting."""
    settings, spent = table("settings"), seconds()
    runs = pd.concat([table(name)[["setting", "run"]] for name in RUNS])
    minutes = (
        runs.drop_duplicates()
        .groupby("setting")["run"]
        .agg(lambda names: sum(spent.get(run, 0.0) for run in names) / 60)
    )
    lines = []
    for name, of_setting in settings.groupby("setting", sort=False):
        of_schedule = of_setting.set_index("schedule")
        cells = [
            _best(of_schedule.loc[key]) if key in of_schedule.index else "none yet"
            for key in SCHEDULES
        ]
        first = of_setting.iloc[0]
        what = f"{first['model']}, {first['data']}"
        lines.append([f"`{name}`", what, *cells, f"{minutes[name]:.0f}"])
    head = ["setting", "network, data", *(f"best rate, {name}" for name in SCHEDULES.values())]
    return rows([*head, "minutes"], lines)


def _best(setting: pd.Series) -> str:
    if not setting["counts"] and not setting["repeats"]:
        return f"does not count yet (trainings: {setting['trainings']})"
    value = f"{setting['best_value']:.1%}"
    if setting["measure"] == "log_loss":
        value = f"{setting['best_value']:.2f} nats"
    words = f"{setting['best_lr']:.2g} ({setting['good_from']:.2g} to {setting['good_to']:.2g}): "
    words += f"{value}, {setting['trainings']} trainings"
    words += "; cut off" if setting["is_cut_off"] else ""
    return words + ("" if setting["collapses"] else "; nothing collapses")


def oracle_rules() -> str:
    """A row a rule: what it loses with either schedule."""
    rules = main_rules()
    if not len(rules):
        return NONE_YET
    wide = rules.set_index(["rule", "schedule"])
    order = rules[rules["schedule"] == rules["schedule"].iloc[0]].sort_values("regret")["rule"]
    lines = [
        [f"`{rule}`", *(_lost(wide, rule, key) for key in SCHEDULES), *_where(wide, rule)]
        for rule in order
    ]
    head = [f"points lost, {name}" for name in SCHEDULES.values()]
    n = int((rules["settings"] + rules["text_settings"]).max())
    more = [f"log-loss lost, constant rate (n = {n})", "within 5 points", "decades above, below"]
    return rows(["rule", *head, *more, "abstains"], lines)


def _lost(wide: pd.DataFrame, rule: str, schedule: str) -> str:
    if (rule, schedule) not in wide.index:
        return "none yet"
    row = wide.loc[(rule, schedule)]
    bound = f"; 90 %: {100 * row['regret_90']:.1f}" if np.isfinite(row["regret_90"]) else ""
    collapse = f"; collapses {row['collapse_rate']:.0%}" if row["collapse_rate"] > 0 else ""
    return (
        f"{100 * row['regret']:.1f} [{100 * row['regret_low']:.1f}, "
        f"{100 * row['regret_high']:.1f}]{bound}{collapse}"
    )


def _where(wide: pd.DataFrame, rule: str) -> list[str]:
    row = (
        wide.loc[(rule, "constant")] if (rule, "constant") in wide.index else wide.loc[rule].iloc[0]
    )
    away = f"{row['above']:.2f}, {row['below']:.2f}"
    low, high, share = (100 * row[name] for name in ("share_low", "share_high", "share"))
    log_loss = f"{share:.1f} [{low:.1f}, {high:.1f}]"
    return [log_loss, f"{row['within_5']:.0%}", away, f"{row['abstained']:.0%}"]


def oracle_primary() -> str:
    """The contrast that was named in advance."""
    rules = main_rules()
    found = rules[(rules["rule"] == PRIMARY) & (rules["schedule"] == "constant")]
    if not len(found) or not np.isfinite(found.iloc[0]["against_low"]):
        return NONE_YET
    row = found.iloc[0]
    low, high, mean = (100 * row[f"against_{name}"] for name in ("low", "high", "default"))
    return (
        f"**Primary contrast**: the middle of `blog_fastai`'s range loses {mean:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}] more than the fixed default (n = {int(row['settings'])} "
        f"settings, p = {row['p']:.2g})."
    )


def external_rules() -> str:
    """The rules that lose least and most on the public trainings."""
    rules = pd.read_parquet(EXTERNAL / "rules.parquet")
    rules = rules[rules["ramp_steps"] == 100]
    cases = sorted(rules["setting"].unique())
    wide = rules.set_index(["rule", "setting"])
    order = rules.groupby("rule")["regret"].mean().sort_values().index
    lines = [
        [f"`{rule}`", *(_external(wide.loc[(rule, case)]) for case in cases)] for rule in order
    ]
    heads = [
        f"{case.split('-')[1]}: best {wide.xs(case, level=1)['best_lr'].iloc[0]:.2g}, "
        f"n = {int(wide.xs(case, level=1)['draws'].max())}"
        for case in cases
    ]
    return rows(["rule", *heads], lines)


def _external(row: pd.Series) -> str:
    collapse = f"; collapses {row['collapse_rate']:.0%}" if row["collapse_rate"] > 0 else ""
    return f"{row['median_lr']:.2g}: {100 * row['regret']:.1f}{collapse}"


def draw(docs: Path) -> None:
    """The figures of all settings; that of the answer of a dark page, too."""
    from lrrt.report import style
    from lrrt.report.figures import answer, ground_truth

    data = oracle_data()
    paths = {answer: docs / "images" / "answer.png", ground_truth: docs / "ground_truth.png"}
    with style.project_style():
        for module, path in paths.items():
            figure = module.draw(data)
            if figure is None:
                continue
            style.head(figure, module.title(data))
            path.write_bytes(style.png(figure, 110))
            if module is answer:
                style.darken(figure)
                path.with_stem("answer-dark").write_bytes(style.png(figure, 110))


def oracle_data() -> SimpleNamespace:
    """What the figures of all settings are made from."""
    return SimpleNamespace(
        tables={file.stem: pd.read_parquet(file) for file in ORACLE.glob("oracle_*.parquet")}
    )


def hero() -> str:
    """The figure that answers, for the README."""
    from lrrt.report.figures import answer

    return (
        "<picture>\n"
        '  <source media="(prefers-color-scheme: dark)" srcset="docs/images/answer-dark.png">\n'
        f'  <img src="docs/images/answer.png" width="480" alt="{answer.title(oracle_data())}">\n'
        "</picture>"
    )


BLOCKS = {
    function.__name__: function
    for function in (
        hero,
        oracle_counts,
        oracle_settings,
        oracle_rules,
        oracle_primary,
        external_rules,
    )
}
