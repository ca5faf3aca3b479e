"""What a company holds in the stand-in for Pipedrive, and what happens to it: no HTTP here.

Leads, persons, organizations, deals, notes, fields, labels and stages; the API and a salesperson
change them by the same methods, so that whatever one does the other finds.
"""

from __future__ import annotations

import copy
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from gatte_pipelines.sandbox.pipedrive_bodies import CustomField, RefusedError, Row
from gatte_pipelines.sandbox.pipedrive_rows import (
    BUILT_IN_FIELDS,
    FIRST_ID,
    NOTE_FIELDS,
    ORGANIZATION_FIELDS,
    Kind,
    Source,
    complete_person,
    event_of,
    new_row,
)
from gatte_pipelines.sandbox.pipedrive_search import SearchIndex, entry_of

# Persons, organizations and deals that are deleted can be seen for so long.
_PURGED_AFTER = timedelta(days=30)

DEFAULT_LABELS: Final[Mapping[str, str]] = {"Hot": "red", "Warm": "yellow", "Cold": "blue"}
DEFAULT_PIPELINES: Final[Mapping[str, tuple[str, ...]]] = {
    "Pipeline": (
        "Qualified",
        "Contact Made",
        "Demo Scheduled",
        "Proposal Made",
        "Negotiations Started",
    )
}


@dataclass(kw_only=True)
class Conversion:
    """A lead on its way to being a deal."""

    id: str
    lead_id: str
    stage_id: int
    started_at: datetime
    ends_at: datetime
    ends_as: str
    status: str = "not_started"
    deal_id: int | None = None


@dataclass(kw_only=True)
class AccountRules:
    """Where Pipedrive's texts leave a doubt, what the stand-in does; a test may choose.

    Attributes:
        conversion_takes: How long a conversion of a lead runs.
        conversion_ends_as: How the next conversions end: completed, failed or rejected.
        merge_touches_leads: Whether a lead whose person was merged away counts as changed.
        shows_deleted: Whether a deleted person, organization or deal is still read by its id,
            marked; else it is not found.
    """

    conversion_takes: timedelta = timedelta(0)
    conversion_ends_as: str = "completed"
    merge_touches_leads: bool = True
    shows_deleted: bool = True


class Account:
    """The rows of a company, and what a write does to them.

    Every method locks; what calls several holds `lock` itself.

    Args:
        now: The clock of `add_time`, `update_time`, the index and conversions.
        labels: Colours of lead labels by name.
        pipelines: Names of stages by the name of their pipeline.
        search_lag: How long the search index takes.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        labels: Mapping[str, str] = DEFAULT_LABELS,
        pipelines: Mapping[str, Iterable[str]] = DEFAULT_PIPELINES,
        search_lag: timedelta = timedelta(0),
    ) -> None:
        self.lock = threading.RLock()
        self.now = now
        self.rules = AccountRules()
        self.index = SearchIndex(search_lag)
        self.rows: dict[Kind, dict[int | str, Row]] = {kind: {} for kind in Kind}
        self.fields: dict[Kind, dict[str, CustomField]] = {}
        self.labels: dict[str, Row] = {}
        self.pipelines: dict[int, Row] = {}
        self.stages: dict[int, Row] = {}
        self.events: list[Row] = []
        self.tell: Callable[[Row], None] = self.events.append
        self.conversions: dict[str, Conversion] = {}
        self._deleted_at: dict[tuple[Kind, int | str], datetime] = {}
        self._last_id = {kind: first - 1 for kind, first in FIRST_ID.items()}
        self._last_field = 12_000
        for kind, built_in in BUILT_IN_FIELDS.items():
            self.fields[kind] = {}
            for code, name, field_type in built_in:
                self._new_field(kind, name, field_type, code=code)
        for name, colour in labels.items():
            self.add_label(name, colour)
        for name, stages in pipelines.items():
            self.add_pipeline(name, stages)

    # -- settings of the company

    def add_label(self, name: str, color: str) -> str:
        """Add a lead label and give its id."""
        with self.lock:
            # The same in another process: what was remembered names labels by their ids.
            label_id, at = str(uuid5(NAMESPACE_URL, f"label:{name}")), self.now()
            if label_id in self.labels:
                label_id = str(uuid4())
            self.labels[label_id] = {
                "id": label_id,
                "name": name,
                "color": color,
                "add_time": at,
                "update_time": at,
            }
            return label_id

    def add_pipeline(self, name: str, stages: Iterable[str]) -> int:
        """Add a pipeline with its stages and give its id."""
        with self.lock:
            pipeline_id, at = len(self.pipelines) + 1, self.now()
            self.pipelines[pipeline_id] = {
                "id": pipeline_id,
                "name": name,
                "order_nr": pipeline_id,
                "is_deleted": False,
                "is_deal_probability_enabled": False,
                "add_time": at,
                "update_time": at,
            }
            for order, stage in enumerate(stages, 1):
                stage_id = 11 + len(self.stages)
                self.stages[stage_id] = {
                    "id": stage_id,
                    "order_nr": order,
                    "name": stage,
                    "is_deleted": False,
                    "deal_probability": 100,
                    "pipeline_id": pipeline_id,
                    "is_deal_rot_enabled": False,
                    "days_to_rotten": None,
                    "add_time": at,
                    "update_time": at,
                }
            return pipeline_id

    def add_field(
        self, kind: Kind, name: str, field_type: str, options: Iterable[str] = ()
    ) -> CustomField:
        """Add a custom field, of deals and so of leads, of persons or of organizations."""
        with self.lock:
            added = self._new_field(kind, name, field_type, code=secrets.token_hex(20))
            added.is_custom = True
            added.options = [
                {"id": number, "label": label, "color": None}
                for number, label in enumerate(options, self._last_field * 10)
            ]
            return added

    def delete_field(self, kind: Kind, code: str) -> None:
        """Take a custom field away, and with it every value that it held."""
        with self.lock:
            found = self.fields[kind].get(code)
            if found is None or not found.is_custom:
                raise RefusedError(404, "Field not found")
            del self.fields[kind][code]
            held_by = (Kind.DEAL, Kind.LEAD) if kind is Kind.DEAL else (kind,)
            for holder in held_by:
                for row in self.rows[holder].values():
                    row["custom_fields"].pop(code, None)

    def fields_of(self, kind: Kind) -> Mapping[str, CustomField]:
        """The fields of a kind; leads have those of deals."""
        return self.fields.get(Kind.DEAL if kind is Kind.LEAD else kind, {})

    def _new_field(self, kind: Kind, name: str, field_type: str, *, code: str) -> CustomField:
        self._last_field += 1
        added = CustomField(
            number=self._last_field, code=code, name=name, type=field_type, is_custom=False
        )
        self.fields[kind][code] = added
        return added

    # -- what outlives the process

    def snapshot(self) -> dict[str, Any]:
        """What was written into the company, for `restore`; its settings are given anew."""
        with self.lock:
            self.settle()
            return copy.deepcopy(
                {
                    "rows": {kind.value: list(rows.values()) for kind, rows in self.rows.items()},
                    "fields": {
                        kind.value: [asdict(one) for one in fields.values() if one.is_custom]
                        for kind, fields in self.fields.items()
                    },
                    "deleted": [
                        {"kind": kind.value, "id": row_id, "delete_time": at}
                        for (kind, row_id), at in self._deleted_at.items()
                    ],
                    "last_ids": {kind.value: number for kind, number in self._last_id.items()},
                    "last_field": self._last_field,
                }
            )

    def restore(self, written: Mapping[str, Any]) -> None:
        """Take over what another process wrote; a search finds it after its lag."""
        with self.lock:
            for kind, rows in written["rows"].items():
                self.rows[Kind(kind)] = {row["id"]: row for row in rows}
            for kind, fields in written["fields"].items():
                self.fields[Kind(kind)] |= {one["code"]: CustomField(**one) for one in fields}
            for one in written["deleted"]:
                self._deleted_at[Kind(one["kind"]), one["id"]] = one["delete_time"]
            self._last_id |= {Kind(kind): last for kind, last in written["last_ids"].items()}
            self._last_field = written["last_field"]
            for indexed in (Kind.ORGANIZATION, Kind.PERSON, Kind.LEAD, Kind.DEAL):
                for row in self.rows[indexed].values():
                    if not row.get("is_deleted"):
                        self._index(indexed, row)

    # -- rows

    def find(self, kind: Kind, row_id: int | str) -> Row | None:
        """The row of an id, deleted ones for 30 days too; None where there is none."""
        with self.lock:
            self.settle()
            deleted_at = self._deleted_at.get((kind, row_id))
            if deleted_at is not None and deleted_at + _PURGED_AFTER <= self.now():
                self.rows[kind].pop(row_id, None)
            return self.rows[kind].get(row_id)

    def row(self, kind: Kind, row_id: int | str) -> Row:
        """The row of an id that is not deleted.

        Raises:
            RefusedError: There is none.
        """
        found = self.find(kind, row_id)
        if found is None or found.get("is_deleted"):
            raise RefusedError(404, f"{kind.capitalize()} not found", code="ERR_NOT_FOUND")
        return found

    def create(self, kind: Kind, values: Mapping[str, Any], source: Source) -> Row:
        """Add a row.

        Raises:
            RefusedError: It names what is not there, or a lead belongs to nobody.
        """
        with self.lock:
            self.settle()
            self._check_references(kind, values)
            at = self.now()
            row_id: int | str = str(uuid4()) if kind is Kind.LEAD else self._next_id(kind)
            row = new_row(kind, row_id, source, at)
            row |= copy.deepcopy({key: given for key, given in values.items() if key != "add_time"})
            if kind is Kind.PERSON:
                complete_person(row)
            if kind is Kind.LEAD:
                _check_belongs(row)
            if kind is Kind.DEAL:
                self._place_deal(row, values, at, None)
            self.rows[kind][row_id] = row
            self._index(kind, row)
            self._publish("create", kind, row, source, previous=None)
            return row

    def change(
        self, kind: Kind, row_id: int | str, values: Mapping[str, Any], source: Source
    ) -> Row:
        """Change fields of a row; what is already so changes nothing, not even `update_time`.

        Raises:
            RefusedError: There is no such row, it is archived (only a salesperson changes that),
                or it names what is not there.
        """
        with self.lock:
            row = self.row(kind, row_id)
            if row.get("is_archived") and source is Source.API:
                raise RefusedError(400, f"Archived {kind}s cannot be edited")
            self._check_references(kind, values)
            if kind is Kind.LEAD:
                _check_belongs({**row, **values})
            new = copy.deepcopy(dict(values))
            custom = new.pop("custom_fields", {})
            before = copy.deepcopy(row)
            row.update(new)
            if custom:
                row["custom_fields"] = {**row["custom_fields"], **custom}
            if kind is Kind.PERSON:
                complete_person(row)
            if kind is Kind.DEAL:
                self._place_deal(row, values, self.now(), before["stage_id"])
            self._touch(kind, row, before, source)
            return row

    def delete(self, kind: Kind, row_id: int | str, source: Source) -> None:
        """Delete a row: leads and notes at once; the others stay marked for 30 days.

        Raises:
            RefusedError: There is no such row.
        """
        with self.lock:
            row = self.row(kind, row_id)
            before = copy.deepcopy(row)
            at = self.now()
            if kind in {Kind.LEAD, Kind.NOTE}:
                del self.rows[kind][row_id]
            else:
                row |= {"is_deleted": True, "update_time": at}
                if kind is Kind.DEAL:
                    row["status"] = "deleted"
                self._deleted_at[kind, row_id] = at
            self._unlink(kind, row_id)
            self.index.remove(kind, row_id, at)
            self._publish("delete", kind, None, source, previous=before)

    def archive_lead(self, lead_id: str, source: Source, *, is_archived: bool = True) -> None:
        """Archive a lead, or bring it back."""
        with self.lock:
            self.change(Kind.LEAD, lead_id, {"is_archived": is_archived}, source)

    def merge_persons(self, kept_id: int, lost_id: int, source: Source) -> None:
        """Merge a person into another: its id vanishes, what hung on it hangs on the other.

        Raises:
            RefusedError: One of them is not there, or they are the same.
        """
        with self.lock:
            if kept_id == lost_id:
                raise RefusedError(400, "A person cannot be merged with itself")
            kept, lost = self.row(Kind.PERSON, kept_id), self.row(Kind.PERSON, lost_id)
            before, gone = copy.deepcopy(kept), copy.deepcopy(lost)
            del self.rows[Kind.PERSON][lost_id]
            for channel in ("phones", "emails"):
                held = {one["value"] for one in kept[channel]}
                kept[channel] += [
                    {**one, "primary": not kept[channel]}
                    for one in lost[channel]
                    if one["value"] not in held
                ]
            kept["org_id"] = kept["org_id"] if kept["org_id"] is not None else lost["org_id"]
            kept["custom_fields"] = {**lost["custom_fields"], **kept["custom_fields"]}
            for kind in (Kind.LEAD, Kind.DEAL, Kind.NOTE):
                for row in self.rows[kind].values():
                    if row["person_id"] == lost_id:
                        row["person_id"] = kept_id
                        if self.rules.merge_touches_leads and kind is not Kind.NOTE:
                            row["update_time"] = self.now()
            self.index.remove(Kind.PERSON, lost_id, self.now())
            self._publish(
                "delete", Kind.PERSON, None, source, previous=gone, merged_to_id=str(kept_id)
            )
            kept["update_time"] = self.now()
            self._index(Kind.PERSON, kept)
            self._publish(
                "change", Kind.PERSON, kept, source, previous=before, merged_from_id=str(lost_id)
            )

    # -- conversions

    def start_conversion(self, lead_id: str, stage_id: int | None) -> Conversion:
        """Begin to make a deal of a lead; it ends when its time has passed.

        Raises:
            RefusedError: There is no such lead or stage, or the lead is archived.
        """
        with self.lock:
            lead = self.row(Kind.LEAD, lead_id)
            if lead["is_archived"]:
                raise RefusedError(400, "Archived leads cannot be edited")
            if stage_id is None:
                stage_id = next(iter(self.stages))
            if stage_id not in self.stages:
                raise RefusedError(400, f"Stage {stage_id} not found")
            at = self.now()
            started = Conversion(
                id=str(uuid4()),
                lead_id=lead_id,
                stage_id=stage_id,
                started_at=at,
                ends_at=at + self.rules.conversion_takes,
                ends_as=self.rules.conversion_ends_as,
            )
            self.conversions[started.id] = started
            return started

    def settle(self) -> None:
        """Let conversions go on whose time has come."""
        now = self.now()
        for one in self.conversions.values():
            if one.status not in {"not_started", "running"}:
                continue
            if one.ends_at > now:
                one.status = "running" if now > one.started_at else "not_started"
            elif one.ends_as == "completed" and one.lead_id in self.rows[Kind.LEAD]:
                self._convert(one)
            else:
                one.status = "failed" if one.ends_as == "completed" else one.ends_as

    def _convert(self, conversion: Conversion) -> None:
        conversion.status = "completed"
        lead = self.rows[Kind.LEAD][conversion.lead_id]
        value = lead["value"] or {"amount": 0, "currency": "BRL"}
        deal = self.create(
            Kind.DEAL,
            {
                "title": lead["title"],
                "owner_id": lead["owner_id"],
                "person_id": lead["person_id"],
                "org_id": lead["organization_id"],
                "stage_id": conversion.stage_id,
                "value": value["amount"],
                "currency": value["currency"],
                "expected_close_date": lead["expected_close_date"],
                "origin": lead["origin"],
                "origin_id": lead["origin_id"],
                "channel": lead["channel"],
                "channel_id": lead["channel_id"],
                "source_lead_id": lead["id"],
                "custom_fields": lead["custom_fields"],
            },
            Source.APP,
        )
        conversion.deal_id = deal["id"]
        for note in self.rows[Kind.NOTE].values():
            if note["lead_id"] == lead["id"]:
                note |= {"lead_id": None, "deal_id": deal["id"]}
        self.delete(Kind.LEAD, conversion.lead_id, Source.APP)

    # -- what a write brings with it

    def _next_id(self, kind: Kind) -> int:
        self._last_id[kind] += 1
        return self._last_id[kind]

    def _check_references(self, kind: Kind, values: Mapping[str, Any]) -> None:
        person = values.get("person_id")
        if person is not None:
            self._check_linked(Kind.PERSON, person)
        organization = values.get(ORGANIZATION_FIELDS.get(kind, "org_id"))
        if organization is not None and kind is not Kind.ORGANIZATION:
            self._check_linked(Kind.ORGANIZATION, organization)
        for label in values.get("label_ids") or () if kind is Kind.LEAD else ():
            if label not in self.labels:
                raise RefusedError(400, f"Label {label} not found")
        for name, known in (("stage_id", self.stages), ("pipeline_id", self.pipelines)):
            if values.get(name) is not None and values[name] not in known:
                raise RefusedError(400, f"{name} {values[name]} not found")

    def _check_linked(self, kind: Kind, row_id: int) -> None:
        found = self.find(kind, row_id)
        if found is None or found["is_deleted"]:
            raise RefusedError(400, f"{kind.capitalize()} {row_id} not found")

    def _place_deal(
        self, row: Row, values: Mapping[str, Any], at: datetime, old_stage_id: int | None
    ) -> None:
        """Set what a deal's stage and status bring with them."""
        moves = "pipeline_id" in values
        if row["stage_id"] is None or (moves and "stage_id" not in values):
            wanted = values.get("pipeline_id") or next(iter(self.pipelines))
            row["stage_id"] = next(
                one["id"] for one in self.stages.values() if one["pipeline_id"] == wanted
            )
        row["pipeline_id"] = self.stages[row["stage_id"]]["pipeline_id"]
        if row["stage_id"] != old_stage_id:
            row["stage_change_time"] = None if old_stage_id is None else at
        if "status" in values:
            won, lost = row["status"] == "won", row["status"] == "lost"
            row |= {
                "won_time": at if won else None,
                "lost_time": at if lost else None,
                "close_time": at if won or lost else None,
                "lost_reason": row["lost_reason"] if lost else None,
            }
        if "is_archived" in values:
            row["archive_time"] = at if row["is_archived"] else None

    def _touch(self, kind: Kind, row: Row, before: Row, source: Source) -> None:
        if row == before:
            return
        row["update_time"] = self.now()
        self._index(kind, row)
        self._publish("change", kind, row, source, previous=before)

    def _unlink(self, kind: Kind, row_id: int | str) -> None:
        """Take a deleted contact out of what names it; that does not count as an edit."""
        if kind is Kind.PERSON:
            for holder in (Kind.LEAD, Kind.DEAL):
                for row in self.rows[holder].values():
                    if row["person_id"] == row_id:
                        row["person_id"] = None
        elif kind is Kind.ORGANIZATION:
            for holder, name in ORGANIZATION_FIELDS.items():
                for row in self.rows[holder].values():
                    if row[name] == row_id:
                        row[name] = None

    # -- the index and events

    def _index(self, kind: Kind, row: Row) -> None:
        if kind is Kind.NOTE:
            for holder, name in NOTE_FIELDS.items():
                if row[name] in self.rows[holder]:
                    self._index(holder, self.rows[holder][row[name]])
            return
        entry = entry_of(
            kind,
            row,
            self.now(),
            fields=self.fields_of(kind),
            notes=[
                note["content"]
                for note in self.rows[Kind.NOTE].values()
                if note[NOTE_FIELDS[kind]] == row["id"]
            ],
            organization=self.rows[Kind.ORGANIZATION].get(
                row.get(ORGANIZATION_FIELDS.get(kind, ""), 0)
            ),
            person=self.rows[Kind.PERSON].get(row.get("person_id", 0)),
        )
        self.index.put(kind, row["id"], entry)

    def _publish(
        self,
        action: str,
        kind: Kind,
        row: Row | None,
        source: Source,
        *,
        previous: Row | None,
        **meta: str,
    ) -> None:
        self.tell(
            event_of(
                action,
                kind,
                source,
                self.now(),
                row=row,
                previous=previous,
                fields=self.fields_of(kind),
                meta=meta,
            )
        )


def _check_belongs(lead: Row) -> None:
    if lead["person_id"] is None and lead["organization_id"] is None:
        raise RefusedError(400, "A lead must be linked to a person or an organization")
