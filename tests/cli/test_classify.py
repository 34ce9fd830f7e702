"""`redress classify`: one line for each event, whatever the file holds."""

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
Event = Callable[..., dict[str, Any]]


def test_an_event_that_breaks_a_control_is_a_finding(redress: Any, write: Write, opened: Event) -> None:
    path = write("open.json", opened())
    (line,) = redress.json("classify", path)
    assert line == {
        "file": str(path),
        "findings": [
            {
                "control": "ec2-no-world-ssh",
                "account": "111122223333",
                "region": "eu-central-1",
                "resource": "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-0a1b2c3d",
                "actor": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/mallory"},
            }
        ],
    }


def test_every_line_of_a_jsonl_is_an_event_of_its_own_with_its_number(
    redress: Any, write: Write, opened: Event
) -> None:
    path = write("many.jsonl", opened(), "", "{broken", opened(errorCode="AccessDenied"), "[]", opened())
    lines = redress.json("classify", path)
    assert [line["file"].rpartition("#")[2] for line in lines] == ["1", "3", "4", "5", "6"]
    assert [bool(line["findings"]) for line in lines] == [True, False, False, False, True]
    assert all(line.get("reason") for line in lines if not line["findings"])


def test_gzip_is_read_as_what_is_in_it(redress: Any, tmp_path: Path, opened: Event) -> None:
    path = tmp_path / "many.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join([json.dumps(opened()).encode()] * 3)))
    assert [line["file"] for line in redress.json("classify", path)] == [f"{path}#{n}" for n in (1, 2, 3)]
    one = tmp_path / "one.json.gz"
    one.write_bytes(gzip.compress(json.dumps(opened(), indent=2).encode()))
    assert redress.json("classify", one)[0]["findings"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{", b"null", b"7", b'"x"', b"[" * 100000, b"\x00", b"1e999999"]
)
def test_a_file_that_is_no_event_gets_a_reason_and_no_error(
    redress: Any, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    (line,) = redress.json("classify", path)
    assert line["findings"] == []
    assert line["reason"]
    assert "queue" not in line["reason"]


def test_a_byte_order_mark_is_no_obstacle(redress: Any, tmp_path: Path, opened: Event) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(opened()).encode())
    assert redress.json("classify", path)[0]["findings"]


def test_a_file_that_cannot_be_read_is_named_after_all_others_are_done(
    redress: Any, write: Write, opened: Event, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(b"no gzip at all")
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(gzip.compress(os.urandom(5000))[:-40])
    result = redress(
        "classify", tmp_path / "absent.json", tmp_path, damaged, cut, write("ok.json", opened()), "--json"
    )
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 4
    for name, advice in (
        ("absent.json", "name a .json"),
        (str(tmp_path), "is a folder"),
        ("damaged", "fetch it again"),
        ("cut", "fetch it again"),
    ):
        assert any(name in line and advice in line for line in errors)


def test_a_person_gets_a_table_in_which_strangers_cannot_paint(
    redress: Any, write: Write, opened: Event, hostile: str, harmful: Callable[[str], bool]
) -> None:
    path = write("hostile.json", opened(group=hostile, arn=hostile))
    for result in (redress("classify", path), redress("classify", path, "--json")):
        assert result.exit_code == 0, result.output
        assert not harmful(result.output)


def test_a_hostile_file_name_is_shown_and_not_obeyed(
    redress: Any, tmp_path: Path, harmful: Callable[[str], bool]
) -> None:
    result = redress("classify", tmp_path / "\x1b[31m[red]\u202e.json")
    assert result.exit_code == 1
    assert not harmful(result.stderr)


def test_every_finding_of_an_event_is_listed_and_of_an_event_without_any_each_reason_once(
    redress: Any, write: Write, a_control: Callable[..., Any]
) -> None:
    redress.catalog = type(redress.catalog)((a_control(security_hub=("EC2.13",)),))
    finding = {
        "Id": "finding-1",
        "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/securityhub",
        "AwsAccountId": "111122223333",
        "Region": "eu-central-1",
        "UpdatedAt": "2031-05-01T12:00:00Z",
        "Compliance": {"Status": "FAILED", "SecurityControlId": "EC2.13"},
        "Resources": [
            {
                "Type": "AwsEc2SecurityGroup",
                "Id": f"arn:aws:ec2:eu-central-1:111122223333:security-group/sg-{number}",
            }
            for number in (1, 2)
        ],
    }

    def event(*findings: dict[str, Any]) -> dict[str, Any]:
        return {
            "detail-type": "Security Hub Findings - Imported",
            "source": "aws.securityhub",
            "account": "444455556666",
            "region": "us-east-1",
            "detail": {"findings": list(findings)},
        }

    over = {**finding, "RecordState": "ARCHIVED"}
    some, none = redress.json("classify", write("f.jsonl", event(over, finding), event(over)))
    assert [one["resource"].rpartition("/")[2] for one in some["findings"]] == ["sg-1", "sg-2"]
    assert "reason" not in some
    assert none["reason"] == "the finding's record is 'ARCHIVED'"


@pytest.mark.corpus
def test_all_real_events_are_classified_without_an_error(redress: Any, corpus: Path) -> None:
    from chalicelib import catalog

    redress.catalog = catalog.load()
    files = sorted(corpus.glob("aws.*/*.json"))
    began = time.monotonic()
    lines = redress.json("classify", *files, corpus / "noise.jsonl.gz")
    assert time.monotonic() - began < 20
    assert len(files) >= 416
    assert len(lines) == len(files) + 14592
    assert all(line["findings"] or line["reason"] for line in lines)
    assert any(line["findings"] for line in lines)
    for line in lines:
        for finding in line["findings"]:
            assert finding["resource"].startswith(("arn:", "AWS::::Account:"))
