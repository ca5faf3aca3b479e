"""What hostile or buggy writers with every right could do to the data of `tests.quality`.

Each corruption says which checks must name it. Triggers, foreign keys and guards do not stop them;
judging them belongs to the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

PICKED = {
    "user": ("select id from users where phone ~ '^\\+' and name is not null order by id limit 1"),
    "gone": (
        "select row_id from pipeline.anonymized_rows where table_name = 'users' order by 1 limit 1"
    ),
    "gone_lead": (
        "select row_id from pipeline.anonymized_rows where table_name = 'leads' order by 1 limit 1"
    ),
    "talk": (
        "select c.id from conversations as c where c.status = 'closed' and c.total_messages > "
        "3 and c.closed_at > c.started_at + interval '5 minutes' and not exists (select from "
        "tickets as t where t.conversation_id = c.id) order by c.id limit 1"
    ),
    "open_talk": (
        "select c.id from conversations as c where c.status = 'open' and exists (select from "
        "conversations as o where o.user_id = c.user_id and o.status = 'closed') order by c.id"
        " limit 1"
    ),
    "message": (
        "select id from messages where content <> '' and not is_in_context and created_at > "
        "pipeline.clock() - interval '60 days' order by id limit 1"
    ),
    "context": (
        "select s.id from session_context as s inner join conversations as c on c.id = "
        "s.conversation_id where c.total_messages between 2 and 18 order by s.id limit 1"
    ),
    "ticket": (
        "select id from tickets where status in ('open', 'in_progress') order by id limit 1"
    ),
    "solved": (
        "select id from tickets where status in ('resolved', 'closed') and created_at > "
        "pipeline.clock() - interval '60 days' order by id limit 1"
    ),
    "lead": (
        "select id from leads where source = 'site' and crm_id is not null order by id limit 1"
    ),
    "renewal": ("select lead_id from pipeline.renewal_leads order by lead_id limit 1"),
    "appointment": (
        "select id from appointments where status = 'pending' and scheduled_at > "
        "pipeline.clock() + interval '2 days' order by id limit 1"
    ),
    "active": (
        "select id from services where status = 'active' and contracted_at < pipeline.clock() "
        "- interval '90 days' order by id limit 1"
    ),
    "cancelled": ("select id from services where status = 'cancelled' order by id limit 1"),
    "valid": (
        "select id from certificates where status = 'valid' and days_to_expire > 40 and "
        "issued_at < pipeline.clock() - interval '9 days' order by id limit 1"
    ),
    "over": ("select id from certificates where status = 'expired' order by id limit 1"),
}
"""Rows that are nothing special, so that only the corruption can alarm: queries of one id, by the
name under which a corruption means it."""


@dataclass(frozen=True)
class Corruption:
    """What somebody did, and what must be said of it.

    Attributes:
        what: In words.
        table: Where.
        sql: Statements. What the last one returns are the ids that must be named, in columns called
            after their tables.
        fails: The checks that must fail, all of them; those of another table with its name. Every
            table that is named here is judged, and no other: what crosses two names both.
        is_quick: Whether every run of the tests tries it.
    """

    what: str
    table: str
    sql: str
    fails: tuple[str, ...]
    is_quick: bool = False

    @property
    def names(self) -> set[str]:
        """The checks that must fail, with their tables."""
        return {name if "." in name else f"{self.table}.{name}" for name in self.fails}

    @property
    def tables(self) -> set[str]:
        """The tables to judge."""
        return {self.table} | {name.partition(".")[0] for name in self.names}


CORRUPTIONS = (
    # --- users
    Corruption(
        "a phone without its country",
        "users",
        "update users set phone = '11900001234' where id = %(user)s returning id as users",
        ("phone_format",),
        is_quick=True,
    ),
    Corruption(
        "a phone as people write it",
        "users",
        "update users set phone = '+55 11 90000-1234' where id = %(user)s returning id as users",
        ("phone_format",),
    ),
    Corruption(
        "a phone with a line end",
        "users",
        "update users set phone = E'+5511900001234\\n' where id = %(user)s returning id as users",
        ("phone_format",),
    ),
    Corruption(
        "a placeholder that is none of ours",
        "users",
        "update users set phone = '~xABC' where id = %(user)s returning id as users",
        ("phone_format", "placeholder_is_recorded"),
    ),
    Corruption(
        "nobody's phone",
        "users",
        "alter table users alter phone drop not null; update users set phone = null where id ="
        " %(user)s returning id as users",
        ("schema", "phone_is_there"),
    ),
    Corruption(
        "an address cut short",
        "users",
        "update users set email = 'ana@example' where id = %(user)s returning id as users",
        ("email_format",),
        is_quick=True,
    ),
    Corruption(
        "two addresses in one",
        "users",
        "update users set email = 'ana@example.com, bia@example.com' where id = %(user)s "
        "returning id as users",
        ("email_format",),
    ),
    Corruption(
        "a blank name",
        "users",
        "update users set name = ' ' where id = %(user)s returning id as users",
        ("name_length",),
    ),
    Corruption(
        "a blank company",
        "users",
        "update users set company = '' where id = %(user)s returning id as users",
        ("company_length",),
    ),
    Corruption(
        "nobody knows whether a client",
        "users",
        "alter table users alter is_client drop not null; update users set is_client = null "
        "where id = %(user)s returning id as users",
        ("schema", "is_client_is_there"),
    ),
    Corruption(
        "a first contact tomorrow",
        "users",
        "update users set created_at = pipeline.clock() + interval '1 day', updated_at = "
        "pipeline.clock() + interval '1 day' where id = %(user)s returning id as users",
        ("created_in_the_past", "updated_in_the_past"),
    ),
    Corruption(
        "changed before it was made",
        "users",
        "update users set updated_at = created_at - interval '1 hour' where id = %(user)s "
        "returning id as users",
        ("updated_after_creation",),
    ),
    Corruption(
        "a synchronisation brings a name back",
        "users",
        "update users set name = 'Ana Exemplo' where id = %(gone)s returning id as users",
        ("anonymized_has_no_data",),
        is_quick=True,
    ),
    Corruption(
        "a synchronisation brings a phone back",
        "users",
        "update users set phone = '+5511900001234' where id = %(gone)s returning id as users",
        ("anonymized_has_no_data",),
    ),
    Corruption(
        "a synchronisation brings a token back",
        "users",
        "update users set login_token = 'acesso' where id = %(gone)s returning id as users",
        ("anonymized_has_no_data",),
    ),
    Corruption(
        "a backup brings an anonymised client's text back",
        "users",
        "update messages as m set content = 'de volta' from conversations as c inner join "
        "users as u on c.user_id = u.id where m.id = (select n.id from messages as n inner "
        "join conversations as k on n.conversation_id = k.id inner join "
        "pipeline.anonymized_rows as a on a.row_id = k.user_id where n.created_at < "
        "pipeline.clock() - interval '1 year' order by n.id limit 1) and c.id = "
        "m.conversation_id returning m.id as messages, c.user_id as users",
        ("anonymized_has_no_messages", "messages.emptied_in_time"),
        is_quick=True,
    ),
    Corruption(
        "nobody remembers that a client was anonymised",
        "users",
        "delete from pipeline.anonymized_rows where row_id = %(gone)s returning row_id as users",
        ("placeholder_is_recorded",),
    ),
    Corruption(
        "a column more",
        "users",
        "alter table users add cpf text",
        ("schema",),
    ),
    Corruption(
        "two users may have one phone",
        "users",
        "drop index users_phone_key",
        ("schema",),
        is_quick=True,
    ),
    Corruption(
        "a guard was switched off",
        "users",
        "alter table users disable trigger keep_anonymized",
        ("schema",),
    ),
    Corruption(
        "a guard was left to replicas",
        "users",
        "alter table users enable replica trigger keep_anonymized",
        ("schema",),
    ),
    Corruption(
        "an import brings a hundred clients at once",
        "users",
        "insert into users (id, phone, is_client, created_at, updated_at) select "
        "gen_random_uuid(), '+' || (5511900009000 + n), false, pipeline.clock() - "
        "interval '1 day', pipeline.clock() from generate_series(1, 100) as n",
        ("volume",),
        is_quick=True,
    ),
    Corruption(
        "no new client for five days",
        "users",
        "update users set created_at = created_at - interval '5 days' where created_at > "
        "pipeline.clock() - interval '5 days'",
        ("volume", "freshness"),
    ),
    Corruption(
        "a first contact before there was WhatsApp",
        "users",
        "update users set created_at = '1970-01-01' where id = %(user)s returning id as users",
        ("created_in_the_past",),
        is_quick=True,
    ),
    Corruption(
        "a change of tomorrow",
        "users",
        "update users set updated_at = pipeline.clock() + interval '1 day' where id = %(user)s "
        "returning id as users",
        ("updated_in_the_past",),
    ),
    # --- conversations
    Corruption(
        "a counter that counts once too often",
        "conversations",
        "update conversations set total_messages = total_messages + 1 where id = %(talk)s "
        "returning id as conversations",
        ("total_messages_agrees",),
        is_quick=True,
    ),
    Corruption(
        "a message was lost",
        "conversations",
        "delete from messages where id = (select id from messages where conversation_id = "
        "%(talk)s order by created_at desc limit 1) returning conversation_id as conversations",
        ("total_messages_agrees",),
    ),
    Corruption(
        "a message stands in somebody else's conversation",
        "conversations",
        # One that had begun before, so that it does not seem to begin too late as well.
        "with moved as (update messages as m set conversation_id = x.id from (select id from "
        "conversations where id <> %(talk)s and started_at < (select max(created_at) from "
        "messages where conversation_id = %(talk)s) order by started_at desc limit 1) as x"
        " where m.id = (select id from messages where conversation_id = %(talk)s order by "
        "created_at desc limit 1) returning x.id) select id as conversations from moved union "
        "select %(talk)s",
        ("total_messages_agrees",),
    ),
    Corruption(
        "fewer messages than none",
        "conversations",
        "update conversations set total_messages = -1 where id = %(talk)s returning id as "
        "conversations",
        ("total_messages_agrees", "total_messages_range"),
    ),
    Corruption(
        "two conversations open at once",
        "conversations",
        "drop index conversations_one_open_per_user_key; with one as (select user_id from "
        "conversations where id = %(open_talk)s), opened as (update conversations set status ="
        " 'waiting', closed_at = null where id = (select c.id from conversations as c, one "
        "where c.user_id = one.user_id and c.status = 'closed' order by c.id limit 1) "
        "returning id) select id as conversations from opened union select %(open_talk)s",
        ("schema", "one_open_per_user"),
        is_quick=True,
    ),
    Corruption(
        "a status that nobody knows",
        "conversations",
        "alter type conversation_status add value 'outro'; update conversations set status = "
        "'outro' where id = %(open_talk)s returning id as conversations",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "a status as text",
        "conversations",
        "drop index conversations_one_open_per_user_key; drop trigger record_history on "
        "conversations; alter table conversations alter status type text; update conversations"
        " set status = 'aberta' where id = %(open_talk)s returning id as conversations",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "a mode that nobody knows",
        "conversations",
        "alter type conversation_mode add value 'outro'; update conversations set mode = "
        "'outro' where id = %(talk)s returning id as conversations",
        ("schema", "mode_is_known"),
    ),
    Corruption(
        "a conversation with nobody",
        "conversations",
        "update conversations set user_id = '00000000-0000-4000-8000-000000000000' where id = "
        "%(talk)s returning id as conversations",
        ("has_user",),
    ),
    Corruption(
        "a conversation begins after its first message",
        "conversations",
        "update conversations set started_at = started_at + interval '1 minute' where id = "
        "%(talk)s returning id as conversations",
        ("begins_with_its_messages",),
    ),
    Corruption(
        "a conversation ends before it begins",
        "conversations",
        "update conversations set closed_at = started_at - interval '1 second' where id = "
        "%(talk)s returning id as conversations",
        ("closed_after_start",),
        is_quick=True,
    ),
    Corruption(
        "closed, nobody knows when",
        "conversations",
        "update conversations set closed_at = null where id = %(talk)s returning id as "
        "conversations",
        ("closed_at_iff_closed",),
    ),
    Corruption(
        "open, and closed long ago",
        "conversations",
        "update conversations set closed_at = started_at where id = %(open_talk)s returning id"
        " as conversations",
        ("closed_at_iff_closed",),
    ),
    Corruption(
        "a conversation of tomorrow",
        "conversations",
        "insert into conversations (id, user_id, status, mode, started_at, closed_at) select "
        "gen_random_uuid(), %(user)s, 'closed', 'menu', c.at, c.at from (select "
        "pipeline.clock() + interval '1 day' as at) as c returning id as conversations",
        ("started_in_the_past", "closed_in_the_past"),
    ),
    Corruption(
        "handed over to a blank",
        "conversations",
        "update conversations set transferred_to = ' ' where id = %(talk)s returning id as "
        "conversations",
        ("transferred_to_length",),
    ),
    Corruption(
        "a counter without a default",
        "conversations",
        "alter table conversations alter total_messages drop default",
        ("schema",),
    ),
    Corruption(
        "conversations may be of nobody",
        "conversations",
        "alter table conversations drop constraint conversations_user_id_fkey",
        ("schema",),
    ),
    Corruption(
        "a machine calls a hundred times",
        "conversations",
        "insert into conversations (id, user_id, status, mode, started_at, closed_at) select "
        "gen_random_uuid(), %(user)s, 'closed', 'menu', c.at, c.at from generate_series(1, "
        "100), (select pipeline.clock() - interval '1 day' as at) as c",
        ("volume",),
    ),
    Corruption(
        "no conversation for a week",
        "conversations",
        "delete from conversations where started_at > pipeline.clock() - interval '7 days'",
        ("volume", "freshness"),
    ),
    Corruption(
        "a conversation since ever",
        "conversations",
        "update conversations set started_at = '-infinity' where id = %(talk)s returning id as "
        "conversations",
        ("started_in_the_past",),
    ),
    Corruption(
        "a conversation that ends next week",
        "conversations",
        "update conversations set closed_at = pipeline.clock() + interval '7 days' where id = "
        "%(talk)s returning id as conversations",
        ("closed_in_the_past",),
    ),
    # --- messages
    Corruption(
        "a message of no conversation",
        "messages",
        "update messages as m set conversation_id = '00000000-0000-4000-8000-000000000000' "
        "from (select conversation_id from messages where id = %(message)s) as b where m.id = "
        "%(message)s returning m.id as messages, b.conversation_id as conversations",
        ("has_conversation", "conversations.total_messages_agrees"),
        is_quick=True,
    ),
    Corruption(
        "an author that nobody knows",
        "messages",
        "alter type message_role add value 'outro'; update messages set role = 'outro' where "
        "id = %(message)s returning id as messages",
        ("schema", "role_is_known"),
    ),
    Corruption(
        "a text that is nothing",
        "messages",
        "alter table messages alter content drop not null; update messages set content = null "
        "where id = %(message)s returning id as messages",
        ("schema", "content_is_there"),
    ),
    Corruption(
        "a message of tomorrow",
        "messages",
        "update messages set created_at = pipeline.clock() + interval '1 day' where id = "
        "%(message)s returning id as messages",
        ("created_in_the_past",),
    ),
    Corruption(
        "a text comes back after its ninety days",
        "messages",
        "update messages set content = 'de volta' where id = (select id from messages where "
        "content = '' and created_at between pipeline.clock() - interval '101 days' and "
        "pipeline.clock() - interval '92 days' order by id limit 1) returning id as messages",
        ("emptied_in_time",),
        is_quick=True,
    ),
    Corruption(
        "retention passed a message over",
        "messages",
        "update messages set created_at = pipeline.clock() - interval '91 days 3 hours' where "
        "id = %(message)s returning id as messages",
        ("emptied_in_time",),
    ),
    Corruption(
        "a hold was released and nobody emptied what it held",
        "messages",
        "update pipeline.retention_holds set released_at = pipeline.clock() - interval '27 "
        "hours' returning row_id as messages",
        ("emptied_in_time",),
        is_quick=True,
    ),
    Corruption(
        "a hold ended and nobody emptied what it held",
        "messages",
        "update pipeline.retention_holds set ends_at = pipeline.clock() - interval '27 hours' "
        "returning row_id as messages",
        ("emptied_in_time",),
    ),
    Corruption(
        "a message of a context that is gone",
        "messages",
        "with gone as (delete from session_context where id = %(context)s returning "
        "conversation_id) select m.id as messages from messages as m inner join gone as g on "
        "g.conversation_id = m.conversation_id where m.is_in_context",
        ("context_is_there",),
        is_quick=True,
    ),
    Corruption(
        "a message in a context that never was",
        "messages",
        "update messages set is_in_context = true where id = %(message)s returning id as messages",
        ("context_is_there",),
    ),
    Corruption(
        "a message was removed and stays in the context",
        "messages",
        "update messages set content = '' where id = (select id from messages where "
        "is_in_context order by id limit 1) returning id as messages",
        ("context_has_its_text",),
    ),
    Corruption(
        "less than no tokens",
        "messages",
        "update messages set tokens_used = -1 where id = %(message)s returning id as messages",
        ("tokens_range",),
    ),
    Corruption(
        "more tokens than any model takes",
        "messages",
        "update messages set tokens_used = 2000000000 where id = %(message)s returning id as "
        "messages",
        ("tokens_range",),
    ),
    Corruption(
        "a blank intent",
        "messages",
        "update messages set intent_detected = ' ' where id = %(message)s returning id as messages",
        ("intent_length",),
    ),
    Corruption(
        "removed texts may come back",
        "messages",
        "drop trigger keep_removed_content on messages",
        ("schema",),
    ),
    Corruption(
        "messages may be of no conversation",
        "messages",
        "alter table messages drop constraint messages_conversation_id_fkey",
        ("schema",),
    ),
    Corruption(
        "yesterday's messages were lost",
        "messages",
        "with lost as (delete from messages where pipeline.business_date(created_at) = "
        "pipeline.business_date(pipeline.clock()) - 1 returning conversation_id) select "
        "distinct conversation_id as conversations from lost",
        ("volume", "conversations.total_messages_agrees"),
        is_quick=True,
    ),
    Corruption(
        "no message for a week",
        "messages",
        "delete from messages where created_at > pipeline.clock() - interval '7 days'",
        ("volume", "freshness"),
    ),
    Corruption(
        "a message whose clock stood at nothing",
        "messages",
        "update messages set created_at = '1970-01-01' where id = %(message)s returning id as "
        "messages",
        ("created_in_the_past", "emptied_in_time"),
    ),
    # --- session_context
    Corruption(
        "a context of no conversation",
        "session_context",
        "update session_context set conversation_id = '00000000-0000-4000-8000-000000000000' "
        "where id = %(context)s returning id as session_context",
        ("has_conversation", "marks_agree"),
    ),
    Corruption(
        "a context of a conversation that is over",
        "session_context",
        "with over as (update conversations as c set status = 'closed', closed_at = "
        "pipeline.clock() from session_context as s where s.conversation_id = c.id and s.id = "
        "%(context)s returning s.id) select id as session_context from over",
        ("conversation_is_live",),
        is_quick=True,
    ),
    Corruption(
        "a context that is no list",
        "session_context",
        """update session_context set messages_json = '{"role": "user"}' where id = %(context)s """
        "returning id as session_context",
        ("messages_are_a_list",),
    ),
    Corruption(
        "a context longer than agreed",
        "session_context",
        "update messages set is_in_context = true where conversation_id in (select id from "
        "conversations where total_messages = 30 and status <> 'closed'); update "
        "session_context set messages_json = (select jsonb_agg(n) from generate_series(1, 30) "
        "as n) where conversation_id in (select id from conversations where total_messages = "
        "30 and status <> 'closed') returning id as session_context",
        ("size",),
    ),
    Corruption(
        "a message is in the context and not marked",
        "session_context",
        "with one as (update messages set is_in_context = false where id = (select id from "
        "messages where is_in_context order by id limit 1) returning conversation_id) select "
        "s.id as session_context from session_context as s inner join one as o on "
        "o.conversation_id = s.conversation_id",
        ("marks_agree",),
        is_quick=True,
    ),
    Corruption(
        "a context for a week",
        "session_context",
        "update session_context set ttl_expires_at = ttl_expires_at + interval '7 days' where "
        "id = %(context)s returning id as session_context",
        ("ttl_is_four_hours",),
    ),
    Corruption(
        "a context that nobody removed",
        "session_context",
        "update session_context set ttl_expires_at = pipeline.clock() - interval '27 hours' "
        "where id = %(context)s returning id as session_context",
        ("removed_in_time",),
    ),
    Corruption(
        "a context of tomorrow",
        "session_context",
        "update session_context set updated_at = pipeline.clock() + interval '1 day' where id "
        "= %(context)s returning id as session_context",
        ("updated_in_the_past",),
    ),
    Corruption(
        "a conversation may have two contexts",
        "session_context",
        "alter table session_context drop constraint session_context_conversation_id_key",
        ("schema",),
    ),
    # --- tickets
    Corruption(
        "solved, nobody knows when",
        "tickets",
        "update tickets set resolved_at = null where id = %(solved)s returning id as tickets",
        ("resolved_at_iff_resolved",),
        is_quick=True,
    ),
    Corruption(
        "open, and solved long ago",
        "tickets",
        "update tickets set resolved_at = created_at where id = %(ticket)s returning id as tickets",
        ("resolved_at_iff_resolved",),
    ),
    Corruption(
        "solved before it was opened",
        "tickets",
        "update tickets set resolved_at = created_at - interval '3 hours' where id = "
        "%(solved)s returning id as tickets",
        ("resolved_after_creation",),
    ),
    Corruption(
        "a protocol with a space",
        "tickets",
        "update tickets set protocol = 'GT 12' where id = %(ticket)s returning id as tickets",
        ("protocol_format",),
    ),
    Corruption(
        "two tickets of one protocol",
        "tickets",
        "with two as (update tickets as t set protocol = o.protocol from tickets as o where "
        "t.id = %(ticket)s and o.id = %(solved)s returning t.id, o.id as other) select id as "
        "tickets from two union select other from two",
        ("protocol_is_unique",),
        is_quick=True,
    ),
    Corruption(
        "a ticket of nobody",
        "tickets",
        "update tickets set user_id = '00000000-0000-4000-8000-000000000000' where id = "
        "%(ticket)s returning id as tickets",
        ("has_user", "user_agrees_with_conversation"),
    ),
    Corruption(
        "a ticket of no conversation",
        "tickets",
        "update tickets set conversation_id = '00000000-0000-4000-8000-000000000000' where id "
        "= %(ticket)s returning id as tickets",
        ("has_conversation",),
    ),
    Corruption(
        "a ticket in somebody else's conversation",
        "tickets",
        "update tickets set conversation_id = %(talk)s where id = %(ticket)s returning id as "
        "tickets",
        ("user_agrees_with_conversation",),
        is_quick=True,
    ),
    Corruption(
        "a state that nobody knows",
        "tickets",
        "alter type ticket_status add value 'outro'; update tickets set status = 'outro' where"
        " id = %(ticket)s returning id as tickets",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "a priority that nobody knows",
        "tickets",
        "alter type ticket_priority add value 'outro'; update tickets set priority = 'outro' "
        "where id = %(ticket)s returning id as tickets",
        ("schema", "priority_is_known"),
    ),
    Corruption(
        "a ticket of tomorrow",
        "tickets",
        "update tickets set created_at = pipeline.clock() + interval '1 day' where id = "
        "%(ticket)s returning id as tickets",
        ("created_in_the_past",),
    ),
    Corruption(
        "a title longer than DOC 01's",
        "tickets",
        "alter table tickets alter title type text; update tickets set title = "
        "repeat('a', 301) where id = %(ticket)s returning id as tickets",
        ("schema", "title_length"),
    ),
    Corruption(
        "a blank title",
        "tickets",
        "update tickets set title = '' where id = %(ticket)s returning id as tickets",
        ("title_length",),
    ),
    Corruption(
        "a blank description",
        "tickets",
        "update tickets set description = ' ' where id = %(ticket)s returning id as tickets",
        ("description_length",),
    ),
    Corruption(
        "a blank category",
        "tickets",
        "update tickets set category = '' where id = %(ticket)s returning id as tickets",
        ("category_length",),
    ),
    Corruption(
        "a blank technician",
        "tickets",
        "update tickets set assigned_to = '' where id = %(ticket)s returning id as tickets",
        ("assigned_to_length",),
    ),
    Corruption(
        "tickets may be deleted",
        "tickets",
        "drop trigger refuse_ticket_deletion on tickets",
        ("schema",),
        is_quick=True,
    ),
    Corruption(
        "tickets may be of nobody",
        "tickets",
        "alter table tickets drop constraint tickets_user_id_fkey",
        ("schema",),
    ),
    Corruption(
        "a machine opens fifty tickets",
        "tickets",
        "insert into tickets (id, protocol, user_id, conversation_id, title, description, "
        "status, priority, created_at) select gen_random_uuid(), 'R-' || n, user_id, "
        "conversation_id, title, description, 'open', priority, pipeline.clock() - interval '1"
        " day' from tickets, generate_series(1, 50) as n where id = %(ticket)s",
        ("volume",),
    ),
    Corruption(
        "no ticket for three weeks",
        "tickets",
        "alter table tickets disable trigger user; delete from tickets where created_at > "
        "pipeline.clock() - interval '21 days'; alter table tickets enable trigger user",
        ("freshness",),
    ),
    Corruption(
        "solved tomorrow",
        "tickets",
        "update tickets set resolved_at = pipeline.clock() + interval '1 day' where id = "
        "%(solved)s returning id as tickets",
        ("resolved_in_the_past",),
    ),
    Corruption(
        "a ticket whose clock stood at nothing",
        "tickets",
        "update tickets set created_at = '1970-01-01' where id = %(ticket)s returning id as "
        "tickets",
        ("created_in_the_past",),
    ),
    # --- leads
    Corruption(
        "a source that nobody knows",
        "leads",
        "update leads set source = 'facebook' where id = %(lead)s returning id as leads",
        ("source_is_known",),
        is_quick=True,
    ),
    Corruption(
        "a renewal that no certificate asked for",
        "leads",
        "update leads set source = 'certificado_vencendo' where id = %(lead)s returning id as "
        "leads",
        ("renewal_agrees",),
        is_quick=True,
    ),
    Corruption(
        "a renewal that says it came by the site",
        "leads",
        "update leads set source = 'site' where id = %(renewal)s returning id as leads",
        ("renewal_agrees",),
    ),
    Corruption(
        "a lead's phone as people write it",
        "leads",
        "update leads set phone = '(11) 90000-1234' where id = %(lead)s returning id as leads",
        ("phone_format",),
    ),
    Corruption(
        "a lead without a phone",
        "leads",
        "alter table leads alter phone drop not null; update leads set phone = null where id ="
        " %(lead)s returning id as leads",
        ("schema", "phone_is_there"),
    ),
    Corruption(
        "a lead's address without its host",
        "leads",
        "update leads set email = 'lead' where id = %(lead)s returning id as leads",
        ("email_format",),
    ),
    Corruption(
        "a lead without a name",
        "leads",
        "update leads set name = '' where id = %(lead)s returning id as leads",
        ("name_length",),
    ),
    Corruption(
        "a lead of a blank company",
        "leads",
        "update leads set company = ' ' where id = %(lead)s returning id as leads",
        ("company_length",),
    ),
    Corruption(
        "a lead of a blank interest",
        "leads",
        "update leads set interest = '' where id = %(lead)s returning id as leads",
        ("interest_length",),
    ),
    Corruption(
        "a stage that nobody knows",
        "leads",
        "alter type lead_stage add value 'outro'; update leads set stage = 'outro' where id = "
        "%(lead)s returning id as leads",
        ("schema", "stage_is_known"),
    ),
    Corruption(
        "a lead of nobody",
        "leads",
        "update leads set user_id = '00000000-0000-4000-8000-000000000000' where id = %(lead)s"
        " returning id as leads",
        ("user_is_there",),
    ),
    Corruption(
        "a lead of tomorrow",
        "leads",
        "update leads set created_at = pipeline.clock() + interval '1 day' where id = %(lead)s"
        " returning id as leads",
        ("created_in_the_past",),
    ),
    Corruption(
        "a blank link to the CRM",
        "leads",
        "update leads set crm_id = '' where id = %(lead)s returning id as leads",
        ("crm_id_length", "crm_id_is_its_links"),
    ),
    Corruption(
        "two leads of one record of the CRM",
        "leads",
        "insert into pipeline.crm_links (lead_id, state, made_at, changed_at) values "
        "(%(renewal)s, 'pending', now(), now()) on conflict do nothing; "
        "with two as (update leads as l set crm_id = o.crm_id from leads as o where o.id = "
        "%(lead)s and l.id = %(renewal)s returning l.id, o.id as other) select id as leads "
        "from two union select other from two",
        ("crm_id_is_unique",),
        is_quick=True,
    ),
    Corruption(
        "a lead that is synchronised with another deal",
        "leads",
        "update pipeline.crm_links set deal_id = 999 where lead_id = %(lead)s returning lead_id "
        "as leads",
        ("crm_id_is_its_links",),
        is_quick=True,
    ),
    Corruption(
        "a linked lead whose id of the CRM is gone",
        "leads",
        "update leads set crm_id = null where id = %(lead)s returning id as leads",
        ("crm_id_is_its_links",),
    ),
    Corruption(
        "a lead of the CRM whose link was lost",
        "leads",
        "delete from pipeline.crm_links where lead_id = %(lead)s returning lead_id as leads",
        ("crm_id_has_a_link",),
        is_quick=True,
    ),
    Corruption(
        "a linked lead that somebody deleted",
        "leads",
        "delete from leads where id = %(lead)s returning id as leads",
        ("lead_of_link_is_there",),
        is_quick=True,
    ),
    Corruption(
        "the sync links an anonymised lead",
        "leads",
        "insert into pipeline.crm_links (lead_id, state, person_id, made_at, changed_at) values "
        "(%(gone_lead)s, 'deleted', 5, now(), now()) returning lead_id as leads",
        ("anonymized_has_no_link",),
        is_quick=True,
    ),
    Corruption(
        "the link of a lead that became part of an anonymised one",
        "leads",
        "insert into pipeline.crm_links (lead_id, state, merged_into, made_at, changed_at) "
        "values (gen_random_uuid(), 'merged', %(gone_lead)s, now(), now()) returning merged_into "
        "as leads",
        ("anonymized_has_no_link",),
    ),
    Corruption(
        "a conflict about an anonymised lead",
        "leads",
        "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
        "winner, run_id, found_at) values (gen_random_uuid(), 'pipedrive', 'leads', "
        "%(gone_lead)s, 'deleted', 'ours', gen_random_uuid(), now()) returning local_id as leads",
        ("anonymized_has_no_link",),
    ),
    Corruption(
        "a call that would send an anonymised lead once more",
        "leads",
        "insert into pipeline.sync_outbox (system, local_id, action, begun_at) values "
        "('pipedrive', %(gone_lead)s, 'create_lead', now()) returning local_id as leads",
        ("anonymized_has_no_link",),
    ),
    Corruption(
        "the CRM brings a name back",
        "leads",
        "update leads set name = 'Ana Exemplo' where id = %(gone_lead)s returning id as leads",
        ("anonymized_has_no_data",),
        is_quick=True,
    ),
    Corruption(
        "the CRM links an anonymised lead again",
        "leads",
        "update leads set crm_id = 'negocio-anonimo' where id = %(gone_lead)s returning id as "
        "leads",
        ("anonymized_has_no_data",),
    ),
    Corruption(
        "nobody remembers that a lead was anonymised",
        "leads",
        "delete from pipeline.anonymized_rows where row_id = %(gone_lead)s returning row_id as"
        " leads",
        ("placeholder_is_recorded",),
    ),
    Corruption(
        "a lead must have a user",
        "leads",
        "delete from pipeline.crm_links where lead_id in (select id from leads where user_id is "
        "null); "
        "delete from leads where user_id is null; alter table leads alter user_id set not null",
        ("schema",),
    ),
    Corruption(
        "a campaign brings fifty leads",
        "leads",
        "insert into leads (id, name, phone, stage, source, created_at) select "
        "gen_random_uuid(), 'Lead Exemplo', '+5511900001234', 'new', 'site', pipeline.clock() "
        "- interval '1 day' from generate_series(1, 50)",
        ("volume",),
    ),
    Corruption(
        "no lead for three weeks",
        "leads",
        "delete from pipeline.crm_links where lead_id in (select id from leads where created_at "
        "> pipeline.clock() - interval '21 days'); "
        "delete from leads where created_at > pipeline.clock() - interval '21 days'",
        ("freshness",),
    ),
    Corruption(
        "a lead of a client who was anonymised",
        "leads",
        "update leads set user_id = %(gone)s where id = %(lead)s returning id as leads",
        ("anonymized_with_its_user",),
        is_quick=True,
    ),
    Corruption(
        "a lead whose clock stood at nothing",
        "leads",
        "update leads set created_at = '1970-01-01' where id = %(lead)s returning id as leads",
        ("created_in_the_past",),
    ),
    # --- appointments
    Corruption(
        "a type that nobody knows",
        "appointments",
        "alter type appointment_type add value 'outro'; update appointments set type = 'outro'"
        " where id = %(appointment)s returning id as appointments",
        ("schema", "type_is_known"),
    ),
    Corruption(
        "a situation that nobody knows",
        "appointments",
        "alter type appointment_status add value 'outro'; update appointments set status = "
        "'outro' where id = %(appointment)s returning id as appointments",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "an appointment with nobody",
        "appointments",
        "update appointments set user_id = '00000000-0000-4000-8000-000000000000' where id = "
        "%(appointment)s returning id as appointments",
        ("has_user",),
    ),
    Corruption(
        "an appointment of no minutes",
        "appointments",
        "update appointments set duration_min = 0 where id = %(appointment)s returning id as "
        "appointments",
        ("duration_range",),
        is_quick=True,
    ),
    Corruption(
        "an appointment of seconds taken for minutes",
        "appointments",
        "update appointments set duration_min = 3600 where id = %(appointment)s returning id "
        "as appointments",
        ("duration_range",),
    ),
    Corruption(
        "done before it took place",
        "appointments",
        "update appointments set status = 'done' where id = %(appointment)s returning id as "
        "appointments",
        ("done_in_the_past",),
    ),
    Corruption(
        "asked for tomorrow",
        "appointments",
        "update appointments set created_at = pipeline.clock() + interval '1 day' where id = "
        "%(appointment)s returning id as appointments",
        ("created_in_the_past",),
    ),
    Corruption(
        "for the year before",
        "appointments",
        "update appointments set scheduled_at = scheduled_at - interval '1 year' where id = "
        "%(appointment)s returning id as appointments",
        ("scheduled_after_creation",),
    ),
    Corruption(
        "a blank link to the calendar",
        "appointments",
        "update appointments set calendar_event_id = ' ' where id = %(appointment)s returning "
        "id as appointments",
        ("calendar_event_id_length",),
    ),
    Corruption(
        "two appointments of one event",
        "appointments",
        "with two as (update appointments as a set calendar_event_id = o.calendar_event_id "
        "from (select id, calendar_event_id from appointments where calendar_event_id is not "
        "null and id <> %(appointment)s order by id limit 1) as o where a.id = %(appointment)s"
        " returning a.id, o.id as other) select id as appointments from two union select other"
        " from two",
        ("calendar_event_is_unique",),
        is_quick=True,
    ),
    Corruption(
        "a blank colleague",
        "appointments",
        "update appointments set assigned_to = '' where id = %(appointment)s returning id as "
        "appointments",
        ("assigned_to_length",),
    ),
    Corruption(
        "an instant that lost its zone",
        "appointments",
        "alter table appointments alter created_at type timestamp",
        ("schema",),
        is_quick=True,
    ),
    Corruption(
        "a machine makes fifty appointments",
        "appointments",
        "insert into appointments (id, user_id, type, scheduled_at, duration_min, status, "
        "created_at) select gen_random_uuid(), %(user)s, 'demo', pipeline.clock(), 30, "
        "'pending', pipeline.clock() - interval '1 day' from generate_series(1, 50)",
        ("volume",),
    ),
    Corruption(
        "no appointment for three weeks",
        "appointments",
        "delete from appointments where created_at > pipeline.clock() - interval '21 days'",
        ("freshness",),
    ),
    Corruption(
        "the calendar links an anonymised client's appointment again",
        "appointments",
        "update appointments set user_id = %(gone)s, calendar_event_id = 'evento-anonimo' where id "
        "= %(appointment)s returning id as appointments",
        ("anonymized_has_no_data",),
        is_quick=True,
    ),
    Corruption(
        "an appointment whose clock stood at nothing",
        "appointments",
        "update appointments set created_at = '1970-01-01' where id = %(appointment)s returning id "
        "as appointments",
        ("created_in_the_past",),
    ),
    # --- services
    Corruption(
        "a plan that nobody knows",
        "services",
        "alter type service_plan add value 'outro'; update services set plan = 'outro' where "
        "id = %(active)s returning id as services",
        ("schema", "plan_is_known"),
    ),
    Corruption(
        "a service in a state that nobody knows",
        "services",
        "alter type service_status add value 'outro'; update services set status = 'outro' "
        "where id = %(cancelled)s returning id as services",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "a service of nobody",
        "services",
        "with one as (update services set user_id = '00000000-0000-4000-8000-000000000000' "
        "where id = (select s.id from services as s where exists (select from certificates as "
        "f where f.service_id = s.id) order by s.id limit 1) returning id) select id as "
        "services, null::uuid as certificates from one union select null, f.id from "
        "certificates as f, one where f.service_id = one.id",
        ("has_user", "certificates.user_agrees_with_service"),
    ),
    Corruption(
        "a service that pays its client",
        "services",
        "update services set monthly_value = -0.01 where id = %(active)s returning id as services",
        ("monthly_value_range",),
        is_quick=True,
    ),
    Corruption(
        "a value that is no number",
        "services",
        "update services set monthly_value = 'NaN' where id = %(active)s returning id as services",
        ("monthly_value_range",),
    ),
    Corruption(
        "cents taken for reais",
        "services",
        "update services set monthly_value = 2990000 where id = %(active)s returning id as "
        "services",
        ("monthly_value_range",),
    ),
    Corruption(
        "an active service without a value",
        "services",
        "update services set monthly_value = null where id = %(active)s returning id as services",
        ("active_has_a_value",),
    ),
    Corruption(
        "contracted next month",
        "services",
        "update services set contracted_at = pipeline.clock() + interval '30 days', expires_at"
        " = null where id = %(active)s returning id as services",
        ("contracted_in_the_past",),
    ),
    Corruption(
        "a service that ends before it begins",
        "services",
        "update services set expires_at = contracted_at - interval '1 day' where id = "
        "%(cancelled)s returning id as services",
        ("expires_after_contract",),
        is_quick=True,
    ),
    Corruption(
        "active, and over",
        "services",
        "update services set expires_at = pipeline.clock() - interval '27 hours' where id = "
        "%(active)s returning id as services",
        ("active_is_not_over",),
    ),
    Corruption(
        "a service of no name",
        "services",
        "update services set name = ' ' where id = %(active)s returning id as services",
        ("name_length",),
    ),
    Corruption(
        "values without their cents",
        "services",
        "drop trigger record_history on services; alter table services alter monthly_value type "
        "numeric(10, 0)",
        ("schema",),
    ),
    Corruption(
        "a machine contracts fifty services",
        "services",
        "insert into services (id, user_id, name, plan, status, contracted_at) select "
        "gen_random_uuid(), %(user)s, 'LC Web', 'essencial', 'trial', pipeline.clock() - "
        "interval '1 day' from generate_series(1, 50)",
        ("volume",),
    ),
    Corruption(
        "no service for four weeks",
        "services",
        "update services set contracted_at = contracted_at - interval '28 days', expires_at = "
        "null, status = 'trial' where contracted_at > pipeline.clock() - interval '28 days'",
        ("freshness",),
    ),
    Corruption(
        "notes of an anonymised client's contract",
        "services",
        "update services set user_id = %(gone)s, notes = 'de volta' where id = %(cancelled)s "
        "returning id as services",
        ("anonymized_has_no_data",),
    ),
    Corruption(
        "contracted since ever",
        "services",
        "update services set contracted_at = '-infinity' where id = %(active)s returning id as "
        "services",
        ("contracted_in_the_past",),
    ),
    # --- certificates
    Corruption(
        "a certificate of a type that nobody knows",
        "certificates",
        "alter type certificate_type add value 'outro'; update certificates set type = 'outro'"
        " where id = %(valid)s returning id as certificates",
        ("schema", "type_is_known"),
    ),
    Corruption(
        "a certificate in a state that nobody knows",
        "certificates",
        "alter type certificate_status add value 'outro'; update certificates set status = "
        "'outro' where id = %(valid)s returning id as certificates",
        ("schema", "status_is_known"),
    ),
    Corruption(
        "nobody knows whether it was told",
        "certificates",
        "alter table certificates alter alert_sent drop not null; update certificates set "
        "alert_sent = null where id = %(valid)s returning id as certificates",
        ("schema", "alert_sent_is_there"),
    ),
    Corruption(
        "a certificate of nobody",
        "certificates",
        "update certificates set user_id = '00000000-0000-4000-8000-000000000000' where id = "
        "%(valid)s returning id as certificates",
        ("has_user", "user_agrees_with_service"),
    ),
    Corruption(
        "a certificate of no service",
        "certificates",
        "update certificates set service_id = '00000000-0000-4000-8000-000000000000' where id "
        "= %(valid)s returning id as certificates",
        ("has_service",),
    ),
    Corruption(
        "a certificate in somebody else's service",
        "certificates",
        "update certificates set user_id = (select u.id from users as u where u.id <> user_id "
        "order by u.id limit 1) where id = %(valid)s returning id as certificates",
        ("user_agrees_with_service",),
        is_quick=True,
    ),
    Corruption(
        "a certificate that ends before it is issued",
        "certificates",
        "update certificates set issued_at = expires_at + interval '1 day' where id = %(over)s"
        " returning id as certificates",
        ("expires_after_issue",),
    ),
    Corruption(
        "a valid certificate that is issued next week",
        "certificates",
        "update certificates set issued_at = pipeline.clock() + interval '7 days' where id = "
        "%(valid)s returning id as certificates",
        ("issued_in_the_past",),
    ),
    Corruption(
        "a certificate for a century",
        "certificates",
        "update certificates set expires_at = expires_at + interval '100 years', "
        "days_to_expire = pipeline.business_date(expires_at + interval '100 years') - "
        "pipeline.business_date(pipeline.clock()) where id = %(valid)s returning id as "
        "certificates",
        ("lasts_no_longer_than_any",),
    ),
    Corruption(
        "valid, and over",
        "certificates",
        "update certificates set status = 'valid' where id = %(over)s returning id as certificates",
        ("valid_is_not_over",),
        is_quick=True,
    ),
    Corruption(
        "expired, and good for weeks",
        "certificates",
        "update certificates set status = 'expired' where id = %(valid)s returning id as "
        "certificates",
        ("expired_is_over",),
    ),
    Corruption(
        "a day too many",
        "certificates",
        "update certificates set days_to_expire = days_to_expire + 1 where id = %(valid)s "
        "returning id as certificates",
        ("days_agree",),
        is_quick=True,
    ),
    Corruption(
        "days of Greenwich",
        "certificates",
        "update certificates set expires_at = '2026-09-01T01:30:00Z', days_to_expire = date "
        "'2026-09-01' - pipeline.business_date(pipeline.clock()) where id = %(valid)s "
        "returning id as certificates",
        ("days_agree",),
    ),
    Corruption(
        "days since its end without their floor",
        "certificates",
        "update certificates set days_to_expire = -31 where id = (select id from certificates "
        "where days_to_expire = -30 order by id limit 1) returning id as certificates",
        ("days_agree",),
    ),
    Corruption(
        "the nightly refresh did not run for two nights",
        "certificates",
        "update pipeline.watermarks set value = (value::date - 2)::text where pipeline = "
        "'certificate_state'; update certificates set days_to_expire = days_to_expire + 2 "
        "where days_to_expire > -30 and status <> 'expired' returning id as certificates",
        ("days_agree",),
    ),
    Corruption(
        "days are computed no more",
        "certificates",
        "alter table certificates disable trigger set_days_to_expire",
        ("schema",),
        is_quick=True,
    ),
    Corruption(
        "fifty certificates at once",
        "certificates",
        "insert into certificates select gen_random_uuid(), service_id, user_id, type, "
        "pipeline.clock() - interval '1 day', expires_at, days_to_expire, status, false from "
        "certificates, generate_series(1, 50) where id = %(valid)s",
        ("volume",),
    ),
    Corruption(
        "no certificate for four weeks",
        "certificates",
        "delete from certificates where issued_at > pipeline.clock() - interval '28 days'",
        ("freshness",),
    ),
    Corruption(
        "issued by a clock that stood at nothing",
        "certificates",
        "update certificates set issued_at = '1970-01-01' where id = %(valid)s returning id as "
        "certificates",
        ("issued_in_the_past", "lasts_no_longer_than_any"),
    ),
    Corruption(
        "a certificate for ever",
        "certificates",
        "update certificates set expires_at = 'infinity' where id = %(valid)s returning id as "
        "certificates",
        ("lasts_no_longer_than_any", "days_agree"),
        is_quick=True,
    ),
    Corruption(
        "a certificate to the end of all years",
        "certificates",
        "update certificates set expires_at = '294276-12-31', issued_at = '294276-12-30', "
        "days_to_expire = 0 where id = %(valid)s returning id as certificates",
        ("lasts_no_longer_than_any", "issued_in_the_past", "days_agree"),
    ),
)
