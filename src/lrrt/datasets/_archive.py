"""CIFAR-10's binary archive, read from the stream: nothing is ever extracted to disk.

A file has 10,000 records of 3,073 bytes: the label, then 1,024 red, green and blue values.
"""

import gzip
import io
import tarfile
import zlib

import numpy as np

FOLDER = "cifar-10-batches-bin"
FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
RECORDS, RECORD_BYTES = 10_000, 1 + 3 * 32 * 32
# The archive also has these texts, which are not read, and an entry for its folder.
TEXTS, LONGEST_TEXT = ("batches.meta.txt", "readme.html"), 65_536


class _Limited:
    """A stream that refuses to give more than ``limit`` bytes, however well they were packed."""

    def __init__(self, stream: io.BufferedIOBase, limit: int):
        self.stream, self.left = stream, limit

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it expands to more than it should")
        return data


def read(content: bytes) -> list[bytes]:
    """The six files, in the order of ``FILES``, of the archive ``content`` (a .tar.gz).

    Raises
    ------
    ValueError
        If the archive is cut or damaged, a file is missing, twice there or of another size, or if
        there is any other member: a path elsewhere, a link, a device.
    """
    size = RECORDS * RECORD_BYTES
    expected = {f"{FOLDER}/{name}": size for name in FILES}
    texts = {f"{FOLDER}/{name}" for name in TEXTS}
    found = {}
    stream = _Limited(gzip.GzipFile(fileobj=io.BytesIO(content)), len(FILES) * size + 2**20)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = member.name
                regular = member.isreg() and not member.issparse()
                if name == FOLDER and member.isdir():
                    continue
                if name in texts and regular and member.size <= LONGEST_TEXT:
                    continue
                if name not in expected or not regular or name in found:
                    raise ValueError(f"unexpected member {name[:80]!r}")
                if member.size != expected[name]:
                    raise ValueError(f"{name} has {member.size} bytes, not {expected[name]}")
                found[name] = archive.extractfile(member).read()
        while stream.read(65_536):  # to the end, where gzip's own checksum is compared
            pass
    except (tarfile.TarError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(f"it is cut or damaged: {error}") from None
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return [found[name] for name in expected]


def parse(files: list[bytes]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images, uint8 (images, 32, 32, 3), and labels, int64 (images,), of ``train`` and ``test``.

    ``files``: contents in the order of ``FILES``. ValueError if one has another length.
    """
    records = []
    for name, content in zip(FILES, files, strict=True):
        if len(content) != RECORDS * RECORD_BYTES:
            raise ValueError(f"{name} has {len(content)} bytes, not {RECORDS * RECORD_BYTES}")
        records.append(np.frombuffer(content, np.uint8).reshape(RECORDS, RECORD_BYTES))
    splits = {}
    for split, parts in (("train", records[:-1]), ("test", records[-1:])):
        whole = np.concatenate(parts)
        planes = whole[:, 1:].reshape(-1, 3, 32, 32)
        images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        splits[split] = images, whole[:, 0].astype(np.int64)
    return splits
