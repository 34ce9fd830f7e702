"""The fakes are what other tests take them for: the accounts on moto, and the faults at every port call."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Plan
from chalicelib.domain.errors import (
    AccessDeniedError,
    ConflictError,
    GuardError,
    StoreError,
    UndeclaredCallError,
)
from chalicelib.domain.ports import AnswerChange, Change
from tests.adapters.samples import (
    CONTROL,
    ENCRYPT,
    MEMBER,
    SAMPLE,
    answer,
    baseline,
    case,
    completed,
    deployment_role,
    exemption,
    owner,
    question,
    records,
    revoke,
    sweep,
    target,
    ticket,
    waiting,
)
from tests.fakes.aws import FakeAws
from tests.fakes.cases import HOME, FakeCases, Item
from tests.fakes.faults import Crash, Faults, Kind

SESSION = "redress-abcdefghijklmnopqrst-1-1"


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


def test_the_regions_are_those_that_a_test_switched_on(aws: None) -> None:
    fake = FakeAws()
    assert fake.regions(HOME) == ("eu-central-1", "us-east-1")
    fake.switched_on = ("us-east-1", "ap-east-1")
    assert fake.regions(MEMBER) == ("ap-east-1", "us-east-1")
    assert [(one.account, one.operation) for one in fake.reads] == [
        (HOME, "DescribeRegions"),
        (MEMBER, "DescribeRegions"),
    ]


def test_a_test_may_arrange_any_bucket_and_the_engine_only_its_targets(aws: None) -> None:
    fake = FakeAws()
    fake.do("s3", "create_bucket", Bucket="ours")
    fake.do("s3", "get_bucket_location", Bucket="ours")
    reader = fake.reader(SAMPLE, target(region="us-east-1"))
    with pytest.raises(GuardError, match="owner"):
        reader.read("s3", "HeadBucket", Bucket="ours")
    reader.read("s3", "HeadBucket", Bucket="ours", ExpectedBucketOwner=HOME)


def test_the_fake_refuses_what_the_real_one_refuses(aws: None) -> None:
    fake = FakeAws()
    with pytest.raises(UndeclaredCallError):
        fake.reader(SAMPLE, target()).read("ec2", "DescribeInstances")
    with pytest.raises(UndeclaredCallError):
        fake.executor(SAMPLE, target(), Plan(calls=(ENCRYPT,)), SESSION, undo=True)
    assert fake.operations == []


# --------------------------------------------------------------------------------------------------------------- store


def test_what_a_test_set_is_what_the_engine_reads_and_a_test_sees(aws: None) -> None:
    fake = FakeCases()
    fake.set(exemption(), deployment_role(), owner(), sweep(3), baseline(), ticket())

    gate = fake.look(question(role_arn=deployment_role().role_arn))

    assert (gate.exemptions, gate.deployment_role, gate.owner) == ((exemption(),), deployment_role(), owner())
    assert (fake.exemptions, fake.sweeps, fake.baselines) == ((exemption(),), (sweep(3),), (baseline(),))
    assert fake.tickets == (ticket(),)
    assert fake.swept(HOME, (CONTROL,)).sweep == sweep(3)
    fake.keep(completed(4))
    assert fake.sweeps == (completed(4).sweep,)


def test_a_test_sees_what_was_answered_without_a_call() -> None:
    fake = FakeCases()
    fake.commit(Change(case=waiting()))
    assert fake.answers_of(waiting()) is None
    fake.answer(answer())
    assert fake.answers_of(waiting()) == fake.answers_of(waiting(), 1) == answer().answers
    assert fake.answers_of(waiting(), 2) is None
    assert fake.calls == ["commit", "answer"]


class Slow(dict[tuple[str, ...], Item]):
    """Items that take a while to be looked up, so that every other thread gets its turn meanwhile."""

    def get(self, name: tuple[str, ...], default: Any = None) -> Any:
        found = super().get(name, default)
        time.sleep(0.005)
        return found


def test_the_fake_takes_one_call_after_the_other_whoever_makes_it() -> None:
    fake = FakeCases()
    fake.commit(Change(case=waiting()))
    fake.items = Slow(fake.items)
    changes, ready = [answer(by=str(number)) for number in range(10)], Barrier(10)

    def say(change: AnswerChange) -> bool:
        ready.wait()
        try:
            fake.answer(change)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(say, changes)) == 1
    assert len(fake.records) == len(fake.notices) == 1


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
    accounts.regions(HOME)
    store.swept(HOME, (CONTROL,))
    list(store.in_state(CaseState.OPEN))
    store.answers("case-1", 1)
    store.bodies("case-1")
    store.keep(completed(1, record=None))


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
    "ec2.DescribeRegions",
    "cases.swept",
    "cases.in_state",
    "cases.answers",
    "cases.bodies",
    "cases.keep",
]


def effects(cases: FakeCases, aws: FakeAws) -> tuple[bool, ...]:
    """Whether the case was committed, the write made, the note written, the sweep kept."""
    return bool(cases.cases), bool(aws.writes), bool(cases.records), bool(cases.sweeps)


def test_without_a_fault_every_call_goes_through_and_is_counted(aws: None) -> None:
    faults, cases, accounts = Faults(), FakeCases(), FakeAws()
    life(faults, cases, accounts)
    assert faults.seen == NAMES
    assert faults.hit is None
    assert effects(cases, accounts) == (True, True, True, True)
    assert [f"cases.{call}" for call in cases.calls] == [name for name in NAMES if name.startswith("cases.")]


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
    assert effects(cases, accounts) == (done >= 6, done >= 8, done >= 9, done >= 15)


def test_a_crash_is_nothing_that_code_can_swallow() -> None:
    assert not issubclass(Crash, Exception)
    do: Callable[[], None] = lambda: None  # noqa: E731 -- the least that can be done
    with pytest.raises(Crash):
        Faults(1).through("cases.look", do)
