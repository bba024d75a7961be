"""``python -m lrrt.lockfile``: out of the way with a ``dvc.lock`` that a killed DVC left cut off.

DVC writes the file in place, and refuses to start where it is not whole. All that it holds can be
found again: without it every stage runs once more, on runs that the store still has.
"""

import sys
from pathlib import Path


def mend(path: Path = Path("dvc.lock")) -> bool:
    """Remove a lock file that DVC cannot read; whether it was one."""
    import yaml
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    if not path.exists():
        return False
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.load(path.read_bytes(), yaml.CSafeLoader))
    except (yaml.YAMLError, Invalid):
        path.unlink()
        return True
    return False


if __name__ == "__main__":
    if mend():
        print("dvc.lock was cut off: removed; runs are kept in the store", file=sys.stderr)
