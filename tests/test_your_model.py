"""docs/your_model.md: its example runs, and says what the page shows; each verdict is on it."""

import re
import sys
from pathlib import Path

import pytest

from lrrt import cli
from lrrt.finder.curve import FLAWS

PAGE = (Path(__file__).parents[1] / "docs" / "your_model.md").read_text()
NUMBER = r"\d+(\.\d+)?(e-?\d+)?"


@pytest.mark.slow(10)
def test_the_example_says_what_is_shown(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    pytest.importorskip("jinja2")
    code, command, shown = re.search(
        r"`my_net.py`.*?```python\n(.*?)```\n\n```sh\n(.*?)```.*?```text\n(.*?)```",
        PAGE,
        re.DOTALL,
    ).groups()
    (tmp_path / "my_net.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    cli.main(command.split()[1:])
    sys.modules.pop("my_net", None)
    # Words alike; numbers depend on the processor's rounding, but not by much.
    told, shown = " ".join(capsys.readouterr().out.split()), " ".join(shown.split())
    assert re.sub(NUMBER, "N", told) == re.sub(NUMBER, "N", shown)
    rates = [float(re.search(rf"Train at ({NUMBER})", words)[1]) for words in (told, shown)]
    assert 0.5 < rates[0] / rates[1] < 2
    assert (tmp_path / "lr.html").is_file()


@pytest.mark.slow(20)
def test_the_keras_example_runs(capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("keras")
    code = re.search(r"### Keras\n.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "your_model.md", "exec"), {})
    assert "Short trainings with a constant rate: in " in capsys.readouterr().out


def test_each_verdict_is_explained():
    source = Path(__file__).parents[1] / "src" / "lrrt" / "finder" / "verdict.py"
    starts = "Do not trust it|Trust|Too few|The suggestion is|Only the order"
    verdicts = re.findall(rf'f?"((?:{starts})[^:,{{"]*)', source.read_text())
    assert len(verdicts) >= 8
    for words in {" ".join(words.split()[:4]).rstrip(".") for words in verdicts}:
        assert words in PAGE
    for flaw in FLAWS:
        assert flaw.split()[2] in PAGE.split("| verdict | when")[1]
