"""What the launchers share: which runs are missing, a worker's environment, how all of them end."""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from lrrt.config import LauncherSection
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

ATTEMPTS = 3  # of one run whose worker is killed (out of memory, mostly)
POLL_SECONDS = 0.5  # between looks at signals


def group(spec: RunSpec) -> tuple[str, str, int]:
    """What a worker process is set up for: it cannot change it afterwards."""
    return spec.backend, spec.device, spec.threads


def missing(specs: list[RunSpec], store: Store) -> list[RunSpec]:
    """Each run that ``store`` lacks, once, in the order given."""
    wanted = {spec.key: spec for spec in specs}
    return [spec for key, spec in wanted.items() if not store.has(key)]


def worker_variables(backend: str, device: str, threads: int) -> dict[str, str]:
    """The environment that a worker process must begin with."""
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
        # Ray uses a process again for tasks of equal variables: so for one backend and device.
        "LRRT_WORKER": f"{backend}-{device}",
    }
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    return variables


def in_one_line(error: BaseException) -> str:
    """What went wrong and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


def check_options(launcher: LauncherSection, allowed: dict[str, str]) -> None:
    """Raise :class:`InputError` for an option that is none of ``allowed`` (name: what it is)."""
    for name, value in launcher.options.items():
        if name not in allowed:
            known = ", ".join(allowed) or f"no options with launcher.name={launcher.name}"
            raise InputError(f"launcher.options.{name}", value, known)


class Workload:
    """The missing ones of a list of runs, their progress, and how it ends.

    ``with Workload(specs, store) as workload:`` notes SIGINT and SIGTERM in ``workload.received``
    instead of interrupting just anywhere; on leaving it says in one line what was not done.

    Raises
    ------
    OSError
        On entering, if the store cannot be written.
    SystemExit
        On leaving, with one line and status 1 if a run failed or the store can no longer be
        written (an OSError); with status 130 (Ctrl-C) or 143 (SIGTERM). The lines other than that
        of failed runs say how many are kept.
    """

    def __init__(self, specs: list[RunSpec], store: Store):
        self.keys = {spec.key for spec in specs}
        self.store = store
        self.waiting = missing(specs, store)
        self.failed: dict[str, str] = {}  # what went wrong, in a line, by key
        self.received: list[int] = []

    def __enter__(self) -> "Workload":
        self.store.check_writable()
        done = len(self.keys) - len(self.waiting)
        self.bar = tqdm(
            total=len(self.keys),
            initial=done,
            desc="runs",
            unit="run",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        )
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():  # handlers belong to it
            for number in (signal.SIGINT, signal.SIGTERM):
                note = lambda caught, _: self.received.append(caught)  # noqa: E731
                self.handlers[number] = signal.signal(number, note)
        return self

    def record_end(self, key: str, problem: str | None) -> None:
        """Count a run as ended, well or with a problem, which is shown in one line."""
        self.bar.update()
        if problem is not None:
            self.failed[key] = problem
            self.bar.write(f"run {key[:12]} failed: {problem}", file=sys.stderr)

    def __exit__(self, kind, error, trace) -> None:
        self.bar.close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if isinstance(error, OSError):
            raise SystemExit(f"error: {error}; {self._progress()}") from None
        if error is not None:
            return
        if self.received:
            name = signal.Signals(self.received[0]).name
            print(f"stopped by {name}: {self._progress()}", file=sys.stderr)
            raise SystemExit(128 + self.received[0])
        if self.failed:
            names = ", ".join(key[:12] for key in self.failed)
            raise SystemExit(f"error: {len(self.failed)} of {len(self.keys)} runs failed: {names}")

    def _progress(self) -> str:
        kept = sum(self.store.has(key) for key in self.keys)
        return f"{kept} of {len(self.keys)} runs are kept; the same command does the rest"


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """These variables, for the processes that are started meanwhile."""
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
