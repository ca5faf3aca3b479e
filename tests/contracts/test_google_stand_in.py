"""The stand-in for Google Calendar: what a client of the real one must be ready for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from gatte_pipelines.sandbox.faults import MISSING
from gatte_pipelines.sandbox.google_calendar import GoogleCalendarStandIn, GoogleFault
from gatte_pipelines.sandbox.google_calendar_access import SCOPE_PREFIX
from gatte_pipelines.sandbox.google_calendar_api import EVENTS_SCOPE
from gatte_pipelines.sandbox.google_calendar_lists import FORBIDDEN_WITH_SYNC_TOKEN
from tests.google_accounts import ask_for_token, bearer, plain_client

START = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)
SAO_PAULO = "America/Sao_Paulo"
OURS = "0123456789abcdefghijklmnop"
AT_TEN = {"dateTime": "2026-03-12T10:00:00-03:00", "timeZone": SAO_PAULO}
AT_ELEVEN = {"dateTime": "2026-03-12T11:00:00-03:00", "timeZone": SAO_PAULO}
BODY: dict[str, Any] = {
    "id": OURS,
    "summary": "Demonstração",
    "start": AT_TEN,
    "end": AT_ELEVEN,
    "extendedProperties": {"private": {"gatte_appointment_id": "17"}},
}
WHOLE = {"singleEvents": "true", "showDeleted": "true"}


class Clock:
    """The hour of the calendar: it stands still until moved."""

    def __init__(self) -> None:
        self.now = START

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[GoogleCalendarStandIn]:
    with GoogleCalendarStandIn(now=lambda: clock.now) as started:
        yield started


@pytest.fixture
def api(stand_in: GoogleCalendarStandIn, tmp_path: Path) -> Iterator[httpx.Client]:
    headers = bearer(stand_in, tmp_path)
    stand_in.forget_exchanges()
    base_url = f"{stand_in.url}/calendars/{stand_in.calendar_id}/"
    with plain_client(base_url=base_url, headers=headers) as client:
        yield client


def data(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def reason(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["errors"][0]["reason"]


def insert(api: httpx.Client, **changes: Any) -> dict[str, Any]:
    body = {key: one for key, one in {**BODY, **changes}.items() if one is not None}
    made: dict[str, Any] = data(api.post("events", json=body))
    return made


def pages(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """Every page of a list."""
    found: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    while not found or more:
        found.append(data(api.get("events", params={**query, **more})))
        token = found[-1].get("nextPageToken")
        more = {} if token is None else {"pageToken": token}
    return found


def items(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    return [one for page in pages(api, **query) for one in page["items"]]


def ids(api: httpx.Client, **query: Any) -> list[str]:
    return [one["id"] for one in items(api, **query)]


def sync_token(api: httpx.Client, **query: Any) -> str:
    """The token after a list of everything."""
    return str(pages(api, **{**WHOLE, **query})[-1]["nextSyncToken"])


def delta(api: httpx.Client, token: str) -> list[dict[str, Any]]:
    return items(api, **WHOLE, syncToken=token)


# -- who may ask


def test_a_signed_assertion_gives_a_token_that_opens_the_calendar(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    answer = ask_for_token(stand_in, tmp_path)
    body = data(answer)
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3599)
    headers = {"authorization": f"Bearer {body['access_token']}"}
    url = f"{stand_in.url}/calendars/{stand_in.calendar_id}/events"
    with plain_client() as client:
        assert client.get(url, headers=headers).status_code == 200
        assert reason(client.get(url)) == (401, "authError")
        wrong = {"authorization": "Bearer ya29.wrong"}
        assert reason(client.get(url, headers=wrong)) == (401, "authError")


@pytest.mark.parametrize(
    ("claims", "refused"),
    [
        ({"is_foreign": True}, (400, "invalid_grant")),
        ({"algorithm": "HS256"}, (400, "invalid_grant")),
        ({"iss": "somebody@example.com"}, (400, "invalid_grant")),
        ({"aud": "http://127.0.0.1/token"}, (400, "invalid_grant")),
        ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}, (400, "invalid_grant")),
        ({"exp": int(time.time()) + 7200}, (400, "invalid_grant")),
        ({"iat": None}, (400, "invalid_grant")),
        ({"scope": ""}, (400, "invalid_scope")),
        ({"scope": "calendar"}, (400, "invalid_scope")),
        ({"sub": "user@example.com"}, (401, "unauthorized_client")),
    ],
)
def test_an_assertion_that_is_not_right_gives_no_token(
    stand_in: GoogleCalendarStandIn,
    tmp_path: Path,
    claims: dict[str, Any],
    refused: tuple[int, str],
) -> None:
    answer = ask_for_token(stand_in, tmp_path, **claims)
    assert (answer.status_code, answer.json()["error"]) == refused
    assert "access_token" not in answer.json()


def test_another_grant_or_no_assertion_gives_no_token(stand_in: GoogleCalendarStandIn) -> None:
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    with plain_client() as client:
        for form, error in (
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"grant_type": grant}, "invalid_grant"),
            ({"grant_type": grant, "assertion": "a.b.c"}, "invalid_grant"),
            ({"grant_type": grant, "assertion": "W10.W10.W10"}, "invalid_grant"),
        ):
            assert client.post(stand_in.token_url, data=form).json()["error"] == error
        assert client.get(stand_in.token_url).status_code == 404


def test_only_scopes_that_an_administrator_allowed_serve_for_a_user(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    stand_in.account.delegated = frozenset({EVENTS_SCOPE})
    user = "user@example.com"
    assert ask_for_token(stand_in, tmp_path, sub=user).is_success
    more = f"{EVENTS_SCOPE} {SCOPE_PREFIX}calendar"
    refused = ask_for_token(stand_in, tmp_path, sub=user, scope=more)
    assert refused.json()["error"] == "unauthorized_client"


@pytest.mark.parametrize("scope", ["calendar.readonly", "calendar.events.readonly"])
def test_a_token_of_a_scope_for_reading_does_not_write(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path, scope: str
) -> None:
    api.headers.update(bearer(stand_in, tmp_path, scope=SCOPE_PREFIX + scope))
    assert ids(api) == []
    assert reason(api.post("events", json=BODY)) == (403, "insufficientPermissions")
    api.headers.update(bearer(stand_in, tmp_path, scope=f"{SCOPE_PREFIX}drive"))
    assert reason(api.get("events")) == (403, "insufficientPermissions")


def test_a_token_may_come_with_less_than_was_asked_for(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    stand_in.account.granted_scopes = frozenset({f"{SCOPE_PREFIX}drive"})
    api.headers.update(bearer(stand_in, tmp_path))
    assert reason(api.get("events")) == (403, "insufficientPermissions")


def test_access_tokens_end(tmp_path: Path) -> None:
    now = [datetime.now(UTC)]
    with GoogleCalendarStandIn(token_now=lambda: now[0]) as stand_in:
        url = f"{stand_in.url}/calendars/{stand_in.calendar_id}/events"
        with plain_client(headers=bearer(stand_in, tmp_path)) as client:
            assert client.get(url).is_success
            now[0] += timedelta(hours=1)
            assert reason(client.get(url)) == (401, "authError")
            now[0] -= timedelta(hours=1)
            client.headers.update(bearer(stand_in, tmp_path))
            assert client.get(url).is_success
            stand_in.expire_access_tokens()
            assert reason(client.get(url)) == (401, "authError")


def test_a_calendar_that_is_not_shared_is_not_found_and_one_for_reading_is_not_written(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    assert reason(api.get(f"{stand_in.url}/calendars/other@example.com/events")) == (
        404,
        "notFound",
    )
    assert api.get(f"{stand_in.url}/calendars/agenda-gatte%40example.com/events").is_success
    stand_in.role = "reader"
    assert data(api.get("events"))["accessRole"] == "reader"
    assert reason(api.post("events", json=BODY)) == (403, "requiredAccessLevel")
    stand_in.role = None
    assert reason(api.get("events")) == (404, "notFound")


def test_primary_is_a_calendar_that_nobody_sees(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    primary = f"{stand_in.url}/calendars/primary/events"
    assert data(api.post(primary, json=BODY))["status"] == "confirmed"
    assert data(api.get(primary))["accessRole"] == "owner"
    assert [one["id"] for one in stand_in.own_events] == [OURS]
    assert (stand_in.events, ids(api)) == ([], [])


def test_the_file_of_the_key_is_the_owners_and_may_be_spoilt(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    path = stand_in.write_credentials(tmp_path / "key.json", private_key=None, type="user")
    written = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (written["type"], "private_key" in written) == ("user", False)
    assert written["token_uri"] == stand_in.token_url


# -- one event


def test_an_event_is_read_as_it_was_written(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    made = insert(api, description="https://crm.example.com/deal/17", status="tentative")
    assert data(api.get(f"events/{OURS}")) == made == stand_in.event(OURS)
    assert made["etag"].startswith('"')
    assert made["etag"].endswith('"')
    kept = ("id", "status", "sequence", "iCalUID", "created", "updated", "eventType")
    assert [made[key] for key in kept] == [
        OURS,
        "tentative",
        0,
        f"{OURS}@calendar.example.com",
        "2026-03-10T11:30:00.000Z",
        "2026-03-10T11:30:00.000Z",
        "default",
    ]
    assert (made["start"], made["end"]) == (AT_TEN, AT_ELEVEN)
    assert made["extendedProperties"] == {"private": {"gatte_appointment_id": "17"}}
    assert made["creator"] == {"email": stand_in.account.client_email}
    assert made["organizer"]["self"] is True


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"id": "abcd"}, "invalid"),
        ({"id": "UPPER17"}, "invalid"),
        ({"id": "with-dash"}, "invalid"),
        ({"id": "wxyz12"}, "invalid"),
        ({"id": "a" * 1025}, "invalid"),
        ({"id": 17}, "invalid"),
        ({"iCalUID": "x@example.com"}, "invalid"),
        ({"end": None}, "required"),
        ({"start": None}, "required"),
        ({"start": {"datetime": "2026-03-12T10:00:00-03:00"}}, "invalid"),
        ({"start": {**AT_TEN, "date": "2026-03-12"}}, "invalid"),
        ({"start": {"date": "2026-03-12"}}, "invalid"),
        ({"start": {"dateTime": "2026-03-12T10:00:00"}}, "required"),
        ({"start": {"dateTime": "2026-03-12"}}, "invalid"),
        ({"start": {"dateTime": "2026-02-30T10:00:00Z"}}, "invalid"),
        ({"start": {**AT_TEN, "timeZone": "America/Gatte"}}, "invalid"),
        ({"start": {**AT_TEN, "timeZone": "../etc"}}, "invalid"),
        ({"start": AT_ELEVEN, "end": AT_TEN}, "timeRangeEmpty"),
        ({"start": {"date": "12/03/2026"}, "end": {"date": "2026-03-12"}}, "invalid"),
        ({"status": "done"}, "invalid"),
        ({"summary": 17}, "invalid"),
        ({"extendedProperties": {"private": {"id": 17}}}, "invalid"),
        (
            {"recurrence": ["RRULE:FREQ=DAILY"], "start": {"dateTime": "2026-03-12T10:00:00Z"}},
            "required",
        ),
        ({"recurrence": ["RRULE:FREQ=SECONDLY"]}, "notImplemented"),
        (
            {
                "sendUpdates": None,
                "extendedProperties": {"private": {str(n): "" for n in range(301)}},
            },
            "invalid",
        ),
    ],
)
def test_a_wrong_event_is_refused(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, changes: dict[str, Any], refused: str
) -> None:
    body = {key: one for key, one in {**BODY, **changes}.items() if one is not None}
    status, told = reason(api.post("events", json=body))
    assert (status, told) == (501 if refused == "notImplemented" else 400, refused)
    assert stand_in.events == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_body_that_is_no_object_is_refused(api: httpx.Client, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert reason(api.post("events", content=content, headers=headers)) == (400, "parseError")
    text = {"content-type": "text/plain"}
    assert reason(api.post("events", content=b"{}", headers=text)) == (400, "parseError")


def test_properties_are_cut_as_google_cuts_them(api: httpx.Client) -> None:
    given = {"k" * 45: "dropped", "long": "v" * 1025}
    made = insert(api, extendedProperties={"private": given, "shared": {}})
    assert made["extendedProperties"] == {"private": {"long": "v" * 1024}}


def test_an_id_without_one_of_ours_is_made_up(api: httpx.Client) -> None:
    first, second = (insert(api, id=None)["id"] for _ in range(2))
    assert first != second
    assert ids(api) == [first, second]


def test_an_id_is_taken_for_ever(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    insert(api)
    assert reason(api.post("events", json=BODY)) == (409, "duplicate")
    assert api.delete(f"events/{OURS}").status_code == 204
    assert reason(api.post("events", json=BODY)) == (409, "duplicate")
    stand_in.purge_deleted()
    assert reason(api.post("events", json=BODY)) == (409, "duplicate")
    assert reason(api.get(f"events/{OURS}")) == (404, "notFound")
    assert reason(api.patch(f"events/{OURS}", json={"status": "confirmed"})) == (404, "notFound")


def test_a_deleted_event_is_read_and_revived(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, clock: Clock
) -> None:
    made = insert(api)
    clock.move(minutes=1)
    assert api.delete(f"events/{OURS}").content == b""
    assert reason(api.delete(f"events/{OURS}")) == (410, "deleted")
    gone = data(api.get(f"events/{OURS}"))
    assert (gone["status"], gone["summary"], gone["sequence"]) == ("cancelled", "Demonstração", 1)
    assert gone["etag"] != made["etag"]
    assert (stand_in.events, stand_in.cancelled_ids) == ([], [OURS])
    body = {"status": "confirmed", "summary": "De novo"}
    back = data(api.patch(f"events/{OURS}", json=body, headers={"if-match": gone["etag"]}))
    assert (back["status"], back["start"]) == ("confirmed", AT_TEN)
    assert ids(api) == [OURS]


@pytest.mark.parametrize("status", [404, 410])
def test_a_deleted_event_may_be_read_no_more(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, status: int
) -> None:
    stand_in.rules.deleted_status = status
    insert(api)
    api.delete(f"events/{OURS}")
    assert api.get(f"events/{OURS}").status_code == status
    assert api.patch(f"events/{OURS}", json={"status": "confirmed"}).status_code == status
    assert reason(api.delete(f"events/{OURS}")) == (410, "deleted")


def test_what_was_never_there_is_not_found(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    answers = [
        api.get("events/nobody"),
        api.patch("events/nobody", json={}),
        api.put("events/nobody", json=BODY),
        api.delete("events/nobody"),
        api.get("events/nobody_20260310"),
    ]
    assert {reason(one) for one in answers} == {(404, "notFound")}
    elsewhere = [api.get(stand_in.url), api.get("acl"), api.post(f"{stand_in.origin}/x")]
    assert [(one.status_code, one.text[:9]) for one in elsewhere] == [(404, "<!DOCTYPE")] * 3


# -- etags


def test_every_write_has_another_etag_and_only_the_last_one_is_taken(
    api: httpx.Client, clock: Clock
) -> None:
    first = insert(api)["etag"]
    clock.move(seconds=1)
    second = data(
        api.patch(f"events/{OURS}", json={"summary": "Outra"}, headers={"if-match": first})
    )
    # Nothing changed, and yet another etag.
    third = data(api.patch(f"events/{OURS}", json={"summary": "Outra"}))
    assert len({first, second["etag"], third["etag"]}) == 3
    assert second["updated"] == third["updated"] == "2026-03-10T11:30:01.000Z"
    stale = {"if-match": first}
    for answer in (
        api.patch(f"events/{OURS}", json={"summary": "x"}, headers=stale),
        api.put(f"events/{OURS}", json=BODY, headers=stale),
        api.delete(f"events/{OURS}", headers=stale),
        api.delete(f"events/{OURS}", headers={"if-match": third["etag"].strip('"')}),
    ):
        assert reason(answer) == (412, "conditionNotMet")
        assert answer.json()["error"]["errors"][0]["location"] == "If-Match"
    assert data(api.get(f"events/{OURS}")) == third
    assert api.delete(f"events/{OURS}", headers={"if-match": third["etag"]}).status_code == 204


def test_an_event_that_is_as_it_was_is_not_sent_again(api: httpx.Client) -> None:
    etag = insert(api)["etag"]
    known = api.get(f"events/{OURS}", headers={"if-none-match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    other = api.get(f"events/{OURS}", headers={"if-none-match": '"1"'})
    assert (other.status_code, other.headers["etag"]) == (200, etag)


def test_reminders_change_the_etag_and_not_the_time_of_the_last_change(
    api: httpx.Client, clock: Clock
) -> None:
    made = insert(api)
    clock.move(minutes=1)
    changed = data(api.patch(f"events/{OURS}", json={"reminders": {"useDefault": False}}))
    assert changed["updated"] == made["updated"]
    assert changed["etag"] != made["etag"]


# -- what a write does


def test_a_patch_changes_what_it_names_key_by_key(api: httpx.Client) -> None:
    insert(api, description="Antes", recurrence=None)
    body = {
        "description": None,
        "extendedProperties": {"private": {"more": "18"}},
        "status": None,
        "htmlLink": "https://example.com/not-ours-to-say",
        "unheard": "of",
    }
    changed = data(api.patch(f"events/{OURS}", json=body))
    assert changed["extendedProperties"]["private"] == {"gatte_appointment_id": "17", "more": "18"}
    assert "description" not in changed
    assert "unheard" not in changed
    assert changed["status"] == "confirmed"
    assert changed["htmlLink"] != body["htmlLink"]
    cleared = {"extendedProperties": {"private": {"gatte_appointment_id": None, "more": None}}}
    assert "extendedProperties" not in data(api.patch(f"events/{OURS}", json=cleared))


def test_a_new_time_is_a_new_sequence_number_and_another_title_is_none(api: httpx.Client) -> None:
    insert(api)
    assert data(api.patch(f"events/{OURS}", json={"summary": "Outra"}))["sequence"] == 0
    moved = {"end": {"dateTime": "2026-03-12T11:30:00-03:00"}}
    assert data(api.patch(f"events/{OURS}", json=moved))["sequence"] == 1
    assert reason(api.patch(f"events/{OURS}", json={"sequence": 0})) == (400, "invalid")
    assert data(api.patch(f"events/{OURS}", json={"sequence": 7}))["sequence"] == 7


def test_a_patch_from_a_day_to_a_moment_must_take_the_day_away(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    stand_in.make_all_day(OURS, date(2026, 3, 20))
    whole = data(api.get(f"events/{OURS}"))
    assert (whole["start"], whole["end"]) == ({"date": "2026-03-20"}, {"date": "2026-03-21"})
    times = {"start": AT_TEN, "end": AT_ELEVEN}
    assert reason(api.patch(f"events/{OURS}", json=times)) == (400, "invalid")
    clear = {key: {**one, "date": None} for key, one in times.items()}
    assert data(api.patch(f"events/{OURS}", json=clear))["start"] == AT_TEN


def test_a_put_replaces_everything(api: httpx.Client) -> None:
    insert(api, description="Antes", status="tentative")
    body = {"start": AT_TEN, "end": AT_ELEVEN}
    replaced = data(api.put(f"events/{OURS}", json=body))
    assert not replaced.keys() & {"description", "summary", "extendedProperties"}
    assert replaced["status"] == "confirmed"
    assert reason(api.put(f"events/{OURS}", json={"summary": "x"})) == (400, "required")


def test_events_of_no_duration_of_many_days_and_in_the_past_are_taken(api: httpx.Client) -> None:
    insert(api, id="nothing0", end=AT_TEN)
    late = {"dateTime": "2026-04-21T10:00:00-03:00", "timeZone": SAO_PAULO}
    insert(api, id="fort1es", end=late)
    past = {"dateTime": "2011-01-12T10:00:00-02:00", "timeZone": SAO_PAULO}
    insert(api, id="pa0st", start=past, end=past)
    assert len(ids(api)) == 3


def test_attendees_need_somebody_to_act_for(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    guests = {"attendees": [{"email": "guest@example.com"}]}
    refused = api.post("events", json={**BODY, **guests}, params={"sendUpdates": "none"})
    assert reason(refused) == (403, "forbiddenForServiceAccounts")
    assert insert(api, attendees=[])["id"] == OURS
    stand_in.account.delegated = frozenset({EVENTS_SCOPE})
    api.headers.update(bearer(stand_in, tmp_path, sub="user@example.com"))
    made = insert(api, id="guests0", **guests)
    assert (made["attendees"], made["creator"]["email"]) == (
        guests["attendees"],
        "user@example.com",
    )


def test_who_asks_google_to_write_to_guests_is_noted(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    api.patch(f"events/{OURS}", json={}, params={"sendUpdates": "none"})
    assert stand_in.invitations == []
    api.patch(f"events/{OURS}", json={}, params={"sendUpdates": "all"})
    api.delete(f"events/{OURS}", params={"sendNotifications": "true"})
    assert stand_in.invitations == [("PATCH", OURS), ("DELETE", OURS)]
    assert reason(api.post("events", json=BODY, params={"sendUpdates": "x"})) == (400, "invalid")


def test_an_invitation_of_somebody_else_is_not_ours_to_change(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    foreign = stand_in.add_event(START, organizer="outra@example.com")
    moved = {"start": AT_TEN, "end": AT_ELEVEN}
    assert reason(api.patch(f"events/{foreign}", json=moved)) == (403, "forbiddenForNonOrganizer")
    assert reason(api.put(f"events/{foreign}", json=moved)) == (403, "forbiddenForNonOrganizer")
    private = {"extendedProperties": {"private": {"seen": "yes"}}}
    assert (
        data(api.patch(f"events/{foreign}", json=private))["extendedProperties"]
        == private["extendedProperties"]
    )
    stand_in.move_event(foreign, START + timedelta(hours=1))
    assert api.delete(f"events/{foreign}").status_code == 204


# -- zones and days


def test_times_are_shown_in_the_calendars_zone_or_the_one_asked_for(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    in_lisbon = datetime(2026, 7, 1, 9, tzinfo=ZoneInfo("Europe/Lisbon"))
    event_id = stand_in.add_event(in_lisbon, zone="Europe/Lisbon")
    assert data(api.get(f"events/{event_id}"))["start"] == {
        "dateTime": "2026-07-01T05:00:00-03:00",
        "timeZone": "Europe/Lisbon",
    }
    for zone, shown in (
        ("UTC", "2026-07-01T08:00:00Z"),
        ("Asia/Kolkata", "2026-07-01T13:30:00+05:30"),
    ):
        assert (
            data(api.get(f"events/{event_id}", params={"timeZone": zone}))["start"]["dateTime"]
            == shown
        )
    assert items(api, timeZone="UTC")[0]["start"]["dateTime"] == "2026-07-01T08:00:00Z"
    assert reason(api.get("events", params={"timeZone": "Mars/One"})) == (400, "invalid")
    bare = stand_in.add_event(in_lisbon, zone=None)
    assert data(api.get(f"events/{bare}"))["start"] == {"dateTime": "2026-07-01T05:00:00-03:00"}


@pytest.mark.parametrize(
    ("local", "shown"),
    [
        # Summer time in Brazil until February 2019, and the hour that did not exist.
        ("2019-02-16T22:30:00", "2019-02-16T22:30:00-02:00"),
        ("2019-02-17T00:30:00", "2019-02-17T00:30:00-03:00"),
        ("2018-11-04T00:30:00", "2018-11-04T01:30:00-02:00"),
        ("2026-01-15T00:00:00", "2026-01-15T00:00:00-03:00"),
    ],
)
def test_a_time_without_an_offset_is_read_in_its_zone(
    api: httpx.Client, local: str, shown: str
) -> None:
    given = {"dateTime": local, "timeZone": SAO_PAULO}
    made = insert(api, start=given, end=given)
    assert made["start"] == {"dateTime": shown, "timeZone": SAO_PAULO}


def test_bounds_of_a_list_are_those_of_end_and_start_and_left_out_themselves(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    day = stand_in.add_event(date(2026, 3, 12))
    assert ids(api, timeMin="2026-03-12T14:00:00Z") == [day]
    assert ids(api, timeMin="2026-03-12T13:59:59Z") == [OURS, day]
    assert ids(api, timeMax="2026-03-12T13:00:00Z") == [day]
    assert ids(api, timeMax="2026-03-12T13:00:01Z") == [OURS, day]
    # A whole day begins and ends at midnight in the calendar's zone.
    assert ids(api, timeMin="2026-03-13T02:59:59Z") == [day]
    assert ids(api, timeMin="2026-03-13T00:00:00-03:00") == []
    empty = {"timeMin": "2026-03-12T13:00:00Z", "timeMax": "2026-03-12T13:00:00Z"}
    assert reason(api.get("events", params=empty)) == (400, "timeRangeEmpty")
    for wrong in ("2026-03-12T13:00:00", "2026-03-12", "yesterday"):
        assert reason(api.get("events", params={"timeMin": wrong})) == (400, "badRequest")


# -- lists


def test_filters_must_all_be_met(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    insert(api)
    both = {"a": "1", "b": "2"}
    two = stand_in.add_event(START, extendedProperties={"private": both, "shared": {"c": "3"}})
    stand_in.add_event(START, extendedProperties={"private": {"a": "1"}})
    assert ids(api, privateExtendedProperty=["a=1", "b=2"]) == [two]
    assert ids(api, privateExtendedProperty="gatte_appointment_id=17") == [OURS]
    assert ids(api, sharedExtendedProperty="c=3") == [two]
    assert ids(api, q="demonstra") == [OURS]
    assert ids(api, iCalUID=f"{OURS}@calendar.example.com") == [OURS]
    away = stand_in.add_event(START, event_type="outOfOffice")
    assert ids(api, eventTypes=["outOfOffice", "focusTime"]) == [away]
    assert reason(api.get("events", params={"privateExtendedProperty": "a"})) == (400, "invalid")


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxResults": "0"},
        {"maxResults": "many"},
        {"singleEvents": "True"},
        {"orderBy": "id"},
        {"orderBy": "startTime"},
        {"pageToken": "never given"},
        {"maxResults": ["1", "2"]},
    ],
)
def test_a_wrong_parameter_is_refused(api: httpx.Client, wrong: dict[str, Any]) -> None:
    assert reason(api.get("events", params=wrong)) == (400, "invalid")


def test_an_order_costs_the_sync_token(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    insert(api)
    early = stand_in.add_event(START)
    page = data(api.get("events", params={"orderBy": "startTime", "singleEvents": "true"}))
    assert [one["id"] for one in page["items"]] == [early, OURS]
    assert not page.keys() & {"nextSyncToken", "nextPageToken"}
    stand_in.touch_event(OURS)
    assert ids(api, orderBy="updated") == [early, OURS]


def test_only_the_last_page_has_a_sync_token(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    made = [stand_in.add_event(START + timedelta(hours=n)) for n in range(5)]
    found = pages(api, maxResults=2)
    assert [len(one["items"]) for one in found] == [2, 2, 1]
    assert [one["id"] for page in found for one in page["items"]] == made
    assert ["nextSyncToken" in one for one in found] == [False, False, True]
    assert ["nextPageToken" in one for one in found] == [True, True, False]
    token = found[0]["nextPageToken"]
    other = {"pageToken": token, "maxResults": 3}
    assert reason(api.get("events", params=other)) == (400, "invalid")
    # A page that was lost on the way is given again.
    again = data(api.get("events", params={"pageToken": token, "maxResults": 2}))
    assert again["items"] == found[1]["items"]


def test_pages_may_be_shorter_than_asked_and_empty(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    stand_in.rules.page_limit, stand_in.rules.empty_pages = 2, 2
    for n in range(3):
        stand_in.add_event(START + timedelta(hours=n))
    assert [len(one["items"]) for one in pages(api, maxResults=2500)] == [0, 0, 2, 1]
    token = sync_token(api, maxResults=2500)
    nothing = pages(api, **WHOLE, maxResults=2500, syncToken=token)
    assert [len(one["items"]) for one in nothing] == [0, 0, 0]
    assert "nextSyncToken" in nothing[-1]


def test_2500_events_are_a_page(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    for n in range(2501):
        stand_in.add_event(START + timedelta(minutes=n))
    assert [len(one["items"]) for one in pages(api, maxResults=9999)] == [2500, 1]
    assert len(data(api.get("events"))["items"]) == 250


# -- deltas


def test_a_delta_tells_what_changed_since_and_its_token_is_another(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    other = stand_in.add_event(START)
    token = sync_token(api)
    nothing = data(api.get("events", params={**WHOLE, "syncToken": token}))
    assert nothing["items"] == []
    assert nothing["nextSyncToken"] != token
    stand_in.move_event(OURS, START + timedelta(days=2))
    stand_in.cancel_event(other)
    new = stand_in.add_event(START)
    told = {one["id"]: one for one in delta(api, token)}
    assert told.keys() == {OURS, other, new}
    assert told[OURS] == stand_in.event(OURS)
    assert told[OURS]["end"]["dateTime"] == "2026-03-12T09:30:00-03:00"
    # Of a deleted event no more is promised.
    assert told[other] == {"id": other, "status": "cancelled"}
    # A token that was used is as good as before: its rows may have been lost.
    assert {one["id"] for one in delta(api, nothing["nextSyncToken"])} == told.keys()
    assert {one["id"] for one in delta(api, token)} == told.keys()


def test_a_change_between_pages_is_told_again_and_never_missed(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    made = [stand_in.add_event(START + timedelta(hours=n)) for n in range(4)]
    first = data(api.get("events", params={**WHOLE, "maxResults": 2}))
    stand_in.retitle_event(made[0], "Já lida")
    stand_in.retitle_event(made[2], "Ainda não")
    stand_in.cancel_event(made[3])
    new = stand_in.add_event(START)
    query = {**WHOLE, "maxResults": 2}
    second = data(api.get("events", params={**query, "pageToken": first["nextPageToken"]}))
    assert [(one["id"], one["status"]) for one in second["items"]] == [
        (made[2], "confirmed"),
        (made[3], "cancelled"),
    ]
    later = ids(api, **query, syncToken=second["nextSyncToken"])
    assert set(later) == {made[0], made[2], made[3], new}


def test_a_paged_delta_wants_its_sync_token_on_every_page(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    token = sync_token(api, maxResults=1)
    made = [stand_in.add_event(START + timedelta(hours=n)) for n in range(3)]
    query = {**WHOLE, "maxResults": 1, "syncToken": token}
    first = data(api.get("events", params=query))
    without = {**WHOLE, "maxResults": 1, "pageToken": first["nextPageToken"]}
    assert reason(api.get("events", params=without)) == (400, "invalid")
    assert ids(api, **query) == made


@pytest.mark.parametrize("name", [*FORBIDDEN_WITH_SYNC_TOKEN, "showDeleted"])
def test_what_excludes_a_sync_token_is_refused_beside_it(api: httpx.Client, name: str) -> None:
    value = {
        "orderBy": "updated",
        "privateExtendedProperty": "a=1",
        "sharedExtendedProperty": "a=1",
        "showDeleted": "false",
    }.get(name, "2026-03-01T00:00:00Z")
    query = {"singleEvents": "true", "syncToken": sync_token(api), name: value}
    assert reason(api.get("events", params=query)) == (400, "invalid")


@pytest.mark.parametrize(
    "other", [{}, {"singleEvents": "false"}, {"singleEvents": "true", "maxResults": "7"}]
)
def test_a_sync_token_belongs_to_its_parameters(api: httpx.Client, other: dict[str, str]) -> None:
    token = sync_token(api)
    assert reason(api.get("events", params={**other, "syncToken": token})) == (400, "invalid")
    same = {"singleEvents": "true", "syncToken": token, "quotaUser": "sync"}
    assert api.get("events", params=same).is_success


def test_a_sync_token_that_is_over_asks_for_everything(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, clock: Clock
) -> None:
    token = sync_token(api)
    stand_in.expire_sync_tokens()
    refused = api.get("events", params={**WHOLE, "syncToken": token})
    assert reason(refused) == (410, "fullSyncRequired")
    assert reason(api.get("events", params={**WHOLE, "syncToken": "x"})) == (
        410,
        "fullSyncRequired",
    )
    stand_in.rules.sync_token_lifetime = timedelta(days=7)
    token = sync_token(api)
    clock.move(days=7)
    assert delta(api, token) == []
    clock.move(seconds=1)
    assert reason(api.get("events", params={**WHOLE, "syncToken": token})) == (
        410,
        "fullSyncRequired",
    )


def test_after_410_a_full_list_does_not_tell_of_deletions_that_were_purged(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    other = stand_in.add_event(START)
    stand_in.cancel_event(OURS)
    stand_in.expire_sync_tokens()
    assert items(api, **WHOLE)[0] == {"id": OURS, "status": "cancelled"}
    assert ids(api) == [other]
    stand_in.purge_deleted()
    assert ids(api, **WHOLE) == [other]


def test_a_first_list_may_have_a_window_that_its_token_forgets(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    token = sync_token(api, timeMin="2026-03-01T00:00:00Z")
    old = stand_in.add_event(datetime(2025, 1, 1, tzinfo=UTC))
    stand_in.move_event(OURS, datetime(2025, 2, 1, tzinfo=UTC))
    assert {one["id"] for one in delta(api, token)} == {OURS, old}
    # Others say that it does not forget: then a move out of the window is not told at all.
    stand_in.rules.deltas_keep_window = True
    assert delta(api, token) == []
    stand_in.cancel_event(OURS)
    assert [one["id"] for one in delta(api, token)] == [OURS]


def test_a_list_may_show_all_of_a_deleted_event(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    stand_in.rules.lists_show_deleted = True
    insert(api)
    stand_in.cancel_event(OURS)
    assert items(api, **WHOLE) == [stand_in.event(OURS)]


def test_changes_since_an_instant_hold_deletions_and_reach_back_28_days(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, clock: Clock
) -> None:
    insert(api)
    stand_in.add_event(START)
    clock.move(hours=1)
    stand_in.cancel_event(OURS)
    since = {"updatedMin": "2026-03-10T12:00:00Z"}
    assert items(api, **since) == [{"id": OURS, "status": "cancelled"}]
    refused = api.get("events", params={"updatedMin": "2026-02-01T00:00:00Z"})
    assert reason(refused) == (410, "updatedMinTooLongAgo")


# -- series


def test_a_series_is_one_event_or_its_instances(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api, recurrence=["RRULE:FREQ=WEEKLY;COUNT=3"])
    assert [one["recurrence"] for one in items(api)] == [["RRULE:FREQ=WEEKLY;COUNT=3"]]
    found = items(api, singleEvents="true")
    assert [one["id"] for one in found] == [
        f"{OURS}_20260312T130000Z",
        f"{OURS}_20260319T130000Z",
        f"{OURS}_20260326T130000Z",
    ]
    second = found[1]
    assert second["recurringEventId"] == OURS
    assert second["originalStartTime"] == second["start"]
    assert second["start"]["dateTime"] == "2026-03-19T10:00:00-03:00"
    assert "recurrence" not in second
    # An instance has the properties of its series, the id of ours too.
    assert second["extendedProperties"] == {"private": {"gatte_appointment_id": "17"}}
    assert data(api.get(f"events/{second['id']}")) == second
    assert ids(api, singleEvents="true", timeMin="2026-03-20T00:00:00Z") == [found[2]["id"]]


def test_a_series_of_whole_days_has_instances_of_whole_days(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    series = stand_in.add_event(date(2026, 3, 30), date(2026, 4, 1))
    first, second = stand_in.make_series(series, "RRULE:FREQ=WEEKLY;COUNT=2")
    shown = data(api.get(f"events/{second}"))
    assert (shown["start"], shown["end"]) == ({"date": "2026-04-06"}, {"date": "2026-04-08"})
    assert shown["originalStartTime"] == {"date": "2026-04-06"}
    assert ids(api, singleEvents="true") == [first, second]
    again = {"recurrence": ["RRULE:FREQ=DAILY"]}
    assert reason(api.patch(f"events/{first}", json=again)) == (400, "invalid")
    stand_in.cancel_event(series)
    stand_in.purge_deleted()
    assert reason(api.get(f"events/{first}")) == (404, "notFound")
    assert ids(api, **WHOLE) == []


def test_a_series_is_within_bounds_where_one_of_its_instances_is(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api, recurrence=["RRULE:FREQ=WEEKLY;COUNT=3"])
    days = stand_in.add_event(date(2026, 3, 1), recurrence=["RRULE:FREQ=DAILY;UNTIL=20260305"])
    assert ids(api, timeMin="2026-03-26T13:59:59Z") == [OURS]
    assert ids(api, timeMin="2026-03-26T14:00:00Z") == []
    assert ids(api, timeMin="2026-03-06T02:59:59Z", timeMax="2026-03-12T13:00:00Z") == [days]
    assert ids(api, timeMin="2026-03-06T03:00:00Z", timeMax="2026-03-12T13:00:00Z") == []
    # Between two instances there is none.
    assert ids(api, timeMin="2026-03-13T00:00:00Z", timeMax="2026-03-19T13:00:00Z") == []


def test_an_instance_that_moved_or_does_not_take_place_is_an_exception(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api, recurrence=["RRULE:FREQ=WEEKLY;COUNT=3"])
    first, second, third = stand_in.instance_ids(OURS)
    expanded, plain = sync_token(api), pages(api)[-1]["nextSyncToken"]
    stand_in.move_event(first, datetime(2026, 3, 13, 13, tzinfo=UTC))
    api.delete(f"events/{second}")
    moved, gone = delta(api, expanded)
    assert moved["start"]["dateTime"] == "2026-03-13T10:00:00-03:00"
    original = {"dateTime": "2026-03-19T10:00:00-03:00", "timeZone": SAO_PAULO}
    assert moved["originalStartTime"]["dateTime"] == "2026-03-12T10:00:00-03:00"
    assert gone == {
        "id": second,
        "status": "cancelled",
        "recurringEventId": OURS,
        "originalStartTime": original,
    }
    assert items(api, syncToken=plain) == [moved, gone]
    # Without expansion it tells something of the series, deleted or not.
    assert ids(api) == [OURS, first, second]
    assert ids(api, singleEvents="true") == [third, first]
    assert reason(api.delete(f"events/{second}")) == (410, "deleted")
    assert [one["id"] for one in stand_in.events] == [OURS, first]


def test_a_series_that_is_deleted_takes_its_instances_along_and_brings_them_back(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api, recurrence=["RRULE:FREQ=DAILY;COUNT=3"])
    first, second, third = stand_in.instance_ids(OURS)
    stand_in.cancel_event(second)
    stand_in.retitle_event(third, "Outra")
    token = sync_token(api)
    stand_in.cancel_event(OURS)
    told = delta(api, token)
    assert {one["id"] for one in told} == {first, third}
    assert told[0] == {"id": first, "status": "cancelled"}
    assert ids(api, singleEvents="true") == []
    stand_in.restore_event(OURS)
    assert set(ids(api, singleEvents="true")) == {first, third}


def test_a_series_that_moves_has_other_instances_and_the_former_ones_are_cancelled(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api, recurrence=["RRULE:FREQ=DAILY;COUNT=2"])
    old = stand_in.instance_ids(OURS)
    stand_in.retitle_event(old[1], "Outra")
    token = sync_token(api)
    stand_in.move_event(OURS, datetime(2026, 3, 12, 14, tzinfo=UTC))
    new = stand_in.instance_ids(OURS)
    told = {one["id"]: one["status"] for one in delta(api, token)}
    assert told == dict.fromkeys(old, "cancelled") | dict.fromkeys(new, "confirmed")
    assert data(api.get(f"events/{old[0]}"))["status"] == "cancelled"
    stand_in.make_all_day(OURS, date(2026, 3, 12))
    assert stand_in.instance_ids(OURS) == [f"{OURS}_20260312", f"{OURS}_20260313"]
    assert data(api.get(f"events/{old[0]}"))["status"] == "cancelled"


def test_an_event_of_ours_that_is_made_a_series_is_gone_from_the_list_of_instances(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    token = sync_token(api)
    instances = stand_in.make_series(OURS)
    assert [one["id"] for one in delta(api, token)] == instances
    assert data(api.get(f"events/{OURS}"))["status"] == "confirmed"
    token = sync_token(api)
    stand_in.edit_event(OURS, recurrence=None)
    told = {one["id"]: one["status"] for one in delta(api, token)}
    assert told == dict.fromkeys(instances, "cancelled") | {OURS: "confirmed"}


def test_rules_of_series(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    def starts(*lines: str, start: Any = AT_TEN, end: Any = AT_ELEVEN) -> list[str]:
        made = insert(api, id=None, recurrence=list(lines), start=start, end=end)["id"]
        return [one.removeprefix(f"{made}_")[4:8] for one in stand_in.instance_ids(made)]

    assert starts("RRULE:FREQ=DAILY;INTERVAL=2;COUNT=3") == ["0312", "0314", "0316"]
    assert starts("RRULE:FREQ=WEEKLY;BYDAY=TU,TH;COUNT=4") == ["0312", "0317", "0319", "0324"]
    assert starts("RRULE:FREQ=DAILY;UNTIL=20260314") == ["0312", "0313", "0314"]
    assert starts("RRULE:FREQ=DAILY;UNTIL=20260314T120000Z") == ["0312", "0313"]
    assert starts("RRULE:FREQ=MONTHLY;COUNT=3") == ["0312", "0412", "0512"]
    assert len(starts("RRULE:FREQ=YEARLY;COUNT=3")) == 1
    away = f"EXDATE;TZID={SAO_PAULO}:20260313T100000"
    assert starts("RRULE:FREQ=DAILY;COUNT=3", away) == ["0312", "0314"]
    day, next_day = {"date": "2026-03-30"}, {"date": "2026-03-31"}
    assert starts("RRULE:FREQ=DAILY;COUNT=3", start=day, end=next_day) == ["0330", "0331", "0401"]
    for other in ("RRULE:FREQ=MONTHLY;BYDAY=1MO", "RDATE:20260313", "RRULE:FREQ=DAILY;BYHOUR=1"):
        body = {**BODY, "id": None, "recurrence": [other]}
        assert reason(api.post("events", json=body)) == (501, "notImplemented")


def test_a_series_keeps_its_hour_over_summer_time(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    at = {"dateTime": "2026-03-28T09:00:00", "timeZone": "Europe/Lisbon"}
    insert(api, recurrence=["RRULE:FREQ=DAILY;COUNT=2"], start=at, end=at)
    found = items(api, singleEvents="true", timeZone="Europe/Lisbon")
    assert [one["start"]["dateTime"] for one in found] == [
        "2026-03-28T09:00:00Z",
        "2026-03-29T09:00:00+01:00",
    ]


# -- a person at the calendar


def test_a_person_does_what_the_api_then_tells(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, clock: Clock
) -> None:
    insert(api)
    token = sync_token(api)
    clock.move(minutes=5)
    stand_in.retitle_event(OURS, "Outra")
    copied = stand_in.copy_event(OURS)
    told = {one["id"]: one for one in delta(api, token)}
    assert (told[OURS]["summary"], told[OURS]["updated"]) == ("Outra", "2026-03-10T11:35:00.000Z")
    # A copy has our property, and is not ours.
    assert told[copied]["extendedProperties"] == told[OURS]["extendedProperties"]
    assert told[copied]["iCalUID"] != told[OURS]["iCalUID"]
    stand_in.cancel_event(OURS)
    stand_in.restore_event(OURS)
    assert data(api.get(f"events/{OURS}"))["status"] == "confirmed"
    stand_in.edit_event(OURS, extendedProperties=None)
    assert "extendedProperties" not in data(api.get(f"events/{OURS}"))
    with pytest.raises(KeyError):
        stand_in.event("nobody")
    with pytest.raises(ValueError, match="zone"):
        stand_in.add_event(datetime(2026, 3, 10))  # noqa: DTZ001 - what is tested


# -- faults


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (GoogleFault.BAD_REQUEST, (400, "badRequest")),
        (GoogleFault.UNAUTHORIZED, (401, "authError")),
        (GoogleFault.RATE_LIMIT, (403, "rateLimitExceeded")),
        (GoogleFault.USER_RATE_LIMIT, (403, "userRateLimitExceeded")),
        (GoogleFault.QUOTA, (403, "quotaExceeded")),
        (GoogleFault.DAILY_LIMIT, (403, "dailyLimitExceeded")),
        (GoogleFault.NOT_ORGANIZER, (403, "forbiddenForNonOrganizer")),
        (GoogleFault.SERVICE_ACCOUNT, (403, "forbiddenForServiceAccounts")),
        (GoogleFault.SCOPE, (403, "insufficientPermissions")),
        (GoogleFault.READER, (403, "requiredAccessLevel")),
        (GoogleFault.API_IS_OFF, (403, "accessNotConfigured")),
        (GoogleFault.UNKNOWN_REASON, (403, "somethingNew")),
        (GoogleFault.NOT_FOUND, (404, "notFound")),
        (GoogleFault.DUPLICATE, (409, "duplicate")),
        (GoogleFault.DELETED, (410, "deleted")),
        (GoogleFault.FULL_SYNC, (410, "fullSyncRequired")),
        (GoogleFault.CHANGED, (412, "conditionNotMet")),
        (GoogleFault.TOO_MANY, (429, "rateLimitExceeded")),
        (GoogleFault.SERVER_ERROR, (500, "backendError")),
        (GoogleFault.UNAVAILABLE, (503, "backendError")),
    ],
)
def test_a_fault_keeps_a_request_from_having_any_effect(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, fault: GoogleFault, told: tuple[int, str]
) -> None:
    stand_in.fail(fault)
    assert reason(api.post("events", json=BODY)) == told
    assert stand_in.events == []
    assert insert(api)["id"] == OURS


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (GoogleFault.SERVER_ERROR_AFTER, 500),
        (GoogleFault.UNAVAILABLE_AFTER, 503),
        (GoogleFault.HTML, 200),
    ],
)
def test_a_failed_answer_may_hide_that_it_was_done(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, fault: GoogleFault, status: int
) -> None:
    stand_in.fail(fault)
    assert api.post("events", json=BODY).status_code == status
    assert [one["id"] for one in stand_in.events] == [OURS]


def test_no_answer_comes_before_or_after_the_effect_or_half_of_one(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    api.timeout = httpx.Timeout(0.3)
    stand_in.fail(GoogleFault.TIMEOUT_BEFORE)
    with pytest.raises(httpx.ReadTimeout):
        api.post("events", json=BODY)
    assert stand_in.events == []
    stand_in.fail(GoogleFault.TIMEOUT_AFTER)
    with pytest.raises(httpx.ReadTimeout):
        api.post("events", json=BODY)
    assert [one["id"] for one in stand_in.events] == [OURS]
    stand_in.fail(GoogleFault.BROKEN_OFF, method="PATCH")
    with pytest.raises(httpx.RemoteProtocolError):
        api.patch(f"events/{OURS}", json={"summary": "Outra"})
    assert stand_in.events[0]["summary"] == "Outra"
    assert [one.status for one in stand_in.exchanges] == [None, None, 200]


def test_html_comes_from_whatever_stands_before_google(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    stand_in.fail(GoogleFault.BAD_GATEWAY)
    answer = api.post("events", json=BODY)
    assert (answer.status_code, answer.headers["content-type"][:9]) == (502, "text/html")
    assert stand_in.events == []


def test_faults_meet_whom_they_are_meant_for(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    insert(api)
    stand_in.fail(GoogleFault.UNAVAILABLE, times=2, skip=1, method="GET", path=f"/{OURS}$")
    statuses = [api.get(f"events/{OURS}").status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    # Those of events spare the token endpoint, and the other way round.
    stand_in.fail(GoogleFault.UNAVAILABLE)
    stand_in.fail(GoogleFault.UNAUTHORIZED_CLIENT)
    assert ask_for_token(stand_in, tmp_path).json()["error"] == "unauthorized_client"
    assert ask_for_token(stand_in, tmp_path).is_success
    assert api.get("events").status_code == 503
    stand_in.fail(GoogleFault.UNAVAILABLE, path="/token")
    assert api.get("events").is_success
    assert ask_for_token(stand_in, tmp_path).status_code == 503


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (GoogleFault.INVALID_GRANT, (400, "invalid_grant")),
        (GoogleFault.INVALID_SCOPE, (400, "invalid_scope")),
        (GoogleFault.UNAUTHORIZED_CLIENT, (401, "unauthorized_client")),
    ],
)
def test_the_token_endpoint_refuses_in_its_own_words(
    stand_in: GoogleCalendarStandIn, tmp_path: Path, fault: GoogleFault, told: tuple[int, str]
) -> None:
    stand_in.fail(fault, times=2)
    for _ in range(2):
        answer = ask_for_token(stand_in, tmp_path)
        assert (answer.status_code, answer.json()["error"]) == told
    assert ask_for_token(stand_in, tmp_path).is_success


def test_answers_are_altered_and_what_is_kept_is_not(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    insert(api)
    stand_in.omit("items.start")
    stand_in.alter("items.summary", 17)
    altered = items(api)[0]
    assert ("start" in altered, altered["summary"]) == (False, 17)
    assert items(api) == [stand_in.event(OURS)]
    stand_in.alter("items", [])
    assert items(api) == []
    stand_in.alter("nextSyncToken", MISSING)
    assert not pages(api)[-1].keys() & {"nextSyncToken", "nextPageToken"}
    stand_in.omit("access_token", path="/token")
    assert ask_for_token(stand_in, tmp_path).json().keys() == {"expires_in", "token_type"}


def test_a_page_may_name_itself(api: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    insert(api)
    stand_in.fail(GoogleFault.STUCK_PAGES, times=3)
    first = data(api.get("events"))
    token = first["nextPageToken"]
    for _ in range(2):
        again = data(api.get("events", params={"pageToken": token}))
        assert (again["items"], again["nextPageToken"]) == (first["items"], token)
    assert "nextSyncToken" in data(api.get("events", params={"pageToken": token}))


# -- what a test looks at


def test_an_unknown_parameter_is_ignored_and_remembered_and_a_selection_is_refused(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    insert(api)
    assert ids(api, updatedAfter="2030-01-01T00:00:00Z", alt="json") == [OURS]
    template = "calendars/{calendarId}/events"
    assert stand_in.unknown_parameters == [("GET", template, "updatedAfter")]
    assert reason(api.get("events", params={"fields": "items"})) == (501, "notImplemented")


def test_every_exchange_is_remembered_and_shows_nothing_by_itself(
    api: httpx.Client, stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    etag = insert(api)["etag"]
    api.patch(f"events/{OURS}", json={"summary": "x"}, headers={"if-match": etag})
    ask_for_token(stand_in, tmp_path)
    first, second, third = stand_in.exchanges
    assert json.loads(first.request_body)["summary"] == "Demonstração"
    assert (second.template, second.if_match) == ("calendars/{calendarId}/events/{eventId}", etag)
    assert "authorization" in second.request_headers
    assert (third.method, third.template, third.status) == ("POST", "token", 200)
    assert stand_in.calls == [
        ("POST", "calendars/{calendarId}/events"),
        ("PATCH", "calendars/{calendarId}/events/{eventId}"),
    ]
    shown = repr(stand_in.exchanges)
    hidden = ("Demonstra", OURS, "example.com", "ya29", etag.strip('"'))
    assert not [text for text in hidden if text in shown]


def test_after_the_effect_a_test_may_step_in(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    seen = []

    def step_in(method: str, path: str) -> None:
        seen.append((method, path.rpartition("/")[2], len(stand_in.events)))

    stand_in.after_effect = step_in
    insert(api)
    assert seen == [("POST", "events", 1)]


def test_writers_at_the_same_time_do_not_lose_one_another(
    api: httpx.Client, stand_in: GoogleCalendarStandIn
) -> None:
    etag = insert(api)["etag"]
    statuses: list[int] = []

    def write(number: int) -> None:
        body = {"summary": str(number)}
        answer = api.patch(f"events/{OURS}", json=body, headers={"if-match": etag})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_a_stop_waits_for_nobody(tmp_path: Path) -> None:
    with GoogleCalendarStandIn() as stand_in:
        url = f"{stand_in.url}/calendars/{stand_in.calendar_id}/events"
        stand_in.fail(GoogleFault.TIMEOUT_BEFORE)
        with plain_client() as client:
            client.timeout = httpx.Timeout(0.1)
            with pytest.raises(httpx.ReadTimeout):
                client.get(url)
        began = time.monotonic()
    assert time.monotonic() - began < 2
