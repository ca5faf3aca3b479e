-- What retention, erasure and their proof must remember (docs/decisions/0008).

-- What a run would change, for a person to approve (S11).
create table pipeline.plans (
    plan_id uuid not null,
    pipeline text not null,
    as_of timestamptz not null,
    parameters jsonb not null,
    contents jsonb not null,
    reason text,
    made_at timestamptz default pipeline.clock() not null,
    expires_at timestamptz not null,
    executed_at timestamptz,
    primary key (plan_id)
);
create index plans_expires_at_idx on pipeline.plans (expires_at);

-- The record of what was destroyed and why: a chain of hashes, ids only. The same entries stand
-- outside this database (GATTE_LEDGER_URL).
create table pipeline.privacy_ledger (
    seq bigint not null,
    entry text not null,
    previous_hash text not null,
    hash text not null,
    primary key (seq)
);

create function pipeline.refuse_ledger_change() returns trigger
language plpgsql
as $$
begin
    raise exception 'the privacy ledger is only ever added to'
        using errcode = 'restrict_violation';
end
$$;

create trigger refuse_ledger_change before update or delete on pipeline.privacy_ledger
for each row execute function pipeline.refuse_ledger_change();

create trigger refuse_ledger_truncation before truncate on pipeline.privacy_ledger
for each statement execute function pipeline.refuse_ledger_change();

-- What must be kept for now, whatever its age: a whole subject (users) or one row.
create table pipeline.retention_holds (
    hold_id uuid not null,
    table_name text not null,
    row_id uuid not null,
    reason text not null,
    owner text not null,
    placed_at timestamptz not null,
    ends_at timestamptz,
    released_at timestamptz,
    primary key (hold_id),
    constraint retention_holds_table_name check (
        table_name in (
            'users', 'conversations', 'messages', 'session_context', 'tickets', 'leads',
            'appointments', 'services', 'certificates'
        )
    )
);
create index retention_holds_row_idx
on pipeline.retention_holds (table_name, row_id) where released_at is null;

-- Rows whose time has come and that are kept, with the basis for it.
create table pipeline.retention_exemptions (
    rule text not null,
    table_name text not null,
    row_id uuid not null,
    basis text not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    primary key (rule, row_id, basis)
);

-- Requests of subjects (LGPD art. 18), by users.id.
create table pipeline.subject_requests (
    request_id uuid not null,
    user_id uuid not null,
    kind text not null,
    state text not null,
    received_at timestamptz not null,
    due_at timestamptz not null,
    closed_at timestamptz,
    primary key (request_id),
    constraint subject_requests_kind check (kind in ('export', 'erase')),
    constraint subject_requests_state check (state in ('open', 'waiting_external', 'done'))
);
create index subject_requests_open_idx
on pipeline.subject_requests (due_at) where state <> 'done';
create index subject_requests_user_id_idx on pipeline.subject_requests (user_id);

-- What another system must erase too (S2). The reference leads back to the person there and is
-- emptied when the system confirmed.
create table pipeline.external_tasks (
    task_id uuid not null,
    request_id uuid,
    user_id uuid not null,
    system text not null,
    reference text,
    state text not null,
    attempts integer default 0 not null,
    created_at timestamptz not null,
    last_attempt_at timestamptz,
    confirmed_at timestamptz,
    primary key (task_id),
    constraint external_tasks_state check (state in ('open', 'confirmed'))
);
create index external_tasks_open_idx on pipeline.external_tasks (system) where state = 'open';
create index external_tasks_user_id_idx on pipeline.external_tasks (user_id);

-- Messages of erased subjects that the provider may still deliver again: they create nothing.
create table pipeline.erased_messages (
    message_id uuid not null,
    forget_at timestamptz not null,
    primary key (message_id)
);
create index erased_messages_forget_at_idx on pipeline.erased_messages (forget_at);

-- A closed ticket as it was: a digest over protocol, title, description and created_at.
create table pipeline.ticket_digests (
    ticket_id uuid not null,
    digest text not null,
    sealed_at timestamptz not null,
    primary key (ticket_id)
);

-- An addition to the nine: who came since cannot be due, so the night looks at nobody else.
create index users_created_at_idx on users (created_at);

-- What retention looks for, and nothing else: each shrinks with the work done.
create index message_reactions_emoji_idx
on pipeline.message_reactions (reacted_at) where emoji is not null;
create index button_replies_payload_idx
on pipeline.button_replies (message_id) where payload is not null;
create index quarantine_quarantined_at_idx on pipeline.quarantine (quarantined_at);
create index inbound_batches_first_seen_at_idx on pipeline.inbound_batches (first_seen_at);
create index runs_with_text_idx on pipeline.runs (started_at)
where error is not null or report -> 'notes' <> '[]'::jsonb;
