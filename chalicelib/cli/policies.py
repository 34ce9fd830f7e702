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

SWEPT = ("BASELINE#*", "BREAKER#*", "SPENT#*", "SWEEP#*")
UNDONE = ("BREAKER#*", "EXEMPTION#*", "SPENT#*")
SETTINGS = (
    "BREAKER#*",
    "CHAIN#*",
    "DEPLOYER#*",
    "DOSSIER#*",
    "ENGAGEMENT#*",
    "ENROLMENT#*",
    "EXEMPTION#*",
    "FREEZE#*",
    "MODE#*",
    "OWNER#*",
    "POLICY",
)
"""Who writes which keys of `control_state`: the engine what it spent, missed and swept, the undoer what it spent,
the miss and the exemption that an undo is, people through the HTTP function all else."""

SAID = ("ANSWER#*", "SYS#*")
"""The chains of `audit` in which people's answers and commands are recorded."""

ANSWERS = ("ANSWERS#*",)
"""The items of `cases` that hold people's answers. The HTTP function writes these and `SAID`, and no others; the engine
and the undoer write every other and none of these."""

ERRANDS = ("ERRAND#*",)
"""The notices of `outbox` that the HTTP function writes (flow/errand.py)."""

TOLD = ("DELIVERIES#*", "STORM#*", "TICKETREF#*")
"""The items of `outbox` in which the notifier remembers what was told to whom. It writes these and, when somebody
closed a ticket of ours by hand, an errand that has the engine look again."""

NOTICES = "notices.fifo"
NOTICES_DEAD = "notices-dlq.fifo"
"""Named here because SQS wants the ending of a FIFO queue's name behind everything else."""

REGIONS = Permission("ec2:DescribeRegions", "*")
"""What a sweep reads beside what the remediations declare: where to look."""

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


def secret(name: str) -> str:
    """One of our two secrets: the six characters that Secrets Manager adds to a name are not known before it exists.

    (docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_iam-policies.html).
    """
    return arn("secretsmanager", f"secret:redress-${{Stage}}/{name}-??????")


def role(name: str, account: str = "${AWS::AccountId}") -> str:
    return arn("iam", f"role/redress-${{Stage}}-{name}", region="", account=account)


def engine() -> Document:
    """Queues, tables, and the two roles it takes on; of the settings it writes what it spent and swept, never a mode.

    Nor does it write what a person said. It is the only one who may send to the undo queue.

    Lambda's poller receives and deletes as this role (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html),
    and a transaction needs the rights of its parts and no other
    (docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html).
    """
    live = [queue(name) for name in ("events", "commands", "undo", NOTICES)]
    dead = [queue(name) for name in ("events-dlq", "commands-dlq", "undo-dlq", NOTICES_DEAD)]
    return document(
        allow("Queues", _CONSUME, [queue("events"), queue("commands")]),
        allow("Redrive", ("sqs:DeleteMessage", "sqs:ReceiveMessage"), dead),
        allow("Send", ("sqs:SendMessage",), live),
        allow("Find", ("sqs:GetQueueUrl",), [*live, *dead]),
        allow("Search", ("dynamodb:Query",), [table("audit"), table("cases/index/by_state")]),
        *_walks(SWEPT),
        allow("TakeOn", ("sts:AssumeRole",), [role("act", "*"), role("read", "*")]),
        _logs("engine"),
        _ledger_stays(),
    )


def undoer() -> Document:
    """The undo queue, the tables, and the two roles it takes on: only it undoes, and it never acts."""
    return document(
        allow("Queue", (*_CONSUME, "sqs:GetQueueUrl"), [queue("undo")]),
        allow("Search", ("dynamodb:Query",), [table("audit")]),
        *_walks(UNDONE),
        allow("TakeOn", ("sts:AssumeRole",), [role("read", "*"), role("undo", "*")]),
        _logs("undoer"),
        _ledger_stays(),
    )


def http() -> Document:
    """Settings, answers, their records, and errands for the engine; for the console it reads, and nothing more.

    It writes no case and takes on no role.
    """
    read = [table(name) for name in ("audit", "cases", "control-state", "outbox")]
    searched = ("audit", "audit/index/*", "cases/index/by_state", "control-state/index/by_kind")
    return document(
        allow("Look", ("dynamodb:BatchGetItem",), read),
        allow("Search", ("dynamodb:Query",), [table(name) for name in searched]),
        allow("Check", ("dynamodb:ConditionCheckItem",), [table("cases")]),
        _keyed("Set", table("control-state"), SETTINGS),
        _keyed("Answer", table("cases"), ANSWERS),
        _keyed("Records", table("audit"), SAID),
        _keyed("Errands", table("outbox"), ERRANDS),
        allow("Secret", ("secretsmanager:GetSecretValue",), [secret("console")]),
        _logs("http"),
        _ledger_stays(),
    )


def outbox() -> Document:
    """The outbox's stream, the two queues that it feeds, and what says whom a notice is for.

    What cannot be brought there Lambda reports with this role too
    (docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html,
    docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html)
    """
    stream = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
    return document(
        allow("Stream", stream, [table("outbox/stream/*")]),
        allow("Streams", ("dynamodb:ListStreams",), ["*"]),
        allow("Look", ("dynamodb:BatchGetItem",), [table("control-state")]),
        allow("Bring", ("sqs:GetQueueUrl", "sqs:SendMessage"), [queue("commands"), queue(NOTICES)]),
        allow("GiveUp", ("sqs:SendMessage",), [queue("outbox-dlq")]),
        _logs("outbox"),
    )


def notifier() -> Document:
    """Tells people: reads cases and settings, and writes nothing but what it told, and errands.

    It decides nothing: no answer, no case and no setting is within its reach. It keeps the figures of the overview.
    """
    read = [table(name) for name in ("audit", "cases", "control-state", "outbox")]
    searched = (
        "audit",
        "audit/index/by_account",
        "cases/index/by_state",
        "control-state/index/by_kind",
        "outbox/index/by_waiting",
    )
    return document(
        allow("Queue", (*_CONSUME, "sqs:GetQueueUrl", "sqs:SendMessage"), [queue(NOTICES)]),
        allow("Look", ("dynamodb:BatchGetItem",), read),
        allow("Search", ("dynamodb:Query",), [table(name) for name in searched]),
        _keyed("Remember", table("outbox"), (*TOLD, *ERRANDS)),
        _keyed("Count", table("control-state"), ("FIGURES",)),
        allow("Secret", ("secretsmanager:GetSecretValue",), [secret("notifier")]),
        allow("Mail", ("sns:Publish",), [arn("sns", "redress-${Stage}-people")]),
        # Neither names its resource: one has none yet, the other looks for it.
        allow("AnyOpsItem", ("ssm:CreateOpsItem", "ssm:DescribeOpsItems"), ["*"]),
        allow("OpsItems", ("ssm:GetOpsItem", "ssm:UpdateOpsItem"), [arn("ssm", "opsitem/*")]),
        _logs("notifier"),
        _ledger_stays(),
    )


def read(remediations: Iterable[AnyRemediation]) -> Document:
    """All declared reads, and the Regions."""
    return document(*union([REGIONS, *(permission for one in remediations for permission in one.reads)]))


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


WITH_OUR_KEY = (
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
        # The key's own policy grants this to our functions; a boundary that were silent about it might take it away.
        {
            **allow("OurKey", WITH_OUR_KEY, ["*"]),
            "Condition": {"StringLike": {"kms:ViaService": ["dynamodb.*", "secretsmanager.*", "sns.*"]}},
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


def _walks(settings: Iterable[str]) -> tuple[Statement, ...]:
    """What a walk needs of the tables: cases, records and notices, but of the settings `settings` alone."""
    return (
        allow("Look", ("dynamodb:BatchGetItem",), [table("cases"), table("control-state")]),
        allow("Commit", ("dynamodb:PutItem",), [table("audit"), table("cases"), table("outbox")]),
        _keyed("Keep", table("control-state"), settings),
        {
            **deny("NotWhatPeopleSay", ("dynamodb:PutItem",), [table("audit"), table("cases")]),
            "Condition": {"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": [*SAID, *ANSWERS]}},
        },
    )


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
        arn("iam", "user/redress/*", region=""),
        arn("lambda", "function:redress-*", region="*"),
        arn("logs", "log-group:/aws/lambda/redress-*", region="*"),
        arn("s3", "redress-*", region="", account=""),
        arn("secretsmanager", "secret:redress-*", region="*"),
        arn("sns", "redress-*", region="*"),
        arn("sqs", "redress-*", region="*"),
    ]
    key = {**deny("NotOurKey", ("kms:*",), ["*"]), "Condition": {"Null": {f"aws:ResourceTag/{TAG}": "false"}}}
    return deny("NotOurselves", ("*",), ours), key, deny("Never", NEVER, ["*"])
