"""The generated pages: fresh, complete, and safe to show whatever a name holds."""

import json
import re
import tomllib
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from chalicelib.cli import pages
from chalicelib.cli.main import ROOT, app
from chalicelib.cli.outside import real
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode, Outcome
from chalicelib.domain.decision import RULES
from chalicelib.domain.errors import ContractError
from chalicelib.domain.policy import Policy, Provider, Role, Route, Rule
from chalicelib.domain.record import RecordType
from chalicelib.flow.command import KINDS
from chalicelib.settings import Settings

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png)",
    "[a](javascript:alert(1))",
    "`code` ``more`` ```",
    "| a | cell |",
    "# title",
    "- item",
    "12. item",
    "1) item",
    "**b** _i_ ~~s~~ $x$",
    "line\n\n# title\n| a |",
    "&lt;b&gt; &amp; &#60;",
    "https://evil.example www.evil.example me@evil.example",
    "\\`x\\`",
    "\x1b[31mred",
    "safe\u202etxt.exe",
    "===",
    "+ plus",
    "    indented",
    "<!-- comment",
    "`",
    "a|b\\|c",
)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    doors = real()
    made = pages.pages(ROOT, app, doors.catalog(), doors.remediations())
    return {path.relative_to(ROOT).as_posix(): text for path, text in made.items()}


def test_every_generated_page_is_fresh(texts: dict[str, str]) -> None:
    stale = [
        name
        for name, text in texts.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `redress docs` and commit what it writes"


def test_every_record_type_outcome_and_state_is_documented(texts: dict[str, str]) -> None:
    page = texts["docs/records.md"]
    for member in (*RecordType, *Outcome, *CaseState):
        assert f"| `{member.value}` |" in page, member


def test_code_in_a_sentence_of_ours_is_shown_as_code(texts: dict[str, str]) -> None:
    said = "Over (a record, `STALE_*`); <b> see `redress log`, then *wait*."
    assert pages.prose(said) == r"Over (a record, `STALE_*`); &lt;b&gt; see `redress log`, then \*wait\*."
    assert pages.prose("no `code") == pages.plain("no `code")
    for name in ("docs/records.md", "docs/reference.md"):
        assert "\\`" not in texts[name]


def test_every_rule_mode_and_setting_is_documented(texts: dict[str, str]) -> None:
    page = texts["docs/reference.md"]
    for mode in Mode:
        assert f"| `{mode.value}` |" in page
    for rule in RULES:
        assert f"| {rule.name} | {rule.verdict.value} |" in page
    for name in fields(Settings):
        assert f"| `{pages.SETTINGS[name.name][0] or name.name}` |" in page
    read = (ROOT / "chalicelib" / "settings.py").read_text(encoding="utf-8")
    for variable in re.findall(r'"(REDRESS_[A-Z_]+|AWS_[A-Z_]+)"', read):
        assert f"`{variable}`" in page


def test_every_command_and_every_option_is_documented(texts: dict[str, str]) -> None:
    page = texts["docs/reference.md"]
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        section = page.split(f"### redress {name}\n")[1].split("\n### ")[0]
        for option in command.params:
            assert all(one in section for one in option.opts if one.startswith("-")), (name, option.name)


def test_every_control_and_remediation_is_documented_with_its_rights_and_proofs(
    texts: dict[str, str],
) -> None:
    doors = real()
    for control in doors.catalog().controls:
        section = texts["docs/controls.md"].split(f"\n## {control.id}\n")[1].split("\n## ")[0]
        for case in control.edge_cases:
            assert pages.plain(case.says) in section
            assert (f"`{case.test.partition('::')[2]}`" if "::" in case.test else "not exercised") in section
        for names in control.frameworks.values():
            assert all(pages.plain(name) in section for name in names)
    for one in doors.remediations():
        section = texts["docs/remediations.md"].split(f"\n## {one.id}\n")[1].split("\n## ")[0]
        for right in (*one.reads, *one.writes, *one.undo_writes):
            assert f"`{right.action}` on `{right.resource}`" in section


def test_a_member_without_a_sentence_stops_the_generation() -> None:
    fewer = MappingProxyType(
        {member: text for member, text in pages.RECORDS.items() if member != RecordType.ERROR}
    )
    with pytest.raises(ContractError, match="has no sentence"):
        pages._explained("type", RecordType, fewer)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_shown_as_text(text: str) -> None:
    rendered = (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(pages.plain(text))
    )
    assert re.findall(r"</?([a-z0-9]+)", rendered) == ["p", "p"]
    assert "evil.example" not in re.findall(r'(?:href|src)="([^"]*)', rendered)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_in_a_code_span_stays_in_it(text: str) -> None:
    table = pages._table(("a", "b"), [(pages.code(text), "end")])
    rendered = MarkdownIt("commonmark").enable("table").render(table)
    assert rendered.count("<td>") == 2
    assert rendered.count("<code>") == 1
    assert "<script" not in rendered


def test_the_example_of_the_readme_is_decided_as_act_without_any_account() -> None:
    folder = ROOT / "docs" / "examples"
    words = ["simulate", f"{folder}/event.json", "--state", f"{folder}/state.json", "--at", "event", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (shown,) = json.loads(done.stdout)
    assert (shown["decision"], [call["operation"] for call in shown["calls"]]) == (
        "act",
        ["RevokeSecurityGroupIngress"],
    )
    assert " ".join(words[:-1]).replace(f"{ROOT}/", "") in (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
"""What people read: README, CHANGELOG, CONTRIBUTING, and all of docs/."""


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        name, _, anchor = link.partition("#")
        if name.startswith("https://"):
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, link


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_tells_one_to_run_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    told = set(re.findall(r"(?:^|`)redress ([a-z-]+)", text, re.MULTILINE))
    assert told <= set(group.commands), told - set(group.commands)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    made = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert made <= set(targets), made - set(targets)


def test_every_command_that_a_message_of_ours_tells_one_to_run_exists() -> None:
    group: Any = typer.main.get_command(app)
    code = [one for kind in ("py", "html", "toml") for one in (ROOT / "chalicelib").rglob(f"*.{kind}")]
    texts = "\n".join(one.read_text(encoding="utf-8") for one in code)
    told = {*re.findall(r"(?:`|<code>)redress ([a-z-]+)[` <]", texts)}
    assert len(told) > 20
    assert told - {*group.commands} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_folder_of_ours_that_a_page_names_exists(page: Path) -> None:
    ours = "|".join(sorted(re.escape(one.name) for one in ROOT.iterdir() if one.is_dir()))
    named = re.findall(rf"`((?:{ours})/[\w./-]*)(?:::\w+)?`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def policy_of(text: str) -> Policy:
    """The policy as `redress set-policy` reads it of a file."""
    return Policy.model_validate_json(json.dumps(tomllib.loads(text), default=str))


def test_the_parts_of_the_policys_page_are_one_policy_and_its_integration_belongs_to_it() -> None:
    policy = policy_of("\n".join([*blocks("policy.md", "toml"), *blocks("tickets.md", "toml")]))
    assert [rule.name for rule in policy.rules] == ["critical", "everyday", "production", "everything-else"]
    assert [one.name for one in policy.integrations] == ["security-board"]
    assert policy.on_call(policy.routes[0], datetime(2026, 11, 24, tzinfo=UTC)) == ("anna",)


def test_the_policys_page_names_every_role_and_every_setting_of_a_rule_and_a_route() -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    names = {*Role, *Policy.model_fields, *Rule.model_fields, *Route.model_fields, *Provider.model_fields}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", page)] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "chalicelib/cli/examples").glob("*.toml")), ids=lambda p: p.stem
)
def test_an_example_policy_is_one_and_the_page_names_it(path: Path) -> None:
    assert policy_of(path.read_text(encoding="utf-8")).rules
    assert path.stem in (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


def test_the_secrets_on_the_operating_page_are_json_and_have_every_field_that_is_read() -> None:
    console, notifier = map(json.loads, blocks("operating.md", "json"))
    assert {*console} == {"session_keys", "providers", "slack_signing", "slack_token", "hooks"}
    assert {*notifier} == {"slack_token", "integrations"}
    read = "".join(
        (ROOT / "chalicelib" / name).read_text(encoding="utf-8")
        for name in ("bootstrap.py", "console/built.py")
    )
    found = re.findall(r'secrets\.(?:texts|fields)\(\s*"(\w+)"', read)
    assert {*found} - {"session_key"} == {*console, *notifier}


def test_the_operating_page_explains_every_alarm_every_door_and_every_kind_of_command() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    template = yaml.safe_load((ROOT / ".chalice" / "resources.yaml").read_text(encoding="utf-8"))
    alarms = [
        one["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("redress-${Stage}-")
        for one in template["Resources"].values()
        if one.get("Type") == "AWS::CloudWatch::Alarm"
    ]
    assert len(alarms) > 10
    assert [name for name in alarms if f"`…-{name}`" not in page] == []
    doors = {"PeopleEmail", "AllowedCidrs", "ApiEndpoint", "VpcEndpointIds", "WebAcl", "AccessLogs"}
    assert doors <= {*template["Parameters"]}
    assert [name for name in sorted(doors) if f"`{name}" not in page] == []
    assert [kind for kind in sorted(KINDS) if f"`{kind}`" not in page] == []
