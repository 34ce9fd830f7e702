"""What the judge's words come to. Prowler itself is not asked here: `make judge` does."""

import pytest

from local import judge


def found(
    check: str, status: str, resource: str = "arn:aws:ec2:us-east-1:1:security-group/sg-1"
) -> dict[str, str]:
    return {"check": check, "resource": resource, "region": "us-east-1", "status": status, "why": ""}


def change(before: str | None, after: str | None) -> judge.Change:
    return judge.Change(judge.Subject("ssh", "sg-1", "us-east-1"), before, after)


@pytest.mark.parametrize(
    "before, after, verdict",
    [
        ("FAIL", "PASS", "repaired"),
        ("FAIL", "FAIL", "still fails"),
        ("FAIL", None, "gone"),
        ("FAIL", "MANUAL", "gone"),
        ("PASS", "FAIL", "broken"),
        ("MANUAL", "FAIL", "broken"),
        (None, "FAIL", "newly failing"),
        ("PASS", "PASS", "unchanged"),
        (None, "PASS", "unchanged"),
        ("PASS", None, "unchanged"),
    ],
)
def test_a_verdict_is_believed_only_when_a_check_said_both_words(
    before: str | None, after: str | None, verdict: str
) -> None:
    assert change(before, after).verdict == verdict


def test_a_check_that_speaks_twice_of_a_resource_says_fail() -> None:
    words = judge.said(
        [found("ssh", "FAIL"), found("ssh", "PASS"), found("rdp", "PASS"), found("rdp", "FAIL")]
    )
    assert set(words.values()) == {"FAIL"}


def scans(before: list[dict[str, str]], after: list[dict[str, str]]) -> list[judge.Change]:
    return judge.changes({"findings": before}, {"findings": after})


def test_the_judge_agrees_when_what_was_required_is_repaired_and_nothing_else_moved() -> None:
    changes = scans(
        [found("ssh", "FAIL"), found("rdp", "PASS"), found("mfa", "FAIL")],
        [found("ssh", "PASS"), found("rdp", "PASS"), found("mfa", "FAIL")],
    )
    assert judge.objections(changes, {"ssh": "sg-1"}, {}) == []


@pytest.mark.parametrize(
    "before, after, word",
    [
        ([found("ssh", "PASS")], [found("ssh", "PASS")], "not FAIL and then PASS"),
        ([found("ssh", "FAIL")], [found("ssh", "FAIL")], "not FAIL and then PASS"),
        ([found("ssh", "FAIL")], [], "not FAIL and then PASS"),
        ([], [], "said nothing of sg-1"),
        ([found("ssh", "FAIL", "sg-2")], [found("ssh", "PASS", "sg-2")], "said nothing of sg-1"),
    ],
)
def test_silence_or_a_pass_without_an_earlier_fail_proves_nothing(
    before: list[dict[str, str]], after: list[dict[str, str]], word: str
) -> None:
    (objection,) = judge.objections(scans(before, after), {"ssh": "sg-1"}, {})
    assert word in objection


def test_what_broke_on_the_way_is_an_objection() -> None:
    changes = scans(
        [found("ssh", "FAIL"), found("rdp", "PASS")],
        [found("ssh", "PASS"), found("rdp", "FAIL"), found("kms", "FAIL")],
    )
    objections = judge.objections(changes, {"ssh": "sg-1"}, {})
    assert [objection.split()[0] for objection in objections] == ["kms", "rdp"]


@pytest.mark.parametrize(
    "before, after, agrees",
    [
        ([found("root", "FAIL")], [found("root", "FAIL")], True),
        ([found("root", "FAIL")], [found("root", "PASS")], False),
        ([found("root", "FAIL")], [], False),
        ([found("root", "PASS")], [found("root", "PASS")], False),
        ([], [], False),
    ],
)
def test_what_only_a_person_can_see_to_fails_before_and_after(
    before: list[dict[str, str]], after: list[dict[str, str]], agrees: bool
) -> None:
    wrong = judge.objections(scans(before, after), {}, {"root": "sg-1"})
    assert (wrong == []) is agrees


def test_remarks_are_no_checks_and_every_required_check_is_run() -> None:
    listed = judge.listed(judge.CHECKS.read_text(encoding="utf-8"))
    assert listed == sorted(set(listed))
    required = {judge.SSH, judge.RDP, judge.EBS, judge.PAB, judge.UNUSED, judge.OLD, judge.ROOT_KEY}
    assert required <= set(listed)


def test_every_pin_of_the_judge_is_exact() -> None:
    pins = judge.listed(judge.REQUIREMENTS.read_text(encoding="utf-8"))
    assert pins
    assert [line for line in pins if line.count("==") != 1] == []


def test_the_auditor_may_change_nothing() -> None:
    (statement,) = judge.AUDITS["Statement"]
    verbs = {action.split(":")[1] for action in statement["Action"]}
    assert verbs == {"Describe*", "Generate*", "Get*", "List*"}
