"""Runs: execution, workers, tables. A small fake backend stands in for the frameworks; worker
processes find it through ``sitecustomize`` on PYTHONPATH."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import write_params

import lrrt.backends
import lrrt.core.batches
from lrrt.analysis.suggestions import CURVE_TYPES
from lrrt.config import LauncherSection, from_mapping
from lrrt.core.networks import mlp, resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.datasets import Dataset, open_dataset, save
from lrrt.errors import InputError
from lrrt.experiments.sweep.tables import curve_table
from lrrt.runs.execute import execute
from lrrt.runs.launchers import local
from lrrt.runs.policies import one_cycle
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store

# One number w, drawn by the seed; loss (w - mean(images))^2 + 0.01 mean(labels).
FAKE = """
import os, pathlib, signal, time
import numpy as np
from lrrt.backends import Step

class Network:
    def __init__(self, weights):
        self.weights = weights
        self.w = np.float64(sum(float(array.sum()) for array in weights.values()) % 1.0)
    def loss(self, images, labels):
        return (self.w - images.mean(dtype=np.float64)) ** 2 + 0.01 * labels.mean()
    def step(self, images, labels, lr):
        if "FAKE_SLEEP" in os.environ:
            time.sleep(float(os.environ["FAKE_SLEEP"]))
        with np.errstate(all="ignore"):
            loss, gradient = self.loss(images, labels), 2 * (self.w - images.mean())
            self.w = self.w - lr * gradient
            return Step(float(loss), 0.0, float(abs(gradient)))
    def evaluate(self, images, labels, statistics="running"):
        with np.errstate(all="ignore"):
            return float(self.loss(images, labels)), {"running": 0.5, "batch": 0.25}[statistics]
    def export(self):
        return {name: FACTOR * array for name, array in self.weights.items()}
    def state(self):
        return {"a.w": np.array(self.w)}
    def restore(self, state):
        self.w = np.float64(state["a.w"].item())

def build(nodes, protocol, weights, *, precision, threads, device):
    log = pathlib.Path(os.environ["FAKE_LOG"])
    with log.open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\\n")
    if os.environ.get("FAKE_RAISE") == str(protocol.momentum):
        raise RuntimeError("no\\nmemory")
    deaths = int(os.environ.get("FAKE_DEATHS", 0))
    if len(log.read_text().splitlines()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return Network(weights)

def versions():
    return {"fake": "1"}
"""


@pytest.fixture(scope="module")
def fakes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fakes")
    (folder / "backends").mkdir()
    (folder / "backends" / "fake.py").write_text(FAKE.replace("FACTOR", "1"))
    (folder / "backends" / "doubling.py").write_text(FAKE.replace("FACTOR", "2"))
    (folder / "sitecustomize.py").write_text(
        f"import lrrt.backends\nlrrt.backends.__path__.append({str(folder / 'backends')!r})\n"
    )
    yield folder
    for name in ("fake", "doubling"):
        sys.modules.pop(f"lrrt.backends.{name}", None)


@pytest.fixture(autouse=True)
def fake_log(fakes, tmp_path, monkeypatch):
    """The file that has a line for each network built, in whatever process."""
    source = str(Path(lrrt.__file__).parents[1])
    paths = [lrrt.backends.__path__[0], str(fakes / "backends")]
    monkeypatch.setattr(lrrt.backends, "__path__", paths)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fakes), source]))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture(scope="module")
def dataset_path(tmp_path_factory):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (260, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 260)
    scaled = images[:220] / 255
    dataset = Dataset(
        images[:220],
        labels[:220],
        images[220:],
        labels[220:],
        scaled.mean(axis=(0, 1, 2)),
        scaled.std(axis=(0, 1, 2)),
        tuple("0123456789"),
        "random",
    )
    path = tmp_path_factory.mktemp("data") / "dataset.safetensors"
    save(dataset, path)
    return path


@pytest.fixture(scope="module")
def dataset(dataset_path):
    return open_dataset(dataset_path)


@pytest.fixture
def spec(dataset):
    return make_spec(dataset.digest)


def make_spec(digest="0" * 64, **changes) -> RunSpec:
    values = dict(
        kind="range_test",
        backend="fake",
        protocol=Protocol(ramp=Ramp(start=1e-4, end=10.0, steps=12)),
        model=resnet.Model(depth=8, width=8),
        data_digest=digest,
        weights_seed=0,
        order_seed=0,
        batch_size=16,
        steps=12,
    )
    return RunSpec(**{**values, **changes})


RESULT = Result({"lr": np.array([0.1, 0.2]), "loss": np.array([2.0, np.nan])}, {"versions": {}})


# --- execution


def test_range_test(dataset, spec):
    arrays = execute(spec, dataset).arrays
    assert list(arrays) == ["lr", "loss", "penalty", "grad_norm"]
    assert all(a.shape == (12,) and a.dtype == np.float64 for a in arrays.values())
    assert arrays["lr"][0] == pytest.approx(1e-4) and arrays["lr"][-1] == pytest.approx(10)
    validated = execute(dataclasses.replace(spec, validation="running"), dataset).arrays
    assert all(np.array_equal(arrays[name], validated[name]) for name in arrays)
    assert np.unique(validated["val_loss"]).size > 1 and (validated["val_accuracy"] == 0.5).all()
    by_batch = execute(dataclasses.replace(spec, validation="batch"), dataset).arrays
    assert (by_batch["val_accuracy"] == 0.25).all()


def test_range_test_goes_on_past_overflow(dataset):
    protocol = Protocol(ramp=Ramp(start=1.0, end=1e200, steps=12))
    loss = execute(make_spec(dataset.digest, protocol=protocol), dataset).arrays["loss"]
    assert np.isfinite(loss[0]) and not np.isfinite(loss[-1]) and loss.shape == (12,)


def test_training(dataset):
    spec = make_spec(dataset.digest, kind="training", lr=0.1, epochs=3, steps=4, policy="one_cycle")
    result = execute(spec, dataset)
    assert list(result.arrays) == [
        "epoch",
        "lr",
        "train_loss",
        "train_eval_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
    ]
    assert result.arrays["epoch"].tolist() == [1, 2, 3]
    assert result.arrays["lr"].tolist() == one_cycle.lrs(0.1, 12)[[3, 7, 11]].tolist()
    accuracies = np.concatenate([result.arrays[f"{split}_accuracy"] for split in ("train", "val")])
    assert (accuracies == 0.5).all()  # with batch norm's running statistics
    assert np.isfinite(np.array(list(result.arrays.values()))).all()
    assert result.record["stopped_at_step"] is None
    assert {"python", "numpy", "lrrt", "fake"} <= result.record["versions"].keys()


def test_peak_loss_is_the_largest_of_a_step(dataset):
    # At LR 1 the fake's w swings about the mean for ever: the labels tell the losses apart.
    spec = make_spec(dataset.digest, kind="training", lr=1.0, epochs=12, steps=1)
    result = execute(spec, dataset)
    losses = result.arrays["train_loss"].tolist()
    assert result.record["peak_loss"] == max(losses) and max(losses) not in (losses[0], losses[-1])
    assert result.record["initial_loss"] == losses[0]


@pytest.mark.parametrize(("count", "kept"), [(220, 200), (2_500, 250), (20_500, 2_000)])
def test_training_loss_is_evaluated_on_the_first_tenth(count, kept, monkeypatch):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    labels, unit = random.integers(0, 10, count), np.ones(3)
    splits = (images, labels, images[:30], labels[:30])
    dataset = Dataset(*splits, unit, unit, tuple("0123456789"), "random")
    seen, feed = [], lrrt.runs.execute.Batches
    monkeypatch.setattr(
        feed, "evaluation", lambda *a, of=feed.evaluation: seen.append(a[1:]) or of(*a)
    )
    execute(make_spec(kind="training", lr=0.1, steps=1), dataset)
    assert [len(given) for given, _ in seen] == [kept, 30]
    assert np.array_equal(seen[0][0], images[:kept]) and np.array_equal(seen[0][1], labels[:kept])


def test_training_stops_at_a_non_finite_loss(dataset):
    # w grows by about 2e80 a step: its square overflows when w has passed 1e154, at step 2.
    spec = make_spec(dataset.digest, kind="training", lr=1e80, epochs=2, steps=2)
    result = execute(spec, dataset)
    assert result.record["stopped_at_step"] == 2
    assert np.isfinite(result.arrays["train_loss"][0])
    assert np.isnan(result.arrays["train_loss"][1]) and np.isnan(result.arrays["val_loss"][1])


class StoppedStore(Store):
    """Whose process ends once ``left`` results are there."""

    left = 2

    def put(self, spec, result):
        super().put(spec, result)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def without_seconds(result: Result) -> dict:
    return {**result.record, "seconds": None}


def test_training_goes_on_from_its_checkpoint(dataset, tmp_path, monkeypatch):
    spec = make_spec(dataset.digest, kind="training", lr=0.1, epochs=3, steps=4)
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, dataset, StoppedStore(store.checkpoints.path))
    assert len(store.checkpoints.get(spec.key).arrays["rows"]) == 2
    assert not store.has(spec.key)
    whole, plan = execute(spec, dataset), lrrt.core.batches.BatchPlan
    drawn = []
    monkeypatch.setattr(plan, "draws", lambda *a, of=plan.draws: drawn.append(a[1]) or of(*a))
    result = execute(spec, dataset, store.checkpoints)
    assert drawn == [8, 9, 10, 11]  # the third epoch's
    assert all(np.array_equal(result.arrays[name], whole.arrays[name]) for name in whole.arrays)
    assert without_seconds(result) == without_seconds(whole)
    store.put(spec, result)
    assert not store.checkpoints.has(spec.key)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == [f"{spec.key}.safetensors"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimiser_goes_on_from_its_checkpoint(dataset, tmp_path, optimizer):
    """Adam's count of updates is a single value, which has to come back as one."""
    pytest.importorskip("torch")
    protocol = dataclasses.replace(make_spec().protocol, optimizer=optimizer)
    changes = {"backend": "torch", "model": mlp.Model(width=8), "protocol": protocol}
    spec = make_spec(dataset.digest, kind="training", lr=0.01, epochs=3, steps=4, **changes)
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, dataset, StoppedStore(store.checkpoints.path))
    whole, resumed = execute(spec, dataset), execute(spec, dataset, store.checkpoints)
    assert all(np.array_equal(resumed.arrays[name], whole.arrays[name]) for name in whole.arrays)


def test_training_goes_on_without_a_checkpoint_that_cannot_be_written(
    dataset, dataset_path, tmp_path, capfd
):
    spec = make_spec(dataset.digest, kind="training", lr=0.1, epochs=3, steps=4)
    store = Store(tmp_path / "store")
    store.path.mkdir()
    store.checkpoints.path.symlink_to(tmp_path / "not mounted")
    local.run([spec], dataset_path, store, LauncherSection(workers=1))
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("checkpoint: ")
    assert f"File exists: '{store.checkpoints.file(spec.key)}'; the training goes on" in error
    result, whole = store.get(spec.key), execute(spec, dataset)
    assert all(np.array_equal(result.arrays[name], whole.arrays[name]) for name in whole.arrays)


class FullStore(Store):
    """On a disk with room for one result."""

    puts = 0

    def put(self, spec, result):
        self.puts += 1
        if self.puts > 1:
            raise OSError(28, "No space left on device", str(self.file(spec.key)))
        super().put(spec, result)


def test_after_a_checkpoint_that_cannot_be_written_no_other_is_tried(dataset, tmp_path, capsys):
    spec = make_spec(dataset.digest, kind="training", lr=0.1, epochs=4, steps=4)
    store = FullStore(tmp_path)
    result, whole = execute(spec, dataset, store), execute(spec, dataset)
    assert store.puts == 2 and len(store.get(spec.key).arrays["rows"]) == 1
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert all(np.array_equal(result.arrays[name], whole.arrays[name]) for name in whole.arrays)


def test_checkpoint_of_other_versions_counts_as_none(dataset, tmp_path, monkeypatch):
    spec = make_spec(dataset.digest, kind="training", lr=0.1, epochs=3, steps=4)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, dataset, StoppedStore(tmp_path))
    drawn, plan = [], lrrt.core.batches.BatchPlan
    monkeypatch.setattr(plan, "draws", lambda *a, of=plan.draws: drawn.append(a[1]) or of(*a))
    monkeypatch.setattr("lrrt.runs.training.__version__", "0.0")
    execute(spec, dataset, Store(tmp_path))
    assert drawn == list(range(12))


def test_weights_pass_through_the_other_backend(dataset, fake_log):
    own = make_spec(dataset.digest, kind="training", lr=0.1, steps=2)
    through = {
        name: execute(dataclasses.replace(own, weights_from=name), dataset).arrays["train_loss"]
        for name in ("fake", "doubling")
    }
    assert np.array_equal(through["fake"], execute(own, dataset).arrays["train_loss"])
    assert not np.array_equal(through["doubling"], through["fake"])
    assert len(fake_log.read_text().split("\n")[:-1]) == 5


# --- workers


def specs_of(dataset, count: int) -> list[RunSpec]:
    return [make_spec(dataset.digest, weights_seed=i, order_seed=i) for i in range(count)]


def builds(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_only_what_is_missing_runs_and_workers_do_not_matter(
    dataset, dataset_path, tmp_path, fake_log
):
    specs = specs_of(dataset, 3)
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    local.run(specs[:2], dataset_path, one, LauncherSection(workers=1))
    assert builds(fake_log) == 2
    local.run(specs, dataset_path, one, LauncherSection(workers=1))  # one more seed: one run
    assert builds(fake_log) == 3
    local.run(specs, dataset_path, one, LauncherSection(workers=1))
    assert builds(fake_log) == 3
    mixed = [*specs, dataclasses.replace(specs[0], backend="doubling")]
    local.run(mixed, dataset_path, two, LauncherSection(workers=2))
    lines = fake_log.read_text().splitlines()[3:]
    assert len(lines) == 4 and {line.split()[1] for line in lines} == {"1"}
    assert len({line.split()[0] for line in lines}) >= 2
    for spec in specs:
        first, second = one.get(spec.key).arrays, two.get(spec.key).arrays
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
        assert execute(spec, dataset).arrays["loss"].tobytes() == first["loss"].tobytes()


def test_nothing_missing_starts_nothing(dataset, dataset_path, tmp_path, monkeypatch):
    store, specs = Store(tmp_path), specs_of(dataset, 2)
    for spec in specs:
        store.put(spec, RESULT)
    monkeypatch.setattr(local, "_start", None)
    local.run(specs, dataset_path, store, LauncherSection())


def test_damaged_result_runs_again(dataset, dataset_path, tmp_path, fake_log, capsys):
    store, (spec,) = Store(tmp_path / "store"), specs_of(dataset, 1)
    store.put(spec, RESULT)
    store.file(spec.key).write_bytes(b"")
    local.run([spec], dataset_path, store, LauncherSection(workers=1))
    assert builds(fake_log) == 1 and store.get(spec.key).arrays["loss"].shape == (12,)


def test_killed_worker_is_replaced(dataset, dataset_path, tmp_path, fake_log, monkeypatch):
    store, (spec,) = Store(tmp_path / "store"), specs_of(dataset, 1)
    monkeypatch.setenv("FAKE_DEATHS", "2")
    local.run([spec], dataset_path, store, LauncherSection(workers=1))
    assert builds(fake_log) == 3 and store.has(spec.key)


def test_run_that_kills_each_worker_is_given_up(
    dataset, dataset_path, tmp_path, fake_log, monkeypatch, capsys
):
    store, (spec,) = Store(tmp_path / "store"), specs_of(dataset, 1)
    monkeypatch.setenv("FAKE_DEATHS", "9")
    with pytest.raises(SystemExit, match=f"1 of 1 runs failed: {spec.key[:12]}"):
        local.run([spec], dataset_path, store, LauncherSection(workers=1))
    assert builds(fake_log) == 3 and "exit code -9" in capsys.readouterr().err


def test_failing_run_is_one_line_and_others_go_on(
    dataset, dataset_path, tmp_path, monkeypatch, capsys
):
    store, (first, second) = Store(tmp_path / "store"), specs_of(dataset, 2)
    first = dataclasses.replace(first, protocol=dataclasses.replace(first.protocol, momentum=0.123))
    monkeypatch.setenv("FAKE_RAISE", "0.123")
    with pytest.raises(SystemExit, match="1 of 2 runs failed"):
        local.run([first, second], dataset_path, store, LauncherSection(workers=1))
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and first.key[:12] in error and "RuntimeError: no memory" in error
    assert store.has(second.key) and not store.has(first.key)


SCRIPT = """
import sys
from lrrt.config import LauncherSection
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.runs.launchers import local
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store
if __name__ == "__main__":
    protocol = Protocol(ramp=Ramp(start=1e-4, end=10.0, steps=12))
    specs = [RunSpec("range_test", "fake", protocol, resnet.Model(depth=8, width=8), sys.argv[3],
                     i, i, 16, 12) for i in range(6)]
    local.run(specs, sys.argv[1], Store(sys.argv[2]), LauncherSection(workers=2))
"""


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "number, status",
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGKILL, -9),
    ],
)
def test_signals_stop_all_and_keep_results(
    dataset, dataset_path, tmp_path, fake_log, number, status
):
    script, store = tmp_path / "script.py", Store(tmp_path / "store")
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, dataset_path, store.path, dataset.digest],
        env={**os.environ, "FAKE_SLEEP": "0.1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while builds(fake_log) < 3 and time.monotonic() < deadline:  # one is done by then
        time.sleep(0.05)
    started = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == status and time.monotonic() - started < 3
    workers = {int(line.split()[0]) for line in fake_log.read_text().splitlines()}
    while any(map(alive, workers)) and time.monotonic() - started < 3:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    kept = sum(store.has(spec.key) for spec in specs_of(dataset, 6))
    assert 1 <= kept < 6
    if number != signal.SIGKILL:
        assert error.count("\n") == 1 and f"{kept} of 6 runs are kept" in error


@pytest.mark.slow(6)
def test_torch_gives_the_same_bits_on_any_worker(dataset, dataset_path, tmp_path):
    pytest.importorskip("torch")
    specs = [
        make_spec(dataset.digest, backend="torch", weights_seed=i, validation=validation)
        for i in range(2)
        for validation in ("none", "running")
    ]
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    local.run(specs, dataset_path, one, LauncherSection(workers=1))
    local.run(specs, dataset_path, two, LauncherSection(workers=2))
    first, second = ([s.get(spec.key).arrays for spec in specs] for s in (one, two))
    for a, b in zip(first, second, strict=True):
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    for plain, validated in (first[:2], first[2:]):
        assert all(plain[name].tobytes() == validated[name].tobytes() for name in plain)
    assert first[0]["loss"].tobytes() != first[2]["loss"].tobytes()


# --- collecting


def test_curve_table(dataset, tmp_path):
    store, specs = Store(tmp_path), specs_of(dataset, 2)
    specs[1] = dataclasses.replace(specs[1], validation="running")
    names = {"protocol": "p", "sweep": "s"}
    with pytest.raises(InputError, match=specs[0].key[:12]):
        curve_table(specs, names, store)
    for spec in specs:
        store.put(spec, execute(spec, dataset))
    table, empty = curve_table(specs, names, store), curve_table([], names, store)
    assert list(table.columns) == list(CURVE_TYPES) and len(table) == 24 and len(empty) == 0
    assert table.dtypes.equals(empty.dtypes)
    assert table["run"].unique().tolist() == [spec.key[:12] for spec in specs]
    assert table["val_loss"].isna().tolist() == [True] * 12 + [False] * 12
    assert table["step"].tolist() == [*range(12)] * 2
    assert table.attrs["versions"][0]["fake"] == "1"


def test_stage(dataset, dataset_path, tmp_path, monkeypatch, fake_log):
    from lrrt.stages import experiment as stage

    monkeypatch.chdir(tmp_path)
    params = {
        "study": {"name": "t", "backends": ["fake"], "protocols": ["p"], "sweeps": ["weights"]},
        "data": {"train_images": 220, "test_images": 40},
        "model": {"depth": 8, "width": 8},
        "protocols": {"p": {"home": "fake"}},
        "sweep": {"batch_size": 20},
        "sweeps": {"weights": {"runs": 2, "batch_sizes": [20]}},
        "divergence": {"cases": [{"case": "fake-p"}]},
        "launcher": {"workers": 1},
    }
    write_params(from_mapping(params))
    with pytest.raises(SystemExit) as exit_:
        stage.main(["sweep"])
    assert exit_.value.code == 2
    Path("data/t").mkdir(parents=True)
    os.link(dataset_path, "data/t/dataset.safetensors")
    stage.main(["sweep"])
    written = Path("data/t/curves/fake-p-weights.parquet")
    first = written.read_bytes()
    table = pd.read_parquet(written)
    assert list(table.columns) == list(CURVE_TYPES) and table["step"].max() == 10
    written.unlink()
    stage.main(["sweep"])  # from the store, the same bytes
    assert builds(fake_log) == 2 and written.read_bytes() == first
