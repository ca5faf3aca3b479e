"""Tokens of a Google service account: read from its key, signed for, carried by our transport.

google-auth signs; what it would send and repeat itself goes through ``http`` instead. Nothing of a
key, an assertion or a token is ever shown.
Source: Google, "Using OAuth 2.0 for server to server applications", 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from google.auth import transport
from google.oauth2 import service_account

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.google_calendar.answers import SCOPE, Answer, Meaning, judge_token
from gatte_pipelines.google_calendar.failures import (
    AccessRefusedError,
    UnreadableAnswerError,
    error_from,
)
from gatte_pipelines.http import (
    HARMLESS_EXTENSION,
    RetryableHttpError,
    RetryPolicy,
    build_client,
    parse_base_url,
)
from gatte_pipelines.json_records import decode_object
from gatte_pipelines.redaction import register_secret

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

_FILE = "GATTE_GOOGLE_CREDENTIALS_FILE"
_HOW = "create a key of type JSON for a service account in the Google Cloud console"
# A key is 2-3 kB; a larger file is something else, and not worth reading.
_MAX_FILE_BYTES = 100_000
_REPEATS = RetryPolicy(max_attempts=4, max_total_seconds=60.0, base_delay_seconds=1.0)


class ServiceAccount:
    """A service account that may act for a person.

    Args:
        info: The JSON of its key.
        subject: E-mail address of the person it acts for; None to act for itself.
        token_url: Where tokens are given. Never the file's own: a forged one would be sent what
            Google takes for a token.
        timeout_seconds: Without a byte from the server.
        repeats: Bounds of the repeats.

    Raises:
        ConfigurationError: The key or the address cannot be used.
    """

    def __init__(
        self,
        info: Mapping[str, object],
        *,
        subject: str | None = None,
        token_url: str = TOKEN_URL,
        timeout_seconds: float = 30.0,
        repeats: RetryPolicy = _REPEATS,
    ) -> None:
        parse_base_url(token_url, setting="GATTE_GOOGLE_TOKEN_URL", example=TOKEN_URL)
        self.subject = subject
        self.email, self._google = _load(info, subject, token_url)
        self._client = build_client(
            "",
            headers={"accept": "application/json"},
            timeout=timeout_seconds,
            policy=replace(repeats, throttled=_is_throttled),
        )

    @classmethod
    def from_file(cls, path: Path, **options: Any) -> ServiceAccount:
        """The service account whose key stands in a file.

        Args:
            path: Of the JSON file.
            options: As of the class.

        Raises:
            ConfigurationError: There is no such file, or it holds no such key.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            raise ConfigurationError(f"{_FILE} names a file that is not there; {_HOW}") from None
        except OSError as error:
            # Its own text holds the path.
            raise ConfigurationError(f"{_FILE} cannot be read ({type(error).__name__})") from None
        info = decode_object(content)
        if info is None:
            raise ConfigurationError(f"{_FILE} is no JSON object; {_HOW}")
        return cls(info, **options)

    def __repr__(self) -> str:
        return "<ServiceAccount>"

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def token(self) -> str:
        """A token that is good for some minutes; a new one where the last one is not.

        Raises:
            AccessRefusedError: None is given until someone changes a setting or a grant.
            RetryableHttpError: None is given now.
            UnreadableAnswerError: What is given is none.
        """
        if not self._google.valid:
            self._google.refresh(_Carrier(self._client))
            register_secret(str(self._google.token))
        return str(self._google.token)

    def forget_token(self) -> None:
        """Ask for another token the next time: this one was not accepted."""
        self._google.token = None


@dataclass(frozen=True, kw_only=True)
class _Reply:
    """An answer as google-auth wants it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: bytes = field(repr=False)


class _Carrier(transport.Request):
    """Sends google-auth's one request through our transport, and lets only tokens back.

    Without this, google-auth repeats what it gets a second time by itself, and says what was said
    to it in its own errors.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Reply:
        response = self._client.request(
            method,
            url,
            content=body,
            headers=dict(headers or {}),
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            # To ask twice gives two tokens, and does no harm.
            extensions={HARMLESS_EXTENSION: True},
        )
        answer = _judged(response)
        if answer.meaning is not Meaning.DONE:
            raise _error_of(response, answer)
        return _Reply(status=response.status_code, headers=response.headers, data=response.content)


def _load(
    info: Mapping[str, object], subject: str | None, token_url: str
) -> tuple[str, service_account.Credentials]:
    if info.get("type") != "service_account":
        raise ConfigurationError(f"{_FILE} is not the key of a service account; {_HOW}")
    texts: dict[str, str] = {}
    for name in ("client_email", "private_key"):
        value = info.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"{_FILE} has no {name}; {_HOW}")
        texts[name] = value
    register_secret(texts["private_key"])
    try:
        credentials = service_account.Credentials.from_service_account_info(
            {**texts, "private_key_id": info.get("private_key_id"), "token_uri": token_url},
            scopes=[SCOPE],
            subject=subject,
        )
        # A key of another kind is read without a word, and fails here.
        credentials.sign_bytes(b"")
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        # Their texts may quote the key.
        raise ConfigurationError(f"{_FILE} has a private_key that cannot be used; {_HOW}") from None
    return texts["client_email"], credentials


def _judged(response: httpx.Response) -> Answer:
    return judge_token(response.status_code, response.headers, response.content)


def _is_throttled(response: httpx.Response) -> bool:
    return _judged(response).meaning is Meaning.THROTTLED


def _error_of(response: httpx.Response, answer: Answer) -> Exception:
    message = f"answered {response.status_code}: {answer.explanation}"
    if answer.is_repeated:
        return error_from(RetryableHttpError, response, message)
    if answer.meaning is not Meaning.FOREIGN:
        return error_from(AccessRefusedError, response, message)
    if response.is_success:
        return error_from(UnreadableAnswerError, response, message)
    message += "; see whether GATTE_GOOGLE_TOKEN_URL is right"
    return error_from(AccessRefusedError, response, message)
