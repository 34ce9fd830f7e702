"""The contract's own small promises: modes have an order, plans a hash, states a default content."""

import json
import shlex

import botocore.session
import pytest
from botocore import xform_name
from pydantic import JsonValue, ValidationError

from chalicelib.domain.contract import (
    Call,
    Declined,
    Mode,
    MonthlyCost,
    Params,
    Permission,
    Plan,
    Ref,
    State,
    _kebab,
    canonical,
    command_of,
    plan_hash,
)
from chalicelib.domain.control import Control, Status
from chalicelib.domain.finding import ARN_FORMS, ID_FORMS, Target, digest, is_id_of, partition_of

TARGET = Target(account="111111111111", region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-1")
CALL = Call(service="ec2", operation="RevokeSecurityGroupIngress", params={"GroupId": "sg-1"}, why="because")


class Ports(Params):
    ports: tuple[int, ...] = (22,)


class Bare(State):
    on: bool


def hashed(plan: Plan, target: Target = TARGET, params: Params | None = None, version: str = "1") -> str:
    return plan_hash(plan, target, params or Ports(), {"ec2-open-ssh": version})


@pytest.mark.parametrize(
    "cents, amount", [(None, "unknown"), (0, "US$ 0.00 a month"), (1205, "US$ 12.05 a month")]
)
def test_what_a_plan_costs_is_told_in_one_form(cents: int | None, amount: str) -> None:
    assert MonthlyCost(usd_cents=cents, basis="b").amount == amount


def test_modes_are_ordered_by_what_they_permit_and_not_by_their_spelling() -> None:
    assert sorted(Mode, key=lambda mode: mode.rank) == [Mode.OBSERVE, Mode.TICKET, Mode.ASK, Mode.ACT]
    assert min(Mode.ACT, Mode.ASK, Mode.TICKET) is Mode.TICKET
    assert max(Mode.ACT, Mode.TICKET) is Mode.ACT
    assert Mode.ACT > Mode.OBSERVE
    assert Mode.OBSERVE < Mode.ACT


def test_a_state_that_does_not_say_when_it_is_compliant_is_none() -> None:
    with pytest.raises(NotImplementedError):
        assert Bare(on=True).compliant
    assert Bare(on=True).content() == {"on": True}
    assert Bare(on=True).since is None, "time alone breaks nothing, unless a state says so"


def test_a_reference_is_hashed_as_the_reference_that_it_is() -> None:
    ref = Ref(call=0, path="SecurityGroupRules[0].SecurityGroupRuleId").as_param()
    later = Call(service="ec2", operation="X", params={"RuleId": ref}, why="w")
    assert "$ref" in later.identity
    assert hashed(Plan(calls=(CALL, later))) != hashed(Plan(calls=(CALL,)))


@pytest.mark.parametrize(
    "changed",
    [
        Plan(calls=(CALL.model_copy(update={"params": {"GroupId": "sg-2"}}),)),
        Plan(calls=(CALL.model_copy(update={"operation": "Other"}),)),
        Plan(calls=(CALL, CALL)),
        Plan(calls=(CALL,), depends_on={"rule": "sgr-1"}),
        Plan(calls=(CALL,), declined=(Declined(what="x", why="y"),)),
    ],
)
def test_whatever_a_person_approves_is_in_the_hash(changed: Plan) -> None:
    assert hashed(changed) != hashed(Plan(calls=(CALL,)))


def test_target_parameters_and_the_controls_version_are_in_the_hash() -> None:
    plan = Plan(calls=(CALL,))
    assert len({hashed(plan), hashed(plan, TARGET.model_copy(update={"id": "sg-2"})), hashed(plan, version="2"),
                hashed(plan, params=Ports(ports=(3389,)))}) == 4  # fmt: skip


def test_the_explanation_and_the_price_are_not_in_the_hash() -> None:
    explained = CALL.model_copy(update={"why": "in other words"})
    dear = Plan(calls=(explained,), monthly_cost=MonthlyCost(usd_cents=None, basis="unknown"))
    assert hashed(dear) == hashed(Plan(calls=(CALL,)))


def test_the_lowest_call_rules_the_plan_and_a_refusal_lowers_it_to_asking() -> None:
    asking = CALL.model_copy(update={"at_most": Mode.ASK})
    assert Plan(calls=(CALL,)).at_most is Mode.ACT
    assert Plan(calls=(CALL, asking)).at_most is Mode.ASK
    assert Plan(calls=(CALL,), declined=(Declined(what="x", why="y"),)).at_most is Mode.ASK
    assert Plan(declined=(Declined(what="x", why="y"),)).at_most is Mode.TICKET
    assert Plan().at_most is Mode.ACT
    assert Plan().satisfied
    assert not Plan(declined=(Declined(what="x", why="y"),)).satisfied, "a refusal is not success"


def command(params: dict[str, JsonValue], service: str = "ec2", target: Target = TARGET) -> list[str]:
    """The words of a call's command, as a shell reads them."""
    call = Call(service=service, operation="PutBucketACL", params=params, why="because")
    return shlex.split(command_of(call, target))


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "it's",
        '"; rm -rf / #',
        "$(reboot) `id` ${HOME}",
        "two\nlines",
        "b\u00fccher \u202e",
        "--profile",
        "\\",
        "{}",
    ],
)
def test_a_command_carries_any_name_as_itself_and_is_one_line_of_words(name: str) -> None:
    params: dict[str, JsonValue] = {"Bucket": name, "Grants": [{"To": name}]}
    *words, said = command(params)
    assert words == ["aws", "ec2", "put-bucket-acl", "--region", "eu-central-1", "--cli-input-json"]
    assert json.loads(said) == params
    assert "\n" not in said


def test_a_command_speaks_the_cli_s_language_and_names_no_region_where_there_is_none() -> None:
    user = Target(account="111111111111", region="global", type="AWS::IAM::User", id="ann")
    china = user.model_copy(update={"region": "aws-cn-global"})
    assert command({}, "s3") == ["aws", "s3api", "put-bucket-acl", "--region", "eu-central-1"]
    assert command({}, "config")[1] == "configservice"
    assert command({}, "iam", user) == command({}, "iam", china) == ["aws", "iam", "put-bucket-acl"]


def test_a_reference_stays_readable_in_a_command() -> None:
    ref = Ref(call=0, path="Key.Id").as_param()
    assert json.loads(command({"Key": ref})[-1]) == {"Key": {"$ref": {"call": 0, "path": "Key.Id"}}}


@pytest.mark.parametrize("service", ["ec2", "iam", "s3", "s3control", "rds", "kms", "cloudtrail", "config"])
def test_every_operation_is_spelled_as_the_aws_cli_spells_it(service: str) -> None:
    operations = botocore.session.Session().get_service_model(service).operation_names
    assert operations
    assert {name: _kebab(name) for name in operations} == {name: xform_name(name, "-") for name in operations}


def test_a_permission_is_cut_to_the_one_target() -> None:
    permission = Permission(
        "ec2:RevokeSecurityGroupIngress", "arn:{partition}:ec2:{region}:{account}:security-group/{id}"
    )
    assert (
        permission.for_target(TARGET)["Resource"]
        == "arn:aws:ec2:eu-central-1:111111111111:security-group/sg-1"
    )


def test_several_conditions_on_one_key_are_all_kept() -> None:
    condition = tuple(("StringEquals", "aws:RequestTag/a", value) for value in ("x", "y", "z"))
    said = Permission("ec2:X", "*", (*condition, ("StringEquals", "aws:RequestTag/b", "x"))).statement("*")
    assert said["Condition"] == {
        "StringEquals": {"aws:RequestTag/a": ["x", "y", "z"], "aws:RequestTag/b": "x"}
    }


def test_every_type_that_has_an_arn_has_a_form_for_its_ids() -> None:
    assert set(ID_FORMS) == set(ARN_FORMS)
    assert not is_id_of("AWS::Unknown::Thing", "x")


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": [1, True, None], "a": "é"}) == '{"a":"é","b":[1,true,null]}'


@pytest.mark.parametrize(
    "change",
    [
        {"account": "1234"},
        {"account": "\uff11" * 12},
        {"region": "nowhere"},
        {"type": "AWS::Unknown::Thing"},
        {"id": ""},
        {"id": "x" * 513},
        {"id": "sg-" + "0" * 65},
        {"id": "*"},
        {"id": "sg-*"},
        {"id": "sg-0123456789abcdef?"},
        {"id": "sg-1/../../*"},
        {"id": "${aws:PrincipalTag/x}"},
        {"id": "SG-1"},
        {"id": "sg-1\n"},
        {"id": "sg-\u0661"},
        {"type": "AWS::::Account", "id": "sg-1"},
        {"type": "AWS::::Account", "id": "\uff11" * 12},
    ],
)
def test_a_target_that_cannot_be_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Target.model_validate({**TARGET.model_dump(), **change})


@pytest.mark.parametrize(
    "region, partition",
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
    ],
)
def test_a_region_tells_its_partition(region: str, partition: str) -> None:
    assert partition_of(region) == partition


def test_a_digest_fits_a_session_name_and_keeps_its_parts_apart() -> None:
    assert len(digest("a", "b")) == 20
    assert digest("a", "b") == digest("a", "b")
    assert digest("ab", "") != digest("a", "b")


def control(**change: object) -> Control:
    entry = {
        "id": "some-control",
        "version": "1",
        "title": "A thing is so",
        "severity": "high",
        "resource": "AWS::::Account",
        "status": "stable",
        "ceiling": "act",
        "why": "because",
        "false_positives": ("none known",),
        "frameworks": {},
    }
    return Control.model_validate({**entry, **change}, strict=False)


def test_a_stable_control_names_its_false_positives() -> None:
    with pytest.raises(ValidationError, match="false positives"):
        control(false_positives=())
    assert control(false_positives=(), status="draft").most is Mode.OBSERVE


@pytest.mark.parametrize(
    "status, most",
    [
        (Status.DRAFT, Mode.OBSERVE),
        (Status.TRIAL, Mode.ASK),
        (Status.STABLE, Mode.ACT),
        (Status.RETIRED, Mode.OBSERVE),
    ],
)
def test_a_controls_status_caps_its_ceiling(status: Status, most: Mode) -> None:
    assert control(status=status).most is most
    assert control(status=status, ceiling="ticket").most is min(most, Mode.TICKET)
