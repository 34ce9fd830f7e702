"""The card: what an engineer reads in ten seconds, in blocks that Slack takes, whatever others called their resources."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.catalog import load
from chalicelib.delivery.card import Card, CardView, card, digest_card, reply, sheet, view_of
from chalicelib.domain.approval import Answer, Answers, Ask, Door, Kind, Undone
from chalicelib.domain.case import Case, CaseState, JoinedCause
from chalicelib.domain.contract import Call, Declined, MonthlyCost, Outcome, Plan
from chalicelib.domain.delivery import Storm
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.finding import Actor, Origin, Severity, Target
from chalicelib.domain.policy import Policy
from local.fakes.slack import LONGEST_BLOCKS, problems
from remediations.s3_block_public_access import REMEDIATION
from tests.delivery.test_escape import ANY, ATTACKS
from tests.fakes.clock import START

CONTROLS = {control.id: control for control in load().controls}
CONTROL = "s3-bucket-public-access-block"
HOME = "123456789012"
ANNA, BEN = "slack:T0REDRESS/U0ANNA", "oidc:https://idp.example#ben"
HASH = "ab" * 32
CALL = Call(
    service="s3",
    operation="PutPublicAccessBlock",
    params={"Bucket": "orders"},
    why="Switch all four public access settings of orders on",
)
PLAN = Plan(calls=(CALL,))


def policy(**changes: Any) -> Policy:
    document: dict[str, Any] = {
        "console_url": "https://redress.example/api",
        "people": {
            "anna": {"name": "Anna", "identities": (ANNA,)},
            "ben": {"name": "Ben", "identities": (BEN,)},
        },
        "accounts": {HOME: {"name": "shop-prod"}},
        "rules": (
            {
                "name": "small",
                "severities": (Severity.LOW, Severity.MEDIUM),
                "approvers": ("anna",),
                "doors": tuple(Door),
            },
            {"name": "all", "approvers": ("anna", "ben"), "quorum": 2, "doors": (Door.CONSOLE,)},
        ),
        "routes": ({"name": "all", "channel": "C0SECURITY", "on_call": "slack:S0ONCALL"},),
        "slack_team": "T0REDRESS",
        "providers": (
            {"name": "corp", "title": "Corp", "issuer": "https://idp.example", "client_id": "c"},
            {
                "name": "slack",
                "title": "Slack",
                "issuer": "https://slack.com",
                "client_id": "c",
                "team": "T0REDRESS",
            },
        ),
    }
    return Policy.model_validate({**document, **changes})


def ask(**changes: Any) -> Ask:
    usual = Ask(
        seq=1,
        controls=(CONTROL,),
        asked_at=START,
        expires_at=START + timedelta(hours=8),
        plan=PLAN,
        plan_hash=HASH,
        before={},
        reason="older than an hour",
        severity=Severity.CRITICAL,
    )
    return usual.model_copy(update=changes)


def case(asked: Ask | None = None, **changes: Any) -> Case:
    usual = Case(
        digest="abcdefghijklmnopqrst",
        episode=1,
        remediation=REMEDIATION.id,
        target=Target(account=HOME, region="eu-central-1", type="AWS::S3::Bucket", id="orders"),
        state=CaseState.WAITING if asked else CaseState.OPEN,
        controls=(CONTROL,),
        generation=1,
        causes=(
            JoinedCause(
                event_id="e",
                at=START,
                actor=Actor(type="IAMUser", arn=f"arn:aws:iam::{HOME}:user/eve"),
                controls=(CONTROL,),
            ),
        ),
        opened_at=START,
        updated_at=START,
        ask=asked,
        asks=1 if asked else 0,
        owner="shop@example.org",
    )
    return usual.model_copy(update=changes)


def said(*answers: tuple[str, bool], withdrawn: bool = False) -> Answers:
    given = tuple(
        Answer(
            by=by,
            principal=f"person:{'anna' if by == ANNA else 'ben'}",
            at=START,
            approve=approve,
            reason="looked at it",
            request_id="r",
            door=Door.CONSOLE,
            withdrawn=withdrawn,
        )
        for by, approve in answers
    )
    return Answers(case="abcdefghijklmnopqrst-1", ask=1, plan_hash=HASH, answers=given)


def view(of: Case | None = None, number: int = 1, **changes: Any) -> CardView:
    given: dict[str, Any] = {
        "answers": None,
        "policy": policy(),
        "dossier": None,
        "controls": CONTROLS,
        "remediation": REMEDIATION,
        "now": START,
    }
    return view_of(of or case(ask()), number, **{**given, **changes})


def texts(found: object) -> Iterator[tuple[str, str]]:
    """Every text object: its type and its text."""
    if isinstance(found, dict):
        if found.get("type") in {"plain_text", "mrkdwn"}:
            yield found["type"], found["text"]
        else:
            for inner in found.values():
                yield from texts(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from texts(inner)


def read(shown: Card) -> str:
    return "\n".join(text for _, text in texts(shown.blocks))


def buttons(shown: Card) -> dict[str, dict[str, Any]]:
    return {
        one["action_id"]: one
        for block in shown.blocks
        if block["type"] == "actions"
        for one in block["elements"]
    }


def takes(shown: Card) -> None:
    """Slack would take it, and shows nothing of others' as anything but text."""
    assert [*problems(shown.blocks)] == []
    assert shown.text.strip()
    assert len(json.dumps(shown.blocks, ensure_ascii=False)) < LONGEST_BLOCKS - 1000
    for found in _objects(shown.blocks):
        assert found.get("emoji", False) is False
        assert found["type"] == "plain_text" or found["verbatim"] is True


def _objects(found: object) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        if found.get("type") in {"plain_text", "mrkdwn"}:
            yield found
        for inner in found.values():
            yield from _objects(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _objects(inner)


# ---------------------------------------------------------------------------------------------------- the card that asks


def test_a_card_tells_what_where_how_far_how_to_undo_and_until_when() -> None:
    shown = card(view())
    takes(shown)
    kinds = [block["type"] for block in shown.blocks]
    assert kinds[0] == "header"
    assert kinds[-1] == "actions"
    told = read(shown)
    for part in (
        "🔴 CRITICAL · Fails: Every S3 bucket",
        "arn:aws:s3:::orders",
        f"shop-prod ({HOME}) · eu-central-1",
        "shop@example.org",
        f"arn:aws:iam::{HOME}:user/eve · 2026-08-03 12:00 UTC",
        f"{CONTROL} → SOC 2 CC6.1, CC6.6 · ISO 27001 A.8.3, A.8.12 · CIS 5.0.0 2.1.4",
        "• Switch all four public access settings of orders on",
        "1 call on this resource alone; risk medium",
        "yes, if nothing drifted since",
        "US$ 0.00 a month",
        "0 of 2 approvals. May: Anna, Ben",
        "Asked because: older than an hour",
        "Case abcdefghijklmnopqrst-1 · plan abababababab",
    ):
        assert part in told
    until = int((START + timedelta(hours=8)).timestamp())
    assert (
        f"<!subteam^S0ONCALL> *Waits for approval* until <!date^{until}^{{date_short_pretty}} {{time}}|2026-08-03 20:00 UTC>"
        in told
    )
    assert {key: one["url"].rpartition("/")[2] for key, one in buttons(shown).items()} == {
        "review": "abcdefghijklmnopqrst-1?open=decide",
        "snooze": "abcdefghijklmnopqrst-1?open=snooze",
        "ticket": "abcdefghijklmnopqrst-1?open=ticket",
    }
    assert (
        shown.text
        == "🔴 CRITICAL · Fails: " + CONTROLS[CONTROL].title + " · Waits for approval: arn:aws:s3:::orders"
    )


@pytest.mark.parametrize(
    "severity, doors, decides",
    [
        (Severity.LOW, tuple(Door), True),
        (Severity.MEDIUM, tuple(Door), True),
        (Severity.MEDIUM, (Door.CONSOLE,), False),
        (Severity.HIGH, tuple(Door), False),
        (Severity.CRITICAL, tuple(Door), False),
    ],
)
def test_only_low_and_medium_with_the_slack_door_have_buttons_that_decide(
    severity: Severity, doors: tuple[Door, ...], decides: bool
) -> None:
    small = {
        "name": "small",
        "severities": (Severity.LOW, Severity.MEDIUM),
        "approvers": ("anna",),
        "doors": doors,
    }
    rules = (small, {"name": "all", "approvers": ("anna",), "doors": (Door.CONSOLE,)})
    shown = card(view(case(ask(severity=severity)), policy=policy(rules=rules)))
    takes(shown)
    assert ({"approve", "deny"} <= {*buttons(shown)}) is decides
    assert ("subteam" in read(shown)) is (severity in {Severity.HIGH, Severity.CRITICAL})
    if decides:
        for name in ("approve", "deny"):
            button = buttons(shown)[name]
            assert json.loads(button["value"]) == {
                "case": "abcdefghijklmnopqrst-1",
                "ask": 1,
                "plan_hash": HASH,
            }
            assert "arn:aws:s3:::orders" in button["confirm"]["text"]["text"]
            assert "U0ANNA" not in json.dumps(button)


def test_a_long_plan_is_cut_and_counted() -> None:
    calls = tuple(CALL.model_copy(update={"why": f"Step {n}"}) for n in range(9))
    left = tuple(Declined(what=f"rule {n}", why="it may cut traffic") for n in range(5))
    plan = Plan(calls=calls, declined=left, monthly_cost=MonthlyCost(usd_cents=1234, basis="a trail"))
    told = read(card(view(case(ask(plan=plan, notes=("n1", "n2", "n3", "n4"), again=True, as_code="x = 1")))))
    assert "• Step 4\n+4 more" in told
    assert "• rule 2: it may cut traffic\n+2 more" in told
    assert "9 calls on this resource alone" in told
    assert "US$ 12.34 a month: a trail" in told
    assert "• n3\n+4 more" in told


def test_notes_tell_of_code_and_of_an_approval_that_no_longer_fits() -> None:
    told = read(card(view(case(ask(again=True, as_code="x = 1")))))
    assert "the plan has changed since" in told
    assert "in HCL" in told


def test_an_undo_says_who_wants_it_and_until_when_it_exempts() -> None:
    undo = Undone(run=1, by=BEN, reason="the shop is down", owner="o", until=START + timedelta(days=7))
    told = read(card(view(case(ask(kind=Kind.UNDO, undo=undo)))))
    assert "Undo asked: " in told
    assert f"{BEN} wants it taken back: the shop is down" in told
    assert "exempt until 2026-08-10" in told


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"remediation": None}, "risk unknown"),
        ({"remediation": replace(REMEDIATION, undo_by_hand=True)}, "by hand: a ticket has the commands"),
        ({"policy": None}, "one person, with `redress approve`"),
        (
            {"policy": policy(rules=({"name": "x", "accounts": ("999999999999",), "approvers": ("anna",)},))},
            "nobody: the policy",
        ),
        ({"policy": policy(accounts={})}, f"\n{HOME} · eu-central-1"),
        ({"policy": policy(routes=())}, "\n*Waits for approval*"),
        ({"policy": policy(console_url=None)}, "`redress plan abcdefghijklmnopqrst-1` shows all"),
        ({"dossier": Dossier(case="c", holder=BEN)}, "Ben"),
        ({"controls": {}}, "Fails: s3-bucket-public-access-block"),
        ({"answers": said((ANNA, True))}, "1 of 2 approvals; so far Anna. May: Anna, Ben"),
    ],
)
def test_what_is_not_known_is_said(changes: dict[str, Any], part: str) -> None:
    shown = card(view(**changes))
    takes(shown)
    assert part in read(shown)


def test_no_cost_known_no_owner_no_cause_and_no_criterion() -> None:
    plan = PLAN.model_copy(update={"monthly_cost": MonthlyCost(usd_cents=None, basis="by traffic")})
    of = case(ask(plan=plan), owner="", causes=())
    bare = {CONTROL: CONTROLS[CONTROL].model_copy(update={"frameworks": {}})}
    told = read(card(view(of, controls=bare)))
    assert "unknown: by traffic" in told
    assert "nobody is named" in told
    assert "Changed by" not in told
    assert f"{CONTROL} → no criterion" in told


@pytest.mark.parametrize(
    "region, named, said",
    [
        ("eu-west-1", "shop-prod", f"for all of account shop-prod ({HOME}), eu-west-1; risk medium"),
        ("eu-west-1", "", f"for all of account {HOME}, eu-west-1; risk medium"),
        ("global", "shop-prod", f"for all of account shop-prod ({HOME}); risk medium"),
    ],
)
def test_what_concerns_a_whole_account_is_not_said_to_be_one_resource(
    region: str, named: str, said: str
) -> None:
    target = Target(account=HOME, region=region, type="AWS::::Account", id=HOME)
    rules = policy(accounts={HOME: {"name": named} if named else {}})
    told = read(card(view(case(ask(), target=target), policy=rules)))
    assert said in told
    assert "on this resource alone" not in told


def test_many_approvers_are_counted() -> None:
    people = {f"p{n}": {"name": f"P{n}", "identities": (f"oidc:https://idp.example#{n}",)} for n in range(8)}
    many = policy(
        people=people, groups={"g": tuple(people)}, rules=({"name": "r", "approvers": ("group:g",)},)
    )
    assert "May: P0, P1, P2, P3, P4, +3 more" in read(card(view(policy=many)))


def test_a_schedule_mentions_who_is_on_call_now_and_has_a_slack_account() -> None:
    shift = {
        "starts": START - timedelta(hours=1),
        "ends": START + timedelta(hours=1),
        "people": ("anna", "ben"),
    }
    routes = ({"name": "all", "channel": "C0SECURITY", "on_call": "schedule:week"},)
    people = {
        "anna": {"name": "Anna", "identities": (ANNA, "slack:T0REDRESS/U0>evil")},
        "ben": {"name": "Ben", "identities": (BEN,)},
    }
    planned = policy(routes=routes, schedules={"week": (shift,)}, people=people)
    assert "<@U0ANNA> *Waits" in read(card(view(policy=planned)))
    assert "evil" not in read(card(view(policy=planned)))
    assert "<@" not in read(card(view(policy=planned, now=START + timedelta(hours=2))))


# --------------------------------------------------------------------------------------------- what became of what it asks


@pytest.mark.parametrize(
    "of, answers, label, because",
    [
        (case(ask()), said((ANNA, True), (BEN, True)), "Approved", "Anna, Ben: looked at it"),
        (case(ask()), said((ANNA, True), (BEN, False)), "Denied", "Ben: looked at it"),
        (case(None, asks=1, state=CaseState.DENIED), said((ANNA, False)), "Denied", "Anna: looked at it"),
        (case(None, asks=1, state=CaseState.EXPIRED, reason="late"), None, "Over without a decision", "late"),
        (case(None, asks=2, reason="other plan"), said((ANNA, True)), "see the newest card", "other plan"),
        (case(ask(seq=2), asks=2), None, "see the newest card", ""),
        (case(None, asks=1, state=CaseState.RUNNING), said((ANNA, True)), "Is being carried out", ""),
        (case(None, asks=1, state=CaseState.CLOSED, outcome=Outcome.FIXED), None, "Fixed, and verified", ""),
        (
            case(None, asks=1, state=CaseState.OPEN, outcome=Outcome.FAILED, reason="AccessDenied"),
            None,
            "Failed",
            "AccessDenied",
        ),
        (
            case(None, asks=1, state=CaseState.TICKETED),
            said((ANNA, False), withdrawn=True),
            "Handed over by ticket",
            "",
        ),
    ],
)
def test_a_card_shows_the_present_without_buttons_that_decide(
    of: Case, answers: Answers | None, label: str, because: str
) -> None:
    shown = card(view(of, answers=answers))
    takes(shown)
    told = read(shown)
    assert label in told
    assert because in told
    assert "Would do" not in told
    assert {*buttons(shown)} == {"review"}


def test_an_ask_that_has_run_out_is_expired_before_anybody_says_so() -> None:
    assert "Waits" in read(card(view(now=START + timedelta(hours=8) - timedelta(seconds=1))))
    told = read(card(view(now=START + timedelta(hours=8))))
    assert "Over without a decision" in told
    assert "Would do" not in told


@pytest.mark.parametrize(
    "origin, told",
    [
        (Origin.EVENT, f"Changed by | arn:aws:iam::{HOME}:user/eve · 2026"),
        (Origin.REQUEST, f"Looked at for | arn:aws:iam::{HOME}:user/eve · 2026"),
        (Origin.SWEEP, "Found by | a sweep · 2026"),
        (Origin.CLAIM, "Found by | another service · 2026"),
        (Origin.WAKE, "Found by | another look · 2026"),
    ],
)
def test_a_card_names_who_made_a_change_only_where_an_event_tells(origin: Origin, told: str) -> None:
    usual = case(ask())
    (cause,) = usual.causes
    of = usual.model_copy(update={"causes": (cause.model_copy(update={"origin": origin}),)})
    fields = [text["text"].strip("*") for block in card(view(of)).blocks for text in block.get("fields", ())]
    assert told in " | ".join(fields)


def test_a_control_that_the_catalog_does_not_have_counts_as_critical_beside_one_that_it_has() -> None:
    minor = next(one.id for one in CONTROLS.values() if one.severity is not Severity.CRITICAL)
    assert view(case(None, controls=(minor, "gone")), 0).severity is Severity.CRITICAL
    assert view(case(None, controls=(minor,)), 0).severity is CONTROLS[minor].severity


def test_a_case_without_an_ask_has_a_card_and_without_a_console_no_button() -> None:
    shown = card(view(case(None, controls=("gone",)), 0, policy=policy(console_url=None)))
    takes(shown)
    assert "⚪ Open · CRITICAL: gone" in read(shown)
    assert not buttons(shown)


# ---------------------------------------------------------------------------------------------------------- the thread


@pytest.mark.parametrize(
    "kind, body, parts",
    [
        (
            "ask_reminded",
            {"reason": "it ends soon"},
            ("Still waits", "it ends soon", "0 of 2", "<!subteam^S0ONCALL>"),
        ),
        ("ask_progress", {"by": ANNA, "reason": "1 of 2"}, ("Approved in part", "Anna", "0 of 2 approvals")),
        ("ask_denied", {"by": ANNA, "reason": "no"}, ("Denied", "Anna", "no")),
        ("ask_refused", {"reason": "too late"}, ("does not count", "too late")),
        ("ask_expired", {"reason": "nobody"}, ("Over without a decision", "nobody")),
        ("ask_over", {"reason": "exempt until then"}, ("The ask is over", "exempt until then")),
        ("ask_stale", {"reason": "changed"}, ("STALE", "changed")),
        (
            "run_started",
            {"approved_by": f"{ANNA}, slack:x"},
            ("being carried out", "approved by Anna, slack:x"),
        ),
        (
            "run_fixed",
            {"reason": "as planned", "calls": ["Close port 22", "Close port 3389"], "more_calls": 2},
            ("✅ Fixed, and verified", "Close port 22", "Close port 3389", "+2 more", "as planned"),
        ),
        ("run_failed", {"reason": "AccessDenied"}, ("❌ Failed", "AccessDenied")),
        ("undo_started", {}, ("Undo: Is being carried out",)),
        ("undo_fixed", {"reason": "run 1 is taken back"}, ("↩ Taken back", "run 1 is taken back")),
        ("undo_failed", {"reason": "AccessDenied"}, ("❌ Taking it back failed", "AccessDenied")),
        ("undo_refused", {"reason": "drifted"}, ("not begun", "drifted")),
        (
            "ticket_open",
            {"ticket": {"title": "Fails: x"}},
            ("🎫", "Fails: x"),
        ),
        ("ticket_closed", {"ticket": {"title": "t", "closed_because": "seen"}}, ("closed", "seen")),
        ("break_glass", {"by": BEN, "reason": "now"}, ("Break-glass", "Ben", "<!subteam^S0ONCALL>")),
        (
            "tamper_suspected",
            {"event": "PutX", "session": "redress-x"},
            ("a role of ours", "PutX", "<!subteam^S0ONCALL>"),
        ),
        ("case_news", {"says": "Anna took it on"}, ("Anna took it on",)),
    ],
)
def test_every_later_state_is_told_in_the_thread(
    kind: str, body: dict[str, Any], parts: tuple[str, ...]
) -> None:
    shown = reply(kind, body, view())
    assert shown
    takes(shown)
    for part in parts:
        assert part in read(shown)


@pytest.mark.parametrize("url", ["https://redress.example/api", None])
def test_an_alarm_that_stands_alone_says_of_which_resource_and_case_it_is(url: str | None) -> None:
    shown = reply(
        "break_glass", {"by": BEN, "reason": "now"}, view(policy=policy(console_url=url)), alone=True
    )
    assert shown
    takes(shown)
    assert "arn:aws:s3:::orders" in shown.text
    for part in ("Break-glass", "Ben", "arn:aws:s3:::orders", f"shop-prod ({HOME})", "<!subteam^S0ONCALL>"):
        assert part in read(shown)
    if url:
        assert buttons(shown)["review"]["url"] == f"{url}/cases/abcdefghijklmnopqrst-1"
    else:
        assert "`redress case abcdefghijklmnopqrst-1`" in read(shown)


@pytest.mark.parametrize("kind", ["ask", "baseline_report", "run_other", "errand"])
def test_what_is_no_reply_is_none(kind: str) -> None:
    assert reply(kind, {}, view()) is None


def test_nobody_is_called_where_nobody_is_on_call() -> None:
    shown = reply("ask_reminded", {"reason": 7}, view(policy=None))
    assert shown
    assert len(shown.blocks) == 1


def test_a_digest_counts_and_decides_nothing() -> None:
    storm = Storm(id="s", channel="C0SECURITY", control=CONTROL, account=HOME, began_at=START, more=497)
    shown = digest_card(storm, CONTROLS[CONTROL].title, 3, "https://redress.example/approvals?control=x")
    takes(shown)
    assert "497 more" in shown.text
    assert "3 still wait" in read(shown)
    assert {*buttons(shown)} == {"review"}
    assert not any("value" in one for one in buttons(shown).values())


def test_a_digest_of_what_nobody_was_asked_about_speaks_of_no_ask() -> None:
    storm = Storm(id="s", channel="C0", control=CONTROL, account=HOME, began_at=START, asks=False, more=2)
    shown = digest_card(storm, CONTROLS[CONTROL].title, 0, "https://redress.example/log?control=x")
    takes(shown)
    assert "2 more cases" in read(shown)
    assert "wait" not in read(shown)


def test_a_sheet_leaves_out_what_does_not_fit_and_counts_it() -> None:
    shown = sheet("Report", ["x" * 150] * 30)
    takes(shown)
    assert "+11 more" in read(shown)
    assert sheet("Report", []).blocks == shown.blocks[:1]


# ------------------------------------------------------------------------------------------------ what others may choose


def hostile(text: str) -> CardView:
    """A card in which everything that others choose is `text`."""
    line = text or "x"
    plan = Plan(
        calls=tuple(CALL.model_copy(update={"why": line}) for _ in range(9)),
        declined=tuple(Declined.model_construct(what=line, why=line) for _ in range(9)),
        monthly_cost=MonthlyCost(usd_cents=1, basis=text),
    )
    undo = Undone(run=1, by=text, reason=text, owner=text, until=START)
    of = case(
        ask(kind=Kind.UNDO, plan=plan, undo=undo, notes=(text,) * 9, reason=text, severity=Severity.LOW),
        owner=text,
    )
    cause = of.causes[0].model_copy(update={"actor": Actor(type=text, arn=text)})
    named = {CONTROL: CONTROLS[CONTROL].model_copy(update={"title": text})}
    facts = {HOME: {"name": text}}
    shown = view(of.model_copy(update={"causes": (cause,)}), controls=named, policy=policy(accounts=facts))
    return replace(shown, resource=text, because=text)


@pytest.mark.thorough
@given(ANY | st.text(alphabet="<&*_", min_size=2500, max_size=6000))
def test_whatever_others_choose_slack_takes_the_card(text: str) -> None:
    waits = hostile(text)
    takes(card(waits))
    takes(card(replace(waits, ask=None)))
    for kind in ("ask_denied", "case_news", "tamper_suspected", "run_fixed", "ticket_open"):
        keys = ("by", "reason", "says", "event", "session", "approved_by")
        for alone in (False, True):
            told = reply(kind, {**dict.fromkeys(keys, text), "ticket": {"title": text}}, waits, alone=alone)
            assert told
            takes(told)
    takes(sheet(text, [text] * 200, "https://redress.example/x"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_an_attack_reaches_what_slack_reads_as_markup(attack: str) -> None:
    honest, attacked = card(hostile("word")), card(hostile(attack))
    marked = [text for kind, text in texts(honest.blocks) if kind == "mrkdwn"]
    assert [text for kind, text in texts(attacked.blocks) if kind == "mrkdwn"] == marked
    assert [one.get("url") for one in buttons(attacked).values()] == [
        one.get("url") for one in buttons(honest).values()
    ]
    assert [one.get("value") for one in buttons(attacked).values()] == [
        one.get("value") for one in buttons(honest).values()
    ]
    assert "<" not in attacked.text
