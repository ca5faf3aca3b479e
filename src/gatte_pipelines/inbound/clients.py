"""Settle who is whom where a chunk leaves it in doubt: join users, divide them, repoint (S8).

Who belongs together is decided by ``policy``; the SQL stands in ``clients.sql``. Everything here
runs inside a chunk's transaction that no other chunk runs beside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.inbound.policy import (
    ALWAYS_TO,
    Claim,
    Client,
    KnownUser,
    NumberChange,
    Seen,
    SenderNode,
    divide,
    find_cuts,
)
from gatte_pipelines.phones import (
    BSUID_PLACEHOLDER_PREFIX,
    bsuid_placeholder,
    forms,
    phone_key,
    to_phone,
)

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("clients.sql"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_REPOINT = (
    "record_merges",
    "repoint_conversations",
    "repoint_tickets",
    "repoint_leads",
    "repoint_appointments",
    "repoint_services",
    "repoint_certificates",
    "repoint_events",
    "repoint_opt_outs",
    "repoint_identities",
    "repoint_earlier_merges",
    "note_merges",
    "combine_users",
    "delete_merged_activity",
    "delete_merged_users",
)


def settle(cursor: psycopg.Cursor[Any]) -> bool:
    """Settle the clients of a chunk whose users are in doubt.

    Reads the incoming tables of ``merge.sql``, and leaves ``settled_users``, ``settled_senders``
    and rows of ``resolved_senders`` for what follows; the people it settled leave
    ``incoming_identities``.

    Args:
        cursor: In the transaction of a chunk that runs alone, its rows copied in.

    Returns:
        Whether anything was in doubt.
    """
    cursor.execute(_SQL["create_settling"])
    cursor.execute(_SQL["find_seeds"])
    keys = _Keys(cursor.fetchall())
    if not keys:
        return False
    senders, changes = _read_connected(cursor, keys)
    claims = _read_claims(cursor, keys)
    cursor.execute(_SQL["read_users"], {"users": sorted({claim.user_id for claim in claims})})
    users = [KnownUser(*row) for row in cursor]
    seen = _read_seen(cursor, senders, changes, users)
    clients = [
        client
        for client in divide(senders, changes, seen, claims, users)
        if client.senders or client.user_id
    ]
    _apply(cursor, keys, senders, changes, clients)
    return True


def derive_users(cursor: psycopg.Cursor[Any]) -> None:
    """Derive name, phone and activity of the settled users from what is stored now."""
    cursor.execute(_SQL["derive_activity"])
    cursor.execute(_SQL["derive_names"])
    cursor.execute(_SQL["find_phones"])
    changed = [
        (user_id, wanted)
        for user_id, phone, received, keys, is_chatbots in cursor
        if (wanted := _choose_phone(phone, received, keys, is_chatbots=is_chatbots)) != phone
    ]
    if changed:
        users = [user_id for user_id, _ in changed]
        placeholders = [bsuid_placeholder() for _ in changed]
        cursor.execute(_SQL["set_phones"], {"users": users, "phones": placeholders})
        phones = [phone for _, phone in changed]
        cursor.execute(_SQL["set_phones"], {"users": users, "phones": phones})


def _choose_phone(phone: str, received: str | None, keys: list[str], *, is_chatbots: bool) -> str:
    """The form last received of a number that the client still has, else the least one told."""
    if received is not None:
        return received
    known = keys if is_chatbots else keys[:1]
    if not phone.startswith(BSUID_PLACEHOLDER_PREFIX) and phone_key(phone) in known:
        return phone
    if keys:
        return to_phone(keys[0])
    return phone if phone.startswith(BSUID_PLACEHOLDER_PREFIX) else bsuid_placeholder()


class _Keys:
    """The identities that are looked at, by kind; grows until nothing more is connected."""

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, set[str]] = defaultdict(set)
        for kind, value in found:
            self.add(kind, value)

    def __bool__(self) -> bool:
        return any(self._values.values())

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))

    def add(self, kind: str, value: str) -> None:
        if value:
            self._values[kind].add(value)

    def parameters(self) -> dict[str, list[str]]:
        return {
            "phone_keys": sorted(self._values["phone_key"]),
            "bsuids": sorted(self._values["bsuid"]),
            "parent_bsuids": sorted(self._values["parent_bsuid"]),
        }


def _read_connected(
    cursor: psycopg.Cursor[Any], keys: _Keys
) -> tuple[list[SenderNode], list[NumberChange]]:
    while True:
        before = len(keys)
        cursor.execute(_SQL["read_senders"], keys.parameters())
        senders = [SenderNode(*row) for row in cursor]
        cursor.execute(_SQL["read_changes"], keys.parameters())
        changes = [NumberChange(*row) for row in cursor]
        for sender in senders:
            keys.add("phone_key", sender.phone_key)
            keys.add("bsuid", sender.bsuid)
            keys.add("parent_bsuid", sender.parent_bsuid)
        for change in changes:
            for kind in ("phone_key", "bsuid", "parent_bsuid"):
                keys.add(kind, getattr(change, f"old_{kind}"))
                keys.add(kind, getattr(change, f"new_{kind}"))
        if len(keys) == before:
            return senders, changes


def _read_claims(cursor: psycopg.Cursor[Any], keys: _Keys) -> list[Claim]:
    cursor.execute(_SQL["read_claims"], keys.parameters())
    claims = [Claim(*row) for row in cursor]
    phones = [to_phone(form) for key in keys.parameters()["phone_keys"] for form in forms(key)]
    cursor.execute(_SQL["read_phone_claims"], {"phones": phones})
    known = {claim.user_id for claim in claims}
    claims += [
        # Whoever has the number in users.phone has it now.
        Claim(user_id, "phone_key", phone_key(phone), ALWAYS_TO)
        for user_id, phone in cursor
        if user_id not in known
    ]
    return claims


def _read_seen(
    cursor: psycopg.Cursor[Any],
    senders: list[SenderNode],
    changes: list[NumberChange],
    users: list[KnownUser],
) -> list[Seen]:
    cuts = find_cuts(changes)
    with cursor.copy("copy settling_senders from stdin") as copy:
        for sender in senders:
            # A record of the very instant belongs to the part before; width_bucket counts the
            # thresholds that are not after it.
            after = [_instant(us) + _MICROSECOND for us in cuts.get(sender.phone_key, ())]
            copy.write_row((sender.sender_id, after))
    cursor.execute(_SQL["read_seen"], {"users": [user.user_id for user in users]})
    return [Seen(*row) for row in cursor]


def _instant(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _apply(
    cursor: psycopg.Cursor[Any],
    keys: _Keys,
    senders: list[SenderNode],
    changes: list[NumberChange],
    clients: list[Client],
) -> None:
    new = [client for client in clients if client.user_id is None]
    for client in new:
        client.user_id = uuid4()
    cursor.execute(
        _SQL["insert_users"],
        {
            "ids": [client.user_id for client in new],
            "phones": [bsuid_placeholder() for _ in new],
            "firsts": [client.first_us for client in new],
        },
    )
    kept = [_user_of(client) for client in clients]
    cursor.execute(_SQL["note_older_names"], {"users": kept})
    merges = [(gone, _user_of(client)) for client in clients for gone in client.merged]
    if merges:
        with cursor.copy("copy merging_users from stdin") as copy:
            for merge in merges:
                copy.write_row(merge)
        cursor.execute(_SQL["note_older_names"], {"users": [gone for gone, _ in merges]})
        for name in _REPOINT:
            cursor.execute(_SQL[name])
    _write_identities(cursor, keys, senders, changes, clients)
    held = [(item, _user_of(client)) for client in clients for item in client.senders]
    cursor.execute(
        _SQL["hold_senders"],
        {
            "senders": [item.sender_id for item, _ in held],
            "users": [user_id for _, user_id in held],
            "froms": [item.from_us for item, _ in held],
            "tos": [item.to_us for item, _ in held],
        },
    )
    gone_into = dict(merges)
    disturbed: set[UUID] = set()
    for client in clients:
        user_id = _user_of(client)
        others = {gone_into.get(former, former) for former in client.former} - {user_id}
        if others or client.merged:
            disturbed |= others | {user_id}
    involved = sorted({*kept, *disturbed})
    cursor.execute(
        _SQL["hold_users"],
        {"users": involved, "disturbed": [user_id in disturbed for user_id in involved]},
    )
    phones = [(_user_of(client), *phone) for client in clients for phone in client.phones]
    cursor.execute(
        _SQL["hold_phones"],
        {
            "users": [user_id for user_id, _, _ in phones],
            "changed": [changed_us for _, changed_us, _ in phones],
            "phones": [to_phone(wa_id) for _, _, wa_id in phones],
            "phone_keys": [phone_key(wa_id) for _, _, wa_id in phones],
        },
    )
    cursor.execute(
        _SQL["lower_created"], {"users": kept, "firsts": [client.first_us for client in clients]}
    )
    settled = sorted({change_id for client in clients for change_id in client.changes})
    cursor.execute(
        _SQL["note_settled"],
        {"settled": settled, "changes": [change.change_id for change in changes]},
    )
    for name in ("move_events", "move_opt_outs", "resolve_settled", "forget_settled"):
        cursor.execute(_SQL[name])


def _write_identities(
    cursor: psycopg.Cursor[Any],
    keys: _Keys,
    senders: list[SenderNode],
    changes: list[NumberChange],
    clients: list[Client],
) -> None:
    wa_ids = {sender.wa_id for sender in senders} | {change.new_wa_id for change in changes}
    cursor.execute(_SQL["delete_identities"], keys.parameters() | {"wa_ids": sorted(wa_ids - {""})})
    rows = [(item, _user_of(client)) for client in clients for item in client.identities]
    cursor.execute(
        _SQL["insert_identities"],
        {
            "kinds": [item.kind for item, _ in rows],
            "values": [item.value for item, _ in rows],
            "users": [user_id for _, user_id in rows],
            "froms": [item.from_us for item, _ in rows],
            "tos": [item.to_us for item, _ in rows],
        },
    )


def _user_of(client: Client) -> UUID:
    assert client.user_id is not None  # noqa: S101 - every client got one before this is asked
    return client.user_id
