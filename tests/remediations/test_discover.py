"""The registry refuses what does not keep the promise of its file name."""

import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from chalicelib.catalog import load
from chalicelib.domain.contract import AnyRemediation
from chalicelib.domain.errors import ContractError
from remediations import discover, registry


def module(name: str, remediation: AnyRemediation | None = None) -> ModuleType:
    made = ModuleType(f"remediations.{name}")
    if remediation:
        made.__dict__["REMEDIATION"] = remediation
    return made


@pytest.fixture
def one() -> AnyRemediation:
    return discover()[0]


def test_every_file_is_found_in_the_order_of_ids() -> None:
    ids = [remediation.id for remediation in discover()]
    assert ids == [
        "ec2_enable_ebs_encryption_by_default",
        "ec2_revoke_open_ingress",
        "iam_deactivate_access_key",
        "iam_remove_root_access_key",
        "s3_block_public_access",
    ]


def test_the_controls_of_one_remediation_are_equally_severe() -> None:
    """They are asked about together, at the worst's severity: no second control may lead to a rule for other severities."""
    severity_of = {control.id: control.severity for control in load().controls}
    for remediation in discover():
        assert len({severity_of[name] for name in remediation.controls}) == 1, remediation.id


def test_a_file_without_a_remediation_is_refused() -> None:
    with pytest.raises(ContractError, match=r"s3_block\.py has no REMEDIATION"):
        registry([module("s3_block")])


def test_a_remediation_is_named_like_its_file(one: AnyRemediation) -> None:
    with pytest.raises(ContractError, match="id and file name are one"):
        registry([module("s3_block", one)])


def test_a_remediation_is_there_once(one: AnyRemediation) -> None:
    with pytest.raises(ContractError, match="there twice"):
        registry([module(one.id, one), module(one.id, one)])


def test_a_control_has_one_remediation(one: AnyRemediation) -> None:
    other = replace(one, id="s3_block")
    with pytest.raises(ContractError, match=f"{one.controls[0]} is claimed by {one.id} and by s3_block"):
        registry([module(one.id, one), module("s3_block", other)])


def test_discovering_loads_nothing_that_talks_to_aws() -> None:
    script = "import sys, remediations; remediations.discover(); print(int('botocore' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
