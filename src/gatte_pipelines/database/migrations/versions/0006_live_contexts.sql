-- What must not be read after its time although nobody has removed it yet, and the instant by which
-- what buttons stood for is found when its time is over.

-- The context of a conversation until its TTL: the chatbot reads this, not the table.
create view pipeline.live_session_contexts as
select
    conversation_id,
    messages_json,
    summary,
    ttl_expires_at
from session_context
where ttl_expires_at > pipeline.clock();
