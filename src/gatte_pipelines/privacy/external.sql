-- Tasks of other systems (S2): planned with the references that are about to go, confirmed by a
-- read there. The reference is emptied with the confirmation.

-- name: insert_tasks
-- A microsecond between two keeps the order that the system asked for.
insert into pipeline.external_tasks (
    task_id, request_id, user_id, system, reference, state, created_at
)
select
    gen_random_uuid(),
    %(request_id)s::uuid,
    %(subject_id)s,
    %(external_system)s,
    n.reference,
    'open',
    pipeline.clock() + (n.place - 1) * interval '1 microsecond'
from (
    select
        r.reference,
        min(r.place) as place
    from unnest(%(references)s::text[]) with ordinality as r (reference, place)
    group by r.reference
) as n
where not exists (
    select from pipeline.external_tasks as t
    where
        t.system = %(external_system)s
        and t.state = 'open'
        and t.reference = n.reference
        and t.user_id = %(subject_id)s
);

-- name: find_open
select
    t.task_id,
    t.system
from pipeline.external_tasks as t
where t.state = 'open' and t.system <> all(%(own_systems)s::text[])
order by t.created_at, t.task_id;

-- name: begin_attempt
-- Counted before the other system is asked: a killed attempt was one.
update pipeline.external_tasks
set
    attempts = attempts + 1,
    last_attempt_at = pipeline.clock()
where task_id = %(task_id)s and state = 'open'
returning reference;

-- name: confirm
update pipeline.external_tasks
set
    state = 'confirmed',
    reference = null,
    confirmed_at = pipeline.clock()
where task_id = %(task_id)s and state = 'open';

-- name: read_own_tasks
select
    t.task_id,
    t.reference
from pipeline.external_tasks as t
where
    t.state = 'open'
    and t.system = %(external_system)s
    and (t.request_id = %(request_id)s or t.user_id = %(subject_id)s)
order by t.created_at, t.task_id;

-- name: count_tasks
select
    t.system,
    count(*) filter (where t.state = 'open') as waiting,
    count(*) filter (where t.state = 'confirmed') as confirmed
from pipeline.external_tasks as t
where t.request_id = %(request_id)s or t.user_id = %(subject_id)s
group by t.system
order by t.system;
