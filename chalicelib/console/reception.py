"""The reception: brings each request to the room that answers it. The pages, Slack's counter, the ticket systems' bell."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chalicelib.console import hooks, render, slack
from chalicelib.console.addresses import PRESSES
from chalicelib.console.desk import Desk
from chalicelib.console.hooks import Heard
from chalicelib.console.pages import door
from chalicelib.console.slack import Counter
from chalicelib.console.web import Reply, Request
from chalicelib.domain.errors import StoreError


@dataclass(frozen=True)
class Console:
    """All that the console needs: the pages' desk, Slack's counter, and who hears of tickets that moved elsewhere."""

    desk: Desk
    counter: Counter
    hook_secrets: Callable[[str], Iterable[str]]
    heard: Callable[[Heard], None]

    def reply(self, request: Request) -> Reply:
        """What the request deserves, whichever way it came."""
        if request.path == PRESSES:
            return slack.interaction(request, self.counter)
        before, _, name = request.path.rpartition("/")
        if before == "/hooks":
            return self._hooked(name, request)
        return door.reply(self.desk, request)

    def _hooked(self, name: str, request: Request) -> Reply:
        try:
            setting = self.desk.store.policy()
            known = setting.policy.integrations if setting else ()
            integration = next((one for one in known if one.name == name), None)
            secrets = self.hook_secrets(name) if integration else ()
            return hooks.hook(request, integration, secrets, self.desk.clock.now(), self.heard)
        except StoreError:
            return render.plain(503, "Not now; send it again.")
