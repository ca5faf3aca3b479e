"""The digest of staff: every count right, empty parts left out, nothing personal; and previews."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from gatte_pipelines.certificates.digest import (
    AtRisk,
    ChannelTrouble,
    Digest,
    DigestEntry,
    InDoubt,
)
from gatte_pipelines.certificates.digest_page import MAX_LISTED, digest_email
from gatte_pipelines.certificates.preview import (
    MAX_CLIENTS,
    ClientPreview,
    preview_exact,
    preview_markdown,
)
from gatte_pipelines.certificates.texts import template_of
from tests.mails import LONG_WORD, TODAY, digest, line, lines, uuid
from tests.unit.test_certificate_texts import Reader

EMPTY = Digest(audience="staff", on=TODAY)


def _due(days: int, **values: Any) -> DigestEntry:
    given: dict[str, Any] = {"line": line(days), "user_id": uuid(77), "threshold": 7}
    return DigestEntry(**(given | values))


# --- the digest ----------------------------------------------------------------------------------


def test_a_digest_of_one_entry_reads_whole() -> None:
    entry = _due(7, line=line(7, monthly_value=Decimal("1349.5")), told_on=TODAY, answer="renew")
    risk = AtRisk(days=30, certificates=2, services=1, monthly_value=Decimal("1349.5"))
    mail = digest_email(replace(EMPTY, due=(entry,), at_risk=(risk,)))
    assert mail.subject == "[GATTE] Certificados: 1 a vencer"
    assert mail.text == (
        "Certificados a vencer: 08/12/2026\n\n"
        "O que vence, o que já venceu e o que pede a sua atenção.\n\n"
        "RECEITA EM RISCO\n"
        "- Nos próximos 30 dias: R$\u00a01.349,50 por mês, de 1 serviço com 2 certificados a "
        "vencer\n\n"
        "VENCIMENTOS (1)\n\n"
        "Vencem em até 7 dias (1)\n"
        "- e-CNPJ (LC Web Profissional) vence em 15/12/2026, em 7 dias · quer renovar · "
        "etapa: 7 dias antes · cliente avisado em 08/12/2026 · R$\u00a01.349,50/mês · "
        f"cliente {uuid(77)}\n\n--\n"
        "Os clientes aparecem pelo código do cadastro: este e-mail não traz dados pessoais.\n"
        "Cada etapa de cada vencimento é informada uma só vez.\n"
    )


TITLES = {
    "due": "Vencimentos",
    "at_risk": "Receita em risco",
    "undelivered": "Avisos não entregues",
    "in_doubt": "Sem confirmação do canal",
    "answers": "O que os clientes responderam",
    "leads": "Leads de renovação criados",
    "lapsed": "Vencidos há mais de 30 dias",
    "channels": "Problemas nos canais",
}


@pytest.mark.parametrize("part", TITLES)
def test_a_part_appears_exactly_where_it_has_entries(part: str) -> None:
    full = digest(3)
    alone = replace(EMPTY, **{part: getattr(full, part)})
    without = replace(full, **{part: ()}, **({"lapsed_before": 0} if part == "lapsed" else {}))
    for only, rest in (
        (digest_email(alone).text.lower(), digest_email(without).text.lower()),
        (digest_email(alone).html.lower(), digest_email(without).html.lower()),
    ):
        headings = r"(?m)^{0}( \(|$)|<h2[^>]*>{0}[ <]"
        for other, title in TITLES.items():
            found = headings.format(re.escape(title.lower()))
            assert bool(re.search(found, only)) == (other == part), other
            assert bool(re.search(found, rest)) == (other != part), other


def test_every_field_makes_a_digest_worth_sending_but_for_what_is_at_risk() -> None:
    assert EMPTY.is_empty
    full = digest(1)
    for item in fields(Digest):
        if item.name in {"audience", "on"}:
            continue
        alone = replace(EMPTY, **{item.name: getattr(full, item.name)})
        assert alone.is_empty == (item.name == "at_risk"), item.name


@pytest.mark.parametrize("count", [MAX_LISTED, MAX_LISTED + 1, 3000])
def test_lists_are_cut_and_counts_are_of_everything(count: int) -> None:
    full = replace(digest(count), due=tuple(_due(7, user_id=uuid(n)) for n in range(count)))
    mail = digest_email(full)
    shown = f"{count:,}".replace(",", ".")
    for text in (mail.text.lower(), Reader(mail.html).text.lower()):
        for title in ("vencimentos", "vencem em até 7 dias", "avisos não entregues"):
            assert f"{title} ({shown})" in text
        more = re.findall(r"… e mais ([\d.]+)", text)
        hidden = f"{count - MAX_LISTED:,}".replace(",", ".")
        # Of due, answers, undelivered, in doubt, leads, lapsed.
        assert more == [hidden] * 6 if count > MAX_LISTED else more == []
        assert f"vencidos há mais de 30 dias ({count + 1234:,})".replace(",", ".") in text
        for answer in ("quer renovar", "diz que já renovou", "pediu para lembrar depois"):
            assert re.search(rf"{answer}: [\d.]+", text)
    assert (
        f"- o cliente pediu para não receber avisos: {count - -(-count // 3):,}".replace(",", ".")
        in mail.text
    )


def test_the_largest_digest_is_not_cut_by_mail_programs() -> None:
    full = digest(4000, service=LONG_WORD, monthly_value=Decimal("99999999.99"))
    assert len(digest_email(full).html.encode()) < 102_000


def test_entries_stand_by_urgency() -> None:
    entries = tuple(_due(days) for days in (45, 30, -7, 7, 1, 0, -1, 8))
    text = digest_email(replace(EMPTY, due=entries)).text
    titles = (
        "Vencidos (2)",
        "há 7 dias",
        "ontem",
        "Vencem hoje ou amanhã (2)",
        "Vencem em até 7 dias (1)",
        "Vencem em até 30 dias (2)",
        "Vencem mais adiante (1)",
    )
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_steps_are_counted_where_there_are_several() -> None:
    entries = tuple(_due(0, threshold=threshold) for threshold in (-7, 0, 1, 7, 7))
    text = digest_email(replace(EMPTY, due=entries)).text
    assert "Por etapa: 7 dias antes (2), 1 dia antes (1), no dia (1) e 7 dias depois (1)." in text
    assert "Por etapa" not in digest_email(replace(EMPTY, due=entries[:1])).text


def test_what_may_be_renewed_is_asked() -> None:
    for entry in (_due(7, line=line(7, maybe_renewed=True)), _due(7, answer="renewed")):
        mail = digest_email(replace(EMPTY, due=(entry,)))
        assert mail.text.count("renovado?") == mail.html.count("renovado?") == 1
    assert "renovado?" not in digest_email(replace(EMPTY, due=(_due(7, answer="renew"),))).text


def test_trouble_of_a_channel_says_what_why_and_how_much() -> None:
    trouble = ChannelTrouble(channel="whatsapp", reason="token", error_code=190, messages=12)
    text = digest_email(replace(EMPTY, channels=(trouble,))).text
    assert "- WhatsApp: o token de acesso foi recusado (código 190); 12 mensagens não env" in text
    plain = ChannelTrouble(channel="email", reason="brand_new_reason")
    assert "- e-mail: brand_new_reason\n" in digest_email(replace(EMPTY, channels=(plain,))).text


def test_a_message_in_doubt_says_by_which_channel_it_went_on() -> None:
    doubt = InDoubt(line=line(7), user_id=uuid(1), channel="whatsapp", next_channel="email")
    text = digest_email(replace(EMPTY, in_doubt=(doubt,))).text
    assert "WhatsApp não confirmou; o aviso seguiu por e-mail" in text
    alone = replace(doubt, next_channel=None)
    assert "não há outro canal" in digest_email(replace(EMPTY, in_doubt=(alone,))).text


def test_owner_and_manager_are_told_that_the_client_did_not_answer() -> None:
    for audience, words in (
        ("owner", "Certificados sem resposta do cliente"),
        ("manager", "Certificados sem resposta, para a gerência"),
    ):
        mail = digest_email(replace(EMPTY, audience=audience, due=(_due(3),)))
        assert mail.subject == f"[GATTE] {words}: 1 a vencer"
        assert "Vale um contato direto." in mail.text


def test_the_subject_is_short_and_says_the_worst_first() -> None:
    subject = digest_email(digest(3000)).subject
    assert re.fullmatch(
        r"\[GATTE\] Certificados: [\d.]+ a vencer, [\d.]+ vencidos e 2 problemas nos canais",
        subject,
    )


def test_a_hostile_service_is_harmless_in_a_digest() -> None:
    hostile = '<img src=http://x.example/a onerror="alert(1)">\r\nBcc: x@example.com'
    mail = digest_email(digest(3, service=hostile))
    reader = Reader(mail.html)
    assert "img" not in reader.tags
    assert reader.loads == []
    assert "<img src=http" in reader.text
    assert not re.search(r"(?m)^Bcc", mail.text)
    assert "\n" not in mail.subject


# --- previews ------------------------------------------------------------------------------------


def _previews(clients: int) -> list[ClientPreview]:
    found = []
    for number in range(clients):
        certificates = tuple(lines(1 + number % 7))
        common = {"user_id": uuid(number), "lines": certificates, "name": "Mariana Prado"}
        found.append(
            ClientPreview(
                channel="whatsapp",
                template=template_of("gatte_certificados", 1, certificates),
                address="+55 11 90000-0001",
                **common,
            )
        )
        found.append(ClientPreview(channel="email", address="mariana@example.com", **common))
    return found


def test_an_artifact_shows_templates_parameters_and_subjects_and_no_person() -> None:
    text = preview_markdown(_previews(7), [digest(1)])
    for personal in ("Mariana", "Prado", "90000", "example.com"):
        assert personal not in text
    assert text.count("1. `[nome]`") == 7
    assert "modelo `gatte_certificados_v1_mais`" in text
    assert "`2 certificados`" in text
    assert f"### Cliente `{uuid(0)}`" in text
    assert "Assunto: Seus certificados digitais: " in text
    assert "- equipe: \\[GATTE\\] Certificados: " in text


@pytest.mark.parametrize("clients", [MAX_CLIENTS, MAX_CLIENTS + 1, 1500])
def test_an_artifact_shows_some_clients_and_counts_all(clients: int) -> None:
    text = preview_markdown(_previews(clients))
    assert text.count("### Cliente") == MAX_CLIENTS
    assert f"## Mensagens a clientes ({clients * 2:,})".replace(",", ".") in text
    rows = re.findall(r"\| WhatsApp \| \S+ \| seria enviada \| ([\d.]+) \|", text)
    assert sum(int(row.replace(".", "")) for row in rows) == clients
    more = re.findall(r"… e mais ([\d.]+) clientes?\.", text)
    hidden = clients - MAX_CLIENTS
    assert more == ([f"{hidden:,}".replace(",", ".")] if hidden else [])


def test_who_would_not_be_told_is_shown_with_the_reason() -> None:
    first, *others = _previews(2)
    previews = [replace(first, obstacle="opted_out"), *others]
    text = preview_markdown(previews)
    words = "o cliente pediu para não receber avisos"
    assert f"| não: {words} | 1 | 1 |" in text
    assert text.count(f"Não seria enviada: {words}.") == 1
    assert preview_exact(previews).count(f"(WhatsApp)\nNão seria enviada: {words}.\n") == 1


def test_a_preview_without_messages_says_so() -> None:
    assert "Nenhuma mensagem a clientes." in preview_markdown([])


def test_nothing_in_a_service_ends_a_code_span_or_a_line() -> None:
    certificates = (line(7, service="a`b\n# c"),)
    preview = ClientPreview(
        user_id=uuid(1), channel="whatsapp", lines=certificates, template="t_v1_1"
    )
    assert "2. `e-CNPJ (a'b # c) vence em 15/12/2026, em 7 dias`" in preview_markdown([preview])


def test_the_exact_texts_are_those_that_would_be_sent_to_whom() -> None:
    text = preview_exact(_previews(60), [digest(1)])
    assert text.count("Olá, Mariana!") == 120
    assert text.count("Para: +55 11 90000-0001 (WhatsApp)\n") == 60
    assert text.count("Para: mariana@example.com (e-mail)\nAssunto: ") == 60
    assert "há mais 2 certificados na mesma situação" in text
    assert "Resumo por e-mail: equipe\nAssunto: [GATTE] " in text
    assert "contém dados pessoais" in text


def test_a_preview_in_a_log_shows_no_person() -> None:
    assert not re.search("Mariana|90000|example", repr(_previews(1)))
