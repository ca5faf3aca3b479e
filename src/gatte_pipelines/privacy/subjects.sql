-- Who a person is: by phone, by e-mail, by id. Phones of leads are compared by their digits, since
-- people write them as they like.

-- name: find_number_owners
-- Whose these numbers are and were.
select
    i.value as phone_key,
    i.user_id,
    i.valid_from,
    i.valid_to
from pipeline.user_identities as i
where i.kind = 'phone_key' and i.value = any(%(phone_keys)s)
order by i.valid_from, i.identity_id;

-- name: find_users_by_phone
-- The chatbot's own, which no record of WhatsApp has met yet.
select
    regexp_replace(u.phone, '[^0-9]+', '', 'g') as digits,
    u.id as user_id,
    u.created_at
from users as u
where
    u.phone !~ '^~'
    and regexp_replace(u.phone, '[^0-9]+', '', 'g') = any(%(digits)s);

-- name: find_users_by_email
select
    u.id as user_id,
    lower(u.email) as email
from users as u
where lower(u.email) = any(%(emails)s);

-- name: find_leads
-- Whoever they are linked to; the anonymised ones hold nothing that could match.
select
    l.id as lead_id,
    l.user_id,
    l.phone,
    lower(l.email) as email,
    l.created_at
from leads as l
where
    regexp_replace(l.phone, '[^0-9]+', '', 'g') = any(%(digits)s)
    or lower(l.email) = any(%(emails)s)
order by l.created_at, l.id;

-- name: read_lead
-- Also of a lead that became part of another one since.
with recursive sought (lead_id) as (
    select %(sought_id)s::uuid
    union
    select k.merged_into
    from sought as s
    inner join pipeline.crm_links as k on s.lead_id = k.lead_id and k.state = 'merged'
)

select
    l.id as lead_id,
    l.user_id,
    l.phone,
    lower(l.email) as email,
    l.created_at
from sought as s
inner join leads as l on s.lead_id = l.id;

-- name: read_current_user
select m.into_user_id as user_id
from pipeline.user_merges as m
where m.from_user_id = %(sought_id)s
union all
select u.id
from users as u
where u.id = %(sought_id)s;

-- name: read_merged_users
select
    m.into_user_id,
    m.from_user_id as user_id,
    m.merged_at
from pipeline.user_merges as m
where m.into_user_id = any(%(users)s)
order by m.merged_at, m.from_user_id;

-- name: describe_users
select
    u.id as user_id,
    u.created_at as client_since,
    u.is_client,
    (
        select count(*) from conversations as c
        where c.user_id = u.id
    ) as conversations,
    (
        select count(*) from tickets as t
        where t.user_id = u.id
    ) as tickets,
    (
        select count(*) from leads as l
        where l.user_id = u.id
    ) as leads
from users as u
where u.id = any(%(users)s)
order by u.created_at, u.id;

-- name: read_contacts
-- What these users and leads are reached by.
select
    'phone' as kind,
    u.phone as value
from users as u
where u.id = any(%(users)s) and u.phone !~ '^~'
union
select
    'email',
    lower(u.email)
from users as u
where u.id = any(%(users)s) and u.email is not null
union
select
    i.kind,
    i.value
from pipeline.user_identities as i
where i.user_id = any(%(users)s)
union
select
    'lead_phone',
    l.phone
from leads as l
where (l.user_id = any(%(users)s) or l.id = any(%(leads)s)) and l.phone !~ '^~'
union
select
    'email',
    lower(l.email)
from leads as l
where (l.user_id = any(%(users)s) or l.id = any(%(leads)s)) and l.email is not null
union
select
    'lead_phone',
    k.agreed_phone
from pipeline.crm_links as k
where k.lead_id = any(%(leads)s) and k.agreed_phone is not null
union
select
    'email',
    lower(k.agreed_email)
from pipeline.crm_links as k
where k.lead_id = any(%(leads)s) and k.agreed_email is not null;

-- name: find_identities_of_others
-- Of these values, those that somebody else has or had too.
select
    i.kind,
    i.value
from pipeline.user_identities as i
where
    i.user_id <> all(%(users)s)
    and i.value = any(%(identity_values)s)
group by i.kind, i.value;

-- name: read_crm_records
-- Not a person or a company there that is somebody else's lead's too, nor a company that was there
-- before ours.
select v.record
from pipeline.crm_links as k
cross join
    lateral (
        values
        ('lead:' || k.remote_lead_id),
        ('deal:' || k.deal_id),
        ('note:' || k.note_id),
        (
            case when not exists (
                select from pipeline.crm_links as o
                where o.person_id = k.person_id and o.lead_id <> all(%(leads)s)
            ) then 'person:' || k.person_id end
        ),
        (
            case when k.organization_is_ours and not exists (
                select from pipeline.crm_links as o
                where o.organization_id = k.organization_id and o.lead_id <> all(%(leads)s)
            ) then 'organization:' || k.organization_id end
        )
    ) as v (record)
where k.lead_id = any(%(leads)s) and v.record is not null
union
-- Of a lead that the sync has not met yet.
select case when l.crm_id ~ '^[0-9]+$' then 'deal:' else 'lead:' end || l.crm_id
from leads as l
where l.id = any(%(leads)s) and l.crm_id is not null;

-- name: read_message_ids
-- Of messages, of their edits and of reactions to them: what a record in a file is known by.
select replace(m.id::text, '-', '')
from conversations as c
inner join messages as m on c.id = m.conversation_id
where c.user_id = any(%(users)s)
union
select replace(h.edit_id::text, '-', '')
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_changes as h on m.id = h.target_id
where c.user_id = any(%(users)s)
union
select replace(r.reaction_id::text, '-', '')
from conversations as c
inner join messages as m on c.id = m.conversation_id
inner join pipeline.message_reactions as r on m.id = r.message_id
where c.user_id = any(%(users)s);
