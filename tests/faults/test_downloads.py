"""Downloads that break off, come late, come as something else, or are asked for twice."""

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kdx.data.sets.fetch import Remote, fetch_archive

CONTENT = bytes(range(256)) * 4000


@cache
def archive() -> bytes:  # with the time in its header
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as tar:
        info = tarfile.TarInfo("set/a")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    return packed.getvalue()


@contextmanager
def served(send):
    """Serve what `send(handler)` writes; yield the archive as one to download, and the requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            send(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
    try:
        yield Remote(url, hashlib.sha256(archive()).hexdigest()), requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(body: bytes, *, length: int | None = None, status: int = 200):
    def send(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler):
    handler.close_connection = True


def flip(body: bytes) -> bytes:
    return body[:5000] + bytes([body[5000] ^ 1]) + body[5001:]


def fetch(root, remote):
    fetch_archive("toy", root, archive=remote, folder="set", download=True)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("send", "message"),
    [
        (answer(archive()[:9000], length=len(archive())), "ended after 9,000 of 1,0"),
        (answer(flip(archive())), "its SHA-256 is "),
        (answer(b"<html>sign in</html>"), "its SHA-256 is "),
        (answer(b"gone", status=404), "HTTP Error 404: Not Found"),
        (answer(b"", status=503), "HTTP Error 503: Service Unavailable"),
        (hang_up, "Remote end closed connection without response"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing_and_the_next_start_succeeds(
    send, message, tmp_path
):
    with served(send) as (remote, _):
        wrong = rf"toy: not found in .* failed \({remote.url}: {message}.*set root to where it is"
        with pytest.raises(ValueError, match=wrong):
            fetch(tmp_path, remote)
    assert listed(tmp_path) == [".toy.lock"]
    with served(answer(archive())) as (remote, _):
        fetch(tmp_path, remote)
    assert listed(tmp_path) == [".toy.lock", "set"]
    assert (tmp_path / "set/a").read_bytes() == CONTENT


def test_processes_that_ask_at_once_download_once(tmp_path):
    with served(answer(archive())) as (remote, requests), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: fetch(tmp_path, remote), range(4)))
    assert requests == ["/set.tar.gz"]
    assert (tmp_path / "set/a").read_bytes() == CONTENT


def test_killed_in_the_middle_nothing_is_taken_for_the_data(tmp_path):
    halfway, killed = threading.Event(), threading.Event()

    def stall(handler):
        answer(archive()[:500_000], length=len(archive()))(handler)
        handler.wfile.flush()
        halfway.set()
        killed.wait(60)

    with served(stall) as (remote, _):
        code = (
            "import sys; from pathlib import Path; from kdx.data.sets.fetch import *\n"
            "fetch_archive('toy', Path(sys.argv[1]), archive=Remote(*sys.argv[2:]),"
            " folder='set', download=True)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), remote.url, remote.sha256],
            stderr=subprocess.DEVNULL,
        )
        assert halfway.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        killed.set()
    assert listed(tmp_path) == [".toy.lock", ".toy.partial"]
    with served(answer(archive())) as (remote, _):
        fetch(tmp_path, remote)
    assert listed(tmp_path) == [".toy.lock", "set"]
    assert (tmp_path / "set/a").read_bytes() == CONTENT
