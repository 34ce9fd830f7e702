"""Systems Manager OpsCenter, in the home account and Region.

https://docs.aws.amazon.com/systems-manager/latest/userguide/OpsCenter-working-deduplication.html
"""

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.adapters.aws import aws_error
from chalicelib.adapters.tickets.exchange import LATER_SECONDS
from chalicelib.delivery import documents
from chalicelib.delivery.escape import plain
from chalicelib.domain.delivery import Remote
from chalicelib.domain.errors import (
    AccessDeniedError,
    AmbiguousError,
    LaterError,
    RejectedError,
    TransientError,
    UnreachableError,
)
from chalicelib.domain.finding import Severity, partition_of
from chalicelib.domain.policy import Integration
from chalicelib.domain.shape import text
from chalicelib.domain.ticket import Ticket

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

ITEM = re.compile(r"oi-[0-9a-f]{12}")
SHORT, LONG = 2048, 20_000
"""Characters of a description, and of one value of the operational data."""

OPEN = frozenset({"Open", "InProgress"})
FOUND_BY = "redress-key"
DENIED = frozenset({"OpsItemAccessDeniedException"})
GONE = frozenset({"OpsItemNotFoundException"})
FULL = frozenset({"OpsItemLimitExceededException", "OpsItemConflictException"})
RANKS = MappingProxyType({Severity.CRITICAL: 1, Severity.HIGH: 2, Severity.MEDIUM: 3, Severity.LOW: 4})
CONSOLES = MappingProxyType(
    {
        "aws": "console.aws.amazon.com",
        "aws-cn": "console.amazonaws.cn",
        "aws-us-gov": "console.amazonaws-us-gov.com",
    }
)


class OpsCenter:
    """`domain.delivery.TicketSystem`. No credentials but the function's own role; nothing to set.

    OpsCenter refuses a second item with our key while the first is open or in progress, and names that one: a repeated
    create finds. It has no comments: an update replaces the description. Rights: ssm:CreateOpsItem, ssm:UpdateOpsItem,
    ssm:GetOpsItem, ssm:DescribeOpsItems.
    """

    def __init__(self, integration: Integration, ssm: "SSMClient") -> None:
        self._name = integration.name
        self._ssm = ssm

    def create(self, ticket: Ticket, key: str) -> Remote:
        data = {
            "/aws/dedup": {"Type": "SearchableString", "Value": json.dumps({"dedupString": key})},
            FOUND_BY: {"Type": "SearchableString", "Value": key},
            "redress-ticket": _text(documents.opened(ticket)),
        }
        if ticket.resource.startswith("arn:"):
            arns = json.dumps([{"arn": ticket.resource}])
            data["/aws/resources"] = {"Type": "SearchableString", "Value": arns}
        try:
            made = self._ssm.create_ops_item(
                Title=documents.title_of(ticket),
                Description=documents.written(documents.opened(ticket), SHORT),
                Source="Redress",
                Category="Security",
                Severity=str(RANKS[ticket.severity]),
                Priority=RANKS[ticket.severity],
                OperationalData=data,  # type: ignore[arg-type]  # a literal type per value, which a dict built in steps has not
            )
        except self._ssm.exceptions.OpsItemAlreadyExistsException as there:
            said: Any = there.response
            return self._remote(said.get("OpsItemId"), closed=False, creates=True)
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, "CreateOpsItem", creates=True)
        return self._remote(made.get("OpsItemId"), closed=False, creates=True)

    def find(self, key: str) -> Remote | None:
        wanted = json.dumps({"key": FOUND_BY, "value": key})
        try:
            told = self._ssm.describe_ops_items(
                OpsItemFilters=[{"Key": "OperationalData", "Values": [wanted], "Operator": "Equal"}]
            )
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, "DescribeOpsItems")
        found = sorted(told.get("OpsItemSummaries", ()), key=lambda item: item.get("CreatedTime", 0))
        return self._as_remote(found[0]) if found else None

    def update(self, remote: str, ticket: Ticket) -> None:
        self._write(remote, documents.news(ticket, "As it stands now:"))

    def reopen(self, remote: str, ticket: Ticket) -> None:
        self._write(remote, documents.news(ticket, documents.STILL), Status="Open")

    def close(self, remote: str, ticket: Ticket) -> None:
        self._write(remote, documents.closed(ticket), Status="Resolved")

    def look(self, remote: str) -> Remote:
        try:
            told = self._ssm.get_ops_item(OpsItemId=self._known(remote))
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, "GetOpsItem")
        return self._as_remote(told.get("OpsItem"))

    def _write(self, remote: str, parts: tuple[documents.Part, ...], **changed: Any) -> None:  # noqa: ANN401 -- as the operation has it
        try:
            self._ssm.update_ops_item(
                OpsItemId=self._known(remote),
                Description=documents.written(parts, SHORT),
                OperationalData={"redress-ticket": _text(parts)},  # type: ignore[dict-item]  # as above
                **changed,
            )
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, "UpdateOpsItem")

    def _known(self, remote: str) -> str:
        if not ITEM.fullmatch(remote):
            raise RejectedError(f"{self._name}: what is remembered is no OpsItem's id")
        return remote

    def _as_remote(self, item: Any) -> Remote:  # noqa: ANN401 -- two shapes of one thing
        status = text((item or {}).get("Status"))
        if status is None:
            raise LaterError(f"{self._name}: it does not say how the OpsItem stands", LATER_SECONDS)
        return self._remote(item.get("OpsItemId"), closed=status not in OPEN)

    def _remote(self, name: object, *, closed: bool, creates: bool = False) -> Remote:
        if not isinstance(name, str) or not ITEM.fullmatch(name):
            kind = AmbiguousError if creates else LaterError
            raise kind(f"{self._name}: it names no OpsItem in its answer", LATER_SECONDS)
        region = self._ssm.meta.region_name
        console = CONSOLES.get(partition_of(region), CONSOLES["aws"])
        url = f"https://{region}.{console}/systems-manager/opsitems/{name}?region={region}"
        return Remote(key=name, url=url, closed=closed)

    def _refuse(
        self, error: ClientError | BotoCoreError, operation: str, *, creates: bool = False
    ) -> NoReturn:
        told = aws_error(error, "ssm", operation)
        said = f"{self._name}: {plain(str(told), 200)}"
        if isinstance(told, AccessDeniedError) or told.code in DENIED:
            raise UnreachableError(f"{said}: the notifier's role needs ssm:{operation}") from error
        if told.code in GONE:
            raise UnreachableError(f"{said}: the OpsItem is not there any more") from error
        if told.code in FULL:
            raise LaterError(said, LATER_SECONDS) from error
        if isinstance(told, TransientError):
            kind = AmbiguousError if creates else LaterError
            raise kind(said, LATER_SECONDS) from error
        raise RejectedError(said) from error


def _text(parts: tuple[documents.Part, ...]) -> dict[str, str]:
    return {"Type": "String", "Value": documents.written(parts, LONG)}
