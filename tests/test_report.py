"""The report, on a study made from formulas."""

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

import numpy as np
import pandas as pd
import pytest
import synthetic_study
import yaml
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

from lrrt.analysis.suggestions import by_own_rule
from lrrt.claims.verdict import Grade
from lrrt.config import Config, from_mapping
from lrrt.errors import InputError
from lrrt.report import figures, study, style, summary, wording
from lrrt.report.build import build, params_yaml, write
from lrrt.report.page import EMBEDDED
from lrrt.stages import report as stage

ROOT = Path(__file__).parents[1]
EVIL, EVIL_PROTOCOL = synthetic_study.EVIL, synthetic_study.EVIL_PROTOCOL
KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")


@pytest.fixture(scope="module")
def config(report_config) -> Config:
    return report_config


@pytest.fixture(scope="module")
def root(report_root) -> Path:
    return report_root


@pytest.fixture(scope="module")
def data(report_data) -> study.StudyData:
    return report_data


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
    assert all(row["hours"] == row["count"] / 3600 for row in rows)
    first = rows[0]
    case = data.curves[["backend", "protocol", "sweep"]] == [*first.values()][:3]
    names = data.curves.loc[case.all(axis=1), "run"].unique()
    assert first["count"] == len(names)
    timed = dataclasses.replace(data, seconds=dict.fromkeys(names, 1800.0))
    assert timed.runs()[0]["hours"] == len(names) / 2
    assert math.isnan(timed.runs()[-1]["hours"])
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


# ---- what a page is made of ------------------------------------------------------------------


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
        with style.project_style():
            figure, grid = style.axes(1, 1, (3, 2))
            grid[0, 0].plot([1, 2], [3, 4])
            figure.set_layout_engine(engine)
            found.append(style.encode(figure, 40))
    assert found[0] == found[1] and b"clip-path" in found[0]["svg"]


def test_the_answer_has_at_most_120_words_and_8_numbers_of_what_was_decided(data, claims):
    def answer(changes=None):
        changed = [claim | (changes or {}).get(claim["number"], {}) for claim in claims]
        return " ".join(words for words, _ in summary.brief(data, changed))

    part = {"part": "cost, p", "value": -0.3, "low": -0.4, "high": -0.2, "smallest": 0.05}
    decided = {n: {"verdict": "supported", "results": [part]} for n in (5, 11, 13, 16)}
    decided[8] = {"verdict": "no effect above the margin", "results": [part]}
    full = answer(decided)
    assert len(full.split()) <= 120 and "costs 30 points" in full and "up to 30 points" in full
    assert len(re.findall(r"\d+(?:\.\d+)?", full.split("of the post's")[0])) <= 9
    none = answer({n: {"verdict": "open"} for n in range(1, 18)})
    assert "points" not in none and none.endswith("0 of the post's 17 claims are judged below.")


# ---- a study that lacks most of it -----------------------------------------------------------


@pytest.mark.slow(3)
def test_what_a_study_lacks_is_left_out(tmp_path):
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
        "~oracle.settings.mlp",
    )
    synthetic_study.write(tmp_path, config)
    made = build(study.load(config, tmp_path))
    page = made["report.html"].decode()
    assert {name for name in made if name.endswith(".svg")} == {
        f"figures/{name}.svg"
        for name in ("gradient_descent", "typical", "weights_sweep", "published", "rules")
    }
    assert "not drawn" not in page and "What happens if you train there" not in page
    metrics = json.loads(made["metrics.json"])
    assert metrics["range_tests"] == 1 and metrics["trainings"] == 0


@pytest.mark.slow(3)
def test_rules_that_abstain_everywhere_leave_a_report(data):
    silent = data.suggestions.assign(min_lr=np.nan, max_lr=np.nan, reason="too flat")
    wanted = {"published", "pair", "typical", "rules", "batch_slope", "weights_sweep"}
    with style.project_style():
        quiet = dataclasses.replace(
            data,
            suggestions=silent,
            pairs={},
            outcomes=data.outcomes[:0],
            trainings=data.trainings[:0],
        )
        found = {name: figures.drawing(quiet, name, case) for name, case in figures.plan(quiet)}
        for drawing in found.values():
            if drawing is not None:
                style.png(drawing.figure, dpi=40)
    assert wanted <= set(found)
    assert found["typical"] is None and found["pair"] is None and found["rules"] is None
    assert found["weights_sweep"] is not None  # the losses are there all the same


# ---- numbers ----------------------------------------------------------------------------------


def test_a_spread_of_few_runs_has_no_outer_quantiles(data, claims):
    few = data.suggestions[data.suggestions["order_seed"] < 3]
    found = summary.key_numbers(dataclasses.replace(data, suggestions=few), claims)
    assert "vary" not in found[0].question
    found = summary.key_numbers(data, claims)
    assert "-fold [" in found[0].answer and found[0].origin.startswith("6 runs")


def test_numbers_are_those_of_the_tables(data, files):
    numbers = json.loads(files["numbers.json"])
    own = by_own_rule(data.suggestions, data.config.protocols)
    for case in (KERAS, FASTAI):
        rows = own[(own["backend"] == case[0]) & (own["protocol"] == case[1])]
        lrs = np.log10(rows.loc[rows["sweep"] == "weights", "max_lr"])
        found = numbers["suggestions"]["weights"]["-".join(case)]
        assert found["n"] == len(lrs)
        assert found["max_lr_median"] == pytest.approx(10 ** lrs.median(), rel=1e-3)
        spread = lrs.quantile(0.9) - lrs.quantile(0.1)
        assert found["max_lr_decades"] == pytest.approx(spread, rel=1e-3)
        counts = data.outcomes[data.outcomes["backend"] == case[0]]["outcome"].value_counts()
        assert numbers["outcomes"]["-".join(case)]["all"] == counts.to_dict()
    assert numbers["suggestions"]["weights"]["keras-blog_keras"]["fallback_share"] > 0
    assert numbers["runs"]["range_tests"] == data.curves["run"].nunique()


def test_metrics_are_a_dozen_plain_numbers(data, files):
    metrics = json.loads(files["metrics.json"])
    assert 8 <= len(metrics) <= 12
    assert all(isinstance(value, int | float) for value in metrics.values())
    lrs = np.log10(data.own_suggestions("weights", KERAS)["max_lr"])
    ratio = 10 ** (lrs.quantile(0.9) - lrs.quantile(0.1))
    assert metrics["max_lr_90_over_10_percent_keras"] == pytest.approx(ratio, rel=1e-3)
    gain = metrics["accuracy_at_lower_max_lr"] - metrics["accuracy_at_higher_max_lr"]
    assert gain == pytest.approx(data.swap_accuracies["lower"].mean(), abs=1e-3)


@pytest.fixture(scope="module")
def claims(files):
    return json.loads(files["claims.json"])


def test_five_numbers_sum_the_study_up(data, claims, html):
    rows = summary.key_numbers(data, claims)
    assert len(rows) == 5 and 'id="numbers"' in html
    for row in rows:
        assert row.question.endswith("?") and f'id="{row.anchor}"' in html
    assert "clusters of weights" in rows[2].origin and rows[2].answer.startswith(("+", "-"))


def test_claims_are_listed_with_evidence_verdict_and_interval(files, html):
    claims = json.loads(files["claims.json"])
    assert len(claims) >= 15
    text = Page(html).text
    for claim in claims:
        assert claim["verdict"] in list(Grade) and claim["claim"] in text
        assert " ".join(claim["evidence"].split()) in text
        assert all(" ".join(r["finding"].split()) in text for r in claim["results"])
    counts = json.loads(files["numbers.json"])["claims"]
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
        "smoothing_shift",
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


def test_dvc_declares_what_the_stage_writes(files):
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    report = declared["stages"]["report"]
    outs = {name for out in report["outs"] + report["metrics"] for name in out}
    assert outs == {f"reports/${{item.study}}/{name.split('/')[0]}" for name in files}
    plotted = {path.removeprefix("reports/${study.name}/") for path in declared["plots"]}
    assert plotted <= set(files)
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
    assert len(html) < 2.5e6
    links = [value for tag, _, value in targets if tag == "a" and not value.startswith("#")]
    toy = "../../docs/findings.md"  # from reports/<study>/
    assert {urllib.request.unquote(link) for link in links} - set(files) == {toy}
    assert (ROOT / "reports/quick" / toy).resolve().is_file()
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_page_can_be_read_by_all(html):
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    anchors = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert anchors <= set(ids) and {"brief", "claims", "appendix"} <= anchors
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
    assert "Run several range tests: " in text


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
    monkeypatch.setattr(stage, "build", lambda data, claims: files)
    folder = root / "reports" / "synthetic"
    (folder / "claims").mkdir(parents=True)
    (folder / "claims" / "alone.json").write_bytes(files["claims.json"])
    stage.main([])
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    del found["claims/alone.json"]
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
        const svg = document.querySelector('[id="weights_sweep"] svg');
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
    text = "getComputedStyle(document.querySelector('.card text')).fill"
    assert browser.value(text) == "rgb(230, 230, 230)"  # figures are dark, too
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[])
    for hidden in ("nav", "#appendix"):
        style = f"getComputedStyle(document.querySelector('{hidden}')).display"
        assert browser.value(style) == "none"

    assert_undisturbed(browser)


def test_the_default_study_is_marked_as_a_toy():
    assert yaml.safe_load((ROOT / "params.yaml").read_text())["data"]["name"] in EMBEDDED
