"""The mail box of `make up`: everything that was published, as text."""

import http.client

from local.emulator.world import Mail
from local.fakes.mails import Mailbox

HOSTILE = "<script>alert(1)</script>"


def get(mailbox: Mailbox, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection(mailbox.origin.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_what_is_published_is_on_the_page_the_newest_first_and_as_text() -> None:
    mails: list[Mail] = []
    with Mailbox(lambda: mails) as mailbox:
        assert "Nothing was mailed yet." in get(mailbox)[1]
        mails.append(Mail("arn:aws:sns:us-east-1:111111111111:redress-people", "first", HOSTILE, {}, "r"))
        mails.append(Mail("arn:aws:sns:us-east-1:111111111111:owners", HOSTILE, "x", {"owner": "<b>"}, "r"))
        status, page = get(mailbox)
        assert status == 200
        assert page.index("to the owner, &lt;b&gt;") < page.index("to redress-people")
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
        assert "<script" not in page
        assert get(mailbox, "/elsewhere")[0] == 404
