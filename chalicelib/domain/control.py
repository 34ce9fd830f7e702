"""One catalog entry: a condition that should hold, where it comes from, and the most that may be done about it."""

from enum import StrEnum
from types import MappingProxyType
from typing import Self

from pydantic import Field, JsonValue, model_validator

from chalicelib.domain.contract import Mode
from chalicelib.domain.finding import Model, Severity


class Status(StrEnum):
    """A control's life: a draft may only observe, a trial may at most ask; retired entries stay for old cases."""

    DRAFT = "draft"
    TRIAL = "trial"
    STABLE = "stable"
    RETIRED = "retired"


_MOST = MappingProxyType(
    {
        Status.DRAFT: Mode.OBSERVE,
        Status.TRIAL: Mode.ASK,
        Status.STABLE: Mode.ACT,
        Status.RETIRED: Mode.OBSERVE,
    }
)


CIS = "cis_aws_foundations_"
"""How the catalog calls the CIS AWS Foundations Benchmark; its version follows, with `_` for `.`."""

_FRAMEWORKS = MappingProxyType(
    {
        "soc2_tsc": "SOC 2",
        "iso27001_2022_annex_a": "ISO 27001",
        "nist_800_53_r5": "NIST 800-53",
        "pci_dss_4_0_1": "PCI DSS 4.0.1",
        "aws_fsbp": "AWS FSBP",
        "scf": "SCF",
    }
)


def framework_name(key: str) -> str:
    """What people call a framework of the catalog: one name on cards, in mails, on the console and in the docs."""
    if key.startswith(CIS):
        return f"CIS {key.removeprefix(CIS).replace('_', '.')}"
    return _FRAMEWORKS.get(key, key)


class EventRule(Model):
    """CloudTrail events that may break the control.

    `source` is CloudTrail's eventSource, `names` its eventNames, `target` a JMESPath into the detail that yields the
    resource's id (absent for an account's own setting), `when` the name of a pure predicate in `flow/classify.py`.
    """

    source: str
    names: tuple[str, ...]
    target: str | None = None
    when: str | None = None


class EdgeCase(Model):
    """A case that trips the naive: what it is, and the test that exercises it, or `not exercised` with the reason."""

    says: str
    test: str


class Control(Model):
    """A catalog entry. The title states the compliant condition; `ceiling` is the most that any account may set.

    `security_hub` holds consolidated and legacy control ids (`EC2.13`, `PCI.EC2.5`; CIS numbers stand in `frameworks`),
    `config_rules` identifiers of managed rules and `config_rule_names` the names that AWS gives rules made of them,
    `guardduty` finding types, `access_analyzer` the resource types whose public access is this control's matter.
    With `regional = false` the resource has no Region (IAM), or is the account as a whole.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    version: str
    title: str = Field(max_length=150)
    severity: Severity
    resource: str
    status: Status
    ceiling: Mode
    why: str
    false_positives: tuple[str, ...]
    frameworks: dict[str, tuple[str, ...]]
    security_hub: tuple[str, ...] = ()
    config_rules: tuple[str, ...] = ()
    config_rule_names: tuple[str, ...] = ()
    guardduty: tuple[str, ...] = ()
    access_analyzer: tuple[str, ...] = ()
    prowler: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    events: tuple[EventRule, ...] = ()
    edge_cases: tuple[EdgeCase, ...] = ()
    time_based: bool = False
    regional: bool = True
    wait_after_create_minutes: int = Field(default=10, ge=0)

    @model_validator(mode="after")
    def _stable_needs_false_positives(self) -> Self:
        if self.status is Status.STABLE and not self.false_positives:
            message = "a stable control names its false positives"
            raise ValueError(message)
        return self

    @property
    def most(self) -> Mode:
        """The highest mode that an account may set: the ceiling, capped by the control's status."""
        return min(self.ceiling, _MOST[self.status])
