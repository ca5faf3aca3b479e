-- Anonymise users and leads in one transaction, with everything that leads back to them.
-- Identities, senders and number changes are the loader's to touch (inbound); its chunks are kept
-- waiting by the exclusive client lock, which the caller holds.

-- name: create_leaving
create temporary table if not exists leaving_senders (
    sender_id bigint not null
) on commit delete rows;
create temporary table if not exists leaving_keys (
    kind text not null,
    value text not null
) on commit delete rows;

-- name: lock_users
select id
from users
where id = any(%(users)s)
order by id
for no key update;

-- name: lock_leads
select id
from leads
where id = any(%(leads)s)
order by id
for no key update;

-- name: find_linked_leads
select id
from leads
where user_id = any(%(users)s)
order by id;

-- name: find_merged_leads
-- Leads that became part of one of these, through however many.
with recursive merged (lead_id) as (
    select k.lead_id
    from pipeline.crm_links as k
    where k.merged_into = any(%(leads)s)
    union
    select k.lead_id
    from merged as m
    inner join pipeline.crm_links as k on m.lead_id = k.merged_into
)

select m.lead_id
from merged as m
order by m.lead_id;

-- name: keep_requests
-- A request of a lead that became part of another one is that one's: once the links are gone
-- nothing else says so.
with recursive merged (lead_id, into_id) as (
    select
        k.lead_id,
        k.merged_into
    from pipeline.crm_links as k
    where
        k.merged_into = any(%(leads)s)
        and not exists (
            select from pipeline.crm_links as o
            where o.lead_id = k.merged_into and o.state = 'merged'
        )
    union
    select
        k.lead_id,
        m.into_id
    from merged as m
    inner join pipeline.crm_links as k on m.lead_id = k.merged_into
)

update pipeline.subject_requests as r
set user_id = m.into_id
from merged as m
where r.user_id = m.lead_id;

-- name: delete_links
delete from pipeline.crm_links
where lead_id = any(%(leads)s);

-- name: delete_intents
delete from pipeline.sync_outbox
where local_id = any(%(leads)s);

-- name: delete_conflicts
delete from pipeline.sync_conflicts
where local_id = any(%(leads)s);

-- name: delete_lead_undo_records
-- What a merge of leads removed, also where only the record itself names the lead. A record of a
-- merge of users names its leads by id alone, and says nothing of them.
delete from pipeline.undo_records as n
where
    n.kind = 'leads'
    and (
        n.kept_id = any(%(leads)s)
        or n.removed_id = any(%(leads)s)
        or exists (
            select from unnest(%(leads)s::uuid[]) as l (id)
            where position(l.id::text in n.record::text) > 0
        )
    );

-- name: find_leaving_keys
insert into leaving_keys
select distinct
    kind,
    value
from pipeline.user_identities
where user_id = any(%(users)s);

-- name: find_leaving_senders
-- Whoever their records came from or went to, and whatever says one of their identities.
insert into leaving_senders
select f.sender_id
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_facts as f on m.id = f.message_id
where c.user_id = any(%(users)s) and f.sender_id is not null
union
select f.told_sender_id
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_facts as f on m.id = f.message_id
where c.user_id = any(%(users)s) and f.told_sender_id is not null
union
select sender_id
from pipeline.conversation_events
where user_id = any(%(users)s)
union
select sender_id
from pipeline.opt_outs
where user_id = any(%(users)s)
union
select s.sender_id
from leaving_keys as k
inner join pipeline.senders as s on k.value = s.phone_key
where k.kind = 'phone_key'
union
select s.sender_id
from leaving_keys as k
inner join pipeline.senders as s on k.value = s.bsuid and s.bsuid <> ''
where k.kind = 'bsuid'
union
select s.sender_id
from leaving_keys as k
inner join pipeline.senders as s on k.value = s.parent_bsuid and s.parent_bsuid <> ''
where k.kind = 'parent_bsuid';

-- name: spare_shared_senders
-- A number that changed hands: what somebody else's records came from is that person's too.
with others as (
    select distinct i.user_id
    from leaving_senders as l
    inner join pipeline.senders as s on l.sender_id = s.sender_id
    inner join pipeline.user_identities as i
        on
            (i.kind = 'phone_key' and s.phone_key <> '' and i.value = s.phone_key)
            or (i.kind = 'bsuid' and s.bsuid <> '' and i.value = s.bsuid)
            or (
                i.kind = 'parent_bsuid' and s.parent_bsuid <> '' and i.value = s.parent_bsuid
            )
    where i.user_id <> all(%(users)s)
),

used as (
    select f.sender_id
    from others as o
    inner join conversations as c on o.user_id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    union
    select f.told_sender_id
    from others as o
    inner join conversations as c on o.user_id = c.user_id
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    union
    select e.sender_id
    from others as o
    inner join pipeline.conversation_events as e on o.user_id = e.user_id
    union
    select p.sender_id
    from others as o
    inner join pipeline.opt_outs as p on o.user_id = p.user_id
)

delete from leaving_senders as l
using used as u
where l.sender_id = u.sender_id;

-- name: forget_senders_of_messages
update pipeline.message_facts as f
set
    sender_id = null,
    told_sender_id = null
from conversations as c
inner join messages as m on c.id = m.conversation_id
where
    c.user_id = any(%(users)s)
    and f.message_id = m.id
    and (f.sender_id is not null or f.told_sender_id is not null);

-- name: insert_blank_sender
insert into pipeline.senders (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref)
values ('', '', '', '', '', '')
on conflict (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref) do nothing;

-- name: forget_senders_of_events
update pipeline.conversation_events
set
    sender_id = (
        select s.sender_id from pipeline.senders as s
        where
            s.phone_key = '' and s.bsuid = '' and s.wa_id = '' and s.name = ''
            and s.parent_bsuid = '' and s.user_ref = ''
    )
where user_id = any(%(users)s);

-- name: forget_senders_of_opt_outs
update pipeline.opt_outs
set
    sender_id = (
        select s.sender_id from pipeline.senders as s
        where
            s.phone_key = '' and s.bsuid = '' and s.wa_id = '' and s.name = ''
            and s.parent_bsuid = '' and s.user_ref = ''
    )
where user_id = any(%(users)s);

-- name: delete_senders
delete from pipeline.senders as s
using leaving_senders as l
where
    s.sender_id = l.sender_id
    and (s.phone_key, s.bsuid, s.wa_id, s.name, s.parent_bsuid, s.user_ref)
    <> ('', '', '', '', '', '');

-- name: delete_identity_changes
-- As the export tells them apart: a change is of whoever had the old number until then, or the new
-- one from then on; who had one of the two at another time is somebody else, whose record it stays.
-- One that is nobody's by that goes.
delete from pipeline.identity_changes as c
using leaving_keys as k
where
    (
        (k.kind = 'phone_key' and k.value in (c.old_phone_key, c.new_phone_key))
        or (k.kind = 'wa_id' and k.value = c.new_wa_id)
        or (k.kind = 'bsuid' and k.value in (c.old_bsuid, c.new_bsuid))
        or (k.kind = 'parent_bsuid' and k.value in (c.old_parent_bsuid, c.new_parent_bsuid))
    )
    and coalesce(
        (
            select bool_or(i.user_id = any(%(users)s)) from pipeline.user_identities as i
            where
                i.value <> ''
                and (
                    (i.kind = 'bsuid' and i.value in (c.old_bsuid, c.new_bsuid))
                    or (
                        i.kind = 'parent_bsuid'
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
        ),
        true
    );

-- name: delete_identities
delete from pipeline.user_identities
where user_id = any(%(users)s);

-- name: delete_undo_records
delete from pipeline.undo_records as n
where
    n.kept_id = any(%(users)s)
    or n.removed_id = any(%(users)s)
    or n.kept_id in (
        select c.id from conversations as c
        where c.user_id = any(%(users)s)
    )
    or (
        -- A lead that was theirs before it became part of somebody else's.
        n.kind = 'leads'
        and exists (
            select from unnest(%(users)s::uuid[]) as u (id)
            where position(u.id::text in n.record::text) > 0
        )
    );

-- name: delete_contexts
delete from session_context as s
using conversations as c
where s.conversation_id = c.id and c.user_id = any(%(users)s);

-- name: clear_messages
update messages as m
set
    content = '',
    is_in_context = false
from conversations as c
where
    c.id = m.conversation_id
    and c.user_id = any(%(users)s)
    and (m.content <> '' or m.is_in_context);

-- name: clear_reactions
update pipeline.message_reactions as r
set emoji = null
from conversations as c
inner join messages as m on c.id = m.conversation_id
where c.user_id = any(%(users)s) and r.message_id = m.id and r.emoji is not null;

-- name: clear_buttons
update pipeline.button_replies as b
set payload = null
from conversations as c
inner join messages as m on c.id = m.conversation_id
where c.user_id = any(%(users)s) and b.message_id = m.id and b.payload is not null;

-- name: clear_changes
update pipeline.message_changes as h
set
    content = null,
    is_applied = true
from conversations as c
inner join messages as m on c.id = m.conversation_id
where
    c.user_id = any(%(users)s)
    and h.target_id = m.id
    and (h.content is not null or not h.is_applied);

-- name: close_conversations
update conversations as c
set
    status = 'closed',
    closed_at = l.last_at
from (
    select
        o.id,
        coalesce(max(m.created_at), o.started_at) as last_at
    from conversations as o
    left join messages as m on o.id = m.conversation_id
    where o.user_id = any(%(users)s) and o.status <> 'closed'
    group by o.id, o.started_at
) as l
where c.id = l.id;

-- name: clear_appointments
update appointments
set
    notes = null,
    calendar_event_id = null
where
    user_id = any(%(users)s)
    and (notes is not null or calendar_event_id is not null);

-- name: clear_services
update services
set notes = null
where user_id = any(%(users)s) and notes is not null;

-- name: anonymize_users
-- Whoever is anonymised already is left alone: the guard would count a refusal.
update users as u
set
    phone = p.phone,
    name = null,
    email = null,
    company = null,
    login_token = null,
    updated_at = pipeline.clock()
from unnest(%(users)s::uuid[], %(phones)s::text[]) as p (id, phone)
where
    u.id = p.id
    and not exists (
        select from pipeline.anonymized_rows as a
        where a.table_name = 'users' and a.row_id = u.id
    );

-- name: anonymize_leads
update leads as l
set
    phone = p.placeholder,
    name = p.placeholder,
    company = null,
    email = null,
    notes = null,
    crm_id = null
from unnest(%(leads)s::uuid[], %(phones)s::text[]) as p (id, placeholder)
where
    l.id = p.id
    and not exists (
        select from pipeline.anonymized_rows as a
        where a.table_name = 'leads' and a.row_id = l.id
    );

-- name: note_anonymized_users
insert into pipeline.anonymized_rows (table_name, row_id, rule)
select
    'users',
    u.id,
    %(rule)s
from users as u
where u.id = any(%(users)s)
on conflict (table_name, row_id) do nothing;

-- name: note_anonymized_leads
insert into pipeline.anonymized_rows (table_name, row_id, rule)
select
    'leads',
    l.id,
    %(rule)s
from leads as l
where l.id = any(%(leads)s)
on conflict (table_name, row_id) do nothing;

-- name: read_old_values
-- Everything that is written of these people where it is theirs alone.
with texts (value) as (
    select v.value
    from users as u
    cross join
        lateral (
            values (u.phone), (u.name), (u.email), (u.company), (u.login_token)
        ) as v (value)
    where u.id = any(%(users)s)
    union
    select i.value
    from pipeline.user_identities as i
    where i.user_id = any(%(users)s)
    union
    select v.value
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    inner join pipeline.senders as s on f.sender_id = s.sender_id
    cross join
        lateral (
            values (s.phone_key), (s.wa_id), (s.bsuid), (s.parent_bsuid), (s.name::text)
        ) as v (value)
    where c.user_id = any(%(users)s)
    union
    select v.value
    from leads as l
    cross join
        lateral (
            values (l.phone), (l.name), (l.email), (l.company), (l.notes), (l.crm_id)
        ) as v (value)
    where l.id = any(%(leads)s)
    union
    select v.value
    from pipeline.crm_links as k
    cross join
        lateral (
            values
            (k.phone_key),
            (k.agreed_name),
            (k.agreed_phone),
            (k.agreed_email),
            (k.agreed_company)
        ) as v (value)
    where k.lead_id = any(%(leads)s) or k.merged_into = any(%(leads)s)
    union
    select v.value
    from pipeline.sync_conflicts as c
    cross join lateral (values (c.our_value), (c.their_value)) as v (value)
    -- A stage is a word that may stand anywhere.
    where c.local_id = any(%(leads)s) and c.field is distinct from 'stage'
    union
    select v.value
    from appointments as a
    cross join lateral (values (a.notes), (a.calendar_event_id)) as v (value)
    where a.user_id = any(%(users)s)
    union
    select s.notes
    from services as s
    where s.user_id = any(%(users)s)
)

select distinct trim(both ' +' from t.value)
from texts as t
-- A placeholder leads to nobody; what is shorter than three characters stands in any text.
where length(trim(both ' +' from t.value)) > 2 and t.value !~ '^~[bxs][a-z2-7]{18}$';

-- name: probe_old_values
-- Where one of the old values still stands in what belongs to these people. Tickets are kept whole,
-- the names of our own people are not theirs.
with places (place, text) as (
    select
        'users',
        concat_ws(' ', u.phone, u.name, u.email, u.company, u.login_token)
    from users as u
    where u.id = any(%(users)s)
    union all
    select
        'leads',
        concat_ws(' ', l.phone, l.name, l.email, l.company, l.notes, l.crm_id)
    from leads as l
    where l.id = any(%(leads)s) or l.user_id = any(%(users)s)
    union all
    select
        'appointments',
        concat_ws(' ', a.notes, a.calendar_event_id)
    from appointments as a
    where a.user_id = any(%(users)s)
    union all
    select
        'services',
        s.notes
    from services as s
    where s.user_id = any(%(users)s)
    union all
    select
        'messages',
        m.content
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    where c.user_id = any(%(users)s) and m.content <> ''
    union all
    select
        'session_context',
        concat_ws(' ', x.messages_json::text, x.summary)
    from conversations as c
    inner join session_context as x on c.id = x.conversation_id
    where c.user_id = any(%(users)s)
    union all
    select
        'message_reactions',
        r.emoji
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_reactions as r on m.id = r.message_id
    where c.user_id = any(%(users)s)
    union all
    select
        'button_replies',
        b.payload
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.button_replies as b on m.id = b.message_id
    where c.user_id = any(%(users)s)
    union all
    select
        'message_changes',
        h.content
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_changes as h on m.id = h.target_id
    where c.user_id = any(%(users)s)
    union all
    select
        'user_identities',
        i.value
    from pipeline.user_identities as i
    where i.user_id = any(%(users)s)
    union all
    select
        'senders',
        concat_ws(' ', s.phone_key, s.wa_id, s.bsuid, s.parent_bsuid, s.name)
    from conversations as c
    inner join messages as m on c.id = m.conversation_id
    inner join pipeline.message_facts as f on m.id = f.message_id
    inner join pipeline.senders as s on s.sender_id in (f.sender_id, f.told_sender_id)
    where c.user_id = any(%(users)s)
    union all
    select
        'undo_records',
        n.record::text
    from pipeline.undo_records as n
    where
        n.kept_id = any(%(users)s)
        or n.removed_id = any(%(users)s)
        or n.kept_id = any(%(leads)s)
        or n.removed_id = any(%(leads)s)
    union all
    select
        'crm_links',
        concat_ws(
            ' ', k.phone_key, k.agreed_name, k.agreed_phone, k.agreed_email, k.agreed_company
        )
    from pipeline.crm_links as k
    where k.lead_id = any(%(leads)s) or k.merged_into = any(%(leads)s)
    union all
    select
        'sync_conflicts',
        concat_ws(' ', c.our_value, c.their_value)
    from pipeline.sync_conflicts as c
    where c.local_id = any(%(leads)s)
)

select distinct p.place
from places as p
inner join unnest(%(values)s::text[]) as v (value)
    -- Without placeholders, in which a short name may stand by chance.
    on position(v.value in regexp_replace(p.text, '~[bxs][a-z2-7]{18}', '', 'g')) > 0
order by p.place;
