"""What the sync knows of the company: names and keys, nothing of a person. Pure.

Reading and keeping it belongs to ``account``, what a name means for a lead to ``policy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

SYSTEM: Final = "pipedrive"
"""What this system is called in the tables that all syncs share."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the sync must know of the company; nothing of a person.

    Attributes:
        labels: Names of the labels of leads, by id, as ``plain_name`` gives them.
        stages: Names of pipeline and stage by the stage's id; deleted ones are left out.
        external_key: Key of the custom field that holds our lead's id; None where there is none
            and Pipedrive did not let us create it.
        company_id: Of the company.
        policy_fingerprint: Of the policy that these names were checked against.
        read_at: When.
        access_mark: Of the token that it was read with; another one may be another company's.
    """

    labels: Mapping[UUID, str]
    stages: Mapping[int, tuple[str, str]]
    external_key: str | None
    company_id: int
    policy_fingerprint: str
    read_at: datetime
    access_mark: str = ""
