-- What adopt itself asks and leaves behind.

-- name: is_zone
select exists(
    select from pg_timezone_names
    where name = %(zone)s
);

-- name: newest_plain_message
-- How old the newest message would be, read in each of the likely zones.
select
    clock_timestamp() - (max(created_at) at time zone 'America/Sao_Paulo') as age_sao_paulo,
    clock_timestamp() - (max(created_at) at time zone 'UTC') as age_utc
from public.messages;

-- name: register_staff
insert into pipeline.staff (name)
select transferred_to from public.conversations
where transferred_to <> ''
union
select assigned_to from public.tickets
where assigned_to <> ''
union
select assigned_to from public.appointments
where assigned_to <> ''
on conflict (name) do nothing;

-- name: note_chatbot_names
-- Names that stand there are the chatbot's: no profile name of a webhook replaces them.
insert into pipeline.user_activity (user_id, chatbot_named_at)
select
    id,
    pipeline.clock()
from public.users
where name is not null
on conflict (user_id) do nothing;

-- name: record_cutover
insert into pipeline.settings (name, value) values ('adopted_at', %(cutover)s);
