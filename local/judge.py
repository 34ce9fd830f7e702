"""`make judge`: an outside judge, Prowler, looks at the emulated AWS before and after Redress has worked on it.

After a first sweep, a developer lets ports 22 and 3389 in from the world, switches EBS encryption by default off and deletes
a bucket's public access block, while CloudTrail is held back; a user's key lies unused for 100 days, and root has a key:
Prowler's checks must say FAIL. CloudTrail is let go, the deployed engine acts; a sweep finds the keys, it asks about the
user's and an approver says yes; of root's it opens a ticket. The same checks must then say PASS of the same resources, and
FAIL of root. No check may fail that did not fail before. At last root's key is removed: Prowler must not say FAIL of it any
more, and the next sweep must close the ticket.

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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import AnswerAsk, SetMode
from local.emulator.world import Credentials
from local.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "local" / "oracle-requirements.txt"
SCAN = ROOT / "local" / "oracle" / "scan.py"
CHECKS = ROOT / "local" / "oracle" / "checks.txt"
ENVIRONMENT = ROOT / ".venv-judge"

HELD_BACK_SECONDS = 3600.0
SCAN_SECONDS = 300
SWEEP_SECONDS = 120
INSTALL_SECONDS = 900
WORLD = "0.0.0.0/0"
OPENED = (22, 3389)
LEFT_OPEN = 443

SSH = "ec2_securitygroup_allow_ingress_from_internet_to_tcp_port_22"
RDP = "ec2_securitygroup_allow_ingress_from_internet_to_tcp_port_3389"
EBS = "ec2_ebs_default_encryption"
PAB = "s3_bucket_level_public_access_block"
UNUSED = "iam_user_accesskey_unused"
OLD = "iam_rotate_access_key_90_days"
ROOT_KEY = "iam_no_root_access_key"
MODES: Mapping[str, Mode] = {
    "ec2-open-ssh": Mode.ACT,
    "ec2-open-rdp": Mode.ACT,
    "ebs-default-encryption": Mode.ACT,
    "s3-bucket-public-access-block": Mode.ACT,
    "iam-unused-credentials": Mode.ASK,
    "iam-root-access-key": Mode.TICKET,
}

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


def objections(found: Sequence[Change], required: Mapping[str, str], left: Mapping[str, str]) -> list[str]:
    """Why the judge does not agree.

    `required` is the resource of each check that must go from FAIL to PASS; `left` that of each that must go on saying FAIL,
    because only a person can see to it.
    """
    wrong: list[str] = []
    for check, resource in required.items():
        about = [one for one in found if _is_about(one, {check: resource})]
        if not about:
            wrong.append(f"{check} said nothing of {resource}")
        wrong += [
            f"{check} said {one.before} and then {one.after} of {resource}, not FAIL and then PASS"
            for one in about
            if one.verdict != "repaired"
        ]
    for check, resource in left.items():
        about = [one for one in found if _is_about(one, {check: resource})]
        if not about or any(one.verdict != "still fails" for one in about):
            wrong.append(f"{check} did not say FAIL both times of {resource}, which nobody had seen to")
    wrong += [
        f"{one.subject.check} fails now for {one.subject.resource}, and did not before"
        for one in found
        if one.verdict in {"broken", "newly failing"}
    ]
    return wrong


def _is_about(one: Change, named: Mapping[str, str]) -> bool:
    resource = named.get(one.subject.check)
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


def scan(python: Path, stage: Stage, auditor: Credentials, *only: str) -> dict[str, Any]:
    """What Prowler finds now, in a process of its own, with an auditor's key; by every check that is listed, or `only` these."""
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
    checks = only or listed(CHECKS.read_text(encoding="utf-8"))
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
    """The scans, what had to change between the first two and what had not, and what our own records say.

    `removed` is the last scan, of root's key alone, after a person has removed it.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    removed: dict[str, Any]
    required: Mapping[str, str]
    left: Mapping[str, str]
    outcomes: Mapping[str, str]
    tickets: Mapping[str, str]


@dataclass(frozen=True)
class Ground:
    """What will be violated, while it is still in order: a group, a bucket and a user with a key of yesterday."""

    group: str
    bucket: str
    user: Credentials


def tried(python: Path, say: Callable[[str], None]) -> Trial:
    """One deployment, six violations, three scans."""
    with Stage(say=say) as stage:
        auditor = stage.world.create_user("ada-auditor", AUDITS)
        for control, mode in MODES.items():
            stage.command(
                SetMode(control=control, account=stage.world.account, mode=mode, reason="to be judged")
            )
        stage.world.set_delay(HELD_BACK_SECONDS)
        ground = prepared(stage)
        say("the first sweep: what it finds is a report")
        sweep(stage)
        violate(stage, ground)
        say("six things are as they should not be, CloudTrail is held back: Prowler looks")
        before = scan(python, stage, auditor)
        say(f"{before['seconds']:.0f} s. CloudTrail is let go, then a sweep finds the keys: Redress works")
        stage.world.set_delay(0)
        group, setting = stage.arn(ground.group), f"AWS::::Account:{stage.world.account}"
        outcomes = {name: outcome(stage, name) for name in (group, setting, f"arn:aws:s3:::{ground.bucket}")}
        if stage.ingress(ground.group) != {(LEFT_OPEN, WORLD)}:
            outcomes[group] += f", but the group now lets in {sorted(stage.ingress(ground.group))}"
        sweep(stage)
        approve(stage, ground.user.arn)
        outcomes[ground.user.arn] = outcome(stage, ground.user.arn)
        tickets = {"while root has a key": ticketed(stage)}
        say(f"its own records: {', '.join(sorted(set(outcomes.values())))}. Prowler looks again")
        after = scan(python, stage, auditor)
        say(
            f"{after['seconds']:.0f} s. Somebody removes root's key, and Prowler looks a last time, at that alone"
        )
        stage.world.root_access_key(present=False)
        removed = scan(python, stage, auditor, ROOT_KEY)
        sweep(stage)
        tickets["afterwards"] = ticketed(stage)
        required = {
            SSH: group,
            RDP: group,
            EBS: f":{stage.world.account}:volume",
            PAB: f":::{ground.bucket}",
            UNUSED: ground.user.arn,
            OLD: ground.user.arn,
        }
        left = {ROOT_KEY: f":{stage.world.account}:root"}
        return Trial(before, after, removed, required, left, outcomes, tickets)


def prepared(stage: Stage) -> Ground:
    """Everything in order. ACLs are disabled in the bucket, as AWS makes buckets today."""
    stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
    stage.bucket("judged-bucket")
    owned = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    s3 = stage.world.client("s3", quiet=True)
    s3.put_bucket_ownership_controls(Bucket="judged-bucket", OwnershipControls=owned)
    return Ground(stage.security_group("judged"), "judged-bucket", stage.user_with_key("ivo-idle", 1))


def violate(stage: Stage, ground: Ground) -> None:
    """What a developer should not do, in three API calls; what time did to a key; and a key of the root user."""
    ec2 = stage.world.client("ec2", stage.developer)
    ec2.authorize_security_group_ingress(
        GroupId=ground.group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": WORLD}]}
            for port in OPENED
        ],
    )
    ec2.disable_ebs_encryption_by_default()
    stage.world.client("s3", stage.developer).delete_public_access_block(Bucket=ground.bucket)
    now = datetime.now(UTC)
    stage.world.age_access_key(
        ground.user.access_key_id, created=now - timedelta(days=200), last_used=now - timedelta(days=100)
    )
    stage.world.root_access_key(present=True)


def sweep(stage: Stage) -> None:
    """One whole sweep of the account."""

    def done() -> set[str]:
        return {one.id for one in stage.ledger.sweeps() if one.completed_at}

    before = done()
    stage.fire("sweep")
    stage.world.wait_for(lambda: done() - before, SWEEP_SECONDS, "the sweep to be over")


def outcome(stage: Stage, resource: str) -> str:
    """What our record of the run on the resource says that it achieved."""
    return str(stage.await_record(resource, "RESULT", seconds=60)["data"]["outcome"])


def approve(stage: Stage, resource: str) -> None:
    """The approver says yes to what is asked about the resource."""
    case = stage.await_case(resource, CaseState.WAITING)
    hashed = case.ask.plan_hash if case.ask else ""
    stage.command(
        AnswerAsk(case=case.id, ask=case.asks, plan_hash=hashed, approve=True, reason="judged"),
        stage.approver,
    )


def ticketed(stage: Stage) -> str:
    """Whether a ticket about the root user's key is open."""
    about = [one for one in stage.tickets() if "iam-root-access-key" in one.controls]
    return "open" if about else "none"


# ---------------------------------------------------------------------------------------------------------------- output


def table(found: Sequence[Change], trial: Trial) -> Table:
    """What had to change, and anything else that did."""
    shown = Table(title="What Prowler says", title_justify="left")
    for column in ("check", "resource", "before", "after", ""):
        shown.add_column(column, overflow="fold")
    for one in found:
        if one.verdict not in AS_BEFORE or _is_about(one, {**trial.required, **trial.left}):
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
    named = {**trial.required, **trial.left}
    wrong = objections(found, trial.required, trial.left)
    wrong += [
        f"{one['check']} still fails after root's key was removed"
        for one in trial.removed["findings"]
        if one["status"] != "PASS"
    ]
    if trial.tickets != {"while root has a key": "open", "afterwards": "none"}:
        wrong.append(f"tickets about root's key: {dict(trial.tickets)}")
    wrong += [f"our record on {name} says {said}" for name, said in trial.outcomes.items() if said != "fixed"]
    wrong += [
        f"{check} broke: {why}"
        for check, why in {**trial.after["broken"], **trial.removed["broken"]}.items()
        if check not in trial.before["broken"]
    ]
    unchanged = [one for one in found if one.verdict in AS_BEFORE and not _is_about(one, named)]
    last = ", ".join(one["status"] for one in trial.removed["findings"]) or "nothing"
    if given.json:
        document = {
            "agrees": not wrong,
            "objections": wrong,
            "seconds": round(time.monotonic() - began, 1),
            "prowler": trial.before["prowler"],
            "required": dict(trial.required),
            "left": dict(trial.left),
            "outcomes": dict(trial.outcomes),
            "tickets": dict(trial.tickets),
            "removed": trial.removed["findings"],
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
    console.print(
        f"Root's key: ticket {trial.tickets['while root has a key']}; after its removal Prowler says {last}, ticket"
        f" {trial.tickets['afterwards']}."
    )
    for objection in wrong:
        console.print(f"NOT AGREED: {objection}")
    if not wrong:
        console.print(f"the judge agrees; {time.monotonic() - began:.0f} s in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
