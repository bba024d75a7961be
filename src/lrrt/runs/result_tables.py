"""What tables of results share: their files, and where their runs came from."""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lrrt.files import write_whole
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result


def empty_table(types: Mapping[str, str]) -> pd.DataFrame:
    """No rows of a table with these columns and types."""
    return pd.DataFrame(columns=list(types)).astype(types)


def provenance(specs: Sequence[RunSpec], results: Iterable[Result]) -> dict[str, list]:
    """For a table's ``attrs``, which Parquet keeps: ``data_digests``, ``versions`` (of packages,
    distinct) and ``places`` (distinct: device and precision, ``cpu, float32``)."""
    versions: list[dict[str, str]] = []
    for result in results:
        if result.record["versions"] not in versions:
            versions.append(result.record["versions"])
    return {
        "data_digests": sorted({spec.data_digest for spec in specs}),
        "versions": versions,
        "places": sorted({f"{spec.device}, {spec.precision}" for spec in specs}),
    }


def table_checksum(table: pd.DataFrame) -> str:
    """SHA-256 (hex) of the names, kinds and values of the columns of ``table``.

    Equal before and after a way through Parquet, which makes one missing value of another and
    checks nothing: a flipped bit would become another number.
    """
    digest = hashlib.sha256(str(len(table)).encode())
    for name in table:
        column, absent = table[name], table[name].isna()
        kind = "str"
        if pd.api.types.is_numeric_dtype(column):
            kind = "float64" if pd.api.types.is_float_dtype(column) else "int64"
        digest.update(f"{name}:{kind}:".encode())
        digest.update(absent.to_numpy().tobytes())
        values = column.where(~absent, "" if kind == "str" else 0).astype(kind)
        content = "\0".join(values).encode() if kind == "str" else values.to_numpy().tobytes()
        digest.update(content)
    return digest.hexdigest()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as Parquet with its checksum, whole or not at all."""
    table = table.copy(deep=False)
    table.attrs = table.attrs | {"sha256": table_checksum(table)}
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
