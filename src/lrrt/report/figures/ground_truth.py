"""What training at each rule's suggestion costs, over the settings that were trained on a grid."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import RULE
from lrrt.report.study import StudyData
from lrrt.report.wording import percent

ORDER = 5
SECTION = RULE
FEWEST = 3  # settings that make an average over settings
SCHEDULES = {"constant": "constant learning rate", "one_cycle": "one cycle up to the suggestion"}
SCALED = " x constant"  # rules times a fitted constant have a place in the table alone
ONE_CYCLE = ".one_cycle"  # of a rule that has a rate of its own for one cycle
TRAINED_WITH = {"constant": "a constant rate", "one_cycle": "one cycle"}
WIDEST = 3.0  # decades from the best that are drawn


class Row(NamedTuple):
    """Rules that said the same of every curve, by one line of the table of rules."""

    rules: tuple[str, ...]
    of_rule: pd.Series
    away: pd.DataFrame  # setting, decades (median over draws) from the best rate, is_text

    @property
    def name(self) -> str:
        more = f" (and {len(self.rules) - 1} more)" if len(self.rules) > 1 else ""
        return min(self.rules, key=len) + more


def rows(data: StudyData) -> dict[str, list[Row]]:
    """By schedule, the rule that loses least first; nothing of fewer than three settings."""
    rules, scores = data.tables["oracle_rules"], data.tables["oracle_scores"]
    texts = _settings(data, data.tables["oracle_settings"]["measure"] == "log_loss")
    rules = rules[rules["settings"] >= FEWEST]
    if not len(rules):
        return {}
    ramp = 100 if (rules["ramp_steps"] == 100).any() else rules["ramp_steps"].max()
    scores = scores[scores["counts"] & (scores["ramp_steps"] == ramp)]
    found: dict[str, list[Row]] = {}
    for schedule in [s for s in SCHEDULES if (rules["schedule"] == s).any()]:
        own = rules[(rules["schedule"] == schedule) & (rules["ramp_steps"] == ramp)]
        own = own[~own["rule"].str.endswith(SCALED)].sort_values("regret")
        for_one_cycle = {rule for rule in own["rule"] if rule.endswith(ONE_CYCLE)}
        for_constant = {rule.removesuffix(ONE_CYCLE) for rule in for_one_cycle}
        other = for_one_cycle if schedule == "constant" else for_constant
        own = own[~own["rule"].isin(other)]
        drawn = scores[scores["schedule"] == schedule].sort_values(["setting", "draw"])
        alike: dict[tuple, list[str]] = {}
        for rule in own["rule"]:
            lrs = drawn.loc[drawn["rule"] == rule, "suggested_lr"]
            alike.setdefault(tuple(lrs.round(12)), []).append(rule)
        for names in alike.values():
            of_rule = own[own["rule"] == names[0]].iloc[0]
            mine = drawn[drawn["rule"] == names[0]]
            decades = np.log10(mine["suggested_lr"] / mine["best_lr"])
            away = decades.groupby(mine["setting"]).median().rename("decades").reset_index()
            away["is_text"] = away["setting"].isin(texts)
            found.setdefault(schedule, []).append(Row(tuple(names), of_rule, away))
    return found


def _settings(data: StudyData, which: pd.Series) -> list[str]:
    """Names of the settings that count, of those rows of their table."""
    table = data.tables["oracle_settings"]
    return sorted(table.loc[table["counts"] & which, "setting"].unique())


def title(data: StudyData) -> str:
    best = {schedule: of_schedule[0] for schedule, of_schedule in rows(data).items()}
    words = [
        f"{row.name} with {TRAINED_WITH[schedule]} ({100 * row.of_rule.regret:.1f} points)"
        for schedule, row in best.items()
    ]
    count = max(int(row.of_rule.settings) for row in best.values())
    return f"{count} settings: training at the suggestion costs least for {', '.join(words)}"


def caption(data: StudyData) -> str:
    (schedule, found), *_ = rows(data).items()
    best = found[0].of_rule
    bound = (
        f"; nine new settings in ten cost less than {100 * best.regret_90:.1f}"
        if np.isfinite(best.regret_90)
        else ""
    )
    settings = data.tables["oracle_settings"]
    texts = int(found[0].away["is_text"].sum())
    also = [f"hollow: text ({texts}), which is in no mean"] if texts else []
    if cut_off := _settings(data, settings["is_cut_off"]):
        also.append(f"best rate at an end of what was trained: {', '.join(cut_off)}")
    if steady := _settings(data, ~settings["collapses"]):
        also.append(f"nothing collapses: {', '.join(steady)}")
    more = "".join(f" {words[0].upper()}{words[1:]}." for words in also)
    return (
        f"{SCHEDULES[schedule].capitalize()}: training at {found[0].name} costs "
        f"{100 * best.regret:.1f} points of accuracy on average [{100 * best.regret_low:.1f}, "
        f"{100 * best.regret_high:.1f}]{bound} (n = {int(best.settings)} settings). "
        "Left: how far the suggestion lies from the best rate, a dot a setting; right: mean "
        "loss, its 95 % interval, a tick at the bound for a new setting, the share that collapsed, "
        f"in brackets that of abstentions.{more}"
    )


def source(data: StudyData) -> str:
    settings = data.tables["oracle_settings"]
    names = settings.loc[settings["counts"], "data"].unique()
    return f"Study {data.config.study.name}: {', '.join(names)}; docs/ground_truth.md."


def draw(data: StudyData) -> Figure | None:
    found = rows(data)
    if not found:
        return None
    counts = [len(of_schedule) for of_schedule in found.values()]
    figure, grid = style.axes(
        len(found),
        2,
        (style.WIDTH + 2, 1.0 + 0.19 * sum(counts)),
        sharex="col",
        height_ratios=counts,
        width_ratios=[1.1, 1],
    )
    for (left, right), (schedule, of_schedule) in zip(grid, found.items(), strict=True):
        left.axvspan(-0.25, 0.25, color=style.LINE, alpha=0.6, linewidth=0)
        left.axvline(0, color=style.MUTED, linewidth=0.8)
        for place, row in enumerate(of_schedule):
            _dots(left, place, row)
            _bar(right, place, row)
        left.set(yticks=range(len(of_schedule)), yticklabels=[row.name for row in of_schedule])
        for ax in (left, right):
            ax.set_ylim(len(of_schedule) - 0.4, -0.6)
            ax.grid(False, axis="y")
        right.set_yticks([])
        left.set_title(SCHEDULES[schedule].capitalize(), loc="left")
    grid[-1, 0].set(xlabel="decades from the best rate", xlim=(-WIDEST - 0.2, WIDEST + 0.2))
    grid[-1, 1].set(xlabel="points of accuracy lost;\ncollapsed (abstained)", xlim=(-1, 100))
    return figure


def _dots(ax: Axes, place: int, row: Row) -> None:
    heights = place + style.jitter(len(row.away))
    for is_text, of_kind in row.away.assign(height=heights).groupby("is_text"):
        tips = [
            f"{row.name}, {setting}: {decades:+.2f} decades"
            for setting, decades in zip(of_kind["setting"], of_kind["decades"], strict=True)
        ]
        looks = {"color": style.INK, "markersize": 3.5, "alpha": 0.6}
        looks |= {"markerfacecolor": "none", "markeredgewidth": 0.8} if is_text else {}
        style.dots(ax, of_kind["decades"].clip(-WIDEST, WIDEST), of_kind["height"], tips, **looks)


def _bar(ax: Axes, place: int, row: Row) -> None:
    of_rule = row.of_rule
    low, high, mean = (100 * of_rule[name] for name in ("regret_low", "regret_high", "regret"))
    words = f"{', '.join(row.rules)}: {mean:.1f} points [{low:.1f}, {high:.1f}]"
    words += f", worst setting {of_rule.worst_setting}, abstained {percent(of_rule.abstained)}"
    ax.plot(
        [low, high], [place] * 2, color=style.INK, alpha=0.45, linewidth=4, gid=style.tip(words)
    )
    ax.plot([mean], [place], "o", color=style.INK, markersize=4)
    if np.isfinite(of_rule.regret_90):
        ax.plot([100 * of_rule.regret_90], [place], "|", color=style.INK, markersize=8)
    said = f"{mean:.1f}" + (f"; {percent(of_rule.collapse_rate)}" if of_rule.collapse_rate else "")
    said += f" ({percent(of_rule.abstained)})" if of_rule.abstained else ""
    style.margin_note(ax, place, said, fontsize=7.5)
