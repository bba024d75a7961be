"""``python -m lrrt.mend``: out of the way with what a killed DVC left cut off.

DVC writes ``dvc.lock`` and ``.dvc/tmp/rwlock`` in place, and refuses to start where one of them is
not whole. All that they hold can be found again: without ``dvc.lock`` every stage runs once more,
on runs that the store still has; ``rwlock`` says which running DVC uses what.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid


def mend(folder: Path = Path(".")) -> list[str]:
    """Remove those two files where DVC cannot read them; their names."""
    return [
        name
        for name, check in (("dvc.lock", _check_lock), (".dvc/tmp/rwlock", json.loads))
        if _cut_off(folder / name, check)
    ]


def _cut_off(path: Path, check: Callable[[bytes], object]) -> bool:
    try:
        check(path.read_bytes())
    except FileNotFoundError:
        return False
    except (ValueError, yaml.YAMLError, Invalid):
        path.unlink()
        return True
    return False


def _check_lock(content: bytes) -> None:
    COMPILED_LOCKFILE_SCHEMA(yaml.load(content, yaml.CSafeLoader))


if __name__ == "__main__":
    for name in mend():
        print(f"{name} was cut off: removed; finished runs are in the store", file=sys.stderr)
