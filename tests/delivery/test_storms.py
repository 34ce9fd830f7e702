"""Storms as values: which window, card or digest, when the digest is edited, and by whom the last edit is made."""

from datetime import timedelta

import pytest

from chalicelib.delivery.storms import (
    CARDS,
    EDITED_EVERY,
    WINDOW,
    behind,
    edited,
    follow_up,
    joined,
    list_path,
    raised,
    storm_of,
    too_early,
)
from tests.fakes.clock import START

FRESH = storm_of("C0000001", "a-control", "111111111111", START, asks=True)


@pytest.mark.parametrize(
    "channel, control, account, later, same",
    [
        ("C0000001", "a-control", "111111111111", timedelta(), True),
        ("C0000001", "a-control", "111111111111", WINDOW - timedelta(microseconds=1), True),
        ("C0000001", "a-control", "111111111111", WINDOW, False),
        ("C0000001", "a-control", "111111111111", timedelta(microseconds=-1), False),
        ("C0000002", "a-control", "111111111111", timedelta(), False),
        ("C0000001", "b-control", "111111111111", timedelta(), False),
        ("C0000001", "a-control", "222222222222", timedelta(), False),
    ],
)
def test_a_storm_is_of_one_channel_control_account_and_window(
    channel: str, control: str, account: str, later: timedelta, same: bool
) -> None:
    other = storm_of(channel, control, account, START + later, asks=True)
    assert (other.id == FRESH.id) is same
    assert other.version == 0
    assert other.began_at <= START + later < other.began_at + WINDOW


def test_the_first_are_cards_and_the_others_stand_behind_the_digest() -> None:
    storm = FRESH
    for number in range(10):
        storm = joined(storm, f"case-{number}")
        assert storm.version == number + 1
        assert behind(storm) is (number >= CARDS)
    assert storm.cards == ("case-0", "case-1", "case-2")
    assert storm.more == 7


def test_a_digest_is_behind_until_an_edit_shows_all_of_it() -> None:
    storm = raised(FRESH, more=4, settled=1)
    shown = edited(storm, "1.0", START)
    assert (shown.ts, shown.edited_at, shown.version) == ("1.0", START, storm.version + 1)
    assert not behind(shown)
    assert behind(raised(shown, settled=2))
    assert behind(raised(shown, more=5))


def test_edits_keep_a_distance_and_one_message_follows_for_all_who_come_between() -> None:
    assert too_early(FRESH, START) == 0
    storm = edited(raised(FRESH, more=1), "1.0", START)
    assert too_early(storm, START) == 10
    assert too_early(storm, START + EDITED_EVERY - timedelta(microseconds=1)) == 1
    assert too_early(storm, START + EDITED_EVERY) == 0
    assert too_early(storm, START - timedelta(hours=8)) == 0  # what a fast clock noted holds nobody back
    follow = follow_up(raised(storm, more=2))
    assert follow == follow_up(raised(storm, more=9, settled=3))
    assert follow != follow_up(edited(raised(storm, more=2), "1.0", START + EDITED_EVERY))
    assert follow.destination.key == "slack:C0000001"


def test_the_list_is_a_link_whatever_a_control_is_called() -> None:
    odd = FRESH.model_copy(update={"control": "a&b=c #d"})
    assert list_path(odd) == "/approvals?control=a%26b%3Dc+%23d&account=111111111111"
    assert list_path(odd.model_copy(update={"asks": False})).startswith("/log?control=a%26b%3Dc+%23d&")


def test_asks_and_what_nobody_was_asked_about_are_storms_of_their_own() -> None:
    other = storm_of("C0000001", "a-control", "111111111111", START, asks=False)
    assert other.id != FRESH.id
    assert (FRESH.asks, other.asks) == (True, False)
