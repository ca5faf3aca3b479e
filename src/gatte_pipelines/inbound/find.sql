-- All that the tables know of one message id (find.py). Read only; no content, no phone, no name.

-- name: read_settings
select
    name,
    value
from pipeline.settings
where name = any(%(names)s);

-- name: read_message
select
    m.id,
    m.conversation_id,
    c.user_id,
    c.status::text as conversation_status,
    m.role::text as role,
    m.created_at,
    m.content = '' as is_removed,
    m.is_in_context,
    f.author,
    f.mode,
    f.current_flow,
    not f.is_told_by_chatbot as is_told_by_webhook,
    f.told_at as told_by_chatbot_at
from messages as m
inner join conversations as c on m.conversation_id = c.id
left join pipeline.message_facts as f on m.id = f.message_id
where m.id = %(sought_id)s;

-- name: read_merged_users
select from_user_id from pipeline.user_merges
where into_user_id = %(sought_id)s
order by merged_at, from_user_id;

-- name: read_statuses
select
    s.status,
    s.status_at as at,
    s.error_code,
    s.status = d.status as is_reached
from pipeline.message_statuses as s
inner join pipeline.message_delivery as d on s.message_id = d.message_id
where s.message_id = %(sought_id)s
order by s.status_at, s.status;

-- name: read_changes
-- The edits and revokes of a message, also those of its edits.
with recursive down as (
    select
        h.change_id,
        h.edit_id,
        h.changed_at,
        h.is_revoke
    from pipeline.message_changes as h
    where h.target_id = %(sought_id)s
    union
    select
        h.change_id,
        h.edit_id,
        h.changed_at,
        h.is_revoke
    from down as d
    inner join pipeline.message_changes as h on d.edit_id = h.target_id
)

select
    count(distinct change_id) filter (where not is_revoke) as edits,
    count(distinct change_id) filter (where is_revoke) as revokes,
    max(changed_at) as last_at
from down
having count(*) > 0;

-- name: read_change
-- An edit or a revoke by its own id, and the message that it changes in the end.
with recursive up as (
    select
        h.target_id as id,
        1 as hops
    from pipeline.message_changes as h
    where h.edit_id = %(sought_id)s
    union
    select
        h.target_id,
        u.hops + 1
    from up as u
    inner join pipeline.message_changes as h on u.id = h.edit_id
    where u.hops < 32
)

select
    h.is_revoke,
    h.changed_at as at,
    u.id as target_id,
    m.id is not null as is_applied
from pipeline.message_changes as h
cross join
    lateral (
        select
            id,
            hops
        from up
        order by hops desc
        limit 1
    ) as u
left join messages as m on u.id = m.id
where h.edit_id = %(sought_id)s;

-- name: read_reaction_to
select
    reacted_at as at,
    emoji is null as is_taken_back
from pipeline.message_reactions
where message_id = %(sought_id)s;

-- name: read_reaction
select
    reacted_at as at,
    emoji is null as is_taken_back,
    message_id as target_id
from pipeline.message_reactions
where reaction_id = %(sought_id)s;

-- name: read_button
select context_id
from pipeline.button_replies
where message_id = %(sought_id)s;

-- name: read_opt_out
select
    chosen_at as at,
    category,
    is_opted_out,
    user_id
from pipeline.opt_outs
where choice_id = %(sought_id)s;

-- name: read_identity_change
-- A number change, and who has the number or user id since.
select
    c.changed_at as at,
    c.moves_number,
    (
        select array_agg(distinct u.user_id)
        from pipeline.user_identities as u
        where
            (u.valid_to is null or u.valid_to > c.changed_at)
            and (
                (u.kind = 'phone_key' and u.value = c.new_phone_key)
                or (u.kind = 'bsuid' and u.value = c.new_bsuid)
            )
    ) as user_ids
from pipeline.identity_changes as c
where c.change_id = %(sought_identity_id)s;

-- name: read_conversation_event
select
    at,
    status,
    user_id
from pipeline.conversation_events
where event_id = %(sought_event_id)s;

-- name: find_quarantined
-- Whatever holds the piece; whether it is the id itself is for the reader of the payload to say.
select
    id,
    reason,
    field,
    kind,
    source_name as file,
    line,
    quarantined_at,
    attempts,
    last_attempt_at
from pipeline.quarantine
where position(%(core)s in payload) > 0
order by quarantined_at, id;

-- name: read_payload
select payload from pipeline.quarantine
where id = %(sought_id)s;

-- name: read_batch
select
    b.state,
    b.lines_done,
    b.finished_at,
    r.as_of
from pipeline.inbound_batches as b
left join pipeline.runs as r on b.run_id = r.run_id
where b.batch_id = %(sought_id)s;

-- name: count_erased
select count(*) from pipeline.erased_messages
where message_id = any(%(ids)s::uuid[]);
