-- name: find_followed
-- Messages whose end is not known, with what their statuses say; found by what travelled with the
-- message, or by the provider's id where the statuses came without it.
select
    m.attempt_id,
    m.state,
    s.message_id,
    s.is_read,
    s.delivered_at,
    s.has_failed,
    s.error_code
from pipeline.alert_messages as m
inner join lateral (
    select
        count(*) as statuses,
        (array_agg(f.message_id))[1] as message_id,
        bool_or(f.status in ('read', 'played')) as is_read,
        min(f.status_at) filter (where f.status in ('delivered', 'read', 'played'))
            as delivered_at,
        bool_or(f.status = 'failed') as has_failed,
        min(f.error_code) filter (where f.status = 'failed') as error_code
    from (
        select
            t.message_id,
            t.status,
            t.status_at,
            t.error_code
        from pipeline.message_statuses as t
        where t.attempt_id = m.attempt_id
        union all
        select
            t.message_id,
            t.status,
            t.status_at,
            t.error_code
        from pipeline.message_statuses as t
        where t.message_id = m.message_id and t.attempt_id is distinct from m.attempt_id
    ) as f
) as s on s.statuses > 0
where
    m.state in ('intended', 'deferred', 'unknown')
    or (m.state = 'accepted' and m.channel = 'whatsapp')
order by m.attempt_id;

-- name: give_up_following
-- Meta drops what it could not deliver in 30 days, and need not say so.
update pipeline.alert_messages
set state = 'failed', reason = 'no_status', result_at = pipeline.clock()
where
    (
        state in ('intended', 'deferred', 'unknown')
        or (state = 'accepted' and channel = 'whatsapp')
    )
    and intended_at < pipeline.clock() - interval '30 days';

-- name: settle_message
update pipeline.alert_messages
set
    state = %(message_state)s,
    reason = %(reason)s,
    error_code = %(error_code)s,
    message_id = coalesce(message_id, %(message_id)s),
    result_at = pipeline.clock(),
    delivered_at = coalesce(delivered_at, %(delivered_at)s)
where attempt_id = %(attempt_id)s;

-- name: tell_steps
-- Where nobody knows what became of an attempt on another channel, the client may be told twice:
-- the digest says so.
with of_message as (
    select
        a.step_id,
        exists(
            select from pipeline.certificate_attempts as b
            inner join pipeline.alert_messages as m on b.attempt_id = m.attempt_id
            where
                b.step_id = a.step_id
                and b.attempt_id <> a.attempt_id
                and m.state in ('intended', 'unknown')
        ) as is_doubtful
    from pipeline.certificate_attempts as a
    where a.attempt_id = %(attempt_id)s
)

update pipeline.certificate_steps as s
set
    state = 'told',
    settled_at = pipeline.clock(),
    reason = case when f.is_doubtful then 'other_channel' else s.reason end
from of_message as f
where s.step_id = f.step_id and s.state = 'due';

-- name: reopen_steps
-- Told by a message that failed later, and by no other.
update pipeline.certificate_steps as s
set state = 'due', settled_at = null, reason = null
from pipeline.certificate_attempts as a
where
    a.attempt_id = %(attempt_id)s
    and a.step_id = s.step_id
    and s.state = 'told'
    and not exists (
        select from pipeline.certificate_attempts as b
        inner join pipeline.alert_messages as m on b.attempt_id = m.attempt_id
        where b.step_id = s.step_id and m.state in ('accepted', 'delivered', 'read')
    );

-- name: settle_steps
update pipeline.certificate_steps
set state = %(step_state)s, settled_at = pipeline.clock(), reason = %(reason)s
where step_id = any(%(ids)s) and state = 'due';

-- name: skip_steps_of_message
update pipeline.certificate_steps as s
set state = 'skipped', settled_at = pipeline.clock(), reason = %(reason)s
from pipeline.certificate_attempts as a
where a.attempt_id = %(attempt_id)s and a.step_id = s.step_id and s.state in ('due', 'told');

-- name: certificates_of_message
select distinct s.certificate_id
from pipeline.certificate_attempts as a
inner join pipeline.certificate_steps as s on a.step_id = s.step_id
where a.attempt_id = any(%(ids)s);

-- name: find_new_replies
-- Presses of our buttons that were not looked at; whoever presses must be the client of the
-- certificate, which is checked where the answer is written.
select
    r.message_id,
    r.payload,
    r.pressed_at,
    c.user_id
from pipeline.button_replies as r
inner join messages as m on r.message_id = m.id
inner join conversations as c on m.conversation_id = c.id
where
    starts_with(r.payload, 'certificate_alert:'::text)
    and not exists (
        select from pipeline.certificate_answers as a
        where a.reply_id = r.message_id
    )
order by r.pressed_at, r.message_id;

-- name: write_answer
insert into pipeline.certificate_answers (
    certificate_id, expires_at, answer, answered_at, reply_id
)
select distinct
    s.certificate_id,
    s.expires_at,
    %(answer)s,
    %(answered_at)s::timestamptz,
    %(reply_id)s::uuid
from pipeline.certificate_attempts as a
inner join pipeline.certificate_steps as s on a.step_id = s.step_id
inner join certificates as f on s.certificate_id = f.id
where a.attempt_id = %(attempt_id)s and f.user_id = %(subject_id)s
on conflict (certificate_id, expires_at, reply_id) do nothing;

-- name: find_answers_of_open_steps
select
    s.step_id,
    s.audience,
    s.threshold,
    array_agg(distinct a.answer) as answers
from pipeline.certificate_steps as s
inner join pipeline.certificate_answers as a
    on s.certificate_id = a.certificate_id and s.expires_at = a.expires_at
where s.state = 'due'
group by s.step_id, s.audience, s.threshold;

-- name: find_open_steps
select
    s.step_id,
    s.certificate_id,
    s.expires_at,
    s.threshold,
    s.audience,
    s.reason,
    f.type::text as type,
    f.user_id,
    v.name as service,
    case when v.status <> 'cancelled' then v.monthly_value end as monthly_value,
    (
        select a.answer
        from pipeline.certificate_answers as a
        where a.certificate_id = s.certificate_id and a.expires_at = s.expires_at
        order by a.answered_at desc, a.reply_id desc
        limit 1
    ) as answer,
    (
        select max(t.settled_at)
        from pipeline.certificate_steps as t
        where
            t.certificate_id = s.certificate_id
            and t.expires_at = s.expires_at
            and t.audience = 'client'
            and t.state = 'told'
    ) as told_at
from pipeline.certificate_steps as s
inner join certificates as f on s.certificate_id = f.id
inner join services as v on f.service_id = v.id
where s.state = 'due'
order by s.expires_at, f.user_id, s.step_id;

-- name: find_open_attempts
select
    a.step_id,
    a.channel,
    a.attempt_id,
    m.state,
    m.reason,
    m.intended_at
from pipeline.certificate_steps as s
inner join pipeline.certificate_attempts as a on s.step_id = a.step_id
inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
where s.state = 'due';

-- name: find_recipient
-- Read in the transaction of the intent, an instant before the call (S7).
select
    u.name,
    u.phone,
    u.email,
    (
        select i.value from pipeline.user_identities as i
        where i.user_id = u.id and i.kind = 'bsuid' and i.valid_to is null
        order by i.valid_from desc, i.value asc
        limit 1
    ) as bsuid,
    exists(
        select from pipeline.anonymized_rows as r
        where r.table_name = 'users' and r.row_id = u.id
    ) as is_anonymized,
    exists(
        select from pipeline.current_opt_outs as o
        where o.user_id = u.id and o.is_opted_out
    ) as is_opted_out
from users as u
where u.id = %(subject_id)s;

-- name: lock_steps
-- Those that still stand as they were planned: same client, same expiry, and no certificate that
-- may replace this one was written since.
select s.step_id
from pipeline.certificate_steps as s
inner join certificates as f on s.certificate_id = f.id and s.expires_at = f.expires_at
where
    s.step_id = any(%(ids)s)
    and s.state = 'due'
    and f.user_id = %(subject_id)s
    and f.status in ('valid', 'expired')
    and not exists (
        select from pipeline.certificate_changes as c
        where
            c.service_id = f.service_id and c.user_id = f.user_id and c.type = f.type::text
    )
order by s.step_id
for no key update of s;

-- name: intend_message
insert into pipeline.alert_messages (
    attempt_id, audience, channel, template, state, reason, intended_at, result_at
)
values (
    %(attempt_id)s,
    %(audience)s,
    %(channel)s,
    %(template)s,
    %(message_state)s,
    %(reason)s,
    pipeline.clock(),
    case when %(message_state)s = 'intended' then null else pipeline.clock() end
)
on conflict (attempt_id) do update set
    state = excluded.state,
    reason = excluded.reason,
    error_code = null,
    template = excluded.template,
    intended_at = excluded.intended_at,
    result_at = excluded.result_at;

-- name: unlink_deferred
-- What a limit refused is attempted again, with whatever is due by then.
delete from pipeline.certificate_attempts as a
using pipeline.alert_messages as m
where
    a.step_id = any(%(ids)s)
    and a.channel = %(channel)s
    and a.attempt_id = m.attempt_id
    and m.state = 'deferred';

-- name: link_steps
insert into pipeline.certificate_attempts (step_id, channel, attempt_id)
select
    f.step_id,
    %(channel)s,
    %(attempt_id)s::uuid
from unnest(%(ids)s::uuid[]) as f (step_id);

-- name: drop_regrouped
-- Deferred messages whose steps went on with another.
update pipeline.alert_messages as m
set state = 'failed', reason = 'regrouped', result_at = pipeline.clock()
where
    m.attempt_id = any(%(ids)s)
    and m.state = 'deferred'
    and not exists (
        select from pipeline.certificate_attempts as a
        where a.attempt_id = m.attempt_id
    );

-- name: name_plan
update pipeline.certificate_steps
set plan_id = %(plan_id)s
where step_id = any(%(ids)s);

-- name: find_steps_of_plan
-- What a plan that was carried out in part did: steps that ended, and those that wait for the end
-- of an attempt.
select
    s.certificate_id,
    s.expires_at,
    s.threshold
from pipeline.certificate_steps as s
where
    s.plan_id = %(plan_id)s
    and s.audience = 'client'
    and (
        s.state <> 'due'
        or exists (
            select from pipeline.certificate_attempts as a
            where a.step_id = s.step_id
        )
    );

-- name: has_client_messages
select exists(
    select from pipeline.alert_messages as m
    where m.audience = 'client'
) as has_any;

-- name: settle_alert_sent
-- What DOC 01 keeps of it: whether the step now due, of the current expiry, was sent.
update certificates as f
set alert_sent = d.is_sent
from (
    select
        g.id,
        coalesce((
            select s.state = 'told'
            from pipeline.certificate_steps as s
            where
                s.certificate_id = g.id
                and s.expires_at = g.expires_at
                and s.audience = 'client'
                and s.state <> 'superseded'
            order by s.threshold
            limit 1
        ), false) as is_sent
    from certificates as g
    where g.id = any(%(ids)s)
) as d
where f.id = d.id and f.alert_sent is distinct from d.is_sent;

-- name: make_renewal_leads
-- Once a certificate: for each client one lead, or the one that is still being worked on.
with wanted as (
    select distinct
        s.certificate_id,
        s.expires_at,
        f.user_id,
        f.type
    from pipeline.certificate_steps as s
    inner join certificates as f on s.certificate_id = f.id and s.expires_at = f.expires_at
    where
        s.certificate_id = any(%(ids)s)
        and s.audience = 'client'
        and s.threshold <= %(lead_days)s
        and s.state in ('due', 'answered')
        and s.recorded_at = pipeline.clock()
        and not exists (
            select from pipeline.renewal_leads as r
            where r.certificate_id = s.certificate_id and r.expires_at = s.expires_at
        )
        and not exists (
            select from pipeline.certificate_answers as a
            where
                a.certificate_id = s.certificate_id
                and a.expires_at = s.expires_at
                and a.answer = 'renewed'
        )
        and not exists (
            select from pipeline.anonymized_rows as r
            where r.table_name = 'users' and r.row_id = f.user_id
        )
),

clients as (
    select
        w.user_id,
        left(
            'Renovação de certificado digital: '
            || string_agg(distinct w.type::text, ', ' order by w.type::text), 200
        ) as interest,
        (
            select l.id
            from leads as l
            where
                l.user_id = w.user_id
                and l.source = 'certificado_vencendo'
                and l.stage in ('new', 'contacted', 'qualified')
                and not exists (
                    select from pipeline.anonymized_rows as r
                    where r.table_name = 'leads' and r.row_id = l.id
                )
            order by l.created_at desc, l.id asc
            limit 1
        ) as lead_id
    from wanted as w
    group by w.user_id
),

made as (
    insert into leads (
        id, user_id, name, company, phone, email, interest, stage, source, created_at
    )
    select
        gen_random_uuid(),
        u.id,
        coalesce(nullif(btrim(u.name), ''), 'Cliente sem nome'),
        u.company,
        u.phone,
        u.email,
        c.interest,
        'new',
        'certificado_vencendo',
        pipeline.clock()
    from clients as c
    inner join users as u on c.user_id = u.id
    where c.lead_id is null
    returning leads.id, leads.user_id
),

linked as (
    insert into pipeline.renewal_leads (certificate_id, expires_at, lead_id, made_at)
    select
        w.certificate_id,
        w.expires_at,
        coalesce(c.lead_id, m.id),
        pipeline.clock()
    from wanted as w
    inner join clients as c on w.user_id = c.user_id
    left join made as m on w.user_id = m.user_id
    where c.lead_id is not null or m.id is not null
    on conflict (certificate_id, expires_at) do nothing
    returning 1
)

select
    (select count(*) from made) as leads,
    (select count(*) from linked) as certificates;

-- name: find_unreported
-- What clients were not told, or only by a detour, and what lapsed; told to staff once.
select
    s.step_id,
    s.certificate_id,
    s.expires_at,
    s.threshold,
    s.state,
    s.reason,
    f.type::text as type,
    f.user_id,
    v.name as service,
    case when v.status <> 'cancelled' then v.monthly_value end as monthly_value,
    (
        select min(m.channel)
        from pipeline.certificate_attempts as a
        inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
        where a.step_id = s.step_id and m.state in ('intended', 'unknown')
    ) as doubtful_channel,
    (
        select min(m.channel)
        from pipeline.certificate_attempts as a
        inner join pipeline.alert_messages as m on a.attempt_id = m.attempt_id
        where a.step_id = s.step_id and m.state in ('accepted', 'delivered', 'read')
    ) as accepted_channel
from pipeline.certificate_steps as s
inner join certificates as f on s.certificate_id = f.id
inner join services as v on f.service_id = v.id
where
    s.reported_at is null
    and (
        s.state in ('unreachable', 'skipped', 'lapsed')
        or s.reason = 'other_channel'
    )
    and (s.audience = 'client' or s.state = 'lapsed')
    and s.reason is distinct from 'revoked'
order by s.expires_at, s.step_id;

-- name: find_unreported_answers
select distinct on (a.certificate_id, a.expires_at)
    a.certificate_id,
    a.expires_at,
    a.answer,
    a.answered_at,
    f.type::text as type,
    f.user_id,
    v.name as service,
    case when v.status <> 'cancelled' then v.monthly_value end as monthly_value
from pipeline.certificate_answers as a
inner join certificates as f on a.certificate_id = f.id
inner join services as v on f.service_id = v.id
where a.reported_at is null
order by a.certificate_id asc, a.expires_at asc, a.answered_at desc, a.reply_id asc;

-- name: mark_reported
update pipeline.certificate_steps
set reported_at = pipeline.clock()
where step_id = any(%(ids)s);

-- name: mark_answers_reported
update pipeline.certificate_answers
set reported_at = pipeline.clock()
where reported_at is null and answered_at <= %(instant)s;

-- name: sum_at_risk
-- What expires soon without a successor: certificates, their services and the monthly value.
with expiring as (
    select
        f.service_id,
        h.days
    from certificates as f
    inner join unnest(array[30, 60]) as h (days)
        on
            pipeline.business_date(f.expires_at)
            between pipeline.business_date(pipeline.clock())
            and pipeline.business_date(pipeline.clock()) + h.days
    where
        f.expires_at >= pipeline.clock() - interval '1 day'
        and f.expires_at < pipeline.clock() + interval '62 days'
        and f.status = 'valid'
        and not exists (
            select from certificates as n
            where
                n.service_id = f.service_id
                and n.user_id = f.user_id
                and n.type = f.type
                and n.status = 'valid'
                and n.issued_at > f.issued_at
                and n.expires_at > f.expires_at
                and n.issued_at >= f.expires_at - interval '90 days'
        )
),

services_at_risk as (
    select
        e.days,
        e.service_id,
        count(*) as certificates
    from expiring as e
    group by e.days, e.service_id
)

select
    r.days,
    sum(r.certificates)::bigint as certificates,
    count(*) as services,
    coalesce(sum(v.monthly_value), 0) as monthly_value,
    count(*) filter (where v.monthly_value is null) as without_value
from services_at_risk as r
inner join services as v on r.service_id = v.id
where v.status <> 'cancelled'
group by r.days
order by r.days;

-- name: find_leads_made
select
    r.certificate_id,
    r.expires_at,
    r.lead_id,
    f.type::text as type,
    f.user_id,
    v.name as service,
    case when v.status <> 'cancelled' then v.monthly_value end as monthly_value
from pipeline.renewal_leads as r
inner join certificates as f on r.certificate_id = f.id
inner join services as v on f.service_id = v.id
where r.certificate_id = any(%(ids)s) and r.made_at = pipeline.clock()
order by r.expires_at, r.certificate_id;
