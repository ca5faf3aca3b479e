-- The canonical dump: what a database says, whatever the order in which it was told. All rows of
-- the tables that inbound loading fills, one line of JSON a row. Left out is only what depends on
-- the moment of loading: updated_at, when and from which file a quarantined record came, and the
-- ids that are minted at random. A user and a conversation are called by their rank instead: by
-- the time of the first event, then by the id of the first message, then by what else they have.
-- Run it with the session's time zone at UTC.
with first_messages as (
    select distinct on (c.user_id)
        c.user_id,
        m.created_at as first_at,
        m.id as first_message_id
    from messages as m
    inner join conversations as c on m.conversation_id = c.id
    order by c.user_id, m.created_at, m.id
),

ranked_users as (
    select
        u.id,
        row_number() over (
            order by f.first_at, f.first_message_id, u.created_at, convert_to(u.phone, 'UTF8')
        ) as user_rank
    from users as u
    left join first_messages as f on u.id = f.user_id
),

first_of_conversations as (
    select distinct on (m.conversation_id)
        m.conversation_id,
        m.created_at as first_at,
        m.id as first_message_id
    from messages as m
    order by m.conversation_id, m.created_at, m.id
),

ranked_conversations as (
    select
        c.id,
        c.user_id,
        row_number() over (
            order by f.first_at, f.first_message_id, c.started_at, r.user_rank
        ) as conversation_rank
    from conversations as c
    inner join ranked_users as r on c.user_id = r.id
    left join first_of_conversations as f on c.id = f.conversation_id
),

dumped (place, table_name, content) as (
    select
        1,
        'users',
        to_jsonb(u) - '{id, updated_at}'::text[] || jsonb_build_object(
            'user', r.user_rank,
            -- The placeholder of a client without a phone is random behind its kind.
            'phone', case when starts_with(u.phone, '~b') then '~b' else u.phone end
        )
    from users as u
    inner join ranked_users as r on u.id = r.id
    union all
    select
        2,
        'conversations',
        to_jsonb(c) - '{id, user_id}'::text[] || jsonb_build_object(
            'conversation', r.conversation_rank,
            'user', u.user_rank
        )
    from conversations as c
    inner join ranked_conversations as r on c.id = r.id
    inner join ranked_users as u on c.user_id = u.id
    union all
    select
        3,
        'messages',
        to_jsonb(m) - 'conversation_id' || jsonb_build_object('conversation', r.conversation_rank)
    from messages as m
    inner join ranked_conversations as r on m.conversation_id = r.id
    union all
    select
        4,
        'session_context',
        to_jsonb(s) - '{id, conversation_id, updated_at}'::text[] || jsonb_build_object(
            'conversation', r.conversation_rank
        )
    from session_context as s
    inner join ranked_conversations as r on s.conversation_id = r.id
    union all
    select
        5,
        'user_identities',
        to_jsonb(i) - '{identity_id, user_id}'::text[] || jsonb_build_object('user', r.user_rank)
    from pipeline.user_identities as i
    inner join ranked_users as r on i.user_id = r.id
    union all
    select
        6,
        'user_activity',
        to_jsonb(a) - 'user_id' || jsonb_build_object('user', r.user_rank)
    from pipeline.user_activity as a
    inner join ranked_users as r on a.user_id = r.id
    union all
    select
        7,
        'message_facts',
        to_jsonb(f)
    from pipeline.message_facts as f
    union all
    select
        8,
        'message_statuses',
        to_jsonb(s)
    from pipeline.message_statuses as s
    union all
    select
        9,
        'quarantine',
        to_jsonb(q)
        - '{batch_id, source_name, line, quarantined_at, attempts, last_attempt_at}'::text[]
    from pipeline.quarantine as q
)

select table_name || ' ' || content::text as line
from dumped
order by place, content::text collate "C"
