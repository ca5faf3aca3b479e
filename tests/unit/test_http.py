"""The retrying transport, one test a clause of design §4."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import repeat

import httpx
import pytest

from gatte_pipelines.errors import GatteError, PermanentError, RetryableError
from gatte_pipelines.http import (
    AmbiguousError,
    HttpError,
    PermanentHttpError,
    RetryableHttpError,
    RetryingTransport,
    RetryPolicy,
    build_client,
    raise_for_error,
    request_id_of,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
Step = httpx.Response | Exception
POLICY = RetryPolicy(
    max_attempts=4,
    max_total_seconds=100,
    base_delay_seconds=1,
    max_delay_seconds=8,
    max_retry_after_seconds=60,
)


class Vendor:
    """A vendor that answers by a script, a clock that only moves by sleeping, and a record."""

    def __init__(self, steps: Iterator[Step], jitter: float = 0.0, seconds: float = 0.0) -> None:
        self.steps = steps
        self.jitter = jitter
        self.seconds = seconds
        self.now = 0.0
        self.slept: list[float] = []
        self.bodies: list[bytes] = []
        self.timeouts: list[dict[str, float]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        self.timeouts.append(request.extensions["timeout"])
        self.now += self.seconds
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def client(self, policy: RetryPolicy = POLICY) -> httpx.Client:
        transport = RetryingTransport(
            httpx.MockTransport(self),
            policy,
            sleep=self.sleep,
            clock=lambda: self.now,
            random=lambda: self.jitter,
            wall_clock=lambda: NOW,
        )
        return httpx.Client(base_url="https://api.example.com", transport=transport)


def vendor(*steps: Step, jitter: float = 0.0) -> Vendor:
    return Vendor(iter(steps), jitter)


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


# --- what is repeated ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_too_many_requests_is_repeated_for_any_method(method: str) -> None:
    it = vendor(answer(429), answer(429), answer(200))

    assert it.client().request(method, "/x").status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520])
def test_a_passing_fault_is_repeated_where_that_is_harmless(method: str, status: int) -> None:
    it = vendor(answer(status), answer(200))

    assert it.client().request(method, "/x").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_passing_fault_is_not_repeated_where_that_could_do_the_work_twice(method: str) -> None:
    it = vendor(answer(500), answer(200))

    assert it.client().request(method, "/x").status_code == 500
    assert it.slept == []


def test_a_marked_request_is_repeated_like_a_harmless_one() -> None:
    it = vendor(answer(503), httpx.ReadTimeout("slow"), answer(200))

    response = it.client().post("/x", json={}, extensions={"repeat_is_harmless": True})
    assert response.status_code == 200


def test_a_mark_that_is_not_true_marks_nothing() -> None:
    it = vendor(answer(503), answer(200))

    response = it.client().post("/x", extensions={"repeat_is_harmless": "no"})
    assert response.status_code == 503


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501, 505])
def test_an_answer_that_stays_the_same_is_not_repeated(status: int) -> None:
    it = vendor(answer(status))

    assert it.client().get("/x").status_code == status


@pytest.mark.parametrize(
    "fault", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.RemoteProtocolError]
)
def test_a_broken_exchange_is_repeated_where_that_is_harmless(
    fault: type[httpx.TransportError],
) -> None:
    it = vendor(fault("x"), answer(200))

    assert it.client().get("/x").status_code == 200


@pytest.mark.parametrize(
    "fault", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.RemoteProtocolError]
)
def test_a_broken_exchange_that_may_have_taken_effect_is_ambiguous(
    fault: type[httpx.TransportError],
) -> None:
    it = vendor(fault("x"), answer(200))

    with pytest.raises(AmbiguousError) as caught:
        it.client().post("/v1/messages", json={})
    assert it.slept == []
    assert not isinstance(caught.value, RetryableError | PermanentError)


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_a_request_of_which_nothing_was_sent_is_repeated_for_any_method(
    fault: type[httpx.TransportError],
) -> None:
    it = vendor(fault("x"), answer(201))

    assert it.client().post("/x", json={}).status_code == 201


def test_a_certificate_that_is_not_trusted_is_not_asked_again() -> None:
    fault = httpx.ConnectError("x")
    fault.__cause__ = ssl.SSLCertVerificationError("x")
    it = vendor(fault)

    with pytest.raises(PermanentHttpError, match="certificate is not trusted"):
        it.client().get("/x")


def test_a_request_that_breaks_the_protocol_is_not_sent_again() -> None:
    it = vendor(httpx.LocalProtocolError("x"))

    with pytest.raises(PermanentHttpError, match="cannot be sent"):
        it.client().get("/x")


def test_a_body_that_is_a_stream_is_not_repeated() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"once"

    it = vendor(answer(429), answer(200))

    assert it.client().put("/x", content=pieces()).status_code == 429
    assert it.bodies == [b"once"]


def test_a_repeat_sends_the_same_body() -> None:
    it = vendor(answer(429), answer(200))
    it.client().post("/x", json={"a": 1})

    assert it.bodies == [b'{"a":1}', b'{"a":1}']


def test_a_vendors_own_sign_of_throttling_is_repeated_for_any_method() -> None:
    graph = httpx.Response(400, json={"error": {"code": 130429}})
    it = vendor(graph, answer(200))
    policy = RetryPolicy(throttled=lambda r: r.status_code == 400 and b"130429" in r.content)

    assert it.client(policy).post("/x").status_code == 200


def test_a_vendor_can_say_that_a_429_is_final() -> None:
    it = vendor(httpx.Response(429, headers={"x-daily-ratelimit-token-remaining": "0"}))
    policy = RetryPolicy(
        throttled=lambda r: (
            r.status_code == 429 and r.headers.get("x-daily-ratelimit-token-remaining") != "0"
        )
    )

    assert it.client(policy).get("/x").status_code == 429


# --- bounds -------------------------------------------------------------------------------------


def test_attempts_are_bounded() -> None:
    it = Vendor(repeat(answer(503)))

    assert it.client().get("/x").status_code == 503
    assert len(it.bodies) == POLICY.max_attempts


def test_when_no_attempt_gets_an_answer_the_error_is_retryable() -> None:
    it = Vendor(repeat(httpx.ConnectTimeout("x")))

    with pytest.raises(RetryableHttpError, match="no connection, nothing was sent"):
        it.client().post("/x")
    assert len(it.bodies) == POLICY.max_attempts


def test_the_total_time_is_bounded() -> None:
    it = Vendor(repeat(answer(503)), jitter=0.999, seconds=30)
    policy = RetryPolicy(max_attempts=100, max_total_seconds=100)

    it.client(policy).get("/x")
    assert it.now - it.seconds < 100 < it.now + it.seconds


def test_a_wait_that_would_outlast_the_total_time_is_not_begun() -> None:
    it = vendor(answer(429, retry_after="50"))
    policy = RetryPolicy(max_total_seconds=49)

    assert it.client(policy).get("/x").status_code == 429
    assert it.slept == []


def test_the_timeouts_of_an_attempt_are_cut_to_what_is_left() -> None:
    it = vendor(answer(429, retry_after="50"), answer(200))
    policy = RetryPolicy(max_total_seconds=60, base_delay_seconds=0)

    it.client(policy).get("/x", timeout=httpx.Timeout(30, read=None))
    assert it.timeouts[0]["connect"] == 30
    assert it.timeouts[0]["read"] == 60
    assert it.timeouts[1] == {"connect": 10, "read": 10, "write": 10, "pool": 10}


def test_a_body_that_drips_meets_the_total_time() -> None:
    it = vendor()
    stream = Dripping(it, seconds=40)
    it.steps = iter([httpx.Response(200, stream=stream)])

    with pytest.raises(RetryableHttpError, match="no answer in time"):
        it.client().get("/x")
    assert stream.closed


@pytest.mark.parametrize(
    "numbers",
    [{"max_attempts": 0}, {"max_total_seconds": 0}, {"base_delay_seconds": -1}],
)
def test_a_policy_that_never_sends_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"attempt|negative"):
        RetryPolicy(**numbers)  # type: ignore[arg-type]


# --- waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("2.5", 2.5),
        ("Sun, 22 Nov 2026 12:00:09 GMT", 9),
        ("Sunday, 22-Nov-26 12:00:09 GMT", 9),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_retry_after_is_obeyed_in_both_forms(text: str, seconds: float) -> None:
    it = vendor(answer(429, retry_after=text), answer(200))
    it.client().get("/x")

    assert it.slept == [seconds]


def test_a_retry_after_date_is_read_by_the_servers_own_clock() -> None:
    it = vendor(
        answer(
            503,
            date="Sun, 22 Nov 2026 15:00:00 GMT",
            retry_after="Sun, 22 Nov 2026 15:00:05 GMT",
        ),
        answer(200),
    )
    it.client().get("/x")

    assert it.slept == [5]


@pytest.mark.parametrize("text", ["61", "Fri, 31 Dec 2100 00:00:00 GMT", "9" * 12])
def test_a_retry_after_beyond_the_cap_ends_the_repeats_and_is_told(text: str) -> None:
    it = vendor(answer(429, retry_after=text))
    response = it.client().get("/x")

    assert it.slept == []
    with pytest.raises(RetryableHttpError) as caught:
        raise_for_error(response)
    assert caught.value.retry_after_seconds is not None
    assert caught.value.retry_after_seconds > 60


def test_waits_without_retry_after_double_up_to_the_most() -> None:
    it = Vendor(repeat(answer(503)), jitter=0.5)
    policy = RetryPolicy(max_attempts=6, base_delay_seconds=1, max_delay_seconds=5)
    it.client(policy).get("/x")

    assert it.slept == [0.5, 1, 2, 2.5, 2.5]


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 3.0), (0.999, 3.999)])
def test_jitter_only_adds_to_what_the_server_asked(jitter: float, wait: float) -> None:
    it = vendor(answer(429, retry_after="3"), answer(200), jitter=jitter)
    it.client().get("/x")

    assert it.slept == [pytest.approx(wait)]


# --- answers ------------------------------------------------------------------------------------


class Dripping(httpx.SyncByteStream):
    """A body of ten bytes, each of which takes its time."""

    def __init__(self, it: Vendor, seconds: float, fault: Exception | None = None) -> None:
        self.it, self.seconds, self.fault, self.closed = it, seconds, fault, False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(10):
            self.it.now += self.seconds
            yield b"x"
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        self.closed = True


def test_the_bodies_of_repeated_answers_are_closed() -> None:
    it = vendor()
    streams = [Dripping(it, 0), Dripping(it, 0), Dripping(it, 0)]
    it.steps = iter(
        httpx.Response(status, stream=stream)
        for status, stream in zip([503, 429, 200], streams, strict=True)
    )
    response = it.client().get("/x")

    assert [stream.closed for stream in streams] == [True, True, True]
    assert response.text == "x" * 10
    assert response.elapsed.total_seconds() == 0


def test_an_answer_cut_off_in_its_body_is_a_failed_attempt() -> None:
    it = vendor()
    cut = Dripping(it, 0, fault=httpx.RemoteProtocolError("cut"))
    it.steps = iter([httpx.Response(200, stream=cut), httpx.Response(200, text="whole")])

    assert it.client().get("/x").text == "whole"
    assert cut.closed


def test_a_body_that_does_not_decode_is_a_failed_attempt() -> None:
    broken = httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")
    )
    it = vendor(broken, httpx.Response(200, text="whole"))

    assert it.client().get("/x").text == "whole"


def test_a_stream_is_read_from_memory() -> None:
    it = vendor(httpx.Response(200, text="a\nb\n"))

    with it.client().stream("GET", "/x") as response:
        assert list(response.iter_lines()) == ["a", "b"]


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "kind"),
    [
        ("GET", 429, RetryableHttpError),
        ("POST", 429, RetryableHttpError),
        ("GET", 503, RetryableHttpError),
        ("POST", 503, AmbiguousError),
        ("PATCH", 500, AmbiguousError),
        ("POST", 400, PermanentHttpError),
        ("GET", 404, PermanentHttpError),
        ("GET", 501, PermanentHttpError),
        ("GET", 302, PermanentHttpError),
    ],
)
def test_an_error_is_classed_by_what_a_rerun_would_change(
    method: str, status: int, kind: type[HttpError]
) -> None:
    response = Vendor(repeat(answer(status))).client().request(method, "/x")

    with pytest.raises(GatteError) as caught:
        raise_for_error(response)
    assert type(caught.value) is kind


@pytest.mark.parametrize("status", [200, 201, 204, 304])
def test_a_success_raises_nothing(status: int) -> None:
    raise_for_error(vendor(answer(status)).client().get("/x"))


def test_an_error_carries_method_path_status_and_request_id_and_nothing_else() -> None:
    refused = httpx.Response(
        422, headers={"x-request-id": "req-7", "x-echo": "Maria"}, json={"error": "Maria"}
    )
    response = (
        vendor(refused)
        .client()
        .post("/v1/persons?name=Maria", json={"name": "Maria"}, headers={"x-api-token": "Maria"})
    )

    with pytest.raises(PermanentHttpError) as caught:
        raise_for_error(response)
    error = caught.value
    assert (error.method, error.path, error.status) == ("POST", "/v1/persons", 422)
    assert error.request_id == "req-7"
    assert str(error) == "POST /v1/persons: answered 422 (request id req-7)"
    assert "Maria" not in repr(error.__dict__)
    assert error.__cause__ is None


def test_an_error_without_an_answer_drops_the_text_and_request_of_its_cause() -> None:
    with pytest.raises(AmbiguousError) as caught:
        vendor(httpx.ReadTimeout("Maria")).client().post("/v1/persons?name=Maria")

    assert "Maria" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_personal_value_in_the_path_is_masked() -> None:
    response = vendor(answer(404)).client().get("/calendars/maria%40example.com/events/%0Ax")

    with pytest.raises(PermanentHttpError) as caught:
        raise_for_error(response)
    assert caught.value.path == "/calendars/<email>/events/?x"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("x-request-id", "a-1", "a-1"),
        ("x-correlation-id", "a-1", "a-1"),
        ("x-fb-trace-id", "AbC+/1", "AbC+/1"),
        ("cf-ray", "8f0-GRU", "8f0-GRU"),
        ("x-request-id", "a b", None),
        ("x-request-id", "a" * 129, None),
        ("x-other", "a-1", None),
    ],
)
def test_the_request_id_is_found_under_the_vendors_names(
    name: str, value: str, expected: str | None
) -> None:
    assert request_id_of(httpx.Headers({name: value})) == expected


def test_a_repeat_is_logged_without_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gatte_pipelines")
    vendor(answer(503), answer(200)).client().get("/x?name=Maria")

    ours = [it.getMessage() for it in caplog.records if it.name == "gatte_pipelines.http"]
    assert ours == ["GET /x: answered 503; attempt 1, the next in 0.0 s"]


# --- the client ---------------------------------------------------------------------------------


def test_the_built_client_sends_its_headers_and_retries() -> None:
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(429 if len(seen) == 1 else 200)

    client = build_client(
        "https://api.example.com/base",
        headers={"x-api-token": "t"},
        timeout=5,
        policy=RetryPolicy(base_delay_seconds=0),
        transport=httpx.MockTransport(serve),
    )
    with client:
        assert client.get("/x").status_code == 200
    assert str(seen[1].url) == "https://api.example.com/base/x"
    assert seen[1].headers["x-api-token"] == "t"


def test_the_built_client_does_not_carry_its_token_to_a_redirect() -> None:
    moved: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(  # noqa: E731
        302, headers={"location": "https://elsewhere.example.com"}
    )
    client = build_client("https://api.example.com", transport=httpx.MockTransport(moved))

    assert client.get("/x").status_code == 302


def test_closing_the_client_closes_the_inner_transport() -> None:
    class Inner(httpx.MockTransport):
        closed = False

        def close(self) -> None:
            self.closed = True

    inner = Inner(lambda _: httpx.Response(200))
    build_client("https://api.example.com", transport=inner).close()

    assert inner.closed
