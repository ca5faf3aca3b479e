-- The chain of the privacy ledger. One lock for who continues it, one for who writes outside.

-- name: bound_waiting
-- A process that hangs with the lock must not make all others hang.
select set_config('lock_timeout', %(lock_timeout)s, true);

-- name: lock_chain
select pg_advisory_xact_lock(hashtext('gatte_pipelines.ledger'));

-- name: lock_outside
select pg_advisory_xact_lock(hashtext('gatte_pipelines.ledger.outside'));

-- name: read_tail
select
    seq,
    hash
from pipeline.privacy_ledger
order by seq desc
limit 1;

-- name: read_hash
select hash from pipeline.privacy_ledger
where seq = %(ledger_seq)s;

-- name: insert_entry
insert into pipeline.privacy_ledger (seq, entry, previous_hash, hash)
values (%(ledger_seq)s, %(ledger_text)s, %(ledger_previous_hash)s, %(ledger_hash)s);

-- name: read_after
select
    seq,
    entry,
    previous_hash,
    hash
from pipeline.privacy_ledger
where seq > %(ledger_seq)s
order by seq
limit %(page_size)s;

-- name: read_until
select
    seq,
    entry,
    previous_hash,
    hash
from pipeline.privacy_ledger
where seq <= %(ledger_seq)s
order by seq;

-- name: keep_alive
-- Of the session: whoever finds it free knows that the process of the intent is gone.
select pg_advisory_lock(hashtext('gatte_pipelines.ledger.intent'), %(ledger_seq)s::integer);

-- name: let_go
select pg_advisory_unlock(hashtext('gatte_pipelines.ledger.intent'), %(ledger_seq)s::integer);

-- name: find_open_intents
-- Since where all was closed when last looked; an intent whose process lives is not interrupted.
with recent as materialized (
    select
        seq,
        entry::jsonb ->> 'kind' as kind,
        (entry::jsonb -> 'body' ->> 'intent')::bigint as intent
    from pipeline.privacy_ledger
    where
        seq > coalesce(
            (
                select w.value::bigint from pipeline.watermarks as w
                where w.pipeline = 'privacy_ledger' and w.name = 'closed_to'
            ),
            0
        )
),

open_intents as materialized (
    select i.seq from recent as i
    where
        i.kind = 'intent'
        and not exists (
            select 1 from recent as o
            where o.intent = i.seq
        )
)

select
    seq,
    pg_try_advisory_xact_lock(
        hashtext('gatte_pipelines.ledger.intent'), seq::integer
    ) as is_interrupted
from open_intents
order by seq;

-- name: note_closed
insert into pipeline.watermarks as w (pipeline, name, value)
values ('privacy_ledger', 'closed_to', %(ledger_seq)s::text)
on conflict (pipeline, name) do update
    set value = excluded.value, updated_at = pipeline.clock()
    where w.value is distinct from excluded.value;
