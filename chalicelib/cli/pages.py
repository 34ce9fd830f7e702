"""The pages of docs/ that nobody writes by hand: controls, remediations, records, and the reference.

What a page explains and the code does not say of itself (a setting, a record type, an outcome) has its sentence here;
a missing sentence is an error, so that nothing new stays undocumented.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperOption

from chalicelib.cli.screen import visible
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import AnyRemediation, Mode, Outcome, Permission
from chalicelib.domain.control import Control, framework_name
from chalicelib.domain.decision import RULES
from chalicelib.domain.errors import ContractError
from chalicelib.domain.limits import Limits
from chalicelib.domain.record import RecordType
from chalicelib.flow.classify import Controls
from chalicelib.settings import Settings

GENERATED = "<!-- Written by `redress docs`; change the code or the catalog, then run it again. -->\n\n"

SETTINGS = MappingProxyType(
    {
        "stage": ("REDRESS_STAGE", "Which deployment this is; part of the name of everything in it."),
        "account": ("REDRESS_ACCOUNT", "The home account, in which the deployment itself lives."),
        "region": ("AWS_REGION", "The home Region; Lambda sets it."),
        "limit_per_control": (
            "REDRESS_LIMIT_PER_CONTROL",
            "Writes that one control may cause in one account within an hour; the next one asks a person.",
        ),
        "limit_per_account": (
            "REDRESS_LIMIT_PER_ACCOUNT",
            "Writes in one account within an hour, whatever the control; the next one asks a person.",
        ),
        "limit_per_actor": (
            "REDRESS_LIMIT_PER_ACTOR",
            "Writes within an hour that change what one actor did; the next one asks a person.",
        ),
        "lease_seconds": (
            "REDRESS_LEASE_SECONDS",
            "How long a run holds its target. Longer than the function may live, so that no two runs meet.",
        ),
        "version": ("", "The engine's version, written into every record; it comes with the code."),
        "people_topic": (
            "REDRESS_PEOPLE_TOPIC",
            "The topic that mails people and owners. Where it is not set, nobody is mailed.",
        ),
        "emulated": (
            "AWS_ENDPOINT_URL",
            "Read only to see whether AWS itself is on this machine, as make up has it; nothing of a deployment sets it.",
        ),
        "slack_api": (
            "REDRESS_SLACK_API",
            "Where the emulated Slack answers; refused unless AWS is emulated too. Nothing of a deployment sets it.",
        ),
    }
)

RECORDS = MappingProxyType(
    {
        RecordType.RECEIVED: "An event came in that may break a control; a case is opened or taken up again.",
        RecordType.NOT_OURS: "An event that asks nothing of us, and why; a chain of this one record.",
        RecordType.JOINED: "An event came in while a run held the same target; the run's case looks again.",
        RecordType.DECIDED: "What was decided, by which rule, on which state, with the plan.",
        RecordType.ASKED: "A person was asked: the frozen plan, its hash, until when, and who may not approve it.",
        RecordType.REMINDED: "Half of the time to answer is over, and people were reminded.",
        RecordType.ANSWERED: "A person approved or denied a plan; and once more in the case when the engine went by it.",
        RecordType.ANSWER_REFUSED: "An answer that was not taken, and why; a chain of this one record, or in the case.",
        RecordType.WITHDRAWN: "A person took their approval back, before the plan was carried out.",
        RecordType.BREAK_GLASS: "A person approved alone what others should have approved too, and said why; everybody is told.",
        RecordType.CLAIMED: "A person took a case on; that decides nothing.",
        RecordType.HANDED_OVER: "A person handed a case to another one.",
        RecordType.COMMENTED: "A person said something about a case.",
        RecordType.INCIDENT_DECLARED: "A person called a case an incident, and said from which root cause.",
        RecordType.INCIDENT_DISMISSED: "A person said that a case was no incident, and why.",
        RecordType.INVITED: "A person let an outside auditor look at some accounts, for some days.",
        RecordType.UNINVITED: "A person ended an auditor's invitation before its day.",
        RecordType.VIEWED: "An outside auditor looked at a page; a chain of this one record, written before the page is shown.",
        RecordType.COMMAND_REFUSED: "Somebody gave a command that was not carried out: what, and why; a chain of this one record.",
        RecordType.EXPIRED: "Nobody answered in time; nothing was changed.",
        RecordType.STALE: "What was approved is not what is needed now; nothing was changed.",
        RecordType.INTENT: "What is about to be done, on which state: written before the first write.",
        RecordType.RESULT: "What a run achieved: each call with its request id, and the state read afterwards.",
        RecordType.VERIFIED: "CloudTrail showed a call of ours, and it is one that we recorded.",
        RecordType.RECONCILED: "A request id that a crash had swallowed was filled in from CloudTrail.",
        RecordType.UNDO_INTENT: "What an undo is about to restore: written before its first write.",
        RecordType.UNDO_RESULT: "What an undo achieved.",
        RecordType.TICKET_OPENED: "A person has to see to it: the ticket, its owner, and why.",
        RecordType.TICKET_CLOSED: "The target was assessed again and is compliant, or gone; or the ticket is no longer needed.",
        RecordType.TICKET_CLOSED_EXTERNALLY: "A person closed the ticket elsewhere: no proof, so that the target is looked at again.",
        RecordType.EXEMPTION_GRANTED: "A person exempted one resource from one control, until a day.",
        RecordType.EXEMPTION_REVOKED: "A person ended an exemption before its day.",
        RecordType.SNOOZED: "A person had a case's resource left alone for some days.",
        RecordType.REQUESTED: "A person asked for an undo, for a look at a case, for a ticket in the place of an answer, or for a sweep.",
        RecordType.SWEEP_COMPLETED: "A sweep of an account ended: what was looked at, what fails, what could not be read.",
        RecordType.MODE_CHANGED: "A person set the most that a control may do in an account.",
        RecordType.BREAKER_OPENED: "Runs of a control went wrong in an account, so that it asks people there from now on.",
        RecordType.BREAKER_RESET: "A person let a control act in an account again after its breaker had opened.",
        RecordType.FREEZE_ON: "A person stopped all changes in a scope.",
        RecordType.FREEZE_OFF: "A person lifted a freeze, or the switch was set up with the first control that was raised.",
        RecordType.CONFIG_CHANGED: "A person set the policy, had dead letters tried again, or named a deployment role or an owner.",
        RecordType.ENROLLED: "A person enrolled a member account; its events are ours from then on.",
        RecordType.TAMPER_SUSPECTED: "One of our own roles was used outside any run of ours.",
        RecordType.ERROR: "A ticket did not get to a ticket system, and why: people are told, and it is tried again.",
    }
)

OUTCOMES = MappingProxyType(
    {
        Outcome.ALREADY_COMPLIANT: "Nothing had to be done: the target is as the control wants it.",
        Outcome.DECLINED: "Nothing was done, on purpose; the reason says what a person may do.",
        Outcome.FIXED: "Assessed again after the calls: the plan is satisfied and the target compliant.",
        Outcome.CONTAINED: "All that the plan may do is done, and the control still fails; not a success.",
        Outcome.NOT_VERIFIED: "Calls were made, and the state read afterwards still needs them; not a success.",
        Outcome.FAILED: "A call was refused or could not be made; the record says which, and what was done before.",
    }
)

STATES = MappingProxyType(
    {
        CaseState.OPEN: "Seen and not repaired.",
        CaseState.WAITING: "A person was asked.",
        CaseState.RUNNING: "A run holds the target.",
        CaseState.TICKETED: "A person has a ticket.",
        CaseState.EXEMPT: "An exemption covers the target; ended until the next event.",
        CaseState.STALE: "Reserved; no case comes to it. What was approved and no longer fits is asked about anew (a record, `STALE`).",
        CaseState.EXPIRED: "Over without a decision: nothing was changed; ended.",
        CaseState.DENIED: "A person said no; ended.",
        CaseState.CLOSED: "The target is compliant, or gone; ended.",
    }
)

MODES = MappingProxyType(
    {
        Mode.OBSERVE: "Look, decide, record what would have been done. Where every control starts.",
        Mode.TICKET: "Also tell a person who has to see to it.",
        Mode.ASK: "Also offer the plan, to be made when a person approves it.",
        Mode.ACT: "Also make the plan at once, where the event itself has just created the violation.",
    }
)


def pages(
    root: Path, app: typer.Typer, catalog: Controls, remediations: Iterable[AnyRemediation]
) -> dict[Path, str]:
    """Every generated page and the text that it should have."""
    known = sorted(remediations, key=lambda one: one.id)
    folder = root / "docs"
    return {
        folder / "controls.md": GENERATED + controls_page(catalog.controls, known),
        folder / "remediations.md": GENERATED + remediations_page(catalog.controls, known),
        folder / "records.md": GENERATED + records_page(),
        folder / "reference.md": GENERATED + reference_page(app),
    }


# ------------------------------------------------------------------------------------------------------------ Markdown


def plain(text: object) -> str:
    """Any text as Markdown that shows exactly that text: no markup, no HTML, no link, no second line."""
    shown = visible(" ".join(str(text).split()))
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", shown)
    shown = re.sub(
        r"^([#+=-]|\d+(?=[.)](\s|$)))", lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", shown
    )
    return shown.replace("://", ":&#47;&#47;").replace("@", "&#64;")


def prose(text: object) -> str:
    """A sentence of ours as Markdown: what stands between backticks is code, the rest shows exactly as it is."""
    spans = re.compile("`([^`]+)`")
    quoted = iter(spans.findall(str(text)))
    return re.sub(r"\\`\\`", lambda _: code(next(quoted)), plain(spans.sub("``", str(text))))


def code(text: object) -> str:
    """Any text as a code span, also within a table."""
    shown = visible(str(text)).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _bullets(items: Iterable[str]) -> str:
    return "".join(f"- {item}\n" for item in items)


def _explained(title: str, known: Iterable[Any], sentences: Mapping[Any, str]) -> str:
    """A table of every member of a closed set; ContractError names the one without its sentence."""
    members = list(known)
    for member in members:
        if member not in sentences:
            raise ContractError(f"{title} {member!r} has no sentence in chalicelib/cli/pages.py")
    return _table((title, "meaning"), ((code(member.value), prose(sentences[member])) for member in members))


# ------------------------------------------------------------------------------------------------------------ controls


def controls_page(controls: Iterable[Control], remediations: Sequence[AnyRemediation]) -> str:
    """Every control: what must hold, why, how far it may go, what it maps to, its edge cases and their tests."""
    listed = sorted(controls, key=lambda one: one.id)
    rows = ((f"[{code(c.id)}](#{c.id})", plain(c.title), c.severity.value, c.most.value) for c in listed)
    top = (
        "# Controls\n\n"
        "What Redress holds accounts to. Every control starts at *observe* in every account; the last column is the\n"
        "most that `redress mode` lets anybody set.\n\n"
    )
    return (
        top
        + _table(("control", "holds when", "severity", "at most"), rows)
        + "".join(_control(control, remediations) for control in listed)
    )


def _control(control: Control, remediations: Sequence[AnyRemediation]) -> str:
    of = [one.id for one in remediations if control.id in one.controls]
    named = ", ".join(f"[{code(one)}](remediations.md#{one})" for one in of) or "none: a ticket at most"
    mappings = [
        f"{plain(framework_name(name))}: {', '.join(map(plain, ids))}"
        for name, ids in sorted(control.frameworks.items())
    ]
    for name, ids in (
        ("Security Hub", control.security_hub),
        ("AWS Config", control.config_rules),
        ("Prowler", control.prowler),
        ("also called", control.aliases),
    ):
        if ids:
            mappings.append(f"{name}: {', '.join(map(code, ids))}")
    events = [
        f"{code(rule.source)}: {', '.join(map(code, rule.names))}"
        + (f", when {code(rule.when)}" if rule.when else "")
        for rule in control.events
    ]
    return (
        f"\n## {control.id}\n\n{plain(control.title)}.\n\n{plain(control.why)}\n\n"
        f"- severity: {control.severity.value}; applies to {code(control.resource)}\n"
        f"- status: {control.status.value}; ceiling: {control.ceiling.value}; hence at most **{control.most.value}**\n"
        f"- remediation: {named}\n"
        f"- parameters: {code(control.parameters) if control.parameters else 'none'}\n"
        f"- version {plain(control.version)}; waits {control.wait_after_create_minutes} minutes after a resource is made\n"
        f"\nEvents that may break it:\n\n{_bullets(events) or 'None.'}"
        f"\nWhen a finding may be wrong:\n\n{_bullets(map(plain, control.false_positives)) or 'No case is known.'}"
        f"\nMaps to:\n\n{_bullets(mappings) or 'Nothing.'}"
        f"\nEdge cases:\n\n{_bullets(f'{plain(case.says)} {_proof(case.test)}' for case in control.edge_cases) or 'None.'}"
    )


def _proof(test: str) -> str:
    """The test that exercises an edge case, or that none does, with the reason."""
    path, found, name = test.partition("::")
    if not found:
        return f"*{plain(test)}*"
    return f"([{code(name)}](../{path}))"


# -------------------------------------------------------------------------------------------------------- remediations


def remediations_page(controls: Iterable[Control], remediations: Sequence[AnyRemediation]) -> str:
    """Every remediation: what holds afterwards, when it declines, and every right that it needs."""
    titles = {control.id: control.title for control in controls}
    rows = ((f"[{code(one.id)}](#{one.id})", plain(one.summary), one.risk.value) for one in remediations)
    top = (
        "# Remediations\n\n"
        "What Redress can repair. A plan is shown before it is made (`redress simulate`, `redress plan`), and after it\n"
        "the target is assessed again: only what was seen counts.\n\n"
    )
    return (
        top
        + _table(("remediation", "does", "risk"), rows)
        + "".join(_remediation(one, titles) for one in remediations)
    )


def _remediation(one: AnyRemediation, titles: Mapping[str, str]) -> str:
    document = inspect.getdoc(inspect.getmodule(one.assess)) or ""
    paragraphs = "\n\n".join(plain(paragraph) for paragraph in document.split("\n\n") if paragraph.strip())
    for_controls = (
        f"[{code(control)}](controls.md#{control}): {plain(titles.get(control, 'not in the catalog'))}"
        for control in one.controls
    )
    settles = f"; the service may take {one.settle_seconds} s to show it" if one.settle_seconds else ""
    return (
        f"\n## {one.id}\n\n{paragraphs}\n\nRisk of acting: {one.risk.value}{settles}.\n"
        f"\nFor:\n\n{_bullets(for_controls)}"
        f"\nReads:\n\n{_rights(one.reads)}\nWrites:\n\n{_rights(one.writes)}\nTo undo:\n\n{_rights(one.undo_writes)}"
    )


def _rights(permissions: Iterable[Permission]) -> str:
    return (
        _bullets(
            f"{code(one.action)} on {code(one.resource)}"
            + "".join(f", {code(f'{operator} {key} {value}')}" for operator, key, value in one.condition)
            for one in permissions
        )
        or "Nothing.\n"
    )


# ------------------------------------------------------------------------------------------------ records and reference


def records_page() -> str:
    """Every record type, outcome and case state."""
    return (
        "# Records\n\n"
        "`redress log` shows what was recorded, `redress case` one case from its first event to its last, and whether\n"
        "its chain still holds. A record is stored once and never changed: its body carries the hash of the record\n"
        "before it, and beside it stands the SHA-256 of exactly the bytes stored.\n\n"
        "What people set or ask for (the policy, modes, exemptions, invitations, comments, undos) stands in one chain for each\n"
        "account and month, `SYS#<account>#<yyyymm>`, with what it was before and what it is since. The answers to an ask are\n"
        "a chain of their own, `ANSWER#<case>#<ask>`; one that was refused is alone, `ANSWER#REFUSED#<request>`, and so is\n"
        "each look of an outside auditor, `SYS#VIEW#<request>`.\n\n"
        f"## Record types\n\n{_explained('type', RecordType, RECORDS)}"
        f"\n## Outcomes\n\nOf a run only. Two are successes: `fixed` and `already_compliant`.\n\n"
        f"{_explained('outcome', Outcome, OUTCOMES)}"
        f"\n## Case states\n\n{_explained('state', CaseState, STATES)}"
    )


def reference_page(app: typer.Typer) -> str:
    """The command line, the decision table, modes, limits and settings."""
    rules = (
        (str(n), plain(rule.name), rule.verdict.value, plain(rule.reason))
        for n, rule in enumerate(RULES, start=1)
    )
    limits = (
        (code(name), str(entry["writes"]), code(entry["setting"])) for name, entry in limits_shown().items()
    )
    return (
        "# Reference\n\n## Commands\n\n"
        "Every command takes `--help`. Exit codes: 0 done; 1 not done or not well, and stderr says why; 2 the command\n"
        f"line itself is wrong.\n\n{''.join(_commands(app))}"
        "\n## Modes\n\nThe most that a control may do in an account, set by a named person with `redress mode`.\n\n"
        f"{_explained('mode', Mode, MODES)}"
        "\n## Decisions\n\nRead from the top; the first rule that holds decides. Only an approval and the last two act.\n\n"
        f"{_table(('', 'rule', 'decision', 'because'), rules)}"
        f"\n## Limits\n\nCounted over a sliding hour. Over one of them, a person is asked.\n\n"
        f"{_table(('limit', 'writes per hour', 'set by'), limits)}"
        f"\n## Settings\n\nThe environment of the functions; the template sets what a deployment needs of it.\n\n"
        f"{_table(('setting', 'default', 'meaning'), _settings())}"
    )


def limits_shown() -> dict[str, dict[str, Any]]:
    """Each hard limit with its default and the setting that changes it."""
    return {
        name: {"writes": field.default, "setting": SETTINGS[f"limit_{name}"][0]}
        for name, field in Limits.model_fields.items()
    }


def _settings() -> Iterator[tuple[str, str, str]]:
    for field in fields(Settings):
        if field.name not in SETTINGS:
            raise ContractError(f"setting {field.name!r} has no sentence in chalicelib/cli/pages.py")
        variable, meaning = SETTINGS[field.name]
        default = "must be set" if field.default is MISSING else code(field.default) if field.default else ""
        yield code(variable or field.name), default, prose(meaning)


def _commands(app: typer.Typer) -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        arguments = [one for one in command.params if not isinstance(one, TyperOption)]
        usage = " ".join(
            f"{str(one.metavar or one.name).upper()}{'...' if one.nargs != 1 else ''}" for one in arguments
        )
        yield (
            f"### redress {name}\n\n{prose(command.help)}\n\n```\nredress {name} {usage}".rstrip()
            + "\n```\n\n"
        )
        options = [one for one in command.params if isinstance(one, TyperOption)]
        rows = [
            (code(", ".join(one.opts)), prose(one.help or ""), "required" if one.required else _default(one))
            for one in options
        ]
        yield _table(("option", "meaning", "default"), rows) + "\n"


def _default(option: Any) -> str:  # noqa: ANN401 -- typer's option
    plainly = (
        option.default is None
        or option.default is False
        or option.default == ""
        or isinstance(option.default, Path)
    )
    return "" if plainly else code(option.default)
