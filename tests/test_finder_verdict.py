"""Audits: how they are summarised, judged, saved and ranked."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from finder_curves import LR, STEPS, curve, losses, recorded_audit

from lrrt.core import rules as core_rules
from lrrt.errors import InputError
from lrrt.finder import rules
from lrrt.finder.audit import Audit, _trial
from lrrt.finder.curve import CROSSED, CUT, NEVER_FELL, SIGNED, STILL_FALLING, Curve, Suggestion
from lrrt.finder.recorded_curves import load
from lrrt.finder.verdict import Trial, advice, doubts, recommend, summarise, verdict


def said(*values, rule="r"):
    return summarise(
        rule, [Suggestion(None, v, rule=rule, reason="" if v else "none") for v in values]
    )


def test_summary_by_hand():
    found = said(0.01, 0.1, 1.0, None, 0.1)
    assert found.median == pytest.approx(0.1) and found.spread == pytest.approx(2)
    assert found.abstained == 1 and found.runs == 5 and found.reasons == ("none",)
    assert found.factor == pytest.approx(10)  # the 90 % quantile of 0, 0, 1, 1 decades
    assert said(*[0.1] * 9, 1.0, 10.0).factor == pytest.approx(10)  # of nine 0, 1, 2
    assert found.low <= 0.1 <= found.high
    nothing = said(None, None)
    assert (
        nothing.median is None and math.isnan(nothing.spread) and "suggests nothing" in str(nothing)
    )


def trials(tenth, at, ten):
    """Of five runs, alike."""
    return [
        Trial(run, factor, factor, loss)
        for run in range(5)
        for factor, loss in ((0.1, tenth), (1.0, at), (10.0, ten))
    ]


def cycled(*losses):
    return [Trial(**vars(t) | {"schedule": "one_cycle"}) for t in trials(*losses)]


GOOD, LOST = trials(1.0, 0.5, 0.9), trials(math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    ("values", "tried", "words"),
    [
        ([0.1] * 4, (), "^Too few runs to say: 4"),
        ([None] * 5, (), "^Do not trust it: the rule found nothing in any of 5 runs"),
        ([0.1] * 5, (), "^The suggestion is repeatable: 90 % .* within a factor of 1 of"),
        (
            [0.1, 0.1, 0.2, 0.05, 0.1],
            (),
            "^The suggestion is repeatable: 90 % .* within a factor of 2 of",
        ),
        (
            [0.1] * 5 + [None],
            (),
            r"^The suggestion is repeatable, where the rule answers \(not in 1 of 6 runs\): 90 %",
        ),
        ([0.1] * 3 + [None] * 2, (), "^Do not trust it: the rule found nothing in 2 of 5"),
        ([0.01, 0.1, 0.1, 0.1, 0.4], (), "^Only the order of magnitude is repeatable: 90 %"),
        ([0.001, 0.1, 0.1, 0.1, 10.0], (), "^Do not trust it: one run's.*100 times"),
        ([0.1] * 5, GOOD, "^The suggestion is repeatable"),
        ([0.1] * 5, trials(0.2, 0.5, 0.9), r"^Trust the short trainings, not the rule.* of 1\.1,"),
        ([0.1] * 5, trials(1.0, 0.5, 0.3), "^Trust the short trainings, not the rule"),
        ([0.1] * 5, trials(1.0, math.inf, 0.9), "^Trust the short.*not finite in 5 of 5"),
        ([0.1] * 5, LOST, "^Do not trust it: trained at it, most runs fail"),
        ([0.1] * 5, LOST[:9] + GOOD[9:], "^Do not trust it: trained.*not finite in 3 of 5"),
        ([0.1] * 5, LOST[:6] + GOOD[6:], "^The suggestion is repeatable.*not finite in 2 of 5"),
        ([0.1] * 5, trials(0.47, 0.5, math.inf), "^The suggestion is repeatable"),
    ],
)
def test_verdict_by_the_written_rules(values, tried, words):
    assert re.search(words, " ".join(verdict(said(*values), tried)))


@pytest.mark.parametrize(
    ("values", "tried", "words"),
    [
        ([0.1] * 5, (), "^Train at 0.1: what r suggests.$"),
        (
            [0.1] * 5,
            GOOD,
            "^Train at 0.1 with a constant rate: what r.*5 of 5 runs neither a tenth",
        ),
        (
            [0.1] * 5,
            trials(0.2, 0.5, 0.9),
            "^Train at 0.01 .*a tenth of what r .*0.2 instead of 0.5 in the median",
        ),
        ([0.1] * 5, trials(1.0, 0.5, 0.3), r"^Train at 1 .*ten times.*\(95 % .* 48 to 100 %\)"),
        ([0.1] * 5, trials(0.2, 0.5, 0.3), "^Train at 0.01 "),  # both better: the lower loss
        ([0.1] * 5, trials(1.0, math.inf, 0.9), "^Train at 1 .*No higher rate was tried"),
        ([0.1] * 5, LOST, "^These range tests recommend no .*failed at every rate"),
        ([None] * 5, (), "^These range tests recommend no learning rate.$"),
        ([0.001, 0.1, 0.1, 0.1, 10.0], (), "^These range tests recommend no"),
        ([0.001, 0.1, 0.1, 0.1, 10.0], GOOD, "^Train at 0.1 "),
        (
            [0.1] * 5,
            GOOD + cycled(1.0, 0.5, 0.9),
            "^Train at 0.1 with a constant rate or one cycle",
        ),
        (
            [0.1] * 5,
            GOOD + cycled(1.0, 0.5, 0.3),
            "^Train at 0.1 .* Train at 1 with one cycle: ten",
        ),
    ],
)
def test_what_to_train_at_comes_first(values, tried, words):
    found = said(*values)
    recommendations = [recommend(found, tried, schedule) for schedule in ("constant", "one_cycle")]
    given = [r for r in recommendations if r.runs] or recommendations[:1]
    assert re.search(words, " ".join(advice(found, given, bool(doubts(found)))))


def test_what_the_ground_truth_knows_of_the_rule_is_said(monkeypatch):
    cost = rules.ExpectedCost(points=1.8, low=0.9, high=3.1, settings=21, collapsed=0.02)
    monkeypatch.setitem(rules.EXPECTED, ("r", "constant"), cost)
    found = said(*[0.1] * 5)
    told = advice(found, [recommend(found)], False)
    assert "In 21 settings" in told[1] and "1.8 points of accuracy on average" in told[1]
    words = replace(cost, worst=22.8).sentence("r", "one cycle")
    assert words.endswith("In nine of ten new settings it should cost less than 22.8 points.")


def test_a_short_trainings_loss_is_the_mean_of_its_last_tenth(monkeypatch):
    losses = np.array([4.0, 2.0, *[0.0] * 16, 1.0, 2.0])
    for values, val_loss, expected in (
        (losses, None, (1.5, True)),
        (losses, 7.0, (7.0, True)),
        (losses[::-1], None, (3.0, False)),
        (np.append(losses[:-1], np.nan), math.nan, (math.inf, False)),
    ):
        monkeypatch.setattr("lrrt.finder.audit.trial", lambda *_, of=(values, val_loss): of)
        found = _trial(0, 1.0, np.full(len(losses), 0.1), "constant", {})
        assert (found.loss, found.lowered) == expected


def test_a_verdict_on_abstentions_has_their_most_common_reason():
    rare, common = (Suggestion(None, None, rule="r", reason=words) for words in ("rare", "common"))
    given = Suggestion(None, 0.1, rule="r")
    for told in ([rare, common, common], [given] * 5 + [common] * 2 + [rare] * 2):
        assert verdict(summarise("r", told))[0].endswith(" runs: common.")


FLAWED = {
    "constant": (np.ones(STEPS), NEVER_FELL),
    "noise": (2 + 0.02 * np.random.default_rng(0).standard_normal(STEPS), NEVER_FELL),
    "rising": (np.linspace(1, 3, STEPS), NEVER_FELL),
    "falling to the end": (np.linspace(3, 1, STEPS), STILL_FALLING),
    "healthy": (losses(), ""),
    "healthy, noisy": (losses(noise=0.2), ""),
}


@pytest.mark.parametrize("case", FLAWED)
def test_a_loss_that_says_nothing_is_told(case):
    loss, flaw = FLAWED[case]
    drawn = curve(loss)
    assert drawn.flaw == flaw and drawn.suggest().cautions == ((flaw,) if flaw else ())
    assert flaw in str(drawn.suggest())
    assert curve(loss, val_accuracy=np.linspace(0, 1, STEPS)).suggest("smith").cautions == ()
    found = Audit((drawn,) * 6, tuple(range(6)), tuple(range(6)), rule="fastai_valley")
    assert (f"Do not trust it: {flaw}." == found.verdict[0]) == bool(flaw)
    assert flaw in Audit((drawn,) * 6, tuple(range(6)), tuple(range(6))).verdict[0]
    assert curve(loss, steps=5, stopped="it exploded").flaw == NEVER_FELL


@pytest.mark.parametrize("rule", [n for n in rules.names() if not rules.reads_accuracy(n)])
@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_before_it_fell_is_told(rule, lost):
    for step in (3, 44):
        found = Curve.from_dict(curve(np.where(np.arange(STEPS) == step, lost, losses())).to_dict())
        words = f"the loss was {lost} at step {step}, LR {LR[step]:.2g}, before it fell"
        assert found.flaw == words and words in str(found.suggest(rule))
    assert curve(np.where(np.arange(STEPS) == 80, lost, losses())).flaw == ""


def test_runs_that_were_cut_are_told_together():
    cut = [np.where(np.arange(STEPS) == 30 + run, np.nan, losses(run)) for run in range(6)]
    for many, sentence in ((6, f"Do not trust it: {CUT}."), (2, f"In 2 of 6 runs {CUT}.")):
        curves = tuple(map(curve, [*cut[:many], *map(losses, range(many, 6))]))
        told = Audit(curves, tuple(range(6)), tuple(range(6))).verdict
        assert [s for s in told if "finite" in s] == [sentence]


@pytest.mark.parametrize("below", [-3.0, -1.5])  # at once, on the way down
def test_a_loss_of_zero_or_below_that_a_stop_misreads_is_told(below):
    drawn = curve(losses() + below)
    found = drawn.suggest("fastai_valley")
    assert SIGNED in found.cautions and SIGNED in str(found)
    assert drawn.suggest("lightning").stop_step < curve().suggest("lightning").stop_step
    assert (found.lr is None) == (below == -3.0)
    seeds = tuple(range(6))
    told = Audit((drawn,) * 6, seeds, seeds, rule="fastai_valley").verdict
    assert f"In 6 of 6 runs {SIGNED}." in told
    assert curve().suggest("fastai_valley").cautions == drawn.suggest().cautions == ()


@pytest.mark.parametrize(
    "pair, told", [((0.2, 0.1), True), ((0.1, 0.1), False), ((0.2, None), False)]
)
def test_a_minimum_above_the_maximum_is_told(monkeypatch, pair, told):
    monkeypatch.setattr(
        "lrrt.core.rules.fastai_valley.suggest", lambda *_: core_rules.Suggestion(*pair)
    )
    found = curve().suggest("fastai_valley")
    assert found.reversed == told and found.cautions == ((CROSSED,) if told else ())


def test_a_fall_that_noise_hides_in_each_run_counts_over_all():
    curves = tuple(curve(losses(seed, noise=1.5)) for seed in range(30))
    assert sum(c.flaw == NEVER_FELL for c in curves) > 15
    told = Audit(curves, tuple(range(30)), tuple(range(30))).verdict
    assert not told[0].startswith(f"Do not trust it: {NEVER_FELL}")
    assert any(s.endswith("or nothing trains. Over all runs it fell.") for s in told)


def test_trainings_that_lower_no_loss_say_nothing():
    flat = [Trial(**vars(t) | {"lowered": False}) for t in trials(0.5, 0.5, 0.5)]
    found = said(*[0.1] * 5)
    assert "No short training lowered the loss" in " ".join(verdict(found, flat))
    assert recommend(found, flat).runs == 0


def test_saved_audits_come_back_and_the_page_is_self_contained(tmp_path):
    pytest.importorskip("jinja2")
    made = recorded_audit(runs=5, trials=tuple(trials(1.0, 0.5, math.inf)))
    made = Audit(**{**vars_of(made), "about": made.about | {"train_steps": 20}})
    assert Audit.load(made.save(tmp_path / "a.json")).to_dict() == made.to_dict()
    html = made.report(tmp_path / "a.html").read_text()
    assert made.verdict[0] in html and "&lt;b&gt;Net&lt;/b&gt;" in html and "<b>Net" not in html
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", html) and "@import" not in html
    assert "prefers-color-scheme: dark" in html and "@media print" in html
    assert html.count("<svg") == 3 and html.count('role="img" aria-label=') == 3
    assert "weights seed 4, order seed 4" in html
    assert made.advice[0] in html and "0.1\N{MULTIPLICATION SIGN}" in html
    rows = re.findall(r"<tr.*?</tr>", html)
    assert sum("0 of 5 runs" in row for row in rows) == 2  # of the trainings' table
    for summary in made.by_rule():
        assert (f"<td>{summary.rule}</td>" in html) == bool(summary.values)
    assert "smith: no suggestion in any run" in html and "<td></td>" not in html.split("Rules")[1]
    assert Audit.load(tmp_path / "a.json").report(tmp_path / "b.html").read_text() == html
    with pytest.raises(InputError, match="html"):
        made.report(tmp_path / "a.pdf")
    with pytest.raises(InputError, match="lrrt.Audit.load"):
        load(tmp_path / "a.json")
    with pytest.raises(InputError, match="json"):
        made.save(tmp_path / "a.csv")
    no_file = "path: expected a file that can be written \\(Not a directory\\), got "
    for write, name in (
        (made.save, "x.json"),
        (made.report, "x.htm"),
        (made.curves[0].save, "x.csv"),
    ):
        with pytest.raises(InputError, match=no_file):
            write(tmp_path / "a.json" / name)
    unread = made.to_dict() | {"trials": [{"loss": "abc"}]}
    for content in (b'{"runs": []}', b"[]", b"\xff\xfe", json.dumps(unread).encode()):
        (tmp_path / "c.json").write_bytes(content)
        with pytest.raises(InputError, match="audit"):
            Audit.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"planned_lr": [1.0] * STEPS}, "planned_lr: .*got 'another ramp'"),
        ({"lr": None}, "lr: .*got None"),
        ({"planned_lr": None, "lr": LR[::-1].tolist()}, "never fall"),
        ({"planned_lr": None, "lr": ["nan", *LR[1:].tolist()]}, "finite"),
        ({"planned_lr": [*LR[:-1].tolist(), "nan"]}, "planned_lr: .*got 'another ramp'"),
        ({"planned_lr": [*LR.tolist(), "inf"]}, "finite"),
        ({"loss": [10**400] * STEPS}, "curve: .*too large"),
        ({"about": None}, "curve"),
        ({"notes": 3}, "curve"),
    ],
)
def test_a_damaged_curve_is_refused(damage, words):
    with pytest.raises(InputError, match=words):
        Curve.from_dict(curve().to_dict() | damage)
    for nothing in ({}, None, [1]):
        with pytest.raises(InputError, match="curve"):
            Curve.from_dict(nothing)


def test_a_damaged_audit_is_refused(tmp_path):
    whole = recorded_audit(runs=5, trials=tuple(trials(1.0, 0.5, 0.9))).to_dict()
    whole["about"]["train_steps"] = 20
    assert Audit.from_dict(whole).trials
    for damage, words in (
        ({"runs": []}, r"audit.runs: .*got \[\]"),
        ({"vary": "data"}, "audit.vary: .*both.*got 'data'"),
        ({"vary": []}, "audit.vary"),
        ({"about": None}, "audit"),
        ({"rule": "x"}, "rule: .*got 'x'"),
        ({"about": {}}, "audit.trials"),
        ({"trials": whole["trials"][:-1]}, "audit.trials: .*got '14 "),
        ({"trials": [t | {"lr": None} for t in whole["trials"]]}, "audit"),
    ):
        with pytest.raises(InputError, match=words):
            Audit.from_dict(whole | damage).summary  # noqa: B018
    for text in ("[" * 100_000, "9" * 5000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match="a saved audit"):
            Audit.load(tmp_path / "a.json")


def vars_of(made):
    return {name: getattr(made, name) for name in Audit.__dataclass_fields__}


def test_rules_are_ranked_by_failures_then_spread():
    ranked = recorded_audit().by_rule()
    assert [s.rule for s in ranked] != sorted(s.rule for s in ranked)
    keys = [(s.abstained, s.spread) for s in ranked if s.values]
    assert keys == sorted(keys) and len(ranked) == len(rules.names())
