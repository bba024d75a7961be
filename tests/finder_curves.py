"""Curves and audits by formula, and commands: what tests of the finder share."""

import numpy as np
import pytest

from lrrt import cli
from lrrt.finder.audit import Audit
from lrrt.finder.curve import Curve
from lrrt.finder.range_test import Ended

STEPS = 100
LR = np.geomspace(1e-7, 10, STEPS)


def losses(seed=0, noise=0.02):
    """A plateau, a descent to about LR 0.1, an explosion from 1 on."""
    x = np.log10(LR)
    loss = 2.3 - 1.5 / (1 + np.exp(-2.5 * (x + 1.7))) + np.exp(np.clip(9 * (x - 0.1), -50, 12))
    return loss + noise * np.random.default_rng(seed).standard_normal(STEPS)


def curve(loss=None, steps=STEPS, **more):
    loss = losses() if loss is None else np.asarray(loss, float)
    filled = {"penalty": np.zeros(steps), "grad_norm": np.full(steps, np.nan)}
    return Curve(lr=LR[:steps], loss=loss[:steps], planned_lr=LR, **(filled | more))


def ends(values, stop=4.0):
    ended = Ended(stop)
    for step, value in enumerate(values):
        if ended(value):
            return step
    return None


def write(path, names, columns):
    rows = [",".join(names)] + [",".join(map(repr, map(float, row))) for row in zip(*columns)]  # noqa: B905
    path.write_text("\n".join(rows) + "\n")
    return path


def recorded_audit(runs=6, **more):
    curves = tuple(curve(losses(seed)) for seed in range(runs))
    return Audit(
        curves,
        tuple(range(runs)),
        tuple(range(runs)),
        "fastai_minimum",
        about={"model": "<b>Net</b>"},
        **more,
    )


def run(capsys, *arguments):
    cli.main(list(arguments))
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err
