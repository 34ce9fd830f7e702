"""`make up`: the demo's world kept running, for anybody who wants to try it by hand."""

import argparse
import contextlib
import json
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import SetMode, SetOwner, StartSweep
from local import shell
from local.demo import REGIONS, root_made_a_key, swept
from local.emulator.world import Credentials
from local.fakes.mails import Mailbox
from local.stage import Stage
from local.town import EVERYDAY, PEOPLE, SECURITY, Town

READS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ec2:Describe*",
                "ec2:Get*",
                "s3:GetBucket*",
                "s3:ListAllMyBuckets",
                "iam:GetUser",
                "iam:ListUsers",
                "iam:ListAccessKeys",
                "iam:GetAccessKeyLastUsed",
                "iam:GenerateCredentialReport",
                "iam:GetCredentialReport",
                "iam:GetAccountSummary",
            ],
            "Resource": "*",
        }
    ],
}
"""So that whoever tries it as the operator can also `redress simulate` on the resources that are there."""


def main() -> int:
    """Start, print how to talk to it, and stay until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where it listens; by default a free port")
    port: int = parser.parse_args().port
    if port and not _free(port):
        sys.stderr.write(
            f"error: port {port} is in use. Name another, as in: make up ARGS='--port {port + 1}'\n"
        )
        return 1
    console = shell.console()
    with (
        Town() as town,
        Stage(say=console.print, port=port, regions=REGIONS, environment=town.environment) as stage,
        Mailbox(stage.world.mails) as mailbox,
        tempfile.TemporaryDirectory(prefix="redress-up-") as folder,
    ):
        iam = stage.world.client("iam", quiet=True)
        iam.put_user_policy(UserName="olga-operator", PolicyName="reads", PolicyDocument=json.dumps(READS))
        people = {
            "operator": stage.operator,
            "approver": stage.approver,
            "developer": stage.developer,
            "root": stage.world.root,
        }
        # The root's file names no deployment: whoever deploys another one must not command the first.
        ours = {"REDRESS_STAGE": stage.settings.stage, "REDRESS_API": stage.api}
        files = {
            name: _file(Path(folder, name), stage, who, {} if name == "root" else ours)
            for name, who in people.items()
        }
        town.settle(stage)
        console.print("people move in, and something happens to them; half a minute")
        broken = lived_in(town, stage)
        console.print(_clicks(town, stage, mailbox, broken))
        console.print(_told(stage, files, stage.security_group("try-me")))
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                signal.pause()
        console.print("\nending")
    console.print("ended; nothing is left behind")
    return 0


MODES = {
    "ec2-open-ssh": Mode.ASK,
    "ec2-open-rdp": Mode.ACT,
    "iam-unused-credentials": Mode.ASK,
    "iam-root-access-key": Mode.TICKET,
}
"""What the emulated account lets Redress do, so that each page has something to show."""


def lived_in(town: Town, stage: Stage) -> str:
    """Something of everything has happened: found in the first sweep, repaired, mailed, handed over, and asked.

    The group whose port 22 is open.
    """
    ec2, account = stage.world.client("ec2", quiet=True), stage.world.account
    stage.fire("resend")  # counts from its first run on, and is due every five minutes
    stage.command(SetOwner(account=account, owner="shop team", reason="to try it"))
    inherited = stage.security_group("legacy-bastion")
    stage.open(inherited, 22, ec2=ec2)
    for control, mode in MODES.items():
        stage.command(SetMode(control=control, account=account, mode=mode, reason="to try it"))
    stage.command(StartSweep(reason="what was there before"))
    swept(stage)
    repaired = stage.security_group("build-server")
    stage.open(repaired, 3389)
    stage.world.root_access_key(present=True)
    stage.world.emit(root_made_a_key(stage))
    key = stage.user_with_key("nightly-batch", age_days=400, used_days_ago=120)
    stage.fire("sweep")
    broken = stage.security_group("web-frontend")
    stage.open(broken, 22)
    stage.await_record(stage.arn(repaired), "RESULT")
    for channel, resource in ((SECURITY, stage.arn(broken)), (EVERYDAY, key.arn)):
        stage.await_case(resource, CaseState.WAITING)
        town.await_card(stage, channel, resource)
    stage.world.wait_for(lambda: town.tickets.tickets["jira"], 25.0, "a ticket in Jira")
    stage.world.wait_for(
        lambda: any(mail.attributes.get("owner") for mail in stage.world.mails()), 25.0, "a mail to the owner"
    )
    return broken


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _file(path: Path, stage: Stage, who: Credentials, more: dict[str, str]) -> Path:
    """A file for a shell to read: that person, this world, `redress` on the path, and no account of yours."""
    values = {
        "AWS_ACCESS_KEY_ID": who.access_key_id,
        "AWS_SECRET_ACCESS_KEY": who.secret_access_key,
        "AWS_ENDPOINT_URL": stage.world.endpoint,
        "AWS_REGION": stage.world.region,
        "AWS_DEFAULT_REGION": stage.world.region,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        **more,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    programs = shlex.quote(str(Path(sys.executable).parent))
    path.write_text(
        "\n".join(
            [
                "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE",
                "unset REDRESS_STAGE REDRESS_API",
                *lines,
                f'case ":$PATH:" in *:{programs}:*) ;; *) export PATH={programs}:"$PATH" ;; esac',
            ]
        )
        + "\n",
        encoding="utf-8",
    )
    return path


def _clicks(town: Town, stage: Stage, mailbox: Mailbox, broken: str) -> str:
    """The pages, the people, and an approval by clicks alone."""
    roles = "\n".join(f"  {called:<15} {', '.join(roles)}" for called, _, _, roles in PEOPLE.values())
    return f"""
It runs until Ctrl-C, and is yours. Four pages, for any browser on this machine:

  Slack     {town.slack.url}
  console   {stage.api}/
  tickets   {town.tickets.origin}/
  mails     {mailbox.origin}/

An approval, by clicks alone:

  1  It is broken already: dave-developer opened port 22 of web-frontend ({broken}) to the world.
  2  Open Slack. In #security a card waits; its links were crawled, which decides nothing.
  3  Press "Review & decide", say that you are Anna Approver, choose a reason, press Approve.
     (Dave Developer is refused there, though he is an approver: he made the change.)
  4  Go back to Slack: the card says what became of it, and its thread how it came about.
     In #everyday is one of medium severity, with buttons that decide in Slack itself.
  5  Open the mails: the owner of what was changed is told what, why, how to keep it, and how to take it back.
  6  Open the console, sign out, and come back as Ada Auditor: every page that she opens is put on record.

Who is who, wherever somebody asks; nobody has a password:

{roles}
"""


def _told(stage: Stage, files: dict[str, Path], group: str) -> str:
    """What to type in another shell; no line is broken, and none carries a comment, which zsh would not take."""
    attack = (
        f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 22 --cidr 0.0.0.0/0"
        if shutil.which("aws")
        else 'python -c \'import boto3; boto3.client("ec2").authorize_security_group_ingress('
        f'GroupId="{group}", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")\''
    )
    return f"""
The same without a browser: open another shell (sh, bash or zsh) and paste.

Be the operator, look round, and let the control act:

  . {files["operator"]}
  redress doctor
  redress mode ec2-open-ssh act --account {stage.world.account} --reason trying

Be the developer, and open port 22 of {group} to the world:

  . {files["developer"]}
  {attack}

Be the operator again, and read what became of it:

  . {files["operator"]}
  redress log --since 1h
  redress cases

Set a control to ask instead of act, break it again, and be the approver:

  . {files["approver"]}
  redress waiting
  redress approve CASE --reason "seen and agreed"

`redress --help` lists the rest. Who may do anything here, `make deploy STAGE=mine` too: . {files["root"]}
"""


if __name__ == "__main__":
    sys.exit(shell.ended(main))
