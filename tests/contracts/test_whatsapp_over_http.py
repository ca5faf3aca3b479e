"""Templates over real HTTP to the stand-in, which holds requests to Meta's shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import RetryPolicy
from gatte_pipelines.messaging.channels import Outcome
from gatte_pipelines.messaging.whatsapp import TemplateMessage, WhatsAppSender, other_form
from gatte_pipelines.sandbox.whatsapp import PHONE_NUMBER_ID, WhatsAppFault, WhatsAppStandIn

ANA = "+5511900000001"
NAME = "Nome Distinto"
QUICK = RetryPolicy(max_attempts=2, base_delay_seconds=0.01, max_delay_seconds=0.01)
NOW = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[WhatsAppStandIn]:
    with WhatsAppStandIn(tmp_path / "landing", now=lambda: NOW) as started:
        yield started


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def sender(stand_in: WhatsAppStandIn, waits: list[float]) -> Iterator[WhatsAppSender]:
    with WhatsAppSender(
        stand_in.url,
        PHONE_NUMBER_ID,
        stand_in.token,
        timeout_seconds=0.3,
        sleep=waits.append,
        repeats=QUICK,
    ) as opened:
        yield opened


def message(to: str | None = ANA, **changes: object) -> TemplateMessage:
    attempt_id = uuid4()
    values: dict[str, object] = {
        "attempt_id": attempt_id,
        "template": "gatte_certificados_v1_1",
        "to": to,
        "body": (NAME, "e-CNPJ vence em 15/12/2026"),
        "buttons": (f"certificate_alert:renew:{attempt_id}",),
    }
    return TemplateMessage(**(values | changes))  # type: ignore[arg-type]


def test_a_template_is_taken_as_it_was_meant(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn
) -> None:
    sent = message()
    result = sender.send(sent)
    (taken,) = stand_in.messages
    assert (result.outcome, result.provider_id) == (Outcome.ACCEPTED, taken.wamid)
    assert (taken.to, taken.template) == (ANA, sent.template)
    assert (taken.body, taken.buttons) == (sent.body, sent.buttons)
    assert UUID(taken.attempt_id) == sent.attempt_id


def test_who_has_no_number_is_written_to_by_user_id(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn
) -> None:
    assert sender.send(message(None, recipient="BR.1349abc")).outcome is Outcome.ACCEPTED
    (taken,) = stand_in.messages
    assert (taken.to, taken.recipient) == (None, "BR.1349abc")


def test_a_parameter_that_meta_refuses_is_made_one_line(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn
) -> None:
    assert sender.send(message(body=("a\nb\tc      d", ""))).outcome is Outcome.ACCEPTED
    assert stand_in.messages[0].body == ("a b c d", "-")


@pytest.mark.parametrize("to", ["5511900000001", "+0511900000001", "+55", ""])
def test_a_number_without_country_code_is_never_sent(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn, to: str
) -> None:
    with pytest.raises(ValueError, match="country code"):
        sender.send(message(to))
    assert stand_in.requests == 0


@pytest.mark.parametrize(
    ("code", "outcome", "requests"),
    [
        (132001, Outcome.FAILED, 1),
        (190, Outcome.FAILED, 1),
        (131000, Outcome.UNKNOWN, 1),  # a repeat might send it twice
        (130429, Outcome.DEFERRED, 2),
        (131057, Outcome.DEFERRED, 2),  # answered with 500, and yet surely not sent
    ],
)
def test_a_refusal_is_repeated_only_where_nothing_was_sent(
    sender: WhatsAppSender,
    stand_in: WhatsAppStandIn,
    code: int,
    outcome: Outcome,
    requests: int,
) -> None:
    stand_in.refuse(code, times=2)
    result = sender.send(message())
    assert (result.outcome, result.error_code) == (outcome, code)
    assert stand_in.requests == requests
    assert stand_in.messages == []


def test_a_passing_limit_is_passed(sender: WhatsAppSender, stand_in: WhatsAppStandIn) -> None:
    stand_in.refuse(130429)
    assert sender.send(message()).outcome is Outcome.ACCEPTED


def test_the_limit_on_one_user_is_waited_for_once(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn, waits: list[float]
) -> None:
    stand_in.refuse(131056)
    assert sender.send(message()).outcome is Outcome.ACCEPTED
    assert len(waits) == 1
    assert waits[0] >= 6
    stand_in.refuse(131056, times=2)
    assert sender.send(message()).outcome is Outcome.DEFERRED


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        (WhatsAppFault.TIMEOUT_AFTER_ACCEPTING, 1),
        (WhatsAppFault.TIMEOUT, 0),
        (WhatsAppFault.GARBAGE, 1),
    ],
)
def test_a_lost_answer_is_unknown_and_never_repeated(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn, fault: WhatsAppFault, taken: int
) -> None:
    stand_in.fail(fault)
    assert sender.send(message()).outcome is Outcome.UNKNOWN
    assert (stand_in.requests, len(stand_in.messages)) == (1, taken)


class Saying(WhatsAppStandIn):
    """Answers everything with one answer."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(None)
        self._said = status, body.encode()

    def answer(self, path: str, authorization: str, content: bytes) -> tuple[int, bytes]:
        del path, authorization, content
        return self._said


TAKEN = '{"messages": [{"id": "wamid.x"}]}'


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, TAKEN, Outcome.ACCEPTED),
        (202, TAKEN, Outcome.ACCEPTED),
        (200, TAKEN.replace("}]", ', "message_status": "accepted"}]'), Outcome.ACCEPTED),
        (
            200,
            TAKEN.replace("}]", ', "message_status": "held_for_quality_assessment"}]'),
            Outcome.ACCEPTED,
        ),
        (200, TAKEN.replace("}]", ', "message_status": "paused"}]'), Outcome.UNKNOWN),
        (200, TAKEN.replace("}]", ', "message_status": ["accepted"]}]'), Outcome.UNKNOWN),
        (200, TAKEN.replace("}]", ', "message_status": null}]'), Outcome.UNKNOWN),
        (200, "", Outcome.UNKNOWN),
        (200, "[]", Outcome.UNKNOWN),
        (200, "[" * 100_000, Outcome.UNKNOWN),
        (200, '{"messages": {"id": "wamid.x"}}', Outcome.UNKNOWN),
        (200, '{"messages": [{"id": 7}]}', Outcome.UNKNOWN),
        (200, r'{"messages": [{"id": "wamid.\u0000"}]}', Outcome.UNKNOWN),
        (200, '{"messages": [{"id": ""}]}', Outcome.UNKNOWN),
        (200, TAKEN.replace("x", "x" * 600), Outcome.UNKNOWN),
        (302, "", Outcome.FAILED),
        (403, "<html>", Outcome.FAILED),
        (408, "", Outcome.UNKNOWN),
        (429, "", Outcome.DEFERRED),
        (501, "", Outcome.UNKNOWN),
        (502, "<html>", Outcome.UNKNOWN),
    ],
)
def test_an_answer_of_any_shape_has_its_meaning(status: int, body: str, outcome: Outcome) -> None:
    with (
        Saying(status, body) as saying,
        WhatsAppSender(saying.url, PHONE_NUMBER_ID, saying.token, repeats=QUICK) as sender,
    ):
        assert sender.send(message()).outcome is outcome


@pytest.mark.parametrize("code", ["-1", "1e3", "true", "null", '"190"', "1" * 30])
def test_a_code_that_is_none_is_neither_kept_nor_looked_up(code: str) -> None:
    with (
        Saying(400, f'{{"error": {{"code": {code}}}}}') as saying,
        WhatsAppSender(saying.url, PHONE_NUMBER_ID, saying.token, repeats=QUICK) as sender,
    ):
        result = sender.send(message())
    assert (result.outcome, result.reason, result.error_code) == (Outcome.FAILED, "refused", None)


def test_a_server_that_is_not_there_defers() -> None:
    with WhatsAppSender("http://127.0.0.1:9", PHONE_NUMBER_ID, "x" * 20, repeats=QUICK) as sender:
        assert sender.send(message()).outcome is Outcome.DEFERRED


def test_a_wrong_token_is_refused_by_the_stand_in(stand_in: WhatsAppStandIn) -> None:
    with WhatsAppSender(stand_in.url, PHONE_NUMBER_ID, "w" * 20) as sender:
        result = sender.send(message())
    assert (result.reason, result.stops_channel) == ("token", True)


def test_settings_that_cannot_be_used_are_refused() -> None:
    for url in ("graph.example.com", "https://", "https://graph.example.com:port/v25.0"):
        with pytest.raises(ConfigurationError, match="GATTE_WHATSAPP_BASE_URL"):
            WhatsAppSender(url, "1", "x" * 20)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        WhatsAppSender("http://graph.example.com/v25.0", "1", "x" * 20)
    with pytest.raises(ConfigurationError, match="GATTE_WHATSAPP_PHONE_NUMBER_ID"):
        WhatsAppSender("https://graph.example.com/v25.0", "../1", "x" * 20)


@pytest.mark.parametrize("token", ["", "segredo-ç", "segredo\n", "seg redo"])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        WhatsAppSender("https://graph.example.com/v25.0", "1", token)
    assert str(refused.value) == "GATTE_WHATSAPP_TOKEN must be ASCII without spaces"
    assert refused.value.__context__ is None


def test_nothing_shows_a_number_a_name_or_the_token(
    stand_in: WhatsAppStandIn, sender: WhatsAppSender
) -> None:
    sent = message()
    shown = [repr(sent), repr(sender), repr(sender.send(sent)), repr(stand_in.messages[0])]
    for secret in (ANA[1:], NAME, stand_in.token, stand_in.messages[0].wamid):
        assert not any(secret in text for text in shown)


@pytest.mark.parametrize(
    ("phone", "other"),
    [
        ("+5511900000001", None),  # no mobile has 0 after the 9
        ("+5511960000001", "+551160000001"),
        ("+551160000001", "+5511960000001"),
        ("+551130000001", None),
        ("+14155550100", None),
    ],
)
def test_only_a_brazilian_mobile_has_another_form(phone: str, other: str | None) -> None:
    assert other_form(phone) == other


def test_statuses_arrive_in_the_landing_zone_as_meta_sends_them(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn, tmp_path: Path
) -> None:
    sent = message()
    sender.send(sent)
    stand_in.press(str(sent.attempt_id), 0)
    files = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "landing").iterdir()]
    values = [file["entry"][0]["changes"][0]["value"] for file in files]
    (statuses,) = [value["statuses"] for value in values if "statuses" in value]
    assert [status["status"] for status in statuses] == ["sent", "delivered"]
    assert {status["biz_opaque_callback_data"] for status in statuses} == {str(sent.attempt_id)}
    (pressed,) = [value["messages"][0] for value in values if "messages" in value]
    assert pressed["button"]["payload"] == sent.buttons[0]


def test_a_user_id_stands_wherever_meta_leaves_the_number_out(
    sender: WhatsAppSender, stand_in: WhatsAppStandIn, tmp_path: Path
) -> None:
    told, failed = message(None, recipient="BR.1349abc"), message(None, recipient="BR.1349abc")
    sender.send(told)
    stand_in.press(str(told.attempt_id), 0)
    stand_in.fail_later(131026)
    sender.send(failed)
    files = [path.read_text("utf-8") for path in (tmp_path / "landing").iterdir()]
    values = [json.loads(file)["entry"][0]["changes"][0]["value"] for file in files]
    statuses = {value["statuses"][-1]["status"]: value for value in values if "statuses" in value}
    for status in (*statuses["delivered"]["statuses"], *statuses["failed"]["statuses"]):
        assert status["recipient_user_id"] == "BR.1349abc"
        assert "recipient_id" not in status
    assert statuses["delivered"]["contacts"][0]["user_id"] == "BR.1349abc"
    assert "contacts" not in statuses["failed"]
    assert "pricing" not in statuses["failed"]["statuses"][-1]
    (pressed,) = [value["messages"][0] for value in values if "messages" in value]
    assert (pressed["from_user_id"], pressed.get("from")) == ("BR.1349abc", None)


@pytest.mark.parametrize(
    "change",
    [
        {"to": "5511900000001"},
        {"recipient_type": "group"},
        {"template": {"name": "nome", "language": {"code": "pt_BR"}, "surprise": 1}},
        {"template": {"name": "nome", "language": {"code": "pt_BR"}, "components": {}}},
        {"template": {"name": "nome", "language": {"code": "pt_BR"}, "components": [[]]}},
        {
            "template": {
                "name": "nome",
                "language": {"code": "pt_BR"},
                "components": [{"type": "body", "parameters": {}}],
            }
        },
        {
            "template": {
                "name": "nome",
                "language": {"code": "pt_BR"},
                "components": [{"type": "body", "parameters": [], "surprise": 1}],
            }
        },
        {"surprise": 1},
        {"type": "text"},
        {"biz_opaque_callback_data": "x" * 600},
        {"template": {"name": "Nome", "language": {"code": "pt_BR"}}},
        {"template": {"name": "nome", "language": {"code": "en"}}},
        {
            "template": {
                "name": "nome",
                "language": {"code": "pt_BR"},
                "components": [{"type": "body", "parameters": [{"type": "text", "text": "a\nb"}]}],
            }
        },
        {
            "template": {
                "name": "gatte_certificados_v1_2",
                "language": {"code": "pt_BR"},
                "components": [{"type": "body", "parameters": [{"type": "text", "text": "a"}]}],
            }
        },
    ],
)
def test_the_stand_in_refuses_what_meta_refuses(
    stand_in: WhatsAppStandIn, change: dict[str, object]
) -> None:
    request = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": ANA,
        "type": "template",
        "template": {"name": "nome", "language": {"code": "pt_BR"}},
    } | change
    path = f"/v25.0/{PHONE_NUMBER_ID}/messages"
    answer = stand_in.answer(path, f"Bearer {stand_in.token}", json.dumps(request).encode())
    assert answer is not None
    status, body = answer
    assert status in {400, 404}
    assert json.loads(body)["error"]["code"] in {100, 131008, 131009, 132000, 132001, 132012}
