"""A setting that says itself where it is kept, so that the store need not know what it is about."""

from typing import ClassVar

from chalicelib.domain.finding import Model


class Kept(Model):
    """What people set that is not read on every walk. `KIND` groups it, `its_name` tells it from others of its kind."""

    KIND: ClassVar[str]

    @property
    def its_name(self) -> str:
        """Empty where there is one of its kind."""
        return ""

    @classmethod
    def key_of(cls, name: str = "") -> str:
        """The key of the one of that name."""
        return f"{cls.KIND}#{name}" if name else cls.KIND
