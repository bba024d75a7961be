"""Workers that wait for the next stage, so that each imports its framework once a DVC command.

DVC runs every experiment in a process of its own. A worker that is idle when its stage ends listens
on a socket until the next stage of the same ``dvc`` process connects, and ends with that process,
however that ends. It takes processes that can be watched and sockets without files (Linux);
elsewhere, as outside DVC, a worker ends with its stage.
"""

import contextlib
import hashlib
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import lrrt

LARGEST = 2**30  # bytes: a worker that took more ends: its runs take much longer than its imports
ANSWER_SECONDS = 1.0


class Command(NamedTuple):
    """The ``dvc`` process that stages run under: its id; when it started, since ids recur; and a
    digest of the code that its workers import, which may change meanwhile."""

    process: int
    started: str
    code: str

    @property
    def address(self) -> str:
        """What the names of its workers' sockets begin with (0: they are not in a file system)."""
        return f"\0lrrt-{self.process}-{self.started}-"


def enclosing_command() -> Command | None:
    """The ``dvc`` process that runs this stage, None where there is none that can be watched.

    It is the nearest ancestor without the stage's ``DVC_STAGE`` in its environment.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or not hasattr(os, "pidfd_open"):
        return None
    process, marked = os.getpid(), f"DVC_STAGE={stage}".encode()
    try:
        while marked in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            process = int(_status(process)[1])
        return Command(process, _status(process)[19], _code())
    except OSError:
        return None


def _status(process: int) -> list[str]:
    """Fields of ``/proc/<process>/stat`` from the third on: state, parent, ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _code() -> str:
    folder = Path(lrrt.__file__).parent
    states = ((path, path.stat()) for path in sorted(folder.rglob("*.py")))
    files = [(str(path), state.st_mtime_ns, state.st_size) for path, state in states]
    return hashlib.sha256(repr((files, sys.path, os.getcwd())).encode()).hexdigest()


def workers(command: Command) -> Iterator[tuple[int, Connection, tuple]]:
    """Process id, connection and group of each worker that waits; one of other code ends."""
    try:
        names = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()}
    except OSError:
        return
    for name in names:
        address = "\0" + name[1:]  # the file has an @ there
        if not address.startswith(command.address):
            continue
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(address)
                process = _process_of_same_user(client)
                connection = Connection(client.detach())
                if process and connection.poll(ANSWER_SECONDS):
                    found, group = connection.recv()
                    if found == command:
                        yield process, connection, group
                        continue
                connection.close()
            except (OSError, EOFError):  # it has ended
                continue


def release(connection: Connection) -> bool:
    """Whether the idle worker at the other end now waits for the next stage."""
    try:
        connection.send(None)
        return connection.poll(ANSWER_SECONDS) and connection.recv()
    except (OSError, EOFError):
        return False


def next_stage(
    connection: Connection, command: Command, group: tuple, released: threading.Event
) -> tuple[Connection, int] | None:
    """In a worker that the stage at the other end releases: wait for the next stage.

    Returns
    -------
    tuple or None
        The connection to it, and a file descriptor that is ready when its process ends. None if
        no stage can follow, or this worker is too large to wait.

    ``released`` is set once this process need no longer end with the stage before.
    """
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > LARGEST:
        return None
    try:
        with contextlib.ExitStack() as stack:
            sentinel = os.pidfd_open(command.process)
            stack.callback(os.close, sentinel)
            if _status(command.process)[19] != command.started:
                return None
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{command.address}{os.getpid()}")
            listener.listen()
            released.set()
            connection.send(True)
            while sentinel not in wait([listener, sentinel]):
                client, _ = listener.accept()
                if process := _process_of_same_user(client):
                    stage = os.pidfd_open(process)
                    connection = Connection(client.detach())
                    connection.send((command, group))
                    return connection, stage
                client.close()
    except OSError:  # one of the other processes has ended
        pass
    return None


def _process_of_same_user(peer: socket.socket) -> int | None:
    """The id of the process at the other end; None for another user's: a pickle can do
    anything."""
    size = struct.calcsize("3i")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    process, user, _ = struct.unpack("3i", credentials)
    return process if user == os.getuid() else None
