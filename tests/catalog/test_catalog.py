"""A wrong catalog does not load, and says where it is wrong; the shipped one is right."""

import ast
import re
from pathlib import Path

import jmespath
import pytest

from chalicelib.catalog import Catalog, load
from chalicelib.domain.contract import Mode
from chalicelib.domain.control import Control, EdgeCase, framework_name
from chalicelib.domain.errors import CatalogError
from chalicelib.flow.classify import PREDICATES

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "ensure|make|check|verify|enable|disable|set|use|do|remove|restrict|block|deny|avoid|keep|require|configure|"
    "rotate|delete|close|revoke|turn|activate|enforce|encrypt|limit|prevent|monitor"
)
GOOD = """
[[control]]
id = "{id}"
version = "1"
title = "Doors are shut"
severity = "high"
resource = "AWS::::Account"
status = "stable"
ceiling = "act"
why = "Cold."
false_positives = ["a summer's day"]
aliases = {aliases}
[control.frameworks]
cis_aws_foundations_5_0_0 = ["1.10"]
"""


def good(name: str = "doors-shut", aliases: str = "[]") -> str:
    return GOOD.format(id=name, aliases=aliases).lstrip("\n")


def of(folder: Path, text: str, name: str = "house.toml") -> Catalog:
    (folder / name).write_text(text, encoding="utf-8")
    return load(folder)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(CatalogError) as refused:
        of(folder, text)
    return str(refused.value)


def line_of(text: str, needle: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if needle in line)


# ------------------------------------------------------------------------------------------------------------- loading


def test_numbers_in_quotes_stay_what_they_are(tmp_path: Path) -> None:
    assert of(tmp_path, good()).controls[0].frameworks == {"cis_aws_foundations_5_0_0": ("1.10",)}


def test_the_catalog_is_the_same_however_it_is_spread(tmp_path: Path) -> None:
    together, apart = tmp_path / "together", tmp_path / "apart"
    together.mkdir()
    apart.mkdir()
    whole = of(together, f"# two\n{good('b')}\n{good('a')}")
    of(apart, good("a"), "z.toml")
    assert of(apart, good("b"), "a.toml") == whole


def test_a_catalog_is_a_value(tmp_path: Path) -> None:
    catalog = of(tmp_path, good())
    with pytest.raises(AttributeError):
        catalog.controls = ()  # type: ignore[misc]  # that it cannot be assigned is the point


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    "old, new, line, word",
    [
        ('title = "Doors are shut"', 'title = "Doors', "title", "TOML"),
        ('why = "Cold."', "why =", "why", "TOML"),
        ('severity = "high"', 'severity = "dire"', "severity", "severity"),
        ('ceiling = "act"', 'ceiling = "auto"', "ceiling", "ceiling"),
        ('version = "1"', "version = 1", "version", "valid string"),
        ('version = "1"', "version = 1.0", "version", "valid string"),
        ('["1.10"]', "[1.10]", "cis_aws", "valid string"),
        ('["1.10"]', "[2]", "cis_aws", "valid string"),
        ('version = "1"', 'version = "1"\nowner = "me"', "owner", "Extra inputs"),
        ('id = "doors-shut"', 'id = "Doors Shut"', "id =", "id"),
        ('title = "Doors are shut"\n', "", "[[control]]", "title"),
        ('false_positives = ["a summer\'s day"]', "false_positives = []", "[[control]]", "false positives"),
        (
            "[control.frameworks]",
            "[control.parameters]\nratio = 0.5\n[control.frameworks]",
            "[[control]]",
            "float",
        ),
        (
            "[control.frameworks]",
            "[control.parameters]\nsince = 2026-01-01\n[control.frameworks]",
            "[[control]]",
            "date",
        ),
    ],
)
def test_a_mistake_is_told_with_its_file_and_line(
    tmp_path: Path, old: str, new: str, line: str, word: str
) -> None:
    assert old in good()
    text = f"# a house\n\n{good('roof-tight')}\n{good().replace(old, new)}"
    second = good("roof-tight").count("\n") + 3
    expected = second + line_of("\n".join(text.splitlines()[second:]), line)
    told = complaint(tmp_path, text)
    assert told.startswith(f"house.toml:{expected}: ")
    assert word in told


def test_a_mistake_in_the_second_of_several_tables_is_found_there(tmp_path: Path) -> None:
    test = 'test = "x"\n'
    case = f'[[control.edge_cases]]\nsays = "a window"\n{test}'
    text = f"{good()}{case}{case}{case.replace('test', 'tset')}"
    assert complaint(tmp_path, text).startswith(
        f"house.toml:{line_of(text, 'tset')}: doors-shut: edge_cases.2."
    )
    missing = f"{good()}{case}{case.replace(test, '')}"
    told = f"house.toml:{len(missing.splitlines()) - 1}: doors-shut: edge_cases.1.test: Field required"
    assert complaint(tmp_path, missing) == told


def test_what_is_missing_is_not_looked_for_in_the_next_control(tmp_path: Path) -> None:
    text = good("a").replace('title = "Doors are shut"\n', "") + good("b")
    assert complaint(tmp_path, text).startswith("house.toml:1: a: title: ")


def test_what_stands_in_a_long_text_is_no_table(tmp_path: Path) -> None:
    long = '"""\n[[control]]\nversion = 3\n"""'
    text = good().replace('"Cold."', long) + "\n" + good("roof-tight").replace('"high"', '"dire"')
    assert complaint(tmp_path, text).startswith(f"house.toml:{line_of(text, 'dire')}: ")


def test_a_document_that_ends_too_soon_is_told_at_its_end(tmp_path: Path) -> None:
    text = good() + 'more = """'
    assert complaint(tmp_path, text).startswith(f"house.toml:{len(text.splitlines())}: this is not TOML")


@pytest.mark.parametrize(
    "text, line",
    [
        ("[[contorl]]\nid = 'x'\n", 1),
        ("# a\n[meta]\nversion = '1'\n", 2),
        ("\ncontrol = 1\n", 2),
        ("\ncontrol = [1]\n", 2),
        ("[control]\nid = 'x'\n", 1),
    ],
)
def test_only_control_tables_belong_into_a_catalog(tmp_path: Path, text: str, line: int) -> None:
    assert complaint(tmp_path, text).startswith(f"house.toml:{line}: only [[control]] tables belong here")


def test_controls_written_inline_are_told_by_their_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, "\ncontrol = [{id = 'x'}]\n").startswith("house.toml:2: x: ")


@pytest.mark.parametrize(
    "first, second",
    [
        (good("a"), good("a")),
        (good("a"), good("b", '["a"]')),
        (good("a", '["c"]'), good("b", '["c"]')),
        (good("a", '["b"]'), good("b")),
    ],
)
@pytest.mark.parametrize("files", [("house.toml", "house.toml"), ("a.toml", "house.toml")])
def test_an_id_is_never_used_twice(tmp_path: Path, first: str, second: str, files: tuple[str, str]) -> None:
    if files[0] == files[1]:
        told = complaint(tmp_path, first + second)
        line = len(first.splitlines()) + 1
    else:
        of(tmp_path, first, files[0])
        told = complaint(tmp_path, second)
        line = 1
    assert told.startswith(f"house.toml:{line}: ")
    assert f"by {files[0]}:1" in told


def test_an_id_is_not_its_own_alias(tmp_path: Path) -> None:
    assert "taken already" in complaint(tmp_path, good("a", '["a"]'))


# -------------------------------------------------------------------------------------------------- the shipped catalog

SHIPPED = load()
each_control = pytest.mark.parametrize("control", SHIPPED.controls, ids=lambda control: control.id)


def test_the_first_controls_are_there() -> None:
    ids = {control.id for control in SHIPPED.controls}
    assert {
        "ebs-default-encryption",
        "ec2-open-rdp",
        "ec2-open-ssh",
        "iam-root-access-key",
        "iam-unused-credentials",
        "s3-bucket-public-access-block",
    } <= ids


@each_control
def test_a_title_states_what_holds_when_all_is_well(control: Control) -> None:
    assert len(control.title) <= 150
    assert not re.match(rf"({COMMANDS})\b", control.title, re.IGNORECASE)
    assert not control.title.endswith(".")


@each_control
def test_framework_ids_are_texts(control: Control) -> None:
    assert control.frameworks
    for names in control.frameworks.values():
        assert names
        assert all(re.fullmatch(r"[A-Z0-9][A-Za-z0-9.()-]*", name) for name in names)


@each_control
def test_people_are_never_shown_what_the_catalog_calls_a_framework(control: Control) -> None:
    assert not [
        key for key in control.frameworks if "_" in framework_name(key) or framework_name(key) == "scf"
    ]


def test_a_framework_that_nobody_named_is_shown_as_it_is_written() -> None:
    assert framework_name("house_rules") == "house_rules"
    assert framework_name("cis_aws_foundations_5_0_0") == "CIS 5.0.0"


@each_control
def test_a_ceiling_and_a_status_are_meant(control: Control) -> None:
    assert control.most is control.ceiling > Mode.OBSERVE
    assert control.false_positives
    assert control.why.strip().endswith(".")


@each_control
def test_events_are_told_in_words_that_classification_understands(control: Control) -> None:
    for rule in control.events:
        assert rule.source.endswith(".amazonaws.com")
        assert rule.when is None or rule.when in PREDICATES
        if rule.target:
            jmespath.compile(rule.target)
        else:
            assert control.resource == "AWS::::Account"


@each_control
def test_what_other_services_call_it_is_written_as_they_write_it(control: Control) -> None:
    """Claims are matched by these names alone, so that one misspelt would be silence."""
    forms = {
        r"(PCI\.)?[A-Z][A-Za-z0-9]*\.[0-9]+": control.security_hub,
        r"[A-Z0-9]+(_[A-Z0-9]+)*": control.config_rules,
        r"[a-z0-9]+(-[a-z0-9]+)*": control.config_rule_names,
        r"[A-Z][A-Za-z]+:[A-Z][A-Za-z0-9]+/[A-Z][A-Za-z0-9.!]+": control.guardduty,
        r"[a-z0-9]+(_[a-z0-9]+)*": control.prowler,
    }
    for form, names in forms.items():
        assert len(names) == len(set(names))
        assert [name for name in names if not re.fullmatch(form, name)] == []
    kebab = {name.lower().replace("_", "-") for name in control.config_rules}
    assert not kebab.intersection(control.config_rule_names), (
        "only names that do not follow from the identifier"
    )
    assert set(control.access_analyzer) <= {control.resource}


@each_control
def test_opening_access_is_never_waited_for(control: Control) -> None:
    if any(rule.when == "opens_ingress" for rule in control.events):
        assert control.wait_after_create_minutes == 0


@pytest.mark.parametrize(
    "case",
    [case for control in SHIPPED.controls for case in control.edge_cases],
    ids=lambda case: case.says[:60],
)
def test_an_edge_case_names_a_test_that_exists_or_why_none_does(case: EdgeCase) -> None:
    if case.test.startswith("not exercised: "):
        assert len(case.test.split()) > 4
        return
    path, _, name = case.test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
