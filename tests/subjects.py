"""Requests of subjects over a test's own database, landing zone, ledger and exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.inbound.erasure import SubjectFiles
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.privacy.erasure import Erasure, erase_subject
from gatte_pipelines.privacy.export import Export, export_subject
from gatte_pipelines.privacy.export_page import describe_periods
from gatte_pipelines.privacy.external import ErasureHook
from gatte_pipelines.privacy.ledger import Ledger, OutsideCopy
from gatte_pipelines.privacy.subject_requests import RequestKind, SubjectRequest, open_request
from tests.database.rows import insert
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import ID_KEY, PostgresServer, TestDatabase, new_database
from tests.webhooks import (
    ANA,
    BRUNO,
    chatbot_conversation,
    chatbot_message,
    contact,
    edit,
    reaction,
    text_message,
    texts,
)

TOKEN = "acesso-de-ana-que-nunca-sai"  # noqa: S105 - an invented one
_DUMP = "select string_agg(row_to_json(t)::text, ' ') from {} as t"
PERIODS = {
    "messages_content": "90 days",
    "session_context_ttl": "0 hours",
    "leads_inactive": "2 years",
    "users_inactive": "5 years",
    "login_tokens_unused": "30 days",
    "tickets_kept": "5 years",
    "appointments_details": "2 years",
    "services_notes": "5 years",
    "quarantine": "90 days",
    "sync_conflicts": "90 days",
    "undo_records": "0 hours",
    "landing_archive": "30 days",
    "exports": "30 days",
    "backups": "30 days",
}


class Subjects(Inbound):
    """What the officer does with people, beside the loads of `Inbound`."""

    def __init__(self, database: TestDatabase, **settings: Any) -> None:
        super().__init__(database, **settings)
        self.exports: Path = database.home / "exports"
        self.ledger_folder: Path = database.home / "ledger"
        self.files = SubjectFiles(LandingZone(str(self.landing)), MessageIds(ID_KEY))

    def user(self, phone: str = ANA) -> UUID:
        """``users.id`` of a number."""
        return UUID(str(self.one("select id from users where phone = :p", p=f"+{phone}")[0]))

    def add(self, table: str, **values: Any) -> UUID:
        """Insert a row as its owner."""
        with self.database.connect("owner") as connection, connection.begin():
            return insert(connection, table, **values)

    def open(
        self, kind: RequestKind, user_id: UUID, received_at: datetime = AS_OF
    ) -> SubjectRequest:
        """Open a request."""
        with self.database.connect() as connection:
            return open_request(
                connection, kind=kind, user_id=user_id, received_at=received_at, as_of=AS_OF
            )

    def export(self, user_id: UUID) -> Export:
        """Export a person."""
        request = self.open(RequestKind.EXPORT, user_id)
        with self.database.connect() as connection:
            return export_subject(
                connection,
                request_id=request.request_id,
                files=self.files,
                folder=self.exports,
                periods=describe_periods(PERIODS),
                as_of=AS_OF,
            )

    def erase(
        self,
        request_id: UUID,
        *,
        execute: bool = True,
        hooks: Mapping[str, ErasureHook] | None = None,
        as_of: datetime = AS_OF,
        **changes: Any,
    ) -> Erasure:
        """Erase the person of a request; ``changes`` stand in for a store or the ledger."""
        with self.database.connect() as connection, self.database.connect() as side:
            stores: dict[str, Any] = {
                "ledger": self.ledger(side),
                "files": self.files,
            }
            return erase_subject(
                connection,
                request_id=request_id,
                hooks=hooks or {},
                exports=self.exports,
                as_of=as_of,
                execute=execute,
                **(stores | changes),
            )

    def ledger(self, connection: Connection) -> Ledger:
        """The ledger over a connection of its own."""
        return Ledger(psycopg_connection(connection), OutsideCopy(str(self.ledger_folder)))

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """The ledger's entries of these kinds."""
        found = [
            json.loads(row[0])
            for row in self.rows("select entry from pipeline.privacy_ledger order by seq")
        ]
        return [entry for entry in found if not kinds or entry["kind"] in kinds]


def dump(database: TestDatabase, *, but: tuple[str, ...] = ()) -> str:
    """All rows of all tables as text, binary ones decoded, but those of some tables."""
    with database.connect("owner") as connection:
        tables = connection.scalars(
            text(
                "select format('%I.%I', schemaname, tablename) from pg_tables "
                "where schemaname in ('public', 'pipeline') order by 1"
            )
        ).all()
        parts = [
            str(connection.scalar(text(_DUMP.format(table))) or "")
            for table in tables
            if table not in but
        ]
        payloads = connection.scalars(text("select payload from pipeline.quarantine")).all()
    return "\n".join([*parts, *(bytes(payload).decode() for payload in payloads)])


def files_under(folder: Path) -> str:
    """All files below a folder as one text."""
    return "\n".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def seed(subjects: Subjects, phone: str = ANA, name: str = "ana", *, marker: str = "") -> UUID:
    """A client who left something distinctive in every place that belongs to a client.

    Args:
        subjects: Where.
        phone: Their number.
        name: Stands in every text of theirs.
        marker: Appended to texts, for what must be told apart.
    """
    w = f"{name}{marker}"
    bsuid = f"BR.{name}1"
    subjects.send(
        texts(
            text_message(f"wamid.{name}1", NOW - 600, sender=phone, body=f"{w}-mensagem"),
            text_message(f"wamid.{name}2", NOW - 500, sender=phone, body=f"{w}-antes"),
            edit(f"wamid.{name}e", NOW - 450, f"wamid.{name}2", f"{w}-editada", sender=phone),
            reaction(f"wamid.{name}r", NOW - 400, f"wamid.{name}1", "🦊", sender=phone),
            {
                "id": f"wamid.{name}b",
                "timestamp": str(NOW - 300),
                "type": "button",
                "from": phone,
                "button": {"payload": f"{w}-botao", "text": f"{w}-titulo"},
            },
            text_message(f"wamid.{name}s", NOW - 200, sender=phone, body="SAIR"),
            contacts=[contact(phone, f"{w}-perfil", bsuid)],
        ),
        # Of the future: in quarantine.
        texts(
            text_message(f"wamid.{name}q", NOW + 9000, sender=phone, body=f"{w}-quarentena"),
            contacts=[contact(phone, f"{w}-perfil", bsuid)],
        ),
        chatbot_message(
            NOW - 250,
            content=f"{w}-resposta",
            external_id=f"x-{name}",
            phone=f"+{phone}",
            model="modelo-x",
        ),
        chatbot_conversation(
            f"c-{name}", NOW - 240, "transferred", phone=f"+{phone}", transferred_to="Funcionária"
        ),
    )
    subjects.send(
        texts(text_message(f"wamid.{name}3", NOW - 150, sender=phone, body=f"{w}-terceira")),
    )
    user = subjects.user(phone)
    conversation = subjects.one("select id from conversations where user_id = :u", u=user)[0]
    subjects.execute(
        "update users set email = :email, company = :company, login_token = :token where id = :u",
        email=f"{name}@cliente.example",
        company=f"{w}-empresa",
        token=TOKEN if name == "ana" else f"{w}-token",
        u=user,
    )
    subjects.execute(
        "insert into session_context (id, conversation_id, messages_json, summary, "
        "ttl_expires_at, updated_at) values (gen_random_uuid(), :c, "
        "jsonb_build_array(cast(:m as text)), :s, :at, :at) on conflict (conversation_id) do "
        "update set messages_json = excluded.messages_json, summary = excluded.summary",
        c=conversation,
        m=f"{w}-lembrada",
        s=f"{w}-resumo",
        at=AS_OF,
    )
    ticket = subjects.add(
        "tickets",
        user_id=user,
        conversation_id=conversation,
        title=f"{w}-chamado",
        description=f"{w}-descricao",
        assigned_to="Funcionária",
    )
    subjects.execute(
        "insert into pipeline.ticket_digests values (:t, :d, :at)",
        t=ticket,
        d=f"{w}-selo",
        at=AS_OF,
    )
    lead = subjects.add(
        "leads",
        user_id=user,
        name=f"{w}-lead",
        company=f"{w}-lead-empresa",
        phone=f"+{phone}",
        email=f"{name}.lead@cliente.example",
        notes=f"{w}-lead-notas",
        crm_id=f"{w}-crm",
    )
    seed_sync(subjects, lead, uuid4(), w, phone)
    subjects.add("leads", name=f"{w}-avulso", phone=f"({phone[2:4]}) {phone[4:9]}-{phone[9:]}")
    subjects.add(
        "appointments",
        user_id=user,
        notes=f"{w}-agenda",
        calendar_event_id=f"{w}-evento",
        assigned_to="Funcionária",
    )
    service = subjects.add("services", user_id=user, notes=f"{w}-contrato")
    subjects.add("certificates", user_id=user, service_id=service)
    subjects.execute(
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) "
        "values ('users', :u, gen_random_uuid(), jsonb_build_object('user', "
        "jsonb_build_object('name', cast(:n as text), 'login_token', cast(:t as text)), 'kept', "
        "jsonb_build_object('login_token', cast(:t as text)), 'identities', null), :at)",
        u=user,
        n=f"{w}-desfazer",
        t=TOKEN if name == "ana" else f"{w}-token",
        at=AS_OF,
    )
    subjects.execute(
        "insert into pipeline.external_tasks (task_id, user_id, system, reference, state, "
        "created_at) values (gen_random_uuid(), :u, 'outro', :r, 'open', :at)",
        u=user,
        r=f"{w}-referencia",
        at=AS_OF,
    )
    return user


def seed_sync(subjects: Subjects, lead: UUID, merged: UUID, w: str, phone: str) -> None:
    """What the sync with the CRM remembers of a lead, and of one that became part of it."""
    base = int(phone)
    subjects.execute(
        "insert into pipeline.crm_links (lead_id, state, remote_lead_id, deal_id, person_id, "
        "organization_id, note_id, phone_key, agreed_name, agreed_phone, agreed_email, "
        "agreed_company, agreed_stage, agreed_at, made_at, changed_at) values (:lead, 'linked', "
        "md5(:w)::uuid, :base + 91, :base + 92, :base + 93, :base + 94, :phone, :w || '-igual', "
        "'+' || :phone, :w || '.igual@cliente.example', :w || '-igual-empresa', 'contacted', :at, "
        ":at, :at)",
        lead=lead,
        w=w,
        base=base,
        phone=phone,
        at=AS_OF,
    )
    subjects.execute(
        "insert into pipeline.crm_links (lead_id, state, merged_into, agreed_name, made_at, "
        "changed_at) values (:merged, 'merged', :lead, :w || '-reunido', :at, :at)",
        merged=merged,
        lead=lead,
        w=w,
        at=AS_OF,
    )
    for local_id, field, ours in ((lead, "name", "nosso"), (merged, "phone", "antes")):
        subjects.execute(
            "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
            "field, winner, our_value, their_value, run_id, found_at) values (gen_random_uuid(), "
            "'pipedrive', 'leads', :id, 'both_changed', :field, 'ours', :ours, :theirs, "
            "gen_random_uuid(), :at)",
            id=local_id,
            field=field,
            ours=f"{w}-{ours}",
            theirs=f"{w}-deles-{ours}",
            at=AS_OF,
        )
        subjects.execute(
            "insert into pipeline.sync_outbox (system, local_id, action, begun_at) values "
            "('pipedrive', :id, 'update_lead', :at)",
            id=local_id,
            at=AS_OF,
        )
    subjects.execute(
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) values "
        "('leads', :lead, :merged, jsonb_build_object('lead', jsonb_build_object('id', "
        "cast(:merged as text), 'name', cast(:name as text))), :at)",
        lead=lead,
        merged=merged,
        name=f"{w}-desfazer-lead",
        at=AS_OF,
    )


@pytest.fixture(scope="session")
def seeded_with_ana(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDatabase]:
    """Where Ana left everything: loading it takes a second, copying it a fraction. Only copy it."""
    with new_database(postgres_server, tmp_path_factory.mktemp("with_ana")) as made:
        seed(Subjects(made))
        yield made


@pytest.fixture(scope="session")
def seeded_with_both(
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
    seeded_with_ana: TestDatabase,
) -> Iterator[TestDatabase]:
    """Where Ana and a neighbour left everything. Only copy it."""
    homes = tmp_path_factory.mktemp("with_both")
    with new_database(postgres_server, homes, seeded_with_ana.name) as made:
        shutil.copytree(seeded_with_ana.home, made.home)
        seed(Subjects(made), BRUNO, "bruno")
        yield made


@pytest.fixture
def with_ana(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
    seeded_with_ana: TestDatabase,
) -> Iterator[Subjects]:
    """A test's own Ana, who left something in every place."""
    with _copied(make_database, seeded_with_ana) as made:
        yield made


@pytest.fixture
def with_both(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
    seeded_with_both: TestDatabase,
) -> Iterator[Subjects]:
    """A test's own Ana and Bruno, who each left something in every place."""
    with _copied(make_database, seeded_with_both) as made:
        yield made


@contextmanager
def _copied(
    make_database: Callable[..., AbstractContextManager[TestDatabase]], seeded: TestDatabase
) -> Iterator[Subjects]:
    with make_database(template=seeded.name) as made:
        shutil.copytree(seeded.home, made.home)
        yield Subjects(made)
