"""Beside the grids: optimisers that find their own rate, other ramps, the trainings' weights,
other policies.

Each asks a question of some settings alone (``oracle.rate_free``, ``oracle.precision``,
``oracle.same_weights``, ``oracle.policies``), against the grids that those have anyway.
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrrt.analysis import regret
from lrrt.analysis.candidate_rates import POOLED, candidate_rates
from lrrt.core.edge import MARGIN, pooled
from lrrt.experiments.oracle.section import RATE_FREE
from lrrt.runs.store import Result

if TYPE_CHECKING:
    from lrrt.experiments.oracle.design import Design, Run, Setting

#: Start and steps of the ramps whose precision is compared; the first is the main one.
RAMPS = ((1e-7, 100), (1e-7, 33), (1e-4, 62), (1e-4, 33), (1e-4, 11))
DRAWS = 12  # range tests of each
#: What is read off range tests of the trainings' own weights and order.
OF_SAME_WEIGHTS = (
    *("edge", "edge.one_cycle", "fastai_valley"),
    *(f"{rule}.{rate}" for rule in ("blog_fastai", "blog_keras") for rate in ("min", "max")),
)

#: Policies beside the grids' own, on the coarse grid.
POLICIES = ("triangular", "warm_restarts")

RATE_FREE_TYPES = {
    **dict.fromkeys(("setting", "optimizer", "schedule", "run"), "str"),
    "seed": "int64",
    **dict.fromkeys(("lr", "accuracy", "log_loss", "regret_accuracy", "regret_share"), "float64"),
    **dict.fromkeys(("collapsed", "diverged"), "bool"),
}
PRECISION_TYPES = {
    **dict.fromkeys(("setting", "schedule"), "str"),
    "start": "float64",
    **dict.fromkeys(("ramp_steps", "tests", "draw"), "int64"),
    **dict.fromkeys(("suggested_lr", "regret_accuracy"), "float64"),
    **dict.fromkeys(("abstained", "cautioned", "collapsed"), "bool"),
}
SAME_WEIGHTS_TYPES = {
    **dict.fromkeys(("setting", "schedule", "rule"), "str"),
    **dict.fromkeys(("trained_seed", "tested_seed"), "int64"),
    **dict.fromkeys(("suggested_lr", "regret_accuracy"), "float64"),
}
POLICY_TYPES = {
    **dict.fromkeys(("setting", "schedule", "run"), "str"),
    "seed": "int64",
    **dict.fromkeys(("lr", "accuracy", "log_loss"), "float64"),
    "diverged": "bool",
}
SCHEMAS = {
    "oracle_rate_free.parquet": RATE_FREE_TYPES,
    "oracle_precision.parquet": PRECISION_TYPES,
    "oracle_same_weights.parquet": SAME_WEIGHTS_TYPES,
    "oracle_policies.parquet": POLICY_TYPES,
}

Found = list[tuple["Run", Result]]
Grids = dict[tuple[str, str], regret.Grid]


def runs(design: "Design", setting: "Setting", first_draw: int) -> list["Run"]:
    """Those of one setting; ``first_draw``: the seed of the first range test."""
    section, found = design.section, []
    if setting.name in section.precision:
        for draw in range(DRAWS):
            for start, steps in RAMPS:
                at = _from(setting, start)
                found.append(design.range_test(at, "precision", first_draw + draw, steps, draw))
    fine = range(1, section.fine_seeds + 1)
    if setting.name in section.same_weights:
        of_ramp = RAMPS[0][1]
        found += [design.range_test(setting, "same_weights", seed, of_ramp, seed) for seed in fine]
    for optimizer, (lr, schedules) in RATE_FREE.items():
        if setting.name in section.rate_free:
            protocol = dataclasses.replace(setting.protocol, optimizer=optimizer)
            own = setting._replace(protocol=protocol)
            for schedule, seed in itertools.product(schedules, fine):
                found += design.trainings(own, "rate_free", schedule, seed, [lr])
    if setting.name in section.policies:
        for policy in POLICIES:
            found += design.at(setting, "policy", policy, 0, design.coarse(setting))
    return found


def _from(setting: "Setting", start: float) -> "Setting":
    ramp = dataclasses.replace(setting.protocol.ramp, start=start)
    return setting._replace(protocol=dataclasses.replace(setting.protocol, ramp=ramp))


def tables(found: Found, trainings: pd.DataFrame, score) -> dict[str, pd.DataFrame]:
    """``oracle_rate_free.parquet``: a row a training, its loss against the setting's grid.
    ``oracle_precision.parquet``: what ``edge`` says of one test and of three read as one, a row a
    schedule, ramp and draw. ``oracle_same_weights.parquet``: a row a rule, schedule, and pair of
    a range test and a training: what the training of ``trained_seed`` loses at the rate that the
    range test of ``tested_seed`` suggests, where equal seeds are equal weights and batches.
    ``oracle_policies.parquet``: a row a training of :data:`POLICIES`.

    ``score``: of a run's result, its accuracy and log-loss.
    """
    of_accuracy, of_loss = (regret.grids(trainings, name) for name in ("accuracy", "log_loss"))
    made = {
        "oracle_rate_free.parquet": _rate_free(found, of_accuracy, of_loss, score),
        "oracle_policies.parquet": _policies(found, score),
        "oracle_precision.parquet": _precision(found, of_accuracy),
        "oracle_same_weights.parquet": _same_weights(found, of_accuracy),
    }
    return {
        name: pd.DataFrame(rows, columns=list(SCHEMAS[name])).astype(SCHEMAS[name])
        for name, rows in made.items()
    }


def _rate_free(found: Found, of_accuracy: Grids, of_loss: Grids, score) -> list[dict]:
    rows = []
    for run, result in found:
        key = run.setting, run.schedule
        if run.stage != "rate_free" or key not in of_accuracy:
            continue
        accuracy, log_loss = score(run, result)
        grid, losses = of_accuracy[key], of_loss[key]
        lost = _at_best(grid, run.seed) - accuracy
        rows.append(
            {
                "setting": run.setting,
                "optimizer": run.spec.protocol.optimizer,
                "schedule": run.schedule,
                "run": run.spec.key[:12],
                "seed": run.seed,
                "lr": run.spec.lr,
                "accuracy": accuracy,
                "log_loss": log_loss,
                "regret_accuracy": lost,
                "regret_share": (_at_best(losses, run.seed) + log_loss) / losses.gain,
                "collapsed": lost > regret.COLLAPSE * grid.gain,
                "diverged": not np.isfinite(result.arrays["val_loss"]).all(),
            }
        )
    return rows


def _policies(found: Found, score) -> list[dict]:
    rows = []
    for run, result in found:
        if run.stage == "policy":
            named = {"setting": run.setting, "schedule": run.schedule, "run": run.spec.key[:12]}
            accuracy, log_loss = score(run, result)
            named |= {"seed": run.seed, "lr": run.spec.lr, "accuracy": accuracy}
            diverged = not np.isfinite(result.arrays["val_loss"]).all()
            rows.append(named | {"log_loss": log_loss, "diverged": diverged})
    return rows


def _at_best(grid: regret.Grid, seed: int) -> float:
    """Value of a seed at the optimum that is fitted on the others; of a seed that has none, the
    mean over those that do."""
    seeds, values = grid.held_out
    own = values[seeds == seed]
    return float((own if len(own) else values).mean())


def _curve(result: Result) -> tuple[np.ndarray, np.ndarray]:
    return result.arrays["lr"], result.arrays["loss"]


def _precision(found: Found, grids: Grids) -> list[dict]:
    tests: dict[tuple, dict[int, tuple]] = {}
    optimizers = {}
    for run, result in found:
        if run.stage == "precision":
            case = run.setting, run.spec.protocol.ramp.start, run.spec.steps
            tests.setdefault(case, {})[run.seed] = _curve(result)
            optimizers[run.setting] = run.spec.protocol.optimizer
    rows = []
    for (setting, start, steps), curves in tests.items():
        default = regret.FIXED[optimizers[setting]][0]
        for schedule in MARGIN:
            grid = grids.get((setting, schedule))
            for count in (1, POOLED) if grid is not None else ():
                for draw in range(0, DRAWS, count):
                    together = [curves[i] for i in range(draw, draw + count) if i in curves]
                    if len(together) < count:
                        continue
                    read = pooled(together, schedule)
                    lr = default if read.lr is None else read.lr
                    lost = float(grid.regret(np.array([lr])).mean())
                    rows.append(
                        {
                            "setting": setting,
                            "schedule": schedule,
                            "start": start,
                            "ramp_steps": steps,
                            "tests": count,
                            "draw": draw,
                            "suggested_lr": lr,
                            "abstained": read.lr is None,
                            "cautioned": bool(read.caution),
                            "regret_accuracy": lost,
                            "collapsed": lost > regret.COLLAPSE * grid.gain,
                        }
                    )
    return rows


def _same_weights(found: Found, grids: Grids) -> list[dict]:
    tests = [(run, result) for run, result in found if run.stage == "same_weights"]
    if not tests:
        return []
    suggested = candidate_rates(pd.concat([_frame(*test) for test in tests], ignore_index=True))
    suggested = suggested[suggested["rule"].isin(OF_SAME_WEIGHTS)]
    lrs = suggested["lr"].fillna(suggested["optimizer"].map(lambda name: regret.FIXED[name][0]))
    rows = []
    for schedule in MARGIN:
        for row in suggested.assign(lr=lrs).itertuples():
            if (row.setting, schedule) not in grids:
                continue
            grid = grids[row.setting, schedule]
            for seed, lost in zip(grid.held_out[0], grid.regret(np.array([row.lr])), strict=True):
                rows.append(
                    {
                        "setting": row.setting,
                        "schedule": schedule,
                        "rule": row.rule,
                        "trained_seed": seed,
                        "tested_seed": row.draw,
                        "suggested_lr": row.lr,
                        "regret_accuracy": lost[0],
                    }
                )
    return rows


def _frame(run: "Run", result: Result) -> pd.DataFrame:
    lr, loss = _curve(result)
    named = {"setting": run.setting, "optimizer": run.spec.protocol.optimizer, "draw": run.seed}
    columns = {"ramp_steps": run.spec.steps, "step": np.arange(len(lr)), "lr": lr, "loss": loss}
    return pd.DataFrame(named | columns)
