"""The fakes are what other tests take them for: the accounts on moto, and the faults at every port call."""

from collections.abc import Callable

import pytest

from chalicelib.domain.contract import Plan
from chalicelib.domain.errors import AccessDeniedError, StoreError, UndeclaredCallError
from chalicelib.domain.ports import Aws, Cases, Change, Clock, Settings
from tests.adapters.samples import ENCRYPT, MEMBER, SAMPLE, case, question, records, revoke, target
from tests.fakes.aws import FakeAws
from tests.fakes.cases import HOME, FakeCases
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Crash, Faults, Kind

SESSION = "redress-abcdefghijklmnopqrst-1-1"


def test_the_fakes_are_the_ports() -> None:
    cases, aws, clock = FakeCases(), FakeAws(), FakeClock()
    ports: tuple[Cases, Settings, Aws, Clock] = cases, cases, aws, clock
    assert all(ports)


# ------------------------------------------------------------------------------------------------------------ accounts


def test_accounts_and_regions_lie_side_by_side(aws: None) -> None:
    fake = FakeAws()
    for account, region in ((HOME, "eu-west-1"), (MEMBER, "us-east-1")):
        fake.do("ec2", "enable_ebs_encryption_by_default", account=account, region=region)
    seen = {
        (account, region): fake.reader(SAMPLE, target(account=account, region=region)).read(
            "ec2", "GetEbsEncryptionByDefault"
        )["EbsEncryptionByDefault"]
        for account in (HOME, MEMBER)
        for region in ("eu-west-1", "us-east-1")
    }
    assert {where for where, on in seen.items() if on} == {(HOME, "eu-west-1"), (MEMBER, "us-east-1")}


def test_every_operation_is_remembered_by_who_made_it(aws: None) -> None:
    fake = FakeAws()
    made = fake.do("ec2", "create_security_group", region="eu-west-1", GroupName="g", Description="d")[
        "GroupId"
    ]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    opened = fake.do(
        "ec2", "authorize_security_group_ingress", region="eu-west-1", GroupId=made, IpPermissions=[rule]
    )
    (rule_id,) = (one["SecurityGroupRuleId"] for one in opened["SecurityGroupRules"])
    of = target(made)
    plan = Plan(calls=(revoke(of, rule_id),))

    fake.executor(SAMPLE, of, plan, SESSION).perform(plan.calls[0], "token", ())

    assert SAMPLE.assess(of, SAMPLE.params(), fake.reader(SAMPLE, of)).compliant
    (write,) = fake.writes
    assert (write.session, write.account, write.region) == (SESSION, HOME, "eu-west-1")
    assert (write.service, write.operation) == ("ec2", "RevokeSecurityGroupIngress")
    assert write.params == {"GroupId": made, "SecurityGroupRuleIds": [rule_id]}
    assert [one.operation for one in fake.reads] == ["DescribeSecurityGroupRules"]
    assert len(fake.operations) == 4
    assert made in fake.policies[0]


def test_the_default_key_is_told_set_and_reset(aws: None) -> None:
    fake = FakeAws()
    here = target()

    def key() -> str:
        told: str = fake.reader(SAMPLE, here).read("ec2", "GetEbsDefaultKmsKeyId")["KmsKeyId"]
        return told

    assert key() == "alias/aws/ebs"
    made = fake.do("kms", "create_key", region="eu-west-1")["KeyMetadata"]["Arn"]
    fake.do("ec2", "modify_ebs_default_kms_key_id", region="eu-west-1", KmsKeyId=made)
    assert key() == made
    assert fake.reads[-1].operation == "GetEbsDefaultKmsKeyId"
    fake.do("ec2", "reset_ebs_default_kms_key_id", region="eu-west-1")
    assert key() == "alias/aws/ebs"


def test_the_fake_refuses_what_the_real_one_refuses(aws: None) -> None:
    fake = FakeAws()
    with pytest.raises(UndeclaredCallError):
        fake.reader(SAMPLE, target()).read("ec2", "DescribeInstances")
    with pytest.raises(UndeclaredCallError):
        fake.executor(SAMPLE, target(), Plan(calls=(ENCRYPT,)), SESSION, undo=True)
    assert fake.operations == []


# -------------------------------------------------------------------------------------------------------------- faults


def life(faults: Faults, cases: FakeCases, aws: FakeAws) -> None:
    """One pass through every kind of port call."""
    store, accounts = faults.cases(cases), faults.aws(aws)
    store.look(question())
    store.case("digest", 1)
    store.guard(("ALL",), HOME)
    accounts.reader(SAMPLE, target()).read("ec2", "DescribeVpcs")
    accounts.reader(SAMPLE, target()).pages("ec2", "DescribeSecurityGroups", "SecurityGroups")
    store.commit(Change(case=case()))
    accounts.executor(SAMPLE, target(), Plan(calls=(ENCRYPT,)), SESSION).perform(ENCRYPT, "t", ())
    store.note(records("EVENT#1")[0])


NAMES = [
    "cases.look",
    "cases.case",
    "cases.guard",
    "ec2.DescribeVpcs",
    "ec2.DescribeSecurityGroups",
    "cases.commit",
    "sts.AssumeRole",
    "ec2.EnableEbsEncryptionByDefault",
    "cases.note",
]


def effects(cases: FakeCases, aws: FakeAws) -> tuple[bool, bool, bool]:
    """Whether the case was committed, the write made, the note written."""
    return bool(cases.cases), bool(aws.writes), bool(cases.records)


def test_without_a_fault_every_call_goes_through_and_is_counted(aws: None) -> None:
    faults, cases, accounts = Faults(), FakeCases(), FakeAws()
    life(faults, cases, accounts)
    assert faults.seen == NAMES
    assert faults.hit is None
    assert effects(cases, accounts) == (True, True, True)
    assert cases.calls == ["look", "case", "guard", "commit", "note"]


@pytest.mark.parametrize("at", range(1, len(NAMES) + 1))
@pytest.mark.parametrize("kind", list(Kind))
def test_a_fault_hits_the_call_that_it_is_meant_for(at: int, kind: Kind, aws: None) -> None:
    faults, cases, accounts = Faults(at, kind), FakeCases(), FakeAws()
    ours = NAMES[at - 1].startswith("cases.")
    denied: type[BaseException] = StoreError if ours else AccessDeniedError

    with pytest.raises(denied if kind is Kind.DENIED else Crash, match=NAMES[at - 1].split(".")[1]):
        life(faults, cases, accounts)

    assert faults.seen == NAMES[:at]
    assert faults.hit == NAMES[at - 1]
    done = at if kind is Kind.AFTER else at - 1
    assert effects(cases, accounts) == (done >= 6, done >= 8, done >= 9)


def test_a_crash_is_nothing_that_code_can_swallow() -> None:
    assert not issubclass(Crash, Exception)
    do: Callable[[], None] = lambda: None  # noqa: E731 -- the least that can be done
    with pytest.raises(Crash):
        Faults(1).through("cases.look", do)
