"""The report, on a study made from formulas."""

import copy
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
import synthetic_study
import yaml
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox
from omegaconf import OmegaConf

from lrrt import plugins
from lrrt.analysis.tables import by_own_rule
from lrrt.config import Config, from_mapping
from lrrt.errors import InputError
from lrrt.experiments.transfer.tables import OUTCOMES
from lrrt.report import figures, study, style, summary, wording
from lrrt.report.build import build, params_yaml, write
from lrrt.report.figures import (
    _waterfall,
    attribution,
    attribution_confirmed,
    attribution_framework,
    attribution_rule,
    attribution_waterfall,
    batch_sizes,
    batch_slope,
    crossing,
    navigation,
    outcomes,
    pair,
    policies,
    published,
    rules,
    runs,
    swaps,
    trainings,
    typical,
    unsmoothed,
    variance,
)
from lrrt.stages import report as stage

ROOT = Path(__file__).parents[1]
KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")
EVIL = "<script>alert('$x$ & \"y\"')</script>"
EVIL_PROTOCOL = '<b>"$x$&'


def drawn(module, data, *case):
    with style.applied():
        return module.draw(data, *case)


def lines(ax, gid: str) -> list:
    return [line for line in ax.lines if gid in (line.get_gid() or "")]


@pytest.fixture(scope="module")
def config() -> Config:
    """All sweeps, two policies."""
    return synthetic_study.config(
        "study.sweeps=[weights,order,batch_size,validation,validation_batch]",
        "sweeps.order.crossed_runs=0",
        "sweeps.validation.crossed_runs=0",
        "sweeps.batch_size.crossed_runs=0",
        "divergence.policies=[one_cycle]",
        "report.dpi=50",
        "report.bootstrap_resamples=100",
        "attribution.factors=[gradient_clip,rule,weight_decay]",
        "attribution.orders=2",
        "attribution.confirmed=[gradient_clip,weight_decay]",
        "attribution.confirmed_runs=3",
        "variance.protocols=[blog_keras,blog_fastai]",
        "variance.augmentations=2",
    )


@pytest.fixture(scope="module")
def hostile(config) -> Config:
    """The same with a title and a protocol that no validation would let pass."""
    hostile = copy.deepcopy(config)
    hostile.report.title = EVIL
    hostile.protocols[EVIL_PROTOCOL] = copy.deepcopy(config.protocols["blog_fastai"])
    hostile.study.protocols.append(EVIL_PROTOCOL)
    return hostile


@pytest.fixture(scope="module")
def root(config, hostile, tmp_path_factory) -> Path:
    """A folder with the hostile study, whose params.yaml is sound."""
    root = tmp_path_factory.mktemp("study")
    synthetic_study.write(root, hostile)
    (root / "params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    description = root / "data" / "synthetic" / "dataset.json"
    described = json.loads(description.read_text()) | {"description": EVIL}
    description.write_text(json.dumps(described))
    return root


@pytest.fixture(scope="module")
def data(root, hostile) -> study.StudyData:
    return study.load(hostile, root)


@pytest.fixture(scope="module")
def files(data) -> dict[str, bytes]:
    return build(data)


@pytest.fixture(scope="module")
def html(files) -> str:
    return files["report.html"].decode()


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_runs_say_where_and_how_long(data, html):
    rows = data.runs()
    assert {row["sweep"] for row in rows} == {*data.config.study.sweeps, "trainings"}
    assert {row["place"] for row in rows} == {"cpu, float32"}
    assert all(math.isnan(row["hours"]) for row in rows)
    first = rows[0]
    case = data.curves[["backend", "protocol", "sweep"]] == [*first.values()][:3]
    names = data.curves.loc[case.all(axis=1), "run"].unique()
    assert first["count"] == len(names)
    timed = dataclasses.replace(data, seconds=dict.fromkeys(names, 1800.0))
    assert timed.runs()[0]["hours"] == len(names) / 2
    assert "<td>cpu, float32</td>" in html


# ---- what is read ----------------------------------------------------------------------------


def test_only_the_files_that_the_configuration_names_are_read(root, data):
    stray = root / "data/synthetic/curves/keras-blog_keras-gone.parquet"
    shutil.copy(stray.with_name("keras-blog_keras-weights.parquet"), stray)
    try:
        again = study.load(data.config, root)
    finally:
        stray.unlink()
    assert set(again.curves["sweep"]) == set(data.config.study.sweeps)
    assert len(again.curves) == len(data.curves)
    assert data.files["pairs.json"] and not any("gone" in name for name in again.files)
    assert data.data_digests == [synthetic_study.DIGEST]
    assert data.versions == [synthetic_study.VERSIONS]


@pytest.mark.parametrize(
    "name", ["suggestions.parquet", "curves/keras-blog_keras-order.parquet", "pairs.json"]
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_cut_file_is_one_line_and_nothing_is_written(
    root, data, tmp_path, monkeypatch, capsys, name, damage
):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "data" / "synthetic" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        stage.main([])
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.count("\n") == 1 and Path(name).name in error
    assert not (tmp_path / "reports").exists()


def test_a_description_of_other_data_is_refused(root, data, tmp_path):
    shutil.copytree(root / "data", tmp_path / "data")
    path = tmp_path / "data/synthetic/dataset.json"
    path.write_text(path.read_text().replace(synthetic_study.DIGEST, "other"))
    with pytest.raises(InputError, match=r"data set that the runs are of.*dataset\.json"):
        study.load(data.config, tmp_path)


def test_a_study_under_way_can_be_looked_at(root, data, tmp_path):
    shutil.copytree(root / "data/synthetic/curves", tmp_path / "data/synthetic/curves")
    seen = study.load(data.config, tmp_path, partial=True)
    assert len(seen.curves) == len(data.curves) and not len(seen.trainings)
    with pytest.raises(InputError, match="suggestions.parquet"):
        study.load(data.config, tmp_path)


# ---- figures, by their data -------------------------------------------------------------------


def test_navigation_is_gradient_descent():
    lr = navigation.LRS["good"]
    position = np.array(navigation.START)
    for _ in range(navigation.STEPS):
        position = position - lr * np.array(navigation.CURVATURES) * position
    np.testing.assert_allclose(navigation.descend(lr)[-1], position, rtol=1e-12)
    ends = {
        name: navigation.loss(*navigation.descend(lr)[-1]) for name, lr in navigation.LRS.items()
    }
    assert ends["good"] < 0.1 < ends["too small"] < navigation.loss(*navigation.START)
    assert ends["too large"] > navigation.loss(*navigation.START)


def test_typical_is_the_run_nearest_the_median(data):
    case, run, low, high = typical.chosen(data)
    rows = data.suggested("weights", case)
    distance = (np.log(rows["max_lr"]) - np.log(rows["max_lr"]).median()).abs()
    assert case == KERAS
    assert math.isclose(abs(math.log(high) - np.log(rows["max_lr"]).median()), distance.min())
    assert rows.set_index("run").loc[run.run, "min_lr"] == low
    plateau, minimum = typical.regions(run)
    assert run.lr[0] < plateau <= minimum == run.lr[np.nanargmin(run.smoothed)]
    assert drawn(typical, data).axes[0].get_xscale() == "log"


def test_runs_show_median_band_and_every_run(data):
    for case in (KERAS, FASTAI):
        upper, lower = drawn(runs, data, case).axes
        count = data.config.sweeps["weights"].runs
        smoothed = np.stack([run.smoothed for run in data.traces("weights", case)])
        (median,) = [line for line in upper.lines if "median" in line.get_label()]
        finite = np.isfinite(smoothed).all(axis=0)
        top = upper.get_ylim()[1]
        expected = np.minimum(np.median(smoothed, axis=0), 3 * top)
        np.testing.assert_allclose(median.get_ydata()[finite], expected[finite])
        assert matplotlib.colors.same_color(median.get_color(), style.colour(*case))
        rows = data.suggested("weights", case)
        for name in ("min LR", "max LR"):
            shown = [line.get_xdata()[0] for line in lines(lower, f": {name} ")]
            assert sorted(shown) == sorted(rows[name.replace(" ", "_").lower()])
            assert len(shown) == count
        assert f"n = {count}" in runs.caption(data, case)
        assert "fallback" in runs.caption(data, KERAS)
        assert lower.get_xscale() == "log" and lower.get_xlabel() == "learning rate"


def test_the_same_case_has_one_colour_and_no_two_share_it(data):
    colours = [style.colour(*case) for case in data.cases("weights")[:4]]
    assert len(set(colours)) == 4
    assert style.colour("jax", "other") == style.colour("jax", "other")


def test_published_is_beside_ours(data):
    ax = drawn(published, data).axes[0]
    texts = [label.get_text() for label in ax.get_yticklabels()]
    assert texts[0] == f"Keras, new weights: min LR (n = {data.config.sweep.runs})"
    medians = {line.get_gid() for line in lines(ax, "published: median")}
    assert len(medians) == len(texts) == 8
    assert any("median 0.102, 10 to 90 % 0.0140 to 0.290" in gid for gid in medians)
    ours = data.suggested("weights", KERAS)["min_lr"]
    assert any(
        math.isclose(line.get_xdata()[0], 10 ** np.log10(ours).median())
        for line in lines(ax, "Keras, new weights: min LR, here")
    )


def test_published_shows_the_medians_of_other_initial_weights(data):
    ticks = lines(drawn(published, data).axes[0], "weights seed")
    rows = data.variance_runs.query("protocol == 'blog_fastai'")
    medians = 10 ** np.log10(rows["max_lr"]).groupby(rows["weights_seed"]).median()
    found = [line.get_xdata()[0] for line in ticks if "max LR" in line.get_gid()]
    assert found == pytest.approx(medians.tolist()) and len(ticks) == 2 * len(medians)
    assert "of the crossed design" in published.caption(data)
    mine = data.published.query("backend == 'torch' and sweep == 'order' and quantity == 'max_lr'")
    (row,) = mine.itertuples()
    inside = medians.between(row.published_q10, row.published_q90).sum()
    assert (
        f"of {len(medians)} initial weights, these among them, up to 8 runs"
        in published._others(data, row)
    )
    assert f", {inside} inside)" in published._others(data, row)
    row = row._replace(sweep="weights")
    assert published._others(data, row) == ""


def test_a_caption_counts_the_runs_whose_min_lr_is_above_max_lr(data):
    assert "no range" not in runs.caption(data, FASTAI)
    suggestions = data.suggestions.copy()
    row = data.suggested("weights", FASTAI).index[0]
    suggestions.loc[row, "min_lr"] = 2 * suggestions.loc[row, "max_lr"]
    told = runs.caption(dataclasses.replace(data, suggestions=suggestions), FASTAI)
    assert "In 1 of 6 runs min LR is above max LR, which is no range." in told


def test_pair_shows_both_ranges(data):
    upper, lower = drawn(pair, data, FASTAI).axes
    chosen = data.pairs["torch-blog_fastai"]
    bars = {tuple(line.get_xdata()) for line in lines(lower, "weights seed")}
    assert bars == {(chosen[letter]["min_lr"], chosen[letter]["max_lr"]) for letter in "AB"}
    assert ("disjoint" in pair.verdict(chosen)) and len(upper.lines) == 4


def test_unsmoothed_shows_both_kinds_of_validation(data):
    left, right = drawn(unsmoothed, data, KERAS).axes
    for words in ("running statistics", "batch statistics", "training, raw"):
        assert lines(left, words), words
    assert lines(right, "training, smoothed")
    (raw,) = lines(left, "training, raw")
    run = data.traces("validation", KERAS)[0]
    seen = np.isfinite(run.raw_loss) & (run.raw_loss < left.get_ylim()[1])
    np.testing.assert_array_equal(raw.get_ydata()[seen], run.raw_loss[seen])  # without penalty


def test_batch_sizes_raw_and_smoothed(data):
    case = ("batch_size", *KERAS)
    left, right = drawn(batch_sizes, data, case).axes
    assert [line.get_label() for line in left.lines] == ["32", "64", "128"]
    run = data.traces("batch_size", KERAS)[0]
    seen = run.smoothed < right.get_ylim()[1]
    np.testing.assert_allclose(right.lines[0].get_ydata()[seen], run.smoothed[seen])
    assert "32 (n = 1, 60 steps)" in batch_sizes.caption(data, case)


def test_batch_slope_is_the_least_squares_slope(data):
    rows = data.suggested("batch_size", FASTAI)
    slope = np.polyfit(np.log(rows["batch_size"]), np.log(rows["max_lr"]), 1)[0]
    panels = drawn(batch_slope, data).axes
    assert any(lines(ax, f"slope {slope:.2f}") for ax in panels)
    assert f"{slope:.2f} [" in batch_slope.caption(data)


def test_outcomes_are_coloured_cells(data):
    ax = drawn(outcomes, data, KERAS).axes[0]
    rows = data.outcomes[
        (data.outcomes["pair"] == "keras-blog_keras") & (data.outcomes["policy"] == "constant")
    ]
    assert len(ax.patches) == len(rows) == 15
    for patch in ax.patches:
        outcome = re.search(r": (\w+), validation", patch.get_gid())[1]
        expected = matplotlib.colors.to_rgba(style.OUTCOME_COLOURS[outcome], 0.75)
        assert patch.get_facecolor() == expected
    assert set(style.OUTCOME_COLOURS) == set(OUTCOMES)


def test_stopped_trainings_are_crossed(data):
    axes = drawn(trainings, data, FASTAI).axes
    stopped = data.outcomes[
        (data.outcomes["pair"] == "torch-blog_fastai")
        & (data.outcomes["policy"] == "constant")
        & data.outcomes["stopped_at_step"].notna()
    ]
    crosses = [line for ax in axes[:2] for line in lines(ax, ": stopped")]
    assert len(crosses) == len(stopped) > 0


def test_crossing_has_two_trainings_of_the_same_weights_on_a_line(data):
    ax = drawn(crossing, data).axes[0]
    labels = [label.get_text().split("pair ")[1] for label in ax.get_yticklabels()]
    assert labels == ["1, weights B", "1, weights A", "2, weights B"] * 2  # two cases
    assert len(lines(ax, "weights B")) == 8 and len(lines(ax, "weights A")) == 4
    assert "weights A at A's max LR" in crossing.caption(data)
    only_b = dataclasses.replace(data, outcomes=data.outcomes[data.outcomes["weights"] == "B"])
    assert "weights A" not in crossing.caption(only_b)


def test_rules_are_all_on_the_same_curves(data):
    figure = drawn(rules, data)
    names = plugins.names("lrrt.core.rules")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names[::-1]
    assert f"{len(names)} rules" in rules.caption(data)


def test_figures_repeat_to_the_byte_and_say_their_source(data):
    encoded = []
    for _ in range(2):
        with style.applied():
            drawing = figures.drawing(data, "typical", ())
            encoded.append(style.encode(drawing.figure, 50))
    assert encoded[0] == encoded[1]
    assert drawing.figure._supxlabel.get_text().replace("\n", " ") == data.source()
    assert b"<dc:date>" not in encoded[0]["svg"]


def test_a_figure_of_runs_at_a_scale_of_their_own_says_so(data):
    other = dataclasses.replace(data.config.variance, batch_size=32, depth=14)
    assert "ResNet-14, batch 32. Data:" in data.source(other)
    for name, case in figures.planned(data):
        module = plugins.find("lrrt.report.figures", name, "figure")
        drawing = figures.drawing(data, name, case)
        if drawing.figure is not None and hasattr(module, "RUNS_OF"):
            section = getattr(data.config, module.RUNS_OF)
            footer = drawing.figure._supxlabel.get_text().replace("\n", " ")
            assert footer == data.source(section) != data.source()


def test_exploded_losses_leave_the_axes():
    values = style.below(np.array([1.0, np.inf, np.nan, 1e300, -1e300]), 5.0)
    assert list(values) == [1.0, 15.0, 15.0, 15.0, -10.0]


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0840, "0.084"),
        (2.05, "2.0"),
        (5.46e-4, "5.5e-4"),
        (0.00996, "0.010"),
        (33.4, "33"),
        (12345.0, "1.2e4"),
        (0, "0"),
        (float("nan"), "–"),
        (None, "–"),
        (float("inf"), "–"),
    ],
)
def test_numbers_as_a_person_reads_them(value, text):
    assert wording.number(value) == text


def test_every_figure_module_keeps_the_contract():
    package = "lrrt.report.figures"
    modules = [plugins.find(package, name, "figure") for name in plugins.names(package)]
    figures = [module for module in modules if hasattr(module, "ORDER")]
    assert len({module.ORDER for module in figures}) == len(figures) >= 13
    for module in figures:
        assert module.TITLE and module.NEEDS and module.SECTION and module.__doc__
        assert hasattr(module, "cases") == hasattr(module, "title")


def test_attribution_shows_every_effect_with_its_interval(data):
    table = data.attribution[data.attribution["scale"] == "screen"]
    assert set(table["design"]) == {"all", "alone", "sequence", "averaged", "unexplained"}
    figure = drawn(attribution, data)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["all factors", "gradient clip", "rule", "weight decay", "not named"]
    for ax, quantity in zip(figure.axes, ("min_lr", "max_lr"), strict=True):
        rows = table[(table["quantity"] == quantity) & (table["design"] != "sequence")]
        assert len(lines(ax, "decades")) == len(rows) == 2 + 3 * 3
        whole = table[(table["quantity"] == quantity) & (table["design"] == "all")]
        assert lines(ax, "all: ")[0].get_xdata()[0] == whole["effect"].item()
        # Turned round: an effect is on the same side whichever end it is measured from.
        clip = [line.get_xdata()[0] for line in lines(ax, "gradient clip: ")]
        assert len(clip) == 3 and (np.array(clip) > 0).all()
    caption = attribution.caption(data)
    assert "n = 2 runs each side" in caption and "not named" in caption
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "alone, from fastai protocol" in legend


def test_framework_and_protocol_are_told_apart(data):
    table = data.framework[data.framework["quantity"] == "max_lr"]
    figure = drawn(attribution_framework, data)
    effects = figure.axes[-1]
    labels = [text.get_text() for text in effects.get_yticklabels()]
    assert "fastai protocol to Keras protocol, both" in labels and "interaction" in labels
    assert len(lines(effects, "decades, n = ")) == len(data.framework.dropna(subset=["effect"]))
    # Formulas know no backend, and clipping lets the Keras protocol explode 30 times as late.
    known = table[~table["at"].str.contains("script") & (table["effect_of"] == "backend")]
    assert len(known) and known["effect"].dropna().eq(0).all()
    protocol = table.query("effect_of == 'protocol' and target == 'blog_keras'")["effect"]
    assert (protocol.dropna() > 1).all() and len(protocol)
    assert "Below: effects on log10 LR" in attribution_framework.caption(data)


def test_waterfall_goes_from_one_published_value_to_the_other(data):
    figure = drawn(attribution_waterfall, data)
    for ax, (start, end) in zip(figure.axes, ((5.46e-4, 1.02e-1), (0.422, 2.05)), strict=True):
        ends = [line.get_xdata()[0] for line in lines(ax, "published, ")]
        assert ends == [pytest.approx(start), pytest.approx(end)]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["published, fastai protocol", "to our runs"]
    assert labels[-3:] == ["not named", "from our runs", "published, Keras protocol"]
    assert sorted(labels[2:-3]) == ["gradient clip", "rule", "weight decay"]
    steps = data.waterfall
    for _, rows in steps.groupby(["scale", "quantity"]):
        assert np.allclose(rows["after"].iloc[:-1], rows["before"].iloc[1:])
        assert rows["share"].sum() == pytest.approx(1)
        assert rows["share_published"].sum() == pytest.approx(1)
    caption = attribution_waterfall.caption(data)
    assert "all named factors are" in caption and "of another network" in caption
    own = drawn(attribution_confirmed, data)
    labels = [text.get_text() for text in own.axes[0].get_yticklabels()]
    assert sorted(labels[2:-3]) == ["gradient clip", "weight decay"]
    assert f"{data.scale_of()}, n = 3" in attribution_confirmed.caption(data)
    for figure in (attribution_waterfall, attribution_confirmed):
        assert figure.headline(data).count("LR moves by") == 2


def test_pairs_with_a_swap_are_all_shown_and_counted(data):
    rows = data.outcomes
    rows = rows[rows["lr_kind"].eq("max") & rows["weights_from"].eq("")]
    flat = rows[rows["policy"] == "constant"]
    whole = flat.groupby("pair").filter(lambda pair: len(pair) == 4)
    found = whole["pair"].nunique()
    assert 2 <= found < flat["pair"].nunique()
    drawn_dots = [lines(ax, "weights") for ax in drawn(swaps, data).axes]
    assert sum(map(len, drawn_dots)) == 4 * found
    last = data.trainings[data.trainings["epoch"] == flat["compared_epochs"].iloc[0]]
    at = last.set_index("training")["val_accuracy"].fillna(0)
    at = whole.set_index(["pair", "weights", "lr_of"])["training"].map(at)
    better = (at[:, "A", "B"] > at[:, "A", "A"]).sum()
    caption = swaps.caption(data)
    assert caption.startswith(f"n = {found} pairs")
    assert f"are the better for weights A in {better} of {found} (share" in caption
    assert f"weights A reach {at[:, 'A', 'A'].median():.0%} at their own" in caption
    gain = (at[:, "A", "B"] - at[:, "A", "A"] + at[:, "B", "B"] - at[:, "B", "A"]) / 2
    assert f"B's gain {100 * gain.mean():+.0f} points [" in caption


def test_policies_are_compared_over_all_their_pairs(data):
    rows = policies.trainings(data)
    assert rows["pair"].nunique() > 1 and set(rows["policy"]) == {"constant", "one_cycle"}
    figure = drawn(policies, data)
    assert sum(len(lines(ax, "weights")) for ax in figure.axes) == len(rows)
    at_a = rows[(rows["policy"] == "one_cycle") & (rows["lr_of"] == "A")]
    assert f"one cycle {at_a['best_val_accuracy'].fillna(0).median():.0%} and" in policies.headline(
        data
    )
    some = data.outcomes[(data.outcomes["policy"] == "constant") | (data.outcomes["lr_of"] == "A")]
    partial = dataclasses.replace(data, outcomes=some)  # a study that was stopped
    assert policies.headline(partial) == "" and drawn(policies, partial) is None


def test_rule_that_fell_back_is_shown_in_every_sweep(data):
    table = data.fired
    assert set(table["protocol"]) >= {"blog_keras"} and set(table["sweep"]) >= {"weights", "order"}
    figure = drawn(attribution_rule, data)
    assert len(lines(figure.axes[0], "fell back")) == len(table)
    shown = table[["fell_back", "steepest", "found"]].notna().to_numpy().sum()
    assert len(lines(figure.axes[1], ": ")) == shown
    row = table.query("backend == 'keras' and protocol == 'blog_keras' and sweep == 'weights'")
    count = f"In {row['fallbacks'].item()} of {row['n'].item()} runs"
    assert count in attribution_rule.caption(data)
    silent = dataclasses.replace(data, suggestions=data.suggestions[:0])
    assert drawn(attribution_rule, silent) is None


def test_variance_shows_every_component_and_what_fixing_leaves(data, html):
    figure = drawn(variance, data)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["weights", "order", "augmentation"] and len(labels) == 7
    below = [text.get_text() for text in figure.axes[2].get_yticklabels()]
    assert below[0] == "same weights" and below[-1] == "same order and augmentation"
    for ax, table, key in (
        (figure.axes[0], data.variance, "share"),
        (figure.axes[2], data.variance_spread, "ratio"),
    ):
        rows = table[(table["quantity"] == "min_lr")]
        if key == "share":
            rows = rows[rows["component"] != "total"]
        found = sorted(line.get_xdata()[0] for line in lines(ax, "n = "))
        assert found == pytest.approx(sorted(rows[key]))
    row = data.variance_spread.iloc[0].to_dict() | {"early": 4, "reversed": 1, "sound": 0.5}
    row |= {"n": 36, "sound_n": 25, "sound_low": 0.3, "sound_high": 0.9}
    assert variance._sound(row).startswith(" (in the 25 of 36 runs that are a complete design")
    assert " without 4 with min LR in the ramp's first decade" in variance._sound(row)
    assert variance._sound(row).endswith(" and 1 with min LR above max LR, 0.50 [0.30, 0.90])")
    assert variance._odd({"min_lr": row}) == f" Odd runs: min LR{variance._sound(row)}."
    assert variance._odd({"min_lr": row | {"sound": np.nan}}) == ""
    sentences = variance.findings(data)
    assert len(sentences) == 2 and all("The same weights leave" in words for words in sentences)
    assert sentences[0] in variance.caption(data)
    text = re.sub(r"\s+", " ", Page(html).text)
    brief = text[: text.index("Range tests with")]
    assert variance.headline(data) in brief and sentences[0] not in brief


def test_a_layout_that_differs_in_its_last_bits_gives_the_same_bytes():
    class Noisy(ConstrainedLayoutEngine):
        noise = 0.0

        def execute(self, fig):
            super().execute(fig)
            for ax in fig.axes:
                ax.set_position(Bbox(ax.get_position().get_points() + self.noise))

    found = []
    for engine in (Noisy(), Noisy()):
        engine.noise = 1e-12 * len(found)
        with style.applied():
            figure, grid = style.axes(1, 1, (3, 2))
            grid[0, 0].plot([1, 2], [3, 4])
            figure.set_layout_engine(engine)
            found.append(style.encode(figure, 40))
    assert found[0] == found[1] and b"clip-path" in found[0]["svg"]


def test_the_framework_is_told_from_its_device(data):
    assert attribution_framework.places(data) == ""  # all on one
    files = {name: ["cuda, tfloat32"] for name in data.places if "torch-" in name}
    apart = dataclasses.replace(data, places=data.places | files)
    words = "Keras on cpu, float32, PyTorch on cuda, tfloat32."
    assert attribution_framework.places(apart).endswith(words)
    assert words in attribution_framework.caption(apart)


def test_the_brief_says_what_became_of_weights_a_and_of_longer_trainings(data):
    brief = summary._transferred(data)
    assert "Both weights of 2 pairs of runs" in brief and "Of 2 more pairs only weights B" in brief
    assert brief.count("At A's: weights ") == 2 and brief.count("; weights B ") == 2
    assert "went on" not in brief
    rows = data.outcomes.assign(epochs=data.outcomes["epochs"] + 4, outcome="diverged")
    longer = summary._transferred(dataclasses.replace(data, outcomes=rows))
    assert "after 7 epochs 4 diverged." in longer  # whatever they were when compared
    only_b = data.outcomes[data.outcomes["weights"] == "B"]
    brief = summary._transferred(dataclasses.replace(data, outcomes=only_b))
    assert brief.startswith("Of 4 pairs only weights B were, for 3 epochs. At A's: weights B ")


def test_the_headline_names_medians_outside_the_published_bars_and_longer_bars(data):
    other = dataclasses.replace(data)
    row = {"backend": "keras", "protocol": "blog_keras", "sweep": "order", "quantity": "max_lr"}
    row |= {"n": 8, "abstained": 1}
    row |= {"q10": 1.0, "median": 2.0, "q90": 10.0, "median_low": 1.5, "median_high": 3.0}
    row |= {"published_q10": 0.1, "published_q90": 10.0, "inside": True}
    apart = row | {"published_q10": 3.0, "published_q90": 6.0, "inside": False}
    few = apart | {"abstained": 3}
    other.__dict__["published"] = pd.DataFrame([row, apart, few])  # as the property keeps it
    assert published.headline(other) == (
        "1 of 2 medians lie inside the published 10 to 90 % bars; outside: Keras, same weights: "
        "max LR 2.0 [1.5, 3.0], published 3.0 to 6.0. 1 of our 2 bars are shorter than the "
        "published ones, 1.0 decades against 1.2 in the median."
    )
    other.__dict__["published"] = pd.DataFrame([few])
    assert published.headline(other) == ""


def test_a_factors_effect_has_its_range_over_orders(data):
    rows = data.attribution.query("scale == 'screen' and quantity == 'max_lr'")
    factor = rows.query("design == 'sequence'")["factor"].iloc[0]
    effects = rows.query("design == 'sequence' and factor == @factor")["effect"]
    (text,) = _waterfall._moving(
        data, "screen", rows[rows["factor"] == factor].assign(name=factor).head(1)
    )
    assert len(effects) > 1
    assert f"({effects.min():+.2f} to {effects.max():+.2f} over {len(effects)} orders)" in text


def test_words_about_variance_follow_the_intervals():
    row = {"ratio": 0.5, "low": 0.3, "high": 0.8, "to_weights_low": 0.4, "to_weights_high": 0.9}
    row |= {"least": 0.4, "most": 0.7, "sound_high": np.nan}
    unsure = row | {"high": 1.0, "to_weights_high": 1.2}
    both, one = {"min_lr": row, "max_lr": row}, {"min_lr": unsure, "max_lr": row}
    none = {"min_lr": unsure, "max_lr": unsure}
    assert variance._leaves(*one.values()) == "0.50 [0.30, 1.0] and 0.50 [0.30, 0.80]"
    assert variance._reduction(both) == "fixing the weights reduces it"
    assert variance._reduction(one) == "fixing the weights reduces that of max LR"
    for name in ("most", "sound_high"):
        assert variance._reduction({"min_lr": row | {name: 1.0}}) == variance._reduction(none)
    assert variance._reduction(none) == "fixing the weights is not shown to reduce it"
    assert variance._comparison(both) == "fixing the batches does more"
    assert variance._comparison(one).endswith("for max LR fixing the batches does more")
    other = row | {"to_weights_low": 1.1, "to_weights_high": 2.0}
    assert variance._comparison({"max_lr": other}) == "fixing the weights does more"
    assert "do not tell" in variance._comparison(none)


# ---- a study that lacks most of it -----------------------------------------------------------


def test_what_is_missing_is_named(tmp_path):
    config = synthetic_study.config(
        "study.sweeps=[weights]",
        "study.backends=[torch]",
        "study.protocols=[blog_fastai]",
        "divergence.cases=[]",
        "sweep.runs=1",
        "report.dpi=40",
        "report.bootstrap_resamples=100",
        "attribution.runs=0",
        "variance.weights=0",
        "instrument.runs=0",
        "mechanism.runs=0",
    )
    synthetic_study.write(tmp_path, config)
    made = build(study.load(config, tmp_path))
    page = made["report.html"].decode()
    assert {name for name in made if name.endswith(".svg")} == {
        f"figures/{name}.svg"
        for name in ("navigation", "typical", "runs-torch-blog_fastai", "published", "rules")
    }
    for title in (
        "Range tests with the same initial weights",
        "Framework or protocol?",
        "Two initialisations, two ranges",
        "Batch sizes, raw and smoothed",
        "Training curves at the suggested learning rates",
        "Policies at the same maximum learning rate",
    ):
        assert re.search(rf'class="missing"[^>]*><b>{re.escape(title)}</b>', page), title
    metrics = json.loads(made["metrics.json"])
    assert metrics["runs"] == {"range_tests": 1, "trainings": 0}


def test_rules_that_abstain_everywhere_leave_a_report(data):
    silent = data.suggestions.assign(min_lr=np.nan, max_lr=np.nan, reason="too flat")
    wanted = {"published", "pair", "typical", "rules", "batch_slope", "runs"}
    with style.applied():
        quiet = dataclasses.replace(
            data,
            suggestions=silent,
            pairs={},
            outcomes=data.outcomes[:0],
            trainings=data.trainings[:0],
        )
        found = {
            name: figures.drawing(quiet, name, case).figure for name, case in figures.planned(quiet)
        }
        for figure in found.values():
            if figure is not None:
                style.png(figure, dpi=40)
    assert wanted <= set(found)
    assert found["typical"] is None and found["pair"] is None
    assert found["runs"] is not None  # the losses are there all the same


# ---- numbers ----------------------------------------------------------------------------------


def test_a_spread_of_few_runs_has_no_outer_quantiles(data):
    few = data.suggestions[data.suggestions["order_seed"] < 3]
    sentence, name = summary.brief(dataclasses.replace(data, suggestions=few), [])[0]
    assert "of 3 runs" in sentence and "10 to 90" not in sentence and "factor" not in sentence
    assert name == "runs-keras-blog_keras"
    assert "10 to 90 % of 6 runs" in summary.brief(data, [])[0][0]


def test_metrics_are_the_numbers_of_the_tables(data, files):
    metrics = json.loads(files["metrics.json"])
    own = by_own_rule(data.suggestions, data.config.protocols)
    for case in (KERAS, FASTAI):
        rows = own[(own["backend"] == case[0]) & (own["protocol"] == case[1])]
        lrs = np.log10(rows.loc[rows["sweep"] == "weights", "max_lr"])
        found = metrics["suggestions"]["weights"]["-".join(case)]
        assert found["n"] == len(lrs)
        assert found["max_lr_median"] == pytest.approx(10 ** lrs.median(), rel=1e-3)
        spread = lrs.quantile(0.9) - lrs.quantile(0.1)
        assert found["max_lr_decades"] == pytest.approx(spread, rel=1e-3)
        counts = data.outcomes[data.outcomes["backend"] == case[0]]["outcome"].value_counts()
        assert metrics["outcomes"]["-".join(case)]["all"] == counts.to_dict()
    assert metrics["suggestions"]["weights"]["keras-blog_keras"]["fallback_share"] > 0
    assert metrics["runs"]["range_tests"] == data.curves["run"].nunique()


def test_claims_are_listed_with_evidence_verdict_and_interval(files, html):
    claims = json.loads(files["claims.json"])
    assert len(claims) >= 15
    text = Page(html).text
    for claim in claims:
        assert list(claim) == ["claim", "evidence", "verdict", "interval"]
        assert claim["verdict"] in ("holds", "does not hold", "undecided")
        assert claim["claim"] in text and claim["evidence"] in text
    counts = json.loads(files["metrics.json"])["claims"]
    assert sum(counts.values()) == len(claims)


def test_tables_name_what_they_come_from(data, files, tmp_path):
    names = {Path(name).stem for name in files if name.startswith("tables/")}
    assert names == {
        "published",
        "ranges",
        "slopes",
        "pairs",
        "outcomes",
        "rules",
        "claims",
        "attribution",
        "attribution_framework",
        "attribution_rule",
        "attribution_waterfall",
        "variance",
        "variance_spread",
        "instrument",
        "mechanism",
    }
    for name in names:
        (tmp_path / "table.parquet").write_bytes(files[f"tables/{name}.parquet"])
        table = pd.read_parquet(tmp_path / "table.parquet")
        assert table.attrs["data_digests"] == [synthetic_study.DIGEST]
        assert table.attrs["versions"] == [synthetic_study.VERSIONS]
        assert set(table.attrs["runs"]) == set(data.curves["run"])
        assert table.attrs["files"] == data.files
        rows = files[f"tables/{name}.csv"].decode().count("\n")
        assert rows >= len(table) + 1
    beside = pd.read_csv(io.BytesIO(files["tables/published.csv"]))
    row = beside.query("backend == 'keras' and sweep == 'weights' and quantity == 'max_lr'")
    assert row["published_median"].item() == 2.05
    assert row["inside"].item() == bool(0.15 <= row["median"].item() <= 3.05)


def test_plots_are_points_with_positive_lrs(data, files):
    loss, ranges = (json.loads(files[f"plots/{name}.json"]) for name in ("loss", "ranges"))
    assert len(loss) == sum(
        len(data.traces("weights", case)[0].lr) for case in data.cases("weights")
    )
    assert all(point["lr"] > 0 for point in loss + ranges)
    assert {point["quantity"] for point in ranges} == {"min LR", "max LR"}


def test_dvc_declares_what_the_stage_writes(files):
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    report = declared["stages"]["report"]
    outs = {name for out in report["outs"] + report["metrics"] for name in out}
    assert outs == {f"reports/${{item.study}}/{name.split('/')[0]}" for name in files}
    plotted = {path for plot in declared["plots"] for entry in plot.values() for path in entry["y"]}
    assert {path.removeprefix("reports/${study.name}/") for path in plotted} <= set(files)
    for plot in declared["plots"]:
        (entry,) = plot.values()
        template = json.loads((ROOT / ".dvc" / "plots" / f"{entry['template']}.json").read_text())
        (y,) = entry["y"].values()
        points = json.loads(files[next(iter(entry["y"])).removeprefix("reports/${study.name}/")])
        assert {entry["x"], y} <= set(points[0])
        assert template["encoding"]["x"]["scale"] == {"type": "log"}
    # A setting of the report reruns the report alone.
    users = [name for name, s in declared["stages"].items() if "report" in s.get("params", [])]
    assert users == ["report"]


def test_parameters_are_kept_without_local_paths(config):
    path = dataclasses.replace(config.data, path="/somewhere/private/cifar10")
    assert "private" not in params_yaml(dataclasses.replace(config, data=path))
    assert "path: cifar10" in params_yaml(dataclasses.replace(config, data=path))
    assert from_mapping(yaml.safe_load(params_yaml(config))) == config


# ---- the page ---------------------------------------------------------------------------------


def test_page_escapes_every_name(html):
    page = Page(html)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts == [{}]  # ours
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert EVIL in page.text and EVIL not in html
    assert EVIL_PROTOCOL in page.text and EVIL_PROTOCOL not in html
    assert "b" not in [tag for tag, attrs in page.tags if attrs.get("$x$&") is not None]


def test_page_is_self_contained_and_small(html, files):
    page = Page(html)
    targets = [
        (tag, name, value)
        for tag, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "xlink:href", "data", "action", "poster")
    ]
    for tag, _, value in targets:
        allowed = value.startswith(("#", "data:")) or (
            tag == "a" and not re.match(r"\w+:|//", value)
        )
        assert allowed, (tag, value)
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(html) < 6e6
    links = [value for tag, _, value in targets if tag == "a" and not value.startswith("#")]
    assert {urllib.request.unquote(link) for link in links} <= set(files)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_page_can_be_read_by_all(html):
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    anchors = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert anchors <= set(ids) and {"brief", "claims", "tables", "source"} <= anchors
    pictures = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(pictures) == html.count("<figure") - 1  # the samples are an <img>
    assert all(len(picture["aria-label"]) > 80 for picture in pictures)
    assert all(a["alt"] for t, a in page.tags if t == "img")
    assert 'name="viewport"' in html
    for words in ("prefers-color-scheme: dark", "@media print"):
        assert words in html


def test_page_tells_runs_versions_and_configuration(html, data):
    text = Page(html).text
    assert synthetic_study.DIGEST in text and "numpy 2.4.6" in text
    assert "gradient_clip: 1.0" in text and data.files["pairs.json"] in text
    titles = re.findall(r'<g class="tip"><title>([^<]*)</title>', html)
    for run in data.traces("weights", KERAS):
        assert any(f"run {run.run}: weights seed {run.weights_seed}" in title for title in titles)
    assert "the suggested range is, in the median of 6 runs," in text
    cell = r"weights {} (\d [a-z]+(, )?)+ \(\d+% validation accuracy in the median\)"
    assert re.search(rf"At A's: {cell.format('A')}; {cell.format('B')}\. At B's: ", text)


# ---- writing ----------------------------------------------------------------------------------


def test_written_whole_stale_figures_gone_strangers_kept(tmp_path):
    folder = tmp_path / "reports" / "synthetic"
    write(folder, {"figures/old.png": b"1", "report.html": b"old"})
    (folder / "notes.txt").write_text("mine")
    write(folder, {"figures/new.png": b"2", "report.html": b"new"})
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {"figures/new.png", "report.html", "notes.txt"}
    with pytest.raises(TypeError):
        write(folder, {"figures/newer.png": b"3", "report.html": None})
    assert (folder / "figures/new.png").read_bytes() == b"2"
    assert (folder / "report.html").read_bytes() == b"new"
    assert [p.name for p in folder.parent.iterdir()] == ["synthetic"]


def test_stage_writes_what_build_makes(root, files, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(stage, "build", lambda data: files)
    stage.main([])
    folder = root / "reports" / "synthetic"
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == files


# ---- in a browser -----------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture
def browser():
    """A headless Chromium and a way to speak to it: ``ask(method, **params) -> result``."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={profile}",
                "--window-size=1000,800",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                (target,) = [t for t in json.load(answer) if t["type"] == "page"]
            socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=30)
            yield _Browser(socket)
            socket.close()
        finally:
            process.kill()
            process.wait()
            time.sleep(0.2)  # its children leave the profile a little later


def _port(file: Path, process) -> int:
    for _ in range(300):
        if file.is_file() and file.read_text().strip():
            return int(file.read_text().split()[0])
        if process.poll() is not None:
            pytest.skip("Chromium does not start here")
        time.sleep(0.1)
    pytest.skip("Chromium does not answer here")


class _Browser:
    def __init__(self, socket):
        self.socket, self.count, self.events = socket, 0, []

    def ask(self, method: str, **params) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def value(self, expression: str):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


def assert_undisturbed(browser):
    """No request left the page, and nothing went wrong in it."""
    urls = {
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert all(url.startswith(("file:", "data:")) for url in urls), urls
    troubles = [
        event
        for event in browser.events
        if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
        or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] == "error")
    ]
    assert troubles == []


def test_page_in_a_browser(browser, html, tmp_path, data):
    path = tmp_path / "report.html"
    path.write_text(html)
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.ask(f"{domain}.enable")
    browser.ask("Page.navigate", url=path.as_uri())
    browser.wait_for("Page.loadEventFired")

    run = data.traces("weights", KERAS)[0]
    shown = browser.value(f"""(() => {{
        const svg = document.querySelector('[id="runs-keras-blog_keras"] svg');
        const dot = [...svg.querySelectorAll('g.tip')].find(
            g => g.tip.startsWith('run {run.run}') && g.tip.includes('max LR'));
        dot.scrollIntoView({{block: 'center', behavior: 'instant'}});
        const box = dot.getBoundingClientRect();
        const at = {{clientX: box.x + box.width / 2, clientY: box.y + box.height / 2,
                     bubbles: true}};
        document.elementFromPoint(at.clientX, at.clientY)
            .dispatchEvent(new PointerEvent('pointermove', at));
        const hover = document.getElementById('hover');
        return [hover.hidden, hover.textContent, svg.querySelectorAll('title').length];
    }})()""")
    assert shown[0] is False and "max LR" in shown[1] and shown[2] == 0

    for width in (1000, 360):  # a phone: nothing makes the whole page wider than the window
        browser.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=700,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        assert browser.value("document.documentElement.scrollWidth") <= width
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    light = browser.value("getComputedStyle(document.body).backgroundColor")
    browser.ask("Emulation.setEmulatedMedia", features=dark)
    assert browser.value("getComputedStyle(document.body).backgroundColor") != light
    card = "getComputedStyle(document.querySelector('.card')).backgroundColor"
    assert browser.value(card) == "rgb(255, 255, 255)"
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"

    assert_undisturbed(browser)
