"""An answer on its way out of a stand-in, and the handler that writes it to a socket.

How long a stand-in listens belongs to ``loopback``, what it answers to the stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

_BUFFER_BYTES = 1 << 16
# RFC 9110: these answers have no content, and 204 no length either.
_WITHOUT_CONTENT: Final = frozenset({204, 304})


@dataclass(kw_only=True)
class Answer:
    """An answer on its way out.

    Attributes:
        is_silent: Nothing goes out, and the connection is closed.
        is_cut: The connection is closed within the body.
    """

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str]
    is_silent: bool = False
    is_cut: bool = False


def handler_of(
    answer: Callable[[str, str, Mapping[str, str], bytes], Answer],
) -> type[BaseHTTPRequestHandler]:
    """Build what the server hands each connection to.

    Args:
        answer: Given method, target, headers (names in lower case) and body.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = _BUFFER_BYTES
        disable_nagle_algorithm = True

        def _respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made = answer(self.command, self.path, headers, content)
            if made.is_silent:
                self.close_connection = True
                return
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            if made.status not in _WITHOUT_CONTENT:
                self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            if made.is_cut:
                self.close_connection = True
                self.wfile.write(made.body[: len(made.body) // 2])
                return
            self.wfile.write(made.body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _respond  # noqa: N815 - http.server's

        def log_message(self, *_arguments: Any) -> None:
            """Nothing: a request holds personal values."""

    return Handler
