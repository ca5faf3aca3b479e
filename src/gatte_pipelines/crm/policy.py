"""Whose value of a field counts, and which stage a label or a deal means. Pure.

Reading the files of ``config/`` belongs to ``policy_text`` and ``policy_file``, the names of an
account to ``account``.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from gatte_pipelines.crm.contacts import email_key_of, phone_key_of
from gatte_pipelines.sync.merge import FieldRule

FIELDS: Final = ("name", "phone", "email", "company", "stage")
"""The fields of a lead that both sides hold, in the order of ``leads``."""
STAGES: Final = ("new", "contacted", "qualified", "lost", "converted")
"""``leads.stage`` (DOC 01)."""


@dataclass(frozen=True)
class LabelStage:
    """What a label of leads means.

    Attributes:
        name: Of the label, as ``plain_name`` gives it.
        stage: Ours.
        line: Of the file.
    """

    name: str
    stage: str
    line: int


@dataclass(frozen=True)
class DealStage:
    """What a stage of deals means.

    Attributes:
        pipeline: Name of its pipeline, as ``plain_name`` gives it.
        name: Of the stage.
        stage: Ours.
        line: Of the file.
    """

    pipeline: str
    name: str
    stage: str
    line: int


@dataclass(frozen=True)
class StagePolicy:
    """Which stage of ours stands for what in Pipedrive.

    Attributes:
        labels: Of leads. Where a lead has several, the later one counts; for writing a stage the
            first one with it is used.
        no_label: Stage of a lead with none of these labels.
        won: Stage of a deal that is won.
        lost: Stage of a deal that is lost.
        deal_stages: Of open deals.
        file: Name of the file, for errors.
    """

    labels: tuple[LabelStage, ...]
    no_label: str
    won: str
    lost: str
    deal_stages: tuple[DealStage, ...]
    file: str


@dataclass(frozen=True)
class CrmPolicy:
    """How leads are kept in step.

    Attributes:
        rules: One for each of ``FIELDS``, in that order.
        external_field: Name of the custom field that holds our lead's id.
        stages: What labels and stages mean.
    """

    rules: tuple[FieldRule, ...]
    external_field: str
    stages: StagePolicy

    def rule_of(self, name: str) -> FieldRule:
        """The rule of a field.

        Raises:
            KeyError: There is none of this name.
        """
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(name)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that the files say; another one has the account read anew."""
        stages = self.stages
        says = {
            "rules": [(rule.name, rule.owner, rule.is_one_way) for rule in self.rules],
            "external_field": self.external_field,
            "labels": [(label.name, label.stage) for label in stages.labels],
            "no_label": stages.no_label,
            "won": stages.won,
            "lost": stages.lost,
            "deal_stages": [(one.pipeline, one.name, one.stage) for one in stages.deal_stages],
        }
        return hashlib.sha256(json.dumps(says).encode()).hexdigest()


def plain_name(name: str) -> str:
    """The name of a label, stage, pipeline or field, such that two equal ones are one.

    Blanks before, after and doubled say nothing, nor does how an accent is encoded.
    """
    composed = unicodedata.normalize("NFC", name)
    return " ".join("".join(char if char.isprintable() else " " for char in composed).split())


def is_same_text(one: str, other: str) -> bool:
    """Whether two texts differ in blanks, or in how an accent is encoded, at most."""
    return _collapsed(one) == _collapsed(other)


def is_same_company(one: str, other: str) -> bool:
    """Whether two texts name one organization, which is looked for in upper and lower case."""
    return _collapsed(one).casefold() == _collapsed(other).casefold()


def is_same_phone(one: str, other: str) -> bool:
    """Whether two texts are forms of one number."""
    key, other_key = phone_key_of(one), phone_key_of(other)
    return is_same_text(one, other) if key is None or other_key is None else key == other_key


def is_same_email(one: str, other: str) -> bool:
    """Whether two addresses differ in upper and lower case at most."""
    key, other_key = email_key_of(one), email_key_of(other)
    return is_same_text(one, other) if key is None or other_key is None else key == other_key


def _collapsed(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
