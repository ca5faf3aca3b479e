-- After a backup was restored: what the outside ledger knows and the database forgot.

-- name: find_living
-- Those who stand there again with what was erased.
select u.id
from users as u
where
    u.id = any(%(users)s)
    and not exists (
        select from pipeline.anonymized_rows as a
        where a.table_name = 'users' and a.row_id = u.id
    )
order by u.id;

-- name: find_living_leads
select l.id
from leads as l
where
    l.id = any(%(leads)s)
    and not exists (
        select from pipeline.anonymized_rows as a
        where a.table_name = 'leads' and a.row_id = l.id
    )
order by l.id;

-- name: restore_hold
-- Who placed it and why stood only in the database.
insert into pipeline.retention_holds (
    hold_id, table_name, row_id, reason, owner, placed_at, ends_at
)
values (
    %(hold_id)s, %(held_table)s, %(row_id)s,
    'recuperada do livro-razão após a restauração de um backup', 'encarregado',
    %(placed_at)s, %(ends_at)s
)
on conflict (hold_id) do nothing;

-- name: release_restored_hold
update pipeline.retention_holds
set released_at = %(released_at)s
where hold_id = %(hold_id)s and released_at is null;
