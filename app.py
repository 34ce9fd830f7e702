"""Every way in. Each hands what came on to the engine that `bootstrap` built; nothing is decided here.

The queues behind `engine` and all that Chalice cannot say stand in .chalice/resources.yaml, which is merged into
Chalice's template; it also replaces the queue named here, because Chalice wants an ARN and knows none.
"""

from typing import Any

from chalice.app import Chalice, ConvertToMiddleware, SQSEvent

from chalicelib import bootstrap
from chalicelib.adapters import telemetry
from chalicelib.console import commands

app = Chalice(app_name="redress")
app.register_middleware(ConvertToMiddleware(telemetry.logger.inject_lambda_context))
app.register_blueprint(commands.routes(bootstrap.commands))

_EVENTS = "arn:aws:sqs:us-east-1:000000000000:redress-dev-events"


@app.on_sqs_message(queue_arn=_EVENTS, batch_size=1, name="engine")
def on_events(event: SQSEvent) -> dict[str, Any]:
    return bootstrap.engine().handle(event.to_dict())
