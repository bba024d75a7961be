"""The one error a user's mistake raises, and how a command shows it."""

import contextlib
import errno
import os
import re
import select
import sys
from collections.abc import Iterator

LONGEST_VALUE = 200  # characters of it that a message shows
# What the machine refuses, through no fault of the program.
REFUSED = {
    errno.ENOENT,  # of a file to read, each reader says more
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENOSYS,
    errno.ENOLCK,
    errno.ESTALE,
}


class InputError(ValueError):
    """Bad input, in one line: ``key: expected EXPECTED, got VALUE``.

    What follows ``"; "`` in ``expected`` (why, or what would help) is said after the value; not so
    within parentheses, which may quote another error.
    """

    def __init__(self, key: str, value: object, expected: str):
        self.key, self.value, self.expected = key, value, expected
        shown = repr(value)
        if len(shown) > LONGEST_VALUE:
            shown = f"{shown[: LONGEST_VALUE - 3]}..."
        wanted, *explanation = re.split(r"; (?![^()]*\))", expected, maxsplit=1)
        line = "; ".join([f"{key}: expected {wanted}, got {shown}", *explanation])
        # Nor may a name from a file move the cursor of a terminal, or fail to be printed.
        super().__init__("".join(c if c.isprintable() else " " for c in line))

    def __reduce__(self):
        return type(self), (self.key, self.value, self.expected)  # from a worker to its parent


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an :class:`InputError` as one line on standard error and exit with status 2.

    With status 1 for a disk that is full, cannot be written or read, a folder in the place of a
    file and the like; with 130 for Ctrl-C; with 141, silently, if whoever reads standard output has
    gone (``| head -1``). The notes of an error follow it, a line each.
    """
    try:
        yield
        print(end="", flush=True)
    except InputError as error:
        _tell(f"error: {error}", error)
        raise SystemExit(2) from None
    except KeyboardInterrupt as error:
        _tell("stopped by SIGINT (Ctrl-C); no file is half-written", error)
        raise SystemExit(130) from None
    except BrokenPipeError:
        if not _stdout_is_broken():
            raise
        # What is left in the buffer would fail again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        _tell(f"error: {error}", error)
        raise SystemExit(1) from None


def _tell(line: str, error: BaseException) -> None:
    print(line, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)


def _stdout_is_broken() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
