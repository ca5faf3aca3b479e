"""The retrying transport over real sockets, which show the faults that unit tests assume."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from gatte_pipelines.http import (
    AmbiguousError,
    RetryableHttpError,
    RetryPolicy,
    build_client,
    raise_for_error,
)

if TYPE_CHECKING:
    import httpx

POLICY = RetryPolicy(max_attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.01)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
Behaviour = Callable[[socket.socket], None]


class Server:
    """Takes connections on the loopback; each meets the next behaviour, at last the last."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.behaviours: list[Behaviour] = []
        self.requests: list[bytes] = []
        self.times: list[float] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        # Wakes accept(): closing a socket does not, on Linux.
        with socket.create_connection(self._listening.getsockname()[:2]):
            self._listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed between two connections
                return
            with connection:
                if self.released.is_set():
                    return
                self.requests.append(read_request(connection))
                self.times.append(time.monotonic())
                position = min(len(self.requests), len(self.behaviours)) - 1
                self.behaviours[position](connection)

    def answers(self, raw: bytes) -> Behaviour:
        return lambda connection: connection.sendall(raw)

    def is_silent(self, connection: socket.socket) -> None:
        """Wait until the client has gone away; nothing is answered."""
        connection.settimeout(5)
        while connection.recv(65536):
            pass

    def resets(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_request(connection: socket.socket) -> bytes:
    """Read head and body; they arrive in pieces."""
    raw = b""
    while True:
        head, end, body = raw.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            return raw
        piece = connection.recv(65536)
        if not piece:
            return raw
        raw += piece


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def client(server: Server, policy: RetryPolicy = POLICY, timeout: float = 5) -> httpx.Client:
    return build_client(server.url, timeout=timeout, policy=policy)


def test_a_get_outlives_a_reset_connection(server: Server) -> None:
    server.behaviours = [server.resets, server.answers(OK)]

    with client(server) as it:
        assert it.get("/x").text == "ok"


def test_a_post_whose_connection_was_reset_is_ambiguous_and_sent_once(server: Server) -> None:
    server.behaviours = [server.resets, server.answers(OK)]

    with client(server) as it, pytest.raises(AmbiguousError, match="broke off"):
        it.post("/x", json={})
    assert len(server.requests) == 1


def test_a_get_outlives_a_silent_server(server: Server) -> None:
    server.behaviours = [server.is_silent, server.answers(OK)]

    with client(server, timeout=0.2) as it:
        assert it.get("/x").text == "ok"


def test_a_post_to_a_silent_server_is_ambiguous_and_sent_once(server: Server) -> None:
    server.behaviours = [server.is_silent, server.answers(OK)]

    with client(server, timeout=0.2) as it, pytest.raises(AmbiguousError, match="no answer"):
        it.post("/x", json={})
    assert len(server.requests) == 1


def test_a_server_that_is_always_silent_costs_no_more_than_the_total_time(server: Server) -> None:
    server.behaviours = [server.is_silent]
    policy = RetryPolicy(max_attempts=100, max_total_seconds=0.8, base_delay_seconds=0.01)
    began = time.monotonic()

    with client(server, policy, timeout=0.3) as it, pytest.raises(RetryableHttpError):
        it.get("/x")
    assert 0.3 < time.monotonic() - began < 2


def test_an_answer_cut_off_in_its_body_is_asked_for_again(server: Server) -> None:
    server.behaviours = [
        server.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        server.answers(OK),
    ]

    with client(server) as it:
        assert it.get("/x").text == "ok"


def test_retry_after_is_waited_for_and_the_post_sent_again(server: Server) -> None:
    server.behaviours = [
        server.answers(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 4\r\n"
            b"Connection: close\r\n\r\nwait"
        ),
        server.answers(OK),
    ]

    with client(server) as it:
        assert it.post("/x", json={"a": 1}).text == "ok"
    assert server.times[1] - server.times[0] >= 1
    assert [request.rpartition(b"\r\n\r\n")[2] for request in server.requests] == [b'{"a":1}'] * 2


def test_no_server_is_retryable_even_for_a_post() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

    with (
        build_client(url, policy=POLICY) as it,
        pytest.raises(RetryableHttpError, match="nothing was sent"),
    ):
        it.post("/x", json={})


def test_a_failed_answer_says_which_request_it_was(server: Server) -> None:
    server.behaviours = [
        server.answers(
            b"HTTP/1.1 503 Service Unavailable\r\nx-request-id: r-1\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )
    ]

    with client(server) as it:
        response = it.get("/x?name=Maria")
    with pytest.raises(RetryableHttpError, match=r"^GET /x: answered 503 \(request id r-1\)$"):
        raise_for_error(response)
    assert len(server.requests) == POLICY.max_attempts
