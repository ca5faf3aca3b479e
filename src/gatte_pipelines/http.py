"""The one retrying httpx transport, and the errors that every HTTP client of this project raises.

What a vendor's answer means (its error codes, its pages) belongs to that vendor's client.
Why this is ours and not a library's: docs/decisions/0003-retrying-transport.md.
"""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache

import httpx

from gatte_pipelines.errors import (
    ConfigurationError,
    GatteError,
    PermanentError,
    RetryableError,
)
from gatte_pipelines.redaction import redact

logger = logging.getLogger(__name__)

# RFC 9110 §9.2.2 without TRACE, which nobody here needs: doing these twice does them once.
HARMLESS_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
# The httpx extension that marks a request of another method as safe to send twice, for example a
# POST that carries an idempotency key, or a search.
HARMLESS_EXTENSION = "repeat_is_harmless"

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts to which a secret may go unencrypted: this machine itself."""

TOO_MANY_REQUESTS = 429
_NOT_MODIFIED = 304
_FIRST_REDIRECT, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500
# 408 and 425 are the client errors that say nothing about the request itself (RFC 9110, RFC 8470).
_PASSING_CLIENT_ERRORS = frozenset({408, 425})
# "Not implemented" and "HTTP version not supported" stay so however often one asks.
_LASTING_SERVER_ERRORS = frozenset({501, 505})

# Looked for in this order. Pipedrive sends x-correlation-id, Meta the x-fb- ones, Google the x-g
# ones, and what Cloudflare answers in a vendor's place has only cf-ray.
_REQUEST_ID_HEADERS = (
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-fb-request-id",
    "x-fb-trace-id",
    "x-goog-request-id",
    "x-guploader-uploadid",
    "x-amzn-requestid",
    "x-trace-id",
    "cf-ray",
)
# A header comes from outside: anything but a plain identifier could forge a log line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_DECIMAL_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
# An attempt that begins at the very end of the total time still needs some time to fail in.
_SHORTEST_TIMEOUT_SECONDS = 0.05
# Workers that were started together must not wait the same times.
_RANDOM = random.SystemRandom()


class HttpError(GatteError):
    """An HTTP request that did not do its work.

    Carries what is needed to find the request at the vendor's, and never its body, query or
    headers: these hold tokens, names and phones.

    Args:
        message: What happened, without method and path.
        method: HTTP method.
        path: Path without the query; personal values in it are masked.
        status: Status of the answer, or None when none came.
        request_id: The vendor's id of the request, or None.
        retry_after_seconds: How long the server asked to be left alone, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str,
        path: str,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.status = status
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        suffix = "" if request_id is None else f" (request id {request_id})"
        super().__init__(f"{method} {path}: {message}{suffix}")


class RetryableHttpError(HttpError, RetryableError):
    """A rerun may succeed and cannot do the work twice."""


class PermanentHttpError(HttpError, PermanentError):
    """A rerun of the same request gives the same answer."""


class AmbiguousError(HttpError):
    """The request may have taken effect and must not be repeated blindly.

    Neither retryable nor permanent: look at the vendor whether it took effect, then decide.
    """


def is_throttled(response: httpx.Response) -> bool:
    """Whether the server refused the request unread because there were too many of them."""
    return response.status_code == TOO_MANY_REQUESTS


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how long a request is repeated.

    Attributes:
        max_attempts: Requests sent at most, the first included. Too high hammers a vendor:
            Pipedrive answers that with a block by Cloudflare.
        max_total_seconds: No attempt begins later than this after the first, and the timeouts of
            an attempt are cut to what is left. Too high and a run of a minute's schedule is late.
        base_delay_seconds: Upper bound of the first random wait; it doubles with every attempt.
        max_delay_seconds: Upper bound of every later one.
        max_retry_after_seconds: A server that asks for a longer wait gets no further request now;
            the error says how long it asked for. To wait shorter than asked would be hammering.
        throttled: Tells a refusal for too many requests, which is repeated for any method. A
            vendor's client gives its own where throttling is not plain 429: Meta's Graph answers
            400, Google 403; Pipedrive's 429 with an empty daily budget is not worth repeating.
            It sees the whole answer, body included.
    """

    max_attempts: int = 5
    max_total_seconds: float = 120.0
    base_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    max_retry_after_seconds: float = 60.0
    throttled: Callable[[httpx.Response], bool] = is_throttled

    def __post_init__(self) -> None:
        """Refuse numbers that would never send a request.

        Raises:
            ValueError: A number is out of its range.
        """
        if self.max_attempts < 1 or self.max_total_seconds <= 0:
            raise ValueError("a retry policy needs at least one attempt and some time")
        if min(self.base_delay_seconds, self.max_delay_seconds, self.max_retry_after_seconds) < 0:
            raise ValueError("a wait cannot be negative")


class RetryingTransport(httpx.BaseTransport):
    """Sends a request through another transport, again where design §4 allows it.

    - 429 is repeated for any method: the server did not do the work.
    - Nothing sent (no connection, no free connection) is repeated for any method.
    - 5xx, 408, 425, timeouts and broken connections are repeated only where a repeat is harmless.
    - A body that is a stream, and could not be sent a second time, is never repeated.

    The body of every answer is read here, so that an answer cut off in the middle counts as a
    failed attempt; a caller's ``client.stream`` therefore works, but from memory.

    When no answer came, raises one of the errors of this module. An answer is returned whatever
    its status: `raise_for_error` judges it.

    Args:
        inner: The transport that really sends.
        policy: Bounds of attempts and time.
        sleep: Waits for seconds.
        clock: Monotonic seconds.
        random: A number from 0 up to but not including 1.
        wall_clock: Now, for a Retry-After date from a server that sends no Date header.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _RANDOM.random,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner = inner
        self._policy = policy if policy is not None else RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._random = random
        self._wall_clock = wall_clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and repeat it within the policy.

        Raises:
            RetryableHttpError: No answer came, and a repeat is harmless.
            AmbiguousError: No answer came, and the request may have taken effect.
            PermanentHttpError: No answer can come: a certificate or the request itself is wrong.
        """
        deadline = self._clock() + self._policy.max_total_seconds
        extensions = dict(request.extensions)
        # Only a body that is held as bytes can be sent twice (httpx: content=bytes, json, data).
        attempts = self._policy.max_attempts if isinstance(request.stream, httpx.ByteStream) else 1
        for attempt in range(1, attempts + 1):
            request.extensions = self._timeouts_cut(extensions, deadline - self._clock())
            response: httpx.Response | None = None
            failure: HttpError | None
            try:
                response = self._send(request, deadline)
            except (httpx.TransportError, httpx.DecodingError) as error:
                failure = _error_without_answer(request, error)
            else:
                failure = error_of(
                    response, throttled=self._policy.throttled, wall_clock=self._wall_clock
                )
            wait = self._wait_seconds(failure, attempt, deadline) if attempt < attempts else None
            if failure is None or wait is None:
                request.extensions = extensions
                if response is not None:
                    return response
                assert failure is not None  # noqa: S101 - neither answer nor failure cannot be
                raise failure from None
            logger.info("%s; attempt %d, the next in %.1f s", failure, attempt, wait)
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def _send(self, request: httpx.Request, deadline: float) -> httpx.Response:
        """Send once and read the whole answer; the answer's connection is given back always."""
        began = self._clock()
        arriving = self._inner.handle_request(request)
        try:
            body = b"".join(self._chunks_until(arriving, deadline))
        finally:
            arriving.close()
        response = httpx.Response(
            arriving.status_code,
            headers=arriving.headers,
            stream=httpx.ByteStream(body),
            request=request,
            # The network stream is closed by now and must not be offered to anyone.
            extensions={k: v for k, v in arriving.extensions.items() if k != "network_stream"},
        )
        response.read()
        response.elapsed = timedelta(seconds=self._clock() - began)
        return response

    def _chunks_until(self, response: httpx.Response, deadline: float) -> Iterator[bytes]:
        """Yield the body; a server that drips bytes for ever meets the total time."""
        if not isinstance(response.stream, httpx.SyncByteStream):
            raise TypeError("the inner transport must be a synchronous one")
        late = False
        for chunk in response.stream:
            # Only a further chunk is too much: an answer that is complete by now is kept.
            if late:
                raise httpx.ReadTimeout("the total time is over")
            yield chunk
            late = self._clock() > deadline

    def _wait_seconds(
        self, failure: HttpError | None, attempt: int, deadline: float
    ) -> float | None:
        """Return the wait before the next attempt, or None when there must be none."""
        if not isinstance(failure, RetryableHttpError):
            return None
        asked = failure.retry_after_seconds or 0.0
        if asked > self._policy.max_retry_after_seconds:
            return None
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        doubled = self._policy.base_delay_seconds * 2.0 ** (attempt - 1)
        wait = asked + self._random() * min(self._policy.max_delay_seconds, doubled)
        return wait if self._clock() + wait < deadline else None

    @staticmethod
    def _timeouts_cut(extensions: Mapping[str, object], remaining: float) -> dict[str, object]:
        """Return the extensions with every timeout cut to the seconds that remain."""
        given = extensions.get("timeout")
        timeouts = given if isinstance(given, Mapping) else {}
        most = max(remaining, _SHORTEST_TIMEOUT_SECONDS)
        cut = {
            name: most if timeouts.get(name) is None else min(float(timeouts[name]), most)
            for name in ("connect", "read", "write", "pool")
        }
        return {**extensions, "timeout": cut}


def build_client(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float | httpx.Timeout = 30.0,
    policy: RetryPolicy | None = None,
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """Build the client that every vendor's client is handed.

    Redirects are not followed: an API that redirects has moved, and a token must not follow it.

    Args:
        base_url: The vendor's host, with a path where the vendor has one.
        headers: Sent with every request.
        timeout: Seconds without a byte, for each of connecting, reading, writing and waiting for
            a free connection.
        policy: Bounds of the repeats.
        transport: What really sends; tests pass `httpx.MockTransport`.
    """
    inner = httpx.HTTPTransport(verify=_trusted()) if transport is None else transport
    return httpx.Client(
        base_url=base_url,
        headers=dict(headers or {}),
        timeout=timeout,
        transport=RetryingTransport(inner, policy),
        follow_redirects=False,
    )


@cache
def _trusted() -> ssl.SSLContext:
    """Whom every client trusts; read once, since it takes longer than most calls."""
    return httpx.create_ssl_context()


def parse_base_url(text: str, *, setting: str, example: str) -> httpx.URL:
    """Read the address of an API from a setting; secrets go there.

    Args:
        text: The setting's value.
        setting: Its name.
        example: What it should look like.

    Raises:
        ConfigurationError: It is no such address, or secrets would go there unencrypted.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ConfigurationError(f"{setting} is not a URL") from None
    is_address = url.scheme in {"https", "http"} and bool(url.host)
    if not is_address or url.userinfo or url.query or url.fragment:
        raise ConfigurationError(f"{setting} must look like {example}")
    if url.scheme == "http" and url.host not in LOOPBACK:
        raise ConfigurationError(f"{setting} would send secrets unencrypted; use https://")
    return url


def raise_for_error(
    response: httpx.Response, *, throttled: Callable[[httpx.Response], bool] = is_throttled
) -> None:
    """Raise the error that an answer stands for; return when it is a success.

    Args:
        response: An answer that belongs to a request.
        throttled: The same as in the client's `RetryPolicy`.

    Raises:
        RetryableHttpError: Too many requests, or a passing fault where a repeat is harmless.
        AmbiguousError: A passing fault of a request that may have taken effect.
        PermanentHttpError: Every other status that is not a success.
    """
    error = error_of(response, throttled=throttled)
    if error is not None:
        raise error


def error_of(
    response: httpx.Response,
    *,
    throttled: Callable[[httpx.Response], bool] = is_throttled,
    wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> HttpError | None:
    """Return the error that an answer stands for, or None for a success (2xx and 304)."""
    status = response.status_code
    if status < _FIRST_REDIRECT or status == _NOT_MODIFIED:
        return None
    kind: type[HttpError]
    explanation = ""
    if throttled(response):
        kind = RetryableHttpError
        explanation = ", too many requests"
    elif not _is_passing(status):
        kind = PermanentHttpError
    elif repeat_is_harmless(response.request):
        kind = RetryableHttpError
    else:
        kind = AmbiguousError
        explanation = ", it may have taken effect"
    asked = retry_after_seconds(response.headers, wall_clock())
    if asked is not None:
        explanation += f", asks to wait {asked:.0f} s"
    return kind(
        f"answered {status}{explanation}",
        method=response.request.method,
        path=safe_path(response.request.url),
        status=status,
        request_id=request_id_of(response.headers),
        retry_after_seconds=asked,
    )


def repeat_is_harmless(request: httpx.Request) -> bool:
    """Whether sending the request twice does the same as sending it once."""
    marked = request.extensions.get(HARMLESS_EXTENSION) is True
    return marked or request.method in HARMLESS_METHODS


def retry_after_seconds(headers: httpx.Headers, now: datetime) -> float | None:
    """Read how long the server asks to wait (RFC 9110 §10.2.3, seconds or an HTTP date).

    A date is compared with the server's own Date header where there is one, so that a difference
    between its clock and ours does not matter.

    Args:
        headers: Headers of the answer.
        now: Our time, used when the server says none.

    Returns:
        Seconds, never negative, or None when the header is absent or means nothing.
    """
    text = headers.get("retry-after", "").strip()
    if _DECIMAL_SECONDS.fullmatch(text):
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now
    return max(0.0, (until - since).total_seconds())


def request_id_of(headers: httpx.Headers) -> str | None:
    """Return the vendor's id of a request, or None when it sent none that is plain text."""
    for name in _REQUEST_ID_HEADERS:
        value: str = headers.get(name, "")
        if _REQUEST_ID.fullmatch(value):
            return value
    return None


def safe_path(url: httpx.URL) -> str:
    """Return a URL's path without the query, personal values in it masked.

    Google's paths hold the calendar's id, which may be a person's e-mail address.
    """
    return redact("".join(letter if letter.isprintable() else "?" for letter in url.path))


def _is_passing(status: int) -> bool:
    if status < _FIRST_SERVER_ERROR:
        return status in _PASSING_CLIENT_ERRORS
    return status not in _LASTING_SERVER_ERRORS


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _error_without_answer(
    request: httpx.Request, error: httpx.TransportError | httpx.DecodingError
) -> HttpError:
    """Name what a failed attempt means. Its own text and request (URL, headers) are left behind."""
    kind: type[HttpError]
    if _has_cause(error, ssl.SSLCertVerificationError):
        kind, message = PermanentHttpError, "the server's certificate is not trusted"
    elif isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        kind, message = PermanentHttpError, "the request cannot be sent as it is"
    elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        kind, message = RetryableHttpError, "no connection, nothing was sent"
    else:
        timed_out = isinstance(error, httpx.TimeoutException)
        message = "no answer in time" if timed_out else "the answer broke off"
        kind = RetryableHttpError
        if not repeat_is_harmless(request):
            kind = AmbiguousError
            message += ", it may have taken effect"
    return kind(
        f"{message} ({type(error).__name__})",
        method=request.method,
        path=safe_path(request.url),
    )


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
