-- What the checks of quality read and store beside the rows they judge.

-- name: read_rights
-- Which of the nine are there, and whether this role may read the whole of them: row-level security
-- would hide rows and say nothing.
select
    n.table_name,
    to_regclass('public.' || n.table_name) is not null as is_there,
    coalesce(
        has_table_privilege(to_regclass('public.' || n.table_name)::oid, 'select')
        and not row_security_active(to_regclass('public.' || n.table_name)::oid),
        false
    ) as may_read
from unnest(%(tables)s::text[]) as n (table_name);

-- name: read_snapshot
-- Every transaction before the first is over and seen. Another cluster counts on its own: a backup
-- that was restored there.
select
    pg_snapshot_xmin(pg_current_snapshot())::text as first_unseen,
    concat_ws(':', d.oid, c.system_identifier) as database
from pg_database as d
cross join pg_control_system() as c
where d.datname = current_database();

-- name: read_watermarks
select
    name,
    value
from pipeline.watermarks
where pipeline = 'data_quality';

-- name: store_watermarks
insert into pipeline.watermarks (pipeline, name, value, updated_at)
select
    'data_quality',
    w.name,
    w.value,
    pipeline.clock()
from unnest(%(names)s::text[], %(values)s::text[]) as w (name, value)
on conflict (pipeline, name) do update
    set value = excluded.value, updated_at = excluded.updated_at;

-- name: read_last
-- The last result of each check that says whether it holds.
select
    n.check_name,
    r.state,
    r.failed_rows,
    r.failed_keys,
    r.first_bad_run_id,
    r.first_bad_at,
    r.checked_at,
    r.last_good_at
from unnest(%(checks)s::text[]) as n (check_name)
cross join
    lateral (
        select q.* from pipeline.quality_results as q
        where q.check_name = n.check_name and q.state <> 'not_judged'
        order by q.checked_at desc, q.result_id desc
        limit 1
    ) as r;

-- name: store_results
insert into pipeline.quality_results (
    run_id,
    checked_at,
    check_name,
    table_name,
    severity,
    state,
    is_full,
    failed_rows,
    failed_keys,
    detail,
    first_bad_run_id,
    first_bad_at,
    last_good_at
)
values (
    %(run_id)s,
    %(checked_at)s,
    %(check_name)s,
    %(table_name)s,
    %(severity)s,
    %(state)s,
    %(is_full)s,
    %(failed_rows)s,
    %(failed_keys)s::uuid[],
    %(detail)s,
    %(first_bad_run_id)s,
    %(first_bad_at)s,
    %(last_good_at)s
);

-- name: find_suspects
-- Runs that wrote something between the last good check and the first bad one.
select
    r.run_id,
    r.pipeline,
    r.started_at
from pipeline.runs as r
where
    r.pipeline = any(%(writers)s)
    and r.started_at > coalesce(%(good_at)s::timestamptz, '-infinity')
    and r.started_at <= %(bad_at)s
    and (
        r.outcome is null
        or r.outcome = 'failed'
        or coalesce((r.report ->> 'inserted')::bigint, 0) > 0
        or coalesce((r.report ->> 'updated')::bigint, 0) > 0
    )
order by r.started_at
limit 3;

-- name: read_volumes
select
    day,
    row_count
from pipeline.table_volumes
where table_name = %(table)s and day >= %(first)s and day < %(today)s;

-- name: store_volumes
insert into pipeline.table_volumes (table_name, day, row_count, counted_at)
select
    %(table)s,
    d.day,
    d.row_count,
    %(counted_at)s
from unnest(%(days)s::date[], %(rows)s::bigint[]) as d (day, row_count)
on conflict (table_name, day) do nothing;
