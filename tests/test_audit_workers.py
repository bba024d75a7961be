"""Audits on several processes: the bits of one, whatever is sent to them, and what cannot be."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_finder_command import MODULE, user  # noqa: F401 (a fixture)

import lrrt
from lrrt.finder import workers
from lrrt.finder.workers import processes

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
OPTIONS = {"steps": 20, "runs": 4, "rule": "fastai_minimum", "train_steps": 10}


@pytest.fixture
def functions(user):  # noqa: F811
    sys.path.insert(0, "")
    from user_module import make_data, make_model

    return make_model, make_data


@pytest.fixture(params=["copies", "started"])
def kind(request, monkeypatch):
    """Both kinds of workers; beside TensorFlow none is a copy."""
    monkeypatch.setattr(workers, "_copies", lambda: request.param == "copies")
    return request.param


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(workers, "_copies", lambda: False)


def test_where_workers_are_copies(monkeypatch):
    modules = {"torch": torch}
    monkeypatch.setattr(workers.sys, "modules", modules)
    monkeypatch.setattr(workers.sys, "platform", "linux")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert workers._copies()
    for name in ("tensorflow", "jax"):  # their threads would be missing
        monkeypatch.setattr(workers.sys, "modules", modules | {name: None})
        assert not workers._copies()
    monkeypatch.setattr(workers.sys, "modules", {})
    assert not workers._copies()
    monkeypatch.setattr(workers.sys, "modules", modules)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)  # and autograd's
    assert not workers._copies()
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr(workers.sys, "platform", "darwin")
    assert not workers._copies()


@pytest.mark.slow(12)
def test_bits_do_not_depend_on_the_number_of_processes(functions, capsys, kind):
    width = 8  # closures and lambdas are sent by value
    by_value = (lambda: functions[0](width), lambda seed: functions[1]())
    alone = lrrt.audit(*functions, workers=1, **OPTIONS)
    for count, (make_model, make_data) in ((2, functions), (3, by_value)):
        shared = lrrt.audit(make_model, make_data, workers=count, **OPTIONS)
        assert shared.to_dict() == alone.to_dict()
    assert capsys.readouterr().err == ""


@pytest.mark.slow(4)
def test_threads_are_put_back(functions):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    lrrt.audit(*functions, workers=2, **OPTIONS)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.slow(1)
def test_a_copy_needs_nothing_sent(functions, capsys, monkeypatch):
    """A lock, much data, and what was set in a module: all is there."""
    monkeypatch.setattr(workers, "_copies", lambda: True)
    make_model, make_data = functions
    lock, large = threading.Lock(), np.ones(workers.MOST_SENT // 8 + 1)
    import user_module

    user_module.scale = 3.0
    ran = []

    def locked():
        with lock:
            ran.append(os.getpid())
            found = make_data()
            x, y = found["data"]
            return found | {"data": (x * user_module.scale * large[-1], y)}

    alone = lrrt.audit(make_model, locked, workers=1, **OPTIONS)
    count = len(ran)
    assert lrrt.audit(make_model, locked, workers=2, **OPTIONS).to_dict() == alone.to_dict()
    assert capsys.readouterr().err == "" and count < len(ran) < 2 * count  # a part ran elsewhere


@pytest.mark.slow(4)
def test_a_worker_that_is_killed_leaves_its_work_to_the_process_that_asked(functions, capsys, kind):
    make_model, make_data = functions
    here = os.getpid()

    def killed(seed):
        if os.getpid() != here and seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return make_data()

    alone = lrrt.audit(make_model, make_data, workers=1, **OPTIONS)
    assert lrrt.audit(make_model, killed, workers=3, **OPTIONS).to_dict() == alone.to_dict()
    told = capsys.readouterr().err
    assert told == "audit: on one core, since a worker process was killed (is memory short?)\n"


@pytest.mark.slow(1)
@pytest.mark.parametrize("opened", ["before", "by the first run"])
def test_no_copies_where_a_file_is_read_that_stays_open(
    functions, capsys, monkeypatch, tmp_path, opened
):
    """They would share how far it has been read."""
    monkeypatch.setattr(workers, "_copies", lambda: True)
    make_model, make_data = functions
    x, y = make_data()["data"]
    (tmp_path / "x.raw").write_bytes(x.tobytes())
    files = [open(tmp_path / "x.raw", "rb")] if opened == "before" else []  # noqa: SIM115

    def read():
        if not files:
            files.append(open(tmp_path / "x.raw", "rb"))
        files[0].seek(0)
        found = np.frombuffer(files[0].read(), dtype=x.dtype)
        files[0].seek(7)
        return make_data() | {"data": (found.reshape(x.shape), y)}

    alone = lrrt.audit(make_model, make_data, workers=1, **OPTIONS)
    assert lrrt.audit(make_model, read, workers=2, **OPTIONS).to_dict() == alone.to_dict()
    assert "cannot be sent to workers" in capsys.readouterr().err
    files[0].close()


@pytest.mark.slow(2)
def test_a_copy_that_is_stuck_is_not_waited_for(functions, capsys, monkeypatch):
    monkeypatch.setattr(workers, "_copies", lambda: True)
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    make_model, make_data = functions
    here = os.getpid()

    def stuck():
        if os.getpid() != here:
            time.sleep(100)
        return make_data()

    begun = time.monotonic()
    alone = lrrt.audit(make_model, make_data, workers=1, **OPTIONS)
    assert lrrt.audit(make_model, stuck, workers=2, **OPTIONS).to_dict() == alone.to_dict()
    assert time.monotonic() - begun < 60
    assert capsys.readouterr().err == "audit: on one core, since a worker process does not answer\n"


@pytest.mark.slow(1)
def test_what_cannot_be_sent_is_told_and_runs_here(functions, capsys, started):
    make_model, make_data = functions
    lock = threading.Lock()

    def locked():
        with lock:
            return make_data()

    alone = lrrt.audit(make_model, make_data, workers=1, **OPTIONS)
    assert lrrt.audit(make_model, locked, workers=2, **OPTIONS).to_dict() == alone.to_dict()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "cannot be sent" in told and "lock" in told
    large = np.zeros(workers.MOST_SENT // 8 + 1)
    assert lrrt.audit(make_model, lambda: [make_data(), large][0], workers=2, **OPTIONS)
    assert "they hold 64 MiB" in capsys.readouterr().err


@pytest.mark.slow(3)
def test_a_worker_that_computes_something_else_is_not_trusted(functions, capsys, started):
    make_model, make_data = functions
    import user_module

    def scaled():
        found = make_data()
        x, y = found["data"]
        return found | {"data": (x * user_module.scale, y)}

    user_module.scale = 3.0  # set here, unknown to a worker that imports the module anew
    (found,) = {lrrt.audit(make_model, scaled, workers=1, **OPTIONS)}
    user_module.__file__ and open("user_module.py", "a").write("\nscale = 1.0\n")
    assert lrrt.audit(make_model, scaled, workers=2, **OPTIONS).to_dict() == found.to_dict()
    assert "the first loss differs" in capsys.readouterr().err


@pytest.mark.slow(4)
@pytest.mark.parametrize("fault", ["raise ValueError('of run 3')", "raise Odd('of run 3', 'b')"])
def test_what_fails_in_a_worker_is_said_and_the_rest_kept(user, fault, kind):  # noqa: F811
    (user / "failing.py").write_text(
        textwrap.dedent(f"""
        from user_module import make_data, make_model as made

        class Odd(Exception):
            def __init__(self, one, two):
                super().__init__(one)

        def make_model(seed):
            if seed == 3:
                {fault}
            return made()
    """)
    )
    sys.path.insert(0, "")
    from failing import make_data, make_model

    with pytest.raises(Exception, match="of run 3") as caught:
        lrrt.audit(make_model, make_data, workers=2, save="some.json", runs=8, steps=20)
    assert any(note.startswith("finished: range tests ") for note in caught.value.__notes__)
    found = lrrt.Audit.load("some.json")
    assert set(found.weights_seeds) < set(range(8)) and 3 not in found.weights_seeds
    assert lrrt.audit(make_model, make_data, workers=2, runs=2, steps=20)  # the pool lives on


def test_by_default_workers_are_there_where_they_save_time(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert processes(None, 0.01, 39) == 1 and processes(None, 10.0, 39) == 4
    assert processes(None, 0.05, 39) == 1 and processes(None, 0.05, 39, copies=True) == 4
    assert processes(None, 10.0, 1) == 1 and processes(3, 0.01, 1) == 2
    monkeypatch.setattr(workers, "_on_gpu", lambda: True)
    assert processes(None, 10.0, 39) == 1


@pytest.mark.slow(1)
@pytest.mark.parametrize("count", [None, 3])
def test_a_daemonic_process_has_no_workers(functions, capsys, monkeypatch, kind, count):
    """As in a ``multiprocessing.Pool``, whose processes may have no children."""
    alone = lrrt.audit(*functions, workers=1, **OPTIONS)
    monkeypatch.setattr(workers, "START_COPY", 0.0)
    monkeypatch.setattr(workers, "START", {})
    monkeypatch.setitem(workers.multiprocessing.current_process()._config, "daemon", True)
    assert lrrt.audit(*functions, workers=count, **OPTIONS).to_dict() == alone.to_dict()
    line = "audit: on one core, since a daemonic process can start no others\n"
    assert capsys.readouterr().err == (line if count else "")


@pytest.mark.slow(1)
def test_audits_in_two_threads_follow_one_another(functions):
    """They seed the process's generators."""
    alone = lrrt.audit(*functions, workers=1, **OPTIONS).to_dict()
    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(lrrt.audit, *functions, workers=1, **OPTIONS) for _ in range(2)]
        assert [audit.result().to_dict() for audit in started] == [alone, alone]


def test_bad_arguments(functions):
    with pytest.raises(lrrt.InputError, match="workers: .*at least 1.*got 0"):
        lrrt.audit(*functions, workers=0)
    with pytest.raises(lrrt.InputError, match="schedule: .*one_cycle.*both.*got 'cosine'"):
        lrrt.audit(*functions, schedule="cosine")
    with pytest.raises(lrrt.InputError, match="progress: expected True, False or None, got 'x'"):
        lrrt.audit(*functions, progress="x")
    for key in ("runs", "train_steps"):
        with pytest.raises(
            lrrt.InputError, match=f"{key}: expected at most 10,000,000, got 10{{12}}"
        ):
            lrrt.audit(*functions, **{key: 10**12})


def test_one_cycle_is_tried_beside_a_constant_rate(functions):
    found = lrrt.audit(*functions, schedule="both", workers=1, **OPTIONS)
    assert [t.schedule for t in found.trials[:6]] == ["constant"] * 3 + ["one_cycle"] * 3
    assert [t.factor for t in found.trials[:6]] == [0.1, 1.0, 10.0] * 2
    assert len(found.recommendations) == 2 and len(found.trials) == 24
    losses = [t.loss for t in found.trials]
    assert losses[2] != losses[5]  # at ten times the suggestion
    assert lrrt.Audit.from_dict(found.to_dict()).to_dict() == found.to_dict()


@pytest.mark.slow(20)
@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGTERM, 0.0), *((signal.SIGINT, 0.05 * more) for more in range(3))],
)
def test_workers_end_with_an_audit_that_is_stopped(user, number, after):  # noqa: F811
    """Also while they start, and without a traceback of their own."""
    command = ["audit", "user_module:make_model", "--workers", "2", "--runs", "500"]
    audit = subprocess.Popen(
        [sys.executable, "-m", "lrrt", *command, "--save", "a.json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that a shell runs in the background have it ignored, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (user / "a.json").exists() and audit.poll() is None:
        time.sleep(0.01)
    time.sleep(after)
    # A terminal sends Ctrl-C to all of them.
    (os.killpg if number == signal.SIGINT else os.kill)(audit.pid, number)
    try:
        told = audit.communicate(timeout=60)[1]  # ends when no process has its standard error
    finally:
        audit.kill()
    assert "Traceback" not in told and lrrt.Audit.load("a.json").curves
    if number == signal.SIGINT:
        assert audit.returncode == 130 and told.splitlines()[1].endswith("; kept in a.json")
    else:
        assert audit.returncode == -number
