"""What a message says, in Portuguese: readable, never empty, without what nobody should keep."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.content import (
    MAX_CONTENT_BYTES,
    READABLE_TYPES,
    Content,
    InvalidFieldError,
    read_content,
)
from gatte_pipelines.inbound.units import ButtonReply

HIDDEN = "valor-que-ninguem-pode-ver"


def content(kind: str, part: Any = None, **more: Any) -> Content:
    """What a message of this type with this part says."""
    message = {"type": kind} | ({} if part is None else {kind: part}) | more
    return read_content(kind, msgspec.Raw(json.dumps(message, ensure_ascii=False).encode()))


def refused(kind: str, part: Any = None, **more: Any) -> tuple[str, str]:
    with pytest.raises(InvalidFieldError) as caught:
        content(kind, part, **more)
    assert HIDDEN not in str(caught.value)
    return caught.value.reason, caught.value.field


MEDIA = {"id": HIDDEN, "mime_type": HIDDEN, "sha256": HIDDEN, "url": HIDDEN}


@pytest.mark.parametrize(
    ("kind", "part", "expected"),
    [
        ("text", {"body": "  olá\n"}, "  olá\n"),
        ("image", {}, "[imagem]"),
        ("image", {"caption": " Segue a foto\n"}, "[imagem] Segue a foto"),
        ("image", {"caption": "  "}, "[imagem]"),
        ("image", {"filename": "a.jpg"}, "[imagem]"),
        ("video", {"caption": "O erro"}, "[vídeo] O erro"),
        ("sticker", {"animated": True}, "[figurinha]"),
        ("audio", {}, "[áudio]"),
        ("audio", {"voice": False}, "[áudio]"),
        ("audio", {"voice": True}, "[mensagem de voz]"),
        ("document", {}, "[documento]"),
        ("document", {"filename": "contrato.pdf"}, "[documento] contrato.pdf"),
        ("document", {"caption": "Assinado"}, "[documento] Assinado"),
        (
            "document",
            {"filename": "contrato.pdf", "caption": "Assinado"},
            "[documento] contrato.pdf – Assinado",
        ),
    ],
)
def test_media_are_their_kind_and_what_was_written_beside_them(
    kind: str, part: dict[str, Any], expected: str
) -> None:
    assert content(kind, MEDIA | part) == Content(expected)


@pytest.mark.parametrize(
    ("kind", "part", "expected"),
    [
        ("location", {"name": "Loja", "address": "Rua A, 1"}, "[localização] Loja, Rua A, 1"),
        ("location", {"address": "Rua A, 1"}, "[localização] Rua A, 1"),
        ("location", {}, "[localização]"),
        ("order", {"product_items": [{}]}, "[pedido] 1 item"),
        ("order", {"product_items": [{}, {}], "text": "oi"}, "[pedido] 2 itens: oi"),
        ("order", {"text": "oi"}, "[pedido] oi"),
        ("order", {}, "[pedido]"),
        ("unsupported", {"type": "poll"}, "[mensagem não suportada] poll"),
        ("unsupported", {"type": f"{HIDDEN}!"}, "[mensagem não suportada]"),
        ("unsupported", {}, "[mensagem não suportada]"),
    ],
)
def test_other_things_that_are_sent_are_told_in_words(
    kind: str, part: dict[str, Any], expected: str
) -> None:
    hidden = {"latitude": -23.123456, "longitude": -46.123456, "url": HIDDEN, "catalog_id": HIDDEN}
    assert content(kind, hidden | part) == Content(expected)


def person(*names: str) -> dict[str, Any]:
    parts = dict(zip(("formatted_name", "first_name", "last_name"), names, strict=False))
    return {"name": parts, "phones": [{"phone": HIDDEN}], "emails": [{"email": HIDDEN}]}


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ([], "[contato]"),
        ([{}], "[contato]"),
        ([person("Ana Exemplo")], "[contato] Ana Exemplo"),
        ([person("", "Ana", "Exemplo")], "[contato] Ana Exemplo"),
        ([person("A"), person("B"), person("C")], "[contato] A, B, C"),
        ([person("A"), {}], "[contato] A +1"),
        ([person(name) for name in "ABCDE"], "[contato] A, B, C +2"),
    ],
)
def test_shared_contacts_are_a_few_names_and_how_many_more(shared: Any, expected: str) -> None:
    assert content("contacts", shared) == Content(expected)


def test_a_shared_contact_that_is_none_is_refused() -> None:
    assert refused("contacts", [person("A"), HIDDEN]) == ("wrong_type", "contacts[]")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"button_reply": {"id": "b", "title": "Renovar"}}, ("Renovar", "b")),
        ({"button_reply": {"id": "b"}}, ("[resposta]", "b")),
        ({"list_reply": {"id": "l", "title": "A1"}}, ("A1", "l")),
        ({"list_reply": {"id": "l", "title": "A1", "description": "1 ano"}}, ("A1 – 1 ano", "l")),
    ],
)
def test_a_reply_is_the_title_that_was_shown_and_the_id_that_was_not(
    part: dict[str, Any], expected: tuple[str, str]
) -> None:
    found = content("interactive", part, context={"id": "wamid.alvo", "from": HIDDEN})
    assert found == Content(expected[0], ButtonReply("wamid.alvo", expected[1]))


def test_a_template_button_is_its_text_and_its_payload() -> None:
    part = {"text": "Quero renovar", "payload": "RENOVAR"}
    assert content("button", part) == Content("Quero renovar", ButtonReply(None, "RENOVAR"))
    assert content("button", {}) == Content("[resposta]", ButtonReply(None, None))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"body": "Enviado", "name": "flow"}, "[formulário] Enviado"),
        ({"name": "flow"}, "[formulário] flow"),
        ({"body": " ", "name": "flow"}, "[formulário] flow"),
        ({}, "[formulário]"),
    ],
)
def test_of_a_form_the_answers_are_not_told(form: dict[str, Any], expected: str) -> None:
    part = {"type": "nfm_reply", "nfm_reply": {"response_json": HIDDEN} | form}
    assert content("interactive", part) == Content(expected)


def test_a_reply_of_which_only_errors_are_told_is_not_supported() -> None:
    errors = [{"code": 131051, "title": HIDDEN}]
    for found in (
        content("interactive", errors=errors),
        content("interactive", {"errors": errors}),
        content("interactive", {"type": "button_reply", "errors": errors}),
    ):
        assert found == Content("[mensagem não suportada]")


@pytest.mark.parametrize(
    ("kind", "part", "field"),
    [
        ("text", None, "text.body"),
        ("text", {}, "text.body"),
        ("text", {"body": ""}, "text.body"),
        ("interactive", None, "interactive.type"),
        ("interactive", {"type": "list_reply"}, "interactive.list_reply"),
    ],
)
def test_what_says_nothing_is_refused(kind: str, part: Any, field: str) -> None:
    assert refused(kind, part) == ("missing_field", field)


def test_a_reply_of_a_new_type_is_kept_for_later() -> None:
    part = {"type": "call_permission_reply", "call_permission_reply": {}}
    assert refused("interactive", part) == ("not_yet_supported", "interactive.type")


WRITTEN = [
    ("text", "text.body", lambda text: {"body": text}),
    *(
        (kind, f"{kind}.caption", lambda text: {"caption": text})
        for kind in ("image", "video", "sticker", "document", "audio")
    ),
    ("document", "document.filename", lambda text: {"filename": text}),
    ("location", "location.name", lambda text: {"name": text}),
    ("location", "location.address", lambda text: {"address": text}),
    ("contacts", "contacts[].name", lambda text: [person(text)]),
    ("order", "order.text", lambda text: {"text": text, "product_items": [{}]}),
    ("button", "button.text", lambda text: {"text": text}),
    ("button", "button.payload", lambda text: {"payload": text}),
    *(
        (
            "interactive",
            f"interactive.{reply}.{name}",
            lambda text, reply=reply, name=name: {reply: {name: text}},
        )
        for reply, name in (
            ("button_reply", "title"),
            ("button_reply", "id"),
            ("list_reply", "title"),
            ("list_reply", "description"),
            ("list_reply", "id"),
            ("nfm_reply", "body"),
            ("nfm_reply", "name"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "field", "make"), WRITTEN)
def test_a_nul_and_a_text_that_is_too_long_are_refused_wherever_somebody_wrote(
    kind: str, field: str, make: Any
) -> None:
    assert refused(kind, make(f"{HIDDEN}\0")) == ("nul_character", field)
    assert refused(kind, make("é" * (MAX_CONTENT_BYTES // 2 + 1))) == ("too_long", field)
    with pytest.raises(msgspec.ValidationError):
        content(kind, make(5)) if kind != "contacts" else content(kind, 5)


def test_parts_that_are_too_long_only_together_are_refused() -> None:
    half = "x" * (MAX_CONTENT_BYTES // 2 + 1)
    assert content("location", {"name": half}).text == f"[localização] {half}"
    assert refused("location", {"name": half, "address": half}) == ("too_long", "location.address")


@pytest.mark.parametrize("kind", ["button", "interactive"])
def test_the_message_that_showed_a_button_has_an_id_of_bounded_length(kind: str) -> None:
    part = {"button_reply": {"title": "a"}} if kind == "interactive" else {"text": "a"}
    context = {"id": HIDDEN * 30}
    assert refused(kind, part, context=context) == ("too_long", "context.id")


def test_the_payload_of_a_button_is_of_bounded_length() -> None:
    assert refused("button", {"payload": "x" * 1025}) == ("too_long", "button.payload")
    assert content("button", {"payload": "x" * 1024}).button == ButtonReply(None, "x" * 1024)


_VALUES = st.none() | st.text(max_size=20) | st.booleans() | st.integers() | st.just([])
_PARTS = st.dictionaries(
    st.sampled_from(
        [
            "body",
            "caption",
            "filename",
            "voice",
            "name",
            "address",
            "title",
            "id",
            "type",
            "text",
            "payload",
        ]
    ),
    _VALUES,
    max_size=4,
)
_REPLIES = st.dictionaries(
    st.sampled_from(["button_reply", "list_reply", "nfm_reply", "type", "errors"]),
    _PARTS | _VALUES | st.lists(_PARTS, max_size=2),
    max_size=2,
)


@given(st.sampled_from(sorted(READABLE_TYPES)), _PARTS | _REPLIES | _VALUES | st.lists(_PARTS))
def test_whatever_a_message_holds_it_says_something_or_is_refused(kind: str, part: Any) -> None:
    try:
        found = content(kind, part)
    except (InvalidFieldError, msgspec.ValidationError):
        return
    assert found.text
    assert "\0" not in found.text
