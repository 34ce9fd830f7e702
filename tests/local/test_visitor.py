"""The browser without a screen: what it keeps, what it fills in, and what it does not make up."""

from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest

from chalicelib.console.web import Reply, Request
from local.front import Front
from local.visitor import Visitor

PAGE = """
<form action="/api/else"><input type="hidden" name="token" value="t0"></form>
<form action="/api/cases/1/answer#main"><input type="hidden" name="answer" value="approve">
<input type="hidden" name="token" value="a &amp; b"><input name="words" value="typed by nobody"></form>
<form action="/api/cases/1/answer#main"><input type="hidden" name="answer" value="deny"></form>
<p>5 &lt; 6 <b>holds</b></p>
"""


class Seen(list[Request]):
    """The requests that came."""

    def reply(self, request: Request) -> Reply:
        self.append(request)
        match request.path:
            case "/page":
                return Reply(200, PAGE, cookies=("redress=signed-in; Path=/",))
            case "/away":
                return Reply(303, "", headers={"Location": "/api/page"})
            case "/cases/1/answer":
                return Reply(409, "<p>somebody was quicker</p>")
        return Reply(404, "nothing")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def front(seen: Seen) -> Iterator[Front]:
    with Front(seen.reply) as one:
        yield one


def test_a_page_is_read_as_its_reader_sees_it_wherever_it_leads(front: Front) -> None:
    page = Visitor("U0ANNA0001").get(f"{front.url}/away")
    assert (page.status, page.url) == (200, f"{front.url}/page")
    assert page.text.endswith("5 < 6 holds")


def test_a_form_is_sent_as_a_browser_sends_it(front: Front, seen: Seen) -> None:
    anna = Visitor("U0ANNA0001")
    answered = anna.answer(f"{front.url}/page", "approve", "seen")
    assert (answered.status, answered.text) == (409, "somebody was quicker")
    sent = seen[-1]
    assert parse_qs(sent.body.decode()) == {
        "answer": ["approve"],
        "token": ["a & b"],
        "reason": ["own"],
        "words": ["seen"],
    }
    assert sent.headers["origin"] == front.origin
    assert sent.cookies == {"redress": "signed-in"}


def test_who_never_came_before_brings_no_cookie(front: Front, seen: Seen) -> None:
    Visitor("U0ANNA0001").get(f"{front.url}/page")
    Visitor("U0BERT0001").get(f"{front.url}/page")
    assert [one.cookies for one in seen] == [{}, {}]


@pytest.mark.parametrize("action, answer", [("/answer", "withdraw"), ("/undo", "approve")])
def test_what_the_page_does_not_offer_is_not_sent(front: Front, seen: Seen, action: str, answer: str) -> None:
    page = Visitor("U0ANNA0001").get(f"{front.url}/page")
    with pytest.raises(LookupError, match="has no form"):
        page.form(action, answer=answer)
    assert len(seen) == 1
