-- The lock of who is whom (client_locks.py). Both are held to the end of the transaction.

-- name: share
select pg_advisory_xact_lock_shared(hashtextextended('gatte_pipelines.clients', 0));

-- name: exclude
select pg_advisory_xact_lock(hashtextextended('gatte_pipelines.clients', 0));
