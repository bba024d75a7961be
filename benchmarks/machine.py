"""What a benchmark ran on, and how busy it was meanwhile."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "lrrt",
    "torch",
    "keras",
    "tensorflow",
    "numpy",
    "torch-lr-finder",
    "fastai",
    "pytorch-lightning",
    "ray",
    "submitit",
    "dvc",
)


def describe() -> dict:
    """Processor, cores, memory, load, versions and commit, as JSON values."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(part.split(":", 1) for part in lines if ":" in part)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "processor": facts.get("model name", platform.processor()),
        "family_model": [facts.get("cpu family"), facts.get("model")],
        "instructions": [flag for flag in wanted if flag in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": list(os.getloadavg()),
        "python": sys.version.split()[0],
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
        "commit": commit,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
