"""The zip as it would be uploaded, dependencies and all, deploys and repairs."""

import pytest

from local.demo import closes, only_observes
from local.stage import Stage


@pytest.mark.emulator
@pytest.mark.package
def test_the_whole_zip_deploys_and_plays_the_first_scenes() -> None:
    told: list[str] = []
    with Stage(with_dependencies=True) as stage:
        rows = [only_observes(stage, told.append), closes(stage, told.append)]
    assert [(row.scene, row.ended_well) for row in rows] == [
        ("0 fresh deployment", True),
        ("1 open SSH", True),
    ]
