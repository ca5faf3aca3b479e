"""The mail sender against a real SMTP server on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatte_pipelines.errors import (
    ConfigurationError,
    GatteError,
    PermanentError,
    RetryableError,
)
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.messaging.email import Email, SmtpSender, parse_addresses
from gatte_pipelines.redaction import redact
from gatte_pipelines.sandbox.smtp import SmtpFault, SmtpStandIn

SENDER = "pipelines@gatte.example"
STAFF = ("ops@gatte.example",)
PASSWORD = "s3nha/forte"  # noqa: S105 - a made-up one


def mail(
    to: tuple[str, ...] = STAFF,
    subject: str = "Execução falhou: não há conexão",
    html: str | None = None,
    key: str = "watchdog.run-1.failed",
) -> Email:
    return Email(
        to=to, subject=subject, text="A execução falhou às 17h.\n", html=html, message_id=key
    )


def sender(url: str, **options: object) -> SmtpSender:
    return SmtpSender(url, SENDER, timeout_seconds=2, **options)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmtpStandIn]:
    with SmtpStandIn(tmp_path / "mails") as running:
        yield running


class Certificate(NamedTuple):
    server: ssl.SSLContext
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return Certificate(context, ssl.create_default_context(cafile=str(file)))


def test_a_mail_arrives_with_its_accents(server: SmtpStandIn) -> None:
    sender(server.url, now=lambda: datetime(2026, 11, 22, 17, 1, tzinfo=UTC)).send(
        mail(html="<p>A execução <b>falhou</b>.</p>")
    )

    (received,) = server.messages
    assert received["Subject"] == "Execução falhou: não há conexão"
    assert received["From"] == SENDER
    assert received["To"] == STAFF[0]
    assert received["Date"] == "Sun, 22 Nov 2026 17:01:00 +0000"
    assert received["Auto-Submitted"] == "auto-generated"
    plain, html = received.get_body(("plain",)), received.get_body(("html",))
    assert plain is not None
    assert plain.get_content() == "A execução falhou às 17h.\n"
    assert html is not None
    assert html.get_content() == "<p>A execução <b>falhou</b>.</p>\n"


def test_a_repeat_has_the_same_message_id(server: SmtpStandIn) -> None:
    for _ in range(2):
        sender(server.url).send(mail())

    first, second = server.messages
    assert first["Message-ID"] == second["Message-ID"] == "<watchdog.run-1.failed@gatte.example>"


def test_mails_are_kept_in_the_folder_over_a_restart(tmp_path: Path) -> None:
    for key in ("one", "two"):
        with SmtpStandIn(tmp_path) as running:
            sender(running.url).send(mail(key=key))

    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00001.eml", "00002.eml"]
    with SmtpStandIn(tmp_path) as running:
        assert [it["Message-ID"].partition("@")[0] for it in running.messages] == ["<one", "<two"]


@pytest.mark.parametrize("fault", [SmtpFault.REFUSE, SmtpFault.TEMPORARY])
def test_a_fault_that_passes_is_retryable_and_the_next_attempt_delivers(
    server: SmtpStandIn, fault: SmtpFault
) -> None:
    server.fail(fault)
    with pytest.raises(RetryableError):
        sender(server.url).send(mail())
    assert server.messages == []

    sender(server.url).send(mail())
    assert len(server.messages) == 1


@pytest.mark.parametrize("fault", [SmtpFault.PERMANENT, SmtpFault.RECIPIENT])
def test_a_refusal_is_permanent(server: SmtpStandIn, fault: SmtpFault) -> None:
    server.fail(fault)
    with pytest.raises(PermanentError):
        sender(server.url).send(mail())
    assert server.messages == []


def test_a_lost_reply_is_retryable_and_the_mail_recognisable(server: SmtpStandIn) -> None:
    server.fail(SmtpFault.TIMEOUT_AFTER_ACCEPTING)
    impatient = SmtpSender(server.url, SENDER, timeout_seconds=0.3)
    with pytest.raises(RetryableError):
        impatient.send(mail())
    impatient.send(mail())

    first, second = server.messages
    assert first["Message-ID"] == second["Message-ID"]


def test_some_recipients_refused_is_permanent_and_the_others_get_the_mail(
    server: SmtpStandIn,
) -> None:
    server.fail(SmtpFault.RECIPIENT)
    with pytest.raises(PermanentError, match="1 of 2 recipients refused"):
        sender(server.url).send(mail(to=("a@gatte.example", "b@gatte.example")))

    assert len(server.messages) == 1


def test_no_server_is_retryable(tmp_path: Path) -> None:
    with SmtpStandIn(tmp_path) as stopped:
        url = stopped.url

    with pytest.raises(RetryableError, match="cannot be reached"):
        sender(url).send(mail())


def test_the_stand_in_takes_a_given_port(server: SmtpStandIn, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"), SmtpStandIn(tmp_path / "b", server.port):
        pass


# --- how a delivery ended ----------------------------------------------------------------------

DEFERRED, FAILED, UNKNOWN = Outcome.DEFERRED, Outcome.FAILED, Outcome.UNKNOWN


def delivered(url: str, to: tuple[str, ...] = STAFF, **options: object) -> SendResult:
    return SmtpSender(url, SENDER, timeout_seconds=0.5, **options).deliver(  # type: ignore[arg-type]
        mail(to=to)
    )


@pytest.mark.parametrize(
    ("fault", "result", "kept"),
    [
        (SmtpFault.REFUSE, SendResult(outcome=DEFERRED, reason="channel_unreachable"), 0),
        (SmtpFault.TIMEOUT, SendResult(outcome=DEFERRED, reason="channel_unreachable"), 0),
        (SmtpFault.TIMEOUT_AFTER_ACCEPTING, SendResult(outcome=UNKNOWN, reason="unknown"), 1),
        (
            SmtpFault.TEMPORARY,
            SendResult(outcome=DEFERRED, reason="rate_limited", error_code=451),
            0,
        ),
        (SmtpFault.PERMANENT, SendResult(outcome=FAILED, reason="refused", error_code=554), 0),
        (
            SmtpFault.RECIPIENT,
            SendResult(outcome=FAILED, reason="recipient_refused", error_code=550),
            0,
        ),
    ],
)
def test_a_delivery_says_how_it_ended(
    server: SmtpStandIn, fault: SmtpFault, result: SendResult, kept: int
) -> None:
    server.fail(fault)
    assert delivered(server.url) == result
    assert len(server.messages) == kept
    assert delivered(server.url) == SendResult(outcome=Outcome.ACCEPTED)


@pytest.mark.parametrize("reply", ["what?", "252 maybe"])
def test_a_reply_to_the_text_that_says_neither_yes_nor_no_is_unknown(
    tmp_path: Path, reply: str
) -> None:
    class Mumbling(SmtpStandIn):
        async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
            return reply

    with Mumbling(tmp_path) as server:
        assert delivered(server.url) == SendResult(outcome=UNKNOWN, reason="unknown")


def test_a_server_that_is_not_there_defers_a_delivery(tmp_path: Path) -> None:
    with SmtpStandIn(tmp_path) as stopped:
        url = stopped.url
    assert delivered(url) == SendResult(outcome=DEFERRED, reason="channel_unreachable")


def test_a_refused_password_and_an_untrusted_certificate_stop_the_channel(
    tmp_path: Path, certificate: Certificate
) -> None:
    with SmtpStandIn(tmp_path, user="ops", password=PASSWORD[::-1]) as server:
        refused = delivered(server.url.replace("://", "://ops:s3nha%2Fforte@"))
    assert (refused.outcome, refused.reason, refused.stops_channel) == (FAILED, "token", True)
    with SmtpStandIn(tmp_path, tls_context=certificate.server, scheme="smtps") as server:
        untrusted = delivered(server.url)
    assert (untrusted.outcome, untrusted.reason, untrusted.stops_channel) == (
        FAILED,
        "refused",
        True,
    )


@contextlib.contextmanager
def replying(replies: dict[str, str]) -> Iterator[str]:
    """A server that says 250 to every command but these; the greeting is the command ``""``."""

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            command = ""
            while True:
                self.wfile.write(f"{replies.get(command, '250 ok')}\r\n".encode())
                line = self.rfile.readline()
                if not line:
                    return
                command = line.decode()[:4].strip().upper()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"smtp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


GREETING = {"": "220 hello"}


@pytest.mark.parametrize(
    ("replies", "code", "stops"),
    [
        ({"": "554 your address is blocked"}, 554, True),
        (GREETING | {"EHLO": "550 no", "HELO": "550 no"}, 550, True),
        (GREETING | {"MAIL": "550 no such sender"}, 550, True),
        (GREETING | {"RCPT": "550 no such mailbox"}, 550, False),
        (GREETING | {"DATA": "554 not this one"}, 554, False),
    ],
)
def test_a_refusal_that_meets_every_mail_stops_the_channel_and_one_of_a_mail_does_not(
    replies: dict[str, str], code: int, *, stops: bool
) -> None:
    with replying(replies) as url:
        result = delivered(url)
    assert (result.outcome, result.error_code, result.stops_channel) == (FAILED, code, stops)


def test_a_server_that_knows_no_way_to_log_in_of_ours_stops_the_channel() -> None:
    with replying(GREETING | {"EHLO": "250-hello\r\n250 AUTH XOAUTH2"}) as url:
        result = delivered(url.replace("://", "://ops:s3nha@"))
    assert (result.outcome, result.stops_channel) == (FAILED, True)


def test_a_delivery_cut_off_after_its_text_is_unknown_over_tls_too(
    tmp_path: Path, certificate: Certificate
) -> None:
    with SmtpStandIn(tmp_path, tls_context=certificate.server, scheme="smtps") as server:
        server.fail(SmtpFault.TIMEOUT_AFTER_ACCEPTING)
        result = delivered(server.url, tls_context=certificate.trusting)
    assert result.outcome is UNKNOWN


def test_a_mail_that_cannot_be_written_is_told_and_not_raised(server: SmtpStandIn) -> None:
    assert delivered(server.url, to=()).outcome is FAILED
    assert server.messages == []


def test_the_stand_in_fails_for_the_given_address_alone(server: SmtpStandIn) -> None:
    server.fail(SmtpFault.RECIPIENT, to="a@gatte.example")
    server.fail(SmtpFault.TEMPORARY, to="b@gatte.example")
    results = [delivered(server.url, (f"{name}@gatte.example",)).outcome for name in "cabab"]
    assert results == [Outcome.ACCEPTED, FAILED, DEFERRED, Outcome.ACCEPTED, Outcome.ACCEPTED]


# --- passwords and encryption -------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_mail_goes_encrypted_and_with_a_password(
    tmp_path: Path, certificate: Certificate, scheme: str
) -> None:
    with SmtpStandIn(
        tmp_path, user="ops", password=PASSWORD, tls_context=certificate.server, scheme=scheme
    ) as server:
        url = server.url.replace("://", "://ops:s3nha%2Fforte@")
        sender(url, tls_context=certificate.trusting).send(mail())

        assert len(server.messages) == 1


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_certificate_that_is_not_trusted_is_a_matter_of_configuration(
    tmp_path: Path, certificate: Certificate, scheme: str
) -> None:
    with SmtpStandIn(tmp_path, tls_context=certificate.server, scheme=scheme) as server:
        with pytest.raises(ConfigurationError, match="certificate"):
            sender(server.url).send(mail())

        assert server.messages == []


def test_a_server_without_starttls_is_a_matter_of_configuration(server: SmtpStandIn) -> None:
    with pytest.raises(ConfigurationError, match="does not offer"):
        sender(server.url.replace("smtp:", "smtp+starttls:")).send(mail())


def test_a_wrong_password_is_a_matter_of_configuration_and_is_not_shown(tmp_path: Path) -> None:
    with SmtpStandIn(tmp_path, user="ops", password=PASSWORD[::-1]) as server:
        url = server.url.replace("://", "://ops:s3nha%2Fforte@")
        with pytest.raises(ConfigurationError) as caught:
            sender(url).send(mail())

    assert str(caught.value) == "the mail server answered 535 (SMTPAuthenticationError)"


def test_the_password_is_masked_in_every_later_text(server: SmtpStandIn) -> None:
    made = sender(server.url.replace("://", "://ops:s3nha%2Fforte@"))

    assert redact(f"it is {PASSWORD}") == "it is <secret>"
    assert repr(made) == f"SmtpSender({server.url})"


# --- errors and bad arguments -------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.gatte.example",
        "http://mail.gatte.example",
        "smtp://",
        "smtp://mail.gatte.example:port",
        "smtp://ops:secret@mail.gatte.example",
    ],
)
def test_an_url_that_cannot_be_used_is_a_matter_of_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sender(url)
    assert "secret@" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "ops", "ops@", "@x", "a@x b@y", "a@x\nBcc: b@y", "ç@x.y"])
def test_what_is_no_address_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_addresses(text, "GATTE_STAFF_EMAIL")
    assert str(caught.value) == "GATTE_STAFF_EMAIL must be e-mail addresses separated by commas"


def test_addresses_are_read_with_and_without_names() -> None:
    assert parse_addresses("a@x.y, Bia <b@x.y>", "x") == ("a@x.y", "b@x.y")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: mail(to=()),
        lambda: mail(key="a b"),
        lambda: mail(subject="a\nBcc: b@x.y"),
        lambda: mail(to=("ops@x\r\nBcc: b@x.y",)),
    ],
)
def test_a_mail_that_cannot_be_written_is_permanent(
    server: SmtpStandIn, broken: Callable[[], Email]
) -> None:
    with pytest.raises(PermanentError):
        sender(server.url).send(broken())
    assert server.messages == []


@pytest.mark.parametrize("fault", list(SmtpFault))
def test_no_error_shows_an_address(server: SmtpStandIn, fault: SmtpFault) -> None:
    server.fail(fault)
    impatient = SmtpSender(server.url, SENDER, timeout_seconds=0.3)
    with pytest.raises(GatteError) as caught:
        impatient.send(mail())

    assert "@" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_repr_of_a_mail_shows_its_key_only() -> None:
    assert repr(mail()) == "Email(message_id='watchdog.run-1.failed')"
