-- What the officer's report and the incident kit count. Ids, counts and instants only.

-- name: oldest_rows
-- The oldest instant, by the clock of each rule, of a row in which the data still stands.
select
    'messages_content' as rule,
    min(created_at) as at
from messages
where content <> ''
union all
select
    'message_reactions_emoji',
    min(reacted_at)
from pipeline.message_reactions
where emoji is not null
union all
select
    'button_replies_payload',
    min(pressed_at)
from pipeline.button_replies
where payload is not null
union all
select
    'message_changes_waiting',
    min(changed_at)
from pipeline.message_changes
where not is_applied
union all
select
    'session_context_ttl',
    min(ttl_expires_at)
from session_context
union all
select
    'leads_inactive',
    min(greatest(l.created_at, a.last_at))
from leads as l
left join pipeline.user_activity as a on l.user_id = a.user_id
where l.phone !~ '^~x[a-z2-7]{18}$'
union all
select
    'users_inactive',
    min(greatest(u.created_at, a.last_at))
from users as u
left join pipeline.user_activity as a on u.id = a.user_id
where u.phone !~ '^~x[a-z2-7]{18}$'
union all
select
    'login_tokens_unused',
    min(greatest(u.updated_at, a.last_at))
from users as u
left join pipeline.user_activity as a on u.id = a.user_id
where u.login_token <> ''
union all
select
    'appointments_details',
    min(scheduled_at)
from appointments
where notes <> '' or calendar_event_id <> ''
union all
select
    'services_notes',
    min(greatest(contracted_at, expires_at))
from services
where notes <> '' and (status = 'cancelled' or expires_at < %(instant)s::timestamptz)
union all
select
    'staff_names',
    min(first_seen_at)
from pipeline.staff
where name !~ '^~s[a-z2-7]{18}$'
union all
select
    'inbound_batches',
    min(first_seen_at)
from pipeline.inbound_batches
union all
select
    'quarantine',
    min(quarantined_at)
from pipeline.quarantine
union all
select
    'sync_conflicts',
    min(found_at)
from pipeline.sync_conflicts
union all
select
    'identity_changes_unknown',
    min(changed_at)
from pipeline.identity_changes
where not is_settled
union all
select
    'undo_records',
    min(expires_at)
from pipeline.undo_records
union all
select
    'runs_text',
    min(started_at)
from pipeline.runs
where error is not null or report -> 'notes' <> '[]'::jsonb
union all
select
    'plans_expired',
    min(expires_at)
from pipeline.plans
union all
select
    'erased_messages',
    min(forget_at)
from pipeline.erased_messages
union all
select
    'holds_text',
    min(least(released_at, ends_at))
from pipeline.retention_holds
where reason <> '' or owner <> ''
union all
select
    'external_tasks_reference',
    min(confirmed_at)
from pipeline.external_tasks
where state = 'confirmed' and reference <> '';

-- name: count_done
-- Rows that retention treated, by rule, as the ledger says: before the instant and from it on.
with entries as materialized (
    select
        l.seq,
        l.entry::jsonb as entry
    from pipeline.privacy_ledger as l
)

select
    i.entry #>> '{body,rule}' as rule,
    coalesce(
        sum((o.entry #>> '{body,done}')::bigint)
        filter (where (o.entry ->> 'at')::timestamptz < %(since)s::timestamptz),
        0
    )::bigint as done_before,
    coalesce(
        sum((o.entry #>> '{body,done}')::bigint)
        filter (where (o.entry ->> 'at')::timestamptz >= %(since)s::timestamptz),
        0
    )::bigint as done_since
from entries as o
inner join entries as i on i.seq = (o.entry #>> '{body,intent}')::bigint
where
    o.entry ->> 'kind' = 'outcome'
    and i.entry ->> 'kind' = 'intent'
    and (o.entry ->> 'at')::timestamptz <= %(instant)s::timestamptz
group by i.entry #>> '{body,rule}'
order by i.entry #>> '{body,rule}';

-- name: count_erased
-- Subjects erased on request, before the instant and from it on.
with erased as (
    select
        (l.entry::jsonb ->> 'at')::timestamptz as at,
        jsonb_array_length(l.entry::jsonb #> '{body,user_ids}') as subjects
    from pipeline.privacy_ledger as l
    where l.entry::jsonb ->> 'kind' = 'erased'
)

select
    coalesce(
        sum(e.subjects) filter (where e.at < %(since)s::timestamptz), 0
    )::bigint as done_before,
    coalesce(
        sum(e.subjects) filter (where e.at >= %(since)s::timestamptz), 0
    )::bigint as done_since
from erased as e
where e.at <= %(instant)s::timestamptz;

-- name: count_holds
select
    h.table_name,
    count(*) as holds,
    count(*) filter (where h.ends_at is null) as without_end,
    min(h.ends_at) as first_end,
    max(h.ends_at) as last_end
from pipeline.retention_holds as h
where
    least(
        coalesce(h.released_at, 'infinity'::timestamptz),
        coalesce(h.ends_at, 'infinity'::timestamptz)
    ) > %(instant)s::timestamptz
group by h.table_name
order by h.table_name;

-- name: count_old_tickets
select
    count(*) as tickets,
    count(distinct protocol) as protocols,
    min(created_at) as oldest
from tickets
where created_at < %(instant)s::timestamptz - %(period)s::interval;

-- name: list_old_tickets
select id
from tickets
where created_at < %(instant)s::timestamptz - %(period)s::interval
order by created_at, id
limit %(limit)s;

-- name: open_requests
select
    r.request_id,
    r.kind,
    r.state,
    r.received_at,
    r.due_at
from pipeline.subject_requests as r
where r.state <> 'done'
order by r.due_at, r.request_id;

-- name: open_tasks
select
    t.system,
    count(*) as tasks,
    min(t.created_at) as oldest,
    max(t.attempts) as attempts
from pipeline.external_tasks as t
where t.state = 'open'
group by t.system
order by t.system;

-- name: last_runs
select
    r.run_id,
    r.pipeline,
    r.as_of,
    r.started_at,
    r.outcome,
    r.reason
from pipeline.runs as r
where
    r.pipeline = any(%(pipelines)s::text[])
    and r.started_at <= %(instant)s::timestamptz
order by r.started_at desc, r.run_id asc
limit %(limit)s;

-- name: count_words
-- Removed texts: anonymised only where nothing leads back, neither the user's row nor a ticket of
-- theirs nor a task that another system has not confirmed.
with people as materialized (
    select
        u.id,
        u.phone ~ '^~x[a-z2-7]{18}$' as is_gone,
        u.phone ~ '^~x[a-z2-7]{18}$'
        and not exists (
            select from tickets as t
            where t.user_id = u.id
        )
        and not exists (
            select from pipeline.external_tasks as x
            where x.user_id = u.id and x.state = 'open'
        ) as is_anonymous
    from users as u
),

texts as (
    select
        count(*) filter (where not p.is_anonymous) as pseudonymised,
        count(*) filter (where p.is_anonymous) as anonymised
    from messages as m
    inner join conversations as c on m.conversation_id = c.id
    inner join people as p on c.user_id = p.id
    where
        m.content = ''
        and (m.created_at < %(instant)s::timestamptz - %(period)s::interval or p.is_gone)
)

select
    t.pseudonymised,
    t.anonymised,
    count(*) filter (where p.is_gone and not p.is_anonymous) as pseudonymised_users,
    count(*) filter (where p.is_anonymous) as anonymised_users
from texts as t
left join people as p on true
group by t.pseudonymised, t.anonymised;

-- name: count_subjects
-- Whose data stands here, by category, of rows that were there at the instant. A lead without a
-- user is a person of their own. The line without a category is the total of persons.
with found as (
    select
        'name' as category,
        u.id::text as subject,
        1 as records
    from users as u
    where u.name <> '' and u.created_at <= %(since)s::timestamptz
    union all
    select
        'contact',
        u.id::text,
        1
    from users as u
    where
        (u.phone ~ '^[+]' or u.email <> '')
        and u.created_at <= %(since)s::timestamptz
    union all
    select
        'company',
        u.id::text,
        1
    from users as u
    where u.company <> '' and u.created_at <= %(since)s::timestamptz
    union all
    select
        'credential',
        u.id::text,
        1
    from users as u
    where u.login_token <> '' and u.created_at <= %(since)s::timestamptz
    union all
    select
        'whatsapp',
        i.user_id::text,
        count(*)
    from pipeline.user_identities as i
    inner join users as u on i.user_id = u.id
    where u.created_at <= %(since)s::timestamptz
    group by i.user_id
    union all
    select
        'messages',
        c.user_id::text,
        count(*)
    from messages as m
    inner join conversations as c on m.conversation_id = c.id
    where m.content <> '' and m.created_at <= %(since)s::timestamptz
    group by c.user_id
    union all
    select
        'context',
        c.user_id::text,
        count(*)
    from session_context as s
    inner join conversations as c on s.conversation_id = c.id
    where c.started_at <= %(since)s::timestamptz
    group by c.user_id
    union all
    select
        'tickets',
        t.user_id::text,
        count(*)
    from tickets as t
    where t.created_at <= %(since)s::timestamptz
    group by t.user_id
    union all
    select
        'leads',
        coalesce(l.user_id::text, 'lead ' || l.id::text),
        count(*)
    from leads as l
    where
        (l.phone !~ '^~x[a-z2-7]{18}$' or l.name !~ '^~x[a-z2-7]{18}$')
        and l.created_at <= %(since)s::timestamptz
    group by coalesce(l.user_id::text, 'lead ' || l.id::text)
    union all
    select
        'appointments',
        a.user_id::text,
        count(*)
    from appointments as a
    inner join users as u on a.user_id = u.id
    where
        (
            u.phone !~ '^~x[a-z2-7]{18}$'
            or a.notes <> ''
            or a.calendar_event_id <> ''
        )
        and a.created_at <= %(since)s::timestamptz
    group by a.user_id
    union all
    select
        'services',
        s.user_id::text,
        count(*)
    from services as s
    inner join users as u on s.user_id = u.id
    where
        (u.phone !~ '^~x[a-z2-7]{18}$' or s.notes <> '')
        and s.contracted_at <= %(since)s::timestamptz
    group by s.user_id
    union all
    select
        'certificates',
        f.user_id::text,
        count(*)
    from certificates as f
    inner join users as u on f.user_id = u.id
    where u.phone !~ '^~x[a-z2-7]{18}$' and f.issued_at <= %(since)s::timestamptz
    group by f.user_id
    union all
    select
        'staff',
        'staff ' || f.staff_id::text,
        1
    from pipeline.staff as f
    where f.name !~ '^~s[a-z2-7]{18}$' and f.first_seen_at <= %(since)s::timestamptz
)

select
    f.category,
    count(distinct f.subject) as subjects,
    sum(f.records)::bigint as records
from found as f
group by grouping sets ((f.category), ());

-- name: count_quarantine
select count(*)
from pipeline.quarantine as q
where q.quarantined_at <= %(since)s::timestamptz;

-- name: count_anonymized
select
    z.table_name,
    count(*) filter (where z.anonymized_at < %(since)s::timestamptz) as before_since,
    count(*) filter (where z.anonymized_at >= %(since)s::timestamptz) as since
from pipeline.anonymized_rows as z
where z.anonymized_at <= %(instant)s::timestamptz
group by z.table_name
order by z.table_name;
