"""The emulated front door: pages for a browser, signed posts, queues that keep an order, mails and secrets.

A small function stands in for ours and says what it was told.
"""

import http.client
import io
import json
import time
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signer
from botocore.exceptions import ClientError

from chalicelib.adapters.queues import SqsQueues
from local.emulator.world import World

pytestmark = pytest.mark.emulator

PROBE = """
import base64, json, os, time, urllib.request, boto3

def page(event, context):
    if event["path"] == "/moved":
        return {"statusCode": 303, "multiValueHeaders": {"Location": ["/elsewhere"]}, "body": ""}
    told = {**event, "slack": os.environ.get("REDRESS_SLACK_API", "")}
    if event["path"] == "/reach":
        told["answered"] = urllib.request.urlopen(os.environ["REDRESS_SLACK_API"]).read().decode()
    cookies = ["session=1; HttpOnly; Path=/", "signin=; Max-Age=0; Path=/"]
    headers = {"Content-Type": ["text/html; charset=utf-8"], "Set-Cookie": cookies}
    text = "<!doctype html><title>ä</title><script type=json>" + json.dumps(told) + "</script>"
    return {"statusCode": 200, "multiValueHeaders": headers, "body": text}

def listen(event, context):
    (record,) = event["Records"]
    group, body = record["attributes"]["MessageGroupId"], json.loads(record["body"])
    table, failed = boto3.client("dynamodb"), []
    count = record["attributes"]["ApproximateReceiveCount"]
    def note(what):
        item = {"pk": {"S": f"{time.time():.6f}"}, "what": {"S": what}, "group": {"S": group}, "body": {"S": record["body"]}}
        table.put_item(TableName="heard", Item=item)
    note("began")
    time.sleep(body.get("lasts", 0))
    if int(count) <= body.get("fails", 0):
        failed = [{"itemIdentifier": record["messageId"]}]
    note("failed" if failed else "ended")
    return {"batchItemFailures": failed}
"""


def allow(*actions: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def template() -> str:
    def function(handler: str, **more: Any) -> dict[str, Any]:
        common = {
            "FunctionName": handler,
            "Runtime": "python3.11",
            "Handler": f"app.{handler}",
            "Timeout": 10,
            "CodeUri": "s3://code/code.zip",
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        }
        return {"Type": "AWS::Serverless::Function", "Properties": {**common, **more}}

    uri = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Page.Arn}/invocations"
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": {"Fn::Sub": uri}}
    free = {"responses": {}, "x-amazon-apigateway-integration": integration}
    signed = {**free, "security": [{"sigv4": []}]}
    swagger = {
        "swagger": "2.0",
        "info": {"title": "front", "version": "1"},
        "paths": {
            "/": {"get": free},
            "/moved": {"get": free},
            "/reach": {"get": free},
            "/cases/{id}": {"get": free, "post": free},
            "/commands/{kind}": {"post": signed},
        },
        "securityDefinitions": {
            "sigv4": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "x-amazon-apigateway-authtype": "awsSigv4",
            }
        },
    }
    targets: dict[str, dict[str, Any]] = {
        "constant": {"Input": '{"name": "constant"}', "SqsParameters": {"MessageGroupId": "time"}},
        "timed": {
            "InputTransformer": {
                "InputPathsMap": {"at": "$.time"},
                "InputTemplate": '{"name": "timed", "at": "<at>"}',
            },
            "SqsParameters": {"MessageGroupId": "time"},
        },
        "lost": {"Input": '{"name": "lost"}'},
    }
    rules = {
        f"{name}Rule": {
            "Type": "AWS::Events::Rule",
            "DependsOn": "Policy",
            "Properties": {
                "Name": name,
                "ScheduleExpression": "rate(5 minutes)",
                "State": "ENABLED",
                "Targets": [
                    {"Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "Id": "queue", **target},
                ],
            },
        }
        for name, target in targets.items()
    }
    lambdas = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    sends = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
    }
    source = {
        "Queue": {"Fn::GetAtt": ["Queue", "Arn"]},
        "BatchSize": 1,
        "ScalingConfig": {"MaximumConcurrency": 4},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }
    resources = {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": "front",
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [lambdas]},
                "Policies": [
                    {"PolicyName": "front", "PolicyDocument": allow("dynamodb:PutItem", "sqs:*", "logs:*")}
                ],
            },
        },
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "heard",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            },
        },
        "Queue": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": "ordered.fifo",
                "FifoQueue": True,
                "ContentBasedDeduplication": True,
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
                "VisibilityTimeout": 6,
            },
        },
        "Policy": {
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {
                "Queues": [{"Ref": "Queue"}],
                "PolicyDocument": {"Version": "2012-10-17", "Statement": [sends]},
            },
        },
        **rules,
        "Page": function("page"),
        "Listen": function("listen", Events={"Queue": {"Type": "SQS", "Properties": source}}),
        "Api": {
            "Type": "AWS::Serverless::Api",
            "Properties": {"StageName": "api", "OpenApiVersion": "2.0", "DefinitionBody": swagger},
        },
    }
    return json.dumps(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Transform": "AWS::Serverless-2016-10-31",
            "Resources": resources,
            "Outputs": {"Api": {"Value": {"Ref": "Api"}}},
        }
    )


class Front:
    """The emulated world with the probe in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        s3, stacks = world.client("s3", quiet=True), world.client("cloudformation", quiet=True)
        s3.create_bucket(Bucket="code")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("app.py", PROBE)
        s3.put_object(Bucket="code", Key="code.zip", Body=packed.getvalue())
        stacks.create_stack(
            StackName="front",
            TemplateBody=template(),
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )

        def stands() -> bool:
            stack = stacks.describe_stacks(StackName="front")["Stacks"][0]
            assert "ROLLBACK" not in stack["StackStatus"], world.log()[-3000:]
            self.api = next((one["OutputValue"] for one in stack.get("Outputs", [])), "")
            return bool(stack["StackStatus"] == "CREATE_COMPLETE")

        world.wait_for(stands, 60, "the stack")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        form: str = "/_aws/execute-api/{api}/api",
    ) -> tuple[int, list[tuple[str, str]], str]:
        """One request as a browser would send it: status, header lines, text."""
        connection = http.client.HTTPConnection(urlsplit(self.world.endpoint).netloc, timeout=20)
        connection.putrequest(method, form.format(api=self.api) + path)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        text = answer.read().decode()
        lines = [(name.lower(), value) for name, value in answer.getheaders()]
        connection.close()
        return answer.status, lines, text

    def told(self, method: str, path: str, **more: Any) -> Any:
        """What the function was told of a request."""
        status, _, text = self.ask(method, path, **more)
        assert status == 200, text
        return json.loads(text.partition("<script type=json>")[2].removesuffix("</script>"))

    def heard(self) -> list[tuple[str, str, Any]]:
        """What the listener noted, in order: began, failed or ended; the group; the body."""
        items = self.world.client("dynamodb", quiet=True).scan(TableName="heard")["Items"]
        items.sort(key=lambda item: item["pk"]["S"])
        return [(item["what"]["S"], item["group"]["S"], json.loads(item["body"]["S"])) for item in items]

    def send(self, group: str, **body: Any) -> None:
        queues = SqsQueues(self.world.client("sqs", quiet=True))
        queues.send("ordered.fifo", json.dumps(body), group=group, dedup=f"{time.monotonic_ns()}")


@pytest.fixture(scope="module")
def front(slack: str) -> Iterator[Front]:
    with World(environment={"REDRESS_SLACK_API": slack}) as world:
        yield Front(world)


@pytest.fixture(scope="module")
def slack() -> Iterator[str]:
    """A loopback server of a test, such as the fake Slack."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"I am Slack")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the parent's own name
            """Nothing: a test's output is pytest's."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


# -- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["/_aws/execute-api/{api}/api", "/restapis/{api}/api/_user_request_"])
def test_a_browser_gets_a_page_and_each_cookie_in_a_line_of_its_own(front: Front, form: str) -> None:
    status, headers, text = front.ask("GET", "/", form=form)
    assert status == 200
    assert dict(headers)["content-type"] == "text/html; charset=utf-8"
    assert text.startswith("<!doctype html><title>ä</title>")
    assert [value for name, value in headers if name == "set-cookie"] == [
        "session=1; HttpOnly; Path=/",
        "signin=; Max-Age=0; Path=/",
    ]


def test_a_redirect_is_one(front: Front) -> None:
    status, headers, _ = front.ask("GET", "/moved")
    assert (status, dict(headers)["location"]) == (303, "/elsewhere")


def test_a_form_arrives_byte_for_byte(front: Front) -> None:
    body = b"payload=%7B%22a%22%3A+1%7D&b=%C3%A9&empty=&b=2"
    form = ("Content-Type", "application/x-www-form-urlencoded")
    event = front.told("POST", "/cases/c-1", body=body, headers=(form, ("Cookie", "a=1; b=2")))
    assert (event["body"].encode(), event["isBase64Encoded"]) == (body, False)
    assert event["pathParameters"] == {"id": "c-1"}
    assert event["headers"]["cookie"] == "a=1; b=2"
    assert event["requestContext"]["stage"] == "api"


def test_what_is_given_twice_is_told_twice(front: Front) -> None:
    twice = (("X-Slack-Signature", "v0=1"), ("X-Slack-Signature", "v0=2"))
    event = front.told("GET", "/cases/c-1?state=a&state=b&one=%C3%A9", headers=twice)
    assert event["multiValueHeaders"]["x-slack-signature"] == ["v0=1", "v0=2"]
    assert event["headers"]["x-slack-signature"] == "v0=2"
    assert event["multiValueQueryStringParameters"] == {"state": ["a", "b"], "one": ["é"]}
    assert event["queryStringParameters"] == {"state": "b", "one": "é"}


def test_nobody_says_for_himself_where_he_is(front: Front) -> None:
    event = front.told("GET", "/", headers=(("X-Forwarded-For", "203.0.113.7"),))
    assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
    assert event["headers"]["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
    assert "userArn" not in event["requestContext"]["identity"]


@pytest.mark.parametrize("method, path", [("HEAD", "/"), ("PUT", "/cases/c-1"), ("GET", "/nowhere")])
def test_what_is_no_route_is_refused_before_any_function(front: Front, method: str, path: str) -> None:
    assert front.ask(method, path)[0] == 403


def test_commands_stay_behind_iam(front: Front) -> None:
    nobody = front.world.create_user("nobody", allow("sts:GetCallerIdentity"))
    somebody = front.world.create_user("somebody", allow("execute-api:Invoke"))
    assert front.ask("POST", "/commands/freeze", b"{}")[0] == 403
    ended = []
    for user in (nobody, somebody):
        url = f"{front.world.endpoint}/_aws/execute-api/{front.api}/api/commands/freeze"
        request = AWSRequest("POST", url, data=b"{}")
        SigV4Auth(Signer(user.access_key_id, user.secret_access_key), "execute-api", "us-east-1").add_auth(
            request
        )
        ended.append(front.ask("POST", "/commands/freeze", b"{}", tuple(request.headers.items())))
    assert [status for status, _, _ in ended] == [403, 200]
    assert somebody.arn in ended[1][2]


def test_a_function_reaches_the_fakes_on_loopback(front: Front, slack: str) -> None:
    event = front.told("GET", "/reach")
    assert (event["slack"], event["answered"]) == (slack, "I am Slack")


# -- order ------------------------------------------------------------------------------------------------------------


def test_a_group_keeps_its_order_and_waits_for_what_failed_while_others_pass(front: Front) -> None:
    front.send("slow", number=1, fails=1)
    front.send("slow", number=2)
    front.send("slow", number=3)
    front.send("other", number=4)

    def done() -> bool:
        return sum(what == "ended" for what, group, _ in front.heard() if group in {"slow", "other"}) == 4

    front.world.wait_for(done, 30, "four messages")
    heard = [
        (what, group, body["number"]) for what, group, body in front.heard() if group in {"slow", "other"}
    ]
    assert [(what, number) for what, group, number in heard if group == "slow"] == [
        ("began", 1),
        ("failed", 1),
        ("began", 1),
        ("ended", 1),
        ("began", 2),
        ("ended", 2),
        ("began", 3),
        ("ended", 3),
    ]
    assert heard.index(("ended", "other", 4)) < heard.index(("ended", "slow", 1))


def test_groups_are_served_beside_one_another(front: Front) -> None:
    for number in range(3):
        front.send(f"beside-{number}", number=number, lasts=4)

    def mine() -> list[str]:
        return [what for what, group, _ in front.heard() if group.startswith("beside-")]

    front.world.wait_for(lambda: mine().count("ended") == 3, 30, "three messages")
    assert mine()[:2] == ["began", "began"], "the second group waited for the first"


def test_time_reaches_a_queue_that_keeps_an_order_if_it_says_something_new(front: Front) -> None:
    def counted(name: str) -> int:
        return sum(what == "ended" and body.get("name") == name for what, _, body in front.heard())

    for number in (1, 2):
        for rule in ("constant", "lost", "timed"):
            front.world.fire(rule)
        front.world.wait_for(lambda number=number: counted("timed") == number, 20, "what the rule sent")  # type: ignore[misc]  # mypy cannot see through the default
        time.sleep(1.1)  # AWS's times are whole seconds
    assert (counted("constant"), counted("lost")) == (1, 0)


# -- mails, secrets ---------------------------------------------------------------------------------------------------


def test_what_is_published_can_be_read(front: Front) -> None:
    sns = front.world.client("sns")
    topic = sns.create_topic(Name="people")["TopicArn"]
    audience = {"audience": {"DataType": "String", "StringValue": "owner"}}
    sns.publish(TopicArn=topic, Subject="Fixed", Message="é\nline", MessageAttributes=audience)
    with pytest.raises(ClientError):
        sns.publish(TopicArn=f"{topic}-other", Subject="Lost", Message="x")
    (mail,) = front.world.mails()
    assert (mail.topic, mail.subject, mail.text) == (topic, "Fixed", "é\nline")
    assert mail.attributes == {"audience": "owner"}


def test_a_secret_is_kept_and_its_policy_holds_even_for_root(front: Front) -> None:
    front.world.secret("front/secret", {"session_keys": ["old"]})
    front.world.secret("front/secret", {"session_keys": ["new"]})
    reader = front.world.client("secretsmanager")
    assert json.loads(reader.get_secret_value(SecretId="front/secret")["SecretString"]) == {
        "session_keys": ["new"]
    }
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "secretsmanager:GetSecretValue",
        "Resource": "*",
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": ["arn:aws:iam::111111111111:role/nobody"]}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    reader.put_resource_policy(SecretId="front/secret", ResourcePolicy=policy)
    person = front.world.create_user("reads-secrets", allow("secretsmanager:*"))
    with pytest.raises(ClientError, match="AccessDenied"):
        front.world.client("secretsmanager", person).get_secret_value(SecretId="front/secret")
