-- name: read_date
select w.value::date as business_date
from pipeline.watermarks as w
where w.pipeline = 'certificate_state' and w.name = 'business_date';

-- name: write_date
insert into pipeline.watermarks (pipeline, name, value, updated_at)
values (
    'certificate_state',
    'business_date',
    pipeline.business_date(pipeline.clock())::text,
    pipeline.clock()
)
on conflict (pipeline, name) do update
    set value = excluded.value, updated_at = excluded.updated_at;

-- name: next_boundary
-- Where a chunk ends: after so many certificates, and never inside of those of one instant.
select min(f.expires_at)::text as boundary
from certificates as f
where
    f.expires_at > (
        select max(g.expires_at) from (
            select h.expires_at
            from certificates as h
            where h.expires_at >= %(starts_at)s
            order by h.expires_at
            limit %(page_size)s
        ) as g
    );

-- name: refresh_days
update certificates as f
set
    days_to_expire = greatest(
        pipeline.business_date(f.expires_at) - pipeline.business_date(pipeline.clock()), -30
    )
where
    f.expires_at >= %(starts_at)s
    and f.expires_at < %(ends_at)s
    and f.days_to_expire <> greatest(
        pipeline.business_date(f.expires_at) - pipeline.business_date(pipeline.clock()), -30
    );

-- name: refresh_unlocked_days
-- The same, leaving out what somebody holds.
with free as (
    select f.id
    from certificates as f
    where
        f.expires_at >= %(starts_at)s
        and f.expires_at < %(ends_at)s
        and f.days_to_expire <> greatest(
            pipeline.business_date(f.expires_at) - pipeline.business_date(pipeline.clock()), -30
        )
    for no key update skip locked
)

update certificates as f
set
    days_to_expire = greatest(
        pipeline.business_date(f.expires_at) - pipeline.business_date(pipeline.clock()), -30
    )
from free as r
where f.id = r.id;

-- name: count_stale_days
select count(*) as stale
from certificates as f
where
    f.expires_at >= %(starts_at)s
    and f.expires_at < %(ends_at)s
    and f.days_to_expire <> greatest(
        pipeline.business_date(f.expires_at) - pipeline.business_date(pipeline.clock()), -30
    );

-- name: expire
-- The next so many whose last day is over, without those that somebody holds.
with ended as (
    select f.id
    from certificates as f
    where
        f.status = 'valid'
        and f.expires_at >= %(starts_at)s
        and f.expires_at < (
            pipeline.business_date(pipeline.clock())::timestamp at time zone 'America/Sao_Paulo'
        )
    order by f.expires_at
    limit %(page_size)s
    for no key update skip locked
)

update certificates as f
set status = 'expired'
from ended as e
where f.id = e.id;

-- name: count_unexpired
select count(*) as stale
from certificates as f
where
    f.status = 'valid'
    and f.expires_at >= %(starts_at)s
    and f.expires_at < (
        pipeline.business_date(pipeline.clock())::timestamp at time zone 'America/Sao_Paulo'
    );

-- name: expire_changed
-- Written since the last run with a day that is over, however long ago.
with ended as (
    select f.id
    from pipeline.certificate_changes as c
    inner join certificates as f
        on
            c.service_id = f.service_id
            and c.user_id = f.user_id
            and c.type = f.type::text
    where
        f.status = 'valid'
        and f.expires_at < (
            pipeline.business_date(pipeline.clock())::timestamp at time zone 'America/Sao_Paulo'
        )
    for no key update of f skip locked
)

update certificates as f
set status = 'expired'
from ended as e
where f.id = e.id;
