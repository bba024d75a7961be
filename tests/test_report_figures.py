"""The figures of the report, by their data, on a study made from formulas."""

import dataclasses
import math

import matplotlib.colors
import numpy as np
import pytest

from lrrt import plugins
from lrrt.experiments.transfer.tables import OUTCOMES
from lrrt.report import figures, style, wording
from lrrt.report.figures import (
    accuracy,
    attribution,
    attribution_confirmed,
    attribution_framework,
    batch_sizes,
    batch_slope,
    gradient_descent,
    pair,
    policies,
    published,
    rules,
    swaps,
    trainings,
    typical,
    unsmoothed,
    variance,
    weights_sweep,
)

KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")


@pytest.fixture(scope="module")
def data(report_data):
    return report_data


def drawn(module, data, *case):
    with style.project_style():
        return module.draw(data, *case)


def lines(ax, gid: str) -> list:
    return [line for line in ax.lines if gid in (line.get_gid() or "")]


# ---- what all have in common ------------------------------------------------------------------


def test_every_figure_module_keeps_the_contract():
    package = "lrrt.report.figures"
    modules = [plugins.find(package, name, "figure") for name in plugins.names(package)]
    found = [module for module in modules if hasattr(module, "ORDER")]
    assert len({module.ORDER for module in found}) == len(found) >= 13
    for module in found:
        assert module.SECTION in figures.SECTIONS and module.__doc__
        assert all(callable(getattr(module, name)) for name in ("title", "caption", "draw"))
    # No study draws all of them: answer and ground_truth need three settings: study=oracle.
    assert sum(module.SECTION != figures.APPENDIX for module in found) <= 12


def test_the_finding_is_in_the_image_and_so_is_its_source(data):
    for name, case in figures.plan(data):
        with style.project_style():
            drawing = figures.drawing(data, name, case)
        if drawing is None:
            continue
        head = drawing.figure._suptitle.get_text().replace("\n", " ")
        assert head == drawing.title and len(head) > 20
        foot = " ".join(drawing.figure._supxlabel.get_text().split())
        assert foot == figures.source(plugins.find("lrrt.report.figures", name, "figure"), data)
        assert drawing.caption.endswith(".") and len(drawing.caption.split()) <= 90, name
        assert drawing.figure.get_figwidth() <= 9.5


def test_a_figure_of_runs_at_a_scale_of_their_own_says_so(data):
    other = dataclasses.replace(data.config.variance, batch_size=32, depth=14)
    assert "ResNet-14, batch 32, " in data.source(other)


def test_figures_repeat_to_the_byte_and_their_words_are_text(data):
    encoded = []
    for _ in range(2):
        with style.project_style():
            drawing = figures.drawing(data, "typical", ())
            encoded.append(style.encode(drawing.figure, 50))
    assert encoded[0] == encoded[1]
    svg = encoded[0]["svg"].decode()
    assert "<dc:date>" not in svg and ">learning rate</text>" in svg


def test_the_same_case_has_one_colour_and_an_outcome_one_marker(data):
    colours = [style.colour(*case) for case in data.cases("weights")[:4]]
    assert len(set(colours)) == 4
    assert style.colour("jax", "other") == style.colour("jax", "other")
    assert set(style.MARKERS) == set(OUTCOMES) and len(set(style.MARKERS.values())) == 5


def test_exploded_losses_leave_the_axes():
    values = style.below(np.array([1.0, np.inf, np.nan, 1e300, -1e300]), 5.0)
    assert list(values) == [1.0, 15.0, 15.0, 15.0, -10.0]


# ---- the figures of the page ------------------------------------------------------------------


def test_accuracy_shows_every_training_and_what_is_suggested(data):
    hero = accuracy.choice(data)
    upper, lower = drawn(accuracy, data).axes
    assert len(lines(upper, "weights")) == len(hero.rows) > accuracy.FEWEST
    bars = accuracy.suggestions(data, hero)
    assert len(lines(lower, "loses")) == len(bars) >= 3
    assert [label.get_text() for label in lower.get_yticklabels()] == list(bars["name"])[::-1]
    failed = (hero.rows["outcome"] != "trains") & (hero.rows["lr_kind"] == "max")
    assert f"{failed.sum()} of {(hero.rows['lr_kind'] == 'max').sum()} " in accuracy.title(data)
    few = data.outcomes[data.outcomes["lr_kind"] == "max"]
    assert drawn(accuracy, dataclasses.replace(data, outcomes=few)) is None


def test_typical_is_the_run_nearest_the_median(data):
    case, run, low, high = typical.choice(data)
    rows = data.own_suggestions("weights", case)
    distance = (np.log(rows["max_lr"]) - np.log(rows["max_lr"]).median()).abs()
    assert case == KERAS
    assert math.isclose(abs(math.log(high) - np.log(rows["max_lr"]).median()), distance.min())
    assert rows.set_index("run").loc[run.run, "min_lr"] == low
    plateau, minimum = typical.regions(run)
    assert run.lr[0] < plateau <= minimum == run.lr[np.nanargmin(run.smoothed)]
    assert drawn(typical, data).axes[0].get_xscale() == "log"


def test_runs_show_median_band_every_run_and_the_ratio(data):
    axes = drawn(weights_sweep, data).axes
    assert len(axes) == 2 * len(data.home_cases())
    for ax, case in zip(axes, data.home_cases(), strict=False):
        smoothed = np.stack([run.smoothed for run in data.traces("weights", case)])
        top = ax.get_ylim()[1]
        expected = np.median(np.minimum(smoothed, 3 * top), axis=0)
        median = ax.lines[0]
        seen = np.isfinite(smoothed).all(axis=0) & (smoothed.max(axis=0) < 3 * top)
        np.testing.assert_allclose(median.get_ydata()[seen], expected[seen])
        assert matplotlib.colors.same_color(median.get_color(), style.colour(*case))
        rows = data.own_suggestions("weights", case)
        for name in ("min LR", "max LR"):
            shown = [line.get_xdata()[0] for line in lines(ax, f": {name} ")]
            assert sorted(shown) == sorted(rows[name.replace(" ", "_").lower()])
        low, high = 10 ** np.log10(rows["max_lr"]).quantile([0.1, 0.9])
        assert weights_sweep.ratio(data, "weights", case) == pytest.approx(high / low)
        assert f"max LR {wording.times(high / low)}" in [text.get_text() for text in ax.texts]
    assert "fallback" in weights_sweep.caption(data) and "n = 6 a panel" in weights_sweep.caption(
        data
    )


def test_too_few_runs_have_no_ratio(data):
    few = dataclasses.replace(
        data, suggestions=data.suggestions[data.suggestions["order_seed"] < 3]
    )
    assert np.isnan(
        weights_sweep.ratio(few, "weights", KERAS)
    ) and "fold" not in weights_sweep.title(few)


def test_pairs_with_a_swap_are_all_shown_and_counted(data):
    rows = data.outcomes
    rows = rows[rows["lr_kind"].eq("max") & rows["weights_from"].eq("")]
    flat = rows[rows["policy"] == "constant"]
    whole = flat.groupby("pair").filter(lambda pair: len(pair) == 4)
    found = whole["pair"].nunique()
    assert 2 <= found < flat["pair"].nunique()
    assert sum(len(lines(ax, "weights")) for ax in drawn(swaps, data).axes) == 4 * found
    last = data.trainings[data.trainings["epoch"] == flat["compared_epochs"].iloc[0]]
    at = last.set_index("training")["val_accuracy"].fillna(0)
    at = whole.set_index(["pair", "weights", "lr_of"])["training"].map(at)
    gain = (at[:, "A", "B"] - at[:, "A", "A"] + at[:, "B", "B"] - at[:, "B", "A"]) / 2
    assert swaps.caption(data).startswith(f"n = {found} pairs")
    assert f"gains {wording.gain(gain)}" in swaps.caption(data)
    assert f"{abs(round(100 * gain.mean()))} points lower" in swaps.title(data)


def test_policies_are_compared_over_all_their_pairs(data):
    rows = policies.trainings(data)
    assert rows["pair"].nunique() > 1 and set(rows["policy"]) == {"constant", "one_cycle"}
    (ax,) = drawn(policies, data).axes
    assert len(lines(ax, "weights")) == len(rows)
    at_a = rows[(rows["policy"] == "one_cycle") & (rows["lr_of"] == "A")]
    assert policies.medians(data).loc["one_cycle", "A"] == at_a["accuracy"].median()
    some = data.outcomes[(data.outcomes["policy"] == "constant") | (data.outcomes["lr_of"] == "A")]
    assert drawn(policies, dataclasses.replace(data, outcomes=some)) is None  # it was stopped


def test_rules_are_on_the_same_curves_the_steadiest_first(data):
    figure = drawn(rules, data)
    names = set(plugins.names("lrrt.core.rules"))
    for ax, case in zip(figure.axes, data.home_cases(), strict=True):
        labels = [label.get_text() for label in ax.get_yticklabels()]
        found = {label.split(",")[0] for label in labels}
        own = data.config.protocols[case[1]].rule
        assert {*rules.FINDERS} <= names and {*rules.FINDERS, own} >= found and len(found) > 5
        ratios = [bar.ratio for bar in rules.bars(data, case)]
        assert ratios == sorted(ratios)
        assert len(lines(ax, "of 6 runs")) == len(labels)


def test_framework_and_protocol_are_told_apart(data):
    figure = drawn(attribution_framework, data)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "Keras,\nKeras protocol" in labels and "PyTorch,\nKeras protocol" in labels
    # Formulas know no backend, and clipping lets the Keras protocol explode 30 times as late.
    table = data.framework[data.framework["quantity"] == "max_lr"]
    known = table[~table["at"].str.contains("script") & (table["effect_of"] == "backend")]
    assert len(known) and known["effect"].dropna().eq(0).all()
    protocol = table.query("effect_of == 'protocol' and target == 'blog_keras'")["effect"]
    assert (protocol.dropna() > 1).all() and len(protocol)
    caption = attribution_framework.caption(data)
    effects = attribution_framework.main_effects(data)
    factors = [wording.multiple(row) for row in effects.values()]
    assert factors and all(f"×{factor} (n = " in caption for factor in factors)


def test_the_framework_is_told_from_its_device(data):
    assert attribution_framework.places(data) == ""  # all on one
    files = {name: ["cuda, tfloat32"] for name in data.places if "torch-" in name}
    apart = dataclasses.replace(data, places=data.places | files)
    words = "Keras on a CPU in float32, PyTorch on a GPU in TF32."
    assert attribution_framework.places(apart).endswith(words)
    assert words in attribution_framework.caption(apart)


@pytest.mark.parametrize(
    "module, scale, factors",
    [
        (attribution, "screen", ["gradient clipping", "rule", "weight decay"]),
        (attribution_confirmed, "study", ["gradient clipping", "weight decay"]),
    ],
)
def test_attribution_shows_every_effect_with_its_interval(data, module, scale, factors):
    figure = drawn(module, data)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == "whole gap" and sorted(labels[1:]) == factors
    for ax, quantity in zip(figure.axes, ("min_lr", "max_lr"), strict=True):
        table = data.attribution
        table = table[(table["scale"] == scale) & (table["quantity"] == quantity)]
        rows = table[table["design"].isin(["all", "averaged"])]
        found = sorted(line.get_xdata()[0] for line in lines(ax, "decades"))
        assert found == pytest.approx(sorted(10 ** rows["effect"]))


def test_unsmoothed_shows_both_losses_and_how_far_the_raw_one_has_risen(data):
    sweep, trace, maximum = unsmoothed.runs(data)[KERAS]
    assert sweep == "validation_batch"
    ax = drawn(unsmoothed, data).axes[0]
    (raw,) = lines(ax, "training, raw")
    seen = np.isfinite(trace.raw_loss) & (trace.raw_loss < ax.get_ylim()[1])
    np.testing.assert_array_equal(raw.get_ydata()[seen], trace.raw_loss[seen])  # without penalty
    assert lines(ax, "validation") and lines(ax, "training, smoothed")
    before = trace.steady[trace.trained_lr <= maximum * (1 + 1e-9)]
    assert unsmoothed.rise(trace, maximum) == pytest.approx(before[-1] / before.min() - 1)


# ---- the appendix -----------------------------------------------------------------------------


def test_navigation_is_gradient_descent():
    lr = gradient_descent.LRS["good"]
    position = np.array(gradient_descent.START)
    for _ in range(gradient_descent.STEPS):
        position = position - lr * np.array(gradient_descent.CURVATURES) * position
    np.testing.assert_allclose(gradient_descent.descend(lr)[-1], position, rtol=1e-12)
    ends = {
        name: gradient_descent.loss(*gradient_descent.descend(lr)[-1])
        for name, lr in gradient_descent.LRS.items()
    }
    assert ends["good"] < 0.1 < ends["too small"] < gradient_descent.loss(*gradient_descent.START)
    assert ends["too large"] > gradient_descent.loss(*gradient_descent.START)


def test_published_is_beside_ours(data):
    figure = drawn(published, data)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["Keras,\nnew weights", "Keras,\nsame weights"] and len(labels) == 4
    for ax, quantity in zip(figure.axes, ("min_lr", "max_lr"), strict=True):
        rows = data.published[data.published["quantity"] == quantity]
        for who, column in (("published", "published_median"), ("here", "median")):
            found = [line.get_xdata()[0] for line in lines(ax, f"{who}: median")]
            assert found == pytest.approx(list(rows[column]))


def test_variance_shows_what_fixing_leaves(data):
    rows = variance.remaining_spread(data)
    assert set(rows["what"]) == {"same weights", "same batches"}
    figure = drawn(variance, data)
    for ax, quantity in zip(figure.axes, ("min_lr", "max_lr"), strict=True):
        widths = sorted(patch.get_width() for patch in ax.patches)
        assert widths == pytest.approx(sorted(rows.loc[rows["quantity"] == quantity, "ratio"]))


def test_pair_shows_both_ranges(data):
    case = pair.choice(data)
    gaps = {name: found["gap_decades"] for name, found in data.pairs.items()}
    assert gaps["-".join(case)] == max(
        gaps.get("-".join(home), -np.inf) for home in data.home_cases()
    )
    upper, lower = drawn(pair, data).axes
    chosen = data.pairs["-".join(case)]
    bars = {tuple(line.get_xdata()) for line in lines(lower, "weights seed")}
    assert bars == {(chosen[letter]["min_lr"], chosen[letter]["max_lr"]) for letter in "AB"}
    assert len(upper.lines) == 4
    assert f"{chosen['disjoint_pairs']} of {chosen['pairs']} pairs" in pair.title(data)


def test_stopped_trainings_are_crossed(data):
    axes = drawn(trainings, data, FASTAI).axes
    stopped = data.outcomes[
        (data.outcomes["pair"] == "torch-blog_fastai")
        & (data.outcomes["policy"] == "constant")
        & (data.outcomes["weights_from"] == "")
        & data.outcomes["stopped_at_step"].notna()
    ]
    crosses = [line for ax in axes for line in lines(ax, "weights") if line.get_marker() == "X"]
    assert len(crosses) == len(stopped) > 0


def test_batch_sizes_raw_and_smoothed(data):
    assert ("batch_size", KERAS) in batch_sizes.panels(data)
    rows = batch_sizes.falls(data, "batch_size", KERAS)
    assert set(rows["kind"]) == {"raw", "smoothed"} and set(rows["batch size"]) == {32, 64, 128}
    trace = data.traces("batch_size", KERAS)[0]
    smoothed = rows[(rows["kind"] == "smoothed") & (rows["batch size"] == trace.batch_size)]
    assert (1 - np.nanmin(trace.smoothed) / trace.smoothed[0]) in list(smoothed["fall"])
    assert len(drawn(batch_sizes, data).axes) == 1


def test_batch_slope_is_the_least_squares_slope(data):
    rows = data.own_suggestions("batch_size", FASTAI)
    slope = np.polyfit(np.log(rows["batch_size"]), np.log(rows["max_lr"]), 1)[0]
    panels = drawn(batch_slope, data).axes
    assert any(lines(ax, f"slope {slope:.2f}") for ax in panels)
    assert f"{slope:.2f} [" in batch_slope.caption(data)
