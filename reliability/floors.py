"""The lowest versions that ``pyproject.toml`` declares, installed and tested: ``make floors``.

Each requirement of the extras is installed in its lowest version, in ``build/floors``, with the
oldest promised Python; the library's tests must pass there. ``--newest`` takes the newest ones.
``--extras`` chooses: without ``torch`` the tests of live models are skipped, with ``study`` those
of runs and reports are added. An index of PyTorch without CUDA is pip's own configuration; without
one, ``--torch torch==2.5.0`` (or a wheel) installs the CUDA build and none of CUDA's libraries.

What passed, and when: CONTRIBUTING.md.
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
    "test_finder_keras",
    "test_finder_recorded_curves",
    "test_finder_records",
    "test_finder_ranks",
    "test_finder_torch",
    "test_finder_torch_guards",
    "test_finder_torch_curve",
    "test_finder_torch_input",
    "test_finder_verdict",
)
STUDY_TESTS = ("test_finder_page", "test_report", "test_report_figures", "test_runs", "test_stores")
TOOLS = ("pytest>=8", "hypothesis>=6.100", "packaging>=24", "hydra-core>=1.3.2,<1.4")


def requirements(project: dict, extras: list[str]) -> list[str]:
    """The base requirements, those of ``extras``, and what the tests need."""
    wanted = [*project["dependencies"], *TOOLS]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return [each for each in wanted if not each.startswith("lrrt[")]


def torch_without_cuda(torch: str, python: Path) -> None:
    """PyTorch's CUDA build without CUDA: it imports, and finds no device.

    The libraries it links to are gigabytes. In place of each lies one beside PyTorch's own, whose
    functions return an error (100: no device).
    """
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", torch], check=True)
    (metadata,) = python.parents[1].glob("lib/python*/site-packages/torch-*.dist-info/METADATA")
    required = re.findall(
        r"^Requires-Dist: (?!cuda|nvidia|triton)(.*)$", metadata.read_text(), re.M
    )
    subprocess.run([*pip, *(each for each in required if "extra ==" not in each)], check=True)
    library = metadata.parents[1] / "torch" / "lib"
    files = list(library.glob("*.so*"))
    output = ["nm", "--dynamic", "--format=posix", *files], ["objdump", "--private-headers", *files]
    symbols, headers = (
        subprocess.run(each, check=True, capture_output=True, text=True).stdout for each in output
    )
    found = re.findall(r"^((?:__)?(?:cu|nv|nccl)\w+)\S* (\w)", symbols, re.M)
    missing = {name for name, kind in found if kind == "U"}
    missing -= {name for name, kind in found if kind != "U"}
    source = "".join(
        f"int {name}(void) {{ return {0 if '__' in name or 'Error' in name else 100}; }}\n"
        for name in sorted(missing)
    )
    versions = dict(re.findall(r"required from (\S+):\n +\w+ \w+ \w+ (\S+)", headers))
    for name in set(re.findall(r"NEEDED +(lib(?:cu|nv|nccl)\S+)", headers)):
        if not (library / name).exists():
            script = library / "no_cuda.map"
            script.write_text(f"{versions.get(name, name)} {{ *; }};")
            compiler = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-x", "c", "-", "-o"]
            link = [library / name, f"-Wl,--soname={name},--version-script={script}"]
            subprocess.run([*compiler, *link], input=source, check=True, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", nargs="*", default=["torch", "keras", "report"])
    parser.add_argument("--newest", action="store_true", help="newest releases, not lowest")
    parser.add_argument("--python", default="python3.11")
    parser.add_argument("--torch", help="wheel or torch==VERSION, to install without CUDA")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = requirements(project, options.extras)
    if not options.newest:
        wanted = [re.sub(r">=([\d.]+).*", r"==\1", each) for each in wanted]
    if options.torch:
        wanted = [each for each in wanted if not each.startswith("torch")]
    print("\n".join(wanted), flush=True)
    subprocess.run([options.python, "-m", "venv", "--clear", FOLDER], check=True)
    python = FOLDER / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *wanted], check=True)
    if options.torch:
        torch_without_cuda(options.torch, python)
    subprocess.run([*pip, "--no-deps", "--editable", ROOT], check=True)
    study = "study" in options.extras
    tests = [f"tests/{name}.py" for name in TESTS + STUDY_TESTS * study]
    pytest = [python, "-m", "pytest", *["--noconftest"] * (not study), *tests]
    return subprocess.run(pytest, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
