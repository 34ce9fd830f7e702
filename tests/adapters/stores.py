"""The stores under test, each with a look behind its ports."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.aws import own_client
from chalicelib.domain.ports import Cases, Notice, Settings
from chalicelib.domain.record import Record
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import FakeCases, Item
from tests.fakes.ear import Ear
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class Dynamo:
    """The tables on moto, and an ear on the client that reaches them."""

    client: "DynamoDBClient"
    ear: Ear

    def items(self, table: str) -> list[dict[str, Any]]:
        """Everything in a table, straight from DynamoDB and unheard."""
        silent = own_client("dynamodb", DEPLOYMENT, quick_session)
        return [dict(item) for item in silent.scan(TableName=DEPLOYMENT.table(table))["Items"]]


@dataclass(frozen=True)
class Store:
    """A store under test: its two ports, and a look behind them."""

    cases: Cases
    settings: Settings
    dynamo: Dynamo | None
    fake: FakeCases | None

    def bodies(self) -> set[tuple[str, int, str]]:
        """Every record that stands: chain, number and bytes."""
        if self.fake:
            return {(record.chain, record.seq, record.body) for record in self.fake.records}
        assert self.dynamo
        found = self.dynamo.items("audit")
        return {(item["pk"]["S"], int(item["sk"]["S"]), item["body"]["S"]) for item in found}

    def spoil(self, table: str, pk: str, name: tuple[str, ...]) -> None:
        """Put a body that no version of ours has written where `pk` is in the tables, and `name` in the fake."""
        body = '{"frozen": "perhaps"}'
        if self.fake:
            assert name in self.fake.items
            self.fake.items[name] = Item(body)
        else:
            assert self.dynamo
            (stands,) = (item for item in self.dynamo.items(table) if item["pk"]["S"] == pk)
            own_client("dynamodb", DEPLOYMENT, quick_session).put_item(
                TableName=DEPLOYMENT.table(table), Item={**stands, "body": {"S": body}}
            )

    def tickets(self) -> set[str]:
        """Every ticket that stands, as it is stored."""
        if self.fake:
            return {ticket.model_dump_json() for ticket in self.fake.tickets}
        assert self.dynamo
        found = (item for item in self.dynamo.items("cases") if item["pk"]["S"].startswith("TICKET#"))
        return {item["body"]["S"] for item in found}

    def notices(self) -> dict[str, Notice]:
        """Every notice that stands, by id."""
        if self.fake:
            return {notice.id: notice for notice in self.fake.notices}
        assert self.dynamo
        found = (Notice.model_validate_json(item["body"]["S"]) for item in self.dynamo.items("outbox"))
        return {notice.id: notice for notice in found}


def bodies_of(*records: Record) -> set[tuple[str, int, str]]:
    return {(record.chain, record.seq, record.body) for record in records}
