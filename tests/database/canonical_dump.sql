-- The canonical dump: what a database says, whatever the order in which it was told. All rows of
-- the tables that inbound loading fills, one line of JSON a row. Left out is only what depends on
-- the moment of loading: updated_at, when and from which file a quarantined record came, the ids
-- that are minted at random, whether a number change was taken in yet (is_settled), and the history
-- of arrival (user_merges, undo_records). A user and a
-- conversation are called by their rank instead: by the time of the first event, then by the id of
-- the first message, then by what else they have; a sender is called by its content.
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

-- Users without a message are known by a conversation event or a choice, whose ids are minted of
-- what they are.
first_records as (
    select
        r.user_id,
        min(r.record_id::text) as first_record_id
    from (
        select
            e.user_id,
            e.event_id as record_id
        from pipeline.conversation_events as e
        union all
        select
            o.user_id,
            o.choice_id as record_id
        from pipeline.opt_outs as o
    ) as r
    group by r.user_id
),

identities_of_users as (
    select
        i.user_id,
        array_agg(
            convert_to(i.kind || '=' || i.value, 'UTF8')
            order by convert_to(i.kind || '=' || i.value, 'UTF8')
        ) as identities
    from pipeline.user_identities as i
    group by i.user_id
),

-- The placeholder of a client without a phone is random behind its kind.
named_users as (
    select
        u.id,
        u.created_at,
        case when starts_with(u.phone, '~b') then '~b' else u.phone end as phone
    from users as u
),

ranked_users as (
    select
        u.id,
        u.phone,
        row_number() over (
            order by
                f.first_at,
                f.first_message_id,
                u.created_at,
                r.first_record_id,
                convert_to(u.phone, 'UTF8'),
                i.identities
        ) as user_rank
    from named_users as u
    left join first_messages as f on u.id = f.user_id
    left join first_records as r on u.id = r.user_id
    left join identities_of_users as i on u.id = i.user_id
),

called_senders as (
    select
        s.sender_id,
        to_jsonb(s) - 'sender_id' as sender
    from pipeline.senders as s
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
            'phone', r.phone
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
        to_jsonb(f) - '{sender_id, told_sender_id}'::text[] || jsonb_build_object(
            'sender', s.sender,
            'told_sender', t.sender
        )
    from pipeline.message_facts as f
    left join called_senders as s on f.sender_id = s.sender_id
    left join called_senders as t on f.told_sender_id = t.sender_id
    union all
    select
        8,
        'message_statuses',
        to_jsonb(s)
    from pipeline.message_statuses as s
    union all
    select
        9,
        'senders',
        s.sender
    from called_senders as s
    union all
    select
        10,
        'message_changes',
        to_jsonb(c)
    from pipeline.message_changes as c
    union all
    select
        11,
        'message_reactions',
        to_jsonb(r)
    from pipeline.message_reactions as r
    union all
    select
        12,
        'button_replies',
        to_jsonb(b)
    from pipeline.button_replies as b
    union all
    select
        13,
        'identity_changes',
        to_jsonb(c) - 'is_settled'
    from pipeline.identity_changes as c
    union all
    select
        14,
        'conversation_events',
        to_jsonb(e) - '{user_id, sender_id}'::text[] || jsonb_build_object(
            'user', r.user_rank,
            'sender', s.sender
        )
    from pipeline.conversation_events as e
    inner join ranked_users as r on e.user_id = r.id
    left join called_senders as s on e.sender_id = s.sender_id
    union all
    select
        15,
        'opt_outs',
        to_jsonb(o) - '{user_id, sender_id}'::text[] || jsonb_build_object(
            'user', r.user_rank,
            'sender', s.sender
        )
    from pipeline.opt_outs as o
    inner join ranked_users as r on o.user_id = r.id
    left join called_senders as s on o.sender_id = s.sender_id
    union all
    select
        16,
        'quarantine',
        to_jsonb(q)
        - '{batch_id, source_name, line, quarantined_at, attempts, last_attempt_at}'::text[]
    from pipeline.quarantine as q
)

select table_name || ' ' || content::text as line
from dumped
order by place, content::text collate "C"
