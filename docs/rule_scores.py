"""Which rule to use, in numbers: the tables of the ground truth, for the pages and for audits."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lrrt.analysis.candidate_rates import POOLED
from lrrt.analysis.statistics import BOOTSTRAP_SEED, RESAMPLES
from lrrt.finder import rules

ROOT = Path(__file__).parents[1]
ORACLE = ROOT / "data" / "oracle"
COSTS = ROOT / "src" / "lrrt" / "finder" / "expected_cost.json"
RAMP = 100  # steps of the range tests
SCHEDULES = {"constant": "a constant rate", "one_cycle": "one cycle"}
LISTED = 15  # rows of the page's table
#: The post's advice, and the scored suggestion that follows it.
ADVICE = (
    ("train at a tenth of the LR of the lowest loss (its maximum), fastai", "blog_fastai.max"),
    ("the same, Keras", "blog_keras.max"),
    ("train at the steepest descent (its minimum), fastai", "blog_fastai.min"),
    ("the same, Keras", "blog_keras.min"),
    ("stay within the range: its geometric middle, fastai", "blog_fastai.middle"),
    ("the same, Keras", "blog_keras.middle"),
)
#: What the README compares at a constant rate: the default rule, then these.
SHORT = (
    (
        "fastai_valley",
        "[`fastai_valley`](docs/rules.md#fastai_valley) suggests, fastai's default",
    ),
    ("fixed.default", "is usual, with no finder: 0.1 for SGD, 0.001 for Adam"),
    ("blog_fastai.max", "the post calls the maximum: a tenth of the rate with the lowest loss"),
    ("blog_fastai.min", "the post calls the minimum: where the loss falls fastest"),
)
NOT_YET = "No scores are committed yet (`data/oracle`)."
#: Decades from the best rate, on average: below and above it a rule is safe, or near the maximum.
SAFE, MAXIMUM = -0.5, 0.3
BASELINES = {
    "raw_minimum/10": "a tenth of the LR of the lowest raw loss, by hand",
    "raw_minimum/3": "a third of the LR of the lowest raw loss, by hand",
    "fixed.default": "no finder: 0.1 for SGD, 0.001 for Adam",
    "fixed.lower": "no finder: 0.01 for SGD, 0.0003 for Adam",
    "five_short": "the best of five short trainings, no finder",
    "instability": "the one-step search of `lrrt.instability_lr`",
    "random": "a random rate",
}


def rule_scores() -> str:
    """The table of ``docs/which_rule.md``: a row a rule, the best over both schedules first."""
    scored = _scored()
    if scored is None:
        return NOT_YET
    both = by_schedule(scored).pivot(index="rule", columns="schedule")
    order = both["regret"].dropna().mean(axis=1).sort_values()
    lines = [
        "| rule | it names | constant | one cycle | spread |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule in order.index[:LISTED]:
        cells = [
            _cell(both.xs(schedule, level="schedule", axis=1).loc[rule]) for schedule in SCHEDULES
        ]
        of_constant = both.xs("constant", level="schedule", axis=1).loc[rule]
        spread = f"{of_constant['spread']:.1f}"
        lines.append(f"| {_named(rule)} | {_place(of_constant)} | {' | '.join(cells)} | {spread} |")
    return "\n".join(lines)


def rule_evidence() -> str:
    """How many settings, draws and trainings the table rests on."""
    scored = _scored()
    if scored is None:
        return NOT_YET
    n = scored.groupby("schedule")["settings"].max()
    counts = " and ".join(f"{n[name]} settings with {words}" for name, words in SCHEDULES.items())
    more = max(len(by_schedule(scored)["rule"].unique()) - LISTED, 0)
    texts = int(scored["text_settings"].max()) if "text_settings" in scored else 0
    beside = f" (and {texts} of text, whose log-loss the [ground truth](ground_truth.md) has)"
    return (
        f"{counts[0].upper()}{counts[1:]}, range tests of {RAMP} steps"
        f"{beside if texts else ''}; {more} more rules and "
        "baselines lose more. `.min`, `.max`: of a rule that names a range; `.middle`: its "
        "geometric middle; `.pooled`: three range tests read as one."
    )


def edge_readings() -> str:
    """What `edge` makes of other ramps, and of three tests read as one."""
    found = tables()
    if found is None:
        return NOT_YET
    table, scores = found
    lines = [
        "| range tests | steps in all | constant | one cycle | spread |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for steps in sorted(table["ramp_steps"].unique()):
        of_ramp = by_schedule(_with_spread(table, scores, steps)).set_index(["rule", "schedule"])
        for rule, tests in (("edge", 1), ("edge.pooled", POOLED)):
            if all((rule, schedule) in of_ramp.index for schedule in SCHEDULES):
                cells = [_cell(of_ramp.loc[rule, schedule]) for schedule in SCHEDULES]
                spread = f"{of_ramp.loc[(rule, 'constant'), 'spread']:.2f}"
                name = f"{tests} of {steps} steps"
                lines.append(f"| {name} | {tests * steps} | {' | '.join(cells)} | {spread} |")
    return "\n".join(lines)


def advice_of_the_post() -> str:
    """What following it costs."""
    scored = _scored()
    if scored is None:
        return NOT_YET
    of_rule = scored.set_index(["rule", "schedule"])
    lines = ["| advice | rule | constant | one cycle |", "| --- | --- | --- | --- |"]
    for words, rule in ADVICE:
        if all((rule, schedule) in of_rule.index for schedule in SCHEDULES):
            cells = [_cell(of_rule.loc[rule, schedule]) for schedule in SCHEDULES]
            lines.append(f"| {words} | `{rule}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def short_answer() -> str:
    """The README's table: what training at a constant rate costs, of the suggestions in use."""
    scored = _scored()
    if scored is None:
        return NOT_YET
    of_rule = scored[scored["schedule"] == "constant"].set_index("rule")
    default, _ = default_and_costs()
    lines = [
        "| a constant rate that | points of accuracy lost | failed trainings |",
        "| --- | --- | --- |",
    ]
    own = default if default in of_rule.index else f"{default}.max"  # as in an audit
    others = [pair for pair in SHORT if pair[0] != own]
    for rule, words in ((own, f"`{default}` suggests, the default here"), *others):
        lines.append(f"| {words} | {' | '.join(_lost_and_failed(of_rule.loc[rule]))} |")
    return "\n".join(lines)


def usual_rate() -> str:
    """How the rates that are usual without a finder compare with what the rules suggest."""
    scored = _scored()
    if scored is None:
        return NOT_YET
    constant = scored[scored["schedule"] == "constant"].set_index("rule")
    usual, settings = 100 * constant.at["fixed.default", "regret"], constant["settings"].max()
    lost = {row["rule"]: row["points"] for row in _costs(scored) if row["schedule"] == "constant"}
    less = sorted((rule for rule in lost if lost[rule] < usual), key=lost.get)
    return (
        f"Over {int(settings)} settings a constant rate of 0.1 (SGD) or 0.001 (Adam) lost "
        f"{usual:.1f} points of accuracy. Of {len(lost)} rules {len(less)} lost less: "
        f"{', '.join(f'`{rule}` ({lost[rule]:.1f})' for rule in less)}. The other rules lost more "
        "than no finder at all ([all rules](which_rule.md))."
    )


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over settings."""
    random = np.random.default_rng(BOOTSTRAP_SEED)
    chosen = random.integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.quantile(differences[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


BLOCKS = {
    function.__name__: function
    for function in (
        rule_scores,
        rule_evidence,
        edge_readings,
        advice_of_the_post,
        usual_rate,
    )
}


def costs() -> str | None:
    """What an audit says of a rule: :data:`lrrt.finder.rules.EXPECTED`, from the same table."""
    scored = _scored()
    if scored is None:
        return None
    rows = sorted(_costs(scored), key=lambda row: (row["rule"], row["schedule"]))
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def default_and_costs() -> tuple[str, rules.Costs]:
    """The default rule and all costs by the tables; those of the library where there are none."""
    text = costs()
    found = rules.EXPECTED if text is None else rules.by_rule(json.loads(text))
    return rules.cheapest(found), found


def write_costs() -> None:
    text = costs()
    if text is not None:
        COSTS.write_text(text)


def _costs(scored: pd.DataFrame) -> Iterator[dict]:
    """Of the one rate that each rule is to be trained at."""
    for row in scored.itertuples():
        rule, _, kind = row.rule.partition(".")
        if rule in rules.names() and kind in ("", "max"):
            yield {
                "rule": rule,
                "schedule": row.schedule,
                "points": round(100 * row.regret, 2),
                "low": round(100 * row.regret_low, 2),
                "high": round(100 * row.regret_high, 2),
                "settings": int(row.settings),
                "collapsed": round(row.collapse_rate, 4),
                "worst": round(100 * row.regret_90, 2) if np.isfinite(row.regret_90) else None,
            }


def tables() -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Those of rules and of scores; None where they are not there or have no setting."""
    files = [ORACLE / name for name in ("oracle_rules.parquet", "oracle_scores.parquet")]
    if not all(file.exists() for file in files):
        return None
    table, scores = (pd.read_parquet(file) for file in files)
    return (table, scores) if "edge.pooled" in set(table["rule"]) else None


def _scored() -> pd.DataFrame | None:
    """A row a rule and schedule, with the spread of its suggestions; None without the tables."""
    found = tables()
    return None if found is None else _with_spread(*found, RAMP)


def _with_spread(table: pd.DataFrame, scores: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The rows of one ramp, with the geometric standard deviation of suggestions in a setting."""
    table, scores = (frame[frame["ramp_steps"] == steps] for frame in (table, scores))
    scores = scores[scores["counts"]]
    keys = ["schedule", "rule"]
    decades = scores.assign(x=np.log10(scores["suggested_lr"]))
    spread = decades.groupby([*keys, "setting"])["x"].std().groupby(level=keys).mean()
    return table.join((10**spread).rename("spread"), on=keys)


def by_schedule(table: pd.DataFrame) -> pd.DataFrame:
    """Of this library's own rule each schedule has its own rate (``edge.one_cycle``)."""
    table = table[~table["rule"].str.match("edge.* x constant")]  # its margins are its own
    own = table["rule"].str.startswith("edge")
    is_cycle = table["rule"].str.contains("one_cycle")
    table = table[~own | (is_cycle == (table["schedule"] == "one_cycle"))]
    short = table["rule"].str.replace(".one_cycle", "", regex=False)
    return table.assign(rule=short.where(own, table["rule"]))


def _cell(row: pd.Series) -> str:
    return ", ".join(_lost_and_failed(row))


def _lost_and_failed(row: pd.Series) -> tuple[str, str]:
    """Points lost with their interval; the share of trainings that collapsed."""
    mean, low, high = (100 * row[name] for name in ("regret", "regret_low", "regret_high"))
    failed = 100 * row["collapse_rate"]
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]", f"{failed:.0f}\N{NO-BREAK SPACE}%"


def _place(row: pd.Series) -> str:
    mean = row["above"] - row["below"]
    if mean < SAFE:
        return "a safe rate"
    return "the maximum" if mean > MAXIMUM else "the middle"


def _named(rule: str) -> str:
    name = rule.partition(" x ")[0]
    if name in BASELINES:
        return f"`{rule}` ({BASELINES[name]})"
    base = name.partition(".")[0]
    return f"[`{rule}`](rules.md#{base})" if base in rules.names() else f"`{rule}`"
