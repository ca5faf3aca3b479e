-- Closed tickets as they were. Lengths before the texts: what moves from one field to the next
-- shows. The instant in seconds, which no session's zone changes.

-- name: seal_closed
insert into pipeline.ticket_digests (ticket_id, digest, sealed_at)
select
    t.id,
    encode(
        sha256(
            convert_to(
                concat_ws(
                    '|',
                    length(t.protocol), t.protocol,
                    length(t.title), t.title,
                    length(t.description), t.description,
                    extract(epoch from t.created_at)
                ),
                'UTF8'
            )
        ),
        'hex'
    ),
    %(sealed_at)s
from tickets as t
where
    t.status = 'closed'
    and not exists (
        select 1 from pipeline.ticket_digests as d
        where d.ticket_id = t.id
    )
on conflict (ticket_id) do nothing;

-- name: find_tampered
-- The same digest again; a test seals and checks in one go.
select
    d.ticket_id,
    t.id is null as is_gone
from pipeline.ticket_digests as d
left join tickets as t on d.ticket_id = t.id
where
    t.id is null
    or d.digest <> encode(
        sha256(
            convert_to(
                concat_ws(
                    '|',
                    length(t.protocol), t.protocol,
                    length(t.title), t.title,
                    length(t.description), t.description,
                    extract(epoch from t.created_at)
                ),
                'UTF8'
            )
        ),
        'hex'
    )
order by d.ticket_id;
