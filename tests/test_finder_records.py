"""Exports as people have them, curves in memory, skips and offsets; flaws under heavy tails."""

import json
import math

import numpy as np
import pytest
from finder_curves import LR, STEPS, curve, fails, losses, run
from reliability import flaws

import lrrt
from lrrt.finder.curve import NEVER_FELL, SIGNED
from lrrt.finder.range_test import lr_to_train_at
from lrrt.finder.recorded_curves import load, unshift_rates


def seeded(raw):
    found = [raw[0]]
    for value in raw[1:]:
        found.append(0.05 * value + 0.95 * found[-1])
    return found


def test_a_trainers_state_is_read_without_its_evaluations(tmp_path):
    rows = [
        {"loss": b, "learning_rate": a, "grad_norm": 1.5, "epoch": 0.1, "step": step}
        for step, (a, b) in enumerate(zip(LR, losses(), strict=True), 1)
    ]
    rows.insert(50, {"eval_loss": 9.0, "eval_runtime": 0.1, "epoch": 0.5})
    rows.append({"train_loss": 9.0, "train_runtime": 3.0, "step": 100})
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"best_metric": None, "log_history": rows, "max_steps": 100}))
    found = load(state)
    assert np.array_equal(found.lr, LR) and np.array_equal(found.loss, losses())
    assert (found.grad_norm == 1.5).all()
    assert found.notes[0] == "Left out: 1 row without a learning rate and a loss."
    lines = tmp_path / "log.jsonl"  # the same, a row a line
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert np.array_equal(load(lines).loss, losses())


def test_lightnings_metrics_are_put_together_by_step(tmp_path):
    path = tmp_path / "metrics.csv"  # as CSVLogger and LearningRateMonitor write it
    lines = ["epoch,lr-SGD,step,train_loss,val_loss"]
    for step, (a, b) in enumerate(zip(LR, losses(), strict=True)):
        lines += [f",{a},{step},,", f"0,,{step},{b},"]
    path.write_text("\n".join([*lines, "0,,99,,0.5"]) + "\n")
    found = load(path)
    assert np.array_equal(found.lr, LR) and np.array_equal(found.loss, losses())
    path.write_text("lr-SGD/pg1,lr-SGD/pg2,step,train_loss\n1,2,0,3\n")
    with pytest.raises(lrrt.InputError, match="lr column: .*--lr COLUMN.*pg1.*pg2"):
        load(path)
    assert load(path, lr="lr-SGD/pg2").lr.tolist() == [2]


def test_decimal_commas_beside_semicolons(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("lr;loss\n0,001;2,5\n1,5E-2;1\n")
    assert load(path).lr.tolist() == [0.001, 0.015] and load(path).loss.tolist() == [2.5, 1]


def test_ignites_results_are_recognised_and_undone(tmp_path):
    rates = 1e-5 * 1e6 ** (np.arange(102) / 100)
    raw = np.interp(np.log(rates[:101]), np.log(LR), losses())
    raw += 0.02 * np.random.default_rng(3).standard_normal(101)
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"lr": rates[1:].tolist(), "loss": seeded(raw)}))
    found = load(path)
    assert found.lr == pytest.approx(rates[:101]) and found.loss == pytest.approx(raw, rel=1e-6)
    assert found.notes[0].startswith("Read as ignite's") and len(found.notes) == 1
    assert load(path, "ignite").lr == pytest.approx(found.lr)
    assert load(path, "raw").lr == pytest.approx(rates[1:]) and load(path, "raw").notes == ()
    for lrs, values in ((rates[:101], seeded(raw)), (rates[1:], raw)):  # not shifted, not smoothed
        path.write_text(json.dumps({"lr": lrs.tolist(), "loss": list(values)}))
        assert load(path).notes[0].startswith("The losses are taken as raw")
    assert unshift_rates(np.array([2.0, 3.0, 4.0])).tolist() == [1, 2, 3]


def test_a_curve_in_memory_needs_rates_and_losses_alone():
    found = lrrt.Curve(lr=LR, loss=losses())
    assert found.suggest() == curve().suggest()
    assert not found.penalty.any() and np.isnan(found.grad_norm).all()


def test_skips_take_the_place_of_a_rules_own(tmp_path, capsys):
    drawn = lrrt.Curve(lr=LR, loss=losses())
    for rule, begin, end in (("torch_lr_finder", 10, 5), ("lightning", 10, 1), ("fastai1", 10, 5)):
        own = drawn.suggest(rule)
        assert drawn.suggest(rule, skip_begin=begin, skip_end=end) == own
        other = drawn.suggest(rule, skip_begin=0, skip_end=0)
        assert other.lr is not None and drawn.suggest(rule, skip_begin=80) != own
    with pytest.raises(lrrt.InputError, match="skip_begin: .*None for fastai_valley.*got 3"):
        drawn.suggest("fastai_valley", skip_begin=3)
    with pytest.raises(lrrt.InputError, match="skip_end: .*at least 0, got -1"):
        drawn.suggest("lightning", skip_end=-1)
    path = str(drawn.save(tmp_path / "a.csv"))
    told = run(capsys, "suggest", path, "--rule", "torch_lr_finder", "--skip-begin", "80")
    assert told.strip() == str(drawn.suggest("torch_lr_finder", skip_begin=80))
    assert "skip_begin" in fails(capsys, "suggest", path, "--skip-begin", "3")


def test_an_offset_gives_a_loss_below_zero_the_suggestion_of_the_shifted_one(tmp_path, capsys):
    drawn, shifted = curve(losses() - 3), curve()
    assert drawn.suggest("ktrain_valley", offset=3).lr == shifted.suggest("ktrain_valley").lr
    assert SIGNED not in drawn.suggest("ktrain_valley", offset=3).cautions
    assert drawn.compare(offset=3)["lightning"].lr == pytest.approx(shifted.suggest("lightning").lr)
    needed = drawn.needed_offset
    assert 0 < needed + drawn.smoothed().min() == pytest.approx(np.ptp(drawn.smoothed()[:85]), 0.1)
    assert shifted.needed_offset == 0
    assert lr_to_train_at(drawn, drawn.suggest("fastai_minimum"), 0) is None
    assert SIGNED in capsys.readouterr().err
    path = str(drawn.save(tmp_path / "a.json"))
    valley = ("suggest", path, "--rule", "ktrain_valley")
    assert f"--offset {needed:.2g}" in run(capsys, *valley)
    told = run(capsys, *valley, "--offset", "3")
    assert told.strip() == str(drawn.suggest("ktrain_valley", offset=3))
    assert run(capsys, "compare", path, "--offset", "3").count(SIGNED) == 0


def test_a_rule_that_abstains_says_what_would_help():
    short = lrrt.Curve(lr=LR[:12], loss=losses()[:12])
    assert "more steps would help" in short.suggest("torch_lr_finder").reason
    lost = curve(np.full(STEPS, math.nan))
    assert "a lower start would help" in lost.suggest().reason


def test_no_spike_hides_a_flat_loss():
    random = np.random.default_rng(0)
    flat = 0.7 + 0.02 * random.standard_normal(STEPS)
    for step, height in ((0, 1.0), (0, 1.4), (1, 1.0), (30, 5.0)):
        spiked = flat + height * (np.arange(STEPS) == step)
        assert curve(spiked).flaw == NEVER_FELL
    runs = tuple(
        curve(0.7 + 0.02 * random.standard_normal(STEPS) + 1.4 * (np.arange(STEPS) == 0))
        for _ in range(10)
    )
    told = lrrt.Audit(runs, tuple(range(10)), tuple(range(10))).verdict
    assert NEVER_FELL in told[0]
    healthy = losses() + 3.0 * (np.arange(STEPS) == 40)
    assert curve(healthy).flaw == ""


@pytest.mark.parametrize("noise", flaws.NOISES)
@pytest.mark.parametrize("fall", [None, flaws.FALLS[0]])
def test_few_curves_are_judged_wrongly(monkeypatch, noise, fall):
    monkeypatch.setattr(flaws, "CURVES", 300)
    shape = np.zeros(STEPS) if fall is None else flaws.healthy(STEPS, fall)
    # The whole simulation holds 2 %; of 300 curves at that rate 4 % are exceeded once in 200.
    assert flaws.error_rate(shape, flaws.NOISES[noise], fall is None, 0) <= 0.04


@pytest.mark.parametrize(
    "about",
    [
        {"rate_departure": "it clamps"},
        {"highest_rate": 0.1},
        {"rate_departure": "it clamps", "highest_rate": "low"},
        {"rate_departure": "it clamps", "highest_rate": None},
    ],
)
def test_a_curve_whose_description_was_edited_is_refused_when_it_is_read(about):
    values = curve().to_dict()
    with pytest.raises(lrrt.InputError, match="curve: expected a curve of this package"):
        lrrt.Curve.from_dict(values | {"about": about})
    edited = {"rate_departure": "it clamps", "highest_rate": 1e-9}
    assert "it clamps" in lrrt.Curve.from_dict(values | {"about": edited}).suggest().cautions


def test_trials_of_no_schedule_are_refused():
    values = lrrt.Audit((curve(),), (0,), (0,)).to_dict()
    values["trials"] = [{"run": 0, "factor": 1.0, "lr": 0.1, "loss": 1.0, "schedule": {}}]
    with pytest.raises(lrrt.InputError, match="audit: expected .*unhashable"):
        lrrt.Audit.from_dict(values)


def test_more_steps_than_memory_holds_are_refused(tmp_path, capsys):
    path = str(curve().save(tmp_path / "a.csv"))
    for steps in (10**7 + 1, 10**12):
        line = fails(capsys, "suggest", path, "--steps", str(steps))
        assert f"steps: expected at most 10,000,000, got {steps}" in line
