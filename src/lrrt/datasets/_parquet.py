"""Images in a Parquet file with columns ``img: struct<bytes, path>`` and ``label``."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FORMATS = ("PNG", "JPEG")  # the only decoders that a file's bytes can reach


def read(
    content: bytes, count: int, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Decode all rows of a Parquet file.

    Returns
    -------
    images : uint8 (count, *shape)
    labels : int64 (count,)
    formats : which of ``FORMATS`` the images are in

    Raises
    ------
    ValueError
        If it is no Parquet, lacks a column, or has rows or images of other numbers or shapes.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        rows = file.metadata.num_rows
        if rows != count:  # before anything of that length is read
            raise ValueError(f"it has {rows} rows, not {count}")
        table = file.read(["img.bytes", "label"])
        encoded = pc.struct_field(table["img"], "bytes").to_pylist()
        labels = table["label"].to_numpy().astype(np.int64, casting="safe")
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(f"it is cut or has other columns: {error}") from None
    images, formats = np.empty((count, *shape), np.uint8), set()
    for row, data in enumerate(encoded):
        try:
            images[row], name = decode(data, shape)
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from None
        formats.add(name)
    return images, labels, formats


def decode(data: bytes | None, shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    """Pixels, uint8 of ``shape``, and the format of one encoded RGB image; ValueError otherwise."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data or b""), formats=FORMATS) as image:
            found = (image.height, image.width, len(image.getbands()))
            if found != shape or image.mode != "RGB":  # known before a pixel is decoded
                raise ValueError(f"an image of shape {found}, {image.mode}")
            return np.asarray(image), image.format
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"no image: {error}") from None
