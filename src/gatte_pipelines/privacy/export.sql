-- Everything about one person, section by section. Never login_token; names of our own people are
-- theirs and stay out; nothing that belongs to another client.

-- name: users
select
    u.id as user_id,
    u.phone,
    u.name,
    u.email,
    u.company,
    u.is_client,
    u.created_at,
    u.updated_at,
    a.last_at,
    a.chatbot_named_at,
    z.anonymized_at
from users as u
left join pipeline.user_activity as a on u.id = a.user_id
left join pipeline.anonymized_rows as z on z.table_name = 'users' and u.id = z.row_id
where u.id = any(%(users)s)
order by u.created_at, u.id;

-- name: merged_users
select
    m.from_user_id as user_id,
    m.into_user_id,
    m.merged_at
from pipeline.user_merges as m
where m.into_user_id = any(%(users)s)
order by m.merged_at, m.from_user_id;

-- name: identities
select
    i.kind,
    i.value,
    i.valid_from,
    i.valid_to
from pipeline.user_identities as i
where i.user_id = any(%(users)s)
order by i.valid_from, i.identity_id;

-- name: senders
-- What the records of this person's messages, events and choices said of who sent them.
with used as (
    select f.sender_id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s)
    union
    select f.told_sender_id
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    where c.user_id = any(%(users)s)
    union
    select e.sender_id
    from pipeline.conversation_events as e
    where e.user_id = any(%(users)s)
    union
    select o.sender_id
    from pipeline.opt_outs as o
    where o.user_id = any(%(users)s)
)

select
    s.phone_key,
    s.wa_id,
    s.bsuid,
    s.parent_bsuid,
    s.name,
    s.user_ref
from used as u
inner join pipeline.senders as s on u.sender_id = s.sender_id
where (s.phone_key, s.bsuid, s.wa_id, s.name, s.parent_bsuid) <> ('', '', '', '', '')
order by s.sender_id;

-- name: identity_changes
-- A number change is of whoever had the old number until then, or the new one from then on. Who
-- had one of the two at another time is somebody else.
select
    c.changed_at,
    c.moves_number,
    c.old_phone_key,
    c.old_bsuid,
    c.old_parent_bsuid,
    c.new_phone_key,
    c.new_wa_id,
    c.new_bsuid,
    c.new_parent_bsuid
from pipeline.identity_changes as c
where
    exists (
        select from pipeline.user_identities as i
        where
            i.user_id = any(%(users)s)
            and (
                (i.kind = 'bsuid' and i.value <> '' and i.value in (c.old_bsuid, c.new_bsuid))
                or (
                    i.kind = 'parent_bsuid'
                    and i.value <> ''
                    and i.value in (c.old_parent_bsuid, c.new_parent_bsuid)
                )
                or (
                    i.kind = 'phone_key'
                    and i.value = c.old_phone_key
                    and i.valid_from <= c.changed_at
                    and (i.valid_to is null or i.valid_to >= c.changed_at)
                )
                or (
                    i.kind = 'phone_key'
                    and i.value = c.new_phone_key
                    and case
                        when c.moves_number
                            then
                                i.valid_from = c.changed_at
                                and (i.valid_to is null or i.valid_to > c.changed_at)
                        else
                            i.valid_from <= c.changed_at
                            and (i.valid_to is null or i.valid_to >= c.changed_at)
                    end
                )
            )
    )
order by c.changed_at, c.change_id;

-- name: conversations
select
    c.id as conversation_id,
    c.status,
    c.mode,
    c.current_flow,
    c.transferred_to is not null as is_transferred,
    c.started_at,
    c.closed_at,
    c.total_messages
from conversations as c
where c.user_id = any(%(users)s)
order by c.started_at, c.id;

-- name: messages
select
    m.id as message_id,
    m.conversation_id,
    m.role,
    m.content,
    m.created_at,
    m.tokens_used,
    m.is_in_context,
    m.intent_detected,
    f.author,
    f.mode,
    f.current_flow,
    f.model,
    b.payload as button_payload,
    r.emoji as reaction,
    r.reacted_at,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'changed_at', h.changed_at, 'is_revoke', h.is_revoke, 'content', h.content
                )
                order by h.changed_at, h.change_id
            )
        from pipeline.message_changes as h
        where h.target_id = m.id
    ) as changes,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'status', s.status,
                    'at', s.status_at,
                    'error_code', s.error_code,
                    'pricing_category', s.pricing_category
                )
                order by s.status_at, s.status
            )
        from pipeline.message_statuses as s
        where s.message_id = m.id
    ) as statuses
from conversations as c
inner join messages as m on c.id = m.conversation_id
left join pipeline.message_facts as f on m.id = f.message_id
left join pipeline.button_replies as b on m.id = b.message_id
left join pipeline.message_reactions as r on m.id = r.message_id
where c.user_id = any(%(users)s)
order by c.started_at asc, c.id asc, m.created_at asc, m.role asc, m.id asc;

-- name: contexts
select
    x.conversation_id,
    x.messages_json,
    x.summary,
    x.ttl_expires_at,
    x.updated_at
from conversations as c
inner join session_context as x on c.id = x.conversation_id
where c.user_id = any(%(users)s)
order by x.updated_at, x.id;

-- name: tickets
select
    t.id as ticket_id,
    t.protocol,
    t.title,
    t.description,
    t.status,
    t.priority,
    t.category,
    t.assigned_to is not null as is_assigned,
    t.conversation_id,
    t.resolved_at,
    t.created_at,
    d.digest,
    d.sealed_at
from tickets as t
left join pipeline.ticket_digests as d on t.id = d.ticket_id
where t.user_id = any(%(users)s)
order by t.created_at, t.id;

-- name: leads
select
    l.id as lead_id,
    l.user_id,
    l.name,
    l.company,
    l.phone,
    l.email,
    l.interest,
    l.stage,
    l.source,
    l.notes,
    l.crm_id,
    l.created_at,
    z.anonymized_at
from leads as l
left join pipeline.anonymized_rows as z on z.table_name = 'leads' and l.id = z.row_id
where l.id = any(%(leads)s)
order by l.created_at, l.id;

-- name: crm_links
-- Also of leads that became part of one of theirs.
select
    k.lead_id,
    k.merged_into,
    k.state,
    k.remote_lead_id,
    k.deal_id,
    k.person_id,
    k.organization_id,
    k.note_id,
    k.is_archived,
    k.phone_key,
    k.agreed_name,
    k.agreed_phone,
    k.agreed_email,
    k.agreed_company,
    k.agreed_stage,
    k.agreed_at,
    k.made_at,
    k.changed_at
from pipeline.crm_links as k
where k.lead_id = any(%(leads)s)
order by k.made_at, k.lead_id;

-- name: sync_conflicts
select
    c.local_id as row_id,
    c.system,
    c.table_name,
    c.kind,
    c.field,
    c.winner,
    c.our_value,
    c.their_value,
    c.found_at,
    c.resolved_at,
    c.resolution
from pipeline.sync_conflicts as c
where c.local_id = any(%(leads)s)
order by c.found_at, c.conflict_id;

-- name: appointments
select
    a.id as appointment_id,
    a.type,
    a.scheduled_at,
    a.duration_min,
    a.status,
    a.assigned_to is not null as is_assigned,
    a.notes,
    a.calendar_event_id,
    a.created_at
from appointments as a
where a.user_id = any(%(users)s)
order by a.scheduled_at, a.id;

-- name: services
select
    s.id as service_id,
    s.name,
    s.plan,
    s.status,
    s.contracted_at,
    s.expires_at,
    s.monthly_value,
    s.notes
from services as s
where s.user_id = any(%(users)s)
order by s.contracted_at, s.id;

-- name: certificates
select
    f.id as certificate_id,
    f.service_id,
    f.type,
    f.issued_at,
    f.expires_at,
    f.days_to_expire,
    f.status,
    f.alert_sent
from certificates as f
where f.user_id = any(%(users)s)
order by f.issued_at, f.id;

-- name: certificate_alerts
-- What the person was told of certificates, by what, and what they answered.
select
    f.type,
    s.expires_at,
    m.channel,
    m.state,
    m.intended_at,
    m.delivered_at,
    (
        select a.answer
        from pipeline.certificate_answers as a
        where a.certificate_id = s.certificate_id and a.expires_at = s.expires_at
        order by a.answered_at desc, a.reply_id desc
        limit 1
    ) as answer
from certificates as f
inner join pipeline.certificate_steps as s on f.id = s.certificate_id
inner join pipeline.certificate_attempts as t on s.step_id = t.step_id
inner join pipeline.alert_messages as m on t.attempt_id = m.attempt_id
where f.user_id = any(%(users)s) and s.audience = 'client'
order by m.intended_at, s.step_id;

-- name: opt_outs
select
    o.chosen_at,
    o.category,
    o.is_opted_out
from pipeline.opt_outs as o
where o.user_id = any(%(users)s)
order by o.chosen_at, o.choice_id;

-- name: conversation_events
select
    e.at,
    e.status,
    e.transferred_to is not null as is_transferred
from pipeline.conversation_events as e
where e.user_id = any(%(users)s)
order by e.at, e.event_id;

-- name: undo_records
-- What joined this person's users, conversations or leads. A record that also speaks of somebody
-- else, to whom a part went later, stays out; so do tokens and the names of our own people.
select
    n.kind,
    n.kept_id,
    n.removed_id,
    n.made_at,
    n.expires_at,
    case
        when n.kind = 'users'
            then
                jsonb_set(
                    n.record #- '{user,login_token}' #- '{kept,login_token}',
                    '{conversations}',
                    coalesce(
                        (
                            select jsonb_agg(e.item - 'transferred_to')
                            from
                                jsonb_array_elements(
                                    case jsonb_typeof(n.record -> 'conversations')
                                        when 'array' then n.record -> 'conversations'
                                        else '[]'
                                    end
                                ) as e (item)
                        ),
                        'null'
                    )
                )
        else n.record #- '{conversation,transferred_to}'
    end as record
from pipeline.undo_records as n
where
    (
        n.kind = 'users'
        and (n.kept_id = any(%(users)s) or n.removed_id = any(%(users)s))
        and not exists (
            select
            from (
                select
                    e.item ->> 'kind' as kind,
                    e.item ->> 'value' as value
                from
                    jsonb_array_elements(
                        case jsonb_typeof(n.record -> 'identities')
                            when 'array' then n.record -> 'identities'
                            else '[]'
                        end
                    ) as e (item)
                union all
                select
                    k.kind,
                    ltrim(p.phone, '+') as value
                from
                    (
                        values (n.record #>> '{user,phone}'), (n.record #>> '{kept,phone}')
                    ) as p (phone)
                cross join (values ('wa_id'), ('phone_key')) as k (kind)
            ) as t
            inner join pipeline.user_identities as i on t.kind = i.kind and t.value = i.value
            where
                i.user_id <> all(%(users)s)
                and not exists (
                    select from pipeline.user_identities as o
                    where
                        o.user_id = any(%(users)s)
                        and i.kind = o.kind
                        and i.value = o.value
                )
        )
    )
    or (
        n.kind = 'conversations'
        and n.record #>> '{conversation,user_id}' = any(%(users)s::text[])
        and exists (
            select from conversations as c
            where c.id = n.kept_id and c.user_id = any(%(users)s)
        )
    )
    or (
        n.kind = 'leads'
        and (n.kept_id = any(%(leads)s) or n.removed_id = any(%(leads)s))
        and not exists (
            select from jsonb_path_query(n.record, '$.**.user_id') as o (item)
            where o.item <> 'null' and o.item #>> '{}' <> all(%(users)s::text[])
        )
    )
order by n.made_at, n.undo_id;

-- name: history
with own (table_name, row_id) as (
    select
        'conversations',
        c.id
    from conversations as c
    where c.user_id = any(%(users)s)
    union all
    select
        'tickets',
        t.id
    from tickets as t
    where t.user_id = any(%(users)s)
    union all
    select
        'leads',
        l.id
    from leads as l
    where l.id = any(%(leads)s)
    union all
    select
        'appointments',
        a.id
    from appointments as a
    where a.user_id = any(%(users)s)
    union all
    select
        'services',
        s.id
    from services as s
    where s.user_id = any(%(users)s)
    union all
    select
        'certificates',
        f.id
    from certificates as f
    where f.user_id = any(%(users)s)
)

select
    h.table_name,
    h.row_id,
    h.column_name,
    h.old_value,
    h.new_value,
    h.changed_at
from own as w
inner join pipeline.row_history as h on w.table_name = h.table_name and w.row_id = h.row_id
order by h.changed_at, h.history_id;

-- name: holds
-- That something is kept, and until when. Why and by whom is the officer's own note.
select
    h.table_name,
    h.row_id,
    h.placed_at,
    h.ends_at,
    h.released_at
from pipeline.retention_holds as h
where
    (h.table_name = 'users' and h.row_id = any(%(users)s))
    or (h.table_name = 'leads' and h.row_id = any(%(leads)s))
    or (
        h.table_name = 'conversations'
        and h.row_id in (
            select c.id from conversations as c
            where c.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'messages'
        and h.row_id in (
            select m.id
            from conversations as c
            inner join messages as m on c.id = m.conversation_id
            where c.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'session_context'
        and h.row_id in (
            select x.id
            from conversations as c
            inner join session_context as x on c.id = x.conversation_id
            where c.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'tickets'
        and h.row_id in (
            select t.id from tickets as t
            where t.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'appointments'
        and h.row_id in (
            select a.id from appointments as a
            where a.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'services'
        and h.row_id in (
            select s.id from services as s
            where s.user_id = any(%(users)s)
        )
    )
    or (
        h.table_name = 'certificates'
        and h.row_id in (
            select f.id from certificates as f
            where f.user_id = any(%(users)s)
        )
    )
order by h.placed_at, h.hold_id;

-- name: exemptions
select
    e.rule,
    e.table_name,
    e.row_id,
    e.basis,
    e.first_seen_at,
    e.last_seen_at
from pipeline.retention_exemptions as e
where
    e.row_id = any(%(users)s)
    or e.row_id = any(%(leads)s)
order by e.first_seen_at, e.rule, e.basis;

-- name: requests
select
    r.request_id,
    r.kind,
    r.state,
    r.received_at,
    r.due_at,
    r.closed_at
from pipeline.subject_requests as r
where r.user_id = any(%(users)s) or r.user_id = any(%(leads)s)
order by r.received_at, r.request_id;

-- name: external_tasks
select
    t.system,
    t.reference,
    t.state,
    t.attempts,
    t.created_at,
    t.last_attempt_at,
    t.confirmed_at
from pipeline.external_tasks as t
where
    (t.user_id = any(%(users)s) or t.user_id = any(%(leads)s))
    and t.system <> 'landing_files'
order by t.created_at, t.task_id;
