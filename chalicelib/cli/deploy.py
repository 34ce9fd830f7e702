"""Puts a package into an account: the artefacts into a bucket of their own, then the stack, watched to its end.

boto3 alone, so that it does the same against AWS and against an emulated endpoint.
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from botocore.exceptions import ClientError

from chalicelib.cli import policies, template
from chalicelib.cli.package import Package
from chalicelib.domain.errors import RedressError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

CAPABILITIES = ("CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
"""Roles with names of ours, and SAM's transform, which a stack made without a change set must acknowledge
(docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html)."""

SLOWEST_POLL = 5.0

Parameters = Mapping[str, str]


class Session(Protocol):
    """The part of `boto3.session.Session` that is used here."""

    def client(self, service_name: Any, /) -> Any:  # noqa: ANN401 -- boto3's own signature
        """A client of a service."""


class DeployError(RedressError):
    """The deployment did not come about; the message says what failed first, why, and what to do next."""


@dataclass(frozen=True)
class Event:
    """One thing that happened to one resource of the stack, in CloudFormation's words."""

    resource: str
    type: str
    status: str
    reason: str


@dataclass(frozen=True)
class Deployment:
    """A stack that stands: its name, its outputs, and whether this run changed it."""

    stack: str
    outputs: dict[str, str]
    changed: bool


def deploy(
    session: Session,
    package: Package,
    stage: str,
    parameters: Parameters,
    progress: Callable[[Event], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Deployment:
    """Creates or updates `redress-<stage>` and returns once it stands; DeployError says why it does not.

    On an update, parameters that are not given keep the value that they have.
    """
    if not re.fullmatch(template.STAGE_FORM, stage):
        raise DeployError(f"{stage!r} is no stage: up to 12 lower-case letters and digits, a letter first")
    written: dict[str, Any] = yaml.safe_load(package.template.read_text(encoding="utf-8"))
    chosen, known = {**parameters, "Stage": stage}, tuple(written["Parameters"])
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise DeployError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    account = str(session.client("sts").get_caller_identity()["Account"])
    stack = _Stack(session.client("cloudformation"), f"redress-{stage}", sleep)
    before = stack.described()
    _say_who_reaches_the_api(written, _values(written, chosen, before))
    stored = _Stored(_store(session.client("s3"), package, written, stage, account), known)
    return stack.bring_to(stored, chosen, before, {policies.TAG: stage}, progress)


def _values(written: Mapping[str, Any], chosen: Parameters, before: Mapping[str, Any] | None) -> Parameters:
    """Every parameter's value in the stack to come."""
    default = {name: str(one.get("Default", "")) for name, one in written["Parameters"].items()}
    had = {one["ParameterKey"]: one["ParameterValue"] for one in (before or {}).get("Parameters", [])}
    return {**default, **had, **chosen}


def _say_who_reaches_the_api(written: dict[str, Any], values: Parameters) -> None:
    """Writes it into the API's description, which is part of what SAM makes a deployment of the API for.

    A resource policy holds from the API's next deployment on, and SAM makes one only where the definition reads
    differently; a parameter's value it does not see. A new AllowedCidrs would be shown, and would not hold
    (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-resource-policies-create-attach.html).
    """
    definition = written["Resources"].get("RestAPI", {}).get("Properties", {}).get("DefinitionBody")
    if definition is not None:
        said = "; ".join(f"{name}: {values[name] or '-'}" for name in template.REACH)
        definition["info"]["description"] = said


# ---------------------------------------------------------------------------------------------------------- artefacts


@dataclass(frozen=True)
class _Stored:
    """Where CloudFormation finds the template, and the parameters that it has."""

    url: str
    parameters: tuple[str, ...]


def _store(s3: "S3Client", package: Package, written: dict[str, Any], stage: str, account: str) -> str:
    """Zip and template in the artefact bucket, each by its digest: what is deployed is never overwritten.

    Returns the template's URL, in the form that both AWS and an emulated endpoint understand.
    """
    bucket = f"redress-{stage}-artifacts-{account}-{s3.meta.region_name}"
    _own_bucket(s3, bucket, account)
    zip_key = f"{package.sha256}.zip"
    _upload(s3, bucket, account, zip_key, package.zip.read_bytes())
    for resource in written["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://{bucket}/{zip_key}"
    body = template.plain(written).encode()
    template_key = f"{hashlib.sha256(body).hexdigest()}.yaml"
    _upload(s3, bucket, account, template_key, body)
    if s3.meta.endpoint_url.startswith("https://"):
        _refuse_plain_http(s3, bucket, account)
    return f"{s3.meta.endpoint_url}/{bucket}/{template_key}"


def _own_bucket(s3: "S3Client", bucket: str, account: str) -> None:
    """The bucket exists, is ours, and is closed.

    Its name can be guessed, so somebody may have taken it before us: every call names the owner that it expects
    (docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html).
    """
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise DeployError(
                f"the bucket {bucket} cannot be used ({_said(error)}): it belongs to another account, or these "
                "credentials may not see it. Nothing was uploaded. If it is not yours, report it to AWS and choose "
                "another stage"
            ) from error
        _create_bucket(s3, bucket)
    s3.put_public_access_block(
        Bucket=bucket,
        ExpectedBucketOwner=account,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_encryption(
        Bucket=bucket,
        ExpectedBucketOwner=account,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    s3.put_bucket_versioning(
        Bucket=bucket, ExpectedBucketOwner=account, VersioningConfiguration={"Status": "Enabled"}
    )


def _create_bucket(s3: "S3Client", bucket: str) -> None:
    """A new bucket in the client's Region.

    us-east-1 is the one that must not be named (docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html).
    """
    try:
        if s3.meta.region_name == "us-east-1":
            s3.create_bucket(Bucket=bucket)
        else:
            where: Any = {"LocationConstraint": s3.meta.region_name}
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    except ClientError as error:
        raise DeployError(f"the bucket {bucket} could not be made: {_said(error)}") from error


def _refuse_plain_http(s3: "S3Client", bucket: str, account: str) -> None:
    partition = s3.meta.partition
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:{partition}:s3:::{bucket}", f"arn:{partition}:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(
        Bucket=bucket, ExpectedBucketOwner=account, Policy=json.dumps(policies.document(statement))
    )


def _upload(s3: "S3Client", bucket: str, account: str, key: str, body: bytes) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=account)


# --------------------------------------------------------------------------------------------------------------- stack


class _Stack:
    """One stack, created or updated and watched until it stands or has fallen."""

    def __init__(self, client: "CloudFormationClient", name: str, sleep: Callable[[float], None]) -> None:
        self._client = client
        self._name = name
        self._sleep = sleep

    def bring_to(
        self,
        stored: _Stored,
        parameters: Parameters,
        before: Mapping[str, Any] | None,
        tags: Parameters,
        progress: Callable[[Event], None],
    ) -> Deployment:
        """The stack, which was `before` or did not exist, as `stored` has it."""
        if before is not None:
            self._refuse_stuck(str(before["StackStatus"]))
        token = uuid.uuid4().hex
        options: dict[str, Any] = {
            "StackName": self._name,
            "TemplateURL": stored.url,
            "Capabilities": list(CAPABILITIES),
            "Parameters": _chosen(stored.parameters, parameters, before),
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            "ClientRequestToken": token,
        }
        try:
            answer = self._client.update_stack(**options) if before else self._client.create_stack(**options)
        except ClientError as error:
            if before is not None and "No updates are to be performed" in str(error):
                return Deployment(self._name, _outputs(before), changed=False)
            raise DeployError(f"CloudFormation refused the stack {self._name}: {_said(error)}") from error
        return self._watched(str(answer["StackId"]), token, progress)

    def described(self) -> dict[str, Any] | None:
        """What CloudFormation tells of the stack; None when there is none."""
        try:
            return dict(self._client.describe_stacks(StackName=self._name)["Stacks"][0])
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def _refuse_stuck(self, status: str) -> None:
        """DeployError in a state in which CloudFormation takes no update.

        (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html#cfn-console-view-stack-data-resources-status-codes).
        """
        if status in {
            "ROLLBACK_COMPLETE",
            "ROLLBACK_FAILED",
            "CREATE_FAILED",
            "DELETE_FAILED",
            "REVIEW_IN_PROGRESS",
        }:
            raise DeployError(
                f"the stack {self._name} is in {status}: it was never created whole, and such a stack can only be "
                f"deleted. Delete it (aws cloudformation delete-stack --stack-name {self._name}), see that no table "
                f"{self._name}-* was left behind, and deploy again"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise DeployError(
                f"the stack {self._name} is in {status}: its last update failed, and so did going back. Repair what its "
                "events name, then: aws cloudformation continue-update-rollback --stack-name " + self._name
            )
        if status.endswith("_IN_PROGRESS"):
            raise DeployError(
                f"the stack {self._name} is in {status}: somebody else is at it; wait and try again"
            )

    def _watched(self, stack_id: str, token: str, progress: Callable[[Event], None]) -> Deployment:
        seen: set[str] = set()
        first_failure: Event | None = None
        turned_back = ""
        pause = 0.1
        while True:
            stack = self._client.describe_stacks(StackName=stack_id)["Stacks"][0]
            for event in self._news(stack_id, token, seen):
                first_failure = first_failure or (event if _is_cause(event) else None)
                turned_back = turned_back or (event.reason if "ROLLBACK" in event.status else "")
                progress(event)
            status = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                break
            self._sleep(pause)
            pause = min(pause * 1.5, SLOWEST_POLL)
        if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            return Deployment(self._name, _outputs(stack), changed=True)
        raise DeployError(
            self._explained(status, turned_back or stack.get("StackStatusReason", ""), first_failure)
        )

    def _news(self, stack_id: str, token: str, seen: set[str]) -> Iterator[Event]:
        """What this operation did since the last look, oldest first: all its events carry its token.

        (docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_StackEvent.html).
        """
        news: list[Mapping[str, Any]] = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
            fresh = [
                one
                for one in page["StackEvents"]
                if one.get("ClientRequestToken") == token and one["EventId"] not in seen
            ]
            news.extend(fresh)
            if len(fresh) < len(page["StackEvents"]):
                break
        for one in reversed(news):
            seen.add(one["EventId"])
            yield Event(
                resource=one.get("LogicalResourceId", ""),
                type=one.get("ResourceType", ""),
                status=one.get("ResourceStatus", ""),
                reason=one.get("ResourceStatusReason", ""),
            )

    def _explained(self, status: str, reason: str, cause: Event | None) -> str:
        what = (
            f"{cause.resource} ({cause.type}) {cause.status}: {cause.reason}"
            if cause
            else reason or "no reason given"
        )
        said = f"the stack {self._name} ended in {status}. What failed first: {what}."
        if cause and "already exists" in cause.reason.lower():
            said += (
                " A resource of that name was left by an earlier deployment of this stage, or is somebody else's. "
                "Tables are kept on purpose: bring them back into the stack with a change set that imports existing "
                "resources, or deploy under another stage."
            )
        if status.startswith("UPDATE"):
            return said + " The deployment from before still stands; repair the cause and deploy again"
        return f"{said} Repair the cause, delete the stack (aws cloudformation delete-stack --stack-name {self._name}), deploy again"


def _is_cause(event: Event) -> bool:
    """A resource that failed by itself, not one that was given up because another had failed."""
    return event.status.endswith("_FAILED") and "cancelled" not in event.reason.lower()


def _chosen(
    known: tuple[str, ...], given: Parameters, before: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The given values; for the rest of an existing stack, those that it has."""
    has = {one["ParameterKey"] for one in (before or {}).get("Parameters", [])}
    chosen: list[dict[str, Any]] = []
    for key in known:
        if key in given:
            chosen.append({"ParameterKey": key, "ParameterValue": given[key]})
        elif key in has:
            chosen.append({"ParameterKey": key, "UsePreviousValue": True})
    return chosen


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}


def _said(error: ClientError) -> str:
    said = error.response["Error"]
    return f"{said['Code']}: {said['Message']}"
