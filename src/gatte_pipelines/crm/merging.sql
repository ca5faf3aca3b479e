-- name: lock_leads
-- Both in the order of their ids, as everybody else locks leads.
select
    l.id,
    l.user_id,
    l.email,
    l.company,
    l.interest,
    l.notes,
    l.stage::text as stage
from leads as l
where l.id = any(%(ids)s)
order by l.id
for update;

-- name: lock_links
select
    k.lead_id,
    k.state,
    k.deal_id,
    k.is_archived
from pipeline.crm_links as k
where k.lead_id = any(%(ids)s)
order by k.lead_id
for update;

-- name: is_kept_apart
-- What the law keeps: an anonymised lead, the officer's hold on what would go, an open request of
-- the person.
-- And what a person parted stays parted.
select
    exists (
        select from pipeline.anonymized_rows as z
        where z.table_name = 'leads' and z.row_id in (%(kept)s, %(removed)s)
    )
    or exists (
        select from pipeline.retention_holds as h
        where
            (
                (h.table_name = 'leads' and h.row_id = %(removed)s)
                or (
                    h.table_name = 'users'
                    and h.row_id = (
                        select l.user_id from leads as l
                        where l.id = %(removed)s
                    )
                )
            )
            and coalesce(h.ends_at > %(instant)s::timestamptz, true)
            and coalesce(h.released_at > %(instant)s::timestamptz, true)
    )
    or exists (
        select from pipeline.subject_requests as r
        where
            r.state <> 'done'
            and (
                r.user_id in (%(kept)s, %(removed)s)
                or r.user_id in (
                    select l.user_id from leads as l
                    where l.id in (%(kept)s, %(removed)s)
                )
            )
    )
    or exists (
        select from pipeline.sync_conflicts as c
        where
            c.system = %(sync_system)s
            and c.kind = 'merged'
            and c.local_id = %(removed)s
            and c.their_value = %(kept)s::uuid::text
            and c.resolution = 'ours'
    ) as is_kept_apart;

-- name: record_merge
insert into pipeline.undo_records (kind, kept_id, removed_id, record, made_at, expires_at)
select
    'leads',
    %(kept)s,
    l.id,
    jsonb_build_object(
        'lead', to_jsonb(l),
        'link', to_jsonb(k),
        'filled', %(filled)s::jsonb,
        'renewal_leads',
        (
            select
                coalesce(
                    jsonb_agg(
                        jsonb_build_object(
                            'certificate_id', r.certificate_id, 'expires_at', r.expires_at
                        )
                    ),
                    '[]'
                )
            from pipeline.renewal_leads as r
            where r.lead_id = l.id
        ),
        'merged_before',
        (
            select coalesce(jsonb_agg(m.lead_id), '[]') from pipeline.crm_links as m
            where m.merged_into = l.id
        )
    ),
    %(instant)s::timestamptz,
    %(instant)s::timestamptz + make_interval(days => %(undo_days)s)
from leads as l
inner join pipeline.crm_links as k on l.id = k.lead_id
where l.id = %(removed)s;

-- name: fill_lead
update leads
set
    user_id = %(user_id)s,
    email = %(email)s,
    company = %(company)s,
    interest = %(interest)s,
    notes = %(notes)s
where id = %(kept)s;

-- name: repoint_renewals
update pipeline.renewal_leads
set lead_id = %(kept)s
where lead_id = %(removed)s;

-- name: repoint_merged
update pipeline.crm_links
set merged_into = %(kept)s, changed_at = %(instant)s
where merged_into = %(removed)s;

-- name: mark_merged
update pipeline.crm_links
set state = 'merged', merged_into = %(kept)s, changed_at = %(instant)s
where lead_id = %(removed)s;

-- name: forget_outbox
delete from pipeline.sync_outbox
where system = %(sync_system)s and local_id = %(removed)s;

-- name: delete_lead
delete from leads
where id = %(removed)s;

-- name: lock_undo_record
-- The newest: parted and joined again, a lead has more than one.
select
    u.undo_id,
    u.kept_id,
    u.record,
    u.expires_at <= pipeline.clock() as is_expired
from pipeline.undo_records as u
where u.kind = 'leads' and u.removed_id = %(removed)s
order by u.undo_id desc
limit 1
for update;

-- name: is_anonymized
-- Either lead, or the user of the one that would come back.
select
    exists(
        select from pipeline.anonymized_rows as z
        where
            (z.table_name = 'leads' and z.row_id in (%(kept)s, %(removed)s))
            or (z.table_name = 'users' and z.row_id = %(user_id)s)
    ) as is_anonymized;

-- name: find_user
-- A user who became part of another since is that other one.
select coalesce(
    (
        select m.into_user_id from pipeline.user_merges as m
        where m.from_user_id = %(user_id)s
    ),
    %(user_id)s
) as user_id;

-- name: insert_lead
insert into leads
select (jsonb_populate_record(null::leads, %(contents)s::jsonb)).*;

-- name: repoint_renewals_back
update pipeline.renewal_leads as r
set lead_id = %(removed)s
from jsonb_to_recordset(%(contents)s::jsonb) as b (certificate_id uuid, expires_at timestamptz)
where
    r.certificate_id = b.certificate_id
    and r.expires_at = b.expires_at
    and r.lead_id = %(kept)s;

-- name: repoint_merged_back
update pipeline.crm_links
set merged_into = %(removed)s, changed_at = pipeline.clock()
where lead_id = any(%(ids)s) and merged_into = %(kept)s;

-- name: part_link
-- What was deleted there meanwhile has no record any more that it could be linked to.
update pipeline.crm_links
set
    state = case
        when coalesce(remote_lead_id::text, deal_id::text) is null then 'deleted' else 'linked'
    end,
    merged_into = null,
    changed_at = pipeline.clock()
where lead_id = %(removed)s and merged_into = %(kept)s;

-- name: delete_undo_record
delete from pipeline.undo_records
where undo_id = %(undo_id)s;
