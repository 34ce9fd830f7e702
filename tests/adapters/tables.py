"""Our tables on moto or an emulator, made from the one definition in chalicelib/adapters/tables.py."""

from typing import TYPE_CHECKING

from chalicelib.adapters.deployment import Deployment
from chalicelib.adapters.tables import TABLES

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def create_tables(client: "DynamoDBClient", deployment: Deployment) -> None:
    """All four, empty."""
    for table in TABLES:
        client.create_table(TableName=deployment.table(table.name), **table.properties())
