"""What was written into the stand-in for Pipedrive outlives its process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gatte_pipelines.sandbox import pipedrive_memory
from gatte_pipelines.sandbox.pipedrive_account import Account
from gatte_pipelines.sandbox.pipedrive_rows import Kind, Source

NOW = datetime(2026, 3, 10, 11, 30, 0, 250_000, UTC)


def founded(now: datetime = NOW, **labels: str) -> Account:
    return Account(lambda: now, labels=labels or {"Hot": "red"})


def test_a_company_that_was_saved_is_the_same_in_another_process(tmp_path: Path) -> None:
    first = founded()
    key = first.add_field(Kind.DEAL, "GATTE lead", "varchar").code
    (label,) = first.labels
    person = first.create(
        Kind.PERSON, {"name": "Ana", "phones": [{"value": "+5511900001234"}]}, Source.API
    )
    lead = first.create(
        Kind.LEAD,
        {
            "title": "Ana",
            "person_id": person["id"],
            "label_ids": [label],
            "custom_fields": {key: "2026-03-10T11:30:00+00:00"},
        },
        Source.API,
    )
    gone = first.create(Kind.PERSON, {"name": "Bia"}, Source.API)
    first.delete(Kind.PERSON, gone["id"], Source.APP)
    pipedrive_memory.save(first, tmp_path / "company.json")

    second = founded(NOW + timedelta(hours=1), Hot="red", Warm="yellow")
    assert pipedrive_memory.load(second, tmp_path / "company.json")
    assert second.row(Kind.LEAD, lead["id"]) == lead
    assert second.row(Kind.PERSON, person["id"]) == person
    assert second.fields_of(Kind.LEAD)[key].name == "GATTE lead"
    assert len(second.labels) == 2
    assert label in second.labels, "labels have the same ids"
    deleted = second.find(Kind.PERSON, gone["id"])
    assert deleted is not None
    assert deleted["is_deleted"]
    hits = second.index.search(
        Kind.PERSON, second.now(), term="5511900001234", groups=["phone"], is_exact=True
    )
    assert [hit["id"] for hit in hits] == [person["id"]]
    newer = second.create(Kind.PERSON, {"name": "Caio"}, Source.API)
    assert newer["id"] > gone["id"], "no id is given twice"


def test_a_company_that_was_never_saved_stays_as_it_was_founded(tmp_path: Path) -> None:
    company = founded()
    assert not pipedrive_memory.load(company, tmp_path / "company.json")
    assert not company.rows[Kind.LEAD]


def test_what_is_saved_is_for_its_owner_only(tmp_path: Path) -> None:
    pipedrive_memory.save(founded(), tmp_path / "company.json")
    assert (tmp_path / "company.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["company.json"]
