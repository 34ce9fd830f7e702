"""Classify: which controls a signal may break, on which target. A cheap filter; the assessment decides.

A claim names controls and a resource by itself (`claims`). For an event, a catalog entry says which events concern it, where the target's name stands (JMESPath), and which predicate of this
page must hold. A predicate answers with what the event opened, or with the reason why the event is no violation.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import jmespath

from chalicelib.domain.control import Control, EventRule
from chalicelib.domain.finding import (
    Finding,
    NotOurs,
    Origin,
    Signal,
    Target,
    global_in,
    is_id_of,
    partition_of,
)
from chalicelib.domain.ingress import Network, admits_port, is_broad, network, on_the_internet
from chalicelib.domain.shape import items, mapping, sequence
from chalicelib.flow import claims


class Controls(Protocol):
    """The catalog as far as classification needs it."""

    @property
    def controls(self) -> Sequence[Control]:
        """Every control, in the catalog's order."""
        ...


@dataclass(frozen=True)
class Opened:
    """What the event changed: the ids of the sub-resources that it created itself (may be empty)."""

    ids: tuple[str, ...] = ()


Predicate = Callable[[Mapping[str, Any], Control], Opened | str]


def findings(signal: Signal, catalog: Controls) -> tuple[Finding, ...] | NotOurs:
    """A finding per control and target that the signal may tell of; NotOurs with every reason when there is none."""
    found: dict[tuple[str, Target], Finding] = {}
    reasons: list[str] = []
    for control, judged in (_of_event if signal.origin is Origin.EVENT else _of_claim)(signal, catalog):
        if isinstance(judged, Finding):
            found.setdefault((control.id, judged.target), judged)
        else:
            reasons.append(f"{control.id}: {judged}")
    if found:
        return tuple(found.values())
    return NotOurs(
        event_id=signal.event_id,
        reason="; ".join(reasons) or f"no control listens to {signal.source} {signal.name}",
        account=signal.account,
        region=signal.region,
        name=signal.name,
        sha256=signal.sha256,
    )


def creates(name: str) -> bool:
    """True for the name of an event that makes a resource, which tools often finish in further calls."""
    return name.startswith("Create") or name == "RunInstances"


def _of_event(signal: Signal, catalog: Controls) -> Iterable[tuple[Control, Finding | str]]:
    for control in catalog.controls:
        for rule in control.events:
            if rule.source == signal.source and signal.name in rule.names:
                yield control, _judge(signal, control, rule)


def _of_claim(signal: Signal, catalog: Controls) -> Iterable[tuple[Control, Finding | str]]:
    """A claim never says what was opened: what it tells of may be as old as the account."""
    claim = claims.SOURCES[signal.detail_type].read(signal.detail)
    for control in catalog.controls:
        if claim.names & claims.names_of(control):
            target = claims.target_for(claim, control)
            yield control, target if isinstance(target, str) else _finding(signal, control, target)


def _finding(signal: Signal, control: Control, target: Target, opened: tuple[str, ...] = ()) -> Finding:
    return Finding(
        control=control.id,
        target=target,
        actor=signal.actor,
        event_id=signal.event_id,
        at=signal.at,
        opened=opened,
    )


def _judge(signal: Signal, control: Control, rule: EventRule) -> Finding | str:
    named = jmespath.search(rule.target, signal.detail) if rule.target else signal.account
    if not isinstance(named, str) or not named:
        return "the event does not name the resource"
    if not is_id_of(control.resource, named):
        return f"what the event names is no id of {control.resource}"
    judged = PREDICATES[rule.when](signal.detail, control) if rule.when else Opened()
    if isinstance(judged, str):
        return judged
    region = signal.region if control.regional else global_in(partition_of(signal.region))
    target = Target(account=signal.account, region=region, type=control.resource, id=named)
    return _finding(signal, control, target, judged.ids)


@dataclass(frozen=True)
class _Rule:
    """An ingress rule as an event tells it; what cannot be read is None and counts as the widest."""

    id: str | None
    protocol: str
    from_port: int | None
    to_port: int | None
    sources: tuple[Network, ...]
    prefix_list: bool


def _opens_ingress(detail: Mapping[str, Any], control: Control) -> Opened | str:
    """Some rule of the event lets a watched port in from a source that may be the Internet.

    Only rules that the event created (their ids stand in its answer) may be repaired without a person. A rule edited
    in place is a violation too, but what it admitted before is not in the event.
    """
    ports = [port for port in sequence(control.parameters.get("ports")) if isinstance(port, int)]
    suspects = [
        rule
        for rule in _ingress_rules(detail)
        if any(admits_port(rule.protocol, rule.from_port, rule.to_port, port) for port in ports)
        and (rule.prefix_list or any(is_broad(net) and on_the_internet(net) for net in rule.sources))
    ]
    if not suspects:
        return f"it opens no watched port ({', '.join(map(str, ports))}) to the Internet"
    created = detail.get("eventName") == "AuthorizeSecurityGroupIngress"
    return Opened(tuple(sorted({rule.id for rule in suspects if rule.id and created})))


def _ingress_rules(detail: Mapping[str, Any]) -> Iterable[_Rule]:
    """Every rule that the event writes: from its answer, which is uniform and has the ids, else from its request."""
    request, answer = mapping(detail.get("requestParameters")), mapping(detail.get("responseElements"))
    answered = items(answer.get("securityGroupRuleSet"))
    if answered:
        for item in answered:
            if str(item.get("isEgress")).lower() != "true":
                yield _rule(item, (item.get("cidrIpv4"), item.get("cidrIpv6")), item.get("prefixListId"))
        return
    for item in items(request.get("ipPermissions")):
        cidrs = [part.get("cidrIp") for part in items(item.get("ipRanges"))]
        cidrs += [part.get("cidrIpv6") for part in items(item.get("ipv6Ranges"))]
        yield _rule(item, cidrs, items(item.get("prefixListIds")))
    if request.get("cidrIp"):
        yield _rule(request, (request["cidrIp"],), None)
    modify = mapping(request.get("ModifySecurityGroupRulesRequest"))
    for item in items(modify.get("SecurityGroupRule")):
        inner = {
            str(k)[:1].lower() + str(k)[1:]: v for k, v in mapping(item.get("SecurityGroupRule")).items()
        }
        yield _rule(inner, (inner.get("cidrIpv4"), inner.get("cidrIpv6")), inner.get("prefixListId"))


def _rule(item: Mapping[str, Any], cidrs: Iterable[object], prefix_list: object) -> _Rule:
    rule_id = item.get("securityGroupRuleId")
    return _Rule(
        id=rule_id if isinstance(rule_id, str) else None,
        protocol=_protocol(item.get("ipProtocol")),
        from_port=_port(item.get("fromPort")),
        to_port=_port(item.get("toPort")),
        sources=tuple(_network(cidr) for cidr in cidrs if cidr is not None and cidr != ""),
        prefix_list=bool(prefix_list),
    )


_PROTOCOLS = frozenset({"tcp", "udp", "icmp", "icmpv6"})
"""The names that EC2 knows, in lower case; every other protocol is a number."""

_WORLD = network("0.0.0.0/0")


def _protocol(value: object) -> str:
    """A protocol as EC2 writes it, whatever the caller wrote (TCP, 06); what cannot be read is -1, hence all of them."""
    said = str(value).strip().lower()
    if re.fullmatch(r"0*[0-9]{1,3}", said, re.ASCII):
        return said.lstrip("0") or "0"
    return said if said in _PROTOCOLS else "-1"


def _port(value: object) -> int | None:
    """A port, whether written as a number or as digits; None is unknown, hence every port."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _network(cidr: object) -> Network:
    """The network that `cidr` means, or the world when it cannot be read."""
    try:
        return network(cidr) if isinstance(cidr, str) else _WORLD
    except ValueError:
        return _WORLD


def _switches_off(detail: Mapping[str, Any], control: Control) -> Opened | str:
    """The call itself is the violation: it turned the setting off, so what it opened is the control's own setting."""
    del detail
    return Opened((control.id,))


def _loosens_public_access_block(detail: Mapping[str, Any], control: Control) -> Opened | str:
    """The block is deleted, or written with any of its four switches not on; an absent switch is written as off."""
    del control
    written = mapping(mapping(detail.get("requestParameters")).get("PublicAccessBlockConfiguration"))
    if detail.get("eventName") != "DeleteBucketPublicAccessBlock" and all(
        str(written.get(switch)).lower() == "true" for switch in _PUBLIC_ACCESS_BLOCK
    ):
        return "it blocks all public access, which is a tightening"
    return Opened(("loosened",))


_PUBLIC_ACCESS_BLOCK = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def _creates_bucket(detail: Mapping[str, Any], control: Control) -> Opened | str:
    """Whatever the bucket lacks, it lacks since this call."""
    del detail, control
    return Opened(("created",))


def _by_root_for_itself(detail: Mapping[str, Any], control: Control) -> Opened | str:
    """The account's root made a key and named no user, so that the key is its own; a service that acts for it makes none."""
    del control
    identity = {str(key).lower(): value for key, value in mapping(detail.get("userIdentity")).items()}
    if identity.get("type") != "Root" or identity.get("invokedby"):
        return "it was not the account's root by itself"
    if mapping(detail.get("requestParameters")).get("userName"):
        return "root made the key for a user"
    return Opened()


PREDICATES: Mapping[str, Predicate] = MappingProxyType(
    {
        "by_root_for_itself": _by_root_for_itself,
        "creates_bucket": _creates_bucket,
        "loosens_public_access_block": _loosens_public_access_block,
        "opens_ingress": _opens_ingress,
        "switches_off": _switches_off,
    }
)
"""The predicates that a catalog entry may name in `when`."""
