"""The console in Chromium: a decision on a phone, an attacker's texts, and every page as axe sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # ships no types
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from chalicelib.console.pages import door
from chalicelib.console.web import Reply, Request
from chalicelib.domain.finding import Actor, Severity
from local.front import Front
from tests.adapters.samples import exemption
from tests.console.world import (
    ANNA,
    AUDIT,
    HOSTILE,
    MEMBER,
    OLGA,
    SSH,
    World,
    invited,
    session_of,
    world,
)

pytestmark = pytest.mark.thorough

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE, DESK = (390, 844), (1280, 900)


@dataclass
class Room:
    """A console behind a loopback front door, and a browser before it."""

    world: World
    front: Front
    browser: Browser

    @contextmanager
    def open(self, who: str | None, size: tuple[int, int] = PHONE, scheme: str = "light") -> Iterator[Page]:
        """A page of a browser in which that person is signed in."""
        context: BrowserContext = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        if who:
            site = door.site_of(self.front.url)
            line = self.world.sessions(site).cookie_of(session_of(who, self.world.clock.now()))
            name, _, value = line.partition(";")[0].partition("=")
            context.add_cookies([{"name": name, "value": value, "url": self.front.origin}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        try:
            yield page
        finally:
            context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield one
        one.close()


@pytest.fixture
def room(browser: Browser) -> Iterator[Room]:
    with world() as console:

        def reply(request: Request) -> Reply:
            return door.reply(console.desk, request)

        with Front(reply) as front:
            provider = {
                "name": "corp",
                "title": "Example SSO",
                "issuer": front.origin,
                "client_id": "redress",
            }
            console.set_policy({"console_url": front.url, "providers": [provider]})
            yield Room(console, front, browser)


def test_from_the_card_to_a_decision_are_three_taps_on_a_phone(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")  # one: the card's button
        page.get_by_label("The plan is right, and its reach is acceptable").check()  # two
        page.get_by_role("button", name="Approve", exact=True).click()  # three; a sign-in would be the fourth
        page.get_by_role("status").get_by_text("You approved this").wait_for()
    found = room.world.settings.answers(case.id, 1)
    assert found
    assert [one.by for one in found.answers] == [ANNA]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_link_to_a_form_leads_to_it_open_and_in_sight_with_the_cursor_in_it(
    room: Room, size: tuple[int, int]
) -> None:
    asked, done = room.world.asked(), room.world.fixed()
    wanted = {"snooze": (asked, "snooze-days"), "ticket": (asked, "ticket-words"), "undo": (done, "undo-run")}
    for opened, (case, first) in wanted.items():
        with room.open(OLGA, size) as page:
            page.goto(f"{room.front.url}/cases/{case.id}?open={opened}")
            page.wait_for_function("name => document.activeElement.id === name", arg=first)
            box = page.locator(f"#{first}").bounding_box()
            assert box
            assert 0 <= box["y"] <= size[1] - box["height"]
            assert Axe().run(page).response["violations"] == []


def test_a_form_without_a_reason_is_not_even_sent(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.get_by_role("button", name="Approve", exact=True).click()
        assert page.url.endswith(f"/cases/{case.id}")
    assert room.world.settings.answers(case.id, 1) is None


def test_ones_own_words_are_asked_for_where_they_are_wanted(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        deny = page.locator("form.deny")
        assert not deny.get_by_label("My own words", exact=True).is_visible()
        deny.get_by_label("In my own words").check()
        deny.get_by_label("My own words", exact=True).fill("the shop needs it until Friday")
        deny.get_by_role("button", name="Deny").click()
        page.get_by_role("status").get_by_text("You denied this").wait_for()


def test_a_browser_that_only_looks_never_decides(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        for _ in range(3):
            page.goto(f"{room.front.url}/cases/{case.id}", wait_until="networkidle")
        for href in page.eval_on_selector_all("a[href]", "links => links.map(one => one.href)"):
            page.request.get(href, max_redirects=0)
            page.request.head(href, max_redirects=0)
    assert room.world.settings.answers(case.id, 1) is None


def test_what_an_attacker_names_is_text_and_runs_nowhere(room: Room) -> None:
    hostile = Actor(type=HOSTILE, arn=HOSTILE, role_arn=HOSTILE, session=HOSTILE)
    case = room.world.asked(reason=HOSTILE, owner=HOSTILE, actor=hostile)
    room.world.ticketed(why=HOSTILE)
    said: list[str] = []
    asked_for: list[str] = []
    with room.open(OLGA) as page:
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked_for.append(request.url))
        for path in ("/", "/approvals", f"/cases/{case.id}", "/log", "/tickets"):
            page.goto(f"{room.front.url}{path}", wait_until="networkidle")
            assert page.locator("script, main img, iframe, object").count() == 0
    assert said == []
    assert [url for url in asked_for if not url.startswith((f"{room.front.url}/", "data:"))] == []


def test_no_other_page_frames_ours(room: Room) -> None:
    case = room.world.asked()
    ours, theirs = f"{room.front.url}/cases/{case.id}", "http://evil.example/inner"
    frames = f'<iframe src="{ours}"></iframe><iframe src="{theirs}"></iframe>'
    with room.open(ANNA) as page:
        page.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=frames))
        page.route(theirs, lambda route: route.fulfill(content_type="text/html", body="Make this change?"))
        page.goto("http://evil.example/", wait_until="networkidle")
        shown = [frame.content() for frame in page.frames if frame != page.main_frame]
    assert sum("Make this change" in content for content in shown) == 1


def test_a_form_of_another_page_decides_nothing(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.route(
            "https://evil.example/",
            lambda route: route.fulfill(
                content_type="text/html",
                body=f'<form method="post" action="{room.front.url}/cases/{case.id}/answer">'
                '<input name="answer" value="approve"><input name="reason" value="x"><button>go</button></form>',
            ),
        )
        page.goto("https://evil.example/")
        page.get_by_role("button").click()
        page.wait_for_load_state()
    assert room.world.settings.answers(case.id, 1) is None


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_screen_and_axe_finds_nothing(
    room: Room, size: tuple[int, int], scheme: str
) -> None:
    console, now = room.world, room.world.clock.now()
    waits, strict = console.asked(1), console.asked(2, severity=Severity.CRITICAL)
    odd = console.asked(3, account=MEMBER, reason=HOSTILE, owner=HOSTILE)
    fixed, ticketed = console.fixed(), console.ticketed()
    console.set(exemptions=(exemption(control=SSH, expires_at=now + timedelta(days=2)),))
    paths = ["/", "/approvals", "/cases", "/cases?state=closed", "/tickets", "/controls", f"/controls/{SSH}"]
    paths += ["/exemptions", "/switches", "/log", "/people", "/nowhere", "/login"]
    paths += [f"/cases/{case.id}" for case in (waits, strict, odd, fixed, ticketed)]
    wrong: dict[str, object] = {}
    with room.open(OLGA, size, scheme) as page:
        for path in paths:
            page.goto(f"{room.front.url}{path}")
            found = [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(page).response["violations"]]
            if page.evaluate("document.documentElement.scrollWidth") > size[0]:
                found.append(("wider than the screen", ""))
            if found:
                wrong[path] = found
    assert wrong == {}


def test_every_page_of_the_menu_is_in_sight_on_a_phone(room: Room) -> None:
    with room.open(OLGA) as page:
        page.goto(f"{room.front.url}/log")
        links = page.get_by_role("navigation", name="Pages").get_by_role("link").all()
        boxes = [one.bounding_box() for one in links]
        assert len(boxes) == 9
        assert [
            box for box in boxes if box is None or box["x"] < 0 or box["x"] + box["width"] > PHONE[0]
        ] == []


def test_a_refused_form_is_in_sight_with_what_was_typed(room: Room) -> None:
    case = room.world.asked()
    with room.open(OLGA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.get_by_text("Exempt", exact=True).first.click()
        form = page.locator("form[action*='/exempt']")
        form.get_by_label("For how many days").evaluate("one => one.removeAttribute('max')")
        form.get_by_label("For how many days").fill("400")
        form.get_by_label("Why").fill("the partner moves on Friday")
        form.get_by_role("button").click()
        page.get_by_role("alert").get_by_text("Nothing was changed").wait_for()
        assert form.get_by_label("Why").is_visible()
        assert form.get_by_label("Why").input_value() == "the partner moves on Friday"
        assert form.get_by_label("For how many days").input_value() == "400"


def test_an_auditors_way_shows_everything_in_scope_and_nothing_to_press(room: Room) -> None:
    console, now = room.world, room.world.clock.now()
    case = console.fixed()
    console.set(kept=invited(now + timedelta(days=30), now))
    with room.open(AUDIT, DESK) as page:
        page.goto(f"{room.front.url}/log?resource={quote(case.target.resource)}")
        page.get_by_role("link", name="Cases").click()
        page.get_by_label("State").select_option("closed")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name=case.target.name).click()
        page.get_by_text("Evidence").last.click()
        assert "record_id" in page.locator("details[open] pre").last.inner_text()
        assert page.locator("main form").count() == 0
    looked_at = [path for _, path in console.viewed]
    assert [path.partition("?")[0] for path in looked_at] == ["/log", "/cases", "/cases", f"/cases/{case.id}"]
    assert looked_at[0].startswith("/log?resource=arn"), "what was searched for is on record too"


def test_the_keyboard_reaches_the_content_and_shows_where_it_is(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA, DESK) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.closest('main') !== null")
        assert focused
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
