"""An erasure leaves nothing of a person but what must stay, whatever is killed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gatte_pipelines.errors import PermanentError
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.privacy.erasure import HeldError, Outcome
from gatte_pipelines.privacy.external import ErasureHook, confirm_external_tasks, index_hooks
from gatte_pipelines.privacy.receipt import read_receipt, save_receipt, to_html, to_text
from gatte_pipelines.privacy.rescan import rescan_people
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    RequestState,
    find_due,
    read_requests,
)
from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
from tests.inbound import AS_OF, NOW
from tests.postgres import TestDatabase
from tests.subjects import TOKEN, Subjects, dump, files_under, seed
from tests.webhooks import ANA, BRUNO, contact, jsonl, number_change, text_message, texts


@pytest.fixture
def subjects(with_both: Subjects) -> Subjects:
    return with_both


@pytest.fixture
def nobody(database: TestDatabase) -> Subjects:
    return Subjects(database)


def requested(subjects: Subjects) -> tuple[UUID, UUID]:
    """Ana, and the request to erase her. The task that `seed` leaves is confirmed."""
    ana = subjects.user()
    subjects.execute("update pipeline.external_tasks set state = 'confirmed', reference = null")
    return ana, subjects.open(RequestKind.ERASE, ana).request_id


def assert_only_tickets_hold(subjects: Subjects, *words: str) -> None:
    left = dump(subjects.database, but=("public.tickets", "pipeline.ticket_digests"))
    left += files_under(subjects.database.home)
    for word in words:
        assert word not in left, word
    (ticket,) = subjects.one("select title || description from tickets where title like 'ana%'")
    assert ticket == "ana-chamadoana-descricao"


OF_ANA = ("ana-", ANA, ANA[2:], "90000-0001", "ana@", "BR.ana", TOKEN, "ana.lead")


def test_nothing_of_the_person_is_left_and_all_of_the_neighbour(subjects: Subjects) -> None:
    ana, request = requested(subjects)
    of_bruno = dump(subjects.database).count("bruno") + files_under(subjects.landing).count("bruno")
    before = dump(subjects.database) + files_under(subjects.database.home)
    assert all(word in before for word in OF_ANA)

    done = subjects.erase(request)

    assert (done.outcome, done.state) == (Outcome.ERASED, RequestState.DONE)
    assert_only_tickets_hold(subjects, *OF_ANA)
    after = dump(subjects.database).count("bruno") + files_under(subjects.landing).count("bruno")
    assert after == of_bruno
    assert subjects.one("select id from users where id = :u", u=ana)[0] == ana
    with subjects.database.connect() as connection:
        assert rescan_people(connection) == []
    assert {entry["kind"] for entry in subjects.entries()} == {"erasure", "erased"}
    assert subjects.ledger_folder.joinpath("ledger.jsonl").read_text().count("\n") == 2


def test_a_dry_run_says_what_goes_and_stays_and_changes_nothing(subjects: Subjects) -> None:
    ana, request = requested(subjects)
    before = dump(subjects.database) + files_under(subjects.landing)
    plan = subjects.erase(request, execute=False)
    assert dump(subjects.database) + files_under(subjects.landing) == before
    assert not subjects.ledger_folder.exists()
    assert plan.outcome is Outcome.PLANNED
    assert plan.going["users"] == 1
    assert plan.going["leads"] == 2
    assert plan.going["quarantine"] == 2  # the message, and the profile beside it
    assert plan.going["files"] > 5
    assert plan.staying["tickets"] == 1
    assert "Simulação" in plan.message
    assert ana in plan.subject.user_ids


def test_what_was_planned_is_what_was_done(subjects: Subjects) -> None:
    _, request = requested(subjects)
    planned = {k: v for k, v in subjects.erase(request, execute=False).going.items() if v}
    done = {k: v for k, v in subjects.erase(request).going.items() if v}
    assert planned == done


def test_erasing_twice_does_nothing_and_says_so(subjects: Subjects) -> None:
    ana, request = requested(subjects)
    subjects.erase(request)
    before = dump(subjects.database)
    again = subjects.erase(request)
    assert again.outcome is Outcome.ALREADY_DONE
    assert "já foi concluído" in again.message
    assert dump(subjects.database) == before
    other = subjects.open(RequestKind.ERASE, ana).request_id
    assert other != request
    assert "Nada resta" in subjects.erase(other, execute=False).message
    second = subjects.erase(other)
    assert (second.outcome, second.state) == (Outcome.NOTHING_LEFT, RequestState.DONE)
    assert len(subjects.entries()) == 2
    assert subjects.one("select count(*) from pipeline.guard_refusals") == (0,)


# The first row of Ana's in each of these tables.
ROWS = {
    "users": "select id from users where name like 'ana%'",
    "tickets": "select id from tickets where title like 'ana%'",
    "messages": "select id from messages where content like 'ana%' order by 1 limit 1",
    "leads": "select id from leads where name = 'ana-avulso'",
    "certificates": "select c.id from certificates as c inner join users as u on c.user_id = u.id "
    "where u.name like 'ana%'",
}


@pytest.mark.parametrize("table", ROWS)
def test_a_hold_on_any_row_keeps_everything_and_the_request_open(
    subjects: Subjects, table: str
) -> None:
    _, request = requested(subjects)
    row = subjects.one(ROWS[table])
    hold = uuid4()
    subjects.execute(
        "insert into pipeline.retention_holds values (:h, :t, :r, 'processo', 'dpo', :at, :end)",
        h=hold,
        t=table,
        r=row[0],
        at=AS_OF,
        end=AS_OF + timedelta(days=10),
    )
    before = dump(subjects.database)
    with pytest.raises(HeldError, match=str(hold)):
        subjects.erase(request)
    assert subjects.erase(request, execute=False).holds == (hold,)
    assert dump(subjects.database) == before
    assert subjects.entries() == []
    later = subjects.erase(request, as_of=AS_OF + timedelta(days=11))
    assert later.state is RequestState.DONE


def test_a_ledger_that_cannot_be_written_destroys_nothing(subjects: Subjects) -> None:
    _, request = requested(subjects)
    before = dump(subjects.database, but=("pipeline.privacy_ledger",))
    subjects.ledger_folder.parent.mkdir(parents=True, exist_ok=True)
    subjects.ledger_folder.write_text("not a folder")
    with pytest.raises(PermanentError):
        subjects.erase(request)
    assert dump(subjects.database, but=("pipeline.privacy_ledger",)) == before
    subjects.ledger_folder.unlink()
    assert subjects.erase(request).state is RequestState.DONE
    assert len(subjects.entries("erased")) == 1


def test_an_old_value_that_is_left_rolls_everything_back(subjects: Subjects) -> None:
    _, request = requested(subjects)
    # Whatever fills a text in again while its person is anonymised.
    subjects.execute(
        "create function put_back() returns trigger language plpgsql as "
        "$$ begin new.notes := 'ana-contrato'; return new; end $$"
    )
    subjects.execute(
        "create trigger put_back before update on services for each row execute function put_back()"
    )
    before = dump(subjects.database, but=("pipeline.privacy_ledger",))
    with pytest.raises(PermanentError, match="services") as error:
        subjects.erase(request)
    assert "ana" not in str(error.value)
    assert dump(subjects.database, but=("pipeline.privacy_ledger",)) == before
    assert subjects.entries("erased") == []
    subjects.execute("drop trigger put_back on services")
    assert subjects.erase(request).state is RequestState.DONE
    # The announcement of the first time stands for both.
    assert [entry["kind"] for entry in subjects.entries()] == ["erasure", "erased"]


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


class KilledAt:
    """Passes calls on to a store, and dies at one of them, before or after it took effect."""

    def __init__(self, inner: Any, name: str, *, after: bool) -> None:
        self._inner, self._name, self._after = inner, name, after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name != self._name:
            return call

        def dying(*arguments: Any, **options: Any) -> Any:
            if name == "rewrite" and not options["execute"]:
                return call(*arguments, **options)
            if self._after:
                call(*arguments, **options)
            raise Killed

        return dying


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("store", "name"),
    [
        ("ledger", "append"),
        ("files", "erase_quarantine"),
        ("ledger", "append_within"),
        ("ledger", "catch_up"),
        ("files", "rewrite"),
        ("files", "holds"),
    ],
)
def test_a_killed_erasure_is_finished_by_the_same_request(
    subjects: Subjects, store: str, name: str, after: bool
) -> None:
    _, request = requested(subjects)
    with subjects.database.connect() as side:
        inner = subjects.ledger(side) if store == "ledger" else subjects.files
        killed = KilledAt(inner, name, after=after)
        with pytest.raises(Killed):
            subjects.erase(request, **{store: killed})
    with subjects.database.connect() as connection:
        assert [one.state for one in read_requests(connection)] == ["open"]

    done = subjects.erase(request)

    assert done.state is RequestState.DONE
    assert_only_tickets_hold(subjects, *OF_ANA)
    assert [entry["kind"] for entry in subjects.entries()] == ["erasure", "erased"]
    assert subjects.ledger_folder.joinpath("ledger.jsonl").read_text().count("\n") == 2
    assert {place: done.going[place] for place in ("users", "leads", "quarantine")} == {
        "users": 1,
        "leads": 2,
        "quarantine": 2,
    }
    assert subjects.rows(
        "select reference from pipeline.external_tasks where system = 'landing_files'"
    ) == [(None,)]


def test_records_that_stay_in_the_files_keep_the_request_open(subjects: Subjects) -> None:
    _, request = requested(subjects)

    class Stubborn:
        def __getattr__(self, name: str) -> Any:
            return getattr(subjects.files, name)

        def holds(self, _keys: SubjectKeys) -> int:
            return 3

    with pytest.raises(PermanentError, match="3 record"):
        subjects.erase(request, files=Stubborn())
    with subjects.database.connect() as connection:
        assert [one.state for one in read_requests(connection)] == ["open"]
    assert subjects.erase(request).state is RequestState.DONE


def test_who_was_merged_between_announcement_and_lock_is_announced_again(
    subjects: Subjects,
) -> None:
    ana, request = requested(subjects)
    late = []

    class Merging:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def append(self, *arguments: Any, **options: Any) -> int:
            seq = int(self._inner.append(*arguments, **options))
            if not late:
                late.append(subjects.add("leads", user_id=ana, name="ana-atrasada"))
            return seq

    with subjects.database.connect() as side:
        done = subjects.erase(request, ledger=Merging(subjects.ledger(side)))
    assert done.state is RequestState.DONE
    assert_only_tickets_hold(subjects, *OF_ANA)
    announced = subjects.entries("erasure")
    assert len(announced) == 2
    assert str(late[0]) in subjects.entries("erased")[0]["body"]["lead_ids"]


def test_what_is_delivered_again_brings_nobody_back(nobody: Subjects) -> None:
    ana = seed(nobody)
    nobody.execute("delete from pipeline.external_tasks")
    again = [path.read_bytes() for path in sorted(nobody.landing.rglob("*.jsonl"))]
    request = nobody.open(RequestKind.ERASE, ana).request_id
    nobody.erase(request)
    nobody.put("again.jsonl", b"".join(line for line in again if b"ana-quarentena" not in line))
    report = nobody.load()
    assert report.inserted == 0
    assert nobody.rows("select id from users") == [(ana,)]
    later = AS_OF + timedelta(hours=1)
    nobody.send(texts(text_message("wamid.new", NOW + 60, body="voltei")), as_of=later)
    assert nobody.user(ANA) != ana


def test_a_number_that_changed_hands_is_taken_from_one_owner_only(nobody: Subjects) -> None:
    nobody.send(
        texts(
            text_message("wamid.a1", NOW - 5000, body="ana-antes"), contacts=[contact(ANA, "Ana")]
        ),
        texts(number_change("wamid.sys", NOW - 4000, ANA, BRUNO)),
        texts(
            text_message("wamid.b1", NOW - 3000, body="novo-dono"),
            contacts=[contact(ANA, "Novo Dono")],
        ),
        texts(text_message("wamid.a2", NOW - 2000, sender=BRUNO, body="ana-depois")),
    )
    ana, owner = nobody.user(BRUNO), nobody.user(ANA)
    request = nobody.open(RequestKind.ERASE, ana).request_id
    done = nobody.erase(request)
    assert (done.state, done.shared_identifiers) == (RequestState.DONE, 1)
    left = dump(nobody.database) + files_under(nobody.database.home)
    for word in ("ana-antes", "ana-depois", BRUNO, '"Ana"'):
        assert word not in left
    assert "novo-dono" in files_under(nobody.landing)
    assert nobody.rows("select content from messages where content <> ''") == [("novo-dono",)]
    assert nobody.user(ANA) == owner


def test_a_number_in_the_names_of_files_is_taken_out_everywhere(nobody: Subjects) -> None:
    theirs, other = f"conversa-{ANA}.jsonl", f"conversa-{BRUNO}.jsonl"
    unreadable = texts({"id": "w9", "type": "text", "text": {"body": "de ninguém"}})
    of_bruno = texts(text_message("wamid.b", NOW - 600, sender=BRUNO, body="bruno-oi"))
    nobody.put(theirs, jsonl(texts(text_message("wamid.a", NOW - 600)), of_bruno, unreadable))
    nobody.load()
    nobody.put(other, jsonl(of_bruno, unreadable))
    nobody.load()
    tables = ("inbound_batches", "quarantine")
    rows = [
        nobody.rows(f"select source_name from pipeline.{table} order by 1")  # noqa: S608
        for table in tables
    ]
    assert rows == [[(theirs,), (other,)], [(theirs,)]]

    request = nobody.open(RequestKind.ERASE, nobody.user(ANA)).request_id
    planned = nobody.erase(request, execute=False).going
    assert (planned["source_names"], planned["file_names"]) == (2, 1)
    done = nobody.erase(request)
    assert (done.going["source_names"], done.going["file_names"]) == (2, 1)
    assert done.state == RequestState.DONE

    left = dump(nobody.database) + files_under(nobody.database.home)
    left += " ".join(str(path) for path in nobody.database.home.rglob("*"))
    assert ANA not in left
    names = [
        {name for (name,) in nobody.rows(f"select source_name from pipeline.{table}")}  # noqa: S608
        for table in tables
    ]
    # One name for the rows of one file; the neighbour's stays.
    assert names[0] - names[1] == {other}
    assert all(name.startswith("erased-") for name in names[1])
    assert len(list(nobody.landing.glob("archive/*/erased-*.jsonl"))) == 1
    assert len(list(nobody.landing.glob(f"archive/*/{other}"))) == 1


def test_a_lead_that_never_wrote_is_erased_too(nobody: Subjects) -> None:
    lead = nobody.add("leads", name="ana-lead", phone="(11) 90000-0001", notes="ana-notas")
    other = nobody.add("leads", name="bruno-lead", phone=f"+{BRUNO}")
    request = nobody.open(RequestKind.ERASE, lead).request_id
    assert nobody.erase(request).state is RequestState.DONE
    assert "ana" not in dump(nobody.database).replace("landing", "")
    assert nobody.one("select name from leads where id = :l", l=other) == ("bruno-lead",)
    assert nobody.entries("erased")[0]["body"]["lead_ids"] == [str(lead)]


def test_what_was_exported_before_goes_too(subjects: Subjects) -> None:
    ana, request = requested(subjects)
    export = subjects.export(ana)
    assert subjects.erase(request, execute=False).going["exports"] == 1
    assert subjects.erase(request).going["exports"] == 1
    assert not export.page_path.parent.exists()


def test_a_request_of_before_a_merge_of_leads_erases_both_and_is_answered(
    nobody: Subjects,
) -> None:
    gone, stayed = (nobody.add("leads", name=f"ana-{n}", phone=f"+{ANA}") for n in range(2))
    request = nobody.open(RequestKind.ERASE, gone).request_id
    nobody.execute("delete from leads where id = :gone", gone=gone)
    nobody.execute(
        "insert into pipeline.crm_links (lead_id, state, merged_into, agreed_name, made_at, "
        "changed_at) values (:gone, 'merged', :stayed, 'ana-0', now(), now())",
        gone=gone,
        stayed=stayed,
    )
    done = nobody.erase(request)
    assert (done.outcome, done.state) == (Outcome.ERASED, RequestState.DONE)
    assert done.going["crm_links"] == 1
    assert "ana-" not in dump(nobody.database)
    # Where a backup brings the other one back, the ledger names it too.
    assert set(nobody.entries("erased")[0]["body"]["lead_ids"]) == {str(gone), str(stayed)}
    assert nobody.erase(request).outcome is Outcome.ALREADY_DONE
    with nobody.database.connect() as connection:
        assert set(read_receipt(connection, request, as_of=AS_OF).lead_ids) == {gone, stayed}
        assert rescan_people(connection) == []


def tell_crm(subjects: Subjects, client: httpx.Client, name: str, phone: str) -> None:
    """A person and a lead of theirs in the CRM, linked to a lead of ours; their webhooks wait."""
    person = client.post(
        "/api/v2/persons", json={"name": f"{name}-la", "phones": [{"value": f"+{phone}"}]}
    ).json()["data"]
    remote = client.post(
        "/api/v1/leads", json={"title": f"{name}-titulo", "person_id": person["id"]}
    ).json()["data"]
    client.post("/api/v1/notes", json={"content": f"{name}-nota", "lead_id": remote["id"]})
    subjects.execute(
        "update pipeline.crm_links set remote_lead_id = :remote, person_id = :person "
        "where lead_id = (select id from leads where name = :name)",
        remote=remote["id"],
        person=person["id"],
        name=f"{name}-lead",
    )


def test_webhooks_of_the_crm_about_the_person_are_exported_and_erased(subjects: Subjects) -> None:
    with (
        PipedriveStandIn(subjects.landing) as crm,
        httpx.Client(base_url=crm.url, headers={"x-api-token": crm.token}) as client,
    ):
        for name, phone in (("ana", ANA), ("bruno", BRUNO)):
            tell_crm(subjects, client, name, phone)
    webhooks = {path.name: path.read_text() for path in subjects.landing.glob("pipedrive-*.json")}
    of_bruno = {name for name, told in webhooks.items() if "bruno-" in told}
    assert len(webhooks) - len(of_bruno) == len(of_bruno) == 3
    export = subjects.export(subjects.user()).json_path.read_text("utf-8")
    assert all(f"ana-{word}" in export for word in ("la", "titulo", "nota"))
    assert "bruno-" not in export
    # The load of messages leaves them where they are.
    assert subjects.load().reason == "nothing_to_do"

    _, request = requested(subjects)
    subjects.erase(request)

    left = {path.name for path in subjects.landing.glob("pipedrive-*.json")}
    assert left == of_bruno
    assert "ana-" not in files_under(subjects.landing)


def test_the_receipt_tells_everything_without_personal_data(subjects: Subjects) -> None:
    ana, request = requested(subjects)
    subjects.erase(request)
    with subjects.database.connect() as connection:
        receipt = read_receipt(connection, request, as_of=AS_OF)
    path = save_receipt(receipt, subjects.exports)
    for text in (to_text(receipt), to_html(receipt), path.read_text("utf-8"), repr(receipt)):
        for word in OF_ANA:
            assert word not in text
    text = to_text(receipt)
    assert str(ana) in text
    assert len(receipt.lead_ids) == 3  # one that became part of another included
    assert receipt.ledger_seqs == (1, 2)
    assert "art. 16, I" in text
    assert "concluído" in text


def test_other_systems_are_told_and_waited_for(subjects: Subjects) -> None:
    _, request = requested(subjects)
    crm = System("pipedrive", "select crm_id from leads where id = any(%s) and crm_id is not null")
    hooks = index_hooks([crm.hook])
    assert subjects.erase(request, execute=False, hooks=hooks).external == {"pipedrive": 1}
    done = subjects.erase(request, hooks=hooks)
    assert (done.state, done.external) == (RequestState.WAITING_EXTERNAL, {"pipedrive": 1})
    assert "espera" in done.message
    with subjects.database.connect() as connection:
        waiting = read_requests(connection, only_open=True)
        assert find_due(waiting, as_of=AS_OF + timedelta(days=16)).overdue == tuple(waiting)
        report = confirm_external_tasks(connection, hooks, as_of=AS_OF)
        assert (report.confirmed, report.closed_requests) == (1, (request,))
    assert crm.erased == ["ana-crm"]
    assert_only_tickets_hold(subjects, *OF_ANA)
    assert subjects.erase(request, hooks=hooks).outcome is Outcome.ALREADY_DONE


class System:
    """Another system that knows references by a query, and forgets when it is told."""

    def __init__(self, name: str, query: str) -> None:
        self.erased: list[str] = []
        self._query = query
        self.hook = ErasureHook(
            system=name, plan=self._plan, erase=self.erased.append, is_erased=self._is_erased
        )

    def _plan(self, cursor: Any, _users: Sequence[UUID], leads: Sequence[UUID]) -> list[str]:
        return [row[0] for row in cursor.execute(self._query, [list(leads)])]

    def _is_erased(self, reference: str) -> bool:
        return reference in self.erased


def test_a_request_for_an_export_erases_nothing(subjects: Subjects) -> None:
    ana = subjects.user()
    request = subjects.open(RequestKind.EXPORT, ana).request_id
    with pytest.raises(PermanentError, match="does not ask"):
        subjects.erase(request)
    with pytest.raises(PermanentError, match="no request"):
        subjects.erase(uuid4())
