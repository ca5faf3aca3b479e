-- What is due under each rule of the retention policy, and how it goes.
--
-- due_RULE: how many rows, the oldest instant, and a checksum of their keys, for the plan.
-- take_RULE: locks the next rows still due, skipping those that others hold; where they lie
-- (ctid holds until the transaction ends), how many, the first and last instant.
-- apply_RULE: clears or deletes exactly these.
-- population_RULE: how many rows the rule could ever mean, for the share of a mass change.

-- name: read_paused
select
    is_closed,
    reason
from pipeline.gates
where table_name = 'lgpd_retention';

-- name: create_held
-- Everything under a hold, by what the rules look it up with; made anew in each transaction.
create temporary table if not exists held_users (user_id uuid not null) on commit delete rows;
create temporary table if not exists held_conversations (
    conversation_id uuid not null
) on commit delete rows;
create temporary table if not exists held_rows (
    table_name text not null,
    row_id uuid not null
) on commit delete rows;

-- name: forget_held
-- Before they are read again: after a wait for locks somebody may have placed a hold.
truncate held_users, held_conversations, held_rows;

-- name: find_held
-- Who was held and became part of another since is held as that one.
with recursive holds (table_name, row_id) as (
    select
        table_name,
        row_id
    from pipeline.retention_holds
    where released_at is null and (ends_at is null or ends_at > pipeline.clock())
    union
    select
        h.table_name,
        n.row_id
    from holds as h
    cross join
        lateral (
            select m.into_user_id as row_id
            from pipeline.user_merges as m
            where h.table_name = 'users' and m.from_user_id = h.row_id
            union all
            select k.merged_into
            from pipeline.crm_links as k
            where h.table_name = 'leads' and k.lead_id = h.row_id and k.state = 'merged'
        ) as n
),

subjects as (
    insert into held_users (user_id)
    select row_id from holds
    where table_name = 'users'
    returning user_id
),

conversations_held as (
    insert into held_conversations (conversation_id)
    select c.id
    from holds as h
    inner join conversations as c on h.row_id = c.user_id
    where h.table_name = 'users'
    union
    select row_id from holds
    where table_name = 'conversations'
    returning conversation_id
)

insert into held_rows (table_name, row_id)
select
    table_name,
    row_id
from holds;

-- name: due_messages_content
select
    count(*),
    min(created_at),
    coalesce(bit_xor(hashtextextended(id::text, 0)), 0)
from messages
where
    content <> ''
    and created_at < pipeline.clock() - %(period)s::interval
    and conversation_id not in (select h.conversation_id from held_conversations as h)
    and id not in (select h.row_id from held_rows as h);

-- name: take_messages_content
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.created_at),
    max(t.created_at),
    coalesce(bit_xor(hashtextextended(t.id::text, 0)), 0)
from (
    select
        m.ctid,
        m.id,
        m.created_at
    from messages as m
    where
        m.content <> ''
        and m.created_at < pipeline.clock() - %(period)s::interval
        and m.conversation_id not in (select h.conversation_id from held_conversations as h)
        and m.id not in (select h.row_id from held_rows as h)
    order by m.created_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_messages_content
update messages
set
    content = '',
    is_in_context = false
where ctid = any(%(tids)s::tid[]);

-- name: population_messages_content
select count(*) from messages
where content <> '';

-- name: due_message_reactions_emoji
select
    count(*),
    min(reacted_at),
    coalesce(bit_xor(hashtextextended(message_id::text, 0)), 0)
from pipeline.message_reactions
where
    emoji is not null
    and reacted_at < pipeline.clock() - %(period)s::interval
    and message_id not in (
        select m.id
        from held_conversations as h
        inner join messages as m on h.conversation_id = m.conversation_id
    );

-- name: take_message_reactions_emoji
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.reacted_at),
    max(t.reacted_at),
    coalesce(bit_xor(hashtextextended(t.message_id::text, 0)), 0)
from (
    select
        r.ctid,
        r.message_id,
        r.reacted_at
    from pipeline.message_reactions as r
    where
        r.emoji is not null
        and r.reacted_at < pipeline.clock() - %(period)s::interval
        and r.message_id not in (
            select m.id
            from held_conversations as h
            inner join messages as m on h.conversation_id = m.conversation_id
        )
    order by r.reacted_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_message_reactions_emoji
update pipeline.message_reactions
set emoji = null
where ctid = any(%(tids)s::tid[]);

-- name: due_button_replies_payload
select
    count(*),
    min(pressed_at),
    coalesce(bit_xor(hashtextextended(message_id::text, 0)), 0)
from pipeline.button_replies
where
    payload is not null
    and pressed_at < pipeline.clock() - %(period)s::interval
    and message_id not in (select h.row_id from held_rows as h)
    and message_id not in (
        select m.id
        from held_conversations as h
        inner join messages as m on h.conversation_id = m.conversation_id
    );

-- name: take_button_replies_payload
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.pressed_at),
    max(t.pressed_at),
    coalesce(bit_xor(hashtextextended(t.message_id::text, 0)), 0)
from (
    select
        b.ctid,
        b.message_id,
        b.pressed_at
    from pipeline.button_replies as b
    where
        b.payload is not null
        and b.pressed_at < pipeline.clock() - %(period)s::interval
        and b.message_id not in (select h.row_id from held_rows as h)
        and b.message_id not in (
            select m.id
            from held_conversations as h
            inner join messages as m on h.conversation_id = m.conversation_id
        )
    order by b.pressed_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_button_replies_payload
update pipeline.button_replies
set payload = null
where ctid = any(%(tids)s::tid[]);

-- name: due_login_tokens_unused
-- Materialized: few have a token, and nobody else's activity need be read.
with holders as materialized (
    select
        id,
        updated_at
    from users
    where
        login_token is not null
        and updated_at < pipeline.clock() - %(period)s::interval
)

select
    count(*),
    min(greatest(u.updated_at, a.last_at)),
    coalesce(bit_xor(hashtextextended(u.id::text, 0)), 0)
from holders as u
left join pipeline.user_activity as a on u.id = a.user_id
where
    (a.last_at is null or a.last_at < pipeline.clock() - %(period)s::interval)
    and u.id not in (select h.user_id from held_users as h);

-- name: take_login_tokens_unused
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.used_at),
    max(t.used_at),
    coalesce(bit_xor(hashtextextended(t.id::text, 0)), 0)
from (
    select
        u.ctid,
        u.id,
        greatest(u.updated_at, a.last_at) as used_at
    from users as u
    left join pipeline.user_activity as a on u.id = a.user_id
    where
        u.login_token is not null
        and u.updated_at < pipeline.clock() - %(period)s::interval
        and (a.last_at is null or a.last_at < pipeline.clock() - %(period)s::interval)
        and u.id not in (select h.user_id from held_users as h)
    order by used_at
    limit %(limit)s
    for no key update of u skip locked
) as t;

-- name: apply_login_tokens_unused
update users
set login_token = null
where ctid = any(%(tids)s::tid[]);

-- name: population_login_tokens_unused
select count(*) from users
where login_token is not null;

-- name: due_appointments_details
select
    count(*),
    min(scheduled_at),
    coalesce(bit_xor(hashtextextended(id::text, 0)), 0)
from appointments
where
    (notes is not null or calendar_event_id is not null)
    and scheduled_at < pipeline.clock() - %(period)s::interval
    and user_id not in (select h.user_id from held_users as h)
    and id not in (select h.row_id from held_rows as h);

-- name: take_appointments_details
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.scheduled_at),
    max(t.scheduled_at),
    coalesce(bit_xor(hashtextextended(t.id::text, 0)), 0)
from (
    select
        a.ctid,
        a.id,
        a.scheduled_at
    from appointments as a
    where
        (a.notes is not null or a.calendar_event_id is not null)
        and a.scheduled_at < pipeline.clock() - %(period)s::interval
        and a.user_id not in (select h.user_id from held_users as h)
        and a.id not in (select h.row_id from held_rows as h)
    order by a.scheduled_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_appointments_details
update appointments
set
    notes = null,
    calendar_event_id = null
where ctid = any(%(tids)s::tid[]);

-- name: population_appointments_details
select count(*) from appointments
where notes is not null or calendar_event_id is not null;

-- name: due_services_notes
-- Ended: cancelled, or past its expiry; at the latest of what is known.
select
    count(*),
    min(greatest(s.contracted_at, s.expires_at)),
    coalesce(bit_xor(hashtextextended(s.id::text, 0)), 0)
from services as s
where
    s.notes is not null
    and (s.status = 'cancelled' or s.expires_at < pipeline.clock())
    and greatest(s.contracted_at, s.expires_at) < pipeline.clock() - %(period)s::interval
    and not exists (
        select from pipeline.row_history as h
        where
            h.table_name = 'services' and h.row_id = s.id and h.column_name = 'status'
            and h.changed_at >= pipeline.clock() - %(period)s::interval
    )
    and s.user_id not in (select h.user_id from held_users as h)
    and s.id not in (select h.row_id from held_rows as h);

-- name: take_services_notes
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.ended_at),
    max(t.ended_at),
    coalesce(bit_xor(hashtextextended(t.id::text, 0)), 0)
from (
    select
        s.ctid,
        s.id,
        greatest(s.contracted_at, s.expires_at) as ended_at
    from services as s
    where
        s.notes is not null
        and (s.status = 'cancelled' or s.expires_at < pipeline.clock())
        and greatest(s.contracted_at, s.expires_at) < pipeline.clock() - %(period)s::interval
        and not exists (
            select from pipeline.row_history as h
            where
                h.table_name = 'services' and h.row_id = s.id and h.column_name = 'status'
                and h.changed_at >= pipeline.clock() - %(period)s::interval
        )
        and s.user_id not in (select h.user_id from held_users as h)
        and s.id not in (select h.row_id from held_rows as h)
    order by ended_at
    limit %(limit)s
    for no key update of s skip locked
) as t;

-- name: apply_services_notes
update services
set notes = null
where ctid = any(%(tids)s::tid[]);

-- name: population_services_notes
select count(*) from services
where notes is not null;

-- name: due_inbound_batches
select
    count(*),
    min(first_seen_at),
    coalesce(bit_xor(hashtextextended(batch_id::text, 0)), 0)
from pipeline.inbound_batches
where first_seen_at < pipeline.clock() - %(period)s::interval;

-- name: take_inbound_batches
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.first_seen_at),
    max(t.first_seen_at),
    coalesce(bit_xor(hashtextextended(t.batch_id::text, 0)), 0)
from (
    select
        b.ctid,
        b.batch_id,
        b.first_seen_at
    from pipeline.inbound_batches as b
    where b.first_seen_at < pipeline.clock() - %(period)s::interval
    order by b.first_seen_at
    limit %(limit)s
    for update skip locked
) as t;

-- name: apply_inbound_batches
delete from pipeline.inbound_batches
where ctid = any(%(tids)s::tid[]);

-- name: due_quarantine
select
    count(*),
    min(quarantined_at),
    coalesce(bit_xor(hashtextextended(id::text, 0)), 0)
from pipeline.quarantine
where quarantined_at < pipeline.clock() - %(period)s::interval;

-- name: take_quarantine
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.quarantined_at),
    max(t.quarantined_at),
    coalesce(bit_xor(hashtextextended(t.id::text, 0)), 0)
from (
    select
        q.ctid,
        q.id,
        q.quarantined_at
    from pipeline.quarantine as q
    where q.quarantined_at < pipeline.clock() - %(period)s::interval
    order by q.quarantined_at
    limit %(limit)s
    for update skip locked
) as t;

-- name: apply_quarantine
delete from pipeline.quarantine
where ctid = any(%(tids)s::tid[]);

-- name: due_sync_conflicts
-- The values are the lead's: what holds the lead or its user holds them too.
select
    count(*),
    min(found_at),
    coalesce(bit_xor(hashtextextended(conflict_id::text, 0)), 0)
from pipeline.sync_conflicts
where
    found_at < pipeline.clock() - %(period)s::interval
    and local_id not in (select h.row_id from held_rows as h)
    and local_id not in (
        select l.id
        from held_users as h
        inner join leads as l on h.user_id = l.user_id
    );

-- name: take_sync_conflicts
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.found_at),
    max(t.found_at),
    coalesce(bit_xor(hashtextextended(t.conflict_id::text, 0)), 0)
from (
    select
        c.ctid,
        c.conflict_id,
        c.found_at
    from pipeline.sync_conflicts as c
    where
        c.found_at < pipeline.clock() - %(period)s::interval
        and c.local_id not in (select h.row_id from held_rows as h)
        and c.local_id not in (
            select l.id
            from held_users as h
            inner join leads as l on h.user_id = l.user_id
        )
    order by c.found_at
    limit %(limit)s
    for update skip locked
) as t;

-- name: apply_sync_conflicts
delete from pipeline.sync_conflicts
where ctid = any(%(tids)s::tid[]);

-- name: due_runs_text
select
    count(*),
    min(started_at),
    coalesce(bit_xor(hashtextextended(run_id::text, 0)), 0)
from pipeline.runs
where
    (error is not null or report -> 'notes' <> '[]'::jsonb)
    and started_at < pipeline.clock() - %(period)s::interval;

-- name: take_runs_text
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.started_at),
    max(t.started_at),
    coalesce(bit_xor(hashtextextended(t.run_id::text, 0)), 0)
from (
    select
        r.ctid,
        r.run_id,
        r.started_at
    from pipeline.runs as r
    where
        (r.error is not null or r.report -> 'notes' <> '[]'::jsonb)
        and r.started_at < pipeline.clock() - %(period)s::interval
    order by r.started_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_runs_text
update pipeline.runs
set
    error = null,
    report = jsonb_set(report, '{notes}', '[]')
where ctid = any(%(tids)s::tid[]);

-- name: due_plans_expired
select
    count(*),
    min(expires_at),
    coalesce(bit_xor(hashtextextended(plan_id::text, 0)), 0)
from pipeline.plans
where expires_at < pipeline.clock() - %(period)s::interval;

-- name: take_plans_expired
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.expires_at),
    max(t.expires_at),
    coalesce(bit_xor(hashtextextended(t.plan_id::text, 0)), 0)
from (
    select
        p.ctid,
        p.plan_id,
        p.expires_at
    from pipeline.plans as p
    where p.expires_at < pipeline.clock() - %(period)s::interval
    order by p.expires_at
    limit %(limit)s
    for update skip locked
) as t;

-- name: apply_plans_expired
delete from pipeline.plans
where ctid = any(%(tids)s::tid[]);

-- name: due_erased_messages
select
    count(*),
    min(forget_at),
    coalesce(bit_xor(hashtextextended(message_id::text, 0)), 0)
from pipeline.erased_messages
where forget_at < pipeline.clock() - %(period)s::interval;

-- name: take_erased_messages
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.forget_at),
    max(t.forget_at),
    coalesce(bit_xor(hashtextextended(t.message_id::text, 0)), 0)
from (
    select
        e.ctid,
        e.message_id,
        e.forget_at
    from pipeline.erased_messages as e
    where e.forget_at < pipeline.clock() - %(period)s::interval
    order by e.forget_at
    limit %(limit)s
    for update skip locked
) as t;

-- name: apply_erased_messages
delete from pipeline.erased_messages
where ctid = any(%(tids)s::tid[]);

-- name: due_holds_text
select
    count(*),
    min(coalesce(released_at, ends_at)),
    coalesce(bit_xor(hashtextextended(hold_id::text, 0)), 0)
from pipeline.retention_holds
where
    (reason <> '' or owner <> '')
    and coalesce(released_at, ends_at) < pipeline.clock() - %(period)s::interval;

-- name: take_holds_text
select
    array_agg(t.ctid)::text,
    count(*),
    min(t.ended_at),
    max(t.ended_at),
    coalesce(bit_xor(hashtextextended(t.hold_id::text, 0)), 0)
from (
    select
        h.ctid,
        h.hold_id,
        coalesce(h.released_at, h.ends_at) as ended_at
    from pipeline.retention_holds as h
    where
        (h.reason <> '' or h.owner <> '')
        and coalesce(h.released_at, h.ends_at) < pipeline.clock() - %(period)s::interval
    order by ended_at
    limit %(limit)s
    for no key update skip locked
) as t;

-- name: apply_holds_text
update pipeline.retention_holds
set
    reason = '',
    owner = ''
where ctid = any(%(tids)s::tid[]);

-- name: due_staff_names
-- Colleagues met nowhere since long. Who is named by a ticket stays: tickets are kept whole.
select
    count(*),
    min(s.first_seen_at),
    coalesce(bit_xor(hashtextextended(s.staff_id::text, 0)), 0)
from pipeline.staff as s
where
    s.first_seen_at < pipeline.clock() - %(period)s::interval
    and s.name !~ '^~s[a-z2-7]{18}$'
    and not exists (
        select from tickets as t
        where t.assigned_to = s.name
    )
    and not exists (
        select from conversations as c
        where
            c.transferred_to = s.name
            and greatest(c.started_at, c.closed_at)
            >= pipeline.clock() - %(period)s::interval
    )
    and not exists (
        select from pipeline.conversation_events as e
        where
            e.transferred_to = s.name
            and e.at >= pipeline.clock() - %(period)s::interval
    )
    and not exists (
        select from appointments as a
        where
            a.assigned_to = s.name
            and greatest(a.created_at, a.scheduled_at)
            >= pipeline.clock() - %(period)s::interval
    );

-- name: take_staff_names
select
    array_agg(t.staff_id)::text,
    count(*),
    min(t.first_seen_at),
    max(t.first_seen_at),
    coalesce(bit_xor(hashtextextended(t.staff_id::text, 0)), 0)
from (
    select
        s.staff_id,
        s.first_seen_at
    from pipeline.staff as s
    where
        s.first_seen_at < pipeline.clock() - %(period)s::interval
        and s.name !~ '^~s[a-z2-7]{18}$'
        and not exists (
            select from tickets as t
            where t.assigned_to = s.name
        )
        and not exists (
            select from conversations as c
            where
                c.transferred_to = s.name
                and greatest(c.started_at, c.closed_at)
                >= pipeline.clock() - %(period)s::interval
        )
        and not exists (
            select from pipeline.conversation_events as e
            where
                e.transferred_to = s.name
                and e.at >= pipeline.clock() - %(period)s::interval
        )
        and not exists (
            select from appointments as a
            where
                a.assigned_to = s.name
                and greatest(a.created_at, a.scheduled_at)
                >= pipeline.clock() - %(period)s::interval
        )
    order by s.first_seen_at
    limit %(limit)s
    for no key update of s skip locked
) as t;

-- name: name_staff
-- One placeholder wherever the name stands, so that counts by person stay what they were. It is
-- drawn here: a random UUID, its digits written as the alphabet of the placeholders has them.
update pipeline.staff as s
set
    name = '~s' || translate(
        left(replace(gen_random_uuid()::text, '-', ''), 12)
        || right(replace(gen_random_uuid()::text, '-', ''), 6), '0189', 'ghij'
    )
from pipeline.staff as o
where s.staff_id = o.staff_id and s.staff_id = any(%(tids)s::uuid[])
returning o.name, s.name;

-- name: rename_staff
with renamed as (
    select
        n.old_name,
        n.new_name
    from unnest(%(old_names)s::text[], %(new_names)s::text[]) as n (old_name, new_name)
),

renamed_conversations as (
    update conversations as c
    set transferred_to = n.new_name
    from renamed as n
    where c.transferred_to = n.old_name
),

renamed_events as (
    update pipeline.conversation_events as e
    set transferred_to = n.new_name
    from renamed as n
    where e.transferred_to = n.old_name
)

update appointments as a
set assigned_to = n.new_name
from renamed as n
where a.assigned_to = n.old_name;

-- name: judge_users
-- Users whose time has come, and on what basis each is kept all the same.
with past as (
    select
        u.id,
        greatest(u.created_at, a.last_at) as last_at
    from users as u
    left join pipeline.user_activity as a on u.id = a.user_id
    where
        -- Both apart, so that users who came since are out before anything is joined.
        u.created_at < pipeline.clock() - %(period)s::interval
        and (a.last_at is null or a.last_at < pipeline.clock() - %(period)s::interval)
        and (%(ids)s::uuid[] is null or u.id = any(%(ids)s::uuid[]))
        and not exists (
            select from pipeline.anonymized_rows as z
            where z.table_name = 'users' and z.row_id = u.id
        )
)

select
    p.id,
    p.last_at,
    array_remove(
        array[
            -- A contract that is suspended or on trial runs, and so would one of a state to come.
            case when exists (
                select from services as s
                where s.user_id = p.id and s.status <> 'cancelled'
            ) then 'active_service' end,
            case when exists (
                select from certificates as c
                where c.user_id = p.id and c.status = 'valid' and c.expires_at > pipeline.clock()
            ) then 'valid_certificate' end,
            case when exists (
                select from tickets as t
                where t.user_id = p.id and t.status in ('open', 'in_progress')
            ) then 'open_ticket' end,
            case when exists (
                select from appointments as m
                where
                    m.user_id = p.id and m.scheduled_at > pipeline.clock()
                    and m.status in ('pending', 'confirmed')
            ) then 'future_appointment' end,
            case when exists (
                select from leads as l
                where
                    l.user_id = p.id
                    and least(
                        greatest(
                            l.created_at,
                            (
                                select max(h.changed_at) from pipeline.row_history as h
                                where h.table_name = 'leads' and h.row_id = l.id
                            )
                        ) + %(leads_period)s::interval,
                        l.created_at + %(leads_ceiling)s::interval
                    ) >= pipeline.clock()
                    and not exists (
                        select from pipeline.anonymized_rows as z
                        where z.table_name = 'leads' and z.row_id = l.id
                    )
            ) then 'lead_in_period' end,
            case when exists (
                select from held_rows as h
                where
                    (h.table_name = 'users' and h.row_id = p.id)
                    or exists (
                        select from conversations as c
                        where
                            c.user_id = p.id
                            and (
                                (h.table_name = 'conversations' and h.row_id = c.id)
                                or (
                                    h.table_name in ('messages', 'session_context')
                                    and exists (
                                        select from messages as m
                                        where m.id = h.row_id and m.conversation_id = c.id
                                    )
                                )
                            )
                    )
                    or exists (
                        select from tickets as t
                        where h.table_name = 'tickets' and t.id = h.row_id and t.user_id = p.id
                    )
                    or exists (
                        select from leads as l
                        where h.table_name = 'leads' and l.id = h.row_id and l.user_id = p.id
                    )
                    or exists (
                        select from appointments as a
                        where
                            h.table_name = 'appointments' and a.id = h.row_id
                            and a.user_id = p.id
                    )
                    or exists (
                        select from services as s
                        where h.table_name = 'services' and s.id = h.row_id and s.user_id = p.id
                    )
                    or exists (
                        select from certificates as f
                        where
                            h.table_name = 'certificates' and f.id = h.row_id
                            and f.user_id = p.id
                    )
            ) then 'hold' end
        ],
        null
    ) as bases
from past as p
order by p.last_at, p.id;

-- name: judge_leads
-- Two years after the last activity, and no more than four after it was captured.
with judged as (
    select
        l.id,
        l.user_id,
        least(
            greatest(
                l.created_at,
                a.last_at,
                (
                    select max(h.changed_at) from pipeline.row_history as h
                    where h.table_name = 'leads' and h.row_id = l.id
                )
            ) + %(period)s::interval,
            l.created_at + %(ceiling)s::interval
        ) as due_at
    from leads as l
    left join pipeline.user_activity as a on l.user_id = a.user_id
    where
        -- Nothing is due sooner: spares the look at each lead's history.
        l.created_at < pipeline.clock() - %(period)s::interval
        and (%(ids)s::uuid[] is null or l.id = any(%(ids)s::uuid[]))
        and not exists (
            select from pipeline.anonymized_rows as z
            where z.table_name = 'leads' and z.row_id = l.id
        )
)

select
    j.id,
    j.due_at,
    array_remove(
        array[
            case
                when
                    j.user_id in (select h.user_id from held_users as h)
                    or j.id in (select h.row_id from held_rows as h)
                    then 'hold'
            end
        ],
        null
    ) as bases
from judged as j
where j.due_at < pipeline.clock()
order by j.due_at, j.id;

-- name: lock_users_due
select id
from users
where id = any(%(ids)s)
order by id
for no key update skip locked;

-- name: lock_leads_due
select id
from leads
where id = any(%(ids)s)
order by id
for no key update skip locked;

-- name: population_users_inactive
select count(*) from users as u
where
    not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'users' and z.row_id = u.id
    );

-- name: population_leads_inactive
select count(*) from leads as l
where
    not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id = l.id
    );

-- name: note_exempt
insert into pipeline.retention_exemptions as x (
    rule, table_name, row_id, basis, first_seen_at, last_seen_at
)
select
    %(rule)s,
    %(table)s,
    e.row_id,
    e.basis,
    pipeline.clock(),
    pipeline.clock()
from unnest(%(ids)s::uuid[], %(bases)s::text[]) as e (row_id, basis)
on conflict (rule, row_id, basis) do update set last_seen_at = excluded.last_seen_at;

-- name: forget_exempt
-- What no longer stands in the way of this rule.
delete from pipeline.retention_exemptions as x
where
    x.rule = %(rule)s
    and not exists (
        select from unnest(%(ids)s::uuid[], %(bases)s::text[]) as e (row_id, basis)
        where x.row_id = e.row_id and x.basis = e.basis
    );

-- name: count_due_contexts
select
    count(*),
    min(ttl_expires_at),
    coalesce(bit_xor(hashtextextended(id::text, 0)), 0)
from session_context
where ttl_expires_at < pipeline.clock() - %(period)s::interval;

-- name: count_due_changes
select
    count(*),
    min(changed_at),
    coalesce(bit_xor(hashtextextended(change_id::text, 0)), 0)
from pipeline.message_changes
where not is_applied and changed_at < pipeline.clock() - %(period)s::interval;

-- name: count_due_undo_records
select
    count(*),
    min(expires_at),
    coalesce(bit_xor(hashtextextended(undo_id::text, 0)), 0)
from pipeline.undo_records
where expires_at < pipeline.clock() - %(period)s::interval;

-- name: count_due_identity_changes
select
    count(*),
    min(changed_at),
    coalesce(bit_xor(hashtextextended(change_id::text, 0)), 0)
from pipeline.identity_changes
where not is_settled and changed_at < pipeline.clock() - %(period)s::interval;

-- name: read_new_merges
select
    from_user_id,
    into_user_id,
    merged_at
from pipeline.user_merges
where
    merged_at > coalesce(
        (
            select w.value::timestamptz from pipeline.watermarks as w
            where w.pipeline = 'lgpd_retention' and w.name = 'merges'
        ), '-infinity'::timestamptz
    )
order by merged_at, from_user_id;

-- name: read_watermark
select value from pipeline.watermarks
where pipeline = 'lgpd_retention' and name = %(name)s;

-- name: write_watermark
insert into pipeline.watermarks as w (pipeline, name, value, updated_at)
values ('lgpd_retention', %(name)s, %(value)s, pipeline.clock())
on conflict (pipeline, name) do update set
    value = excluded.value,
    updated_at = excluded.updated_at;
