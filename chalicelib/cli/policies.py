"""The policies of our roles, made from what the remediations declare and from what the engine itself needs.

Each document is committed as `.chalice/policies/<role>.json` and is, word for word, the inline policy of that role in
the deployed template: `${…}` in it is CloudFormation's, filled in by `Fn::Sub`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.domain.contract import AnyRemediation, Permission

Document = dict[str, Any]
Statement = dict[str, Any]

NEVER = (
    "cloudtrail:DeleteTrail",
    "cloudtrail:StopLogging",
    "guardduty:DeleteDetector",
    "kms:DisableKey",
    "kms:ScheduleKeyDeletion",
    "securityhub:DisableSecurityHub",
)
"""What no role of ours may ever do (ARCHITECTURE §4); `iam:PassRole` and `iam:AttachRolePolicy` never on `*`."""

TAG = "redress:stage"
"""The tag by which our own key is known, since a key's ARN carries no name of ours."""

SPENT = ("SPENT#*",)
SETTINGS = ("CHAIN#*", "ENROLMENT#*", "EXEMPTION#*", "FREEZE#*", "MODE#*")
"""Who writes which keys of `control_state`: the engine what it spent, people through the HTTP function all else."""

COMMANDED = ("SYS#*",)
"""The chains of `audit` that people's commands are recorded in: the HTTP function writes them and no other, the engine
every other and none of them."""

_LEDGER_CHANGES = (
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:DeleteResourcePolicy",
    "dynamodb:DeleteTable",
    "dynamodb:PartiQLDelete",
    "dynamodb:PartiQLUpdate",
    "dynamodb:PutResourcePolicy",
    "dynamodb:UpdateContinuousBackups",
    "dynamodb:UpdateItem",
    "dynamodb:UpdateTable",
    "dynamodb:UpdateTimeToLive",
)

_CONSUME = (
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
)


def arn(
    service: str, resource: str, region: str = "${AWS::Region}", account: str = "${AWS::AccountId}"
) -> str:
    """An ARN of the deployment's partition, for `Fn::Sub`."""
    return f"arn:${{AWS::Partition}}:{service}:{region}:{account}:{resource}"


def table(name: str) -> str:
    return arn("dynamodb", f"table/redress-${{Stage}}-{name}")


def queue(name: str) -> str:
    return arn("sqs", f"redress-${{Stage}}-{name}")


def role(name: str, account: str = "${AWS::AccountId}") -> str:
    return arn("iam", f"role/redress-${{Stage}}-{name}", region="", account=account)


def engine() -> Document:
    """Queues, tables, and the two roles it takes on; of the settings it writes the spent limits alone, never a mode.

    Nor does it write the record of a person's command.

    Lambda's poller receives and deletes as this role (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html),
    and a transaction needs the rights of its parts and no other
    (docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html).
    """
    return document(
        allow("Queues", _CONSUME, [queue("events"), queue("commands")]),
        allow(
            "Redrive",
            ("sqs:DeleteMessage", "sqs:ReceiveMessage"),
            [queue("events-dlq"), queue("commands-dlq")],
        ),
        allow("RedriveTo", ("sqs:SendMessage",), [queue("events"), queue("commands")]),
        allow(
            "Find",
            ("sqs:GetQueueUrl",),
            [queue(name) for name in ("events", "commands", "events-dlq", "commands-dlq")],
        ),
        allow("Look", ("dynamodb:BatchGetItem",), [table("cases"), table("control-state")]),
        allow("Commit", ("dynamodb:PutItem",), [table("audit"), table("cases"), table("outbox")]),
        _keyed("Spend", table("control-state"), SPENT),
        {
            **deny("NoCommands", ("dynamodb:PutItem",), [table("audit")]),
            "Condition": {"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": list(COMMANDED)}},
        },
        allow("TakeOn", ("sts:AssumeRole",), [role("act", "*"), role("read", "*")]),
        _logs("engine"),
        _ledger_stays(),
    )


def http() -> Document:
    """Settings and their records, and a message to the engine. It reads no case, spends no limit, takes on no role."""
    return document(
        allow("Settings", ("dynamodb:BatchGetItem",), [table("control-state")]),
        _keyed("Set", table("control-state"), SETTINGS),
        _keyed("Records", table("audit"), COMMANDED),
        allow("Commands", ("sqs:GetQueueUrl", "sqs:SendMessage"), [queue("commands")]),
        _logs("http"),
        _ledger_stays(),
    )


def read(remediations: Iterable[AnyRemediation]) -> Document:
    """All declared reads."""
    return document(*union(permission for one in remediations for permission in one.reads))


def act(remediations: Iterable[AnyRemediation]) -> Document:
    """All declared writes, and never on ourselves."""
    return document(
        *union(permission for one in remediations for permission in one.writes), *_not_ourselves()
    )


def undo(remediations: Iterable[AnyRemediation]) -> Document:
    """All declared writes of undoing, and never on ourselves."""
    return document(
        *union(permission for one in remediations for permission in one.undo_writes), *_not_ourselves()
    )


_THROUGH_DYNAMODB = (
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey*",
    "kms:ReEncrypt*",
)


def boundary(*granted: Document) -> Document:
    """The permissions boundary: just the actions that `granted` grant, so that no policy added later can say more.

    A role may do what its policies *and* its boundary allow
    (docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html).
    """
    actions = {
        action
        for one in granted
        for statement in one["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    return document(
        allow("Declared", sorted(actions), ["*"]),
        # The key's own policy grants this to engine and http; a boundary that were silent about it might take it away.
        {
            **allow("OurTablesKey", _THROUGH_DYNAMODB, ["*"]),
            "Condition": {"StringLike": {"kms:ViaService": "dynamodb.*"}},
        },
        deny("Never", NEVER, ["*"]),
        deny("LedgerStays", _LEDGER_CHANGES, [arn("dynamodb", "table/redress-*-audit", region="*")]),
    )


def document(*statements: Statement) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(sid: str, actions: Iterable[str], resources: Iterable[str]) -> Statement:
    return _statement(sid, "Allow", actions, resources)


def deny(sid: str, actions: Iterable[str], resources: Iterable[str]) -> Statement:
    return _statement(sid, "Deny", actions, resources)


def union(permissions: Iterable[Permission]) -> list[Statement]:
    """`permissions` as the fewest statements that say just them: those of one resource and condition stand together."""
    together: dict[tuple[str, tuple[tuple[str, str, str], ...]], set[str]] = {}
    for one in permissions:
        together.setdefault((_everywhere(one.resource), one.condition), set()).add(one.action)
    statements = []
    for (resource, condition), actions in sorted(together.items()):
        granted = Permission(action="", resource=resource, condition=condition).statement(resource)
        statements.append({**granted, "Action": sorted(actions), "Resource": [resource]})
    return statements


def listed(value: str | list[str]) -> list[str]:
    """IAM writes one as itself and several as a list."""
    return [value] if isinstance(value, str) else value


def unresolved(value: Any) -> Any:  # noqa: ANN401 -- a policy document, walked by type
    """`value` with every text that holds `${…}` wrapped in `Fn::Sub`."""
    if isinstance(value, str):
        return {"Fn::Sub": value} if "${" in value else value
    if isinstance(value, Mapping):
        return {key: unresolved(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [unresolved(inner) for inner in value]
    return value


def _statement(sid: str, effect: str, actions: Iterable[str], resources: Iterable[str]) -> Statement:
    return {"Sid": sid, "Effect": effect, "Action": list(actions), "Resource": list(resources)}


def _everywhere(resource: str) -> str:
    """A declared resource in the account of the role that acts: any Region, any id."""
    return resource.format(partition="${AWS::Partition}", region="*", account="${AWS::AccountId}", id="*")


def _keyed(sid: str, resource: str, keys: Iterable[str]) -> Statement:
    """PutItem of items whose partition key begins so.

    (docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html).
    """
    condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(keys)}}
    return {**allow(sid, ("dynamodb:PutItem",), [resource]), "Condition": condition}


def _logs(function: str) -> Statement:
    """The log group is the stack's own, with its retention: the function may write into it and make none."""
    group = arn("logs", f"log-group:/aws/lambda/redress-${{Stage}}-{function}:*")
    return allow("Logs", ("logs:CreateLogStream", "logs:PutLogEvents"), [group])


def _ledger_stays() -> Statement:
    return deny("LedgerStays", _LEDGER_CHANGES, [table("audit"), table("audit/*")])


def _not_ourselves() -> tuple[Statement, ...]:
    """Whatever a remediation declares, the acting role touches no deployment of Redress in its account."""
    ours = [
        arn("cloudformation", "stack/redress-*", region="*"),
        arn("cloudwatch", "alarm:redress-*", region="*"),
        arn("dynamodb", "table/redress-*", region="*"),
        arn("events", "event-bus/redress-*", region="*"),
        arn("events", "rule/redress-*", region="*"),
        arn("iam", "policy/redress-*", region=""),
        arn("iam", "role/redress-*", region=""),
        arn("lambda", "function:redress-*", region="*"),
        arn("logs", "log-group:/aws/lambda/redress-*", region="*"),
        arn("s3", "redress-*", region="", account=""),
        arn("sns", "redress-*", region="*"),
        arn("sqs", "redress-*", region="*"),
    ]
    key = {**deny("NotOurKey", ("kms:*",), ["*"]), "Condition": {"Null": {f"aws:ResourceTag/{TAG}": "false"}}}
    return deny("NotOurselves", ("*",), ours), key, deny("Never", NEVER, ["*"])
