"""The layers and what each DVC stage depends on, against the import graph; the pins."""

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import grimp
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lrrt import plugins
from lrrt.config import Config

ROOT = Path(__file__).parents[1]
LAYERS = (
    "stages finder report claims experiments analysis runs backends datasets config core".split()
)
FRAMEWORKS = {"torch", "keras", "tensorflow"}
# Modules found by name at run time, so that imports do not show them: whoever looks them up
# depends on the package.
GROUND = {"lrrt", "lrrt.errors", "lrrt.files", "lrrt.plugins", "lrrt.progress"}
PLUGINS = {
    "lrrt.runs.execute": ["lrrt.backends", "lrrt.core.networks", "lrrt.runs.policies"],
    "lrrt.runs.spec": ["lrrt.core.optimizers"],
    "lrrt.runs.study": ["lrrt.runs.launchers"],
    "lrrt.core.rules": ["lrrt.core.rules"],
    "lrrt.report.study": ["lrrt.experiments"],
    "lrrt.claims": ["lrrt.claims"],
    "lrrt.stages.suggest": ["lrrt.core.accuracy_rules", "lrrt.core.rules"],
    "lrrt.stages.data": ["lrrt.datasets"],
}
FINDER_BY_NAME = {
    "lrrt.finder.frameworks": [
        "lrrt.finder.torch",
        "lrrt.finder.torch_state",
        "lrrt.finder.keras",
        "lrrt.finder.keras_reuse",
    ]
}


@pytest.fixture(scope="module")
def graph():
    options = {"include_external_packages": True, "exclude_type_checking_imports": True}
    return grimp.build_graph("lrrt", **options)


def layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else None


def test_imports_go_downwards_only(graph):
    upward = [
        (module, imported)
        for module in graph.modules
        if layer(module)
        for imported in graph.find_modules_directly_imported_by(module)
        if layer(imported) and LAYERS.index(layer(imported)) < LAYERS.index(layer(module))
    ]
    assert upward == []


def test_imports_have_no_circles(graph):
    modules = sorted(m for m in graph.modules if m.startswith("lrrt"))
    number = {module: i for i, module in enumerate(modules)}
    arrows = [
        (number[module], number[imported])
        for module in modules
        for imported in {
            *graph.find_modules_directly_imported_by(module),
            *FINDER_BY_NAME.get(module, []),
        }
        if imported in number
    ]
    matrix = coo_matrix((np.ones(len(arrows)), np.transpose(arrows)), shape=2 * [len(modules)])
    parts, part = connected_components(matrix, directed=True, connection="strong")
    circles = [[modules[i] for i in np.flatnonzero(part == p)] for p in range(parts)]
    assert [c for c in circles if len(c) > 1] == []


def test_only_backends_import_a_framework(graph):
    importers = {
        module
        for framework in FRAMEWORKS & graph.modules
        for module in graph.find_modules_that_directly_import(framework)
    }
    live = {m for m in importers if m.startswith(("lrrt.finder.torch", "lrrt.finder.keras"))}
    assert {module for module in importers - live if layer(module) != "backends"} == set()


def external(graph, modules: set[str]) -> set[str]:
    """The packages that these import, but for the standard library."""
    found = {
        imported.split(".")[0]
        for module in modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return found - sys.stdlib_module_names - {"lrrt"}


def test_core_needs_numpy_only_by_any_way(graph):
    core = {module for module in graph.modules if layer(module) == "core"}
    reached = closure(graph, *core)
    assert {layer(module) for module in reached} <= {"core", None}
    assert external(graph, reached) == {"numpy"}


PUBLIC = "import lrrt, lrrt.finder.command; lrrt.range_test, lrrt.audit, lrrt.load, lrrt.Curve"


@pytest.mark.parametrize("extra, code", [("", PUBLIC), ("report", "import lrrt.finder.audit_page")])
def test_the_library_imports_what_its_installation_has(extra, code):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own, every = (
        {Requirement(line).name.replace("pyyaml", "yaml") for line in lines}
        for lines in (
            [*project["dependencies"], *extras.get(extra, [])],
            [line for name, lines in extras.items() if name != "dev" for line in lines],
        )
    )
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {*ran.stdout.split()}
    assert "numpy" in loaded and loaded & (every - own) <= {"lrrt"}


def closure(graph, *modules: str) -> set[str]:
    found, waiting = set(), list(modules)
    while waiting:
        current = waiting.pop()
        if current in found or not current.startswith("lrrt"):
            continue
        found.add(current)
        waiting += graph.find_modules_directly_imported_by(current)
        for package in PLUGINS.get(current, []):
            waiting += [package, *graph.find_descendants(package)]
    return found


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported_by(graph, stage: str) -> set[str]:
    _, command, *words = re.split(r" -m | ", STAGES[stage]["cmd"])
    experiment = words if command == "lrrt.stages.experiment" else []
    modules = closure(graph, command)
    for name in experiment:
        modules |= closure(graph, *graph.find_descendants(f"lrrt.experiments.{name}"))
    return modules


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_all_it_imports(graph, stage):
    declared = STAGES[stage]["deps"]
    missing = []
    for module in imported_by(graph, stage) - GROUND:
        base = ROOT / "src" / Path(*module.split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        path = file.relative_to(ROOT).as_posix()
        if file.read_text() and not any(path == d or path.startswith(d + "/") for d in declared):
            missing.append(path)
    assert sorted(missing) == []


def sections_read(module: str) -> set[str]:
    """The sections of the configuration, as ``config.<section>``, that a module speaks of."""
    base = ROOT / "src" / Path(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    found = {
        node.attr
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "config"
    }
    found |= {"study", "sweeps"} if "cases" in found else set()
    return found & {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_names_the_parameters_it_reads(graph, stage):
    declared = {name.split(".")[0] for name in STAGES[stage]["params"]}
    checks = re.compile(r"lrrt\.config|.*\._checks$|.*\.section$")  # which change no number
    reading = {module for module in imported_by(graph, stage) if not checks.match(module)}
    read = set().union(*map(sections_read, reading))
    assert declared == read


def test_every_experiment_is_a_stage_whose_tables_the_report_reads():
    report = STAGES["report"]
    for name in plugins.names("lrrt.experiments"):
        stage = STAGES[name]
        assert stage["cmd"] == f"python -m lrrt.stages.experiment {name}"
        written = {next(iter(out)) for out in stage["outs"]}
        tables = plugins.part("lrrt.experiments", name, "tables", "experiment")
        assert {f"data/${{item.study}}/{file}" for file in tables.SCHEMAS} <= written
        assert written <= {*report["deps"]}
    for name, section in plugins.parts("lrrt.experiments", "section").items():
        key = getattr(section, "KEY", name)
        assert key in STAGES[name]["params"] and key in report["params"]


def test_sections_import_nothing_that_reads_a_configuration(graph):
    for name in plugins.parts("lrrt.experiments", "section"):
        for module in closure(graph, f"lrrt.experiments.{name}.section"):
            assert layer(module) in (None, "core") or module.startswith("lrrt.experiments"), module


def test_every_pinned_package_installs_on_the_oldest_python_that_is_promised():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = re.match(r">=([\d.]+)", promised)[1] + ".0"
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    needs = {
        package.name: package.metadata.get("Requires-Python")
        for package in distributions()
        if package.name in pinned
    }
    assert len(needs) > 100
    refusing = {
        name: python for name, python in needs.items() if oldest not in SpecifierSet(python or "")
    }
    assert refusing == {}
