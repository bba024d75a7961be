"""Jobs of a Slurm cluster, through submitit; the study's folder must be visible to its machines."""

import contextlib
import os
import shutil
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from lrrt.config import LauncherSection
from lrrt.errors import InputError
from lrrt.runs.launchers import local
from lrrt.runs.launchers._common import POLL_SECONDS, Workload, check_options
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

OPTIONS = {
    "cluster": "cluster: slurm, or local for processes on this machine",
    "runs_per_job": "runs_per_job: how many runs one job does, one after the other",
    "parameters": "parameters: a mapping for submitit (timeout_min, slurm_partition, ...)",
}
CLUSTERS = ("slurm", "local")
ARRAY_SIZE = 1000  # Slurm's default limit is 1,001


def validate(launcher: LauncherSection) -> None:
    """Raise :class:`InputError` for an option that is not of :data:`OPTIONS`, or its value."""
    check_options(launcher, OPTIONS)
    cluster, count = launcher.options.get("cluster"), launcher.options.get("runs_per_job", 1)
    if cluster not in (None, *CLUSTERS):
        raise InputError("launcher.options.cluster", cluster, f"one of: {', '.join(CLUSTERS)}")
    if type(count) is not int or count < 1:  # true is an int
        raise InputError("launcher.options.runs_per_job", count, "a whole number from 1")
    parameters = launcher.options.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InputError("launcher.options.parameters", parameters, "a mapping")


def run(
    specs: list[RunSpec], dataset_path: str | Path, store: Store, launcher: LauncherSection
) -> None:
    """Carry out in jobs the ``specs`` that ``store`` lacks; each job stores its results itself.

    A job does ``runs_per_job`` runs as :mod:`lrrt.runs.launchers.local` does, with one worker:
    the same environment, the same repeats when it is killed, the same lines. At most
    ``launcher.workers`` jobs run at a time; null leaves it to the cluster. Jobs are cancelled when
    this process is stopped by a signal; should it be killed, they finish what they have, and the
    same command later does the rest. Their logs lie in ``jobs/`` beside the store until all went
    well.

    Raises
    ------
    InputError
        If submitit is not installed, or an option is not possible.
    SystemExit
        As of :func:`lrrt.runs.launchers.local.run`.
    """
    validate(launcher)
    workload = Workload(specs, store)
    if not workload.waiting:
        return
    size = launcher.options.get("runs_per_job", 1)
    chunks = [workload.waiting[i : i + size] for i in range(0, len(workload.waiting), size)]
    logs = Path(store.path).resolve().with_name("jobs") / f"{os.getpid()}-{time.time_ns()}"
    # Jobs of one array are alike: where one run needs a GPU, each job has one.
    on_gpu = any(spec.device == "cuda" for spec in workload.waiting)
    executor = _executor(logs, launcher, on_gpu)
    # The launcher's threads are those of the runs: each spec has them.
    job = partial(
        carry_out, dataset_path=Path(dataset_path).resolve(), store_path=store.path.resolve()
    )
    with workload:
        _run_all(executor, workload, job, chunks, launcher.workers)
        if not workload.failed and not workload.received:
            shutil.rmtree(logs, ignore_errors=True)
            with contextlib.suppress(OSError):
                logs.parent.rmdir()  # unless another workload's logs are there


def _executor(logs: Path, launcher: LauncherSection, on_gpu: bool) -> Any:
    try:
        import submitit
    except ImportError:
        raise InputError(
            "launcher.name", "submitit", "installed packages; pip install 'lrrt[cluster]'"
        ) from None
    cluster = launcher.options.get("cluster") or "slurm"
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(
            name="lrrt",
            cpus_per_task=launcher.threads,
            gpus_per_node=int(on_gpu),
            slurm_array_parallelism=min(launcher.workers or ARRAY_SIZE, ARRAY_SIZE),
        )
        executor.update_parameters(**(launcher.options.get("parameters") or {}))
    except (NameError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        # What it was given, or a machine without Slurm.
        reason = str(error).strip().split("\n")[0]
        raise InputError("launcher.options", dict(launcher.options), reason) from None
    return executor


def _run_all(
    executor: Any, workload: Workload, job: Any, chunks: list[list[RunSpec]], limit: int | None
) -> None:
    """Submit all as arrays (on this machine, up to ``limit`` at a time) and wait for their ends."""
    local_cluster = executor.cluster == "local"
    at_a_time = limit or local.usable_cores() if local_cluster else len(chunks)
    waiting, submitted = deque(chunks), []
    try:
        while not workload.received:
            room = min(at_a_time - len(submitted), len(waiting))
            while room > 0:
                part = [waiting.popleft() for _ in range(min(room, ARRAY_SIZE))]
                submitted += zip(executor.map_array(job, part), part, strict=True)
                room -= len(part)
            if not submitted:
                break
            running = []
            for submitted_job, part in submitted:
                if submitted_job.done():
                    _note_end(workload, submitted_job, part)
                else:
                    running.append((submitted_job, part))
            if len(running) == len(submitted):
                time.sleep(POLL_SECONDS)
            submitted = running
    finally:
        for submitted_job, _ in submitted:
            submitted_job.cancel(check=False)


def _note_end(workload: Workload, job: Any, chunk: list[RunSpec]) -> None:
    """Count the runs of a job as ended; those of a lost job as their results say."""
    lost = None
    problems: dict[str, str] = {}
    try:
        problems = job.result()
    except Exception as error:  # of submitit: the job failed, was cancelled, or ran out of time
        lost = f"its job {job.job_id} was lost: {' '.join(str(error).split())[:200]}"
    for spec in chunk:
        problem = problems.get(spec.key)
        if lost and not workload.store.has(spec.key):
            problem = lost
        workload.record_end(spec.key, problem)


def carry_out(specs: list[RunSpec], *, dataset_path: Path, store_path: Path) -> dict[str, str]:
    """In a job: carry out ``specs``; what went wrong, in a line, by key."""
    workload = Workload(specs, Store(store_path))
    launcher = LauncherSection(workers=1, threads=specs[0].threads)
    try:
        local.carry_out(workload, dataset_path, launcher)
    except SystemExit as end:
        if workload.received:
            raise
        keys = [spec.key for spec in specs if not workload.store.has(spec.key)]
        return {key: workload.failed.get(key, str(end)) for key in keys}
    return {}
