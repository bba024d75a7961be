"""Files written whole or not at all."""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``: a reader, or a crash, sees all of it or none.

    What a killed writer of the same file has left beside it is removed.

    Raises
    ------
    OSError
        Naming ``path``, if it cannot be written; it is as it was before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        with _beside(path) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, survives a power cut
        finally:
            os.close(folder)
    except OSError as error:  # a full disk does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A new file beside ``path``, locked as long as its writer lives; removed if that fails."""
    while True:
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        file = open(beside, "xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # another writer took it for abandoned before it was locked
    try:
        with file:
            yield file
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _remove_abandoned(path: Path) -> None:
    for name in os.listdir(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(".tmp"):
            beside = path.with_name(name)
            with contextlib.suppress(OSError), open(beside, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                beside.unlink()
