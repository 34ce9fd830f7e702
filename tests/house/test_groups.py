"""Tests that share something costly stay on one worker."""

import pytest


@pytest.mark.xdist_group("together")
def test_a_group_of_tests_reaches_its_worker_where_groups_are_asked_for(
    request: pytest.FixtureRequest,
) -> None:
    """pytest 9.2 with pytest-xdist 3.8 loses it without a word (github.com/pytest-dev/pytest-xdist/issues/1386)."""
    asked_for = getattr(request.config.option, "loadgroup", False)  # xdist sets it in its workers alone
    assert request.node.nodeid.endswith("@together") is asked_for
