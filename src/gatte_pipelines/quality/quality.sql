-- What the checks of quality read and store beside the rows they judge.

-- name: read_rights
-- Which of the nine are there, and whether this role may read the whole of them: rows that
-- row-level security hides would be taken for rows that hold.
select
    n.table_name,
    t.oid is not null as is_there,
    coalesce(has_table_privilege(t.oid, 'select') and not row_security_active(t.oid), false)
        as may_read
from unnest(%(tables)s::text[]) as n (table_name)
cross join lateral (select to_regclass('public.' || n.table_name)::oid as oid) as t;

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
-- Not where a later instant of the same day was judged before: the next run takes that one's
-- failures for the last, and must meet all that changed since.
insert into pipeline.watermarks (pipeline, name, value, updated_at)
select
    'data_quality',
    w.name,
    w.value,
    pipeline.clock()
from unnest(%(names)s::text[], %(values)s::text[]) as w (name, value)
where
    not exists (
        select from pipeline.quality_results as q
        where
            q.checked_at > %(instant)s
            and pipeline.business_date(q.checked_at) = pipeline.business_date(%(instant)s)
    )
on conflict (pipeline, name) do update
    set value = excluded.value, updated_at = excluded.updated_at;

-- name: read_last
-- The last result of each check, but for those that lacked history; and whether its failure was
-- found, or only suspected since the check did not run.
select
    n.check_name,
    r.state,
    r.failed_rows,
    r.failed_keys,
    r.first_bad_run_id,
    r.first_bad_at,
    r.run_id,
    r.checked_at,
    r.last_good_run_id,
    r.last_good_at,
    not exists (
        select from pipeline.quality_results as b
        where
            b.check_name = n.check_name
            and b.checked_at = r.first_bad_at
            and b.run_id = r.first_bad_run_id
            and b.state = 'not_run'
    ) as was_found
from unnest(%(checks)s::text[]) as n (check_name)
cross join
    lateral (
        select q.* from pipeline.quality_results as q
        where
            q.check_name = n.check_name
            and q.state <> 'not_judged'
            and q.checked_at <= %(instant)s
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
    last_good_run_id,
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
    %(last_good_run_id)s,
    %(last_good_at)s
);

-- name: find_suspects
-- Runs that wrote something between the last good run of the checks and the first bad one.
select
    r.run_id,
    r.pipeline
from pipeline.runs as good
inner join pipeline.runs as bad on bad.run_id = %(bad_run_id)s
inner join pipeline.runs as r
    -- One that was still writing when the good run began may have written after it.
    on coalesce(r.finished_at, r.started_at) > good.started_at and r.started_at <= bad.started_at
where
    good.run_id = %(good_run_id)s
    and r.pipeline = any(%(writers)s)
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
