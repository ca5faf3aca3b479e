-- name: lock_lead
-- With what the column of a stage may hold.
select
    l.id,
    l.name,
    l.phone,
    l.email,
    l.company,
    l.stage::text as stage,
    enum_range(null::lead_stage)::text[] as stages,
    exists(
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id = l.id
    ) as is_anonymized
from leads as l
where l.id = %(lead_id)s
for update;

-- name: lock_link
select
    k.state,
    k.deal_id
from pipeline.crm_links as k
where k.lead_id = %(lead_id)s
for update;

-- name: delete_link
delete from pipeline.crm_links
where lead_id = %(lead_id)s;

-- name: forget_crm_id
update leads
set crm_id = null
where id = %(lead_id)s;
