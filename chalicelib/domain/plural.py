"""Plural: a count with its words, as people say it."""


def so_many(count: int, one: str, several: str) -> str:
    """The count before the words for one, or for none and several: "1 waits", "3 wait"."""
    return f"{count} {one if count == 1 else several}"
