"""A mail server on this machine that delivers to a folder: the stand-in for GATTE's own.

It fails on request, so that tests and people see what a sender does about it. Sending belongs to
``messaging.email``.
"""

from __future__ import annotations

import asyncio
import email
import ssl
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as default_policy
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST = "127.0.0.1"
START_SECONDS = 10


class SmtpFault(StrEnum):
    """How the stand-in fails."""

    REFUSE = "refuse"
    """Closes the connection before its greeting."""
    TIMEOUT_AFTER_ACCEPTING = "timeout_after_accepting"
    """Keeps the mail and never says so: the sender cannot know."""
    TEMPORARY = "temporary"
    """Answers 451 to the mail."""
    PERMANENT = "permanent"
    """Answers 554 to the mail."""
    RECIPIENT = "recipient"
    """Answers 550 to a recipient."""
    TIMEOUT = "timeout"
    """Does not reply to a recipient: the mail was surely not sent."""


@dataclass
class _Planned:
    """A fault that is still to come, to everybody or to one address."""

    fault: SmtpFault
    times_left: int
    to: str | None = field(repr=False)


class SmtpStandIn:
    """An SMTP server on a loopback port. Mails stand as ``00001.eml`` and so on in a folder.

    Mails that stood there before are kept and counted on.

    Args:
        folder: Where mails are kept; created when missing.
        port: Port, or 0 for any free one.
        user: Name the sender must log in with, or None for a server that asks for none.
        password: Its password.
        tls_context: Certificate for ``smtps`` and ``smtp+starttls``.
        scheme: ``smtp``, ``smtps`` or ``smtp+starttls``.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        user: str | None = None,
        password: str = "",
        tls_context: ssl.SSLContext | None = None,
        scheme: str = "smtp",
    ) -> None:
        if (tls_context is None) != (scheme == "smtp"):
            raise ValueError("smtps and smtp+starttls need a certificate, smtp takes none")
        self.folder = folder
        self.scheme = scheme
        self._port = port
        self._user = user
        self._password = password
        self._tls_context = tls_context
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []
        self._messages: list[EmailMessage] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The URL for `GATTE_SMTP_URL`, without user and password."""
        return f"{self.scheme}://{HOST}:{self._port}"

    @property
    def messages(self) -> list[EmailMessage]:
        """The mails kept so far, oldest first."""
        with self._lock:
            return list(self._messages)

    def fail(self, fault: SmtpFault, times: int = 1, *, to: str | None = None) -> None:
        """Fail this way the next so many times, then work again.

        Args:
            fault: How.
            times: How often.
            to: Only mails to this address, which ``REFUSE`` does not know yet; None for all. Takes
                the place of what was planned for the same.
        """
        with self._lock:
            self._planned = [planned for planned in self._planned if planned.to != to]
            self._planned.append(_Planned(fault, times, to))

    def __enter__(self) -> SmtpStandIn:
        """Start to listen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = sorted(self.folder.glob("*.eml"))
        self._messages = [_parsed(path.read_bytes()) for path in kept]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="smtp-stand-in", daemon=True
        )
        self._thread.start()
        try:
            starting = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
            starting.result(START_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, cutting off whoever still waits for a reply."""
        self._stop()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        implicit = self._tls_context if self.scheme == "smtps" else None
        self._server = await loop.create_server(self._protocol, HOST, self._port, ssl=implicit)
        self._port = self._server.sockets[0].getsockname()[1]

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), loop).result(START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()
        self._loop = self._thread = self._server = None

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # One turn, in which the transports that were closed let go of their sockets.
        await asyncio.sleep(0)

    def _protocol(self) -> asyncio.Protocol:
        with warnings.catch_warnings():
            # That a password goes unencrypted on the loopback is what the stand-in offers.
            warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
            protocol = _Protocol(
                self,
                hostname="localhost",
                loop=self._loop,
                tls_context=self._tls_context if self.scheme == "smtp+starttls" else None,
                require_starttls=self.scheme == "smtp+starttls",
                auth_required=self._user is not None,
                auth_require_tls=False,
                authenticator=self._authenticated,
                enable_SMTPUTF8=True,
            )
        return cast("asyncio.Protocol", protocol)

    def _authenticated(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        data: object,
    ) -> AuthResult:
        del server, session, envelope, mechanism
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (
            (self._user or "").encode(),
            self._password.encode(),
        )
        return AuthResult(success=right, handled=False)

    def takes_fault(self, *faults: SmtpFault, to: Sequence[str] = ()) -> SmtpFault | None:
        """Return the fault that is due, if it is one of these, and count it.

        Args:
            faults: Those that can happen now.
            to: The recipients known so far.
        """
        with self._lock:
            for planned in self._planned:
                concerned = planned.to is None or planned.to in to
                if planned.fault in faults and planned.times_left and concerned:
                    planned.times_left -= 1
                    return planned.fault
        return None

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient."""
        del server, session
        fault = self.takes_fault(SmtpFault.RECIPIENT, SmtpFault.TIMEOUT, to=[address])
        if fault is SmtpFault.RECIPIENT:
            return "550 5.1.1 no such mailbox"
        if fault is SmtpFault.TIMEOUT:
            await asyncio.Event().wait()
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks for this name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a mail."""
        del server, session
        fault = self.takes_fault(
            SmtpFault.TEMPORARY,
            SmtpFault.PERMANENT,
            SmtpFault.TIMEOUT_AFTER_ACCEPTING,
            to=envelope.rcpt_tos,
        )
        if fault is SmtpFault.TEMPORARY:
            return "451 4.3.0 try again later"
        if fault is SmtpFault.PERMANENT:
            return "554 5.6.0 not taken"
        self._keep(cast("bytes", envelope.original_content))
        if fault is SmtpFault.TIMEOUT_AFTER_ACCEPTING:
            await asyncio.Event().wait()
        return "250 2.0.0 kept"

    def _keep(self, content: bytes) -> None:
        with self._lock:
            path = self.folder / f"{len(self._messages) + 1:05d}.eml"
            partial = path.with_suffix(".part")
            partial.write_bytes(content)
            partial.rename(path)
            self._messages.append(_parsed(content))


class _Protocol(SMTP):
    """Closes a connection before its greeting where that is the fault."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.event_handler.takes_fault(SmtpFault.REFUSE):
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        # A refused connection was never made, and the base class would look for its session.
        if self.session is not None:
            super().connection_lost(error)


def _parsed(content: bytes) -> EmailMessage:
    # Lines end with CRLF on the wire and in .eml files, and with LF for whoever reads the text.
    return email.message_from_bytes(content.replace(b"\r\n", b"\n"), policy=default_policy)
