"""``python -m lrrt.repair_dvc``: out of the way with what a killed DVC left cut off.

DVC writes ``dvc.lock`` and ``.dvc/tmp/rwlock`` in place, and refuses to start where one of them is
not whole. All that they hold can be found again: without ``dvc.lock`` every stage runs once more,
on runs that the store still has; ``rwlock`` says which running DVC uses what. What DVC cannot read
for another reason (a merge, a newer DVC) is moved all the same, and lies beside as ``.damaged``.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from lrrt.errors import one_line_errors


def repair(folder: Path = Path(".")) -> list[str]:
    """Move those two files aside where DVC cannot read them; their names."""
    return [
        name
        for name, check in (("dvc.lock", _check_lock), (".dvc/tmp/rwlock", json.loads))
        if _move_if_damaged(folder / name, check)
    ]


def _move_if_damaged(path: Path, check: Callable[[bytes], object]) -> bool:
    try:
        check(path.read_bytes())
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError, yaml.YAMLError):
        os.replace(path, f"{path}.damaged")
        return True
    return False


def _check_lock(content: bytes) -> None:
    found = yaml.safe_load(content)
    if not isinstance(found, dict) or not isinstance(found.get("stages", {}), dict):
        raise ValueError("stages by name")


if __name__ == "__main__":
    with one_line_errors():
        for name in repair():
            print(
                f"{name} cannot be read by DVC: moved to {name}.damaged; finished runs are in the "
                "store",
                file=sys.stderr,
            )
