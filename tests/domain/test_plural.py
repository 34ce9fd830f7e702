"""A count and the words that fit it."""

import pytest

from chalicelib.domain.plural import so_many


@pytest.mark.parametrize("count, says", [(0, "0 wait"), (1, "1 waits"), (2, "2 wait")])
def test_one_is_said_otherwise_than_none_and_several(count: int, says: str) -> None:
    assert so_many(count, "waits", "wait") == says
