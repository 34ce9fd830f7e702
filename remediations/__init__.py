"""The remediations, one file each; a file's name is its id, and `discover` is their only registry."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from chalicelib.domain.contract import AnyRemediation, Remediation
from chalicelib.domain.errors import ContractError


def discover() -> tuple[AnyRemediation, ...]:
    """Every remediation beside this file, by id; ContractError when one of them is not what its file promises."""
    return registry(import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


def registry(modules: Iterable[ModuleType]) -> tuple[AnyRemediation, ...]:
    """The remediations of `modules` by id: one per module, named like it, and no control claimed twice."""
    found: dict[str, AnyRemediation] = {}
    claimed: dict[str, str] = {}
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        remediation = getattr(module, "REMEDIATION", None)
        if not isinstance(remediation, Remediation):
            raise ContractError(f"remediations/{name}.py has no REMEDIATION")
        if remediation.id != name:
            raise ContractError(
                f"remediations/{name}.py calls itself {remediation.id}: id and file name are one"
            )
        if name in found:
            raise ContractError(f"{name} is there twice")
        for control in remediation.controls:
            if control in claimed:
                raise ContractError(f"{control} is claimed by {claimed[control]} and by {name}")
            claimed[control] = name
        found[name] = remediation
    return tuple(found[name] for name in sorted(found))
