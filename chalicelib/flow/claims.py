"""Claims: what a service of AWS found in an account, in each of the shapes in which it says so.

A claim starts a look and proves nothing. Read here is only what it says of itself: about which resource, where, and
under which names of controls. Whoever made it must be a service of AWS, and it must not contradict itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from chalicelib.domain.control import CIS, Control
from chalicelib.domain.finding import (
    Origin,
    Target,
    global_in,
    is_account_id,
    is_region,
    partition_of,
    target_of,
)
from chalicelib.domain.shape import items, mapping, sequence, text


@dataclass(frozen=True)
class Claim:
    """One finding about one resource. `no` is the reason why it asks nothing of us, or empty.

    `names` are those by which controls know it (`names_of`), `times` its own times, the best first, unread.
    """

    id: str
    updated: str
    title: str
    account: str
    region: str
    times: tuple[object, ...]
    kind: str
    resource: str
    names: frozenset[str]
    no: str


@dataclass(frozen=True)
class Source:
    """A kind of event that brings claims: who alone may send it, how it is taken apart, and how a part is read.

    `each` gives the findings of the event's detail, each with no more than one resource, which is what `read` reads.
    """

    sender: str
    origin: Origin
    each: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]
    read: Callable[[Mapping[str, Any]], Claim]

    @property
    def service(self) -> str:
        """The sender, as CloudTrail names it."""
        return f"{self.sender.removeprefix('aws.')}.amazonaws.com"


def names_of(control: Control) -> frozenset[str]:
    """Every name under which a claim may mean the control."""
    rules = (*control.config_rule_names, *(rule.lower().replace("_", "-") for rule in control.config_rules))
    return frozenset(
        {
            *(f"securityhub:{name}" for name in control.security_hub),
            *(
                f"{cis}:{number}"
                for cis in control.frameworks
                if cis.startswith(CIS)
                for number in control.frameworks[cis]
            ),
            *(f"config:{name}" for name in rules),
            *(f"guardduty:{name}" for name in control.guardduty),
            *(f"access-analyzer:{name}" for name in control.access_analyzer),
        }
    )


def target_for(claim: Claim, control: Control) -> Target | str:
    """What the claim is about, if it is of the control's type and lies where the claim says, else why not."""
    if _type(claim.kind) != _type(control.resource):
        return f"the finding is about {claim.kind or 'nothing that it names'}, not about {control.resource}"
    if control.resource == "AWS::IAM::User" and re.fullmatch(_UNIQUE_ID, claim.resource):
        return f"{claim.resource} is a user's unique id, which is not the name"
    region = claim.region if control.regional else global_in(partition_of(claim.region))
    target = target_of(control.resource, claim.resource, claim.account, region)
    return (
        target or f"{claim.resource!r} is no {control.resource} in account {claim.account}, Region {region}"
    )


_UNIQUE_ID = r"AIDA[A-Z0-9]{12,}"
"""What Config calls a user; an ARN of Security Hub's has the name."""


def _type(kind: str) -> str:
    """A resource type without its spelling: AWS::EC2::SecurityGroup is Security Hub's AwsEc2SecurityGroup."""
    return kind.replace(":", "").casefold()


def _whereabouts(name: str) -> tuple[str, str, str]:
    """Partition, Region and account that a resource's name tells, each empty where it does not."""
    if name.startswith("AWS::::Account:"):
        return "", "", name.removeprefix("AWS::::Account:")
    parts = name.split(":", 5)
    return (parts[1], parts[3], parts[4]) if parts[0] == "arn" and len(parts) == 6 else ("", "", "")  # noqa: PLR2004 -- arn:partition:service:region:account:rest


def _contradiction(account: str, region: str, *names: str) -> str:
    """Why a claim cannot be about this account and Region; `names` are the ARNs and ids in it that tell where they lie."""
    if not is_account_id(account):
        return f"{account!r} is no account id of twelve digits"
    if not is_region(region):
        return f"{region!r} is no Region's name"
    for name in names:
        partition, _, owner = _whereabouts(name)
        if owner not in {"", account}:
            return f"the finding is of account {account}, and {name!r} belongs to {owner!r}"
        if partition not in {"", partition_of(region)}:
            return f"the finding is of Region {region}, and {name!r} lies in partition {partition!r}"
    return ""


def _first(value: object) -> Mapping[str, Any]:
    found = items(value)
    return found[0] if found else {}


def _str(value: object) -> str:
    return text(value) or ""


def _one_by_one(findings: Iterable[object], key: str) -> Iterator[Mapping[str, Any]]:
    """Each finding, once for each of the resources that stand under `key`."""
    for finding in map(mapping, findings):
        resources = items(finding.get(key))
        yield from ({**finding, key: [resource]} for resource in resources) if resources else (finding,)


# -- Security Hub, in its own format ---------------------------------------------------------------------------------

_PRODUCT = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):securityhub:(?P<region>[a-z0-9-]+)::product(v2)?/aws/(?P<name>[a-z0-9-]+)"
)
_OWN = "securityhub"
_OVER = frozenset({"SUPPRESSED", "RESOLVED"})


def _from_another(product: str) -> str:
    """Why a product's findings are none of Security Hub's own controls; an ARN with an account is somebody's own product."""
    match = _PRODUCT.fullmatch(product)
    if match is None or match["partition"] != partition_of(match["region"]):
        return f"{product!r} is no product of AWS: anybody may import findings under a product of their own"
    if match["name"] != _OWN:
        return f"it was found by {match['name']}, which is heard by its own events or not at all"
    return ""


def _asff(finding: Mapping[str, Any]) -> Claim:
    resource, compliance = _first(finding.get("Resources")), mapping(finding.get("Compliance"))
    product, account, name = (
        _str(x) for x in (finding.get("ProductArn"), finding.get("AwsAccountId"), resource.get("Id"))
    )
    region = (
        _str(finding.get("Region"))
        or _str(resource.get("Region"))
        or _whereabouts(name)[1]
        or _whereabouts(product)[1]
    )
    fields = mapping(finding.get("ProductFields"))
    return Claim(
        id=_str(finding.get("Id")),
        updated=_str(finding.get("UpdatedAt")),
        title=_str(compliance.get("SecurityControlId"))
        or _str(fields.get("ControlId"))
        or _str(finding.get("GeneratorId")),
        account=account,
        region=region,
        times=(finding.get("UpdatedAt"),),
        kind=_str(resource.get("Type")),
        resource=name,
        names=_asff_names(finding, compliance, fields),
        no=_from_another(product)
        or _asff_over(finding, compliance)
        or _contradiction(account, region, name, product),
    )


def _asff_over(finding: Mapping[str, Any], compliance: Mapping[str, Any]) -> str:
    """Why nothing is open; a state of the record or of the work on it that is not told ends nothing."""
    status, state = compliance.get("Status"), finding.get("RecordState")
    workflow = _str(mapping(finding.get("Workflow")).get("Status"))
    if state is not None and state != "ACTIVE":
        return f"the finding's record is {state!r}"
    if workflow in _OVER:
        return f"the finding is {workflow} in Security Hub"
    return "" if status == "FAILED" else f"the control's status is {status!r}, not FAILED"


_STANDARD = re.compile(
    r"(arn:[^/]*:(ruleset|control)/)?(?P<standard>[a-z0-9-]+)/v/(?P<version>[0-9.]+)/(rule/)?(?P<id>[A-Za-z0-9.]+)"
)


def _asff_names(
    finding: Mapping[str, Any], compliance: Mapping[str, Any], fields: Mapping[str, Any]
) -> frozenset[str]:
    """The consolidated control id where there is one, else what the standard calls the control, wherever it says so."""
    consolidated = _str(compliance.get("SecurityControlId"))
    if consolidated:
        return frozenset({f"securityhub:{consolidated}"})
    told = (_str(finding.get("GeneratorId")), _str(fields.get("StandardsControlArn")))
    names = {f"securityhub:{_str(fields.get('ControlId'))}", f"{CIS}1_2_0:{_str(fields.get('RuleId'))}"}
    names |= {
        f"securityhub:{one.removeprefix('security-control/')}"
        for one in told
        if one.startswith("security-control/")
    }
    for match in filter(None, map(_STANDARD.fullmatch, told)):
        cis = match["standard"] == "cis-aws-foundations-benchmark"
        standard = CIS + match["version"].replace(".", "_") if cis else "securityhub"
        names.add(f"{standard}:{match['id']}")
    return frozenset(name for name in names if not name.endswith(":"))


# -- Security Hub, in the Open Cybersecurity Schema Framework ----------------------------------------------------------

_COMPLIANCE_FINDING = 2003
_CLOSED = 3
_FAIL = 3
_OCSF_OVER = MappingProxyType({3: "SUPPRESSED", 4: "RESOLVED"})


def _ocsf(finding: Mapping[str, Any]) -> Claim:
    resource = _first(finding.get("resources") or finding.get("resource"))
    info, metadata = mapping(finding.get("finding_info")), mapping(finding.get("metadata"))
    cloud, compliance = mapping(finding.get("cloud")), mapping(finding.get("compliance"))
    product = _str(mapping(metadata.get("product")).get("uid"))
    account, region = _str(mapping(cloud.get("account")).get("uid")), _str(cloud.get("region"))
    owner = _str(mapping(mapping(resource.get("owner")).get("account")).get("uid"))
    known = [name for name in map(_str, (resource.get("uid"), resource.get("uid_alt"))) if name]
    name = next((name for name in known if name.startswith("arn:")), next(iter(known), ""))
    control = _str(compliance.get("control"))
    times = (
        info.get("modified_time_dt"),
        finding.get("time_dt"),
        info.get("modified_time"),
        finding.get("time"),
    )
    return Claim(
        id=_str(info.get("uid")) or _str(metadata.get("uid")),
        updated=next((str(time) for time in times if isinstance(time, str | int)), ""),
        title=control,
        account=account,
        region=region,
        times=times,
        kind=_str(resource.get("type")),
        resource=name,
        names=frozenset({f"securityhub:{control}"}) if control else frozenset(),
        no=_from_another(product)
        or _ocsf_over(finding, compliance)
        or _contradiction(account, region, *known, product, f"AWS::::Account:{owner}"),
    )


def _ocsf_over(finding: Mapping[str, Any], compliance: Mapping[str, Any]) -> str:
    """Why nothing is open. Numbers are the schema's own, words each producer's; what either says is over is over."""
    if finding.get("class_uid") != _COMPLIANCE_FINDING:
        return f"it is of class {finding.get('class_uid')!r}, no compliance finding"
    status, result = finding.get("status_id"), compliance.get("status_id")
    over = _OCSF_OVER.get(status) if isinstance(status, int) else None
    over = over or next((word for word in _OVER if _str(finding.get("status")).upper() == word), None)
    if over:
        return f"the finding is {over} in Security Hub"
    if finding.get("activity_id") == _CLOSED:
        return "the finding was closed"
    failed = (
        result == _FAIL
        if result is not None
        else _str(compliance.get("status")).upper() in {"FAIL", "FAILED"}
    )
    return "" if failed else f"the control's status is {compliance.get('status')!r}, not failed"


# -- Config, GuardDuty, Access Analyzer --------------------------------------------------------------------------------

_RULE_NAMES = (
    re.compile(r"(?P<name>.+)"),
    re.compile(r"securityhub-(?P<name>.+)-[0-9a-z]{6,8}"),
    re.compile(r"OrgConfigRule-(?P<name>.+)-[0-9a-z]{8}"),
    re.compile(r"(?P<name>.+)-conformance-pack-[0-9a-z]{9}"),
)
"""How Config's rules are called: by hand, by Security Hub, by an organization, by a conformance pack."""


def _config(detail: Mapping[str, Any]) -> Claim:
    result = mapping(detail.get("newEvaluationResult"))
    account, region, rule = (_str(detail.get(key)) for key in ("awsAccountId", "awsRegion", "configRuleName"))
    kind, name = _str(detail.get("resourceType")), _str(detail.get("resourceId"))
    times = (result.get("resultRecordedTime"), detail.get("notificationCreationTime"))
    compliance = result.get("complianceType")
    whole = f"AWS::::Account:{name}" if _type(kind) == _type("AWS::::Account") else name
    return Claim(
        id=f"{rule}/{kind}/{name}",
        updated=_str(times[0]) or _str(times[1]),
        title=rule,
        account=account,
        region=region,
        times=times,
        kind=kind,
        resource=name,
        names=frozenset(
            f"config:{match['name']}" for match in (form.fullmatch(rule) for form in _RULE_NAMES) if match
        ),
        no=f"the resource is {compliance!r}, not NON_COMPLIANT"
        if compliance != "NON_COMPLIANT"
        else _contradiction(account, region, whole, _str(detail.get("configRuleARN"))),
    )


def _guardduty_each(detail: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    resource = mapping(detail.get("resource"))
    for one in _one_by_one([resource], "s3BucketDetails"):
        yield {**detail, "resource": one}


def _guardduty(detail: Mapping[str, Any]) -> Claim:
    """A bucket, else the user whose key it was, else the account: `resource` names much besides that only took part."""
    resource, found = mapping(detail.get("resource")), _str(detail.get("type"))
    account, region = _str(detail.get("accountId")), _str(detail.get("region"))
    bucket, key = _first(resource.get("s3BucketDetails")), mapping(resource.get("accessKeyDetails"))
    kind, name = "AWS::S3::Bucket", _str(bucket.get("arn")) or _str(bucket.get("name"))
    if not name and key.get("userType") == "IAMUser":
        kind, name = "AWS::IAM::User", _str(key.get("userName"))
    elif not name:
        kind, name = "AWS::::Account", account
    archived = str(mapping(detail.get("service")).get("archived")).lower() == "true"
    return Claim(
        id=_str(detail.get("id")),
        updated=_str(detail.get("updatedAt")),
        title=found,
        account=account,
        region=region,
        times=(detail.get("updatedAt"),),
        kind=kind,
        resource=name,
        names=frozenset({f"guardduty:{found}"}) if found else frozenset(),
        no="the finding is archived in GuardDuty"
        if archived
        else _contradiction(account, region, name, _str(detail.get("arn"))),
    )


def _analyzer(detail: Mapping[str, Any]) -> Claim:
    kind, name = _str(detail.get("resourceType")), _str(detail.get("resource"))
    account, region = _str(detail.get("accountId")), _str(detail.get("region"))
    return Claim(
        id=_str(detail.get("id")),
        updated=_str(detail.get("updatedAt")),
        title=f"public access to {kind}",
        account=account,
        region=region,
        times=(detail.get("updatedAt"),),
        kind=kind,
        resource=name,
        names=frozenset({f"access-analyzer:{kind}"}),
        no=_analyzer_over(detail) or _contradiction(account, region, name),
    )


def _analyzer_over(detail: Mapping[str, Any]) -> str:
    status, error = detail.get("status"), detail.get("error")
    if status != "ACTIVE" or detail.get("isDeleted") is True:
        return f"the finding is {status!r}, or its resource is gone"
    if error:
        return f"the resource could not be analysed ({error!r})"
    return "" if detail.get("isPublic") is True else "the access is not public"


def _asff_each(detail: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return _one_by_one(sequence(detail.get("findings")), "Resources")


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "Security Hub Findings - Imported": Source("aws.securityhub", Origin.CLAIM, _asff_each, _asff),
        "Security Hub Findings - Custom Action": Source("aws.securityhub", Origin.REQUEST, _asff_each, _asff),
        "Findings Imported V2": Source(
            "aws.securityhub",
            Origin.CLAIM,
            lambda detail: _one_by_one(sequence(detail.get("findings")), "resources"),
            _ocsf,
        ),
        "Config Rules Compliance Change": Source(
            "aws.config", Origin.CLAIM, lambda detail: (detail,), _config
        ),
        "GuardDuty Finding": Source("aws.guardduty", Origin.CLAIM, _guardduty_each, _guardduty),
        "Access Analyzer Finding": Source(
            "aws.access-analyzer", Origin.CLAIM, lambda detail: (detail,), _analyzer
        ),
    }
)
"""Every kind of event that brings claims, by its detail-type."""
