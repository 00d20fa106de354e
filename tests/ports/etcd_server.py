"""A real etcd on loopback, that a test starts, stops, kills and starts again; and a wire to it that loses answers."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from geartrain.ports.etcd import Address

_UP_WITHIN_S = 20.0


def why_not() -> str | None:
    if os.environ.get("CI") == "true":
        return "a real etcd is never started in CI; it is by `pytest` without CI=true"
    if shutil.which("etcd") is None:
        return "no etcd is installed: apt-get install etcd-server"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EtcdServer:
    """One member, with its data in a folder; `synced` as in earnest, else it outlives kills and no power cut."""

    def __init__(self, folder: Path, *, synced: bool = False) -> None:
        self.folder = folder
        self._synced = () if synced else ("--unsafe-no-fsync",)
        self.port, self._peer = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._tests = 0

    @property
    def member(self) -> str:
        return f"127.0.0.1:{self.port}"

    def address(self, prefix: str | None = None, member: str | None = None) -> Address:
        self._tests += prefix is None
        return Address((member or self.member,), prefix or f"test/{self._tests}")

    def start(self) -> None:
        own, peer = f"http://{self.member}", f"http://127.0.0.1:{self._peer}"
        self._process = subprocess.Popen(
            ["etcd", "--data-dir", str(self.folder / "data"), "--name", "one", *self._synced,
             "--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until_s = time.monotonic() + _UP_WITHIN_S
        while not self._is_up():
            assert self._process.poll() is None, "etcd has ended while it started"
            assert time.monotonic() < until_s, "etcd is not up in time"
            time.sleep(0.02)

    def _is_up(self) -> bool:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://{self.member}/health") as told:
            return b'"true"' in told.read()
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def etcd_server() -> Iterator[EtcdServer]:
    why = why_not()
    if why is not None:
        pytest.skip(why)
    with TemporaryDirectory(prefix="gt-etcd-") as folder:
        server = EtcdServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            with suppress(AssertionError):
                server.signal(signal.SIGCONT)
            server.kill()


class Wire:
    """Between a client and etcd. What is `lost` reaches etcd, and the answer to it nobody."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._lose: list[bytes] = []
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.member = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def lose_the_answer_to(self, word: bytes) -> None:
        """To the next question in which this is."""
        self._lose.append(word)

    def close(self) -> None:
        # Whoever waits in accept is woken by that, and by close alone is not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server, suppress(OSError):
            while question := _message(client):
                server.sendall(question)
                answer = _message(server)
                if self._lose and self._lose[0] in question:
                    self._lose.pop(0)
                    self.lost += 1
                    return
                client.sendall(answer)


def _message(stream: socket.socket) -> bytes:
    """A question or an answer of HTTP whose length is said, or that comes in chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := stream.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    said = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < said[0] if said else not body.endswith(b"0\r\n\r\n"):
        if not (more := stream.recv(65536)):
            break
        body += more
    return head + b"\r\n\r\n" + body
