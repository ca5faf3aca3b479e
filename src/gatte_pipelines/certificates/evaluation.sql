-- name: read_watermark
select w.value
from pipeline.watermarks as w
where w.pipeline = 'certificate_alerts' and w.name = 'evaluated'
for update;

-- name: write_watermark
insert into pipeline.watermarks (pipeline, name, value, updated_at)
values ('certificate_alerts', 'evaluated', %(value)s, pipeline.clock())
on conflict (pipeline, name) do update
    set value = excluded.value, updated_at = excluded.updated_at;

-- name: has_changes
-- What was written, or was reopened since its message failed after all.
select
    exists (
        select from pipeline.certificate_changes
    )
    or exists (
        select from pipeline.certificate_steps as s
        inner join pipeline.certificate_attempts as a on s.step_id = a.step_id
        inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
        where s.state = 'due' and m.state = 'failed'
    ) as has_any;

-- name: create_windows
-- The current step by type, audience and date of expiry, and the steps that it overtook.
create temporary table alert_windows (
    type text not null,
    audience text not null,
    expiry_date date not null,
    threshold smallint not null,
    higher smallint[] not null,
    is_new boolean not null
) on commit drop;

-- name: create_candidates
create temporary table alert_candidates (
    certificate_id uuid primary key,
    service_id uuid not null,
    user_id uuid not null,
    type text not null,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    expiry_date date not null,
    status text not null,
    is_lapsing boolean not null
) on commit drop;

-- name: create_changes
-- What was written since the last evaluation, as it stood when it was read.
create temporary table alert_changes (
    service_id uuid not null,
    user_id uuid not null,
    type text not null,
    version text not null
) on commit drop;

-- name: read_changes
insert into alert_changes (service_id, user_id, type, version)
select
    c.service_id,
    c.user_id,
    c.type,
    c.xmin::text as version
from pipeline.certificate_changes as c;

-- name: find_in_windows
-- By ranges of instants, so that the index on expires_at finds them.
insert into alert_candidates (
    certificate_id,
    service_id,
    user_id,
    type,
    issued_at,
    expires_at,
    expiry_date,
    status,
    is_lapsing
)
select
    f.id,
    f.service_id,
    f.user_id,
    f.type::text,
    f.issued_at,
    f.expires_at,
    d.expiry_date,
    f.status::text,
    false
from (
    select
        w.expiry_date,
        array_agg(distinct w.type) as types
    from alert_windows as w
    where w.is_new
    group by w.expiry_date
) as d
-- A date at a time: the planner thinks of a range between columns as of a ninth of the table.
cross join
    lateral (
        select g.*
        from certificates as g
        where
            g.expires_at >= (d.expiry_date::timestamp at time zone 'America/Sao_Paulo')
            and g.expires_at < ((d.expiry_date + 1)::timestamp at time zone 'America/Sao_Paulo')
            and g.status in ('valid', 'expired')
        order by g.expires_at
    ) as f
where f.type::text = any(d.types);

-- name: find_lapsing
insert into alert_candidates (
    certificate_id,
    service_id,
    user_id,
    type,
    issued_at,
    expires_at,
    expiry_date,
    status,
    is_lapsing
)
select
    f.id,
    f.service_id,
    f.user_id,
    f.type::text,
    f.issued_at,
    f.expires_at,
    pipeline.business_date(f.expires_at),
    f.status::text,
    true
from certificates as f
where
    f.expires_at >= %(starts_at)s
    and f.expires_at < %(ends_at)s
    and f.status in ('valid', 'expired')
on conflict (certificate_id) do nothing;

-- name: find_newest_lapsed
-- Before the first evaluation: those without a newer certificate of their kind, the newest first.
-- A year before 1900 is a mistake of whoever wrote it, and none that Python could read.
insert into alert_candidates (
    certificate_id,
    service_id,
    user_id,
    type,
    issued_at,
    expires_at,
    expiry_date,
    status,
    is_lapsing
)
select
    f.id,
    f.service_id,
    f.user_id,
    f.type::text,
    f.issued_at,
    f.expires_at,
    pipeline.business_date(f.expires_at),
    f.status::text,
    true
from certificates as f
where
    f.expires_at >= '1900-01-01'
    and f.expires_at < %(ends_at)s
    and f.status in ('valid', 'expired')
    and not exists (
        select from certificates as n
        where
            n.service_id = f.service_id
            and n.user_id = f.user_id
            and n.type = f.type
            and n.expires_at > f.expires_at
            and n.status in ('valid', 'expired')
    )
order by f.expires_at desc, f.id asc
limit %(page_size)s
on conflict (certificate_id) do nothing;

-- name: count_lapsed
select count(*) as lapsed
from certificates as f
where
    f.expires_at >= '1900-01-01'
    and f.expires_at < %(ends_at)s
    and f.status in ('valid', 'expired')
    and not exists (
        select from certificates as n
        where
            n.service_id = f.service_id
            and n.user_id = f.user_id
            and n.type = f.type
            and n.expires_at > f.expires_at
            and n.status in ('valid', 'expired')
    );

-- name: find_changed
-- One that is over is listed as lapsed where it has no newer certificate of its kind; before the
-- first evaluation find_newest_lapsed alone does that, for those that the refresh wrote are many.
insert into alert_candidates (
    certificate_id,
    service_id,
    user_id,
    type,
    issued_at,
    expires_at,
    expiry_date,
    status,
    is_lapsing
)
select
    f.id,
    f.service_id,
    f.user_id,
    f.type::text,
    f.issued_at,
    f.expires_at,
    pipeline.business_date(f.expires_at),
    f.status::text,
    coalesce(f.expires_at < %(lapsed_before)s::timestamptz, false)
    and not exists (
        select from certificates as n
        where
            n.service_id = f.service_id
            and n.user_id = f.user_id
            and n.type = f.type
            and n.expires_at > f.expires_at
            and n.status in ('valid', 'expired')
    )
from alert_changes as c
inner join certificates as f
    on c.service_id = f.service_id and c.user_id = f.user_id and c.type = f.type::text
where f.status in ('valid', 'expired') and f.expires_at >= '1900-01-01'
on conflict (certificate_id) do nothing;

-- name: find_groups
-- All certificates of the groups of the candidates, where there is more than one; and of steps
-- that are open after a failure, whose renewal may have been evaluated while they were told.
-- Years that Python has not are moved to where its calendar still has room.
select
    f.service_id,
    f.user_id,
    f.type::text as type,
    array_agg(f.id order by f.id) as ids,
    array_agg(
        least(greatest(f.issued_at, '1900-01-01'), '9000-01-01') order by f.id
    ) as issued,
    array_agg(
        least(greatest(f.expires_at, '1900-01-01'), '9000-01-01') order by f.id
    ) as expiries,
    array_agg(f.status::text order by f.id) as statuses
from (
    select
        c.service_id,
        c.user_id,
        c.type
    from alert_candidates as c
    union
    select
        h.service_id,
        h.user_id,
        h.type::text
    from pipeline.certificate_steps as s
    inner join pipeline.certificate_attempts as a on s.step_id = a.step_id
    inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
    inner join certificates as h on s.certificate_id = h.id
    where s.state = 'due' and m.state = 'failed'
) as g
inner join certificates as f
    on g.service_id = f.service_id and g.user_id = f.user_id and g.type = f.type::text
group by f.service_id, f.user_id, f.type
having count(*) > 1;

-- name: mark_maybe
-- Open steps of groups that were written: whether one of them may be renewed, as it is now.
update pipeline.certificate_steps as s
set reason = case when c.certificate_id = any(%(maybe)s) then 'maybe_renewed' end
from alert_changes as g
inner join alert_candidates as c
    on g.service_id = c.service_id and g.user_id = c.user_id and g.type = c.type
where
    s.certificate_id = c.certificate_id
    and s.expires_at = c.expires_at
    and s.state = 'due'
    and (s.reason is null or s.reason = 'maybe_renewed')
    and s.reason is distinct from
    case when c.certificate_id = any(%(maybe)s) then 'maybe_renewed' end;

-- name: settle_open
-- Open steps that do not stand any more.
with judged as (
    select
        s.step_id,
        case
            when f.id is null or f.status in ('revoked', 'pending') then 'skipped'
            when f.expires_at <> s.expires_at or f.id = any(%(replaced)s) then 'renewed'
            when
                w.threshold is null
                and pipeline.business_date(s.expires_at)
                < pipeline.business_date(pipeline.clock()) - %(last_days)s::integer
                then 'lapsed'
            -- Also one that another policy has not, or not yet.
            when w.threshold is null or w.threshold <> s.threshold then 'superseded'
        end as state
    from pipeline.certificate_steps as s
    left join certificates as f on s.certificate_id = f.id
    left join alert_windows as w
        on
            f.type::text = w.type
            and s.audience = w.audience
            and pipeline.business_date(s.expires_at) = w.expiry_date
    where s.state = 'due'
)

update pipeline.certificate_steps as s
set
    state = j.state,
    settled_at = pipeline.clock(),
    reason = case when j.state = 'skipped' then 'revoked' end
from judged as j
where s.step_id = j.step_id and j.state is not null
returning s.certificate_id, s.state;

-- name: record_due
-- The current steps of the candidates, and beside each the steps that it overtook. One that ended
-- as renewed is due again where that is not so any more, unless its message had arrived already.
with recorded as (
    insert into pipeline.certificate_steps as s (
        step_id,
        certificate_id,
        expires_at,
        threshold,
        audience,
        state,
        reason,
        due_on,
        plan_id,
        recorded_at,
        settled_at
    )
    select
        gen_random_uuid(),
        c.certificate_id,
        c.expires_at,
        w.threshold,
        w.audience,
        case when c.expires_at < c.issued_at then 'skipped' else 'due' end,
        case
            when c.expires_at < c.issued_at then 'bad_dates'
            when c.certificate_id = any(%(maybe)s) then 'maybe_renewed'
        end,
        pipeline.business_date(pipeline.clock()),
        %(plan_id)s::uuid,
        pipeline.clock(),
        case when c.expires_at < c.issued_at then pipeline.clock() end
    from alert_candidates as c
    inner join alert_windows as w on c.type = w.type and c.expiry_date = w.expiry_date
    where not c.is_lapsing and c.certificate_id <> all(%(replaced)s)
    on conflict (certificate_id, expires_at, audience, threshold) do update
        set
            state = excluded.state,
            reason = excluded.reason,
            due_on = excluded.due_on,
            plan_id = excluded.plan_id,
            recorded_at = excluded.recorded_at,
            settled_at = excluded.settled_at
        where
        s.state = 'renewed'
        and not exists (
            select from pipeline.certificate_attempts as a
            inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
            where
                a.step_id = s.step_id  -- noqa: RF01
                and m.state in ('accepted', 'delivered', 'read')
        )
    returning certificate_id, expires_at, threshold, audience, state, due_on
),

overtaken as (
    insert into pipeline.certificate_steps (
        step_id,
        certificate_id,
        expires_at,
        threshold,
        audience,
        state,
        due_on,
        recorded_at,
        settled_at
    )
    select
        gen_random_uuid(),
        r.certificate_id,
        r.expires_at,
        h.threshold,
        r.audience,
        'superseded',
        r.due_on,
        pipeline.clock(),
        pipeline.clock()
    from recorded as r
    inner join alert_candidates as c on r.certificate_id = c.certificate_id
    inner join alert_windows as w
        on
            c.type = w.type
            and c.expiry_date = w.expiry_date
            and r.audience = w.audience
            and r.threshold = w.threshold
    cross join unnest(w.higher) as h (threshold)
    on conflict (certificate_id, expires_at, audience, threshold) do nothing
    returning certificate_id, state
)

select
    r.certificate_id,
    r.state
from recorded as r
union all
select
    o.certificate_id,
    o.state
from overtaken as o;

-- name: record_lapsed
insert into pipeline.certificate_steps (
    step_id,
    certificate_id,
    expires_at,
    threshold,
    audience,
    state,
    due_on,
    recorded_at,
    settled_at
)
select
    gen_random_uuid(),
    c.certificate_id,
    c.expires_at,
    -%(last_days)s::integer - 1,
    'staff',
    'lapsed',
    pipeline.business_date(pipeline.clock()),
    pipeline.clock(),
    pipeline.clock()
from alert_candidates as c
where c.is_lapsing and c.certificate_id <> all(%(replaced)s)
on conflict (certificate_id, expires_at, audience, threshold) do nothing
returning certificate_id, state;

-- name: find_changed_certificates
select c.certificate_id
from alert_changes as g
inner join alert_candidates as c
    on g.service_id = c.service_id and g.user_id = c.user_id and g.type = c.type;

-- name: forget_changes
-- Only as they were read: what was written since, or is being written, is met by the next
-- evaluation.
with free as (
    select
        c.service_id,
        c.user_id,
        c.type
    from pipeline.certificate_changes as c
    inner join alert_changes as g
        on
            c.service_id = g.service_id
            and c.user_id = g.user_id
            and c.type = g.type
            and c.xmin::text = g.version
    for update of c skip locked
)

delete from pipeline.certificate_changes as c
using free as g
where c.service_id = g.service_id and c.user_id = g.user_id and c.type = g.type;
