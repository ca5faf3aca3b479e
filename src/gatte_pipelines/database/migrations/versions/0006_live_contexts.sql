-- What must not be read after its time although nobody has removed it yet, the instant by which
-- payloads of buttons are found when their time is over, and how far a plan was carried out.

-- The context of a conversation until its TTL: the chatbot reads this, not the table.
create view pipeline.live_session_contexts as
select
    conversation_id,
    messages_json,
    summary,
    ttl_expires_at
from session_context
where ttl_expires_at > pipeline.clock();

-- When the button was pressed, so that nobody looks up its message to see that nothing is due.
alter table pipeline.button_replies add pressed_at timestamptz;

-- A press whose message is gone has no instant from which it could ever be due: it is too old.
update pipeline.button_replies as b
set pressed_at = coalesce(
    (
        select m.created_at from messages as m
        where m.id = b.message_id
    ), to_timestamp(0)
);

alter table pipeline.button_replies alter pressed_at set not null;

drop index pipeline.button_replies_payload_idx;

create index button_replies_pressed_at_idx
on pipeline.button_replies (pressed_at) where payload is not null;

-- What runs of a plan have done of it, part by part: one that was stopped is carried on.
alter table pipeline.plans add progress jsonb default '{}' not null;
