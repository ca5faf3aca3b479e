-- The nine tables, ENUMs, keys and seven indexes of DOC 01, and nothing else.
-- users(phone) is unique from the start: a second index on the same column would only cost.

create type conversation_status as enum ('open', 'closed', 'transferred', 'waiting');
create type conversation_mode as enum ('menu', 'ai_free', 'human', 'flow');
create type message_role as enum ('user', 'assistant', 'system');
create type ticket_status as enum ('open', 'in_progress', 'resolved', 'closed');
create type ticket_priority as enum ('low', 'medium', 'high', 'critical');
create type lead_stage as enum ('new', 'contacted', 'qualified', 'lost', 'converted');
create type appointment_type as enum ('demo', 'support', 'training', 'followup');
create type appointment_status as enum ('pending', 'confirmed', 'done', 'cancelled');
create type service_plan as enum ('essencial', 'profissional', 'enterprise');
create type service_status as enum ('active', 'suspended', 'cancelled', 'trial');
create type certificate_type as enum ('e-CPF', 'e-CNPJ', 'e-NFe', 'e-CT');
create type certificate_status as enum ('valid', 'expired', 'revoked', 'pending');

create table users (
    id uuid not null,
    phone varchar(20) not null,
    name varchar(150),
    email varchar(200),
    company varchar(200),
    is_client boolean not null,
    login_token varchar(512),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (id)
);
create unique index users_phone_key on users (phone);

create table conversations (
    id uuid not null,
    user_id uuid not null,
    status conversation_status not null,
    mode conversation_mode not null,
    current_flow varchar(100),
    transferred_to varchar(100),
    started_at timestamptz not null,
    closed_at timestamptz,
    total_messages integer default 0 not null,
    primary key (id),
    foreign key (user_id) references users (id)
);
create index conversations_user_id_status_idx on conversations (user_id, status);

create table messages (
    id uuid not null,
    conversation_id uuid not null,
    role message_role not null,
    content text not null,
    tokens_used integer,
    is_in_context boolean not null,
    intent_detected varchar(100),
    created_at timestamptz not null,
    primary key (id),
    foreign key (conversation_id) references conversations (id)
);
create index messages_conversation_id_created_at_idx on messages (conversation_id, created_at);

create table session_context (
    id uuid not null,
    conversation_id uuid not null,
    messages_json jsonb not null,
    summary text,
    ttl_expires_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (id),
    unique (conversation_id),
    foreign key (conversation_id) references conversations (id)
);
create index session_context_ttl_expires_at_idx on session_context (ttl_expires_at);

create table tickets (
    id uuid not null,
    protocol varchar(20) not null,
    user_id uuid not null,
    conversation_id uuid not null,
    title varchar(300) not null,
    description text not null,
    status ticket_status not null,
    priority ticket_priority not null,
    category varchar(100),
    assigned_to varchar(150),
    resolved_at timestamptz,
    created_at timestamptz not null,
    primary key (id),
    foreign key (user_id) references users (id),
    foreign key (conversation_id) references conversations (id)
);
create index tickets_protocol_idx on tickets (protocol);
create index tickets_user_id_status_idx on tickets (user_id, status);

create table leads (
    id uuid not null,
    user_id uuid,
    name varchar(150) not null,
    company varchar(200),
    phone varchar(20) not null,
    email varchar(200),
    interest varchar(200),
    stage lead_stage not null,
    source varchar(100) not null,
    notes text,
    crm_id varchar(100),
    created_at timestamptz not null,
    primary key (id),
    foreign key (user_id) references users (id)
);

create table appointments (
    id uuid not null,
    user_id uuid not null,
    type appointment_type not null,
    scheduled_at timestamptz not null,
    duration_min integer not null,
    assigned_to varchar(150),
    status appointment_status not null,
    notes text,
    calendar_event_id varchar(200),
    created_at timestamptz not null,
    primary key (id),
    foreign key (user_id) references users (id)
);

create table services (
    id uuid not null,
    user_id uuid not null,
    name varchar(200) not null,
    plan service_plan not null,
    status service_status not null,
    contracted_at timestamptz not null,
    expires_at timestamptz,
    monthly_value numeric(10, 2),
    notes text,
    primary key (id),
    foreign key (user_id) references users (id)
);

create table certificates (
    id uuid not null,
    service_id uuid not null,
    user_id uuid not null,
    type certificate_type not null,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    days_to_expire integer not null,
    status certificate_status not null,
    alert_sent boolean not null,
    primary key (id),
    foreign key (service_id) references services (id),
    foreign key (user_id) references users (id)
);
create index certificates_expires_at_status_idx on certificates (expires_at, status);
