"""Whose value counts, which label is which stage, and what a wrong configuration is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatte_pipelines.crm.policy import FIELDS, CrmPolicy, DealStage, LabelStage, plain_name
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.crm.policy_text import parse_crm_policy, parse_fields, parse_stages
from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.sandbox.pipedrive_account import DEFAULT_LABELS, DEFAULT_PIPELINES
from gatte_pipelines.sync.merge import Side

CONFIG = Path(__file__).resolve().parents[2] / "config"
FIELDS_FILE, STAGES_FILE = "crm_fields.yaml", "crm_stages.yaml"

FIELDS_TEXT = """\
fields:
  name:
    owner: ours
  phone:
    owner: ours
  email:
    owner: ours
    one_way: yes
  company:
    owner: theirs
    one_way: no
  stage:
    owner: theirs
external_id_field: GATTE lead
"""

STAGES_TEXT = """\
labels:
  Warm: contacted
  Hot: qualified
no_label: new
deals:
  won: converted
  lost: lost
  stages:
    Pipeline:
      Qualified: qualified
      Contact Made: contacted
    Renovações:
      Qualified: new
"""


def policy_of(fields: str = FIELDS_TEXT, stages: str = STAGES_TEXT) -> CrmPolicy:
    return parse_crm_policy(fields, stages, fields_file=FIELDS_FILE, stages_file=STAGES_FILE)


def put(text: str, old: str, new: str) -> str:
    """A text with one part of it replaced."""
    assert text.count(old) == 1
    return text.replace(old, new)


# --- What the project comes with ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> CrmPolicy:
    return read_crm_policy(CONFIG / FIELDS_FILE, CONFIG / STAGES_FILE)


def test_contact_data_is_ours_and_the_stage_theirs_and_all_of_it_goes_both_ways(
    shipped: CrmPolicy,
) -> None:
    assert [rule.name for rule in shipped.rules] == list(FIELDS)
    assert {rule.name: rule.owner for rule in shipped.rules} == {
        "name": Side.OURS,
        "phone": Side.OURS,
        "email": Side.OURS,
        "company": Side.OURS,
        "stage": Side.THEIRS,
    }
    assert not any(rule.is_one_way for rule in shipped.rules)
    assert shipped.external_field == "GATTE lead"


def test_the_shipped_stages_are_those_of_a_fresh_account(shipped: CrmPolicy) -> None:
    assert {label.name: label.stage for label in shipped.stages.labels} == {
        "Warm": "contacted",
        "Hot": "qualified",
    }
    assert {label.name for label in shipped.stages.labels} <= DEFAULT_LABELS.keys()
    named = {(one.pipeline, one.name) for one in shipped.stages.deal_stages}
    assert named == {
        (pipeline, stage) for pipeline, stages in DEFAULT_PIPELINES.items() for stage in stages
    }
    assert (shipped.stages.no_label, shipped.stages.won, shipped.stages.lost) == (
        "new",
        "converted",
        "lost",
    )


def test_the_heads_of_both_files_explain_every_word() -> None:
    for name, words in (
        (FIELDS_FILE, ["owner", "ours", "theirs", "one_way", "external_id_field", *FIELDS]),
        (STAGES_FILE, ["won", "lost", "stages", "labels"]),
    ):
        text = (CONFIG / name).read_text("utf-8")
        comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
        said = comments.split() + text.split("\n")
        assert not [word for word in words if not any(word in one for one in said)]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_CONFIG"):
        read_crm_policy(tmp_path / FIELDS_FILE, CONFIG / STAGES_FILE)


# --- What is read ---------------------------------------------------------------------------------


def test_rules_and_stages_are_read_with_their_lines() -> None:
    policy = policy_of()
    assert (policy.rule_of("email").is_one_way, policy.rule_of("company").is_one_way) == (
        True,
        False,
    )
    assert policy.rule_of("company").owner is Side.THEIRS
    with pytest.raises(KeyError):
        policy.rule_of("notes")
    assert policy.stages.labels == (
        LabelStage("Warm", "contacted", 2),
        LabelStage("Hot", "qualified", 3),
    )
    assert policy.stages.deal_stages == (
        DealStage("Pipeline", "Qualified", "qualified", 10),
        DealStage("Pipeline", "Contact Made", "contacted", 11),
        DealStage("Renovações", "Qualified", "new", 13),
    )
    assert policy.stages.file == STAGES_FILE


def test_there_may_be_no_labels_and_no_stages_of_deals() -> None:
    text = "labels: {}\nno_label: new\ndeals: {won: converted, lost: lost, stages: {}}\n"
    stages = parse_stages(text, STAGES_FILE)
    assert (stages.labels, stages.deal_stages) == ((), ())


def test_blanks_and_the_encoding_of_accents_make_no_other_name() -> None:
    spaced = put(STAGES_TEXT, "Renovações", '"  Renovac\u0327o\u0303es\t"')
    assert parse_stages(spaced, STAGES_FILE).deal_stages[2].pipeline == "Renovações"
    assert plain_name(" Contact \u00a0 Made\x00") == "Contact Made"


def test_another_policy_has_another_fingerprint() -> None:
    texts = [
        (FIELDS_TEXT, STAGES_TEXT),
        (put(FIELDS_TEXT, "one_way: yes", "one_way: no"), STAGES_TEXT),
        (put(FIELDS_TEXT, "company:\n    owner: theirs", "company:\n    owner: ours"), STAGES_TEXT),
        (put(FIELDS_TEXT, "GATTE lead", "GATTE"), STAGES_TEXT),
        (FIELDS_TEXT, put(STAGES_TEXT, "Warm: contacted", "Warm: new")),
        (FIELDS_TEXT, put(STAGES_TEXT, "  Warm: contacted\n", "")),
        (FIELDS_TEXT, put(STAGES_TEXT, "no_label: new", "no_label: contacted")),
        (FIELDS_TEXT, put(STAGES_TEXT, "won: converted", "won: qualified")),
        (FIELDS_TEXT, put(STAGES_TEXT, "lost: lost", "lost: new")),
        (FIELDS_TEXT, put(STAGES_TEXT, "Renovações", "Outro")),
        (FIELDS_TEXT, put(STAGES_TEXT, "Qualified: new", "Qualified: lost")),
        # The later label counts: the order is part of what they say.
        (
            FIELDS_TEXT,
            put(
                STAGES_TEXT,
                "  Warm: contacted\n  Hot: qualified\n",
                "  Hot: qualified\n  Warm: contacted\n",
            ),
        ),
    ]
    fingerprints = {policy_of(*both).fingerprint for both in texts}
    assert len(fingerprints) == len(texts)


def test_comments_and_moved_lines_leave_the_fingerprint_as_it_is() -> None:
    policy = policy_of()
    commented = policy_of(f"# why\n{FIELDS_TEXT}", f"\n# why\n{STAGES_TEXT}")
    assert commented.stages != policy.stages
    assert commented.fingerprint == policy.fingerprint
    assert len(policy.fingerprint) == 64
    assert replace(policy, external_field="x").fingerprint != policy.fingerprint


@pytest.mark.parametrize(
    ("name", "one", "other", "is_same"),
    [
        ("name", "Nome  Distinto ", "Nome Distinto", True),
        ("name", "Jose\u0301", "José", True),
        ("name", "Nome Distinto", "nome distinto", False),
        ("company", "Padaria\tModelo", "Padaria Modelo", True),
        ("company", "PADARIA modelo", "Padaria Modelo", True),
        ("company", "Padaria Modelo", "Padaria Exemplo", False),
        ("phone", "+5511900000001", "(11) 90000-0001", True),
        ("phone", "+551190000001", "+5511990000001", True),
        ("phone", "+5511900000001", "+5511900000002", False),
        ("phone", "ramal 2", " ramal  2", True),
        ("phone", "ramal 2", "+5511900000001", False),
        ("email", "Nome@Example.com", "nome@example.com ", True),
        ("email", "nome@example.com", "nome@example.org", False),
        ("email", "nenhum", "Nenhum", False),
        ("stage", "new", "new", True),
        ("stage", "new", "lost", False),
    ],
)
def test_what_counts_as_the_same(name: str, one: str, other: str, *, is_same: bool) -> None:
    rule = policy_of().rule_of(name)
    assert rule.is_same(one, other) is is_same
    assert rule.is_same(other, one) is is_same


# --- What is refused ------------------------------------------------------------------------------

BAD_FIELDS = {
    "an unknown field": ("  company:", "  notes:\n    owner: ours\n  company:", 9, "fields.notes"),
    "an unknown word": ("    one_way: yes", "    two_way: yes", 8, "fields.email.two_way"),
    "an unknown top": (
        "external_id_field:",
        "external_field: x\nexternal_id_field:",
        14,
        "external_field",
    ),
    "a missing field": ("  name:\n    owner: ours\n", "", 1, "fields.name"),
    "a missing owner": (
        "    owner: theirs\nexternal",
        "    one_way: no\nexternal",
        12,
        "fields.stage.owner",
    ),
    "no custom field": ("external_id_field: GATTE lead\n", "", 1, "external_id_field"),
    "no fields": ("fields:\n", "fields_of:\n", 1, "fields_of"),
    "an unknown owner": (
        "  company:\n    owner: theirs",
        "  company:\n    owner: both",
        10,
        "fields.company.owner",
    ),
    "an empty owner": ("  name:\n    owner: ours", "  name:\n    owner:", 3, "fields.name.owner"),
    "a list of owners": (
        "  name:\n    owner: ours",
        "  name:\n    owner: [ours]",
        3,
        "fields.name.owner",
    ),
    "an unknown yes": ("one_way: yes", "one_way: true", 8, "fields.email.one_way"),
    "an empty one_way": ("one_way: yes", "one_way: ~", 8, "fields.email.one_way"),
    "a field twice": ("  company:\n", "  phone:\n    owner: ours\n  company:\n", 9, "fields.phone"),
    "an owner twice": (
        "  name:\n    owner: ours",
        "  name:\n    owner: ours\n    owner: ours",
        4,
        "fields.name.owner",
    ),
    "a field that is a word": ("  name:\n    owner: ours", "  name: ours", 2, "fields.name"),
    "a stage that is ours alone": (
        "    owner: theirs\nexternal",
        "    owner: ours\n    one_way: yes\nexternal",
        14,
        "fields.stage.one_way",
    ),
    "an empty custom field": ("GATTE lead", '""', 14, "external_id_field"),
    "a custom field of nothing to see": ("GATTE lead", '"\\u200b"', 14, "external_id_field"),
    "a custom field that is too long": ("GATTE lead", "x" * 65, 14, "external_id_field"),
    "an anchor": ("  name:\n    owner: ours", "  name: &one\n    owner: ours", 2, "fields.name"),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_fields_that_cannot_be_are_refused_with_line_and_field(case: str) -> None:
    old, new, line, field = BAD_FIELDS[case]
    with pytest.raises(BadInputError) as refused:
        parse_fields(put(FIELDS_TEXT, old, new), FIELDS_FILE)
    assert (refused.value.file, refused.value.line, refused.value.field) == (
        FIELDS_FILE,
        line,
        field,
    )


BAD_STAGES = {
    "an unknown stage of a label": ("Warm: contacted", "Warm: hot", 2, "labels.Warm"),
    "no stage of a label": ("Warm: contacted", "Warm:", 2, "labels.Warm"),
    "a list of stages": ("Warm: contacted", "Warm: [new, contacted]", 2, "labels.Warm"),
    "upper case": ("Warm: contacted", "Warm: Contacted", 2, "labels.Warm"),
    "a label twice": ("  Hot:", "  Warm:", 3, "labels.Warm"),
    "a label twice but for blanks": ("  Hot:", '  "Warm ":', 3, "labels.?"),
    "a label without a name": ("  Hot:", '  " ":', 3, "labels.?"),
    "labels as a list": (
        "labels:\n  Warm: contacted\n  Hot: qualified\n",
        "labels: [Warm]\n",
        1,
        "labels",
    ),
    "no labels": ("labels:\n  Warm: contacted\n  Hot: qualified\n", "", 1, "labels"),
    "no no_label": ("no_label: new\n", "", 1, "no_label"),
    "an unknown no_label": ("no_label: new", "no_label: none", 4, "no_label"),
    "no won": ("  won: converted\n", "", 5, "deals.won"),
    "an unknown won": ("won: converted", "won: won", 6, "deals.won"),
    "no lost": ("  lost: lost\n", "", 5, "deals.lost"),
    "an unknown lost": ("lost: lost", "lost: gone", 7, "deals.lost"),
    "an unknown word": ("  lost: lost", "  lost: lost\n  open: new", 8, "deals.open"),
    "an unknown top": ("no_label: new", "no_label: new\nno_deal: new", 5, "no_deal"),
    "no stages": ("  stages:\n", "  phases:\n", 8, "deals.phases"),
    "an unknown stage of a deal": (
        "Qualified: new",
        "Qualified: old",
        13,
        "deals.stages.?.Qualified",
    ),
    "a pipeline twice": ("    Renovações:", "    Pipeline:", 12, "deals.stages.Pipeline"),
    "a pipeline twice but for blanks": (
        "    Renovações:",
        '    "Pipeline ":',
        12,
        "deals.stages.?",
    ),
    "a stage twice": (
        "Contact Made: contacted",
        "Qualified: contacted",
        11,
        "deals.stages.Pipeline.Qualified",
    ),
    "a stage twice but for blanks": (
        "Contact Made:",
        '" Qualified":',
        11,
        "deals.stages.Pipeline.?",
    ),
    "a pipeline without stages": ("\n      Qualified: new", " {}", 12, "deals.stages.?"),
    "a pipeline that is a stage": ("\n      Qualified: new", " new", 12, "deals.stages.?"),
}


@pytest.mark.parametrize("case", BAD_STAGES)
def test_stages_that_cannot_be_are_refused_with_line_and_field(case: str) -> None:
    old, new, line, field = BAD_STAGES[case]
    with pytest.raises(BadInputError) as refused:
        parse_stages(put(STAGES_TEXT, old, new), STAGES_FILE)
    assert (refused.value.file, refused.value.line, refused.value.field) == (
        STAGES_FILE,
        line,
        field,
    )


@pytest.mark.parametrize("text", ["", "[", "- a", "labels", "\x00", "a: b: c", "'"])
def test_a_text_that_is_no_policy_is_refused_with_its_line(text: str) -> None:
    for parse in (parse_fields, parse_stages):
        with pytest.raises(BadInputError) as refused:
            parse(text, "some.yaml")
        assert refused.value.line == 1
