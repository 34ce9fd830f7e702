"""The door to DynamoDB: the operations that the tables are reached by, and how what lies there is read again.

Every failure is told in our own words. A body that cannot be read, a table that is not there or a right that is missing
is a StoreError with a sentence that says what to do; only a lost race is a ConflictError.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from chalicelib.adapters.deployment import Deployment
from chalicelib.adapters.tables import Check, Item, Put, answers_key, case_key, record_put
from chalicelib.domain.approval import Answers
from chalicelib.domain.case import Case
from chalicelib.domain.errors import ConflictError, OversizeError, StoreError, UnreadableError
from chalicelib.domain.finding import Model
from chalicelib.domain.kept import Kept
from chalicelib.domain.record import Record

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chalicelib.domain.policy import PolicySetting

M = TypeVar("M", bound=Model)
K = TypeVar("K", bound=Kept)

ITEM_BYTES = 400 * 1024
TRANSACTION_ITEMS = 100
TRANSACTION_BYTES = 4 * 1024 * 1024
BATCH_KEYS = 100
"""DynamoDB's own limits (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""

TRIES = 4
"""How often a batch is asked for what it left unprocessed."""


# ----------------------------------------------------------------------------------------------------- the operations


class Door:
    """The operations that the tables are reached by, with every failure told in our own words."""

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._client = client
        self._deployment = deployment

    def get(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Item]:
        """The items under `keys` (table's short name to partition keys), by key; ONE BatchGetItem, consistent.

        What DynamoDB leaves unprocessed is asked for again a few times, at once; then StoreError, and the message
        waits in its queue, which is where waiting is done.
        """
        named = {table: [{"pk": pk} for pk in dict.fromkeys(pks)] for table, pks in keys.items() if pks}
        return {item["pk"]["S"]: item for _, item in self.batch(named)}

    def batch(self, keys: Mapping[str, Sequence[Mapping[str, str]]]) -> list[tuple[str, Item]]:
        """The items under whole keys, each with the short name of its table, in no order."""
        if sum(map(len, keys.values())) > BATCH_KEYS:
            raise StoreError(
                f"more than {BATCH_KEYS} items asked for in one read: too many controls on one event"
            )
        short = {self._deployment.table(table): table for table in keys}
        asked: Any = {
            self._deployment.table(table): {
                "ConsistentRead": True,
                "Keys": [{name: {"S": text} for name, text in key.items()} for key in wanted],
            }
            for table, wanted in keys.items()
        }
        found: list[tuple[str, Item]] = []
        for _ in range(TRIES):
            try:
                answer: Any = self._client.batch_get_item(RequestItems=asked)
            except (ClientError, BotoCoreError) as error:
                self._fail("read", error)
            found += [(short[table], item) for table, items in answer["Responses"].items() for item in items]
            asked = answer.get("UnprocessedKeys")
            if not asked:
                return found
        names = ", ".join(sorted(asked))
        raise StoreError(
            f"DynamoDB left reads of {names} undone {TRIES} times: the table is throttled, and the message waits"
        )

    def transact(self, puts: Iterable[Put], what: str, *checks: Check) -> None:
        """All of `puts` or none, in ONE TransactWriteItems. ConflictError when a condition or a check does not hold."""
        puts = list(puts)
        sizes = [_bytes(put.item) for put in puts]
        for put, size in zip(puts, sizes, strict=True):
            _check_size(put, size)
        if len(puts) + len(checks) > TRANSACTION_ITEMS or sum(sizes) > TRANSACTION_BYTES:
            raise OversizeError(
                f"{what} is {len(puts)} items and {sum(sizes)} bytes; a transaction holds {TRANSACTION_ITEMS}"
                f" and {TRANSACTION_BYTES}"
            )
        items: Any = [{"Put": self._request(put)} for put in puts]
        items += [
            {
                "ConditionCheck": {
                    "TableName": self._deployment.table("cases"),
                    "Key": {"pk": {"S": check.pk}},
                    **check.condition,
                }
            }
            for check in checks
        ]
        try:
            self._client.transact_write_items(TransactItems=items)
        except ClientError as error:
            if _lost_a_race(error):
                raise ConflictError(f"{what}: somebody else wrote it since it was read") from error
            self._fail("written", error)
        except BotoCoreError as error:
            self._fail("written", error)

    def put(self, put: Put) -> bool:
        """ONE conditional PutItem; False when the condition does not hold."""
        _check_size(put, _bytes(put.item))
        try:
            self._client.put_item(**self._request(put))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            if _lost_a_race(error):
                raise ConflictError(f"{put.item['pk']['S']} is being written by somebody else") from error
            self._fail("written", error)
        except BotoCoreError as error:
            self._fail("written", error)
        return True

    def query(
        self,
        table: str,
        index: str | None,
        condition: str,
        values: Mapping[str, str],
        *,
        newest_first: bool = False,
        at_once: int = 0,
        after: Item | None = None,
    ) -> Iterator[Item]:
        """The items of one partition in the order of its range key, page by page and only as far as is asked for.

        With `at_once`, a page has so many; with `after`, the first is the one behind that item.
        """
        names = {word: word[1:] for word in condition.split() if word.startswith("#")}
        request: dict[str, Any] = {
            "TableName": self._deployment.table(table),
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {name: {"S": text} for name, text in values.items()},
            "ScanIndexForward": not newest_first,
        }
        # An index is never consistent; its bodies are read from the table, which is.
        request |= {"IndexName": index} if index else {"ConsistentRead": True}
        request |= {"Limit": at_once} if at_once else {}
        request |= {"ExclusiveStartKey": after} if after else {}
        while True:
            try:
                page: Any = self._client.query(**request)
            except (ClientError, BotoCoreError) as error:
                self._fail("read", error)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def bodies(self, table: str, keys: Iterator[Item], model: type[M]) -> Iterator[M]:
        """What the items behind index entries hold, in the same order, fetched consistently by the hundred."""
        return (read(model, item) for item in self.items(table, keys))

    def readable(
        self, table: str, keys: Iterator[Item], model: type[M], unread: list[UnreadableError]
    ) -> Iterator[M]:
        """As `bodies`, without those that cannot be read: these are added to `unread`, for `say` to tell of at the end."""
        for item in self.items(table, keys):
            try:
                one = read(model, item)
            except UnreadableError as error:
                unread.append(error)
            else:
                yield one

    def items(self, table: str, keys: Iterator[Item]) -> Iterator[Item]:
        """The items behind index entries, likewise."""
        for part in batches(keys):
            wanted = [key["pk"]["S"] for key in part]
            found = self.get({table: wanted})
            yield from (found[pk] for pk in wanted if pk in found)

    def _request(self, put: Put) -> dict[str, Any]:
        return {"TableName": self._deployment.table(put.table), "Item": put.item, **put.condition}

    def _fail(self, done: Literal["read", "written"], error: ClientError | BotoCoreError) -> NoReturn:
        raise StoreError(f"the tables could not be {done}: {self._advice(error)}") from error

    def _advice(self, error: ClientError | BotoCoreError) -> str:
        if not isinstance(error, ClientError):
            return (
                f"DynamoDB in {self._deployment.region} does not answer ({error}); nothing is lost, the message is"
                " delivered again. If it goes on, look at the function's Region, network and credentials"
            )
        code = error.response.get("Error", {}).get("Code", "Unknown")
        codes = {code, *_cancelled(error)}
        for family, advice in _ADVICE:
            if codes & family:
                return f"{code}: {advice} ({error})"
        return f"{code}: nothing is lost, the message is delivered again and then kept in its dead-letter queue ({error})"


_ADVICE: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset(
            {"AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "ExpiredTokenException"}
        ),
        "the function's role lacks the right; deploy the generated policies again and look for a deny elsewhere",
    ),
    (
        frozenset({"ResourceNotFoundException"}),
        "a table is missing; deploy the stack, or correct REDRESS_STAGE, which the tables are named by",
    ),
    (
        frozenset(
            {
                "ThrottlingException",
                "ThrottlingError",
                "RequestLimitExceeded",
                "ProvisionedThroughputExceededException",
                "ProvisionedThroughputExceeded",
            }
        ),
        "DynamoDB throttles; the message is delivered again. If it goes on, lower the queue's maximum concurrency",
    ),
)


def _cancelled(error: ClientError) -> frozenset[str]:
    """The reasons for which a transaction was cancelled, item by item, without those that did not object."""
    reasons: Any = error.response.get("CancellationReasons") or []
    return frozenset(str(reason.get("Code")) for reason in reasons) - {"None"}


def _lost_a_race(error: ClientError) -> bool:
    """True when a condition did not hold or another transaction held an item; never for what is merely unavailable.

    A condition that failed is certain whatever else is said; a conflict counts only if nothing else was wrong.
    """
    code = error.response.get("Error", {}).get("Code")
    if code in {"ConditionalCheckFailedException", "TransactionConflictException"}:
        return True
    reasons = _cancelled(error)
    return code == "TransactionCanceledException" and (
        "ConditionalCheckFailed" in reasons or reasons == {"TransactionConflict"}
    )


def _bytes(item: Item) -> int:
    """An item's size as DynamoDB counts it: names and values in UTF-8; a number counts as its digits at most."""
    return sum(
        len(name.encode()) + sum(len(text.encode()) for text in value.values())
        for name, value in item.items()
    )


def _check_size(put: Put, size: int) -> None:
    if size > ITEM_BYTES:
        name = put.item["pk"]["S"]
        name += f" {put.item['sk']['S']} ({put.item['type']['S']})" if "sk" in put.item else ""
        raise OversizeError(
            f"{name} is {size} bytes, and DynamoDB holds {ITEM_BYTES} in an item: nothing was written. Reduce the"
            " state or the plan that it holds"
        )


def batches(keys: Iterator[Item], most: int = BATCH_KEYS) -> Iterator[list[Item]]:
    """`keys` in lists that one BatchGetItem can take."""
    while part := list(itertools.islice(keys, min(most, BATCH_KEYS))):
        yield part


# ------------------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class Stored:
    """A record as it lies in the table: the exact bytes and the digest that was stored beside them."""

    chain: str
    seq: int
    record_id: str
    type: str
    body: str
    hash: str


def parsed(model: type[M], item: Item | None) -> M | None:
    """The model in the item's body; None when there is no item, StoreError when there is one that cannot be read."""
    return None if item is None else read(model, item)


def read(model: type[M], item: Item) -> M:
    """The model in the item's body; UnreadableError when it is none, with a sentence that says so."""
    try:
        return model.model_validate_json(item["body"]["S"])
    except (ValidationError, KeyError) as error:
        raise UnreadableError(
            f"{item['pk']['S']} does not hold a readable {model.__name__}: nothing is changed until it does."
            f" A newer version may have written it, or somebody by hand ({error})"
        ) from error


def say(unread: Sequence[UnreadableError]) -> None:
    """UnreadableError with the first of them and their number, when there are any."""
    if unread:
        raise UnreadableError(f"{len(unread)} cannot be read, the first: {unread[0]}") from unread[0]


def answers_of(door: Door, case: str, ask: int) -> Answers | None:
    """What people said to that ask of that case, read consistently; None when nobody said anything."""
    key = answers_key(case, ask)
    return parsed(Answers, door.get({"cases": [key]}).get(key))


def records_of(door: Door, chain: str) -> Iterator[Stored]:
    """A chain's records in the order of its sequence, read consistently, page by page."""
    return map(stored, door.query("audit", None, "#pk = :pk", {":pk": chain}))


def stored(item: Item) -> Stored:
    """The record in an item of `audit`."""
    return Stored(
        chain=item["pk"]["S"],
        seq=int(item["sk"]["S"]),
        record_id=item["record_id"]["S"],
        type=item["type"]["S"],
        body=item["body"]["S"],
        hash=item["hash"]["S"],
    )


# ---------------------------------------------------------------------------------------------------------- the ports


class Port:
    """What every port tells of a case: itself, what people answered, and that a record of its own stands."""

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._door = Door(client, deployment)

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that digest and episode: the current one if it is it, else the archived one."""
        current, archived = case_key(digest), case_key(digest, episode)
        found = self._door.get({"cases": [current, archived]})
        cases = (parsed(Case, found.get(key)) for key in (current, archived))
        return next((case for case in cases if case and case.episode == episode), None)

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case, read consistently; None when nobody said anything."""
        return answers_of(self._door, case, ask)

    def policy(self) -> "PolicySetting | None":
        """The policy that stands; StoreError when it cannot be read, and then nobody approves anything."""
        from chalicelib.domain.policy import PolicySetting  # noqa: PLC0415 -- a walk does without it

        return self._kept(PolicySetting)

    def _kept(self, model: type[K], name: str = "") -> K | None:
        return self._stands(model, model.key_of(name))

    def _stands(self, model: type[M], key: str) -> M | None:
        return parsed(model, self._door.get({"control_state": [key]}).get(key))

    def note(self, record: Record) -> bool:
        """One conditional PutItem into the audit trail; False when that record already stands, untouched."""
        return self._door.put(record_put(record))
