"""Two leads of one person: joined, kept apart where something speaks against it, parted again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.crm.merging import merge_leads, part_leads
from gatte_pipelines.database.client_locks import exclusive_lock
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.privacy.people import anonymize_leads, anonymize_users
from gatte_pipelines.sync.outbox import begin, read_open
from tests.conflicts import AS_OF, RUN, Desk, opened
from tests.postgres import TestDatabase

DAY = timedelta(days=1)


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


def join(desk: Desk, kept: UUID, removed: UUID, **options: Any) -> bool:
    with desk.cursor() as cursor:
        return merge_leads(cursor, kept=kept, removed=removed, run_id=RUN, at=AS_OF, **options)


def part(desk: Desk, removed: UUID, **options: Any) -> None:
    with desk.cursor(**options) as cursor:
        part_leads(cursor, removed)


def tell(desk: Desk) -> dict[str, list[dict[str, Any]]]:
    """All that joining and parting may touch, without instants of change."""
    return {
        "leads": desk.rows("select * from leads order by id"),
        "links": [
            {name: value for name, value in row.items() if name != "changed_at"}
            for row in desk.rows("select * from pipeline.crm_links order by lead_id")
        ],
        "renewals": desk.rows("select * from pipeline.renewal_leads order by certificate_id"),
        "history": desk.rows("select * from pipeline.row_history"),
        "refusals": desk.rows("select * from pipeline.guard_refusals"),
        "undo": desk.rows("select * from pipeline.undo_records"),
    }


def two(desk: Desk, **values: Any) -> tuple[UUID, UUID]:
    """The kept one with nothing but a name, the other one with everything."""
    whole = {
        "name": "Segundo Exemplo",
        "email": "lead@example.com",
        "company": "Empresa Exemplo",
        "interest": "Certificado e-CNPJ",
        "notes": "Ligar à tarde",
        "crm_id": "outro",
        "stage": "qualified",
        "created_at": "2026-02-03T04:05:06.789012+00:00",
    } | values
    return desk.linked(name="Primeiro Exemplo"), desk.linked(**whole)


def renew(desk: Desk, lead_id: UUID) -> None:
    desk.execute(
        "insert into pipeline.renewal_leads (certificate_id, expires_at, lead_id, made_at) "
        "values (gen_random_uuid(), :at, :lead_id, :at)",
        lead_id=lead_id,
        at=AS_OF,
    )


def test_the_other_lead_goes_and_what_was_blank_is_filled(desk: Desk) -> None:
    user = desk.user()
    kept, removed = two(desk, user_id=user)
    before = desk.read_lead(kept)
    assert join(desk, kept, removed)
    (left,) = desk.rows("select * from leads")
    assert left == before | {
        "user_id": user,
        "email": "lead@example.com",
        "company": "Empresa Exemplo",
        "interest": "Certificado e-CNPJ",
        "notes": "Ligar à tarde",
    }


def test_what_the_kept_lead_has_stays_and_notes_are_put_together(desk: Desk) -> None:
    kept = desk.linked(email="a@example.com", company=" ", notes="Primeira nota")
    removed = desk.linked(email="b@example.com", company="Empresa", notes="Segunda nota")
    assert join(desk, kept, removed)
    left = desk.read_lead(kept)
    assert (left["email"], left["company"]) == ("a@example.com", "Empresa")
    assert left["notes"] == "Primeira nota\n\nSegunda nota"


def test_a_note_that_stands_there_already_is_not_written_twice(desk: Desk) -> None:
    kept, removed = desk.linked(notes="Nota: ligar"), desk.linked(notes=" ligar ")
    assert join(desk, kept, removed)
    assert desk.read_lead(kept)["notes"] == "Nota: ligar"


def test_the_records_there_stay_known_and_a_conflict_tells_where_the_lead_went(
    desk: Desk,
) -> None:
    kept, removed = two(desk)
    remote = desk.read_link(removed)["remote_lead_id"]
    assert join(desk, kept, removed)
    link = desk.read_link(removed)
    assert (link["state"], link["merged_into"], link["remote_lead_id"]) == ("merged", kept, remote)
    assert desk.read_link(kept)["state"] == "linked"
    conflict = desk.one("select * from pipeline.sync_conflicts")
    assert (conflict["kind"], conflict["local_id"], conflict["winner"]) == (
        "merged",
        removed,
        "theirs",
    )
    assert (conflict["our_value"], conflict["their_value"]) == (None, str(kept))


def test_no_change_of_stage_and_no_refusal_is_recorded(desk: Desk) -> None:
    kept, removed = two(desk)
    join(desk, kept, removed)
    part(desk, removed)
    found = tell(desk)
    assert (found["history"], found["refusals"]) == ([], [])


def test_renewals_and_earlier_merges_lead_on_and_the_outbox_forgets(desk: Desk) -> None:
    kept, removed = two(desk)
    earlier = uuid4()
    desk.link(earlier, state="merged", merged_into=removed)
    renew(desk, removed)
    with desk.cursor() as cursor:
        for lead in (kept, removed):
            begin(cursor, "pipedrive", lead, "create_note", now=AS_OF)
    assert join(desk, kept, removed)
    assert desk.one("select lead_id from pipeline.renewal_leads")["lead_id"] == kept
    assert desk.read_link(earlier)["merged_into"] == kept
    with desk.cursor() as cursor:
        assert [each.local_id for each in read_open(cursor, "pipedrive")] == [kept]


_ANONYMIZED = (
    "insert into pipeline.anonymized_rows (table_name, row_id, anonymized_at, rule) "
    "values ('leads', {}, :at, 'test')"
)
_HELD = (
    "insert into pipeline.retention_holds "
    "(hold_id, table_name, row_id, reason, owner, placed_at) "
    "values (gen_random_uuid(), {}, 'processo', 'Encarregada', :at)"
)
AGAINST = {
    "the kept one is anonymised": _ANONYMIZED.format(":kept"),
    "the other is anonymised": _ANONYMIZED.format(":removed"),
    "the kept one is a deal": "update pipeline.crm_links set deal_id = 1 where lead_id = :kept",
    "the other is a deal": "update pipeline.crm_links set deal_id = 1 where lead_id = :removed",
    "the kept one was deleted there": (
        "update pipeline.crm_links set state = 'deleted' where lead_id = :kept"
    ),
    "the other is archived": (
        "update pipeline.crm_links set is_archived = true where lead_id = :removed"
    ),
    "the other has no link": "delete from pipeline.crm_links where lead_id = :removed",
    "the other is lost": "update leads set stage = 'lost' where id = :removed",
    "the kept one is converted": "update leads set stage = 'converted' where id = :kept",
    "the other is gone": "delete from leads where id = :removed",
    "the other is held": _HELD.format("'leads', :removed"),
    "the user of the other is held": _HELD.format("'users', :user"),
    "a request about the user of the other is open": (
        "insert into pipeline.subject_requests "
        "(request_id, user_id, kind, state, received_at, due_at) "
        "values (gen_random_uuid(), :user, 'erase', 'open', :at, :at)"
    ),
}


@pytest.mark.parametrize("against", AGAINST)
def test_leads_stay_two_where(desk: Desk, against: str) -> None:
    user = desk.user()
    kept, removed = two(desk, user_id=user)
    desk.execute(AGAINST[against], kept=kept, removed=removed, user=user, at=AS_OF - DAY)
    before = tell(desk)
    assert not join(desk, kept, removed)
    assert tell(desk) == before
    assert desk.rows("select * from pipeline.sync_conflicts") == []


def test_a_lead_is_not_joined_with_itself(desk: Desk) -> None:
    lead = desk.linked()
    assert not join(desk, lead, lead)
    assert desk.read_lead(lead)


def test_a_hold_that_was_released_keeps_nothing(desk: Desk) -> None:
    kept, removed = two(desk)
    desk.execute(_HELD.format("'leads', :removed"), removed=removed, at=AS_OF - DAY)
    desk.execute("update pipeline.retention_holds set released_at = :at", at=AS_OF)
    assert join(desk, kept, removed)


def test_parting_brings_everything_back_as_it_was(desk: Desk) -> None:
    kept, removed = two(desk, user_id=desk.user())
    desk.execute("update leads set notes = 'Primeira nota' where id = :id", id=kept)
    desk.link(uuid4(), state="merged", merged_into=removed)
    renew(desk, removed)
    renew(desk, kept)
    before = tell(desk)
    assert join(desk, kept, removed)
    assert tell(desk) != before
    part(desk, removed)
    assert tell(desk) == before


def test_what_was_changed_since_is_not_emptied(desk: Desk) -> None:
    kept, removed = two(desk)
    join(desk, kept, removed)
    desk.execute("update leads set email = 'novo@example.com' where id = :id", id=kept)
    part(desk, removed)
    left = desk.read_lead(kept)
    assert (left["email"], left["company"]) == ("novo@example.com", None)
    assert desk.read_lead(removed)["email"] == "lead@example.com"


def test_what_a_person_parted_is_not_joined_again_by_itself(desk: Desk) -> None:
    kept, removed = two(desk)
    join(desk, kept, removed)
    part(desk, removed)
    desk.execute(
        "update pipeline.sync_conflicts set resolution = 'ours', resolved_at = :at", at=AS_OF
    )
    assert not join(desk, kept, removed)


def test_a_user_who_became_part_of_another_since_is_followed(desk: Desk) -> None:
    gone, stayed = desk.user(), desk.user()
    kept, removed = two(desk, user_id=gone)
    join(desk, kept, removed)
    desk.execute("update leads set user_id = :stayed", stayed=stayed)
    desk.execute(
        "insert into pipeline.user_merges (from_user_id, into_user_id, merged_at) "
        "values (:gone, :stayed, :at)",
        gone=gone,
        stayed=stayed,
        at=AS_OF,
    )
    desk.execute("delete from users where id = :gone", gone=gone)
    part(desk, removed)
    assert desk.read_lead(removed)["user_id"] == stayed
    assert desk.read_lead(kept)["user_id"] is None


def test_a_lead_that_was_deleted_there_meanwhile_comes_back_as_deleted(desk: Desk) -> None:
    kept, removed = two(desk)
    join(desk, kept, removed)
    desk.execute(
        "update pipeline.crm_links set remote_lead_id = null where lead_id = :id", id=removed
    )
    part(desk, removed)
    assert desk.read_link(removed)["state"] == "deleted"


def test_three_leads_are_parted_in_the_order_in_which_they_were_not_joined(desk: Desk) -> None:
    first, second = two(desk)
    third = desk.linked(interest="Terceiro")
    assert join(desk, second, third)
    assert join(desk, first, second)
    assert desk.read_link(third)["merged_into"] == first
    with pytest.raises(ConfigurationError, match="resolve that conflict first"):
        part(desk, third)
    part(desk, second)
    assert desk.read_link(third)["merged_into"] == second
    part(desk, third)
    assert {row["state"] for row in desk.rows("select state from pipeline.crm_links")} == {"linked"}
    assert desk.read_lead(third)["interest"] == "Terceiro"


def test_an_undo_record_stands_for_its_days_and_no_longer(desk: Desk) -> None:
    kept, removed = two(desk)
    join(desk, kept, removed, undo_days=3)
    record = desk.one("select * from pipeline.undo_records")
    assert (record["kind"], record["kept_id"], record["removed_id"]) == ("leads", kept, removed)
    assert (record["made_at"], record["expires_at"]) == (AS_OF, AS_OF + 3 * DAY)
    with pytest.raises(ConfigurationError, match="expired or was erased"):
        part(desk, removed, as_of=AS_OF + 3 * DAY)
    part(desk, removed, as_of=AS_OF + 3 * DAY - timedelta(seconds=1))


def test_a_lead_that_was_never_joined_cannot_be_parted(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="expired or was erased"):
        part(desk, desk.linked())


@pytest.mark.parametrize("who", ["kept", "removed", "user"])
def test_a_person_who_was_anonymised_since_is_not_brought_back(desk: Desk, who: str) -> None:
    user = desk.user()
    kept, removed = two(desk, user_id=user)
    join(desk, kept, removed)
    ids = {"kept": kept, "removed": removed, "user": user}
    desk.anonymize(ids[who], "users" if who == "user" else "leads")
    before = tell(desk)
    with pytest.raises(ConfigurationError, match="was anonymised since"):
        part(desk, removed)
    assert tell(desk) == before


@pytest.mark.parametrize("who", ["the kept lead", "the user of either", "the user of the other"])
def test_whoever_is_anonymised_takes_the_undo_record_along(desk: Desk, who: str) -> None:
    user, other = desk.user(), desk.user()
    kept, removed = two(desk, user_id=other if who == "the user of the other" else user)
    desk.execute("update leads set user_id = :user where id = :kept", user=user, kept=kept)
    assert join(desk, kept, removed)
    with desk.cursor() as cursor:
        exclusive_lock(cursor)
        if who == "the kept lead":
            anonymize_leads(cursor, [kept], rule="test")
        else:
            anonymize_users(
                cursor, [other if who == "the user of the other" else user], rule="test"
            )
    assert desk.rows("select * from pipeline.undo_records") == []


def test_a_lead_comes_back_before_its_person_is_anonymised_or_not_at_all(
    desk: Desk, database: TestDatabase
) -> None:
    user = desk.user()
    kept, removed = two(desk, user_id=user)
    join(desk, kept, removed)
    started, ended = threading.Event(), []

    def give_back() -> None:
        with opened(database) as own:
            started.set()
            try:
                part(own, removed)
            except ConfigurationError as error:
                ended.append(error.message)

    thread = threading.Thread(target=give_back)
    with desk.cursor() as cursor:
        exclusive_lock(cursor)
        thread.start()
        started.wait()
        anonymize_users(cursor, [user], rule="test")
    thread.join()
    assert len(ended) == 1
    assert "expired or was erased" in ended[0]
    assert [row["id"] for row in desk.rows("select id from leads")] == [kept]
