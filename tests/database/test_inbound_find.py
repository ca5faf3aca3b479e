"""Why a message is there or is not: each answer, by what really happened, and nothing personal."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.inbound import find
from gatte_pipelines.inbound.find import Finder, Finding, Verdict
from gatte_pipelines.inbound.find_lines import parse_id
from gatte_pipelines.inbound.find_words import describe
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.landing import LandingZone
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import ID_KEY, TestDatabase
from tests.webhooks import (
    ANA,
    BRUNO,
    change,
    chatbot_conversation,
    chatbot_message,
    contact,
    edit,
    jsonl,
    line,
    number_change,
    reaction,
    revoke,
    status,
    text_message,
    texts,
)

HIDDEN = "valor-que-ninguem-pode-ver"
# As Meta makes them: the phone in base64, with the signs that some encoders of JSON escape.
WAMID = "wamid.HBgNNTUxMTkwMDAwMDAwMRUCABIYFDNB/+0000000001AA=="
OTHER = "wamid.HBgNNTUxMTkwMDAwMDAwMRUCABIYFDNB/+0000000002AA=="
BSUID = "BR.10000000000000000001"


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def look(
    inbound: Inbound, wanted: str, *, as_of: datetime = AS_OF, days: int = 30, key: bytes = ID_KEY
) -> Finding:
    with inbound.database.connect() as connection:
        finder = Finder(
            connection=connection,
            ids=MessageIds(key),
            zone=LandingZone(str(inbound.landing)),
            as_of=as_of,
            days=days,
        )
        found = finder.find(parse_id(wanted.encode()))
    said = json.dumps(dataclasses.asdict(found), default=str) + repr(describe(found))
    for personal in (HIDDEN, WAMID, OTHER, ANA, BRUNO, BSUID):
        assert personal not in said
    return found


def test_webhooks_of_the_crm_are_not_searched(inbound: Inbound) -> None:
    inbound.put("pipedrive-00ff.json", json.dumps({"meta": {"id": WAMID}}).encode())
    found = look(inbound, WAMID)
    assert (found.verdict, found.searched.waiting_files) == (Verdict.NOT_FOUND, 0)


def said(found: Finding) -> dict[str, str]:
    return dict(describe(found).rows)


def message_id(wanted: str) -> str:
    return MessageIds(ID_KEY).of_key(wanted if ":" in wanted else f"wamid:{wanted}")


def test_a_message_of_a_webhook_is_told_with_its_row_and_the_line_it_came_in(
    inbound: Inbound,
) -> None:
    body = texts(text_message(WAMID, NOW, body=HIDDEN), contacts=[contact(ANA, HIDDEN)])
    inbound.put("lote.jsonl", jsonl(b"{", texts(text_message("w0", NOW - 1)), body))
    inbound.load()
    found = look(inbound, WAMID)
    assert found.verdict is Verdict.LOADED
    row = found.known.message
    assert row is not None
    conversation, user = inbound.one(
        "select conversation_id, user_id from messages as m "
        "join conversations as c on c.id = m.conversation_id where m.id = :id",
        id=message_id(WAMID),
    )
    assert (row.id.hex, row.conversation_id, row.user_id) == (
        message_id(WAMID),
        conversation,
        user,
    )
    assert (row.role, row.created_at, row.is_removed, row.author) == (
        "user",
        AS_OF,
        False,
        "client",
    )
    assert (row.is_told_by_webhook, row.told_by_chatbot_at) == (True, None)
    (reception,) = found.receptions
    assert (reception.file, reception.line, reception.state) == ("lote.jsonl", 3, "done")
    assert (reception.decision, reception.loaded_at is not None) == ("load", True)
    words = said(found)
    assert words["conteúdo"] == "presente, no contexto da IA"
    assert words["contada por"] == "webhook"
    assert words["recebida em"].startswith(
        "lote.jsonl, linha 3 (carregado, arquivo morto de 2026-03-02)"
    )


def test_both_witnesses_their_facts_and_the_delivery_are_told(inbound: Inbound) -> None:
    inbound.send(
        chatbot_message(
            NOW,
            wamid=WAMID,
            phone=ANA,
            content=HIDDEN,
            mode="flow",
            current_flow="renewal_flow",
            model="modelo",
        ),
        line(change(statuses=[status(WAMID, "sent", NOW + 1), status(WAMID, "read", NOW + 9)])),
    )
    found = look(inbound, WAMID)
    row = found.known.message
    assert row is not None
    assert (row.is_told_by_webhook, row.told_by_chatbot_at) == (False, AS_OF)
    assert (row.author, row.mode, row.current_flow) == ("bot", "flow", "renewal_flow")
    assert [(item.status, item.is_reached) for item in found.known.statuses] == [
        ("sent", False),
        ("read", True),
    ]
    words = said(found)
    assert words["entrega"].startswith("lida; recebidas: enviada 2026-03-02 15:00:01 UTC, lida")
    assert words["modo"] == "fluxo guiado, fluxo renewal_flow"
    assert words["contada por"] == "chatbot (evento de 2026-03-02 15:00:00 UTC)"


def test_a_message_known_by_the_chatbots_own_id_is_found_by_it(inbound: Inbound) -> None:
    inbound.send(chatbot_message(NOW, external_id="nota-1", phone=ANA, role="system"))
    assert look(inbound, "chatbot:nota-1").verdict is Verdict.LOADED
    assert look(inbound, "chatbot:nota-2").verdict is Verdict.NOT_FOUND
    assert look(inbound, "nota-1").verdict is Verdict.NOT_FOUND, "it is no wamid"


def test_edits_revokes_reactions_buttons_and_opt_outs_of_a_message_are_told(
    inbound: Inbound,
) -> None:
    press = {
        "type": "button",
        "button": {"text": "Sim", "payload": HIDDEN},
        "context": {"id": "w1"},
    }
    inbound.send(
        texts(
            text_message("w1", NOW, body="PARAR"),
            edit("e1", NOW + 1, "w1", HIDDEN),
            edit("e2", NOW + 2, "e1", HIDDEN),
            reaction("x1", NOW + 3, "w1", "👍"),
            text_message("b1", NOW + 5, **press),
        )
    )
    words = said(look(inbound, "w1"))
    assert words["alterações"] == "2 edições, a última em 2026-03-02 15:00:02 UTC; aplicadas"
    assert words["reação do cliente"] == "recebida em 2026-03-02 15:00:03 UTC"
    assert words["descadastro"] == "não quer mais (all), em 2026-03-02 15:00:00 UTC"
    button = look(inbound, "b1").known.button
    assert button is not None
    assert button.context_id is not None
    assert button.context_id.hex == message_id("w1")
    inbound.send(texts(revoke("r1", NOW + 9, "w1"), text_message("w9", NOW + 9)))
    words = said(look(inbound, "w1"))
    assert words["conteúdo"] == "removido por quem escreveu"
    assert words["alterações"].startswith("2 edições e 1 remoção")


def test_the_id_of_an_edit_names_the_message_that_it_changes_in_the_end(
    inbound: Inbound,
) -> None:
    inbound.send(
        texts(
            edit("e2", NOW + 2, "e1", HIDDEN),
            edit("e1", NOW + 1, "w1", HIDDEN),
            text_message("w0", NOW),
        )
    )
    found = look(inbound, "e2")
    assert found.verdict is Verdict.CHANGE
    assert found.known.own_change is not None
    assert (found.known.own_change.target_id.hex, found.known.own_change.is_applied) == (
        message_id("w1"),
        False,
    )
    assert "aguarda a mensagem" in said(found)["edição"]
    inbound.say(text_message("w1", NOW))
    assert "aplicada à mensagem" in said(look(inbound, "e2"))["edição"]


def test_what_waits_for_a_message_is_told_where_the_message_is_asked_for(
    inbound: Inbound,
) -> None:
    inbound.send(texts(edit("e1", NOW, "w1", HIDDEN), text_message("w0", NOW)))
    found = look(inbound, "w1")
    assert found.verdict is Verdict.MENTIONED_ONLY
    assert "aguardam a mensagem" in said(found)["alterações"]


def test_the_ids_of_reactions_and_number_changes_name_their_rows(inbound: Inbound) -> None:
    inbound.send(
        texts(
            text_message("w1", NOW),
            reaction("x1", NOW + 1, "w1", "👍"),
            reaction("x2", NOW + 2, "w1", None),
            number_change("s1", NOW + 3, ANA, "5511900000011"),
        )
    )
    own = look(inbound, "x2").known.own_reaction
    assert own is not None
    assert (own.target_id.hex, own.is_taken_back) == (message_id("w1"), True)
    assert look(inbound, "x1").verdict is Verdict.OUTDONE
    moved = look(inbound, "s1")
    assert moved.verdict is Verdict.IDENTITY_CHANGE
    assert moved.known.own_identity_change is not None
    assert moved.known.own_identity_change.user_ids == [inbound.one("select id from users")[0]]


def test_the_id_of_a_conversation_event_is_told(inbound: Inbound) -> None:
    inbound.send(
        texts(text_message("w1", NOW)),
        chatbot_conversation("estado-1", NOW + 1, "waiting", phone=ANA),
    )
    found = look(inbound, "chatbot:estado-1")
    assert found.verdict is Verdict.CONVERSATION_EVENT
    assert said(found)["evento"].startswith("conversa em espera em 2026-03-02 15:00:01 UTC")


def test_a_record_in_quarantine_is_told_with_reason_field_file_and_line(
    inbound: Inbound,
) -> None:
    escaped = texts(text_message(WAMID, NOW + HOUR, body=HIDDEN)).replace(b"/", b"\\/")
    inbound.put("lote.jsonl", jsonl(texts(text_message("w0", NOW)), escaped))
    inbound.load()
    found = look(inbound, WAMID, days=0)
    assert (found.verdict, found.reason) == (Verdict.QUARANTINED, "future")
    (entry,) = found.known.quarantined
    assert (entry.file, entry.line, entry.field, entry.attempts) == (
        "lote.jsonl",
        2,
        "messages[].timestamp",
        0,
    )
    assert describe(found).headline == ("Foi recebida e está em quarentena: data e hora no futuro.")
    inbound.run("quarantine_replay")
    assert said(look(inbound, WAMID))["em quarentena"].endswith("1 nova tentativa")


def test_a_record_that_only_quotes_the_id_is_no_answer_about_it(inbound: Inbound) -> None:
    quoting = text_message(OTHER, NOW + HOUR, context={"id": WAMID})
    inbound.send(texts(quoting))
    found = look(inbound, WAMID)
    assert (found.verdict, found.known.quarantined) == (Verdict.MENTIONED_ONLY, [])
    assert [item.role.value for item in found.receptions] == ["mention"]


def test_a_line_that_is_no_json_is_found_by_the_id_in_it(inbound: Inbound) -> None:
    inbound.send(texts(text_message(WAMID, NOW))[:-2])
    found = look(inbound, WAMID)
    assert (found.verdict, found.reason) == (Verdict.QUARANTINED, "malformed_json")
    assert [item.role.value for item in found.receptions] == ["unreadable"]


def test_a_skipped_record_is_told_with_its_reason_as_of_the_run_that_read_it(
    inbound: Inbound,
) -> None:
    old = text_message(WAMID, NOW - 91 * 24 * HOUR)
    in_group = text_message(OTHER, NOW, group_id="g1")
    inbound.send(texts(text_message("w0", NOW), old, in_group))
    found = look(inbound, WAMID)
    assert (found.verdict, found.reason) == (Verdict.SKIPPED, "past_retention")
    assert describe(found).headline == (
        "Foi recebida e ignorada: mais antigo que os 90 dias da retenção."
    )
    assert look(inbound, OTHER).reason == "group"
    # Of age today, but not when it was read: the run's instant decides.
    inbound.send(texts(text_message("w5", NOW - 89 * 24 * HOUR)))
    inbound.execute("delete from messages")
    assert look(inbound, "w5", as_of=AS_OF + timedelta(days=3)).verdict is Verdict.GONE


@pytest.mark.parametrize(
    "record",
    [
        texts(text_message(WAMID, NOW)),
        texts(edit(WAMID, NOW, OTHER, "texto novo")),
        texts(reaction(WAMID, NOW, OTHER, "👍")),
        chatbot_message(NOW, wamid=WAMID, user_id="00000000-0000-4000-8000-000000000001"),
    ],
)
def test_a_record_of_somebody_who_was_erased_is_told_to_be_skipped(
    inbound: Inbound, record: bytes
) -> None:
    user = inbound.insert_user("~xaaaaaaaaaaaaaaaaaa")
    inbound.execute(
        "insert into pipeline.anonymized_rows (table_name, row_id, rule) "
        "values ('users', :user, 'test')",
        user=user,
    )
    record = record.replace(b"00000000-0000-4000-8000-000000000001", user.encode())
    if user.encode() not in record:
        inbound.execute(
            "insert into pipeline.erased_messages select unnest(:ids), now()",
            ids=[UUID(message_id(WAMID)), UUID(message_id(OTHER))],
        )
    assert inbound.send(record).skipped == {"erased": 1}
    found = look(inbound, WAMID)
    assert (found.verdict, found.reason) == (Verdict.SKIPPED, "erased")
    assert describe(found).headline == (
        "Foi recebida e ignorada: de titular cujos dados foram eliminados."
    )


def test_a_record_from_before_the_cutover_is_told(inbound: Inbound) -> None:
    inbound.execute(
        "insert into pipeline.settings (name, value) values ('adopted_at', :at)",
        at=AS_OF.isoformat(),
    )
    inbound.send(texts(text_message(WAMID, NOW - 60)))
    assert look(inbound, WAMID).reason == "before_cutover"


def test_a_file_that_waits_is_told_with_what_would_become_of_the_record(
    inbound: Inbound,
) -> None:
    inbound.put("a.jsonl.gz", gzip.compress(jsonl(b"x", texts(text_message(WAMID, NOW)))))
    inbound.put("b.json", texts(text_message(OTHER, NOW + HOUR)))
    found = look(inbound, WAMID)
    assert found.verdict is Verdict.NOT_LOADED_YET
    (reception,) = found.receptions
    assert (reception.file, reception.line, reception.state, reception.decision) == (
        "a.jsonl.gz",
        2,
        "waiting",
        "load",
    )
    found = look(inbound, OTHER)
    assert (found.verdict, found.reason) == (Verdict.NOT_LOADED_YET, "future")
    assert "iria para a quarentena: data e hora no futuro" in said(found)["recebida em"]


def test_an_unknown_user_of_the_chatbot_is_told(inbound: Inbound) -> None:
    user = "00000000-0000-4000-8000-000000000001"
    inbound.send(chatbot_message(NOW, external_id="nota-1", user_id=user))
    found = look(inbound, "chatbot:nota-1")
    assert (found.verdict, found.reason) == (Verdict.QUARANTINED, "unknown_user")
    assert found.receptions[0].reason == "unknown_user"


def test_a_message_of_which_only_statuses_are_known_says_so(inbound: Inbound) -> None:
    inbound.send(line(change(statuses=[status(WAMID, "failed", NOW, errors=[{"code": 131047}])])))
    found = look(inbound, WAMID)
    assert found.verdict is Verdict.STATUSES_ONLY
    assert said(found)["entrega"].startswith("falhou (erro 131047)")
    assert "chatbot" in describe(found).advice[0]


def test_a_record_that_left_the_quarantine_unloaded_is_told_from_its_file(
    inbound: Inbound,
) -> None:
    inbound.send(texts(text_message(WAMID, NOW, body="a\0b"), text_message("w0", NOW)))
    inbound.execute("delete from pipeline.quarantine")
    found = look(inbound, WAMID)
    assert (found.verdict, found.reason) == (Verdict.REJECTED_BEFORE, "nul_character")


def test_users_that_became_one_meanwhile_are_told_by_the_one_that_stayed(
    inbound: Inbound,
) -> None:
    inbound.send(
        texts(text_message("w1", NOW, sender=ANA)),
        texts(text_message("w2", NOW + 1, sender=None, from_user_id=BSUID)),
    )
    before = {row[0] for row in inbound.rows("select id from users")}
    assert len(before) == 2
    inbound.send(texts(text_message("w3", NOW + 2, sender=ANA, from_user_id=BSUID)))
    (stayed,) = inbound.one("select id from users")
    for wanted in ("w1", "w2", "w3"):
        known = look(inbound, wanted).known
        assert known.message is not None
        assert known.message.user_id == stayed
        assert set(known.merged_user_ids) == before - {stayed}


def test_what_was_found_nowhere_says_where_it_was_looked_for(inbound: Inbound) -> None:
    inbound.say(text_message("w1", NOW))
    inbound.put("b.jsonl", jsonl(texts(text_message("w2", NOW))))
    found = look(inbound, WAMID)
    assert (found.verdict, found.receptions) == (Verdict.NOT_FOUND, [])
    assert said(found)["procurada em"] == (
        "tabelas, quarentena, 1 arquivo que espera, 1 arquivado desde 2026-01-31"
    )
    assert describe(found).advice


def test_the_archive_is_searched_as_far_back_as_asked(inbound: Inbound) -> None:
    inbound.send(texts(text_message(WAMID, NOW, group_id="g1")))
    later = AS_OF + timedelta(days=10)
    assert look(inbound, WAMID, as_of=later, days=9).verdict is Verdict.NOT_FOUND
    assert look(inbound, WAMID, as_of=later, days=10).verdict is Verdict.SKIPPED
    assert look(inbound, WAMID, as_of=later, days=0).verdict is Verdict.NOT_FOUND


def test_the_newest_file_answers_and_older_ones_are_not_read(inbound: Inbound) -> None:
    inbound.say(text_message("w1", NOW))
    inbound.put("z.jsonl", jsonl(texts(text_message("w1", NOW)), texts(text_message("w8", NOW))))
    found = look(inbound, "w1")
    assert [(item.file, item.state) for item in found.receptions] == [("z.jsonl", "waiting")]
    assert (found.searched.waiting_files, found.searched.archived_files) == (1, 0)


def test_a_long_line_and_lines_over_the_seams_of_blocks_keep_their_numbers(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(find, "MAX_LINE_BYTES", 4096)
    huge = texts(text_message(OTHER, NOW, body="x" * 9000))
    inbound.put(
        "a.jsonl", jsonl(texts(text_message("w1", NOW)), huge, texts(text_message(WAMID, NOW)))
    )
    assert [item.line for item in look(inbound, WAMID).receptions] == [3]
    (long,) = look(inbound, OTHER).receptions
    assert (long.line, long.decision, long.reason) == (2, "quarantine", "line_too_long")


def test_a_broken_gzip_is_named_and_the_other_files_are_read(inbound: Inbound) -> None:
    whole = gzip.compress(jsonl(*(texts(text_message(f"x{n}", NOW)) for n in range(500))))
    inbound.put("z.jsonl.gz", whole[: len(whole) // 2])
    inbound.put("y.jsonl.gz", b"no gzip at all")
    inbound.put("a.jsonl", jsonl(texts(text_message(WAMID, NOW))))
    found = look(inbound, WAMID)
    assert found.verdict is Verdict.NOT_LOADED_YET
    assert len(found.searched.problems) == 2


def test_a_landing_zone_that_is_not_there_is_named_and_the_tables_answer(
    inbound: Inbound,
) -> None:
    inbound.say(text_message("w1", NOW))
    for file in sorted(inbound.landing.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    inbound.landing.rmdir()
    found = look(inbound, "w1")
    assert found.verdict is Verdict.LOADED
    assert "GATTE_INBOUND_URL" in found.searched.problems[0]


def test_another_key_is_refused_since_nothing_would_be_found(inbound: Inbound) -> None:
    inbound.say(text_message("w1", NOW))
    with pytest.raises(ConfigurationError, match="GATTE_ID_KEY"):
        look(inbound, "w1", key=b"another-key-of-no-production")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'""', "empty"),
        (b"chatbot:", "empty"),
        (b"x" * 5000, "more than 4096 bytes"),
        (b"x" * 600, "longer than any id"),
        (b"chatbot:" + b"x" * 300, "longer than any id"),
        (b"a\0b", "NUL"),
        (b"a\nb", "several lines"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_no_id_is_refused_with_a_reason(given: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        parse_id(given)
    assert "xxx" not in caught.value.message


def test_an_id_may_stand_in_spaces_quotes_or_with_its_kind() -> None:
    for given in (f"  {WAMID}\r\n", f'"{WAMID}"', f"wamid:{WAMID}"):
        assert parse_id(given.encode()).key == f"wamid:{WAMID}"
    assert parse_id(b"chatbot: nota 1 ").key == "chatbot:nota 1"


def ask(inbound: Inbound, given: bytes, *arguments: str) -> Any:
    """Run the command with an id on standard input."""
    settings = inbound.settings
    values = {
        "GATTE_HOME": str(settings.home),
        "GATTE_DATABASE_URL": settings.database_url or "",
        "GATTE_INBOUND_URL": settings.inbound_url,
        "GATTE_ID_KEY": ID_KEY.decode(),
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gatte_pipelines.cli", "inbound", "find"),
            *("--as-of", AS_OF.isoformat()),
            *arguments,
        ],
        env=dict(os.environ) | values,
        input=given,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert b"Traceback" not in told
    assert not any(personal.encode() in told for personal in (HIDDEN, WAMID, OTHER, ANA))
    return done


def test_the_command_answers_people_and_scripts_and_records_no_run(inbound: Inbound) -> None:
    inbound.send(texts(text_message(WAMID, NOW, body=HIDDEN), contacts=[contact(ANA, HIDDEN)]))
    runs = inbound.rows("select run_id from pipeline.runs")
    done = ask(inbound, f"{WAMID}\n".encode())
    assert done.returncode == 0
    assert "A mensagem está no banco." in done.stdout.decode()
    scripted = ask(inbound, WAMID.encode(), "--json")
    answer = json.loads(scripted.stdout.splitlines()[-1])
    assert (answer["verdict"], answer["known"]["message"]["role"]) == ("loaded", "user")
    assert inbound.rows("select run_id from pipeline.runs") == runs


def test_the_command_ends_with_1_where_nothing_was_found_or_asked(inbound: Inbound) -> None:
    missing = ask(inbound, OTHER.encode())
    assert (missing.returncode, "lugar nenhum" in missing.stdout.decode()) == (1, True)
    for given in (b"", b"\0", OTHER.encode() * 250_000):
        done = ask(inbound, given)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"error: standard input: ")
