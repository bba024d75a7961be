"""The installed packages: do they fit together, are they the pinned ones, under which licences?

``python -m reliability.packages`` lists the licences and exits with status 1 on a problem. It asks
nobody: known vulnerabilities are looked up where there is a network, by ``pip-audit -r
constraints.txt``.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("study", "dev")  # what the two commands of the README install
UNPINNED = {"pip", "setuptools", "wheel"}  # pip freeze leaves them out: they install the others
# Parts of a licence's name; the first that occurs names its kind.
KINDS = {
    "copyleft": ("AGPL", "GPL", "General Public"),  # not the lesser one, which is looked for first
    "weak copyleft": ("LGPL", "Lesser General Public", "MPL", "Mozilla", "EPL", "Eclipse"),
    "permissive": (
        "MIT",
        "BSD",
        "Apache",
        "ISC",
        "PSF",
        "Python Software",
        "Unlicense",
        "HPND",
        "Zlib",
        "0BSD",
        "CC0",
        "Public Domain",
        "Historical Permission",
        "Zope",
    ),
}


def closure(name: str = "lrrt", extras: tuple[str, ...] = EXTRAS) -> dict[str, str]:
    """Versions of the installed packages that ``name`` with ``extras`` needs, itself left out."""
    found: dict[str, str] = {}
    waiting, seen = [(name, extras)], set()
    while waiting:
        current, wanted = waiting.pop()
        if (current, wanted) in seen:
            continue
        seen.add((current, wanted))
        try:
            distribution = metadata.distribution(current)
        except metadata.PackageNotFoundError:
            continue  # pip check names it where it is missing
        if current != name:
            found[current] = distribution.version
        for text in distribution.requires or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in (*wanted, "")]
            if requirement.marker is None or any(
                requirement.marker.evaluate(environment) for environment in environments
            ):
                asked = tuple(sorted(requirement.extras))
                waiting.append((canonicalize_name(requirement.name), asked))
    return dict(sorted(found.items()))


def pinned(constraints: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Versions by package of a constraints file."""
    lines = [line.split("#")[0].strip() for line in constraints.read_text().splitlines()]
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def problems() -> list[str]:
    """Requirements that are not met, packages that are not pinned, or of another version."""
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    found = [] if check.returncode == 0 else check.stdout.splitlines()
    expected = pinned()
    for name, version in closure().items():
        plain = version.split("+")[0]
        if name in UNPINNED:
            continue
        if name not in expected:
            found.append(f"{name} {version} is not in constraints.txt")
        elif expected[name].split("+")[0] != plain:
            found.append(f"{name} is {version}, constraints.txt says {expected[name]}")
    return found


def licence(name: str) -> str:
    """What a package's metadata says about its licence, in a few words."""
    about = metadata.metadata(name)
    classifiers = [
        line.split(" :: ")[-1]
        for line in about.get_all("Classifier", [])
        if line.startswith("License ::") and line != "License :: OSI Approved"
    ]
    text = (about.get("License") or "").strip().splitlines()
    for said in (about.get("License-Expression"), " / ".join(classifiers), *text[:1]):
        if said and len(said) < 100:
            return said
    return "not stated"


def kind(said: str) -> str:
    """``permissive``, ``weak copyleft``, ``copyleft`` or ``not stated``.

    Of alternatives (OR) the most permissive counts.
    """
    kinds = [_kind(part) for part in re.split(r"\bOR\b", said)]
    order = [*reversed(KINDS), "not stated"]
    return min(kinds, key=order.index)


def _kind(said: str) -> str:
    for name in ("weak copyleft", "copyleft", "permissive"):
        if any(re.search(rf"\b{part}", said, re.IGNORECASE) for part in KINDS[name]):
            return name
    return "not stated"


def licences() -> dict[str, tuple[str, str, str]]:
    """Version, licence and its kind of each needed package."""
    found = {}
    for name, version in closure().items():
        said = licence(name)
        found[name] = version, said, kind(said)
    return found


def main() -> None:
    """Print the licences, then the problems; status 1 if there are any."""
    for name, (version, said, of_kind) in licences().items():
        print(f"{name:34} {version:16} {of_kind:14} {said}")
    found = problems()
    for line in found:
        print(f"problem: {line}", file=sys.stderr)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
