"""What was tried and did not work; each would fail if it began to."""

import hashlib
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.door import ITEM_BYTES
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import MalformedEventError, RedressError, RefusedCommandError
from chalicelib.domain.record import broken_at
from chalicelib.flow import intake
from chalicelib.flow.command import COMMAND, carry_out
from chalicelib.flow.desk import caller
from tests.attack.ground import GROUP, RDP, SSH, WORLD, Ground, as_ours
from tests.fakes.house import ACCOUNT, REGION


@pytest.fixture
def ground() -> Ground:
    return Ground()


def untouched(ground: Ground) -> None:
    assert ground.ec2.effects == []
    ground.whole()


# -- acting on what the event did not create ---------------------------------------------------------------------------------


def test_an_event_that_names_a_rule_of_another_group_closes_nothing_there(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH)
    foreign = ground.ec2.open(22, group="sg-0ffffffffffffffff")
    ground.ec2.open(22)
    assert ground.walk(ground.event((22, foreign))).verdict == "ask"
    untouched(ground)


@pytest.mark.parametrize("hours", [-2, -30, 2, 24 * 400])
def test_no_time_but_the_last_hour_lets_an_event_act(ground: Ground, hours: int) -> None:
    event = ground.attack()
    event["detail"]["eventTime"] = (ground.clock.now() + timedelta(hours=hours)).isoformat()
    assert ground.walk(event).verdict == "ask"
    untouched(ground)


@pytest.mark.parametrize(
    "time", ["", "yesterday", None, 0, "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-23:59"]
)
def test_an_event_without_a_time_that_can_be_read_is_an_old_one(ground: Ground, time: object) -> None:
    event = ground.attack()
    event["detail"]["eventTime"] = event["time"] = time
    assert ground.walk(event).verdict == "ask"
    untouched(ground)


def test_an_old_event_does_not_ride_on_a_fresh_one(ground: Ground) -> None:
    """The old rule stays out of what may be closed when a fresh event joins its case."""
    old = ground.event((22, ground.ec2.open(22, "1.2.3.4/0")))
    ground.raise_to(Mode.ASK, SSH)
    ground.walk(old)
    ground.clock.advance(timedelta(minutes=61))
    ground.raise_to(Mode.ACT, SSH)
    assert ground.walk(ground.event((22, ground.ec2.open(22)), event_id="event-2")).verdict == "ask"
    untouched(ground)


def test_a_rule_for_more_than_the_port_is_only_asked_about_however_it_is_made_up(ground: Ground) -> None:
    for number, rule in enumerate((
        ground.ec2.open(22, to=23), ground.ec2.open(22, IpProtocol="-1"), ground.ec2.open(22, IpProtocol="6", to=65535),
    )):  # fmt: skip
        ground.raise_to(Mode.ACT, SSH)
        assert ground.walk(ground.event((22, rule), event_id=f"event-{number}")).verdict == "ask"
    untouched(ground)


@pytest.mark.parametrize(
    "lie",
    [
        {"recipientAccountId": "222222222222"},
        {"awsRegion": "us-east-1"},
        {"awsRegion": "eu-central-1 "},
        {"awsRegion": "eu-central-1/../us-east-1"},
        {"readOnly": "TRUE"},
        {"errorMessage": "x"},
        {"eventSource": "EC2.amazonaws.com"},
    ],
    ids=str,
)
def test_an_event_that_contradicts_itself_is_not_ours(ground: Ground, lie: dict[str, Any]) -> None:
    ground.raise_to(Mode.ACT, SSH)
    assert ground.walk(ground.event((22, ground.ec2.open(22)), **lie)).verdict == "not_ours"
    untouched(ground)


@pytest.mark.parametrize(
    "account",
    [
        "".join(chr(0xFF10 + n % 10) for n in range(12)),
        "12345678901",
        "123456789012\n",
        123456789012,
        None,
        "*",
    ],
)
def test_an_account_is_twelve_plain_digits(ground: Ground, account: object) -> None:
    ground.raise_to(Mode.ACT, SSH)
    event = ground.event((22, ground.ec2.open(22)), recipientAccountId=account)
    event["account"] = account
    assert ground.walk(event).verdict == "not_ours"
    untouched(ground)


# -- keys and chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a#b",
        "#",
        "SYS#123456789012#202608",
        "EVENT#x",
        "SEEN#a#b",
        "lo4thjdtalvtypji4jpk-1",
        "a\x00b",
        "../..",
        "*",
        "a|ec2-open-ssh",
        "a b",
        "a" * 257,
    ],
)
def test_no_event_id_reaches_anybody_elses_chain(ground: Ground, name: str) -> None:
    """What is no plain name goes by its digest: `|` stands between an event's id and what the engine adds to it."""
    ground.walk(ground.event((443, "sgr-1"), event_id=name))
    plain = name.isprintable() and not {" ", "|"}.intersection(name) and len(name) <= 256
    known = name if plain else hashlib.sha256(json.dumps([name]).encode()).hexdigest()
    assert {record.chain for record in ground.cases.records} == {f"EVENT#{known}"}
    assert ground.walk(ground.attack(event_id=name)).outcome == "fixed"
    assert len({record.chain for record in ground.cases.records}) == 2
    ground.whole()


def test_half_a_character_anywhere_is_no_event(ground: Ground) -> None:
    for place in ("eventID", "eventName", "requestID"):
        event = intake.parse(json.dumps(ground.event((22, "sgr-1"), **{place: "\ud800"})))
        with pytest.raises(MalformedEventError):
            ground.walk(event)


def test_a_body_with_floats_and_nan_is_read_and_has_a_digest(ground: Ground) -> None:
    body = json.dumps(
        ground.event((22, ground.ec2.open(22)), additionalEventData={"a": float("nan"), "b": 1.5})
    )
    assert ground.walk(intake.parse(body)).verdict == "observe"


LEAVES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs", "N")), max_size=20)
    | st.sampled_from([WORLD, "::/0", "*", "0.0.0.0/0 ", GROUP, "tcp", "-1", "${x}", "{account}", "%s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "arn", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in _paths(one, (*path, key)))]


@settings(max_examples=150)
@given(st.data())
def test_whatever_stands_in_an_event_the_walk_ends_in_words_and_touches_only_what_was_opened(
    data: st.DataObject,
) -> None:
    ground = Ground()
    ground.raise_to(Mode.ACT, SSH)
    ground.ec2.open(8080)
    mine = ground.ec2.open(22)
    event = ground.event((22, mine))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_paths(event)[1:]))
        inner: Any = event
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = data.draw(LEAVES)
    with suppress(RedressError):
        ground.walks(event)
    assert [rule for _, _, rule in ground.ec2.effects] in ([], [mine])
    assert all("*" not in json.loads(policy)["Statement"][0]["Resource"] for policy in ground.ec2.policies)
    ground.whole()


# -- never again ---------------------------------------------------------------------------------------------------------------


def test_whoever_exhausts_the_limit_first_is_asked_about_and_told_why(ground: Ground) -> None:
    for number in range(5):
        assert ground.walk(ground.attack(event_id=f"bait-{number}")).outcome == "fixed"
    walked = ground.walk(ground.attack(event_id="the-attack"))
    assert (walked.verdict, walked.rule) == ("ask", "over a limit")
    (notice,) = (one for one in ground.cases.notices if one.kind == "ask")
    assert "limit of 5" in str(notice.body["reason"])
    assert ground.record_of("the-attack")["rule"] == "over a limit"


def test_a_storm_of_events_on_one_group_does_not_fill_its_case(ground: Ground) -> None:
    for number in range(300):
        ground.walk(ground.event((22, f"sgr-{number:017x}"), event_id=f"{number:036d}"))
        if number == 0:
            ground.ec2.open(22)
    case = ground.only_case()
    assert len(case.causes) <= 51
    assert len(case.model_dump_json().encode()) < ITEM_BYTES / 8


def test_a_group_that_is_full_at_the_default_quota_fits_many_times(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH)
    for port in range(60):
        ground.ec2.open(8000 + port, "10.0.0.0/8", Description="d" * 255)
    assert ground.walk(ground.attack()).outcome == "fixed"
    largest = max(len(item.body.encode()) for item in ground.cases.items.values())
    assert largest < ITEM_BYTES / 4


# -- who is who -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "issuer",
    [
        f"arn:aws:iam::{ACCOUNT}:role/team/redress-test-act",
        "arn:aws:iam::222222222222:role/redress-test-act",
        f"arn:aws:iam::{ACCOUNT}:role/REDRESS-TEST-ACT",
        f"arn:aws:iam::{ACCOUNT}:role/redress-test-act2",
        f"arn:aws-cn:iam::{ACCOUNT}:role/redress-test-act",
        f"arn:aws:iam::{ACCOUNT}:role/redress-prod-act",
    ],
)
def test_a_role_that_looks_like_ours_is_a_stranger_even_in_a_session_of_ours(
    ground: Ground, issuer: str
) -> None:
    from chalicelib.domain.case import session_name

    assert ground.walk(ground.attack()).outcome == "fixed"
    identity = as_ours(session_name(ground.only_case().id, 1))
    identity["sessionContext"]["sessionIssuer"]["arn"] = issuer
    walked = ground.walk(ground.event((22, ground.ec2.open(22)), event_id="event-2", userIdentity=identity))
    assert walked.outcome == "fixed"


@pytest.mark.parametrize(
    "arn",
    [
        None, "", {"arn": "x"}, f"arn:aws:iam::{ACCOUNT}:user/", f"arn:aws:iam::{ACCOUNT}:user/a b", "anonymous",
        f"arn:aws:iam::{ACCOUNT}:user/jane\n", f"arn:aws:sts::{ACCOUNT}:assumed-role/x", f"arn:aws:iam::{ACCOUNT}:role/x",
        "arn:aws:iam::" + chr(0xFF11) * 12 + ":user/jane",
    ],
    ids=str,
)  # fmt: skip
def test_nobody_is_nobody(arn: object) -> None:
    with pytest.raises(RefusedCommandError):
        caller(arn, "req-1")


@pytest.mark.parametrize(
    "resource",
    [
        "*", f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/*", f"arn:aws:ec2:*:{ACCOUNT}:security-group/{GROUP}",
        f"arn:aws:ec2:{REGION}:222222222222:security-group/{GROUP}", f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg 1",
        GROUP, f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1", f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg-?",
    ],
)  # fmt: skip
def test_an_exemption_is_for_one_resource_of_the_account(ground: Ground, resource: str) -> None:
    command = COMMAND.validate_python(
        {"kind": "exempt", "resource": resource, "control": SSH, "account": ACCOUNT, "owner": "o", "code": "accepted_risk",
         "reason": "r", "expires_at": ground.clock.now() + timedelta(days=1)}, strict=False,
    )  # fmt: skip
    jane = caller(f"arn:aws:iam::{ACCOUNT}:user/jane", "req-1")
    with pytest.raises(RefusedCommandError):
        carry_out(
            command,
            jane,
            ground.cases,
            ground.engine().catalog,
            ground.clock,
            home=ACCOUNT,
            engine="0",
        )


# -- the trail --------------------------------------------------------------------------------------------------------------------


def test_every_way_to_alter_a_chain_is_found(ground: Ground) -> None:
    ground.walk(ground.attack())
    case = ground.only_case()
    whole = [(r.body, r.hash) for r in ground.cases.chain(case.id)]
    assert broken_at(whole, case.head) is None
    for n in range(len(whole)):
        assert broken_at(whole[:n] + whole[n + 1 :], case.head), "a record dropped"
        body, digest = whole[n]
        assert broken_at([*whole[:n], (body.replace("act", "ask"), digest), *whole[n + 1 :]], case.head), (
            "a word changed"
        )
        assert broken_at([*whole[:n], whole[n], *whole[n:]], case.head), "a record twice"
    assert broken_at(whole[::-1], case.head), "the order turned"
    assert broken_at([], case.head), "everything dropped"


def test_a_clock_that_goes_backwards_breaks_no_chain(ground: Ground) -> None:
    ground.raise_to(Mode.ASK, SSH)
    for number in range(4):
        ground.walk(ground.event((22, ground.ec2.open(22)), event_id=f"event-{number}"))
        ground.clock.advance(-timedelta(minutes=7))
    assert ground.only_case().state is CaseState.WAITING
    ground.whole()


def test_two_controls_with_two_rules_are_each_judged_by_their_own_mode(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH)
    ground.walks(ground.event((22, ground.ec2.open(22)), (3389, ground.ec2.open(3389))))
    assert ground.ec2.ports() == [443, 3389]
    assert {record.draft.controls for record in ground.cases.records if record.draft.type == "INTENT"} == {
        (SSH,)
    }
    assert RDP in {control for record in ground.cases.records for control in record.draft.controls}
