-- The proof by re-scan (S12), written from DOC 01 section 4, the issue and config/retention.yaml,
-- and apart from the engine: no statement, view or function is shared with it.
--
-- instant: the moment that is looked at (as_of less the grace). held_rows, held_users: what a hold
-- covers then; users_with_holds: users of whom any row is held. Each statement of a rule returns,
-- by column and basis (null: nothing excuses the row): rows, the oldest instant and the first ids;
-- the line without a column counts rows over all columns.

-- name: read_oldest_user
-- Asked once: users have no index on their age, and rules of years seldom meet anybody.
select min(created_at)
from users;

-- name: read_holds
-- Rows held at the instant, with their user, who may have become part of another since.
with recursive held as (
    select
        h.table_name,
        h.row_id
    from pipeline.retention_holds as h
    where
        least(
            coalesce(h.released_at, 'infinity'::timestamptz),
            coalesce(h.ends_at, 'infinity'::timestamptz)
        ) > %(instant)s::timestamptz
),

owned as (
    select
        h.table_name,
        h.row_id,
        case h.table_name
            when 'users' then h.row_id
            when 'conversations'
                then (
                    select c.user_id from conversations as c
                    where c.id = h.row_id
                )
            when 'messages'
                then (
                    select c.user_id
                    from messages as m
                    inner join conversations as c on m.conversation_id = c.id
                    where m.id = h.row_id
                )
            when 'session_context'
                then (
                    select c.user_id
                    from session_context as s
                    inner join conversations as c on s.conversation_id = c.id
                    where s.id = h.row_id
                )
            when 'tickets'
                then (
                    select t.user_id from tickets as t
                    where t.id = h.row_id
                )
            when 'leads'
                then (
                    select l.user_id from leads as l
                    where l.id = h.row_id
                )
            when 'appointments'
                then (
                    select a.user_id from appointments as a
                    where a.id = h.row_id
                )
            when 'services'
                then (
                    select s.user_id from services as s
                    where s.id = h.row_id
                )
            when 'certificates' then (
                select c.user_id from certificates as c
                where c.id = h.row_id
            )
        end as user_id
    from held as h
),

followed as (
    select
        o.table_name,
        o.row_id,
        o.user_id
    from owned as o
    union
    select
        f.table_name,
        n.row_id,
        n.user_id
    from followed as f
    cross join
        lateral (
            select
                f.row_id,
                g.into_user_id as user_id
            from pipeline.user_merges as g
            where g.from_user_id = f.user_id
            union all
            select
                k.merged_into,
                l.user_id
            from pipeline.crm_links as k
            inner join leads as l on k.merged_into = l.id
            where f.table_name = 'leads' and k.lead_id = f.row_id
        ) as n
)

select
    table_name,
    row_id,
    user_id
from followed;

-- name: messages_content
with found as (
    select
        m.id::text as row_id,
        m.created_at as at,
        'public.messages.content' as column_name,
        case
            when m.id = any(%(held_rows)s::uuid[]) then 'hold'
            when m.conversation_id = any(%(held_rows)s::uuid[]) then 'hold'
            when cardinality(%(held_users)s::uuid[]) > 0 and (
                select c.user_id from conversations as c
                where c.id = m.conversation_id
            ) = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from messages as m
    where
        m.content <> ''
        and m.created_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: message_reactions_emoji
with found as (
    select
        r.message_id::text as row_id,
        r.reacted_at as at,
        'pipeline.message_reactions.emoji' as column_name,
        case
            when r.message_id = any(%(held_rows)s::uuid[]) then 'hold'
            when cardinality(%(held_rows)s::uuid[]) > 0 and (
                select
                    c.id = any(%(held_rows)s::uuid[])
                    or c.user_id = any(%(held_users)s::uuid[])
                from messages as m
                inner join conversations as c on m.conversation_id = c.id
                where m.id = r.message_id
            ) then 'hold'
        end as basis
    from pipeline.message_reactions as r
    where
        r.emoji is not null
        and r.emoji <> ''
        and r.reacted_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: button_replies_payload
with found as (
    select
        b.message_id::text as row_id,
        b.pressed_at as at,
        'pipeline.button_replies.payload' as column_name,
        case
            when b.message_id = any(%(held_rows)s::uuid[]) then 'hold'
            when cardinality(%(held_rows)s::uuid[]) > 0 and (
                select
                    c.id = any(%(held_rows)s::uuid[])
                    or c.user_id = any(%(held_users)s::uuid[])
                from messages as m
                inner join conversations as c on m.conversation_id = c.id
                where m.id = b.message_id
            ) then 'hold'
        end as basis
    from pipeline.button_replies as b
    where
        b.payload is not null
        and b.payload <> ''
        and b.pressed_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: message_changes_waiting
-- What was applied keeps no text.
with found as (
    select
        h.change_id::text as row_id,
        h.changed_at as at,
        'pipeline.message_changes.content' as column_name,
        null::text as basis
    from pipeline.message_changes as h
    where
        h.changed_at < %(instant)s::timestamptz - %(period)s::interval
        and (not h.is_applied or h.content <> '')
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: session_context_ttl
with due as (
    select
        s.id,
        s.ttl_expires_at,
        s.summary,
        case
            when s.id = any(%(held_rows)s::uuid[]) then 'hold'
            when cardinality(%(held_users)s::uuid[]) > 0 and (
                select c.user_id from conversations as c
                where c.id = s.conversation_id
            ) = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from session_context as s
    where s.ttl_expires_at < %(instant)s::timestamptz - %(period)s::interval
),

found as (
    select
        d.id::text as row_id,
        d.ttl_expires_at as at,
        v.column_name,
        d.basis
    from due as d
    cross join
        lateral (
            values
            ('public.session_context.messages_json', true),
            ('public.session_context.summary', d.summary <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: leads_inactive
-- Two years after the latest of capture, the linked user's last message and the last change of the
-- stage; at most four years after capture.
with due as (
    select
        l.id,
        l.name,
        l.company,
        l.phone,
        l.email,
        l.notes,
        l.crm_id,
        greatest(l.created_at, a.last_at, h.changed_at) as last_at,
        case
            when
                l.id = any(%(held_rows)s::uuid[])
                or l.user_id = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from leads as l
    left join pipeline.user_activity as a on l.user_id = a.user_id
    left join
        lateral (
            select max(r.changed_at) as changed_at
            from pipeline.row_history as r
            where r.table_name = 'leads' and r.row_id = l.id and r.column_name = 'stage'
        ) as h
        on true
    where
        l.created_at < %(instant)s::timestamptz - %(period)s::interval
        and (
            greatest(l.created_at, a.last_at, h.changed_at)
            < %(instant)s::timestamptz - %(period)s::interval
            or l.created_at < %(instant)s::timestamptz - %(ceiling)s::interval
        )
),

found as (
    select
        d.id::text as row_id,
        d.last_at as at,
        v.column_name,
        d.basis
    from due as d
    cross join
        lateral (
            values
            ('public.leads.name', d.name !~ '^~x[a-z2-7]{18}$'),
            ('public.leads.company', d.company <> ''),
            ('public.leads.phone', d.phone !~ '^~x[a-z2-7]{18}$'),
            ('public.leads.email', d.email <> ''),
            ('public.leads.notes', d.notes <> ''),
            ('public.leads.crm_id', d.crm_id <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: users_inactive
-- The bases are found anew here, as they were at the instant: what changed later counts as before.
with due as materialized (
    select
        u.id,
        u.phone,
        u.name,
        u.email,
        u.company,
        u.login_token,
        greatest(u.created_at, a.last_at) as last_at
    from users as u
    left join pipeline.user_activity as a on u.id = a.user_id
    where
        %(oldest_user)s::timestamptz < %(instant)s::timestamptz - %(period)s::interval
        and u.created_at < %(instant)s::timestamptz - %(period)s::interval
        and greatest(u.created_at, a.last_at)
        < %(instant)s::timestamptz - %(period)s::interval
        and (
            u.phone !~ '^~x[a-z2-7]{18}$'
            or u.name <> ''
            or u.email <> ''
            or u.company <> ''
            or u.login_token <> ''
        )
),

judged as (
    select
        d.*,
        nullif(concat_ws(
            '+',
            -- Whatever is not cancelled is a contract that runs (decision 0008).
            case
                when exists (
                    select from services as s
                    where
                        s.user_id = d.id
                        and coalesce((
                            select r.old_value from pipeline.row_history as r
                            where
                                r.table_name = 'services'
                                and r.row_id = s.id
                                and r.column_name = 'status'
                                and r.changed_at > %(instant)s::timestamptz
                            order by r.changed_at, r.history_id
                            limit 1
                        ), s.status::text) <> 'cancelled'
                ) then 'active_service'
            end,
            case
                when exists (
                    select from certificates as c
                    where
                        c.user_id = d.id
                        and c.expires_at > %(instant)s::timestamptz
                        and coalesce((
                            select r.old_value from pipeline.row_history as r
                            where
                                r.table_name = 'certificates'
                                and r.row_id = c.id
                                and r.column_name = 'status'
                                and r.changed_at > %(instant)s::timestamptz
                            order by r.changed_at, r.history_id
                            limit 1
                        ), c.status::text) = 'valid'
                ) then 'valid_certificate'
            end,
            case
                when exists (
                    select from tickets as t
                    where
                        t.user_id = d.id
                        and coalesce((
                            select r.old_value from pipeline.row_history as r
                            where
                                r.table_name = 'tickets'
                                and r.row_id = t.id
                                and r.column_name = 'status'
                                and r.changed_at > %(instant)s::timestamptz
                            order by r.changed_at, r.history_id
                            limit 1
                        ), t.status::text) in ('open', 'in_progress')
                ) then 'open_ticket'
            end,
            case
                when exists (
                    select from appointments as p
                    where
                        p.user_id = d.id
                        and p.scheduled_at > %(instant)s::timestamptz
                        and coalesce((
                            select r.old_value from pipeline.row_history as r
                            where
                                r.table_name = 'appointments'
                                and r.row_id = p.id
                                and r.column_name = 'status'
                                and r.changed_at > %(instant)s::timestamptz
                            order by r.changed_at, r.history_id
                            limit 1
                        ), p.status::text) in ('pending', 'confirmed')
                ) then 'future_appointment'
            end,
            case
                when exists (
                    select from leads as l
                    where
                        l.user_id = d.id
                        and l.phone !~ '^~x[a-z2-7]{18}$'
                        and l.created_at
                        >= %(instant)s::timestamptz - %(lead_ceiling)s::interval
                        and greatest(l.created_at, d.last_at, (
                            select max(r.changed_at)
                            from pipeline.row_history as r
                            where
                                r.table_name = 'leads'
                                and r.row_id = l.id
                                and r.column_name = 'stage'
                        )) >= %(instant)s::timestamptz - %(lead_period)s::interval
                ) then 'lead_in_period'
            end,
            case when d.id = any(%(users_with_holds)s::uuid[]) then 'hold' end
        ), '') as basis
    from due as d
),

found as (
    select
        j.id::text as row_id,
        j.last_at as at,
        v.column_name,
        j.basis
    from judged as j
    cross join
        lateral (
            values
            ('public.users.phone', j.phone !~ '^~x[a-z2-7]{18}$'),
            ('public.users.name', j.name <> ''),
            ('public.users.email', j.email <> ''),
            ('public.users.company', j.company <> ''),
            ('public.users.login_token', j.login_token <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: login_tokens_unused
with found as (
    select
        u.id::text as row_id,
        greatest(u.updated_at, u.created_at, a.last_at) as at,
        'public.users.login_token' as column_name,
        case when u.id = any(%(held_users)s::uuid[]) then 'hold' end as basis
    from users as u
    left join pipeline.user_activity as a on u.id = a.user_id
    where
        u.login_token <> ''
        and u.updated_at < %(instant)s::timestamptz - %(period)s::interval
        and greatest(u.updated_at, u.created_at, a.last_at)
        < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: appointments_details
with due as (
    select
        p.id,
        p.scheduled_at,
        p.notes,
        p.calendar_event_id,
        case
            when
                p.id = any(%(held_rows)s::uuid[])
                or p.user_id = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from appointments as p
    where
        p.scheduled_at < %(instant)s::timestamptz - %(period)s::interval
        and (p.notes <> '' or p.calendar_event_id <> '')
),

found as (
    select
        d.id::text as row_id,
        d.scheduled_at as at,
        v.column_name,
        d.basis
    from due as d
    cross join
        lateral (
            values
            ('public.appointments.notes', d.notes <> ''),
            ('public.appointments.calendar_event_id', d.calendar_event_id <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: services_notes
-- Ended: cancelled, or past its expiry. When, where several instants are known: at the latest.
with ended as (
    select
        s.id,
        s.user_id,
        greatest(s.contracted_at, s.expires_at, h.changed_at) as at
    from services as s
    left join
        lateral (
            select max(r.changed_at) as changed_at
            from pipeline.row_history as r
            where r.table_name = 'services' and r.row_id = s.id and r.column_name = 'status'
        ) as h
        on true
    where
        s.notes <> ''
        and s.contracted_at < %(instant)s::timestamptz - %(period)s::interval
        and (s.status = 'cancelled' or s.expires_at < %(instant)s::timestamptz)
),

found as (
    select
        e.id::text as row_id,
        e.at,
        'public.services.notes' as column_name,
        case
            when
                e.id = any(%(held_rows)s::uuid[])
                or e.user_id = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from ended as e
    where e.at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: staff_names
-- A colleague's name is past its time when nobody met it anywhere for the period. No user is older
-- than their conversations, so a database with neither old users nor old names is not searched.
with is_old as (
    select
        %(oldest_user)s::timestamptz < %(instant)s::timestamptz - %(period)s::interval
        or exists (
            select from pipeline.staff as f
            where f.first_seen_at < %(instant)s::timestamptz - %(period)s::interval
        ) as is_old
),

mentions as materialized (
    select
        'pipeline.staff.name' as column_name,
        f.staff_id::text as row_id,
        f.name,
        f.first_seen_at as at
    from pipeline.staff as f
    where
        (select o.is_old from is_old as o)
        and f.name !~ '^~s[a-z2-7]{18}$'
    union all
    select
        'public.conversations.transferred_to',
        c.id::text,
        c.transferred_to,
        greatest(c.started_at, c.closed_at)
    from conversations as c
    where
        (select o.is_old from is_old as o)
        and c.transferred_to is not null
        and c.transferred_to <> ''
        and c.transferred_to !~ '^~s[a-z2-7]{18}$'
    union all
    select
        'pipeline.conversation_events.transferred_to',
        e.event_id::text,
        e.transferred_to,
        e.at
    from pipeline.conversation_events as e
    where
        (select o.is_old from is_old as o)
        and e.transferred_to is not null
        and e.transferred_to <> ''
        and e.transferred_to !~ '^~s[a-z2-7]{18}$'
    union all
    select
        'public.appointments.assigned_to',
        p.id::text,
        p.assigned_to,
        greatest(p.created_at, p.scheduled_at)
    from appointments as p
    where
        (select o.is_old from is_old as o)
        and p.assigned_to is not null
        and p.assigned_to <> ''
        and p.assigned_to !~ '^~s[a-z2-7]{18}$'
),

unseen as (
    select
        m.name,
        max(m.at) as at
    from mentions as m
    group by m.name
    having max(m.at) < %(instant)s::timestamptz - %(period)s::interval
),

found as (
    select
        m.row_id,
        u.at,
        m.column_name,
        case
            when exists (
                select from tickets as t
                where t.assigned_to = u.name
            ) then 'named_by_ticket'
            when m.row_id = any(%(held_rows)s::uuid[]::text[]) then 'hold'
        end as basis
    from unseen as u
    inner join mentions as m on u.name = m.name
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: inbound_batches
with found as (
    select
        b.batch_id::text as row_id,
        b.first_seen_at as at,
        'pipeline.inbound_batches.source_name' as column_name,
        null::text as basis
    from pipeline.inbound_batches as b
    where b.first_seen_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: quarantine
with found as (
    select
        q.id::text as row_id,
        q.quarantined_at as at,
        v.column_name,
        null::text as basis
    from pipeline.quarantine as q
    cross join
        lateral (
            values
            ('pipeline.quarantine.payload'),
            ('pipeline.quarantine.source_name')
        ) as v (column_name)
    where q.quarantined_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: sync_conflicts
with found as (
    select
        c.conflict_id::text as row_id,
        c.found_at as at,
        v.column_name,
        case
            when
                c.local_id = any(%(held_rows)s::uuid[])
                or (
                    select l.user_id from leads as l
                    where l.id = c.local_id
                ) = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from pipeline.sync_conflicts as c
    cross join
        lateral (
            values
            ('pipeline.sync_conflicts.our_value'),
            ('pipeline.sync_conflicts.their_value')
        ) as v (column_name)
    where c.found_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: identity_changes_unknown
-- Of nobody: none of its numbers and ids, old or new, is or was an identity of a user. A settled
-- one is somebody's, see changes_of_nobody.
with due as materialized (
    select c.*
    from pipeline.identity_changes as c
    where
        not c.is_settled
        and c.changed_at < %(instant)s::timestamptz - %(period)s::interval
),

known as (
    select d.change_id
    from due as d
    cross join
        lateral (
            values
            ('phone_key', d.old_phone_key),
            ('phone_key', d.new_phone_key),
            ('wa_id', d.new_wa_id),
            ('bsuid', d.old_bsuid),
            ('bsuid', d.new_bsuid),
            ('parent_bsuid', d.old_parent_bsuid),
            ('parent_bsuid', d.new_parent_bsuid)
        ) as k (kind, value)
    inner join pipeline.user_identities as i on k.kind = i.kind and k.value = i.value
),

found as (
    select
        d.change_id::text as row_id,
        d.changed_at as at,
        v.column_name,
        null::text as basis
    from due as d
    cross join
        lateral (
            values
            ('pipeline.identity_changes.old_phone_key', d.old_phone_key <> ''),
            ('pipeline.identity_changes.old_bsuid', d.old_bsuid <> ''),
            ('pipeline.identity_changes.old_parent_bsuid', d.old_parent_bsuid <> ''),
            ('pipeline.identity_changes.new_phone_key', d.new_phone_key <> ''),
            ('pipeline.identity_changes.new_wa_id', d.new_wa_id <> ''),
            ('pipeline.identity_changes.new_bsuid', d.new_bsuid <> ''),
            ('pipeline.identity_changes.new_parent_bsuid', d.new_parent_bsuid <> '')
        ) as v (column_name, is_left)
    where
        v.is_left
        and d.change_id not in (select k.change_id from known as k)
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: undo_records
with found as (
    select
        r.undo_id::text as row_id,
        r.expires_at as at,
        'pipeline.undo_records.record' as column_name,
        case
            when
                r.kept_id = any(%(held_users)s::uuid[])
                or r.removed_id = any(%(held_users)s::uuid[])
                or (
                    select c.user_id from conversations as c
                    where c.id = r.kept_id
                ) = any(%(held_users)s::uuid[]) then 'hold'
        end as basis
    from pipeline.undo_records as r
    where r.expires_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: runs_text
with found as (
    select
        r.run_id::text as row_id,
        r.started_at as at,
        v.column_name,
        null::text as basis
    from pipeline.runs as r
    cross join
        lateral (
            values
            ('pipeline.runs.error', r.error is not null and r.error <> ''),
            ('pipeline.runs.report', r.report -> 'notes' <> '[]'::jsonb)
        ) as v (column_name, is_left)
    where
        v.is_left
        and (r.error is not null or r.report -> 'notes' <> '[]'::jsonb)
        and r.started_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: plans_expired
with found as (
    select
        p.plan_id::text as row_id,
        p.expires_at as at,
        'pipeline.plans.contents' as column_name,
        null::text as basis
    from pipeline.plans as p
    where p.expires_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: erased_messages
with found as (
    select
        e.message_id::text as row_id,
        e.forget_at as at,
        'pipeline.erased_messages.message_id' as column_name,
        null::text as basis
    from pipeline.erased_messages as e
    where e.forget_at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: holds_text
with ended as (
    select
        h.hold_id,
        h.reason,
        h.owner,
        least(h.released_at, h.ends_at) as at
    from pipeline.retention_holds as h
),

found as (
    select
        e.hold_id::text as row_id,
        e.at,
        v.column_name,
        null::text as basis
    from ended as e
    cross join
        lateral (
            values
            ('pipeline.retention_holds.reason', e.reason <> ''),
            ('pipeline.retention_holds.owner', e.owner <> '')
        ) as v (column_name, is_left)
    where
        v.is_left
        and e.at < %(instant)s::timestamptz - %(period)s::interval
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- name: external_tasks_reference
-- Emptied as soon as the other system confirmed; until then it is how the person is found there.
with found as (
    select
        t.task_id::text as row_id,
        t.confirmed_at as at,
        'pipeline.external_tasks.reference' as column_name,
        null::text as basis
    from pipeline.external_tasks as t
    where
        t.state = 'confirmed'
        and t.reference <> ''
        and coalesce(t.confirmed_at, '-infinity'::timestamptz) <= %(instant)s::timestamptz
)

select
    column_name,
    basis,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by grouping sets ((column_name, basis), (basis));

-- The subjects: users and leads are the ids looked at; personal_text is the pattern of CPF, CNPJ,
-- phones, e-mail addresses and ids of the provider. Each statement finds the rows that belong to
-- the subjects by its own way and returns, by column: rows, the oldest instant and the first ids.

-- name: read_anonymized
select
    table_name,
    row_id
from pipeline.anonymized_rows;

-- name: subject_users
-- Also that the row is named as anonymised: else nothing keeps it so (S1).
with found as (
    select
        u.id::text as row_id,
        u.created_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join users as u on n.id = u.id
    cross join
        lateral (
            values
            ('public.users.phone', u.phone !~ '^~x[a-z2-7]{18}$'),
            ('public.users.name', u.name <> ''),
            ('public.users.email', u.email <> ''),
            ('public.users.company', u.company <> ''),
            ('public.users.login_token', u.login_token <> ''),
            ('pipeline.anonymized_rows.row_id', not exists (
                select from pipeline.anonymized_rows as z
                where z.table_name = 'users' and z.row_id = u.id
            ))
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_leads
with subject_leads as (
    select l.*
    from leads as l
    where
        l.id in (select n.id from unnest(%(leads)s::uuid[]) as n (id))
        or l.user_id in (select n.id from unnest(%(users)s::uuid[]) as n (id))
),

found as (
    select
        l.id::text as row_id,
        l.created_at as at,
        v.column_name
    from subject_leads as l
    cross join
        lateral (
            values
            ('public.leads.name', l.name !~ '^~x[a-z2-7]{18}$'),
            ('public.leads.company', l.company <> ''),
            ('public.leads.phone', l.phone !~ '^~x[a-z2-7]{18}$'),
            ('public.leads.email', l.email <> ''),
            ('public.leads.notes', l.notes <> ''),
            ('public.leads.crm_id', l.crm_id <> ''),
            ('public.leads.interest', l.interest ~ %(personal_text)s),
            ('public.leads.source', l.source ~ %(personal_text)s),
            ('pipeline.anonymized_rows.row_id', not exists (
                select from pipeline.anonymized_rows as z
                where z.table_name = 'leads' and z.row_id = l.id
            ))
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_conversations
with found as (
    select
        c.id::text as row_id,
        c.started_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    cross join
        lateral (
            values
            ('public.conversations.current_flow', c.current_flow ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_messages
with found as (
    select
        m.id::text as row_id,
        m.created_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    cross join
        lateral (
            values
            ('public.messages.content', m.content <> ''),
            ('public.messages.intent_detected', m.intent_detected ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_contexts
with found as (
    select
        s.id::text as row_id,
        s.updated_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join session_context as s on c.id = s.conversation_id
    cross join
        lateral (
            values
            (
                'public.session_context.messages_json',
                s.messages_json not in ('[]'::jsonb, '{}'::jsonb, 'null'::jsonb)
            ),
            ('public.session_context.summary', s.summary <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_appointments
with found as (
    select
        p.id::text as row_id,
        p.scheduled_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join appointments as p on n.id = p.user_id
    cross join
        lateral (
            values
            ('public.appointments.notes', p.notes <> ''),
            ('public.appointments.calendar_event_id', p.calendar_event_id <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_services
with found as (
    select
        s.id::text as row_id,
        s.contracted_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join services as s on n.id = s.user_id
    cross join
        lateral (
            values
            ('public.services.notes', s.notes <> ''),
            ('public.services.name', s.name ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_identities
with found as (
    select
        i.identity_id::text as row_id,
        i.valid_from as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.user_identities as i on n.id = i.user_id
    cross join
        lateral (
            values
            ('pipeline.user_identities.value', i.value <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_senders
-- Who is said to have sent the messages, choices and events of the subject, or is named by id.
with subject_messages as (
    select m.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
),

sender_ids as (
    select k.sender_id
    from subject_messages as m
    inner join pipeline.message_facts as f on m.id = f.message_id
    cross join lateral (values (f.sender_id), (f.told_sender_id)) as k (sender_id)
    where k.sender_id is not null
    union
    select o.sender_id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.opt_outs as o on n.id = o.user_id
    union
    select e.sender_id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.conversation_events as e on n.id = e.user_id
    union
    select s.sender_id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.senders as s
        on s.user_ref <> '' and n.id::text = lower(s.user_ref)
),

found as (
    select
        s.sender_id::text as row_id,
        null::timestamptz as at,
        v.column_name
    from sender_ids as n
    inner join pipeline.senders as s on n.sender_id = s.sender_id
    cross join
        lateral (
            values
            ('pipeline.senders.phone_key', s.phone_key <> ''),
            ('pipeline.senders.bsuid', s.bsuid <> ''),
            ('pipeline.senders.wa_id', s.wa_id <> ''),
            ('pipeline.senders.name', s.name <> ''),
            ('pipeline.senders.parent_bsuid', s.parent_bsuid <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_changes
-- Edits of a message, and edits of those edits.
with recursive subject_changes as (
    select
        h.change_id,
        h.edit_id,
        h.changed_at,
        h.content
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_changes as h on m.id = h.target_id
    union
    select
        h.change_id,
        h.edit_id,
        h.changed_at,
        h.content
    from subject_changes as s
    inner join pipeline.message_changes as h on s.edit_id = h.target_id
),

found as (
    select
        s.change_id::text as row_id,
        s.changed_at as at,
        'pipeline.message_changes.content' as column_name
    from subject_changes as s
    where s.content <> ''
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_reactions
with found as (
    select
        r.message_id::text as row_id,
        r.reacted_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_reactions as r on m.id = r.message_id
    cross join
        lateral (
            values
            ('pipeline.message_reactions.emoji', r.emoji <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_buttons
with found as (
    select
        b.message_id::text as row_id,
        m.created_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.button_replies as b on m.id = b.message_id
    cross join
        lateral (
            values
            ('pipeline.button_replies.payload', b.payload <> '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_facts
with found as (
    select
        f.message_id::text as row_id,
        m.created_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    cross join
        lateral (
            values
            ('pipeline.message_facts.mode', f.mode ~ %(personal_text)s),
            ('pipeline.message_facts.current_flow', f.current_flow ~ %(personal_text)s),
            ('pipeline.message_facts.model', f.model ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_statuses
with found as (
    select
        t.message_id::text as row_id,
        t.status_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_statuses as t on m.id = t.message_id
    cross join
        lateral (
            values
            ('pipeline.message_statuses.pricing_category', t.pricing_category ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_opt_outs
with found as (
    select
        o.choice_id::text as row_id,
        o.chosen_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.opt_outs as o on n.id = o.user_id
    cross join
        lateral (
            values
            ('pipeline.opt_outs.category', o.category ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_tasks
-- While a task is open its reference is how the person is found, and erased, there (S2).
with found as (
    select
        t.task_id::text as row_id,
        t.created_at as at,
        v.column_name
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.external_tasks as t on n.id = t.user_id
    cross join
        lateral (
            values
            ('pipeline.external_tasks.reference', t.state = 'confirmed' and t.reference <> ''),
            ('pipeline.external_tasks.system', t.system ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_undo_records
-- By who was kept or removed, and by every id that the record names. Of a merge of users the record
-- names leads too, which may be past their time before the users are: by id, and nothing else.
with subjects as (
    select
        n.id,
        false as is_lead
    from unnest(%(users)s::uuid[]) as n (id)
    union
    select
        n.id,
        true
    from unnest(%(leads)s::uuid[]) as n (id)
    union
    select
        g.from_user_id,
        false
    from unnest(%(users)s::uuid[]) as n (id)
    inner join pipeline.user_merges as g on n.id = g.into_user_id
    union
    select
        c.id,
        false
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
),

named as (
    select
        r.undo_id,
        r.kept_id as id
    from pipeline.undo_records as r
    union
    select
        r.undo_id,
        r.removed_id
    from pipeline.undo_records as r
    union
    select
        r.undo_id,
        t.ids[1]::uuid
    from pipeline.undo_records as r
    cross join
        lateral regexp_matches(
            r.record::text,
            '[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}',
            'g'
        ) as t (ids)
),

found as (
    select distinct
        r.undo_id::text as row_id,
        r.made_at as at,
        'pipeline.undo_records.record' as column_name
    from named as n
    inner join subjects as s on n.id = s.id
    inner join pipeline.undo_records as r on n.undo_id = r.undo_id
    where
        r.record not in ('{}'::jsonb, '[]'::jsonb, 'null'::jsonb)
        and (not s.is_lead or r.kind = 'leads')
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_links
-- Of the lead, and of those that became part of it; the row itself may not stand either.
with recursive lead_ids (id) as (
    select n.id
    from unnest(%(leads)s::uuid[]) as n (id)
    union
    select l.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join leads as l on n.id = l.user_id
    union
    select k.lead_id
    from lead_ids as i
    inner join pipeline.crm_links as k on i.id = k.merged_into
),

found as (
    select
        k.lead_id::text as row_id,
        k.made_at as at,
        v.column_name
    from lead_ids as i
    inner join pipeline.crm_links as k on i.id = k.lead_id
    cross join
        lateral (
            values
            ('pipeline.crm_links.remote_lead_id', k.remote_lead_id is not null),
            ('pipeline.crm_links.deal_id', k.deal_id is not null),
            ('pipeline.crm_links.person_id', k.person_id is not null),
            ('pipeline.crm_links.organization_id', k.organization_id is not null),
            ('pipeline.crm_links.note_id', k.note_id is not null),
            ('pipeline.crm_links.phone_key', k.phone_key <> ''),
            ('pipeline.crm_links.agreed_name', k.agreed_name <> ''),
            ('pipeline.crm_links.agreed_phone', k.agreed_phone <> ''),
            ('pipeline.crm_links.agreed_email', k.agreed_email <> ''),
            ('pipeline.crm_links.agreed_company', k.agreed_company <> ''),
            ('pipeline.crm_links.lead_id', concat(
                k.remote_lead_id, k.deal_id, k.person_id, k.organization_id, k.note_id,
                k.phone_key, k.agreed_name, k.agreed_phone, k.agreed_email, k.agreed_company
            ) = '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_conflicts
-- Nor may one without a value, such as of a lead that is gone there.
with recursive lead_ids (id) as (
    select n.id
    from unnest(%(leads)s::uuid[]) as n (id)
    union
    select l.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join leads as l on n.id = l.user_id
    union
    select k.lead_id
    from lead_ids as i
    inner join pipeline.crm_links as k on i.id = k.merged_into
),

found as (
    select
        c.conflict_id::text as row_id,
        c.found_at as at,
        v.column_name
    from lead_ids as i
    inner join pipeline.sync_conflicts as c on i.id = c.local_id
    cross join
        lateral (
            values
            ('pipeline.sync_conflicts.our_value', c.our_value <> ''),
            ('pipeline.sync_conflicts.their_value', c.their_value <> ''),
            ('pipeline.sync_conflicts.local_id', concat(c.our_value, c.their_value) = '')
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_intents
-- A call that waits to be tried again would carry the lead to the other system once more.
with recursive lead_ids (id) as (
    select n.id
    from unnest(%(leads)s::uuid[]) as n (id)
    union
    select l.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join leads as l on n.id = l.user_id
    union
    select k.lead_id
    from lead_ids as i
    inner join pipeline.crm_links as k on i.id = k.merged_into
),

found as (
    select
        b.local_id::text as row_id,
        b.begun_at as at,
        'pipeline.sync_outbox.local_id' as column_name
    from lead_ids as i
    inner join pipeline.sync_outbox as b on i.id = b.local_id
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_history
with subject_rows as (
    select
        'conversations' as table_name,
        c.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join conversations as c on n.id = c.user_id
    union all
    select
        'leads',
        l.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join leads as l on n.id = l.user_id
    union
    select
        'leads',
        n.id
    from unnest(%(leads)s::uuid[]) as n (id)
    union all
    select
        'appointments',
        p.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join appointments as p on n.id = p.user_id
    union all
    select
        'services',
        s.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join services as s on n.id = s.user_id
    union all
    select
        'certificates',
        f.id
    from unnest(%(users)s::uuid[]) as n (id)
    inner join certificates as f on n.id = f.user_id
),

found as (
    select
        h.history_id::text as row_id,
        h.changed_at as at,
        v.column_name
    from subject_rows as r
    inner join pipeline.row_history as h on r.table_name = h.table_name and r.id = h.row_id
    cross join
        lateral (
            values
            ('pipeline.row_history.old_value', h.old_value ~ %(personal_text)s),
            ('pipeline.row_history.new_value', h.new_value ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: subject_codes
-- What our own records say of the subject's row.
with subject_ids as (
    select n.id
    from unnest(%(users)s::uuid[]) as n (id)
    union all
    select n.id
    from unnest(%(leads)s::uuid[]) as n (id)
),

found as (
    select
        n.id::text as row_id,
        z.anonymized_at as at,
        'pipeline.anonymized_rows.rule' as column_name
    from subject_ids as n
    inner join pipeline.anonymized_rows as z on n.id = z.row_id
    where z.rule ~ %(personal_text)s
    union all
    select
        n.id::text,
        e.first_seen_at,
        v.column_name
    from subject_ids as n
    inner join pipeline.retention_exemptions as e on n.id = e.row_id
    cross join
        lateral (
            values
            ('pipeline.retention_exemptions.rule', e.rule ~ %(personal_text)s),
            ('pipeline.retention_exemptions.table_name', e.table_name ~ %(personal_text)s),
            ('pipeline.retention_exemptions.basis', e.basis ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
    union all
    select
        n.id::text,
        g.refused_at,
        v.column_name
    from subject_ids as n
    inner join pipeline.guard_refusals as g on n.id = g.row_id
    cross join
        lateral (
            values
            ('pipeline.guard_refusals.table_name', g.table_name ~ %(personal_text)s),
            ('pipeline.guard_refusals.column_name', g.column_name ~ %(personal_text)s),
            ('pipeline.guard_refusals.refused_role', g.refused_role ~ %(personal_text)s)
        ) as v (column_name, is_left)
    where v.is_left
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: senders_of_nobody
-- Once a person is erased nothing refers to what a sender said of them: a sender whose every number
-- and id is no user's is a leftover of somebody.
with known_refs as (
    select u.id::text as ref
    from users as u
    where u.phone !~ '^~x[a-z2-7]{18}$'
    union all
    select g.from_user_id::text
    from pipeline.user_merges as g
    inner join users as u on g.into_user_id = u.id
    where u.phone !~ '^~x[a-z2-7]{18}$'
),

found as (
    select
        s.sender_id::text as row_id,
        null::timestamptz as at,
        v.column_name
    from pipeline.senders as s
    cross join
        lateral (
            values
            ('pipeline.senders.phone_key', s.phone_key <> ''),
            ('pipeline.senders.bsuid', s.bsuid <> ''),
            ('pipeline.senders.wa_id', s.wa_id <> ''),
            ('pipeline.senders.name', s.name <> ''),
            ('pipeline.senders.parent_bsuid', s.parent_bsuid <> '')
        ) as v (column_name, is_left)
    where
        v.is_left
        and not exists (
            select from pipeline.user_identities as i
            where i.kind = 'phone_key' and i.value = s.phone_key
        )
        and not exists (
            select from pipeline.user_identities as i
            where i.kind = 'bsuid' and i.value = s.bsuid
        )
        and not exists (
            select from pipeline.user_identities as i
            where i.kind = 'parent_bsuid' and i.value = s.parent_bsuid
        )
        and lower(s.user_ref) not in (select k.ref from known_refs as k)
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;

-- name: changes_of_nobody
-- A settled change is of a client; where none of its numbers and ids is a user's any more, that
-- client was erased and the change should have gone with them.
with keys as materialized (
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
            ('wa_id', c.new_wa_id),
            ('bsuid', c.old_bsuid),
            ('bsuid', c.new_bsuid),
            ('parent_bsuid', c.old_parent_bsuid),
            ('parent_bsuid', c.new_parent_bsuid)
        ) as k (kind, value)
    where c.is_settled and k.value <> ''
),

known as (
    select k.change_id
    from keys as k
    inner join pipeline.user_identities as i on k.kind = i.kind and k.value = i.value
),

found as (
    select
        c.change_id::text as row_id,
        c.changed_at as at,
        v.column_name
    from pipeline.identity_changes as c
    cross join
        lateral (
            values
            ('pipeline.identity_changes.old_phone_key', c.old_phone_key <> ''),
            ('pipeline.identity_changes.old_bsuid', c.old_bsuid <> ''),
            ('pipeline.identity_changes.old_parent_bsuid', c.old_parent_bsuid <> ''),
            ('pipeline.identity_changes.new_phone_key', c.new_phone_key <> ''),
            ('pipeline.identity_changes.new_wa_id', c.new_wa_id <> ''),
            ('pipeline.identity_changes.new_bsuid', c.new_bsuid <> ''),
            ('pipeline.identity_changes.new_parent_bsuid', c.new_parent_bsuid <> '')
        ) as v (column_name, is_left)
    where
        v.is_left
        and c.is_settled
        and c.change_id not in (select k.change_id from known as k)
)

select
    column_name,
    count(distinct row_id),
    min(at),
    trim_array(
        array_agg(row_id order by at, row_id),
        greatest(count(*) - %(sample)s, 0)::int
    )
from found
group by column_name;
