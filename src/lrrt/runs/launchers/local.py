"""Worker processes on this machine, one run each at a time."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from lrrt.config import LauncherConfig
from lrrt.errors import InputError
from lrrt.runs.lifetime import die_with_parent
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

ATTEMPTS = 3  # of one run whose worker is killed (out of memory, mostly)
SIGNAL_POLL_SECONDS = 0.5


def usable_cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(
    specs: list[RunSpec], dataset_path: str | Path, store: Store, launcher: LauncherConfig
) -> None:
    """Carry out the ``specs`` that ``store`` lacks; each worker stores its results itself.

    Nothing is started where nothing is missing. A worker serves one backend only. A run whose
    worker is killed is repeated, at most three times in all; a run that raises is reported in one
    line, and the others go on.

    Raises
    ------
    SystemExit
        With one line and status 1 if a run failed; with status 130 (Ctrl-C) or 143 (SIGTERM),
        after one line that says how many runs are kept.
    """
    wanted = {spec.key: spec for spec in specs}
    waiting = [spec for key, spec in wanted.items() if not store.has(key)]
    if not waiting:
        return
    waiting.sort(key=_group)  # stable: within a group, in the order given
    count = launcher.workers or max(1, usable_cores() // launcher.threads)
    bar = tqdm(
        total=len(wanted), initial=len(wanted) - len(waiting), desc="runs", unit="run",
        file=sys.stderr, disable=not sys.stderr.isatty(),
    )
    with bar, _noted_signals() as received:
        failed = _run_all(waiting, Path(dataset_path), store, count, bar, received)
    if received:
        kept = sum(store.has(key) for key in wanted)
        name = signal.Signals(received[0]).name
        print(
            f"stopped by {name}: {kept} of {len(wanted)} runs are kept; "
            "the same command does the rest", file=sys.stderr,
        )
        raise SystemExit(128 + received[0])
    if failed:
        names = ", ".join(key[:12] for key in failed)
        raise SystemExit(f"error: {len(failed)} of {len(wanted)} runs failed: {names}")


def _group(spec: RunSpec) -> tuple[str, str, int]:
    """What a worker process is set up for: it cannot change it afterwards."""
    return spec.backend, spec.device, spec.threads


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    group: tuple[str, str, int]
    spec: RunSpec | None = None  # what it works on


def _run_all(
    waiting: list[RunSpec], dataset_path: Path, store: Store, count: int, bar: tqdm,
    received: list[int],
) -> list[str]:
    """Do all of ``waiting`` on ``count`` workers; the keys of the runs that failed."""
    workers: list[_Worker] = []
    deaths: Counter[str] = Counter()
    failed: list[str] = []
    try:
        while not received:
            for worker in [w for w in workers if w.spec is None]:
                worker.spec = next((s for s in waiting if _group(s) == worker.group), None)
                if worker.spec is None:
                    _end(worker)  # nothing left for its framework: make room for another
                    workers.remove(worker)
                else:
                    waiting.remove(worker.spec)
                    with contextlib.suppress(OSError):  # if it has died: seen below
                        worker.connection.send(worker.spec)
            if waiting and len(workers) < count:
                workers.append(_start(_group(waiting[0]), dataset_path, store))
                continue
            if not workers:
                break
            by_connection = {worker.connection: worker for worker in workers}
            for connection in wait(by_connection, timeout=SIGNAL_POLL_SECONDS):
                worker = by_connection[connection]
                key = worker.spec.key
                try:
                    problem = connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    _end(worker)
                    deaths[key] += 1
                    if deaths[key] < ATTEMPTS:
                        waiting.insert(0, worker.spec)
                        continue
                    code = worker.process.exitcode
                    problem = f"its worker died {ATTEMPTS} times, the last with exit code {code}"
                worker.spec = None
                bar.update()
                if problem is not None:
                    failed.append(key)
                    bar.write(f"run {key[:12]} failed: {problem}", file=sys.stderr)
    finally:
        for worker in workers:
            _end(worker)
    return failed


def _start(group: tuple[str, str, int], dataset_path: Path, store: Store) -> _Worker:
    backend, device, threads = group
    variables = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        # Keep the memory of activations between operations instead of handing it back to the
        # system and clearing it again: up to 1.7 times as fast in the first stage.
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, dataset_path, store.path), name=f"lrrt-{backend}"
    )
    # Both are inherited: the variables must be there before the process starts, and Ctrl-C, which
    # a terminal sends to all, is for the parent to answer. (Starting the tracker, which start()
    # would do, unblocks signals.)
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(variables):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return _Worker(process, ours, group)


def _end(worker: _Worker) -> None:
    """End the process at once, by force: what it has stored is whole, and the rest is not kept."""
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _work(connection: Connection, dataset_path: Path, store_path: Path) -> None:
    """In a worker: carry out the specs that arrive; answer None, or what went wrong in a line."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from lrrt.datasets import open_dataset
    from lrrt.runs.execute import execute

    store, dataset = Store(store_path), None
    while True:
        try:
            spec = connection.recv()
        except EOFError:
            return
        problem = None
        try:
            if dataset is None:
                dataset = open_dataset(dataset_path)
                digest = dataset.digest
            if digest != spec.data_digest:
                raise InputError("dataset", digest, f"the run's is {spec.data_digest}")
            store.put(spec, execute(spec, dataset))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            problem = " ".join(f"{type(error).__name__}: {error} ({place})".split())
        connection.send(problem)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are added to, instead of interrupting just anywhere."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # handlers belong to the main thread
        return
    before = {
        number: signal.signal(number, lambda caught, _: received.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
