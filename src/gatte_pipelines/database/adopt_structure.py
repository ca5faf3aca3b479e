"""What an existing database's structure needs to become DOC 01's: the statements, and what blocks.

Reading the differences belongs to ``drift``, rows that contradict each other to ``adopt_rows``,
running anything to ``adopt``. Here is only planned, in the caller's transaction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row
from sqlalchemy import Column, Index, Integer, Numeric, String, Text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import Enum

from gatte_pipelines.database import roles
from gatte_pipelines.database.drift import ADDED_TRIGGERS, DOC01_INDEXES, Difference, Kind
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.tables import Base

MAX_IDS = 100
"""Ids shown of the rows of one finding; its count tells how many there are."""

# What theirs is called where our migrations need the name.
_RENAMED = "_before_adoption"


@dataclass(frozen=True)
class Finding:
    """Something a person should know before adoption, or must mend.

    Holds counts and ids of rows, never their values. ``statements`` are for a DBA to look at and
    run; adoption does not run them.
    """

    code: str
    table: str
    text: str
    count: int = 0
    ids: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One statement that ``--execute`` runs, and what it is for; ``rows`` is an estimate."""

    table: str
    text: str
    statement: str
    rows: int | None = None


@dataclass
class Structure:
    """What was planned. Conversions come first, keys and indexes after the rows are repaired."""

    blocks: list[Finding] = field(default_factory=list)
    conversions: list[Step] = field(default_factory=list)
    additions: list[Step] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    by_migrations: list[str] = field(default_factory=list)
    left_alone: list[Difference] = field(default_factory=list)
    plain_columns: list[tuple[str, str]] = field(default_factory=list)

    def is_sound(self, table: str, *columns: str) -> bool:
        """Whether these columns can be read as DOC 01's, so that rows may be checked."""
        unsound = {(item.table, item.code) for item in self.blocks}
        if (table, "table") in unsound:
            return False
        return not any((table, f"column {name}") in unsound for name in columns)


_COLUMNS: LiteralString = """
select
    c.relname::text as table_name, a.attname::text as column_name, t.typname::text as type_name,
    n.nspname::text as type_schema, format_type(a.atttypid, a.atttypmod) as type_text,
    a.attgenerated <> '' as is_generated, a.attnotnull as is_not_null,
    pg_get_expr(d.adbin, d.adrelid) as default_text, a.atthasdef or a.attidentity <> '' as has_value
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type as t on t.oid = a.atttypid
join pg_namespace as n on n.oid = t.typnamespace
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and c.relname = any(%(nine)s)
"""

_TYPES: LiteralString = """
select
    t.typname::text as name,
    (
        select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum as e
        where e.enumtypid = t.oid
    ) as labels
from pg_type as t where t.typnamespace = 'public'::regnamespace
"""

_RELATIONS: LiteralString = """
select
    c.relname::text as name, c.relkind::text as kind, greatest(c.reltuples, -1)::bigint as rows,
    o.relname::text as index_of, x.indisunique as is_unique, x.indpred is not null as is_partial,
    (
        select array_agg(pg_get_indexdef(x.indexrelid, k, true) order by k)
        from generate_series(1, x.indnkeyatts) as k
    ) as columns,
    pg_has_role(c.relowner, 'USAGE') as is_ours, pg_get_userbyid(c.relowner)::text as owner,
    c.relrowsecurity as has_row_security
from pg_class as c
left join pg_index as x on x.indexrelid = c.oid
left join pg_class as o on o.oid = x.indrelid
where c.relnamespace = 'public'::regnamespace
"""

_FOREIGN_KEYS: LiteralString = """
select
    c.relname::text as table_name, k.conname::text as name,
    pg_get_constraintdef(k.oid) as definition,
    (
        select array_agg(a.attname::text) from pg_attribute as a
        where a.attrelid = k.conrelid and a.attnum = any(k.conkey)
    ) as columns,
    k.contype::text as kind
from pg_constraint as k
join pg_class as c on c.oid = k.conrelid
where c.relnamespace = 'public'::regnamespace and c.relname = any(%(nine)s)
    and k.contype in ('f', 'c')
"""

# What PostgreSQL refuses to change a column's type under.
_DEPENDENTS: LiteralString = """
select distinct
    c.relname::text as table_name, a.attname::text as column_name,
    pg_describe_object(d.classid, d.objid, d.objsubid) as what
from pg_depend as d
join pg_class as c on c.oid = d.refobjid
join pg_attribute as a on a.attrelid = c.oid and a.attnum = d.refobjsubid
where d.refclassid = 'pg_class'::regclass and c.relnamespace = 'public'::regnamespace
    and c.relname = any(%(nine)s)
    and (
        d.classid = any(array['pg_rewrite', 'pg_policy', 'pg_trigger']::regclass[])
        or d.classid = 'pg_attrdef'::regclass and exists (
            select from pg_attrdef as f
            where f.oid = d.objid and (f.adrelid, f.adnum) <> (c.oid, a.attnum)
        )
    )
order by 1, 2, 3
"""

_INSTANT = (
    r"(?:now\(\)|(?:CURRENT_|LOCAL)TIMESTAMP(?:\(\d\))?"
    r"|(?:clock|statement|transaction)_timestamp\(\))"
)
# How people write "now" as the default of a plain timestamp; each means now() once it is not plain.
_NOW = re.compile(
    rf"\(*{_INSTANT}\)*(?: AT TIME ZONE '[^']+'::text|::timestamp(?:\(\d\))? without time zone)?\)*"
    rf"|timezone\('[^']+'::text, {_INSTANT}\)"
)
_LABEL = re.compile(r"'([^']*)'::.+")
_PLAIN_TIMESTAMP = re.compile(r"timestamp(\(\d\))? without time zone")
_LENGTH = re.compile(r"character varying\((\d+)\)")


class StructurePlanner:
    """Plans one database; made for one use.

    Args:
        connection: Inside a transaction; only read.
        zone: The zone of plain timestamps, or None where nobody said.
    """

    def __init__(self, connection: psycopg.Connection, zone: str | None) -> None:
        self._connection = connection
        self._zone = zone
        self._plan = Structure()
        nine = {"nine": list(NINE)}
        self._columns = {
            (row.table_name, row.column_name): row for row in self.rows(_COLUMNS, nine)
        }
        self._types: dict[str, list[str] | None] = {
            row.name: row.labels for row in self.rows(_TYPES)
        }
        self._relations = {row.name: row for row in self.rows(_RELATIONS)}
        self._constraints = self.rows(_FOREIGN_KEYS, nine)
        self._dependents: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in self.rows(_DEPENDENTS, nine):
            self._dependents[row.table_name, row.column_name].append(row.what)
        self._actions: dict[str, list[sql.Composable]] = defaultdict(list)
        self._told: dict[str, list[str]] = defaultdict(list)

    def rows(
        self, query: LiteralString | sql.Composed, values: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The rows of a query, by name."""
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            return list(cursor.execute(query, values).fetchall())

    def plan(self, differences: Sequence[Difference]) -> Structure:
        """Sort every difference into what is done, what blocks and what is left alone."""
        self._check_tables()
        retyped: set[tuple[str, str]] = set()
        for item in differences:
            place = item.table, item.name
            if item.kind is Kind.TABLE:
                self._block_table(item)
            elif item.kind is Kind.COLUMN:
                self._plan_column(item)
            elif item.kind in {Kind.TYPE, Kind.ENUM} or _is_type_name(item):
                if place not in retyped:
                    retyped.add(place)
                    self._plan_type(*place)
            elif item.kind is Kind.NULLABILITY:
                self._plan_nullability(item)
            elif item.kind is Kind.DEFAULT:
                self._act(
                    item.table,
                    sql.SQL("alter column {} set default {}").format(
                        sql.Identifier(item.name), sql.SQL(_literal(item.expected))
                    ),
                    f"{item.name} gets its default {item.expected}",
                )
            elif item.kind is Kind.NOTE:
                self._plan.left_alone.append(item)
            elif place != ("users", "phone") and item.kind is Kind.ADDITION:
                self._plan.by_migrations.append(f"{item.table}: {_added(item)}")
            else:
                self._plan_key(item)
        self._flush_actions()
        self._clear_names()
        return self._plan

    # --- tables ----------------------------------------------------------------------------------

    def _check_tables(self) -> None:
        others: dict[str, list[str]] = defaultdict(list)
        for name in NINE:
            row = self._relations.get(name)
            if row is None:
                continue
            if not row.is_ours:
                others[row.owner].append(name)
            if row.has_row_security:
                self._plan.warnings.append(
                    Finding(
                        "row_security",
                        name,
                        f"{name} has row-level security: without a policy for {roles.PIPELINE} "
                        "the pipelines see no rows of it",
                    )
                )

        for owner, tables in others.items():
            self._block(
                "owner",
                tables[0],
                f"{', '.join(tables)}: owned by {owner}, and this login is another; set "
                "GATTE_MIGRATION_DATABASE_URL to the URL of the role that owns all nine",
            )

    def _block_table(self, item: Difference) -> None:
        if item.found is None:
            text = (
                f"DOC 01's table {item.table} is missing; create it as "
                "migrations/versions/0001_doc01_baseline.sql writes it"
            )
        else:
            text = f"{item.table} is a {item.found}; DOC 01 wants an ordinary table"
        self._block("table", item.table, text)

    def _plan_column(self, item: Difference) -> None:
        place = f"{item.table}.{item.name}"
        if item.found is None:
            column = Base.metadata.tables[item.table].c[item.name]
            if not column.nullable:
                self._block(
                    f"column {item.name}",
                    item.table,
                    f"{place} is missing, and nobody but you knows what to fill it with "
                    f"({item.expected})",
                )
                return
            kind = (
                sql.SQL("public.") + sql.Identifier(str(column.type.name))
                if isinstance(column.type, Enum)
                else sql.SQL(_literal((item.expected or "").removesuffix(" null")))
            )
            self._act(
                item.table,
                sql.SQL("add column {} {}").format(sql.Identifier(item.name), kind),
                f"{item.name} is added, empty",
            )
            return
        row = self._columns[item.table, item.name]
        if row.is_not_null and not row.has_value and item.table in roles.INSERTS:
            self._block(
                "required_column",
                item.table,
                f"{place} is not DOC 01's, NOT NULL and without default: the rows this project "
                "inserts would be refused",
                statements=(
                    self._text(
                        sql.SQL("alter table public.{} alter column {} drop not null;").format(
                            sql.Identifier(item.table), sql.Identifier(item.name)
                        )
                    ),
                ),
            )
            return
        self._plan.left_alone.append(item)

    # --- types -----------------------------------------------------------------------------------

    def _plan_type(self, table: str, name: str) -> None:
        column = Base.metadata.tables[table].c[name]
        row = self._columns[table, name]
        users = self._dependents.get((table, name))
        if row.is_generated:
            self._block_type(table, name, "it is a generated column; DOC 01's is an ordinary one")
        elif isinstance(column.type, Enum):
            self._plan_enum(table, name, column.type, row, users)
        elif users:
            self._block_type(
                table,
                name,
                f"it is {row.type_text} and must be converted, but {', '.join(users)} depends on "
                "it; drop that, adopt, and create it again",
            )
        elif isinstance(column.type, TIMESTAMP):
            self._plan_timestamp(table, name, row)
        else:
            self._plan_plain_type(table, name, column, row)

    def _plan_timestamp(self, table: str, name: str, row: Any) -> None:
        wanted = sql.SQL("timestamptz")
        if row.type_name == "timestamptz":  # with fewer digits
            self._act(table, _retype(name, wanted), f"{name} keeps all digits of its seconds")
            return
        if not _PLAIN_TIMESTAMP.fullmatch(row.type_text):
            self._block_type(table, name, f"it is {row.type_text}, not a timestamp")
            return
        if row.default_text is not None and not _NOW.fullmatch(row.default_text):
            self._block_type(
                table, name, "its default is not understood; drop the default or make it now()"
            )
            return
        self._plan.plain_columns.append((table, name))
        if self._zone is None:
            return
        using = sql.SQL("{} at time zone {}").format(sql.Identifier(name), sql.Literal(self._zone))
        now = sql.SQL("now()") if row.default_text is not None else None
        self._act(table, _retype(name, wanted, using, now), None)

    def _plan_plain_type(self, table: str, name: str, column: Column[Any], row: Any) -> None:
        kind, value = column.type, sql.Identifier(name)
        lossy: sql.Composed | None = None
        target: str
        if isinstance(kind, Text) and row.type_name == "varchar":
            target = "text"
        elif (
            isinstance(kind, String)
            and not isinstance(kind, Text)
            and row.type_name in {"varchar", "text"}
        ):
            target = f"varchar({kind.length})"
            length = _LENGTH.fullmatch(row.type_text)
            if length is None or int(length[1]) > (kind.length or 0):
                lossy = sql.SQL("char_length({}) > {}").format(value, sql.Literal(kind.length))
        elif isinstance(kind, Integer) and row.type_name in {"int2", "int8"}:
            target = "integer"
            if row.type_name == "int8":
                lossy = sql.SQL("{} not between -2147483648 and 2147483647").format(value)
        elif isinstance(kind, Numeric) and row.type_name in {"numeric", "int2", "int4", "int8"}:
            target = f"numeric({kind.precision}, {kind.scale})"
            lossy = sql.SQL("{0} <> round({0}::numeric, {1}) or abs({0}) >= {2}").format(
                value,
                sql.Literal(kind.scale),
                sql.Literal(10 ** ((kind.precision or 0) - (kind.scale or 0))),
            )
        elif isinstance(kind, JSONB) and row.type_name == "json":
            target = "jsonb"
            lossy = sql.SQL(r"{}::text ~ '\\u0000'").format(value)
        else:
            self._block_type(
                table,
                name,
                f"it is {row.type_text} where DOC 01 has {kind}; converting that is a decision "
                "about the chatbot's own statements as well",
            )
            return
        if lossy is not None and self._block_rows(
            f"column {name}",
            table,
            lossy,
            f"{table}.{name} holds values that do not fit {target}; shorten or correct them",
        ):
            return
        self._act(
            table,
            _retype(name, sql.SQL(_literal(target))),
            f"{name} becomes {target} (was {row.type_text})",
        )

    def _plan_enum(
        self, table: str, name: str, kind: Enum, row: Any, users: list[str] | None
    ) -> None:
        wanted, labels = str(kind.name), list(kind.enums)
        theirs = self._types.get(row.type_name) if row.type_schema == "public" else None
        if theirs == labels and wanted not in self._types:
            self._types[wanted] = self._types.pop(row.type_name)
            self._plan.conversions.append(
                Step(
                    table,
                    f"{table}.{name}: the type {row.type_name} is renamed to {wanted}",
                    self._text(
                        sql.SQL("alter type public.{} rename to {}").format(
                            sql.Identifier(row.type_name), sql.Identifier(wanted)
                        )
                    ),
                )
            )
            self._plan.warnings.append(
                Finding(
                    "renamed_type",
                    table,
                    f"the chatbot's statements that cast to the type {row.type_name} must say "
                    f"{wanted} from then on",
                )
            )
            return
        if theirs is None and row.type_name not in {"varchar", "text"}:
            self._block_type(table, name, f"it is {row.type_text}, not an ENUM of public")
            return
        value = sql.Identifier(name)
        more = [label for label in theirs or [] if label not in labels]
        if more:
            self._block_rows(
                f"column {name}",
                table,
                sql.SQL("{}::text = any({})").format(value, sql.Literal(more)),
                f"{table}.{name} allows {', '.join(more)}, which DOC 01 does not; give these rows "
                f"another value, then remove the values from the type {row.type_name}",
                always=True,
            )
            return
        in_the_way = [
            *(users or []),
            *(f"check {k.name}" for k in self._of(table, name) if k.kind == "c"),
        ]
        if in_the_way:
            self._block_type(
                table,
                name,
                f"it must become the type {wanted}, but {', '.join(in_the_way)} depends on it; "
                "drop that first",
            )
            return
        default = None if row.default_text is None else _LABEL.fullmatch(row.default_text)
        if row.default_text is not None and (default is None or default[1] not in labels):
            self._block_type(table, name, "its default is none of DOC 01's values; drop it")
            return
        if self._block_rows(
            f"column {name}",
            table,
            sql.SQL("{}::text <> all({})").format(value, sql.Literal(labels)),
            f"{table}.{name} holds values that are not DOC 01's: {' | '.join(labels)}",
        ):
            return
        if not self._make_type(table, name, wanted, labels, row.type_name):
            return
        target = sql.SQL("public.") + sql.Identifier(wanted)
        self._act(
            table,
            _retype(
                name,
                target,
                sql.SQL("{}::text::{}").format(value, target),
                None if default is None else sql.Literal(default[1]),
            ),
            f"{name} becomes the type {wanted} (was {row.type_text})",
        )

    def _make_type(
        self, table: str, column: str, wanted: str, labels: list[str], current: str
    ) -> bool:
        if self._types.get(wanted) == labels:
            return True
        if wanted in self._types:
            if wanted != current:
                self._block_type(table, column, f"another type is called {wanted} already")
                return False
            self._plan.conversions.append(
                Step(
                    table,
                    f"the former type {wanted} is set aside",
                    self._text(
                        sql.SQL("alter type public.{} rename to {}").format(
                            sql.Identifier(wanted), sql.Identifier(wanted + _RENAMED)
                        )
                    ),
                )
            )
        self._types[wanted] = labels
        self._plan.conversions.append(
            Step(
                table,
                f"the type {wanted} is created with DOC 01's values",
                self._text(
                    sql.SQL("create type public.{} as enum ({})").format(
                        sql.Identifier(wanted), sql.SQL(", ").join(map(sql.Literal, labels))
                    )
                ),
            )
        )
        return True

    def _plan_nullability(self, item: Difference) -> None:
        name = sql.Identifier(item.name)
        if item.expected == "null":
            self._act(
                item.table,
                sql.SQL("alter column {} drop not null").format(name),
                f"{item.name} may be null",
            )
            return
        if not self._block_rows(
            "null",
            item.table,
            sql.SQL("{} is null").format(name),
            f"{item.table}.{item.name} is null, which DOC 01 forbids; fill it",
        ):
            self._act(
                item.table,
                sql.SQL("alter column {} set not null").format(name),
                f"{item.name} may no longer be null",
            )

    # --- keys and indexes ------------------------------------------------------------------------

    def _plan_key(self, item: Difference) -> None:
        if item.expected is None:
            self._plan_foreign_constraint(item)
        elif item.expected.startswith("PRIMARY KEY"):
            if item.found is not None or not self._block_duplicates(item.table, item.name):
                self._add(
                    item.table,
                    f"{item.table}: primary key ({item.name})",
                    sql.SQL("alter table public.{} add primary key ({})"),
                    sql.Identifier(item.table),
                    sql.Identifier(item.name),
                )
        elif item.expected.startswith("FOREIGN KEY"):
            self._plan_foreign_key(item)
        elif item.table == "users" and item.name == "phone" and item.kind is not Kind.INDEX:
            # Whether two users have one phone is asked of the rows, in adopt_rows.
            self._add_index(
                item.table, "unique index (phone)", ("phone",), "users_phone_key", unique=True
            )
        elif item.kind is Kind.KEY:
            if not self._block_duplicates(item.table, item.name):
                self._add_index(
                    item.table,
                    item.expected,
                    (item.name,),
                    f"{item.table}_{item.name}_key",
                    unique=True,
                )
        elif (item.table, item.name) != ("users", "phone"):  # the unique one serves as well
            columns = tuple(item.name.split(", "))
            self._add_index(
                item.table, item.expected, columns, f"{item.table}_{'_'.join(columns)}_idx"
            )

    def _plan_foreign_key(self, item: Difference) -> None:
        column = Base.metadata.tables[item.table].c[item.name]
        parent = next(iter(column.foreign_keys)).column
        table, name = sql.Identifier(item.table), sql.Identifier(item.name)
        target = sql.Identifier(parent.table.name)
        old = [
            key.name
            for key in self._of(item.table, item.name)
            if key.kind == "f" and key.definition.replace(" public.", " ") == item.found
        ]
        if self._plan.is_sound(item.table, item.name) and self._plan.is_sound(
            parent.table.name, "id"
        ):
            query = sql.SQL(
                "{0} is not null and not exists (select from public.{1} as p where p.id = t.{0})"
            ).format(name, target)
            look = sql.SQL("select * from public.{} as t where {};").format(table, query)
            if self._block_rows(
                "orphan",
                item.table,
                query,
                f"{item.table}.{item.name} names rows of {parent.table.name} that do not exist; "
                "restore those, or repoint or remove these",
                statements=(self._text(look),),
            ):
                return
        text = f"{item.table}: foreign key ({item.name}) to {parent.table.name}"
        if old:
            text += f", in place of one that says {(item.found or '').partition(') ')[2]}"
        self._add(
            item.table,
            text,
            sql.SQL("alter table public.{} {}add foreign key ({}) references public.{} (id)"),
            table,
            sql.SQL("").join(
                sql.SQL("drop constraint {}, ").format(sql.Identifier(key)) for key in old
            ),
            name,
            target,
        )
        if item.found and ("ON DELETE CASCADE" in item.found or "ON DELETE SET" in item.found):
            self._plan.warnings.append(
                Finding(
                    "deletes_along",
                    item.table,
                    f"deleting a row of {parent.table.name} no longer changes {item.table}: "
                    "the chatbot must delete what refers to it first",
                )
            )

    def _plan_foreign_constraint(self, item: Difference) -> None:
        """A key that DOC 01 does not have."""
        found = item.found or ""
        table = Base.metadata.tables[item.table]
        if found.startswith("unique index") and item.table in roles.INSERTS:
            row = self._relations[item.name]
            harmless = any(
                name not in table.c or (table.c[name].nullable or name == "id")
                for name in row.columns
            )
            if harmless:
                self._plan.left_alone.append(item)
                return
            self._block(
                "unique",
                item.table,
                f"the {found} called {item.name} refuses rows that DOC 01 allows; remove it",
            )
        elif found.startswith("PRIMARY KEY"):
            self._block(
                "primary_key", item.table, f"{item.table} has the {found} in place of DOC 01's (id)"
            )
        else:
            self._plan.left_alone.append(item)

    def _block_duplicates(self, table: str, column: str) -> bool:
        if not self._plan.is_sound(table, column):
            return False
        condition = sql.SQL(
            "exists (select from public.{0} as o where o.{1} = t.{1} and o.ctid <> t.ctid)"
        ).format(sql.Identifier(table), sql.Identifier(column))
        return self._block_rows(
            "duplicate",
            table,
            condition,
            f"{table}.{column} must be unique, and these rows share theirs; decide which one stays",
        )

    def _add_index(
        self, table: str, text: str, columns: Sequence[str], name: str, *, unique: bool = False
    ) -> None:
        self._add(
            table,
            f"{table}: {text}",
            sql.SQL("create {}index {} on public.{} ({})"),
            sql.SQL("unique " if unique else ""),
            sql.Identifier(self._free_name(name)),
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )

    def _free_name(self, wanted: str) -> str:
        return wanted if wanted not in self._relations else f"{wanted}_doc01"

    def _clear_names(self) -> None:
        """Free the names of what our migrations create on the nine."""
        for table, index in _migrated_indexes():
            name = str(index.name)
            row = self._relations.get(name)
            if row is None:
                continue
            same = (
                row.index_of == table
                and row.columns == list(index.columns.keys())
                and row.is_unique == bool(index.unique)
                and row.is_partial == (index.dialect_options["postgresql"]["where"] is not None)
            )
            if row.kind != "i":
                self._block("name", table, f"{name} must be free for an index of ours; rename it")
            elif same:
                self._add(
                    table,
                    f"{table}: the index {name} makes place for ours on the same columns",
                    sql.SQL("drop index public.{}"),
                    sql.Identifier(name),
                )
            else:
                self._add(
                    table,
                    f"{table}: the index {name} gets another name, since ours is called so",
                    sql.SQL("alter index public.{} rename to {}"),
                    sql.Identifier(name),
                    sql.Identifier(name + _RENAMED),
                )
        ours = {(table, name) for table, names in ADDED_TRIGGERS.items() for name in names}
        query: LiteralString = (
            "select c.relname::text as table_name, g.tgname::text as name from pg_trigger as g "
            "join pg_class as c on c.oid = g.tgrelid "
            "where c.relnamespace = 'public'::regnamespace and not g.tgisinternal"
        )
        for row in self.rows(query):
            if (row.table_name, row.name) in ours:
                self._block(
                    "name",
                    row.table_name,
                    f"the trigger {row.name} has the name of one of ours; rename it",
                )

    # --- building --------------------------------------------------------------------------------

    def _of(self, table: str, column: str) -> list[Any]:
        return [k for k in self._constraints if k.table_name == table and column in k.columns]

    def _act(self, table: str, action: sql.Composable, text: str | None) -> None:
        self._actions[table].append(action)
        if text is not None:
            self._told[table].append(text)

    def _flush_actions(self) -> None:
        """One ALTER TABLE a table: PostgreSQL then rewrites it once."""
        for table in NINE:
            if self._actions[table]:
                statement = sql.SQL("alter table public.{} {}").format(
                    sql.Identifier(table), sql.SQL(", ").join(self._actions[table])
                )
                plain = [name for owner, name in self._plan.plain_columns if owner == table]
                if plain and self._zone is not None:
                    read = f"{', '.join(plain)}: timestamp to timestamptz, read as {self._zone}"
                    self._told[table].insert(0, read)
                rows = self._relations[table].rows
                self._plan.conversions.append(
                    Step(
                        table,
                        f"{table}: {'; '.join(self._told[table])}",
                        self._text(statement),
                        self._count(table) if rows < 0 else rows,
                    )
                )

    def _count(self, table: str) -> int:
        query = sql.SQL("select count(*) as n from public.{}").format(sql.Identifier(table))
        return int(self.rows(query)[0].n)

    def _add(self, table: str, text: str, statement: sql.SQL, *parts: sql.Composable) -> None:
        self._plan.additions.append(Step(table, text, self._text(statement.format(*parts))))

    def _text(self, statement: sql.Composable) -> str:
        return statement.as_string(self._connection)

    def _block(self, code: str, table: str, text: str, *, statements: tuple[str, ...] = ()) -> None:
        self._plan.blocks.append(Finding(code, table, text, statements=statements))

    def _block_type(self, table: str, name: str, why: str) -> None:
        self._block(f"column {name}", table, f"{table}.{name}: {why}")

    def _block_rows(
        self,
        code: str,
        table: str,
        condition: sql.Composed,
        text: str,
        *,
        statements: tuple[str, ...] = (),
        always: bool = False,
    ) -> bool:
        """Block where rows meet a condition (or ``always``); whether it did."""
        if (table, "id") not in self._columns:
            return False  # blocks already
        query = sql.SQL(
            "select t.id::text as id, count(*) over () as total "
            "from public.{} as t where {} order by t.id limit {}"
        ).format(sql.Identifier(table), condition, sql.Literal(MAX_IDS))
        rows = self.rows(query)
        if not rows and not always:
            return False
        self._plan.blocks.append(
            Finding(
                code,
                table,
                text,
                rows[0].total if rows else 0,
                tuple(row.id or "(null)" for row in rows),
                statements,
            )
        )
        return True


def _migrated_indexes() -> Iterator[tuple[str, Index]]:
    """Indexes on the nine that migrations after the baseline create."""
    for name in NINE:
        for index in Base.metadata.tables[name].indexes:
            key = name, tuple(index.columns.keys())
            if key not in DOC01_INDEXES:
                yield name, index


def _is_type_name(item: Difference) -> bool:
    return item.kind is Kind.ADDITION and (item.expected or "").startswith("type ")


def _added(item: Difference) -> str:
    return f"trigger {item.name}" if item.expected == "trigger" else item.expected or ""


def _retype(
    name: str,
    target: sql.Composable,
    using: sql.Composable | None = None,
    default: sql.Composable | None = None,
) -> sql.Composable:
    column = sql.Identifier(name)
    change = sql.SQL("alter column {} type {}").format(column, target)
    if using is not None:
        change += sql.SQL(" using {}").format(using)
    if default is not None:
        change = sql.SQL(
            "alter column {0} drop default, {1}, alter column {0} set default {2}"
        ).format(column, change, default)
    return change


def _literal(text: str | None) -> LiteralString:
    """A type or default of ``tables``, as fixed as a literal."""
    return text or ""
