"""Event files from disk: one event in a .json, one on each line of a .jsonl, either of them gzipped."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from chalicelib.domain.errors import MalformedEventError, RedressError
from chalicelib.domain.finding import Finding, NotOurs
from chalicelib.flow import classify, intake
from chalicelib.flow.command import said_plainly


class UnreadableFileError(RedressError):
    """A file that cannot be read at all; the message names it and says what to do."""


@dataclass(frozen=True)
class Piece:
    """One event's text and where it stands: the file, or the file and `#n` for its n-th line."""

    name: str
    text: bytes


def pieces(path: Path) -> Iterator[Piece]:
    """Every event in the file, read line by line, so that a large file takes no more memory than a small one."""
    try:
        with _opened(path) as stream:
            if ".jsonl" not in path.suffixes[-2:]:
                yield Piece(str(path), stream.read())
                return
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield Piece(f"{path}#{number}", line)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist; name a .json or .jsonl file (.gz too)") from error
    except IsADirectoryError as error:
        raise UnreadableFileError(f"{path} is a folder; name the files in it, as in {path}/*.json") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnreadableFileError(f"{path} is damaged or no gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise UnreadableFileError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def envelope(text: bytes) -> dict[str, Any]:
    """The event in the text; MalformedEventError when there is none."""
    try:
        written = text.decode("utf-8-sig")
        json.loads(written)
    except UnicodeDecodeError as error:
        raise MalformedEventError(f"the text is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"that is not JSON ({error}); an event is one JSON object") from error
    return intake.parse(written)


def judged(piece: Piece, catalog: classify.Controls) -> dict[str, Any]:
    """The line that `classify` writes about one event; whatever is wrong with the event is a reason, not an error."""
    try:
        told = intake.read(envelope(piece.text))
        found = [one if isinstance(one, NotOurs) else classify.findings(one, catalog) for one in told]
    except MalformedEventError as error:
        return {"file": piece.name, "findings": [], "reason": str(error)}
    except ValidationError as error:
        reason = f"the event holds a value that AWS never sends: {said_plainly(error)}"
        return {"file": piece.name, "findings": [], "reason": reason}
    ours = [finding for one in found if not isinstance(one, NotOurs) for finding in one]
    if ours:
        return {"file": piece.name, "findings": [_shown(finding) for finding in ours]}
    reasons = dict.fromkeys(one.reason for one in found if isinstance(one, NotOurs))
    return {"file": piece.name, "findings": [], "reason": "; ".join(reasons)}


def _shown(finding: Finding) -> dict[str, Any]:
    return {
        "control": finding.control,
        "account": finding.target.account,
        "region": finding.target.region,
        "resource": finding.target.resource,
        "actor": {"type": finding.actor.type, "arn": finding.actor.arn},
    }


def document(path: Path) -> Any:  # noqa: ANN401 -- any JSON value
    """A JSON file, whole."""
    for piece in pieces(path):
        try:
            return json.loads(piece.text)
        except ValueError as error:
            raise UnreadableFileError(f"{path} is not JSON ({error})") from error
    raise UnreadableFileError(f"{path} is empty")
