"""The files of certificate alerts: what may stand in them, with file, line and field. Pure.

What the values mean belongs to ``policy``; opening the files to ``policy_file``.
"""

from __future__ import annotations

import re
from datetime import time

from gatte_pipelines.certificates.policy import (
    AUDIENCES,
    CHANNELS,
    TYPES,
    AlertPolicy,
    Answer,
    Recipients,
)
from gatte_pipelines.config_tree import Fields, read_tree

# A year and a quarter before, as long after: what is farther is a slip of the finger.
_FARTHEST_DAYS = 450
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,4})")
_TEMPLATE = re.compile(r"[a-z][a-z0-9_]{2,60}")
_HOUR = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")
_NEVER, _NEXT = "never", "next"


def parse_alert_policy(text: str, file: str) -> AlertPolicy:
    """Read the policy of alerts.

    Args:
        text: YAML.
        file: Its name, for errors.

    Raises:
        BadInputError: It is not YAML, does not say what a policy must, or contradicts itself.
    """
    root = read_tree(text, file)
    top = Fields.of(
        file,
        "",
        root.line,
        root,
        required=(
            "steps",
            "last_step_days",
            "urgent_days",
            "contact_hours",
            "unknown_hours",
            "approval",
            "channels",
            "renewal_lead_days",
            "client_is_told_again_at",
            "template",
        ),
    )
    last_days = _number(top, "last_step_days", 1, _FARTHEST_DAYS)
    opens_at, closes_at = _hours(top.child("contact_hours", required=("from", "to")))
    template = top.child("template", required=("name", "version"))
    name = template.text("name", "lower case letters, digits and underscores")
    if not _TEMPLATE.fullmatch(name):
        raise template.refuse("name", "expected lower case letters, digits and underscores")
    approval = top.child("approval", required=("client_messages",))
    return AlertPolicy(
        thresholds=_steps(top, last_days),
        last_days=last_days,
        urgent_days=_number(top, "urgent_days", 0, 60),
        opens_at=opens_at,
        closes_at=closes_at,
        unknown_hours=_number(top, "unknown_hours", 1, 100),
        approval_messages=_number(approval, "client_messages", 1, 10_000),
        channels=_channels(top),
        renewal_lead_days=_number(top, "renewal_lead_days", 0, _FARTHEST_DAYS),
        resumes_at=_answers(top),
        template=name,
        template_version=_number(template, "version", 1, 999),
    )


def parse_recipients(text: str, file: str, default: tuple[str, ...]) -> Recipients:
    """Read who of staff is told.

    Args:
        text: YAML.
        file: Its name, for errors.
        default: Addresses where the file names none.

    Raises:
        BadInputError: It is not YAML, or names an audience, type or address that is none.
    """
    root = read_tree(text, file)
    audiences = tuple(one for one in AUDIENCES if one != "client")
    top = Fields.of(file, "", root.line, root, required=audiences)
    addresses: dict[tuple[str, str], tuple[str, ...]] = {}
    for audience in audiences:
        fields = top.child(audience, required=("all",), optional=TYPES)
        for name in fields.entries:
            found = _addresses(fields, name)
            if found:
                addresses[audience, "" if name == "all" else name] = found
    return Recipients(addresses=addresses, default=default)


def _addresses(fields: Fields, name: str) -> tuple[str, ...]:
    """Addresses of a list, or none where it says ``default``; what is none is not shown."""
    if fields.entries[name][1].value == "default":
        return ()
    found = []
    for number, (line, address) in enumerate(
        fields.items(name, example="[a@example.com]", expected="an e-mail address")
    ):
        if not _ADDRESS.fullmatch(address):
            raise fields.refuse_item(name, number, line, "expected an e-mail address")
        found.append(address)
    if not found:
        raise fields.refuse(name, "expected at least one address, or the word default")
    return tuple(found)


def _steps(top: Fields, last_days: int) -> dict[tuple[str, str], tuple[int, ...]]:
    """The thresholds by type and audience: those of ``all``, unless the type has its own."""
    steps = top.child("steps", required=("all",), optional=TYPES)
    general = steps.child("all", required=AUDIENCES)
    found = {}
    for type_ in TYPES:
        own = steps.child(type_, optional=AUDIENCES) if type_ in steps else general
        for audience in AUDIENCES:
            source = own if audience in own else general
            found[type_, audience] = _thresholds(source, audience, last_days)
    return found


def _thresholds(fields: Fields, audience: str, last_days: int) -> tuple[int, ...]:
    found: list[int] = []
    for number, (line, text) in enumerate(
        fields.items(audience, example="[60, 30, 7]", expected="a number of days")
    ):
        if not _WHOLE_NUMBER.fullmatch(text) or not -last_days <= int(text) <= _FARTHEST_DAYS:
            raise fields.refuse_item(
                audience,
                number,
                line,
                f"expected a whole number of days from {-last_days} to {_FARTHEST_DAYS}",
            )
        if found and int(text) >= found[-1]:
            raise fields.refuse_item(
                audience, number, line, "expected fewer days than in the step before"
            )
        found.append(int(text))
    if audience == "client" and not found:
        raise fields.refuse(audience, "expected at least one step, or no client is ever told")
    return tuple(found)


def _hours(fields: Fields) -> tuple[time, time]:
    opens_at, closes_at = _time(fields, "from"), _time(fields, "to")
    if closes_at <= opens_at:
        raise fields.refuse("to", "expected a later hour than from, on the same day")
    return opens_at, closes_at


def _time(fields: Fields, name: str) -> time:
    found = _HOUR.fullmatch(fields.text(name, "an hour, such as 08:00"))
    if found is None:
        raise fields.refuse(name, "expected an hour, such as 08:00")
    return time(int(found[1]), int(found[2]))


def _channels(top: Fields) -> dict[str, tuple[str, ...]]:
    fields = top.child("channels", required=AUDIENCES)
    found = {}
    for audience in AUDIENCES:
        # Staff are no clients of the business number: they get mails.
        known = CHANNELS if audience == "client" else ("email",)
        names: list[str] = []
        for number, (line, name) in enumerate(
            fields.items(audience, example="[whatsapp, email]", expected="a channel")
        ):
            if name not in known or name in names:
                raise fields.refuse_item(
                    audience, number, line, f"expected each of {', '.join(known)} at most once"
                )
            names.append(name)
        if not names:
            raise fields.refuse(audience, "expected at least one channel")
        found[audience] = tuple(names)
    return found


def _answers(top: Fields) -> dict[Answer, int | None]:
    fields = top.child("client_is_told_again_at", required=tuple(Answer))
    found: dict[Answer, int | None] = {}
    expected = f"a number of days, {_NEXT} (the next step) or {_NEVER}"
    for answer in Answer:
        text = fields.text(answer, expected)
        if text == _NEXT:
            continue
        if text == _NEVER:
            found[answer] = None
        elif _WHOLE_NUMBER.fullmatch(text) and abs(int(text)) <= _FARTHEST_DAYS:
            found[answer] = int(text)
        else:
            raise fields.refuse(answer, f"expected {expected}")
    return found


def _number(fields: Fields, name: str, least: int, most: int) -> int:
    expected = f"a whole number from {least} to {most}"
    text = fields.text(name, expected)
    if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise fields.refuse(name, f"expected {expected}")
    return int(text)
