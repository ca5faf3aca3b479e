-- What adopt_rows asks of the rows, and how it repairs them.

-- name: phones
select
    id::text as id,
    phone
from public.users
order by id;

-- name: look_at_phones
select
    id,
    phone
from public.users
where id = any(%(ids)s::uuid[]);

-- name: knowledge
-- The one the chatbot knows most of comes first: a client, then the most fields, then the earliest.
select id::text as id
from public.users
where id = any(%(ids)s::uuid[])
order by
    is_client desc,
    num_nonnulls(
        nullif(name, ''), nullif(email, ''), nullif(company, ''), nullif(login_token, '')
    ) desc,
    created_at asc,
    id asc;

-- name: references_to_users
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    a.attname::text as column_name
from pg_constraint as k
inner join pg_class as c on k.conrelid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
inner join pg_attribute as a on k.conrelid = a.attrelid and a.attnum = k.conkey[1]
where k.contype = 'f' and k.confrelid = to_regclass('public.users')
order by n.nspname, c.relname, a.attname;

-- name: surplus_conversations
-- Conversations not closed of users that have several once the users named are merged; all but the
-- one with the last message.
with merged as (
    select
        unnest(%(removed)s::uuid[]) as removed,
        unnest(%(kept)s::uuid[]) as kept
),

live as (
    select
        c.id,
        c.started_at,
        coalesce(m.kept, c.user_id) as user_id,
        count(*) over (partition by coalesce(m.kept, c.user_id)) as live_count
    from public.conversations as c
    left join merged as m on c.user_id = m.removed
    where c.status::text <> 'closed'
),

several as (
    select * from live
    where live_count > 1
),

last_messages as (
    select
        conversation_id,
        max(created_at) as last_at
    from public.messages
    where conversation_id in (select s.id from several as s)
    group by conversation_id
),

ranked as (
    select
        s.id,
        row_number() over (
            partition by s.user_id
            order by coalesce(m.last_at, s.started_at) desc, s.started_at desc, s.id asc
        ) as place
    from several as s
    left join last_messages as m on s.id = m.conversation_id
)

select id::text as id from ranked
where place > 1
order by id;

-- name: close_conversations
update public.conversations as c
set
    status = 'closed',
    closed_at = coalesce(
        (
            select max(m.created_at) from public.messages as m
            where m.conversation_id = c.id
        ),
        c.started_at
    )
where c.id = any(%(ids)s::uuid[]);

-- name: add_plus
update public.users set phone = '+' || phone
where id = any(%(ids)s::uuid[]);

-- name: fill_kept
with merged as (
    select
        unnest(%(removed)s::uuid[]) as removed,
        unnest(%(kept)s::uuid[]) as kept,
        generate_series(1, cardinality(%(kept)s::uuid[])) as place
),

gained as (
    select
        m.kept,
        (array_agg(r.name order by m.place) filter (where r.name <> ''))[1] as name,
        (array_agg(r.email order by m.place) filter (where r.email <> ''))[1] as email,
        (array_agg(r.company order by m.place) filter (where r.company <> ''))[1] as company,
        min(r.created_at) as created_at
    from merged as m
    inner join public.users as r on m.removed = r.id
    group by m.kept
)

update public.users as k
set
    name = coalesce(nullif(k.name, ''), g.name, k.name),
    email = coalesce(nullif(k.email, ''), g.email, k.email),
    company = coalesce(nullif(k.company, ''), g.company, k.company),
    created_at = least(k.created_at, g.created_at)
from gained as g
where k.id = g.kept;

-- name: remove_merged
delete from public.users
where id = any(%(removed)s::uuid[]);

-- name: undo_records
-- What merges are undone from: the removed row, what is filled in the kept one, what is repointed.
with merged as (
    select
        unnest(%(removed)s::uuid[]) as removed,
        unnest(%(kept)s::uuid[]) as kept
),

referring as (
    select
        'conversations' as table_name,
        user_id,
        id
    from public.conversations
    where user_id = any(%(removed)s::uuid[])
    union all
    select
        'tickets' as table_name,
        user_id,
        id
    from public.tickets
    where user_id = any(%(removed)s::uuid[])
    union all
    select
        'leads' as table_name,
        user_id,
        id
    from public.leads
    where user_id = any(%(removed)s::uuid[])
    union all
    select
        'appointments' as table_name,
        user_id,
        id
    from public.appointments
    where user_id = any(%(removed)s::uuid[])
    union all
    select
        'services' as table_name,
        user_id,
        id
    from public.services
    where user_id = any(%(removed)s::uuid[])
    union all
    select
        'certificates' as table_name,
        user_id,
        id
    from public.certificates
    where user_id = any(%(removed)s::uuid[])
),

by_table as (
    select
        user_id,
        table_name,
        jsonb_agg(id order by id) as ids
    from referring
    group by user_id, table_name
),

repointed as (
    select
        user_id,
        jsonb_object_agg(table_name, ids) as ids
    from by_table
    group by user_id
)

select
    m.removed,
    m.kept,
    jsonb_build_object(
        'by', 'gatte db adopt',
        'removed', to_jsonb(r),
        'kept_before', jsonb_build_object(
            'name', k.name, 'email', k.email, 'company', k.company, 'created_at', k.created_at
        ),
        'repointed', coalesce(p.ids, '{}')
    ) as record
from merged as m
inner join public.users as r on m.removed = r.id
inner join public.users as k on m.kept = k.id
left join repointed as p on m.removed = p.user_id
order by m.removed;

-- name: store_undo_record
insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at)
values (
    'users', %(kept)s, %(removed)s, %(record)s, pipeline.clock() + interval '30 days'
);

-- name: store_merge
insert into pipeline.user_merges (from_user_id, into_user_id, merged_at)
values (%(removed)s, %(kept)s, pipeline.clock());
