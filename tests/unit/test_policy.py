"""Who is whom: a function of the records alone, in which every record has exactly one client."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.policy import (
    ALWAYS_FROM,
    ALWAYS_TO,
    Claim,
    Client,
    Held,
    Identity,
    KnownUser,
    NumberChange,
    Seen,
    SenderNode,
    divide,
    find_cuts,
)

A, B, C = "5511900000001", "5511900000002", "5511900000003"
FORM_OF_A = "551100000001"
X, Y, PARENT = "BR.1", "BR.2", "BR.ENT.9"


class Record(NamedTuple):
    """Somebody wrote at an instant; whose the record is in the database, if it is there."""

    phone: str
    at: int
    bsuid: str = ""
    parent_bsuid: str = ""
    wa_id: str = ""
    user_id: UUID | None = None


@dataclass
class Case:
    """What ``divide`` is asked, made of records as ``clients`` reads them."""

    records: Sequence[Record]
    changes: Sequence[NumberChange] = ()
    claims: Sequence[Claim] = ()
    users: Sequence[KnownUser] = ()
    senders: list[SenderNode] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        cuts = find_cuts(self.changes)
        numbers: dict[tuple[str, ...], int] = {}
        first: dict[tuple[int, int, UUID | None], int] = {}
        for record in self.records:
            node = (record.phone, record.wa_id or record.phone, record.bsuid, record.parent_bsuid)
            number = numbers.setdefault(node, len(numbers) + 1)
            part = bisect_left(cuts.get(record.phone, []), record.at)
            key = (number, part, record.user_id)
            first[key] = min(record.at, first.get(key, record.at))
        self.senders = [SenderNode(number, *node) for node, number in numbers.items()]
        self.seen = [Seen(number, part, at, user) for (number, part, user), at in first.items()]

    def clients(self) -> list[Client]:
        return divide(self.senders, self.changes, self.seen, self.claims, self.users)

    def client_of(self, clients: list[Client], record: Record) -> int:
        """The place of the only client that holds the sender of a record at its instant."""
        node = (record.phone, record.wa_id or record.phone, record.bsuid, record.parent_bsuid)
        (number,) = [sender.sender_id for sender in self.senders if sender[1:] == node]
        (place,) = [
            place
            for place, client in enumerate(clients)
            for held in client.senders
            if held.sender_id == number and held.from_us < record.at <= held.to_us
        ]
        return place


def number_change(
    at: int, old: str, new: str, *, moves: bool = True, old_bsuid: str = "", new_bsuid: str = ""
) -> NumberChange:
    return NumberChange(at, moves, old, old_bsuid, "", new, new, new_bsuid, "")


def user(number: int, *, is_client: bool = False, filled: int = 0, created: int = 0) -> KnownUser:
    return KnownUser(UUID(int=number), is_client, filled, created)


def told_apart(case: Case) -> list[set[int]]:
    """The records (by place) of each client, in order."""
    clients = case.clients()
    groups: dict[int, set[int]] = {}
    for place, record in enumerate(case.records):
        groups.setdefault(case.client_of(clients, record), set()).add(place)
    return sorted(groups.values(), key=min)


def normal(clients: list[Client]) -> list[Any]:
    """Clients without the order in which they and their parts come."""
    return sorted(
        repr(
            (
                client.user_id,
                client.merged,
                client.first_us,
                sorted(client.identities, key=repr),
                sorted(client.senders),
                sorted(client.phones),
                sorted(client.former),
            )
        )
        for client in clients
    )


# --- Number changes ----------------------------------------------------------------------------


def test_a_change_cuts_both_numbers_at_its_instant() -> None:
    changes = [number_change(5, A, B), number_change(9, B, C), number_change(5, C, A)]
    assert find_cuts(changes) == {A: [5], B: [5, 9], C: [5, 9]}


def test_what_moves_no_number_cuts_nothing() -> None:
    changes = [number_change(5, A, B, moves=False), number_change(5, "", "", old_bsuid=X)]
    assert find_cuts(changes) == {}


def test_a_number_change_makes_one_client_of_the_old_before_and_the_new_after() -> None:
    case = Case(
        [Record(A, 3), Record(A, 5), Record(B, 6), Record(A, 6), Record(B, 5)],
        [number_change(5, A, B)],
    )
    assert told_apart(case) == [{0, 1, 2}, {3}, {4}]


def test_a_number_of_before_ends_and_the_new_one_begins_with_the_change() -> None:
    moved = number_change(5, A, B)
    (client,) = Case([Record(A, 3), Record(B, 7)], [moved]).clients()
    assert sorted(client.identities) == [
        Identity("phone_key", A, 3, 5),
        Identity("phone_key", B, 5, None),
        Identity("wa_id", A, 3, 5),
        Identity("wa_id", B, 5, None),
    ]
    assert sorted(client.senders) == [Held(1, ALWAYS_FROM, 5), Held(2, 5, ALWAYS_TO)]
    assert (client.first_us, client.phones) == (3, [(5, B)])


def test_a_cycle_of_number_changes_comes_back_to_the_same_client() -> None:
    records = [
        Record(A, 1),
        Record(B, 1),
        Record(B, 15),
        Record(A, 15),
        Record(A, 25),
        Record(B, 25),
    ]
    case = Case(records, [number_change(10, A, B), number_change(20, B, A)])
    # Between the two somebody else has A; before and after them others have B.
    assert told_apart(case) == [{0, 2, 4}, {1}, {3}, {5}]


def test_a_cycle_through_three_numbers_comes_back_to_the_same_client() -> None:
    records = [Record(A, 5), Record(B, 15), Record(C, 25), Record(A, 35), Record(A, 15)]
    changes = [number_change(10, A, B), number_change(20, B, C), number_change(30, C, A)]
    assert told_apart(Case(records, changes)) == [{0, 1, 2, 3}, {4}]


def test_of_two_changes_of_one_instant_both_count() -> None:
    changes = [number_change(10, A, B), number_change(10, A, C)]
    case = Case([Record(A, 10), Record(B, 11), Record(C, 11), Record(A, 11)], changes)
    assert told_apart(case) == [{0, 1, 2}, {3}]
    (moved,) = [client for client in case.clients() if len(client.senders) == 3]
    assert sorted(moved.phones) == [(10, B), (10, C)]


def test_changes_of_one_instant_are_no_chain() -> None:
    """What B was until the instant is not who came to B at it."""
    changes = [number_change(10, A, B), number_change(10, B, C)]
    records = [Record(A, 9), Record(B, 9), Record(B, 11), Record(C, 11)]
    assert told_apart(Case(records, changes)) == [{0, 2}, {1, 3}]


def test_two_clients_who_exchange_numbers_stay_themselves() -> None:
    changes = [number_change(10, A, B), number_change(10, B, A)]
    records = [Record(A, 9), Record(B, 9), Record(A, 11), Record(B, 11)]
    case = Case(records, changes)
    assert told_apart(case) == [{0, 3}, {1, 2}]
    assert sorted(client.phones for client in case.clients()) == [[(10, A)], [(10, B)]]


def test_a_change_without_the_number_of_before_leads_by_the_user_id() -> None:
    case = Case(
        [Record("", 3, bsuid=X), Record(B, 9), Record(B, 2)],
        [number_change(5, "", B, old_bsuid=X)],
    )
    assert told_apart(case) == [{0, 1}, {2}]


def test_a_new_user_id_is_the_same_client_and_cuts_no_number() -> None:
    case = Case(
        [Record(A, 3, bsuid=X), Record("", 9, bsuid=Y), Record(A, 10), Record(A, 1)],
        [number_change(5, A, "", moves=False, old_bsuid=X, new_bsuid=Y)],
    )
    assert told_apart(case) == [{0, 1, 2, 3}]


def test_a_change_to_the_other_form_of_the_same_number_leaves_one_client() -> None:
    same = NumberChange(5, False, A, "", "", A, FORM_OF_A, "", "")
    case = Case([Record(A, 3), Record(A, 9, wa_id=FORM_OF_A)], [same])
    assert told_apart(case) == [{0, 1}]
    (client,) = case.clients()
    assert Identity("wa_id", FORM_OF_A, 5, None) in client.identities


def test_a_number_that_begins_with_a_change_taken_in_is_known_from_after_it() -> None:
    moved = number_change(5, A, B)._replace(is_settled=True)
    users = [user(1), user(2)]
    mine = [
        Claim(users[0].user_id, "phone_key", A, 5, 5),
        Claim(users[0].user_id, "phone_key", B, 5),
    ]
    before = Claim(users[1].user_id, "phone_key", B, 5, 5)
    records = [Record(A, 5), Record(B, 5), Record(B, 6)]
    clients = Case(records, [moved], [*mine, before], users).clients()
    assert [client.merged for client in clients] == [[], []]
    assert {c.user_id: sorted(c.senders) for c in clients} == {
        users[0].user_id: [Held(1, ALWAYS_FROM, 5), Held(2, 5, ALWAYS_TO)],
        users[1].user_id: [Held(2, ALWAYS_FROM, 5)],
    }


def test_a_number_that_begins_with_a_change_not_yet_taken_in_is_known_from_before_it() -> None:
    (known,) = users = [user(1)]
    claims = [Claim(known.user_id, "phone_key", A, 5)]
    clients = Case([Record(A, 5), Record(A, 6)], [number_change(5, A, B)], claims, users).clients()
    assert {c.user_id: sorted(c.senders) for c in clients} == {
        known.user_id: [Held(1, ALWAYS_FROM, 5)],
        None: [Held(1, 5, ALWAYS_TO)],
    }


def test_a_change_of_somebody_who_never_wrote_is_nobody() -> None:
    assert Case([], [number_change(5, A, B)]).clients() == []


# --- User ids ----------------------------------------------------------------------------------


def test_a_user_id_seen_with_two_phones_is_one_client() -> None:
    assert told_apart(Case([Record(A, 1, X), Record(B, 2, X), Record("", 3, X), Record(C, 1)])) == [
        {0, 1, 2},
        {3},
    ]


def test_the_user_id_of_a_parent_joins_like_any_other() -> None:
    case = Case([Record(A, 1, X, PARENT), Record(B, 2, Y, PARENT), Record("", 3, Y)])
    assert told_apart(case) == [{0, 1, 2}]


def test_two_thousand_senders_of_one_parent_are_one_client() -> None:
    many = [Record(f"55119{n:08}", n, f"BR.{n}", PARENT) for n in range(2_000)]
    (client,) = Case(many).clients()
    assert len(client.senders) == len(many)
    assert len(client.identities) == 3 * len(many) + 1


# --- Users -------------------------------------------------------------------------------------


def test_who_has_the_number_in_users_phone_has_it_now_and_not_before_a_change() -> None:
    known = user(1)
    case = Case(
        [Record(A, 3), Record(A, 9)],
        [number_change(5, A, B)],
        [Claim(known.user_id, "phone_key", A, ALWAYS_TO)],
        [known],
    )
    clients = case.clients()
    before, after = (clients[case.client_of(clients, record)] for record in case.records)
    assert (before.user_id, after.user_id) == (None, known.user_id)


def test_a_claim_of_the_past_is_of_the_part_in_which_it_began() -> None:
    known = user(1)
    for since_us, expected in ((3, [known.user_id, None]), (5, [known.user_id, None]), (6, None)):
        case = Case(
            [Record(A, 3), Record(A, 9)],
            [number_change(5, A, B)],
            [Claim(known.user_id, "phone_key", A, since_us)],
            [known],
        )
        clients = case.clients()
        found = [clients[case.client_of(clients, record)].user_id for record in case.records]
        assert found == (expected or [None, known.user_id])


def test_a_claim_of_who_is_no_known_user_counts_for_nothing() -> None:
    case = Case([Record(A, 3)], claims=[Claim(UUID(int=1), "phone_key", A, 3)])
    assert [client.user_id for client in case.clients()] == [None]


def test_a_user_who_claims_several_clients_stays_with_the_earliest_record() -> None:
    known = user(1)
    # Known as A since a number change told of it, before anything was said under it.
    claims = [Claim(known.user_id, "phone_key", A, 1), Claim(known.user_id, "phone_key", B, 4)]
    case = Case([Record(A, 9), Record(B, 4)], claims=claims, users=[known])
    clients = case.clients()
    assert clients[case.client_of(clients, case.records[1])].user_id == known.user_id
    assert clients[case.client_of(clients, case.records[0])].user_id is None


def test_a_user_without_a_record_stays_with_the_earliest_identity_of_a_client_that_wrote() -> None:
    known = user(1)
    claims = [
        Claim(known.user_id, "phone_key", C, 3),
        Claim(known.user_id, "phone_key", A, 4),
        Claim(known.user_id, "bsuid", Y, 5),
    ]
    changes = [
        number_change(5, A, "", moves=False, new_bsuid=X),
        number_change(5, B, "", moves=False, old_bsuid=Y),
    ]
    case = Case([Record("", 9, X), Record(B, 8)], changes, claims, [known])
    clients = case.clients()
    assert clients[case.client_of(clients, case.records[0])].user_id == known.user_id
    assert clients[case.client_of(clients, case.records[1])].user_id is None


def test_a_user_leaves_a_number_of_before_a_cut_under_which_it_said_nothing() -> None:
    """It was known by the number since a change that tells of whoever had it before the cut."""
    known = user(1)
    same = NumberChange(1, False, A, "", "", A, FORM_OF_A, "", "")
    claims = [Claim(known.user_id, "phone_key", A, 1)]
    mine, of_new = Record(A, 9, user_id=known.user_id), Record(B, 10)
    for records in ([mine], [mine, of_new]):
        case = Case(records, [same, number_change(5, A, B)], claims, [known])
        clients = case.clients()
        assert clients[case.client_of(clients, mine)].user_id == known.user_id
        assert len(clients) == len(records)
        assert [client.merged for client in clients] == [[]] * len(records)


# From the one that stays to the one that goes first.
WHO_STAYS = [
    user(9, is_client=True, filled=0, created=9),
    user(8, filled=3, created=9),
    user(7, filled=2, created=1),
    user(5, filled=2, created=2),
    user(6, filled=2, created=2),
    user(1, filled=0, created=0),
]


def test_the_user_that_the_chatbot_knows_most_of_stays_then_the_earlier() -> None:
    for stays, goes in combinations(WHO_STAYS, 2):
        claims = [
            Claim(stays.user_id, "phone_key", B, 2),
            Claim(goes.user_id, "phone_key", A, 1),
        ]
        for users in ([stays, goes], [goes, stays]):
            case = Case([Record(A, 1, X), Record(B, 2, X)], claims=claims, users=users)
            (client,) = case.clients()
            assert (client.user_id, client.merged) == (stays.user_id, [goes.user_id])
            assert client.former == {stays.user_id, goes.user_id}


def test_of_many_users_all_others_become_part_of_the_one_that_stays() -> None:
    claims = [
        Claim(known.user_id, "bsuid", f"BR.{number}", number)
        for number, known in enumerate(WHO_STAYS)
    ]
    records = [Record(A, number, f"BR.{number}") for number in range(len(WHO_STAYS))]
    (client,) = Case(records, claims=claims, users=WHO_STAYS[::-1]).clients()
    assert [client.user_id, *client.merged] == [known.user_id for known in WHO_STAYS]


# --- Any records -------------------------------------------------------------------------------

_PHONES, _BSUIDS = st.sampled_from([A, B, C]), st.sampled_from(["", "", X, Y])
_INSTANTS = st.integers(1, 12)
_USERS = [user(number, is_client=number == 3, created=number) for number in range(1, 4)]
_USER_IDS = st.sampled_from([known.user_id for known in _USERS])
_RECORDS = st.builds(
    Record,
    phone=_PHONES | st.just(""),
    at=_INSTANTS,
    bsuid=_BSUIDS,
    parent_bsuid=st.sampled_from(["", "", "", PARENT]),
    wa_id=st.just(""),
    user_id=st.none() | _USER_IDS,
).filter(lambda record: bool(record.phone or record.bsuid or record.parent_bsuid))
_CHANGES = st.builds(
    number_change,
    at=_INSTANTS,
    old=_PHONES | st.just(""),
    new=_PHONES,
    moves=st.booleans(),
    old_bsuid=_BSUIDS,
    new_bsuid=_BSUIDS,
).filter(lambda change: change.old_phone_key != change.new_phone_key)
_CLAIMS = st.builds(
    Claim, _USER_IDS, st.just("phone_key"), _PHONES, _INSTANTS | st.just(ALWAYS_TO)
) | st.builds(Claim, _USER_IDS, st.just("bsuid"), st.sampled_from([X, Y]), _INSTANTS)
_CASES = st.builds(
    Case,
    records=st.lists(_RECORDS, min_size=1, max_size=8),
    changes=st.lists(_CHANGES, max_size=4),
    claims=st.lists(_CLAIMS, max_size=4),
    users=st.just(_USERS),
)


@given(_CASES, st.randoms(use_true_random=False))
def test_the_order_of_what_comes_in_leaves_no_trace(case: Case, chance: Any) -> None:
    mixed = [
        chance.sample(list(part), len(part))
        for part in (case.senders, case.changes, case.seen, case.claims, case.users)
    ]
    assert normal(divide(*mixed)) == normal(case.clients())


@given(_CASES)
def test_every_record_has_exactly_one_client_which_holds_whole_parts(case: Case) -> None:
    clients = case.clients()
    for record in case.records:
        case.client_of(clients, record)  # raises where there is none, or more than one
    cuts = find_cuts(case.changes)
    phone_of = {sender.sender_id: sender.phone_key for sender in case.senders}
    spans = Counter(
        (held.sender_id, held.from_us, held.to_us) for client in clients for held in client.senders
    )
    instants = {number: cuts.get(phone, []) for number, phone in phone_of.items()}
    parts = {
        (number, *span)
        for number, of_phone in instants.items()
        for span in pairwise([ALWAYS_FROM, *of_phone, ALWAYS_TO])
    }
    assert set(spans) <= parts
    assert set(spans.values()) == {1}


@given(_CASES)
def test_records_that_share_a_user_id_or_a_phone_at_one_time_are_one_client(case: Case) -> None:
    clients = case.clients()
    cuts = find_cuts(case.changes)
    for one, other in combinations(case.records, 2):
        is_same_phone = one.phone == other.phone != "" and (
            bisect_left(cuts.get(one.phone, []), one.at)
            == bisect_left(cuts.get(one.phone, []), other.at)
        )
        if (
            is_same_phone
            or one.bsuid == other.bsuid != ""
            or one.parent_bsuid == other.parent_bsuid != ""
        ):
            assert case.client_of(clients, one) == case.client_of(clients, other)


@given(_CASES)
def test_an_identity_is_one_clients_at_a_time_and_a_user_is_one_client(case: Case) -> None:
    clients = case.clients()
    spans: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for client in clients:
        for item in client.identities:
            to_us = float("inf") if item.to_us is None else item.to_us
            spans.setdefault((item.kind, item.value), []).append((item.from_us, to_us))
    for of_identity in spans.values():
        of_identity.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(of_identity))
    users = Counter(
        user_id
        for client in clients
        for user_id in [client.user_id, *client.merged]
        if user_id is not None
    )
    assert set(users) == {claim.user_id for claim in case.claims}
    assert set(users.values()) <= {1}
