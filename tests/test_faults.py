"""Killed, out of disk, damaged, out of step: nothing is lost, and nothing wrong is used.

The study is that of :mod:`reliability.workplace`: tiny, with a backend that starts at once.
``python -m reliability`` does the same at length.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from reliability import kills, workplace  # noqa: E402

import lrrt.backends  # noqa: E402
from lrrt.analysis.suggestions import read_table  # noqa: E402
from lrrt.core.networks import resnet  # noqa: E402
from lrrt.core.protocol import Protocol  # noqa: E402
from lrrt.errors import one_line_errors  # noqa: E402
from lrrt.files import write_whole  # noqa: E402
from lrrt.repair_dvc import repair  # noqa: E402
from lrrt.report.build import write as write_report  # noqa: E402
from lrrt.runs.spec import RunSpec  # noqa: E402
from lrrt.runs.store import Result, Store  # noqa: E402
from lrrt.stages import experiment, suggest  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
COMMANDS = workplace.commands()
SEED = int(os.environ.get("KILLS_SEED", 0))  # of the moments at which stages are killed
SPEC = RunSpec("range_test", "linear", Protocol(), resnet.Model(), "0" * 64, 0, 0, 16, 30)
ARRAYS = {"lr": np.array([0.1, 0.2]), "loss": np.array([2.0, np.nan])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study but for its report, its outputs, and the seconds that each stage took."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    return folder, *kills.reference(folder, "linear", workplace.STAGES[:-1])


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study."""
    return shutil.copytree(finished[0], tmp_path / "study")


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "data" / "tiny" / "store").rglob("*.safetensors"))


def forget(folder: Path) -> None:
    """Take from a study its curves and all runs."""
    shutil.rmtree(folder / "data" / "tiny" / "curves")
    shutil.rmtree(folder / "data" / "tiny" / "store")


def started(stage: str, folder: Path, **variables: str) -> tuple[int, str]:
    """Status and standard error of a stage."""
    process = workplace.start(COMMANDS[stage], folder, **variables)
    error = process.communicate(timeout=120)[1]
    return process.returncode, error


# --- killed


@pytest.mark.slow(16)
def test_killed_at_random_moments_the_same_bits_come_out(finished, tmp_path, monkeypatch):
    _, expected, seconds = finished
    monkeypatch.setattr(kills, "reference", lambda *_: (expected, seconds))
    tally = kills.kill_stages("linear", 5, seed=SEED, per_stage=2, stages=workplace.STAGES[:-1])
    assert sum(tally.values()) - tally["studies"] == 5 and tally["studies"] >= 1


@pytest.mark.slow(1)
def test_an_output_that_differs_would_be_seen(finished, study):
    _, expected, _ = finished
    kills.check(study, expected, complete=True)
    table = study / "data/tiny/suggestions.parquet"
    content = table.read_bytes()
    table.write_bytes(content[:-1])
    with pytest.raises(kills.Wrong, match="suggestions.parquet is not"):
        kills.check(study, expected)
    table.unlink()
    kills.check(study, expected)
    with pytest.raises(kills.Wrong, match="are missing"):
        kills.check(study, expected, complete=True)
    (study / "data/tiny/.suggestions.parquet.0.tmp").write_bytes(b"half")
    with pytest.raises(kills.Wrong, match="tmp"):
        kills.check(study, expected, complete=True)


CRASHING = """
import itertools, os, signal, sys
from pathlib import Path
from lrrt.files import write_whole
path = Path("folder/file")
for last in itertools.count(1):
    for old in (None, b"old"):
        path.unlink(missing_ok=True)
        if old:
            write_whole(path, old)
        child = os.fork()
        if child == 0:
            count = 0
            def at(frame, event, argument):
                global count
                if event == "line" and frame.f_code.co_filename.endswith("files.py"):
                    count += 1
                    if count == last:
                        os.kill(os.getpid(), signal.SIGKILL)
                return at
            sys.settrace(at)
            write_whole(path, b"new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = path.read_bytes() if path.exists() else None
        assert found in (old, b"new"), (last, found)
        assert status in (0, -9) and (status == -9 or found == b"new")
        write_whole(path, b"again")
        assert os.listdir("folder") == ["file"], (last, os.listdir("folder"))
    if status == 0:
        print(last - 1)
        break
"""


def test_writing_can_be_killed_at_each_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CRASHING],
        cwd=tmp_path,
        env=workplace.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_a_writer_at_work_is_left_alone(tmp_path):
    """Two writers of one file: neither takes the other's for abandoned."""
    script = (
        "import sys, pathlib; from lrrt.files import write_whole\n"
        "for i in range(150): write_whole(pathlib.Path('file'), sys.argv[1].encode() * 50_000)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, letter], cwd=tmp_path) for letter in "abc"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "file").exists():
            content = (tmp_path / "file").read_bytes()
            assert len(content) == 50_000 and len(set(content)) == 1
            seen.add(content[:1])
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["file"] and len(seen) > 1


def test_what_a_killed_report_left_is_removed(tmp_path):
    (tmp_path / ".tiny.new-0" / "new" / "figures").mkdir(parents=True)
    (tmp_path / ".tiny.yaml").write_text("somebody's")
    write_report(tmp_path / "tiny", {"figures/a.svg": b"a"})
    assert sorted(os.listdir(tmp_path)) == [".tiny.yaml", "tiny"]


def test_a_report_that_is_interrupted_between_two_moves_keeps_the_old_one(tmp_path, monkeypatch):
    write_report(tmp_path / "tiny", {"claims.json": b"old"})
    move, seen = shutil.move, []

    def interrupted(source, target):
        seen.append(source)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return move(source, target)

    monkeypatch.setattr(shutil, "move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "tiny", {"claims.json": b"new"})
    assert (tmp_path / "tiny" / "claims.json").read_bytes() == b"old"


@pytest.mark.slow(3)
def test_stage_stops_at_once_and_says_what_is_kept(finished, study, tmp_path):
    forget(study)
    log = tmp_path / "log"
    process = workplace.start(COMMANDS["sweep"], study, LINEAR_SLEEP="0.03", LINEAR_LOG=str(log))
    while process.poll() is None and not (log.exists() and len(log.read_text().split()) > 2):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    error = process.communicate(timeout=20)[1]
    kept = len(entries(study))
    assert process.returncode == 130 and error.count("\n") == 1 and kept > 0
    assert f"{kept} of 6 runs are kept; the same command does the rest" in error
    assert not (study / "data/tiny/curves").exists()
    deadline = time.monotonic() + 20  # multiprocessing's tracker ends after its parent
    while workplace.tree(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workplace.run(COMMANDS["sweep"], study)
    kills.check(study, finished[1], complete=True)


def test_other_stages_stop_in_one_line(capsys):
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow(3)
def test_two_sweeps_at_once_on_one_store(finished, study):
    forget(study)
    both = [workplace.start(COMMANDS["sweep"], study, LINEAR_SLEEP="0.01") for _ in range(2)]
    assert [process.communicate(timeout=120)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    kills.check(study, finished[1], complete=True)


@pytest.mark.slow(2)
def test_clock_that_goes_backwards(finished, study):
    forget(study)
    for path in study.rglob("*"):
        os.utime(path, (2**33, 2**33))  # of the future
    for stage in ("sweep", "suggest"):
        workplace.run(COMMANDS[stage], study, CLOCK="backwards")
    kills.check(study, finished[1], complete=True)


# --- the disk


def in_namespace(script: str, folder: Path) -> str:
    """What a shell script prints that may mount: in a namespace of its own, gone afterwards."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    probe = "mount -t tmpfs -o size=64k none ."
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*unshare, "sh", "-ec", probe], cwd=folder, capture_output=True
        ).returncode
    ):
        pytest.skip("may not mount, even in a namespace of its own")
    done = subprocess.run(
        [*unshare, "sh", "-ec", textwrap.dedent(script)],
        cwd=folder,
        env=workplace.environment(python=sys.executable),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow(5)
def test_full_disk(finished, study):
    forget(study)
    said = in_namespace(
        """
        mkdir disk
        mount -t tmpfs -o size=4m none disk
        cp -r data params.yaml disk
        cd disk
        dd if=/dev/zero of=filler bs=4k 2>/dev/null || true
        truncate -s -12k filler   # room for some results
        status=0; $python -m lrrt.stages.experiment sweep 2>&1 || status=$?
        echo status $status
        find data -name '*.tmp' -o -name curves
        dd if=/dev/zero of=filler bs=4k 2>/dev/null || true
        status=0; $python -m lrrt.stages.data 2>&1 || status=$?
        echo status $status
        cmp data/tiny/dataset.safetensors ../data/tiny/dataset.safetensors
        rm filler
        $python -m lrrt.stages.experiment sweep
        cp -r data/tiny/curves ../data/tiny
        """,
        study,
    ).splitlines()
    assert len(said) == 4, said
    assert "No space left on device: 'data/tiny/store/" in said[0] and said[1] == "status 1"
    kept = int(said[0].split("; ")[1].split(" of 6 runs are kept")[0])
    assert 0 <= kept < 6
    assert said[2].startswith("error: [Errno 28] No space left on device: 'data/tiny/")
    assert said[3] == "status 1"
    shutil.rmtree(study / "disk")
    kills.check(study, finished[1], complete=True)


@pytest.mark.slow(3)
def test_read_only_store(finished, study):
    store = Store(study / "data/tiny/store")
    damaged, removed = entries(study)[0], entries(study)[-1]
    said = in_namespace(
        f"""
        mount --bind data/tiny/store data/tiny/store
        mount -o remount,bind,ro data/tiny/store
        rm -r data/tiny/curves
        $python -m lrrt.stages.experiment sweep   # nothing is missing
        umount data/tiny/store
        cp {damaged} keep
        : > {damaged}
        mount --bind data/tiny/store data/tiny/store
        mount -o remount,bind,ro data/tiny/store
        LINEAR_LOG=$PWD/log $python -m lrrt.stages.experiment transfer 2>&1 || echo status $?
        LINEAR_LOG=$PWD/log $python -m lrrt.stages.experiment sweep 2>&1 || echo status $?
        test ! -e log   # no run was begun that could not be kept
        umount data/tiny/store
        mv keep {damaged}
        """,
        study,
    ).splitlines()
    assert removed.exists() and store.has(damaged.stem)
    assert [line for line in said if "is damaged (it is empty) and stays" in line]
    assert "status 1" in said
    assert [line for line in said if line.startswith("error: ") and "Read-only" in line]
    kills.check(study, finished[1], complete=True)


def test_a_refusal_of_the_machine_is_one_line(capsys):
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EISDIR, errno.ENOTDIR):
        with pytest.raises(SystemExit) as caught, one_line_errors():
            raise OSError(number, os.strerror(number), "data/x")
        error = capsys.readouterr().err
        assert caught.value.code == 1 and error.count("\n") == 1 and "'data/x'" in error
    with pytest.raises(ConnectionError), one_line_errors():
        raise ConnectionError  # nobody foresaw that: with its trace


def test_a_failed_write_names_its_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*/file'"):
        write_whole(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == []


# --- damaged entries


def entry(store: Store) -> bytes:
    store.put(SPEC, Result(ARRAYS, {"versions": {}}))
    return store.file(SPEC.key).read_bytes()


def put_damaged(store: Store, content: bytes) -> Result | None:
    store.file(SPEC.key).parent.mkdir(parents=True, exist_ok=True)
    store.file(SPEC.key).write_bytes(content)
    return store.get(SPEC.key)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.data())
def test_no_mixture_of_bytes_is_read(tmp_path_factory, data):
    store = Store(tmp_path_factory.getbasetemp() / "fuzzed")
    sound = entry(store)
    cut = st.integers(0, len(sound))
    pieces = data.draw(
        st.lists(
            st.tuples(cut, cut).map(lambda ends: sound[slice(*sorted(ends))])
            | st.binary(max_size=9)
            | st.sampled_from([b"{" * 9000, b'{"a":' * 9000, b"\xff" * 8, b"[" * 20_000]),
            max_size=4,
        )
    )
    got = put_damaged(store, b"".join(pieces))
    assert got is None or all(
        got.arrays[name].tobytes() == array.tobytes() for name, array in ARRAYS.items()
    )


def test_headers_that_lie(tmp_path, capsys):
    store = Store(tmp_path)
    sound = entry(store)
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])

    def with_header(value: object) -> bytes:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return len(text).to_bytes(8, "little") + text + sound[8 + length :]

    for lie in (
        with_header([]),
        with_header({}),
        with_header({"__metadata__": 1}),
        with_header(None),
        with_header(header | {"__metadata__": {}}),
        with_header(header | {"__metadata__": header["__metadata__"] | {"format_version": [1]}}),
        with_header(header | {"lr": header["lr"] | {"shape": [2**62]}}),
        with_header(header | {"lr": header["lr"] | {"data_offsets": [0, 2**62]}}),
        with_header(header | {"lr": header["lr"] | {"dtype": "BF16"}}),
        with_header(b'{"a":' * 100_000),
        with_header(b"1" * 10_000),
        b"\xff" * 100,
    ):
        assert put_damaged(store, lie) is None
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and SPEC.key in error and "damaged" in error


def test_what_cannot_be_read_is_named(tmp_path, capsys, monkeypatch):
    store = Store(tmp_path)
    store.file(SPEC.key).mkdir(parents=True)
    assert store.get(SPEC.key) is None and "Is a directory" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "damaged")
    sound = entry(store)

    def broken(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", broken)
        assert store.get(SPEC.key) is None
    assert "Input/output error" in capsys.readouterr().err and not store.file(SPEC.key).exists()
    store.file(SPEC.key).write_bytes(sound)

    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(Path, "read_bytes", forbidden)
        store.get(SPEC.key)
    assert store.has(SPEC.key)  # what may not be read is not damaged


@pytest.mark.slow(2)
def test_damaged_entries_are_named_repaired_and_give_the_same_bits(finished, study):
    shutil.rmtree(study / "data/tiny/curves")
    table = read_table_of_runs(finished[0])
    files = [f for f in entries(study) if f.stem[:12] in table]
    assert len(files) == 4
    sound = [file.read_bytes() for file in files]
    files[0].write_bytes(b"")
    files[1].write_bytes(sound[1][:-7])
    files[2].write_bytes(sound[2][:-20] + bytes([sound[2][-20] ^ 16]) + sound[2][-19:])
    files[3].write_bytes(sound[3].replace(b'"format_version":"1"', b'"format_version":"9"'))
    status, error = started("sweep", study)
    assert status == 0 and error.count("\n") == 4 and error.count("is damaged") == 4
    assert all(file.name in error for file in files)
    kills.check(study, finished[1], complete=True)
    assert started("sweep", study) == (0, "")


def read_table_of_runs(folder: Path) -> set[str]:
    table = read_table(folder / "data/tiny/curves/linear-p-weights.parquet", ["run"], "")
    return set(table["run"])


@pytest.mark.slow(1)
@pytest.mark.parametrize("kind", ["flipped", "cut", "emptied"])
def test_damaged_tables_and_images_are_named_by_whoever_reads_them(
    study, kind, monkeypatch, capsys
):
    paths = [*lrrt.backends.__path__, str(workplace.FAKES / "backends")]
    monkeypatch.setattr(lrrt.backends, "__path__", paths)
    monkeypatch.chdir(study)
    folder = study / "data" / "tiny"
    for name, stage, arguments in (
        ("curves/linear-p-weights.parquet", suggest, []),
        ("dataset.safetensors", experiment, ["sweep"]),
    ):
        file = folder / name
        content = bytearray(file.read_bytes())
        content[2000] ^= 1
        damaged = {"flipped": bytes(content), "cut": bytes(content[:-9]), "emptied": b""}[kind]
        file.write_bytes(damaged)
        with pytest.raises(SystemExit) as caught:
            stage.main(arguments)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1, error
        assert file.name in error and "writes it" in error


# --- the pins


@pytest.mark.parametrize("status, pins", [(0, "b==2\nc==3\n"), (1, "a==1\n")])
def test_a_pip_that_fails_leaves_the_pins_alone(tmp_path, status, pins):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "constraints.txt").write_text("# Pins\na==1\n")
    (tmp_path / "pyproject.toml").touch()
    pip = tmp_path / ".venv/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(f"#!/bin/sh\necho b==2+cpu; echo c==3; exit {status}\n")
    pip.chmod(0o755)
    (tmp_path / ".venv/.installed").touch()
    assert subprocess.run(["make", "lock"], cwd=tmp_path).returncode == 2 * status
    assert (tmp_path / "constraints.txt").read_text() == f"# Pins\n{pins}"


# --- DVC


@pytest.mark.slow(10)
def test_dvc_lock_and_outputs_that_disagree(finished, tmp_path):
    study = tmp_path / "study"
    workplace.make_repository(study, "linear")
    shutil.copytree(finished[0] / "data/tiny/store", study / "data/tiny/store")  # to save time
    repro = [*kills.DVC, "suggest"]
    workplace.run(repro, study)
    expected = {path: d for path, d in finished[1].items() if path in workplace.outputs(study)}
    assert len(expected) == 7
    kills.check(study, expected, complete=True)
    folder = study / "data" / "tiny"
    # An output altered, one gone, one of nobody's; and a lock that tells of another.
    table = folder / "suggestions.parquet"
    table.write_bytes(table.read_bytes()[:-50])
    (folder / "curves/linear-p-weights.parquet").unlink()
    lock = (study / "dvc.lock").read_text()
    digest = lock.split("suggestions.parquet")[1].split("md5: ")[1][:32]
    (study / "dvc.lock").write_text(lock.replace(digest, digest[::-1]))
    workplace.run(repro, study, CLOCK="backwards")
    kills.check(study, expected, complete=True)
    assert (study / "dvc.lock").read_text() == lock
    assert repair(study) == []
    # Locks that are cut: DVC names one, nothing is touched, and `make study` makes it go on.
    (study / "dvc.lock").write_text(lock[: len(lock) // 2] + "\n:")
    (study / ".dvc/tmp/rwlock").write_text('{"')
    process = workplace.start(repro, study)
    error = process.communicate()[1]
    assert process.returncode and "dvc.lock" in error and "Traceback" not in error
    kills.check(study, expected, complete=True)
    cut = (study / "dvc.lock").read_text()
    assert repair(study) == ["dvc.lock", ".dvc/tmp/rwlock"]
    assert (study / "dvc.lock.damaged").read_text() == cut  # a merge conflict can be looked into
    workplace.run(repro, study)
    kills.check(study, expected, complete=True)
    assert (study / "dvc.lock").read_text() == lock
