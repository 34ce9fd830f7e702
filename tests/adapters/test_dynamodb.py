"""What only the tables promise: one call each, keys that last for ever, errors that say what to do, reading in pages."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings, Ledger
from chalicelib.adapters.tables import TABLES
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import canonical
from chalicelib.domain.errors import ConflictError, OversizeError, StoreError, UnreadableError
from chalicelib.domain.ports import Change, Notice, SettingChange, SweepChange
from chalicelib.domain.record import Head, Record, RecordType, broken_at, digest_of, system_chain
from chalicelib.domain.ticket import TicketState
from chalicelib.flow.errand import ERRAND, Tick
from chalicelib.flow.errand import notice as notice_of
from tests.adapters.samples import (
    CONTROL,
    HASH,
    MEMBER,
    OTHER_CONTROL,
    PERSON,
    answer,
    ask,
    baseline,
    case,
    completed,
    deployment_role,
    draft,
    enrolment,
    exemption,
    freeze,
    lock,
    mode,
    notice,
    owner,
    question,
    records,
    reserved,
    sweep,
    target,
    ticket,
    waiting,
)
from tests.adapters.stores import Dynamo
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import HOME
from tests.fakes.clock import START
from tests.fakes.ear import Ear, Http, refusal
from tests.fakes.ear import answer as reply_of


@pytest.fixture
def cases(dynamo: Dynamo) -> DynamoCases:
    return DynamoCases(dynamo.client, DEPLOYMENT)


@pytest.fixture
def settings(dynamo: Dynamo) -> DynamoSettings:
    return DynamoSettings(dynamo.client, DEPLOYMENT)


@pytest.fixture
def ledger(dynamo: Dynamo) -> Ledger:
    return Ledger(dynamo.client, DEPLOYMENT)


def whole(cases: DynamoCases) -> Change:
    gate = cases.look(question())
    return Change(
        case=case(2, episode=2),
        archive=case(1, state=CaseState.CLOSED),
        lock=lock(),
        seen=("event-1",),
        spent=(reserved(gate.account_spent), reserved(gate.actor_spent)),
        records=records(case(2, episode=2).id, draft("a"), draft("b")),
        notices=(notice(),),
        ticket=ticket(),
        exemptions=(exemption(),),
    )


# ------------------------------------------------------------------------------------------------ one call per method


def test_every_method_of_the_ports_is_one_call_and_what_it_reads_is_consistent(
    cases: DynamoCases, settings: DynamoSettings, dynamo: Dynamo
) -> None:
    """Nothing is deleted and nothing updated in place: PutItem, ConditionCheckItem and reads are all the rights."""
    cases.commit(Change(case=case(1, state=CaseState.CLOSED)))
    cases.commit(Change(case=waiting(of=target("sg-waiting"))))
    change = whole(cases)
    said = answer(waiting(of=target("sg-waiting")))
    role = deployment_role().role_arn
    calls: tuple[tuple[Callable[[], object], str], ...] = (
        (
            lambda: cases.look(question(controls=(CONTROL, OTHER_CONTROL), role_arn=role)),
            "BatchGetItem",
        ),
        (lambda: cases.case(case().digest, 1), "BatchGetItem"),
        (lambda: cases.commit(change), "TransactWriteItems"),
        (lambda: cases.guard(("ALL", f"ACCOUNT#{HOME}"), HOME), "BatchGetItem"),
        (lambda: cases.note(records("EVENT#1")[0]), "PutItem"),
        (lambda: cases.answers(case().id, 1), "BatchGetItem"),
        (lambda: cases.bodies(case().id), "Query"),
        (lambda: cases.swept(HOME, (CONTROL, OTHER_CONTROL)), "BatchGetItem"),
        (lambda: cases.keep(completed(1)), "TransactWriteItems"),
        (lambda: settings.case(case().digest, 1), "BatchGetItem"),
        (lambda: settings.answers(case().id, 1), "BatchGetItem"),
        (lambda: settings.answer(said), "TransactWriteItems"),
        (lambda: settings.note(records("EVENT#2")[0]), "PutItem"),
        (lambda: settings.deployment_role(HOME, role), "BatchGetItem"),
        (lambda: settings.owner(HOME), "BatchGetItem"),
        (lambda: settings.head("chain"), "BatchGetItem"),
        (lambda: settings.freeze("ALL"), "BatchGetItem"),
        (lambda: settings.mode(HOME, CONTROL), "BatchGetItem"),
        (lambda: settings.exemption(HOME, CONTROL, "resource"), "BatchGetItem"),
        (lambda: settings.enrolment(MEMBER), "BatchGetItem"),
        (lambda: settings.ticket(ticket().id), "BatchGetItem"),
        (lambda: settings.send(errand("r")), "PutItem"),
        (lambda: settings.apply(_setting()), "TransactWriteItems"),
    )
    verbs: list[set[str]] = []
    for call, operation in calls:
        dynamo.ear.sent.clear()
        call()
        assert dynamo.ear.operations() == [operation]
        asked = dynamo.ear.sent[0].params
        if operation == "BatchGetItem":
            assert all(table["ConsistentRead"] is True for table in asked["RequestItems"].values())
        if operation == "Query":
            assert asked["ConsistentRead"] is True
        if operation == "TransactWriteItems":
            verbs.append({verb for item in asked["TransactItems"] for verb in item})
    assert verbs == [{"Put"}, {"Put"}, {"Put", "ConditionCheck"}, {"Put"}]


def test_only_what_is_meant_to_may_overwrite_what_stands(
    cases: DynamoCases, settings: DynamoSettings, dynamo: Dynamo
) -> None:
    cases.commit(Change(case=case(1, state=CaseState.CLOSED)))
    cases.commit(whole(cases))
    cases.keep(completed(1))
    cases.commit(Change(case=waiting(of=target("sg-waiting"))))
    settings.answer(answer(waiting(of=target("sg-waiting"))))
    settings.apply(_setting())
    sent = [one.params["TransactItems"] for one in dynamo.ear.sent if "TransactItems" in one.params]
    puts = [item["Put"] for items in sent for item in items if "Put" in item]
    free = {put["Item"]["pk"]["S"].split("#")[0] for put in puts if "ConditionExpression" not in put}
    audit = [put for put in puts if put["TableName"] == DEPLOYMENT.table("audit")]
    settable = {"MODE", "FREEZE", "EXEMPTION", "ENROLMENT", "DEPLOYER", "OWNER", "BASELINE"}
    assert free == {"notice-1", "ERRAND", "SWEEP", "TICKET"} | settable, "SWEEP is the report here"
    assert {put["TableName"] for put in puts if put["Item"]["pk"]["S"] in {"notice-1", "SWEEP"}} == {
        DEPLOYMENT.table("outbox")
    }
    assert [put["ConditionExpression"] for put in audit] == ["attribute_not_exists(pk)"] * 5


def test_an_answer_rests_on_the_case_as_it_stands_and_writes_none(
    cases: DynamoCases, settings: DynamoSettings, dynamo: Dynamo
) -> None:
    cases.commit(Change(case=waiting()))
    said = answer(at=START + timedelta(seconds=1))

    settings.answer(said)

    items = dynamo.ear.sent[-1].params["TransactItems"]
    puts = [item["Put"]["Item"]["pk"]["S"] for item in items if "Put" in item]
    assert puts == [f"ANSWERS#{waiting().id}#1", said.record.chain, said.notice.id]
    (check,) = [item["ConditionCheck"] for item in items if "ConditionCheck" in item]
    assert check["TableName"] == DEPLOYMENT.table("cases")
    assert check["Key"] == {"pk": {"S": f"CASE#{waiting().digest}"}}
    assert check["ExpressionAttributeValues"] == {
        ":case": {"S": waiting().id},
        ":state": {"S": "waiting"},
        ":ask": {"N": "1"},
        ":ask_hash": {"S": HASH},
        ":at": {"S": "2026-08-03T12:00:01.000Z"},
    }


def test_a_case_tells_what_it_asks_beside_its_body_only_while_it_waits(
    cases: DynamoCases, dynamo: Dynamo
) -> None:
    told = {"case", "ask", "ask_hash", "ask_expires"}
    for version, state in enumerate(CaseState, start=1):
        cases.commit(Change(case=waiting(version).model_copy(update={"state": state})))
        (item,) = dynamo.items("cases")
        assert told & item.keys() == (told if state is CaseState.WAITING else set())
        if state is CaseState.WAITING:
            assert item["case"] == {"S": waiting().id}
            assert item["ask"] == {"N": "1"}
            assert item["ask_hash"] == {"S": HASH}
            assert item["ask_expires"] == {"S": "2026-08-03T20:00:00.000Z"}
    cases.commit(Change(case=case(10, state=CaseState.WAITING)))
    (item,) = dynamo.items("cases")
    assert not told & item.keys()


def test_the_cases_in_a_state_are_a_query_and_a_read_of_the_bodies_for_each_hundred(
    cases: DynamoCases, dynamo: Dynamo
) -> None:
    for number in range(120):
        cases.commit(Change(case=waiting(of=target(f"sg-{number}"), at=START + timedelta(seconds=number))))
    dynamo.ear.sent.clear()

    found = cases.in_state(CaseState.WAITING)
    assert dynamo.ear.sent == []
    next(found)
    assert dynamo.ear.operations() == ["Query", "BatchGetItem"]
    assert len(list(found)) == 119
    assert dynamo.ear.operations() == ["Query", "BatchGetItem", "BatchGetItem"]
    query, *reads = (one.params for one in dynamo.ear.sent)
    assert query["IndexName"] == "by_state"
    assert all(read["RequestItems"][DEPLOYMENT.table("cases")]["ConsistentRead"] for read in reads)


def test_what_the_index_says_of_a_case_is_only_where_to_look(cases: DynamoCases) -> None:
    """An index lags: it names a case twice after a write, and under the state in which it no longer is."""
    moved, stays = target("sg-moved"), target("sg-stays")
    cases.commit(Change(case=case(of=moved)))
    cases.commit(Change(case=waiting(of=stays)))
    keys = [{"pk": {"S": f"CASE#{waiting(of=of).digest}"}} for of in (moved, stays, stays, target("sg-gone"))]
    archived = [{"pk": {"S": f"CASE#{waiting(of=stays).digest}#1"}}]
    pages = iter(
        [
            reply_of(Items=keys, LastEvaluatedKey=keys[-1]),
            reply_of(Items=[*archived, *keys]),
        ]
    )
    ear = Ear()
    ear.on("before-call.dynamodb.Query", lambda **_: next(pages))
    lagging = DynamoCases(own_client("dynamodb", DEPLOYMENT, ear.session), DEPLOYMENT)

    assert list(lagging.in_state(CaseState.WAITING)) == [waiting(of=stays)]
    assert next(pages, None) is None
    (read,) = (one.params["RequestItems"] for one in ear.sent if one.operation == "BatchGetItem")
    asked = [key["pk"]["S"] for key in read[DEPLOYMENT.table("cases")]["Keys"]]
    assert sorted(asked) == sorted({key["pk"]["S"] for key in keys}), "an archived episode is not even read"


# ---------------------------------------------------------------------------------------------------- keys and indexes


def test_the_tables_are_these() -> None:
    shapes = {
        table.name: (
            table.hash_key,
            table.range_key,
            {index.name: (index.hash_key, index.range_key) for index in table.indexes},
        )
        for table in TABLES
    }
    assert shapes == {
        "cases": ("pk", None, {"by_state": ("state", "updated_at")}),
        "control_state": ("pk", None, {"by_kind": ("kind", "pk")}),
        "outbox": ("pk", None, {"by_waiting": ("waiting", "since")}),
        "audit": (
            "pk",
            "sk",
            {
                "by_resource": ("resource_key", "at_id"),
                "by_account": ("account_key", "at_id"),
                "by_actor": ("actor_key", "at_id"),
            },
        ),
    }
    for table in TABLES:
        described = table.properties()
        keyed = {part["AttributeName"] for part in described["KeySchema"]}
        for index in described.get("GlobalSecondaryIndexes", ()):
            keyed |= {part["AttributeName"] for part in index["KeySchema"]}
        assert described["BillingMode"] == "PAY_PER_REQUEST"
        assert {part["AttributeName"] for part in described["AttributeDefinitions"]} == keyed
        assert {part["AttributeType"] for part in described["AttributeDefinitions"]} == {"S"}


def test_items_lie_under_the_keys_that_are_written_down(cases: DynamoCases, dynamo: Dynamo) -> None:
    cases.commit(Change(case=case(1, state=CaseState.CLOSED)))
    cases.commit(whole(cases))
    cases.keep(completed(1, baselines=(baseline(),), notices=()))
    DynamoSettings(dynamo.client, DEPLOYMENT).apply(_setting())
    digest, key = case().digest, target().key

    assert {item["pk"]["S"] for item in dynamo.items("cases")} == {
        f"CASE#{digest}",
        f"CASE#{digest}#1",
        f"LOCK#{key}",
        f"SEEN#event-1#{digest}",
        f"TICKET#{digest}#1",
    }
    (stored,) = (item for item in dynamo.items("cases") if item["pk"]["S"].startswith("TICKET#"))
    assert (stored["state"]["S"], stored["updated_at"]["S"]) == ("ticket_open", "2026-08-03T12:00:00.000Z")
    kinds = {item["pk"]["S"]: item["kind"]["S"] for item in dynamo.items("control_state")}
    assert kinds.pop(f"SPENT#ACCOUNT#{HOME}") == "SPENT"
    assert kinds.pop(f"MODE#{HOME}#{CONTROL}") == "MODE"
    assert kinds.pop("FREEZE#ALL") == "FREEZE"
    assert kinds.pop(f"ENROLMENT#{MEMBER}") == "ENROLMENT"
    assert kinds.pop(f"OWNER#{HOME}") == "OWNER"
    assert kinds.pop(f"SWEEP#{HOME}") == "SWEEP"
    assert kinds.pop(f"BASELINE#{HOME}#{CONTROL}") == "BASELINE"
    assert kinds.pop(f"CHAIN#{system_chain(HOME, START)}") == "CHAIN"
    rest = {"#".join(pk.split("#")[:-1]): kind for pk, kind in kinds.items()}
    assert rest == {
        "SPENT#ACTOR": "SPENT",
        f"EXEMPTION#{HOME}#{CONTROL}": "EXEMPTION",
        f"DEPLOYER#{HOME}": "DEPLOYER",
    }
    assert [item["pk"]["S"] for item in dynamo.items("outbox")] == ["notice-1"]


def _setting() -> SettingChange:
    said = draft("mode", type=RecordType.MODE_CHANGED, actor=PERSON)
    (record,) = records(system_chain(HOME, START), said)
    return SettingChange(
        mode=mode(),
        freezes=(freeze(),),
        exemptions=(exemption(),),
        enrolment=enrolment(),
        deployment_role=deployment_role(),
        owner=owner(),
        record=record,
        expected_head=Head(),
    )


def test_an_audit_item_is_the_stored_bytes_their_hash_and_index_attributes(
    cases: DynamoCases, dynamo: Dynamo
) -> None:
    said = draft(controls=(CONTROL, OTHER_CONTROL), text="é and \u2028")
    (record,) = records("EVENT#1", said)
    cases.note(record)

    (item,) = dynamo.items("audit")
    stored = {name: next(iter(value.values())) for name, value in item.items()}
    shard = crc32(b"EVENT#1") % 4
    assert stored.pop("resource_key").startswith("RES#")
    assert stored == {
        "pk": "EVENT#1",
        "sk": "0000000001",
        "body": record.body,
        "hash": digest_of(record.body),
        "record_id": record.record_id,
        "type": "RECEIVED",
        "at_id": f"2026-08-03T12:00:00.000Z#0000000001#{record.record_id}",
        "account_key": f"ACC#{HOME}#20260803#{shard}",
    }


@pytest.mark.parametrize("kind", list(RecordType))
def test_only_what_people_did_is_indexed_by_actor(
    kind: RecordType, cases: DynamoCases, dynamo: Dynamo
) -> None:
    cases.note(records("EVENT#1", draft(type=kind, actor=PERSON))[0])
    (item,) = dynamo.items("audit")
    by_people = {
        "MODE_CHANGED",
        "BREAKER_RESET",
        "FREEZE_ON",
        "FREEZE_OFF",
        "EXEMPTION_GRANTED",
        "EXEMPTION_REVOKED",
        "SNOOZED",
        "WITHDRAWN",
        "BREAK_GLASS",
        "CLAIMED",
        "HANDED_OVER",
        "COMMENTED",
        "INCIDENT_DECLARED",
        "INCIDENT_DISMISSED",
        "INVITED",
        "UNINVITED",
        "VIEWED",
        "REQUESTED",
        "ANSWERED",
        "ANSWER_REFUSED",
        "COMMAND_REFUSED",
        "CONFIG_CHANGED",
        "ENROLLED",
    }
    assert ("actor_key" in item) is (kind.value in by_people)
    if "actor_key" in item:
        assert item["actor_key"]["S"].endswith("#202608")


def test_a_record_about_nothing_in_particular_is_in_fewer_indexes(cases: DynamoCases, dynamo: Dynamo) -> None:
    bare = draft(controls=(), actor=None).model_copy(update={"resource": ""})
    cases.note(records("EVENT#1", bare)[0])
    (item,) = dynamo.items("audit")
    assert not {"resource_key", "actor_key"} & set(item)


# --------------------------------------------------------------------------------------------------- limits and errors


def test_an_item_that_dynamodb_could_not_hold_is_refused_by_name_before_anything_is_sent(
    cases: DynamoCases, settings: DynamoSettings, dynamo: Dynamo
) -> None:
    too_long = "x" * 400 * 1024
    big = records(case().id, draft("small"), draft("large", text=too_long))
    attempts: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: cases.commit(Change(case=case(), records=big)), r"0000000002 \(RECEIVED\)"),
        (lambda: cases.commit(Change(case=case(reason=too_long))), f"CASE#{case().digest}"),
        (lambda: cases.note(records("EVENT#1", draft(text="é" * 205 * 1024))[0]), "EVENT#1"),
        (
            lambda: cases.commit(Change(case=case(), ticket=ticket().model_copy(update={"why": too_long}))),
            f"TICKET#{case().digest}#1",
        ),
        (lambda: cases.keep(SweepChange(sweep=sweep(expected=(too_long,)))), f"SWEEP#{HOME}"),
        (lambda: settings.answer(answer(by=too_long)), f"ANSWERS#{case().id}#1"),
    )
    for attempt, name in attempts:
        with pytest.raises(OversizeError, match=name):
            attempt()
    assert dynamo.ear.sent == []


def test_a_transaction_that_dynamodb_could_not_take_is_refused_before_it_is_sent(
    cases: DynamoCases, dynamo: Dynamo
) -> None:
    many = records(case().id, *(draft(str(number)) for number in range(100)))
    heavy = records(case().id, *(draft(str(number), text="x" * 390_000) for number in range(11)))
    for chain in (many, heavy):
        with pytest.raises(OversizeError, match="a transaction holds"):
            cases.commit(Change(case=case(), records=chain))
    with pytest.raises(OversizeError, match="a transaction holds"):
        cases.keep(completed(1, baselines=tuple(baseline(control=str(number)) for number in range(100))))
    assert dynamo.ear.sent == []


def test_more_controls_than_one_read_can_ask_about_are_refused(cases: DynamoCases, dynamo: Dynamo) -> None:
    with pytest.raises(StoreError, match="too many controls"):
        cases.look(question(controls=tuple(f"control-{number}" for number in range(40))))
    assert dynamo.ear.sent == []


def failing(reply: Callable[[], Any]) -> DynamoCases:
    """A store whose every call is answered so, by botocore itself, in the service's place."""
    ear = Ear()
    ear.on("before-call.dynamodb.*", lambda **_: reply())
    return DynamoCases(own_client("dynamodb", DEPLOYMENT, ear.session), DEPLOYMENT)


def cancelled(*codes: str) -> Callable[[], tuple[Http, dict[str, Any]]]:
    def reply() -> tuple[Http, dict[str, Any]]:
        http, body = refusal("TransactionCanceledException", "cancelled")
        return http, {**body, "CancellationReasons": [{"Code": code} for code in codes]}

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        cancelled("None", "ConditionalCheckFailed"),
        cancelled("ConditionalCheckFailed", "ThrottlingError"),
        cancelled("TransactionConflict", "None"),
        lambda: refusal("ConditionalCheckFailedException"),
        lambda: refusal("TransactionConflictException"),
    ],
)
def test_a_lost_race_is_a_conflict(reply: Callable[[], Any]) -> None:
    with pytest.raises(ConflictError):
        failing(reply).commit(Change(case=case()))


@pytest.mark.parametrize(
    "reply, advice",
    [
        (lambda: refusal("AccessDeniedException"), "deploy the generated policies"),
        (cancelled("None", "AccessDeniedException"), "deploy the generated policies"),
        (lambda: refusal("ResourceNotFoundException"), "REDRESS_STAGE"),
        (lambda: refusal("ThrottlingException"), "throttles"),
        (lambda: refusal("ProvisionedThroughputExceededException"), "throttles"),
        (cancelled("ThrottlingError"), "throttles"),
        (cancelled("TransactionConflict", "ThrottlingError"), "throttles"),
        (cancelled("ItemCollectionSizeLimitExceeded"), "delivered again"),
        (lambda: refusal("TransactionInProgressException"), "delivered again"),
        (lambda: refusal("InternalServerError", status=500), "delivered again"),
        (lambda: refusal("ValidationException"), "delivered again"),
    ],
)
def test_everything_else_is_a_store_error_that_says_what_to_do(reply: Callable[[], Any], advice: str) -> None:
    with pytest.raises(StoreError, match=advice) as caught:
        failing(reply).commit(Change(case=case()))
    assert not isinstance(caught.value, ConflictError)


@pytest.mark.parametrize(
    "ask",
    [
        lambda cases: cases.look(question()),
        lambda cases: cases.case("digest", 1),
        lambda cases: cases.guard(("ALL",), HOME),
        lambda cases: cases.note(records("EVENT#1")[0]),
        lambda cases: cases.answers("case-1", 1),
        lambda cases: list(cases.in_state(CaseState.WAITING)),
        lambda cases: cases.bodies("case-1"),
        lambda cases: cases.swept(HOME, (CONTROL,)),
        lambda cases: cases.keep(completed(1)),
    ],
)
def test_no_method_takes_a_refusal_for_an_answer(ask: Callable[[DynamoCases], object]) -> None:
    with pytest.raises(StoreError, match="role lacks the right"):
        ask(failing(lambda: refusal("AccessDeniedException")))


def test_an_answer_that_is_refused_by_the_tables_is_not_taken_for_a_lost_race() -> None:
    ear = Ear()
    ear.on("before-call.dynamodb.*", lambda **_: refusal("AccessDeniedException"))
    with pytest.raises(StoreError, match="role lacks the right") as caught:
        DynamoSettings(own_client("dynamodb", DEPLOYMENT, ear.session), DEPLOYMENT).answer(answer())
    assert not isinstance(caught.value, ConflictError)


def test_a_note_that_collides_with_a_transaction_is_a_conflict_and_not_a_duplicate() -> None:
    with pytest.raises(ConflictError):
        failing(lambda: refusal("TransactionConflictException")).note(records("EVENT#1")[0])


def test_missing_tables_are_named_by_what_to_do(aws: None) -> None:
    cases = DynamoCases(own_client("dynamodb", DEPLOYMENT), DEPLOYMENT)
    with pytest.raises(StoreError, match="deploy the stack"):
        cases.look(question())


@pytest.mark.parametrize(
    "ask",
    [
        lambda cases: cases.look(question()),
        lambda cases: cases.commit(Change(case=case())),
        lambda cases: cases.note(records("EVENT#1")[0]),
    ],
)
def test_a_database_that_does_not_answer_is_a_store_error(ask: Callable[[DynamoCases], object]) -> None:
    def silence() -> Any:
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    with pytest.raises(StoreError, match="does not answer"):
        ask(failing(silence))


def test_what_was_left_unprocessed_is_asked_for_again(cases: DynamoCases, dynamo: Dynamo) -> None:
    cases.commit(Change(case=case(), lock=lock()))
    table = DEPLOYMENT.table("cases")
    left = {table: {"ConsistentRead": True, "Keys": [{"pk": {"S": f"LOCK#{target().key}"}}]}}
    current = {"pk": {"S": "x"}} | next(
        item for item in dynamo.items("cases") if item["pk"]["S"] == f"CASE#{case().digest}"
    )
    ear, replies = Ear(), iter([reply_of(Responses={table: [current]}, UnprocessedKeys=left)])
    ear.on("before-call.dynamodb.BatchGetItem", lambda **_: next(replies, None))
    slow = DynamoCases(own_client("dynamodb", DEPLOYMENT, ear.session), DEPLOYMENT)

    gate = slow.look(question())

    assert (gate.case, gate.lock) == (case(), lock())
    assert [one.params["RequestItems"] for one in ear.sent] == [left]


def test_a_table_that_never_finishes_is_a_store_error_after_a_few_tries() -> None:
    tries: list[int] = []

    def reply() -> Any:
        tries.append(1)
        return reply_of(Responses={}, UnprocessedKeys={"redress-test-cases": {"Keys": [{"pk": {"S": "x"}}]}})

    with pytest.raises(StoreError, match="undone"):
        failing(reply).look(question())
    assert len(tries) == 4


# ------------------------------------------------------------------------------------------------------------- reading


def written(
    cases: DynamoCases, *, at: datetime, number: int, controls: tuple[str, ...] = (CONTROL,)
) -> Record:
    (record,) = records(f"EVENT#{number}", draft(str(number), controls=controls), at=at)
    assert cases.note(record)
    return record


def test_a_chain_is_read_whole_in_order_over_any_number_of_pages(
    cases: DynamoCases, ledger: Ledger, dynamo: Dynamo
) -> None:
    chain, version = case().id, 1
    written_so_far: list[Record] = []
    head = Head()
    for _ in range(3):
        # Six records of 200 KB do not fit into one page of 1 MB.
        part = records(chain, *(draft(f"{version}-{n}", text="x" * 200_000) for n in range(2)), head=head)
        cases.commit(Change(case=case(version), records=part))
        written_so_far += part
        head, version = part[-1].head, version + 1
    dynamo.ear.sent.clear()

    read = list(ledger.case_records(chain))

    assert [one.seq for one in read] == [1, 2, 3, 4, 5, 6]
    assert [one.body for one in read] == [one.body for one in written_so_far]
    assert broken_at(((one.body, one.hash) for one in read), head) is None
    assert len(dynamo.ear.sent) > 1
    assert set(dynamo.ear.operations()) == {"Query"}


def test_the_chain_of_what_people_set_is_read_by_account_and_month(dynamo: Dynamo, ledger: Ledger) -> None:
    change = _setting()
    DynamoSettings(dynamo.client, DEPLOYMENT).apply(change)
    assert [one.hash for one in ledger.system_records(HOME, START + timedelta(days=20))] == [
        change.record.hash
    ]
    assert list(ledger.system_records(HOME, START + timedelta(days=40))) == []
    assert list(ledger.system_records(MEMBER, START)) == []


def test_an_accounts_records_come_newest_first_and_within_the_time_asked_for(
    cases: DynamoCases, ledger: Ledger
) -> None:
    times = [START + timedelta(hours=hours) for hours in (-40, -30, -13, -12, 0, 5, 11, 12, 30)]
    wanted = [written(cases, at=at, number=number) for number, at in enumerate(times)][1:-1]
    wanted.append(written(cases, at=START, number=99))
    cases.note(records("EVENT#m", draft("m", account=MEMBER))[0])

    found = list(ledger.records(HOME, times[1], times[-2]))

    stamps = [json.loads(one.body)["recorded_at"] for one in found]
    assert stamps == sorted(stamps, reverse=True)
    assert sorted(one.hash for one in found) == sorted(one.hash for one in wanted)
    assert list(ledger.records(HOME, times[-2], times[1])) == []


def test_records_are_fetched_only_as_far_as_they_are_asked_for(
    cases: DynamoCases, ledger: Ledger, dynamo: Dynamo
) -> None:
    for number in range(3):
        written(cases, at=START - timedelta(days=number), number=number)
    dynamo.ear.sent.clear()

    newest: Iterator[Any] = ledger.records(HOME, START - timedelta(days=300), START)
    next(newest)

    assert dynamo.ear.operations() == ["Query"] * 4 + ["BatchGetItem"]
    assert not any("FilterExpression" in one.params for one in dynamo.ear.sent)


def test_records_of_one_resource_come_newest_first(cases: DynamoCases, ledger: Ledger) -> None:
    older = written(cases, at=START - timedelta(days=2), number=1)
    newer = written(cases, at=START, number=2)
    found = ledger.resource_records(target().resource, START - timedelta(days=9), START)
    assert [one.hash for one in found] == [newer.hash, older.hash]


def test_a_record_that_an_index_knows_and_the_table_does_not_is_an_alarm(
    cases: DynamoCases, dynamo: Dynamo
) -> None:
    written(cases, at=START, number=1)
    ear = Ear()
    ear.on("before-call.dynamodb.BatchGetItem", lambda **_: reply_of(Responses={}))
    blind = Ledger(own_client("dynamodb", DEPLOYMENT, ear.session), DEPLOYMENT)
    with pytest.raises(StoreError, match="EVENT#1"):
        list(blind.records(HOME, START, START))


def test_cases_are_listed_by_state_the_last_moved_first(cases: DynamoCases, ledger: Ledger) -> None:
    many: list[Case] = []
    for number in range(120):
        state = CaseState.OPEN if number % 2 else CaseState.WAITING
        at = START + timedelta(seconds=number)
        many.append(case(of=target(f"sg-{number}"), state=state, at=at))
        cases.commit(Change(case=many[-1]))
    many.reverse()

    assert list(ledger.cases()) == many
    assert list(ledger.cases(CaseState.OPEN)) == [one for one in many if one.state is CaseState.OPEN]
    assert list(ledger.cases(CaseState.DENIED)) == []
    assert list(ledger.cases(oldest_first=True)) == many[::-1]


def test_what_cannot_be_read_stands_in_no_others_way_and_is_told_at_last(
    cases: DynamoCases, ledger: Ledger, dynamo: Dynamo
) -> None:
    """Whoever must not miss one gets an error, and whoever may has all the others before it."""
    of = [target(f"sg-{number}") for number in range(3)]
    states = (CaseState.WAITING, CaseState.OPEN, CaseState.WAITING)
    kept = [case(of=one, state=state, at=START) for one, state in zip(of, states, strict=True)]
    for one in kept:
        cases.commit(Change(case=one, ticket=ticket(of=one.target)))
    for spoilt in [one for one in dynamo.items("cases") if kept[0].digest in one["pk"]["S"]]:
        spoilt["body"] = {"S": '{"from": "a newer version"}'}
        dynamo.client.put_item(TableName=DEPLOYMENT.table("cases"), Item=spoilt)
    listings: tuple[tuple[Iterator[Any], int], ...] = (
        (ledger.cases(CaseState.WAITING), 1),
        (ledger.cases(), 2),
        (ledger.tickets(TicketState.OPEN), 2),
    )
    for found, readable in listings:
        assert len([next(found) for _ in range(readable)]) == readable
        with pytest.raises(UnreadableError, match="1 cannot be read, the first: "):
            next(found)


def test_an_archived_episode_is_listed_among_the_ended(cases: DynamoCases, ledger: Ledger) -> None:
    ended, second = case(1, state=CaseState.CLOSED), case(2, episode=2)
    cases.commit(Change(case=ended))
    cases.commit(Change(case=second, archive=ended))
    assert list(ledger.cases(CaseState.CLOSED)) == [ended]
    assert list(ledger.cases(CaseState.OPEN)) == [second]


def test_settings_are_listed_by_kind(ledger: Ledger, dynamo: Dynamo) -> None:
    assert (ledger.modes(), ledger.exemptions(), ledger.freezes()) == ((), (), ())
    DynamoSettings(dynamo.client, DEPLOYMENT).apply(_setting())
    dynamo.ear.sent.clear()

    assert ledger.modes() == (mode(),)
    assert ledger.exemptions() == (exemption(),)
    assert ledger.freezes() == (freeze(),)
    assert ledger.enrolments() == (enrolment(),)
    assert set(dynamo.ear.operations()) == {"Query", "BatchGetItem"}


def test_what_was_reserved_is_listed(cases: DynamoCases, ledger: Ledger) -> None:
    assert ledger.spent() == ()
    reservations = reserved(cases.look(question()).account_spent)
    cases.commit(Change(case=case(), spent=(reservations,)))
    assert ledger.spent() == (reservations,)


def test_what_people_configured_and_what_sweeps_saw_is_listed(
    cases: DynamoCases, settings: DynamoSettings, ledger: Ledger
) -> None:
    assert (ledger.deployment_roles(), ledger.owners(), ledger.sweeps()) == ((), (), ())
    settings.apply(_setting())
    end = completed(1)
    cases.keep(end)

    assert ledger.deployment_roles() == (deployment_role(),)
    assert ledger.owners() == (owner(),)
    assert ledger.sweeps() == (end.sweep,)


def test_tickets_are_listed_by_state_the_last_moved_first(cases: DynamoCases, ledger: Ledger) -> None:
    many = [
        ticket(
            state=TicketState.CLOSED if number % 2 else TicketState.OPEN,
            at=START + timedelta(seconds=number),
            of=target(f"sg-{number}"),
        )
        for number in range(6)
    ]
    for one in many:
        cases.commit(Change(case=case(of=one.target), ticket=one))
    many.reverse()

    assert list(ledger.tickets()) == many
    assert list(ledger.tickets(TicketState.OPEN)) == [one for one in many if one.is_open]
    assert list(ledger.tickets(TicketState.CLOSED)) == [one for one in many if not one.is_open]
    assert len(list(ledger.cases())) == 6, "a ticket is no case"


def test_a_ticket_is_read_by_its_id_as_it_stands(cases: DynamoCases, settings: DynamoSettings) -> None:
    opened, closed = ticket(), ticket(state=TicketState.CLOSED)
    assert settings.ticket(opened.id) is None
    cases.commit(Change(case=case(), ticket=opened))
    assert settings.ticket(opened.id) == opened
    cases.commit(Change(case=case(2), ticket=closed))
    assert settings.ticket(opened.id) == closed
    for name in (
        ticket(2).id,
        "",
        "-t",
        "-t1",
        opened.id.removesuffix("-t1"),
        f"{opened.id}#open",
        "é" * 2000,
    ):
        assert settings.ticket(name) is None


def test_an_errand_of_a_machine_lies_in_the_outbox_for_the_stream(
    settings: DynamoSettings, dynamo: Dynamo
) -> None:
    for _ in range(2):
        settings.send(errand("r"))
    (stored,) = dynamo.items("outbox")
    assert (stored["pk"], stored["kind"]) == ({"S": "ERRAND#r"}, {"S": "errand"})
    assert ERRAND.validate_json(canonical(json.loads(stored["body"]["S"])["body"])) == Tick()


def errand(name: str) -> Notice:
    return notice_of(Tick(), name, "c-1", START)


def test_answers_are_read_by_case_and_ask(
    cases: DynamoCases, settings: DynamoSettings, ledger: Ledger
) -> None:
    cases.commit(Change(case=waiting()))
    said = answer(asked=ask())
    settings.answer(said)
    assert ledger.answers(waiting().id, 1) == said.answers
    assert ledger.answers(waiting().id, 2) is None
