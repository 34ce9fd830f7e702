"""What MiniStack 1.5.33 and moto 5.2.5 lack or get wrong, and how the emulator mends it: all of it, here.

`GAPS` is the same list as data, so that documentation can print it. Each patch replaces one private name
(see `names`) and keeps the rest of the emulators as they are.
"""
# ruff: noqa: ANN401 - what MiniStack and moto hand out has no types

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from local.emulator import buckets, gateway, identity, names, ordered
from local.emulator.streams import Streams

log = logging.getLogger("redress.patches")


@dataclass(frozen=True, slots=True)
class Gap:
    """One difference from AWS. `mended` says what the emulator does instead, or is empty if nothing."""

    where: str
    what: str
    mended: str


GAPS: Final[tuple[Gap, ...]] = (
    Gap("moto ec2", "one constant request id for every answer", "a fresh one, in body and header alike"),
    Gap("moto ec2", "security group rules lack groupOwnerId and, for protocol -1, ports", "added"),
    Gap("moto ec2", "AuthorizeSecurityGroup* answers the last permission's rules only", "all rules"),
    Gap("moto ec2", "Authorize/Revoke keep the first permissions when a later one fails", "all or nothing"),
    Gap("moto ec2", "RevokeSecurityGroup* does not answer the revoked rules", "revokedSecurityGroupRuleSet"),
    Gap("moto ec2", "rules on groups lose their description", "kept"),
    Gap("moto ec2", "RevokeSecurityGroupEgress skips IPv6 silently in a VPC without IPv6", "revoked"),
    Gap("moto ec2", "ModifySecurityGroupRules knows IPv4 only and wants ports for protocol -1", "all kinds"),
    Gap("moto ec2", "no GetEbsDefaultKmsKeyId, no ResetEbsDefaultKmsKeyId", "added; alias/aws/ebs at first"),
    Gap(
        "moto ec2", "DescribeRegions answers every Region of every partition", "those that are on by default"
    ),
    Gap("moto", "not safe for threads", "one lock"),
    Gap("ministack iam", "aws:ResourceTag is unknown for EC2, whose tags moto holds", "read from moto"),
    Gap("ministack iam", "aws:PrincipalIsAWSService is unknown", "false for every request, true for a rule"),
    Gap("ministack sqs", "aws:PrincipalArn of a role's session is the session's own ARN", "the role's"),
    Gap(
        "ministack iam",
        "dynamodb:LeadingKeys is unknown",
        "known; a transaction's puts into one table are judged together",
    ),
    Gap(
        "ministack iam",
        "guardduty, securityhub, macie2, redshift: not authorised",
        "authorised, on any resource",
    ),
    Gap(
        "ministack iam",
        "GetAccessKeyLastUsed always answers 'never'",
        "the last use, or the one that was set",
    ),
    Gap("ministack iam", "users and roles are authorised without their path", "by their own ARN"),
    Gap("ministack iam", "GetAccessKeyLastUsed is authorised on any resource", "on the key's owner"),
    Gap(
        "ministack iam", "the credential report knows no use of a key and writes times with Z", "as AWS does"
    ),
    Gap(
        "ministack iam",
        "the root user never has an access key; any MFA device counts as root's",
        "settable; none",
    ),
    Gap("ministack iam", "a new credential report is made each time, not at most every four hours", ""),
    Gap(
        "ministack s3", "ExpectedBucketOwner is ignored", "AccessDenied where another account owns the bucket"
    ),
    Gap("ministack s3", "GetBucketPolicyStatus lists the bucket", "the policy's status, or its error"),
    Gap("ministack lambda", "a stream's batch is all or nothing and is retried for ever", "as configured"),
    Gap("ministack lambda", "one slow batch of a stream keeps all queues waiting", "beside them"),
    Gap(
        "ministack lambda",
        "a mapping reads its source without any right",
        "with its function's role's rights",
    ),
    Gap(
        "ministack lambda",
        "functions know no clock but the machine's",
        "World.shift_clock moves our engine's",
    ),
    Gap("ministack events", "rule to Lambda is one attempt", "asynchronous invocation: retries, OnFailure"),
    Gap(
        "ministack events", "a rule target's DeadLetterConfig is ignored", "an undeliverable event goes there"
    ),
    Gap(
        "ministack events", "buses of other accounts and Regions are not reached", "reached, if policy admits"
    ),
    Gap(
        "ministack lambda",
        "a burst starts one Python per event",
        "at most so many at a time; nested calls pass",
    ),
    Gap("ministack cloudformation", "TTL, PITR and SSE of a table are ignored", "applied after creation"),
    Gap("ministack sqs", "StartMessageMoveTask is absent", ""),
    Gap("ministack ssm", "CreateOpsItem and StartAutomationExecution are absent", ""),
    Gap("moto securityhub", "BatchUpdateFindings is absent", ""),
    Gap("moto ec2", "CIDRs are not brought into canonical form (10.0.0.5/8 stays)", ""),
    Gap(
        "ministack s3control", "account-level public access block is absent; the SDK's host prefix misses", ""
    ),
    Gap("ministack sts", "a role trusted by ARN in its own account needs sts:AssumeRole too (stricter)", ""),
    Gap(
        "ministack events",
        "a queue's policy is not asked before a rule delivers",
        "asked, of dead letters too",
    ),
    Gap("ministack apigateway", "a denied Invoke answers __type and message, not Message", ""),
    Gap("ministack apigateway", "works in the home account only", ""),
    Gap("ministack cloudformation", "resources it makes leave no CloudTrail events of their own", ""),
    Gap("ministack apigateway", "no CORS preflight headers, no binary media types", ""),
    Gap("ministack apigateway", "the caller's address is what the caller says it is", "the true one"),
    Gap(
        "ministack apigateway",
        "repeated headers are joined, of repeated parameters the first is told",
        "the last of each, and all of them beside it",
    ),
    Gap("ministack apigateway", "resource policies, web ACLs and private endpoints are not enforced", ""),
    Gap("ministack cloudformation", "an API whose definition changes gets a new id", ""),
    Gap("ministack apigateway", "header names reach the function in lower case", ""),
    Gap(
        "ministack lambda", "a FIFO queue is read by one at a time", "a group by one, where batches hold one"
    ),
    Gap(
        "ministack events",
        "a FIFO queue takes events without content-based deduplication, and takes them twice",
        "undeliverable; dropped for five minutes",
    ),
    Gap("ministack cloudformation", "AWS::SecretsManager::ResourcePolicy is unknown", "made, and enforced"),
    Gap("ministack sns", "a topic's e-mail subscribers get nothing", "World.mails tells what was published"),
    Gap("ministack kms", "keys guard nothing: neither tables, secrets nor topics ask their policy", ""),
)


SWITCHED_ON: Final = "REDRESS_LOCAL_REGIONS"
REGIONS: Final = frozenset({
    "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2",
    "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1",
    "us-east-1", "us-east-2", "us-west-1", "us-west-2",
})  # fmt: skip
_BACKOFF_SECONDS: Final = 0.1


def patch_ministack(concurrency: int) -> None:
    """Mend MiniStack. `concurrency` bounds how many invocations run at once."""
    _bound_lambda(threading.BoundedSemaphore(concurrency))
    # MiniStack rests for a second after a failed batch; the message's own visibility timeout holds as ever.
    names.QUEUE_BACKOFF_SECONDS.put(_BACKOFF_SECONDS)
    _deliver_like_eventbridge()
    _apply_table_settings()
    _make_secret_policies()
    gateway.patch()
    ordered.patch()
    identity.patch()
    buckets.patch()
    Streams(_BACKOFF_SECONDS).install()
    _tell_people_from_services()
    _name_leading_keys()
    names.TAG_COLLECTORS.get()["ec2"] = _ec2_tags


def patch_moto() -> None:
    """Mend moto's EC2; imports it."""
    rule = names.SECURITY_GROUP_RULE.get()
    rule.group_owner_id = property(lambda self: self.owner_id)
    rule.description = property(lambda self: {**self.source_group, **self.ip_range}.get("Description"))
    response = names.EC2_RESPONSE.get()
    for direction in ("ingress", "egress"):
        setattr(response, f"authorize_security_group_{direction}", _authorize(direction))
        setattr(response, f"revoke_security_group_{direction}", _revoke(direction))
    response.get_ebs_default_kms_key_id = _get_default_key
    response.reset_ebs_default_kms_key_id = _reset_default_key
    response.describe_regions = _describe_regions
    names.GROUP_BACKEND.get().modify_security_group_rules = _modify_rules


# --- Lambda ---------------------------------------------------------------------------------------------


def _bound_lambda(slots: threading.BoundedSemaphore) -> None:
    execute = names.EXECUTE_FUNCTION.get()
    inside: ContextVar[bool] = ContextVar("redress_lambda_slot", default=False)

    def bounded(function: dict[str, Any], event: dict[str, Any]) -> Any:
        # MiniStack enters twice where the scope differs, and a function may invoke a function: neither may
        # wait for the slot that its own caller holds.
        if inside.get() or names.INVOKE_DEPTH.get().get() > 0:
            return execute(function, event)
        with slots:
            token = inside.set(True)
            try:
                return execute(function, event)
            finally:
                inside.reset(token)

    names.EXECUTE_FUNCTION.put(bounded)


# --- EventBridge ----------------------------------------------------------------------------------------


class _Undeliverable(Exception):  # noqa: N818 - control flow inside this file, never raised to anyone
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _deliver_like_eventbridge() -> None:
    invoke_target, dispatch_to_bus = names.INVOKE_TARGET.get(), names.DISPATCH_TO_BUS.get()

    def to_bus(
        spec: Any, event: dict[str, Any], rule: dict[str, Any], path: set[str], payload: str | None = None
    ) -> None:
        if spec.account_id == names.GET_ACCOUNT.get()() and spec.region == names.GET_REGION.get()():
            dispatch_to_bus(spec, event, rule, path, payload)
            return
        _to_distant_bus(spec, event, payload)

    def invoke(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> None:
        view = view or names.EVENT_VIEW.get()(event)
        try:
            _check_target(target, str(rule.get("Arn", "")))
            spec = names.PARSE_ARN.get()(str(target.get("Arn", "")))
            if spec.service == "events" and spec.resource.startswith("event-bus/"):
                to_bus(spec, event, rule, set(event.get("_DispatchPath") or []), None)
            else:
                invoke_target(target, event, rule, view)
        except _Undeliverable as failure:
            _dead_letter(target, rule, view, failure)

    names.DISPATCH_TO_LAMBDA.put(_to_lambda)
    names.DISPATCH_TO_BUS.put(to_bus)
    names.INVOKE_TARGET.put(invoke)


def _to_lambda(arn: str, payload: str) -> None:
    function, config, name = names.FUNCTION_RECORD.get()(arn)
    if not function or not config:
        log.warning("rule target %s: no such function", name)
        return
    execution = dict(names.EXECUTION_RECORD.get()(function, config))
    for key in ("event_invoke_config", "event_invoke_configs"):
        if key in function:
            execution[key] = function[key]
    names.INVOKE_ASYNC.get()(execution, json.loads(payload))


def _to_distant_bus(spec: Any, event: dict[str, Any], payload: str | None) -> None:
    sender, bus = names.GET_ACCOUNT.get()(), spec.resource.split("/", 1)[-1]
    with names.REQUEST_SCOPE.get()(spec.account_id, spec.region):
        names.ENSURE_DEFAULT_BUS.get()()
        if bus not in names.EVENT_BUSES.get():
            raise _Undeliverable("RESOURCE_NOT_FOUND", f"no event bus {spec}")
        if spec.account_id != sender and not _bus_admits(bus, sender):
            raise _Undeliverable("NO_PERMISSIONS", f"the policy of {spec} does not admit {sender}")
        # Account and Region of origin stay in the envelope: that is how the receiver knows whence.
        forwarded = {**event, "EventBusName": bus}
        if payload is not None:
            forwarded["Detail"] = payload
        names.DISPATCH_EVENT.get()(forwarded)
        names.ARCHIVE_EVENT.get()(forwarded)


def _check_target(target: dict[str, Any], rule: str) -> None:
    """Raise where EventBridge would find nothing to deliver to."""
    arn = str(target.get("Arn", ""))
    if why := ordered.why_undeliverable(target):
        raise _Undeliverable("INVALID_PARAMETER", why)
    service = (arn.split(":") + [""] * 3)[2]
    if service == "lambda" and not names.FUNCTION_RECORD.get()(arn)[1]:
        raise _Undeliverable("RESOURCE_NOT_FOUND", f"no function {arn}")
    if service == "sqs" and not names.QUEUE_BY_ARN.get()(arn):
        raise _Undeliverable("RESOURCE_NOT_FOUND", f"no queue {arn}")
    if service == "sqs" and not _queue_admits(arn, rule):
        raise _Undeliverable("NO_PERMISSIONS", f"the policy of {arn} does not admit {rule}")


def _queue_admits(arn: str, rule: str) -> bool:
    return bool(names.QUEUE_ADMITS.get()(arn, "events.amazonaws.com", rule, rule.split(":")[4]))


def _bus_admits(bus: str, sender: str) -> bool:
    """Whether a statement of the bus policy lets an account put events (conditions are not read)."""
    policy = names.BUS_POLICIES.get().get(bus) or {}
    document = json.loads(policy) if isinstance(policy, str) else policy
    statements = document.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        named = principal.get("AWS") if isinstance(principal, dict) else principal
        listed = named if isinstance(named, list) else [named]
        admitted = {"*", sender, f"arn:aws:iam::{sender}:root"}
        if statement.get("Effect") == "Allow" and admitted & {str(one) for one in listed}:
            return True
    return False


def _dead_letter(
    target: Mapping[str, Any], rule: Mapping[str, Any], view: Any, failure: _Undeliverable
) -> None:
    arn = str((target.get("DeadLetterConfig") or {}).get("Arn", ""))
    queue = names.QUEUE_BY_ARN.get()(arn) if arn else None
    log.warning("rule %s, target %s: %s", rule.get("Name"), target.get("Arn"), failure)
    if queue is None or not _queue_admits(arn, str(rule.get("Arn", ""))):
        return
    names.DISPATCH_TO_SQS.get()(names.PARSE_ARN.get()(arn), json.dumps(view.event_with_detail()), {})
    attributes = {
        "RULE_ARN": rule.get("Arn", ""),
        "TARGET_ARN": target.get("Arn", ""),
        "ERROR_CODE": failure.code,
        "ERROR_MESSAGE": str(failure),
    }
    queue["messages"][-1]["message_attributes"] = {
        key: {"DataType": "String", "StringValue": str(value)} for key, value in attributes.items()
    }


# --- CloudFormation, IAM --------------------------------------------------------------------------------


def _apply_table_settings() -> None:
    handlers = names.RESOURCE_HANDLERS.get()["AWS::DynamoDB::Table"]
    create = handlers["create"]

    def create_table(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        name, attributes = create(logical_id, properties, stack_name)
        ttl = properties.get("TimeToLiveSpecification")
        if ttl and ttl.get("AttributeName"):
            enabled = str(ttl.get("Enabled", "")).lower() == "true"
            names.UPDATE_TTL.get()(
                {"TableName": name, "TimeToLiveSpecification": {**ttl, "Enabled": enabled}}
            )
        backups = properties.get("PointInTimeRecoverySpecification")
        if backups:
            enabled = str(backups.get("PointInTimeRecoveryEnabled", "")).lower() == "true"
            names.UPDATE_BACKUPS.get()(
                {
                    "TableName": name,
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": enabled},
                }
            )
        encryption = properties.get("SSESpecification")
        if encryption:
            declared = {
                "Enabled": str(encryption.get("SSEEnabled", "")).lower() == "true",
                **{k: v for k, v in encryption.items() if k in {"SSEType", "KMSMasterKeyId"}},
            }
            table = names.DYNAMODB_TABLES.get()[name]
            table["SSEDescription"] = names.SSE_DESCRIPTION.get()(declared)
        return name, attributes

    handlers["create"] = create_table


def _make_secret_policies() -> None:
    def attached(physical_id: str, properties: dict[str, Any]) -> Any:
        secret, policy = properties["SecretId"], json.dumps(properties["ResourcePolicy"])
        status, *_, body = names.PUT_SECRET_POLICY.get()({"SecretId": secret, "ResourcePolicy": policy})
        if status >= 400:  # noqa: PLR2004 -- HTTP's own number
            raise ValueError(body)
        return physical_id, {"Id": secret}

    def create(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        return attached(f"{stack_name}-{logical_id}", properties)

    def update(physical_id: str, _: Any, properties: dict[str, Any], stack_name: str) -> Any:  # noqa: ARG001 -- as MiniStack calls it
        return attached(physical_id, properties)

    def delete(physical_id: str, properties: dict[str, Any]) -> None:  # noqa: ARG001 -- as MiniStack calls it
        names.DELETE_SECRET_POLICY.get()({"SecretId": properties["SecretId"]})

    names.RESOURCE_HANDLERS.get()["AWS::SecretsManager::ResourcePolicy"] = {
        "create": create,
        "update": update,
        "delete": delete,
    }


def _tell_people_from_services() -> None:
    """Every request that comes in over the wire is somebody's; only a queue's policy is asked about a service."""
    resolve = names.CONDITION_KEY.get()

    def resolved(key: str, context: Any) -> Any:
        if key.lower() == "aws:principalisawsservice":
            return str(context.principal_type == "Service").lower()
        value = resolve(key, context)
        if key.lower() == "aws:principalarn" and isinstance(value, str):
            return re.sub(
                r"^arn:([a-z-]+):sts::(\d+):assumed-role/([^/]+)/.*$", r"arn:\1:iam::\2:role/\3", value
            )
        return value

    names.CONDITION_KEY.put(resolved)


_LEADING_KEYS: Final = "redress:leading-keys"


def _name_leading_keys() -> None:
    """`dynamodb:LeadingKeys`: the partition keys that a request names in the table that it is judged for."""
    told, resolve = names.DYNAMODB_CONTEXT.get(), names.CONDITION_KEY.get()

    def context(body: bytes) -> dict[str, Any]:
        return {**told(body), _LEADING_KEYS: _leading_keys(body)}

    def resolved(key: str, context: Any) -> Any:
        if key.lower() != "dynamodb:leadingkeys":
            return resolve(key, context)
        named, table = (
            context.service_context.get(_LEADING_KEYS) or {},
            context.resource_arn.rpartition("/")[2],
        )
        deed = context.action.removeprefix("dynamodb:").removesuffix("Item")
        return named.get((deed, table)) or named.get(("", table))

    names.DYNAMODB_CONTEXT.put(context)
    names.CONDITION_KEY.put(resolved)


def _leading_keys(body: bytes) -> dict[tuple[str, str], list[str]]:
    """Partition keys by table: of one item, of a batch's, or of a transaction's items for each of its deeds (`Put`)."""
    request = json.loads(body or b"{}")
    deeds: list[tuple[str, dict[str, Any]]] = [("", request)]
    deeds += [pair for item in request.get("TransactItems", ()) for pair in item.items()]
    for table, batch in request.get("RequestItems", {}).items():
        writes = [deed for write in batch for deed in write.values()] if isinstance(batch, list) else []
        reads = [{"Key": key} for key in batch["Keys"]] if isinstance(batch, dict) else []
        deeds += [("", {"TableName": table, **deed}) for deed in (*writes, *reads)]
    found: dict[tuple[str, str], list[str]] = {}
    for name, deed in deeds:
        table = deed.get("TableName", "")
        kept_under = (names.DYNAMODB_TABLES.get().get(table) or {}).get("pk_name", "")
        value = (deed.get("Item") or deed.get("Key") or {}).get(kept_under)
        if value:
            found.setdefault((name, table), []).extend(value.values())
    return found


def _ec2_tags() -> list[tuple[str, list[dict[str, str]]]]:
    """EC2's resources and tags in the form MiniStack's collectors have; only what moto holds by id."""
    account, region = names.GET_ACCOUNT.get()(), names.GET_REGION.get()()
    backend = names.EC2_BACKENDS.get()[account][region]
    kinds = {
        "sg-": "security-group", "i-": "instance", "vol-": "volume", "snap-": "snapshot", "vpc-": "vpc",
        "subnet-": "subnet", "acl-": "network-acl", "ami-": "image", "sgr-": "security-group-rule",
        "eni-": "network-interface", "igw-": "internet-gateway", "rtb-": "route-table",
    }  # fmt: skip
    found = []
    for identifier, tags in list(backend.tags.items()):
        kind = next((kind for prefix, kind in kinds.items() if identifier.startswith(prefix)), None)
        if kind is not None:
            arn = f"arn:aws:ec2:{region}:{account}:{kind}/{identifier}"
            found.append((arn, [{"Key": k, "Value": v} for k, v in tags.items()]))
    return found


# --- EC2 ------------------------------------------------------------------------------------------------


def _rules_of(group: Any, direction: str) -> list[Any]:
    return list(getattr(group, f"{direction}_rules"))


def _authorize(direction: str) -> Any:
    def authorize(self: Any) -> Any:
        self.error_on_dryrun()
        requested = list(self._process_rules_from_querystring())
        group = self.ec2_backend.get_security_group_by_name_or_id(requested[0]["group_name_or_id"])
        before = _rules_of(group, direction) if group else []
        added: list[Any] = []
        try:
            for one in requested:
                rules, _ = getattr(self.ec2_backend, f"authorize_security_group_{direction}")(**one)
                added.extend(rules)
        except Exception:
            if group:
                setattr(group, f"{direction}_rules", before)
            raise
        return names.MOTO_RESULT.get()({"Return": True, "SecurityGroupRules": [_added(r) for r in added]})

    return authorize


def _revoke(direction: str) -> Any:
    def revoke(self: Any) -> Any:
        self.error_on_dryrun()
        requested = list(self._process_rules_from_querystring())
        group = self.ec2_backend.get_security_group_by_name_or_id(requested[0]["group_name_or_id"])
        before = _rules_of(group, direction) if group else []
        try:
            for one in requested:
                del one["sgrule_tags"]
                dropped = _ipv6_ranges(one) if direction == "egress" else []
                getattr(self.ec2_backend, f"revoke_security_group_{direction}")(**one)
                _drop_ipv6(group, one, dropped)
        except Exception:
            if group:
                setattr(group, f"{direction}_rules", before)
            raise
        kept = {rule.id for rule in _rules_of(group, direction)}
        revoked = [_revoked(rule) for rule in before if rule.id not in kept]
        return names.MOTO_RESULT.get()({"Return": True, "RevokedSecurityGroupRules": revoked})

    return revoke


def _ipv6_ranges(requested: Mapping[str, Any]) -> list[str]:
    return [r["CidrIpv6"] for r in requested["ip_ranges"] if "CidrIpv6" in r]


def _drop_ipv6(group: Any, requested: Mapping[str, Any], cidrs: list[str]) -> None:
    """Moto takes IPv6 ranges out of an egress request where the VPC has no IPv6; the rules must go still."""

    def is_meant(rule: Any) -> bool:
        ports = (str(rule.from_port), str(rule.to_port)) == (
            str(requested["from_port"]), str(requested["to_port"])
        )  # fmt: skip
        same = rule.ip_protocol == requested["ip_protocol"] and (ports or rule.ip_protocol == "-1")
        return same and rule.cidr_ipv6 in cidrs

    if cidrs:
        group.egress_rules = [rule for rule in group.egress_rules if not is_meant(rule)]


def _added(rule: Any) -> dict[str, Any]:
    tags = [{"Key": tag["key"], "Value": tag["value"]} for tag in rule.get_tags()]
    shown = {key: value for key, value in _revoked(rule).items() if key != "ReferencedGroupId"}
    if rule.source_group:
        shown["ReferencedGroupInfo"] = dict(rule.source_group)
    shown["GroupOwnerId"] = rule.owner_id
    return {**shown, "Tags": tags} if tags else shown


def _revoked(rule: Any) -> dict[str, Any]:
    shown = {
        "SecurityGroupRuleId": rule.id,
        "GroupId": rule.group_id,
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.ip_protocol,
        "FromPort": -1 if rule.from_port is None else rule.from_port,
        "ToPort": -1 if rule.to_port is None else rule.to_port,
        "CidrIpv4": rule.cidr_ipv4,
        "CidrIpv6": rule.cidr_ipv6,
        "PrefixListId": rule.prefix_list_id,
        "ReferencedGroupId": (rule.source_group or {}).get("GroupId"),
        "Description": rule.description,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _modify_rules(self: Any, group_id: str, rules: Mapping[str, Mapping[str, Any]]) -> None:
    group = self.get_security_group_by_name_or_id(group_id)
    if group is None:
        raise names.NO_SUCH_GROUP.get()(group_id)
    kinds = ("CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupId")
    found: list[tuple[Any, Mapping[str, Any]]] = []
    for rule_id, wanted in rules.items():
        rule = group.get_rule(rule_id)
        if rule is None:
            raise names.NO_SUCH_RULE.get()(rule_id)
        if sum(kind in wanted for kind in kinds) != 1 or "IpProtocol" not in wanted:
            message = "A rule needs a protocol and exactly one of cidrIp, cidrIpv6, prefixListId, groupId"
            raise names.INVALID_VALUE.get()(message)
        found.append((rule, wanted))
    for rule, wanted in found:
        every = str(wanted["IpProtocol"]) in {"-1", "all"}
        rule.ip_protocol = "-1" if every else str(wanted["IpProtocol"])
        rule.from_port = None if every else int(wanted.get("FromPort", -1))
        rule.to_port = None if every else int(wanted.get("ToPort", -1))
        described = {"Description": wanted["Description"]} if "Description" in wanted else {}
        rule.ip_range, rule.source_group, rule.prefix_list_id = {}, {}, None
        if "CidrIpv4" in wanted:
            rule.ip_range = {"CidrIp": wanted["CidrIpv4"], **described}
        elif "CidrIpv6" in wanted:
            rule.ip_range = {"CidrIpv6": wanted["CidrIpv6"], **described}
        elif "PrefixListId" in wanted:
            rule.prefix_list_id = wanted["PrefixListId"]
        else:
            rule.source_group = {"GroupId": wanted["ReferencedGroupId"], **described}


def _describe_regions(self: Any) -> Any:
    """Without names and AllRegions, only the Regions that an account has from the start; never another partition's."""
    self.error_on_dryrun()
    switched_on = set(os.environ.get(SWITCHED_ON, "").split()) or REGIONS
    every = self._get_param("AllRegions") in {"true", True}
    found = self.ec2_backend.describe_regions(self._get_param("RegionNames", []))
    named = bool(self._get_param("RegionNames", []))
    return names.MOTO_RESULT.get()({
        "Regions": [
            region
            for region in found
            if region.name in switched_on or ((every or named) and not region.name.startswith(("cn-", "us-gov-")))
        ]
    })  # fmt: skip


def _get_default_key(self: Any) -> Any:
    self.error_on_dryrun()
    key = getattr(self.ec2_backend, "default_kms_key_id", None) or "alias/aws/ebs"
    return names.MOTO_RESULT.get()({"KmsKeyId": key})


def _reset_default_key(self: Any) -> Any:
    self.error_on_dryrun()
    self.ec2_backend.default_kms_key_id = None
    return names.MOTO_RESULT.get()({"KmsKeyId": "alias/aws/ebs"})
