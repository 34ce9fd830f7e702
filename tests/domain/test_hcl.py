"""A literal means the text that it was made of. The expected forms were tried on Terraform 1.11.4 (`terraform console`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.hcl import quoted


@pytest.mark.parametrize(
    "text, literal",
    [
        ("", '""'),
        ("für alle — 100 % von $5", '"für alle — 100 % von $5"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("${file(1)}", '"\\u0024{file(1)}"'),
        ("$${x}", '"$\\u0024{x}"'),
        ("%{if true}", '"\\u0025{if true}"'),
        ("\\${x}", '"\\\\\\u0024{x}"'),
        ('one\n}\r\nresource "x" "y" {', '"one\\u000a}\\u000d\\u000aresource \\"x\\" \\"y\\" {"'),
        ("\u202egnp.exe", '"\\u202egnp.exe"'),
        ("\U000e0041", '"\\U000e0041"'),
        ("$", '"$"'),
    ],
)
def test_what_others_chose_is_only_text(text: str, literal: str) -> None:
    assert quoted(text) == literal


@given(st.text(st.sampled_from('a"\\${}%\n\t\u2028\x1b🙂') | st.characters()))
def test_nothing_ends_the_literal_nothing_is_interpolated_and_nothing_is_lost(text: str) -> None:
    literal = quoted(text)
    inner = literal[1:-1]
    assert literal.isprintable()
    assert "${" not in inner
    assert "%{" not in inner
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")
    assert inner.encode("utf-8", "surrogatepass").decode("utf-8") == inner
    assert unescaped(inner) == text


def unescaped(inner: str) -> str:
    """What a reader of HCL makes of the inside of a literal without templates."""
    text, place = "", 0
    digits = {"u": 4, "U": 8}
    while place < len(inner):
        if inner[place] != "\\":
            text, place = text + inner[place], place + 1
        elif (length := digits.get(inner[place + 1])) is not None:
            text += chr(int(inner[place + 2 : place + 2 + length], 16))
            place += 2 + length
        else:
            text, place = text + inner[place + 1], place + 2
    return text
