"""Every way in. Each hands what came on to the engine that `bootstrap` built; nothing is decided here.

The queues and the stream behind the functions and all that Chalice cannot say stand in .chalice/resources.yaml, which is
merged into Chalice's template; it also replaces the ARNs named here, because Chalice wants some and knows none.
"""

from typing import Any

from chalice.app import Chalice, ConvertToMiddleware, DynamoDBEvent, SQSEvent

from chalicelib import bootstrap
from chalicelib.adapters import telemetry
from chalicelib.console import commands, routes

app = Chalice(app_name="redress")
app.register_middleware(ConvertToMiddleware(telemetry.logger.inject_lambda_context))
app.register_blueprint(commands.routes(bootstrap.commands))
app.register_blueprint(routes.routes(routes.deployed(bootstrap.front)))

_EVENTS = "arn:aws:sqs:us-east-1:000000000000:redress-dev-events"
_UNDO = "arn:aws:sqs:us-east-1:000000000000:redress-dev-undo"
_NOTICES = "arn:aws:sqs:us-east-1:000000000000:redress-dev-notices.fifo"
_OUTBOX = "arn:aws:dynamodb:us-east-1:000000000000:table/redress-dev-outbox/stream/0"


@app.on_sqs_message(queue_arn=_EVENTS, batch_size=1, name="engine")
def on_events(event: SQSEvent) -> dict[str, Any]:
    return bootstrap.engine().handle(event.to_dict())


@app.on_sqs_message(queue_arn=_UNDO, batch_size=1, name="undoer")
def on_undo(event: SQSEvent) -> dict[str, Any]:
    return bootstrap.undoer().handle(event.to_dict())


@app.on_dynamodb_record(stream_arn=_OUTBOX, name="outbox")
def on_outbox(event: DynamoDBEvent) -> dict[str, Any]:
    return bootstrap.outbox().handle(event.to_dict())


@app.on_sqs_message(queue_arn=_NOTICES, batch_size=1, name="notifier")
def on_notices(event: SQSEvent) -> dict[str, Any]:
    return bootstrap.notifier().handle(event.to_dict())
