-- Joining and dividing clients, in a transaction that runs alone (see client_locks.py).

-- name: create_settling
create temporary table if not exists settling_senders (
    sender_id bigint not null,
    cuts timestamptz[] not null
) on commit delete rows;
create temporary table if not exists settled_phones (
    user_id uuid not null,
    changed_at timestamptz not null,
    phone text not null,
    phone_key text not null
) on commit delete rows;
create temporary table if not exists merging_users (
    from_user_id uuid not null,
    into_user_id uuid not null
) on commit delete rows;

-- name: find_seeds
-- Identities of people whose user is in doubt: known as several, or from before a number changed
-- hands; and those of the number changes that are being loaded.
with known as (
    select
        i.person,
        u.user_id
    from incoming_identities as i
    inner join pipeline.user_identities as u
        on i.kind = u.kind and i.value = u.value and u.valid_to is null
    union
    select
        person,
        user_id
    from known_by_phone
),

doubted as (
    select person from known
    group by person
    having count(*) > 1
    union
    -- As count_in_doubt in merge.sql.
    select i.person
    from incoming_identities as i
    inner join (
        select
            k.kind,
            k.value,
            'infinity'::timestamptz as until_at
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
        where not c.is_settled and k.value <> ''
        union all
        select
            'phone_key',
            c.old_phone_key,
            c.changed_at
        from pipeline.identity_changes as c
        where c.moves_number
        union all
        select
            'phone_key',
            c.new_phone_key,
            c.changed_at
        from pipeline.identity_changes as c
        where c.moves_number
    ) as c on i.kind = c.kind and i.value = c.value
    where c.until_at >= to_timestamp(i.first_us / 1000000.0::float8)
)

select
    i.kind,
    i.value
from doubted as d
inner join incoming_identities as i on d.person = i.person
where i.kind <> 'wa_id'
union
select
    k.kind,
    k.value
from incoming_identity_changes as c
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
where k.value <> '';

-- name: read_senders
select
    sender_id,
    phone_key,
    wa_id,
    bsuid,
    parent_bsuid
from pipeline.senders
where phone_key = any(%(phone_keys)s)
union
select
    sender_id,
    phone_key,
    wa_id,
    bsuid,
    parent_bsuid
from pipeline.senders
where bsuid <> '' and bsuid = any(%(bsuids)s)
union
select
    sender_id,
    phone_key,
    wa_id,
    bsuid,
    parent_bsuid
from pipeline.senders
where parent_bsuid <> '' and parent_bsuid = any(%(parent_bsuids)s);

-- name: read_changes
select
    (extract(epoch from changed_at) * 1000000)::bigint as changed_us,
    moves_number,
    old_phone_key,
    old_bsuid,
    old_parent_bsuid,
    new_phone_key,
    new_wa_id,
    new_bsuid,
    new_parent_bsuid,
    change_id,
    is_settled
from pipeline.identity_changes
where
    old_phone_key = any(%(phone_keys)s)
    or new_phone_key = any(%(phone_keys)s)
    or old_bsuid = any(%(bsuids)s)
    or new_bsuid = any(%(bsuids)s)
    or old_parent_bsuid = any(%(parent_bsuids)s)
    or new_parent_bsuid = any(%(parent_bsuids)s);

-- name: read_claims
select
    i.user_id,
    i.kind,
    i.value,
    (extract(epoch from i.valid_from) * 1000000)::bigint as since_us,
    (extract(epoch from i.valid_to) * 1000000)::bigint as until_us
from pipeline.user_identities as i
where
    (
        (i.kind = 'phone_key' and i.value = any(%(phone_keys)s))
        or (i.kind = 'bsuid' and i.value = any(%(bsuids)s))
        or (i.kind = 'parent_bsuid' and i.value = any(%(parent_bsuids)s))
    )
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'users' and z.row_id = i.user_id
    );

-- name: read_phone_claims
select
    u.id,
    u.phone
from users as u
where
    u.phone = any(%(phones)s)
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'users' and z.row_id = u.id
    );

-- name: read_users
select
    id,
    is_client,
    num_nonnulls(email, company, login_token) as filled,
    (extract(epoch from created_at) * 1000000)::bigint as created_us
from users
where id = any(%(users)s)
order by id
for no key update;

-- name: read_seen
-- When each sender was active, part by part: a message by its own clock and by the chatbot's.
with told as (
    select
        f.sender_id,
        m.created_at as at,
        c.user_id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s)
    union all
    select
        f.told_sender_id,
        f.told_at,
        -- Whose the message is says its own sender.
        null
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s) and f.told_at is not null
    union all
    select
        sender_id,
        at,
        user_id
    from pipeline.conversation_events
    where user_id = any(%(users)s)
    union all
    select
        sender_id,
        chosen_at,
        user_id
    from pipeline.opt_outs
    where user_id = any(%(users)s)
    union all
    select
        s.sender_id,
        to_timestamp(i.at_us / 1000000.0::float8),
        null
    from (
        select
            sender,
            sent_us as at_us
        from incoming_messages
        union all
        select
            sender,
            at_us
        from incoming_events
        union all
        select
            sender,
            chosen_us
        from incoming_opt_outs
    ) as i
    inner join known_senders as s on i.sender = s.sender
)

select
    s.sender_id,
    width_bucket(t.at, s.cuts) as part,
    (extract(epoch from min(t.at)) * 1000000)::bigint as first_us,
    t.user_id
from told as t
inner join settling_senders as s on t.sender_id = s.sender_id
group by s.sender_id, width_bucket(t.at, s.cuts), t.user_id;

-- name: insert_users
insert into users (id, phone, name, is_client, created_at, updated_at)
select
    n.id,
    n.phone,
    null,
    false,
    to_timestamp(n.first_us / 1000000.0::float8),
    pipeline.clock()
from unnest(%(ids)s::uuid[], %(phones)s::text[], %(firsts)s::bigint[]) as n (id, phone, first_us);

-- name: record_merges
insert into pipeline.undo_records (kind, kept_id, removed_id, record, made_at, expires_at)
select
    'users',
    g.into_user_id,
    g.from_user_id,
    jsonb_build_object(
        'user', to_jsonb(u),
        'kept', to_jsonb(k),
        'activity', to_jsonb(a),
        'identities',
        (
            select jsonb_agg(to_jsonb(i)) from pipeline.user_identities as i
            where i.user_id = u.id
        ),
        'conversations',
        (
            select jsonb_agg(to_jsonb(c)) from conversations as c
            where c.user_id = u.id
        ),
        'tickets', (
            select jsonb_agg(t.id) from tickets as t
            where t.user_id = u.id
        ),
        'leads', (
            select jsonb_agg(l.id) from leads as l
            where l.user_id = u.id
        ),
        'appointments', (
            select jsonb_agg(p.id) from appointments as p
            where p.user_id = u.id
        ),
        'services', (
            select jsonb_agg(s.id) from services as s
            where s.user_id = u.id
        ),
        'certificates', (
            select jsonb_agg(f.id) from certificates as f
            where f.user_id = u.id
        )
    ),
    pipeline.clock(),
    pipeline.clock() + interval '30 days'
from merging_users as g
inner join users as u on g.from_user_id = u.id
inner join users as k on g.into_user_id = k.id
left join pipeline.user_activity as a on u.id = a.user_id;

-- name: repoint_conversations
update conversations as c
set
    user_id = g.into_user_id,
    -- Closed until it is derived again: only one of a user may be open.
    status = 'closed',
    closed_at = coalesce(c.closed_at, c.started_at)
from merging_users as g
where c.user_id = g.from_user_id;

-- name: repoint_tickets
update tickets as t
set user_id = g.into_user_id
from merging_users as g
where t.user_id = g.from_user_id;

-- name: repoint_leads
update leads as l
set user_id = g.into_user_id
from merging_users as g
where l.user_id = g.from_user_id;

-- name: repoint_appointments
update appointments as p
set user_id = g.into_user_id
from merging_users as g
where p.user_id = g.from_user_id;

-- name: repoint_services
update services as s
set user_id = g.into_user_id
from merging_users as g
where s.user_id = g.from_user_id;

-- name: repoint_certificates
update certificates as f
set user_id = g.into_user_id
from merging_users as g
where f.user_id = g.from_user_id;

-- name: repoint_events
update pipeline.conversation_events as e
set user_id = g.into_user_id
from merging_users as g
where e.user_id = g.from_user_id;

-- name: repoint_opt_outs
update pipeline.opt_outs as o
set user_id = g.into_user_id
from merging_users as g
where o.user_id = g.from_user_id;

-- name: repoint_identities
update pipeline.user_identities as i
set user_id = g.into_user_id
from merging_users as g
where i.user_id = g.from_user_id;

-- name: repoint_earlier_merges
update pipeline.user_merges as m
set into_user_id = g.into_user_id
from merging_users as g
where m.into_user_id = g.from_user_id;

-- name: note_merges
insert into pipeline.user_merges (from_user_id, into_user_id, merged_at)
select
    from_user_id,
    into_user_id,
    pipeline.clock()
from merging_users;

-- name: note_older_names
-- As in merge.sql: a name that stood there before this project set any is the chatbot's.
insert into pipeline.user_activity as a (user_id, chatbot_named_at)
select
    u.id,
    pipeline.clock()
from users as u
left join pipeline.user_activity as o on u.id = o.user_id
where
    u.id = any(%(users)s)
    and u.name is not null
    and o.name_at is null
    and o.chatbot_named_at is null
order by u.id
on conflict (user_id) do update set chatbot_named_at = excluded.chatbot_named_at;

-- name: combine_users
-- What the chatbot collected of the one that goes fills what is missing with the one that stays.
with gone as (
    select
        g.into_user_id,
        min(u.created_at) as created_at,
        (
            array_agg(u.name order by a.chatbot_named_at)
            filter (where a.chatbot_named_at is not null and u.name is not null)
        )[1
        ] as name,
        min(a.chatbot_named_at) filter (where u.name is not null) as chatbot_named_at,
        (array_agg(u.email order by u.created_at, u.id) filter (where u.email is not null))[1]
            as email,
        (array_agg(u.company order by u.created_at, u.id) filter (where u.company is not null))[1]
            as company,
        (
            array_agg(u.login_token order by u.created_at, u.id)
            filter (where u.login_token is not null)
        )[1
        ] as login_token
    from merging_users as g
    inner join users as u on g.from_user_id = u.id
    left join pipeline.user_activity as a on u.id = a.user_id
    group by g.into_user_id
),

named as (
    insert into pipeline.user_activity as a (user_id, chatbot_named_at)
    select
        into_user_id,
        chatbot_named_at
    from gone
    where chatbot_named_at is not null
    on conflict (user_id) do update
        set chatbot_named_at = coalesce(a.chatbot_named_at, excluded.chatbot_named_at)
)

update users as u
set
    name = case when a.chatbot_named_at is null then coalesce(g.name, u.name) else u.name end,
    email = coalesce(u.email, g.email),
    company = coalesce(u.company, g.company),
    login_token = coalesce(u.login_token, g.login_token),
    created_at = least(u.created_at, g.created_at),
    updated_at = pipeline.clock()
from gone as g
left join pipeline.user_activity as a on g.into_user_id = a.user_id
where u.id = g.into_user_id;

-- name: delete_merged_activity
delete from pipeline.user_activity as a
using merging_users as g
where a.user_id = g.from_user_id;

-- name: delete_merged_users
delete from users as u
using merging_users as g
where u.id = g.from_user_id;

-- name: delete_identities
delete from pipeline.user_identities
where
    (kind = 'phone_key' and value = any(%(phone_keys)s))
    or (kind = 'bsuid' and value = any(%(bsuids)s))
    or (kind = 'parent_bsuid' and value = any(%(parent_bsuids)s))
    or (kind = 'wa_id' and value = any(%(wa_ids)s));

-- name: insert_identities
insert into pipeline.user_identities (kind, value, user_id, valid_from, valid_to)
select
    n.kind,
    n.value,
    n.user_id,
    to_timestamp(n.from_us / 1000000.0::float8),
    to_timestamp(n.to_us / 1000000.0::float8)
from unnest(
    %(kinds)s::text[], %(values)s::text[], %(users)s::uuid[], %(froms)s::bigint[], %(tos)s::bigint[]
) as n (kind, value, user_id, from_us, to_us);

-- name: hold_senders
insert into settled_senders (sender_id, user_id, from_us, to_us)
select
    n.sender_id,
    n.user_id,
    n.from_us,
    n.to_us
from unnest(
    %(senders)s::bigint[], %(users)s::uuid[], %(froms)s::bigint[], %(tos)s::bigint[]
) as n (sender_id, user_id, from_us, to_us);

-- name: hold_users
insert into settled_users (user_id, is_disturbed)
select
    n.user_id,
    n.is_disturbed
from unnest(%(users)s::uuid[], %(disturbed)s::boolean[]) as n (user_id, is_disturbed);

-- name: note_settled
-- A change of a client who turned out to be nobody waits again.
update pipeline.identity_changes
set is_settled = change_id = any(%(settled)s::uuid[])
where
    change_id = any(%(changes)s::uuid[])
    and is_settled <> (change_id = any(%(settled)s::uuid[]));

-- name: hold_phones
insert into settled_phones (user_id, changed_at, phone, phone_key)
select
    n.user_id,
    to_timestamp(n.changed_us / 1000000.0::float8),
    n.phone,
    n.phone_key
from unnest(
    %(users)s::uuid[], %(changed)s::bigint[], %(phones)s::text[], %(phone_keys)s::text[]
) as n (user_id, changed_us, phone, phone_key);

-- name: lower_created
update users as u
set
    created_at = to_timestamp(n.first_us / 1000000.0::float8),
    updated_at = pipeline.clock()
from unnest(%(users)s::uuid[], %(firsts)s::bigint[]) as n (user_id, first_us)
where u.id = n.user_id and u.created_at > to_timestamp(n.first_us / 1000000.0::float8);

-- name: move_events
-- Who loses all events to others stands as if none had ever come: what they said goes with them.
with moving as (
    select
        e.event_id,
        e.user_id as former_user_id,
        s.user_id
    from pipeline.conversation_events as e
    inner join settled_senders as s
        on
            e.sender_id = s.sender_id
            and e.user_id <> s.user_id
            and (extract(epoch from e.at) * 1000000)::bigint > s.from_us
            and (extract(epoch from e.at) * 1000000)::bigint <= s.to_us
),

moved as (
    update pipeline.conversation_events as e
    set user_id = g.user_id
    from moving as g
    where e.event_id = g.event_id
)

update conversations as c
set
    status = 'closed',
    closed_at = coalesce(c.closed_at, c.started_at),
    transferred_to = null
where
    c.user_id in (select g.former_user_id from moving as g)
    and (c.status in ('waiting', 'transferred') or c.transferred_to is not null)
    and not exists (
        select from pipeline.conversation_events as e
        where
            e.user_id = c.user_id
            and e.event_id not in (select g.event_id from moving as g)
    )
    and not exists (
        select from moving as g
        where g.user_id = c.user_id
    );

-- name: move_opt_outs
update pipeline.opt_outs as o
set user_id = s.user_id
from settled_senders as s
where
    o.sender_id = s.sender_id
    and o.user_id <> s.user_id
    and (extract(epoch from o.chosen_at) * 1000000)::bigint > s.from_us
    and (extract(epoch from o.chosen_at) * 1000000)::bigint <= s.to_us;

-- name: resolve_settled
-- The senders of this chunk that were settled; merge.sql resolves the others.
insert into resolved_senders (sender, sender_id, user_id, from_us, to_us)
select
    n.sender,
    n.sender_id,
    h.user_id,
    h.from_us,
    h.to_us
from known_senders as n
inner join settled_senders as h on n.sender_id = h.sender_id;

-- name: forget_settled
delete from incoming_identities as i
using incoming_senders as n
where
    i.person = n.person
    and n.sender in (
        select r.sender from resolved_senders as r
    );

-- name: derive_activity
insert into pipeline.user_activity as a (
    user_id, last_at, name_at, name_message_id, phone_at, phone_message_id
)
select
    u.user_id,
    l.last_at,
    n.created_at,
    n.id as name_message_id,
    p.at,
    p.id as phone_message_id
from settled_users as u
left join lateral (
    select max(greatest(m.created_at, f.told_at)) as last_at
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    left join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = u.user_id and m.role = 'user'
) as l on true
left join lateral (
    select
        m.created_at,
        m.id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    inner join pipeline.senders as s on f.sender_id = s.sender_id
    where c.user_id = u.user_id and s.name <> ''
    order by m.created_at desc, m.id desc
    limit 1
) as n on true
left join lateral (
    select
        x.at,
        x.id
    from (
        select
            m.created_at as at,
            m.id
        from conversations as c
        inner join messages as m on c.id = m.conversation_id
        inner join pipeline.message_facts as f on m.id = f.message_id
        inner join pipeline.senders as s on f.sender_id = s.sender_id
        inner join pipeline.user_identities as i
            on
                s.phone_key = i.value
                and i.kind = 'phone_key'
                and i.valid_to is null
                and i.user_id = u.user_id
        where c.user_id = u.user_id and s.wa_id <> ''
        union all
        select
            h.changed_at,
            'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
        from settled_phones as h
        inner join pipeline.user_identities as i
            on
                h.phone_key = i.value
                and i.kind = 'phone_key'
                and i.valid_to is null
                and i.user_id = u.user_id
        where h.user_id = u.user_id
    ) as x
    order by x.at desc, x.id desc
    limit 1
) as p on true
order by u.user_id
on conflict (user_id) do update
    set
        last_at = excluded.last_at,
        name_at = excluded.name_at,
        name_message_id = excluded.name_message_id,
        phone_at = excluded.phone_at,
        phone_message_id = excluded.phone_message_id;

-- name: derive_names
update users as u
set
    name = s.name,
    updated_at = pipeline.clock()
from settled_users as t
inner join pipeline.user_activity as a on t.user_id = a.user_id
left join pipeline.message_facts as f on a.name_message_id = f.message_id
left join pipeline.senders as s on f.sender_id = s.sender_id
where
    u.id = t.user_id
    and a.chatbot_named_at is null
    and u.name is distinct from s.name;

-- name: find_phones
-- What users.phone is, the form last received, and the numbers the client has now.
select
    t.user_id,
    u.phone,
    case
        when a.phone_message_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
            then (
                select max(h.phone) from settled_phones as h
                inner join pipeline.user_identities as i
                    on h.phone_key = i.value and i.kind = 'phone_key' and i.valid_to is null
                where
                    h.user_id = t.user_id
                    and h.changed_at = a.phone_at
                    and i.user_id = t.user_id
            )
        else (
            select '+' || s.wa_id from pipeline.message_facts as f
            inner join pipeline.senders as s on f.sender_id = s.sender_id
            where f.message_id = a.phone_message_id
        )
    end as received,
    array(
        select i.value from pipeline.user_identities as i
        where i.user_id = t.user_id and i.kind = 'phone_key' and i.valid_to is null
        order by i.value
    ) as phone_keys,
    -- The chatbot wrote this row, or into it: its number is the one the chatbot looks for.
    u.is_client
    or a.chatbot_named_at is not null
    or num_nonnulls(u.email, u.company, u.login_token) > 0 as is_chatbots
from settled_users as t
inner join users as u on t.user_id = u.id
inner join pipeline.user_activity as a on t.user_id = a.user_id
order by t.user_id;

-- name: set_phones
-- In two steps, since two clients may have exchanged their numbers.
update users as u
set
    phone = n.phone,
    updated_at = pipeline.clock()
from unnest(%(users)s::uuid[], %(phones)s::text[]) as n (user_id, phone)
where
    u.id = n.user_id
    and not exists (
        select from users as o
        where o.phone = n.phone and o.id <> n.user_id  -- noqa: RF01
    );
