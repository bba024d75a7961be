"""Audits of a user's module, and the commands."""

import errno
import io
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import traceback

import numpy as np
import pytest
from finder_curves import STEPS, curve, fails, losses, run

import lrrt
from lrrt import cli
from lrrt.errors import InputError
from lrrt.finder import rules
from lrrt.finder.audit import Audit
from lrrt.finder.curve import NEVER_FELL

MODULE = """
    import numpy as np, torch
    torch.set_num_threads(1)

    def make_model(width=8):
        model = torch.nn.Sequential(
            torch.nn.Linear(6, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)
        )
        return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()

    def make_data():
        x = np.random.default_rng(0).normal(size=(96, 6))
        return {"data": (x, x[:, :3].argmax(1)), "batch_size": 16}

    def empty():
        return []

    def needs(width):
        return make_model(width)

    def swapped():
        model, optimizer, _ = make_model()
        return optimizer, model
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A folder with a user's module, as working directory."""
    pytest.importorskip("torch")
    (tmp_path / "user_module.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("user_module", "failing", "stopped"):
        sys.modules.pop(name, None)


def test_audit_command_by_name_and_by_configuration_say_the_same(user, capsys):
    named = json.loads(
        run(
            capsys,
            "audit",
            "user_module:make_model",
            "--runs",
            "3",
            "--steps",
            "40",
            "--save",
            "a.json",
            "--report",
            "a.html",
            "--json",
        )
    )
    assert named["summary"]["runs"] == 3 and len(named["rules"]) >= 14
    assert "Too few runs" in named["verdict"][0]
    assert json.loads((user / "a.json").read_text()) == named and (user / "a.html").is_file()
    (user / "audit.yaml").write_text(
        "model: {_target_: user_module.make_model, width: 8}\n"
        "data: {_target_: user_module.make_data}\nruns: 2\nsteps: 40\n"
    )
    configured = json.loads(run(capsys, "audit", "--config", "audit.yaml", "--runs", "3", "--json"))
    assert configured == named
    words = run(capsys, "audit", "--config", "audit.yaml", "--rule", "fastai1", "--vary", "order")
    assert "fastai1 suggests" in words and "Too few runs to say: 2" in words


def test_audits_repeat_and_vary_what_they_say(user):
    import random

    import torch

    sys.path.insert(0, "")
    from user_module import make_data, make_model

    drawn, options = [], {"runs": 2, "steps": 30, "seed": 4}

    def drawing():
        model = make_model()
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
        return model

    first = lrrt.audit(drawing, make_data, **options)
    random.random(), np.random.rand(), torch.rand(())  # wherever the random states stand
    again = lrrt.audit(drawing, make_data, **options)
    assert first.to_dict() == again.to_dict()
    assert drawn[:2] == drawn[2:] and all(a != b for a, b in zip(*drawn[:2], strict=True))
    assert first.weights_seeds == first.order_seeds == (4, 5)
    weights = lrrt.audit(make_model, make_data, vary="weights", **options)
    order = lrrt.audit(make_model, make_data, vary="order", **options)
    start = [[c.loss[0] for c in a.curves] for a in (first, weights, order)]
    assert start[0][0] == start[1][0] == start[2][0]
    assert len({start[0][1], start[1][1], start[2][1], start[0][0]}) == 4


def test_runs_that_do_not_vary_are_told(user):
    import torch

    sys.path.insert(0, "")
    from user_module import make_data, make_model

    def seeded():
        torch.manual_seed(0)
        return make_model()

    made, (x, y) = make_model(), map(torch.as_tensor, make_data()["data"])
    batches = [(x[i : i + 16].float(), y[i : i + 16]) for i in range(0, 96, 16)]
    for model, data, vary in (
        (seeded, make_data, "weights"),
        (make_model, lambda: batches, "order"),
        (lambda: made, lambda: batches, "order"),
    ):
        found = lrrt.audit(model, data, runs=5, vary=vary)
        assert found.verdict[0].startswith("Do not trust it: all 5 runs have the very same losses")
    with pytest.raises(InputError, match="make_model: .*got 'the same model again'"):
        lrrt.audit(lambda: made, make_data, runs=5)
    with pytest.raises(InputError, match="train_steps: .*0, or at least 10, got 9"):
        lrrt.audit(make_model, make_data, train_steps=9)


def test_an_order_or_weights_that_do_not_vary_are_told(user):
    import torch

    sys.path.insert(0, "")
    from user_module import make_data, make_model

    def noisy():  # losses differ from run to run whatever the order
        model = make_model()[0].append(torch.nn.Dropout(0.3))
        return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()

    def seeded():
        model, optimizer, loss = noisy()
        own = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.uniform_(parameter, -0.5, 0.5, generator=own)
        return model, optimizer, loss

    x, y = map(torch.as_tensor, make_data()["data"])
    data = torch.utils.data.TensorDataset(x.float(), y)

    def fixed():
        own = torch.Generator().manual_seed(0)
        return torch.utils.data.DataLoader(data, 16, shuffle=True, generator=own)

    def unshuffled():
        return torch.utils.data.DataLoader(data, 16)

    def shuffled():
        return torch.utils.data.DataLoader(data, 16, shuffle=True)

    order = "Do not trust it: every run began with the same batch, so the order did not vary"
    weights = "Do not trust it: every run began with the same weights, so they did not vary"
    for model, source, vary, told in (
        (noisy, fixed, "both", [order]),
        (noisy, unshuffled, "order", [order]),
        (noisy, fixed, "weights", []),
        (noisy, shuffled, "both", []),
        (seeded, shuffled, "both", [weights]),
        (seeded, shuffled, "order", []),
        (seeded, fixed, "both", [order, weights]),
        (noisy, make_data, "both", []),
    ):
        found = lrrt.audit(model, source, runs=5, vary=vary, rule="fastai_minimum")
        same = [s for s in found.verdict if "so the order" in s or "so they" in s]
        assert [s.split(";")[0] for s in same] == told
        assert list(found.verdict[: len(told)]) == same
        assert Audit.from_dict(found.to_dict()).verdict == found.verdict


def test_what_can_be_repeated_is_in_about(user):
    import torch

    sys.path.insert(0, "")
    from user_module import make_data, make_model

    options = {"runs": 2, "start": 1e-6, "end": 1, "steps": 30, "stop": None, "clip_norm": 2}
    told = lrrt.audit(make_model, make_data, autocast=torch.bfloat16, **options).about
    assert (told["start"], told["end"], told["steps"], told["stop"]) == (1e-6, 1.0, 30, None)
    assert (told["batch_size"], told["clip_norm"], told["autocast"]) == (16, 2.0, "torch.bfloat16")


def test_a_rule_of_the_accuracy_is_refused_without_validation(user, capsys):
    words = "validation: .*smith reads the accuracy.*got None"
    assert re.search(words, fails(capsys, "audit", "user_module:make_model", "--rule", "smith"))


def test_audit_leaves_random_states_and_trains_shortly(user):
    import random

    import torch

    sys.path.insert(0, "")
    from user_module import make_data, make_model

    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    found = lrrt.audit(
        make_model,
        lambda seed: make_data() | {"validation": make_data()["data"]},
        runs=2,
        rule="fastai_minimum",
        train_steps=30,
    )
    assert states[0] == random.getstate() and torch.equal(states[1], torch.get_rng_state())
    assert states[2] == np.random.get_state()[1].tolist()
    assert [t.factor for t in found.trials] == [0.1, 1.0, 10.0] * 2
    assert [t.lr for t in found.trials[:3]] == pytest.approx([found.lr * f for f in (0.1, 1, 10)])
    losses = [t.loss for t in found.trials[:3]]
    assert losses[1] < losses[0] < 1.3 and found.curves[0].val_loss is not None


def test_errors_of_audit_are_one_line(user, capsys):
    model = "user_module:make_model"
    assert re.search(r"make_model: .*got None", fails(capsys, "audit"))
    assert "module:function" in fails(capsys, "audit", "user_module")
    assert "can be imported" in fails(capsys, "audit", "no_such_module:f")
    told = fails(capsys, "audit", "user_module:f")
    assert "a function of user_module" in told and "def make_model(): return" in told
    told = fails(capsys, "audit", model, "math")
    assert "package.module:function" in told
    told = fails(capsys, "audit", model, "math:make_data")
    assert (
        "def make_data(): return" in told and f"lrrt audit {model} other_module:make_data" in told
    )
    assert "a function" in fails(capsys, "audit", "user_module:np")
    assert re.search(r"data: .*got 'no\ batch'", fails(capsys, "audit", model, "user_module:empty"))
    for name in (
        "./user_module:make_model",
        ".user_module:make_model",
        "a..b:c",
        "user_module.py:f",
    ):
        assert "package.module:function" in fails(capsys, "audit", name)
    for function, words in (
        ("needs", r"make_model: .*missing a required argument: 'width'.*got 'of \(width\)'"),
        ("swapped", "model: .*torch.nn.Module.*got 'SGD'"),
    ):
        told = fails(capsys, "audit", f"user_module:{function}", "user_module:make_data")
        assert re.search(words, told)
    assert re.search(
        r"seed: .*got 99999999999999999999", fails(capsys, "audit", model, "--seed", "9" * 20)
    )
    assert re.search(r"rule: .*got 'best'", fails(capsys, "audit", model, "--rule", "best"))
    assert re.search(r"runs: .*got 0", fails(capsys, "audit", model, "--runs", "0"))
    for given in (["0"], ["0", "--train-steps", "20"]):
        assert re.search(r"steps: .*got 0", fails(capsys, "audit", model, "--steps", *given))
    assert re.search(r"vary: .*got 'data'", fails(capsys, "audit", model, "--vary", "data"))
    assert "--report" in fails(capsys, "audit", model, "--report", "a.pdf")
    (user / "d.html").mkdir()
    (user / "dangling").symlink_to("nowhere")
    for path in ("d.html", "dangling/a.html", "user_module.py/a.html", "user_module.py/b/a.html"):
        assert "can be written" in fails(capsys, "audit", model, "--report", path)
    for path in ("user_module.py/a.json", "a.csv"):
        assert "save: " in fails(capsys, "audit", model, "--save", path)
    assert "left out" in fails(capsys, "audit", model, "--config", "a.yaml")
    assert "an existing file" in fails(capsys, "audit", "--config", "none.yaml")
    config = user / "a.yaml"
    for text, words in (
        ("a: [", "YAML"),
        ("3", "YAML"),
        ("[3]", "mapping"),
        ("data: 3", "model: .*got None"),
        (
            "model: {_target_: user_module.make_model}\ndata: {_target_: user_module.make_data}\n"
            "speed: 3",
            "speed",
        ),
        ("1: 2", "option: expected text as a name, got 1"),
        (
            "model: {_target_: user_module.make_model}\ndata: {_target_: user_module.make_data}\n"
            "run: 3",
            "option: .*got 'run'; the nearest is runs",
        ),
        (
            "model: {_target_: user_module.make_model}\ndata: {_target_: user_module.make_data}\n"
            "keep: {_target_: user_module.nothing}",
            "keep: .*nothing",
        ),
        (
            "model: {_target_: user_module.needs}\ndata: {_target_: user_module.make_data}",
            "make_model: .*'width'",
        ),
        (
            "model: {_target_: user_module.make_model, widht: 8}\n"
            "data: {_target_: user_module.make_data}",
            "model: .*widht",
        ),
    ):
        config.write_text(text)
        assert re.search(words, fails(capsys, "audit", "--config", "a.yaml"))
    assert "with its conf/" in fails(capsys, "list")
    assert sorted(p.suffix for p in user.iterdir() if p.is_file()) == [".py", ".yaml"]


def test_why_a_target_cannot_be_had_is_told(user, capsys):
    (user / "lacking.py").write_text("import no_such_package")
    (user / "broken.py").write_text("def f(:")
    for target, words in (
        ("user_module.nothing", "AttributeError: module 'user_module' has no attribute 'nothing'"),
        ("no_such_module.f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("lacking.f", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("broken.f", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("user_module", "Expected a callable target"),
    ):
        text = f"model: {{_target_: {target}}}\ndata: {{_target_: user_module.empty}}"
        (user / "a.yaml").write_text(text)
        told = fails(capsys, "audit", "--config", "a.yaml")
        assert f"got '{target}'" in told and f"({words}" in told
        assert "HYDRA" not in told


def test_a_function_that_fails_is_named_below_its_own_traceback(user):
    (user / "failing.py").write_text(
        "from user_module import make_data, make_model\n\ndef lost(): raise RuntimeError('of it')"
    )
    for named in ("make_model", "make_data"):
        functions = {name: name for name in ("make_model", "make_data")} | {named: "lost"}
        with pytest.raises(RuntimeError) as caught:
            cli.main(["audit", *(f"failing:{name}" for name in functions.values())])
        told = traceback.format_exception(caught.value)
        assert told[-1].startswith(f"{named} failed") and told[-2] == "RuntimeError: of it\n"
        assert "in lost" in told[-3]


@pytest.mark.parametrize("error", [RuntimeError("of the model"), KeyboardInterrupt()])
def test_runs_that_are_finished_outlive_one_that_fails(user, error):
    sys.path.insert(0, "")
    from user_module import make_data, make_model

    def failing(call):
        calls = itertools.count(1)

        def make():
            if next(calls) == call:
                raise error
            return make_model()

        return make

    options = {"steps": 30, "rule": "fastai_minimum", "train_steps": 10}
    whole = lrrt.audit(make_model, make_data, runs=2, save="whole.json", **options)
    assert Audit.load("whole.json").to_dict() == whole.to_dict() and len(whole.trials) == 6
    for call, tried in ((3, 0), (7, 3)):  # the second run's trainings are of calls 6 to 8
        with pytest.raises(type(error)) as caught:
            lrrt.audit(failing(call), make_data, runs=2, save="some.json", **options)
        found = Audit.load("some.json")
        assert found.trials == whole.trials[:tried]
        assert [c.to_dict() for c in found.curves] == [c.to_dict() for c in whole.curves]
        told = f"finished: range tests 2/2, trainings {tried}/6; kept in some.json"
        assert caught.value.__notes__[-1] == told
    found.report("some.html")
    with pytest.raises(type(error)) as caught:
        lrrt.audit(failing(2), make_data, runs=5, save="one.json", steps=30)
    assert Audit.load("one.json").weights_seeds == (0,)
    assert caught.value.__notes__[-1] == "finished: range tests 1/5; kept in one.json"
    with pytest.raises(type(error)) as caught:
        lrrt.audit(failing(2), make_data, runs=5, steps=30)
    told = caught.value.__notes__[-1]
    assert told.startswith("finished: range tests 1/5; lost") and "--save audit.json" in told


def test_what_could_not_be_saved_is_not_said_to_be_kept(user, monkeypatch):
    sys.path.insert(0, "")
    from user_module import make_data, make_model

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(Audit, "save", full)
    with pytest.raises(OSError) as caught:
        lrrt.audit(make_model, make_data, runs=2, save="a.json", steps=30)
    assert not getattr(caught.value, "__notes__", [])


def test_a_mapping_without_data_and_labels_of_text_are_refused(user):
    sys.path.insert(0, "")
    from user_module import make_model

    with pytest.raises(lrrt.InputError, match="make_data: .*key data, got 'a mapping with dta'"):
        lrrt.audit(make_model, lambda: {"dta": 3})
    text = (np.ones((8, 4)), np.array(["a"] * 8))
    with pytest.raises(lrrt.InputError, match="data: expected arrays of numbers, got 'dtype <U1'"):
        lrrt.audit(make_model, lambda: {"data": text, "batch_size": 4})


def test_what_an_error_quotes_is_not_taken_apart():
    error = lrrt.InputError("key", 1, "a module (none of that name; no package); write it")
    assert str(error) == "key: expected a module (none of that name; no package), got 1; write it"


def test_an_interrupted_audit_says_where_its_runs_are(user, capsys):
    (user / "stopped.py").write_text(
        textwrap.dedent("""
        from user_module import make_data, make_model as made

        def make_model(seed):
            if seed == 1:
                raise KeyboardInterrupt
            return made()
    """)
    )
    options = ["--save", "a.json", "--steps", "20", "--workers", "1"]  # the second run is the last
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "stopped:make_model", *options])
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 130 and "SIGINT" in told[0]
    assert told[1:] == ["finished: range tests 1/10; kept in a.json"]
    assert len(Audit.load("a.json").curves) == 1


def test_an_audit_outlives_a_report_that_fails(user, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "a.html")

    monkeypatch.setattr(Audit, "report", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                "audit",
                "user_module:make_model",
                "--runs",
                "2",
                "--steps",
                "20",
                "--save",
                "a.json",
                "--report",
                "a.html",
            ]
        )
    captured = capsys.readouterr()
    assert ended.value.code == 1 and captured.err.count("\n") == 1
    assert str(Audit.load("a.json")).split() == captured.out.split()
    assert max(map(len, captured.out.splitlines())) <= 80


def test_suggest_and_compare_commands(tmp_path, capsys, monkeypatch):
    one, two = curve().save(tmp_path / "one.csv"), curve(losses(1)).save(tmp_path / "two.json")
    assert run(capsys, "suggest", str(one)).strip() == str(curve().suggest())
    both = run(capsys, "suggest", str(one), str(two), "--rule", "fastai1", "--rule", "ignite")
    assert both.count("one.csv: ") == both.count("two.json: ") == 2
    found = json.loads(run(capsys, "suggest", str(one), "--json"))
    assert found[str(one)][rules.DEFAULT_RULE]["lr"] == curve().suggest().lr
    table = run(capsys, "compare", str(one)).splitlines()
    assert table[0].split() == ["rule", "min", "LR", "max", "LR"]
    assert [row.split()[0] for row in table[1:]] == rules.names()
    table = run(capsys, "compare", str(one), str(two)).splitlines()
    assert table[0].split() == ["rule", "one", "two"]
    flat = curve(np.ones(STEPS)).save(tmp_path / "flat.json")
    for files in ([flat], [one, flat]):
        assert NEVER_FELL in run(capsys, "compare", *map(str, files)).splitlines()[-1]
    found = json.loads(run(capsys, "compare", str(two), "--json"))[str(two)]
    assert found["fastai1"]["min_lr"] == curve(losses(1)).suggest("fastai1").min_lr
    for path in (one, two):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeff" + path.read_text()))
        assert run(capsys, "suggest", "-") == run(capsys, "suggest", str(path))
    assert "No such file" in fails(capsys, "suggest", str(tmp_path / "none.csv"))
    assert re.search(r"rule: .*got 'x'", fails(capsys, "suggest", str(one), "--rule", "x"))
    assert re.search(r"from: .*got 'x'", fails(capsys, "compare", str(one), "--from", "x"))


def test_closed_standard_input_and_names_that_a_terminal_cannot_show(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        assert "file: expected a readable file, got '-'" in fails(capsys, "suggest", "-")
    files = [str(curve().save(tmp_path / name)) for name in ("a.csv", "\u017c.csv")]
    ran = subprocess.run(
        [sys.executable, "-m", "lrrt", "suggest", *files],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert ran.returncode == 0 and b"\\u017c.csv: edge: " in ran.stdout


def test_compared_files_of_one_name_are_told_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        curve().save(tmp_path / folder / "losses.csv")
    table = run(capsys, "compare", "a/losses.csv", "b/losses.csv").splitlines()
    assert table[0].split() == ["rule", "a/losses.csv", "b/losses.csv"]


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    for unbuffered in ([], ["-u"]):
        ran = subprocess.run(
            [sys.executable, *unbuffered, "-m", "lrrt", "rules"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        )
        assert ran.returncode == 141 and ran.stderr == b""
    os.close(writing)


def test_compose_needs_hydra_and_names(capsys, monkeypatch):
    pytest.importorskip("hydra")
    assert re.search(r"overrides: .*got '=3'", fails(capsys, "compose", "=3", "--show"))
    monkeypatch.delitem(sys.modules, "lrrt.compose", raising=False)
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert "pip install hydra-core" in fails(capsys, "compose", "--show")


def test_rules_command_describes_each(capsys):
    lines = run(capsys, "rules").splitlines()
    assert [line.split()[0] for line in lines] == rules.names()
    assert all(len(line.split()) > 3 for line in lines)
    assert list(json.loads(run(capsys, "rules", "--json"))) == rules.names()
