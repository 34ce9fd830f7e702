"""What an attacker once got, and gets no more."""

from datetime import timedelta

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.ports import Exemption
from tests.attack.ground import EBS, GROUP, SSH, Ground
from tests.fakes.clock import START
from tests.fakes.house import ACCOUNT, REGION, house, scenario_of


@pytest.mark.parametrize("port", ["--22", "²²", "9" * 5000], ids=["two signs", "superscript", "endless"])
def test_a_port_that_is_no_number_counts_as_every_port(port: str) -> None:
    ground = Ground()
    event = ground.attack(Mode.ASK)
    event["detail"]["responseElements"]["securityGroupRuleSet"]["items"][0]["fromPort"] = port
    assert {walked.verdict for walked in ground.walks(event)} == {"ask", "ignore"}, "SSH, and RDP as well"


def test_an_alias_of_a_group_is_no_way_around_its_exemption() -> None:
    """EC2's filters take wildcards, so `sg-0123*` reads the exempt group under a name that has no exemption."""
    ground = Ground()
    ground.raise_to(Mode.ACT, SSH)
    ground.cases.set(
        Exemption(
            account=ACCOUNT,
            control=SSH,
            resource=f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{GROUP}",
            owner="web team",
            code="accepted_risk",
            reason="a honeypot",
            by="olga",
            at=START,
            expires_at=START + timedelta(days=1),
        )
    )
    (walked,) = ground.walks(ground.event((22, ground.ec2.open(22)), group=GROUP[:-1] + "*"))
    assert walked.verdict == "not_ours"
    assert ground.ec2.asked == []


def test_switching_off_what_was_off_already_created_nothing() -> None:
    """DisableEbsEncryptionByDefault succeeds where it was off for years; the first look must not change that."""
    with house() as built:
        scenario = scenario_of("ec2_enable_ebs_encryption_by_default")
        target, opened = scenario.violate(built.session)
        seen = built.walk(scenario.event(target, opened, built.clock.now()))
        assert seen.verdict == "observe"
        built.clock.advance(timedelta(days=400))
        built.raise_to(Mode.ACT, EBS)
        again = scenario.event(target, opened, built.clock.now())
        again["detail"]["eventID"] = "disabled-once-more"
        assert built.walk(again).verdict == "ask"
