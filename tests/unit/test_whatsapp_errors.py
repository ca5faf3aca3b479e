"""Every row of Meta's table of errors has its meaning, and every meaning its words."""

from __future__ import annotations

import pytest

from gatte_pipelines.messaging.channels import Outcome
from gatte_pipelines.messaging.whatsapp_errors import NOT_DELIVERED, classify, reasons
from gatte_pipelines.run_report import reason_pt

FAILED, DEFERRED, UNKNOWN = Outcome.FAILED, Outcome.DEFERRED, Outcome.UNKNOWN
STOPS, OPTED_OUT, OTHER_FORM = "stops_channel", "opted_out", "tries_other_form"

# code, HTTP status of the answer, outcome, reason, what else is so
TABLE = [
    (0, 401, FAILED, "token", STOPS),
    (190, 401, FAILED, "token", STOPS),
    (3, 500, FAILED, "permission", STOPS),
    (10, 403, FAILED, "permission", STOPS),
    (200, 403, FAILED, "permission", STOPS),
    (299, 403, FAILED, "permission", STOPS),
    (131005, 403, FAILED, "permission", STOPS),
    (4, 400, DEFERRED, "rate_limited", None),
    (80007, 400, DEFERRED, "rate_limited", None),
    (130429, 400, DEFERRED, "rate_limited", None),
    (131056, 400, DEFERRED, "rate_limited", None),
    (131048, 400, DEFERRED, "spam_limited", STOPS),
    (131049, 400, FAILED, "not_before_24h", None),
    (131050, 400, FAILED, "opted_out", OPTED_OUT),
    (131047, 400, FAILED, "outside_window", None),
    (131026, 400, FAILED, "undeliverable", OTHER_FORM),
    (130472, 400, FAILED, "in_experiment", None),
    (131000, 500, UNKNOWN, "unknown", None),
    (131016, 500, UNKNOWN, "unknown", None),
    (2, 503, UNKNOWN, "unknown", None),
    (133004, 503, UNKNOWN, "unknown", None),
    (131008, 400, FAILED, "bad_request", None),
    (131009, 400, FAILED, "bad_request", None),
    (100, 400, FAILED, "bad_request", None),
    (33, 400, FAILED, "bad_request", None),
    (135000, 400, FAILED, "bad_request", None),
    (131021, 400, FAILED, "bad_request", None),
    (131031, 403, FAILED, "account", STOPS),
    (368, 403, FAILED, "account", STOPS),
    (130497, 403, FAILED, "account", STOPS),
    (131042, 400, FAILED, "payment", STOPS),
    (131045, 500, FAILED, "not_registered", STOPS),
    (133010, 400, FAILED, "not_registered", STOPS),
    (131037, 400, FAILED, "not_registered", STOPS),
    (131051, 400, FAILED, "bad_request", None),
    (131052, 400, FAILED, "bad_request", None),
    (131053, 400, FAILED, "bad_request", None),
    (131057, 500, DEFERRED, "maintenance", None),
    (131062, 400, FAILED, "no_phone", None),
    (132000, 400, FAILED, "template_mismatch", None),
    (132005, 400, FAILED, "template_mismatch", None),
    (132007, 400, FAILED, "template_mismatch", None),
    (132012, 400, FAILED, "template_mismatch", None),
    (132001, 404, FAILED, "template_missing", None),
    (132015, 400, FAILED, "template_paused", None),
    (132016, 400, FAILED, "template_paused", None),
    # Codes that the table does not have.
    (999_999, 400, FAILED, "refused", None),
    (999_999, 502, UNKNOWN, "unknown", None),
]


@pytest.mark.parametrize(("code", "status", "outcome", "reason", "also"), TABLE)
def test_a_code_means(
    code: int, status: int, outcome: Outcome, reason: str, also: str | None
) -> None:
    result = classify(code, http_status=status)
    assert (result.outcome, result.reason, result.error_code) == (outcome, reason, code)
    assert {name for name in (STOPS, OPTED_OUT, OTHER_FORM) if getattr(result, name)} == {also} - {
        None
    }


@pytest.mark.parametrize("code", [row[0] for row in TABLE] + [NOT_DELIVERED])
def test_a_code_of_a_status_says_that_the_message_did_not_arrive(code: int) -> None:
    assert classify(code, http_status=None).outcome is FAILED


@pytest.mark.parametrize("reason", reasons())
def test_a_reason_has_words_in_portuguese(reason: str) -> None:
    assert reason_pt(reason) != reason
