"""Download one known file: with progress, tried again, verified before it has its name."""

import sys
from pathlib import Path

from lrrt.errors import InputError

TIMEOUT = 30.0  # seconds to wait for a connection, and for the next byte
RETRIES = 3


def fetch(url: str, path: Path, sha256: str) -> Path:
    """Have at ``path`` the file with that SHA-256; download it where it is missing or altered.

    Raises
    ------
    InputError
        In one line, for whatever keeps the file from being whole and right.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(
        path.parent,
        base_url=url.removesuffix(path.name),
        registry={path.name: f"sha256:{sha256}"},
        retry_if_failed=RETRIES,
    )
    bar = sys.stderr.isatty()
    try:
        store.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT))
    except requests.HTTPError as error:
        answer = error.response
        reason = f"the server answers {answer.status_code} {answer.reason}"
    except requests.RequestException as error:
        reason = f"no whole answer, {type(error).__name__}; is there a network?"
    except OSError as error:  # a full disk, say
        words = f"a file that can be written ({error.strerror or error})"
        raise InputError("download", str(path), words) from None
    except ValueError:
        reason = "its SHA-256 is another; it was discarded"
    else:
        return path
    raise InputError(
        "download", url, f"the known file ({reason}); or give a local copy as data.path"
    )
