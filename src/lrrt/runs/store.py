"""Results by key: one safetensors file per run, written whole or not at all, verified when read."""

import errno
import hashlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as serialise_arrays

from lrrt.errors import InputError
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


def _metadata(content: bytes) -> dict[str, str]:
    header_length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + header_length])["__metadata__"]


def _parse(content: bytes, key: str) -> Result:
    """The result in ``content``; ValueError, naming what is wrong, unless it is sound."""
    if not content:
        raise ValueError("it is empty")
    try:
        metadata = _metadata(content)
        if (version := metadata["format_version"]) != FORMAT_VERSION:
            raise ValueError(f"it has format version {version}, not {FORMAT_VERSION}")
        arrays = parse_arrays(content)
        spec_json, record_json = metadata["spec"], metadata["record"]
        intact = _checksum(spec_json, record_json, arrays) == metadata["sha256"]
    except (
        SafetensorError,
        LookupError,
        TypeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        RecursionError,
    ):
        raise ValueError("it is cut or unreadable") from None
    if not intact:
        raise ValueError("its checksum does not match its content")
    if hashlib.sha256(spec_json.encode()).hexdigest()[: len(key)] != key:
        raise ValueError("it holds another run")
    return Result(arrays, json.loads(record_json))


def load_result(store: "Store", spec: RunSpec, what: str = "run") -> Result:
    """The stored result of ``spec``.

    Raises
    ------
    InputError
        If the store lacks it; ``what`` names it in the message.
    """
    result = store.get(spec.key)
    if result is None:
        raise InputError(what, spec.key[:12], f"a run that {store.path} has")
    return result


class Store:
    """A folder of results, ``<path>/<key[:2]>/<key>.safetensors``. Several processes may share it.

    An entry that is cut, empty, altered or of an unknown format version is named on standard
    error, moved to ``<path>/damaged/`` (where the store can be written) and from then on missing,
    so that the run is repeated.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def checkpoints(self) -> "Store":
        """Of trainings that have not ended yet (:mod:`lrrt.runs.checkpoint`)."""
        return Store(self.path / "checkpoints")

    def file(self, key: str) -> Path:
        return self.path / key[:2] / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether there is a sound result of that key (it is read and verified)."""
        return self.get(key) is not None

    def get(self, key: str) -> Result | None:
        """The verified result, or None where there is none.

        Raises
        ------
        OSError
            For an entry that may not be read.
        """
        file = self.file(key)
        try:
            return _parse(file.read_bytes(), key)
        except FileNotFoundError:
            return None
        except ValueError as damage:
            self._put_aside(file, str(damage))
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EISDIR):
                raise
            self._put_aside(file, error.strerror)
        return None

    def _put_aside(self, file: Path, damage: str) -> None:
        aside = self.path / "damaged" / file.name
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(file, aside)
        except FileNotFoundError:
            pass  # another process has just moved it
        except OSError as error:
            print(f"store: {file} is damaged ({damage}) and stays: {error}", file=sys.stderr)
            return
        print(f"store: {file} is damaged ({damage}); moved to {aside}", file=sys.stderr)

    def check_writable(self) -> None:
        """Raise OSError, naming the folder, if no result can be written: before it takes hours."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(bytes(4096))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def put(self, spec: RunSpec, result: Result) -> None:
        """Store ``result`` under the key of ``spec``; its checkpoint goes."""
        # As they are, but in C order; ascontiguousarray would make one value an array of one.
        arrays = {name: np.asarray(array, order="C") for name, array in result.arrays.items()}
        spec_json, record_json = spec.to_json(), json.dumps(result.record, sort_keys=True)
        metadata = {
            "format_version": FORMAT_VERSION,
            "spec": spec_json,
            "record": record_json,
            "sha256": _checksum(spec_json, record_json, arrays),
        }
        write_whole(self.file(spec.key), serialise_arrays(arrays, metadata))
        self.checkpoints.file(spec.key).unlink(missing_ok=True)


class Timed(Store):
    """A store that notes the wall-clock ``seconds`` of each result that is read, by the run's name
    in tables (the first 12 digits of its key)."""

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.seconds: dict[str, float] = {}

    def get(self, key: str) -> Result | None:
        """As :meth:`Store.get`."""
        result = super().get(key)
        if result is not None and "seconds" in result.record:
            self.seconds[key[:12]] = float(result.record["seconds"])
        return result
