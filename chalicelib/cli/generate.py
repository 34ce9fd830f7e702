"""The generated files: policies and templates, from what the catalog listens for and what the remediations declare."""

import json
from pathlib import Path

import remediations
from chalicelib import catalog
from chalicelib.adapters.tables import TABLES
from chalicelib.cli import patterns, policies, template

POLICIES = ".chalice/policies"
RESOURCES = ".chalice/resources.yaml"
MEMBER = ".chalice/member.yaml"


def generate(root: Path) -> dict[Path, str]:
    """Every generated file of the project at `root`, and the text that it should have. The same on every run."""
    declared = remediations.discover()
    routes = patterns.routes(catalog.load().controls)
    grants = template.Grants(
        engine=policies.engine(),
        http=policies.http(),
        read=policies.read(declared),
        act=policies.act(declared),
        undo=policies.undo(declared),
        outbox=policies.outbox(),
        undoer=policies.undoer(),
        notifier=policies.notifier(),
    )
    return {
        **{root / POLICIES / f"{name}.json": _json(granted) for name, granted in vars(grants).items()},
        root / RESOURCES: template.text(template.home(routes, grants, TABLES)),
        root / MEMBER: template.text(template.member(routes, grants)),
    }


def _json(document: policies.Document) -> str:
    return json.dumps(document, indent=2) + "\n"
