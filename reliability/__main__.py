"""``python -m reliability``: measure everything and write ``reports/reliability.md``.

``python -m reliability PART ...`` measures those parts again and keeps the others' figures, which
``reports/reliability.json`` has with their dates.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from lrrt.files import write_whole
from reliability import kills, memory, packages, text

ROOT = Path(__file__).parents[1]
RECORD, PAGE = ROOT / "reports" / "reliability.json", ROOT / "reports" / "reliability.md"
CORE_TESTS = ("core_batches", "core_curves", "core_rules", "core_weights", "numerics")
TESTS = {  # what each file puts to the test
    "test_faults": "kills, signals, disks, damaged files, locks, clocks",
    "test_run_keys": "keys, store",
    "test_runs": "execution, workers, signals",
    "test_launchers": "launchers give the same bits and fail alike",
    "test_download": "downloads from a server that misbehaves",
    "test_datasets": "hostile and damaged archives, data sets",
    "test_config": "composition, types",
    "test_bad_configuration": "bad configuration, over every key",
    "test_numerics": "numbers under extremes; both backends on random networks",
    "test_core_rules": "every rule, on any curve",
    "test_core_curves": "ramp, smoothing, curve",
    "test_core_batches": "batch plans",
    "test_core_weights": "weights",
}


def say(line: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {line}", flush=True)


def measure_kills(count: int, seed: int) -> dict:
    """``count`` kills in all over the stages of two studies."""
    found = {"seed": seed}
    options = {"seed": seed, "per_stage": 7, "fork": True, "say": say}
    for backend, share in (("linear", 0.7), ("torch", 0.3)):
        found[backend] = kills.kill_stages(backend, round(share * count), **options)
    return found


def measure_tests() -> dict:
    """How each file of tests went: tests, failures, skipped with their reasons, seconds."""
    return {name: junit([f"tests/{name}.py"]) for name in TESTS}


def measure_configuration() -> dict:
    """How many bad configurations the tests try, and over how many keys."""
    sys.path.insert(0, str(ROOT / "tests"))
    import test_bad_configuration as tried
    import test_config as composed

    return {
        "keys": len(dict(tried.keys())),
        "wrong": len(tried.CASES),
        "impossible": len(tried.DEEP) + len(composed.BAD),
        "through Hydra": len(tried.OVERRIDES) + len(composed.BAD_FOR_HYDRA),
        "generated": sum(tried.GENERATED.values()),
    }


def measure_coverage() -> dict:
    """Branch and line coverage of :mod:`lrrt.core` by its own tests."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = f"--data-file={folder}/data", f"{folder}/coverage.json"
        coverage = [sys.executable, "-m", "coverage"]
        files = [f"tests/test_{name}.py" for name in CORE_TESTS]
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not agree", *files]
        for command in (
            [*coverage, "run", data, "--branch", "--source=src/lrrt/core", *tests],
            [*coverage, "json", data, "-q", "-o", report],
        ):
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(Path(report).read_text())
    totals = found["totals"]
    return {
        "branches": totals["num_branches"],
        "branches_taken": totals["covered_branches"],
        "lines": totals["num_statements"],
        "lines_run": totals["covered_lines"],
        "missing": {
            name: [*part["missing_lines"], *part["missing_branches"]]
            for name, part in found["files"].items()
            if part["missing_lines"] or part["missing_branches"]
        },
    }


def measure_memory() -> dict:
    """Resident memory of a worker over 200 runs of PyTorch, and fewer, slower ones of Keras."""
    return {"torch": memory.measured("torch", 200), "keras": memory.measured("keras", 60)}


def measure_packages() -> dict:
    """Problems with the installed packages, and their licences."""
    return {"problems": packages.problems(), "licences": packages.licences()}


def junit(arguments: list[str]) -> dict:
    """What pytest counted."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, f"--junitxml={file}", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        suite = ElementTree.parse(file).getroot().find("testsuite")
    skipped = Counter(mark.get("message", "") for mark in suite.iter("skipped"))
    return {
        "tests": int(suite.get("tests")),
        "failed": int(suite.get("failures")) + int(suite.get("errors")),
        "skipped": dict(skipped),
        "seconds": float(suite.get("time")),
    }


def versions() -> dict[str, str]:
    """Of what a figure depends on."""
    names = ("numpy", "pandas", "pyarrow", "safetensors", "torch", "keras", "tensorflow", "dvc")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "commit": commit.stdout.strip() or "no repository",
        "python": platform.python_version(),
        "system": platform.system(),
        **{name: metadata.version(name) for name in names},
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, record, and write the page."""
    parts: dict[str, Callable[..., dict]] = {
        "packages": measure_packages,
        "coverage": measure_coverage,
        "configuration": measure_configuration,
        "memory": measure_memory,
        "tests": measure_tests,
        "kills": lambda: measure_kills(options.kills, options.seed),
        "operations": lambda: kills.crash_at_operations(fork=True, say=say),
        "dvc": lambda: kills.kill_dvc(
            "linear", max(1, options.kills // 50), seed=options.seed, say=say
        ),
    }
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(parts)}")
    parser.add_argument("--kills", type=int, default=220, help="default 220")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of their moments")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    chosen = options.parts or list(parts)
    if "coverage" in chosen and find_spec("coverage") is None:
        parser.error("the package coverage is missing: make install")
    record = json.loads(RECORD.read_text()) if options.parts and RECORD.exists() else {}
    for name in chosen:
        say(f"{name} ...")
        begun = time.monotonic()
        record[name] = {
            "figures": parts[name](),
            "date": f"{datetime.date.today()}",
            "seconds": round(time.monotonic() - begun),
            "versions": versions(),
        }
        write_whole(RECORD, (json.dumps(record, indent=1) + "\n").encode())
        write_whole(PAGE, text.page(record, TESTS).encode())
    say(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
