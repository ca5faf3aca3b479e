-- Leads of ours and their records in Pipedrive. The agreed values are the texts as they stood in
-- `leads` when both sides agreed, so that what changed here is found by comparing.

-- name: find_changed_here
-- Linked leads that differ from what was agreed, or never agreed, or have a note to be sent, or a
-- call whose end is not known or that was refused.
select k.lead_id
from pipeline.crm_links as k
inner join leads as l on k.lead_id = l.id
where
    k.state = 'linked'
    and not k.is_archived
    and (
        k.agreed_at is null
        or l.name is distinct from k.agreed_name
        or l.phone is distinct from k.agreed_phone
        or l.email is distinct from k.agreed_email
        or l.company is distinct from k.agreed_company
        or l.stage::text is distinct from k.agreed_stage
        or (k.note_id is null and trim(l.notes) <> '')
        or exists (
            select from pipeline.sync_outbox as o
            where o.system = 'pipedrive' and o.local_id = k.lead_id
        )
    )
order by l.created_at, l.id;

-- name: find_new
-- Not in Pipedrive yet, or begun and not ended.
select l.id
from leads as l
left join pipeline.crm_links as k on l.id = k.lead_id
where
    (k.lead_id is null or k.state = 'pending')
    and l.crm_id is null
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id = l.id
    )
order by l.created_at, l.id;

-- name: find_unlinked
-- What somebody else linked: a database of before this sync. An id that another lead has by now was
-- told of when it was found.
select
    l.id,
    l.crm_id
from leads as l
left join pipeline.crm_links as k on l.id = k.lead_id
where
    l.crm_id is not null
    and (k.lead_id is null or k.state = 'pending')
    and not exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id = l.id
    )
    and not exists (
        select from pipeline.crm_links as o
        where
            o.lead_id <> l.id
            and l.crm_id = coalesce(o.deal_id::text, o.remote_lead_id::text)
    )
order by l.created_at, l.id
limit %(batch)s;

-- name: count_linked
select count(*)
from pipeline.crm_links as k
where k.state = 'linked';

-- name: count_leads
select count(*)
from leads as l
where not exists (
    select from pipeline.anonymized_rows as z
    where z.table_name = 'leads' and z.row_id = l.id
);

-- name: read_leads
-- Whether a lead is anonymised is asked under the lock of its row, where one is taken.
select
    l.id as lead_id,
    l.name,
    l.phone,
    l.email,
    l.company,
    l.interest,
    l.stage::text as stage,
    l.source,
    l.notes,
    l.created_at,
    l.crm_id,
    z.row_id is not null as is_anonymized,
    k.state,
    k.remote_lead_id,
    k.deal_id,
    k.person_id,
    k.organization_id,
    k.note_id,
    k.is_archived,
    k.person_is_ours,
    k.organization_is_ours,
    k.agreed_name,
    k.agreed_phone,
    k.agreed_email,
    k.agreed_company,
    k.agreed_stage,
    k.agreed_at
from leads as l
left join pipeline.crm_links as k on l.id = k.lead_id
left join pipeline.anonymized_rows as z on z.table_name = 'leads' and l.id = z.row_id
where l.id = any(%(leads)s);

-- name: lock_lead
select l.id
from leads as l
where l.id = %(lead_id)s
for no key update;

-- name: find_by_remote_leads
-- By their id there; links of leads that became part of another one are known, and not synced.
select
    k.remote_lead_id,
    k.lead_id,
    k.state,
    k.person_id,
    k.organization_id,
    k.deal_id
from pipeline.crm_links as k
where k.remote_lead_id = any(%(remote_ids)s);

-- name: find_by_deals
-- A deal by its id, or by the lead that it was made of.
select
    k.deal_id,
    k.remote_lead_id,
    k.lead_id,
    k.state
from pipeline.crm_links as k
where k.deal_id = any(%(deals)s) or k.remote_lead_id = any(%(remote_ids)s);

-- name: find_by_persons
select
    k.person_id,
    k.lead_id
from pipeline.crm_links as k
where k.person_id = any(%(persons)s) and k.state = 'linked' and not k.is_archived;

-- name: find_by_organizations
select
    k.organization_id,
    k.lead_id
from pipeline.crm_links as k
where k.organization_id = any(%(organizations)s) and k.state = 'linked' and not k.is_archived;

-- name: find_person_of_number
-- The person that another lead with this number has.
select k.person_id
from pipeline.crm_links as k
where
    k.phone_key = %(phone_key)s
    and k.person_id is not null
    and k.lead_id <> %(lead_id)s
group by k.person_id
order by min(k.made_at), k.person_id
limit 3;

-- name: find_organization_of_company
select k.organization_id
from pipeline.crm_links as k
where
    k.organization_id is not null
    and lower(k.agreed_company) = lower(%(company)s)
    and k.lead_id <> %(lead_id)s
group by k.organization_id
order by min(k.made_at), k.organization_id
limit 3;

-- name: find_other_leads_of_person
-- Open leads of a person, the earliest first.
select l.id
from pipeline.crm_links as k
inner join leads as l on k.lead_id = l.id
where k.person_id = %(person_id)s and k.state = 'linked' and k.deal_id is null
order by l.created_at, l.id;

-- name: insert_link
insert into pipeline.crm_links (lead_id, state, made_at, changed_at)
values (%(lead_id)s, 'pending', %(at)s, %(at)s)
on conflict (lead_id) do nothing;

-- name: set_person
update pipeline.crm_links
set
    person_id = %(person_id)s,
    person_is_ours = %(is_ours)s,
    phone_key = coalesce(%(phone_key)s, phone_key),
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_organization
update pipeline.crm_links
set
    organization_id = %(organization_id)s,
    organization_is_ours = %(is_ours)s,
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_case
-- Linked with a lead or a deal there.
update pipeline.crm_links
set
    state = 'linked',
    remote_lead_id = coalesce(%(remote_lead_id)s, remote_lead_id),
    deal_id = %(deal_id)s,
    is_archived = %(is_archived)s,
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_archived
update pipeline.crm_links
set
    is_archived = %(is_archived)s,
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_note
update pipeline.crm_links
set
    note_id = %(note_id)s,
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_deleted
update pipeline.crm_links
set
    state = 'deleted',
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: set_crm_id
update leads
set crm_id = %(crm_id)s
where id = %(lead_id)s and crm_id is distinct from %(crm_id)s;

-- name: set_agreed
-- The texts of `leads`; what is false in the second row was not agreed on yet and stays.
update pipeline.crm_links
set
    agreed_name = case when %(is_name)s then %(name)s else agreed_name end,
    agreed_phone = case when %(is_phone)s then %(phone)s else agreed_phone end,
    phone_key = case when %(is_phone)s then %(phone_key)s else phone_key end,
    agreed_email = case when %(is_email)s then %(email)s else agreed_email end,
    agreed_company = case when %(is_company)s then %(company)s else agreed_company end,
    agreed_stage = case when %(is_stage)s then %(stage)s else agreed_stage end,
    agreed_at = case when %(is_whole)s then %(at)s else agreed_at end,
    changed_at = %(at)s
where lead_id = %(lead_id)s;

-- name: update_lead
update leads
set
    name = %(name)s,
    phone = %(phone)s,
    email = %(email)s,
    company = %(company)s,
    stage = %(stage)s::lead_stage
where id = %(lead_id)s;

-- name: insert_lead
insert into leads (
    id, name, phone, email, company, interest, stage, source, crm_id, created_at
)
values (
    %(lead_id)s,
    %(name)s,
    %(phone)s,
    %(email)s,
    %(company)s,
    %(interest)s,
    %(stage)s::lead_stage,
    'pipedrive',
    %(crm_id)s,
    %(created_at)s
);

-- name: repoint_person
update pipeline.crm_links
set
    person_id = %(new_id)s,
    changed_at = %(at)s
where person_id = %(old_id)s;

-- name: repoint_organization
update pipeline.crm_links
set
    organization_id = %(new_id)s,
    changed_at = %(at)s
where organization_id = %(old_id)s;

-- name: repoint_deal
-- Where the other deal is a lead of ours too, the two stay apart: the reconcile finds one deleted.
update pipeline.crm_links as k
set
    deal_id = %(new_id)s,
    changed_at = %(at)s
where
    k.deal_id = %(old_id)s
    and not exists (
        select from pipeline.crm_links as o
        where o.deal_id = %(new_id)s
    )
returning k.lead_id;

-- name: find_links_of_case
-- For the reconcile: every link that is looked for, by its id there.
select
    k.lead_id,
    k.remote_lead_id,
    k.deal_id,
    k.person_id,
    k.organization_id,
    k.is_archived
from pipeline.crm_links as k
where k.state = 'linked';

-- name: read_watermark
select w.value
from pipeline.watermarks as w
where w.pipeline = 'crm_sync' and w.name = %(watermark)s;

-- name: write_watermark
insert into pipeline.watermarks as w (pipeline, name, value, updated_at)
values ('crm_sync', %(watermark)s, %(value)s, %(at)s)
on conflict (pipeline, name) do update
    set
        value = excluded.value,
        updated_at = excluded.updated_at;
