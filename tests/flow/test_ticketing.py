"""Ticketing: one open ticket per case digest, with evidence and the exact commands; closed only by what was seen."""

import json
import shlex
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.approval import EXPIRES_AFTER, SETTLED_AFTER
from chalicelib.domain.contract import Mode, canonical
from chalicelib.domain.shape import mapping
from chalicelib.domain.ticket import Ticket
from chalicelib.flow import ticketing
from chalicelib.flow.errand import Tick
from tests.fakes.house import House
from tests.flow.people import ANN, asked, built, group
from tests.flow.test_pipeline import DENIED, RDP, SSH, Group, attacked, refusing

__all__ = ["built", "group"]

HOSTILE = "$(reboot); `id`; ' || rm -rf / #"


def only(built: House) -> Ticket:
    (ticket,) = built.cases.tickets
    return ticket


def opened_by_events(built: House, group: Group, *events: str, port: int = 22) -> None:
    for event in events:
        built.walk(group.event((port, group.open(port)), event_id=event))
        built.clock.advance(timedelta(minutes=1))
        for rule in rules(group, port):
            group.close(rule)


def rules(group: Group, port: int) -> list[str]:
    told = group.ec2.describe_security_group_rules()["SecurityGroupRules"]
    return [one["SecurityGroupRuleId"] for one in told if one["FromPort"] == port and not one["IsEgress"]]


def shut(group: Group, port: int) -> None:
    for rule in rules(group, port):
        group.close(rule)


def test_however_many_events_tell_of_it_there_is_one_ticket(built: House, group: Group) -> None:
    built.raise_to(Mode.TICKET, SSH)
    opened_by_events(built, group, "event-1", "event-2", "event-3")
    ticket = only(built)
    assert (ticket.number, ticket.id, ticket.is_open) == (1, f"{built.only_case().digest}-t1", True)
    assert ticket.evidence["told_by"] == "event-3", "the newest evidence"
    assert ticket.updated_at - ticket.opened_at == timedelta(minutes=2)
    assert built.kinds().count("TICKET_OPENED") == 1
    assert built.only_case().ticket == ticket
    notice, news = built.cases.notices
    assert (notice.id, notice.kind) == (f"{ticket.id}#open", "ticket_open")
    assert (news.id, news.kind, news.at) == (f"{ticket.id}#news", "ticket_news", ticket.updated_at)
    assert Ticket.model_validate_json(canonical(mapping(notice.body["ticket"]))).id == ticket.id
    assert Ticket.model_validate_json(canonical(mapping(news.body["ticket"]))) == ticket, "the newest of it"
    where = {name: notice.body[name] for name in ("account", "region", "resource", "controls", "owner")}
    assert where == {
        "account": ticket.target.account,
        "region": ticket.target.region,
        "resource": ticket.resource,
        "controls": [SSH],
        "owner": ticket.owner,
    }


def test_an_event_that_changes_nothing_is_no_news_of_the_ticket(built: House, group: Group) -> None:
    built.raise_to(Mode.TICKET, SSH)
    rule = group.open(22)
    for event in ("event-1", "event-2"):
        built.walk(group.event((22, rule), event_id=event))
        built.clock.advance(timedelta(minutes=1))
    built.sweep()
    assert only(built).evidence["told_by"] != "event-1"
    assert "ticket_news" not in [notice.kind for notice in built.cases.notices]


def test_a_ticket_is_closed_by_an_assessment_and_the_next_violation_is_the_next_ticket(
    built: House, group: Group
) -> None:
    built.raise_to(Mode.TICKET, SSH)
    opened_by_events(built, group, "event-1")
    assert built.walk(group.event((22, "sgr-gone"), event_id="event-2")).rule == "compliant"
    ticket = only(built)
    assert (ticket.state, ticket.closed_because) == (
        "closed",
        "the resource is already as the control wants it",
    )
    assert built.kinds()[-1] == "TICKET_CLOSED"
    assert [notice.kind for notice in built.cases.notices] == ["ticket_open", "ticket_closed"]
    built.walk(group.event((22, "sgr-gone"), event_id="event-3"))
    assert only(built) == ticket, "closed once"
    built.clock.advance(timedelta(minutes=1))
    opened_by_events(built, group, "event-4")
    first, second = built.cases.tickets
    assert (first, second.number, second.is_open) == (ticket, 2, True)
    assert second.id == f"{built.only_case().digest}-t2"
    assert second.opened_at > first.updated_at


def test_what_was_repaired_by_hand_closes_its_ticket_with_the_next_sweep(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.TICKET, SSH)
    opened_by_events(built, group, "event-1")
    assert only(built).is_open
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert not only(built).is_open


def test_a_ticket_names_what_was_seen_by_whom_and_the_exact_commands(built: House, group: Group) -> None:
    built.raise_to(Mode.TICKET, SSH)
    rule = group.open(22)
    built.walk(group.event((22, rule)))
    ticket, case = only(built), built.only_case()
    assert (ticket.resource, ticket.controls, ticket.severity) == (case.target.resource, (SSH,), "high")
    assert ticket.title.startswith("Fails: ")
    assert ticket.why == "the control is set to ticket here"
    assert (ticket.evidence["case"], ticket.evidence["actor"]) == (case.id, ANN)
    assert ticket.evidence["plan_hash"] == case.plan_hash
    assert ticket.evidence["state"] == case.last_state
    assert case.id in str(ticket.evidence["records"])
    (command,) = ticket.commands
    words = shlex.split(command)
    assert words[:-1] == [
        *("aws", "ec2", "revoke-security-group-ingress"),
        *("--region", "eu-central-1", "--cli-input-json"),
    ]
    assert json.loads(words[-1]) == {"GroupId": group.id, "SecurityGroupRuleIds": [rule]}
    assert "revoke tcp 22 from 0.0.0.0/0" in str(ticket.evidence["planned"])
    assert any(step.command and shlex.split(step.command)[0] == "aws" for step in ticket.steps)
    assert "aws_" in ticket.as_code


def test_names_that_others_chose_are_text_in_a_ticket_and_never_a_command(built: House, group: Group) -> None:
    sources: list[Any] = [{"CidrIp": "0.0.0.0/0", "Description": HOSTILE}]
    group.ec2.authorize_security_group_ingress(
        GroupId=group.id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 0, "ToPort": 1024, "IpRanges": sources}],
    )
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "owner", "Value": HOSTILE}])
    built.raise_to(Mode.TICKET, SSH)
    built.walk(group.event((22, "sgr-x")))
    ticket = only(built)
    assert ticket.owner == HOSTILE
    assert HOSTILE in json.dumps(ticket.evidence["state"])
    commands = [*ticket.commands, *(step.command for step in ticket.steps if step.command)]
    carried = [word for command in commands for word in shlex.split(command) if HOSTILE in word]
    assert carried, "the ports beside the watched one are kept open, with their description"
    for command in commands:
        assert shlex.split(command)[0] == "aws"
    for word in carried:
        json.loads(word)


def test_a_state_that_is_too_large_is_left_out_of_the_ticket(built: House, group: Group) -> None:
    sources: list[Any] = [{"CidrIp": f"10.0.{place}.0/24", "Description": "x" * 250} for place in range(50)]
    group.ec2.authorize_security_group_ingress(
        GroupId=group.id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": sources}],
    )
    built.raise_to(Mode.TICKET, SSH)
    built.walk(group.event((22, group.open(22))))
    ticket = only(built)
    assert ticket.evidence["state"] is None
    assert ticket.commands
    assert ticket.steps
    assert len(json.dumps(built.record("DECIDED")["before"])) > ticketing.STATE_BYTES, "the record has it"


def test_a_ticket_is_open_until_all_of_its_controls_are_at_rest(built: House, group: Group) -> None:
    built.raise_to(Mode.TICKET, SSH, RDP)
    built.walk(group.event((22, group.open(22))))
    built.walk(group.event((3389, group.open(3389)), event_id="event-2"))
    assert only(built).controls == (RDP, SSH)
    shut(group, 22)
    assert built.walk(group.event((22, "sgr-gone"), event_id="event-3")).rule == "compliant"
    assert only(built).is_open
    assert built.only_case().state == "ticketed"
    shut(group, 3389)
    built.walk(group.event((3389, "sgr-gone"), event_id="event-4"))
    assert not only(built).is_open


def test_a_later_episode_takes_the_open_ticket_over_and_closes_it_when_all_is_well(
    built: House, group: Group
) -> None:
    built.raise_to(Mode.ASK, SSH, RDP)
    built.walk(group.event((22, group.open(22)), (3389, group.open(3389))))
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.run(Tick())
    assert (built.only_case().state, only(built).controls) == ("expired", (RDP, SSH))
    shut(group, 3389)
    assert built.walk(group.event((3389, "sgr-gone"), event_id="event-2")).rule == "compliant"
    assert built.only_case().state == "ticketed"
    assert only(built).is_open, "port 22 is open, and nobody has looked"
    shut(group, 22)
    built.clock.advance(timedelta(minutes=1))
    both = group.event((22, "sgr-gone"), (3389, "sgr-gone"), event_id="event-3")
    built.walk(both)
    assert not only(built).is_open


def test_a_run_that_fails_is_a_persons_matter(built: House, group: Group) -> None:
    (walked,) = refusing(built, "write", DENIED).walk(attacked(built, group))
    assert walked.outcome == "failed"
    ticket = only(built)
    assert ticket.is_open
    assert ticket.why.startswith("the run ended failed: ")
    assert [shlex.split(command)[2] for command in ticket.commands] == ["revoke-security-group-ingress"]
    assert built.kinds()[-2:] == ["RESULT", "TICKET_OPENED"]


def test_a_run_that_then_ends_well_closes_the_ticket(built: House, group: Group) -> None:
    refusing(built, "write", DENIED).walk(attacked(built, group))
    assert built.walk(group.event((22, rules(group, 22)[0]), event_id="event-2")).outcome == "fixed"
    assert not only(built).is_open
    assert built.kinds()[-2:] == ["RESULT", "TICKET_CLOSED"]


@pytest.mark.parametrize("mode", list(Mode))
def test_what_cannot_be_read_is_a_ticket_unless_the_control_only_observes(
    built: House, group: Group, mode: Mode
) -> None:
    (walked,) = refusing(built, "read", DENIED).walk(attacked(built, group, mode))
    assert walked.outcome == "failed"
    if mode is Mode.OBSERVE:
        assert built.cases.tickets == ()
        return
    ticket = only(built)
    assert (ticket.commands, ticket.as_code, ticket.evidence["state"]) == ((), "", None)
    (step,) = ticket.steps
    assert ticket.resource in step.console


def test_an_exemption_closes_the_ticket(built: House, group: Group) -> None:
    from tests.flow.test_asking import exempt

    built.raise_to(Mode.TICKET, SSH)
    built.walk(group.event((22, group.open(22))))
    exempt(built, built.only_case())
    built.walk(group.event((22, "sgr-x"), event_id="event-2"))
    assert not only(built).is_open
    assert "exempt until" in only(built).closed_because


def test_an_answer_of_no_closes_no_ticket_and_opens_none(built: House, group: Group) -> None:
    asked(built, group)
    built.answer(approve=False)
    built.deliver()
    assert built.cases.tickets == ()
