"""Accuracy over a grid of learning rates, and below it what the rules suggest: one setting."""

import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.accuracy import AccuracyOverRate, accuracy_over_grid
from lrrt.report import style
from lrrt.report.figures import ANSWER
from lrrt.report.figures._trainings import accuracy_axis
from lrrt.report.figures.accuracy import KINDS, draw_bars
from lrrt.report.study import StudyData
from lrrt.report.wording import name, number, percent

ORDER = 12
SECTION = ANSWER
COLOUR = style.TRAIN_COLOUR
SHOWN = ("edge", "blog_fastai", "blog_keras", "fastai_valley")


def choice(data: StudyData) -> pd.Series | None:
    """The first setting that was trained at a constant rate and is judged by accuracy."""
    settings = data.tables["oracle_settings"]
    own = settings[settings["schedule"].eq("constant") & settings["measure"].eq("accuracy")]
    return own.iloc[0] if len(own) and own["draws"].iloc[0] else None


def accuracies(data: StudyData) -> AccuracyOverRate:
    names = ("oracle_trainings", "oracle_scores")
    return accuracy_over_grid(*(data.tables[name] for name in names), choice(data)["setting"])


def suggestions(shown: AccuracyOverRate) -> pd.DataFrame:
    """The rules that are drawn, the lowest rate first; ``name``."""
    kinds = {"one": "", "pooled": ", tests pooled"} | {kind: f", {KINDS[kind]}" for kind in KINDS}
    rows = shown.suggested[shown.suggested["rule"].isin(SHOWN)].dropna(subset=["median_lr"])
    rows = rows[rows["kind"].isin(kinds)]  # not the rates for one cycle
    kinds = rows["kind"].map(kinds)
    return rows.assign(name=rows["rule"] + kinds).sort_values("median_lr")


def title(data: StudyData) -> str:
    best = accuracies(data).best
    return (
        f"Accuracy is within five points of the best from {number(best['good_from'])} to "
        f"{number(best['good_to'])}; what the rules suggest, and what it costs"
    )


def caption(data: StudyData) -> str:
    setting, shown = choice(data), accuracies(data)
    diverged = int((shown.trainings["outcome"] == "diverged").sum())
    bars = suggestions(shown)
    runs = f"{bars['n'].max()} range tests" if len(bars) else "no suggestion"
    return (
        f"{network(setting)} on {name(setting['data'])}, batch {setting['batch_size']}, "
        f"{setting['steps']} steps at a constant rate (n = {len(shown.trainings)} trainings, "
        f"{shown.trainings['weights_seed'].nunique()} seeds, {diverged} diverged); line and band: "
        "mean, lowest and highest seed. Below: the median suggestion and 10 to 90 % of "
        f"{runs}, and the points of accuracy lost by training there."
    )


def source(data: StudyData) -> str:
    setting = choice(data)
    return f"Study {data.config.study.name}: {network(setting)}, {name(setting['data'])}."


def network(setting: pd.Series) -> str:
    """``"MLP, depth 2, width 64"``."""
    kind, comma, more = setting["model"].partition(",")
    return f"{name(kind)}{comma}{more}"


def draw(data: StudyData) -> Figure | None:
    if choice(data) is None:
        return None
    shown = accuracies(data)
    bars = suggestions(shown)
    figure, grid = style.axes(
        2, 1, (style.WIDTH, 4.7), sharex=True, height_ratios=[3, 0.4 + 0.28 * len(bars)]
    )
    (upper, lower), curve, best = grid[:, 0], shown.curve, shown.best
    for ax in (upper, lower):
        ax.axvspan(best["good_from"], best["good_to"], color=style.LINE, alpha=0.6, linewidth=0)
    upper.fill_between(curve["lr"], curve["low"], curve["high"], color=COLOUR, alpha=0.18, lw=0)
    upper.plot(curve["lr"], curve["accuracy"], color=COLOUR, linewidth=1.4)
    for outcome, rows in shown.trainings.groupby("outcome"):
        tips = [
            f"seed {row.weights_seed}, LR {number(row.lr)}: {percent(row.accuracy)}, {outcome}"
            for row in rows.itertuples()
        ]
        looks = {"color": style.INK, "marker": style.MARKERS[outcome], "alpha": 0.7}
        style.dots(upper, rows["lr"], rows["accuracy"], tips, **looks)
    upper.set(ylabel="validation accuracy")
    accuracy_axis(upper)
    draw_bars(lower, bars, COLOUR)
    return figure
