-- The quarantine as erasure.py reads it: whole payloads, since a key may be written in many ways.
-- And the names of files, in which a number may stand.

-- name: read_sizes
select
    id,
    octet_length(payload) as size_bytes
from pipeline.quarantine
where id > %(after_id)s
order by id
limit %(page_size)s;

-- name: read_payloads
select
    id,
    line,
    payload
from pipeline.quarantine
where id = any(%(ids)s::uuid[])
order by id;

-- name: delete_quarantined
delete from pipeline.quarantine
where id = any(%(ids)s::uuid[]);

-- name: read_names
-- Those in which somebody may stand: the digits of their number whatever is between them, an e-mail
-- or a user id. A file a minute makes 130,000 names in 90 days.
select n.source_name
from (
    select source_name from pipeline.inbound_batches
    union
    select source_name from pipeline.quarantine
) as n
where
    regexp_replace(n.source_name, '[^0-9]', '', 'g') like any(%(digits)s::text[])
    or n.source_name ~ '@|[A-Z]{2}\.';

-- name: count_named
select
    (
        select count(*) from pipeline.inbound_batches as b
        where b.source_name = any(%(old_names)s::text[])
    ) + (
        select count(*) from pipeline.quarantine as q
        where q.source_name = any(%(old_names)s::text[])
    );

-- name: rename_batches
update pipeline.inbound_batches as b
set source_name = n.new_name
from unnest(%(old_names)s::text[], %(new_names)s::text[]) as n (old_name, new_name)
where b.source_name = n.old_name;

-- name: rename_quarantined
update pipeline.quarantine as q
set source_name = n.new_name
from unnest(%(old_names)s::text[], %(new_names)s::text[]) as n (old_name, new_name)
where q.source_name = n.old_name;
