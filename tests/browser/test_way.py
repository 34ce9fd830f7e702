"""The ways of the engineer and the auditor in Chromium, on the deployment as `make up` leaves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # ships no types
from playwright.sync_api import Browser, Locator, Page

from chalicelib.domain.case import CaseState
from local.demo import REGIONS
from local.stage import Stage
from local.town import EVERYDAY, SECURITY, Town
from local.up import lived_in
from tests.browser.test_console import DESK, PHONE, browser

__all__ = ["browser"]  # a fixture

pytestmark = [pytest.mark.emulator, pytest.mark.thorough]

SIZES = pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
MOST_TAPS = 4


@dataclass
class Place:
    """A town with something to decide, and a browser before it."""

    town: Town
    stage: Stage
    group: str
    browser: Browser

    @contextmanager
    def open(self, size: tuple[int, int], *, dark: bool = False) -> Iterator[Page]:
        """A page of a browser in which nobody is signed in."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=size == PHONE,
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        try:
            yield page
        finally:
            context.close()

    def asked(self, size: tuple[int, int]) -> str:
        """The resource that waits; another one for each size, since the first is decided by then."""
        if size == PHONE:
            return self.stage.arn(self.group)
        group = self.stage.security_group("way-desk")
        self.stage.open(group, 22)
        self.stage.await_case(self.stage.arn(group), CaseState.WAITING)
        self.town.await_card(self.stage, SECURITY, group)
        return self.stage.arn(group)


@pytest.fixture(scope="module")
def place(browser: Browser) -> Iterator[Place]:
    with Town() as town, Stage(regions=REGIONS, environment=town.environment) as stage:
        town.settle(stage)
        yield Place(town, stage, lived_in(town, stage), browser)


def wrong(page: Page) -> list[object]:
    """What axe has against the page, and whether one must scroll sideways."""
    found: list[object] = [
        (one["id"], one["nodes"][0]["html"]) for one in Axe().run(page).response["violations"]
    ]
    width = page.viewport_size["width"] if page.viewport_size else 0
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append("wider than the screen")
    return found


@SIZES
def test_from_the_card_to_the_outcome_in_four_taps(place: Place, size: tuple[int, int]) -> None:
    resource, taps = place.asked(size), 0

    def tap(one: Locator) -> None:
        nonlocal taps
        taps += 1
        if size == PHONE:
            one.tap()
        else:
            one.click()

    with place.open(size, dark=size == DESK) as page:
        page.goto(place.town.slack.url)
        card = page.locator("body > article").filter(has_text=resource)
        tap(card.get_by_role("link", name="Review & decide"))
        tap(page.get_by_role("button", name="Anna Approver"))
        page.get_by_role("heading", name="Make this change?").wait_for()
        assert wrong(page) == []
        tap(page.get_by_label("The plan is right, and its reach is acceptable"))
        tap(page.get_by_role("button", name="Approve", exact=True))
        page.get_by_role("status").get_by_text("You approved this").wait_for()
        assert wrong(page) == []
        assert taps <= MOST_TAPS
        place.stage.await_record(resource, "RESULT")
        message = place.town.cards(SECURITY, resource)[-1]
        place.stage.world.wait_for(lambda: "Fixed" in message.text, 25.0, "the card to say so")
        page.goto(place.town.slack.url)
        card.get_by_role("heading", name="Fixed, and verified").wait_for()
        card.get_by_text("approved by Anna Approver").last.wait_for()
        page.goto(card.get_by_role("link", name="Open the case").get_attribute("href") or "")
        page.get_by_role("heading", name="Before and after").wait_for()
        assert wrong(page) == []


def test_what_is_of_medium_severity_is_decided_in_slack_itself(place: Place) -> None:
    with place.open(DESK) as page:
        page.goto(place.town.slack.url)
        page.get_by_role("link", name="Dave Developer").click()
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("Only visible to you: the change of").wait_for()
    card = place.town.cards(EVERYDAY, "")[0]  # before it stands the digest of the day
    place.stage.world.wait_for(lambda: "Fixed" in card.text, 25.0, "the card to say so")


@SIZES
def test_an_auditor_reads_everything_and_finds_nothing_to_press(place: Place, size: tuple[int, int]) -> None:
    with place.open(size, dark=size == PHONE) as page:
        page.goto(f"{place.stage.api}/")
        page.get_by_role("button", name="Ada Auditor").click()
        page.get_by_role("complementary").get_by_text("Each page that you open is put on record").wait_for()
        for name in ("Log", "Tickets", "Exemptions", "Switches", "People", "Controls"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
            page.get_by_role("heading", level=1).wait_for()
            assert wrong(page) == [], name
            assert page.locator("main form:not(.filters)").count() == 0, name
        page.get_by_role("link", name="ec2-open-rdp").click()
        page.get_by_role("heading", name="How far it may go").wait_for()
        page.get_by_role("link", name="Cases", exact=True).click()
        page.get_by_label("State").select_option("closed")
        page.get_by_role("button", name="Show").click()
        page.locator("main td a").last.click()
        page.get_by_text("each hash fits the one before it").wait_for()
        page.get_by_text("Evidence").last.click()
        assert "record_id" in page.locator("details[open] pre").last.inner_text()
        assert page.locator("main form").count() == 0
        assert wrong(page) == []
