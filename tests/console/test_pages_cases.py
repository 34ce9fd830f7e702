"""The pages of cases: what a person reads before deciding, and that what others chose stays text."""

from collections.abc import Iterator
from datetime import timedelta
from html import unescape

import pytest
from pydantic import JsonValue

from chalicelib.domain.approval import Ask, Kind, Undone
from chalicelib.domain.case import Case, CaseState, Run
from chalicelib.domain.contract import Call, Cause, Outcome, Plan
from chalicelib.domain.delivery import TicketRef
from chalicelib.domain.dossier import Dossier, Incident
from chalicelib.domain.finding import Actor, Severity, Target
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Freeze
from chalicelib.flow import record
from tests.console.world import (
    ANNA,
    BEN,
    BUCKET,
    EBS,
    HOSTILE,
    MALLORY,
    MEMBER,
    OLGA,
    SSH,
    VERA,
    Forms,
    World,
    bucket,
    minutes,
    revoking,
    text_of,
    world,
)
from tests.fakes.cases import HOME


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


def test_what_waits_is_listed_with_the_most_urgent_first(console: World) -> None:
    low = console.asked(1, severity=Severity.LOW)
    console.clock.advance(minutes(1))
    later, first = console.asked(2, severity=Severity.CRITICAL), None
    console.clock.advance(minutes(1))
    first = console.asked(3, severity=Severity.CRITICAL)
    page = console.get("/approvals").body
    places = [page.index(f"/cases/{case.id}") for case in (later, first, low)]
    assert places == sorted(places)
    assert "0 of 2 approved" in page
    assert "ends in 7 h 58 min" in page


@pytest.mark.parametrize(
    "query, seen",
    [
        ("account=222222222222", {2}),
        ("severity=high", {1, 2}),
        ("severity=low", {3}),
        ("control=other", set()),
        ("severity=high&account=111111111111", {1}),
    ],
)
def test_the_filters_are_the_address(console: World, query: str, seen: set[int]) -> None:
    cases = {
        1: console.asked(1),
        2: console.asked(2, account="222222222222"),
        3: console.asked(3, severity=Severity.LOW),
    }
    page = console.get(f"/approvals?{query}").body
    assert {number for number, case in cases.items() if case.id in page} == seen


def test_a_case_says_what_why_where_how_far_and_until_when(console: World) -> None:
    case = console.asked(requesters=("called:ben okoro",))
    said = text_of(console.get(f"/cases/{case.id}"))
    assert case.ask
    for part in (
        "No security group admits the whole Internet to port 22",
        case.target.resource,
        "platform · 111111111111 · production",
        "Close port 22 to the whole Internet",
        "Reach 1 call on this resource alone",
        "Risk of acting Medium risk",
        "yes, from here",
        "US$ 0.00 a month",
        "in 8 h",
        "0 of 1 approved",
        case.ask.plan_hash,
        "The caller's user agent says Terraform; nobody vouches for that.",
        "ec2:RevokeSecurityGroupIngress",
        "aws ec2 revoke-security-group-ingress",
        "Ben Okoro may not",
        "2 records in the case's chain",
    ):
        assert part in said, part


@pytest.mark.parametrize("owner", ["Anna Berg", "ANNA berg ", "\uff21nna Berg", ANNA])
def test_who_may_approve_is_said_as_the_policy_judges_it(console: World, owner: str) -> None:
    people = console.set_policy().model_dump(mode="json")["people"]
    people["ben"]["identities"] = [f"arn:aws:iam::{HOME}:user/ben"]
    rules = [{"name": "web", "approvers": ["group:security"], "doors": ["console"]}]
    console.set_policy({"people": people, "rules": rules})
    said = text_of(console.get(f"/cases/{console.asked(answerable=owner).id}"))
    assert "Anna Berg may not: answers for the account" in said
    assert "Ben Okoro may not: has no identity for the doors that the rule names" in said
    assert "Olga Lind may not" not in said


def test_an_object_that_a_call_names_is_marked_as_a_whole(console: World) -> None:
    page = console.get(f"/cases/{console.asked().id}").body
    marked = [row for row in page.split("<tr")[1:] if 'class="named"' in row.partition(">")[0]]
    assert len(marked) == 7
    assert any("0.0.0.0/0" in row for row in marked)
    assert not any("10.0.0.0/8" in row for row in marked)


def test_a_switch_that_a_call_sets_is_shown_as_it_is_and_as_it_would_be(console: World) -> None:
    case = console.asked()
    assert case.ask
    plan = Plan(
        calls=(
            Call(
                service="s3",
                operation="PutPublicAccessBlock",
                params={"PublicAccessBlockConfiguration": {"BlockPublicAcls": True, "Kept": True}},
                why="Block public ACLs",
            ),
        )
    )
    ask = case.ask.model_copy(
        update={"plan": plan, "before": {"block": {"BlockPublicAcls": False, "Kept": True}, "none": []}}
    )
    console.keep(case.model_copy(update={"ask": ask}))
    said = text_of(console.get(f"/cases/{case.id}"))
    assert '\N{MINUS SIGN} "BlockPublicAcls": false' in said
    assert '+ "BlockPublicAcls": true' in said
    assert '+ "Kept"' not in said


def test_a_repair_shows_what_was_read_before_and_after(console: World) -> None:
    page = console.get(f"/cases/{console.fixed().id}", OLGA).body
    assert "Both as they were read" in page
    was = [row for row in page.split("<tr")[1:] if 'class="was"' in row.partition(">")[0]]
    assert any("0.0.0.0/0" in row for row in was)
    assert 'class="is"' not in page
    assert "approved by Anna Berg" in text_of(console.get(f"/cases/{console.fixed(51).id}"))
    assert "/undo#main" in page


def undone(console: World, case: Case, *outcomes: Outcome) -> Case:
    """The case after undos of its run that ended so."""
    now = console.clock.now()
    wanted = Undone(
        run=1, by=OLGA, reason="it cut off the backup", owner="team-a", until=now + timedelta(days=7)
    )
    for number, outcome in enumerate(outcomes, 2):
        run = Run(
            seq=number,
            source_id="answer",
            controls=(SSH,),
            generation=1,
            started_at=now,
            lease_until=now + minutes(2),
            cause=Cause(at=now, actor=MALLORY),
            before={},
            plan=revoking(case.target),
            plan_hash="a" * 64,
            undo=wanted,
        )
        ended = record.result(case, run, now, outcome, "looked again", (), None)
        case = console.keep(case, record.intent(case, run, {}), ended)
    return case


@pytest.mark.parametrize(
    "outcomes, offered",
    [
        ((), True),
        ((Outcome.FAILED,), True),
        ((Outcome.FIXED,), False),
        ((Outcome.FAILED, Outcome.ALREADY_COMPLIANT), False),
    ],
)
def test_a_run_that_was_taken_back_is_not_offered_again(
    console: World, outcomes: tuple[Outcome, ...], offered: bool
) -> None:
    case = undone(console, console.fixed(), *outcomes)
    assert ("/undo#main" in console.get(f"/cases/{case.id}", OLGA).body) is offered


def authorizing(case: Case) -> Ask:
    """An ask to bring back what a run revoked: a rule for the same addresses as one that stays."""
    assert case.ask
    asked = case.ask
    rule: dict[str, JsonValue] = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": "10.0.0.0/8"}],
    }
    call = Call(
        service="ec2",
        operation="AuthorizeSecurityGroupIngress",
        params={"GroupId": case.target.id, "IpPermissions": [rule]},
        why="Restore what the run revoked",
    )
    until = asked.expires_at + timedelta(days=7)
    wanted = Undone(run=1, by=OLGA, reason="it cut off the backup", owner="team-a", until=until)
    return asked.model_copy(update={"plan": Plan(calls=(call,)), "kind": Kind.UNDO, "undo": wanted})


def test_what_an_undo_adds_is_shown_and_what_has_the_same_addresses_is_not_marked(console: World) -> None:
    case = console.asked()
    page = console.get(f"/cases/{console.keep(case.model_copy(update={'ask': authorizing(case)})).id}")
    rows = page.body.split("<tr")[1:]
    assert not [row for row in rows if 'class="named"' in row.partition(">")[0]]
    added = unescape(" ".join(row for row in rows if 'class="is"' in row.partition(">")[0]))
    assert '"CidrIp": "10.0.0.0/8"' in added


def test_an_undo_is_decided_for_reasons_of_its_own(console: World) -> None:
    case = console.asked()
    said = text_of(console.get(f"/cases/{case.id}"))
    assert ("This must be closed now" in said, "What was cut off is needed" in said) == (True, False)
    console.keep(case.model_copy(update={"ask": authorizing(case)}))
    said = text_of(console.get(f"/cases/{case.id}"))
    assert ("This must be closed now" in said, "What was cut off is needed" in said) == (False, True)


@pytest.mark.parametrize(
    "scope, concerns",
    [
        ("ALL", True),
        (f"ACCOUNT#{HOME}", True),
        (f"CONTROL#{HOME}#{SSH}", True),
        (f"CONTROL#{HOME}#{BUCKET}", False),
        (f"ACCOUNT#{MEMBER}", False),
    ],
)
def test_where_one_decides_it_is_said_that_changes_are_stopped(
    console: World, scope: str, concerns: bool
) -> None:
    case = console.asked()
    freeze = Freeze(scope=scope, frozen=True, by=OLGA, at=console.clock.now(), reason="a bad release")
    console.set(freezes=(freeze,))
    said = text_of(console.get(f"/cases/{case.id}"))
    assert ("by Olga Lind : a bad release" in said) is concerns
    assert ("an approval now changes nothing" in said) is concerns
    assert "a bad release" in console.get("/approvals").body
    console.set(freezes=(freeze.model_copy(update={"frozen": False}),))
    for path in (f"/cases/{case.id}", "/approvals"):
        assert "Changes are stopped" not in console.get(path).body


def test_names_in_what_the_engine_says_stay_as_they_are_written(console: World) -> None:
    mixed = console.asked(1, reason="because T0REDRESS and sg-0AA are names. it is so")
    first = console.asked(2, reason="iam-unused-credentials: exempt by slack:T0REDRESS/U0OLGA0001")
    assert "<p>Because T0REDRESS and sg-0AA are names. it is so.<" in console.get(f"/cases/{mixed.id}").body
    assert (
        "<p>iam-unused-credentials: exempt by slack:T0REDRESS/U0OLGA0001.<"
        in console.get(f"/cases/{first.id}").body
    )


def test_records_of_other_chains_about_the_case_are_part_of_its_story(console: World) -> None:
    case, other = console.asked(1), console.asked(2)
    cookie = console.signed_in(ANNA)
    for number, one in enumerate((case, other)):
        path = f"/cases/{one.id}"
        hidden = Forms(console.get(path, cookie=cookie).body).of(f"{path}/comment")
        console.post(f"{path}/comment", {**hidden, "words": f"I know number {number}"}, cookie)
    said = text_of(console.get(f"/cases/{case.id}"))
    assert "Anna Berg says: I know number 0" in said
    assert "number 1" not in said


def test_a_broken_chain_is_told(console: World) -> None:
    case = console.asked()
    console.keep(case.model_copy(update={"head": case.head.model_copy(update={"seq": 7})}))
    assert "The chain of records does not hold" in console.get(f"/cases/{case.id}").body


def test_a_ticket_is_shown_with_where_it_lies_and_what_waits_since_when(console: World) -> None:
    integration = Integration(name="jira", system="jira", project="SEC")
    console.set_policy({"integrations": [integration.model_dump(mode="json")]})
    case = console.ticketed()
    assert case.ticket
    console.told.references[case.ticket.id, "jira"] = TicketRef(
        ticket=case.ticket.id, integration="jira", reserved_at=console.clock.now(), key="SEC-1"
    )
    said = text_of(console.get(f"/cases/{case.id}"))
    assert "In jira: SEC-1" in said
    assert (
        "Slack channel C0123456789: Waiting “Ticket opened”, since 3 Aug 2026, 12:00 UTC : Slack does not answer"
    ) in said.replace("UTC:", "UTC :")


def test_the_dossier_is_shown(console: World) -> None:
    case, now = console.asked(), console.clock.now()
    incident = Incident(declared=True, root_cause="a script", reason="data left", by=OLGA, at=now)
    console.set(kept=Dossier(case=case.id, holder=BEN, held_since=now, incident=incident))
    said = text_of(console.get(f"/cases/{case.id}"))
    assert "Ben Okoro , since 3 Aug 2026" in said
    assert "Root cause: a script" in said


def about_an_account(console: World, region: str = "eu-west-1") -> Case:
    target = Target(account=MEMBER, region=region, type="AWS::::Account", id=MEMBER)
    case = console.new(target, EBS, "ec2_enable_ebs_encryption_by_default")
    asked = console.asked(7 if region == "global" else 8, account=MEMBER).ask
    assert asked
    ask = asked.model_copy(update={"controls": (EBS,), "seq": 1})
    return console.keep(case.model_copy(update={"state": CaseState.WAITING, "ask": ask, "asks": 1}))


def test_a_case_about_a_whole_account_says_so_in_its_title_its_reach_and_in_every_list(
    console: World,
) -> None:
    case = about_an_account(console)
    named = "EBS default encryption in shop-staging, eu-west-1"
    page = console.get(f"/cases/{case.id}")
    assert f"<title>{named} · Redress</title>" in page.body
    assert f"<h1><bdi>{named}</bdi></h1>" in page.body
    assert f"1 call for all of account shop-staging ({MEMBER}), eu-west-1" in text_of(page)
    for path in ("/", "/approvals", "/cases?state=waiting"):
        assert f"<bdi>{named}</bdi>" in console.get(path).body, path
    console.set_policy({"accounts": {}})
    everywhere = about_an_account(console, "global")
    assert (
        f"<h1><bdi>EBS default encryption in {MEMBER}</bdi></h1>"
        in console.get(f"/cases/{everywhere.id}").body
    )


@pytest.mark.parametrize(
    "opened, first",
    [
        ("decide", '<h2 id="decide" tabindex="-1" autofocus>'),
        ("snooze", 'id="snooze-days"'),
        ("ticket", 'id="ticket-words"'),
        ("exempt", '<select id="exempt-control"'),
    ],
)
def test_a_link_opens_the_form_that_it_is_about_and_puts_the_cursor_there(
    console: World, opened: str, first: str
) -> None:
    case = console.asked()
    page = console.get(f"/cases/{case.id}?open={opened}", OLGA).body
    (focused,) = [tag for tag in page.replace("\n", " ").split("<") if " autofocus" in tag]
    assert first.removeprefix("<") in focused
    assert page.count(" open>") == (opened != "decide")
    closed = console.get(f"/cases/{case.id}?open=incident", OLGA).body
    assert "autofocus" not in closed
    assert " open>" not in closed


def test_a_link_to_the_undo_opens_its_form_and_the_sign_in_on_the_way_keeps_it(console: World) -> None:
    case = console.fixed()
    page = console.get(f"/cases/{case.id}?open=undo", OLGA).body
    assert '<details id="undo" open>' in page
    assert '<select id="undo-run" name="run" autofocus>' in page
    wanted = console.get(f"/cases/{case.id}?open=undo", None).headers["Location"]
    assert wanted.endswith(f"to=%2Fcases%2F{case.id}%3Fopen%3Dundo")


@pytest.mark.parametrize(
    "opened, who, stands, said",
    [
        ("undo", ANNA, "fixed", "Only an operator may ask for an undo: Olga Lind."),
        ("exempt", ANNA, "asked", "Only an operator may exempt a resource: Olga Lind."),
        ("undo", OLGA, "asked", "Nothing can be taken back while people are asked"),
        ("undo", OLGA, "ticketed", "Nothing is left to take back"),
        ("undo", OLGA, "undoing", "An undo has been asked for already"),
        ("decide", ANNA, "fixed", "Nobody is asked any more"),
        ("ticket", ANNA, "fixed", "so no ticket can stand in its place"),
        ("ticket", ANNA, "undoing", "so no ticket can stand in its place"),
        ("snooze", VERA, "staging", "Only approvers and operators may snooze a case."),
        ("ticket", VERA, "staging", "Only approvers and operators may open a ticket instead."),
        ("snooze", ANNA, "hers", "somebody else may snooze it"),
        ("exempt", OLGA, "olgas", "somebody else may exempt it"),
    ],
)
def test_a_link_to_a_form_that_is_not_there_says_why_and_who_may(
    console: World, opened: str, who: str, stands: str, said: str
) -> None:
    case = {
        "asked": console.asked,
        "fixed": console.fixed,
        "ticketed": console.ticketed,
        "staging": lambda: console.asked(account=MEMBER),
        "hers": lambda: console.asked(requesters=(ANNA,)),
        "olgas": lambda: console.asked(requesters=(OLGA,)),
        "undoing": lambda: undoing(console),
    }[stands]()
    page = console.get(f"/cases/{case.id}?open={opened}", who).body
    (focused,) = [part.partition("</p>")[0] for part in page.split("autofocus>")[1:]]
    assert said in focused


def undoing(console: World) -> Case:
    case = console.asked()
    ask = authorizing(case)
    return console.keep(case.model_copy(update={"ask": ask}))


def test_whose_the_operators_are_is_said_for_the_account_of_the_case(console: World) -> None:
    people = console.set_policy().model_dump(mode="json")["people"]
    people["olga"]["accounts"] = [MEMBER]
    console.set_policy({"people": people})
    page = console.get(f"/cases/{console.fixed().id}?open=undo")
    assert "ask for an undo: the policy names none for this account." in page.body
    people |= {
        f"op{number}": {"name": f"Op {number}", "identities": [f"{OLGA}{number}"], "roles": ["operator"]}
        for number in range(7)
    }
    console.set_policy({"people": people})
    page = console.get(f"/cases/{console.fixed(51).id}?open=undo")
    assert "an undo: Op 0, Op 1, Op 2, Op 3, Op 4, and 2 more." in page.body


def test_after_an_approval_the_page_says_that_it_has_to_be_loaded_again(console: World) -> None:
    case = console.asked()
    link = f'<a href="/api/cases/{case.id}">look again</a>'
    assert link not in console.get(f"/cases/{case.id}").body
    console.keep(case.model_copy(update={"state": CaseState.RUNNING, "ask": None}))
    assert link in console.get(f"/cases/{case.id}").body


def test_cases_of_every_state_are_listed_together_the_one_that_moved_last_first(console: World) -> None:
    console.ticketed()
    console.clock.advance(seconds=1)
    done = console.fixed()
    page = console.get("/cases?state=any")
    assert page.body.index(done.id) < page.body.index("shop-assets-60")
    assert "Closed Fixed: the port is closed" in text_of(page)
    assert "Choose a state" not in page.body
    assert "No case is there" in text_of(console.get(f"/cases?state=any&account={MEMBER}"))
    for number in range(30):
        console.keep(console.new(bucket(number), BUCKET, "s3_block_public_access"))
    many = console.get("/cases?state=any").body
    assert many.count("<tr>") == 26
    assert "Choose a state to look further back" in many
    assert 'rel="next"' not in many


def test_whoever_may_not_approve_reads_why_and_finds_no_button(console: World) -> None:
    case = console.asked(requesters=("called:anna berg",))
    page = console.get(f"/cases/{case.id}", ANNA)
    answers = [hidden["answer"] for _, hidden in Forms(page.body).forms if "answer" in hidden]
    assert answers == ["deny"]
    assert "ask somebody else" in page.body
    assert "sign in again" not in page.body.lower()


def test_a_sign_in_that_is_too_old_is_offered_anew(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    old = console.signed_in(ANNA, mfa=True, logged_in_at=console.clock.now() - timedelta(minutes=6))
    page = console.get(f"/cases/{case.id}", cookie=old).body
    assert f"/api/login/corp?to=%2Fcases%2F{case.id}%3Fopen%3Ddecide&amp;fresh=1" in page
    new = console.signed_in(ANNA, mfa=True)
    assert "Sign in again" not in console.get(f"/cases/{case.id}", cookie=new).body


def test_nobody_decides_what_no_rule_is_for(console: World) -> None:
    console.set_policy({"rules": [{"name": "low", "severities": ["low"], "approvers": ["anna"]}]})
    page = console.get(f"/cases/{console.asked().id}").body
    assert "nobody may approve it" in page
    assert not [hidden for _, hidden in Forms(page).forms if "answer" in hidden]


def test_an_ask_that_has_ended_offers_nothing(console: World) -> None:
    case = console.asked()
    console.clock.advance(timedelta(hours=8))
    page = console.get(f"/cases/{case.id}").body
    assert "it has ended" in page
    assert not [hidden for _, hidden in Forms(page).forms if "answer" in hidden]
    assert "ended; being closed" in console.get("/approvals").body


@pytest.mark.parametrize(
    "path", ["/", "/approvals", "/cases?state=waiting", "/tickets", "/log", "case", "ticket"]
)
def test_what_others_chose_stays_text_and_hides_nothing(console: World, path: str) -> None:
    hostile = Actor(type=HOSTILE, arn=HOSTILE, role_arn=HOSTILE, session=HOSTILE)
    case = console.asked(reason=HOSTILE, owner=HOSTILE, actor=hostile)
    ticket = console.ticketed(why=HOSTILE)
    page = console.get({"case": f"/cases/{case.id}", "ticket": f"/cases/{ticket.id}"}.get(path, path), OLGA)
    assert page.status == 200
    assert "<script" not in page.body
    assert "<img" not in page.body
    assert "\u202e" not in page.body
    assert ">49<" not in page.body
    if path != "/":
        assert "&lt;script&gt;" in page.body or path in {"/approvals", "/cases?state=waiting"}


def test_cases_are_listed_by_state_and_page_by_page(console: World) -> None:
    for number in range(30):
        console.keep(console.new(bucket(number), BUCKET, "s3_block_public_access"))
        console.clock.advance(seconds=1)
    first = console.get("/cases")
    assert 'value="stale"' not in first.body, "a state to which no case comes"
    assert first.body.count("<tr>") == 26
    following = first.body.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    second = console.get(following.removeprefix("/api").replace("&amp;", "&"))
    assert second.body.count("<tr>") == 6
    assert 'rel="next"' not in second.body
    assert "shop-assets-29" in first.body
    assert "shop-assets-29<" not in second.body
    assert "No case is exempt here" in text_of(console.get("/cases?state=exempt"))
    assert console.get("/cases?state=nonsense").body.count("<tr>") == 26


def test_a_place_of_another_list_or_of_nobodys_making_is_the_first_page(console: World) -> None:
    for number in range(30):
        console.keep(console.new(bucket(number), BUCKET, "s3_block_public_access"))
    sessions = console.sessions()
    forged = sessions.cursor(['["/approvals", []]', "2026|CASE#x"])
    for place in (forged, "nonsense", sessions.cursor("word"), sessions.cursor([1, 2])):
        assert console.get(f"/cases?place={place}").body.count("<tr>") == 26


def test_a_case_without_an_ask_takes_the_severity_of_its_worst_control(console: World) -> None:
    known = console.keep(console.new(bucket(1), SSH, "ec2_revoke_open_ingress"))
    gone = console.keep(console.new(bucket(2), "retired-long-ago", "gone", actor=MALLORY))
    assert "High" in text_of(console.get(f"/cases/{known.id}"))
    page = console.get(f"/cases/{gone.id}", OLGA)
    assert page.status == 200
    assert "Critical" in text_of(page)


def test_a_case_that_sleeps_says_until_when(console: World) -> None:
    case = console.new(bucket(3), BUCKET, "s3_block_public_access", state=CaseState.EXEMPT)
    wakes = console.clock.now() + timedelta(days=2)
    console.keep(case.model_copy(update={"wakes_at": wakes, "reason": "snoozed"}))
    assert "looked at again 5 Aug 2026" in text_of(console.get(f"/cases/{case.id}"))
