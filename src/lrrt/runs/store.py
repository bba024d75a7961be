"""Results by key: one safetensors file per run, written whole or not at all, verified when read."""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as serialise_arrays

from lrrt.files import write_whole
from lrrt.runs.spec import RunSpec

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Result:
    """What a run gives.

    ``arrays`` of a range test, float64 (steps,): lr (trained at), loss, penalty, grad_norm, and
    val_loss, val_accuracy where asked; of a training, one value per epoch: see
    :func:`lrrt.runs.execute.execute`. ``record``: JSON values about the run (package versions,
    seconds), which do not have to be equal when it is repeated.
    """

    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


def _checksum(spec_json: str, record_json: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over both texts and each array's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for part in (spec_json, record_json):
        digest.update(f"{len(part.encode())}:{part}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _parse(content: bytes, key: str) -> Result:
    """The result in ``content``; ValueError, naming what is wrong, unless it is sound."""
    if not content:
        raise ValueError("it is empty")
    try:
        header_length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + header_length])
        metadata = header["__metadata__"]
        version = metadata["format_version"]
        if version != FORMAT_VERSION:
            raise ValueError(f"it has format version {version}, not {FORMAT_VERSION}")
        arrays = parse_arrays(content)
        spec_json, record_json = metadata["spec"], metadata["record"]
        intact = _checksum(spec_json, record_json, arrays) == metadata["sha256"]
    except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("it is cut or unreadable") from None
    if not intact:
        raise ValueError("its checksum does not match its content")
    if hashlib.sha256(spec_json.encode()).hexdigest()[: len(key)] != key:
        raise ValueError("it holds another run")
    return Result(arrays, json.loads(record_json))


class Store:
    """A folder of results, ``<path>/<key[:2]>/<key>.safetensors``. Several processes may share it.

    An entry that is cut, empty, altered or of another format version is named on standard error,
    moved to ``<path>/damaged/`` and from then on missing, so that the run is repeated.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def file(self, key: str) -> Path:
        return self.path / key[:2] / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether there is a sound result of that key (it is read and verified)."""
        return self.get(key) is not None

    def get(self, key: str) -> Result | None:
        """The verified result, or None where there is none."""
        file = self.file(key)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _parse(content, key)
        except ValueError as damage:
            aside = self.path / "damaged" / file.name
            aside.parent.mkdir(exist_ok=True)
            try:
                os.replace(file, aside)
            except FileNotFoundError:
                pass  # another process has just moved it
            print(f"store: {file} is damaged ({damage}); moved to {aside}", file=sys.stderr)
            return None

    def put(self, spec: RunSpec, result: Result) -> None:
        """Store ``result`` under the key of ``spec``."""
        arrays = {name: np.ascontiguousarray(array) for name, array in result.arrays.items()}
        spec_json, record_json = spec.to_json(), json.dumps(result.record, sort_keys=True)
        metadata = {
            "format_version": FORMAT_VERSION,
            "spec": spec_json,
            "record": record_json,
            "sha256": _checksum(spec_json, record_json, arrays),
        }
        write_whole(self.file(spec.key), serialise_arrays(arrays, metadata))
