"""Text that others chose, as it may stand in HCL: a literal that means that text, whatever is in it."""


def quoted(text: str) -> str:
    """`text` as an HCL string literal on one line, in which nothing is interpolated and nothing stays unseen."""
    return '"' + "".join(_escaped(text, place) for place in range(len(text))) + '"'


def _escaped(text: str, place: int) -> str:
    """One character; `$` and `%` before a brace by number, since the doubled form means another text after a `$`."""
    character = text[place]
    if character in '"\\':
        return f"\\{character}"
    if character in "$%" and text[place + 1 : place + 2] == "{":
        return f"\\u{ord(character):04x}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"  # noqa: PLR2004 -- four digits
