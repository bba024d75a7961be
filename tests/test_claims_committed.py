"""The claims on the committed studies, beside independent computations."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lrrt.claims import (
    judge,
)
from lrrt.claims.verdict import (
    Grade,
)
from lrrt.config import from_mapping
from lrrt.report import findings, verdicts
from lrrt.report.study import load

ROOT = Path(__file__).parents[1]


def test_intervals_of_the_crossed_design_cover_in_the_committed_simulation():
    found = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
    kinds = [value for value in found.values() if isinstance(value, dict)]
    assert len(kinds) == 15 and all(kind["covered_by_half"] >= 0.9 for kind in kinds)
    assert min(kind["covered_by_all_degrees_of_freedom"] for kind in kinds) < 0.7
    assert all(0.03 <= kind["rejected"] <= 0.07 for kind in kinds if kind["truth"] == 0)


def committed(name: str):
    params = OmegaConf.load(ROOT / "reports" / name / "params.yaml")
    return load(from_mapping(params), ROOT)


@pytest.fixture(scope="module")
def published_scales():
    return {claim.number: claim for claim in judge([committed("blog"), committed("resnet20")])}


def result(claims, number, part, depth):
    (found,) = (
        r
        for r in claims[number].verdict.results
        if r.part == part and [s.depth for s in r.scales] == [depth]
    )
    return found


@pytest.mark.slow(5)
def test_nearly_every_claim_is_judged_from_the_committed_runs(published_scales):
    decided = [c for c in published_scales.values() if c.grade not in (Grade.OPEN, Grade.NOT_RUN)]
    assert len(published_scales) == 17 and len(decided) >= 15
    assert all(c.verdict.main.robust for c in decided)
    assert all(c.exploratory for c in published_scales.values())
    stand = {number for number, c in published_scales.items() if c.after_holm}
    assert {1, 5, 7, 9, 10, 11} <= stand and 8 not in stand


def test_the_page_of_findings_is_what_the_stage_would_write(published_scales):
    """`python -m lrrt.stages.findings` makes it anew."""
    records = verdicts.records(list(published_scales.values()))
    studies = committed("blog"), committed("resnet20")
    page = findings.page(*studies, records, findings.coverage(ROOT))
    assert page == (ROOT / "docs" / "findings.md").read_text()
    assert sum(f"| {n} | " in page for n in range(1, 18)) == 17


def test_numbers_are_those_of_an_independent_computation(published_scales):
    """From a review of the claims that used code of its own."""
    of = published_scales
    keras = result(of, 5, "blog_keras", 56)
    assert keras.numbers["f"] == pytest.approx(15.0, abs=0.05) and keras.effect.p < 0.001
    assert keras.effect.value == pytest.approx(0.71, abs=0.005) and keras.robust == "yes"
    fastai = result(of, 5, "blog_fastai", 56)
    assert fastai.numbers["f"] == pytest.approx(2.85, abs=0.06)
    assert fastai.effect.value == pytest.approx(0.24, abs=0.005) and fastai.robust == "fragile"
    assert result(of, 5, "blog_keras", 20).numbers["f"] == pytest.approx(28, abs=0.5)
    assert result(of, 5, "blog_fastai", 20).numbers["f"] == pytest.approx(4.1, abs=0.05)

    for depth, expected in ((56, (-0.34, -0.41, -0.28)), (20, (-0.22, -0.36, -0.08))):
        harms = result(of, 7, "harms", depth).effect
        assert (harms.value, harms.low, harms.high) == pytest.approx(expected, abs=0.006)

    own = of[8].verdict.main
    assert own.units == 8 and own.runs == 14
    assert (own.effect.value, own.effect.low, own.effect.high) == pytest.approx(
        (0.006, -0.05, 0.06), abs=0.006
    )
    assert own.effect.p_equivalence == pytest.approx(0.043, abs=0.001)

    ps = sorted(r.effect.p for r in of[2].verdict.results)
    assert ps == pytest.approx([0.004, 0.006, 0.021, 0.036], abs=0.002)
    assert of[11].verdict.results and result(
        of, 11, "by the curve, blog_keras", 56
    ).effect.p == pytest.approx(0.0026, abs=5e-5)
    slope = of[14].verdict.main.effect
    assert (slope.value, slope.low, slope.high) == pytest.approx((0.34, 0.09, 0.59), abs=0.01)
    raw = result(of, 15, "one epoch each", 56).effect
    assert (raw.value, raw.low, raw.high) == pytest.approx((-0.170, -0.22, -0.12), abs=0.005)
    middle = of[16].verdict.main.effect
    assert (middle.value, middle.low, middle.high) == pytest.approx((0.25, 0.08, 0.42), abs=0.005)
    cycle = of[17].verdict.main.effect
    assert (cycle.value, cycle.low, cycle.high) == pytest.approx((0.30, 0.06, 0.53), abs=0.006)
    assert [result(of, 13, "safe", d).units for d in (56, 20)] == [12, 9]
    assert [result(of, 13, "safe", d).numbers["hits"] for d in (56, 20)] == [0, 0]
