"""Who is let in, what they see, and what every page says to the browser."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.console import render
from chalicelib.console.pages import door
from chalicelib.console.web import Request
from chalicelib.domain.errors import StoreError
from chalicelib.domain.policy import PolicySetting
from tests.console.world import (
    ANNA,
    AUDIT,
    HOSTILE,
    ISSUER,
    MEMBER,
    NOBODY,
    OLGA,
    SITE,
    VERA,
    Forms,
    World,
    invited,
    text_of,
    world,
)
from tests.fakes.cases import HOME

PAGES = (
    "/",
    "/approvals",
    "/cases",
    "/log",
    "/controls",
    "/controls/ec2-open-ssh",
    "/exemptions",
    "/tickets",
    "/switches",
)


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


# -- the browser -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/people", "/nowhere"])
def test_every_page_forbids_scripts_frames_caches_and_strangers(console: World, path: str) -> None:
    headers = console.get(path, OLGA).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["X-Robots-Tag"].startswith("noindex")
    assert headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize("path", [*PAGES, "/people"])
def test_no_page_has_a_script_a_style_of_its_own_or_anything_from_elsewhere(
    console: World, path: str
) -> None:
    console.asked(1, reason=HOSTILE)
    page = console.get(path, OLGA)
    assert page.status == 200
    assert "<script" not in page.body
    assert " style=" not in page.body
    assert "<style" not in page.body
    assert "//" not in "".join(part.split('"')[0] for part in page.body.split('src="')[1:])
    assert 'href="http' not in page.body


def test_loopback_without_https_makes_no_promise_to_stay_on_https() -> None:
    assert "Strict-Transport-Security" not in render.headers(door.site_of("http://127.0.0.1:8000"))
    assert "Strict-Transport-Security" not in render.headers(None)


def test_the_stylesheet_is_kept_for_ever_under_a_name_made_of_its_text(console: World) -> None:
    page = console.get("/")
    assert f'href="{SITE.at(render.style_path())}"' in page.body
    style = console.get(render.style_path(), None)
    assert (style.status, style.content_type) == (200, "text/css; charset=utf-8")
    assert "immutable" in style.headers["Cache-Control"]
    assert console.get("/static/redress-0000.css").status == 404


def test_links_and_forms_stand_behind_the_prefix(console: World) -> None:
    case = console.asked()
    for path in ("/", "/approvals", f"/cases/{case.id}", "/log", "/people"):
        body = console.get(path, OLGA).body
        links = [part.split('"')[0] for name in ("href", "action") for part in body.split(f'{name}="')[1:]]
        assert links
        assert [link for link in links if not link.startswith(("/api/", "#", "data:,"))] == []


# -- who comes in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/people", "/nowhere", "/cases/aaaaaaaaaaaaaaaaaaaa-1"])
def test_whoever_is_not_signed_in_is_sent_to_do_so_and_nothing_is_read(console: World, path: str) -> None:
    reply = console.get(path, None)
    assert reply.status == 303
    assert reply.headers["Location"].startswith("/api/login/corp?to=%2F")
    assert reply.body == ""


@pytest.mark.parametrize("several", [False, True])
def test_the_filters_of_the_page_that_was_wanted_come_along_through_the_sign_in(
    console: World, several: bool
) -> None:
    other = {"name": "slack", "title": "Slack", "issuer": ISSUER, "client_id": "1.2"}
    corp = {"name": "corp", "title": "Example SSO", "issuer": ISSUER, "client_id": "redress"}
    console.set_policy({"providers": [corp, other] if several else [corp]})
    reply = console.get("/approvals?control=ec2-open-ssh&account=1", None)
    wanted = "/api/login/corp?to=%2Fapprovals%3Fcontrol%3Dec2-open-ssh%26account%3D1"
    assert wanted in (reply.body if several else reply.headers["Location"])


def test_whoever_opens_where_a_form_is_sent_is_led_to_the_page_that_has_the_form(console: World) -> None:
    case = console.asked()
    for form in ("answer", "snooze"):
        reply = console.get(f"/cases/{case.id}/{form}", ANNA)
        assert (reply.status, reply.headers["Location"]) == (303, f"/api/cases/{case.id}")
        assert console.get(f"/cases/{case.id}/{form}", VERA).status == 404
    reply = console.get("/logout", ANNA)
    assert (reply.status, reply.headers["Location"], reply.cookies) == (303, "/api/", ())


def test_with_several_providers_the_person_chooses(console: World) -> None:
    other = {"name": "slack", "title": "Slack", "issuer": ISSUER, "client_id": "1.2"}
    one = {"name": "corp", "title": HOSTILE[:40], "issuer": ISSUER, "client_id": "redress"}
    console.set_policy({"providers": [one, other]})
    reply = console.get("/approvals", None)
    assert reply.status == 401
    assert 'href="/api/login/corp?to=%2Fapprovals"' in reply.body
    assert "Sign in with Slack" in text_of(reply)
    assert "<script" not in reply.body


def test_a_sign_in_begins_at_the_provider_that_the_address_names(console: World) -> None:
    reply = console.get("/login/corp?to=/approvals&fresh=1", None)
    assert reply.headers["Location"] == f"{ISSUER}/?to=%2Fapprovals&fresh=True"
    assert console.get("/login/other", None).status == 404
    assert "Example SSO" in console.get("/login", None).body


def test_back_from_the_provider_the_page_that_was_wanted_is_shown(console: World) -> None:
    reply = console.get(f"/login/return?code={ANNA.replace('#', '%23')}", None)
    assert (reply.status, reply.headers["Location"]) == (303, "/api/approvals")
    assert len(reply.cookies) == 2
    cookie = reply.cookies[1].partition(";")[0]
    assert console.get("/approvals", cookie=cookie).status == 200


def test_an_invited_auditor_is_known_when_coming_back(console: World) -> None:
    now = console.clock.now()
    console.set(kept=invited(now + timedelta(days=1), now))
    assert console.get(f"/login/return?code={AUDIT.replace('#', '%23')}", None).status == 303


def test_an_invitation_is_to_an_address_however_it_is_written(console: World) -> None:
    now, comes_as = console.clock.now(), f"email:{ISSUER}#ada@audit.example"
    invitation = invited(now + timedelta(days=1), now)
    invitation = invitation.model_copy(update={"identity": f"email:{ISSUER}#Ada@Audit.example"})
    console.set(kept=invitation)
    assert console.get(f"/login/return?code={comes_as.replace('#', '%23')}", None).status == 303
    assert console.get("/", comes_as).status == 200
    other = {"id": "other", "name": "Otto of Another House", "identity": f"email:{ISSUER}#otto@other.example"}
    console.set(kept=invitation.model_copy(update=other))
    people = console.get("/people", comes_as).body
    assert "Nadia of Example Audit" in people
    assert "Otto" not in people, "who is invited learns nothing of others who are"
    assert "Otto of Another House" in console.get("/people", OLGA).body
    assert console.get("/", comes_as.replace("ada", "\uff41da")).status == 403, "a look-alike is nobody"


@pytest.mark.parametrize("kept", [{"revoked": True}, {"until": timedelta()}, {"at": timedelta(days=1)}])
def test_an_invitation_that_is_not_in_force_hides_no_other_one(console: World, kept: dict[str, Any]) -> None:
    """Who comes by an old one's identity is not known by it, and the provider's next word counts."""
    now = console.clock.now()
    dates = {name: now + value if name != "revoked" else value for name, value in kept.items()}
    console.set(kept=invited(now + timedelta(days=2), now).model_copy(update=dates))
    assert console.get(f"/login/return?code={AUDIT.replace('#', '%23')}", None).status == 403


def test_a_sign_in_that_fails_is_over(console: World) -> None:
    reply = console.get("/login/return?code=x", None)
    assert reply.status == 403
    assert "Max-Age=0" in reply.cookies[0]
    assert len(reply.cookies) == 1


def test_signing_out_takes_a_form_of_ours(console: World) -> None:
    cookie = console.signed_in(ANNA)
    token = Forms(console.get("/", cookie=cookie).body).of("/logout")["token"]
    assert console.post("/logout", {"token": "forged"}, cookie).status == 403
    reply = console.post("/logout", {"token": token}, cookie)
    assert (reply.status, reply.headers["Location"]) == (303, "/api/login")
    assert "Max-Age=0" in reply.cookies[0]


def test_a_stranger_learns_which_identity_to_have_added_and_nothing_else(console: World) -> None:
    case = console.asked()
    for path in ("/", f"/cases/{case.id}", "/nowhere"):
        reply = console.get(path, NOBODY)
        assert reply.status == 403
        assert NOBODY in reply.body
        assert case.target.id not in reply.body
        assert "Anna" not in reply.body
        assert 'aria-label="Pages"' not in reply.body


def test_a_session_ends_after_a_quarter_of_an_hour(console: World) -> None:
    cookie = console.signed_in(ANNA)
    console.clock.advance(timedelta(minutes=14, seconds=59))
    assert console.get("/", cookie=cookie).status == 200
    console.clock.advance(seconds=1)
    assert console.get("/", cookie=cookie).status == 303


def test_without_a_policy_the_console_is_closed(console: World) -> None:
    console.set_policy({"console_url": None})
    reply = console.get("/", ANNA)
    assert (reply.status, reply.content_type) == (503, "text/plain; charset=utf-8")
    assert reply.headers["X-Frame-Options"] == "DENY"


class Unreadable:
    """A store whose policy cannot be read."""

    def policy(self) -> PolicySetting | None:
        raise StoreError("a secret table name")


def test_an_unreadable_policy_lets_nobody_in_and_tells_nothing_of_it(console: World) -> None:
    object.__setattr__(console.desk, "store", Unreadable())
    reply = door.reply(console.desk, Request("GET", "/", headers={"cookie": console.signed_in(ANNA)}))
    assert reply.status == 503
    assert "secret" not in reply.body


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_what_is_out_of_scope_does_not_exist(console: World) -> None:
    home, member = console.asked(1), console.asked(2, account=MEMBER)
    assert console.get(f"/cases/{member.id}", VERA).status == 200
    hidden, missing = (
        console.get(f"/cases/{home.id}", VERA),
        console.get("/cases/aaaaaaaaaaaaaaaaaaaa-1", VERA),
    )
    assert (hidden.status, hidden.body) == (404, missing.body)
    for path in ("/", "/approvals", "/cases?state=waiting", f"/log?resource={home.target.resource}"):
        # what the visitor typed into a filter stands in the filter
        assert home.target.id not in text_of(console.get(path, VERA))
    assert member.target.id in console.get("/approvals", VERA).body


def test_a_log_of_a_foreign_account_is_empty(console: World) -> None:
    case = console.asked(1)
    assert case.target.id in console.get(f"/log?account={HOME}", ANNA).body
    assert case.target.id not in console.get(f"/log?account={HOME}", VERA).body


def test_people_are_for_auditors_and_operators(console: World) -> None:
    assert console.get("/people", OLGA).status == 200
    assert console.get("/people", ANNA).status == 403


def test_an_invited_auditor_reads_within_scope_until_the_end_and_each_look_is_recorded(
    console: World,
) -> None:
    now = console.clock.now()
    home, member = console.asked(1), console.asked(2, account=MEMBER)
    console.set(kept=invited(now + timedelta(days=30), now, MEMBER))
    page = console.get(f"/cases/{member.id}", AUDIT)
    assert page.status == 200
    assert "Each page that you open is put on record" in page.body
    assert 'action="/api/cases' not in page.body
    assert console.get(f"/cases/{home.id}", AUDIT).status == 404
    assert console.viewed == [(AUDIT, f"/cases/{member.id}"), (AUDIT, f"/cases/{home.id}")]
    console.clock.set(now + timedelta(days=30))
    assert console.get("/", AUDIT).status == 403


def test_an_invitation_that_was_ended_lets_nobody_in(console: World) -> None:
    now = console.clock.now()
    console.set(kept=invited(now + timedelta(days=30), now, revoked=True))
    assert console.get("/", AUDIT).status == 403


def test_a_look_that_cannot_be_recorded_is_not_taken(console: World) -> None:
    now = console.clock.now()
    case = console.asked(1)
    console.set(kept=invited(now + timedelta(days=30), now))
    console.broken = True
    reply = console.get(f"/cases/{case.id}", AUDIT)
    assert reply.status == 503
    assert case.target.id not in reply.body


def test_others_looks_are_not_recorded(console: World) -> None:
    console.get("/", ANNA)
    assert console.viewed == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
def test_no_other_method_shows_or_does_anything(console: World, method: str) -> None:
    case = console.asked()
    assert console.get(f"/cases/{case.id}", ANNA, method=method).status == 404


@pytest.mark.parametrize(
    "path", ["/cases/../people", "/cases/%2e%2e", "/cases/a b", "/controls/none", "/cases/" + "a" * 101]
)
def test_odd_addresses_lead_nowhere(console: World, path: str) -> None:
    assert console.get(path, OLGA).status == 404
