"""Fill in what the pages have from the code: ``python docs/generate.py`` from the repository root.

A page marks such a block with a comment that names a function of ``BLOCKS``; everything up to the
comment ``end`` is written by it. So the pages stay plain Markdown that a code forge shows, and a
new rule appears on them by itself. ``tests/test_docs.py`` says when a page is behind the code.
"""

import functools
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edge_scores
import numpy as np
import pandas as pd
import results
import rule_scores

from lrrt import config
from lrrt.claims import judge
from lrrt.core.rules import _fastai2, _lightning, _parts
from lrrt.finder import rules
from lrrt.report import figures, style, summary, verdicts, wording
from lrrt.report.figures import policies
from lrrt.report.study import StudyData, load

ROOT = Path(__file__).parents[1]
COLUMNS = 96  # of the README's printed output
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rule_count() -> str:
    """How many rules there are, as a sentence."""
    of_accuracy = sum(map(rules.reads_accuracy, rules.names()))
    return (
        f"There are {len(rules.names())} rules: {len(rules.names()) - of_accuracy} read the loss "
        f"and {of_accuracy} the accuracy."
    )


def rule_table() -> str:
    """A row for each rule: its name, its source, the rate it names."""
    rows = [
        f"| [`{name}`](#{name}) | {_markdown(_paragraphs(name)[0]).rstrip('.')} | {_gives(name)} |"
        for name in rules.names()
    ]
    return "\n".join(["| rule | source | gives |", "| --- | --- | --- |", *rows])


def rule_sections() -> str:
    """A heading and the whole docstring for each rule."""
    return "\n\n".join(_section(name, rules.find(name)) for name in rules.names())


def shared_sections() -> str:
    """The same for what several rules share: fastai 2's and Lightning's recording, the valley."""
    shared = {"_fastai2": _fastai2, "_lightning": _lightning, "valley": _parts.valley}
    return "\n\n".join(_section(name, part) for name, part in shared.items())


@functools.cache
def _study(name: str) -> StudyData:
    return load(config.load(ROOT / "reports" / name / "params.yaml"), ROOT)


def short_answer() -> str:
    """What training at each suggestion lost over all settings, and what one cycle forgives."""
    at_higher = policies.medians(_study("resnet20"))["A"]
    found = pd.read_parquet(ROOT / "data" / "oracle" / "oracle_rules.parquet")
    settings = int(found.loc[found["schedule"] == "constant", "settings"].max())
    return "\n".join(
        [
            f"Means over {settings} small settings (network, data, optimiser) whose best rate is "
            "known, 95 % intervals in brackets; *failed*: more than half of the possible gain is "
            "lost ([all rules](docs/which_rule.md)).",
            "",
            rule_scores.short_answer(),
            "",
            "A schedule forgives more: with ResNet-20 on CIFAR-10, one cycle up to a maximum that "
            f"is too high reached {wording.percent(at_higher['one_cycle'])} accuracy, a constant "
            f"rate there {wording.percent(at_higher['constant'])}.",
        ]
    )


def five_numbers() -> str:
    """The table of the report at the post's scale."""
    data = _study("blog")
    found = summary.key_numbers(data, verdicts.records(judge([data])))
    rows = [f"| {row.question} | **{row.answer}** |" for row in found]
    return "\n".join([f"| {data.setting} | |", "| --- | --- |", *rows])


def larger_batch() -> str:
    """What the two studies together say of the batch size."""
    claims = json.loads((ROOT / "reports" / "blog" / "claims" / "resnet20.json").read_text())
    return next(claim["evidence"] for claim in claims if claim["number"] == 14)


def audit_output() -> str:
    """What the example of the page on one's own model prints."""
    page = (ROOT / "docs" / "your_model.md").read_text()
    code, command = re.search(
        r"`my_net.py`.*?```python\n(.*?)```\n\n```sh\n(.*?)```", page, re.DOTALL
    ).groups()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "my_net.py").write_text(code)
        return _printed(["-m", *command.split()], folder, 80)


def example_output() -> str:
    """What the example of the README prints; it is run as it stands."""
    with tempfile.TemporaryDirectory() as folder:
        return _wrapped(_printed(["-c", _example()], folder, COLUMNS))


def _wrapped(text: str) -> str:
    """Long lines broken as a terminal does: a page would cut them off."""
    return "\n".join(textwrap.fill(line, COLUMNS) for line in text.splitlines())


def draw_audit(path: Path) -> None:
    """The range tests of the page that the README's example writes, as Chromium shows them;
    nothing without one."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print(f"{path.name}: left as it is, there is no Chromium", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        _printed(["-c", _example()], folder, COLUMNS)
        page = Path(folder, "lr.html")
        hidden = "header, footer, main > :not(figure:nth-of-type(2)) { display: none; }"
        page.write_text(page.read_text().replace("</style>", f"{hidden}</style>"))
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=760,555"]
        command = [chromium, *options, f"--screenshot={path}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


def _shown(page: str) -> str:
    """The output that a page shows."""
    return re.search(r"```text\n.*?```", page, re.DOTALL)[0]


def _example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return code


def _printed(arguments: list[str], folder: str, columns: int) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{ran.stdout.rstrip()}\n```"


def gallery() -> str:
    """Every figure of both studies, by the sections of the report; titles as its images have."""
    parts = []
    for section in figures.SECTIONS:
        rows = [
            f"![{drawing.title}](../reports/{name}/figures/{drawing.name}.png)"
            for name in ("resnet20", "blog")
            for drawing in _drawings(name)
            if drawing.section == section
        ]
        parts.append("\n\n".join([f"## {section}", *rows]))
    return "\n\n".join(parts)


@functools.cache
def _drawings(name: str) -> list[figures.Drawing]:
    data = _study(name)
    with style.project_style():
        found = [figures.drawing(data, module, case) for module, case in figures.plan(data)]
    return [drawing._replace(figure=None) for drawing in found if drawing is not None]


BLOCKS: dict[str, Callable[[], str]] = {
    "gallery": gallery,
    "short_answer": short_answer,
    "five_numbers": five_numbers,
    "example_output": example_output,
    "audit_output": audit_output,
    "larger_batch": larger_batch,
    "rule_count": rule_count,
    "rule_table": rule_table,
    "rule_sections": rule_sections,
    "shared_sections": shared_sections,
    **results.BLOCKS,
    **rule_scores.BLOCKS,
    **edge_scores.BLOCKS,
}


def _section(name: str, documented: Any) -> str:
    text = inspect.getdoc(documented) or ""
    paragraphs = [_wrap(_markdown(part)) for part in text.split("\n\n")]
    return "\n\n".join([f"### {name}", *paragraphs])


def _paragraphs(rule: str) -> list[str]:
    return (rules.find(rule).__doc__ or "").strip().split("\n\n")


def _gives(rule: str) -> str:
    """Which rates it names on a curve that every rule can read."""
    if rules.reads_accuracy(rule):
        lr = np.linspace(0, 0.02, 21)
        found = rules.find(rule).suggest(lr, np.append(np.linspace(0.1, 0.9, 15), np.full(6, 0.1)))
    else:
        lr = np.geomspace(1e-7, 10, 100)
        x = np.log10(lr)
        loss = 3 - 2 / (1 + np.exp(-2 * (x + 3))) + np.exp(3 * (x + 1))
        found = rules.find(rule).suggest(lr, loss)
    ends = (("min", found.min_lr), ("max", found.max_lr))
    return " and ".join(name for name, value in ends if value is not None)


def _markdown(text: str) -> str:
    """A docstring's reStructuredText, as far as the rules use it."""
    place = r"lrrt\.core\.(?:accuracy_)?rules\.(?:_parts\.)?"
    text = re.sub(rf":\w+:`{place}(\w+)`", r"[`\1`](#\1)", text)
    text = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text)
    text = text.replace("``", "`")
    # Intervals of steps, [10:-5], are no links.
    return re.sub(r"\[([^\]`]*)\](?!\()", r"\\[\1\\]", text)


def _wrap(paragraph: str) -> str:
    if paragraph.startswith("- "):
        return paragraph  # a list, which the docstring wraps
    return textwrap.fill(" ".join(paragraph.split()), 100, break_on_hyphens=False)


def filled(page: str) -> str:
    """``page`` with every generated block written anew.

    Raises
    ------
    KeyError
        If it names a block that there is not.
    """
    return BLOCK.sub(lambda m: f"{m[1]}\n{BLOCKS[m[2]]()}\n\n{m[3]}", page)


def pages() -> list[Path]:
    """Those with a generated block."""
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in candidates if BLOCK.search(path.read_text())]


def main() -> None:
    rule_scores.write_costs()  # first: what the pages print comes from it
    for path in pages():
        before = path.read_text()
        after = filled(before)
        if after != before:
            path.write_text(after)
            print(path.relative_to(ROOT), file=sys.stderr)
            if path.name == "README.md" and _shown(after) != _shown(before):
                draw_audit(ROOT / "docs" / "images" / "audit.png")
    results.draw(ROOT / "docs")


if __name__ == "__main__":
    main()
