-- The merge of one chunk, statement by statement, in the order in which they run. Each begins with
-- a line "-- name: …" that merge.py calls it by. Everything is set-based and in one transaction.

-- name: tune_session
-- A chunk fits these: its temporary tables and its sorts stay off the disk. The statements are too
-- short for compiling to pay, and statistics of a few hundred rows are enough to plan a join.
set temp_buffers = '64MB';
set work_mem = '64MB';
set jit = off;
set default_statistics_target = 10;

-- name: create_incoming
create temporary table if not exists incoming_people (
    person int not null,
    new_user_id uuid not null,
    phone text not null,
    phone_forms text[] not null,
    first_at bigint not null,
    last_at bigint not null,
    name text,
    name_at bigint,
    name_message_id uuid,
    phone_at bigint,
    phone_message_id uuid
) on commit delete rows;
create temporary table if not exists incoming_identities (
    person int not null,
    kind text not null,
    value text not null,
    first_at bigint not null
) on commit delete rows;
create temporary table if not exists incoming_messages (
    unit int not null,
    id uuid not null,
    person int not null,
    sent_at bigint not null,
    content text not null
) on commit delete rows;
create temporary table if not exists incoming_statuses (
    message_id uuid not null,
    status text not null,
    status_at bigint not null,
    error_code int,
    pricing_category text,
    attempt_id uuid
) on commit delete rows;
create temporary table if not exists incoming_quarantine (
    id uuid not null,
    batch_id uuid not null,
    source_name text not null,
    line bigint not null,
    kind text not null,
    field text,
    reason text not null,
    payload bytea not null
) on commit delete rows;
create temporary table if not exists resolved_people (
    person int not null,
    user_id uuid not null
) on commit delete rows;
create temporary table if not exists touched_users (
    user_id uuid not null,
    is_known boolean not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    name text,
    name_at timestamptz,
    name_message_id uuid,
    phone text,
    phone_at timestamptz,
    phone_message_id uuid
) on commit delete rows;
create temporary table if not exists new_messages (
    id uuid not null,
    user_id uuid not null,
    created_at timestamptz not null,
    unit int not null
) on commit delete rows;
create temporary table if not exists spans (
    user_id uuid not null,
    island int not null,
    span_from timestamptz not null,
    span_to timestamptz not null,
    conversation_id uuid,
    message_id uuid,
    unit int
) on commit delete rows;
create temporary table if not exists islands (
    user_id uuid not null,
    island int not null,
    conversation_id uuid not null,
    is_new boolean not null,
    absorbed uuid[] not null,
    latest uuid,
    span_from timestamptz not null,
    span_to timestamptz not null,
    added int not null,
    is_last boolean not null,
    status conversation_status not null
) on commit delete rows;

-- name: lock_identities
-- The first statement that touches shared rows: it takes the lock of every person of the chunk in
-- one order, so that loaders wait for each other and never deadlock. The conflict clause locks the
-- row also where its condition leaves it as it is.
insert into pipeline.user_identities (kind, value, user_id, valid_from)
select
    i.kind,
    i.value,
    -- The phone wins: as an identity, then as the chatbot wrote it, then any other identity.
    coalesce(
        case when known.kind = 'phone_key' then known.user_id end,
        by_phone.user_id,
        known.user_id,
        p.new_user_id
    ),
    to_timestamp(i.first_at)
from incoming_identities as i
inner join incoming_people as p on i.person = p.person
left join (
    select distinct on (k.person)
        k.person,
        k.kind,
        u.user_id
    from incoming_identities as k
    inner join pipeline.user_identities as u
        on k.kind = u.kind and k.value = u.value and u.valid_to is null
    order by
        k.person,
        array_position(array['phone_key', 'wa_id', 'bsuid', 'parent_bsuid'], k.kind)
) as known on i.person = known.person
left join (
    -- Users whom the chatbot made are known by their phone only.
    select distinct on (f.person)
        f.person,
        u.id as user_id
    from incoming_people as f
    cross join unnest(f.phone_forms) as form (phone)
    inner join users as u on form.phone = u.phone
    order by f.person, u.created_at, u.id
) as by_phone on i.person = by_phone.person
order by i.kind, i.value
on conflict (kind, value) where valid_to is null do update
    set valid_from = excluded.valid_from
    where user_identities.valid_from > excluded.valid_from;

-- name: resolve_people
-- After the locks: what another loader committed meanwhile is seen now, and wins over a candidate
-- of ours (it knew only the BSUID of a client whose phone we bring). Then the phone wins.
insert into resolved_people (person, user_id)
select distinct on (i.person)
    i.person,
    u.user_id
from incoming_identities as i
inner join pipeline.user_identities as u
    on i.kind = u.kind and i.value = u.value and u.valid_to is null
inner join incoming_people as p on i.person = p.person
order by
    i.person,
    u.user_id = p.new_user_id,
    array_position(array['phone_key', 'wa_id', 'bsuid', 'parent_bsuid'], i.kind);

-- name: settle_identities
-- Identities that this transaction gave to a candidate which lost to another loader's user.
update pipeline.user_identities as u
set user_id = r.user_id
from incoming_identities as i
inner join incoming_people as p on i.person = p.person
inner join resolved_people as r on i.person = r.person
where
    u.kind = i.kind
    and u.value = i.value
    and u.valid_to is null
    and u.user_id = p.new_user_id
    and u.user_id <> r.user_id;

-- name: touch_users
insert into touched_users
select
    r.user_id,
    bool_or(u.id is not null),
    to_timestamp(min(p.first_at)),
    to_timestamp(max(p.last_at)),
    (
        array_agg(p.name order by p.name_at desc, p.name_message_id desc)
        filter (where p.name is not null)
    )[1
    ],
    to_timestamp(max(p.name_at)),
    (
        array_agg(p.name_message_id order by p.name_at desc, p.name_message_id desc)
        filter (where p.name is not null)
    )[1
    ],
    (array_agg(p.phone order by p.phone_at desc nulls last, p.phone_message_id desc))[1],
    to_timestamp(max(p.phone_at)),
    (
        array_agg(p.phone_message_id order by p.phone_at desc, p.phone_message_id desc)
        filter (where p.phone_at is not null)
    )[1
    ]
from resolved_people as r
inner join incoming_people as p on r.person = p.person
left join users as u on r.user_id = u.id
group by r.user_id;

-- name: note_older_names
-- A name that stood there before this project set any is the chatbot's. After the lock on the user:
-- the trigger that notes the chatbot's names comes to these rows in the same order.
insert into pipeline.user_activity as a (user_id, chatbot_named_at)
select
    t.user_id,
    pipeline.clock()
from touched_users as t
inner join users as u on t.user_id = u.id
left join pipeline.user_activity as o on t.user_id = o.user_id
where
    t.is_known
    and u.name is not null
    and o.name_at is null
    and o.chatbot_named_at is null
order by t.user_id
on conflict (user_id) do update set chatbot_named_at = excluded.chatbot_named_at;

-- name: insert_users
insert into users (id, phone, name, is_client, created_at, updated_at)
select
    t.user_id,
    t.phone,
    t.name,
    false,
    t.first_at,
    pipeline.clock()
from touched_users as t
where
    not exists (
        select from users as u
        where u.id = t.user_id
    )
order by t.phone
on conflict (phone) do nothing;

-- name: count_missing_users
-- A user whom the chatbot inserted between two statements: the chunk is tried again.
select count(*) from touched_users as t
where not exists (
    select from users as u
    where u.id = t.user_id
);

-- name: lock_users
-- NO KEY: the chatbot's foreign keys do not wait for us.
select count(*) from (
    select u.id from users as u
    inner join touched_users as t on u.id = t.user_id
    order by u.id
    for no key update of u
) as locked;

-- name: update_users
update users as u
set
    name = case when x.takes_name then x.name else u.name end,
    phone = case when x.takes_phone then x.phone else u.phone end,
    created_at = least(u.created_at, x.first_at),
    updated_at = pipeline.clock()
from (
    select
        t.user_id,
        t.name,
        t.phone,
        t.first_at,
        -- Event time decides, then the message's id; a name of the chatbot stays.
        t.name is not null
        and a.chatbot_named_at is null
        and (v.name is null or a.name_at is not null)
        and (
            a.name_at is null
            or (t.name_at, t.name_message_id) > (a.name_at, a.name_message_id)
        ) as takes_name,
        t.phone_at is not null
        and (
            a.phone_at is null
            or (t.phone_at, t.phone_message_id) > (a.phone_at, a.phone_message_id)
        )
        and not exists (
            select from users as o
            where o.phone = t.phone and o.id <> t.user_id
        ) as takes_phone
    from touched_users as t
    inner join users as v on t.user_id = v.id
    left join pipeline.user_activity as a on t.user_id = a.user_id
    where not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'users' and z.row_id = t.user_id
    )
) as x
where
    u.id = x.user_id
    and (
        (x.takes_name and u.name is distinct from x.name)
        or (x.takes_phone and u.phone <> x.phone)
        or x.first_at < u.created_at
    );

-- name: upsert_activity
insert into pipeline.user_activity as a (
    user_id, last_at, name_at, name_message_id, phone_at, phone_message_id
)
select
    user_id,
    last_at,
    name_at,
    name_message_id,
    phone_at,
    phone_message_id
from touched_users
order by user_id
on conflict (user_id) do update
    set
        last_at = greatest(a.last_at, excluded.last_at),
        name_at = greatest(a.name_at, excluded.name_at),
        name_message_id = case
            when
                a.name_at is null
                or (excluded.name_at, excluded.name_message_id) > (a.name_at, a.name_message_id)
                then excluded.name_message_id
            else a.name_message_id
        end,
        phone_at = greatest(a.phone_at, excluded.phone_at),
        phone_message_id = case
            when
                a.phone_at is null
                or (excluded.phone_at, excluded.phone_message_id)
                > (a.phone_at, a.phone_message_id)
                then excluded.phone_message_id
            else a.phone_message_id
        end
    where
    a.last_at is null
    or a.last_at < excluded.last_at
    or a.name_at is null
    or (a.name_at, a.name_message_id) < (excluded.name_at, excluded.name_message_id)
    or a.phone_at is null
    or (a.phone_at, a.phone_message_id) < (excluded.phone_at, excluded.phone_message_id);

-- name: find_new_messages
-- The primary key decides what is new, before anything else is done with a message.
insert into new_messages
select distinct on (m.id)
    m.id,
    r.user_id,
    to_timestamp(m.sent_at),
    m.unit
from incoming_messages as m
inner join resolved_people as r on m.person = r.person
-- A probe of the key for each, whatever the planner thinks of the table: the limit keeps it so.
left join lateral (
    select x.id from messages as x
    where x.id = m.id
    order by x.id
    limit 1
) as x on true
where x.id is null
order by m.id, m.sent_at, m.unit;

-- name: find_spans
-- Conversations are a function of the messages: a gap longer than the idle limit ends one. The new
-- messages and the conversations within reach of them are laid on one line per user; what touches
-- is one island. Cost grows with what is new and its neighbours, not with what is stored.
insert into spans
with reach as (
    select
        user_id,
        min(created_at) - %(idle)s as from_at,
        max(created_at) + %(idle)s as to_at
    from new_messages
    group by user_id
),

laid as (
    select
        user_id,
        created_at as span_from,
        created_at as span_to,
        null::uuid as conversation_id,
        id as message_id,
        unit
    from new_messages
    union all
    select
        c.user_id,
        c.started_at,
        greatest(c.started_at, l.last_at),
        c.id,
        null,
        null
    from reach as r
    inner join conversations as c on r.user_id = c.user_id
    cross join
        lateral (
            select max(m.created_at) as last_at from messages as m
            where m.conversation_id = c.id
        ) as l
    where
        c.started_at <= r.to_at
        and (c.closed_at is null or c.closed_at >= r.from_at)
),

measured as (
    select
        *,
        max(span_to) over (
            partition by user_id order by span_from, message_id, conversation_id
            rows between unbounded preceding and 1 preceding
        ) as reached
    from laid
)

select
    user_id,
    count(*) filter (where reached is null or span_from - reached > %(idle)s) over (
        partition by user_id order by span_from, message_id, conversation_id
        rows unbounded preceding
    ),
    span_from,
    span_to,
    conversation_id,
    message_id,
    unit
from measured;

-- name: find_islands
insert into islands
with grouped as (
    select
        user_id,
        island,
        array_agg(conversation_id order by span_from, conversation_id)
        filter (where conversation_id is not null) as members,
        min(span_from) as span_from,
        max(span_to) as span_to,
        count(message_id) as added
    from spans
    group by user_id, island
),

placed as (
    select
        g.*,
        row_number() over (partition by g.user_id order by g.span_from desc) = 1
        and not exists (
            select from conversations as c
            where c.user_id = g.user_id and c.started_at > g.span_to
        ) as is_last
    from grouped as g
)

select
    p.user_id,
    p.island,
    coalesce(p.members[1], gen_random_uuid()),
    p.members is null,
    coalesce(p.members[2:], '{}'),
    p.members[cardinality(p.members)],
    p.span_from,
    p.span_to,
    p.added,
    p.is_last,
    case
        when p.is_last and c.status in ('waiting', 'transferred') then c.status
        when p.is_last and p.span_to + %(idle)s >= pipeline.clock() then 'open'
        else 'closed'
    end::conversation_status
from placed as p
left join conversations as c on c.id = p.members[cardinality(p.members)];

-- name: absorb_marks
-- Where conversations are joined the earliest row stays; state, context and marks are those of the
-- latest, which may be with a person.
update messages as m
set is_in_context = false
from islands as i
where
    i.absorbed <> '{}'
    and m.conversation_id = any(i.absorbed || i.conversation_id)
    and m.conversation_id <> i.latest
    and m.is_in_context;

-- name: absorb_messages
update messages as m
set conversation_id = i.conversation_id
from islands as i
where m.conversation_id = any(i.absorbed) and i.absorbed <> '{}';

-- name: absorb_tickets
update tickets as t
set conversation_id = i.conversation_id
from islands as i
where t.conversation_id = any(i.absorbed) and i.absorbed <> '{}';

-- name: absorb_earlier_contexts
delete from session_context as s
using islands as i
where
    i.absorbed <> '{}'
    and s.conversation_id = any(i.absorbed || i.conversation_id)
    and s.conversation_id <> i.latest;

-- name: absorb_context
update session_context as s
set conversation_id = i.conversation_id
from islands as i
where s.conversation_id = i.latest and i.absorbed <> '{}';

-- name: absorb_state
update conversations as c
set
    mode = a.mode,
    current_flow = a.current_flow,
    transferred_to = a.transferred_to,
    total_messages = c.total_messages + a.total
from (
    select
        i.conversation_id,
        l.mode,
        l.current_flow,
        l.transferred_to,
        sum(o.total_messages) as total
    from islands as i
    inner join conversations as l on i.latest = l.id
    inner join conversations as o on o.id = any(i.absorbed)
    where i.absorbed <> '{}'
    group by i.conversation_id, l.mode, l.current_flow, l.transferred_to
) as a
where c.id = a.conversation_id;

-- name: absorb_conversations
delete from conversations as c
using islands as i
where c.id = any(i.absorbed) and i.absorbed <> '{}';

-- name: close_conversations
-- Closing comes before opening: at most one conversation of a user is not closed at any moment.
update conversations as c
set
    status = 'closed',
    closed_at = i.span_to,
    started_at = i.span_from,
    total_messages = c.total_messages + i.added
from islands as i
where
    c.id = i.conversation_id
    and not i.is_new
    and i.status = 'closed'
    and (i.added > 0 or i.absorbed <> '{}' or c.status <> 'closed');

-- name: extend_conversations
update conversations as c
set
    status = i.status,
    closed_at = null,
    started_at = i.span_from,
    total_messages = c.total_messages + i.added
from islands as i
where
    c.id = i.conversation_id
    and not i.is_new
    and i.status <> 'closed'
    and (i.added > 0 or i.absorbed <> '{}' or c.status <> i.status);

-- name: insert_conversations
insert into conversations (
    id, user_id, status, mode, started_at, closed_at, total_messages
)
select
    conversation_id,
    user_id,
    status,
    'menu',
    span_from,
    case when status = 'closed' then span_to end,
    added
from islands
where is_new
order by user_id, span_from;

-- name: insert_messages
-- No conflict clause, which would cost a third more: the locks on the users keep other loaders away
-- from these ids. The same provider id under two people at once breaks the key, and the chunk is
-- tried again.
insert into messages (id, conversation_id, role, content, is_in_context, created_at)
select
    s.message_id,
    i.conversation_id,
    'user',
    m.content,
    false,
    s.span_from
from spans as s
inner join islands as i on s.user_id = i.user_id and s.island = i.island
inner join incoming_messages as m on s.unit = m.unit
order by s.span_from;

-- name: insert_message_facts
insert into pipeline.message_facts (message_id, author)
select
    id,
    'client'
from new_messages;

-- name: merge_statuses
-- A status that comes again otherwise (it has one row): the earliest record is kept as it came, so
-- the order of arrival leaves no trace.
with merged as (
    insert into pipeline.message_statuses as s (
        message_id, status, status_at, error_code, pricing_category, attempt_id
    )
    select distinct on (message_id, status)
        message_id,
        status,
        to_timestamp(status_at),
        error_code,
        pricing_category,
        attempt_id
    from incoming_statuses
    order by message_id, status, status_at, error_code, pricing_category, attempt_id
    on conflict (message_id, status) do update
        set
            status_at = excluded.status_at,
            error_code = excluded.error_code,
            pricing_category = excluded.pricing_category,
            attempt_id = excluded.attempt_id
        -- In an array, since there rows compare as ORDER BY does above: nulls are equal, and last.
        where
        array[row(s.status_at, s.error_code, s.pricing_category, s.attempt_id)]
        > array[row(
            excluded.status_at,
            excluded.error_code,
            excluded.pricing_category,
            excluded.attempt_id
        )]
    returning (xmax = 0) as is_inserted
)

select
    count(*) filter (where is_inserted),
    count(*) filter (where not is_inserted)
from merged;

-- name: expire_contexts
-- Contexts of conversations that this chunk closed: gone with the conversation.
with ended as (
    delete from session_context as s
    using islands as i
    where s.conversation_id = i.conversation_id and i.status = 'closed'
    returning s.conversation_id
)

update messages as m
set is_in_context = false
from ended as e
where m.conversation_id = e.conversation_id and m.is_in_context;

-- name: build_contexts
with live as (
    select
        conversation_id,
        span_to + %(context_ttl)s as ttl_expires_at
    from islands
    where status <> 'closed' and span_to + %(context_ttl)s > pipeline.clock()
)

insert into session_context as s (
    id, conversation_id, messages_json, ttl_expires_at, updated_at
)
select
    gen_random_uuid(),
    l.conversation_id,
    j.messages_json,
    l.ttl_expires_at,
    pipeline.clock()
from live as l
cross join
    lateral (
        select
            jsonb_agg(
                jsonb_build_object('role', n.role, 'content', n.content, 'at', n.created_at)
                order by n.created_at, n.role, n.id
            ) as messages_json
        from (
            select
                m.id,
                m.role,
                m.content,
                m.created_at
            from messages as m
            where m.conversation_id = l.conversation_id
            order by m.created_at desc, m.role desc, m.id desc
            limit %(context_messages)s
        ) as n
    ) as j
order by l.conversation_id
on conflict (conversation_id) do update
    set
        messages_json = excluded.messages_json,
        ttl_expires_at = excluded.ttl_expires_at,
        updated_at = excluded.updated_at;

-- name: mark_context
-- What was marked before is among the newest that a context holds and those added since (a thousand
-- more, in case the setting was higher then): no more is read, however long the conversation.
update messages as m
set is_in_context = r.is_in_context
from (
    select
        n.id,
        n.place <= %(context_messages)s as is_in_context
    from islands as i
    cross join
        lateral (
            select
                o.id,
                o.is_in_context,
                row_number() over (order by o.created_at desc, o.role desc, o.id desc) as place
            from (
                select
                    x.id,
                    x.role,
                    x.created_at,
                    x.is_in_context
                from messages as x
                where x.conversation_id = i.conversation_id
                order by x.created_at desc, x.role desc, x.id desc
                limit %(context_messages)s + i.added + 1000
            ) as o
        ) as n
    where
        i.status <> 'closed'
        and i.span_to + %(context_ttl)s > pipeline.clock()
        and n.is_in_context <> (n.place <= %(context_messages)s)
) as r
where m.id = r.id;

-- name: insert_quarantine
with kept as (
    insert into pipeline.quarantine (
        id, batch_id, source_name, line, kind, field, reason, payload, quarantined_at
    )
    select distinct on (id)
        id,
        batch_id,
        source_name,
        line,
        kind,
        field,
        reason,
        payload,
        pipeline.clock()
    from incoming_quarantine
    order by id, line
    on conflict (id) do nothing
    returning reason
)

select
    reason,
    count(*)
from kept
group by reason;

-- name: count_refusals
-- Refused by a guard within this transaction (rule S1): our own role must never try.
select count(*) from pipeline.guard_refusals
where backend_pid = pg_backend_pid() and refused_at = transaction_timestamp();
