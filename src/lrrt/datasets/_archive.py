"""CIFAR-10's binary archive, read in memory: nothing is ever extracted to disk.

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


def read(content: bytes) -> list[bytes]:
    """The six files, in the order of ``FILES``, of the archive ``content`` (a .tar.gz).

    Raises
    ------
    ValueError
        If the archive is cut or damaged, or a file is missing, no plain file or of another size.
    """
    size = RECORDS * RECORD_BYTES
    found = []
    try:
        # Whole, so that gzip's own checksum is compared.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:") as archive:
            for name in FILES:
                member = archive.getmember(f"{FOLDER}/{name}")
                if not member.isreg() or member.issparse() or member.size != size:
                    raise ValueError(f"{name} is no plain file of {size} bytes")
                found.append(archive.extractfile(member).read())
    except (tarfile.TarError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(f"it is cut or damaged: {error}") from None
    except KeyError as error:
        raise ValueError(f"it has no such file: {error.args[0]}") from None
    return found


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
