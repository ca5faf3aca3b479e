"""What clients are told: the line of a certificate, WhatsApp templates, the e-mail."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.certificates.texts import (
    BUTTONS,
    MAX_BODY_CHARACTERS,
    TEMPLATES,
    ButtonReply,
    Template,
    button_payloads,
    client_email,
    describe,
    email_subject,
    first_name,
    most_urgent_first,
    parse_payload,
    template_name,
    template_of,
    template_parameters,
    template_text,
)
from tests.mails import LONG_WORD, line, lines

ATTEMPT = UUID("0b54bb6d-6f0e-4f43-8b53-0d8f4c1c0a11")
BASE = "gatte_certificados"
HOSTILE = "<script>alert(1)</script><img src=http://x.example/a onerror=alert(2)>"


# --- one certificate -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (60, "vence em 06/02/2027, em 60 dias"),
        (7, "vence em 15/12/2026, em 7 dias"),
        (2, "vence em 10/12/2026, em 2 dias"),
        (1, "vence amanhã, 09/12/2026"),
        (0, "vence hoje, 08/12/2026"),
        (-1, "venceu ontem, 07/12/2026"),
        (-3, "venceu em 05/12/2026, há 3 dias"),
    ],
)
def test_a_certificate_is_told_with_its_date_and_how_far_that_is(days: int, text: str) -> None:
    assert describe(line(days)) == f"e-CNPJ (LC Web Profissional) {text}"


def test_a_service_without_a_name_leaves_no_empty_parentheses() -> None:
    assert describe(line(0, service=" \n")) == "e-CNPJ vence hoje, 08/12/2026"


def test_a_long_service_is_cut_and_the_date_stays() -> None:
    text = describe(line(7, service=LONG_WORD))
    assert text.endswith("…) vence em 15/12/2026, em 7 dias")
    assert len(text) <= 125


def test_the_most_urgent_comes_first_whatever_the_order_given() -> None:
    given_lines = lines(20)
    ordered = most_urgent_first(given_lines)
    assert ordered == most_urgent_first(given_lines[::-1])
    assert [one.days for one in ordered] == sorted(one.days for one in given_lines)


# --- the name ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Ana Souza", "Ana"),
        ("  José\tda Silva", "José"),
        ("D'Ávila", "D'Ávila"),
        ("Ana-Lúcia Reis", "Ana-Lúcia"),
        ("Dra. Ana Souza", "Ana"),
        ("*João*", "João"),
        ("🌸 Maria 🌸", "Maria"),
        ("🌸Maria🌸", "Maria"),
        ("Jose\u0301", "José"),
        ("\u202eAna\u202c\n\nBcc: a", "Ana"),
        ("A\u0000na", "Ana"),
        ("Zoë\u200b", "Zoë"),
        ("www.pagamento.example", "cliente"),
        ("ana@example.com", "cliente"),
        ("https://x.example/a", "cliente"),
        ("<b>Ana</b>", "cliente"),
        ("{{2}}", "cliente"),
        ("+55 11 90000-0000", "cliente"),
        ("--", "cliente"),
        ("dr.", "cliente"),
        ("", "cliente"),
        (None, "cliente"),
        ("x" * 150, "x" * 39 + "…"),
    ],
)
def test_a_client_is_addressed_by_the_first_word_that_can_be_a_name(
    name: str | None, address: str
) -> None:
    assert first_name(name) == address


def test_piles_of_marks_are_cut_down() -> None:
    marks = [s for s in first_name("M" + "\u0335" * 99 + "ia") if unicodedata.combining(s)]
    assert len(marks) <= 2


@given(st.text(max_size=200))
def test_no_name_brings_more_than_letters_into_a_text(name: str) -> None:
    address = first_name(name)
    assert 0 < len(address) <= 40
    assert all(unicodedata.category(sign)[0] in "LM" or sign in "'’-…" for sign in address)


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "suffix"), [(1, "1"), (2, "2"), (5, "5"), (6, "mais"), (200, "mais")]
)
def test_the_template_follows_from_the_number_of_certificates(count: int, suffix: str) -> None:
    assert template_of(BASE, 1, lines(count)) == f"gatte_certificados_v1_{suffix}"
    assert template_of(BASE, 12, lines(count)) == f"gatte_certificados_v12_{suffix}"


@given(st.integers(1, 30), st.text(max_size=160) | st.none(), st.text(max_size=200))
def test_the_parameters_are_what_the_template_has_and_meta_takes(
    count: int, name: str | None, service: str
) -> None:
    given_lines = lines(count, service=service)
    parameters = template_parameters(name, given_lines)
    (template,) = [t for t in TEMPLATES if template_of(BASE, 1, given_lines).endswith(t.suffix)]
    assert len(parameters) == template.parameters
    assert all(parameters)
    assert not any(re.search(r"[\n\r\t]| {4}", one) for one in parameters)
    assert len(template_text(given_lines, parameters)) <= MAX_BODY_CHARACTERS


def test_the_longest_message_fits_into_what_meta_allows() -> None:
    given_lines = [line(-9999, n, type="x" * 99, service=LONG_WORD) for n in range(9_999)]
    text = template_text(given_lines, template_parameters("x" * 150, given_lines))
    assert len(text) <= MAX_BODY_CHARACTERS


def test_more_than_five_certificates_are_five_lines_and_a_number() -> None:
    given_lines = lines(200)
    parameters = template_parameters("Ana", given_lines)
    urgent = most_urgent_first(given_lines)[:5]
    assert parameters == ("Ana", *map(describe, urgent), "195 certificados")
    assert template_parameters("Ana", lines(6))[-1] == "1 certificado"


def test_a_message_reads_as_a_whole() -> None:
    given_lines = [line(7), line(0, 2, type="e-CPF", service="")]
    assert template_text(given_lines, template_parameters("Ana Souza", given_lines)) == (
        "Olá, Ana! Este é um aviso da GATTE sobre o vencimento dos seus certificados digitais.\n\n"
        "• Certificado 1: e-CPF vence hoje, 08/12/2026\n"
        "• Certificado 2: e-CNPJ (LC Web Profissional) vence em 15/12/2026, em 7 dias\n\n"
        "Depois do vencimento, um certificado deixa de funcionar. Para renovar sem interrupção, ou "
        "nos contar que já renovou, responda por um dos botões abaixo."
    )


def test_what_looks_like_a_variable_in_a_parameter_is_left_as_it_is() -> None:
    given_lines = [line(7, service="{{1}}")]
    text = template_text(given_lines, template_parameters("Ana", given_lines))
    assert "e-CNPJ ({{1}}) vence" in text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.suffix)
def test_a_template_is_as_meta_approves_it(template: Template) -> None:
    variables = [int(n) for n in re.findall(r"\{\{(\d+)\}\}", template.body)]
    assert variables == list(range(1, len(variables) + 1))
    assert not re.match(r"\W*\{\{", template.body)
    assert not re.search(r"\}\}\W*$", template.body)
    assert not re.search(r"\}\}\W*\{\{", template.body)
    assert all(
        re.search(r"\w", re.sub(r"\{\{\d+\}\}", "", row))
        for row in template.body.split("\n")
        if row
    )
    words = re.findall(r"[^\W\d]+", template.body)
    assert len(words) >= 2 * len(variables) + 1
    assert len({t.body for t in TEMPLATES}) == len(TEMPLATES)


def test_the_page_for_meta_has_the_templates_word_for_word(repository: Path) -> None:
    page = (repository / "docs" / "whatsapp_templates.md").read_text("utf-8")
    parts = re.findall(
        r"## (gatte_certificados_v1_\w+)\n\n```text\n(.*?)\n```\n\nExamples for Meta:\n\n"
        r"((?:\d\. [^\n]+\n)+)",
        page,
        flags=re.DOTALL,
    )
    assert [(name, body) for name, body, _ in parts] == [
        (template_name(BASE, 1, template.suffix), template.body) for template in TEMPLATES
    ]
    for (_, _, examples), template in zip(parts, TEMPLATES, strict=True):
        assert len(examples.splitlines()) == template.parameters
    assert [f"{n}. {button.text}\n" in page for n, button in enumerate(BUTTONS, 1)] == [True] * 3


# --- buttons -------------------------------------------------------------------------------------


def test_a_press_says_what_was_answered_to_which_message() -> None:
    payloads = button_payloads(ATTEMPT)
    assert payloads[0] == f"certificate_alert:renew:{ATTEMPT}"
    assert [parse_payload(payload) for payload in payloads] == [
        ButtonReply(answer=answer, attempt_id=ATTEMPT) for answer in ("renew", "renewed", "later")
    ]
    assert [button.text for button in BUTTONS] == ["Quero renovar", "Já renovei", "Lembrar depois"]
    # Meta's limits for texts and payloads of quick replies.
    assert all(len(button.text) <= 25 for button in BUTTONS)
    assert all(len(payload) <= 128 for payload in payloads)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "Quero renovar",
        "certificate_alert:",
        f"certificate_alert:stop:{ATTEMPT}",
        f"certificate_alert:renew:{ATTEMPT}\n",
        f" certificate_alert:renew:{ATTEMPT}",
        f"certificate_alert:renew:{ATTEMPT}:x",
        f"certificate_alert:renew:{ATTEMPT.hex}",
        f"certificate_alert:renew:{{{ATTEMPT}}}",
        f"certificate_alert:renew:urn:uuid:{ATTEMPT}",
        f"CERTIFICATE_ALERT:renew:{ATTEMPT}",
        f"certificate_alert:renew:{str(ATTEMPT).replace('0', '٠')}",
        "certificate_alert:renew:" + "a" * 100_000,
    ],
)
def test_a_payload_that_is_not_ours_says_nothing(payload: str | None) -> None:
    assert parse_payload(payload) is None


@given(st.text())
def test_no_text_makes_the_reader_of_payloads_fail(payload: str) -> None:
    assert parse_payload(payload) is None
    assert parse_payload(f"certificate_alert:renew:{payload}") is None


# --- e-mail --------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Notes tags, what would be loaded, and the text that people see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"src", "href", "action", "data", "background"} or name.startswith("on"):
                self.loads.append(f"{name}={value}")
            if name == "style" and "url(" in (value or ""):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("days", "subject"),
    [
        ([7], "Seu e-CNPJ vence em 7 dias (15/12/2026)"),
        ([1], "Seu e-CNPJ vence amanhã (09/12/2026)"),
        ([0], "Seu e-CNPJ vence hoje (08/12/2026)"),
        ([-1], "Seu e-CNPJ venceu ontem (07/12/2026)"),
        ([-3], "Seu e-CNPJ venceu há 3 dias (05/12/2026)"),
        ([30, 2], "2 certificados digitais: o primeiro vence em 2 dias"),
        ([30, 0], "2 certificados digitais: o primeiro vence hoje"),
        ([-1, -2], "Seus 2 certificados digitais venceram"),
        ([7, -2, 60], "Seus certificados digitais: 1 vencido e 2 a vencer"),
    ],
)
def test_the_subject_says_what_is_most_urgent(days: list[int], subject: str) -> None:
    assert email_subject([line(one, n) for n, one in enumerate(days)]) == subject


def test_the_mail_about_one_certificate_reads_as_a_letter() -> None:
    assert client_email("Ana Souza", [line(7)]).text == (
        "Olá, Ana!\n\n"
        "O vencimento do seu certificado digital está chegando:\n\n"
        "- e-CNPJ (LC Web Profissional) vence em 15/12/2026, em 7 dias\n\n"
        "Depois do vencimento, um certificado deixa de funcionar. Renovando antes, você não fica "
        "sem ele.\n\n"
        "Como responder\n"
        "Responda a este e-mail, ou chame a gente no WhatsApp, com uma destas frases:\n"
        "- Quero renovar: entramos em contato para cuidar da renovação.\n"
        "- Já renovei: conferimos a renovação e encerramos os avisos deste vencimento.\n"
        "- Lembrar depois: avisamos de novo mais perto do vencimento.\n\n"
        "Um abraço,\nEquipe GATTE Tecnologia\n\n--\n"
        "Nunca envie a senha do seu certificado por e-mail ou WhatsApp.\n"
        "Não quer mais receber estes avisos? Escreva SAIR no nosso WhatsApp ou em resposta a este "
        "e-mail.\n"
    )


def test_a_mail_about_what_expired_promises_no_later_reminder() -> None:
    text = client_email(None, [line(-3)]).text
    assert text.startswith("Olá!\n\nO seu certificado digital venceu:\n")
    assert "mais perto do vencimento" not in text
    assert "Renovando antes" not in text


@pytest.mark.parametrize("count", [1, 7, 8, 200])
def test_text_and_html_list_every_certificate(count: int) -> None:
    given_lines = lines(count)
    mail = client_email("Ana", given_lines)
    assert [row for row in mail.text.splitlines() if " venc" in row and row.startswith("- e-")] == [
        f"- {describe(one)}" for one in most_urgent_first(given_lines)
    ]
    assert Reader(mail.html).text.count("LC Web Profissional") == count
    # Gmail cuts what is longer.
    assert len(mail.html.encode()) < 102_000


def test_many_certificates_stand_in_groups_after_how_to_answer() -> None:
    given_lines = lines(200)
    mail = client_email("Ana", given_lines)
    groups = {
        "Vencidos": lambda d: d < 0,
        "Vencem em até 7 dias": lambda d: 0 <= d <= 7,
        "Vencem em até 30 dias": lambda d: 7 < d <= 30,
        "Vencem mais adiante": lambda d: d > 30,
    }
    titles = [f"{t} ({sum(of(one.days) for one in given_lines)})" for t, of in groups.items()]
    for text in (mail.text, Reader(mail.html).text):
        places = [text.index(title) for title in ("Como responder", *titles)]
        assert places == sorted(places)


@pytest.mark.parametrize(
    "name", [HOSTILE, f"{HOSTILE} Ana", '"><b>', "\u202eana\r\nBcc: x@example.com", "x" * 150]
)
def test_a_hostile_name_or_service_is_harmless(name: str) -> None:
    given_lines = [line(7, service=HOSTILE), line(1, 2, service="\u202e\r\nBcc: x@example.com")]
    mail = client_email(name, given_lines)
    reader = Reader(mail.html)
    assert not {"script", "img", "iframe", "link", "object", "form", "b", "a"} & reader.tags
    assert reader.loads == []
    assert not any(
        unicodedata.category(sign) in {"Cf", "Cc"} for sign in mail.html.replace("\n", "")
    )
    assert HOSTILE[:30] in reader.text
    message = EmailMessage(policy=SMTP)
    message["Subject"] = mail.subject
    assert message["Subject"] == mail.subject
    assert "Bcc" not in mail.subject


def test_only_the_first_name_stands_in_a_mail() -> None:
    mail = client_email("Ana Souza Prado", [line(7)])
    assert "Souza" not in mail.html + mail.text + mail.subject
    assert "Ana" not in mail.subject
    assert "Ana" not in repr(mail)


def test_no_client_reads_what_is_for_staff() -> None:
    one = line(7)
    secret = replace(one, monthly_value=None, maybe_renewed=True)
    assert client_email("Ana", [one]) == client_email("Ana", [secret])
