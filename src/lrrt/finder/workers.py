"""An audit's runs on several processes: this one and its workers, with the bits of one alone.

Where it is safe, workers are copies of this process (:attr:`Early.copies`), there at once; else
joblib starts them, and functions that no module has (a notebook's, closures, lambdas) are sent by
value. Each run computes on one thread wherever PyTorch does the work, and with this process's
threads in TensorFlow, so that the number of processes changes nothing.
"""

import contextlib
import gc
import importlib
import multiprocessing
import os
import pickle
import queue
import signal
import stat
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any

MOST_SENT = 64 * 2**20  # bytes of functions and what they hold, sent with each run
# Seconds that a worker needs to start: a guess that decides whether workers are worth it. With
# TensorFlow more, since the first run, by which the others are judged, traces the model for them.
START = {"torch": 3.0, "tensorflow": 10.0}
START_COPY = 0.5  # most of it joblib's import, which counts the cores
PATIENCE = (
    10.0  # with a copy: so many seconds, and times the longest task, until it counts as stuck
)


class Unsent(Exception):
    """Why functions cannot be sent to workers, in words."""


def _copies() -> bool:
    """Whether workers are copies of this process (a fork), as those of PyTorch's data loader are.

    Not beside a framework whose threads a copy lacks: TensorFlow, JAX, or PyTorch's autograd on a
    machine with an accelerator."""
    torch = sys.modules.get("torch")
    if sys.platform != "linux" or torch is None or {"tensorflow", "jax"} & sys.modules.keys():
        return False
    return not getattr(torch, "accelerator", torch.cuda).is_available()  # before PyTorch 2.6: CUDA


def _read() -> dict[str, tuple[int, int]]:
    """By descriptor, which files are open for reading, and how far they have been read.

    Copies would share these positions, and each would read on where another had stopped."""
    import fcntl

    found = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            number, about = int(descriptor), os.fstat(int(descriptor))
            written = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            if stat.S_ISREG(about.st_mode) and not written:
                found[descriptor] = about.st_ino, os.lseek(number, 0, os.SEEK_CUR)
    return found


def processes(workers: int | None, seconds: float, runs: int, copies: bool = False) -> int:
    """How many processes are to share ``runs`` more runs of ``seconds`` each.

    As asked for; by default as many as there are cores, unless the runs end before a worker has
    started, or a GPU computes, which this process has already."""
    count = most(workers, runs)
    start = START_COPY if copies else _start_seconds()
    return count if workers is not None or seconds * runs > start else 1


def most(workers: int | None, runs: int) -> int:
    """How many :func:`processes` can be."""
    if multiprocessing.current_process().daemon:  # as in a multiprocessing.Pool: none of its own
        return 1
    if workers is not None:
        return min(workers, runs + 1)
    if _on_gpu():
        return 1
    try:
        from joblib import cpu_count  # knows what a container may use
    except ImportError:
        return 1
    return min(cpu_count(), runs)


def _start_seconds() -> float:
    return max((START[name] for name in START if name in sys.modules), default=0.0)


def _on_gpu() -> bool:
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return True
    return tensorflow is not None and bool(tensorflow.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, PyTorch computes on one thread, as in the workers."""
    torch = sys.modules.get("torch")
    before = 1 if torch is None else torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quick_collections() -> Iterator[None]:
    """Within, ``gc.collect`` looks only at what was made within: with TensorFlow imported it would
    take as long as a small model's range test."""
    if "keras" not in sys.modules or gc.get_freeze_count():  # the user's own, left so
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Early:
    """Workers that start beside the first run, as soon as it takes so long that they save time.

    None that are copies: those are there at once, and must not be made amid other work.
    """

    def __init__(self, workers: int | None, runs: int):
        self.workers, self.runs, self.executor = workers, runs, None
        self.read = _read() if _copies() else None
        self.timer = threading.Timer(0.0, self._start)

    def begin(self) -> None:
        """Once the first model is there, and with it all that its making imports."""
        self.begun = time.perf_counter()
        self.timer.daemon = True
        if self.workers is None:
            self.timer.interval = _start_seconds() / max(self.runs, 1)
        if self.read is None and most(self.workers, self.runs) > 1:
            self.timer.start()

    @property
    def copies(self) -> bool:
        """Whether workers are to be copies, once the first run has ended: not if it read from files
        that are still open."""
        return self.read is not None and _copies() and _read().items() <= self.read.items()

    def _start(self) -> None:
        with _interrupts_later(), contextlib.suppress(ImportError):  # Helpers says what is missing
            self.executor = _started(most(self.workers, self.runs) - 1)

    def _join(self) -> None:
        """None start any more."""
        self.timer.cancel()
        if self.timer.ident is not None:
            self.timer.join()

    def open(self, count: int, function: Callable | None) -> Any:
        """The executor with ``count`` workers: copies that have ``function``, or those that have
        started, or are started now."""
        with _interrupts_later():
            self._join()
            if self.executor is None:
                self.executor = _started(count) if function is None else _Copies(count, function)
        return self.executor

    def stop(self, amid_work: bool = True) -> None:
        """End the workers, if there are any."""
        with _interrupts_later():
            self._join()
            executor, self.executor = self.executor, None
            if executor is not None and amid_work:
                _kill(executor)
            elif executor is not None:
                executor.shutdown(wait=True)


class _Copies(ProcessPoolExecutor):
    """Workers that are copies of this process, which have ``function`` without its being sent."""

    def __init__(self, count: int, function: Callable):
        super().__init__(
            count,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_inherit,
            initargs=(os.getpid(), function),
        )
        before = multiprocessing.active_children()
        with one_thread(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*fork", DeprecationWarning)  # _copies
            self.submit(int)  # the first task makes all of them
        self.made = [p for p in multiprocessing.active_children() if p not in before]

    def shutdown(self, wait: bool = True, kill_workers: bool = False) -> None:
        """As joblib's executor has it."""
        for process in self.made if kill_workers else ():
            process.kill()
        super().shutdown(wait=wait, cancel_futures=kill_workers)


def _started(count: int) -> Any:
    """joblib's workers; their first task is to import what this process has imported."""
    from joblib.externals import loky

    # Not joblib's reusable ones: they would know modules and paths of before.
    executor = loky.ProcessPoolExecutor(
        count,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"},
        initializer=_enter,
        initargs=(os.getpid(), os.getcwd(), sys.path),
    )
    # The first task starts the workers, and the tracker, where none runs yet, would unblock SIGINT.
    resource_tracker.ensure_running()
    for _ in range(count):
        executor.submit(_apply, _settings())
    return executor


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C waits for the end of what is within, so that no worker is left that nobody knows; and
    workers that start within leave it to this process: they would write a traceback."""
    came: list[tuple] = []
    answer = None
    if threading.current_thread() is threading.main_thread():  # which answers, whoever received it
        answer = signal.getsignal(signal.SIGINT)
    if callable(answer):
        signal.signal(signal.SIGINT, lambda *about: came.append(about))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if callable(answer):
            signal.signal(signal.SIGINT, answer)
            if came:
                answer(*came[0])


def _kill(executor: Any) -> None:
    """End its workers amid their work."""
    # loky 3.5 fails with a KeyError if it finds a task in this queue when it ends.
    waiting = getattr(executor, "_work_ids", queue.Queue())
    with contextlib.suppress(queue.Empty):
        while True:
            waiting.get_nowait()
    executor.shutdown(wait=True, kill_workers=True)


class Helpers:
    """``count`` worker processes that call ``function``.

    ``check``: a task, and what it must give in a worker. Where it gives something else, or a worker
    is killed, ``on_fault`` is told why, and this process does the rest alone. ``early``: may have
    started the workers.

    Raises
    ------
    Unsent
        If the function must be sent by value and cannot be.
    """

    def __init__(
        self,
        function: Callable,
        count: int,
        check: tuple[tuple, Any],
        on_fault: Callable[[str], None],
        early: Early,
    ):
        self.settings = _settings()
        copies = early.copies
        self.sent = None if copies else _by_value(function)
        self.executor = early.open(count, function if copies else None)
        self.stop = early.stop
        self.function, self.count = function, count
        self.running: dict[Any, int] = {}  # number of the task by its future
        self.longest, self.stuck = 0.0, False
        self.check, self.expected = self._submit(*check[0]), check[1]
        self.on_fault = on_fault

    def results(self, tasks: Sequence[tuple]) -> Iterator[tuple[int, Any]]:
        """Number and result of each task as it ends; this process calls the function, too, while
        workers start and work.

        No worker's result counts before the check."""
        waiting, running = deque(range(len(tasks))), self.running
        while waiting or running:
            done = [future for future in running if future.done()]
            if self.count and (fault := self._fault(done)):
                self.on_fault(fault)
                waiting.extend(running.values())
                self.stop()
                running.clear()
                self.count = 0
            elif self.check.done():
                for future in done:
                    yield running.pop(future), future.result()
            # One more than they work on, to go on with, unless few are left; one for this process.
            while len(waiting) > 1 and len(running) < self.count + (
                len(waiting) > self.count + 1 > 1
            ):
                number = waiting.popleft()
                running[self._submit(*tasks[number])] = number
            if waiting:
                number, begun = waiting.popleft(), time.perf_counter()
                result = self.function(*tasks[number])
                self.longest = max(self.longest, time.perf_counter() - begun)
                yield number, result
            elif running:
                self._wait()

    def _wait(self) -> None:
        """For the check, or else for any of the workers' tasks."""
        # A copy of a process whose other threads hold a lock waits for it for ever.
        patience = PATIENCE * (1 + self.longest) if self.sent is None else None
        awaited = list(self.running) if self.check.done() else [self.check]
        self.stuck = not wait(awaited, patience, FIRST_COMPLETED).done

    def _fault(self, done: Sequence[Future]) -> str | None:
        """Why no result of the workers can count, of the tasks that are done."""
        if self.stuck:
            return "a worker process does not answer"
        if self.check.done():
            if any(isinstance(f.exception(), BrokenProcessPool) for f in (self.check, *done)):
                return "a worker process was killed (is memory short?)"
            if self.check.result() != self.expected:
                return (
                    "the first loss differs in a worker process: something that was set outside "
                    "make_model and make_data seems to matter"
                )
        return None

    def _submit(self, *task: Any) -> Future:
        try:
            return self.executor.submit(_call, self.settings, self.sent, task)
        except BrokenProcessPool as error:
            broken: Future = Future()
            broken.set_exception(error)
            return broken


def _by_value(function: Callable) -> bytes:
    """To be sent; raises :class:`Unsent`."""
    try:
        import cloudpickle
        import joblib  # noqa: F401
    except ImportError as error:
        raise Unsent(f"{error.name} is not installed") from None
    try:
        sent = cloudpickle.dumps(function)
    except Exception as error:  # whatever a user's object raises
        raise Unsent(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    if len(sent) > MOST_SENT:
        raise Unsent(f"they hold {len(sent) / 2**20:.0f} MiB")
    return sent


_inherited: Callable | None = None  # in a copy: its function


def _inherit(parent: int, function: Callable) -> None:
    """In a copy that starts: its function, and its end with this process."""
    global _inherited
    _inherited = function
    _end_with(parent)


def _end_with(parent: int) -> None:
    def watch() -> None:  # no public sentinel of it: loky is not multiprocessing
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _enter(parent: int, folder: str, path: list[str]) -> None:
    """In a worker that starts: where modules are found here, and its end with this process."""

    _end_with(parent)
    os.chdir(folder)
    sys.path[:] = path


def _settings() -> dict[str, Any]:
    """What this process has set that a model's numbers depend on."""
    found: dict[str, Any] = {}
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    if tensorflow := sys.modules.get("tensorflow"):
        threads = tensorflow.config.threading
        found["tensorflow"] = (
            threads.get_intra_op_parallelism_threads(),
            threads.get_inter_op_parallelism_threads(),
        )
    if keras := sys.modules.get("keras"):
        config = keras.config
        found["keras"] = config.backend(), config.floatx(), config.dtype_policy().name
    return found


def _call(settings: dict[str, Any], sent: bytes | None, task: tuple) -> Any:
    """In a worker: the function that was sent or inherited, of one task."""
    _apply(settings)
    function = _inherited if sent is None else pickle.loads(sent)
    try:
        with one_thread():
            return function(*task)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it would end the worker
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise


def _apply(settings: dict[str, Any]) -> None:
    """Set the same in a worker; frameworks by name, since nothing here may import one unasked."""
    if "tensorflow" in settings:
        tensorflow = importlib.import_module("tensorflow")
        intra, inter = settings["tensorflow"]
        with contextlib.suppress(RuntimeError):  # set by the run before this one
            tensorflow.config.threading.set_intra_op_parallelism_threads(intra)
            tensorflow.config.threading.set_inter_op_parallelism_threads(inter)
    if "keras" in settings:
        backend, floatx, policy = settings["keras"]
        os.environ["KERAS_BACKEND"] = backend  # read when it is imported
        keras = importlib.import_module("keras")
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
    if "torch" in settings:
        torch = importlib.import_module("torch")
        dtype, precision = settings["torch"]
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
    if not gc.get_freeze_count():
        gc.freeze()  # once; quick_collections()
