"""Message ids repeat for the same provider id and key, and for nothing else."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.inbound.ids import MessageIds, as_uuid8, draw_uuids

KEY = b"obviously-no-production-key"
IDS = MessageIds(KEY)


def test_ids_of_a_known_provider_id_never_change() -> None:
    # A change here would load every message a second time.
    assert IDS.of_wamid("wamid.1") == "00760b9ca70b8100be5dd85ef82721ff"


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_provider_ids_meet_only_where_they_are_equal(one: str, other: str) -> None:
    assert (IDS.of_wamid(one) == IDS.of_wamid(other)) == (one == other)


@given(st.text(max_size=40))
def test_a_message_known_by_its_key_has_the_id_of_its_provider_id(wamid: str) -> None:
    assert IDS.of_key(f"wamid:{wamid}") == IDS.of_wamid(wamid)
    assert IDS.of_key(f"chatbot:{wamid}") != IDS.of_wamid(wamid)


def test_drawn_ids_are_random_uuids_of_version_4() -> None:
    drawn = list(draw_uuids(300))
    assert len(set(drawn)) == 300
    assert {(UUID(one).version, UUID(one).variant) for one in drawn} == {(4, RFC_4122)}
    assert {UUID(one).hex for one in drawn} == set(drawn)
    assert not list(draw_uuids(0))


@given(st.text(max_size=40))
def test_an_id_is_a_uuid_of_version_8_that_does_not_hold_the_provider_id(wamid: str) -> None:
    made = UUID(IDS.of_wamid(wamid))
    assert (made.version, made.variant) == (8, RFC_4122)
    assert made.hex == IDS.of_wamid(wamid)


def test_only_version_and_variant_bits_of_the_digest_are_lost() -> None:
    digest = "0123456789abcdef0123456789abcdef"
    assert as_uuid8(digest) == "0123456789ab8def8123456789abcdef"
    assert as_uuid8("f" * 32) == "ffffffffffff8fffbfffffffffffffff"


def test_another_key_gives_other_ids_and_another_fingerprint() -> None:
    other = MessageIds(KEY + b"!")
    assert other.of_wamid("wamid.1") != IDS.of_wamid("wamid.1")
    assert other.fingerprint() != IDS.fingerprint()


def test_the_same_bytes_have_different_ids_for_different_purposes() -> None:
    made = {IDS.of_bytes(purpose, b"x") for purpose in ("wamid", "quarantine", "batch")}
    assert len(made | {IDS.fingerprint()}) == 4


def test_a_digest_fed_in_pieces_is_that_of_the_whole() -> None:
    digest = IDS.digest("batch")
    digest.update(b"one ")
    digest.update(b"two")
    assert as_uuid8(digest.hexdigest()) == IDS.of_bytes("batch", b"one two")


@pytest.mark.parametrize("key", [None, b""])
def test_without_a_key_the_variable_and_the_flows_that_need_it_are_named(
    key: bytes | None,
) -> None:
    with pytest.raises(ConfigurationError, match=r"GATTE_ID_KEY.*inbound_messages"):
        MessageIds(key)
