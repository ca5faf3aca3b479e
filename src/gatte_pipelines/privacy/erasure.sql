-- Erase a person on request: what would go, what stays, what stops it, what is remembered.

-- name: find_holds
-- On the person as a whole, or on any row of theirs.
with own (table_name, row_id) as (
    select
        'users',
        u.id
    from unnest(%(users)s::uuid[]) as u (id)
    union all
    select
        'leads',
        l.id
    from unnest(%(leads)s::uuid[]) as l (id)
    union all
    select
        'conversations',
        c.id
    from conversations as c
    where c.user_id = any(%(users)s)
    union all
    select
        'session_context',
        x.id
    from conversations as c
    inner join session_context as x on c.id = x.conversation_id
    where c.user_id = any(%(users)s)
    union all
    select
        'tickets',
        t.id
    from tickets as t
    where t.user_id = any(%(users)s)
    union all
    select
        'appointments',
        a.id
    from appointments as a
    where a.user_id = any(%(users)s)
    union all
    select
        'services',
        s.id
    from services as s
    where s.user_id = any(%(users)s)
    union all
    select
        'certificates',
        f.id
    from certificates as f
    where f.user_id = any(%(users)s)
)

select
    h.hold_id,
    h.table_name,
    h.ends_at
from pipeline.retention_holds as h
where
    h.released_at is null
    and (h.ends_at is null or h.ends_at > pipeline.clock())
    and (
        exists (
            select from own as w
            where h.table_name = w.table_name and h.row_id = w.row_id
        )
        or (
            h.table_name = 'messages'
            and exists (
                select
                from messages as m
                inner join conversations as c on m.conversation_id = c.id
                where m.id = h.row_id and c.user_id = any(%(users)s)
            )
        )
    )
order by h.placed_at, h.hold_id;

-- name: count_going
select
    'users' as place,
    count(*) as going
from users as u
where
    u.id = any(%(users)s)
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'users' and z.row_id = u.id
    )
union all
select
    'leads',
    count(*)
from leads as l
where
    l.id = any(%(leads)s)
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id = l.id
    )
union all
select
    'messages',
    count(*)
from conversations as c
inner join messages as m on c.id = m.conversation_id
where c.user_id = any(%(users)s) and m.content <> ''
union all
select
    'message_changes',
    count(*)
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_changes as h on m.id = h.target_id
where c.user_id = any(%(users)s) and h.content is not null
union all
select
    'message_reactions',
    count(*)
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_reactions as r on m.id = r.message_id
where c.user_id = any(%(users)s) and r.emoji is not null
union all
select
    'button_replies',
    count(*)
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.button_replies as b on m.id = b.message_id
where c.user_id = any(%(users)s) and b.payload is not null
union all
select
    'session_context',
    count(*)
from conversations as c
inner join session_context as x on c.id = x.conversation_id
where c.user_id = any(%(users)s)
union all
select
    'conversations',
    count(*)
from conversations as c
where c.user_id = any(%(users)s) and c.status <> 'closed'
union all
select
    'appointments',
    count(*)
from appointments as a
where
    a.user_id = any(%(users)s)
    and (a.notes is not null or a.calendar_event_id is not null)
union all
select
    'services',
    count(*)
from services as s
where s.user_id = any(%(users)s) and s.notes is not null
union all
select
    'user_identities',
    count(*)
from pipeline.user_identities as i
where i.user_id = any(%(users)s)
union all
select
    'senders',
    count(*)
from (
    select f.sender_id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s)
    union
    select f.told_sender_id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s)
    union
    select e.sender_id
    from pipeline.conversation_events as e
    where e.user_id = any(%(users)s)
    union
    select o.sender_id
    from pipeline.opt_outs as o
    where o.user_id = any(%(users)s)
) as n
inner join pipeline.senders as s on n.sender_id = s.sender_id
where
    (s.phone_key, s.bsuid, s.wa_id, s.name, s.parent_bsuid, s.user_ref)
    <> ('', '', '', '', '', '')
union all
select
    'undo_records',
    count(*)
from pipeline.undo_records as n
where
    n.kept_id = any(%(users)s)
    or n.removed_id = any(%(users)s)
    or n.kept_id in (
        select c.id from conversations as c
        where c.user_id = any(%(users)s)
    )
    or (
        n.kind = 'leads'
        and (
            n.kept_id = any(%(leads)s)
            or n.removed_id = any(%(leads)s)
            or exists (
                select from unnest(%(users)s::uuid[] || %(leads)s::uuid[]) as s (id)
                where position(s.id::text in n.record::text) > 0
            )
        )
    )
union all
select
    'crm_links',
    count(*)
from pipeline.crm_links as k
where k.lead_id = any(%(leads)s) or k.merged_into = any(%(leads)s)
union all
select
    'sync_outbox',
    count(*)
from pipeline.sync_outbox as b
where b.local_id = any(%(leads)s)
union all
select
    'sync_conflicts',
    count(*)
from pipeline.sync_conflicts as x
where x.local_id = any(%(leads)s);

-- name: count_staying
select
    'tickets' as place,
    count(*) as staying
from tickets as t
where t.user_id = any(%(users)s)
union all
select
    'conversations',
    count(*)
from conversations as c
where c.user_id = any(%(users)s)
union all
select
    'messages',
    count(*)
from conversations as c
inner join messages as m on c.id = m.conversation_id
where c.user_id = any(%(users)s)
union all
select
    'appointments',
    count(*)
from appointments as a
where a.user_id = any(%(users)s)
union all
select
    'services',
    count(*)
from services as s
where s.user_id = any(%(users)s)
union all
select
    'certificates',
    count(*)
from certificates as f
where f.user_id = any(%(users)s)
union all
select
    'opt_outs',
    count(*)
from pipeline.opt_outs as o
where o.user_id = any(%(users)s);

-- name: find_exports
select r.request_id
from pipeline.subject_requests as r
where
    r.kind = 'export'
    and (r.user_id = any(%(users)s) or r.user_id = any(%(leads)s))
order by r.request_id;

-- name: lock_request
select r.state
from pipeline.subject_requests as r
where r.request_id = %(request_id)s
for update;

-- name: find_entries
-- What the ledger says of a request: its announcements, and whether one was carried out.
select
    e.seq,
    e.entry::jsonb -> 'body' -> 'user_ids' as user_ids,
    e.entry::jsonb -> 'body' -> 'lead_ids' as lead_ids,
    o.seq as erased_seq
from pipeline.privacy_ledger as e
left join pipeline.privacy_ledger as o
    on
        o.seq > e.seq
        and o.entry like '%%"kind":"erased"%%'
        and (o.entry::jsonb -> 'body' ->> 'erasure')::bigint = e.seq
where
    e.entry like '%%"kind":"erasure"%%'
    and e.entry::jsonb -> 'body' ->> 'request_id' = %(request_id)s::text
order by e.seq;

-- name: remember_messages
-- Whatever the provider may still deliver again of this person, for as long as a record of that age
-- is taken at all: messages, edits, reactions, number changes, choices and events.
insert into pipeline.erased_messages as e (message_id, forget_at)
select
    n.id,
    max(n.at) + interval '90 days'
from (
    select
        m.id,
        m.created_at as at
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    where c.user_id = any(%(users)s)
    union all
    select
        h.edit_id,
        h.changed_at
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_changes as h on m.id = h.target_id
    where c.user_id = any(%(users)s)
    union all
    select
        r.reaction_id,
        r.reacted_at
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_reactions as r on m.id = r.message_id
    where c.user_id = any(%(users)s)
    union all
    select
        o.choice_id,
        o.chosen_at
    from pipeline.opt_outs as o
    where o.user_id = any(%(users)s)
    union all
    select
        v.event_id,
        v.at
    from pipeline.conversation_events as v
    where v.user_id = any(%(users)s)
    union all
    select
        g.change_id,
        g.changed_at
    from pipeline.identity_changes as g
    where exists (
        select from pipeline.user_identities as i
        where
            i.user_id = any(%(users)s)
            and (
                (i.kind = 'bsuid' and i.value in (g.old_bsuid, g.new_bsuid))
                or (
                    i.kind = 'parent_bsuid'
                    and i.value in (g.old_parent_bsuid, g.new_parent_bsuid)
                )
                or (
                    i.kind = 'phone_key'
                    and i.value in (g.old_phone_key, g.new_phone_key)
                    and i.valid_from <= g.changed_at
                    and (i.valid_to is null or i.valid_to >= g.changed_at)
                )
            )
    )
) as n
where n.at > pipeline.clock() - interval '90 days'
group by n.id
on conflict (message_id) do update
    set forget_at = greatest(e.forget_at, excluded.forget_at);

-- name: note_done
-- Counts only; the receipt is made of them, also after a kill.
insert into pipeline.plans as p (
    plan_id, pipeline, as_of, parameters, contents, expires_at, executed_at
)
values (
    %(request_id)s,
    'lgpd_subject_request',
    pipeline.clock(),
    '{}',
    %(contents)s,
    pipeline.clock() + interval '90 days',
    pipeline.clock()
)
on conflict (plan_id) do update
    set contents = p.contents || excluded.contents;

-- name: read_done
select p.contents
from pipeline.plans as p
where p.plan_id = %(request_id)s;
