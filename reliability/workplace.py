"""A folder with a tiny study, and processes in it that end as a whole."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from lrrt.config import Config
from reliability.forks import Fork

ROOT = Path(__file__).parents[1]
FAKES = Path(__file__).parent / "fakes"
STAGES = ("data", "sweep", "suggest", "transfer", "report")  # those of tests/test_faults.py
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
del PIPELINE["joint"]  # there is none of a study that is judged alone
ALL_STAGES = tuple(PIPELINE)  # those of `python -m reliability`


def params(backend: str, **launcher: Any) -> dict:
    """A study of one backend and one protocol, whose every stage has something to do.

    But for ``stability`` on another backend than torch: its tables have no rows.
    """
    protocol = {"home": backend, "rule": "blog_keras", "ramp": {"start": 1e-4, "end": 1e3}}
    setting = {
        "data": "d",
        "protocol": "p",
        "batch_size": 16,
        "steps": 10,
        "model": {"name": "resnet", "depth": 8, "width": 8},
        "backend": backend,
    }
    return {
        "study": {
            "name": "tiny",
            "backends": [backend],
            "protocols": ["p"],
            "sweeps": ["weights", "validation"],
        },
        "data": {"train_images": 400, "test_images": 50},
        "model": {"depth": 8, "width": 8},
        "protocols": {"p": protocol, "q": {**protocol, "momentum_form": "lr_inside"}},
        "sweep": {"batch_size": 16, "steps": 30},
        "sweeps": {
            "weights": {"runs": 4, "batch_sizes": [16], "steps": 30},
            "validation": {
                "runs": 2,
                "batch_sizes": [16],
                "steps": 30,
                "validation": "running",
            },
        },
        "attribution": {
            "backend": backend,
            "start": "p",
            "end": "q",
            "factors": ["momentum_form"],
            "runs": 2,
        },
        "variance": {"backend": backend, "protocols": ["p"], "weights": 2, "orders": 2},
        "instrument": {
            "backend": backend,
            "protocols": ["p"],
            "runs": 1,
            "steps": [20],
            "restarts": 2,
            "restart_steps": 10,
        },
        "mechanism": {"protocols": ["p"], "runs": int(backend == "torch"), "points": 2},
        "divergence": {
            "cases": [{"case": f"{backend}-p", "grids": 1}],
            "epochs": 1,
            "transfer_epochs": 1,
            "steps_per_epoch": 3,
        },
        "oracle": {
            "data": {"d": {"train_images": 400, "test_images": 50}},
            "settings": {"s": setting},
            "schedules": ["constant"],
            "decades": 2,
            "fine_seeds": 1,
            "edge_seeds": 1,
            "draws": 1,
            "ramps": [25],
            "short_trainings": False,
        },
        "report": {"dpi": 20, "bootstrap_resamples": 100},
        "launcher": {"workers": 2, **launcher},
    }


def commands() -> dict[str, list[str]]:
    """The command of each stage."""
    return {name: [sys.executable, *stage["cmd"].split()[1:]] for name, stage in PIPELINE.items()}


def environment(**changes: str) -> dict[str, str]:
    """In which ``linear`` is a backend, beside those of the package."""
    path = os.pathsep.join([str(FAKES), str(ROOT / "src")])
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PATH": tools, **changes}


def make(folder: Path, backend: str) -> None:
    folder.mkdir(parents=True)
    # All keys, as of the composed configuration, since DVC looks them up by name.
    complete = OmegaConf.merge(OmegaConf.structured(Config), params(backend))
    (folder / "params.yaml").write_text(OmegaConf.to_yaml(complete))


def make_repository(folder: Path, backend: str) -> None:
    """The same with DVC: its pipeline as it is, and the code that its stages depend on."""
    make(folder, backend)
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    shutil.copy(FAKES / "backends" / "linear.py", folder / "src" / "lrrt" / "backends")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every output of the study, by path. The store is none: it may hold more."""
    files = [
        path
        for top in ("data", "reports")
        for path in (folder / top).rglob("*")
        if path.is_file() and "store" not in path.relative_to(folder).parts
    ]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def tree(session: int) -> list[int]:
    """The living processes of a session: a command's, and all that came of it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, _, its_session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(entry.name))
    return found


def start(
    command: list[str], folder: Path, fork: bool = False, **variables: str
) -> subprocess.Popen | Fork:
    """``command`` in a session of its own; its standard error is readable. ``fork``: a stage, in a
    fork of this process."""
    if fork:
        return Fork(command, folder, environment(**variables), FAKES / "sitecustomize.py")
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen | Fork) -> str:
    """SIGKILL the whole tree, whoever is alive of it, until nobody is; its standard error."""
    while alive := tree(process.pid):
        for one in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.005)
    return process.communicate()[1]


def run(command: list[str], folder: Path, fork: bool = False, **variables: str) -> float:
    """Run to the end; the seconds it took. RuntimeError, with what it said, if it fails."""
    started = time.monotonic()
    process = start(command, folder, fork, **variables)
    error = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}: {error}")
    return time.monotonic() - started
