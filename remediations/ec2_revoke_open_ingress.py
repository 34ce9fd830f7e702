"""No watched port of the security group is open to the whole Internet, and all other traffic passes as before.

Rules are revoked by their ids: those that the event opened if that is enough, else every rule that takes part. A rule
that spans more than the watched ports is first replaced by rules for the rest of them. A rule for all traffic cannot
be narrowed; it goes only if a person agrees to what is lost.

Declined, for a person to see to: a prefix list that opens a port or cannot be read, a group of another account (a
shared VPC), and a rule whose replacements the group has no room for. Rules that refer to security groups are never
touched. Connections that are established when a rule is revoked may live on: EC2 tracks them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue

from chalicelib.domain.contract import (
    NOTHING_TO_DO,
    Call,
    Cause,
    Declined,
    Mode,
    Params,
    Permission,
    Plan,
    Reader,
    Remediation,
    Risk,
    RunRecord,
    State,
    Step,
    command_of,
)
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.hcl import quoted
from chalicelib.domain.ingress import Network, admits_port, covers_world, network, on_the_internet


class WatchedPorts(Params):
    """The ports that nobody may open to the whole Internet."""

    ports: tuple[int, ...]


class Rule(Model):
    """One inbound rule as EC2 tells it. Tags that AWS itself sets are left out: nobody else can set them again."""

    id: str
    protocol: str
    from_port: int | None
    to_port: int | None
    cidr_v4: str | None = None
    cidr_v6: str | None = None
    prefix_list: str | None = None
    group: str | None = None
    description: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> Network | None:
        """The addresses that the rule names itself; None when it refers to a prefix list or a security group."""
        cidr = self.cidr_v4 or self.cidr_v6
        return network(cidr) if cidr else None


class PrefixList(Model):
    """The entries of a prefix list, or None when the account that uses it may not see them."""

    id: str
    cidrs: tuple[str, ...] | None


class Ingress(State):
    """The inbound rules of one group, and the entries of those prefix lists on which a watched port depends.

    `owner` is the account that owns the group, as its rules tell it; None when they do not, or there are none.
    """

    group: str
    owner: str | None
    ports: tuple[int, ...]
    rules: tuple[Rule, ...]
    prefix_lists: tuple[PrefixList, ...] = ()

    @property
    def compliant(self) -> bool:
        """True when no watched port is open to the world, and nothing that could open one is out of sight."""
        return all(prefix_list.cidrs is not None for prefix_list in self.prefix_lists) and not any(
            _is_world(self, _admitting(self, port), version) for port in self.ports for version in _VERSIONS
        )

    def content(self) -> dict[str, JsonValue]:
        """The rules without the ids that EC2 gives anew: what an undo brings back."""
        rules = [rule.model_dump(mode="json", exclude={"id"}) for rule in self.rules]
        return {"rules": [*sorted(rules, key=repr)]}


def assess(target: Target, params: WatchedPorts, aws: Reader) -> Ingress:
    told = aws.pages(
        "ec2",
        "DescribeSecurityGroupRules",
        "SecurityGroupRules",
        Filters=[{"Name": "group-id", "Values": [target.id]}],
    )
    state = _ingress(target.id, params, told)
    lists = tuple(_prefix_list(aws, name) for name in _lists_that_count(state))
    return state.model_copy(update={"prefix_lists": lists})


def plan(target: Target, params: WatchedPorts, state: Ingress, cause: Cause, as_of: datetime) -> Plan:
    if state.compliant:
        return NOTHING_TO_DO
    if state.owner != target.account:
        return Plan(declined=(_of_another_account(state),))

    culprits, lists = _what_opens(state, frozenset(cause.opened))
    declined_lists = tuple(_opened_by_list(state, name, ports) for name, ports in lists.items())
    kept, relied_on, crowded = _replacements(state, culprits)
    revoked = [culprit for culprit in culprits if culprit not in crowded]
    # One revoke for all, so that a run that dies leaves nothing but calls that were planned: with the opened rules gone
    # first, fewer of the others would be to blame.
    at_most: Literal[Mode.ASK, Mode.ACT] = (
        Mode.ACT if all(culprit.may_act(cause) for culprit in revoked) else Mode.ASK
    )
    return Plan(
        calls=(
            *_authorise(state, kept, f"Keep open what else passes besides {_ports(state.ports)}"),
            *_revoke(state, revoked, cause, at_most),
        ),
        declined=(*(_without_room(culprit) for culprit in crowded), *declined_lists),
        depends_on={
            "rules": [_facts(rule) for rule in sorted((*(c.rule for c in revoked), *relied_on), key=_by_id)]
        },
    )


def undo(target: Target, run: RunRecord[Ingress], now: Ingress) -> Plan:
    if now.owner not in {None, target.account}:
        return Plan(declined=(_of_another_account(now),))

    added = _added_by(run)
    lost = _revoked_by(run)
    missing = [rule for rule in lost if not any(_equal(rule, other) for other in now.rules)]
    if not missing and not {rule.id for rule in added}.intersection(rule.id for rule in now.rules):
        return NOTHING_TO_DO
    drifted = (
        *(_drifted(rule, "which the run added") for rule in added if rule not in now.rules),
        *(_drifted(rule, "which is to come back") for rule in missing if _clashes(rule, now.rules)),
    )
    if drifted:
        return Plan(declined=drifted)
    if not _fits(now, missing):
        return Plan(
            declined=(
                Declined(
                    what=f"security group {now.group}",
                    why=f"it has no room for {len(missing)} more rules under {_QUOTA}",
                ),
            )
        )
    return Plan(
        calls=(
            *_authorise(now, missing, "Restore what the run revoked"),
            *_withdraw(now, added),
        ),
        depends_on={"rules": [_facts(rule) for rule in (*missing, *added)]},
    )


# -- where else, whose, and by hand -----------------------------------------------------------------------------------


def survey(place: Target, params: WatchedPorts, aws: Reader) -> tuple[Target, ...]:
    """The groups that open a watched port to the world, or have a prefix list on it, which only assess looks into.

    EC2 is asked for every rule of the Region: it has no filter for ports or sources that would miss nothing.
    """
    told: dict[str, list[dict[str, Any]]] = {}
    for item in aws.pages("ec2", "DescribeSecurityGroupRules", "SecurityGroupRules", MaxResults=_PAGE):
        told.setdefault(item["GroupId"], []).append(item)
    states = (_ingress(group, params, told[group]) for group in sorted(told))
    return tuple(
        Target(account=place.account, region=place.region, type="AWS::EC2::SecurityGroup", id=state.group)
        for state in states
        if _lists_that_count(state) or not state.compliant
    )


def tags(target: Target, aws: Reader) -> Mapping[str, str]:
    (group,) = aws.read("ec2", "DescribeSecurityGroups", GroupIds=[target.id])["SecurityGroups"]
    return {tag["Key"]: tag["Value"] for tag in group.get("Tags", [])}


def by_hand(target: Target, state: Ingress) -> tuple[Step, ...]:
    if state.owner != target.account:
        owner = f"account {state.owner}" if state.owner else "whoever owns it, whom EC2 does not name,"
        return (
            Step(
                console=f"Ask {owner} to change the rules of security group {state.group}: only there can it be."
            ),
        )

    culprits, lists = _what_opens(state, frozenset())
    crowded = _replacements(state, culprits)[2]
    edit = f"VPC ({target.region}) > Security groups > {state.group} > Inbound rules > Edit inbound rules"
    return (
        Step(
            console=f"{edit}: see which rules admit {_ports(state.ports)}, and find out who needs it from where.",
            command=_command(
                target,
                "DescribeSecurityGroupRules",
                {"Filters": [{"Name": "group-id", "Values": [state.group]}]},
            ),
        ),
        *(
            Step(
                console=f"{edit}: {_closed_by_hand(culprit, culprit in crowded)}.",
                command=_revoked_by_hand(target, state, [culprit.rule.id]),
            )
            for culprit in culprits
        ),
        *(step for name, ports in lists.items() for step in _list_by_hand(target, state, name, ports)),
    )


def as_code(target: Target, state: Ingress) -> str:
    culprits, lists = _what_opens(state, frozenset())
    kept = _replacements(state, culprits)[0]
    return "\n".join(
        (
            "# Inbound rules whose source is neither the Internet nor a prefix list that opens a port to it.",
            *(f"# Take out {culprit.rule.id}: {_words(culprit.rule)}." for culprit in culprits),
            *(f"# Take out what refers to {name}, or narrow that list." for name in lists),
            'variable "known_sources" {',
            "  type        = set(string)",
            '  description = "IPv4 ranges that need the watched ports"',
            "}",
            *(_in_hcl(state.group, f"port_{port}", _known(port)) for port in state.ports),
            *(_in_hcl(state.group, f"kept_{place}", _kept(rule)) for place, rule in enumerate(kept, 1)),
            "",
        )
    )


# -- what opens a port ------------------------------------------------------------------------------------------------

_VERSIONS = (4, 6)
_EVERY_PORT = (0, 65535)
_TCP = frozenset({"tcp", "6"})
_UDP = frozenset({"udp", "17"})
_ALL = frozenset({"-1", "all"})


@dataclass(frozen=True)
class _Culprit:
    """A rule that takes part in opening `ports` to the world."""

    rule: Rule
    ports: tuple[int, ...]

    @property
    def for_one_port(self) -> bool:
        """True when the rule admits a single port and that port is watched: nothing else passes through it."""
        return not _for_all_traffic(self.rule) and _span(self.rule) == (self.ports[0], self.ports[0])

    @property
    def spans(self) -> bool:
        """True when the rule can be narrowed to the ports that nobody watches."""
        return not self.for_one_port and not _for_all_traffic(self.rule)

    def may_act(self, cause: Cause) -> bool:
        """True for what the event itself opened, through a rule that lets nothing else pass."""
        return self.for_one_port and self.rule.protocol in _TCP and self.rule.id in cause.opened

    def remainder(self) -> tuple[Rule, ...]:
        """The rules that let pass what this one does, but for its watched ports."""
        start, last = _span(self.rule)
        ranges: list[tuple[int, int]] = []
        for port in self.ports:
            ranges.append((start, port - 1))
            start = port + 1
        ranges.append((start, last))
        return tuple(
            self.rule.model_copy(update={"id": "", "from_port": low, "to_port": high})
            for low, high in ranges
            if low <= high
        )


def _what_opens(
    state: Ingress, opened: frozenset[str]
) -> tuple[tuple[_Culprit, ...], dict[str, tuple[int, ...]]]:
    """The rules to blame, port by port and family by family: those that the event opened if without them it is closed.

    With them, the prefix lists that keep a port open, or may, and those ports.
    """
    everything = frozenset(rule.id for rule in state.rules)
    ports: dict[str, set[int]] = {}
    lists = {
        prefix_list.id: set(state.ports) for prefix_list in state.prefix_lists if prefix_list.cidrs is None
    }
    for port in state.ports:
        for version in _VERSIONS:
            blamed, rest = _closing(state, port, version, opened)
            if _is_world(state, rest, version):
                blamed, rest = _closing(state, port, version, everything)
            for rule in blamed:
                ports.setdefault(rule.id, set()).add(port)
            if _is_world(state, rest, version):
                for rule in _widest(state, rest, version):
                    lists.setdefault(str(rule.prefix_list), set()).add(port)
    culprits = (_Culprit(rule, tuple(sorted(ports[rule.id]))) for rule in state.rules if rule.id in ports)
    return tuple(culprits), {name: tuple(sorted(lists[name])) for name in sorted(lists)}


def _closing(state: Ingress, port: int, version: int, among: frozenset[str]) -> tuple[list[Rule], list[Rule]]:
    """The rules of `among` without which the port is closed to the world, and those that then still admit it.

    The widest sources go first. What is left may still be the world, when the rest of it is not in `among`.
    """
    blamed: list[Rule] = []
    rest = _admitting(state, port)
    while _is_world(state, rest, version):
        widest = [rule for rule in _widest(state, rest, version) if rule.id in among and rule.source]
        if not widest:
            break
        blamed += widest
        rest = [rule for rule in rest if rule not in widest]
    return blamed, rest


def _widest(state: Ingress, rules: Sequence[Rule], version: int) -> list[Rule]:
    """The rules with a source on the Internet that no wider one among them contains."""
    every = {net for rule in rules for net in _sources(state, rule, version)}
    lengths = {net.prefixlen for net in every}
    widest = {
        net
        for net in every
        if on_the_internet(net)
        and not any(net.supernet(new_prefix=length) in every for length in lengths if length < net.prefixlen)
    }
    return [rule for rule in rules if widest.intersection(_sources(state, rule, version))]


def _is_world(state: Ingress, rules: Iterable[Rule], version: int) -> bool:
    return covers_world(net for rule in rules for net in _sources(state, rule, version))


def _sources(state: Ingress, rule: Rule, version: int) -> list[Network]:
    """The networks of one family that a rule admits: its own, or those of its prefix list as far as they are seen."""
    listed = next((one.cidrs for one in state.prefix_lists if one.id == rule.prefix_list), None) or ()
    nets = [rule.source] if rule.source else [network(cidr) for cidr in listed]
    return [net for net in nets if net.version == version]


def _admitting(state: Ingress, port: int) -> list[Rule]:
    return [rule for rule in state.rules if _admits(rule, port)]


def _admits(rule: Rule, port: int) -> bool:
    return admits_port(rule.protocol, rule.from_port, rule.to_port, port)


def _for_all_traffic(rule: Rule) -> bool:
    return rule.protocol in _ALL


def _span(rule: Rule) -> tuple[int, int]:
    """First and last port; a rule that names none, or -1, is for every port."""
    if rule.from_port is None or rule.to_port is None or rule.from_port == -1:
        return _EVERY_PORT
    return rule.from_port, rule.to_port


# -- what keeps the other ports open ----------------------------------------------------------------------------------

_ROOM = 60
_QUOTA = f"the default quota of {_ROOM} inbound rules"


def _replacements(
    state: Ingress, culprits: Sequence[_Culprit]
) -> tuple[list[Rule], list[Rule], list[_Culprit]]:
    """The rules to add before the culprits go, the present ones that make others needless, and whom there is no room for.

    The widest culprit comes first, so that what replaces it serves the narrower ones of the same source as well.
    """
    going = {culprit.rule.id for culprit in culprits}
    staying = [rule for rule in state.rules if rule.id not in going]
    kept: list[Rule] = []
    relied_on: list[Rule] = []
    crowded: list[_Culprit] = []
    for culprit in sorted((one for one in culprits if one.spans), key=_widest_span_first):
        stand_ins = {
            piece: next((rule for rule in (*staying, *kept) if _serves(rule, piece)), None)
            for piece in culprit.remainder()
        }
        needed = [piece for piece, stand_in in stand_ins.items() if stand_in is None]
        if _fits(state, (*kept, *needed)):
            kept += needed
            relied_on += [rule for rule in staying if rule in stand_ins.values() and rule not in relied_on]
        else:
            crowded.append(culprit)
    return kept, relied_on, crowded


def _widest_span_first(culprit: _Culprit) -> tuple[int, str]:
    low, high = _span(culprit.rule)
    return low - high, culprit.rule.id


def _serves(rule: Rule, piece: Rule) -> bool:
    """True when `rule` lets pass all that `piece` would: the same source, its protocol, at least its ports."""
    low, high = _span(piece)
    first, last = _span(rule)
    if rule.source != piece.source:
        return False
    return _for_all_traffic(rule) or (_protocol(rule) == _protocol(piece) and first <= low and high <= last)


def _fits(state: Ingress, added: Sequence[Rule]) -> bool:
    """True when the group has room for these rules beside its own. EC2 counts IPv4 and IPv6 apart."""
    return all(
        not (more := sum(rule.source is not None and rule.source.version == version for rule in added))
        or sum(_weight(state, rule, version) for rule in state.rules) + more <= _ROOM
        for version in _VERSIONS
    )


def _weight(state: Ingress, rule: Rule, version: int) -> int:
    """What a rule counts against the quota: a prefix list at least its entries, a group once in either family."""
    if rule.source:
        return int(rule.source.version == version)
    return max(1, len(_sources(state, rule, version)))


# -- the calls --------------------------------------------------------------------------------------------------------

_WHY_AT_MOST = 440
_PORTS_NAMED = 8


def _revoke(
    state: Ingress, culprits: Sequence[_Culprit], cause: Cause, at_most: Literal[Mode.ASK, Mode.ACT]
) -> tuple[Call, ...]:
    """One call for all of them, by rule id: in a default VPC a revoke by properties that match nothing succeeds."""
    if not culprits:
        return ()
    said = sorted(culprits, key=lambda culprit: (not _for_all_traffic(culprit.rule), not culprit.spans))
    ports = sorted({port for culprit in culprits for port in culprit.ports})
    return (
        Call(
            service="ec2",
            operation="RevokeSecurityGroupIngress",
            params={
                "GroupId": state.group,
                "SecurityGroupRuleIds": [culprit.rule.id for culprit in culprits],
            },
            why=_sentence(
                f"Close {_ports(ports)} to the Internet: revoke", [_loss(culprit, cause) for culprit in said]
            ),
            at_most=at_most,
        ),
    )


def _loss(culprit: _Culprit, cause: Cause) -> str:
    """What goes with a rule, in words made only of what EC2 itself wrote."""
    origin = ", which the event opened" if culprit.rule.id in cause.opened else ""
    if _for_all_traffic(culprit.rule):
        lost = "every other port and protocol from there is lost with it, for such a rule cannot be narrowed"
        return f"{_words(culprit.rule)}{origin} ({lost})"
    if culprit.spans:
        return f"{_words(culprit.rule)}{origin} (its other ports are kept open)"
    return f"{_words(culprit.rule)}{origin}"


def _authorise(state: Ingress, rules: Sequence[Rule], purpose: str) -> tuple[Call, ...]:
    """One call per set of tags, because a call gives the same tags to all that it adds."""
    calls: list[Call] = []
    for tags in dict.fromkeys(rule.tags for rule in rules):
        alike = [rule for rule in rules if rule.tags == tags]
        params: dict[str, JsonValue] = {
            "GroupId": state.group,
            "IpPermissions": [_permission(rule) for rule in alike],
        }
        calls.append(
            Call(
                service="ec2",
                operation="AuthorizeSecurityGroupIngress",
                params={**params, **_tag_specifications(tags)},
                why=_sentence(f"{purpose}: add", [_words(rule) for rule in alike]),
                at_most=Mode.ASK,
            )
        )
    return tuple(calls)


def _permission(rule: Rule) -> JsonValue:
    described: dict[str, JsonValue] = (
        {"Description": rule.description} if rule.description is not None else {}
    )
    permission: dict[str, JsonValue] = {"IpProtocol": rule.protocol}
    if not _for_all_traffic(rule) and rule.from_port is not None:
        permission |= {"FromPort": rule.from_port, "ToPort": rule.to_port}
    if rule.cidr_v4:
        return {**permission, "IpRanges": [{"CidrIp": rule.cidr_v4, **described}]}
    return {**permission, "Ipv6Ranges": [{"CidrIpv6": rule.cidr_v6, **described}]}


def _tag_specifications(tags: tuple[tuple[str, str], ...]) -> dict[str, JsonValue]:
    if not tags:
        return {}
    listed: list[JsonValue] = [{"Key": key, "Value": value} for key, value in tags]
    return {"TagSpecifications": [{"ResourceType": "security-group-rule", "Tags": listed}]}


def _sentence(opening: str, phrases: Sequence[str]) -> str:
    """`opening` and as many phrases as a reader is asked to take in, with the number of those left out."""
    said = opening
    for place, phrase in enumerate(phrases):
        if len(said) + len(phrase) > _WHY_AT_MOST:
            return f"{said}; and {len(phrases) - place} more."
        said += f"{';' if place else ''} {phrase}"
    return f"{said}."


def _words(rule: Rule) -> str:
    if _for_all_traffic(rule):
        return f"all traffic from {rule.source}"
    low, high = _span(rule)
    return f"{_protocol(rule)} {low if low == high else f'{low}-{high}'} from {rule.source}"


def _protocol(rule: Rule) -> str:
    return "tcp" if rule.protocol in _TCP else "udp" if rule.protocol in _UDP else rule.protocol


def _ports(ports: Sequence[int]) -> str:
    if len(ports) > _PORTS_NAMED:
        return f"{len(ports)} watched ports"
    return f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))}"


def _facts(rule: Rule) -> JsonValue:
    return [rule.id, rule.protocol, rule.from_port, rule.to_port, rule.cidr_v4 or rule.cidr_v6]


# -- what is declined -------------------------------------------------------------------------------------------------


def _of_another_account(state: Ingress) -> Declined:
    return Declined(
        what=f"security group {state.group}",
        why=f"account {state.owner} owns it and shares its VPC; only there can the rules be changed",
    )


def _opened_by_list(state: Ingress, name: str, ports: Sequence[int]) -> Declined:
    unseen = any(one.id == name and one.cidrs is None for one in state.prefix_lists)
    admits = "cannot be read, so it may open" if unseen else "opens"
    return Declined(
        what=f"prefix list {name}",
        why=f"it {admits} {_ports(ports)} to the Internet; its owner changes it, or the group stops using it",
    )


def _without_room(culprit: _Culprit) -> Declined:
    return Declined(
        what=f"rule {culprit.rule.id}",
        why=f"the rules that would keep its other ports open do not fit under {_QUOTA}; split it by hand",
    )


def _drifted(rule: Rule, which: str) -> Declined:
    return Declined(
        what=f"{_words(rule)}, {which}",
        why="it is not as the run left it, so somebody has changed the group since",
    )


# -- what a person does, in the console, on the command line and in Terraform -----------------------------------------


def _closed_by_hand(culprit: _Culprit, without_room: bool) -> str:  # noqa: FBT001 -- one caller, which names it
    rule = f"{culprit.rule.id} ({_words(culprit.rule)})"
    if _for_all_traffic(culprit.rule):
        return f"add rules for the ports that are needed, from sources that you know, and only then delete {rule}"
    if without_room:
        return (
            f"make room under {_QUOTA} (Service Quotas > Amazon VPC raises it), add rules for the other ports of {rule},"
            " and only then delete it"
        )
    if culprit.spans:
        return f"add rules for the other ports of {rule}, and only then delete it"
    return f"give {rule} a source that you know, or delete it"


def _list_by_hand(target: Target, state: Ingress, name: str, ports: Sequence[int]) -> Iterable[Step]:
    """Two ways: the list is narrowed by its owner, or the group stops using it."""
    rules = [
        rule.id
        for rule in state.rules
        if rule.prefix_list == name and any(_admits(rule, port) for port in ports)
    ]
    yield Step(
        console=f"VPC ({target.region}) > Managed prefix lists > {name} > Entries: if the list is yours, and nobody else"
        " needs them, remove the entries that make up the Internet.",
        command=_command(target, "GetManagedPrefixListEntries", {"PrefixListId": name}),
    )
    yield Step(
        console=f"Otherwise VPC ({target.region}) > Security groups > {state.group} > Inbound rules > Edit inbound rules:"
        f" add rules for the sources that you know, and only then delete the rules for {_ports(ports)} from {name}.",
        command=_revoked_by_hand(target, state, rules),
    )


def _revoked_by_hand(target: Target, state: Ingress, rules: Sequence[str]) -> str:
    named: dict[str, JsonValue] = {"GroupId": state.group, "SecurityGroupRuleIds": [*rules]}
    return _command(target, "RevokeSecurityGroupIngress", named)


def _command(target: Target, operation: str, params: dict[str, JsonValue]) -> str:
    return command_of(Call(service="ec2", operation=operation, params=params, why="By hand."), target)


def _known(port: int) -> tuple[tuple[str, str], ...]:
    return (
        ("for_each", "var.known_sources"),
        ("cidr_ipv4", "each.value"),
        ("ip_protocol", quoted("tcp")),
        ("from_port", f"{port}"),
        ("to_port", f"{port}"),
    )


def _kept(rule: Rule) -> tuple[tuple[str, str], ...]:
    """A rule that keeps other ports open, with the description and the tags that somebody gave it."""
    low, high = _span(rule)
    return (
        ("cidr_ipv4", quoted(rule.cidr_v4)) if rule.cidr_v4 else ("cidr_ipv6", quoted(f"{rule.cidr_v6}")),
        ("ip_protocol", quoted(_protocol(rule))),
        ("from_port", f"{low}"),
        ("to_port", f"{high}"),
        *((("description", quoted(rule.description)),) if rule.description else ()),
        *((("tags", _tags_in_hcl(rule.tags)),) if rule.tags else ()),
    )


def _in_hcl(group: str, label: str, given: tuple[tuple[str, str], ...]) -> str:
    """One rule as Terraform's AWS provider has it, laid out as `terraform fmt` does."""
    arguments = (*given[:1], ("security_group_id", quoted(group)), *given[1:])
    width = max(len(name) for name, _ in arguments)
    body = "".join(f"  {name:<{width}} = {value}\n" for name, value in arguments)
    return f'\nresource "aws_vpc_security_group_ingress_rule" "{label}" {{\n{body}}}'


def _tags_in_hcl(tags: tuple[tuple[str, str], ...]) -> str:
    return f"{{ {', '.join(f'{quoted(key)} = {quoted(value)}' for key, value in tags)} }}"


# -- undo -------------------------------------------------------------------------------------------------------------


def _revoked_by(run: RunRecord[Ingress]) -> list[Rule]:
    """The rules that the run was to revoke and that were gone after it."""
    meant = [
        rule_id
        for call in run.plan.calls
        if call.operation == "RevokeSecurityGroupIngress"
        for rule_id in _list(call, "SecurityGroupRuleIds")
    ]
    left = {rule.id for rule in run.after.rules}
    return [rule for rule in run.before.rules if rule.id in meant and rule.id not in left]


def _added_by(run: RunRecord[Ingress]) -> list[Rule]:
    """The rules that the run was to add, and that were there after it and not before."""
    known = {rule.id for rule in run.before.rules}
    meant = [
        (permission, call.params.get("TagSpecifications"))
        for call in run.plan.calls
        if call.operation == "AuthorizeSecurityGroupIngress"
        for permission in _list(call, "IpPermissions")
    ]
    return [
        rule
        for rule in run.after.rules
        if rule.id not in known
        and rule.source
        and (_permission(rule), _tag_specifications(rule.tags).get("TagSpecifications")) in meant
    ]


def _withdraw(now: Ingress, added: Sequence[Rule]) -> tuple[Call, ...]:
    if not added:
        return ()
    return (
        Call(
            service="ec2",
            operation="RevokeSecurityGroupIngress",
            params={"GroupId": now.group, "SecurityGroupRuleIds": [rule.id for rule in added]},
            why=_sentence("Take back what the run added: revoke", [_words(rule) for rule in added]),
            at_most=Mode.ASK,
        ),
    )


def _equal(rule: Rule, other: Rule) -> bool:
    """True when the two differ in nothing but the id."""
    return rule.model_copy(update={"id": other.id}) == other


def _clashes(rule: Rule, rules: Iterable[Rule]) -> bool:
    """True when one of `rules` lets exactly the same pass: EC2 refuses a second, and its description is another's."""
    return any(_serves(other, rule) and _serves(rule, other) for other in rules)


def _list(call: Call, name: str) -> list[JsonValue]:
    value = call.params[name]
    return value if isinstance(value, list) else []


# -- reading ----------------------------------------------------------------------------------------------------------

_UNSEEN = frozenset({"InvalidPrefixListID.NotFound", "InvalidPrefixListId.NotFound"})
"""One code in EC2's two spellings: the list is another account's, which shares it no longer."""


_PAGE = 1000
"""The most that EC2 gives at once."""


def _ingress(group: str, params: WatchedPorts, told: Sequence[dict[str, Any]]) -> Ingress:
    """A group as its rules alone tell it: no prefix list is looked into yet."""
    return Ingress(
        group=group,
        owner=next((item.get("GroupOwnerId") for item in told), None),
        ports=tuple(sorted(params.ports)),
        rules=tuple(sorted((_rule(item) for item in told if not item["IsEgress"]), key=_by_id)),
    )


def _lists_that_count(state: Ingress) -> tuple[str, ...]:
    """The prefix lists on which a watched port depends."""
    return tuple(
        sorted(
            {
                rule.prefix_list
                for rule in state.rules
                if rule.prefix_list and any(_admits(rule, port) for port in state.ports)
            }
        )
    )


def _rule(item: dict[str, Any]) -> Rule:
    """The rule as we compare it: one for all traffic has no ports, whatever number stands in their place."""
    ports = (None, None) if item["IpProtocol"] in _ALL else (item.get("FromPort"), item.get("ToPort"))
    tags = ((tag["Key"], tag["Value"]) for tag in item.get("Tags", []))
    return Rule(
        id=item["SecurityGroupRuleId"],
        protocol=item["IpProtocol"],
        from_port=ports[0],
        to_port=ports[1],
        cidr_v4=item.get("CidrIpv4"),
        cidr_v6=item.get("CidrIpv6"),
        prefix_list=item.get("PrefixListId"),
        group=item.get("ReferencedGroupInfo", {}).get("GroupId"),
        description=item.get("Description"),
        tags=tuple(sorted((key, value) for key, value in tags if not key.startswith("aws:"))),
    )


def _prefix_list(aws: Reader, name: str) -> PrefixList:
    try:
        entries = aws.pages("ec2", "GetManagedPrefixListEntries", "Entries", PrefixListId=name)
    except AwsError as error:
        if error.code not in _UNSEEN:
            raise
        return PrefixList(id=name, cidrs=None)
    return PrefixList(id=name, cidrs=tuple(sorted(entry["Cidr"] for entry in entries)))


def _by_id(rule: Rule) -> str:
    return rule.id


# -- the remediation --------------------------------------------------------------------------------------------------

_GROUP = "arn:{partition}:ec2:{region}:{account}:security-group/{id}"
_RULES = "arn:{partition}:ec2:{region}:{account}:security-group-rule/*"
_WRITES = (
    Permission("ec2:AuthorizeSecurityGroupIngress", _GROUP),
    Permission("ec2:AuthorizeSecurityGroupIngress", _RULES),
    Permission(
        "ec2:CreateTags", _RULES, (("StringEquals", "ec2:CreateAction", "AuthorizeSecurityGroupIngress"),)
    ),
    Permission("ec2:RevokeSecurityGroupIngress", _GROUP),
)

REMEDIATION = Remediation(
    id="ec2_revoke_open_ingress",
    controls=("ec2-open-ssh", "ec2-open-rdp"),
    summary="Revokes the inbound rules that open a watched port to the whole Internet and keeps all others.",
    risk=Risk.MEDIUM,
    reads=(
        Permission("ec2:DescribeSecurityGroupRules"),
        Permission("ec2:DescribeSecurityGroups"),
        # Lists of AWS belong to the account `aws`, shared ones to whoever shares them.
        Permission("ec2:GetManagedPrefixListEntries", "arn:{partition}:ec2:{region}:*:prefix-list/*"),
    ),
    writes=_WRITES,
    undo_writes=_WRITES,
    params=WatchedPorts,
    state=Ingress,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=survey,
    by_hand=by_hand,
    as_code=as_code,
    tags=tags,
    settle_seconds=5,
)
