"""Worker processes on this machine, one run (or one stack of them) each at a time."""

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from lrrt.config import LauncherSection
from lrrt.errors import InputError
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
from lrrt.runs.processes import die_with_parent, usable_cores
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
    reported in one line, and the others go on.

    Raises
    ------
    InputError
        For a GPU where there is none.
    SystemExit
        With one line and status 1 if a run failed; with status 130 (Ctrl-C) or 143 (SIGTERM),
        after one line that says how many runs are kept.
    """
    carry_out(Workload(specs, store), dataset_path, launcher)


def carry_out(workload: Workload, dataset_path: str | Path, launcher: LauncherSection) -> None:
    """What :func:`run` does, with the runs that wait in ``workload``."""
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
        _run_all(workload, Path(dataset_path), counts, gpus)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    group: tuple[str, str, int]
    gpu: str | None
    job: tuple[RunSpec, ...] = ()  # what it works on

    @property
    def device(self) -> str:
        return self.group[1]


def _run_all(
    workload: Workload, dataset_path: Path, counts: dict[str, int], gpus: list[str]
) -> None:
    """Do all that waits, on so many workers of each device."""
    waiting = stacks(workload.waiting)
    workers: list[_Worker] = []
    deaths: Counter[str] = Counter()
    try:
        while not workload.received:
            for worker in [w for w in workers if not w.job]:
                worker.job = next((job for job in waiting if group(job[0]) == worker.group), ())
                if not worker.job:
                    _end(worker)  # nothing left for its framework: make room for another
                    workers.remove(worker)
                else:
                    waiting.remove(worker.job)
                    with contextlib.suppress(OSError):  # if it has died: seen below
                        worker.connection.send(worker.job)
            busy = Counter(worker.device for worker in workers)
            wanted = dict.fromkeys(
                group(first) for first, *_ in waiting if busy[first.device] < counts[first.device]
            )
            if wanted:
                # Its framework is the one with the fewest workers: all of them get on.
                ours = Counter(worker.group for worker in workers)
                purpose = min(wanted, key=ours.__getitem__)
                on_gpu = purpose[1] == "cuda"
                gpu = min(gpus, key=[w.gpu for w in workers].count) if on_gpu else None
                workers.append(_start(purpose, dataset_path, workload.store, gpu))
                continue
            if not workers:
                break
            by_connection = {worker.connection: worker for worker in workers}
            for connection in wait(by_connection, timeout=POLL_SECONDS):
                worker = by_connection[connection]
                key = worker.job[0].key
                try:
                    problem = connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    _end(worker)
                    deaths[key] += 1
                    if deaths[key] < ATTEMPTS:
                        waiting.insert(0, worker.job)
                        continue
                    code = worker.process.exitcode
                    problem = f"its worker died {ATTEMPTS} times, the last with exit code {code}"
                if isinstance(problem, OSError):
                    raise problem
                for spec in worker.job:
                    workload.record_end(spec.key, problem)
                worker.job = ()
    finally:
        for worker in workers:
            _end(worker)


def _start(
    purpose: tuple[str, str, int], dataset_path: Path, store: Store, gpu: str | None
) -> _Worker:
    backend, device, threads = purpose
    variables = worker_variables(backend, device, threads)
    if device == "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = gpu
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
        with environment(variables):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return _Worker(process, ours, purpose, gpu)


def _end(worker: _Worker) -> None:
    """End the process at once, by force: what it has stored is whole, and the rest is not kept."""
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _work(connection: Connection, dataset_path: Path, store_path: Path) -> None:
    """In a worker: carry out the jobs that arrive, each a run or a stack of runs; answer None, or
    what went wrong in a line, or the OSError of a store that cannot be written."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from lrrt.datasets import open_dataset
    from lrrt.runs.execute import execute
    from lrrt.runs.stacked import execute_stack

    store, dataset = Store(store_path), None
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        problem = None
        try:
            if dataset is None:
                dataset = open_dataset(dataset_path)
                digest = dataset.digest
            if digest != job[0].data_digest:
                raise InputError("dataset", digest, f"the run's is {job[0].data_digest}")
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
