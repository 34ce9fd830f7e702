"""Reading JSON whose shape nobody promised: what is not of the expected kind is empty, never an exception."""

from collections.abc import Mapping
from typing import Any, TypeGuard

LONGEST = 1024
"""Characters kept of any one name that is taken from an event; honest ones are shorter."""


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """True for a JSON object."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[list[Any]]:
    """True for a JSON array."""
    return isinstance(value, list)


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if is_mapping(value) else {}


def sequence(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if is_sequence(value) else []


def text(value: object) -> str | None:
    """A non-empty string, cut to the length that names have; anything else is None."""
    return value[:LONGEST] if isinstance(value, str) and value else None


def string(found: Mapping[str, Any], key: str) -> str:
    """The string under that key, whole; empty where there is none."""
    value = found.get(key)
    return value if isinstance(value, str) else ""


def items(value: object) -> list[Mapping[str, Any]]:
    """The members of a CloudTrail list: `{"items": [...]}`, a bare array, or one object in the array's place."""
    inner = mapping(value)
    if "items" in inner:
        value = inner["items"]
    elif inner:
        value = [inner]
    return [item for item in sequence(value) if is_mapping(item)]
