"""Compares the nine tables of an existing database with DOC 01 and with our additions to it.

Only structure, read from the catalog: grants belong to ``roles``, and repairing what is found
belongs to adoption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Index, Row, Table, UniqueConstraint, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Enum, TypeEngine

from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.tables import Base


class Kind(StrEnum):
    """What differs. All but the last two break DOC 01."""

    TABLE = "table"
    COLUMN = "column"
    TYPE = "type"
    NULLABILITY = "nullability"
    DEFAULT = "default"
    ENUM = "enum"
    KEY = "key"
    INDEX = "index"
    ADDITION = "addition"  # one of ours (docs/decisions/0004) is missing
    NOTE = "note"  # theirs, and no business of DOC 01


@dataclass(frozen=True)
class Difference:
    """One difference; ``name`` is a column, or the columns of a key or index, or a trigger.

    ``expected`` is None where something stands there too many, ``found`` where it is missing.
    """

    table: str
    kind: Kind
    name: str
    expected: str | None
    found: str | None

    @property
    def breaks_doc01(self) -> bool:
        """Whether DOC 01 itself is not met."""
        return self.kind not in {Kind.ADDITION, Kind.NOTE}

    def __str__(self) -> str:
        place = f"{self.table}.{self.name}" if self.name else self.table
        return (
            f"{place} ({self.kind}): expected {self.expected or 'nothing'}, "
            f"found {self.found or 'nothing'}"
        )


# DOC 01 §3. Which of the indexes of tables.py are these, and which are ours, is decided here.
DOC01_INDEXES = frozenset(
    {
        ("users", ("phone",)),
        ("conversations", ("user_id", "status")),
        ("messages", ("conversation_id", "created_at")),
        ("tickets", ("protocol",)),
        ("tickets", ("user_id", "status")),
        ("certificates", ("expires_at", "status")),
        ("session_context", ("ttl_expires_at",)),
    }
)

ADDED_TRIGGERS: dict[str, tuple[str, ...]] = {
    "users": ("keep_anonymized", "note_chatbot_name_insert", "note_chatbot_name_update"),
    "conversations": ("record_history", "register_staff"),
    "messages": ("keep_removed_content",),
    "session_context": (),
    "tickets": (
        "record_history",
        "refuse_ticket_deletion",
        "refuse_ticket_truncation",
        "register_staff",
    ),
    "leads": ("keep_anonymized", "record_history"),
    "appointments": ("record_history", "register_staff"),
    "services": ("record_history",),
    "certificates": (
        "note_change_delete",
        "note_change_insert",
        "note_change_update",
        "record_history",
        "set_days_to_expire",
        "set_days_to_expire_update",
    ),
}

_TABLES = text("""
select
    c.relname as table_name, c.relkind::text as kind, c.relpersistence::text as persistence,
    c.relrowsecurity as row_security
from pg_class as c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
    -- What an extension brought belongs to it.
    and not exists (
        select from pg_depend as d
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
order by c.relname
""")

_COLUMNS = text("""
select
    c.relname as table_name, a.attname as column_name, a.attnotnull as is_not_null,
    t.typname as type_name, format_type(a.atttypid, a.atttypmod) as type_text,
    pg_get_expr(d.adbin, d.adrelid) as default_text,
    (
        select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum as e
        where e.enumtypid = t.oid
    ) as labels
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type as t on t.oid = a.atttypid
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and c.relname = any(:nine)
order by c.relname, a.attnum
""")

# Unique constraints are met as indexes; PostgreSQL 18 also lists NOT NULL ('n').
_CONSTRAINTS = text("""
select
    c.relname as table_name, k.conname as name, k.contype::text as kind,
    pg_get_constraintdef(k.oid) as definition
from pg_constraint as k
join pg_class as c on c.oid = k.conrelid
where c.relnamespace = 'public'::regnamespace and c.relname = any(:nine)
    and k.contype in ('p', 'f', 'c', 'x')
order by c.relname, k.conname
""")

_INDEXES = text("""
select
    c.relname as table_name, i.relname as name, x.indisunique as is_unique,
    x.indisvalid as is_valid, m.amname as method, pg_get_expr(x.indpred, x.indrelid) as predicate,
    (
        select array_agg(pg_get_indexdef(x.indexrelid, n, true) order by n)
        from generate_series(1, x.indnkeyatts) as n
    ) as columns
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as c on c.oid = x.indrelid
join pg_am as m on m.oid = i.relam
where c.relnamespace = 'public'::regnamespace and c.relname = any(:nine)
    and not x.indisprimary and not x.indisexclusion
order by c.relname, i.relname
""")

_TRIGGERS = text("""
select c.relname as table_name, g.tgname as name, g.tgenabled::text as enabled
from pg_trigger as g
join pg_class as c on c.oid = g.tgrelid
where c.relnamespace = 'public'::regnamespace and c.relname = any(:nine) and not g.tgisinternal
order by c.relname, g.tgname
""")

_RELATION_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}
# Fires always, or fires for ordinary sessions. The others: disabled, or only on replicas.
_TRIGGER_ON = ("A", "O")


def compare_with_doc01(
    connection: Connection, tables_of_doc01: Sequence[str] = NINE
) -> list[Difference]:
    """Every difference between the schema ``public`` and DOC 01 with our additions.

    Five catalog queries whatever the number of tables; PostgreSQL 15 to 18. The caller's
    transaction is used and left open. Who alters one of the tables is waited for.

    Args:
        connection: To the database.
        tables_of_doc01: Only these of DOC 01's are compared.

    Returns:
        Differences in the order of DOC 01's tables; tables that are not DOC 01's come last.
    """
    tables = connection.execute(_TABLES).all()
    nine = {"nine": list(tables_of_doc01)}
    columns = _by_table(connection.execute(_COLUMNS, nine).all())
    constraints = _by_table(connection.execute(_CONSTRAINTS, nine).all())
    indexes = _by_table(connection.execute(_INDEXES, nine).all())
    triggers = _by_table(connection.execute(_TRIGGERS, nine).all())
    by_name = {row.table_name: row for row in tables}

    found: list[Difference] = []
    for name in tables_of_doc01:
        relation = by_name.get(name)
        if relation is None:
            found.append(Difference(name, Kind.TABLE, "", "table", None))
            continue
        table = Base.metadata.tables[name]
        found += _compare_relation(relation)
        found += _compare_columns(table, columns.get(name, []))
        found += _compare_keys(table, constraints.get(name, []))
        found += _compare_indexes(table, indexes.get(name, []))
        found += _compare_triggers(name, triggers.get(name, []))
    found += [
        Difference(row.table_name, Kind.NOTE, "", None, _RELATION_KINDS[row.kind])
        for row in tables
        if row.table_name not in NINE
    ]
    return found


def _by_table(rows: Sequence[Row[Any]]) -> dict[str, list[Row[Any]]]:
    grouped: dict[str, list[Row[Any]]] = {}
    for row in rows:
        grouped.setdefault(row.table_name, []).append(row)
    return grouped


def _compare_relation(row: Row[Any]) -> Iterator[Difference]:
    kind = _RELATION_KINDS[row.kind]
    if row.persistence == "u":
        kind = f"unlogged {kind} (emptied by a crash)"
    if kind != "table":
        yield Difference(row.table_name, Kind.TABLE, "", "table", kind)
    if row.row_security:
        yield Difference(row.table_name, Kind.NOTE, "", None, "row-level security hides rows")


def _compare_columns(table: Table, rows: list[Row[Any]]) -> Iterator[Difference]:
    found = {row.column_name: row for row in rows}
    for column in table.columns:
        row = found.pop(column.name, None)
        if row is None:
            yield Difference(table.name, Kind.COLUMN, column.name, _column_text(column), None)
            continue
        yield from _compare_type(table.name, column, row)
        if row.is_not_null is column.nullable:
            wanted, given = ("null", "not null") if column.nullable else ("not null", "null")
            yield Difference(table.name, Kind.NULLABILITY, column.name, wanted, given)
        expected = _default_text(column)
        if expected is not None and row.default_text != expected:
            yield Difference(
                table.name, Kind.DEFAULT, column.name, expected, row.default_text or "no default"
            )
    for name, row in found.items():
        nullability = "not null" if row.is_not_null else "null"
        yield Difference(table.name, Kind.COLUMN, name, None, f"{row.type_text} {nullability}")


def _compare_type(table: str, column: Column[Any], row: Row[Any]) -> Iterator[Difference]:
    if not isinstance(column.type, Enum):
        expected = _type_text(column.type)
        if row.type_text != expected:
            given = row.type_text
            if given.startswith("timestamp") and given.endswith("without time zone"):
                given += " (plain: whoever wrote it knows the zone)"
            yield Difference(table, Kind.TYPE, column.name, expected, given)
        return
    if row.labels is None:
        yield Difference(table, Kind.TYPE, column.name, _type_text(column.type), row.type_text)
        return
    if row.labels != column.type.enums:
        yield Difference(
            table, Kind.ENUM, column.name, " | ".join(column.type.enums), " | ".join(row.labels)
        )
    if row.type_name != column.type.name:
        # DOC 01 gives the values only; our casts need the name.
        yield Difference(
            table, Kind.ADDITION, column.name, f"type {column.type.name}", f"type {row.type_name}"
        )


def _compare_keys(table: Table, rows: list[Row[Any]]) -> Iterator[Difference]:
    expected = {f"PRIMARY KEY ({', '.join(table.primary_key.columns.keys())})"}
    expected |= {
        f"FOREIGN KEY ({', '.join(key.column_keys)}) REFERENCES {key.referred_table.name}"
        f"({', '.join(element.column.name for element in key.elements)})"
        for key in table.foreign_key_constraints
    }
    found = set()
    for row in rows:
        definition = row.definition.replace(" public.", " ")
        if row.kind in {"p", "f"}:
            found.add(definition)
        else:
            yield Difference(table.name, Kind.NOTE, row.name, None, definition)
    for definition in sorted(expected - found):
        # The same key with another behaviour is named as what it is.
        head = definition.partition(" REFERENCES ")[0] + " "
        similar = next((other for other in found - expected if other.startswith(head)), None)
        found.discard(similar or "")
        yield Difference(table.name, Kind.KEY, _inside(definition), definition, similar)
    for definition in sorted(found - expected):
        yield Difference(table.name, Kind.KEY, _inside(definition), None, definition)


def _compare_indexes(table: Table, rows: list[Row[Any]]) -> Iterator[Difference]:
    found = {_describe(row.is_unique, row.columns, row.predicate): row for row in rows}
    usable = [row for row in rows if row.is_valid and row.method == "btree"]
    known: set[str] = set()

    for columns in sorted(columns for name, columns in DOC01_INDEXES if name == table.name):
        serving = [row for row in usable if tuple(row.columns) == columns and row.predicate is None]
        known.add(_describe(False, columns, None))
        known |= {_describe(row.is_unique, row.columns, None) for row in serving}
        if not serving:
            yield _missing_index(table, Kind.INDEX, _describe(False, columns, None), found)

    for constraint in sorted(_unique_columns(table)):
        definition = _describe(True, constraint, None)
        known.add(definition)
        if not _is_usable(found.get(definition)):
            yield _missing_index(table, Kind.KEY, definition, found)

    for index in sorted(table.indexes, key=lambda item: str(item.name)):
        columns = tuple(index.columns.keys())
        predicate = _predicate(index)
        if (table.name, columns) in DOC01_INDEXES and not index.unique and predicate is None:
            continue
        definition = _describe(bool(index.unique), columns, predicate)
        known.add(definition)
        if not _is_usable(found.get(definition)):
            yield _missing_index(table, Kind.ADDITION, definition, found)

    for definition, row in found.items():
        if definition not in known:
            # A unique index refuses rows that DOC 01 allows; another one only costs.
            kind = Kind.KEY if row.is_unique else Kind.NOTE
            yield Difference(table.name, kind, row.name, None, definition)


def _compare_triggers(table: str, rows: list[Row[Any]]) -> Iterator[Difference]:
    found = {row.name: row for row in rows}
    for name in ADDED_TRIGGERS[table]:
        row = found.pop(name, None)
        if row is None:
            yield Difference(table, Kind.ADDITION, name, "trigger", None)
        elif row.enabled not in _TRIGGER_ON:
            yield Difference(table, Kind.ADDITION, name, "trigger", "disabled trigger")
    for name in found:
        yield Difference(table, Kind.NOTE, name, None, "trigger")


def _missing_index(
    table: Table, kind: Kind, definition: str, found: dict[str, Row[Any]]
) -> Difference:
    row = found.get(definition)
    given = None
    if row is not None:
        given = f"{definition}, {'invalid' if not row.is_valid else row.method}"
    return Difference(table.name, kind, _inside(definition), definition, given)


def _is_usable(row: Row[Any] | None) -> bool:
    return row is not None and row.is_valid and row.method == "btree"


def _unique_columns(table: Table) -> Iterator[tuple[str, ...]]:
    """Columns that DOC 01 marks UNIQUE."""
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield tuple(column.name for column in constraint.columns)


def _describe(is_unique: bool, columns: Sequence[str], predicate: str | None) -> str:
    unique = "unique index" if is_unique else "index"
    where = "" if predicate is None else f" where {_plain(predicate)}"
    return f"{unique} ({', '.join(columns)}){where}"


def _predicate(index: Index) -> str | None:
    where = index.dialect_options["postgresql"]["where"]
    return None if where is None else str(where)


def _plain(expression: str) -> str:
    """An expression as the catalog prints it, without outer brackets and the schema public."""
    bare = re.sub(r"\bpublic\.", "", expression)
    return bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare


def _inside(definition: str) -> str:
    """The columns a key or an index stands on."""
    return definition.partition("(")[2].partition(")")[0]


def _column_text(column: Column[Any]) -> str:
    return f"{_type_text(column.type)} {'null' if column.nullable else 'not null'}"


def _default_text(column: Column[Any]) -> str | None:
    return None if column.server_default is None else str(column.server_default.arg)  # type: ignore[attr-defined]


# What the catalog calls the types that SQLAlchemy writes shorter.
_CATALOG_WORDS = (
    (re.compile(r"^varchar"), "character varying"),
    (re.compile(r"^numeric\((\d+), (\d+)\)$"), r"numeric(\1,\2)"),
)


def _type_text(kind: TypeEngine[Any]) -> str:
    written = kind.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    if isinstance(kind, Enum):
        return f"{written} ({' | '.join(kind.enums)})"
    written = written.lower()
    for pattern, catalog in _CATALOG_WORDS:
        written = pattern.sub(catalog, written)
    return written
