"""Every Python and shell block of the pages: names, parameters, options and files in it exist.

Python blocks also run, here or where :data:`RUN_BY` says. Of a command the options are parsed by
the program that takes them; what would install, train for hours or need other packages is not run.
"""

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import lrrt
from lrrt import cli, compose
from lrrt.finder import command as finder_command

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "docs", "benchmarks", "ground_truth", "notebooks", "findings")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
#: Pages whose Python blocks another test runs.
RUN_BY = {"README.md": "test_docs.py", "how_to.md": "test_how_to.py"}
EXAMPLE = "def make_model"  # of your_model.md, run by test_your_model.py
RESULTS = {"curve": lrrt.Curve, "audit": lrrt.Audit}  # what the pages call these


def blocks(language: str) -> list:
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in re.finditer(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            line = text[: block.start()].count("\n") + 2
            name = f"{page.relative_to(ROOT).as_posix()}:{line}"
            found.append(pytest.param(page, block[1], id=name))
    return found


PYTHON, SHELL = blocks("python"), blocks("sh")


# ---- Python -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_python_names_what_there_is(page, code):
    tree = ast.parse(code)
    classes = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lrrt":
            defined = _definitions(node.module)
            assert {alias.name for alias in node.names} <= set(defined), node.module
            classes |= {alias.name: defined[alias.name] for alias in node.names}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = lrrt if node.value.id == "lrrt" else RESULTS.get(node.value.id)
            fields = getattr(of, "__dataclass_fields__", {})
            assert of is None or hasattr(of, node.attr) or node.attr in fields, node.attr
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg for keyword in call.keywords}
        if isinstance(call.func, ast.Name) and call.func.id in classes:
            assert given <= _parameters_of_class(classes[call.func.id])
        elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            of = lrrt if call.func.value.id == "lrrt" else RESULTS.get(call.func.value.id)
            if of is not None:
                assert given <= _parameters(getattr(of, call.func.attr)), ast.unparse(call)


def _definitions(module: str) -> dict[str, ast.AST]:
    """By name what a module defines, without importing the framework that it may need."""
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
    return {node.name: node for node in tree.body if hasattr(node, "name")}


def _parameters_of_class(node: ast.ClassDef) -> set[str]:
    (start,) = (n for n in node.body if getattr(n, "name", "") == "__init__")
    return {argument.arg for argument in (*start.args.args, *start.args.kwonlyargs)} | (
        set(inspect.signature(lrrt.range_test).parameters) if start.args.kwarg else set()
    )


def _parameters(function) -> set[str]:
    found = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in found.values()):
        return set(found) | set(inspect.signature(lrrt.range_test).parameters)
    return set(found)


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_python_runs(page, code, tmp_path, monkeypatch):
    if page.name in RUN_BY or EXAMPLE in code:
        test = Path(__file__).with_name(RUN_BY.get(page.name, "test_your_model.py"))
        assert page.name in test.read_text()
        return
    torch = pytest.importorskip("torch")
    pytest.importorskip("matplotlib").use("agg")
    import small_torch

    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    model = small_torch.network()
    names = {"lrrt": lrrt, "torch": torch, "model": model, "loss": small_torch.LOSS}
    names |= {"loader": small_torch.loader(), "val_loader": small_torch.loader()}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    exec(compile(code, page.name, "exec"), names)
    assert any(isinstance(value, tuple(RESULTS.values())) for value in names.values())


# ---- shell ------------------------------------------------------------------------------------


@pytest.mark.slow(6)
@pytest.mark.parametrize(("page", "code"), SHELL)
def test_shell_commands_parse(page, code, monkeypatch):
    found = commands(code)
    assert found
    for words in found:
        assert words[0] in PROGRAMS, words
        assert PROGRAMS[words[0]](words[1:], monkeypatch) is not False, words


def commands(code: str) -> list[list[str]]:
    """The words of each command; of a loop, those of its body with 1 as the variable."""
    code = re.sub(r"^for (\w+) in .*?; do$", r"", code.replace("\\\n", " "), flags=re.MULTILINE)
    found = []
    for line in re.sub(r"\$\w+", "1", code).splitlines():
        words = [[]]
        for word in shlex.split(line.replace("&&", " && "), comments=True):
            words.append([]) if word == "&&" else words[-1].append(word)
        found += [part for part in words if part and part != ["done"]]
    return found


def _lrrt(words, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(finder_command, "run", lambda options: None)  # its options are parsed
        patch.chdir(ROOT)
        if words[0] == "compose":
            assert compose.composed_yaml(ROOT / "conf", words[1:])
        else:
            cli.main(words)


def _python(words, *_):
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words
        source = Path(importlib.util.find_spec(words[1]).origin)
    else:
        source = ROOT / words[0]
    options = [word for word in words[1:] if word.startswith("--")]
    assert all(f'"{option}"' in source.read_text() for option in options), words


def _pip(words, *_):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for option, name in zip(words, words[1:], strict=False):
        assert option not in ("-c", "-r") or (ROOT / name).is_file(), name
    for extras in re.findall(r"\.\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def _make(words, *_):
    targets = re.findall(r"^([\w/.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[0] in targets


def _dvc(words, *_):
    pytest.importorskip("dvc", reason="the extra study is not installed")
    from dvc.cli import parse_args

    assert parse_args(words).cmd


def _cp(words, *_):
    assert all((ROOT / word).is_file() for word in words[:-1])


def _script(*_):
    assert (ROOT / ".ci" / "run").is_file()


PROGRAMS = {
    "lrrt": _lrrt,
    "pip": _pip,
    "build/peers/bin/pip": _pip,
    **dict.fromkeys(("python", ".venv/bin/python", "build/peers/bin/python"), _python),
    "python3.11": _python,
    "git": lambda words, *_: words[0] == "clone",
    "cd": lambda words, *_: words == ["lrrt"],
    "make": _make,
    "dvc": _dvc,
    "cp": _cp,
    ".": lambda words, *_: None,  # .venv/bin/activate, of the environment that `make` makes
    ".ci/run": _script,
}
