"""Downloads, from a server on the loopback address that misbehaves as told."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lrrt.datasets import _download
from lrrt.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``CONTENT``; the first part of the path says how."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        getattr(self, self.path.split("/")[1])()

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def whole(self):
        self.send(CONTENT)

    def chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(CONTENT), 50_000):
            part = CONTENT[start : start + 50_000]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def moved(self):
        self.send(b"", 302, Location="/whole/file")

    def circle(self):
        self.send(b"", 302, Location="/circle/file")

    def cut(self):
        self.send(CONTENT[:100_000], length=len(CONTENT))
        self.close_connection = True

    def cut_once(self):
        self.cut() if len(self.server.requests) == 1 else self.whole()

    def longer(self):
        self.send(CONTENT + b"0")

    def altered(self):
        self.send(b"0" + CONTENT[1:])

    def page(self):
        self.send(b"<html>Please log in</html>")

    def missing(self):
        self.send(b"gone", 404)

    def stall(self):
        self.send(CONTENT[:50_000], length=len(CONTENT))
        self.server.released.wait(10)


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that hung up


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_download, "TIMEOUT", 0.5)
    monkeypatch.setattr(_download, "RETRIES", 0)
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


def fetch(server, path, kind) -> Path:
    return _download.fetch(f"{server.url}/{kind}/file", path, SHA256)


def refusal(server, path, kind) -> str:
    with pytest.raises(InputError) as caught:
        fetch(server, path, kind)
    assert not path.parent.exists() or list(path.parent.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message and f"{server.url}/{kind}/file" in message
    assert "data.path" in message
    return message


@pytest.mark.parametrize("kind", ["whole", "chunked", "moved"])
def test_whole_file_arrives_and_is_not_fetched_again(server, path, kind, capfd):
    assert fetch(server, path, kind) == path
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    count = len(server.requests)
    fetch(server, path, kind)
    assert len(server.requests) == count
    assert capfd.readouterr().err == ""  # no progress bar where there is no terminal


def test_altered_file_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(b"rotten")
    fetch(server, path, "whole")
    assert path.read_bytes() == CONTENT


def test_a_cut_connection_is_tried_again(server, path, monkeypatch):
    monkeypatch.setattr(_download, "RETRIES", 1)
    fetch(server, path, "cut_once")
    assert path.read_bytes() == CONTENT and len(server.requests) == 2


@pytest.mark.parametrize(
    "kind, words",
    [
        ("cut", "no whole answer"),
        ("stall", "no whole answer"),
        ("circle", "no whole answer"),
        ("longer", "SHA-256"),
        ("altered", "SHA-256"),
        ("page", "SHA-256"),
        ("missing", "404"),
    ],
)
def test_what_is_not_the_file_is_refused_and_does_not_stay(server, path, kind, words):
    assert words in refusal(server, path, kind)


def test_no_network(server, path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(InputError, match="is there a network"):
            _download.fetch(url, path, SHA256)


def test_a_folder_that_cannot_be_written_is_one_line(server, path):
    path.parent.write_text("a file in its place")
    with pytest.raises(InputError, match="a file that can be written"):
        fetch(server, path, "whole")
