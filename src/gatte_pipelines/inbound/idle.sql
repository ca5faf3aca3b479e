-- What the clock ends: contexts past their TTL and conversations that fell silent.

-- name: due_users
-- The next users with something due, in the lock order of the loaders.
select user_id
from (
    select c.user_id
    from session_context as s
    inner join conversations as c on s.conversation_id = c.id
    where s.ttl_expires_at <= pipeline.clock() - %(contexts)s::interval
    union
    select c.user_id
    from conversations as c
    cross join
        lateral (
            select max(m.created_at) as last_at from messages as m
            where m.conversation_id = c.id
        ) as l
    where
        c.status = 'open'
        and coalesce(l.last_at, c.started_at) + %(idle)s < pipeline.clock()
) as due
order by user_id
limit %(page_size)s;

-- name: lock_users
select count(*) from (
    select id from users
    where id = any(%(users)s)
    order by id
    for no key update
) as locked;

-- name: expire_contexts
-- Contexts past their TTL and those of conversations that were just closed. Returns how many went.
-- Their messages are no longer in any context.
with ended as (
    delete from session_context as s
    using conversations as c
    where
        s.conversation_id = c.id
        and c.user_id = any(%(users)s)
        and (s.ttl_expires_at <= pipeline.clock() - %(contexts)s::interval or c.status = 'closed')
    returning s.conversation_id
),

unmarked as (
    update messages as m
    set is_in_context = false
    from ended as e
    where m.conversation_id = e.conversation_id and m.is_in_context
    returning m.id
)

select
    (select count(*) from ended),
    (select count(*) from unmarked);

-- name: close_conversations
update conversations as c
set
    status = 'closed',
    closed_at = l.last_at
from (
    select
        o.id,
        coalesce(max(m.created_at), o.started_at) as last_at
    from conversations as o
    left join messages as m on o.id = m.conversation_id
    where o.user_id = any(%(users)s) and o.status = 'open'
    group by o.id, o.started_at
) as l
where c.id = l.id and l.last_at + %(idle)s < pipeline.clock();

-- name: drop_waiting_changes
-- Edits and revokes whose message did not come. One that a loader is working on is left to the
-- next run.
delete from pipeline.message_changes
where change_id in (
    select h.change_id
    from pipeline.message_changes as h
    where
        h.changed_at < pipeline.clock() - %(waiting_changes)s::interval
        and not h.is_applied
    order by h.change_id
    limit %(page_size)s
    for update skip locked
);

-- name: drop_undo_records
delete from pipeline.undo_records
where undo_id in (
    select undo_id from pipeline.undo_records
    where expires_at <= pipeline.clock() - %(undo_records)s::interval
    order by expires_at
    limit %(page_size)s
    for update skip locked
);

-- name: drop_unknown_identity_changes
-- Number changes of people who never wrote. Nearly all are of somebody by a current identity, which
-- an index finds; the former identities are searched once for what remains.
with due as materialized (
    select
        c.change_id,
        k.kind,
        k.value
    from pipeline.identity_changes as c
    cross join
        lateral (
            values
            ('phone_key', c.old_phone_key),
            ('phone_key', c.new_phone_key),
            ('bsuid', c.old_bsuid),
            ('bsuid', c.new_bsuid),
            ('parent_bsuid', c.old_parent_bsuid),
            ('parent_bsuid', c.new_parent_bsuid)
        ) as k (kind, value)
    where
        c.changed_at < pipeline.clock() - %(unknown_identities)s::interval
        and not exists (
            select from (
                values
                ('phone_key', c.old_phone_key),
                ('phone_key', c.new_phone_key),
                ('bsuid', c.old_bsuid),
                ('bsuid', c.new_bsuid),
                ('parent_bsuid', c.old_parent_bsuid),
                ('parent_bsuid', c.new_parent_bsuid)
            ) as n (kind, value)
            inner join pipeline.user_identities as u on n.kind = u.kind and n.value = u.value
            where u.valid_to is null
        )
),

former as materialized (
    select d.change_id
    from due as d
    inner join pipeline.user_identities as u on d.kind = u.kind and d.value = u.value
)

delete from pipeline.identity_changes
where change_id in (
    select c.change_id
    from pipeline.identity_changes as c
    where
        c.change_id in (select d.change_id from due as d)
        and c.change_id not in (select f.change_id from former as f)
    order by c.change_id
    limit %(page_size)s
    for update skip locked
);
