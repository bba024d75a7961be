"""Worker processes on this machine, one run (or one stack of them) each at a time."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from lrrt.config import LauncherSection
from lrrt.errors import InputError
from lrrt.runs.launchers import _idle
from lrrt.runs.launchers._common import (
    ATTEMPTS,
    POLL_SECONDS,
    Workload,
    check_options,
    environment,
    group,
    in_one_line,
    worker_variables,
)
from lrrt.runs.processes import die_with, usable_cores
from lrrt.runs.spec import RunSpec
from lrrt.runs.stacked import stacks
from lrrt.runs.store import Store


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` lists, else the numbers of the driver's GPUs.

    As CUDA reads that list, nothing after a negative number counts."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = map(str.strip, listed.split(","))
        return list(itertools.takewhile(lambda name: name[:1] not in ("", "-"), names))
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def validate(launcher: LauncherSection) -> None:
    """Raise :class:`InputError` for an option: there are none."""
    check_options(launcher, {})


def run(
    specs: list[RunSpec], dataset_path: str | Path, store: Store, launcher: LauncherSection
) -> None:
    """Carry out the ``specs`` that ``store`` lacks; each worker stores its results itself.

    Nothing is started where nothing is missing. A worker serves one backend only, in the order of
    ``specs``; a single worker does all of one backend's before another's. For runs on a GPU there
    are as many workers as GPUs, each with its own, unless ``launcher.workers`` says otherwise, and
    those for runs on the CPU work beside them. A
    run whose worker is killed is repeated, at most three times in all; a run that raises is
    reported in one line, and the others go on. In a stage of DVC, workers for the CPU that have
    nothing left to do wait for the next stage (:mod:`lrrt.runs.launchers._idle`).

    Raises
    ------
    InputError
        For a GPU where there is none.
    SystemExit
        With one line and status 1 if a run failed; with status 130 (Ctrl-C) or 143 (SIGTERM),
        after one line that says how many runs are kept.
    """
    carry_out(Workload(specs, store), dataset_path, launcher, _idle.enclosing_command())


def carry_out(
    workload: Workload,
    dataset_path: str | Path,
    launcher: LauncherSection,
    command: _idle.Command | None = None,
) -> None:
    """What :func:`run` does, with the runs that wait in ``workload``, in a stage of ``command``."""
    if not workload.waiting:
        return
    gpus = visible_gpus()
    if not gpus and any(spec.device == "cuda" for spec in workload.waiting):
        keys = "launcher.device, sweep.devices or divergence.devices"
        raise InputError(keys, "cuda", "cpu on a machine without a visible NVIDIA GPU")
    natural = {"cpu": max(1, usable_cores() // launcher.threads), "cuda": len(gpus)}
    counts = {device: launcher.workers or count for device, count in natural.items()}
    if any(spec.device == "cuda" for spec in workload.waiting):  # workers then speaks of the GPUs
        counts["cpu"] = min(counts["cpu"], natural["cpu"])
    with workload:
        _run_all(workload, Path(dataset_path), counts, gpus, command)


@dataclass
class _Worker:
    process: BaseProcess | None  # None: it waited, and was a child of the stage before
    id: int  # of its process
    connection: Connection
    group: tuple[str, str, int]
    gpu: str | None = None
    job: tuple[RunSpec, ...] = ()  # what it works on

    @property
    def device(self) -> str:
        return self.group[1]


def _run_all(
    workload: Workload,
    dataset_path: Path,
    counts: dict[str, int],
    gpus: list[str],
    command: _idle.Command | None,
) -> None:
    """Do all that waits, on so many workers of each device."""
    waiting = stacks(workload.waiting)
    idle = [_Worker(None, *found) for found in _idle.workers(command)] if command else []
    workers: list[_Worker] = []
    deaths: Counter[str] = Counter()
    try:
        while not workload.received:
            for worker in [w for w in workers if not w.job]:
                worker.job = next((job for job in waiting if group(job[0]) == worker.group), ())
                if worker.job:
                    waiting.remove(worker.job)
                    with contextlib.suppress(OSError):  # if it has died: seen below
                        worker.connection.send((worker.job, dataset_path, workload.store.path))
                    continue
                workers.remove(worker)  # nothing left for its framework: make room for another
                if command is not None and worker.device == "cpu":
                    idle.append(worker)
                else:
                    _end(worker)
            purpose = _group_to_staff(waiting, workers, counts)
            if purpose is not None:
                on_gpu = purpose[1] == "cuda"
                gpu = min(gpus, key=[w.gpu for w in workers].count) if on_gpu else None
                worker = next((w for w in idle if w.group == purpose), None)
                if worker is None:
                    worker = _start(purpose, gpu, command)
                else:
                    idle.remove(worker)
                workers.append(worker)
                continue
            if not workers:
                break
            by_connection = {worker.connection: worker for worker in workers}
            for connection in wait(by_connection, timeout=POLL_SECONDS):
                worker = by_connection[connection]
                try:
                    problem = connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    _end(worker)
                    deaths[worker.job[0].key] += 1
                    if deaths[worker.job[0].key] < ATTEMPTS:
                        waiting.insert(0, worker.job)
                        continue
                    problem = f"its worker died {ATTEMPTS} times"
                    if worker.process is not None:
                        problem += f", the last with exit code {worker.process.exitcode}"
                if isinstance(problem, OSError):
                    raise problem
                for spec in worker.job:
                    workload.record_end(spec.key, problem)
                worker.job = ()
        if not workload.received:
            idle = [worker for worker in idle if not _release(worker)]
    finally:
        for worker in (*workers, *idle):
            _end(worker)


def _group_to_staff(
    waiting: list[tuple[RunSpec, ...]], workers: list[_Worker], counts: dict[str, int]
) -> tuple[str, str, int] | None:
    """Of the runs that wait, for a device with a free place, those of the framework with the fewest
    workers, so that all frameworks get on; None without such runs."""
    busy = Counter(worker.device for worker in workers)
    wanted = dict.fromkeys(
        group(first) for first, *_ in waiting if busy[first.device] < counts[first.device]
    )
    ours = Counter(worker.group for worker in workers)
    return min(wanted, key=ours.__getitem__, default=None)


def _start(
    purpose: tuple[str, str, int], gpu: str | None, command: _idle.Command | None
) -> _Worker:
    backend, device, threads = purpose
    variables = worker_variables(backend, device, threads)
    if device == "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, purpose, command), name=f"lrrt-{backend}")
    # Both are inherited: the variables must be there before the process starts, and Ctrl-C, which
    # a terminal sends to all, is for the parent to answer. (Starting the tracker, which start()
    # would do, unblocks signals.)
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with environment(variables):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return _Worker(process, process.pid, ours, purpose, gpu)


def _end(worker: _Worker) -> None:
    """End the process at once, by force: what it has stored is whole, and the rest is not kept."""
    if worker.process is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.id, signal.SIGKILL)
    else:
        worker.process.kill()
        worker.process.join()
    worker.connection.close()


def _release(worker: _Worker) -> bool:
    """Whether it waits for the next stage."""
    released = _idle.release(worker.connection)
    if released:
        worker.connection.close()
        # At its exit this process would wait until the worker ends.
        multiprocessing.process._children.discard(worker.process)
    return released


def _work(
    connection: Connection, group: tuple[str, str, int], command: _idle.Command | None
) -> None:
    """In a worker: serve the stage that started it, and those of ``command`` that follow."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stage = multiprocessing.parent_process().sentinel
    while True:
        released = threading.Event()
        die_with(stage, released)
        if not _serve(connection):
            return
        found = _idle.next_stage(connection, command, group, released)
        if found is None:
            return
        connection, stage = found


def _serve(connection: Connection) -> bool:
    """Carry out the jobs that arrive, each a run or a stack of runs; answer None, or what went
    wrong in a line, or the OSError of a store that cannot be written. Whether it was released."""
    from lrrt.datasets import open_dataset
    from lrrt.runs.execute import execute, exporter
    from lrrt.runs.stacked import execute_stack

    opened = None
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return False
        if message is None:
            exporter.cache_clear()
            return True
        job, dataset_path, store_path = message
        store, problem = Store(store_path), None
        try:
            if opened != dataset_path:
                dataset, opened = open_dataset(dataset_path), dataset_path
            if dataset.digest != job[0].data_digest:
                words = f"the run's is {job[0].data_digest}"
                raise InputError("dataset", dataset.digest, words)
            if len(job) > 1:
                results = execute_stack(job, dataset)
            else:
                results = [execute(job[0], dataset, store.checkpoints)]
            try:
                for spec, result in zip(job, results, strict=True):
                    store.put(spec, result)
            except OSError as error:
                problem = error  # nor could any other run be kept
        except Exception as error:
            problem = in_one_line(error)
        connection.send(problem)
