"""How CloudTrail writes down requests and responses: one dialect per wire protocol, three for EC2.

* EC2's old operations: lower camel case, lists as `{"items": [...]}`, an empty list `{}`.
* EC2's newer operations: everything inside `<Action>Request`, wire names, a list element as
  `{"tag": 1, "content": ...}` and bare when it is the only one, an empty request as `""`.
* IAM, JSON and REST-JSON services: lower camel case, plain lists. S3: `bucketName`, the query's
  sub-resource as `"acl": ""`, and the XML body under its own PascalCase names.

Secrets never appear: what botocore's model calls sensitive is masked or left out, as CloudTrail does.
"""
# ruff: noqa: ANN401 -- JSON of any shape is what this file is about

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from local.emulator.wire import Operation, Request, Response, first

if TYPE_CHECKING:
    from botocore.model import Shape

Json: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

HIDDEN: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
_REMOVED: Final = "<sensitiveDataRemoved>"
_EC2_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_NUMBERS: Final = frozenset({"integer", "long"})

# EC2 operations of the API's first years. All others are logged in the wrapped form.
_OLD_EC2_NOUNS: Final = (
    "Address|CustomerGateway|DhcpOptions|Image|Instances?|InstanceAttribute|InternetGateway|KeyPair"
    "|NetworkAcl|NetworkAclAssociation|NetworkAclEntry|NetworkInterface|NetworkInterfaceAttribute"
    "|PlacementGroup|PrivateIpAddresses|ReservedInstances|Route|RouteTable|RouteTableAssociation"
    "|SecurityGroup|SecurityGroupEgress|SecurityGroupIngress|Snapshot|SnapshotAttribute|ImageAttribute"
    "|SpotDatafeedSubscription|SpotInstances|SpotInstanceRequests|Subnet|SubnetAttribute|Tags|Volume"
    "|VolumeAttribute|VolumeIO|Vpc|VpcAttribute|VpcPeeringConnection|VpnConnection|VpnConnectionRoute"
    "|VpnGateway|VgwRoutePropagation|InstanceStatus"
)
_OLD_EC2: Final = re.compile(
    "(Accept|Allocate|Assign|Associate|Attach|Authorize|Cancel|Copy|Create|Delete|Deregister|Detach|Disable"
    "|Disassociate|Enable|Import|Modify|Monitor|Purchase|Reboot|Register|Reject|Release|Replace|Report"
    f"|Request|Reset|Revoke|Run|Start|Stop|Terminate|Unassign|Unmonitor)({_OLD_EC2_NOUNS})"
)
_OLD_EC2_RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "NetworkAclEntry": {"protocol": "aclProtocol", "icmp": "icmpTypeCode"},
    "CreateVolume": {"availabilityZone": "zone"},
}
# Lists whose CloudTrail name is not the wire name, with the key of each scalar element.
_OLD_EC2_LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "InstanceIds": ("instancesSet", "instanceId"),
    "Resources": ("resourcesSet", "resourceId"),
    "Tags": ("tagSet", "value"),
    "Groups": ("groupSet", "groupId"),
    "SecurityGroupIds": ("groupSet", "groupId"),
    "SecurityGroups": ("groupSet", "groupName"),
    "SecurityGroupRuleIds": ("securityGroupRuleIds", "securityGroupRuleId"),
    "BlockDeviceMappings": ("blockDeviceMapping", "deviceName"),
    "NetworkInterfaces": ("networkInterfaceSet", "networkInterfaceId"),
}
_PERMISSION_LISTS: Final = ("groups", "ipRanges", "ipv6Ranges", "prefixListIds")
# Old operations whose answer is a bare success marker besides what the model names.
_RETURNING: Final = frozenset({"CreateSecurityGroup", "DeleteSecurityGroup"})

# What CloudTrail leaves out altogether, by the key it would have had; anything else sensitive is masked.
_LEFT_OUT: Final = frozenset({
    "password", "oldPassword", "newPassword", "secretAccessKey", "sessionToken", "secretString",
    "secretBinary", "zipFile", "serviceSpecificCredential", "bootstrapSecret",
})  # fmt: skip
_STARRED: Final = frozenset({"masterUserPassword"})
_EMPTIED: Final = {("lambda", "environment")}


def lower_first(name: str) -> str:
    """CloudTrail's camel case: only the first letter changes, so `DBInstance` becomes `dBInstance`."""
    return name[:1].lower() + name[1:]


def is_wrapped_ec2(operation: str) -> bool:
    """Whether an EC2 operation is logged inside `<Action>Request` and `<Action>Response`."""
    return _OLD_EC2.fullmatch(operation) is None


def request_parameters(request: Request, operation: Operation) -> Json | None:
    """`requestParameters` of the CloudTrail record for this request."""
    if operation.service == "s3":
        return _s3_parameters(request, operation)
    if operation.protocol == "ec2":
        return _ec2_parameters(request, operation)
    if operation.protocol == "query":
        return _query_parameters(request, operation)
    return _json_parameters(request, operation)


def response_elements(response: Response, operation: Operation) -> Json | None:
    """`responseElements` of the CloudTrail record for a successful response."""
    if operation.service == "s3" or not response.body.strip():
        return None
    if operation.protocol == "ec2":
        return _ec2_elements(response, operation)
    if operation.protocol == "query":
        return _query_elements(response, operation)
    value = _load_json(response.body)
    shape = None if operation.model is None else operation.model.output_shape
    return (_camel(shape, value, operation.service) or None) if isinstance(value, dict) else None


def _load_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


# --- values ---------------------------------------------------------------------------------------------


def _scalar(shape: Shape | None, text: str) -> Any:
    kind = "string" if shape is None else shape.type_name
    if kind in _NUMBERS and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind in {"float", "double"}:
        return float(text)
    if kind == "boolean":
        return text.lower() == "true"
    return text


def _trail_date(value: Any) -> str:
    """CloudTrail's `Jul 10, 2023 12:25:04 PM`."""
    if isinstance(value, int | float):
        when = datetime.fromtimestamp(value, UTC)
    else:
        try:
            when = datetime.fromisoformat(str(value))
        except ValueError:
            return str(value)
    hour = when.hour % 12 or 12
    return f"{when:%b} {when.day}, {when.year} {hour}:{when:%M:%S %p}"


def _members(shape: Shape | None) -> Mapping[str, Any]:
    return shape.members if shape is not None and shape.type_name == "structure" else {}  # type: ignore[attr-defined]  # botocore types every shape as its base class


def _element(shape: Shape | None) -> Any:
    return shape.member if shape is not None and shape.type_name == "list" else None  # type: ignore[attr-defined]  # botocore types every shape as its base class


def _is_sensitive(shape: Shape | None) -> bool:
    return shape is not None and bool(shape.metadata.get("sensitive"))


def _wire_members(shape: Shape | None) -> dict[str, Any]:
    """Members by the name they have on the wire, besides the name botocore gives them."""
    members = _members(shape)
    named = dict(members)
    named.update({str(m.serialization["name"]): m for m in members.values() if m.serialization.get("name")})
    return named


def _camel(shape: Shape | None, value: Any, service: str, depth: int = 0) -> Any:
    """A JSON value under CloudTrail's names; keys of maps are data and stay as they are."""
    if isinstance(value, list):
        return [_camel(_element(shape), item, service, depth + 1) for item in value]
    if isinstance(value, dict):
        if shape is not None and shape.type_name == "map":
            inner = shape.value  # type: ignore[attr-defined]  # botocore types every shape as its base class
            return {key: _guard(key, inner, item, service, depth) for key, item in value.items()}
        members = _wire_members(shape)
        out: Json = {}
        for key, item in value.items():
            name = lower_first(key)
            if name in _LEFT_OUT:
                continue
            if (service, name) in _EMPTIED:
                out[name] = {}
                continue
            out[name] = _guard(name, members.get(key), item, service, depth)
        return out
    if shape is not None and shape.type_name == "timestamp":
        return _trail_date(value)
    return value


def _guard(name: str, shape: Shape | None, value: Any, service: str, depth: int) -> Any:
    if name in _STARRED:
        return "****"
    if _is_sensitive(shape) and not isinstance(value, dict | list):
        return HIDDEN
    return _camel(shape, value, service, depth + 1)


# --- JSON and REST-JSON ---------------------------------------------------------------------------------


def _json_parameters(request: Request, operation: Operation) -> Json | None:
    shape = None if operation.model is None else operation.model.input_shape
    given: Json = dict(operation.uri)
    members = _members(shape)
    by_query = {
        str(m.serialization.get("name", name)): (name, m)
        for name, m in members.items()
        if m.serialization.get("location") == "querystring"
    }
    for key, values in request.query.items():
        name, member = by_query.get(key, (key, None))
        given[name] = [*values] if _element(member) is not None else _scalar(member, first(values))
    body = _load_json(request.body)
    if isinstance(body, dict):
        given.update(body)
    return _camel(shape, given, operation.service) or None


# --- query (IAM, RDS, CloudFormation, …) ----------------------------------------------------------------


def _query_parameters(request: Request, operation: Operation) -> Json | None:
    form = {key: first(values) for key, values in request.form.items()}
    shape = None if operation.model is None else operation.model.input_shape
    if shape is None:
        return {lower_first(k): v for k, v in form.items() if k not in {"Action", "Version"}} or None
    value = _query_value(shape, form, "")
    return (_camel(shape, value, operation.service) or None) if isinstance(value, dict) else None


def _has(form: Mapping[str, str], prefix: str) -> bool:
    return prefix in form or any(key.startswith(prefix + ".") for key in form)


def _query_value(shape: Shape, form: Mapping[str, str], prefix: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        out: Json = {}
        for name, member in _members(shape).items():
            wire = str(member.serialization.get("name", name))
            if member.type_name == "list" and member.serialization.get("flattened"):
                wire = str(_element(member).serialization.get("name", wire))
            path = f"{prefix}.{wire}" if prefix else wire
            if _has(form, path):
                out[name] = _query_value(member, form, path)
        return out
    if kind == "list":
        element = _element(shape)
        base = prefix
        if not shape.serialization.get("flattened"):
            base = f"{prefix}.{element.serialization.get('name', 'member')}"
        return _indexed(form, base, lambda path: _query_value(element, form, path))
    if kind == "map":
        entries = _indexed(
            form, f"{prefix}.entry", lambda path: (form.get(path + ".key", ""), form.get(path + ".value", ""))
        )
        return dict(entries)
    return _scalar(shape, form.get(prefix, ""))


def _indexed(form: Mapping[str, str], base: str, read: Callable[[str], _T]) -> list[_T]:
    found: list[_T] = []
    while _has(form, path := f"{base}.{len(found) + 1}"):
        found.append(read(path))
    return found


def _query_elements(response: Response, operation: Operation) -> Json | None:
    root = _parse_xml(response.body)
    model = operation.model
    if root is None or model is None or model.output_shape is None:
        return None
    wrapper = model.output_shape.serialization.get("resultWrapper")
    result = root if wrapper is None else next((c for c in root if _tag(c) == wrapper), None)
    if result is None:
        return None
    value = _xml_value(model.output_shape, result)
    return (_camel(model.output_shape, value, operation.service) or None) if isinstance(value, dict) else None


def _xml_value(shape: Shape | None, node: ET.Element) -> Any:
    """Query-protocol XML as botocore would parse it, under wire names."""
    kind = "structure" if shape is None and len(node) else ("string" if shape is None else shape.type_name)
    if kind == "list":
        return [_xml_value(_element(shape), child) for child in node]
    if kind == "structure":
        members = _wire_members(shape)
        return {_tag(c): _xml_value(members.get(_tag(c)), c) for c in node if _tag(c) != "ResponseMetadata"}
    return _scalar(shape, (node.text or "").strip())


def _tag(node: ET.Element) -> str:
    return node.tag.rsplit("}", 1)[-1]


def _parse_xml(body: bytes) -> ET.Element | None:
    try:
        return ET.fromstring(body)
    except ET.ParseError:
        return None


# --- EC2 ------------------------------------------------------------------------------------------------


def _ec2_parameters(request: Request, operation: Operation) -> Json:
    form = {key: first(values) for key, values in request.form.items()}
    shape = None if operation.model is None else operation.model.input_shape
    if is_wrapped_ec2(operation.name):
        body = _wrapped(shape, form, "") if shape is not None else {}
        return {f"{operation.name}Request": body or ""}
    plain = _old_ec2_structure(shape, form, "") if shape is not None else {}
    return _finish_old_ec2(operation.name, plain)


def _ec2_wire_name(name: str, member: Shape) -> str:
    query_name = member.serialization.get("queryName")
    if query_name:
        return str(query_name)
    wire = str(member.serialization.get("name", name))
    return wire[:1].upper() + wire[1:]


def _old_ec2_structure(shape: Shape, form: Mapping[str, str], prefix: str) -> Json:
    out: Json = {}
    for name, member in _members(shape).items():
        wire = _ec2_wire_name(name, member)
        path = f"{prefix}.{wire}" if prefix else wire
        if not _has(form, path) or name == "DryRun":
            continue
        if name == "TagSpecifications":
            out["tagSpecificationSet"] = {"items": _tag_specifications(form, path)}
        elif member.type_name == "list":
            key, items = _old_ec2_list(name, wire, member, form, path)
            out[key] = items
        elif member.type_name == "structure":
            out[lower_first(wire)] = _old_ec2_structure(member, form, path)
        elif _is_sensitive(member) or name == "UserData":
            out[lower_first(wire)] = _REMOVED
        else:
            out[lower_first(wire)] = _scalar(member, form[path])
    return out


def _old_ec2_list(name: str, wire: str, shape: Shape, form: Mapping[str, str], path: str) -> tuple[str, Json]:
    element = _element(shape)
    key, scalar_key = _OLD_EC2_LISTS.get(name, (lower_first(wire), lower_first(wire)))
    if element.type_name == "structure":
        items: list[Any] = _indexed(form, path, lambda at: _old_ec2_structure(element, form, at))
        # `Tags` inside other structures and the permission lists keep their wire names.
        key = key if name in _OLD_EC2_LISTS else lower_first(wire)
    else:
        items = _indexed(form, path, lambda at: {scalar_key: _scalar(element, form[at])})
    return key, {"items": items} if items else {}


def _tag_specifications(form: Mapping[str, str], path: str) -> list[Json]:
    def tags(at: str) -> list[Json]:
        return _indexed(
            form,
            f"{at}.Tag",
            lambda tag: {"key": form.get(tag + ".Key", ""), "value": form.get(tag + ".Value", "")},
        )

    return _indexed(
        form, path, lambda at: {"resourceType": form.get(at + ".ResourceType", ""), "tags": tags(at)}
    )


def _finish_old_ec2(name: str, out: Json) -> Json:
    """The keys that the old operations always carry, and those they call differently."""
    for noun, renamed in _OLD_EC2_RENAMED.items():
        if name.endswith(noun):
            out = {renamed.get(key, key): value for key, value in out.items()}
    finish = _FINISHERS.get(name)
    return out if finish is None else finish(out)


def _permissions(out: Json) -> Json:
    out.setdefault("ipPermissions", {})
    for permission in out["ipPermissions"].get("items", []):
        for key in _PERMISSION_LISTS:
            permission.setdefault(key, {})
    return out


def _network_acl_entry(out: Json) -> Json:
    return {"icmpTypeCode": {}, "portRange": {}, **out}


def _create_volume(out: Json) -> Json:
    return {**out, "size": str(out["size"])} if "size" in out else out


def _share(out: Json, identifier: str, permission: str, attribute: str) -> Json:
    """Both ways of sharing (the permission structure, or an operation type with lists) log the same."""
    changes: Json = out.get(permission, {})
    if "operationType" in out:
        people = out.get("userId", {}).get("items", [])
        groups = [{"group": g["userGroup"]} for g in out.get("userGroup", {}).get("items", [])]
        changes = {out["operationType"]: {"items": [*people, *groups]}}
    shared: Json = {identifier: out.get(identifier)}
    if changes:
        shared |= {permission: changes, "attributeType": attribute}
    shared |= {
        key: value
        for key, value in out.items()
        if key not in {identifier, permission, "operationType", "attribute", "userId", "userGroup"}
    }
    return shared


def _run_instances(out: Json) -> Json:
    launched = {key: out.pop(key) for key in ("imageId", "minCount", "maxCount", "keyName") if key in out}
    return {
        "instancesSet": {"items": [launched]},
        "blockDeviceMapping": {},
        "monitoring": {"enabled": False},
        "disableApiTermination": False,
        "disableApiStop": False,
        **out,
    }


_FINISHERS: Final[Mapping[str, Callable[[Json], Json]]] = {
    "AuthorizeSecurityGroupIngress": _permissions,
    "AuthorizeSecurityGroupEgress": _permissions,
    "RevokeSecurityGroupIngress": _permissions,
    "RevokeSecurityGroupEgress": _permissions,
    "CreateNetworkAclEntry": _network_acl_entry,
    "ReplaceNetworkAclEntry": _network_acl_entry,
    "CreateVolume": _create_volume,
    "DeleteVolume": lambda out: {**out, "reportVolumeFailure": False},
    "ModifySnapshotAttribute": lambda out: _share(
        out, "snapshotId", "createVolumePermission", "CREATE_VOLUME_PERMISSION"
    ),
    "ModifyImageAttribute": lambda out: _share(out, "imageId", "launchPermission", "launchPermission"),
    "RunInstances": _run_instances,
}


def _wrapped(shape: Shape, form: Mapping[str, str], prefix: str) -> Json:
    out: Json = {}
    for name, member in _members(shape).items():
        wire = _ec2_wire_name(name, member)
        path = f"{prefix}.{wire}" if prefix else wire
        if not _has(form, path) or name == "DryRun":
            continue
        if member.type_name == "list":
            out[wire] = _tagged(_element(member), form, path)
        elif member.type_name == "structure":
            out[wire] = _wrapped(member, form, path)
        else:
            out[wire] = _REMOVED if _is_sensitive(member) else _scalar(member, form[path])
    return out


def _tagged(element: Any, form: Mapping[str, str], path: str) -> Any:
    def one(at: str) -> Json:
        index = int(at.rsplit(".", 1)[-1])
        if element.type_name == "structure":
            return {**_wrapped(element, form, at), "tag": index}
        return {"content": _scalar(element, form[at]), "tag": index}

    found = _indexed(form, path, one)
    return found[0] if len(found) == 1 else found


def _ec2_elements(response: Response, operation: Operation) -> Json | None:
    root = _parse_xml(response.body)
    if root is None:
        return None
    shape = None if operation.model is None else operation.model.output_shape
    if is_wrapped_ec2(operation.name):
        inner = _wrapped_element(shape, root)
        body: Json = inner if isinstance(inner, dict) else {}
        return {f"{operation.name}Response": {"xmlns": _EC2_NAMESPACE, **body}}
    value: Any = _old_element(shape, root)
    out: Json = {"requestId": "", **(value if isinstance(value, dict) else {})}
    if "return" in out:
        out["_return"] = out.pop("return")
    elif operation.name in _RETURNING or not _members(shape):
        out["_return"] = True
    return out


def _old_element(shape: Shape | None, node: ET.Element) -> Any:
    if (shape is not None and shape.type_name == "list") or any(_tag(c) == "item" for c in node):
        items = [_old_element(_element(shape), child) for child in node]
        return {"items": items} if items else {}
    if len(node) or (shape is not None and shape.type_name == "structure"):
        members = _wire_members(shape)
        return {_tag(child): _old_element(members.get(_tag(child)), child) for child in node}
    return _ec2_scalar(shape, _tag(node), (node.text or "").strip())


def _ec2_scalar(shape: Shape | None, tag: str, text: str) -> Any:
    if tag == "keyMaterial" or _is_sensitive(shape):
        return _REMOVED
    if tag == "size":
        return text
    if tag == "return":
        return text == "true"
    if shape is not None and shape.type_name == "timestamp" and text:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    return _scalar(shape, text)


def _wrapped_element(shape: Shape | None, node: ET.Element) -> Any:
    members = _wire_members(shape)
    if not len(node):
        return _REMOVED if _is_sensitive(shape) else _scalar(shape, (node.text or "").strip())
    out: Json = {}
    for child in node:
        tag = _tag(child)
        inner = _element(shape) if tag == "item" else members.get(tag)
        value = _wrapped_element(inner, child)
        if tag not in out:
            out[tag] = value
        elif isinstance(out[tag], list):
            out[tag].append(value)
        else:
            out[tag] = [out[tag], value]
    return out


# --- S3 -------------------------------------------------------------------------------------------------


def _s3_parameters(request: Request, operation: Operation) -> Json:
    bucket = operation.uri.get("Bucket", "")
    out: Json = {"bucketName": bucket} if bucket else {}
    if "Key" in operation.uri:
        out["key"] = operation.uri["Key"]
    region = _signed_region(request.headers)
    out["Host"] = f"{bucket}.s3.{region}.amazonaws.com" if bucket else f"s3.{region}.amazonaws.com"
    out |= {key: first(values) for key, values in request.query.items() if not first(values)}
    out |= {
        key: value
        for key, value in request.headers.items()
        if key == "x-amz-acl"
        or key.startswith(("x-amz-grant-", "x-amz-object-ownership", "x-amz-bucket-object"))
    }
    body = request.body.strip()
    if body.startswith(b"{"):
        policy = _load_json(body)
        out["bucketPolicy"] = policy if policy is not None else body.decode("utf-8", "replace")
    elif body.startswith(b"<"):
        root = _parse_xml(body)
        if root is not None:
            value = _s3_value(root)
            fields: Json = value if isinstance(value, dict) else {}
            out[_tag(root)] = {"xmlns": "http://s3.amazonaws.com/doc/2006-03-01/", **fields}
    return out


def _s3_value(node: ET.Element) -> Any:
    attributes = {key.replace(_XSI, "xsi:"): value for key, value in node.attrib.items()}
    if "xsi:type" in attributes:
        attributes["xmlns:xsi"] = _XSI.strip("{}")
    if not len(node):
        text = (node.text or "").strip()
        return {"true": True, "false": False}.get(text.lower(), text)
    out: Json = dict(attributes)
    for child in node:
        tag, value = _tag(child), _s3_value(child)
        if tag not in out:
            out[tag] = value
        elif isinstance(out[tag], list):
            out[tag].append(value)
        else:
            out[tag] = [out[tag], value]
    return out


def _signed_region(headers: Mapping[str, str]) -> str:
    match = re.search(r"Credential=[^/]+/\d+/([^/]+)/", headers.get("authorization", ""))
    return match[1] if match else "us-east-1"
