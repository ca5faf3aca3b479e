-- Holds: what must be kept for now, whatever its age.

-- name: find_survivor
-- A user that became part of another is held as that other one.
select into_user_id from pipeline.user_merges
where from_user_id = %(row_id)s;

-- name: insert_hold
insert into pipeline.retention_holds (
    hold_id, table_name, row_id, reason, owner, placed_at, ends_at
)
values (
    %(hold_id)s, %(held_table)s, %(row_id)s, %(hold_reason)s, %(hold_owner)s, %(placed_at)s,
    %(ends_at)s
);

-- name: release_hold
-- Once: the instant of the first release stays.
update pipeline.retention_holds
set released_at = %(released_at)s
where hold_id = %(hold_id)s and released_at is null
returning hold_id;

-- name: read_holds
-- At an instant: those in force then; without one: all.
select
    hold_id,
    table_name,
    row_id,
    reason,
    owner,
    placed_at,
    ends_at,
    released_at
from pipeline.retention_holds
where
    %(in_force_at)s::timestamptz is null
    or (
        placed_at <= %(in_force_at)s::timestamptz
        and coalesce(ends_at > %(in_force_at)s::timestamptz, true)
        and coalesce(released_at > %(in_force_at)s::timestamptz, true)
    )
order by placed_at, hold_id;
