"""The client of Pipedrive against its stand-in, and every request of it against the specs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.crm import endpoints as ep
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.answers import Meaning, UnreadableError, judge, read
from gatte_pipelines.crm.budget import DailyBudgetSpent, TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.failures import (
    AccessRefusedError,
    BlockedError,
    PagingError,
    RecordMissingError,
    RefusedError,
    UnreadableAnswerError,
)
from gatte_pipelines.http import AmbiguousError, RetryableHttpError, RetryPolicy
from gatte_pipelines.sandbox.pipedrive import Exchange, Kind, PipedriveFault, PipedriveStandIn
from tests.pipedrive_specs import ARE_MISSING, DEFECTS, WHY_MISSING, errors_of, operation_of

QUICK = RetryPolicy(max_attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.01)
NAME, PHONE, EMAIL = "Nome Distinto", "+5511900001234", "nome.distinto@example.com"
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "pipedrive"

needs_specs = pytest.mark.skipif(ARE_MISSING, reason=WHY_MISSING)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 10, 11, 30, 0, 250_000, UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn(now=clock) as started:
        yield started


@pytest.fixture
def ledger(clock: Clock) -> TokenLedger:
    return TokenLedger(now=clock)


@pytest.fixture
def client(stand_in: PipedriveStandIn, ledger: TokenLedger) -> Iterator[PipedriveClient]:
    with opened(stand_in, ledger) as it:
        yield it


def opened(stand_in: PipedriveStandIn, ledger: TokenLedger, **options: Any) -> PipedriveClient:
    options = {"timeout_seconds": 0.3, "repeats": QUICK} | options
    return PipedriveClient(stand_in.url, stand_in.token, ledger=ledger, **options)


def contact(value: str) -> list[m.Contact]:
    return [m.Contact(value=value, primary=True, label="work")]


def call_everything(client: PipedriveClient, stand_in: PipedriveStandIn, clock: Clock) -> None:
    """Make every call that the client has, each with all that it takes."""
    since = clock.now - timedelta(hours=1)
    assert client.read_me().company_domain
    stages = client.read_stages()
    pipeline = client.read_pipelines()[0]
    assert client.read_stages(pipeline_id=pipeline.id) == stages
    label = client.read_lead_labels()[0]
    key = client.create_deal_field("gatte_lead_id").field_code
    person_key = client.create_person_field("gatte_user_id").field_code
    assert key in {one.field_code for one in client.read_deal_fields()}
    assert person_key in {one.field_code for one in client.read_person_fields()}

    company = client.create_organization(NAME)
    new = m.NewPerson(
        name=NAME,
        org_id=company.id,
        emails=contact(EMAIL),
        phones=contact(PHONE),
        custom_fields={person_key: "u1"},
    )
    person = client.create_person(new)
    assert (person.phones, person.custom_fields[person_key]) == (contact(PHONE), "u1")
    person = client.update_person(
        person.id,
        m.PersonChanges(
            name=f"{NAME} 2",
            org_id=company.id,
            phones=[*person.phones, m.Contact(value="+5511900001235", primary=False)],
            emails=[],
            custom_fields={person_key: None},
        ),
    )
    assert ([one.value for one in person.phones], person.emails) == ([PHONE, "+5511900001235"], [])
    client.update_organization(company.id, m.OrganizationChanges(name=f"{NAME} 2"))

    lead = client.create_lead(
        m.NewLead(
            title=NAME,
            person_id=person.id,
            organization_id=company.id,
            label_ids=[label.id],
            value=m.Money(amount=1290.5, currency="BRL"),
            expected_close_date=date(2026, 4, 1),
            origin_id="b5",
            custom_fields={key: "b5"},
        )
    )
    assert (lead.origin_id, lead.custom_fields) == ("b5", {key: "b5"})
    changes = m.LeadChanges(
        title=f"{NAME} 2",
        person_id=person.id,
        organization_id=None,
        label_ids=[],
        value=None,
        expected_close_date=None,
        custom_fields={key: "b6"},
    )
    lead = client.update_lead(lead.id, changes)
    assert (lead.value, lead.label_ids, lead.custom_fields) == (None, [], {key: "b6"})
    assert client.get_lead(lead.id) == lead
    assert list(client.iter_leads()) == [lead]
    assert list(client.iter_leads(person_id=person.id, updated_since=since)) == [lead]
    assert list(client.iter_leads(organization_id=company.id)) == []
    assert list(client.iter_archived_leads(person_id=person.id, organization_id=company.id)) == []

    note = client.create_note("a < b", lead_id=lead.id)
    client.create_note("x", person_id=person.id)
    assert [one.content for one in client.iter_notes(lead_id=lead.id)] == ["a &lt; b"]
    assert len(list(client.iter_notes(person_id=person.id))) == 1
    assert client.get_note(note.id) == note
    assert client.delete_note(note.id) is True
    assert client.get_note(note.id) is None

    assert client.get_person(person.id) == person
    assert list(client.iter_persons(org_id=company.id, updated_since=since)) == [person]
    assert list(client.iter_persons(ids=[person.id, 999_999])) == [person]
    assert [one.id for one in client.iter_organizations(updated_since=since)] == [company.id]
    assert [one.id for one in client.iter_organizations(ids=[company.id])] == [company.id]
    assert client.get_organization(company.id) is not None
    stand_in.index_now()
    assert [one.id for one in client.find_persons(PHONE, field="phone")] == [person.id]
    assert client.find_persons(EMAIL, field="email") == []
    assert client.find_persons(NAME, field="name") == []
    assert client.find_persons("u1", field="custom_fields") == []
    assert [one.id for one in client.find_organizations(f"{NAME} 2")] == [company.id]
    assert [one.id for one in client.find_by_field("lead", key, "b6")] == [str(lead.id)]
    assert client.find_by_field("person", person_key, "u1") == []

    conversion = client.convert_lead(lead.id, stage_id=stages[1].id)
    state = client.read_conversion(lead.id, conversion)
    assert state is not None
    assert state.deal_id is not None
    assert client.get_lead(lead.id) is None
    deal = client.get_deal(state.deal_id)
    assert deal is not None
    assert (deal.source_lead_id, deal.stage_id) == (lead.id, stages[1].id)
    assert deal.custom_fields[key] == "b6"
    assert list(client.iter_deals(person_id=person.id, updated_since=since)) == [deal]
    assert list(client.iter_deals(org_id=company.id, status="open")) == []
    assert list(client.iter_deals(ids=[deal.id])) == [deal]
    assert list(client.iter_archived_deals(org_id=company.id)) == []
    client.create_note("x", deal_id=deal.id)
    assert list(client.iter_notes(deal_id=deal.id))
    deal = client.update_deal(
        deal.id,
        m.DealChanges(
            title=f"{NAME} 3",
            person_id=person.id,
            org_id=company.id,
            value=10.5,
            currency="BRL",
            expected_close_date=date(2026, 4, 2),
            custom_fields={key: "b7"},
        ),
    )
    assert (deal.value, deal.org_id, deal.custom_fields[key]) == (10.5, company.id, "b7")
    assert [one.id for one in client.find_by_field("deal", key, "b7")] == [deal.id]

    other = client.create_lead(m.NewLead(title=NAME, organization_id=company.id))
    assert client.delete_lead(other.id) is True
    assert client.delete_deal(deal.id) is True
    assert [one.id for one in client.iter_deals(status="deleted")] == [deal.id]
    assert client.delete_person(person.id) is True
    assert client.delete_organization(company.id) is True
    assert client.find_by_field("organization", "name", "nobody") == []


# --- the specs ----------------------------------------------------------------------------------


def test_every_call_is_made_within_what_the_stand_in_knows(
    client: PipedriveClient, stand_in: PipedriveStandIn, ledger: TokenLedger, clock: Clock
) -> None:
    call_everything(client, stand_in, clock)
    called = {(one.method, one.template) for one in stand_in.exchanges}
    assert called == {(one.method, one.path) for one in ep.every_endpoint()}
    assert stand_in.unknown_parameters == []
    assert all("x-api-token" in one.request_headers for one in stand_in.exchanges)
    assert not any(stand_in.token in repr((one.path, one.query)) for one in stand_in.exchanges)
    assert ledger.spent == sum(one.cost for one in stand_in.exchanges) == stand_in.limits.spent


@needs_specs
def test_every_request_is_valid_against_the_official_specs(
    client: PipedriveClient, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    call_everything(client, stand_in, clock)
    assert [error for one in stand_in.exchanges for error in errors_of(one)] == []


@needs_specs
def test_a_request_that_the_specs_do_not_allow_would_be_noticed(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    with pytest.raises(RefusedError):
        client.create_deal_field("x", field_type="url")
    with pytest.raises(RefusedError):
        client.update_person(7, m.PersonChanges(org_id="7"))  # type: ignore[arg-type]
    sent = [one for one in stand_in.exchanges if any("request" in e for e in errors_of(one))]
    assert sent == stand_in.exchanges


@needs_specs
def test_the_order_of_leads_is_the_one_request_that_a_spec_has_wrong(
    client: PipedriveClient, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    """The spec's enumeration has no direction, its text has one."""
    call_everything(client, stand_in, clock)
    wrong = set()
    for number, defect in enumerate(DEFECTS):
        for one in stand_in.exchanges:
            if any(": request" in error for error in errors_of(one, without=number)):
                wrong.add((one.method, one.template, defect.names))
    assert wrong == {("GET", "/api/v1/leads", ("sort",))}


@needs_specs
@pytest.mark.parametrize("endpoint", list(ep.every_endpoint()), ids=lambda endpoint: endpoint.name)
def test_cost_and_parameters_are_those_of_the_specs(endpoint: ep.Endpoint) -> None:
    operation = operation_of(endpoint.method, endpoint.path)
    assert operation is not None
    assert operation["x-token-cost"] == endpoint.cost
    known = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    assert endpoint.parameters <= known


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not there")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("v1_get_leads_200", list[m.Lead]),
        ("v1_get_leads_id_200", m.Lead),
        ("v1_post_leads_201", m.Lead),
        ("v1_get_leadLabels_200", list[m.LeadLabel]),
        ("v1_get_users_me_200", m.Me),
        ("v2_get_persons_200", list[m.Person]),
        ("v2_post_persons_200", m.Person),
        ("v2_get_organizations_200", list[m.Organization]),
        ("v2_get_deals_200", list[m.Deal]),
        ("v2_post_deals_200", m.Deal),
        ("v2_get_dealFields_200", list[m.Field]),
        ("v2_get_pipelines_200", list[m.Pipeline]),
        ("v2_get_stages_200", list[m.Stage]),
        ("v2_get_itemSearch_field_200", list[m.FieldHit]),
    ],
)
def test_the_vendors_sample_bodies_are_read(name: str, kind: type) -> None:
    answer = judge(200, {}, (SAMPLES / f"{name}.json").read_bytes())
    assert answer.meaning is Meaning.DONE
    tree = m.lead_tree(answer.data) if "leads" in name else answer.data
    assert read(tree, kind)
    with pytest.raises(UnreadableError, match="is missing"):
        read(json.loads(json.dumps(tree).replace('"id"', '"no"').replace("field_", "no_")), kind)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not there")
@pytest.mark.parametrize(
    ("name", "status", "meaning"),
    [
        ("error_401_live_2026-09-26", 401, Meaning.TOKEN),
        ("error_403_feature_capping", 403, Meaning.PLAN_LIMIT),
        ("error_generic", 503, Meaning.PASSING),
        ("v1_get_leads_id_404", 404, Meaning.MISSING),
    ],
)
def test_the_vendors_sample_errors_have_their_meaning(
    name: str, status: int, meaning: Meaning
) -> None:
    assert judge(status, {}, (SAMPLES / f"{name}.json").read_bytes()).meaning is meaning


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_nested", [True, False])
def test_all_leads_come_once_however_the_pages_are_told(
    stand_in: PipedriveStandIn, ledger: TokenLedger, *, is_nested: bool
) -> None:
    stand_in.api.has_nested_pagination = is_nested
    person_id = stand_in.add_person(name=NAME)
    ids = [stand_in.add_lead(title=f"{NAME} {n}", person_id=person_id) for n in range(7)]
    with opened(stand_in, ledger, page_size=3) as client:
        assert sorted(str(lead.id) for lead in client.iter_leads()) == sorted(ids)
        assert ledger.spent == 3 * 20


def test_all_persons_come_once_and_some_are_asked_for_by_hundreds(
    stand_in: PipedriveStandIn, ledger: TokenLedger
) -> None:
    ids = [stand_in.add_person(name=f"{NAME} {number}") for number in range(130)]
    with opened(stand_in, ledger, page_size=50) as client:
        assert [person.id for person in client.iter_persons()] == ids
        assert [person.id for person in client.iter_persons(ids=ids)] == ids
    assert [one.template for one in stand_in.exchanges] == ["/api/v2/persons"] * (3 + 2 + 1)


def test_a_lead_that_changes_between_two_pages_pushes_none_away(
    stand_in: PipedriveStandIn, ledger: TokenLedger, clock: Clock
) -> None:
    person_id = stand_in.add_person(name=NAME)
    ids = []
    for number in range(6):
        clock.now += timedelta(seconds=1)
        ids.append(stand_in.add_lead(title=f"{NAME} {number}", person_id=person_id))
    seen = []
    with opened(stand_in, ledger, page_size=2) as client:
        for lead in client.iter_leads(updated_since=clock.now - timedelta(hours=1)):
            seen.append(str(lead.id))
            if len(seen) == 2:
                clock.now += timedelta(seconds=1)
                stand_in.edit_lead(ids[0], title="changed")
                stand_in.edit_lead(ids[3], title="changed")
    # Those that changed in between are newer than the run: the next one finds them.
    assert set(ids) - set(seen) <= {ids[0], ids[3]}


@pytest.mark.parametrize("what", ["leads", "persons", "stages", "search"])
def test_pages_that_name_themselves_do_not_hold_the_client(
    stand_in: PipedriveStandIn, ledger: TokenLedger, what: str
) -> None:
    for _ in range(3):
        stand_in.add_lead(title=NAME, person_id=stand_in.add_person(name=NAME))
    stand_in.fail(PipedriveFault.STUCK_PAGES, times=50)
    with opened(stand_in, ledger, page_size=1) as client:
        calls: dict[str, Callable[[], object]] = {
            "leads": lambda: list(client.iter_leads()),
            "persons": lambda: list(client.iter_persons()),
            "stages": client.read_stages,
            "search": lambda: client.find_persons(NAME, field="name"),
        }
        with pytest.raises(PagingError):
            calls[what]()
    assert len(stand_in.exchanges) <= 2


# --- a salesperson ------------------------------------------------------------------------------


def test_an_archived_lead_is_in_its_own_list_and_refuses_a_change(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    lead_id = stand_in.add_lead(title=NAME, person_id=stand_in.add_person(name=NAME))
    stand_in.archive_lead(lead_id)
    assert list(client.iter_leads()) == []
    (archived,) = client.iter_archived_leads()
    assert (str(archived.id), archived.is_archived) == (lead_id, True)
    assert client.get_lead(archived.id) == archived
    with pytest.raises(RefusedError) as refused:
        client.update_lead(archived.id, m.LeadChanges(title="x"))
    assert refused.value.meaning is Meaning.REFUSED


def test_a_person_that_was_merged_away_is_gone_and_his_lead_names_the_other(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    kept, lost = stand_in.add_person(name=NAME), stand_in.add_person(name=NAME)
    lead_id = UUID(stand_in.add_lead(title=NAME, person_id=lost))
    stand_in.merge_persons(kept, lost)
    assert client.get_person(lost) is None
    lead = client.get_lead(lead_id)
    assert lead is not None
    assert lead.person_id == kept


@pytest.mark.parametrize("shows_deleted", [True, False])
def test_a_deleted_person_is_gone_or_marked(
    stand_in: PipedriveStandIn, client: PipedriveClient, *, shows_deleted: bool
) -> None:
    stand_in.account.rules.shows_deleted = shows_deleted
    person_id = stand_in.add_person(name=NAME)
    stand_in.delete_person(person_id)
    found = client.get_person(person_id)
    assert found is None or found.is_deleted
    assert (found is None) is not shows_deleted
    with pytest.raises(RecordMissingError):
        client.update_person(person_id, m.PersonChanges(name="x"))
    assert client.delete_person(person_id) is False


def test_a_custom_field_that_was_taken_away_is_no_longer_there(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    key = stand_in.add_field(Kind.DEAL, "gatte_lead_id")
    assert key in {one.field_code for one in client.read_deal_fields() if one.is_custom_field}
    stand_in.delete_field(Kind.DEAL, key)
    assert not [one for one in client.read_deal_fields() if one.is_custom_field]
    with pytest.raises(RefusedError):
        client.find_by_field("lead", key, "b5")


# --- faults -------------------------------------------------------------------------------------

AMBIGUOUS = [
    PipedriveFault.TIMEOUT_BEFORE,
    PipedriveFault.TIMEOUT_AFTER,
    PipedriveFault.SERVER_ERROR,
    PipedriveFault.SERVER_ERROR_AFTER,
    PipedriveFault.UNAVAILABLE,
    PipedriveFault.BROKEN_OFF,
    PipedriveFault.HTML,
]


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_create_whose_end_nobody_knows_is_sent_once(
    stand_in: PipedriveStandIn, client: PipedriveClient, fault: PipedriveFault
) -> None:
    person_id = stand_in.add_person(name=NAME)
    stand_in.fail(fault)
    with pytest.raises(AmbiguousError):
        client.create_lead(m.NewLead(title=NAME, person_id=person_id, origin_id="b5"))
    assert [one.method for one in stand_in.exchanges] == ["POST"]
    # Whether it took effect, a list says that no index stands before.
    found = [lead.origin_id for lead in client.iter_leads(person_id=person_id)]
    assert found == [lead["origin_id"] for lead in stand_in.leads]


@pytest.mark.parametrize("fault", [one for one in AMBIGUOUS if one is not PipedriveFault.HTML])
def test_a_read_outlives_a_fault(
    stand_in: PipedriveStandIn, client: PipedriveClient, fault: PipedriveFault
) -> None:
    person_id = stand_in.add_person(name=NAME)
    stand_in.fail(fault)
    assert client.get_person(person_id) is not None
    assert len(stand_in.exchanges) == 2


def test_html_where_json_was_due_is_no_record(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    stand_in.fail(PipedriveFault.HTML)
    with pytest.raises(UnreadableAnswerError, match="HTML where JSON was due"):
        client.get_person(stand_in.add_person(name=NAME))


def test_a_field_that_is_missing_is_named(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    lead_id = stand_in.add_lead(title=NAME, person_id=stand_in.add_person(name=NAME))
    stand_in.omit("data.update_time")
    with pytest.raises(UnreadableAnswerError, match=r"data\[0\]\.update_time is missing"):
        list(client.iter_leads())
    stand_in.alter("data.label_ids", None)
    with pytest.raises(UnreadableAnswerError, match=r"data\.label_ids: Expected `array`"):
        client.get_lead(UUID(lead_id))
    stand_in.omit("additional_data")
    with pytest.raises(UnreadableAnswerError, match=r"additional_data\.next_cursor is missing"):
        client.read_stages()
    stand_in.omit("data.id", method="POST")
    with pytest.raises(AmbiguousError, match=r"data\.id is missing; it may have taken effect"):
        client.create_organization(NAME)
    assert len(stand_in.organizations) == 1


def test_too_many_at_once_is_waited_for(
    stand_in: PipedriveStandIn, client: PipedriveClient, ledger: TokenLedger
) -> None:
    stand_in.fail(PipedriveFault.BURST)
    client.create_organization(NAME)
    assert [one.status for one in stand_in.exchanges] == [429, 200]
    assert len(stand_in.organizations) == 1
    assert ledger.spent == stand_in.limits.spent == 5


def test_a_patient_client_is_never_blocked(
    stand_in: PipedriveStandIn, ledger: TokenLedger, clock: Clock
) -> None:
    ticks = [0.0]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        ticks[0] += seconds

    stand_in.limits.burst = 20
    stand_in.limits._monotonic = lambda: ticks[0]
    with opened(stand_in, ledger, clock=lambda: ticks[0], sleep=wait) as client:
        for _ in range(60):
            client.read_me()
    assert {one.status for one in stand_in.exchanges} == {200}
    assert len(waits) == 2


def test_the_days_budget_that_is_gone_ends_all_calls(
    stand_in: PipedriveStandIn, client: PipedriveClient, clock: Clock
) -> None:
    stand_in.fail(PipedriveFault.DAILY_BUDGET)
    for _ in range(3):
        with pytest.raises(DailyBudgetSpent) as refused:
            client.read_me()
        assert refused.value.said_by_pipedrive
    assert len(stand_in.exchanges) == 1
    clock.now += timedelta(days=1)
    client.read_me()


def test_the_share_of_the_day_is_learned_from_pipedrive_and_kept(
    stand_in: PipedriveStandIn, client: PipedriveClient, ledger: TokenLedger
) -> None:
    stand_in.limits.daily_budget = 100
    client.read_me()
    assert (ledger.allowance, ledger.remaining) == (60, 98)
    for _ in range(5):
        client.read_lead_labels()
    with pytest.raises(DailyBudgetSpent) as refused:
        client.read_lead_labels()
    assert not refused.value.said_by_pipedrive
    assert stand_in.limits.spent == ledger.spent == 52


def test_other_integrations_leave_nothing_and_nothing_is_tried(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    client.read_me()
    stand_in.limits.spend(stand_in.limits.daily_budget - 10)
    client.read_me()
    stand_in.forget_exchanges()
    with pytest.raises(DailyBudgetSpent, match="the company's tokens of the day are used up"):
        list(client.iter_leads())
    assert stand_in.exchanges == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (PipedriveFault.UNAUTHORIZED, AccessRefusedError),
        (PipedriveFault.ACCOUNT_CLOSED, AccessRefusedError),
        (PipedriveFault.CLOUDFLARE, BlockedError),
    ],
)
def test_after_such_a_refusal_nothing_more_is_attempted(
    stand_in: PipedriveStandIn,
    client: PipedriveClient,
    fault: PipedriveFault,
    error: type[Exception],
) -> None:
    stand_in.fail(fault)
    for _ in range(3):
        with pytest.raises(error):
            client.create_organization(NAME)
    assert (len(stand_in.exchanges), stand_in.organizations) == (1, [])


def test_a_wrong_token_is_refused_at_once(stand_in: PipedriveStandIn, ledger: TokenLedger) -> None:
    with (
        PipedriveClient(stand_in.url, "w" * 40, ledger=ledger) as client,
        pytest.raises(AccessRefusedError, match="GATTE_PIPEDRIVE_API_TOKEN is not accepted"),
    ):
        client.read_me()
    assert len(stand_in.exchanges) == 1


def test_a_limit_of_the_plan_is_told_by_its_code(
    stand_in: PipedriveStandIn, client: PipedriveClient
) -> None:
    stand_in.fail(PipedriveFault.PLAN_LIMIT)
    with pytest.raises(RefusedError) as refused:
        client.create_organization(NAME)
    assert refused.value.meaning is Meaning.PLAN_LIMIT
    assert refused.value.code == "feature_capping_deals_limit"
    client.create_organization(NAME)


def test_a_stand_in_that_has_stopped_is_a_matter_of_later(
    stand_in: PipedriveStandIn, ledger: TokenLedger
) -> None:
    with PipedriveStandIn() as other:
        client = opened(other, ledger)
    with client, pytest.raises(RetryableHttpError, match="nothing was sent"):
        client.create_organization(NAME)


def test_what_never_was_is_not_there(client: PipedriveClient, stand_in: PipedriveStandIn) -> None:
    assert client.get_lead(uuid4()) is None
    assert client.get_person(1) is None
    assert client.get_organization(1) is None
    assert client.get_deal(1) is None
    assert client.delete_lead(uuid4()) is False
    assert client.delete_note(1) is False
    kinds: list[Exchange] = stand_in.exchanges
    assert {one.status for one in kinds} == {404}
