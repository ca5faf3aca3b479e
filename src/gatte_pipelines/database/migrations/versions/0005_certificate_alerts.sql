-- The ledger of certificate alerts: which step of which certificate became due, how each was
-- attempted, what clients answered. Ids, instants and codes only: whom a step is about is read
-- from the certificate when it is needed, so a merge or an erasure has nothing to change here.

create table pipeline.certificate_steps (
    step_id uuid not null,
    certificate_id uuid not null,
    expires_at timestamptz not null,
    threshold smallint not null,
    audience text not null,
    state text not null,
    reason text,
    due_on date not null,
    plan_id uuid,
    recorded_at timestamptz not null,
    settled_at timestamptz,
    reported_at timestamptz,
    primary key (step_id),
    constraint certificate_steps_audience check (
        audience in ('client', 'staff', 'owner', 'manager')
    ),
    constraint certificate_steps_state check (
        state in (
            'due', 'told', 'unreachable', 'skipped', 'superseded', 'answered', 'renewed', 'lapsed'
        )
    ),
    constraint certificate_steps_settled check ((state = 'due') = (settled_at is null))
);
create unique index certificate_steps_key
on pipeline.certificate_steps (certificate_id, expires_at, audience, threshold);
create index certificate_steps_plan_id_idx
on pipeline.certificate_steps (plan_id) where plan_id is not null;
create index certificate_steps_open_idx
on pipeline.certificate_steps (due_on) where state = 'due'::text;
create index certificate_steps_unreported_idx
on pipeline.certificate_steps (recorded_at)
where reported_at is null and (
    state in ('unreachable'::text, 'skipped'::text, 'lapsed'::text)
    or reason = 'other_channel'::text
);

-- One call to a channel: one recipient, with all that is due to them. attempt_id travels with the
-- message and comes back in its statuses; message_id is the keyed digest of the provider's id.
create table pipeline.alert_messages (
    attempt_id uuid not null,
    audience text not null,
    channel text not null,
    template text,
    state text not null,
    reason text,
    error_code integer,
    message_id uuid,
    intended_at timestamptz not null,
    result_at timestamptz,
    delivered_at timestamptz,
    primary key (attempt_id),
    constraint alert_messages_audience check (
        audience in ('client', 'staff', 'owner', 'manager')
    ),
    constraint alert_messages_channel check (channel in ('whatsapp', 'email')),
    constraint alert_messages_state check (
        state in ('intended', 'deferred', 'unknown', 'accepted', 'delivered', 'read', 'failed')
    )
);
create unique index alert_messages_message_id_key
on pipeline.alert_messages (message_id) where message_id is not null;
create index alert_messages_open_idx
on pipeline.alert_messages (intended_at)
where state in ('intended'::text, 'deferred'::text, 'unknown'::text)
or (state = 'accepted'::text and channel = 'whatsapp'::text);

create table pipeline.certificate_attempts (
    step_id uuid not null,
    channel text not null,
    attempt_id uuid not null,
    primary key (step_id, channel),
    constraint certificate_attempts_channel check (channel in ('whatsapp', 'email')),
    foreign key (step_id) references pipeline.certificate_steps (step_id),
    foreign key (attempt_id) references pipeline.alert_messages (attempt_id)
);
create index certificate_attempts_attempt_id_idx on pipeline.certificate_attempts (attempt_id);

create table pipeline.certificate_answers (
    certificate_id uuid not null,
    expires_at timestamptz not null,
    answer text not null,
    answered_at timestamptz not null,
    reply_id uuid not null,
    reported_at timestamptz,
    primary key (certificate_id, expires_at, reply_id),
    constraint certificate_answers_answer check (answer in ('renew', 'renewed', 'later'))
);
create index certificate_answers_reply_id_idx on pipeline.certificate_answers (reply_id);
create index certificate_answers_unreported_idx
on pipeline.certificate_answers (answered_at) where reported_at is null;

create table pipeline.renewal_leads (
    certificate_id uuid not null,
    expires_at timestamptz not null,
    lead_id uuid not null,
    made_at timestamptz not null,
    primary key (certificate_id, expires_at)
);
create index renewal_leads_lead_id_idx on pipeline.renewal_leads (lead_id);

-- Certificates that may replace each other and of which one was written since the last evaluation.
-- Written by triggers, emptied by the evaluation in the transaction that looks at them.
create table pipeline.certificate_changes (
    service_id uuid not null,
    user_id uuid not null,
    type text not null,
    changed_at timestamptz default pipeline.clock() not null,
    primary key (service_id, user_id, type)
);

create function pipeline.note_certificate_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pipeline, pg_temp
as $$
begin
    insert into pipeline.certificate_changes (service_id, user_id, type)
    select distinct f.service_id, f.user_id, f.type
    from (
        select old.service_id, old.user_id, old.type::text as type where tg_op <> 'INSERT'
        union all
        select new.service_id, new.user_id, new.type::text where tg_op <> 'DELETE'
    ) as f
    order by f.service_id, f.user_id, f.type
    on conflict (service_id, user_id, type) do update set changed_at = excluded.changed_at;
    return null;
end
$$;

create trigger note_change_insert after insert on certificates
for each row execute function pipeline.note_certificate_change();

create trigger note_change_update
after update of service_id, user_id, type, issued_at, expires_at, status on certificates
for each row when (
    old.service_id is distinct from new.service_id
    or old.user_id is distinct from new.user_id
    or old.type is distinct from new.type
    or old.issued_at is distinct from new.issued_at
    or old.expires_at is distinct from new.expires_at
    or old.status is distinct from new.status
)
execute function pipeline.note_certificate_change();

create trigger note_change_delete after delete on certificates
for each row execute function pipeline.note_certificate_change();

-- The nightly update writes what the rule says already: no function is called for such a row.
drop trigger set_days_to_expire on certificates;

create trigger set_days_to_expire before insert on certificates
for each row execute function pipeline.set_days_to_expire();

create trigger set_days_to_expire_update
before update of expires_at, days_to_expire on certificates
for each row when (
    new.days_to_expire is distinct from greatest(
        pipeline.business_date(new.expires_at) - pipeline.business_date(pipeline.clock()), -30
    )
)
execute function pipeline.set_days_to_expire();

-- Statuses of a message whose sending was never answered are found by what travelled with it, and
-- answers to alerts by what their buttons stand for.
create index message_statuses_attempt_id_idx
on pipeline.message_statuses (attempt_id) where attempt_id is not null;
create index button_replies_of_alerts_idx
on pipeline.button_replies (message_id) where starts_with(payload, 'certificate_alert:'::text);
