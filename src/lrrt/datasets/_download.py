"""Download one known file: with progress, resumed where it stopped, verified before it is used."""

import contextlib
import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit

from tqdm import tqdm

from lrrt.errors import InputError

if TYPE_CHECKING:
    from requests import Response, Session

TIMEOUT = 30.0  # seconds to wait for a connection, and for the next byte
SLOWEST, WINDOW = 1_000, 60.0  # bytes a second at least, over so many seconds
REDIRECTS = 5
CHUNK = 65_536
KEPT = "what has arrived is kept and the next call goes on from there"


def fetch(url: str, path: Path, size: int, sha256: str) -> Path:
    """Have at ``path`` the file of ``size`` bytes and that SHA-256; download what is missing.

    What arrives is kept as ``<path>.part``, from where a later call goes on. The file gets its
    name only when its checksum is right. Redirects are followed to the same host only, and never
    from https to http.

    Raises
    ------
    InputError
        In one line, for whatever keeps the file from being whole and right.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        if path.is_file():
            if _sha256(path) == sha256:
                return path
            print(f"{path} was altered: it is downloaded again", file=sys.stderr)
            path.unlink()
        try:
            with _completed(url, part, size):
                if _sha256(part) != sha256:
                    part.unlink()
                    raise _error(url, "the known file (its SHA-256 is another; it was discarded)")
                os.replace(part, path)
        except (InputError, OSError):
            if not (path.is_file() and _sha256(path) == sha256):  # of a process that was faster
                raise
    except OSError as error:  # a full disk, say: those of the network are caught where they arise
        reason = error.strerror or str(error)
        raise InputError("download", str(part), f"a file that can be written ({reason})") from None
    return path


def _error(url: str, reason: str) -> InputError:
    return InputError("download", url, f"{reason}; or give a local copy as data.path")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _completed(url: str, part: Path, size: int) -> Iterator[None]:
    """Receive what ``part`` lacks of ``size`` bytes. Nothing is written before a sound answer;
    then ``part`` is for this process alone."""
    import requests

    have = part.stat().st_size if part.is_file() else 0
    if have == size:
        with _locked(part, url, have):
            yield
        return
    with requests.Session() as session:
        start = have if have < size else 0
        with _ask(session, url, start) as response:
            start = _check(response, url, start, size)
            with _locked(part, url, have) as file:
                file.truncate(start)
                _copy(response, file, start, size, url)
                file.flush()
                os.fsync(file.fileno())
                yield


def _ask(session: "Session", url: str, start: int) -> "Response":
    """The answer to a request of the file from byte ``start`` on, its body not yet read."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    current = url
    try:
        for _ in range(REDIRECTS + 1):
            response = session.get(
                current, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT
            )
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(current, response.headers["Location"])
            if not _same_host(current, target):
                raise _error(url, f"a server that does not redirect elsewhere (to {target})")
            current = target
    except requests.Timeout:
        raise _error(url, f"a server that answers within {TIMEOUT:g} s") from None
    except requests.RequestException as error:
        kind = type(error).__name__
        raise _error(url, f"a server that can be reached; is there a network? ({kind})") from None
    raise _error(url, f"a server with at most {REDIRECTS} redirects")


def _same_host(url: str, target: str) -> bool:
    old, new = urlsplit(url), urlsplit(target)
    if old.hostname != new.hostname:
        return False
    return new.scheme == "https" or (new.scheme, new.port) == (old.scheme, old.port)


def _check(response: "Response", url: str, start: int, size: int) -> int:
    """The byte from which on the answer's body goes; InputError unless it leads to ``size``."""
    status, headers = response.status_code, response.headers
    if status not in (200, 206):
        raise _error(url, f"a server that has the file (it answers {status} {response.reason})")
    kind = headers.get("Content-Type", "")
    if kind.lower().startswith("text/"):
        raise _error(url, f"a file, not a page (the server sends {kind.split(';')[0]})")
    if status == 206:
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
        if not span or (int(span[1]), int(span[2])) != (start, size - 1):
            raise _error(url, f"a server that sends bytes {start} to {size - 1} when asked")
    else:
        start = 0  # the server does not know ranges and sends all of it
    length = headers.get("Content-Length", "")
    if length.isdecimal() and start + int(length) != size:
        raise _error(url, f"a file of {size:,} bytes (the server's has {start + int(length):,})")
    return start


@contextlib.contextmanager
def _locked(part: Path, url: str, size: int) -> Iterator[BinaryIO]:
    """``part``, open to append, for this process alone; of ``size`` bytes, as it was found."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(file.fileno()).st_size == size
        except BlockingIOError:
            free = False
        if not free:
            raise _error(url, f"one process at a time ({part} is in use)")
        yield file


def _copy(response: "Response", file: BinaryIO, start: int, size: int, url: str) -> None:
    """Append to ``file`` up to ``size`` bytes. A cut leaves what has arrived; a file that is
    shorter than it should be, what was there before."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    have, since, at_since = start, time.monotonic(), start
    name = os.path.basename(urlsplit(url).path)
    problem = ""
    with tqdm(total=size, initial=start, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        try:
            while have < size and not problem:
                # read1 gives what has come; read would wait for a whole chunk, however slow.
                chunk = response.raw.read1(min(CHUNK, size - have), decode_content=False)
                if not chunk:
                    file.flush()
                    file.truncate(start)
                    raise _error(url, f"a file of {size:,} bytes (the server's has {have:,})")
                have += len(chunk)
                file.write(chunk)
                bar.update(len(chunk))
                seconds = time.monotonic() - since
                if seconds >= WINDOW:
                    if have - at_since < SLOWEST * seconds:
                        problem = f"less than {SLOWEST:,} bytes a second came"
                    since, at_since = time.monotonic(), have
        except ReadTimeoutError:
            problem = f"nothing came for {TIMEOUT:g} s"
        except HTTPError:
            problem = "the connection was cut"
    if problem and have < size:
        raise _error(url, f"all {size:,} bytes ({problem}, after {have:,}; {KEPT})")
