"""Stages in forks of this process, which has imported what they need: a start takes no time.

What runs is the stage's own ``main``, in a session of its own; its workers are forks, too.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
import traceback
import types
from pathlib import Path

from lrrt import plugins
from lrrt.runs import execute


def preload(backend: str) -> None:
    """Import the stages, and what they and their workers look up by name."""
    for package in ("lrrt.stages", "lrrt.report.figures", "lrrt.claims", "lrrt.core.rules"):
        for name in plugins.names(package):
            importlib.import_module(f"{package}.{name}")
    for name in plugins.names("lrrt.experiments"):
        for part in ("design", "tables"):
            importlib.import_module(f"lrrt.experiments.{name}.{part}")
    importlib.import_module("lrrt.runs.launchers.local")
    if backend in plugins.names("lrrt.backends"):
        importlib.import_module(f"lrrt.backends.{backend}")


class Fork:
    """What :class:`subprocess.Popen` is, of a ``python -m lrrt.stages...``."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], site: Path):
        self.said, self.returncode = tempfile.TemporaryFile(), None
        self.pid = os.fork()
        if not self.pid:
            _be(command, folder, environment, site, self.said.fileno())
        while os.getsid(self.pid) != self.pid:  # until then nobody finds its tree
            time.sleep(0.001)

    def poll(self, options: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self) -> int:
        return self.poll(0)

    def communicate(self) -> tuple[None, str]:
        self.wait()
        with self.said:
            self.said.seek(0)
            return None, self.said.read().decode()


def _be(
    command: list[str], folder: Path, environment: dict[str, str], site: Path, error: int
) -> None:
    """In the fork: the stage that ``command`` names; never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(error, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.modules["__main__"] = types.ModuleType("__main__")
        runpy.run_path(str(site))
        fork = multiprocessing.get_context("fork")
        multiprocessing.get_context = execute.get_context = lambda _: fork
        importlib.import_module(command[2]).main(command[3:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
