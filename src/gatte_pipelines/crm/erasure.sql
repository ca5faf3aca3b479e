-- What Pipedrive knows of people who are about to go. Read before their links are cleared, in the
-- same transaction.

-- name: plan_references
-- A lead that was merged into one of these goes with it. A person, or an organization of ours,
-- stays where a lead that stays has it too; a lead lives on in the one that it was merged into.
with recursive going (lead_id) as (
    select g.lead_id
    from (
        select unnest(%(leads)s::uuid[]) as lead_id
        union
        select l.id from leads as l
        where l.user_id = any(%(users)s::uuid[])
    ) as g
    union
    select k.lead_id
    from going as g
    inner join pipeline.crm_links as k on g.lead_id = k.merged_into
),

known as (
    select k.*
    from going as g
    inner join pipeline.crm_links as k on g.lead_id = k.lead_id
),

sharing (lead_id, person_id, organization_id, lives_in) as (
    select
        o.lead_id,
        o.person_id,
        o.organization_id,
        coalesce(o.merged_into, o.lead_id)
    from pipeline.crm_links as o
    where
        (
            o.person_id in (select k.person_id from known as k)
            or o.organization_id in (select k.organization_id from known as k)
        )
        and o.lead_id not in (select g.lead_id from going as g)
    union
    select
        s.lead_id,
        s.person_id,
        s.organization_id,
        p.merged_into
    from sharing as s
    inner join pipeline.crm_links as p on s.lives_in = p.lead_id
    where p.merged_into is not null
),

staying as (
    select
        s.person_id,
        s.organization_id
    from sharing as s
    inner join leads as l on s.lives_in = l.id
    where
        not exists (
            select from pipeline.anonymized_rows as a
            where a.table_name = 'leads' and a.row_id = l.id
        )
),

named (place, reference) as (
    select
        1,
        'lead:' || k.remote_lead_id
    from known as k
    where k.remote_lead_id is not null
    union
    select
        2,
        'deal:' || k.deal_id
    from known as k
    where k.deal_id is not null
    union
    select
        3,
        'note:' || k.note_id
    from known as k
    where k.note_id is not null
    union
    select
        4,
        'person:' || k.person_id
    from known as k
    where
        k.person_id is not null
        and not exists (
            select from staying as s
            where s.person_id = k.person_id
        )
    union
    select
        5,
        'organization:' || k.organization_id
    from known as k
    where
        k.organization_id is not null
        and k.organization_is_ours
        and not exists (
            select from staying as s
            where s.organization_id = k.organization_id
        )
)

select n.reference
from named as n
order by n.place, n.reference;

-- name: read_pending
select t.reference
from pipeline.external_tasks as t
where t.system = %(external_system)s and t.state = 'open' and t.reference is not null;

-- name: read_external_key
select a.contents ->> 'external_key'
from pipeline.crm_account as a
where a.system = %(external_system)s;

-- name: insert_orphans
-- The shape of the tasks of a request (privacy); the subject is the lead itself.
insert into pipeline.external_tasks (
    task_id, request_id, user_id, system, reference, state, created_at
)
select
    gen_random_uuid(),
    null,
    %(subject_id)s,
    %(external_system)s,
    n.reference,
    'open',
    %(instant)s
from (select distinct unnest(%(references)s::text[]) as reference) as n
where
    not exists (
        select from pipeline.external_tasks as t
        where
            t.system = %(external_system)s
            and t.state = 'open'
            and t.reference = n.reference
    );
