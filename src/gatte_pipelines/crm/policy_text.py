"""The files of the sync with Pipedrive: what may stand in them, with file, line and field. Pure.

What the values mean belongs to ``policy``; opening the files to ``policy_file``; whether the names
stand in the account to ``account``.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatte_pipelines.config_tree import Fields, read_tree
from gatte_pipelines.crm.policy import (
    FIELDS,
    STAGES,
    CrmPolicy,
    DealStage,
    LabelStage,
    StagePolicy,
    is_same_company,
    is_same_email,
    is_same_phone,
    is_same_text,
    plain_name,
)
from gatte_pipelines.sync.merge import FieldRule, Side

# What Pipedrive shows whole in the head of a column.
_LONGEST_FIELD_NAME = 64
_IS_SAME = {"phone": is_same_phone, "email": is_same_email, "company": is_same_company}
_YES, _NO = "yes", "no"


def parse_crm_policy(
    fields_text: str, stages_text: str, *, fields_file: str, stages_file: str
) -> CrmPolicy:
    """Read both files.

    Args:
        fields_text: YAML: whose value of a field counts.
        stages_text: YAML: which stage of ours stands for what.
        fields_file: Name of the first, for errors.
        stages_file: Name of the second.

    Raises:
        BadInputError: One is not YAML, does not say what it must, or contradicts itself.
    """
    rules, external_field = parse_fields(fields_text, fields_file)
    stages = parse_stages(stages_text, stages_file)
    return CrmPolicy(rules=rules, external_field=external_field, stages=stages)


def parse_fields(text: str, file: str) -> tuple[tuple[FieldRule, ...], str]:
    """Read whose value of a field counts, and the name of the custom field for our lead's id.

    Args:
        text: YAML.
        file: Its name, for errors.

    Raises:
        BadInputError: It is not YAML, or does not say what it must.
    """
    root = read_tree(text, file)
    top = Fields.of(file, "", root.line, root, required=("fields", "external_id_field"))
    fields = top.child("fields", required=FIELDS)
    expected = f"the name of a field, of at most {_LONGEST_FIELD_NAME} characters"
    external_field = plain_name(top.text("external_id_field", expected))
    if not external_field or len(external_field) > _LONGEST_FIELD_NAME:
        raise top.refuse("external_id_field", f"expected {expected}")
    return tuple(_rule(fields, name) for name in FIELDS), external_field


def parse_stages(text: str, file: str) -> StagePolicy:
    """Read which stage of ours stands for what in Pipedrive.

    Args:
        text: YAML.
        file: Its name, for errors.

    Raises:
        BadInputError: It is not YAML, or does not say what it must.
    """
    root = read_tree(text, file)
    top = Fields.of(file, "", root.line, root, required=("labels", "no_label", "deals"))
    labels = top.child("labels", is_open=True)
    deals = top.child("deals", required=("won", "lost", "stages"))
    pipelines = deals.child("stages", is_open=True)
    return StagePolicy(
        labels=tuple(
            LabelStage(name=plain, stage=_stage(labels, name), line=line)
            for name, plain, line in _names(labels)
        ),
        no_label=_stage(top, "no_label"),
        won=_stage(deals, "won"),
        lost=_stage(deals, "lost"),
        deal_stages=tuple(_deal_stages(pipelines)),
        file=file,
    )


def _rule(fields: Fields, name: str) -> FieldRule:
    rule = fields.child(name, required=("owner",), optional=("one_way",))
    expected = " or ".join(Side)
    owner = rule.text("owner", expected)
    if owner not in set(Side):
        raise rule.refuse("owner", f"expected {expected}")
    one_way = rule.text("one_way", f"{_YES} or {_NO}") if "one_way" in rule else _NO
    if one_way not in {_YES, _NO}:
        raise rule.refuse("one_way", f"expected {_YES} or {_NO}")
    if name == "stage" and owner == Side.OURS and one_way == _YES:
        raise rule.refuse(
            "one_way",
            "expected no: after a conversion only the deal's stage counts, which is theirs",
        )
    return FieldRule(
        name=name,
        owner=Side(owner),
        is_one_way=one_way == _YES,
        is_same=_IS_SAME.get(name, is_same_text),
    )


def _deal_stages(pipelines: Fields) -> Iterator[DealStage]:
    for pipeline, plain_pipeline, _ in _names(pipelines):
        stages = pipelines.child(pipeline, is_open=True)
        if not stages.entries:
            raise pipelines.refuse(
                pipeline, "expected at least one stage, or the pipeline taken out"
            )
        for name, plain, line in _names(stages):
            yield DealStage(
                pipeline=plain_pipeline, name=plain, stage=_stage(stages, name), line=line
            )


def _names(fields: Fields) -> Iterator[tuple[str, str, int]]:
    """Each name as it stands in the file and as names are compared, with its line."""
    seen: dict[str, int] = {}
    for name, (line, _) in fields.entries.items():
        plain = plain_name(name)
        if not plain:
            raise fields.refuse(name, "expected a name before the colon", line)
        if plain in seen:
            raise fields.refuse(
                name,
                f"stands on line {seen[plain]} already; expected each name once: take one out",
                line,
            )
        seen[plain] = line
        yield name, plain, line


def _stage(fields: Fields, name: str) -> str:
    expected = f"one of our stages: {', '.join(STAGES)}"
    stage = fields.text(name, expected)
    if stage not in STAGES:
        raise fields.refuse(name, f"expected {expected}")
    return stage
