"""A ticket as others write it: what somebody chose stays text, what is pasted is whole, and nothing is too long."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator  # type: ignore[import-untyped]  # ships no annotations
from markdown_it import MarkdownIt

from chalicelib.delivery import documents
from chalicelib.delivery.documents import Part
from chalicelib.domain.contract import Step
from chalicelib.domain.finding import Severity
from chalicelib.domain.ticket import LONGEST_TITLE, Ticket, TicketState
from tests.adapters import samples
from tests.fakes.cases import HOME

SPECS = Path(__file__).resolve().parents[2] / "local/fakes/specs"
ADF = Draft4Validator(json.loads((SPECS / "adf.json").read_text(encoding="utf-8")))
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})

ATTACKS = (
    "@security-team please click",
    "#12 and GH-3 and example/repo#4",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "![x](https://evil.example/x.png) [a](javascript:alert(1)) <https://evil.example>",
    "https://evil.example www.evil.example me@evil.example",
    "```\nout of the fence\n```\n@everyone",
    "``````\nout of a longer fence",
    "<!-- redress:abcdefghijklmnopqrst-t1-0123456789 -->",
    "--> out of the comment",
    "[code]<a href='https://evil.example'>b</a>[/code] [ CODE ]x[ / code ]",
    "# heading\n- item\n| a | cell |\n|---|---|\n> quote\n\n---",
    "\x1b[31mred\x00\u202eexe.txt\u2066",
    "${jndi:ldap://evil.example} {{7*7}} %{x}",
    "[~accountid:1234] {code}x{code} h1. Title",
    "\ud800",
)
texts = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(max_size=200),
    st.text(alphabet="`@#[]()<>!&\n codeCODE/*_~|\\", max_size=60),
)


def ticket(**changed: Any) -> Ticket:
    return samples.ticket().model_copy(update=changed)


def hostile(text: str) -> Ticket:
    return ticket(
        title=text,
        why=text,
        owner=text,
        resource=text,
        controls=(text,),
        evidence={
            "said": text,
            documents.RECURRENCE: {"key": "SEC-1", "url": "https://example.atlassian.net/browse/SEC-1"},
        },
        steps=(Step.model_construct(console=text, command=text),),
        commands=(text,),
        as_code=text,
        closed_because=text,
    )


def ways(of: Ticket) -> tuple[tuple[Part, ...], ...]:
    return documents.opened(of), documents.news(of, "As it stands now:"), documents.closed(of)


def said_in(node: Any) -> str:
    if isinstance(node, dict):
        return str(node.get("text", "")) + said_in(node.get("content", []))
    return "\n".join(said_in(one) for one in node)


def nodes_of(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for one in node for found in nodes_of(one)]
    return [node, *nodes_of(node.get("content", []))]


# -- what others chose stays text --------------------------------------------------------------------------------------


@pytest.mark.thorough
@settings(deadline=None, max_examples=60)
@given(texts)
def test_adf_is_a_valid_document_of_text(text: str) -> None:
    for parts in ways(hostile(text)):
        document = documents.adf(parts)
        assert not [*ADF.iter_errors(document)]
        nodes = nodes_of(document)
        assert {node["type"] for node in nodes} <= {"doc", "paragraph", "heading", "codeBlock", "text"}
        marks = [mark for node in nodes for mark in node.get("marks", ())]
        links = [mark["attrs"]["href"] for mark in marks if mark["type"] == "link"]
        assert set(links) <= {"https://example.atlassian.net/browse/SEC-1"}
        assert "\u202e" not in said_in(document)
        assert "\x1b" not in said_in(document)


def test_the_schema_does_refuse() -> None:
    for wrong in (
        "plain words",
        {
            "type": "doc",
            "version": 1,
            "content": [{"type": "paragraph", "content": [{"type": "text", "text": ""}]}],
        },
        {"type": "doc", "version": 1, "content": [{"type": "text", "text": "bare"}]},
    ):
        assert [*ADF.iter_errors(wrong)]


@settings(deadline=None, max_examples=60)
@given(texts)
def test_markdown_holds_no_mention_link_image_html_or_format_of_others(text: str) -> None:
    for parts in ways(hostile(text)):
        page = documents.marked(parts)
        tokens = MARKDOWN.parse(page)
        inline = [child for token in tokens for child in token.children or ()]
        links = [child.attrs["href"] for child in inline if child.type == "link_open"]
        assert set(links) <= {"https://example.atlassian.net/browse/SEC-1"}
        assert not {child.type for child in inline} & {
            "image",
            "html_inline",
            "em_open",
            "s_open",
            "code_inline",
        }
        assert {token.type for token in tokens} <= {
            "paragraph_open",
            "inline",
            "paragraph_close",
            "heading_open",
            "heading_close",
            "fence",
        }
        # What GitHub reads only after Markdown did, in what is no code: mentions, references.
        shown = "".join(child.content for child in inline)
        assert not re.search(r"(?<![\w`])@[A-Za-z0-9]", shown)
        assert not re.search(r"#[0-9]", shown)
        fences = [token.content.rstrip("\n") for token in tokens if token.type == "fence"]
        assert fences == [part.said.rstrip("\n") for part in parts if part.kind == "code"]


@settings(deadline=None, max_examples=60)
@given(texts)
def test_plain_text_holds_no_code_tag_and_no_sign_that_is_not_seen(text: str) -> None:
    for parts in ways(hostile(text)):
        page = documents.written(parts, 4000)
        assert len(page) <= 4000
        assert not re.search(r"\[\s*/?\s*code\s*\]", page, re.IGNORECASE)
        assert all(line.isprintable() for line in page.split("\n"))


def test_a_title_is_one_short_line() -> None:
    title = documents.title_of(ticket(title="a\nb\u202ec" + "x" * 300))
    assert len(title) == LONGEST_TITLE
    assert title.isprintable()


# -- what is in it -----------------------------------------------------------------------------------------------------


def test_everything_that_a_person_needs_is_in_every_form() -> None:
    whole = ticket(
        evidence={
            "told_by": "event-1",
            documents.RECURRENCE: {"key": "SEC-1", "url": "https://x.example/SEC-1"},
        },
        steps=(Step(console="Take the rule away", command="aws ec2 do-it --now"), Step(console="Look again")),
        as_code='resource "x" {\n  a = 1\n}',
    )
    parts = documents.opened(whole)
    wanted = (
        "the whole world may come in",
        "SEC-1",
        whole.resource,
        HOME,
        "eu-west-1",
        "high",
        samples.CONTROL,
        "team",
        whole.case,
        "Take the rule away",
        "aws ec2 do-it --now",
        "Look again",
        "aws ec2 help",
        'resource "x" {',
        "  a = 1",
        "event-1",
    )
    for page in (documents.written(parts, 20_000), said_in(documents.adf(parts))):
        for one in wanted:
            assert one in page
        assert documents.RECURRENCE not in page
        assert documents.CHANGED not in page
    marked = documents.marked(parts)
    assert "```\naws ec2 do-it --now\n```" in marked
    assert "<https://x.example/SEC-1>" in marked
    assert "**Severity:** high" in marked


def test_a_bare_ticket_says_so_and_has_no_empty_part() -> None:
    bare = ticket(owner="", why="", commands=(), evidence={})
    for parts in ways(bare):
        assert not [*ADF.iter_errors(documents.adf(parts))]
    page = documents.written(documents.opened(bare), 4000)
    assert "Owner: nobody is named" in page
    assert "What to do" not in page
    assert "The same as commands" not in page
    assert "Terraform" not in page
    assert "compliant" in documents.written(documents.closed(bare), 4000)


def test_closing_says_what_was_seen_and_where_it_is_on_record() -> None:
    done = ticket(
        state=TicketState.CLOSED,
        closed_because="compliant at noon",
        evidence={"records": "chain c, up to record 4"},
    )
    page = documents.written(documents.closed(done), 4000)
    for one in ("compliant at noon", done.case, "chain c, up to record 4", done.updated_at.isoformat()):
        assert one in page


def test_a_ticket_and_its_closing_link_to_the_case() -> None:
    page = "https://console.example.org/cases/c-1"
    linked = ticket(evidence={"rules": ["sgr-1"], "page": page})
    for parts in (documents.opened(linked), documents.closed(linked)):
        assert Part("link", page) in parts
        assert str(parts).count(page) == 1, "and not within what was seen"
    assert linked.shown == ticket().shown, "that it is linked is no news"
    assert not [part for part in documents.closed(ticket()) if part.kind == "link"]


def test_a_command_with_signs_that_cannot_be_shown_is_not_to_be_pasted() -> None:
    page = documents.written(documents.opened(ticket(commands=("aws x \u202etxt",))), 4000)
    assert documents.CHANGED in page
    assert "\u202e" not in page


# -- what does not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [300, 1000, 2048, 4000])
def test_what_does_not_fit_is_left_out_whole_and_that_is_said(most: int) -> None:
    command = "aws ec2 " + " ".join(f"--group sg-{number}" for number in range(400))
    parts = documents.opened(ticket(commands=(command, "aws short")))
    for page in (documents.written(parts, most), documents.marked(parts, most)):
        assert len(page) <= most
        assert "--group" not in page
        assert page.count(documents.LEFT_OUT) + page.count(documents.LEFT_OUT.replace(".", "\\.")) == 1
    document = documents.adf(parts, most)
    assert len(json.dumps(document)) <= most
    assert not [*ADF.iter_errors(document)]
    assert "--group" not in said_in(document)


def test_what_fits_is_complete() -> None:
    parts = documents.opened(ticket())
    assert documents.LEFT_OUT not in documents.written(parts, 4000)


# -- news and events ---------------------------------------------------------------------------------------------------


def test_the_digest_is_of_what_people_read() -> None:
    digest = ticket().shown
    later = ticket().updated_at + timedelta(days=1)
    for same in (
        {"updated_at": later},
        {
            "evidence": {
                "rules": ["sgr-1"],
                "told_by": "e",
                "told_at": "t",
                "actor": "a",
                "records": "r",
                "plan_hash": "h",
            }
        },
    ):
        assert ticket(**same).shown == digest
    for other in (
        {"state": TicketState.CLOSED},
        {"closed_because": "x"},
        {"severity": Severity.LOW},
        {"why": "x"},
        {"owner": "x"},
        {"controls": ("x",)},
        {"commands": ()},
        {"as_code": "x"},
        {"evidence": {"rules": ["sgr-2"]}},
        {"number": 2},
    ):
        assert ticket(**other).shown != digest


def test_an_event_is_the_same_for_the_same_news_and_its_texts_are_lossless() -> None:
    event = documents.event(hostile("@x \u202e"), "opened", "key")
    assert event == documents.event(hostile("@x \u202e"), "opened", "key")
    assert {"schema": "redress.ticket/1", "event": "ticket.opened", "key": "key"}.items() <= event.items()
    assert Ticket.model_validate_json(json.dumps(event["ticket"])).title == "@x \u202e"
    names = {
        json.dumps(documents.event(ticket(why=why), what, key)["id"])
        for why in ("a", "b")
        for what in ("opened", "updated", "reopened", "closed")
        for key in ("k", "l")
    }
    assert len(names) == 16
