"""Score every rule against the public trainings.

``python -m ground_truth.score --table trainings.csv`` reads ``results/curves-*.parquet`` and the
public table, and writes ``results/scores.parquet`` (a row a suggestion), ``rules.parquet`` (a row a
rule and case), ``probes.parquet``, ``quadratic.parquet`` and ``scores.md``.
"""

import argparse

import numpy as np
import pandas as pd

import lrrt
from ground_truth import public, quadratic
from ground_truth.range_tests import END, RESULTS, START
from lrrt.analysis import regret
from lrrt.analysis.candidate_rates import candidate_rates
from lrrt.core.protocol import Ramp
from lrrt.core.ramp import grid
from lrrt.files import write_whole

PROBLEM = "cifar10_3c3d"
PLAIN = {"sgd": "sgd", "heavy_ball": "sgd", "adam": "adam"}  # whose fixed rates count


def curves() -> pd.DataFrame:
    """Our range tests, whole ramps: losses after the end of a test are infinite."""
    found = []
    for path in sorted(RESULTS.glob("curves-*.parquet")):
        table = pd.read_parquet(path)
        for (optimizer, steps, seed), rows in table.groupby(["optimizer", "steps", "seed"]):
            loss = np.full(steps, np.inf)
            loss[: len(rows)] = rows.sort_values("step")["loss"]
            columns = {"setting": f"{PROBLEM}-{optimizer}", "optimizer": PLAIN[optimizer]}
            columns |= {"ramp_steps": steps, "draw": seed, "step": np.arange(steps)}
            columns |= {"lr": grid(Ramp(START, END), steps), "loss": loss}
            found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


def trainings(table: pd.DataFrame) -> pd.DataFrame:
    """The public trainings of the problem as :func:`lrrt.analysis.regret.grids` wants them."""
    rows = table[(table["problem"] == PROBLEM) & (table["seed"] == 42)]
    untrained = float(rows["initial_test_loss"].mean())
    found = rows.assign(setting=f"{PROBLEM}-" + rows["optimizer"], schedule="constant")
    log_loss = rows["final_test_loss"].where(np.isfinite(rows["final_test_loss"]), np.inf)
    return found.assign(
        accuracy=rows["final_accuracy"],
        log_loss=log_loss.clip(upper=untrained),
        guess=public.guess_of(rows),
        untrained=untrained,
    )[["setting", "schedule", "seed", "lr", "accuracy", "log_loss", "guess", "untrained"]]


def probe_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Regret of the rate of the lowest training loss after k steps, and of fractions of it."""
    probes = public.probes(table)
    rows = []
    for problem, optimizer, trained in public.cases(table):
        case = probes[(probes["problem"] == problem) & (probes["optimizer"] == optimizer)]
        for probe in case.itertuples():
            for divisor in (1, 3, 10):
                lr = probe.lr / divisor
                lost = float(trained.regret(np.array([lr]))[0, 0])
                row = {"problem": problem, "optimizer": optimizer, "steps": probe.steps}
                row |= {"divisor": divisor, "lr": lr, "best_lr": trained.best.lr, "regret": lost}
                rows.append(row | {"collapsed": lost > regret.COLLAPSE * trained.gain})
    return pd.DataFrame(rows)


def of_rules(scores: pd.DataFrame) -> pd.DataFrame:
    """By case, ramp and rule: suggestions (10, 50, 90 %), regret, its 95 % interval over seeds."""
    rows = []
    for (setting, steps, rule), drawn in scores.groupby(["setting", "ramp_steps", "rule"]):
        low, middle, high = np.quantile(np.log10(drawn["suggested_lr"]), [0.1, 0.5, 0.9])
        row = {"setting": setting, "ramp_steps": steps, "rule": rule, "draws": len(drawn)}
        row |= {"abstained": drawn["abstained"].mean(), "best_lr": drawn["best_lr"].iloc[0]}
        row |= {"low_lr": 10**low, "median_lr": 10**middle, "high_lr": 10**high}
        values = drawn["regret_accuracy"].to_numpy()
        means = regret.setting_means([values[None]])[0]
        row |= {"regret": values.mean(), "collapse_rate": drawn["collapsed"].mean()}
        rows.append(
            row | dict(zip(("low", "high"), np.quantile(means, [0.025, 0.975]), strict=True))
        )
    return pd.DataFrame(rows).sort_values(["setting", "ramp_steps", "regret"], ignore_index=True)


def of_quadratic(seeds: int = 20) -> pd.DataFrame:
    """By rule: the suggestion over the exact stability bound, and the share above it."""
    drawn = [quadratic.curve(seed).assign(draw=seed) for seed in range(seeds)]
    named = {"setting": "quadratic_deep-sgd", "optimizer": "sgd", "ramp_steps": quadratic.STEPS}
    found = candidate_rates(pd.concat(drawn).assign(**named))
    found["ratio"] = found["lr"] / quadratic.stability_bound()
    of_rule = found.groupby("rule")["ratio"]
    table = of_rule.agg(lambda ratio: ratio.median()).rename("median_ratio").to_frame()
    table["above"] = of_rule.agg(lambda ratio: (ratio > 1).mean())
    table["draws"], table["abstained"] = of_rule.size(), of_rule.agg(lambda r: r.isna().mean())
    return table.sort_values("median_ratio").reset_index()


def page(rules: pd.DataFrame, probes: pd.DataFrame, exact: pd.DataFrame) -> str:
    """The tables in Markdown."""
    main = rules[rules["ramp_steps"] == 100]
    of_case = main.groupby("setting")[["best_lr", "draws"]].first()
    heads = [
        f"{setting.removeprefix(PROBLEM + '-')} (best {case.best_lr:.2g}; n = {case.draws:.0f})"
        for setting, case in of_case.iterrows()
    ]
    lines = [
        "# External layer: every rule against public trainings",
        "",
        "Trainings: DeepOBS baselines (F. Schneider, MIT licence), commit 3da285abf978 of",
        "github.com/fsschneider/DeepOBS_Baselines, full budgets, one seed a rate. Range tests (n):",
        "ours. Written by `python -m ground_truth.score`; definitions in `docs/ground_truth.md`.",
        "",
        f"## {PROBLEM}: accuracy lost by training at the suggestion",
        "",
        "Median rate: points lost [95 %, over range tests], share collapsed. Ramps of 100 steps.",
        "",
        *_head(["rule", *heads]),
    ]
    cells = main.set_index(["rule", "setting"])
    for rule in main.groupby("rule")["regret"].mean().sort_values().index:
        row = [rule]
        for setting in of_case.index:
            cell = cells.loc[(rule, setting)]
            lost = f"{100 * cell.regret:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
            row.append(f"{cell.median_lr:.2g}: {lost}, {cell.collapse_rate:.0%}")
        lines.append(_row(row))
    cases = len(probes[["problem", "optimizer"]].drop_duplicates())
    lines += ["", f"## The rate of the lowest training loss after k steps: {cases} cases", ""]
    lines += _head(["k", "divided by", "points lost, mean", "collapsed"])
    for (steps, divisor), rows in probes.groupby(["steps", "divisor"]):
        collapsed = f"{rows['collapsed'].sum()} of {len(rows)}"
        lines.append(_row([steps, divisor, f"{100 * rows['regret'].mean():.1f}", collapsed]))
    bound = quadratic.stability_bound()
    lines += ["", f"## quadratic_deep: suggestion over the exact bound 2/λ = {bound:.4f}", ""]
    lines += _head(["rule", "median ratio", "above the bound"])
    for row in exact.itertuples():
        lines.append(_row([row.rule, f"{row.median_ratio:.2g}", f"{row.above:.0%}"]))
    return "\n".join(lines) + "\n"


def _row(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _head(cells: list[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True, help="the public table of trainings, a CSV file")
    given = parser.parse_args(arguments)
    table = public.read(given.table)
    scores = regret.score_table(trainings(table), candidate_rates(curves())).table
    probes, exact, rules = probe_scores(table), of_quadratic(), of_rules(scores)
    for name, found in (("scores", scores), ("rules", rules), ("probes", probes)):
        write_whole(RESULTS / f"{name}.parquet", found.to_parquet(index=False))
    write_whole(RESULTS / "quadratic.parquet", exact.to_parquet(index=False))
    write_whole(RESULTS / "scores.md", page(rules, probes, exact).encode())


if __name__ == "__main__":
    with lrrt.errors.one_line_errors():
        main()
