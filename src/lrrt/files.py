"""Files written whole or not at all."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``: a reader, or a crash, sees all of it or none."""

    def write(beside: Path) -> None:
        beside.write_bytes(content)

    write_whole_with(path, write)


def write_whole_with(path: Path, write: Callable[[Path], None]) -> None:
    """As :func:`write_whole`, for large content: ``write`` makes the file that it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(beside)
        _to_disk(beside)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)  # the new name, too, survives a power cut


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
