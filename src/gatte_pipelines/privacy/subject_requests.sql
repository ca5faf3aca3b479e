-- Requests of subjects: opened, read, closed. What is done about them stands elsewhere.

-- name: lock_subject
-- Two forms sent at once must not become two requests.
select pg_advisory_xact_lock(hashtextextended('gatte_pipelines.subject ' || %(subject_id)s, 0));

-- name: find_open
select
    request_id,
    user_id,
    kind,
    state,
    received_at,
    due_at,
    closed_at
from pipeline.subject_requests
where user_id = %(subject_id)s and kind = %(request_kind)s and state <> 'done'
order by received_at, request_id
limit 1;

-- name: insert_request
insert into pipeline.subject_requests (
    request_id, user_id, kind, state, received_at, due_at
)
values (
    %(request_id)s, %(subject_id)s, %(request_kind)s, 'open', %(received_at)s, %(due_at)s
);

-- name: read_request
select
    request_id,
    user_id,
    kind,
    state,
    received_at,
    due_at,
    closed_at
from pipeline.subject_requests
where request_id = %(request_id)s;

-- name: read_requests
select
    request_id,
    user_id,
    kind,
    state,
    received_at,
    due_at,
    closed_at
from pipeline.subject_requests
where not %(only_open)s or state <> 'done'
order by due_at, request_id;

-- name: close_request
-- Not while another system still has to confirm.
update pipeline.subject_requests as r
set
    state = case
        when
            exists (
                select from pipeline.external_tasks as t
                where
                    t.state = 'open'
                    and (
                        t.request_id = r.request_id or (r.kind = 'erase' and t.user_id = r.user_id)
                    )
            )
            then 'waiting_external'
        else 'done'
    end,
    closed_at = case
        when
            not exists (
                select from pipeline.external_tasks as t
                where
                    t.state = 'open'
                    and (
                        t.request_id = r.request_id or (r.kind = 'erase' and t.user_id = r.user_id)
                    )
            )
            then pipeline.clock()
    end
where r.request_id = %(request_id)s and r.state <> 'done'
returning r.state;

-- name: close_confirmed
update pipeline.subject_requests as r
set
    state = 'done',
    closed_at = pipeline.clock()
where
    r.state = 'waiting_external'
    and not exists (
        select from pipeline.external_tasks as t
        where t.state = 'open' and (t.request_id = r.request_id or t.user_id = r.user_id)
    )
returning r.request_id;
