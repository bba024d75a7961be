"""How far the suggested range moves with the instrument, and the ramp beside restarts."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.experiments.sensitivity.tables import LAG, LAST
from lrrt.report import style, wording
from lrrt.report.figures._factors import told
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 68
SECTION = "Initial weights and batch order"
TITLE = "The same network through another instrument"
NEEDS = "replays and runs with other settings of the test (instrument.runs)"
RUNS_OF = "instrument"
MARKS = "osD^v"


def shown(data: StudyData) -> pd.DataFrame:
    """The effects on each protocol's own rule, of the smoothing and of restarts."""
    table = data.instrument
    own = {name: protocol.rule for name, protocol in data.config.protocols.items()}
    mine = table["rule"] == table["protocol"].map(own)
    return table[mine | table["setting"].isin(["smoothing", "restarts"])]


def findings(data: StudyData) -> list[str]:
    """Which other setting moves the range most, how far the EMA lags, where restarts turn."""
    sentences = []
    table = shown(data)
    for protocol in dict.fromkeys(table["protocol"]):
        rows, parts = table[table["protocol"] == protocol], []
        settings = rows[~rows["setting"].isin(["smoothing", "restarts"])].dropna(subset="effect")
        for quantity in QUANTITIES:
            mine = settings[settings["quantity"] == quantity]
            sure = [row["effect"] != 0 and told(row) for row in mine.to_dict("records")]
            if any(sure):
                sure = mine[sure]
                row = sure.loc[sure["effect"].abs().idxmax()]
                parts.append(
                    f"smoothing apart, {_words(row)} moves {wording.name(quantity)} most: "
                    f"{_size(row)}"
                )
            elif len(mine):
                parts.append(
                    f"of no setting is the effect on {wording.name(quantity)} told from "
                    f"none (n = {mine['n'].max()})"
                )
        lags = rows[rows["setting"] == "smoothing"].dropna(subset="effect")
        lag = lags.pivot(index="value", columns="quantity", values="effect")
        if "spline" in lag.index:
            low, high = (-lag.loc["spline", name] for name in QUANTITIES)
            text = (
                f"its EMA puts the steepest descent {low:+.2f} and the lowest loss {high:+.2f} "
                f"decades from where a spline through the same curve does"
            )
            for value, words in (("two-sided", "a two-sided"), ("mean of runs", "all curves'")):
                if value in lag.index:
                    low, high = (-lag.loc[value, name] for name in QUANTITIES)
                    text += f" ({low:+.2f} and {high:+.2f} from {words} mean)"
            parts.append(text)
        words = {
            "lowest": "the loss is lowest {} from where the ramp's is",
            "largest": "the largest LR at which it falls at all is {} from the ramp's",
        }
        for row in rows[rows["setting"] == "restarts"].dropna(subset="effect").to_dict("records"):
            steps, name = row["value"].split(", ")
            text = words[name].format(_size(row))
            if name == "lowest":
                text = f"over {steps} from the same weights at a constant LR {text}"
            parts.append(text)
        if parts:
            sentences.append(f"With {wording.name(protocol)}, {'; '.join(parts)}.")
    silent = table[(table["n"] == 0) & (table["abstained"] > 0) & (table["setting"] != "restarts")]
    words = sorted(
        {f"{_words(row)} ({wording.name(row['protocol'])})" for row in silent.to_dict("records")}
    )
    if words:
        sentences.append(f"No run has a suggestion to compare with {', '.join(words)}.")
    return sentences


def headline(data: StudyData) -> str:
    """How far the EMA moves the lowest loss from where other smoothings have it, by protocol."""
    others = shown(data).query("setting == 'smoothing' and quantity == 'max_lr'")
    parts = []
    for protocol, rows in others.dropna(subset="effect").groupby("protocol", sort=False):
        lags = []
        for row in rows.to_dict("records"):
            lag = {"effect": -row["effect"], "low": -row["high"], "high": -row["low"]}
            unsure = "" if told(lag) else ", not told from none"
            lags.append(f"{wording.effect(lag)} ({row['value']}{unsure})")
        n = rows["n"].max()
        parts.append(f"{', '.join(lags)} decades ({wording.name(protocol)}, n = {n})")
    return (
        ""
        if not parts
        else (
            "The EMA puts the lowest loss away from where other smoothings of the same curves do, "
            f"by {'; by '.join(parts)}."
        )
    )


def _words(row: dict | pd.Series) -> str:
    return f"{row['setting']} {row['value']}"


def _size(row: dict | pd.Series) -> str:
    return f"{wording.effect(row)} decades"


def caption(data: StudyData) -> str:
    settings = data.config.instrument
    counts = shown(data).query("n > 0")["n"]
    n = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    text = (
        f"Top: mean log10 difference of the suggested LR to the default, each protocol's own rule, "
        f"n = {n} runs paired by seed; bars: its 95 % t interval. A cross at the edge: no run has "
        f"a suggestion; bars are cut at the axes. Beta, trim, stop factor and smoothing are "
        f"replayed on the curves of the weights sweep ({data.scale_of()}; smoothing: "
        f"the rule {LAG}, against its EMA); steps, range and shape of the ramp took runs of their "
        f"own ({data.scale_of(settings)})."
    )
    if "linear" in settings.shapes:
        text += (
            " A linear ramp is coarse at its start: of small LRs it has none that a rule could "
            "suggest, and its least counts as the answer."
        )
    if len(data.instrument_restarts):
        steps = data.instrument_restarts["steps"].iloc[0]
        text += (
            f" Bottom: change of the loss after {steps} steps at a constant LR (mean of the last "
            f"{LAST} less the first), and of the ramp from the same weights at that LR (a spline); "
            f"a line a seed."
        )
    return " ".join([text, *findings(data)])


def draw(data: StudyData) -> Figure | None:
    table = shown(data)
    if not np.isfinite(table["effect"].astype(float)).any():
        return None
    lines = list(dict.fromkeys(zip(table["setting"], table["value"], strict=True)))
    protocols = list(dict.fromkeys(table["protocol"]))
    restarts = data.instrument_restarts
    rows = 2 if len(restarts) else 1
    columns = max(len(QUANTITIES), len(protocols) if rows == 2 else 0)
    heights = [0.3 * len(lines) + 0.6, 2.6][:rows]
    figure, grid = style.axes(
        rows,
        columns,
        (4.3 * columns, sum(heights) + 1.2),
        gridspec_kw={"height_ratios": heights},
    )
    for ax in grid.flat:
        ax.set_visible(False)
    for i, quantity in enumerate(QUANTITIES):
        ax = grid[0, i]
        ax.set_visible(True)
        ax.axvline(0, color=style.MUTED, linewidth=0.8)
        for j, protocol in enumerate(protocols):
            side = 0.28 * (j - (len(protocols) - 1) / 2)
            mine = table[(table["quantity"] == quantity) & (table["protocol"] == protocol)]
            for row in mine.to_dict("records"):
                line = lines.index((row["setting"], row["value"]))
                _dot(ax, row, line + side, MARKS[j % len(MARKS)])
        ax.set(
            yticks=range(len(lines)),
            ylim=(len(lines) - 0.4, -0.6),
            xlabel="decades",
            yticklabels=["  ".join(line) for line in lines] if i == 0 else [],
        )
        reach = 1.3 * table.loc[table["quantity"] == quantity, "effect"].abs().max()
        if reach > 0:  # of two runs an interval can be ten times as wide
            ax.set_xlim(-reach, reach)
        ax.set_title(wording.name(quantity))
    drawn = zip(table["backend"], table["protocol"], strict=True)
    for case in sorted(set(drawn), key=lambda case: (protocols.index(case[1]), case[0])):
        grid[0, 0].plot(
            [],
            [],
            MARKS[protocols.index(case[1]) % len(MARKS)],
            color=style.colour(*case),
            label=wording.case(*case),
        )
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if rows == 2:
        for ax, protocol in zip(grid[1], restarts["protocol"].unique(), strict=False):
            ax.set_visible(True)
            _restarts(ax, restarts[restarts["protocol"] == protocol])
            ax.set_title(wording.name(protocol))
        grid[1, 0].set_ylabel("change of the loss (nats)")
        grid[1, 0].legend(fontsize=8)
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def _dot(ax, row: dict, line: float, marker: str) -> None:
    shade = style.colour(row["backend"], row["protocol"])
    words = f"{wording.case(row['backend'], row['protocol'])}, {_words(row)}: "
    if not np.isfinite(row["effect"]):
        ax.plot(
            [0.02],
            [line],
            "x",
            color=shade,
            markersize=5,
            transform=ax.get_yaxis_transform(),
            gid=style.tip(words + f"no suggestion in {row['abstained']} runs"),
        )
        return
    words += f"{_size(row)} from {number(row['default'])}, n = {row['n']}"
    ax.plot([row["low"], row["high"]], [line, line], color=shade, linewidth=1.2)
    ax.plot([row["effect"]], [line], marker, color=shade, markersize=5, gid=style.tip(words))


def _restarts(ax, rows: pd.DataFrame) -> None:
    top = 0.5 * float(rows["first_loss"].median())
    ax.axhline(0, color=style.MUTED, linewidth=0.8)
    looks = (
        ("ramp_loss", "the ramp", style.MUTED, "--"),
        ("loss", "restarts", style.TRAIN_COLOUR, "-"),
    )
    lowest = 0.0
    for column, text, shade, dashes in looks:
        for i, (seed, run) in enumerate(rows.groupby("weights_seed")):
            run = run.sort_values("lr")
            change = style.below((run[column] - run["first_loss"]).to_numpy(), top)
            lowest = min(lowest, float(change.min()))
            ax.plot(
                run["lr"],
                change,
                dashes,
                color=shade,
                linewidth=1.1,
                marker="o",
                markersize=3,
                label=text if i == 0 else None,
                gid=style.tip(f"{text}, weights seed {seed}"),
            )
    ax.set_ylim(1.15 * lowest - 0.05, top)
    style.log_axis(ax)
