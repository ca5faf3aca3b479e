"""An export holds everything of a person, nothing of anybody else, and never a token."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tracemalloc
from collections.abc import Iterator, Mapping
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.errors import PermanentError
from gatte_pipelines.personal_data import personal_columns
from gatte_pipelines.privacy.export import Export, export_subject
from gatte_pipelines.privacy.export_page import SECTIONS, describe_periods
from gatte_pipelines.privacy.policy_file import read_policy
from gatte_pipelines.privacy.subject_requests import RequestKind, read_requests
from tests.inbound import AS_OF, NOW
from tests.postgres import TestDatabase
from tests.subjects import PERIODS, TOKEN, Subjects
from tests.webhooks import (
    ANA,
    BRUNO,
    chatbot_message,
    contact,
    number_change,
    text_message,
    texts,
)

CARLA = "5511900000003"

# Personal columns that are no subject's: whose they are, or why they cannot be told apart.
NOT_A_SUBJECTS = {
    "public.users.login_token": "lets its holder in",
    "public.conversations.transferred_to": "a member of staff",
    "public.tickets.assigned_to": "a member of staff",
    "public.appointments.assigned_to": "a member of staff",
    "pipeline.conversation_events.transferred_to": "a member of staff",
    "pipeline.staff.name": "a member of staff",
    "pipeline.runs.report": "of a run, masked",
    "pipeline.runs.error": "of a run, masked",
    "pipeline.inbound_batches.source_name": "of a file, in which many people stand",
    "pipeline.quarantine.source_name": "of a file, in which many people stand",
    "pipeline.retention_holds.reason": "the officer's own note",
    "pipeline.retention_holds.owner": "the officer",
}
# What `seed` leaves of Ana in each of the others.
SEEDED = {
    "public.users.phone": f"+{ANA}",
    "public.users.name": "ana-perfil",
    "public.users.email": "ana@cliente.example",
    "public.users.company": "ana-empresa",
    "public.messages.content": "ana-mensagem",
    "public.session_context.messages_json": "ana-lembrada",
    "public.session_context.summary": "ana-resumo",
    "public.tickets.title": "ana-chamado",
    "public.tickets.description": "ana-descricao",
    "public.leads.name": "ana-lead",
    "public.leads.company": "ana-lead-empresa",
    "public.leads.phone": "(11) 90000-0001",
    "public.leads.email": "ana.lead@cliente.example",
    "public.leads.notes": "ana-lead-notas",
    "public.leads.crm_id": "ana-crm",
    "public.appointments.notes": "ana-agenda",
    "public.appointments.calendar_event_id": "ana-evento",
    "public.services.notes": "ana-contrato",
    "pipeline.quarantine.payload": "ana-quarentena",
    "pipeline.user_identities.value": "BR.ana1",
    "pipeline.senders.phone_key": ANA,
    "pipeline.senders.bsuid": "BR.ana1",
    "pipeline.senders.wa_id": ANA,
    "pipeline.senders.name": "ana-perfil",
    "pipeline.senders.parent_bsuid": "BR.ENT.ana",
    "pipeline.message_changes.content": "ana-editada",
    "pipeline.message_reactions.emoji": "🦊",
    "pipeline.button_replies.payload": "ana-botao",
    "pipeline.identity_changes.old_phone_key": ANA,
    "pipeline.identity_changes.old_bsuid": "BR.ana1",
    "pipeline.identity_changes.old_parent_bsuid": "BR.ENT.ana",
    "pipeline.identity_changes.new_phone_key": "5511900000007",
    "pipeline.identity_changes.new_wa_id": "5511900000007",
    "pipeline.identity_changes.new_bsuid": "BR.ana2",
    "pipeline.identity_changes.new_parent_bsuid": "BR.ENT.ana2",
    "pipeline.crm_links.remote_lead_id": str(UUID(hashlib.md5(b"ana").hexdigest())),  # noqa: S324
    "pipeline.crm_links.deal_id": str(int(ANA) + 91),
    "pipeline.crm_links.person_id": str(int(ANA) + 92),
    "pipeline.crm_links.organization_id": str(int(ANA) + 93),
    "pipeline.crm_links.note_id": str(int(ANA) + 94),
    "pipeline.crm_links.phone_key": ANA,
    "pipeline.crm_links.agreed_name": "ana-igual",
    "pipeline.crm_links.agreed_phone": f"+{ANA}",
    "pipeline.crm_links.agreed_email": "ana.igual@cliente.example",
    "pipeline.crm_links.agreed_company": "ana-igual-empresa",
    "pipeline.sync_conflicts.our_value": "ana-nosso",
    "pipeline.sync_conflicts.their_value": "ana-deles-nosso",
    "pipeline.undo_records.record": "ana-desfazer",
    "pipeline.external_tasks.reference": "ana-referencia",
    "pipeline.ticket_digests.digest": "ana-selo",
}


@pytest.fixture
def subjects(with_ana: Subjects) -> Subjects:
    return with_ana


@pytest.fixture
def nobody(database: TestDatabase) -> Subjects:
    return Subjects(database)


def complete(subjects: Subjects) -> Any:
    """Ana with parent ids and a number change of hers as well."""
    user = subjects.user()
    subjects.execute("update pipeline.senders set parent_bsuid = 'BR.ENT.ana' where bsuid <> ''")
    subjects.execute(
        "insert into pipeline.identity_changes values (gen_random_uuid(), :at, false, :old, "
        "'BR.ana1', 'BR.ENT.ana', '5511900000007', '5511900000007', 'BR.ana2', 'BR.ENT.ana2', "
        "true)",
        at=AS_OF,
        old=ANA,
    )
    return user


def both(export: Export) -> tuple[dict[str, Any], str]:
    data = json.loads(export.json_path.read_text("utf-8"))
    return data, export.page_path.read_text("utf-8")


def test_every_personal_column_of_the_catalogue_is_in_the_export_or_nobodys(
    subjects: Subjects,
) -> None:
    personal = {f"{table}.{column}" for table, column in personal_columns()}
    assert personal == NOT_A_SUBJECTS.keys() | SEEDED.keys()

    export = subjects.export(complete(subjects))

    text = export.json_path.read_text("utf-8")
    data, page = both(export)
    assert {column for column, value in SEEDED.items() if value not in text} == set()
    assert {column for column, value in SEEDED.items() if value not in page} == set()
    assert data["sections"].keys() == {section.name for section in SECTIONS}
    assert export.counts["files"] > 5
    assert {name: len(rows) for name, rows in data["sections"].items()} == export.counts


def test_tokens_and_names_of_staff_are_in_no_export(subjects: Subjects) -> None:
    export = subjects.export(subjects.user())
    for text in (export.json_path.read_text("utf-8"), export.page_path.read_text("utf-8")):
        assert TOKEN not in text
        assert "login_token" not in text
        assert "Funcionária" not in text


def test_nothing_of_anybody_else_is_in_an_export(with_both: Subjects) -> None:
    ana = with_both.user()
    # Bruno names Ana, in a message and in the same notification as one of hers.
    with_both.send(
        texts(
            text_message("wamid.x", NOW - 90, sender=BRUNO, body=f"bruno-cita +{ANA}"),
            text_message("wamid.y", NOW - 80, body="ana-ao-lado"),
            contacts=[contact(BRUNO, "bruno-perfil"), contact(ANA, "ana-perfil")],
        )
    )
    export = with_both.export(ana)
    for text in (export.json_path.read_text("utf-8"), export.page_path.read_text("utf-8")):
        assert "ana-ao-lado" in text
        assert "bruno" not in text
        assert BRUNO not in text


def test_a_number_that_changed_hands_gives_each_owner_their_own(nobody: Subjects) -> None:
    nobody.send(
        texts(
            text_message("wamid.a1", NOW - 5000, body="ana-antes"), contacts=[contact(ANA, "Ana")]
        ),
        texts(number_change("wamid.sys", NOW - 4000, ANA, CARLA)),
        texts(
            text_message("wamid.b1", NOW - 3000, body="novo-dono-depois"),
            contacts=[contact(ANA, "Novo Dono")],
        ),
        texts(
            text_message("wamid.a2", NOW - 2000, sender=CARLA, body="ana-depois"),
            contacts=[contact(CARLA, "Ana")],
        ),
        chatbot_message(NOW - 2500, content="resposta-a-novo-dono", external_id="r", phone=ANA),
        # Of the future, so in quarantine, and whose nobody can say.
        texts(text_message("wamid.q", NOW + 9000, body="de-quem")),
    )
    ana, owner = nobody.user(CARLA), nobody.user(ANA)
    of_ana, of_owner = nobody.export(ana), nobody.export(owner)
    for text in (of_ana.json_path.read_text("utf-8"), of_ana.page_path.read_text("utf-8")):
        assert "ana-antes" in text
        assert "ana-depois" in text
        assert "Novo Dono" not in text
        assert "novo-dono" not in text
        assert "de-quem" not in text
    for text in (of_owner.json_path.read_text("utf-8"), of_owner.page_path.read_text("utf-8")):
        assert "novo-dono-depois" in text
        assert "resposta-a-novo-dono" in text
        assert "ana" not in text.replace("semana", "").replace("ana_", "")
        assert CARLA not in text
    assert (of_ana.counts["identity_changes"], of_owner.counts["identity_changes"]) == (1, 0)
    # Their own messages lie in the files under their ids, though the number says nothing.
    assert of_ana.counts["files"] >= 2
    data, _ = both(of_owner)
    assert data["subject"]["shared_identifiers"] == 1


def test_undo_records_that_speak_of_somebody_else_stay_out(with_both: Subjects) -> None:
    ana, bruno = with_both.user(), with_both.user(BRUNO)
    conversations = dict(with_both.rows("select user_id, id from conversations"))  # type: ignore[arg-type]
    put = (
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) values "
        "(:kind, :kept, :removed, cast(:record as jsonb), :at)"
    )

    def record(kind: str, kept: Any, content: Mapping[str, Any]) -> None:
        with_both.execute(
            put, kind=kind, kept=kept, removed=uuid4(), record=json.dumps(content), at=AS_OF
        )

    # Joined by mistake and parted since: what was taken in is Bruno's again.
    record(
        "users",
        ana,
        {
            "user": {"phone": f"+{BRUNO}", "name": "bruno-junto"},
            "identities": [{"kind": "bsuid", "value": "BR.bruno1"}],
        },
    )
    record(
        "conversations",
        conversations[ana],
        {"conversation": {"user_id": str(bruno), "current_flow": "bruno-fluxo"}},
    )
    record(
        "conversations",
        conversations[ana],
        {"conversation": {"user_id": str(ana), "current_flow": "ana-fluxo", "transferred_to": "F"}},
    )
    lead = with_both.add("leads", user_id=ana)
    for owner, note in ((ana, "ana-reunida"), (None, "sem-cadastro"), (bruno, "bruno-reunido")):
        user_id = None if owner is None else str(owner)
        record("leads", lead, {"lead": {"user_id": user_id, "notes": note}})
    export = with_both.export(ana)
    text = export.json_path.read_text("utf-8")
    assert "ana-fluxo" in text
    assert "ana-reunida" in text
    assert "sem-cadastro" in text
    assert "transferred_to" not in text
    assert "bruno" not in text
    assert export.counts["undo_records"] == 5


def test_what_the_crm_has_is_exported_also_of_a_lead_that_became_part_of_another(
    with_both: Subjects,
) -> None:
    export = with_both.export(with_both.user())
    data, page = both(export)
    assert {(row["state"], row["agreed_name"]) for row in data["sections"]["crm_links"]} == {
        ("linked", "ana-igual"),
        ("merged", "ana-reunido"),
    }
    assert {row["our_value"] for row in data["sections"]["sync_conflicts"]} == {
        "ana-nosso",
        "ana-antes",
    }
    for words in ("No sistema comercial", "ana-reunido", "mudou nos dois lados", "contatado"):
        assert words in page
    assert "Pipedrive" in {one["name"] for one in data["recipients"]}


def test_an_undo_record_of_leads_that_speaks_of_another_user_stays_out(
    with_both: Subjects,
) -> None:
    ana, bruno = with_both.user(), with_both.user(BRUNO)
    with_both.execute(
        "update pipeline.undo_records set record = jsonb_build_object('lead', jsonb_build_object("
        "'user_id', cast(:bruno as text), 'name', 'bruno-junto')) where kind = 'leads' and "
        "kept_id in (select id from leads where user_id = :ana)",
        ana=ana,
        bruno=bruno,
    )
    export = with_both.export(ana)
    assert "bruno" not in export.json_path.read_text("utf-8")
    assert export.counts["undo_records"] == 1


def test_a_merged_user_is_exported_as_the_one_that_stayed(nobody: Subjects) -> None:
    nobody.send(
        texts(text_message("wamid.a", NOW - 60, body="pelo-numero")),
        texts(
            text_message("wamid.b", NOW - 50, sender=None, from_user_id="BR.1", body="sem-numero")
        ),
    )
    nobody.send(texts(text_message("wamid.c", NOW - 40, from_user_id="BR.1", body="os-dois")))
    ((gone, stayed),) = nobody.rows("select from_user_id, into_user_id from pipeline.user_merges")
    data, _ = both(nobody.export(gone))
    assert data["subject"]["id"] == str(stayed)
    assert [row["user_id"] for row in data["sections"]["merged_users"]] == [str(gone)]
    assert {"pelo-numero", "sem-numero", "os-dois"} <= {
        row["content"] for row in data["sections"]["messages"]
    }
    # The joined conversation was the gone user's: it is the same person's.
    assert {row["kind"] for row in data["sections"]["undo_records"]} == {"users", "conversations"}


def test_a_lead_that_never_wrote_has_an_export_too(nobody: Subjects) -> None:
    lead = nobody.add("leads", name="ana-lead", phone=f"+{ANA}")
    data, page = both(nobody.export(lead))
    assert [row["name"] for row in data["sections"]["leads"]] == ["ana-lead"]
    assert data["sections"]["users"] == []
    assert "ana-lead" in page


def test_files_are_for_their_owner_only_and_whole(subjects: Subjects) -> None:
    user = subjects.user()
    subjects.exports.mkdir(parents=True, mode=0o755)
    export = subjects.export(user)
    left = export.page_path.parent
    (left / ".dados.json.part").write_bytes(b"of a run that was killed")
    assert mode(left) == 0o700
    assert mode(subjects.exports) == 0o700
    assert left.name == str(export.request_id)

    with subjects.database.connect() as connection:
        again = export_subject(
            connection,
            request_id=export.request_id,
            files=subjects.files,
            folder=subjects.exports,
            periods=(),
            as_of=AS_OF + timedelta(days=1),
        )

    assert sorted(path.name for path in left.iterdir()) == ["dados.html", "dados.json"]
    assert {mode(path) for path in left.iterdir()} == {0o600}
    assert both(again)[0]["made_at"] == "2026-03-03T15:00:00Z"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_export_that_fails_leaves_no_file_and_an_open_request(subjects: Subjects) -> None:
    user = subjects.user()
    request = subjects.open(RequestKind.EXPORT, user)

    class Broken:
        def find_quarantine(self, *_: object) -> Iterator[Any]:
            raise OSError("the disk is gone")

    with subjects.database.connect() as connection, pytest.raises(OSError, match="gone"):
        export_subject(
            connection,
            request_id=request.request_id,
            files=Broken(),  # type: ignore[arg-type]
            folder=subjects.exports,
            periods=(),
            as_of=AS_OF,
        )
    assert list((subjects.exports / str(request.request_id)).iterdir()) == []
    with subjects.database.connect() as connection:
        assert [one.state for one in read_requests(connection)] == ["open"]


def test_an_export_closes_its_request_and_only_serves_its_kind(subjects: Subjects) -> None:
    user = subjects.user()
    subjects.export(user)
    with subjects.database.connect() as connection:
        assert [one.state for one in read_requests(connection)] == ["done"]
    request = subjects.open(RequestKind.ERASE, user)
    with subjects.database.connect() as connection, pytest.raises(PermanentError, match="export"):
        export_subject(
            connection,
            request_id=request.request_id,
            files=subjects.files,
            folder=subjects.exports,
            periods=(),
            as_of=AS_OF,
        )


class _Reader(HTMLParser):
    """Notes what a browser would load or run, and the text that people see."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "action", "data", "poster"} or name.startswith("on"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_shows_hostile_texts_as_texts_and_loads_nothing(nobody: Subjects) -> None:
    hostile = "<script>alert(1)</script><img src=http://x.example/a onerror=alert(2)>"
    nobody.send(
        texts(
            text_message("wamid.h", NOW - 60, body=hostile),
            text_message("wamid.q", NOW + 9000, body=hostile),
            contacts=[contact(ANA, hostile)],
        )
    )
    user = nobody.user()
    nobody.add("leads", user_id=user, notes=f'"><b>{hostile}', name=hostile, crm_id=hostile)
    _, page = both(nobody.export(user))
    reader = _Reader()
    reader.feed(page)
    assert not {"script", "img", "iframe", "link", "object", "form", "b"} & set(reader.tags)
    assert all(target.startswith("#") for target in reader.loads)
    assert "default-src 'none'" in page
    assert hostile in "".join(reader.text)
    # Every entry of the contents leads somewhere.
    assert {f"#{name}" for name in re.findall(r' id="([^"]+)"', page)} >= set(reader.loads)


def test_the_page_says_times_of_sao_paulo_periods_recipients_and_rights(subjects: Subjects) -> None:
    _, page = both(subjects.export(subjects.user()))
    assert "02/03/2026 às 12:00" in page  # 15:00 UTC
    for text in ("Meta (WhatsApp)", "Pipedrive", "Google Agenda", "modelo-x", "ANPD", "90 dias"):
        assert text in page
    subjects.say(text_message("wamid.b", NOW - 50, sender=BRUNO))
    _, page = both(subjects.export(subjects.user(BRUNO)))
    assert "Pipedrive" not in page
    assert "Nada consta." in page
    # What the assistant remembers is told as lines, not as the JSON it is.
    assert "<li>02/03/2026 às 11:59, Você: olá</li>" in page


def test_periods_are_said_in_portuguese() -> None:
    told = {one.what: one.how_long for one in describe_periods(PERIODS | {"tickets_kept": ""})}
    assert told["Texto das mensagens"] == "90 dias"
    assert told["Chamados, no mínimo"] == "enquanto houver obrigação de guardar"
    assert told["Memória curta da conversa, depois de vencida"] == "apagado em seguida"
    assert describe_periods({"leads_inactive": "1 years", "unknown_rule": "3 days"})[
        0
    ].how_long == ("1 ano")


def test_the_policy_has_every_period_that_the_page_tells(repository: Path) -> None:
    periods = read_policy(repository / "config" / "retention.yaml").periods()
    assert describe_periods(periods) == describe_periods(PERIODS)
    assert len(describe_periods(periods)) == len(PERIODS)


def test_a_long_history_passes_through_without_being_held(nobody: Subjects) -> None:
    nobody.say(text_message("wamid.a", NOW - 60))
    user = nobody.user()
    text = "x" * 2000
    nobody.execute(
        "insert into messages (id, conversation_id, role, content, is_in_context, created_at) "
        "select gen_random_uuid(), c.id, 'user', :t || n, false, c.started_at "
        "from conversations as c, generate_series(1, 5000) as n",
        t=text,
    )
    tracemalloc.start()
    try:
        export = nobody.export(user)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert export.counts["messages"] == 5_001
    assert export.json_path.stat().st_size > 5_000 * len(text)
    # Ids of messages are held, to know them in the files; their texts are not.
    assert peak < 5_000 * len(text) / 3
