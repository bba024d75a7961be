"""Ray and Slurm give what worker processes on this machine give, to the bit, and fail alike.

A small fake backend stands in for the frameworks; what it is to do lies in files in its folder,
since a cluster's workers do not have this process's environment.
"""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import lrrt.backends
from lrrt import plugins
from lrrt.config import LauncherSection
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.datasets import Dataset, open_dataset, save
from lrrt.errors import InputError
from lrrt.runs.execute import execute
from lrrt.runs.launchers import _common, _idle, local
from lrrt.runs.launchers import ray as ray_launcher
from lrrt.runs.launchers import submitit as submitit_launcher
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store

FAKE = """
import os, pathlib, signal, time
import numpy as np
from lrrt.backends import Step

FOLDER = pathlib.Path(__file__).parents[1]

def knob(name, default="0"):
    file = FOLDER / name
    return file.read_text() if file.exists() else default

class Network:
    def __init__(self, weights):
        self.weights = weights
        self.w = np.float64(sum(float(array.sum()) for array in weights.values()) % 1.0)
    def step(self, images, labels, lr):
        time.sleep(float(knob("sleep")))
        gradient = 2 * (self.w - images.mean(dtype=np.float64))
        self.w = self.w - min(lr, 0.1) * gradient
        return Step(float(gradient**2 + 0.01 * labels.mean()), 0.0, float(abs(gradient)))
    def export(self):
        return self.weights

def build(nodes, protocol, weights, *, precision, threads, device):
    names = ("OMP_NUM_THREADS", "MALLOC_MMAP_MAX_", "LRRT_WORKER")
    started = dict(
        entry.split("=", 1) for entry in open("/proc/self/environ").read().split("\\0") if entry
    )
    with (FOLDER / "log").open("a") as file:
        file.write(" ".join([str(os.getpid()), *(started.get(n, "-") for n in names)]) + "\\n")
    if knob("raise") == str(protocol.momentum):
        raise RuntimeError("no\\nmemory")
    if len((FOLDER / "log").read_text().splitlines()) <= int(knob("deaths")):
        os.kill(os.getpid(), signal.SIGKILL)
    return Network(weights)

def versions():
    return {"fake": "1"}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the fake backends lie, found by every process that is started meanwhile."""
    folder = tmp_path_factory.mktemp("fakes")
    (folder / "backends").mkdir()
    for name in ("fake", "other"):
        (folder / "backends" / f"{name}.py").write_text(FAKE)
    # Each process of Ray imports jsonschema, which with Jupyter's extras compiles a grammar for
    # seconds that nobody needs; on a busy machine Ray then gives up on its own agents.
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.modules['rfc3987_syntax'] = None\n"
        f"import lrrt.backends\nlrrt.backends.__path__.append({str(folder / 'backends')!r})\n"
    )
    source = str(Path(lrrt.__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        paths = [lrrt.backends.__path__[0], str(folder / "backends")]
        patch.setattr(lrrt.backends, "__path__", paths)
        inherited = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), source, inherited]))
        yield folder
    for name in ("fake", "other"):
        sys.modules.pop(f"lrrt.backends.{name}", None)


@pytest.fixture(autouse=True)
def fresh(folder):
    for name in ("log", "sleep", "raise", "deaths"):
        (folder / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def dataset_path(tmp_path_factory):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (260, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 260)
    pixels = images[:220] / 255
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    path = tmp_path_factory.mktemp("data") / "dataset.safetensors"
    splits = (images[:220], labels[:220], images[220:], labels[220:])
    save(Dataset(*splits, mean, std, tuple("0123456789"), "random"), path)
    return path


@pytest.fixture(scope="module")
def dataset(dataset_path):
    return open_dataset(dataset_path)


def specs_of(dataset, count: int, **changes) -> list[RunSpec]:
    protocol = Protocol(ramp=Ramp(start=1e-4, end=10.0, steps=12))
    values = dict(
        kind="range_test",
        backend="fake",
        protocol=protocol,
        batch_size=16,
        steps=12,
        model=resnet.Model(depth=8, width=8),
        data_digest=dataset.digest,
    )
    values |= changes
    return [RunSpec(weights_seed=i, order_seed=i, **values) for i in range(count)]


@pytest.fixture(scope="module")
def ray_cluster(folder):
    """A Ray cluster of one machine, this one, with two workers; it runs beforehand."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        memory = 80 * 2**20
        head = dict(num_cpus=2, object_store_memory=memory, include_dashboard=False)
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture(params=["ray", "submitit"])
def launch(request):
    """``launch(specs, dataset_path, store)`` on each kind of cluster."""
    if request.param == "ray":
        options = {"address": request.getfixturevalue("ray_cluster")}
        module = ray_launcher
    else:
        pytest.importorskip("submitit")
        options = {"cluster": "local", "parameters": {"timeout_min": 5}}
        module = submitit_launcher
    launcher = LauncherSection(name=request.param, workers=2, options=options)
    return lambda specs, path, store: module.run(specs, path, store, launcher)


def logged(folder: Path) -> list[list[str]]:
    log = folder / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def same_bits(store: Store, specs: list[RunSpec], dataset) -> bool:
    for spec in specs:
        kept, expected = store.get(spec.key).arrays, execute(spec, dataset).arrays
        if any(kept[name].tobytes() != expected[name].tobytes() for name in expected):
            return False
    return True


def test_cluster_does_what_is_missing_with_the_same_bits(
    launch, dataset, dataset_path, tmp_path, folder
):
    specs = [*specs_of(dataset, 3), *specs_of(dataset, 2, backend="other")]
    store = Store(tmp_path / "store")
    store.put(specs[1], execute(specs[1], dataset))
    (folder / "log").unlink()
    launch(specs, dataset_path, store)
    lines = logged(folder)
    assert len(lines) == 4
    # Each worker began with one thread, its allocator set, and served one backend.
    assert {(threads, mmap) for _, threads, mmap, _ in lines} == {("1", "0")}
    served = {}
    for process, _, _, worker in lines:
        assert served.setdefault(process, worker) == worker
    assert set(served.values()) == {"fake-cpu", "other-cpu"}
    assert same_bits(store, specs, dataset)
    (folder / "log").unlink()
    launch(specs, dataset_path, store)
    assert not logged(folder)
    assert not (tmp_path / "jobs").exists()


def test_local_gives_them_too(dataset, dataset_path, tmp_path):
    specs = specs_of(dataset, 2)
    local.run(specs, dataset_path, Store(tmp_path), LauncherSection(workers=2))
    assert same_bits(Store(tmp_path), specs, dataset)


def test_worker_killed_during_the_sweep_is_made_good(
    launch, dataset, dataset_path, tmp_path, folder
):
    specs, store = specs_of(dataset, 4), Store(tmp_path / "store")
    (folder / "sleep").write_text("0.1")
    killed = []

    def kill_one():
        deadline = time.monotonic() + 60
        while not logged(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.append(int(logged(folder)[0][0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    launch(specs, dataset_path, store)
    killer.join()
    lines = logged(folder)
    assert len(lines) == 5 and killed[0] == int(lines[0][0])
    (folder / "sleep").unlink()
    assert same_bits(store, specs, dataset)


def test_run_that_kills_each_worker_is_given_up(
    launch, dataset, dataset_path, tmp_path, folder, capsys
):
    (spec,), store = specs_of(dataset, 1), Store(tmp_path / "store")
    (folder / "deaths").write_text("9")
    with pytest.raises(SystemExit, match=f"1 of 1 runs failed: {spec.key[:12]}"):
        launch([spec], dataset_path, store)
    assert len(logged(folder)) == 3
    line = f"run {spec.key[:12]} failed: its worker died 3 times"
    assert line in capsys.readouterr().err


def test_failing_run_is_one_line_and_others_go_on(
    launch, dataset, dataset_path, tmp_path, folder, capsys
):
    first, second = specs_of(dataset, 2)
    protocol = dataclasses.replace(first.protocol, momentum=0.123)
    first, store = dataclasses.replace(first, protocol=protocol), Store(tmp_path / "store")
    (folder / "raise").write_text("0.123")
    with pytest.raises(SystemExit, match="1 of 2 runs failed"):
        launch([first, second], dataset_path, store)
    lines = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert len(lines) == 1 and first.key[:12] in lines[0] and "RuntimeError: no memory" in lines[0]
    assert store.has(second.key) and not store.has(first.key)


SCRIPT = """
import sys
from lrrt.config import LauncherSection
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.runs.launchers import ray, submitit
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store
if __name__ == "__main__":
    dataset, store, digest, name, address = sys.argv[1:]
    protocol = Protocol(ramp=Ramp(start=1e-4, end=10.0, steps=12))
    specs = [RunSpec("range_test", "fake", protocol, resnet.Model(depth=8, width=8), digest,
                     i, i, 16, 12) for i in range(6)]
    options = {"address": address} if name == "ray" else {"cluster": "local"}
    launcher = LauncherSection(name=name, workers=2, options=options)
    {"ray": ray, "submitit": submitit}[name].run(specs, dataset, Store(store), launcher)
"""


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("name", "number", "status"),
    [("ray", signal.SIGTERM, 143), ("ray", signal.SIGKILL, -9), ("submitit", signal.SIGINT, 130)],
)
def test_stopped_sweep_ends_its_runs_and_keeps_results(
    request, dataset, dataset_path, tmp_path, folder, name, number, status
):
    pytest.importorskip(name)
    address = request.getfixturevalue("ray_cluster") if name == "ray" else ""
    script, store = tmp_path / "script.py", Store(tmp_path / "store")
    script.write_text(SCRIPT)
    (folder / "sleep").write_text("0.1")
    arguments = [dataset_path, store.path, dataset.digest, name, address]
    process = subprocess.Popen(
        [sys.executable, script, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    specs = specs_of(dataset, 6)
    deadline = time.monotonic() + 90
    while not any(store.file(s.key).exists() for s in specs) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == status
    deadline = time.monotonic() + 20
    workers = {int(line[0]) for line in logged(folder)}
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if name == "submitit" or number == signal.SIGKILL:
        assert not any(map(alive, workers))
    kept = sum(store.has(spec.key) for spec in specs)
    assert 1 <= kept < 6
    if number != signal.SIGKILL:
        # A run may end between the count and the cancelling.
        # (submitit's processes on this machine add a traceback when they are cancelled.)
        assert name == "submitit" or error.count("\n") == 1, error
        assert 1 <= int(re.search(r"(\d) of 6 runs are kept", error)[1]) <= kept


# --- workers that wait for the next stage

# What DVC is to stages, of which each runs a range test on either backend.
COMMAND = """
import os, subprocess, sys
for number in range(3):
    stage = {**os.environ, "DVC_STAGE": f"stage{number}"}
    process = subprocess.Popen([sys.executable, *sys.argv[1:], str(number)], env=stage)
    print(process.pid, flush=True)
    if process.wait():
        break
print(f"ended: {process.returncode}", flush=True)
sys.stdin.read()
"""

STAGE = """
import sys
from lrrt.config import LauncherSection
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.runs.launchers import _idle, local
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

dataset, store, digest, change, number = sys.argv[1:]
if change == "large workers":  # in the workers, too
    _idle.LARGEST = 0
if change == "code" and number == "2":
    sys.path.append("elsewhere")
if __name__ == "__main__":
    protocol = Protocol(ramp=Ramp(start=1e-4, end=10.0, steps=12))
    specs = [RunSpec("range_test", backend, protocol, resnet.Model(depth=8, width=8), digest,
                     int(number), int(number), 16, 12) for backend in ("fake", "other")]
    local.run(specs, dataset, Store(store), LauncherSection(workers=1))
"""


@pytest.fixture
def command(dataset, dataset_path, tmp_path):
    """``command(change)``: the process of :data:`COMMAND`, its stages begun."""
    (tmp_path / "stage.py").write_text(STAGE)
    arguments = [tmp_path / "stage.py", dataset_path, tmp_path / "store", dataset.digest]
    started = []

    def start(change=""):
        line = [sys.executable, "-c", COMMAND, *map(str, arguments), change]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(line, **pipes, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_within(seconds: float, processes: set[int]) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, processes))


waiting = pytest.mark.skipif(
    not (hasattr(os, "pidfd_open") and Path("/proc/net/unix").exists()),
    reason="needs processes that can be watched",
)


@waiting
@pytest.mark.parametrize("killed", [False, True])
def test_stages_of_a_command_share_workers_that_end_with_it(
    command, dataset, tmp_path, folder, killed
):
    process = command()
    assert [process.stdout.readline() for _ in range(4)][-1] == "ended: 0\n"
    workers = {
        worker: [int(line[0]) for line in logged(folder) if line[3] == worker]
        for worker in ("fake-cpu", "other-cpu")
    }
    assert all(len(ids) == 3 and len(set(ids)) == 1 for ids in workers.values())
    pair = {ids[0] for ids in workers.values()}
    assert len(pair) == 2 and all(map(alive, pair))
    specs = [*specs_of(dataset, 3), *specs_of(dataset, 3, backend="other")]
    assert same_bits(Store(tmp_path / "store"), specs, dataset)
    if killed:
        process.kill()
    assert process.communicate(timeout=10) == ("", "")
    assert end_within(3, pair)


@waiting
@pytest.mark.parametrize(("change", "count"), [("code", 4), ("large workers", 6)])
def test_worker_of_other_code_and_a_large_one_do_not_wait(command, folder, change, count):
    process = command(change)
    assert [process.stdout.readline() for _ in range(4)][-1] == "ended: 0\n"
    ids = [int(line[0]) for line in logged(folder)]
    assert len(ids) == 6 and len(set(ids)) == count
    assert end_within(3, set(ids) - set(ids[4:] if change == "code" else ()))


@waiting
def test_interrupted_stage_leaves_no_worker(command, folder):
    process = command()
    while len(logged(folder)) < 2:
        time.sleep(0.02)
    process.stdout.readline()
    (folder / "sleep").write_text("1")
    while len(logged(folder)) < 3:
        time.sleep(0.02)
    ids = {int(line[0]) for line in logged(folder)}
    assert len(ids) == 2 and all(map(alive, ids))
    os.kill(int(process.stdout.readline()), signal.SIGINT)
    assert process.stdout.readline() == "ended: 130\n"
    assert end_within(3, ids)


def test_outside_a_command_no_worker_waits(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert _idle.enclosing_command() is None


# --- without a cluster


def test_bad_options_are_named(dataset, dataset_path, tmp_path):
    cases = [
        ("local", {"address": "x"}, "options.address"),
        ("ray", {"adress": "x"}, "options.adress"),
        ("submitit", {"cluster": "pbs"}, "options.cluster"),
        ("submitit", {"runs_per_job": 0}, "options.runs_per_job"),
        ("submitit", {"runs_per_job": True}, "options.runs_per_job"),
        ("submitit", {"parameters": 3}, "options.parameters"),
    ]
    for name, options, key in cases:
        with pytest.raises(InputError, match=key):
            plugins.find("lrrt.runs.launchers", name, "launcher.name").validate(
                LauncherSection(name=name, options=options)
            )
    pytest.importorskip("submitit")
    launcher = LauncherSection(
        name="submitit", options={"cluster": "local", "parameters": {"no_such": 1}}
    )
    with pytest.raises(InputError, match="no_such"):
        submitit_launcher.run(specs_of(dataset, 1), dataset_path, Store(tmp_path), launcher)


def test_no_cluster_is_one_line(dataset, dataset_path, tmp_path):
    pytest.importorskip("ray")
    launcher = LauncherSection(name="ray", options={"address": "127.0.0.1:1"})
    with pytest.raises(InputError, match="options.address"):
        ray_launcher.run(specs_of(dataset, 1), dataset_path, Store(tmp_path), launcher)


@pytest.mark.parametrize("module", [ray_launcher, submitit_launcher])
def test_missing_package_is_named_and_nothing_missing_needs_none(
    module, dataset, dataset_path, tmp_path, monkeypatch
):
    name = module.__name__.rsplit(".", 1)[1]
    monkeypatch.setitem(sys.modules, name, None)
    launcher, (spec,) = LauncherSection(name=name), specs_of(dataset, 1)
    store = Store(tmp_path)
    with pytest.raises(InputError, match="cluster"):
        module.run([spec], dataset_path, store, launcher)
    store.put(spec, Result({"loss": np.zeros(1)}, {}))
    module.run([spec], dataset_path, store, launcher)


def test_gpus_are_shared_out(monkeypatch, dataset, dataset_path, tmp_path):
    for listed, visible in (
        ("0,-1,1", ["0"]),
        (" 0, 1", ["0", "1"]),
        ("", []),
        ("3,5", ["3", "5"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert local.visible_gpus() == visible
    started = []

    def no_start(purpose, gpu, command):
        started.append(gpu)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_start", no_start)
    (spec,) = specs_of(dataset, 1, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        local.run([spec], dataset_path, Store(tmp_path), LauncherSection(device="cuda"))
    assert started == ["3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(InputError, match="launcher.device"):
        local.run([spec], dataset_path, Store(tmp_path), LauncherSection(device="cuda"))


def test_more_workers_than_gpus_take_turns(monkeypatch, dataset, dataset_path, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    started = []

    def started_on(purpose, gpu, command):
        started.append(gpu)
        if len(started) == 4:
            raise KeyboardInterrupt
        return local._Worker(Mock(), 0, Mock(), purpose, gpu)

    monkeypatch.setattr(local, "_start", started_on)
    launcher = LauncherSection(device="cuda", workers=4)
    with pytest.raises(KeyboardInterrupt):
        local.run(specs_of(dataset, 5, device="cuda"), dataset_path, Store(tmp_path), launcher)
    assert started == ["3", "5", "3", "5"]


def test_workers_of_the_cpu_work_beside_those_of_a_gpu(
    monkeypatch, dataset, dataset_path, tmp_path
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    started = []

    def started_on(purpose, gpu, command):
        started.append((purpose[1], gpu))
        if len(started) == 3:
            raise KeyboardInterrupt
        return local._Worker(Mock(), 0, Mock(), purpose, gpu)

    monkeypatch.setattr(local, "_start", started_on)
    monkeypatch.setattr(local, "usable_cores", lambda: 2)
    specs = specs_of(dataset, 4) + specs_of(dataset, 4, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        local.run(specs, dataset_path, Store(tmp_path), LauncherSection())
    assert sorted(started, key=str) == [("cpu", None), ("cpu", None), ("cuda", "3")]


def test_worker_variables_hide_gpus_from_cpu_runs_only():
    assert _common.worker_variables("torch", "cpu", 2)["CUDA_VISIBLE_DEVICES"] == "-1"
    assert "CUDA_VISIBLE_DEVICES" not in _common.worker_variables("torch", "cuda", 2)
