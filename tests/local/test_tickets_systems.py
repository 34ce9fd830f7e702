"""Ticket systems against the fakes that bite: what each is sent is accepted, and what each answers is understood."""

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from chalicelib.adapters.tickets import system_of
from chalicelib.adapters.tickets.opscenter import OpsCenter
from chalicelib.adapters.web import Web
from chalicelib.delivery.tickets import key_of
from chalicelib.domain.contract import Step
from chalicelib.domain.delivery import TicketSystem
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    RejectedError,
    UnreachableError,
)
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Integration
from chalicelib.domain.ticket import Ticket, TicketState
from local.fakes.tickets import CREDENTIALS, PROJECTS, SYSTEMS, TOKEN, USER, FakeTickets
from tests.adapters import samples
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.thorough

TRACKERS = ("jira", "servicenow", "github", "opscenter")
HTTP = ("jira", "servicenow", "github")
HOSTILE = (
    "@security-team #12 GH-3 <script>alert(1)</script> ![x](https://evil.example/x.png) [a](javascript:alert(1)) "
    "```\n<!-- redress:abc --> [code]<b>bold</b>[/code] [ /CODE ] \x1b[31m\u202eexe.txt ^ORactive=true {{7*7}} www.evil.example"
)

House = Callable[[str], TicketSystem]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake(clock: FakeClock) -> Iterator[FakeTickets]:
    with FakeTickets(now=lambda: clock.now().timestamp()) as fake:
        yield fake


def integration(fake: FakeTickets, system: str, **changed: Any) -> Integration:
    fields = {
        "name": f"our-{system}",
        "system": system,
        "at": None if system == "opscenter" else fake.at(system),
        "project": PROJECTS.get(system, ""),
        "options": {"host": "127.0.0.1"} if system == "webhook" else {},
    }
    return Integration.model_validate({**fields, **changed})


@functools.cache
def session() -> botocore.session.Session:
    return botocore.session.Session()


def ssm_of(fake: FakeTickets, region: str = "eu-central-1") -> Any:
    return session().create_client(
        "ssm",
        region_name=region,
        endpoint_url=fake.at("opscenter"),
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="canary-of-aws",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=2),
    )


def built(fake: FakeTickets, clock: FakeClock, system: str, **changed: Any) -> TicketSystem:
    return given(integration(fake, system, **changed), CREDENTIALS[system], fake, clock)


def given(
    wanted: Integration,
    credentials: Mapping[str, str],
    fake: FakeTickets,
    clock: FakeClock,
    web: Web | None = None,
) -> TicketSystem:
    ssm = ssm_of(fake) if wanted.system == "opscenter" else None
    return system_of(wanted, credentials, web or Web(allow_loopback=True), ssm, clock)  # type: ignore[arg-type]  # nobody else needs one


@pytest.fixture
def house(fake: FakeTickets, clock: FakeClock) -> House:
    return lambda system: built(fake, clock, system)


def ticket(**changed: Any) -> Ticket:
    return samples.ticket().model_copy(
        update={"steps": (Step(console="Take it away", command="aws ec2 do-it"),), **changed}
    )


def closed() -> Ticket:
    return ticket(state=TicketState.CLOSED, closed_because="an assessment found it compliant")


def key(of: Ticket | None = None) -> str:
    return key_of((of or ticket()).id, "our", "prod")


@pytest.mark.parametrize("system", TRACKERS)
def test_the_whole_life_of_a_ticket(system: str, house: House, fake: FakeTickets) -> None:
    there = house(system)
    assert there.find(key()) is None
    made = there.create(ticket(), key())
    assert not made.closed
    assert there.find(key()) == made == there.look(made.key)
    there.update(made.key, ticket(why="something new"))
    assert "something new" in fake.ticket(system, made.key).comments[-1] + fake.ticket(system, made.key).text
    there.close(made.key, closed())
    assert fake.closed(system, made.key)
    assert there.look(made.key).closed
    there.close(made.key, closed())
    there.reopen(made.key, ticket())
    assert there.look(made.key) == made
    there.reopen(made.key, ticket())
    assert not fake.refused


WEIGHTS = {
    Severity.CRITICAL: ("1", "1"),
    Severity.HIGH: ("1", "2"),
    Severity.MEDIUM: ("2", "3"),
    Severity.LOW: ("3", "4"),
}
"""How severe it is in ServiceNow, where 1 is the worst of three, and in OpsCenter, of four."""


@pytest.mark.parametrize("severity", WEIGHTS)
def test_what_is_worse_is_worse_there(severity: Severity, house: House, fake: FakeTickets) -> None:
    for system in ("servicenow", "opscenter"):
        house(system).create(ticket(severity=severity), key())
    (task,), (item,) = fake.tickets["servicenow"], fake.tickets["opscenter"]
    assert (task.sent["impact"], task.sent["urgency"]) == (WEIGHTS[severity][0],) * 2
    assert item.marks == (f"severity {WEIGHTS[severity][1]}", f"priority {WEIGHTS[severity][1]}")


@pytest.mark.parametrize("state", ["6", "7", "8"])
def test_a_task_that_is_resolved_closed_or_cancelled_is_closed(
    state: str, house: House, fake: FakeTickets
) -> None:
    there = house("servicenow")
    made = there.create(ticket(), key())
    fake.ticket("servicenow", made.key).status = state
    assert there.look(made.key).closed
    there.reopen(made.key, ticket())
    assert not there.look(made.key).closed


def test_an_issue_says_why_it_is_closed_and_open_again(house: House, fake: FakeTickets) -> None:
    there = house("github")
    made = there.create(ticket(), key())
    there.close(made.key, closed())
    assert fake.ticket("github", made.key).sent["state_reason"] == "completed"
    there.reopen(made.key, ticket())
    assert fake.ticket("github", made.key).sent["state_reason"] == "reopened"


def test_a_webhook_is_told_everything_and_asked_nothing(house: House, fake: FakeTickets) -> None:
    there = house("webhook")
    made = there.create(ticket(), key())
    assert (made.key, made.url, made.closed) == (key(), "", False)
    there.create(ticket(), key())
    there.update(made.key, ticket(why="new"))
    there.reopen(made.key, ticket())
    there.close(made.key, closed())
    (kept,) = fake.tickets["webhook"]
    assert kept.comments == ["ticket.opened", "ticket.updated", "ticket.reopened", "ticket.closed"]
    assert fake.closed("webhook", made.key)
    assert there.find(key()) is None
    with pytest.raises(UnreachableError, match="cannot be asked"):
        there.look(made.key)
    assert not fake.refused


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_others_chose_stays_text(system: str, house: House, fake: FakeTickets) -> None:
    hostile = ticket(
        title=HOSTILE,
        why=HOSTILE,
        owner=HOSTILE,
        evidence={HOSTILE: HOSTILE},
        steps=(Step(console=HOSTILE, command=HOSTILE),),
        commands=(HOSTILE,),
        as_code=HOSTILE,
        closed_because=HOSTILE,
    )
    there = house(system)
    made = there.create(hostile, key())
    there.update(made.key, hostile)
    there.close(made.key, hostile)
    assert not fake.refused


@pytest.mark.parametrize("system", TRACKERS)
def test_a_ticket_that_is_too_long_still_goes_there(system: str, house: House, fake: FakeTickets) -> None:
    long = ticket(
        title="title " * 100,
        why="w" * 1000,
        commands=("aws " + "x" * 30_000, "aws short"),
        as_code="y" * 30_000,
        evidence={"z": "z" * 30_000},
    )
    there = house(system)
    made = there.create(long, key())
    there.update(made.key, long)
    assert "Not everything fits" in fake.ticket(system, made.key).text
    assert not fake.refused


@pytest.mark.parametrize("system", TRACKERS)
def test_it_is_found_by_its_key_and_no_other_is(system: str, house: House) -> None:
    there = house(system)
    other = ticket(number=2)
    made = [there.create(one, key(one)) for one in (ticket(), other)]
    assert [there.find(key(one)) for one in (ticket(), other)] == made
    assert there.find(key_of(ticket().id, "another", "prod")) is None


def test_github_finds_behind_a_page_and_not_an_issue_without_our_label(
    house: House, fake: FakeTickets
) -> None:
    there = house("github")
    made = there.create(ticket(), key())
    for number in range(2, 60):
        there.create(ticket(number=number), key(ticket(number=number)))
    assert there.find(key()) == made
    # Anybody may copy a marker; a label takes a right.
    planted = fake.tickets["github"][-1]
    planted.marks = ()
    planted.text = fake.ticket("github", made.key).text
    assert there.find(key()) == made
    # Nor does a marker count that is not the end of the text, where quoted text may hold one.
    fake.ticket("github", made.key).text += "\nedited"
    assert there.find(key()) is None


def test_github_looks_through_so_many_pages_and_no_more(
    house: House, fake: FakeTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.adapters.tickets.github.PAGE", 1)
    there = house("github")
    for number in range(1, 13):
        there.create(ticket(number=number), key(ticket(number=number)))
    assert there.find(key(ticket(number=3)))
    assert there.find(key(ticket(number=1))) is None


def test_addresses_are_ours_and_not_an_answers(house: House, fake: FakeTickets) -> None:
    there = {system: house(system).create(ticket(), key()) for system in TRACKERS}
    assert there["github"].url == f"{fake.at('github')}/example/security/issues/1"
    assert there["jira"].url == f"{fake.at('jira')}/browse/SEC-1"
    assert there["servicenow"].url.startswith(
        f"{fake.at('servicenow')}/nav_to.do?uri=incident.do%3Fsys_id%3D"
    )
    assert there["servicenow"].key == "INC0010001"
    assert there["opscenter"].url == (
        "https://eu-central-1.console.aws.amazon.com/systems-manager/opsitems/oi-000000000001?region=eu-central-1"
    )


@pytest.mark.parametrize("system", TRACKERS)
@pytest.mark.parametrize("remembered", ["../../admin", "SEC-1/../x", "1?x=y", "", "oi-1", "a b"])
def test_what_is_remembered_wrongly_is_not_asked_for(
    system: str, remembered: str, house: House, fake: FakeTickets
) -> None:
    for act in (
        house(system).look,
        lambda name: house(system).update(name, ticket()),
        lambda name: house(system).close(name, closed()),
    ):
        with pytest.raises(RejectedError, match="what is remembered is no"):
            act(remembered)
    assert not fake.asked


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", HTTP)
@pytest.mark.parametrize(
    "status,headers,kind,wait",
    [
        (429, {"Retry-After": "7"}, LaterError, 7),
        (429, {}, LaterError, 60),
        (429, {"Retry-After": "999999999999"}, LaterError, 3600),
        (429, {"Retry-After": "soon"}, LaterError, 60),
        (503, {"Retry-After": "30"}, LaterError, 30),
        (503, {}, AmbiguousError, 60),
        (500, {}, AmbiguousError, 60),
        (502, {"Retry-After": "5"}, AmbiguousError, 5),
        (403, {"Retry-After": "60"}, LaterError, 60),
        (403, {"X-RateLimit-Remaining": "0"}, LaterError, 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, LaterError, 1),
        (403, {}, UnreachableError, None),
        (401, {}, UnreachableError, None),
        (404, {}, UnreachableError, None),
        (410, {}, UnreachableError, None),
        (302, {"Location": "http://169.254.169.254/"}, UnreachableError, None),
        (400, {}, RejectedError, None),
        (422, {}, RejectedError, None),
    ],
)
def test_what_a_status_means_for_a_create(
    system: str,
    status: int,
    headers: dict[str, str],
    kind: type[DeliveryError],
    wait: int | None,
    house: House,
    fake: FakeTickets,
) -> None:
    fake.fail(system, "create", status=status, headers=headers)
    with pytest.raises(DeliveryError) as refused:
        house(system).create(ticket(), key())
    assert type(refused.value) is kind
    assert str(refused.value).startswith(f"our-{system}: {status}")
    if isinstance(refused.value, LaterError):
        assert refused.value.retry_after == wait
    assert not fake.tickets[system]


def test_a_date_says_how_long_to_wait_by_the_other_sides_clock(house: House, fake: FakeTickets) -> None:
    fake.fail("jira", "look", status=429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})
    with pytest.raises(LaterError) as busy:
        house("jira").look("SEC-1")
    assert busy.value.retry_after == 3600


@pytest.mark.parametrize("system", HTTP)
def test_a_read_is_never_ambiguous(system: str, house: House, fake: FakeTickets) -> None:
    made = house(system).create(ticket(), key())
    for status, body in (
        (500, None),
        (200, "no JSON"),
        (200, "{}"),
        (200, '{"result": [{}], "issues": [{}]}'),
    ):
        fake.fail(system, "find", status=status, body=body)
        with pytest.raises(LaterError) as later:
            house(system).find(key())
        assert type(later.value) is LaterError
        fake.fail(system, "look", status=status, body=body)
        with pytest.raises(LaterError) as later:
            house(system).look(made.key)
        assert type(later.value) is LaterError


@pytest.mark.parametrize("system", TRACKERS)
def test_a_create_that_breaks_after_it_was_accepted_is_ambiguous(
    system: str, house: House, fake: FakeTickets
) -> None:
    fake.fail(system, "create", after=True)
    with pytest.raises(AmbiguousError):
        house(system).create(ticket(), key())
    assert len(fake.tickets[system]) == 1


@pytest.mark.parametrize("system", TRACKERS)
@pytest.mark.parametrize("body", ["no JSON", "{}", '{"key": "../x", "number": -1, "OpsItemId": "x"}', ""])
def test_an_answer_that_names_no_ticket_is_ambiguous(
    system: str, body: str, house: House, fake: FakeTickets
) -> None:
    fake.fail(system, "create", status=201, body=body, after=True)
    with pytest.raises(AmbiguousError):
        house(system).create(ticket(), key())


def test_a_webhook_told_twice_is_told_once(house: House, fake: FakeTickets) -> None:
    fake.fail("webhook", "create", after=True)
    with pytest.raises(LaterError) as later:
        house("webhook").create(ticket(), key())
    assert type(later.value) is LaterError
    house("webhook").create(ticket(), key())
    assert len(fake.tickets["webhook"]) == 1
    assert fake.tickets["webhook"][0].comments == ["ticket.opened"]


def test_a_webhooks_signature_is_of_now(house: House, fake: FakeTickets, clock: FakeClock) -> None:
    there = house("webhook")
    there.create(ticket(), key())
    clock.advance(seconds=86_400)
    there.update(key(), ticket(why="the next day"))
    assert not fake.refused


@pytest.mark.parametrize("system", HTTP)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_no_message_holds_a_credential_even_one_sent_back(
    system: str, status: int, house: House, fake: FakeTickets, caplog: pytest.LogCaptureFixture
) -> None:
    pair = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
    echoed = f"you sent Basic {pair} Bearer {TOKEN} {json.dumps(dict(CREDENTIALS[system]))}"
    body = json.dumps({"message": echoed, "errorMessages": [echoed], "error": {"message": echoed}})
    fake.fail(system, "create", status=status, body=body)
    with pytest.raises(DeliveryError) as refused:
        house(system).create(ticket(), key())
    said = f"{refused.value!r} {caplog.text} {house(system)!r}"
    assert "[credential]" in said
    assert TOKEN not in said
    assert (
        pair not in said or system == "github"
    )  # which sends no pair, so that this one is none of its credentials


def test_a_reason_is_short_on_one_line_and_harmless(house: House, fake: FakeTickets) -> None:
    fake.fail("github", "create", status=422, body=json.dumps({"message": "\x1b[31m\u202e\n" + "x" * 10_000}))
    with pytest.raises(RejectedError) as refused:
        house("github").create(ticket(), key())
    assert len(str(refused.value)) < 260
    assert str(refused.value).isprintable()
    for body in (
        "[" * 100_000,
        "plain words",
        "",
        '{"errors": ["one"], "message": "two"}',
        "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ):
        fake.fail("github", "create", status=422, body=body)
        with pytest.raises(RejectedError):
            house("github").create(ticket(), key())


def test_jiras_reasons_are_told(fake: FakeTickets, clock: FakeClock) -> None:
    there = built(fake, clock, "jira", project="OTHER")
    with pytest.raises(RejectedError, match="project: valid project is required"):
        there.create(ticket(), key())


def test_a_workflow_without_a_way_to_done_says_so(house: House, fake: FakeTickets) -> None:
    there = house("jira")
    made = there.create(ticket(), key())
    fake.done_transitions = False
    with pytest.raises(RejectedError, match="no transition to a done status"):
        there.close(made.key, closed())
    (comment,) = fake.ticket("jira", made.key).comments
    assert "an assessment found it compliant" in comment, "whoever moves it by hand reads why"


@pytest.mark.parametrize("system", ["github", "jira"])
@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("what", ["close", "reopen"])
def test_a_move_that_fails_again_and_again_leaves_no_comment_each_time(
    system: str, status: int, what: str, house: House, fake: FakeTickets
) -> None:
    there = house(system)
    made = there.create(ticket(), key())
    if what == "reopen":
        fake.move(system, made.key, closed=True)
    act = functools.partial(getattr(there, what), made.key, closed() if what == "close" else ticket())
    fake.fail(system, "move", status=status, times=30)
    for _ in range(30):
        with pytest.raises(DeliveryError):
            act()
    assert fake.ticket(system, made.key).comments == []
    act()
    assert len(fake.ticket(system, made.key).comments) == 1
    assert fake.closed(system, made.key) == (what == "close")


@pytest.mark.parametrize(
    "code,status,kind",
    [
        ("AccessDeniedException", 400, UnreachableError),
        ("OpsItemAccessDeniedException", 400, UnreachableError),
        ("OpsItemNotFoundException", 400, UnreachableError),
        ("OpsItemLimitExceededException", 400, LaterError),
        ("ThrottlingException", 400, AmbiguousError),
        ("InternalServerError", 500, AmbiguousError),
        ("OpsItemInvalidParameterException", 400, RejectedError),
    ],
)
def test_what_opscenters_errors_mean(
    code: str, status: int, kind: type[DeliveryError], house: House, fake: FakeTickets
) -> None:
    fake.fail("opscenter", "create", status=status, body=json.dumps({"__type": code, "message": "because"}))
    with pytest.raises(DeliveryError) as refused:
        house("opscenter").create(ticket(), key())
    assert type(refused.value) is kind
    assert "canary-of-aws" not in repr(refused.value)
    later = LaterError if issubclass(kind, LaterError) else kind
    for act, operation in (
        (lambda: house("opscenter").find(key()), "find"),
        (lambda: house("opscenter").look("oi-" + "0" * 12), "look"),
        (lambda: house("opscenter").update("oi-" + "0" * 12, ticket()), "update"),
    ):
        fake.fail(
            "opscenter", operation, status=status, body=json.dumps({"__type": code, "message": "because"})
        )
        with pytest.raises(DeliveryError) as refused:
            act()
        assert type(refused.value) is later


def test_opscenter_names_the_open_one_instead_of_a_second(house: House, fake: FakeTickets) -> None:
    there = house("opscenter")
    made = there.create(ticket(), key())
    assert there.create(ticket(), key()) == made
    there.close(made.key, closed())
    assert there.create(ticket(), key()).key != made.key
    assert there.find(key()) == there.look(made.key), "the older one"


def test_opscenter_of_another_partition_and_of_an_account(fake: FakeTickets, clock: FakeClock) -> None:
    china = OpsCenter(integration(fake, "opscenter"), ssm_of(fake, "cn-north-1"))
    whole = ticket(resource="AWS::::Account:111111111111")
    assert china.create(whole, key(whole)).url.startswith("https://cn-north-1.console.amazonaws.cn/")
    assert "/aws/resources" not in fake.tickets["opscenter"][0].sent
    fake.fail("opscenter", "look", status=200, body="{}")
    with pytest.raises(LaterError, match="how the OpsItem stands"):
        china.look("oi-000000000001")


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system,changed,credentials",
    [
        ("jira", {"at": None}, None),
        ("jira", {"project": 'SEC" OR "1"="1'}, None),
        ("jira", {}, {"email": "x"}),
        ("github", {"at": None}, None),
        ("github", {"project": "example/../../x"}, None),
        ("github", {"project": "example/.."}, None),
        ("github", {}, {}),
        ("servicenow", {"at": None}, None),
        ("servicenow", {"project": "incident/../sys_user"}, None),
        ("servicenow", {}, {"user": "x"}),
        ("webhook", {"at": None}, None),
        ("webhook", {"options": {}}, None),
        ("webhook", {"options": {"host": "other.example"}}, None),
        ("webhook", {}, {"secret": "short"}),
        ("webhook", {}, {}),
    ],
)
def test_what_does_not_suffice_says_what_is_missing(
    system: str,
    changed: dict[str, Any],
    credentials: dict[str, str] | None,
    fake: FakeTickets,
    clock: FakeClock,
) -> None:
    with pytest.raises(UnreachableError, match=f"our-{system}: "):
        given(
            integration(fake, system, **changed),
            CREDENTIALS[system] if credentials is None else credentials,
            fake,
            clock,
        )


@pytest.mark.parametrize("system", ["webhook", *HTTP])
@pytest.mark.parametrize(
    "at,host",
    [
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("https://10.0.0.1/x", "10.0.0.1"),
        ("https://127.0.0.1:1/x", "127.0.0.1"),
        ("https://inside.example/x", "inside.example"),
        ("http://127.0.0.1:1/x", "127.0.0.1"),
    ],
)
def test_no_integration_reaches_inside(
    system: str, at: str, host: str, fake: FakeTickets, clock: FakeClock
) -> None:
    web = Web(resolve=lambda name, _: ["192.168.1.1"] if name == "inside.example" else [name])
    there = given(
        integration(fake, system, at=at, options={"host": host}),
        CREDENTIALS[system],
        fake,
        clock,
        web,
    )
    with pytest.raises(UnreachableError, match="not a place to connect to"):
        there.create(ticket(), key())


def test_other_ways_to_sign_in_and_other_options(fake: FakeTickets, clock: FakeClock) -> None:
    for system, scheme in (("jira", "Bearer"), ("servicenow", "Bearer")):
        there = given(integration(fake, system), {"token": "an-oauth-token"}, fake, clock)
        assert there._web._headers["Authorization"] == f"{scheme} an-oauth-token"  # type: ignore[attr-defined]  # sent as it is
    group = "a" * 32
    there = built(fake, clock, "servicenow", options={"assignment_group": group})
    made = there.create(ticket(), key())
    assert fake.ticket("servicenow", made.key).sent["assignment_group"] == group
    wrong = built(fake, clock, "servicenow", options={"close_code": "Solved"})
    with pytest.raises(UnreachableError, match="mandatory"):
        wrong.close(made.key, closed())
    with pytest.raises(UnreachableError, match="INC0099999 is not there"):
        there.look("INC0099999")
    there = built(fake, clock, "jira", options={"issue_type": "Bug"})
    assert fake.ticket("jira", there.create(ticket(), key()).key).sent["issuetype"] == {"name": "Bug"}
    enterprise = built(fake, clock, "github", at="https://git.example/api/v3")
    assert enterprise._shown == "https://git.example/example/security/issues"  # type: ignore[attr-defined]  # what people click on
    assert built(fake, clock, "github", at="https://api.github.com")._shown.startswith("https://github.com/")  # type: ignore[attr-defined]  # what people click on
