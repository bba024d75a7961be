"""Tasks on an existing Ray cluster. Nothing is shared with its machines but the network."""

import contextlib
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lrrt.config import LauncherSection
from lrrt.datasets import Dataset, open_dataset
from lrrt.errors import InputError
from lrrt.runs.execute import execute
from lrrt.runs.launchers._common import (
    ATTEMPTS,
    POLL_SECONDS,
    Workload,
    check_options,
    in_one_line,
    worker_variables,
)
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store

ANSWER_SECONDS = 10
OPTIONS = {
    "address": "address: of the cluster, host:port or ray://host:port; null: RAY_ADDRESS, else the "
    "cluster that runs on this machine",
}


def validate(launcher: LauncherSection) -> None:
    """Raise :class:`InputError` for an option that is not of :data:`OPTIONS`."""
    check_options(launcher, OPTIONS)


def run(
    specs: list[RunSpec], dataset_path: str | Path, store: Store, launcher: LauncherSection
) -> None:
    """Carry out on a Ray cluster the ``specs`` that ``store`` lacks; this process stores results.

    The cluster's machines need this package and its frameworks, of the same versions, and no
    shared folder: the data set goes there once through Ray's object store. ``launcher.workers``
    limits the runs at a time; null leaves it to the cluster. A worker process serves one backend
    only. A run whose worker or machine is lost is repeated, at most three times in all; one that
    raises is reported in one line, and the others go on. When this process ends, however it does,
    Ray ends the runs.

    Raises
    ------
    InputError
        If Ray is not installed, no cluster answers, or the data set is not the runs'.
    SystemExit
        As of :func:`lrrt.runs.launchers.local.run`.
    """
    validate(launcher)
    workload = Workload(specs, store)
    if not workload.waiting:
        return
    dataset = open_dataset(dataset_path)
    for spec in workload.waiting:
        if spec.data_digest != dataset.digest:
            raise InputError("dataset", dataset.digest, f"the run's is {spec.data_digest}")
    with _cluster(launcher.options.get("address")) as ray:
        data = ray.put(dataset)
        with workload:
            _run_all(ray, workload, partial(_submit, ray, data), launcher.workers)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """The ``ray`` module, connected; disconnected afterwards unless it was connected before."""
    try:
        # Ray's older versions read it on import; without it SIGTERM adds a line of theirs.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        import ray
    except ImportError:
        raise InputError(
            "launcher.name", "ray", "installed packages; pip install 'lrrt[cluster]'"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    try:
        _check_answers(address)
        ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            "launcher.options.address",
            address,
            f"the address of a running Ray cluster (`ray start --head`); {reason}",
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raise OSError if nothing does at host:port: Ray itself would try for many minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


def _run_all(ray: Any, workload: Workload, submit: Any, limit: int | None) -> None:
    """Keep up to ``limit`` runs submitted until all have ended or a signal arrives."""
    submitted: dict[Any, RunSpec] = {}
    waiting = iter(workload.waiting)
    limit = limit or len(workload.waiting)
    try:
        while not workload.received:
            while len(submitted) < limit and (spec := next(waiting, None)) is not None:
                submitted[submit(spec)] = spec
            if not submitted:
                break
            done, _ = ray.wait(list(submitted), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                spec = submitted.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:  # the worker was lost for the last time
                    reason = str(error).strip().split("\n")[0]
                    outcome = f"its worker died {ATTEMPTS} times, the last: {reason}"
                if isinstance(outcome, Result):
                    workload.store.put(spec, outcome)
                    outcome = None
                workload.record_end(spec.key, outcome)
    finally:
        for reference in submitted:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=True)


def _submit(ray: Any, data: Any, spec: RunSpec) -> Any:
    # A worker process is used again only for tasks of equal variables, so for one backend.
    variables = worker_variables(spec.backend, spec.device, spec.threads)
    if spec.device == "cuda":
        variables.pop("CUDA_VISIBLE_DEVICES", None)  # Ray's to set
    task = ray.remote(_execute).options(
        name=f"{spec.backend} {spec.key[:12]}",
        num_cpus=spec.threads,
        num_gpus=int(spec.device == "cuda"),
        max_retries=ATTEMPTS - 1,
        runtime_env={"env_vars": variables},
    )
    return task.remote(spec, data)


def _execute(spec: RunSpec, dataset: Dataset) -> Result | str:
    """On the cluster: the result, or what went wrong in a line."""
    try:
        return execute(spec, dataset)
    except Exception as error:
        return in_one_line(error)
