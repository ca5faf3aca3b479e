"""Nothing personal outlives its time anywhere: in a dump of the database, in any file of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from gatte_pipelines.run_report import Outcome, RunReport
from tests.database.rows import insert
from tests.inbound import Inbound
from tests.postgres import SUPERUSER, TestDatabase
from tests.webhooks import (
    chatbot_conversation,
    chatbot_message,
    contact,
    echo,
    echo_change,
    edit,
    jsonl,
    line,
    number_change,
    reaction,
    text_message,
    texts,
)

NOW = datetime.now(UTC).replace(microsecond=0)
SECONDS = int(NOW.timestamp())
SIX_YEARS = timedelta(days=6 * 365 + 2)
ANA, BIA, CAIO = "5511900000071", "5511900000072", "5511900000073"

# Distinctive, so that none stands anywhere by chance. Keys say where each was planted.
WORDS = {
    name: f"zq{number:02}{name.replace('_', '')}"
    for number, name in enumerate(
        (
            "text", "edited", "waiting_edit", "echo", "profile_name", "other_name", "bsuid",
            "button_text", "button_payload", "caption", "shared_contact", "chatbot_text",
            "transferred", "transferred_event", "user_name", "user_email", "user_company",
            "user_token", "lead_name", "lead_company", "lead_email", "lead_notes", "lead_crm",
            "loose_lead_name", "loose_lead_notes", "appointment_notes", "appointment_event",
            "appointment_staff", "service_notes", "summary", "context", "quarantined",
            "file_name", "waiting_file", "hold_reason", "hold_owner",
            "export", "log", "mail", "run_note", "undo_name", "link_name", "link_company",
            "ours", "theirs",
        )
    )
}  # fmt: skip
EMOJI = "🪼"
# Needed to erase somebody elsewhere; emptied when the other system confirmed.
IN_OPEN_TASK = "zqtaskreference"
IN_TICKETS = ("zqticketassunto", "zqticketdescricao", "zqtickettecnico")
HELD = "zqheldtext"


class Everything(Inbound):
    """A database and a home with something personal in every place."""

    def fill(self) -> None:
        w = WORDS
        self.put(
            f"{w['file_name']}.jsonl",
            jsonl(
                texts(
                    text_message("wamid.1", SECONDS - 900, sender=ANA, body=w["text"]),
                    text_message("wamid.2", SECONDS - 890, sender=ANA, body="a editar"),
                    edit("wamid.3", SECONDS - 880, "wamid.2", w["edited"], sender=ANA),
                    edit("wamid.4", SECONDS - 870, "wamid.none", w["waiting_edit"], sender=ANA),
                    reaction("wamid.5", SECONDS - 860, "wamid.1", EMOJI, sender=ANA),
                    {
                        "id": "wamid.6",
                        "timestamp": str(SECONDS - 850),
                        "type": "button",
                        "from": ANA,
                        "button": {"payload": w["button_payload"], "text": w["button_text"]},
                    },
                    {
                        "id": "wamid.7",
                        "timestamp": str(SECONDS - 840),
                        "type": "image",
                        "from": ANA,
                        "image": {"id": "1", "mime_type": "image/jpeg", "caption": w["caption"]},
                    },
                    {
                        "id": "wamid.8",
                        "timestamp": str(SECONDS - 830),
                        "type": "contacts",
                        "from": ANA,
                        "contacts": [{"name": {"formatted_name": w["shared_contact"]}}],
                    },
                    contacts=[contact(ANA, w["profile_name"], f"BR.{w['bsuid']}")],
                ),
                texts(number_change("wamid.9", SECONDS - 700, ANA, BIA)),
                texts(
                    text_message("wamid.10", SECONDS - 600, sender=CAIO, body="oi"),
                    contacts=[contact(CAIO, w["other_name"])],
                ),
                line(echo_change(echo("wamid.11", SECONDS - 500, to=CAIO, body=w["echo"]))),
                chatbot_message(
                    SECONDS - 400, content=w["chatbot_text"], external_id="x1", phone=f"+{CAIO}"
                ),
                chatbot_conversation(
                    "e1",
                    SECONDS - 300,
                    "transferred",
                    transferred_to=w["transferred_event"],
                    phone=f"+{CAIO}",
                ),
                texts({"id": "wamid.12", "type": "text", "text": {"body": w["quarantined"]}}),
            ),
        )
        self.load_files()
        self.put(f"{w['waiting_file']}.jsonl.part", b"unfinished")
        for folder, word in (("exports", "export"), ("logs", "log"), ("mail", "mail")):
            place = self.database.home / folder / "deep"
            place.mkdir(parents=True)
            (place / f"{w[word]}.txt").write_text(w[word])
        with self.database.connect("owner") as connection, connection.begin():
            self._fill_rows(connection)

    def load_files(self) -> None:
        """Load the landing zone."""
        self.load(NOW)

    def _fill_rows(self, connection: Any) -> None:
        w = WORDS
        user = connection.scalar(text("select id from users where phone = :p"), {"p": f"+{BIA}"})
        talk = connection.scalar(
            text("select id from conversations where user_id = :u limit 1"), {"u": user}
        )
        connection.execute(
            text(
                "update users set name = :n, email = :e, company = :c, login_token = :t "
                "where id = :u"
            ),
            {
                "n": w["user_name"],
                "e": f"{w['user_email']}@example.com",
                "c": w["user_company"],
                "t": w["user_token"],
                "u": user,
            },
        )
        connection.execute(
            text("update conversations set transferred_to = :w where id = :c"),
            {"w": w["transferred"], "c": talk},
        )
        connection.execute(
            text(
                "update session_context set summary = :s, "
                "messages_json = jsonb_build_array(:c ::text)"
            ),
            {"s": w["summary"], "c": w["context"]},
        )
        lead = insert(
            connection,
            "leads",
            user_id=user,
            name=w["lead_name"],
            company=w["lead_company"],
            email=w["lead_email"],
            notes=w["lead_notes"],
            crm_id=w["lead_crm"],
            created_at=NOW,
        )
        insert(
            connection,
            "leads",
            name=w["loose_lead_name"],
            notes=w["loose_lead_notes"],
            created_at=NOW,
        )
        connection.execute(
            text(
                "insert into pipeline.crm_links (lead_id, state, agreed_name, agreed_company, "
                "made_at, changed_at) values (:lead, 'pending', :name, :company, :at, :at)"
            ),
            {"lead": lead, "name": w["link_name"], "company": w["link_company"], "at": NOW},
        )
        connection.execute(
            text(
                "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, "
                "kind, field, winner, our_value, their_value, run_id, found_at) values "
                "(gen_random_uuid(), 'pipedrive', 'leads', :lead, 'both_changed', 'name', 'ours', "
                ":ours, :theirs, gen_random_uuid(), :at)"
            ),
            {"lead": lead, "ours": w["ours"], "theirs": w["theirs"], "at": NOW},
        )
        insert(
            connection,
            "appointments",
            user_id=user,
            notes=w["appointment_notes"],
            calendar_event_id=w["appointment_event"],
            assigned_to=w["appointment_staff"],
            scheduled_at=NOW,
        )
        insert(
            connection,
            "services",
            user_id=user,
            notes=w["service_notes"],
            status="cancelled",
            contracted_at=NOW,
        )
        insert(
            connection,
            "tickets",
            user_id=user,
            conversation_id=talk,
            title=IN_TICKETS[0],
            description=IN_TICKETS[1],
            assigned_to=IN_TICKETS[2],
            status="closed",
            resolved_at=NOW,
        )
        held_user = insert(connection, "users", created_at=NOW, updated_at=NOW, name=HELD)
        held = {"u": held_user, "at": NOW}
        connection.execute(
            text(
                "insert into pipeline.retention_holds (hold_id, table_name, row_id, reason, "
                "owner, placed_at) values (gen_random_uuid(), 'users', :u, 'processo', "
                "'juridico', :at)"
            ),
            held,
        )
        connection.execute(
            text(
                "insert into pipeline.retention_holds (hold_id, table_name, row_id, reason, "
                "owner, placed_at, released_at) values (gen_random_uuid(), 'leads', "
                "gen_random_uuid(), :r, :o, :at, :at)"
            ),
            {"r": w["hold_reason"], "o": w["hold_owner"], "at": NOW},
        )
        connection.execute(
            text(
                "insert into pipeline.external_tasks (task_id, user_id, system, reference, "
                "state, created_at) values (gen_random_uuid(), :u, 'crm', :r, 'open', :at)"
            ),
            {"u": user, "r": IN_OPEN_TASK, "at": NOW},
        )
        connection.execute(
            text(
                "insert into pipeline.undo_records (kind, kept_id, removed_id, record, made_at, "
                "expires_at) values ('users', :u, gen_random_uuid(), "
                "jsonb_build_object('name', :n ::text), :at, :at + interval '30 days')"
            ),
            {"u": user, "n": w["undo_name"], "at": NOW},
        )
        connection.execute(
            text(
                "insert into pipeline.runs (run_id, pipeline, as_of, started_at, outcome, report, "
                "error) values (gen_random_uuid(), 'inbound_messages', :at, :at, 'failed', "
                "jsonb_build_object('notes', jsonb_build_array(:n ::text)), :n)"
            ),
            {"n": w["run_note"], "at": NOW},
        )

    def retain(self, as_of: datetime, **options: Any) -> RunReport:
        """Carry retention out, approving what asks for it."""
        report = self.run("lgpd_retention", as_of, execute=True, force=True, **options)
        if report.outcome is Outcome.NEEDS_APPROVAL:
            plan = self.one(
                "select plan_id::text from pipeline.plans where executed_at is null "
                "order by made_at desc limit 1"
            )[0]
            report = self.run("lgpd_retention", as_of, approve=plan, force=True)
        return report

    def dump(self) -> str:
        """The whole database as pg_dump writes it."""
        server = self.database.server
        finished = subprocess.run(
            [
                server.program("pg_dump"),
                *("-h", server.socket_folder, "-U", SUPERUSER, "--inserts"),
                self.database.name,
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        return finished.stdout

    def files(self) -> Iterator[tuple[Path, bytes]]:
        """Every file under the home, with its name as part of the content."""
        for path in sorted(self.database.home.rglob("*")):
            if path.is_file():
                yield path, os.fsencode(path.name) + path.read_bytes()


@pytest.fixture
def everything(database: TestDatabase) -> Everything:
    made = Everything(database)
    made.fill()
    return made


def found_in(content: str) -> set[str]:
    return {word for word in (*WORDS.values(), ANA, BIA, CAIO, EMOJI) if word in content}


def test_after_six_years_no_planted_word_is_left_but_in_tickets_and_held_rows(
    everything: Everything,
) -> None:
    planted = found_in(everything.dump())
    in_files = {
        word
        for _, content in everything.files()
        for word in WORDS.values()
        if word.encode() in content
    }
    missing = set(WORDS.values()) - planted - in_files
    assert not missing, f"planted nowhere: {missing}"
    assert len(WORDS) >= 40

    everything.retain(NOW + SIX_YEARS)

    dump = everything.dump()
    assert found_in(dump) == set()
    assert all(word in dump for word in IN_TICKETS)
    assert HELD in dump
    assert IN_OPEN_TASK in dump
    left = {
        (path.name, word)
        for path, content in everything.files()
        for word in (*WORDS.values(), ANA, BIA, CAIO)
        if word.encode() in content
    }
    assert left == set()


def test_a_held_row_goes_with_the_first_run_after_its_release(everything: Everything) -> None:
    everything.retain(NOW + SIX_YEARS)
    everything.execute("update pipeline.retention_holds set released_at = now()")
    everything.retain(NOW + SIX_YEARS + timedelta(days=1))
    assert HELD not in everything.dump()


def test_replayed_files_and_every_other_writer_bring_nobody_back(
    everything: Everything, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(everything.landing / "archive", kept)
    everything.retain(NOW + SIX_YEARS)
    later = NOW + SIX_YEARS + timedelta(hours=1)
    for path in kept.rglob("*.jsonl"):
        shutil.copy(path, everything.landing / "again.jsonl")
    report = everything.load(later)
    assert report.inserted == 0
    assert report.skipped["past_retention"] > 0
    everything.run("quarantine_replay", later)
    everything.run("session_context_expiry", later)
    everything.retain(later)
    assert found_in(everything.dump()) == set()
    assert everything.one("select count(*) from pipeline.guard_refusals") == (0,)


def test_the_chatbot_cannot_bring_an_anonymised_person_back(everything: Everything) -> None:
    everything.retain(NOW + SIX_YEARS)
    user = UUID(
        str(
            everything.one(
                "select row_id from pipeline.anonymized_rows where table_name = 'users' limit 1"
            )[0]
        )
    )
    everything.execute(
        "update users set name = 'de volta', email = 'v@example.com', phone = '+5511900000009' "
        "where id = :u",
        u=user,
    )
    everything.execute("update messages set content = 'de volta'")
    dump = everything.dump()
    assert "de volta" not in dump
    assert "v@example.com" not in dump
    assert everything.one("select count(*) from pipeline.guard_refusals")[0] > 0
