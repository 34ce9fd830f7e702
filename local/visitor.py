"""A person with a browser, as far as the emulated world's pages need one: cookies, redirects, forms. It runs no script."""

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from re import sub
from urllib.parse import urlencode, urljoin, urlsplit

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Form:
    """A form as a page shows it: where it goes, and the fields that it has filled in already."""

    action: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Page:
    """What came back: the status, the address after all redirects, the HTML, and the forms in it."""

    status: int
    url: str
    html: str
    forms: tuple[Form, ...] = ()

    @property
    def text(self) -> str:
        """What a reader sees, on one line."""
        return " ".join(unescape(sub(r"<[^>]*>", " ", self.html)).split())

    def form(self, action: str, **fields: str) -> Form:
        """The form that goes to an address ending so and has these fields; LookupError when the page has none."""
        for one in self.forms:
            if urlsplit(one.action).path.endswith(action) and fields.items() <= one.fields.items():
                return one
        raise LookupError(f"{self.url} ({self.status}) has no form for {action} {fields}: {self.text[:600]}")


class Visitor:
    """One person's browser. `user` is whom this person says to be when a sign-in provider asks."""

    def __init__(self, user: str) -> None:
        self._user = user
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies), urllib.request.ProxyHandler({})
        )

    def get(self, url: str) -> Page:
        """The page at the address; where a sign-in provider asks who it is, that is answered, once."""
        page = self._opened(urllib.request.Request(url))
        if any(urlsplit(one.action).path == "/choose" for one in page.forms):
            return self.send(page.form("/choose"), person=self._user)
        return page

    def send(self, form: Form, **said: str) -> Page:
        """Send the form with these fields besides, as a browser does: with the origin of the page that it is on."""
        place = urlsplit(form.action)
        return self._opened(
            urllib.request.Request(
                form.action,
                urlencode({**form.fields, **said}).encode(),
                {
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Origin": f"{place.scheme}://{place.netloc}",
                    "Sec-Fetch-Site": "same-origin",
                },
            )
        )

    def answer(self, url: str, said: str, reason: str) -> Page:
        """Open the case's page and send the form that says so (approve, deny, withdraw, break_glass)."""
        chosen = (
            {"words": reason} if said in {"withdraw", "break_glass"} else {"reason": "own", "words": reason}
        )
        return self.send(self.get(url).form("/answer", answer=said), **chosen)

    def _opened(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=PATIENCE_SECONDS) as answer:
                status, url, html = answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as refused:
            status, url, html = refused.code, refused.url or request.full_url, refused.read().decode()
        return Page(status, url, html, _forms(url, html))


def _forms(url: str, html: str) -> tuple[Form, ...]:
    reader = _Forms()
    reader.feed(html)
    return tuple(Form(urljoin(url, action), fields) for action, fields in reader.found)


@dataclass
class _Forms(HTMLParser):
    """Every form with its hidden fields."""

    found: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A form, or a field of the one that came last."""
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((said.get("action", ""), {}))
        elif tag == "input" and said.get("type") == "hidden" and self.found:
            self.found[-1][1][said.get("name", "")] = said.get("value", "")
