"""The lowest versions that ``pyproject.toml`` declares, installed and tested: ``make floors``.

Each requirement of the extras is installed in its lowest version, in ``build/floors``, with the
oldest promised Python; the library's tests must pass there. ``--extras`` narrows it: without
``torch`` and ``keras`` the tests of live models are skipped. Which index has PyTorch without CUDA
is pip's own configuration.

Passed on 2026-11-30: torch 2.5.0 with NumPy 2.0.0, SciPy 1.15.0, tqdm 4.66, joblib 1.4 and
cloudpickle 3.0 (two processes, too); trainings after a test on Keras 3.13.0 with TensorFlow 2.18.0,
which on Keras 3.10.0 were other ones. Newest tested: ``constraints.txt``.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "floors"
TESTS = (
    "test_audit_workers",
    "test_core_batches",
    "test_core_curves",
    "test_core_rules",
    "test_finder",
    "test_finder_command",
    "test_finder_recorded_curves",
    "test_finder_records",
    "test_finder_ranks",
    "test_finder_torch",
    "test_finder_torch_guards",
    "test_finder_torch_curve",
    "test_finder_torch_input",
    "test_finder_verdict",
)
TOOLS = ("pytest>=8", "hypothesis>=6.100", "packaging>=24")


def floors(project: dict, extras: list[str]) -> list[str]:
    """``name==lowest`` of the base requirements, of those of ``extras``, and of what tests need."""
    found = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    pinned = {}
    for requirement in (*found, *TOOLS):
        lowest = re.fullmatch(r"([\w-]+)>=([\d.]+)(,<.*)?", requirement)
        if lowest:  # else the extra of another
            pinned[lowest[1]] = lowest[2]
    return [f"{name}=={version}" for name, version in pinned.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", nargs="*", default=["torch", "keras", "report"])
    parser.add_argument("--python", default="python3.11")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = floors(project, options.extras)
    print("\n".join(wanted), flush=True)
    subprocess.run([options.python, "-m", "venv", "--clear", FOLDER], check=True)
    python = FOLDER / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *wanted], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", ROOT], check=True)
    tests = [f"tests/{name}.py" for name in TESTS]
    return subprocess.run(
        [python, "-m", "pytest", "--noconftest", *tests], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
