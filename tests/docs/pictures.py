"""`make pictures`: docs/console.png, taken of the running console in Chromium. Two weeks of an invented firm; no cloud."""

import base64
import sys
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from chalicelib.adapters.told import DynamoTold
from chalicelib.console.pages import door
from chalicelib.console.web import Reply, Request
from chalicelib.domain.figures import Day, Figures, Taken
from chalicelib.domain.finding import Severity
from chalicelib.settings import Settings
from local.front import Front
from tests.conftest import CHROMIUM, ROOT
from tests.console.world import ANNA, MEMBER, OLGA, World, session_of, world
from tests.fakes.aws import DEPLOYMENT

PICTURE = ROOT / "docs" / "console.png"
PHONE, DESK, LOG = (390, 1350), (1000, 876), (1000, 450)
SCALE = 0.8
LARGEST = 200_000
"""Bytes. Whoever opens the page loads it."""

FORTNIGHT = ((3, 1, 0), (5, 0, 1), (4, 1, 0), (0, 0, 0), (1, 0, 0), (6, 2, 1), (4, 1, 0)) * 2
"""How many were repaired, denied and ticketed on each day."""


def furnish(console: World, deployment: Settings) -> str:
    """What a firm has after two weeks; the id of the case that its engineer is asked about."""
    now = console.clock.now()
    days = [
        Day(
            date=now.date() - timedelta(days=13 - back),
            fixed=fixed,
            asked=fixed + denied,
            approved=fixed,
            denied=denied,
            tickets=tickets,
            seconds_to_fix={Severity.HIGH: Taken(count=fixed, seconds=fixed * 160)} if fixed else {},
        )
        for back, (fixed, denied, tickets) in enumerate(FORTNIGHT)
    ]
    began = now - timedelta(days=14)
    DynamoTold(console.client, deployment).keep(
        Figures(days=tuple(days), counted_from=began, counted_until=now, version=1)
    )
    console.fixed()
    console.ticketed()
    console.asked(2, severity=Severity.MEDIUM, account=MEMBER)
    console.clock.advance(timedelta(minutes=40))
    return console.asked(1).id


def shot(browser: Browser, console: World, front: Front, who: str, path: str, size: tuple[int, int]) -> str:
    """That page as that person sees it, as an address that an <img> takes."""
    screen: ViewportSize = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=screen, device_scale_factor=SCALE)
    line = console.sessions(door.site_of(front.url)).cookie_of(session_of(who, console.clock.now()))
    name, _, value = line.partition(";")[0].partition("=")
    context.add_cookies([{"name": name, "value": value, "url": front.origin}])
    page = context.new_page()
    page.goto(f"{front.url}{path}")
    taken = base64.b64encode(page.screenshot()).decode()
    context.close()
    return f"data:image/png;base64,{taken}"


def main() -> int:
    """Take three pictures, put them into one, and say how large that is."""
    if not CHROMIUM.exists():
        sys.stderr.write(f"error: there is no {CHROMIUM}: as root, `make chromium`\n")
        return 1
    with world() as console, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])

        def reply(request: Request) -> Reply:
            return door.reply(console.desk, request)

        with Front(reply) as front:
            console.set_policy({"console_url": front.url})
            asked = furnish(console, DEPLOYMENT)
            phone = shot(browser, console, front, ANNA, f"/cases/{asked}", PHONE)
            desk = shot(browser, console, front, OLGA, "/", DESK)
            log = shot(browser, console, front, OLGA, "/log", LOG)
        wide, high = (round(SCALE * one) for one in (PHONE[0] + DESK[0] + 72, PHONE[1] + 48))
        page = browser.new_page(viewport={"width": wide, "height": high})
        page.set_content(
            "<style>body,div{margin:0;padding:19px;display:flex;gap:19px;align-items:start;background:#dde3e9}"
            "div{padding:0;flex-direction:column}img{border-radius:8px}</style>"
            f'<img src="{phone}"><div><img src="{desk}"><img src="{log}"></div>'
        )
        page.wait_for_function("[...document.images].every(one => one.complete)")
        page.screenshot(path=PICTURE)
        browser.close()
    return told(PICTURE)


def told(picture: Path) -> int:
    """What was written, and whether it is small enough."""
    size = picture.stat().st_size
    sys.stdout.write(f"{picture.relative_to(ROOT)}: {size} bytes\n")
    return 0 if size <= LARGEST else 1


if __name__ == "__main__":
    sys.exit(main())
