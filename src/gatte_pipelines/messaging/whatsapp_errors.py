"""What an error of the WhatsApp Cloud API means for the message: the vendor's table. Pure.

The same codes come as the answer to a call and, later, in a status ``failed``. Titles and texts of
the vendor change and are never shown; a code of ours stands for each meaning.
Source: Meta, "Error codes", as of 2025-12-12.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatte_pipelines.messaging.channels import Outcome, SendResult

NOT_DELIVERED = -1
"""Stands for the code of a failed status that names none."""

_FIRST_SERVER_ERROR = 500

_DEFERRED = {
    4: "rate_limited",
    80007: "rate_limited",
    130429: "rate_limited",
    131056: "rate_limited",
    131057: "maintenance",
}
PAIR_LIMIT = 131056
"""Too many messages to one user; the others are not concerned."""

# The vendor's own fault, after which nobody knows whether the message went out.
_AMBIGUOUS = frozenset({2, 131000, 131016, 133004})

# Nothing will be taken until a person does something: the reason says what.
_STOPPING = {
    0: "token",
    190: "token",
    3: "permission",
    10: "permission",
    131005: "permission",
    131031: "account",
    368: "account",
    130497: "account",
    131042: "payment",
    131037: "not_registered",
    131045: "not_registered",
    133010: "not_registered",
}
_PERMISSIONS = range(200, 300)
_SPAM_LIMIT = 131048

_FAILED = {
    33: "bad_request",
    100: "bad_request",
    130472: "in_experiment",
    131008: "bad_request",
    131009: "bad_request",
    131021: "bad_request",
    131047: "outside_window",
    131049: "not_before_24h",
    131051: "bad_request",
    131052: "bad_request",
    131053: "bad_request",
    131062: "no_phone",
    132000: "template_mismatch",
    132001: "template_missing",
    132005: "template_mismatch",
    132007: "template_mismatch",
    132012: "template_mismatch",
    132015: "template_paused",
    132016: "template_paused",
    NOT_DELIVERED: "not_delivered",
    135000: "bad_request",
}
_UNDELIVERABLE = 131026
_OPTED_OUT = 131050


def classify(code: int, *, http_status: int | None) -> SendResult:
    """What an error means.

    Args:
        code: The vendor's.
        http_status: Of the answer; None for a code of a status, after which the message surely
            did not arrive.
    """
    if code in _DEFERRED and http_status is not None:
        return SendResult(outcome=Outcome.DEFERRED, reason=_DEFERRED[code], error_code=code)
    if code == _SPAM_LIMIT:
        return SendResult(
            outcome=Outcome.FAILED if http_status is None else Outcome.DEFERRED,
            reason="spam_limited",
            error_code=code,
            stops_channel=True,
        )
    if code in _STOPPING or code in _PERMISSIONS:
        return _failed(code, _STOPPING.get(code, "permission"), stops_channel=True)
    if code == _OPTED_OUT:
        return _failed(code, "opted_out", opted_out=True)
    if code == _UNDELIVERABLE:
        return _failed(code, "undeliverable", tries_other_form=True)
    if code in _FAILED:
        return _failed(code, _FAILED[code])
    if http_status is None:
        return _failed(code, _DEFERRED.get(code, "not_delivered"))
    if code in _AMBIGUOUS or http_status >= _FIRST_SERVER_ERROR:
        return SendResult(outcome=Outcome.UNKNOWN, reason="unknown", error_code=code)
    return _failed(code, "refused")


def reasons() -> Iterable[str]:
    """Every code of ours that ``classify`` gives, for whoever puts them into words."""
    return sorted(
        {
            *_DEFERRED.values(),
            *_STOPPING.values(),
            *_FAILED.values(),
            *("opted_out", "undeliverable", "not_delivered", "unknown", "refused"),
            *("permission", "spam_limited"),
        }
    )


def _failed(
    code: int,
    reason: str,
    *,
    stops_channel: bool = False,
    opted_out: bool = False,
    tries_other_form: bool = False,
) -> SendResult:
    return SendResult(
        outcome=Outcome.FAILED,
        reason=reason,
        error_code=code,
        stops_channel=stops_channel,
        opted_out=opted_out,
        tries_other_form=tries_other_form,
    )
