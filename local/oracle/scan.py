"""Runs Prowler's own AWS checks against an emulated AWS and prints what they find as JSON.

Only Prowler's code decides PASS or FAIL; this file makes its AwsProvider and calls each check. It runs in .venv-judge,
one process per scan, because Prowler's clients are made when its modules are imported. Loopback endpoints only.

    .venv-judge/bin/python local/oracle/scan.py http://127.0.0.1:4566 ec2_ebs_default_encryption …
"""

import importlib
import importlib.metadata
import ipaddress
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse


class Errors(logging.Handler):
    """Prowler's services swallow API errors and log them. They are kept: what could not be read taints a result."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line of one message, with the module that it came from."""
        self.seen.add((record.module, record.getMessage().split("\n")[0][:300]))


def refuse_real_endpoints(endpoint: str) -> None:
    host = urlparse(endpoint).hostname or ""
    if host != "localhost" and not (host[:1].isdigit() and ipaddress.ip_address(host).is_loopback):
        raise SystemExit(f"{endpoint} is no loopback endpoint: the judge never looks at a real account")


def provider_of(endpoint: str, region: str, checks: list[str]) -> Any:  # noqa: ANN401 -- Prowler is not installed where types are checked
    """Prowler's AwsProvider on the emulated AWS; unused services are scanned too, because a lone group is unused."""
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    aws = importlib.import_module("prowler.providers.aws.aws_provider")
    common = importlib.import_module("prowler.providers.common.provider")
    models = importlib.import_module("prowler.providers.common.models")
    provider = aws.AwsProvider(
        regions={region},
        scan_unused_services=True,
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        retries_max_attempts=0,
    )
    common.Provider.set_global_provider(provider)
    provider.audit_metadata = models.Audit_Metadata(
        services_scanned=0, expected_checks=checks, completed_checks=0, audit_progress=0
    )
    return provider


def service_of(check: str) -> str:
    """The folder that holds the check."""
    root = Path(importlib.import_module("prowler").__path__[0], "providers", "aws", "services")
    found = next(root.glob(f"*/{check}/{check}.py"), None)
    if found is None:
        raise LookupError("this Prowler has no such check")
    return found.parents[1].name


def findings_of(check: str) -> list[dict[str, str]]:
    """What one check says of every resource that it looks at."""
    # A group that is open on all ports makes later checks say PASS without a look: each is asked alone.
    importlib.import_module("prowler.providers.aws.lib.service.service").AWSService.failed_checks.clear()
    module = importlib.import_module(f"prowler.providers.aws.services.{service_of(check)}.{check}.{check}")
    return [
        {
            "check": check,
            "resource": found.resource_arn or found.resource_id,
            "region": found.region,
            "status": found.status,
            "why": found.status_extended,
        }
        for found in getattr(module, check)().execute()
    ]


def scan(endpoint: str, checks: list[str]) -> dict[str, Any]:
    """Every finding of every check, what Prowler could not read, and the checks that broke."""
    refuse_real_endpoints(endpoint)
    began = time.monotonic()
    errors = Errors()
    provider = provider_of(endpoint, os.environ["AWS_REGION"], checks)
    prowler_logger = importlib.import_module("prowler.lib.logger").logger
    for handler in (*logging.getLogger().handlers, *prowler_logger.handlers):
        handler.setLevel(logging.CRITICAL + 1)
    logging.getLogger().addHandler(errors)
    prowler_logger.setLevel(logging.ERROR)
    findings: list[dict[str, str]] = []
    broken: dict[str, str] = {}
    for check in checks:
        try:
            findings += findings_of(check)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a check that breaks is reported, and the others still run
            broken[check] = f"{type(error).__name__}: {error}"[:300]
    return {
        "prowler": importlib.metadata.version("prowler"),
        "account": provider.identity.account,
        "seconds": round(time.monotonic() - began, 1),
        "findings": findings,
        "broken": broken,
        "unread": sorted(f"{module}: {message}" for module, message in errors.seen),
    }


def main() -> None:
    """Prowler prints as it goes, so the answer leaves by a copy of stdout that it does not know."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    json.dump(scan(sys.argv[1], sys.argv[2:]), answer)
    answer.close()
    os._exit(0)  # thread pools of Prowler's services would keep the process


if __name__ == "__main__":
    main()
