"""The life of a stand-in that speaks HTTP: listens on loopback, stops without waiting for anybody.

What it answers belongs to the stand-in.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"

# How long a stop may take; every test stops one.
_STOP_SECONDS = 0.02


class LoopbackServer:
    """A context manager that listens while it is entered.

    Args:
        name: Of its thread.
        port: Wanted; 0 for any that is free.
        handler: What answers each request.
    """

    def __init__(self, name: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._name = name
        self._wanted_port = port
        self._handler = handler
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        port = self._server.server_address[1] if self._server else self._wanted_port
        return f"http://{HOST}:{port}"

    def __enter__(self) -> Self:
        """Start to listen."""
        self._server = _Server((HOST, self._wanted_port), self._handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_STOP_SECONDS,),
            name=self._name,
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, cutting off whoever still waits for an answer."""
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._thread is not None:
            self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away: tests kill them on purpose."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)
