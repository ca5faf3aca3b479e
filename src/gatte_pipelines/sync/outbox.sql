-- name: begin
-- A repeat keeps the instant of the first attempt: what is looked for there was made since.
insert into pipeline.sync_outbox as o (system, local_id, action, begun_at, attempts)
values (%(sync_system)s, %(local_id)s, %(sync_action)s, %(instant)s, 1)
on conflict (system, local_id, action) do update set attempts = o.attempts + 1
returning o.system, o.local_id, o.action, o.begun_at, o.attempts;

-- name: settle
delete from pipeline.sync_outbox
where system = %(sync_system)s and local_id = %(local_id)s and action = %(sync_action)s;

-- name: read_open
select
    system,
    local_id,
    action,
    begun_at,
    attempts
from pipeline.sync_outbox
where system = %(sync_system)s
order by begun_at, local_id, action;
