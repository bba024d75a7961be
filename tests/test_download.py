"""Downloads, from a server on the loopback address that misbehaves as told."""

import fcntl
import hashlib
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lrrt.datasets import _download
from lrrt.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
SIZE, SHA256 = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``CONTENT``; the first part of the path says how."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        kind = self.path.split("/")[1]
        getattr(self, kind, self.whole)()

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def whole(self):
        self.send(CONTENT)

    def ranges(self, cut=SIZE, shift=0):
        asked = self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        body = CONTENT[start : start + cut]
        status, first = (206, start + shift) if asked else (200, 0)
        self.send(body, status, SIZE - start, Content_Range=f"bytes {first}-{SIZE - 1}/{SIZE}")
        if len(body) < SIZE - start:
            self.close_connection = True

    def cut(self):
        self.ranges(cut=100_000)

    def wrong_range(self):
        self.ranges(shift=1)

    def longer(self):
        self.send(CONTENT + b"0")

    def chunked(self, body=CONTENT):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 50_000):
            part = body[start : start + 50_000]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def chunked_short(self):
        self.chunked(CONTENT[:200_000])

    def altered(self):
        self.send(b"0" + CONTENT[1:])

    def page(self):
        self.send(b"<html>Please log in</html>", Content_Type="text/html; charset=utf-8")

    def missing(self):
        self.send(b"gone", 404)

    def stall(self):
        self.send(CONTENT[:50_000], length=SIZE)
        self.server.released.wait(10)

    def drip(self):
        self.send(CONTENT[:50_000], length=SIZE)
        for byte in CONTENT[50_000:50_400]:
            if self.server.released.wait(0.02):
                break
            self.wfile.write(bytes([byte]))

    def moved(self):
        self.send(b"", 302, Location="/whole/file")

    def moved_away(self):
        self.send(b"", 302, Location=f"http://localhost:{self.server.server_port}/whole/file")

    def circle(self):
        self.send(b"", 302, Location="/circle/file")


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that hung up


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_download, "TIMEOUT", 2.0)
    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.released = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "downloads" / "file"


def fetch(server, path, kind):
    return _download.fetch(f"{server.url}/{kind}/file", path, SIZE, SHA256)


def part(path):
    return path.with_name("file.part")


def refusal(server, path, kind) -> str:
    with pytest.raises(InputError) as caught:
        fetch(server, path, kind)
    assert not path.exists()
    message = str(caught.value)
    assert "\n" not in message and f"{server.url}/{kind}/file" in message
    assert "data.path" in message
    return message


@pytest.mark.parametrize("kind", ["whole", "ranges", "chunked", "moved"])
def test_whole_file_arrives_and_is_not_fetched_again(server, path, kind, capfd):
    assert fetch(server, path, kind) == path
    assert path.read_bytes() == CONTENT and not part(path).exists()
    count = len(server.requests)
    fetch(server, path, kind)
    assert len(server.requests) == count
    assert capfd.readouterr().err == ""  # no progress bar where there is no terminal


def test_cut_connections_add_up(server, path):
    message = refusal(server, path, "cut")
    assert "connection was cut, after 100,000" in message
    assert part(path).read_bytes() == CONTENT[:100_000]
    refusal(server, path, "cut")
    fetch(server, path, "cut")
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_resume_without_range_support_starts_over(server, path):
    refusal(server, path, "cut")
    fetch(server, path, "whole")
    assert server.requests[-1][1] == "bytes=100000-"
    assert path.read_bytes() == CONTENT


def test_resume_from_elsewhere_is_refused(server, path):
    refusal(server, path, "cut")
    assert "bytes 100000 to 299999" in refusal(server, path, "wrong_range")
    assert part(path).read_bytes() == CONTENT[:100_000]


def test_whole_part_is_verified_without_a_request(server, path):
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    fetch(server, path, "missing")
    assert path.read_bytes() == CONTENT and server.requests == []


@pytest.mark.parametrize("length", [100_000, SIZE, SIZE + 1])
def test_spoilt_part_does_not_stay(server, path, length):
    path.parent.mkdir()
    part(path).write_bytes(bytes(length))
    if length <= SIZE:
        assert "SHA-256" in refusal(server, path, "ranges")
        assert not part(path).exists()
    fetch(server, path, "ranges")
    assert path.read_bytes() == CONTENT


def test_altered_file_is_replaced(server, path, capsys):
    path.parent.mkdir()
    path.write_bytes(b"rotten")
    refusal(server, path, "missing")
    assert "altered" in capsys.readouterr().err
    fetch(server, path, "whole")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "kind, words",
    [
        ("longer", "a file of 300,000 bytes (the server's has 300,001)"),
        ("page", "a file, not a page (the server sends text/html)"),
        ("missing", "404"),
        ("moved_away", "redirect"),
        ("circle", "at most 5 redirects"),
    ],
)
def test_refused_before_anything_is_written(server, path, kind, words):
    assert words in refusal(server, path, kind)
    assert not path.parent.exists()


def test_wrong_content_is_discarded(server, path):
    assert "SHA-256" in refusal(server, path, "altered")
    assert list(path.parent.iterdir()) == []


def test_short_file_leaves_what_was_there(server, path):
    refusal(server, path, "cut")
    assert "the server's has 200,000" in refusal(server, path, "chunked_short")
    assert not part(path).read_bytes()  # it had to start over: no ranges there
    fetch(server, path, "whole")


def test_stalled_connection_ends_and_is_resumed(server, path, monkeypatch):
    monkeypatch.setattr(_download, "TIMEOUT", 0.3)
    assert "nothing came for 0.3 s, after 50,000" in refusal(server, path, "stall")
    fetch(server, path, "ranges")
    assert server.requests[-1][1] == "bytes=50000-"


def test_slow_drip_ends_and_is_resumed(server, path, monkeypatch):
    monkeypatch.setattr(_download, "WINDOW", 0.4)
    monkeypatch.setattr(_download, "SLOWEST", 1_000_000)
    started = time.monotonic()
    assert "a second came" in refusal(server, path, "drip")
    assert time.monotonic() - started < 5
    kept = part(path).stat().st_size
    assert kept > 50_000
    fetch(server, path, "ranges")
    assert server.requests[-1][1] == f"bytes={kept}-" and path.read_bytes() == CONTENT


def test_no_network(server, path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(InputError, match="is there a network"):
            _download.fetch(url, path, SIZE, SHA256)
    assert not path.parent.exists()


def test_from_https_to_http_is_another_place():
    assert _download._same_host("https://a.org/x", "https://a.org/y")
    assert _download._same_host("http://a.org/x", "https://a.org/x")
    assert not _download._same_host("https://a.org/x", "http://a.org/x")
    assert not _download._same_host("https://a.org/x", "https://a.org.evil.org/x")
    assert not _download._same_host("http://a.org/x", "http://a.org:81/x")
    assert not _download._same_host("https://a.org/x", "file://a.org/x")


def test_one_process_at_a_time(server, path):
    path.parent.mkdir()
    with open(part(path), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "in use" in refusal(server, path, "whole")
    fetch(server, path, "whole")


@pytest.mark.parametrize("kept", [0, 100_000, SIZE])
def test_another_process_may_be_faster(server, path, monkeypatch, kept):
    path.parent.mkdir()
    part(path).write_bytes(CONTENT[:kept])
    locked = _download._locked

    def when_the_other_has_ended(part, *arguments):
        part.write_bytes(CONTENT)
        part.replace(path)
        return locked(part, *arguments)

    monkeypatch.setattr(_download, "_locked", when_the_other_has_ended)
    assert fetch(server, path, "ranges") == path
    assert path.read_bytes() == CONTENT


def test_full_disk_is_one_line(server, path, monkeypatch):
    def full(response, file, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_download, "_copy", full)
    with pytest.raises(InputError, match="No space left on device"):
        fetch(server, path, "whole")
    assert not path.exists()
