"""The one error a user's mistake raises, and how a command shows it."""

import contextlib
import sys
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input: one line that names the key, the value, and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str):
        self.key, self.value, self.allowed = key, value, allowed
        super().__init__(f"{key}: {value!r} is not allowed; {allowed}".replace("\n", " "))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an :class:`InputError` as one line on standard error and exit with status 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
