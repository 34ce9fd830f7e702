"""Pages out of templates: escaping, what every page's headers say, and the one stylesheet.

All that a page shows passes `shown`: what a browser would not show, or would let turn its surroundings around, becomes a
sign; then jinja2 escapes it. No page has a script, and none loads anything from elsewhere: the policy in the headers says so,
so that markup which got through all the same could do nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chalicelib.console.web import Reply, Site
from chalicelib.delivery import escape
from chalicelib.domain.control import framework_name

HERE = Path(__file__).parent
LONGEST_TEXT = 20_000

CONTENT_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": CONTENT_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        # Under no-referrer a browser sends `Origin: null` with our own forms (fetch.spec.whatwg.org). Nobody else learns of it.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex, nofollow",
    }
)
"""Of every page (APPROVALS_AUDIT_SAFETY §2.2)."""

STRICT_TRANSPORT = "max-age=63072000; includeSubDomains"


def headers(site: Site | None) -> dict[str, str]:
    """The headers of every page; behind HTTPS also the promise to stay there."""
    secure = {"Strict-Transport-Security": STRICT_TRANSPORT} if site and site.secure else {}
    return {**HEADERS, **secure}


def page(site: Site, template: str, status: int = 200, **context: Any) -> Reply:  # noqa: ANN401 -- a template takes anything
    """A page made of a template."""
    body = (
        _environment()
        .get_template(template)
        .render(site=site, at=site.at, style=site.at(style_path()), **context)
    )
    return Reply(status, body, headers=headers(site))


def notice(site: Site, status: int, title: str, text: str) -> Reply:
    """A page that says one thing, and a way on."""
    return page(site, "notice.html", status, title=title, text=text)


def missing(site: Site) -> Reply:
    """There is no such page, or it is not for this visitor: they are not told which."""
    return notice(site, 404, "Nothing here", "There is no such page, or it is outside of what you may see.")


def plain(status: int, text: str) -> Reply:
    """A reply without a page around it: before anybody knows where the console is."""
    return Reply(status, f"{text}\n", "text/plain; charset=utf-8", headers(None))


def redirect(site: Site, path: str, cookies: tuple[str, ...] = ()) -> Reply:
    """See other: one of our own paths, to be fetched with GET."""
    return Reply(303, "", headers={**headers(site), "Location": site.at(path)}, cookies=cookies)


# -- the stylesheet ----------------------------------------------------------------------------------------------------


@cache
def stylesheet() -> str:
    """The text of the one stylesheet."""
    return (HERE / "static" / "redress.css").read_text(encoding="utf-8")


@cache
def style_path() -> str:
    """Its path, which changes with its text, so that it may be kept for ever."""
    return f"/static/redress-{hashlib.sha256(stylesheet().encode()).hexdigest()[:16]}.css"


def style(site: Site | None) -> Reply:
    """The stylesheet itself."""
    kept = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Reply(200, stylesheet(), "text/css; charset=utf-8", {**headers(site), **kept})


# -- what templates say ------------------------------------------------------------------------------------------------


def shown(value: object) -> object:
    """What an expression of a template becomes: text that hides nothing. Markup of our own macros stays what it is."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return escape.plain(value, LONGEST_TEXT)


def time(at: datetime) -> Markup:
    """A moment, for people and for programs, in UTC."""
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%-d %b %Y, %H:%M} UTC"
    )


def span(length: timedelta) -> str:
    """How long, in the one or two units that matter."""
    minutes = int(length.total_seconds()) // 60
    if minutes < 1:
        return "less than a minute"
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    said = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(said[:2])


def pretty(value: object) -> list[str]:
    """JSON, readable, line by line."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).split("\n")


def address(path: str, /, **filters: str) -> str:
    """A path with the filters that are set. Whoever writes an address may call a filter anything, `path` too."""
    said = urlencode({name: value for name, value in filters.items() if value})
    return f"{path}?{said}" if said else path


def words(text: str) -> str:
    """A name from the code as people read it."""
    return text.replace("_", " ").lower()


def sentence(text: str) -> str:
    """The text as a sentence begins; the rest stays as it is, and so does a name that stands first."""
    first = text.partition(" ")[0].rstrip(",;:.")
    return text[:1].upper() + text[1:] if first.isalpha() else text


def flowing(text: str) -> str:
    """A text that was written over several lines, as one."""
    return " ".join(text.split())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        time=time,
        span=span,
        pretty=pretty,
        framework=framework_name,
        words=words,
        sentence=sentence,
        flowing=flowing,
    )
    environment.globals.update(address=address)
    return environment
