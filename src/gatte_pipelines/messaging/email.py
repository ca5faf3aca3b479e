"""Sends mails over SMTP, to staff and to clients.

What a mail says and when it is due belongs to whoever sends it.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses, parseaddr
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from gatte_pipelines.errors import (
    ConfigurationError,
    GatteError,
    PermanentError,
    RetryableError,
)
from gatte_pipelines.http import LOOPBACK
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.redaction import register_secret

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_MESSAGE_KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")
# RFC 5321 §4.2.1: the first digit says whether a repeat may succeed.
_FIRST_TEMPORARY_REPLY, _FIRST_PERMANENT_REPLY = 400, 500


@dataclass(frozen=True, kw_only=True)
class Email:
    """A mail. Its repr shows the key only.

    Attributes:
        to: Addresses, at least one.
        subject: One line, any characters.
        text: The plain text.
        html: The same as HTML, or None.
        message_id: Stable key of what the mail tells (letters, digits, ``.``, ``_``, ``-``). The
            same key gives the same Message-ID, so that a mail sent twice shows as one.
    """

    to: tuple[str, ...] = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)
    message_id: str


class EmailSender(Protocol):
    """What a domain needs of a way to send mails."""

    def send(self, message: Email) -> None:
        """Send a mail, or raise a `GatteError` that says whether a repeat may succeed."""


class SmtpSender:
    """Sends over one SMTP connection a mail.

    Args:
        url: ``smtp://``, ``smtps://`` or ``smtp+starttls://``, then ``user:password@`` where the
            server asks for it (percent-encoded), host and port. A password is not sent over plain
            ``smtp://`` but to this machine itself.
        from_address: Sender of every mail.
        timeout_seconds: For connecting and for each reply.
        tls_context: Trusted certificates; by default those of the system.
        now: Time for the Date header.

    Raises:
        ConfigurationError: The URL or the sender cannot be used.
    """

    def __init__(
        self,
        url: str,
        from_address: str,
        *,
        timeout_seconds: float = 30.0,
        tls_context: ssl.SSLContext | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigurationError("GATTE_SMTP_URL is not a URL with a valid port") from None
        if parts.scheme not in DEFAULT_PORTS or not host:
            raise ConfigurationError(
                "GATTE_SMTP_URL must look like smtps://user:password@host:port "
                "(or smtp://, smtp+starttls://)"
            )
        self._from = parse_addresses(from_address, "the sender of mails")[0]
        self._scheme, self._host = parts.scheme, host
        self._port = port or DEFAULT_PORTS[parts.scheme]
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        if self._password:
            register_secret(self._password)
        if self._user and self._scheme == "smtp" and host not in LOOPBACK:
            raise ConfigurationError(
                "GATTE_SMTP_URL would send its password unencrypted; use smtps:// or "
                "smtp+starttls://"
            )
        self._timeout = timeout_seconds
        self._tls = tls_context
        self._now = now

    def __repr__(self) -> str:
        return f"SmtpSender({self._scheme}://{self._host}:{self._port})"

    def send(self, message: Email) -> None:
        """Send one mail.

        After a RetryableError the mail may have been delivered all the same (the reply was lost);
        a repeat has the same Message-ID.

        Raises:
            RetryableError: No connection, no reply, or a 4xx reply.
            PermanentError: A 5xx reply, a mail that cannot be written, or some recipients refused.
            ConfigurationError: The server refuses the password, or its certificate is not trusted.
        """
        failure = self._send(message)
        if failure is not None:
            raise failure.error from None

    def deliver(self, message: Email) -> SendResult:
        """Send one mail and tell how it ended, whatever the server answers.

        A mail is unknown where no readable reply came once its text was on its way. Before that
        nothing was sent, and the same mail is for later.
        """
        try:
            failure = self._send(message)
        except PermanentError:
            return SendResult(outcome=Outcome.FAILED, reason="bad_request")
        return SendResult(outcome=Outcome.ACCEPTED) if failure is None else failure.result

    def _send(self, message: Email) -> _Failure | None:
        composed = self._compose(message)
        server: _Connection | None = None
        # The server's replies quote addresses, so they are left behind with their exceptions.
        try:
            with self._connected() as server:
                refused = server.send_message(composed, from_addr=self._from, to_addrs=message.to)
        except smtplib.SMTPException as exc:
            return _judge_smtp(exc, has_text_left=_has_text_left(server))
        except ssl.SSLCertVerificationError:
            return _Failure(
                ConfigurationError("the mail server's certificate is not trusted"),
                SendResult(outcome=Outcome.FAILED, reason="refused", stops_channel=True),
            )
        except OSError as exc:
            error = RetryableError(f"the mail server cannot be reached ({type(exc).__name__})")
            return _Failure(error, _broken_off(has_text_left=_has_text_left(server)))
        except ValueError as exc:
            return _Failure(
                PermanentError(f"the mail cannot be written ({type(exc).__name__})"),
                SendResult(outcome=Outcome.FAILED, reason="bad_email"),
            )
        if not refused:
            return None
        return _Failure(
            PermanentError(
                f"mail {message.message_id}: {len(refused)} of {len(message.to)} recipients refused"
            ),
            # The others have it.
            SendResult(outcome=Outcome.ACCEPTED),
        )

    def _compose(self, message: Email) -> EmailMessage:
        if not message.to:
            raise PermanentError(f"mail {message.message_id}: no recipient")
        if not _MESSAGE_KEY.fullmatch(message.message_id):
            raise PermanentError(
                "the key of a mail may hold letters, digits, '.', '_' and '-' only"
            )
        composed = EmailMessage(policy=SMTP)
        try:
            composed["From"] = self._from
            composed["To"] = ", ".join(message.to)
            composed["Subject"] = message.subject
            composed["Date"] = format_datetime(self._now())
            composed["Message-ID"] = f"<{message.message_id}@{self._domain}>"
            composed["Content-Language"] = "pt-BR"
            # RFC 3834: keeps absence notes from answering.
            composed["Auto-Submitted"] = "auto-generated"
            composed.set_content(message.text)
            if message.html is not None:
                composed.add_alternative(message.html, subtype="html")
        except ValueError:
            raise PermanentError(f"mail {message.message_id}: a header cannot be written") from None
        return composed

    @property
    def _domain(self) -> str:
        return self._from.rpartition("@")[2]

    @contextlib.contextmanager
    def _connected(self) -> Iterator[_Connection]:
        """Connect, encrypt, log in; afterwards leave without letting the farewell fail the mail."""
        context = self._tls if self._tls is not None else ssl.create_default_context()
        # The name in EHLO is given, since finding it out asks the DNS, for seconds where it fails.
        name, timeout = self._domain, self._timeout
        server: _Connection
        if self._scheme == "smtps":
            server = _EncryptedConnection(
                self._host, self._port, name, timeout=timeout, context=context
            )
        else:
            server = _Connection(self._host, self._port, name, timeout=timeout)
        try:
            if self._scheme == "smtp+starttls":
                server.starttls(context=context)
            if self._user:
                server.login(self._user, self._password)
            yield server
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()
        finally:
            server.close()


def parse_addresses(text: str, what: str) -> tuple[str, ...]:
    """Read one or several addresses, separated by commas.

    Args:
        text: ``a@example.com, B <b@example.com>``.
        what: How to call it in the error.

    Raises:
        ConfigurationError: There is none, or one is not an address; its text is not shown.
    """
    addresses = tuple(address for _, address in getaddresses([text]))
    valid = text.isprintable() and all(is_address(address) for address in addresses)
    if not addresses or not valid:
        raise ConfigurationError(f"{what} must be e-mail addresses separated by commas")
    return addresses


def is_address(text: str) -> bool:
    """Whether a text is an e-mail address and nothing else."""
    local, at, domain = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not re.search(r"[\s<>,;]", text)
    return bool(local and at and domain) and plain and parseaddr(text)[1] == text


@dataclass(frozen=True)
class _Failure:
    """Why a mail was not taken: as an error for whoever tries again, as a result for a ledger."""

    error: GatteError
    result: SendResult


class _Connection(smtplib.SMTP):
    """Remembers whether the text of a mail began to leave; until then surely none was sent."""

    has_text_left = False

    def data(self, msg: ReadableBuffer | str) -> tuple[int, bytes]:
        """Send the text."""
        self.has_text_left = True
        return super().data(msg)


class _EncryptedConnection(_Connection, smtplib.SMTP_SSL):
    """The same, encrypted from its first byte."""


def _has_text_left(connection: _Connection | None) -> bool:
    return connection is not None and connection.has_text_left


def _broken_off(*, has_text_left: bool) -> SendResult:
    if has_text_left:
        return SendResult(outcome=Outcome.UNKNOWN, reason="unknown")
    return SendResult(outcome=Outcome.DEFERRED, reason="channel_unreachable")


def _judge_smtp(exc: smtplib.SMTPException, *, has_text_left: bool) -> _Failure:
    error = _error_of_smtp(exc)
    if isinstance(exc, smtplib.SMTPServerDisconnected):
        return _Failure(error, _broken_off(has_text_left=has_text_left))
    code = exc.smtp_code if isinstance(exc, smtplib.SMTPResponseException) else None
    if has_text_left and code is not None and code < _FIRST_TEMPORARY_REPLY:
        # Neither yes nor no: smtplib's -1 for a reply that is none, or one of another command.
        result = _broken_off(has_text_left=True)
    elif isinstance(error, RetryableError):
        result = SendResult(outcome=Outcome.DEFERRED, reason="rate_limited", error_code=code)
    elif isinstance(exc, smtplib.SMTPRecipientsRefused):
        code = max(code for code, _ in exc.recipients.values())
        result = SendResult(outcome=Outcome.FAILED, reason="recipient_refused", error_code=code)
    else:
        result = SendResult(
            outcome=Outcome.FAILED,
            reason="token" if isinstance(exc, smtplib.SMTPAuthenticationError) else "refused",
            error_code=code,
            # Beside a recipient only the text is of this mail; any other refusal, from the greeting
            # to the sender, meets every mail.
            stops_channel=not isinstance(exc, smtplib.SMTPDataError),
        )
    return _Failure(error, result)


def _error_of_smtp(exc: smtplib.SMTPException) -> GatteError:
    name = type(exc).__name__
    if isinstance(exc, smtplib.SMTPServerDisconnected):
        return RetryableError("the mail server closed the connection or did not reply in time")
    if isinstance(exc, smtplib.SMTPNotSupportedError):
        return ConfigurationError("the mail server does not offer what GATTE_SMTP_URL asks for")
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in exc.recipients.values()})
        message = f"the mail server refused every recipient ({', '.join(map(str, codes))})"
        lasting = any(code >= _FIRST_PERMANENT_REPLY for code in codes)
        return PermanentError(message) if lasting else RetryableError(message)
    if not isinstance(exc, smtplib.SMTPResponseException):
        return PermanentError(f"the mail server cannot be talked to ({name})")
    message = f"the mail server answered {exc.smtp_code} ({name})"
    # smtplib gives -1 for a reply that is none, as from a server that is no mail server.
    if 0 < exc.smtp_code < _FIRST_PERMANENT_REPLY:
        return RetryableError(message)
    if isinstance(exc, smtplib.SMTPAuthenticationError):
        return ConfigurationError(message)
    return PermanentError(message)
