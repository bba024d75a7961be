"""The rates that every rule and every baseline suggests, one row each, to be scored."""

import numpy as np
import pandas as pd

from lrrt import plugins
from lrrt.analysis.accuracy import rates
from lrrt.analysis.regret import DEFAULT, FIXED
from lrrt.core.edge import MARGIN, pooled

COLUMNS = ("setting", "optimizer", "rule", "ramp_steps", "draw", "lr", "cautioned")
RAW_MINIMUM = (3, 10)  # divisors of the rate of the lowest raw loss
POOLED = 3  # range tests read as one
RANDOM_RANGE = {"sgd": (1e-4, 10.0), "adam": (1e-5, 1.0), "adamw": (1e-5, 1.0)}


def candidate_rates(curves: pd.DataFrame) -> pd.DataFrame:
    """What each rule that reads a loss, and each baseline, suggests on each curve.

    A rule that names a rate has one row a curve; one that names a range has three, ``<rule>.min``,
    ``<rule>.middle`` (geometric) and ``<rule>.max``. Baselines are ``raw_minimum/3`` and ``/10``,
    ``fixed.default`` and ``fixed.lower`` (:data:`lrrt.analysis.regret.FIXED`), and ``random``: the
    middles of as many equal parts of the grid's five decades as there are draws. This library's own
    rule also has ``edge.one_cycle``, its rate for that schedule, and ``edge.pooled`` and
    ``edge.pooled.one_cycle``: :data:`POOLED` curves read as one, under the first one's draw.

    Parameters
    ----------
    curves : DataFrame
        setting, optimizer, ramp_steps, draw, step, lr, loss; one row a step of the whole ramp.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`; ``lr`` is NaN where a rule abstains, ``cautioned`` whether it
        answers and says what speaks against its answer.
    """
    found, keys = [], ["setting", "optimizer", "ramp_steps", "draw"]
    package = "lrrt.core.rules"
    modules = {rule: plugins.find(package, rule, "rule") for rule in plugins.names(package)}
    for identity, steps in curves.groupby(keys, sort=False):
        steps = steps.sort_values("step")
        lr, loss = steps["lr"].to_numpy(), steps["loss"].to_numpy()
        named = dict(zip(keys, identity, strict=True))
        for rule, module in modules.items():
            read = module.suggest(lr, loss)
            of_rule = {"rule": rule, "min_lr": read.min_lr, "max_lr": read.max_lr}
            if hasattr(module, "cautions"):
                of_rule["cautioned"] = bool(module.cautions(lr, loss))
            found.append(named | of_rule)
        lowest = lr[np.nanargmin(loss)] if np.isfinite(loss).any() else np.nan
        alone = {f"raw_minimum/{divisor}": lowest / divisor for divisor in RAW_MINIMUM}
        alone[DEFAULT], alone["fixed.lower"] = FIXED[named["optimizer"]]
        found += [named | {"rule": rule, "max_lr": value} for rule, value in alone.items()]
    table, parts = pd.DataFrame(found), []
    bounds = ["min_lr", "max_lr"]
    table[bounds] = table[bounds].astype(float)
    table["cautioned"] = table["cautioned"].eq(True)
    for rule, drawn in table.groupby("rule", sort=False):
        for kind, values in rates(drawn).items():
            name = rule if kind == "one" else f"{rule}.{kind}"
            parts.append(drawn[[*keys, "cautioned"]].assign(rule=name, lr=values))
    for (_, optimizer, _), drawn in curves[keys].drop_duplicates().groupby(keys[:3], sort=False):
        low, high = np.log10(RANDOM_RANGE[optimizer])
        share = (np.arange(len(drawn)) + 0.5) / len(drawn)
        lrs = 10 ** (low + share * (high - low))
        parts.append(drawn.assign(rule="random", lr=lrs, cautioned=False))
    parts.append(_own_rates(curves))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _own_rates(curves: pd.DataFrame) -> pd.DataFrame:
    """What :mod:`lrrt.core.edge` says but the rule of its name, of one curve, does not."""
    found, keys = [], ["setting", "optimizer", "ramp_steps"]
    for identity, of_ramp in curves.groupby(keys, sort=False):
        named = dict(zip(keys, identity, strict=True))
        drawn = [
            (draw, (steps["lr"].to_numpy(), steps["loss"].to_numpy()))
            for draw, steps in of_ramp.sort_values(["draw", "step"]).groupby("draw")
        ]
        for schedule in MARGIN:
            suffix = "" if schedule == "constant" else f".{schedule}"
            for i, (draw, curve) in enumerate(drawn):
                together = [other for _, other in drawn[i : i + POOLED]]
                asked = {f"edge{suffix}": [curve]} if suffix else {}
                if i % POOLED == 0 and len(together) == POOLED:
                    asked[f"edge.pooled{suffix}"] = together
                for rule, tests in asked.items():
                    read = pooled(tests, schedule)
                    row = {"draw": draw, "rule": rule, "lr": read.lr}
                    found.append(named | row | {"cautioned": bool(read.caution)})
    return pd.DataFrame(found, columns=list(COLUMNS)).astype({"lr": float})
