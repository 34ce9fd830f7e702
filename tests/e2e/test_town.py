"""Cards, sign-ins, tickets and mails on one deployment, with a Slack, a sign-in provider and a Jira around it.

Each control of a channel gets three cards in five minutes and then a digest: no more asks of one control are made here.
"""

import hashlib
import hmac
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

import pytest

from chalicelib.domain.approval import Door
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import TakeUp
from chalicelib.flow.governing import Invite, Uninvite
from local.demo import ACCOUNT_SETTING, REGIONS, WORLD, answer, opened, refused, root_made_a_key
from local.emulator.world import WorldError
from local.fakes.slack import TEAM, Message
from local.stage import Stage
from local.town import EVERYDAY, HOOK_SECRET, PEOPLE, SECURITY, Town
from local.visitor import Page, Visitor
from tests.e2e.conftest import ROOMY
from tests.e2e.scenes import ONLY_443, RDP, SSH, calm, effective, exempt, kinds, of, set_mode, story

pytestmark = pytest.mark.emulator

BUCKETS, ROOT_KEY, EBS = "s3-bucket-public-access-block", "iam-root-access-key", "ebs-default-encryption"
NOT_HIS = "You made the change or asked for this look, so you cannot approve it"
AT_ONCE = 50


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Town() as one:
        yield one


@pytest.fixture(scope="module")
def stage(town: Town) -> Iterator[Stage]:
    with Stage(parameters=ROOMY, regions=REGIONS, environment=town.environment) as one:
        one.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
        town.settle(one)
        set_mode(one, Mode.ASK, "ec2-open-ssh", "ec2-open-rdp", EBS, BUCKETS)
        set_mode(one, Mode.TICKET, ROOT_KEY)
        yield one


@pytest.fixture(autouse=True)
def as_it_was(town: Town, stage: Stage) -> Iterator[None]:
    yield
    stage.world.shift_clock(timedelta())
    town.slack.revoked = False
    town.slack.users[user("bert")]["is_restricted"] = False
    town.slack.channels[SECURITY].archived = False


def user(name: str) -> str:
    return PEOPLE[name][2]


def person(name: str) -> Visitor:
    """That person with a fresh browser."""
    return Visitor(user(name))


def page_of(stage: Stage, case: Case) -> str:
    return f"{stage.api}/cases/{case.id}"


def asked(stage: Stage, name: str, port: int) -> tuple[str, Case]:
    """A group whose port dave just opened, and the case that waits."""
    group = stage.security_group(name)
    stage.open(group, port)
    return group, stage.await_case(stage.arn(group), CaseState.WAITING)


def unblocked(stage: Stage, bucket: str) -> Case:
    """The case of a bucket whose public access block dave just deleted."""
    resource = stage.bucket(bucket)
    stage.world.client("s3", quiet=True).put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    )
    stage.world.client("s3", stage.developer).delete_public_access_block(Bucket=bucket)
    return stage.await_case(resource, CaseState.WAITING)


def recorded(stage: Stage, since: datetime) -> list[dict[str, Any]]:
    """The bodies of all records of the account since then."""
    until = datetime.now(UTC) + timedelta(minutes=1)
    return [json.loads(one.body) for one in stage.ledger.records(stage.world.account, since, until)]


def says(stage: Stage, card: Message, heading: str) -> None:
    """The card begins so, soon."""
    with suppress(WorldError):
        stage.world.wait_for(lambda: card.text.startswith(heading), 25.0)
    assert card.text[: len(heading)] == heading


def told(stage: Stage, town: Town, card: Message, *replies: str) -> None:
    """The thread says so, soon; that something is being carried out may be said between, where that takes a while."""

    def heads() -> list[str]:
        lines = [one for one in town.thread(card) if not one.startswith("⏳")]
        return [one[: len(wanted)] for one, wanted in zip_longest(lines, replies, fillvalue="")]

    with suppress(WorldError):
        stage.world.wait_for(lambda: heads() == [*replies], 25.0)
    assert heads() == [*replies], town.thread(card)


def taken(page: Page) -> bool:
    """Whether the answer was taken: the page behind it may show what came of it already."""
    return page.status == 200


# -- the engineer's way -----------------------------------------------------------------------------------------------


def test_from_the_card_to_the_outcome_and_back_again(town: Town, stage: Stage) -> None:
    group = stage.security_group("town-way")
    stage.world.client("ec2", quiet=True).create_tags(
        Resources=[group], Tags=[{"Key": "owner", "Value": "shop team"}]
    )
    stage.open(group, SSH)
    case = stage.await_case(stage.arn(group), CaseState.WAITING)
    card = town.await_card(stage, SECURITY, case.id)

    # The links are visited before anybody can read the card, and nothing comes of it.
    link = next(button["url"] for _, button in card.buttons() if button["action_id"] == "review")
    calm(stage)
    visits = [one for one in town.slack.crawled() if one.url == link]
    assert {one.method for one in visits} == {"GET", "HEAD"}
    assert {one.status for one in visits} <= {303, 403}
    assert [button for _, button in card.buttons() if "url" not in button] == []
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "ASKED"]
    assert stage.ledger.answers(case.id, 1) is None

    # Dave made the change under his IAM user, and comes back as somebody of Slack's.
    dave = person("dave")
    page = dave.get(link)
    assert NOT_HIS in page.text
    refusal = dave.send(
        page.form("/answer", answer="deny"), answer="approve", reason="own", words="it is fine"
    )
    assert refusal.status == 409
    assert NOT_HIS.lower() in refusal.text.lower()
    assert stage.ledger.answers(case.id, 1) is None

    assert taken(person("anna").answer(link, "approve", "seen and agreed"))
    says(stage, card, "✅ Fixed, and verified")
    told(stage, town, card, "✅ Fixed, and verified · Close port 22 to the Internet")
    assert stage.ingress(group) == ONLY_443
    assert len(effective(stage, group)) == 1
    given = stage.ledger.answers(case.id, 1)
    assert given
    assert [(one.by, one.door) for one in given.answers] == [(f"slack:{TEAM}/{user('anna')}", Door.CONSOLE)]

    def mails() -> list[str]:
        return [
            one.text
            for one in stage.world.mails()
            if one.attributes.get("owner") == "shop team" and stage.arn(group) in one.text
        ]

    stage.world.wait_for(mails, 25.0, "a mail to the owner")
    (mail,) = mails()
    assert "To keep it, if Terraform manages the resource" in mail
    assert "aws_" in mail
    assert f"redress undo {case.id}" in mail

    # And back: olga wants it undone, does not approve it herself, anna does.
    olga = person("olga")
    form = olga.get(page_of(stage, case)).form("/undo")
    olga.send(form, run="1", days="7", owner="network team", words="it cut off the night backup")
    again = stage.await_case(stage.arn(group), CaseState.WAITING)
    stage.world.wait_for(lambda: len(town.cards(SECURITY, case.id)) == 2, 25.0, "a second card")
    undo = town.cards(SECURITY, case.id)[-1]
    assert "Undo asked" in undo.text
    assert "You wanted it taken back, so you cannot approve it" in olga.get(page_of(stage, again)).text
    assert taken(person("anna").answer(page_of(stage, again), "approve", "the backup matters"))
    stage.await_record(stage.arn(group), "UNDO_RESULT")
    says(stage, undo, "⚪ Exempt")
    says(stage, card, "⚪ Over: see the newest card")
    assert stage.ingress(group) == {*ONLY_443, (SSH, WORLD)}


# -- buttons ----------------------------------------------------------------------------------------------------------


def test_a_button_decides_what_is_of_medium_severity_and_only_for_whom_it_may(
    town: Town, stage: Stage
) -> None:
    ec2, since = stage.world.client("ec2", stage.developer), datetime.now(UTC)
    ec2.disable_ebs_encryption_by_default()
    resource = ACCOUNT_SETTING.format(account=stage.world.account)
    case = stage.await_case(resource, CaseState.WAITING)
    card = town.await_card(stage, EVERYDAY, case.id)

    def press(who: str, **how: object) -> int:
        return town.slack.press(EVERYDAY, card.ts, "approve", who, **how).status  # type: ignore[arg-type]  # a test's own choices

    for how in ("forged", "reencoded", "non_ascii", "unsigned"):
        assert press(user("anna"), how=how) == 401
    for late_by in (301, -301):
        assert press(user("anna"), late_by=late_by) == 401
    assert of(recorded(stage, since), "ANSWER_REFUSED") == []

    town.slack.users[user("bert")]["is_restricted"] = True
    town.slack.add_user("U0NEWCOMER", "somebody whom the policy does not know")
    for who in (user("bert"), user("dave"), user("vera"), "U0NEWCOMER"):
        assert press(who) == 200
    calm(stage)
    assert [one["data"]["case"] for one in of(recorded(stage, since), "ANSWER_REFUSED")] == [case.id] * 4
    assert [one.text.partition(":")[0] for one in town.slack.ephemerals] == ["Not taken"] * 4
    assert stage.ledger.answers(case.id, 1) is None
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False

    assert press(user("anna")) == 200
    assert town.slack.ephemerals[-1].text.startswith("the change of")
    says(stage, card, "✅ Fixed, and verified")
    told(stage, town, card, "✅ Fixed, and verified")
    ((_, button),) = card.buttons()
    assert button["action_id"] == "review"
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True
    assert town.slack.replay().status == 200
    assert town.slack.ephemerals[-1].text.startswith("Not taken")
    assert len(stage.records(resource, "RESULT")) == 1


# -- several ----------------------------------------------------------------------------------------------------------


def test_what_is_critical_takes_two_and_the_thread_counts_them(town: Town, stage: Stage) -> None:
    case = unblocked(stage, "town-quorum")
    card = town.await_card(stage, SECURITY, case.id)
    first = person("anna").answer(page_of(stage, case), "approve", "one")
    assert taken(first)
    assert "1 of 2 have; nothing is changed until the others have too" in first.text
    told(stage, town, card, "👍 Approved in part · 1 of 2 approvals")
    assert not any(stage.pab("town-quorum").values())
    assert taken(person("olga").answer(page_of(stage, case), "approve", "two"))
    says(stage, card, "✅ Fixed, and verified")
    told(stage, town, card, "👍 Approved in part", "✅ Fixed, and verified")
    assert all(stage.pab("town-quorum").values())


def test_of_fifty_who_approve_at_once_one_decides_and_it_is_done_once(town: Town, stage: Stage) -> None:
    group, case = asked(stage, "town-fifty", RDP)
    card = town.await_card(stage, SECURITY, case.id)
    people = [person(name) for name in ("anna", "bert", "olga")]
    forms = [one.get(page_of(stage, case)).form("/answer", answer="approve") for one in people]
    start = threading.Barrier(AT_ONCE)
    ended: list[Page] = []

    def say(number: int) -> None:
        start.wait()
        page = people[number % 3].send(forms[number % 3], reason="own", words=f"number {number}")
        while page.status == 429:  # API Gateway has no room for so many at once
            page = people[number % 3].send(forms[number % 3], reason="own", words=f"number {number}")
        ended.append(page)

    threads = [threading.Thread(target=say, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [page.status for page in ended]
    assert (statuses.count(200), statuses.count(409)) == (1, AT_ONCE - 1)
    turned_away = [page.text for page in ended if page.status == 409]
    assert all("approved it already" in text for text in turned_away)
    says(stage, card, "✅ Fixed, and verified")
    calm(stage)
    assert kinds(story(stage, group)).count("INTENT") == 1
    assert len(of(story(stage, group), "ANSWERED")) == 1
    assert len(effective(stage, group)) == 1
    assert stage.ingress(group) == ONLY_443


# -- time, and what changes meanwhile ---------------------------------------------------------------------------------


def test_what_changed_after_the_card_was_sent_is_stale_and_asked_anew(town: Town, stage: Stage) -> None:
    group = stage.security_group("town-stale")
    (rule,) = stage.open(group, RDP)
    case = stage.await_case(stage.arn(group), CaseState.WAITING)
    card = town.await_card(stage, SECURITY, case.id)
    quiet = stage.world.client("ec2", quiet=True)
    quiet.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[rule])
    opened(quiet, group, RDP)
    assert taken(person("anna").answer(page_of(stage, case), "approve", "as it was this morning"))
    stage.await_record(stage.arn(group), "STALE")
    says(stage, card, "⚪ Over: see the newest card")
    told(stage, town, card, "⚪ STALE: what was approved no longer fits; nothing was changed")
    again = stage.await_case(stage.arn(group), CaseState.WAITING)
    with suppress(WorldError):
        stage.world.wait_for(lambda: len(town.cards(SECURITY, again.id)) == 2, 25.0)
    assert len(town.cards(SECURITY, again.id)) == 2, [one.text for one in town.slack.messages(SECURITY)]
    assert effective(stage, group) == []
    assert town.cards(SECURITY, again.id)[-1].text.startswith("🟠 HIGH")


def test_after_its_end_no_answer_counts_and_the_card_and_jira_hear_of_it(town: Town, stage: Stage) -> None:
    case = unblocked(stage, "town-expired")
    card = town.await_card(stage, SECURITY, case.id)
    stage.world.shift_clock(timedelta(hours=8, seconds=1))
    assert "the ask expired at" in refused(stage, case, stage.approver)
    assert stage.ledger.answers(case.id, 1) is None
    stage.world.shift_clock(timedelta(hours=8, minutes=2))
    stage.fire("tick")
    stage.await_case(case.target.resource, CaseState.EXPIRED)
    says(stage, card, "⚪ Over without a decision: nothing was changed")
    stage.world.wait_for(
        lambda: [one for one in town.tickets.tickets["jira"] if "town-expired" in one.text],
        25.0,
        "a ticket in Jira",
    )
    assert not any(stage.pab("town-expired").values())


# -- tickets ----------------------------------------------------------------------------------------------------------


def hooked(stage: Stage, key: str, labels: tuple[str, ...]) -> int:
    """Jira's webhook: that somebody moved the issue to Done."""
    done = {"labels": list(labels), "status": {"statusCategory": {"key": "done"}}}
    said = {
        "webhookEvent": "jira:issue_updated",
        "issue": {"key": key, "fields": done},
        "changelog": {"items": [{"field": "status"}]},
    }
    body = json.dumps(said).encode()
    signature = hmac.new(HOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"{stage.api}/hooks/jira",
        body,
        {"Content-Type": "application/json", "X-Hub-Signature": f"sha256={signature}"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        status: int = reply.status
        return status


def test_a_ticket_is_made_once_reopened_when_closed_too_early_and_closed_when_the_work_is_done(
    town: Town, stage: Stage
) -> None:
    resource, there = ACCOUNT_SETTING.format(account=stage.world.account), town.tickets.tickets["jira"]
    stage.world.root_access_key(present=True)
    event = root_made_a_key(stage)
    for _ in range(3):
        stage.world.emit(event)
    case = stage.await_case(resource, CaseState.TICKETED)

    def ours() -> list[str]:
        return [one.key for one in there if "root user" in one.title]

    stage.world.wait_for(ours, 25.0, "a ticket in Jira")
    calm(stage)
    (key,) = ours()

    town.tickets.move("jira", key, closed=True)
    assert hooked(stage, key, town.tickets.ticket("jira", key).marks) == 200
    stage.world.wait_for(lambda: not town.tickets.closed("jira", key), 40.0, "Jira's ticket to be open again")
    assert stage.records(resource, "TICKET_CLOSED_EXTERNALLY")

    stage.world.root_access_key(present=False)
    stage.command(TakeUp(case=case.id, reason="the root key is gone"))
    stage.world.wait_for(lambda: town.tickets.closed("jira", key), 40.0, "Jira's ticket to be closed")
    calm(stage)
    assert stage.records(resource, "TICKET_CLOSED")
    assert ours() == [key]
    assert town.tickets.refused == []


# -- when Slack does not do its part ----------------------------------------------------------------------------------


def line_of(stage: Stage, case: Case, channel: str) -> str:
    """What the case's page says of how far that channel was told."""
    text = person("vera").get(page_of(stage, case)).text
    found = re.search(
        rf"Slack channel {channel} ?: (.*?)(?= Slack channel C0| Mail | Case | Ticket |$)", text
    )
    return found[1] if found else ""


def resent(stage: Stage) -> None:
    """A quarter of an hour later, the schedule sees to what stays on its way.

    SQS's own clock does not run ahead: what it saw within five minutes it forgets only with the scope of its memory.
    """
    sqs, url, scope = (
        stage.world.client("sqs", quiet=True),
        stage.queue_url("notices"),
        "DeduplicationScope",
    )
    stands = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[scope])["Attributes"][scope]
    other = "queue" if stands == "messageGroup" else "messageGroup"
    sqs.set_queue_attributes(QueueUrl=url, Attributes={scope: other})
    stage.world.shift_clock(timedelta(minutes=11))
    stage.fire("resend")


def test_while_the_token_is_revoked_the_case_says_what_waits_and_the_sweep_delivers_it_later(
    town: Town, stage: Stage
) -> None:
    town.slack.revoked = True
    _, case = asked(stage, "town-revoked", SSH)
    stage.world.wait_for(
        lambda: "token_revoked" in line_of(stage, case, SECURITY), 40.0, "the page to say what it waits for"
    )
    assert line_of(stage, case, SECURITY).startswith("Waiting “Approval wanted”, since")

    def mailed() -> bool:
        people = [one.text for one in stage.world.mails() if one.attributes["audience"] == "people"]
        return any(case.target.resource in text for text in people)

    stage.world.wait_for(mailed, 25.0, "a mail in its place")
    town.slack.revoked = False
    resent(stage)
    card = town.await_card(stage, SECURITY, case.id, 40.0)
    stage.world.shift_clock(timedelta())
    calm(stage)
    assert len(town.cards(SECURITY, case.id)) == 1
    assert "Told" in line_of(stage, case, SECURITY)
    assert card.text.startswith("🟠 HIGH")


def test_an_archived_channel_is_told_elsewhere_and_both_show_what_became_of_it(
    town: Town, stage: Stage
) -> None:
    town.slack.channels[SECURITY].archived = True
    case = unblocked(stage, "town-archived")
    meanwhile = town.await_card(stage, EVERYDAY, case.id)
    assert town.cards(SECURITY, case.id) == []
    stage.world.wait_for(
        lambda: "is_archived" in line_of(stage, case, SECURITY), 25.0, "the page to say what it waits for"
    )
    town.slack.users[user("bert")]["is_restricted"] = False
    town.slack.channels[SECURITY].archived = False
    resent(stage)
    card = town.await_card(stage, SECURITY, case.id, 40.0)
    stage.world.shift_clock(timedelta())
    answer(stage, case, stage.approver, approve=False)
    for one in (card, meanwhile):
        says(stage, one, "⛔ Denied: nothing was changed")


# -- an auditor -------------------------------------------------------------------------------------------------------


def exempted(stage: Stage, name: str) -> Case:
    """The case of an open group about which nobody is asked."""
    group = stage.security_group(name)
    stage.command(exempt(stage, group))
    stage.open(group, SSH)
    return stage.await_case(stage.arn(group), CaseState.EXEMPT)


def test_an_invited_auditor_looks_on_record_decides_nothing_and_is_gone_when_it_ends(
    town: Town, stage: Stage
) -> None:
    identity = "U0ERIN0001"
    town.sign_in.add_person(identity, "Erin Engaged", "erin@auditors.example", team=TEAM)
    erin, since = Visitor(identity), datetime.now(UTC)
    assert erin.get(f"{stage.api}/log").status == 403
    stage.command(
        Invite(
            id="erin",
            name="Erin Engaged",
            identity=f"slack:{TEAM}/{identity}",
            days=30,
            reason="year's audit",
        )
    )
    case = exempted(stage, "town-audited")
    paths = ["/", "/log", "/cases", f"/cases/{case.id}", "/controls", "/exemptions", "/people"]
    erin = Visitor(identity)
    for path in paths:
        page = erin.get(f"{stage.api}{path}")
        assert page.status == 200, (path, page.text[:300])
        assert "You look as an auditor, until" in page.text
        assert [one.action for one in page.forms if "/logout" not in one.action and one.fields] == []

    def views() -> list[str]:
        return [one["data"]["path"] for one in of(recorded(stage, since), "VIEWED")]

    assert sorted(views()) == sorted(paths)
    stage.command(Uninvite(id="erin", reason="the audit is over"))
    assert erin.get(f"{stage.api}/log").status == 403
    assert len(views()) == len(paths)
