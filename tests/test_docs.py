"""The pages: they build without a warning, ask nobody for anything, and lead nowhere wrong."""

import json
import math
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml

import lrrt.core.rules
from lrrt.finder import rules

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import edge_scores  # noqa: E402
import generate  # noqa: E402
import results  # noqa: E402
import rule_scores  # noqa: E402

WRITTEN = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / name / "README.md" for name in ("benchmarks", "notebooks")),
]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_files_lead_to_files(page):
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text())
    links += re.findall(r'(?:src|srcset)="([^"]+)"', page.read_text())
    local = [link.split("#")[0] for link in links if not urlsplit(link).scheme]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


@pytest.mark.slow(15)
def test_generated_blocks_are_those_of_the_code():
    """``python docs/generate.py`` writes them."""
    assert generate.ROOT / "docs" / "rules.md" in generate.pages()
    behind = [
        page.name
        for page in generate.pages()
        if generate.filled(page.read_text()) != page.read_text()
    ]
    assert behind == []


def test_what_an_audit_says_of_a_rules_cost_is_the_ground_truths():
    """``python docs/generate.py`` writes it, once the tables are there."""
    assert rule_scores.costs() in (None, rule_scores.COSTS.read_text())
    for (rule, schedule), cost in rules.EXPECTED.items():
        assert rule in rules.names() and schedule in rule_scores.SCHEDULES
        assert cost.low <= cost.points <= cost.high and 0 <= cost.collapsed <= 1
        assert cost.settings >= 2 and (cost.worst is None) == (cost.settings < 9)


def test_the_default_rule_is_the_one_that_loses_least():
    """By the rule that the page states: over both schedules, then collapses, then the name."""
    assert rules.cheapest(rules.EXPECTED) == rules.DEFAULT_RULE
    assert f"now `{rules.DEFAULT_RULE}`" in (ROOT / "docs" / "which_rule.md").read_text()
    assert f"`{rules.DEFAULT_RULE}` suggests, the default here" in (ROOT / "README.md").read_text()

    def cost(points, collapsed=0.0):
        return rules.ExpectedCost(points, points - 1, points + 1, 12, collapsed)

    schedules = ("constant", "one_cycle")
    given = {("b", s): cost(3.0, 0.1) for s in schedules} | {("a", "constant"): cost(0.0)}
    assert rules.cheapest(given) == "b"  # "a" has no score with one cycle
    given |= {("c", "constant"): cost(1.0), ("c", "one_cycle"): cost(5.0)}
    assert rules.cheapest(given) == "c"  # as much, with fewer collapses
    given |= {("d", s): cost(2.9, 0.5) for s in schedules}
    assert rules.cheapest(given) == "d"


def plain(table: str) -> str:
    return table.replace("\N{NO-BREAK SPACE}", " ")


def test_scores_are_put_into_words(monkeypatch, tmp_path):
    """Of two settings: a rule of ours with a rate for each schedule, and one of another finder."""
    random = np.random.default_rng(0)
    given = {"edge": 0.01, "edge.one_cycle": 0.002, "edge.pooled": 0.01, "fastai_valley": 0.03}
    given |= {"edge.pooled.one_cycle": 0.001, "raw_minimum/10": 0.02, "blog_fastai.max": 0.05}
    given |= {"blog_fastai.min": 0.09, "fixed.default": 0.04}
    scores = pd.DataFrame(
        [
            (schedule, rule, 100, setting, draw, 10 ** random.normal(-2, 0.1), lost + worse, True)
            for schedule, worse in (("constant", 0.0), ("one_cycle", 0.01))
            for rule, lost in given.items()
            for setting in ("a", "b")
            for draw in range(3)
        ],
        columns="schedule rule ramp_steps setting draw suggested_lr regret_accuracy counts".split(),
    )
    table = scores.groupby(["schedule", "rule", "ramp_steps"])["regret_accuracy"].mean()
    table = table.rename("regret").reset_index().assign(settings=2, collapse_rate=0.0)
    table = table.assign(regret_90=math.inf, above=0.1, below=0.2)
    table = table.assign(regret_low=table["regret"] - 0.01, regret_high=table["regret"] + 0.01)
    scores.to_parquet(tmp_path / "oracle_scores.parquet")
    table.to_parquet(tmp_path / "oracle_rules.parquet")
    monkeypatch.setattr(rule_scores, "ORACLE", tmp_path)
    first = plain(rule_scores.rule_scores()).splitlines()[2]
    assert first.startswith("| [`edge.pooled`](rules.md#edge) | the middle | 1.0 [0.0, 2.0], 0 % |")
    assert " 1.1 [0.1, 2.1], 0 % |" in first
    assert "2 settings with a constant rate and 2 settings" in rule_scores.rule_evidence().lower()
    assert "`blog_fastai.max` | 5.0 [4.0, 6.0], 0 % | 6.0 [" in plain(
        rule_scores.advice_of_the_post()
    )
    answer = plain(rule_scores.short_answer()).splitlines()
    assert answer[2] == "| `edge` suggests, the default here | 1.0 [0.0, 2.0] | 0 % |"
    assert len(answer) == 7 and "falls fastest | 9.0 [8.0, 10.0] | 0 % |" in answer[-1]
    usual = rule_scores.usual_rate()
    assert "lost 4.0 points" in usual
    assert "Of 3 rules 2 lost less: `edge` (1.0), `fastai_valley` (3.0)." in usual
    rows = {(row["rule"], row["schedule"]): row for row in json.loads(rule_scores.costs())}
    assert rows["edge", "one_cycle"]["points"] == 2.0  # an audit's rate is the constant one
    assert rows["fastai_valley", "constant"]["points"] == 3.0


def test_warnings_and_unseen_settings_are_put_into_words(monkeypatch, tmp_path):
    """Four settings, two of them unseen: there `edge` loses 2 points and `fastai_valley` 5, and one
    reading in six collapses, with a caution; elsewhere one does without."""
    rows = []
    for schedule, own in (("constant", "edge"), ("one_cycle", "edge.one_cycle")):
        for number, setting in enumerate("abcd"):
            for draw in range(3):
                base = {"schedule": schedule, "ramp_steps": 100, "setting": setting, "draw": draw}
                base |= {"suggested_lr": 0.01, "best_lr": 0.02, "abstained": False, "counts": True}
                bad = draw == 0 and setting in "ac"
                flags = {"collapsed": bad, "cautioned": bad and setting == "c"}
                for rule, lost in ((own, 0.02), ("fastai_valley", 0.05), ("edge.pooled", 0.02)):
                    values = {"regret_accuracy": lost, "regret_share": lost * (1 + number)}
                    rows.append(base | values | {"rule": rule} | flags)
    pd.DataFrame(rows).to_parquet(tmp_path / "oracle_scores.parquet")
    pd.DataFrame({"rule": ["edge.pooled"]}).to_parquet(tmp_path / "oracle_rules.parquet")
    tiers = pd.DataFrame({"setting": list("abcd"), "tier": [1, 2, 3, 5]})
    tiers.to_parquet(tmp_path / "oracle_settings.parquet")
    monkeypatch.setattr(rule_scores, "ORACLE", tmp_path)
    unseen = edge_scores.edge_unseen().splitlines()
    assert unseen[2] == "| `edge` itself loses | 2.0 | 2.0 | 2.0 | 7.0 |"
    assert "n = 2" in unseen[0] and "| `fastai_valley` | +3.0 [+3.0, +3.0], p = 0.5 |" in unseen[-1]
    beside = edge_scores.edge_against_the_best()
    more = "2.0 | `fastai_valley` | +3.0 [+3.0, +3.0], p = "
    assert f"| 4 in all | both | {more}0.12 | – |" in beside
    assert f"| 2 unseen | one cycle | {more}0.5 | – |" in beside
    found = edge_scores.edge_warnings()
    assert "| in all | 1 of 100 steps | 24 | 4 | 0 | 2 | 2 | 8% | 2.0 | 2.0 |" in found
    assert "| unseen | 1 of 100 steps | 12 | 2 | 0 | 2 | 0 | 17% | 2.0 | 2.0 |" in found


def test_what_is_beside_the_grids_is_put_into_words(monkeypatch, tmp_path):
    monkeypatch.setattr(rule_scores, "ORACLE", tmp_path)
    for block in (edge_scores.precision_at_equal_cost, edge_scores.rate_free):
        assert block() == rule_scores.NOT_YET
    rows = [
        {"setting": setting, "schedule": schedule, "start": 1e-4, "ramp_steps": 33, "tests": 1}
        | {"draw": draw, "suggested_lr": 10.0**-draw, "abstained": draw == 2}
        | {"regret_accuracy": 0.01 * draw}
        for setting in "ab"
        for schedule in ("constant", "one_cycle")
        for draw in range(3)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "oracle_precision.parquet")
    told = edge_scores.precision_at_equal_cost().splitlines()[-1]
    # Of 1 and 0.1 the standard deviation is 0.71 decades: a factor of 5.09.
    assert told.startswith("| 1 of 33 steps | 1e-4 | 33 | 5.09 [5.09, 5.09] | 33% | 1.0 [1.0, 1.0]")
    lrs = [0.001, 0.01, 0.1, 1.0]
    grids = pd.DataFrame(
        [
            {"setting": setting, "schedule": policy, "lr": lr, "accuracy": value}
            | {"stage": "coarse", "seed": 0}
            for setting in "ab"
            for policy, values in (
                ("constant", [0.5, 0.9, 0.5, 0.1]),
                ("warm_restarts", [0.5, 0.9, 0.9, 0.1]),
            )
            for lr, value in zip(lrs, values, strict=True)
        ]
    )
    is_constant = grids["schedule"] == "constant"
    grids[is_constant].to_parquet(tmp_path / "oracle_trainings.parquet")
    grids[~is_constant].to_parquet(tmp_path / "oracle_policies.parquet")
    # 0.05 is lost an eighth of a decade from 0.01, and a sixteenth above 0.1.
    lines = edge_scores.policy_tolerance().splitlines()
    assert "| constant | 0.25 [0.25, 0.25] | – | 90.0% |" in lines
    assert "| warm restarts | 1.19 [1.19, 1.19] | +0.94 [+0.94, +0.94] | 90.0% |" in lines


def test_what_the_pages_say_in_words_is_in_the_tables():
    """Sentences of ``README.md``, ``which_rule.md``, ``ground_truth.md`` that no block writes."""
    oracle = ROOT / "data" / "oracle"
    constant = results.main_rules().query("schedule == 'constant'").set_index("rule")["regret"]
    ends = ["blog_fastai.min", "blog_fastai.max", "blog_keras.max"]
    assert constant[ends].min() > constant["fixed.default"]
    precision = pd.read_parquet(oracle / "oracle_precision.parquet")
    keys = ["start", "ramp_steps", "tests"]
    lost = precision.groupby(keys)["regret_accuracy"].mean()
    named = precision[(precision["schedule"] == "constant") & ~precision["abstained"]]
    decades = np.log10(named["suggested_lr"]).groupby([named[key] for key in (*keys, "setting")])
    spread = decades.std().groupby(level=keys).mean()
    usual, late = (1e-7, 100, 1), (1e-4, 33, 1)
    assert spread[late] <= 1.1 * spread[usual] and lost[late] <= lost[usual]
    assert spread[(1e-4, 33, 3)] < 0.9 * spread[usual] and lost[(1e-4, 33, 3)] <= lost[usual]
    assert lost[(1e-4, 11, 3)] > 0.2
    free = pd.read_parquet(oracle / "oracle_rate_free.parquet").groupby("optimizer")
    assert free["regret_accuracy"].mean()["prodigy"] < 0.001
    advice = edge_scores.advice_in_contrast().splitlines()[2:]
    gains = [re.findall(r"\[([-+][\d.]+), ([-+][\d.]+)\]", line) for line in advice]
    assert all(float(low) <= 0 <= float(high) for low, high in sum(gains[2:5], []))
    assert float(gains[1][0][0]) > 0 and all(float(low) > 0 for ((low, _),) in gains[5:])
    more = re.findall(
        r"\| [-+][\d.]+ \[([-+][\d.]+), ([-+][\d.]+)\]", edge_scores.policy_tolerance()
    )
    assert len(more) == 3 and all(float(low) < 0 for low, _ in more)


def test_a_new_rule_is_one_module(monkeypatch, tmp_path):
    """Listed, documented and counted without another file's being edited."""
    (tmp_path / "half_of_the_end.py").write_text(
        '"""Half of the last LR, as an example.\n\nIt [never] stops: see ``loss``."""\n'
        "from lrrt.core.rules import Suggestion\n\n\n"
        "def suggest(lr, loss):\n"
        "    return Suggestion(None, float(lr[-1]) / 2)\n"
    )
    before = len(rules.names())
    monkeypatch.setattr("lrrt.core.rules.__path__", [*lrrt.core.rules.__path__, str(tmp_path)])
    page = generate.filled((ROOT / "docs" / "rules.md").read_text())
    assert f"There are {before + 1} rules" in page
    assert (
        "| [`half_of_the_end`](#half_of_the_end) | Half of the last LR, as an example | max |"
        in page
    )
    assert "### half_of_the_end\n\nHalf of the last LR, as an example.\n\n" in page
    assert "It \\[never\\] stops: see `loss`." in page


def test_citation_and_changelog_are_of_this_version():
    """The fields that the Citation File Format 1.2.0 asks for, and no others than it knows."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"] == lrrt.__version__
    assert citation["license"] == project["license"] == "MIT"
    assert citation["type"] == "software"
    known = {
        "abstract",
        "authors",
        "cff-version",
        "contact",
        "date-released",
        "doi",
        "identifiers",
        "keywords",
        "license",
        "message",
        "preferred-citation",
        "references",
        "repository-code",
        "title",
        "type",
        "url",
        "version",
    }
    assert set(citation) <= known
    for work in (citation, *citation["references"]):
        assert work["type"] and work["title"] and work["authors"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{lrrt.__version__}] - " in changelog or (
        "## [Unreleased]" in changelog and lrrt.__version__ in changelog
    )


# ---- the site ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """``ids``: its anchors; ``links``: what it leads to; ``loads``: what a browser asks for."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.add(found["id"])
        target = found.get("href") or found.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target:
            self.loads.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(map(find_spec, ("sphinx", "furo", "myst_parser"))):
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "--quiet",
            "--fail-on-warning",
            "--keep-going",
            "docs",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.slow(8)
def test_the_site_loads_nothing_from_elsewhere_and_leads_nowhere_wrong(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in pages}
    for path, page in pages.items():
        assert [load for load in page.loads if urlsplit(load).scheme not in ("", "data")] == []
        for link in (*page.links, *page.loads):
            scheme, host, target, _, fragment = urlsplit(link)
            if scheme or host:
                continue
            to = (path.parent / unquote(target)).resolve() if target else path
            assert to.exists(), (path.name, link)
            if fragment and to in pages:
                assert unquote(fragment) in pages[to].ids, (path.name, link)
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", style.read_text()), style


@pytest.mark.slow(1)
def test_the_reference_shows_what_the_package_offers(site):
    ids = Page(site / "api.html").ids
    offered = {f"lrrt.{name}" for name in lrrt.__all__ if name != "__version__"}
    assert offered | {"lrrt.Curve.suggest", "lrrt.Audit.report"} <= ids
    anchors = Page(site / "rules.html").ids
    assert {rule.replace("_", "-") for rule in rules.names()} <= anchors


def test_the_readme_is_short_and_its_numbers_and_output_are_generated():
    page = (ROOT / "README.md").read_text()
    read = re.sub(r"```.*?```|<[^>]*>", "", page, flags=re.DOTALL)
    read = re.sub(r"\]\([^)]*\)", "]", read)  # not where a link leads
    assert sum(bool(re.search(r"\w", word)) for word in read.split()) <= 500
    assert set(re.findall("<!-- generated: (.*) -->", page)) == {
        "hero",
        "short_answer",
        "five_numbers",
        "example_output",
    }
