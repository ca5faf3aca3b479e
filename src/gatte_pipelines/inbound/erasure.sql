-- The quarantine as erasure.py reads it: whole payloads, since a key may be written in many ways.

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
