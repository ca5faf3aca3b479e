"""Every answer of Pipedrive has its meaning, and a field that is missing its name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gatte_pipelines.crm.answers import (
    MEANINGS,
    Meaning,
    UnreadableError,
    judge,
    next_cursor,
    next_start,
    read,
)
from gatte_pipelines.crm.models import (
    Contact,
    DealChanges,
    Hidden,
    Lead,
    LeadChanges,
    Money,
    NewLead,
    NewPerson,
    Person,
    PersonChanges,
    body_of,
    lead_tree,
    note_html,
)

KEY = "0123456789abcdef" * 2 + "01234567"
LABEL = UUID("f08b42a0-4e75-11ea-9643-03698ef1cfd6")
JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html; charset=UTF-8"}
DONE = '{"success": true, "data": {"id": 1}}'
FAILED = '{"success": false, "error": "e", "error_info": "i", "data": null}'
PAGE = "<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"
BROKE = {"x-daily-ratelimit-token-remaining": "0", "retry-after": "3"}
M = Meaning

# what it is, status, headers, body, meaning, the vendor's code
TABLE = [
    ("a record", 200, JSON, DONE, M.DONE, None),
    ("a created lead", 201, JSON, DONE, M.DONE, None),
    ("a failure with 200", 200, JSON, FAILED, M.REFUSED, None),
    ("HTML with 200", 200, HTML, PAGE, M.FOREIGN, None),
    ("HTML that calls itself JSON", 200, JSON, PAGE, M.FOREIGN, None),
    ("nothing with 200", 200, {}, "", M.FOREIGN, None),
    ("nothing with 204", 204, {}, "", M.FOREIGN, None),
    ("a list with 200", 200, JSON, "[]", M.FOREIGN, None),
    ("no success with 200", 200, JSON, '{"data": []}', M.FOREIGN, None),
    ("success that is no boolean", 200, JSON, '{"success": 1}', M.FOREIGN, None),
    ("JSON cut off", 200, JSON, DONE[:-3], M.FOREIGN, None),
    ("bytes that are no text", 200, JSON, '{"success": true, "data": "\udcff"}', M.FOREIGN, None),
    ("a tower of brackets", 200, JSON, "[" * 100_000, M.FOREIGN, None),
    ("a redirect", 302, {"location": "https://other.example.com"}, "", M.FOREIGN, None),
    ("not modified", 304, {}, "", M.FOREIGN, None),
    ("a bad request", 400, JSON, FAILED, M.REFUSED, None),
    (
        "a bad request, with a code",
        400,
        JSON,
        '{"success": false, "code": "E_1"}',
        M.REFUSED,
        "E_1",
    ),
    ("a code that is a sentence", 400, JSON, '{"code": "Ana is wrong"}', M.REFUSED, None),
    ("a code that is a number", 400, JSON, '{"code": 7}', M.REFUSED, None),
    ("a wrong token", 401, JSON, '{"success": false, "errorCode": 401}', M.TOKEN, None),
    ("a wrong token, from a gateway", 401, HTML, PAGE, M.TOKEN, None),
    ("an account that is closed", 402, JSON, FAILED, M.ACCOUNT, None),
    ("no permission", 403, JSON, FAILED, M.FORBIDDEN, None),
    (
        "the plan's number of deals",
        403,
        JSON,
        '{"success": false, "code": "feature_capping_deals_limit"}',
        M.PLAN_LIMIT,
        "feature_capping_deals_limit",
    ),
    ("a page of the firewall", 403, HTML, PAGE, M.BLOCKED, None),
    ("a bare refusal", 403, {}, "", M.BLOCKED, None),
    ("no such record", 404, JSON, FAILED, M.MISSING, None),
    # What knows nothing of our records must not look as if they had been deleted.
    ("another host", 404, HTML, PAGE, M.FOREIGN, None),
    ("no such address", 404, JSON, '{"status": false, "error": "?"}', M.FOREIGN, None),
    ("a method that went", 405, JSON, FAILED, M.NO_SUCH_CALL, None),
    ("a request that took too long", 408, {}, "", M.PASSING, None),
    ("a conflict", 409, JSON, FAILED, M.REFUSED, None),
    ("a call that went", 410, JSON, FAILED, M.NO_SUCH_CALL, None),
    ("a feature that is off", 415, JSON, FAILED, M.FEATURE_OFF, None),
    ("a value that cannot be", 422, JSON, FAILED, M.REFUSED, None),
    ("too early", 425, {}, "", M.PASSING, None),
    ("too many at once", 429, {"retry-after": "2"}, "", M.THROTTLED, None),
    (
        "too many at once, some left for the day",
        429,
        {"x-daily-ratelimit-token-remaining": "12"},
        FAILED,
        M.THROTTLED,
        None,
    ),
    ("too many for the day", 429, BROKE, FAILED, M.BUDGET, None),
    ("too many writes for the day", 429, {"x-daily-requests-left": "0"}, "", M.BUDGET, None),
    ("a fault", 500, JSON, '{"success": false, "code": "ERR_UNKNOWN"}', M.PASSING, "ERR_UNKNOWN"),
    ("never built", 501, JSON, FAILED, M.NO_SUCH_CALL, None),
    ("a gateway", 502, HTML, PAGE, M.PASSING, None),
    ("maintenance", 503, HTML, PAGE, M.PASSING, None),
    ("another HTTP", 505, {}, "", M.REFUSED, None),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "meaning", "code"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_an_answer_means(
    status: int, headers: dict[str, str], body: str, meaning: Meaning, code: str | None
) -> None:
    answer = judge(status, headers, body.encode(errors="surrogateescape"))
    assert (answer.meaning, answer.code) == (meaning, code)


def test_every_meaning_that_ends_a_call_has_words() -> None:
    without = {M.DONE, M.BUDGET, M.THROTTLED, M.PASSING}
    assert set(MEANINGS) == set(Meaning) - without
    assert {row[4] for row in TABLE} == set(Meaning)


@pytest.mark.parametrize(
    ("headers", "body", "what"),
    [
        (HTML, PAGE, "HTML where JSON was due"),
        ({}, "  <HTML>", "HTML where JSON was due"),
        (JSON, " ", "an empty body"),
        (JSON, "Ana Souza", "no JSON object"),
    ],
)
def test_what_came_instead_is_named_and_not_shown(
    headers: dict[str, str], body: str, what: str
) -> None:
    answer = judge(200, headers, body.encode())
    assert answer.explanation == f"the answer is not one of Pipedrive's ({what})"


def test_nothing_of_the_vendors_texts_is_shown() -> None:
    body = b'{"success": false, "error": "Ana Souza", "error_info": "+5511900001234", "data": "x"}'
    answer = judge(400, JSON, body)
    assert answer.explanation == "Pipedrive refuses the request"
    assert "Ana" not in repr(answer)


def test_a_decoded_answer_shows_no_data() -> None:
    answer = judge(200, JSON, b'{"success": true, "data": "Ana", "additional_data": {"a": "Ana"}}')
    assert (answer.data, answer.additional_data) == ("Ana", {"a": "Ana"})
    assert "Ana" not in repr(answer)


# --- records ------------------------------------------------------------------------------------

LEAD = {
    "id": "adf21080-0e10-11eb-879b-05d71fb426ec",
    "title": "Ana Souza",
    "owner_id": 1,
    "person_id": 1092,
    "organization_id": None,
    "label_ids": [str(LABEL)],
    "origin_id": None,
    "is_archived": False,
    "value": {"amount": 999, "currency": "BRL"},
    "expected_close_date": None,
    "add_time": "2026-10-14T11:30:36.551Z",
    "update_time": "2026-10-14T11:30:36.551Z",
    "something_new": {"of": "theirs"},
}
PERSON = {
    "id": 1,
    "name": "Ana Souza",
    "org_id": None,
    "emails": [],
    "phones": [{"value": "+55 11 90000-1234", "primary": True, "label": "work"}],
    "is_deleted": False,
    "add_time": "2026-01-01T00:00:00Z",
    "update_time": None,
    "custom_fields": {},
}


def test_a_lead_is_read_with_its_custom_fields_apart() -> None:
    tree = LEAD | {KEY: "b5", f"{KEY}_currency": "BRL", KEY.upper(): "no key", "f" * 39: "no key"}
    lead = read(lead_tree(tree), Lead)
    assert lead.update_time == datetime(2026, 10, 14, 11, 30, 36, 551_000, UTC)
    assert (lead.value, lead.label_ids) == (Money(amount=999, currency="BRL"), [LABEL])
    assert lead.custom_fields == {KEY: "b5", f"{KEY}_currency": "BRL"}


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "title",
        "owner_id",
        "person_id",
        "organization_id",
        "label_ids",
        "origin_id",
        "is_archived",
        "add_time",
        "update_time",
    ],
)
def test_a_field_that_is_missing_is_named_with_its_place(name: str) -> None:
    tree = {key: value for key, value in LEAD.items() if key != name}
    with pytest.raises(UnreadableError, match=rf"^data\[1\]\.{name} is missing$"):
        read(lead_tree([LEAD, tree]), list[Lead])
    with pytest.raises(UnreadableError, match=rf"^data\.{name} is missing$"):
        read(lead_tree(tree), Lead)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "Ana"}, "data.id: Invalid UUID"),
        ({"person_id": "Ana"}, "data.person_id: Expected `int | null`, got `str`"),
        ({"person_id": True}, "data.person_id: Expected `int | null`, got `bool`"),
        ({"value": {"amount": 1}}, "data.value.currency is missing"),
        ({"add_time": "2026-10-14 11:30:36"}, "data.add_time: Expected `datetime` with a timezone"),
        ({"add_time": "Ana"}, "data.add_time: Invalid RFC3339 encoded datetime"),
        ({"label_ids": ["Ana"]}, "data.label_ids[0]: Invalid UUID"),
        ({"title": None}, "data.title: Expected `str`, got `null`"),
    ],
)
def test_a_field_of_another_type_is_named_and_its_value_is_not(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(lead_tree(LEAD | change), Lead)
    assert str(caught.value).startswith(words)
    assert "Ana" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("tree", [None, [], "Ana", 7, [None]])
def test_data_that_is_no_record_is_refused(tree: object) -> None:
    with pytest.raises(UnreadableError, match=r"^data"):
        read(lead_tree(tree), Lead)


def test_no_record_shows_what_it_holds() -> None:
    lead, person = read(lead_tree(LEAD), Lead), read(PERSON, Person)
    assert repr(lead) == f"<Lead {LEAD['id']}>"
    assert repr([person, person.phones[0]]) == "[<Person 1>, <Contact>]"
    assert lead.__rich_repr__() == [("id", lead.id)]
    assert repr(NewPerson(name="Ana")) == "<NewPerson>"
    assert NewPerson(name="Ana").__rich_repr__() == []


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "following"),
    [
        ({"pagination": {"more_items_in_collection": False}}, None),
        ({"pagination": {"more_items_in_collection": True, "next_start": 300}}, 300),
        # As the spec of leads has them.
        ({"start": 200, "limit": 100, "more_items_in_collection": False}, None),
        ({"start": 200, "limit": 100, "more_items_in_collection": True}, 300),
        # The server's limit is lower than ours, and some of its rows are hidden from us.
        ({"limit": 50, "more_items_in_collection": True}, 250),
        ({"more_items_in_collection": True}, 203),
        ({"limit": 0, "more_items_in_collection": True}, 203),
        # As its sample has them: not at all.
        ({}, 203),
    ],
)
def test_the_next_page_of_leads_begins_where_the_answer_says(
    figures: dict[str, object], following: int | None
) -> None:
    assert next_start(figures, 200, 3) == following


def test_a_page_without_figures_and_without_records_is_the_last() -> None:
    assert next_start({}, 200, 0) is None


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"more_items_in_collection": "no"}, r"^additional_data\.more_items_in_collection"),
        (
            {"pagination": {"more_items_in_collection": 0}},
            r"^additional_data\.pagination\.more_items_in_collection",
        ),
        (
            {"pagination": {"more_items_in_collection": True, "next_start": "9"}},
            r"^additional_data\.pagination\.next_start",
        ),
        ({"more_items_in_collection": True, "next_start": -1}, r"^additional_data\.next_start"),
    ],
)
def test_a_figure_that_is_none_is_named(figures: dict[str, object], named: str) -> None:
    with pytest.raises(UnreadableError, match=named):
        next_start(figures, 0, 3)


@pytest.mark.parametrize(
    ("additional", "cursor"),
    [({"next_cursor": "abc"}, "abc"), ({"next_cursor": None}, None), ({"next_cursor": ""}, None)],
)
def test_a_cursor_is_followed_until_there_is_none(
    additional: dict[str, object], cursor: str | None
) -> None:
    assert next_cursor(additional) == cursor


@pytest.mark.parametrize("additional", [{}, {"next_cursor": 7}, {"cursor": "abc"}])
def test_a_list_that_does_not_say_whether_it_goes_on_is_refused(
    additional: dict[str, object],
) -> None:
    with pytest.raises(UnreadableError, match=r"^additional_data\.next_cursor"):
        next_cursor(additional)


# --- what is written ----------------------------------------------------------------------------


def test_a_lead_is_written_with_its_custom_fields_between_the_others() -> None:
    new = NewLead(
        title="Ana", person_id=7, label_ids=[LABEL], origin_id="b5", custom_fields={KEY: "b5"}
    )
    assert body_of(new, is_flat=True) == {
        "title": "Ana",
        "person_id": 7,
        "label_ids": [str(LABEL)],
        "origin_id": "b5",
        KEY: "b5",
    }


def test_what_is_left_alone_is_not_written_and_none_clears() -> None:
    assert body_of(LeadChanges(value=None), is_flat=True) == {"value": None}
    assert body_of(LeadChanges(label_ids=[]), is_flat=True) == {"label_ids": []}
    assert body_of(DealChanges(custom_fields={KEY: None})) == {"custom_fields": {KEY: None}}


def test_a_phone_is_written_with_all_that_is_known_of_it() -> None:
    phones = [Contact(value="+5511900001234", primary=True), *read(PERSON, Person).phones]
    assert body_of(PersonChanges(phones=phones)) == {
        "phones": [
            {"value": "+5511900001234", "primary": True},
            {"value": "+55 11 90000-1234", "primary": True, "label": "work"},
        ]
    }
    assert json.dumps(body_of(PersonChanges(phones=[]))) == '{"phones": []}'


@pytest.mark.parametrize("changes", [LeadChanges(), PersonChanges(), DealChanges()])
def test_a_change_of_nothing_is_refused(changes: Hidden) -> None:
    with pytest.raises(ValueError, match="nothing to write"):
        body_of(changes)


@pytest.mark.parametrize("key", ["title", "b5", KEY.upper(), f"{KEY}/x"])
def test_a_custom_field_of_another_name_cannot_change_an_ordinary_one(key: str) -> None:
    with pytest.raises(ValueError, match="40 hexadecimal"):
        body_of(LeadChanges(custom_fields={key: "x"}), is_flat=True)
    with pytest.raises(ValueError, match="40 hexadecimal"):
        body_of(DealChanges(custom_fields={f"{KEY}_currency": "x"}))


def test_a_lead_without_title_or_owner_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="a person or an organization"):
        NewLead(title="Ana")
    with pytest.raises(ValueError, match="needs a title"):
        NewLead(title=" ", person_id=7)
    with pytest.raises(ValueError, match="needs a name"):
        NewPerson(name=" ")


def test_a_note_keeps_its_lines_and_is_no_markup() -> None:
    assert note_html("a < b & c\r\n<script>") == "a &lt; b &amp; c<br>&lt;script&gt;"
