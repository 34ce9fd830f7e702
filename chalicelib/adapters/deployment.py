"""What the adapters must know of the deployment they serve; `chalicelib.settings.Settings` has all of it."""

from typing import Protocol


class Deployment(Protocol):
    """The names of one deployment. A Protocol, because only bootstrap and cli may read the settings themselves."""

    @property
    def account(self) -> str:
        """The home account."""

    @property
    def region(self) -> str:
        """The home Region, where our own tables and queues are."""

    @property
    def version(self) -> str:
        """The engine's version, as it names itself to AWS."""

    def table(self, name: str, /) -> str:
        """The full name of one of our tables."""

    def role(self, name: str, /) -> str:
        """The full name of one of our roles, the same in every account."""
