-- name: record
-- What stands there open already is not noted twice (sync_conflicts_open_key).
insert into pipeline.sync_conflicts (
    conflict_id,
    system,
    table_name,
    local_id,
    kind,
    field,
    winner,
    our_value,
    their_value,
    run_id,
    found_at
)
values (
    %(conflict_id)s,
    %(sync_system)s,
    %(table)s,
    %(local_id)s,
    %(conflict_kind)s,
    %(conflict_field)s,
    %(winner)s,
    %(our_value)s,
    %(their_value)s,
    %(run_id)s,
    %(instant)s
)
on conflict do nothing;

-- name: list_conflicts
-- The newest first.
select
    conflict_id,
    system,
    table_name,
    local_id,
    kind,
    field,
    winner,
    our_value,
    their_value,
    run_id,
    found_at,
    resolved_at,
    resolution
from pipeline.sync_conflicts
where resolved_at is null or not %(only_open)s
order by found_at desc, conflict_id asc
limit %(limit)s;

-- name: read_conflict
select
    conflict_id,
    system,
    table_name,
    local_id,
    kind,
    field,
    winner,
    our_value,
    their_value,
    run_id,
    found_at,
    resolved_at,
    resolution
from pipeline.sync_conflicts
where conflict_id = %(conflict_id)s
for update;

-- name: mark_resolved
update pipeline.sync_conflicts
set resolved_at = %(instant)s, resolution = %(resolution)s
where conflict_id = %(conflict_id)s;
