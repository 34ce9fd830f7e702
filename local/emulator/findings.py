"""Findings as AWS's services send them to EventBridge, for `World.emit`, and the forgeries of them.

Pure: the same arguments make the same finding (its id too), only `at` moves. Texts and values are our own.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from local.emulator.shapes import Json

STANDARD: Final = "aws-foundational-security-best-practices/v/1.0.0"


def security_hub(
    account: str,
    region: str,
    resource: str,
    control: str,
    *,
    kind: str = "AwsS3Bucket",
    status: str = "FAILED",
    at: datetime | None = None,
    **fields: Any,  # noqa: ANN401 -- any field of the finding, as it is
) -> Json:
    """An imported finding of a consolidated control (`S3.8`) on a resource, by Security Hub's own product."""
    when = _zulu(at)
    name = (
        f"arn:aws:securityhub:{region}:{account}:security-control/{control}/finding/{_id(resource, control)}"
    )
    finding: Json = {
        "SchemaVersion": "2018-10-08",
        "Id": name,
        "ProductArn": f"arn:aws:securityhub:{region}::product/aws/securityhub",
        "ProductName": "Security Hub",
        "CompanyName": "AWS",
        "Region": region,
        "GeneratorId": f"security-control/{control}",
        "AwsAccountId": account,
        "Types": ["Software and Configuration Checks/Industry and Regulatory Standards"],
        "FirstObservedAt": when,
        "LastObservedAt": when,
        "CreatedAt": when,
        "UpdatedAt": when,
        "Severity": {"Label": "HIGH", "Normalized": 70, "Original": "HIGH"},
        "Title": f"{control} does not hold",
        "Description": f"The emulated Security Hub found {resource} against {control}.",
        "Resources": [{"Type": kind, "Id": resource, "Partition": "aws", "Region": region}],
        "Compliance": {
            "Status": status,
            "SecurityControlId": control,
            "AssociatedStandards": [{"StandardsId": f"standards/{STANDARD}"}],
        },
        "Workflow": {"Status": "NEW"},
        "WorkflowState": "NEW",
        "RecordState": "ACTIVE",
        **fields,
    }
    return _imported(finding, account, region, when)


def custom_action(*imported: Mapping[str, Any], action: str = "redress") -> Json:
    """What Security Hub sends when a person picks these findings and presses a custom action's button."""
    first = imported[0]
    account, region = first["account"], first["region"]
    button = f"arn:aws:securityhub:{region}:{account}:action/custom/{action}"
    detail = {
        "actionName": action,
        "actionDescription": "Asks for a repair",
        "findings": [copy.deepcopy(one["detail"]["findings"][0]) for one in imported],
    }
    kind = "Security Hub Findings - Custom Action"
    return _envelope("aws.securityhub", kind, account, region, first["time"], detail, [button])


def config(
    account: str,
    region: str,
    resource_id: str,
    rule: str,
    *,
    kind: str = "AWS::S3::Bucket",
    compliance: str = "NON_COMPLIANT",
    at: datetime | None = None,
) -> Json:
    """A rule's first evaluation of a resource. IAM's resources go by their unique id (AIDA…), not their name."""
    when = _zulu(at)
    qualifier = {"configRuleName": rule, "resourceType": kind, "resourceId": resource_id}
    result = {
        "evaluationResultIdentifier": {"evaluationResultQualifier": qualifier, "orderingTimestamp": when},
        "complianceType": compliance,
        "resultRecordedTime": when,
        "configRuleInvokedTime": when,
    }
    detail = {
        "resourceId": resource_id,
        "resourceType": kind,
        "awsRegion": region,
        "awsAccountId": account,
        "configRuleName": rule,
        "configRuleARN": f"arn:aws:config:{region}:{account}:config-rule/config-rule-{_id(rule)[:6]}",
        "recordVersion": "1.0",
        "messageType": "ComplianceChangeNotification",
        "newEvaluationResult": result,
        "notificationCreationTime": when,
    }
    return _envelope("aws.config", "Config Rules Compliance Change", account, region, when, detail)


def guard_duty(
    account: str,
    region: str,
    finding_type: str,
    resource: Mapping[str, Any],
    *,
    severity: float = 8,
    at: datetime | None = None,
) -> Json:
    """A GuardDuty finding; `resource` is its `resource` as GuardDuty writes it (`{"resourceType": …, …}`)."""
    when = _zulu(at)
    name, detector = _id(finding_type, repr(resource)).replace("-", ""), _id(account, region).replace("-", "")
    detail = {
        "schemaVersion": "2.0",
        "accountId": account,
        "region": region,
        "partition": "aws",
        "id": name,
        "arn": f"arn:aws:guardduty:{region}:{account}:detector/{detector}/finding/{name}",
        "type": finding_type,
        "resource": dict(resource),
        "service": {
            "serviceName": "guardduty",
            "detectorId": detector,
            "archived": False,
            "count": 1,
            "eventFirstSeen": when,
            "eventLastSeen": when,
            "resourceRole": "TARGET",
        },
        "severity": severity,
        "title": f"{finding_type} was seen",
        "description": "The emulated GuardDuty saw it.",
        "createdAt": when,
        "updatedAt": when,
    }
    return _envelope("aws.guardduty", "GuardDuty Finding", account, region, when, detail)


def access_analyzer(
    account: str,
    region: str,
    resource: str,
    *,
    kind: str = "AWS::S3::Bucket",
    public: bool = True,
    status: str = "ACTIVE",
    at: datetime | None = None,
) -> Json:
    """An Access Analyzer finding: the resource can be reached from outside its account."""
    when = _zulu(at)
    detail = {
        "version": "1.0",
        "id": _id(resource, kind),
        "accountId": account,
        "region": region,
        "resource": resource,
        "resourceType": kind,
        "status": status,
        "isPublic": public,
        "principal": {"AWS": "*" if public else "999999999999"},
        "action": ["s3:GetObject"],
        "condition": {},
        "isDeleted": False,
        "createdAt": when,
        "analyzedAt": when,
        "updatedAt": when,
    }
    analyzer = f"arn:aws:access-analyzer:{region}:{account}:analyzer/account"
    kind_of_event = "Access Analyzer Finding"
    return _envelope("aws.access-analyzer", kind_of_event, account, region, when, detail, [analyzer])


# --- forgeries ------------------------------------------------------------------------------------------


def by_another_product(imported: Mapping[str, Any], owner: str) -> Json:
    """The same finding as any account may import it through its own default product."""
    finding = copy.deepcopy(imported["detail"]["findings"][0])
    account, region = imported["account"], imported["region"]
    finding["ProductArn"] = f"arn:aws:securityhub:{region}:{owner}:product/{owner}/default"
    return _imported(finding, account, region, imported["time"])


def about_another_account(imported: Mapping[str, Any], victim: str) -> Json:
    """The same finding, that claims to be about an account which is not the one that sends it."""
    finding = copy.deepcopy(imported["detail"]["findings"][0])
    finding["AwsAccountId"] = victim
    return _imported(finding, imported["account"], imported["region"], imported["time"])


# --- envelopes ------------------------------------------------------------------------------------------


def _imported(finding: Json, account: str, region: str, when: str) -> Json:
    resources = [f"{finding['ProductArn']}/{finding['Id']}"]
    kind, detail = "Security Hub Findings - Imported", {"findings": [finding]}
    return _envelope("aws.securityhub", kind, account, region, when, detail, resources)


def _envelope(
    source: str,
    kind: str,
    account: str,
    region: str,
    when: str,
    detail: Json,
    resources: list[str] | None = None,
) -> Json:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": account,
        "time": f"{when[:19]}Z",
        "region": region,
        "resources": resources or [],
        "detail": detail,
    }


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


def _zulu(at: datetime | None) -> str:
    when = (at or datetime.now(UTC)).astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"
