"""`make judge`: an outside judge, Prowler, looks at the emulated AWS before and after Redress has worked on it.

A developer lets ports 22 and 3389 in from the world and switches EBS encryption by default off, while CloudTrail is held
back: Prowler's checks must say FAIL. CloudTrail is let go, the deployed engine does its work: the same checks must say
PASS of the same resources, and no check may fail that did not fail before.

Exit code 0: so it was. 1: it was not. 2: the judge could not be asked, and why.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from chalicelib.domain.contract import Mode
from chalicelib.flow.command import SetMode
from local.emulator.world import Credentials
from local.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "local" / "oracle-requirements.txt"
SCAN = ROOT / "local" / "oracle" / "scan.py"
CHECKS = ROOT / "local" / "oracle" / "checks.txt"
ENVIRONMENT = ROOT / ".venv-judge"

HELD_BACK_SECONDS = 3600.0
SCAN_SECONDS = 300
INSTALL_SECONDS = 900
WORLD = "0.0.0.0/0"
OPENED = (22, 3389)
LEFT_OPEN = 443

SSH = "ec2_securitygroup_allow_ingress_from_internet_to_tcp_port_22"
RDP = "ec2_securitygroup_allow_ingress_from_internet_to_tcp_port_3389"
EBS = "ec2_ebs_default_encryption"
CONTROLS = ("ec2-open-ssh", "ec2-open-rdp", "ebs-default-encryption")

AUDITS: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                f"{service}:{verb}*"
                for service in (
                    "cloudtrail",
                    "dynamodb",
                    "ec2",
                    "iam",
                    "kms",
                    "lambda",
                    "logs",
                    "organizations",
                    "s3",
                    "sns",
                    "sqs",
                    "sts",
                    "tag",
                )
                for verb in ("Describe", "Generate", "Get", "List")
            ],
            "Resource": "*",
        }
    ],
}
"""The judge may read, and have IAM's own reports made, and nothing else."""

Verdict = Literal["repaired", "still fails", "broken", "newly failing", "gone", "unchanged"]
Scan = Mapping[str, Any]

AS_BEFORE = frozenset({"unchanged", "still fails"})


class JudgeError(RuntimeError):
    """The judge could not be asked; the message says what failed and what to do."""


# --------------------------------------------------------------------------------------------------------- the judgement


@dataclass(frozen=True, order=True)
class Subject:
    """What a check speaks of."""

    check: str
    resource: str
    region: str


@dataclass(frozen=True)
class Change:
    """What a check said of one resource before and after; None when it said nothing."""

    subject: Subject
    before: str | None
    after: str | None

    @property
    def verdict(self) -> Verdict:
        """What that comes to."""
        match self.before, self.after:
            case "FAIL", "PASS":
                return "repaired"
            case "FAIL", "FAIL":
                return "still fails"
            case "FAIL", _:
                return "gone"
            case None, "FAIL":
                return "newly failing"
            case _, "FAIL":
                return "broken"
        return "unchanged"


def said(findings: Iterable[Mapping[str, str]]) -> dict[Subject, str]:
    """One word for each subject: a check may speak more than once of a resource, and FAIL weighs most."""
    words: dict[Subject, str] = {}
    for finding in findings:
        subject = Subject(finding["check"], finding["resource"], finding["region"])
        if words.get(subject) != "FAIL":
            words[subject] = finding["status"]
    return words


def changes(before: Scan, after: Scan) -> list[Change]:
    """Everything that was spoken of before or after."""
    then, now = said(before["findings"]), said(after["findings"])
    return [Change(subject, then.get(subject), now.get(subject)) for subject in sorted({*then, *now})]


def objections(found: Sequence[Change], required: Mapping[str, str]) -> list[str]:
    """Why the judge does not agree; `required` is the resource of each check that must go from FAIL to PASS."""
    wrong: list[str] = []
    for check, resource in required.items():
        about = [
            one for one in found if one.subject.check == check and one.subject.resource.endswith(resource)
        ]
        if not about:
            wrong.append(f"{check} said nothing of {resource}")
        wrong += [
            f"{check} said {one.before} and then {one.after} of {resource}, not FAIL and then PASS"
            for one in about
            if one.verdict != "repaired"
        ]
    wrong += [
        f"{one.subject.check} fails now for {one.subject.resource}, and did not before"
        for one in found
        if one.verdict in {"broken", "newly failing"}
    ]
    return wrong


def _is_required(one: Change, required: Mapping[str, str]) -> bool:
    resource = required.get(one.subject.check)
    return resource is not None and one.subject.resource.endswith(resource)


# ------------------------------------------------------------------------------------------------------------- the judge


def environment(say: Callable[[str], None]) -> Path:
    """Prowler's own Python, made when it is not there or its pins have changed."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".made"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return python
    if sys.version_info >= (3, 14):
        raise JudgeError(
            f"Prowler 5.46 runs on Python 3.10 to 3.13, and this is {sys.version.split()[0]}:"
            " make judge PYTHON=python3.13, in a fresh clone"
        )
    say(f"making {ENVIRONMENT.name} for Prowler; a minute, once")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(ENVIRONMENT)], "the environment could not be made")
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "-q",
        "--no-deps",
    ]
    _run([*pip, "-r", str(REQUIREMENTS)], "pip could not install Prowler and what it needs")
    _run(
        [str(python), "-c", "import prowler.providers.aws.aws_provider"],
        "Prowler was installed and cannot be imported",
    )
    stamp.write_text(digest, encoding="utf-8")
    return python


def _run(command: Sequence[str], wrong: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JudgeError(f"{wrong}: {error}") from error
    if done.returncode != 0:
        raise JudgeError(
            f"{wrong} (exit code {done.returncode} of {' '.join(command)}):\n{(done.stderr or done.stdout)[-1500:]}"
        )


def listed(text: str) -> list[str]:
    """The lines that are not remarks."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def scan(python: Path, stage: Stage, auditor: Credentials) -> dict[str, Any]:
    """What Prowler finds now, in a process of its own, with an auditor's key."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "REDRESS_", "PYTHON"))
    }
    seen = {
        "AWS_ACCESS_KEY_ID": auditor.access_key_id,
        "AWS_SECRET_ACCESS_KEY": auditor.secret_access_key,
        "AWS_REGION": stage.world.region,
        "AWS_DEFAULT_REGION": stage.world.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "PROWLER_AWS_BOTO3_RETRIES_MAX_ATTEMPTS": "0",
    }
    checks = listed(CHECKS.read_text(encoding="utf-8"))
    try:
        done = subprocess.run(
            [str(python), str(SCAN), stage.world.endpoint, *checks],
            cwd=ROOT,
            env={**kept, **seen},
            capture_output=True,
            text=True,
            check=False,
            timeout=SCAN_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise JudgeError(f"Prowler was not done after {SCAN_SECONDS} s") from error
    if done.returncode != 0:
        raise JudgeError(f"Prowler ended with exit code {done.returncode}:\n{done.stderr[-1500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["account"] != stage.world.account:
        raise JudgeError(f"Prowler looked at account {answer['account']}, not at {stage.world.account}")
    return answer


# ------------------------------------------------------------------------------------------------------- what it judges


@dataclass(frozen=True)
class Trial:
    """Both scans, what had to change between them, and what our own records say."""

    before: dict[str, Any]
    after: dict[str, Any]
    required: Mapping[str, str]
    outcomes: Mapping[str, str]


def tried(python: Path, say: Callable[[str], None]) -> Trial:
    """One deployment, three violations, two scans."""
    with Stage(say=say) as stage:
        auditor = stage.world.create_user("ada-auditor", AUDITS)
        for control in CONTROLS:
            stage.command(
                SetMode(control=control, account=stage.world.account, mode=Mode.ACT, reason="to be judged")
            )
        stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
        stage.world.set_delay(HELD_BACK_SECONDS)
        group = stage.security_group("judged")
        violate(stage, group)
        say(
            f"ports 22 and 3389 of {group} are open, EBS encryption is off, CloudTrail is held back: Prowler looks"
        )
        before = scan(python, stage, auditor)
        say(f"{before['seconds']:.0f} s. CloudTrail is let go: Redress works")
        stage.world.set_delay(0)
        setting = f"AWS::::Account:{stage.world.account}"
        outcomes = {
            resource: str(stage.await_record(resource, "RESULT", seconds=60)["data"]["outcome"])
            for resource in (stage.arn(group), setting)
        }
        if stage.ingress(group) != {(LEFT_OPEN, WORLD)}:
            outcomes[stage.arn(group)] += f", but the group now lets in {sorted(stage.ingress(group))}"
        say(f"its own records: {', '.join(sorted(set(outcomes.values())))}. Prowler looks again")
        after = scan(python, stage, auditor)
        say(f"{after['seconds']:.0f} s")
        required = {SSH: stage.arn(group), RDP: stage.arn(group), EBS: f":{stage.world.account}:volume"}
        return Trial(before, after, required, outcomes)


def violate(stage: Stage, group: str) -> None:
    """What a developer should not do, in two API calls."""
    ec2 = stage.world.client("ec2", stage.developer)
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": WORLD}]}
            for port in OPENED
        ],
    )
    ec2.disable_ebs_encryption_by_default()


# ---------------------------------------------------------------------------------------------------------------- output


def table(found: Sequence[Change], trial: Trial) -> Table:
    """What had to change, and anything else that did."""
    shown = Table(title="What Prowler says", title_justify="left")
    for column in ("check", "resource", "before", "after", ""):
        shown.add_column(column, overflow="fold")
    for one in found:
        if one.verdict not in AS_BEFORE or _is_required(one, trial.required):
            shown.add_row(
                one.subject.check,
                one.subject.resource,
                one.before or "nothing",
                one.after or "nothing",
                one.verdict,
            )
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Ask, show, and say by the exit code whether the judge agrees."""
    parser = argparse.ArgumentParser(prog="make judge", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="both scans and the judgement as one JSON document"
    )
    given = parser.parse_args(arguments)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    began = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{what}\n")
        sys.stderr.flush()

    try:
        trial = tried(environment(say), say)
    except JudgeError as error:
        say(f"Prowler could not be asked: {error}")
        return 2
    found = changes(trial.before, trial.after)
    wrong = objections(found, trial.required)
    wrong += [f"our record on {name} says {said}" for name, said in trial.outcomes.items() if said != "fixed"]
    wrong += [
        f"{check} broke: {why}"
        for check, why in trial.after["broken"].items()
        if check not in trial.before["broken"]
    ]
    unchanged = [one for one in found if one.verdict in AS_BEFORE and not _is_required(one, trial.required)]
    if given.json:
        document = {
            "agrees": not wrong,
            "objections": wrong,
            "seconds": round(time.monotonic() - began, 1),
            "prowler": trial.before["prowler"],
            "required": dict(trial.required),
            "outcomes": dict(trial.outcomes),
            "changes": [{**asdict(one), "verdict": one.verdict} for one in found],
            "unread": trial.after["unread"],
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return 1 if wrong else 0
    console.print(table(found, trial))
    passing = sum(one.after == "PASS" for one in unchanged)
    console.print(
        f"Prowler {trial.before['prowler']}, {len(found)} findings: beside these, {passing} pass and"
        f" {len(unchanged) - passing} fail as before. {len(trial.after['unread'])} things it could not read here (--json)."
    )
    for objection in wrong:
        console.print(f"NOT AGREED: {objection}")
    if not wrong:
        console.print(f"the judge agrees; {time.monotonic() - began:.0f} s in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
