"""Bad configuration, over every key: one line with key, value, what is allowed; or a correct run.

``CASES`` are the hand-picked wrong values of each key, Hypothesis adds its own.
"""

import ast
import copy
import dataclasses
import datetime
import os
import pickle
import re
import shutil
import string
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lrrt import cli
from lrrt.compose import composed_yaml
from lrrt.config import Config, DataSection, Sweep, from_mapping, load
from lrrt.config.reading import hints
from lrrt.core import networks, ramp
from lrrt.core.protocol import ModelSection
from lrrt.datasets import Dataset
from lrrt.datasets import load as load_dataset
from lrrt.errors import InputError, one_line_errors
from lrrt.experiments.sweep.design import sweep_specs
from lrrt.experiments.transfer.design import training_specs
from lrrt.runs.execute import execute

ROOT = Path(__file__).parents[1]
BASE = {
    "study": {"name": "s", "backends": ["torch"], "protocols": ["p"], "sweeps": ["weights"]},
    "model": {"depth": 8, "width": 8},
    "protocols": {"p": {}},
    "sweeps": {"weights": {"runs": 2}},
    "divergence": {"cases": [{"case": "torch-p", "grids": 1}]},
    "oracle": {
        "data": {"weights": {"train_images": 400, "test_images": 50}},
        "settings": {
            "weights": {
                "data": "weights",
                "protocol": "p",
                "batch_size": 16,
                "steps": 10,
                "model": {"name": "resnet", "depth": 8, "width": 8},
            }
        },
    },
}
NAN, INF = float("nan"), float("inf")
tried = partial(
    settings, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def keys(hint: type = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    """Every key of the configuration with its type; ``p`` and ``weights`` stand for all names."""
    for name, kind in hints(networks.find({}).Model if hint is ModelSection else hint).items():
        if get_origin(kind) is dict and dataclasses.is_dataclass(get_args(kind)[1]):
            path_of_one = (*path, name, "p" if name == "protocols" else "weights")
            yield from keys(get_args(kind)[1], path_of_one)
        elif dataclasses.is_dataclass(kind):
            yield from keys(kind, (*path, name))
        else:
            yield (*path, name), kind


def changed(*changes: tuple[tuple[str, ...], Any], base: dict = BASE) -> dict:
    """``base`` with values put at paths."""
    values = copy.deepcopy(base)
    for path, value in changes:
        section = values
        for part in path[:-1]:
            section = section.setdefault(part, {})
        section[path[-1]] = value
    return values


def whole() -> dict:
    """``BASE`` with all sections and keys, as ``params.yaml`` has them."""
    return OmegaConf.to_container(OmegaConf.structured(from_mapping(BASE)))


def refusal(values: Any) -> str:
    """The message about ``values``, which must be one line that can be printed."""
    with pytest.raises(InputError) as caught:
        from_mapping(values)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000
    assert re.match(r"[^ ]+: expected .+, got .", message)
    return message


# --- wrong values of every key

CONTAINERS = [[None], {"_target_": "os.system"}]
WRONG = {  # of a type, whatever the key
    int: [2.5, "many", True, NAN, INF, 10**30, -1, "${nothing}", "???", []],
    float: ["fast", True, NAN, INF, -INF, -1, 1e308, "", "${nothing}", "???", []],
    bool: ["maybe", 2.5, "${oc.env:NO_SUCH_VARIABLE}", "???", []],
    str: ["", "  ", "a\nb", "\x00", "\x1b[2J", "\ud800", "${", "???", b"bytes", []],
    list: ["torch", 1, NAN, [[]], [{}], [""], ["\x00"], ["???"], ["${nothing}"], {}],
    dict: ["x", 1, [], {1: 1}, {"unknown": 1}],
}


def cases() -> Iterator[tuple[tuple, Any]]:
    for path, kind in keys():
        kind, *others = get_args(kind) if isinstance(kind, UnionType) else (kind,)
        kind = get_origin(kind) or kind
        values = WRONG[kind] + CONTAINERS + ([] if NoneType in others else [None])
        yield from ((path, value) for value in values)


CASES = list(cases())


@pytest.mark.parametrize("path", dict.fromkeys(path for path, _ in CASES), ids=".".join)
def test_wrong_values_are_named_in_one_line(path):
    for value in [value for other, value in CASES if other == path]:
        message = refusal(changed((path, value)))
        assert message.startswith(".".join(path)), (value, message)
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        shown = [repr(value), *map(repr, inner if isinstance(inner, Iterable) else [])]
        assert any(text in message for text in shown), (value, message)


def test_every_key_has_cases():
    assert {path for path, _ in CASES} == {path for path, _ in keys()}
    assert len(CASES) > 600 and len(dict(keys())) > 55


DEEP = [
    (("modle",), 1, "modle: expected a key of params.yaml ... did you mean model?"),
    (
        ("model", "dept"),
        8,
        "model.dept: expected a key of model (name, depth, width, ... did you mean depth?",
    ),
    (("model",), None, "a section with the keys"),
    (("protocols",), {1: {}}, "protocols: expected ... got 1"),
    (("protocols",), {}, "study.protocols: expected ... got 'p'"),
    (("protocols", "../up"), {}, "protocols: expected ... got '../up'"),
    (("protocols", "a-b"), {}, "protocols: expected ... got 'a-b'"),  # names are joined by hyphens
    (
        ("protocols", "a.b"),
        {},
        "protocols: expected ... got 'a.b'",
    ),  # and dots part DVC's parameters
    (("protocols", "<script>"), {}, "protocols: expected ... got '<script>'"),
    (("protocols", "a" * 65), {}, "1 to 64 letters"),
    (("protocols", "\u00e9"), {}, "protocols: expected ... got '\u00e9'"),
    (("sweeps", ""), {}, "sweeps: expected ... got ''"),
    (("sweeps", "x y"), {}, "sweeps: expected ... got 'x y'"),
    (("study", "name"), "..", "study.name: expected ... got '..'"),
    (("study", "name"), "a/b", "study.name: expected ... got 'a/b'"),
    (("study", "name"), "-rf", "study.name: expected ... got '-rf'"),
    (("study", "name"), "s" * 65, "study.name"),
    (("study", "name"), "\u0661", "study.name"),  # a digit, elsewhere
    (("study", "backends"), ["torch", "torch"], "none twice"),
    (("study", "backends"), ["os"], "one of: keras, torch"),
    (("study", "sweeps"), ["order"], "study.sweeps: expected ... got 'order'"),
    (("study", "name"), "${study.name}", "Recursive interpolation"),
    (("model", "depth"), 9, "6n + 2"),
    (("model", "depth"), 6 * 2**61 + 2, "1202"),
    (("model", "width"), 12, "a multiple of 8"),
    (("data", "train_images"), 9, "from 10 to 1000000"),
    (
        ("data",),
        {"name": "cifar10", "train_images": 50_001},
        "data.train_images: expected ... got 50001",
    ),
    (("data", "path"), "x", "null, got 'x'; digits are made without a file"),
    (("data", "seed"), 2**63, "from 0 to 9223372036854775807"),
    (("data", "seed"), datetime.date(2020, 1, 1), "datetime.date"),
    (("sweep", "batch_size"), 12801, "from 1 to 12800"),
    (("sweeps", "weights", "batch_sizes"), [12801], "from 1 to 12800"),
    (("sweeps", "weights", "batch_sizes"), [1281], "10 whole batches"),
    (("protocols", "p", "ramp", "end"), 1e-7, "more than protocols.p.ramp.start"),
    (("protocols", "p", "ramp", "start"), 5e-324, "from 1e-30 to 1e+30"),
    (("protocols", "p", "ramp", "start"), 1e31, "from 1e-30 to 1e+30"),
    (("protocols", "p", "ramp", "steps"), 9, "from 10 to 100000"),
    (("protocols", "p", "momentum"), 1, "from 0 to 0.9999"),
    (("protocols", "p", "batch_norm_momentum"), 1.01, "from 0 to 1"),
    (("protocols", "p", "gradient_clip"), 0, "from 1e-30 to 1e+30"),
    (("divergence", "cases"), [{}], "divergence.cases[0]: expected a section that has ... got {}"),
    (("divergence", "cases"), [["torch", "p"]], "a section with the keys case, pairs, swaps"),
    (
        ("divergence", "cases"),
        [{"case": "torch-p"}] * 2,
        "cases[1].case: expected ... got 'torch-p'",
    ),
    (("divergence", "cases"), [{"case": "keras-p"}], "<protocol>, none twice, of: torch-p"),
    (("divergence", "cases"), [{"case": "torch-q"}], "cases[0].case: expected ... got 'torch-q'"),
    (
        ("divergence", "cases"),
        [{"case": "torch-p", "pairs": 0}],
        "cases[0].pairs: expected ... got 0",
    ),
    (("divergence", "cases"), [{"case": "torch-p", "swaps": 2}], "to divergence.cases[0].pairs ="),
    (("divergence", "cases"), [{"case": "torch-p", "pairs": 2, "grids": 3}], "cases[0].pairs = 2"),
    (
        ("divergence", "cases"),
        [{"case": "torch-p", "grids": -1}],
        "cases[0].grids: expected ... got -1",
    ),
    (("sweeps", "weights"), {"runs": 1}, "sweeps.weights.runs: expected ... got 1"),
    (("protocols", "p", "home"), "keras", "divergence.cases without torch-p"),
    (("divergence", "policies"), ["os"], "one_cycle"),
    (("divergence", "policies"), ["constant"], "constant is trained in any case"),
    (("divergence", "policies"), ["one_cycle", "one_cycle"], "none twice"),
    (("divergence", "reference_lr"), 0, "divergence.reference_lr: expected ... got 0.0"),
    (("instrument", "steps"), [50, 60, 50], "each once (these are: 50, 60, 50)"),
    (("instrument", "shapes"), ["linear", "linear"], "each once (these are: linear, linear)"),
    (("instrument", "ranges"), [[1e-5, 10], [1.0000001e-5, 10.0]], "1e-05 to 10, 1e-05 to 10"),
    (("report", "loss_quantiles"), [0.9, 0.1], "0 <= low < high <= 1"),
    (("report", "loss_quantiles"), [NAN, NAN], "0 <= low < high <= 1"),
    (("report", "loss_quantiles"), [0.1], "two numbers"),
    (("report", "title"), "x" * 10_000 + "\n", "..."),
    (("launcher", "name"), "os", "local"),
]


@pytest.mark.parametrize("path, value, part", DEEP)
def test_impossible_values_are_named_in_one_line(path, value, part):
    message = refusal(changed((path, value)))
    assert all(piece in message for piece in part.split(" ... "))


@pytest.mark.parametrize(
    "section, settings",
    [
        ("divergence", BASE["divergence"]),
        ("attribution", {"start": "p", "end": "q", "runs": 1}),
        ("variance", {"protocols": ["p"], "weights": 2}),
        ("instrument", {"protocols": ["p"], "runs": 1}),
        ("mechanism", {"protocols": ["p"], "runs": 1}),
    ],
)
@pytest.mark.parametrize("sweeps", [{"other": {}}, {"other": {}, "weights": {"runs": 2}}])
def test_a_section_with_runs_needs_the_weights_sweep(section, settings, sweeps):
    values = changed((("study", "sweeps"), ["other"]), (("protocols", "q"), {"flip": False}))
    values |= {"sweeps": sweeps, "divergence": {"cases": []}}
    from_mapping(values)
    message = refusal(values | {section: settings})
    assert (
        message.startswith("study.sweeps: expected")
        and f"'weights', which {section}" in message
        and message.endswith("got ['other']")
    )


SCALE = {"batch_sizes": [64], "steps": 50, "seed": 100}
SWEEPS = {  # what the report says of a sweep by its name
    "weights": SCALE,
    "order": {"new_weights": False} | SCALE,
    "rounding": SCALE,
    "rounding_order": {"new_weights": False} | SCALE,
    "validation": {"validation": "running"} | SCALE,
    "validation_batch": {"validation": "batch"} | SCALE,
    "batch_size": {"batch_sizes": [64, 128], "steps": 60},
    "batch_size_epoch": {"batch_sizes": [64, 128], "whole_epoch": True},
}
OTHERWISE = {
    "new_weights": [False, True],
    "new_order": [False],
    "whole_epoch": [True, False],
    "validation": ["none", "running", "batch"],
    "batch_sizes": [[32], [64, 128], [64, 64]],
    "steps": [40, None],
    "seed": [0],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_a_known_name_is_what_the_report_says_of_it(name):
    scale = {"batch_size": 64, "steps": 50, "seed": 100}
    listed = list(dict.fromkeys(["weights", name]))
    values = changed((("sweep",), scale), (("study", "sweeps"), listed))
    right = {"runs": 2} | SWEEPS[name]
    values["sweeps"] = {"weights": {"runs": 2} | SCALE} | {name: right}
    planned(from_mapping(values))
    free = SCALE if name.startswith("batch_size") else ()
    for key in OTHERWISE.keys() - free:
        for value in OTHERWISE[key]:
            if value == getattr(Sweep(**right), key):
                continue
            wrong = right | {key: value}
            if wrong.get("whole_epoch"):
                wrong["steps"] = None  # both are refused under any name
            message = refusal(values | {"sweeps": values["sweeps"] | {name: wrong}})
            assert message.startswith(f"sweeps.{name}.{key}: expected ")
            assert f"got {value!r}" in message
            assert f"conf/sweep/{name}.yaml" in message
            sweeps = values["sweeps"] | {"mine": wrong}
            study = values["study"] | {"sweeps": ["weights", "mine"]}
            planned(from_mapping(values | {"study": study, "sweeps": sweeps}))


def test_steps_that_are_the_same_at_all_batch_sizes_are_a_number():
    values = changed((("study", "sweeps"), ["weights", "batch_size"]))
    sizes = {"batch_sizes": [64, 128]}
    values["sweeps"]["batch_size"] = sizes
    message = refusal(values)
    assert (
        message.startswith("sweeps.batch_size.steps: expected a number") and "got None" in message
    )
    for fixed in ({"batch_sizes": [64]}, sizes | {"steps": 20}):
        planned(from_mapping(values | {"sweeps": values["sweeps"] | {"batch_size": fixed}}))
    planned(from_mapping(values | {"protocols": {"p": {"ramp": {"steps": 20}}}}))


def test_policies_without_a_grid_are_refused_unless_nothing_is_trained():
    without = (("divergence", "cases"), [{"case": "torch-p"}])
    policies = (("divergence", "policies"), ["one_cycle"])
    message = refusal(changed(without, policies))
    assert message.startswith("divergence.policies: expected []")
    assert message.endswith("got ['one_cycle']")
    for cases in ([], [{"case": "torch-p", "grids": 1}]):
        values = changed((("divergence", "cases"), cases), policies)
        assert from_mapping(values).divergence.policies == ["one_cycle"]


@pytest.mark.parametrize("values", [None, 1, "words", [], [1], b"x", object()])
def test_what_is_no_mapping(values):
    if values is not None:
        refusal(values)
    else:
        with pytest.raises(InputError):
            from_mapping(values)


# --- whatever Hypothesis thinks of

GENERATED = {"any value": 150, "possible values": 150, "text": 100}  # examples at most

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=3)
    | st.text("${}:.ab_", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


def planned(config: Config) -> None:
    """What a valid configuration promises: every run of the study can be specified."""
    for case in config.cases:
        for spec in sweep_specs(config, "0" * 64, *case)[:2]:
            assert len(spec.key) == 40 and 0 <= spec.weights_seed < 2**63
            grid = ramp.grid(spec.protocol.ramp, spec.steps)
            assert grid.shape == (spec.steps,) and grid[0] == spec.protocol.ramp.start
            assert np.isfinite(grid).all() and (np.diff(grid) >= 0).all() and spec.steps >= 10
    run = {"weights_seed": 0, "order_seed": 0, "batch_size": 10, "min_lr": 0.1, "max_lr": 1.0}
    for entry in config.divergence.cases:
        trainings = training_specs(config, "0" * 64, *entry.names, "x", {"A": run, "B": run})
        assert len({training.spec.key for training in trainings}) > 1


@pytest.mark.slow(3)
@tried(max_examples=GENERATED["any value"])
@given(st.sampled_from(list(keys())), anything)
def test_any_value_is_refused_in_one_line_or_can_be_run(key, value):
    path, _ = key
    try:
        config = from_mapping(changed((path, value)))
    except InputError as error:
        of_images = path == ("data", "train_images")  # bounds the batch sizes of sweeps, too
        sections = (path[0], "sweep") if of_images else path[0]
        assert str(error).isprintable() and str(error).startswith(sections)
    else:
        planned(config)


def near(kind: Any, path: tuple[str, ...]) -> st.SearchStrategy:
    """Values that are mostly possible, at their ends too."""
    kind, *others = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    found = {
        int: st.sampled_from([0, 1, 8, 10, 16, 100, 100_000, 1_000_000, 2**62, 2**63]),
        float: st.sampled_from([1e-30, 1e-12, 1e-5, 0.1, 0.5, 0.9999, 1.0, 10.0, 1e6, 1e30]),
        bool: st.booleans(),
        str: st.sampled_from(CHOSEN.get(path[-1], ["p"])),
    }.get(kind, st.sampled_from([[1], [0.1, 0.9], [12800], ["weights"], [{"case": "torch-p"}], []]))
    return found | st.none() if others else found


CHOSEN = {
    "name": ["digits", "resnet", "local", "cifar10"],
    "rule": ["blog_keras", "ktrain", "lightning"],
    "home": ["keras", "torch"],
    "shape": ["linear", "exponential"],
    "end_at": ["last", "after_last"],
    "pairing": ["before", "after"],
    "validation": ["none", "running", "batch"],
    "kind": ["none", "l2", "decoupled"],
}


@pytest.mark.slow(8)
@tried(max_examples=GENERATED["possible values"])
@given(st.data())
def test_what_is_valid_can_be_run(data):
    chosen = data.draw(
        st.lists(st.sampled_from(list(keys())), max_size=4, unique_by=lambda k: k[0])
    )
    changes = [(path, data.draw(near(kind, path))) for path, kind in chosen]
    try:
        config = from_mapping(changed(*changes))
    except InputError as error:
        assert str(error).isprintable()
    else:
        planned(config)


@tried(max_examples=GENERATED["text"])
@given(st.text(string.printable) | st.text() | st.binary().map(lambda b: b.decode("latin1")))
def test_any_text_as_params_is_refused_in_one_line(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "params.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        load(file)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content, part",
    [
        (b"", "params.yaml: expected sections"),
        (b"# no section\n", "params.yaml: expected sections"),
        (b"just text", "params.yaml: expected sections"),
        (b"- study\n", "params.yaml: expected sections"),
        (b"study: {name: s}\n", "data: expected a section of params.yaml"),
        (b"data:\n\tname: x\n", "readable YAML"),
        (b"\xff\xfe\x00", "readable YAML"),
        (b"data: {seed: " + b"1" * 5000 + b"}", "readable YAML"),
        (b"[" * 2000, "readable YAML"),
        (b"a: &a [1]\nb: *a\n", "without aliases"),
        (
            b"a: &a [x, x]\n"
            + b"".join(b"%c: &%c [*%c, *%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 121)),
            "without aliases",
        ),
        (b"study: {name: '${data.name}'}\n", "interpolations"),
        (b"data: {seed: 1}\ndata: {seed: 2}\n", "duplicate"),
        (b"data: !!python/object/apply:os.system ['touch hacked']", "readable YAML"),
        (b"data: !!python/name:os.system", "readable YAML"),
        (b"--- {}\n--- {}\n", "readable YAML"),
    ],
)
def test_hostile_params_file(tmp_path, monkeypatch, content, part):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(content)
    with pytest.raises(InputError, match=part) as caught:
        load()
    assert str(caught.value).isprintable()
    assert os.listdir() == ["params.yaml"]


@pytest.mark.parametrize("section", hints(Config))
@pytest.mark.parametrize("empty", [False, True])
def test_a_section_that_params_yaml_lacks_takes_no_defaults(tmp_path, section, empty):
    values = whole()
    del values[section]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values | ({section: {}} if empty else {})))
    with pytest.raises(InputError, match=f"^{section}: expected a section of .*`lrrt compose`"):
        load(path)


def test_params_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        load(tmp_path)


# --- through Hydra

OVERRIDES = [
    ("data._target_=os.system", "_target_"),
    ("+data._target_=os.system", "_target_"),
    ("+_target_=os.system", "_target_"),
    ("+data.path2=x", "path2"),
    ("~data.seed", "data.seed"),
    ("sweep.runs=${sweep.runs}", "Recursive"),
    ("sweep.runs=${nothing}", "nothing"),
    ("report.title=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
    ("study.name='<script>alert(1)</script>'", "study.name"),
    ("sweeps.weights=null", "sweeps.weights"),
    ("data=../../etc/passwd", "data"),
    ("=", "="),
    ("\x00", "overrides"),
]


@pytest.mark.parametrize("override, part", OVERRIDES)
def test_bad_override_of_hydra(override, part):
    with pytest.raises(InputError) as caught:
        composed_yaml(ROOT / "conf", [override])
    assert str(caught.value).isprintable() and part in str(caught.value)


def test_configuration_is_data_only():
    """Nothing in the package builds objects or commands from text."""
    forbidden = {
        "eval",
        "exec",
        "compile",
        "pickle",
        "cPickle",
        "dill",
        "joblib",
        "marshal",
        "shelve",
        "system",
        "popen",
        "instantiate",
        "unsafe_load",
        "full_load",
        "allow_pickle",
        "shell",
    }
    methods = {"compile", "eval"}  # of regular expressions and models: only bare calls count
    # The exceptions: what the user names in a file of their own, for the finder (SECURITY.md), and
    # the user's own functions on their way to this process's workers.
    expected = {
        ("command.py", "instantiate"),
        ("workers.py", "joblib"),
        ("workers.py", "pickle"),
    }
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = {
                ast.Import: lambda n: [part for a in n.names for part in a.name.split(".")],
                ast.ImportFrom: lambda n: [
                    *(n.module or "").split("."),
                    *(a.name for a in n.names),
                ],
                ast.Name: lambda n: [n.id],
                ast.Attribute: lambda n: [n.attr] if n.attr not in methods else [],
                ast.keyword: lambda n: [n.arg],
            }.get(type(node), lambda n: [])(node)
            found |= {(file.name, name) for name in names if name in forbidden}
    assert found == expected


# --- nothing is written


@pytest.mark.parametrize(
    "stage, arguments",
    [
        (module.rpartition(".")[2], arguments)
        for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
        for _, _, module, *arguments in [stage["cmd"].split(" ")]
    ],
)
@pytest.mark.parametrize(
    "path, value",
    [(("model", "depth"), 9), (("data", "name"), "os"), (("study", "name"), "../x"), (("x",), 1)],
)
def test_stage_says_it_in_one_line_and_writes_nothing(
    stage, arguments, path, value, tmp_path, monkeypatch, capsys
):
    module = __import__(f"lrrt.stages.{stage}", fromlist=["main"])
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(changed((path, value), base=whole())))
    with pytest.raises(SystemExit) as caught:
        module.main(arguments)
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == ""
    assert captured.err.startswith(f"error: {'.'.join(path)}: ") and captured.err.count("\n") == 1
    assert os.listdir() == ["params.yaml"]


@pytest.mark.parametrize(
    "config, part",
    [
        (DataSection(name="cifar10", path="no/such/folder"), "no/such/folder"),
        (DataSection(name="cifar10", path="x" * 5000), "data.path"),
        (DataSection(name="cifar10", path="/dev/null"), "/dev/null"),
        (DataSection(name="cifar10", path="."), "data.path"),
        (DataSection(name="cifar10", path=".", train_images=50_001), "at most 50000"),
        (DataSection(name="digits", path="."), "null"),
    ],
)
def test_data_that_cannot_be(config, part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught, one_line_errors():
        load_dataset(config)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part in error
    assert os.listdir() == []


@pytest.mark.parametrize(
    "arguments",
    [["compose", "model.depth=9"], ["compose", "~model"], ["compose", "study=f"], ["list", "nope"]],
)
def test_commands_write_nothing(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "conf", "conf")
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert os.listdir() == ["conf"]


@pytest.mark.parametrize("before", [b"<<<<<<< HEAD\na: 1\n=======\n", b"\xff\xfe", b"a: ["])
def test_a_damaged_params_yaml_is_replaced(before, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "conf", "conf")
    Path("params.yaml").write_bytes(before)
    cli.main(["compose", "sweep.runs=2"])
    assert capsys.readouterr().err == "params.yaml was no YAML mapping, and is replaced.\n"
    assert yaml.safe_load(Path("params.yaml").read_text())["sweep"]["runs"] == 2


def test_a_damaged_file_of_conf_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "conf", "conf")
    Path("conf/model/mlp.yaml").write_text("name: [")
    with pytest.raises(SystemExit) as caught:
        cli.main(["compose", "model=mlp"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: conf: expected YAML (") and "model/mlp.yaml" in error


# --- odd, but allowed: a correct run

ODD = {
    "as it is": {},
    "smallest": {"gradient_clip": 1e-30, "batch_norm_momentum": 0.0, "momentum": 0.0},
    "largest": {"gradient_clip": 1e30, "batch_norm_momentum": 1.0, "momentum": 0.9999},
    "decay": {"weight_decay": {"kind": "decoupled", "value": 1e6}},
    "penalty": {"weight_decay": {"kind": "l2", "value": 1e6}},
    "whole range": {"ramp": {"start": 1e-30, "end": 1e30}},
    "numbers as text": {"momentum": "0.5", "batch_norm_epsilon": "1e-3", "flip": "no"},
    "linear": {"ramp": {"shape": "linear", "end_at": "after_last", "pairing": "after"}},
}


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 200)
    half = np.full(3, 0.5)
    return Dataset(images, labels, images[:10], labels[:10], half, half, tuple("0123456789"), "")


def test_odd_but_allowed_values_run(dataset):
    pytest.importorskip("torch")
    first_losses = {}
    for name, protocol in ODD.items():
        values = changed((("protocols", "p"), {"augmentation": "none", "flip": False, **protocol}))
        values["data"] = {"train_images": 200, "test_images": 10}
        values["sweep"] = {"batch_size": 16, "steps": 10}
        values["sweeps"]["weights"] = {"runs": 1, "batch_sizes": [16], "steps": 10}
        values["divergence"] = {"cases": []}
        (spec,) = sweep_specs(from_mapping(values), dataset.digest, "torch", "p", "weights")
        curve = execute(spec, dataset).arrays
        assert all(array.shape == (10,) for array in curve.values())
        assert np.array_equal(curve["lr"], ramp.training_lrs(spec.protocol.ramp, 10))
        first_losses[name] = curve["loss"][0]
    # Before the first update nothing of all this matters but the constants of batch norm.
    del first_losses["numbers as text"]
    assert np.ptp(list(first_losses.values())) < 1e-6 and 2 < first_losses["as it is"] < 10


def test_an_error_reaches_the_parent_of_a_worker():
    error = pickle.loads(pickle.dumps(InputError("key", 1, "two; why")))
    assert str(error) == "key: expected two, got 1; why" and error.key == "key"
