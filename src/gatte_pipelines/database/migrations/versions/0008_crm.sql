-- What two-way syncs remember: links, what both sides last agreed on, calls whose end nobody knows,
-- conflicts; and of Pipedrive the account as it was read, and the tokens spent.

-- Which records of Pipedrive are one lead of ours, and the last agreed value of each field.
-- agreed_at is null until both sides agreed once. phone_key finds the person of another lead that
-- has the same number, which a search may not find yet. Of a merged lead, whose row is gone,
-- merged_into is the one that it became part of: its records there stay known as ours.
create table pipeline.crm_links (
    lead_id uuid primary key,
    state text not null
    constraint crm_links_state check (state in ('pending', 'linked', 'deleted', 'merged')),
    remote_lead_id uuid,
    deal_id bigint,
    person_id bigint,
    organization_id bigint,
    note_id bigint,
    is_archived boolean default false not null,
    person_is_ours boolean default false not null,
    organization_is_ours boolean default false not null,
    phone_key text,
    agreed_name text,
    agreed_phone text,
    agreed_email text,
    agreed_company text,
    agreed_stage text,
    agreed_at timestamptz,
    merged_into uuid,
    made_at timestamptz not null,
    changed_at timestamptz not null,
    constraint crm_links_merged check ((state = 'merged') = (merged_into is not null)),
    constraint crm_links_linked check (
        state <> 'linked' or coalesce(remote_lead_id::text, deal_id::text) is not null
    )
);

create unique index crm_links_remote_lead_id_key
on pipeline.crm_links (remote_lead_id) where remote_lead_id is not null;

create unique index crm_links_deal_id_key
on pipeline.crm_links (deal_id) where deal_id is not null;

create index crm_links_person_id_idx
on pipeline.crm_links (person_id) where person_id is not null;

create index crm_links_organization_id_idx
on pipeline.crm_links (organization_id) where organization_id is not null;

create index crm_links_phone_key_idx
on pipeline.crm_links (phone_key) where phone_key is not null;

create index crm_links_merged_into_idx
on pipeline.crm_links (merged_into) where merged_into is not null;

-- Calls that were begun and whose end is not known: committed before the call, removed only by a
-- confirmed result.
create table pipeline.sync_outbox (
    system text not null,
    local_id uuid not null,
    action text not null,
    begun_at timestamptz not null,
    attempts integer default 1 not null,
    primary key (system, local_id, action)
);

-- Where both sides had changed one thing, or one side lost it: which value won, and the other one.
create table pipeline.sync_conflicts (
    conflict_id uuid primary key,
    system text not null,
    table_name text not null,
    local_id uuid not null,
    kind text not null
    constraint sync_conflicts_kind check (kind in ('both_changed', 'kept', 'deleted', 'merged')),
    field text,
    winner text not null constraint sync_conflicts_winner check (winner in ('ours', 'theirs')),
    our_value text,
    their_value text,
    run_id uuid not null,
    found_at timestamptz not null,
    resolved_at timestamptz,
    resolution text
    constraint sync_conflicts_resolution check (resolution in ('ours', 'theirs')),
    constraint sync_conflicts_resolved check ((resolved_at is null) = (resolution is null))
);

-- What a killed run noted is not noted again by the next one.
create unique index sync_conflicts_open_key
on pipeline.sync_conflicts (
    system,
    local_id,
    kind,
    coalesce(field, ''),
    coalesce(our_value, ''),
    coalesce(their_value, '')
) where resolved_at is null;

create index sync_conflicts_local_id_idx on pipeline.sync_conflicts (local_id);

create index sync_conflicts_found_at_idx on pipeline.sync_conflicts (found_at);

-- The company's labels, stages and our custom field as they were last read.
create table pipeline.crm_account (
    system text primary key,
    contents jsonb not null,
    read_at timestamptz not null
);

-- Tokens of the day's budget that this project spent.
create table pipeline.crm_tokens (
    day date primary key,
    spent integer not null,
    budget integer not null,
    remaining integer,
    noted_at timestamptz not null
);

-- Leads that became one lead can be parted again too.
alter table pipeline.undo_records drop constraint undo_records_kind;

alter table pipeline.undo_records
add constraint undo_records_kind check (kind in ('users', 'conversations', 'leads'));
