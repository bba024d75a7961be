"""Verdicts: how an effect is graded, and every claim on frames small enough to check by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import (
    KERAS,
    LRS,
    config,
    curve,
    curve_rows,
    names,
    pairs,
    posts_config,
    study,
    suggestion_rows,
    trained,
)
from omegaconf import OmegaConf
from scipy import stats

from lrrt.analysis.crossed import weights_share, weights_test
from lrrt.claims import (
    batch_size,
    claim,
    cost,
    judge,
    judges,
    margins,
    policies,
    rule,
    safety,
    shape,
    suggested,
    transfer,
    weights,
)
from lrrt.claims.verdict import (
    MANY,
    Effect,
    Grade,
    Scale,
    by_interval,
    holm,
    mean_effect,
    runs_to_decide,
    share_to_decide,
    with_grade,
)
from lrrt.claims.verdict import judge as judge_units
from lrrt.config import Config
from lrrt.errors import InputError
from lrrt.report import verdicts, wording
from lrrt.stages import claims as stage

ROOT = Path(__file__).parents[1]
RANGES = [(1e-4, 1e-2)] * 8


def effect(value, low, high, unit="accuracy", smallest=0.05, none=0.0, equivalence=math.nan):
    return Effect("", value, low, high, unit, smallest, none, 0.01, equivalence)


# --- grading


@pytest.mark.parametrize(
    "found, sign, expected",
    [
        (effect(0.10, 0.02, 0.18), 1, Grade.SUPPORTED),
        (effect(0.03, 0.01, 0.05), 1, Grade.PARTLY),  # sure, and smaller than what matters
        (effect(-0.10, -0.18, -0.02), 1, Grade.CONTRADICTED),
        (effect(-0.10, -0.18, -0.02), -1, Grade.SUPPORTED),
        (effect(0.01, -0.03, 0.05, equivalence=0.04), 1, Grade.NO_EFFECT),
        (effect(0.01, -0.03, 0.05, equivalence=0.06), 1, Grade.OPEN),
        (effect(17.0, 8.0, 23.0, "factor", 3.0, 1.0), 1, Grade.SUPPORTED),
        (effect(0.3, 0.1, 0.6, "factor", 3.0, 1.0), -1, Grade.SUPPORTED),
        (effect(0.5, 0.3, 0.9, "factor", 3.0, 1.0), -1, Grade.PARTLY),
        (effect(math.nan, math.nan, math.nan), 1, Grade.OPEN),
    ],
)
def test_grade_of_an_interval(found, sign, expected):
    assert by_interval(found, sign) is expected


def test_mean_effect_is_student_t_and_two_one_sided_tests():
    values = [0.02, -0.01, 0.03, 0.0]
    found = mean_effect(values, "")
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    )
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    upper = stats.ttest_1samp(values, 0.05, alternative="less").pvalue
    lower = stats.ttest_1samp(values, -0.05, alternative="greater").pvalue
    assert found.p_equivalence == pytest.approx(max(upper, lower))
    assert by_interval(found) is Grade.NO_EFFECT
    one = mean_effect([0.3], "")
    assert one.value == 0.3 and math.isnan(one.low) and by_interval(one) is Grade.OPEN


def test_a_grade_that_hangs_on_one_set_of_weights_is_fragile_and_one_that_turns_is_not_robust():
    def of(values):
        units = dict(enumerate(values))
        return judge_units(
            "", [], "", units, lambda v: with_grade(mean_effect(v, "")), runs=len(values)
        )

    def signs(values):
        grade = Grade.SUPPORTED if sum(values) > 0 else Grade.CONTRADICTED
        return effect(sum(values), 0, 0), grade

    assert of([0.1, 0.11, 0.09, 0.1]).robust == "yes"
    assert of([0.1, 0.11, 0.09, 0.1, 0.0]).robust == "fragile"
    assert of([0.1, -0.1, 0.2, 0.0]).robust == "" and of([0.1, -0.1, 0.2]).missing == ""
    turning = [0.3, *[-0.02] * 3]
    assert judge_units("", [], "", dict(enumerate(turning)), signs, runs=4).robust == "no"


def test_holm_steps_down():
    assert holm({1: 0.01, 2: 0.02, 3: 0.04}) == {1, 2, 3}
    assert holm({1: 0.01, 2: 0.03, 3: 0.04}) == {1}  # 0.03 > 0.05 / 2, and there it stops
    assert holm({1: 0.5}) == holm({}) == set()


def test_runs_to_decide():
    found = effect(0.10, -0.02, 0.22)
    assert runs_to_decide(found, 0.1) == math.ceil((1.95996 + 0.84162) ** 2)
    assert runs_to_decide(effect(0.01, -0.1, 0.1), 0.1) == 32  # of the smallest that matters, 0.05
    assert runs_to_decide(found, math.nan) is None
    # Of exact tests: 6 of 6 decide, and a share of 0.8 needs 20 runs.
    assert share_to_decide(1.0, 0.5, 2) == 6 and share_to_decide(0.8, 0.5, 2) == 20
    assert share_to_decide(0.5, 0.5, 2) is None and share_to_decide(0.51, 0.5, 2) == MANY + 1


# --- weights crossed with batches


def test_weights_test_by_hand():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    values[0, 0] += 0.6  # by hand: residuals of +-0.2, -0.1, -0.1 in both columns
    found = weights_test(values)
    # Row means 1.8, 3.5, 5.5; mean square of weights 2 * var; of what is left, from residuals.
    left = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    f = 2 * values.mean(1).var(ddof=1) / ((left**2).sum() / 2)
    assert found.f == pytest.approx(f)
    assert found.p_normal == pytest.approx(stats.f.sf(f, 2, 2))
    # 36 permutations give 6 with the rows in the same order: as large a sum of squares.
    assert found.p == pytest.approx(1 / 6, abs=0.02)
    assert found.share > 0.9 and weights_test(values) == found
    assert weights_test(np.ones((3, 3))) is None and weights_test(values[:1]) is None


def test_intervals_with_half_the_degrees_of_freedom_are_wider():
    values = np.random.default_rng(0).normal(size=(6, 6)) + np.arange(6)[:, None] / 3
    (low, high), (lower, higher) = weights_share(values, 1), weights_share(values)
    assert lower <= low < weights_test(values).share < high <= higher


# --- all claims


def test_without_runs_no_claim_is_judged_and_each_says_what_it_lacks():
    found = verdicts.records(judge([study()]))
    assert [record["number"] for record in found] == list(range(1, 18))
    assert {record["verdict"] for record in found} == {"not run"}
    assert all(record["missing"] and not record["results"] for record in found)
    assert all(record["evidence"].startswith("This study has no ") for record in found)
    assert len(verdicts.table(found)) == 17


def test_a_claim_is_a_function_and_its_rule_says_the_margins(monkeypatch):
    assert [f.claim[0] for f in judges()] == list(range(1, 18))
    assert not any(set("{}") & set(rule(f)) for f in judges())
    before = rule(shape.typical_shape)
    monkeypatch.setattr(margins, "PLATEAU_TOLERANCE", 0.3)
    assert rule(shape.typical_shape) != before

    @claim(18, "A new claim", "A new claim.")
    def new(studies):
        """Always."""
        return shape.typical_shape(studies)

    monkeypatch.setattr(cost, "new", new, raising=False)
    assert [c.number for c in judge([study()])] == list(range(1, 19))


def test_claims_are_json_and_the_same_again():
    sizes = [64, 64, 128, 128, 256, 256]
    batches = {"sweep": "batch_size", "batch_sizes": sizes}
    suggested_rows = [
        suggestion_rows(RANGES),
        suggestion_rows(RANGES, sweep="order"),
        suggestion_rows(RANGES, KERAS),
        suggestion_rows(RANGES[:6], **batches),
    ]
    curves = [curve_rows([curve()] * 8), curve_rows([curve()] * 6, **batches)]
    frames = {
        "curves": pd.concat(curves),
        "suggestions": pd.concat(suggested_rows),
        "pairs": pairs(True),
    } | trained({}, {"lr_of": "B"}, {"lr_kind": "min"}, {"lr_kind": "middle"})
    found = verdicts.records(judge([study(**frames, seconds={"run0": 1.0})]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert verdicts.records(judge([study(**frames, seconds={"run0": 1.0})])) == found
    table = verdicts.table(found)
    assert set(table["number"]) == set(range(1, 18))
    fields = {"value", "low", "high", "unit", "none", "smallest", "units", "robust"}
    assert fields <= set(table.columns)
    first = found[0]
    assert first["effect"] == "share with all three: 100 % [63, 100], against 50 %"
    assert (first["value"], first["unit"], first["none"]) == (1, "share", 0.5)
    assert first["interval"][0] == pytest.approx(0.631, abs=0.001)
    for record in found:
        assert bool(record["effect"]) == bool(record["results"] and record["results"][0]["unit"])


@pytest.mark.parametrize(
    "losses, expected",
    [
        ([curve()] * 8, Grade.SUPPORTED),
        ([curve(explodes=False)] * 8, Grade.CONTRADICTED),
        ([curve(floor=2.9)] * 8, Grade.CONTRADICTED),
        ([curve(2e-6, flat_until=2e-7)] * 8, Grade.CONTRADICTED),  # no plateau
        ([curve()] * 3 + [curve(explodes=False)] * 3, Grade.OPEN),
        ([np.where(LRS > 1, np.nan, curve())] * 8, Grade.SUPPORTED),  # not finite: an explosion
    ],
)
def test_typical_shape(losses, expected):
    frames = {"curves": curve_rows(losses), "suggestions": suggestion_rows(RANGES)}
    found = shape.typical_shape([study(**frames)])
    assert found.grade is expected and found.main.units == len(losses)


def around(median: float, count: int = 8) -> np.ndarray:
    return median * 10 ** np.linspace(-0.1, 0.1, count)


def test_published_medians():
    def of(keras_max, config_=None):
        rows = [
            suggestion_rows(list(zip(around(0.1), around(keras_max), strict=True)), KERAS),
            suggestion_rows(list(zip(around(5e-4), around(0.4), strict=True))),
        ]
        return suggested.published_medians([study(config_ or posts_config(), suggestions=rows)])

    found = of(2.0)
    assert found.grade is Grade.SUPPORTED and len(found.results) == 4
    assert all(r.effect.p == r.effect.p_equivalence for r in found.results)
    assert of(40.0).grade is Grade.MIXED  # a factor of 20, and the others as published
    assert of(2.0, config()).grade is Grade.NOT_RUN  # another scale


def test_steepest_descent_is_where_the_rule_looks_by_definition_or_in_most_runs():
    curves = [curve_rows([curve()] * 8), curve_rows([curve()] * 8, KERAS)]
    fastai, keras = suggestion_rows(RANGES), suggestion_rows(RANGES, KERAS)
    there, elsewhere = (keras.assign(rule="blog_fastai", min_lr=lr) for lr in (1.01e-4, 1e-3))
    found = shape.steepest_descent([study(curves=curves, suggestions=[fastai, keras, there])])
    assert found.main.numbers["hits"] == 8 and found.main.grade is Grade.OPEN  # 8 of 8: not always
    assert found.results[1].grade is Grade.BY_DEFINITION
    found = shape.steepest_descent([study(curves=curves, suggestions=[fastai, keras, elsewhere])])
    assert found.main.grade is Grade.CONTRADICTED and found.grade is Grade.MIXED
    assert "0 of 8 runs" in wording.sentence(found)


@pytest.mark.parametrize(
    "max_lr, reason, ten",
    [
        (3e-2, Grade.SUPPORTED, Grade.SUPPORTED),  # the raw minimum, 0.1, lies within 0.03 to 0.3
        (1.0, Grade.SUPPORTED, Grade.CONTRADICTED),  # a tenth is not enough
        (5e-3, Grade.CONTRADICTED, Grade.CONTRADICTED),  # the smoothed minimum comes first
    ],
)
def test_minimum_over_ten(max_lr, reason, ten):
    frames = {
        "curves": curve_rows([curve()] * 8),
        "suggestions": suggestion_rows([(1e-4, max_lr)] * 8),
    }
    found = shape.minimum_over_ten([study(**frames)])
    assert [r.grade for r in found.results] == [reason, ten]


def crossed(values: np.ndarray, protocol="blog_keras") -> pd.DataFrame:
    rows = [
        {
            "run": f"{i}-{j}",
            "backend": "torch",
            "protocol": protocol,
            "depth": 56,
            "batch_size": 512,
            "weights_seed": i,
            "order_seed": j,
            "augmentation_seed": pd.NA,
            "max_lr": 10**value,
        }
        for i, row in enumerate(values)
        for j, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


def test_weights_change_the_suggestion_if_the_crossed_design_tells_them_apart():
    noise = np.random.default_rng(1).normal(0, 0.2, (6, 6))
    low_mode = np.array([1.0, 0, 0, 0, 1.0, 0])[:, None]
    found = weights.weights_change_suggestion([study(variance_runs=crossed(noise - low_mode))])
    assert found.grade is Grade.SUPPORTED and found.main.units == 6 and found.main.runs == 36
    assert found.main.scales == (Scale("resnet", 56, 512),)
    one = np.array([0.6, 0, 0, 0, 0, 0])[:, None]  # a single odd set of weights
    found = weights.weights_change_suggestion([study(variance_runs=crossed(noise - one))])
    assert found.grade is Grade.PARTLY and found.main.robust == "fragile"
    found = weights.weights_change_suggestion([study(variance_runs=crossed(noise))])
    assert found.grade is Grade.OPEN and "48 more" in found.missing


def test_disjoint_ranges_that_only_the_fallback_makes_are_an_artefact():
    ranges = [(1e-4, 1e-3)] * 5 + [(1e-2, 1e-1)]
    found = weights.disjoint_ranges([study(suggestions=suggestion_rows(ranges))])
    assert found.grade is Grade.SUPPORTED and found.main.numbers["disjoint"] == 5
    fell = suggestion_rows(ranges, KERAS, fallback=True)
    steepest = fell.assign(rule="blog_fastai", min_lr=1e-5)
    found = weights.disjoint_ranges([study(suggestions=[fell, steepest])])
    assert found.grade is Grade.PARTLY and found.about == "only by the fallback"
    assert found.main.numbers["real"] == 0
    same = suggestion_rows([(1e-4, 1e-3)] * 10)
    assert weights.disjoint_ranges([study(suggestions=same)]).grade is Grade.CONTRADICTED
    few = suggestion_rows([(1e-4, 1e-3)] * 5)
    assert weights.disjoint_ranges([study(suggestions=few)]).grade is Grade.OPEN


def swaps(*accuracies, outcome="trains", seeds=None) -> dict:
    """A pair of (AA, AB, BA, BB) accuracies each; weights A have seed 2 i, B 2 i + 1."""
    cells = []
    for index, (name, values) in enumerate(zip(names(len(accuracies)), accuracies, strict=True)):
        seed = seeds[index] if seeds else (2 * index, 2 * index + 1)
        for (w, of), value in zip(("AA", "AB", "BA", "BB"), values, strict=True):
            given = {"pair": name, "weights": w, "lr_of": of, "val_accuracy": [value]}
            given |= {"weights_seed": seed["AB".index(w)], "outcome": outcome}
            cells.append(given | {"lr": 1.0 if of == "A" else 0.1})
    found = trained(*cells)
    sides = [
        dict(zip("AB", s, strict=True)) for s in seeds or [(2 * i, 2 * i + 1) for i in range(9)]
    ]
    chosen = pairs(*[True] * len(accuracies))
    case = chosen["torch-blog_fastai"]
    for side, pair in zip(sides, [case, *case["further"]], strict=False):
        for letter in "AB":
            pair[letter] = {"run": letter, "weights_seed": side[letter]}
    return found | {"pairs": chosen}


def test_transfer_is_judged_by_accuracy_by_protocol_and_by_overfitting():
    pair = (0.2, 0.5, 0.2, 0.5)
    frames = swaps(*[tuple(v + 0.01 * i for v in pair[:3]) + (0.5,) for i in range(7)])
    found = transfer.transfer_harms([study(**frames)])
    assert found.main.part == "harms" and found.main.grade is Grade.SUPPORTED
    assert found.main.units == 7 and found.main.effect.value == pytest.approx(-0.27)
    by_part = {r.part: r.grade for r in found.results}
    assert by_part["diverges, blog_fastai"] is Grade.CONTRADICTED
    assert by_part["overfits"] is Grade.CONTRADICTED and found.grade is Grade.MIXED
    frames = swaps(*[pair] * 7, outcome="diverged")
    by_part = {r.part: r.grade for r in transfer.transfer_harms([study(**frames)]).results}
    assert by_part["diverges, blog_fastai"] is Grade.SUPPORTED


def test_pairs_that_share_weights_are_one_cluster():
    found = transfer.clusters({"a": [1, 2], "b": [3, 4], "c": [2, 5], "d": [5, 3], "e": [9, 8]})
    assert found["a"] == found["b"] == found["c"] == found["d"] != found["e"]


def test_same_weights_is_pooled_over_clusters_of_pairs():
    alike = [
        (0.5, 0.5, 0.5, 0.51),
        (0.5, 0.49, 0.5, 0.5),
        (0.5, 0.5, 0.51, 0.5),
        (0.5, 0.5, 0.5, 0.5),
    ]
    found = transfer.same_weights([study(**swaps(*alike))])
    assert found.grade is Grade.NO_EFFECT and found.main.units == 4
    own = [(0.7, 0.5, 0.5, 0.71 + 0.01 * i) for i in range(4)]
    found = transfer.same_weights([study(**swaps(*own))])
    assert found.grade is Grade.SUPPORTED and found.main.effect.value == pytest.approx(0.2125)
    shared = [(0, 1), (1, 2), (2, 3), (4, 5)]
    found = transfer.same_weights([study(**swaps(*own, seeds=shared))])
    assert found.main.units == 2 and found.main.runs == 4


def test_fastai_is_lower():
    low = suggestion_rows(list(zip(around(1e-4), around(0.1), strict=True)))
    high = suggestion_rows(list(zip(around(1e-2), around(1.0), strict=True)), KERAS)
    found = suggested.fastai_is_lower([study(suggestions=[low, high])])
    assert found.grade is Grade.SUPPORTED
    assert found.main.effect.value == pytest.approx(0.1)
    swapped = [
        low.assign(backend="keras", protocol="blog_keras", rule="blog_keras"),
        high.assign(backend="torch", protocol="blog_fastai", rule="blog_fastai"),
    ]
    assert suggested.fastai_is_lower([study(suggestions=swapped)]).grade is Grade.CONTRADICTED


@pytest.mark.parametrize(
    "median, expected",
    [
        (2.0, Grade.SUPPORTED),
        (0.2, Grade.PARTLY),
        (0.01, Grade.CONTRADICTED),
        (0.1, Grade.NO_EFFECT),
    ],
)
def test_two_against_a_tenth(median, expected):
    rows = suggestion_rows([(1e-3, lr) for lr in around(median)], KERAS)
    found = suggested.two_against_a_tenth([study(suggestions=rows)])
    assert found.grade is expected


def test_low_mode_runs_are_counted():
    rows = suggestion_rows([(1e-3, lr) for lr in (0.1, *around(2.0))], KERAS)
    found = suggested.two_against_a_tenth([study(suggestions=rows)])
    assert found.main.numbers["low"] == 1
    assert found.main.numbers["high"] == pytest.approx(2.0)
    assert "1 of 9 runs" in wording.sentence(found)


def test_unsafe_by_trainings_though_the_curve_looks_safe():
    frames = {
        "curves": curve_rows([curve()] * 8),
        "suggestions": suggestion_rows([(1e-4, 1e-2)] * 8),  # before the curve's rise at 0.1
    }
    found = safety.unsafe_without_smoothing([study(**frames)])
    assert found.grade is Grade.CONTRADICTED and found.main.numbers["hits"] == 0
    unsafe = swaps(*[(0.2 + 0.01 * i, 0.5, 0.2, 0.5) for i in range(7)])
    found = safety.unsafe_without_smoothing([study(**frames, **unsafe)])
    assert found.grade is Grade.SUPPORTED and found.main.part == "trainings"
    late = frames | {"suggestions": suggestion_rows([(1e-4, 1.0)] * 8)}
    assert safety.unsafe_without_smoothing([study(**late)]).grade is Grade.SUPPORTED


@pytest.mark.parametrize(
    "seconds, expected",
    [
        ({"run0": 2.0, "run1": 3.0, "v0": 99.0}, (40, Grade.SUPPORTED)),
        ({"run0": 2.0, "run1": 3.0, "v0": 12.5}, (5, Grade.PARTLY)),
        ({"run0": 2.0, "run1": 9.0, "v0": 99.0}, (None, None)),  # like runs took unlike times
        ({}, (None, None)),
    ],
)
def test_validation_cost(seconds, expected):
    curves = [
        curve_rows([curve()] * 2),
        curve_rows([curve()], sweep="validation", val_loss=1.0).assign(run="v0"),
    ]
    found = cost.validation_cost([study(curves=curves, seconds=seconds)])
    work = next(r for r in found.results if r.part == "work")
    assert work.effect.value == pytest.approx(
        1 + config().data.test_images / 3 / config().sweep.batch_size
    )
    timed = [r for r in found.results if r.part == "time"]
    ratio, grade = expected
    if ratio is None:
        assert not timed and found.missing and "by the clock" not in found.sentence
    else:
        assert f", by the clock {ratio} times at batch" in found.sentence
        assert timed[0].effect.value == pytest.approx(ratio, rel=0.02)
        assert timed[0].grade is grade


@pytest.mark.parametrize(
    "harmed, expected", [(0, Grade.SUPPORTED), (1, Grade.OPEN), (9, Grade.CONTRADICTED)]
)
def test_minimum_is_safe_by_sets_of_weights_trained_at_or_above_it(harmed, expected):
    cells = [
        {"weights_seed": i, "lr": 0.05, "outcome": "diverged" if i < harmed else "trains"}
        for i in range(10)
    ]
    rows = [suggestion_rows([(1e-3, 1.0)] * 10)]
    found = safety.minimum_is_safe([study(suggestions=rows, **trained(*cells))])
    assert found.grade is expected and found.main.numbers["hits"] == harmed
    below = [cell | {"lr": 1e-4} for cell in cells]  # says nothing of the min LR above it
    found = safety.minimum_is_safe([study(suggestions=rows, **trained(*below))])
    assert found.grade is Grade.NOT_RUN


@pytest.mark.parametrize("power, expected", [(1.0, Grade.SUPPORTED), (-1.0, Grade.CONTRADICTED)])
def test_larger_batch(power, expected):
    sizes = [64, 128, 256, 512] * 3
    noise = np.tile([0.01, -0.01, -0.01, 0.01], 3)
    lrs = [(1e-5, 1e-2 * (s / 64) ** power * 10**e) for s, e in zip(sizes, noise, strict=True)]
    rows = suggestion_rows(lrs, sweep="batch_size", batch_sizes=sizes)
    seeds = np.repeat([0, 1, 2], 4)
    rows = rows.assign(weights_seed=seeds, order_seed=seeds)
    found = batch_size.larger_batch([study(suggestions=rows)])
    assert found.grade is expected and found.main.units == 3
    assert found.main.effect.value == pytest.approx(power, abs=0.02)
    assert ("linear scaling fits" in wording.sentence(found)) == (power == 1)


def test_flattening_is_partly_smoothing_if_the_raw_loss_flattens_less():
    sizes = [64, 128, 256, 512] * 3
    seeds = np.repeat([0, 1, 2], 4)

    def of(*steps, floors=(1.0, 1.0, 1.0, 1.0)):
        losses = []
        for count, floor in zip(steps * 3, floors * 3, strict=True):
            x, whole = np.geomspace(LRS[0], LRS[-1], count), curve(floor=floor)
            losses.append(np.interp(np.log10(x), np.log10(LRS), whole))
        rows = [
            curve_rows([loss], sweep="batch_size_epoch").assign(
                run=f"r{i}", batch_size=s, weights_seed=w, order_seed=w
            )
            for i, (loss, s, w) in enumerate(zip(losses, sizes, seeds, strict=True))
        ]
        suggestions = suggestion_rows(
            [(1e-4, 1e-2)] * 12, sweep="batch_size_epoch", batch_sizes=sizes
        )
        return batch_size.flattening([study(curves=rows, suggestions=suggestions)])

    both = of(400, 200, 100, 50, floors=(1.0, 1.1, 1.2, 1.3))
    assert both.grade is Grade.PARTLY and both.main.effect.unit == "change"
    assert of(100, 100, 100, 100).grade is Grade.OPEN  # nothing flattens


@pytest.mark.parametrize(
    "gain, expected", [(0.2, Grade.SUPPORTED), (-0.2, Grade.CONTRADICTED), (0.0, Grade.NO_EFFECT)]
)
def test_narrower_is_safer_on_the_own_range(gain, expected):
    cells = []
    for seed in range(6):
        noise = 0.01 * (seed % 3 - 1)
        here = {"pair": names(6)[seed], "weights_seed": seed, "weights": "B", "lr_of": "B"}
        cells.append(here | {"lr_kind": "max", "val_accuracy": [0.5]})
        cells.append(here | {"lr_kind": "middle", "val_accuracy": [0.5 + gain + noise]})
    found = safety.narrower_is_safer([study(**trained(*cells))])
    assert found.grade is expected and found.main.units == 6


def test_policies_are_judged_one_by_one():
    cells = []
    for number, pair in enumerate(names(5)):
        for policy, apart in (("constant", 0.4), ("one_cycle", 0.02), ("triangular", 0.4)):
            for of in "AB":
                noise = 0.02 * number if policy == "constant" else 0.0
                noise += 0.1 * (number - 2) if policy == "triangular" else 0.0
                value = 0.6 if of == "B" else 0.6 - apart - noise
                cells.append({"pair": pair, "policy": policy, "lr_of": of, "val_accuracy": [value]})
    sides = swaps(*[(0.1,) * 4] * 5)["pairs"]
    found = policies.policies_help([study(pairs=sides, **trained(*cells))])
    assert {r.part: r.grade for r in found.results} == {
        "one_cycle": Grade.SUPPORTED,
        "triangular": Grade.OPEN,
    }
    assert found.grade is Grade.MIXED and "one cycle: supported" in wording.about(found)


# --- the scale of the post


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, True),
        ({"model.depth": 20}, False),
        ({"data.name": "digits"}, False),
        ({"sweep.batch_size": 256}, False),
        ({"sweep.steps": 97}, False),  # of fastai's, too
        ({"sweep.steps": 97, "study.protocols": ["blog_keras"]}, True),
        ({"protocols.blog_keras.ramp.steps": 50}, False),
        ({"protocols.blog_keras.ramp.steps": 97}, True),
        ({"protocols.blog_fastai.ramp.steps": None}, False),
        ({"protocols.blog_fastai.ramp.steps": None, "study.protocols": ["blog_keras"]}, True),
    ],
)
def test_the_scale_of_the_post(change, expected):
    values = OmegaConf.load(Path(__file__).parents[1] / "reports" / "blog" / "params.yaml")
    for key, value in change.items():
        OmegaConf.update(values, key, value)
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    assert study(found).at_the_posts_scale == expected


# --- the stage


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with the committed data, as the study resnet20."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    params = (ROOT / "reports" / "resnet20" / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params)
    return tmp_path


@pytest.mark.slow(3)
def test_the_stage_writes_what_the_report_reads(folder):
    stage.main([])
    found = verdicts.read(folder / "reports/resnet20", None)
    assert [record["number"] for record in found] == list(range(1, 18))
    alone = {record["number"]: record["verdict"] for record in found}
    assert alone[2] == "not run" and alone[1] == "supported"  # not the scale that was published
    assert "17" in verdicts.holm_line(found) and "Exploratory" in verdicts.holm_line(found)


def test_a_study_beside_without_a_report_is_one_line(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        stage.main(["--beside", "blog"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert "reports/blog/params.yaml" in error and "dvc exp run -S study=blog" in error
    assert not (folder / "reports").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "a file"),
        ("[{", "a JSON file"),
        ('[{"claim": "", "verdict": "holds"}]', "an older format"),
        ("[]", "an older format"),
        ("3", "a JSON file"),
    ],
)
def test_claims_that_cannot_be_read_name_the_command(tmp_path, content, words):
    (tmp_path / "claims").mkdir()
    if content is not None:
        (tmp_path / "claims" / "resnet20.json").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        verdicts.read(tmp_path, "resnet20")
    assert "python -m lrrt.stages.claims --beside resnet20" in str(caught.value)
