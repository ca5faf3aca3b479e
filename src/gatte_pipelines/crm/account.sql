-- name: read_account
select
    a.contents,
    a.read_at
from pipeline.crm_account as a
where a.system = %(external_system)s;

-- name: write_account
insert into pipeline.crm_account (system, contents, read_at)
values (%(external_system)s, %(contents)s, %(instant)s)
on conflict (system) do update
    set contents = excluded.contents, read_at = excluded.read_at;
