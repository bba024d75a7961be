"""What `edge` is worth where it was not made, what its warnings are worth, and the post's advice:
blocks for ``docs/generate.py``."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import rule_scores
from rule_scores import SCHEDULES, interval

from lrrt.analysis.candidate_rates import POOLED
from lrrt.analysis.regret import DEFAULT, interval_coverage, interval_factors, sign_flip_p
from lrrt.core import edge
from lrrt.finder import rules

FIRST_UNSEEN = 3  # tier from which nothing of `edge` was fixed with a setting's scores in sight
NONE_UNSEEN = "No setting of tiers 3 to 5 counts yet."
OWN = {
    "constant": {1: "edge", POOLED: "edge.pooled"},
    "one_cycle": {1: "edge.one_cycle", POOLED: "edge.pooled.one_cycle"},
}
MEASURED = {"regret_accuracy": "points", "regret_share": "log-loss"}
OTHERS = (*rule_scores.BASELINES, "instability")  # beside the rules of other finders


def default_rule() -> str:
    """Which rule is the default, and by how much."""
    default, costs = rule_scores.default_and_costs()
    means = rules.mean_costs(costs)
    second = min(means.keys() - {default}, key=means.get)
    n = costs[default, "constant"].settings
    return (
        f"The default is the rule in use that loses least on average over both schedules "
        f"(`lrrt.finder.rules.cheapest`): now `{default}`, with {means[default]:.1f} points "
        f"over {n} settings, at the one rate that it names; `{second}` loses {means[second]:.1f}."
    )


def edge_constants() -> str:
    """Points lost where they were chosen, by the value of one constant at a time."""
    path = rule_scores.ROOT / "ground_truth" / "results" / "constants.parquet"
    table = pd.read_parquet(path).assign(value=lambda rows: rows["value"].map("{:g}".format))
    lines = [_row(["constant", *SCHEDULES.values()]), _row(["---"] * 3)]
    for constant, rows in table.groupby("constant", sort=False):
        cells = []
        for schedule in SCHEDULES:
            used = getattr(edge, constant)
            used = f"{used[schedule] if isinstance(used, dict) else used:g}"
            of_schedule = rows[rows["schedule"] == schedule]
            told = {row.value: f"{row.value}: {row.points:.1f}" for row in of_schedule.itertuples()}
            told[used] = f"**{told[used]}**"
            cells.append(", ".join(told.values()))
        lines.append(_row([f"`{constant}`", *cells]))
    return "\n".join(lines)


def edge_against_the_best() -> str:
    """What the best rule of the other finders, and short trainings, lose more than `edge`."""
    scores = _counted()
    if scores is None:
        return rule_scores.NOT_YET
    heads = ["settings", "schedule", "`edge` loses", "best of the other finders' rules"]
    heads += ["it loses more", "five short trainings lose more"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for words, rows in _split(scores):
        points = _by_setting(rows, "regret_accuracy")
        others = [r for r in points.index.unique("rule") if _is_other(r, own=False)]
        for schedule, of in (("both", list(SCHEDULES)), *((SCHEDULES[s], [s]) for s in SCHEDULES)):
            best = min(others, key=lambda rule: _mean(points.loc[rule], of))
            n, lost = len(points.loc["edge"].dropna(subset=of)), _mean(points.loc["edge"], of)
            cells = [f"{n} {words}", schedule, f"{lost:.1f}", f"`{best}`"]
            lines.append(_row(cells + [_against(points, r, of) for r in (best, "five_short")]))
    return "\n".join(lines)


def edge_unseen() -> str:
    """`edge` against every rule and baseline on the settings of tiers 3 to 5."""
    scores = _counted()
    scores = None if scores is None else scores[scores["unseen"]]
    if scores is None or not len(scores):
        return NONE_UNSEEN
    found = {name: _by_setting(scores, name) for name in MEASURED}
    points, shares = found["regret_accuracy"], found["regret_share"]
    named = [rule for rule in shares.index.unique("rule") if _is_other(rule)]
    columns = {
        "points, constant rate": (points, ["constant"]),
        "points, one cycle": (points, ["one_cycle"]),
        "points, both": (points, list(SCHEDULES)),
        "log-loss, both": (shares, list(SCHEDULES)),
    }
    ns = {
        head: int(table.loc["edge"].dropna(subset=of).shape[0])
        for head, (table, of) in columns.items()
    }
    own = [_mean(table.loc["edge"], of) for table, of in columns.values()]
    heads = [f"{head} (n = {ns[head]})" for head in columns]
    lines = [_row(["rule", *heads]), _row(["---"] * (1 + len(heads)))]
    told = [f"{mean:.1f}" if np.isfinite(mean) else "–" for mean in own]
    lines.append(_row(["`edge` itself loses", *told]))
    order = (shares[list(SCHEDULES)].mean(axis=1)).groupby("rule").mean()
    for rule in sorted(named, key=order.get):
        cells = [_against(table, rule, of) for table, of in columns.values()]
        lines.append(_row([f"`{rule}`", *cells]))
    return "\n".join(lines)


def _against(table: pd.DataFrame, rule: str, schedules: list[str]) -> str:
    """What a rule loses more than `edge`, paired over settings."""
    if rule not in table.index:
        return "–"
    differences = (table.loc[rule] - table.loc["edge"])[schedules].dropna().mean(axis=1).to_numpy()
    if len(differences) < 2:
        return "–"
    low, high = interval(differences)
    p = sign_flip_p(differences)
    return f"{differences.mean():+.1f} [{low:+.1f}, {high:+.1f}], p = {p:.2g}"


def _mean(of_rule: pd.DataFrame, schedules: list[str]) -> float:
    return float(of_rule[schedules].dropna().mean(axis=1).mean())


def _by_setting(scores: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean loss in hundredths by rule and setting, a column a schedule."""
    of_own = rule_scores.by_schedule(scores[scores["ramp_steps"] == rule_scores.RAMP])
    means = of_own.groupby(["rule", "setting", "schedule"])[measure].mean().unstack()
    return 100 * means.reindex(columns=list(SCHEDULES))


def _is_other(rule: str, own: bool = True) -> bool:
    """Whether it is another finder's rule; or, with ``own``, what we compare beside those."""
    base = rule.partition(".")[0]
    is_rule = base in rules.names() and base != "edge" and " x " not in rule
    return is_rule or (own and (rule in OTHERS or rule == "edge.pooled"))


def edge_warnings() -> str:
    """Which collapses at its suggestion `edge` warned of."""
    readings = _readings()
    if readings is None:
        return rule_scores.NOT_YET
    heads = ["settings", "range tests", "readings", "failed", "abstained", "cautioned"]
    heads += ["**no warning**", "cautions of all", "points lost then", "points lost otherwise"]
    lines = [_row(heads), _row(["---", "---", *["---:"] * 8])]
    for words, rows in _split(readings):
        for (steps, tests), of_ramp in rows.groupby(["ramp_steps", "tests"]):
            bad = of_ramp[of_ramp["collapsed"]]
            unwarned = bad[~bad["abstained"] & ~bad["cautioned"]]
            answered = of_ramp[~of_ramp["abstained"]]
            lost = [
                answered.loc[answered["cautioned"] == cautioned, "regret_accuracy"].mean()
                for cautioned in (True, False)
            ]
            cells = [words, f"{tests} of {steps} steps", len(of_ramp), len(bad)]
            cells += [int(bad["abstained"].sum()), int((bad["cautioned"]).sum()), len(unwarned)]
            cells += [f"{answered['cautioned'].mean():.0%}"]
            cells += [f"{100 * value:.1f}" if np.isfinite(value) else "–" for value in lost]
            lines.append(_row(cells))
    return "\n".join(lines)


def edge_interval() -> str:
    """How often the 80 % interval of `edge` holds the best rate, over all sets of as many tests."""
    scores, path = _counted(), rule_scores.ORACLE / "oracle_curves.parquet"
    if scores is None or not path.exists():
        return rule_scores.NOT_YET
    curves = pd.read_parquet(path)
    curves = curves[curves["ramp_steps"] == rule_scores.RAMP]
    found = {
        setting: [
            (test["lr"].to_numpy(), test["loss"].to_numpy())
            for _, test in rows.sort_values(["draw", "step"]).groupby("draw")
        ]
        for setting, rows in curves.groupby("setting")
    }
    heads = ["schedule", "range tests", "settings", "interval of the library holds it"]
    heads += ["the other settings' errors give", "which holds it"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for schedule, tests in itertools.product(SCHEDULES, (1, POOLED)):
        of_schedule = scores[scores["schedule"] == schedule]
        below, above = np.log10(edge.INTERVAL[schedule])
        for words, rows in _split(of_schedule):
            best = rows.groupby("setting")["best_lr"].first()
            errors = [_errors(found[name], lr, schedule, tests) for name, lr in best.items()]
            errors = [of_setting for of_setting in errors if len(of_setting)]
            held = np.mean([((-below <= e) & (e <= above)).mean() for e in errors])
            low, high = interval_factors(errors)
            coverage = interval_coverage(errors)
            cells = [SCHEDULES[schedule], f"{tests} of {rule_scores.RAMP} steps"]
            cells += [f"{len(errors)} {words}", f"{held:.0%}"]
            told = [f"÷{10**-low:.1f} to ×{10**high:.1f}", f"{coverage:.0%}"]
            lines.append(_row(cells + (told if np.isfinite(coverage) else ["–", "–"])))
    return "\n".join(lines)


def _errors(tests: list, best: float, schedule: str, count: int) -> np.ndarray:
    """Decades from what each ``count`` of the tests say, read as one, to the best rate."""
    read = [edge.pooled(some, schedule).lr for some in itertools.combinations(tests, count)]
    return np.log10([best / lr for lr in read if lr])


def _split(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All settings, and those unseen alone where there are some."""
    yield "in all", rows
    if rows["unseen"].any() and not rows["unseen"].all():
        yield "unseen", rows[rows["unseen"]]


def _counted() -> pd.DataFrame | None:
    """Scores of the settings that count, and whether each is ``unseen``."""
    found = rule_scores.tables()
    path = rule_scores.ORACLE / "oracle_settings.parquet"
    if found is None or not path.exists():
        return None
    tiers = pd.read_parquet(path).groupby("setting")["tier"].first()
    scores = found[1][found[1]["counts"]]
    return scores.assign(unseen=scores["setting"].map(tiers) >= FIRST_UNSEEN)


def _readings() -> pd.DataFrame | None:
    """The scores of `edge`, each schedule by its own rate, with the number of ``tests``."""
    scores = _counted()
    if scores is None:
        return None
    parts = [
        scores[(scores["schedule"] == schedule) & (scores["rule"] == rule)].assign(tests=tests)
        for schedule, of_tests in OWN.items()
        for tests, rule in of_tests.items()
    ]
    return pd.concat(parts)


def precision_at_equal_cost() -> str:
    """Spread of what `edge` suggests, by ramp and number of tests."""
    table = _beside("precision")
    if table is None:
        return rule_scores.NOT_YET
    table = table.assign(steps=table["ramp_steps"] * table["tests"])
    heads = ["range tests", "from", "steps in all", "spread, a factor", "abstains"]
    heads += [f"points lost, {words}" for words in SCHEDULES.values()]
    lines = [_row(heads), _row(["---", "---:", "---:", "---", "---:", "---", "---"])]
    keys = ["steps", "start", "ramp_steps", "tests"]
    for (steps, start, of_ramp, tests), rows in table.groupby(keys):
        named = rows[(rows["schedule"] == "constant") & ~rows["abstained"]]
        spread = np.log10(named["suggested_lr"]).groupby(named["setting"]).std().dropna()
        told = "nothing to compare"
        if len(spread) > 1:
            low, high = interval(spread.to_numpy())
            told = f"{10 ** spread.mean():.2f} [{10**low:.2f}, {10**high:.2f}]"
        cells = [f"{tests} of {of_ramp} steps", f"{start:.0e}".replace("e-0", "e-"), steps, told]
        cells.append(f"{rows.loc[rows['schedule'] == 'constant', 'abstained'].mean():.0%}")
        for schedule in SCHEDULES:
            lost = rows[rows["schedule"] == schedule].groupby("setting")["regret_accuracy"].mean()
            cells.append(_points(lost))
        lines.append(_row(cells))
    return "\n".join(lines)


def rate_free() -> str:
    """Optimisers that find their own rate, beside rules and fixed rates on the same settings."""
    table, found = _beside("rate_free"), rule_scores.tables()
    if table is None or found is None:
        return rule_scores.NOT_YET
    scores = rule_scores.by_schedule(found[1][found[1]["ramp_steps"] == rule_scores.RAMP])
    scores = scores[scores["setting"].isin(set(table["setting"]))]
    n = table["setting"].nunique()
    heads = ["trained with", *(f"points lost, {words} (n = {n})" for words in SCHEDULES.values())]
    lines = [_row(heads), _row(["---"] * 3)]
    rows = [(f"`{name}`", part) for name, part in table.groupby("optimizer")]
    beside = ("edge", "fastai_valley", DEFAULT)
    rows += [(f"Adam(W) at `{rule}`", scores[scores["rule"] == rule]) for rule in beside]
    for words, part in rows:
        cells = []
        for schedule in SCHEDULES:
            of_schedule = part[part["schedule"] == schedule].groupby("setting")
            lost = _points(of_schedule["regret_accuracy"].mean())
            collapsed = of_schedule["collapsed"].mean().mean()
            cells.append(f"{lost}, {collapsed:.0%}" if len(of_schedule) else "–")
        lines.append(_row([words, *cells]))
    return "\n".join(lines)


def advice_in_contrast() -> str:
    """The post's advice that compares two things, paired over settings."""
    scores = _counted()
    if scores is None:
        return rule_scores.NOT_YET
    lines = [_row(["advice", "what is compared", *SCHEDULES.values()]), _row(["---"] * 4)]
    means = _by_setting(scores, "regret_accuracy")
    for protocol in ("fastai", "Keras"):
        rule = f"blog_{protocol.lower()}"
        gained = means.loc[f"{rule}.max"] - means.loc[f"{rule}.middle"]
        told = [_gain(gained[schedule]) for schedule in SCHEDULES]
        what = f"middle of the range instead of its maximum, {protocol}"
        lines.append(_row(["a narrower range", what, *told]))
    weights = _beside("same_weights")
    for rule in () if weights is None else ("edge", "blog_fastai.max", "blog_keras.max"):
        told = [_gain(_own_gain(weights, rule, schedule)) for schedule in SCHEDULES]
        what = f"`{rule}` on the training's own weights and batches instead of others"
        lines.append(_row(["the same weights", what, *told]))
    best = pd.read_parquet(rule_scores.ORACLE / "oracle_settings.parquet")
    best = 100 * best.pivot(index="setting", columns="schedule", values="best_value")
    for rule in ("blog_fastai.max", "blog_keras.max"):
        reached = best.loc[means.loc[rule].index] - means.loc[rule]
        told = _gain(reached["one_cycle"] - reached["constant"])
        what = f"one cycle up to `{rule}` instead of a constant rate there"
        lines.append(_row(["one cycle", what, "–", told]))
    return "\n".join(lines)


def _own_gain(weights: pd.DataFrame, rule: str, schedule: str) -> pd.Series:
    """Points that the rate of the same seed's range test gains over those of other seeds."""
    name = OWN[schedule][1] if rule == "edge" else rule
    rows = weights[(weights["rule"] == name) & (weights["schedule"] == schedule)]
    rows = rows[rows["tested_seed"].isin(set(rows["trained_seed"]))]
    own = rows["trained_seed"] == rows["tested_seed"]
    means = [part.groupby("setting")["regret_accuracy"].mean() for part in (rows[~own], rows[own])]
    return 100 * (means[0] - means[1])


def policy_tolerance() -> str:
    """Over how many decades of rates a policy is within five points of its own best."""
    table = _beside("policies")
    path = rule_scores.ORACLE / "oracle_trainings.parquet"
    if table is None or not path.exists():
        return rule_scores.NOT_YET
    trainings = pd.read_parquet(path)
    coarse = trainings[(trainings["stage"] == "coarse") & (trainings["seed"] == 0)]
    coarse = coarse[coarse["setting"].isin(set(table["setting"]))]
    found = pd.concat([coarse, table])
    of_policy = (
        found.groupby(["schedule", "setting"])[["lr", "accuracy"]].apply(_decades).unstack(0)
    )
    best = found.groupby(["schedule", "setting"])["accuracy"].max().unstack(0)
    heads = ["policy", f"decades within 5 points of its best (n = {len(of_policy)} settings)"]
    lines = [_row([*heads, "more than a constant rate", "best accuracy"]), _row(["---"] * 4)]
    for policy in of_policy:
        low, high = interval(of_policy[policy].to_numpy())
        more = (of_policy[policy] - of_policy["constant"]).to_numpy()
        told = "–"
        if policy != "constant":
            told = "{:+.2f} [{:+.2f}, {:+.2f}]".format(more.mean(), *interval(more))
        cells = [
            policy.replace("_", " "),
            f"{of_policy[policy].mean():.2f} [{low:.2f}, {high:.2f}]",
        ]
        lines.append(_row([*cells, told, f"{best[policy].mean():.1%}"]))
    return "\n".join(lines)


def _decades(rows: pd.DataFrame) -> float:
    """Of rates, linear in log LR between those trained, that lose at most 0.05 of accuracy."""
    rows = rows.sort_values("lr")
    x = np.log10(rows["lr"].to_numpy())
    at = np.linspace(x[0], x[-1], 2001)
    accuracy = np.interp(at, x, rows["accuracy"].to_numpy())
    return float((accuracy >= accuracy.max() - 0.05).mean() * (x[-1] - x[0]))


def _gain(differences: pd.Series) -> str:
    values = differences.dropna().to_numpy()
    if len(values) < 2:
        return "–"
    low, high = interval(values)
    return f"{values.mean():+.1f} points [{low:+.1f}, {high:+.1f}] (n = {len(values)})"


def _points(of_settings: pd.Series) -> str:
    values = 100 * of_settings.dropna().to_numpy()
    if len(values) < 2:
        return "–"
    low, high = interval(values)
    return f"{values.mean():.1f} [{low:.1f}, {high:.1f}]"


def _beside(name: str) -> pd.DataFrame | None:
    path = rule_scores.ORACLE / f"oracle_{name}.parquet"
    table = pd.read_parquet(path) if path.exists() else None
    return table if table is not None and len(table) else None


def _row(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"


BLOCKS: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        default_rule,
        edge_against_the_best,
        edge_constants,
        edge_unseen,
        edge_warnings,
        edge_interval,
        precision_at_equal_cost,
        rate_free,
        advice_in_contrast,
        policy_tolerance,
    )
}
