"""What every test stands on: no account within reach, and no test that quietly does not run."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

FAKE_AWS = (
    ("AWS_ACCESS_KEY_ID", "testing"),
    ("AWS_SECRET_ACCESS_KEY", "testing"),
    ("AWS_SESSION_TOKEN", "testing"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_DEFAULT_REGION", "us-east-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", os.devnull),
    ("AWS_SHARED_CREDENTIALS_FILE", os.devnull),
    (
        "MOTO_EC2_LOAD_DEFAULT_AMIS",
        "false",
    ),  # 1,300 images that nobody asks for cost most of a second per test
)
REAL_AWS = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

SHARED_ABSENT = "the real events are not here, nor is the folder that would hold them"
"""The one skip that REDRESS_REQUIRE_ALL=1 permits."""


CHROMIUM = Path("/usr/bin/chromium")
"""Where Debian puts it (packages.debian.org/chromium); `make chromium` installs it."""


def everything_is_required() -> bool:
    """Whether a skip counts as a failure, as it does in .ci/run."""
    return os.environ.get("REDRESS_REQUIRE_ALL") == "1"


settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A timed test fails on a busy machine and tells nothing; times are for `make bench`."""


def pytest_configure() -> None:
    """Before anything of ours is imported: a client made at import time must not find a real account either."""
    for name in REAL_AWS:
        os.environ.pop(name, None)
    os.environ.update(FAKE_AWS)
    settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake credentials, whatever the test before left behind."""
    for name in REAL_AWS:
        monkeypatch.delenv(name, raising=False)
    for name, value in FAKE_AWS:
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real events: REDRESS_CORPUS, or shared/events beside the project."""
    folder = Path(os.environ.get("REDRESS_CORPUS") or ROOT.parent / "shared" / "events").resolve()
    if folder.is_dir():
        return folder
    if not folder.parent.is_dir():
        pytest.skip(f"{SHARED_ABSENT}: {folder}")
    if everything_is_required():
        pytest.fail(
            f"{folder.parent} exists and {folder.name} is missing in it: these tests are required here"
        )
    pytest.skip(f"the real events are not at {folder}; set REDRESS_CORPUS to where they are")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the folder or the kind of a test says of it, said once for all of them.

    Attacks, browsers and the emulated world's own parts are thorough, and browsers are skipped where there is no Chromium.
    Tests that start servers or build packages stay together, module by module (`--dist loadgroup`), and share what they started.
    """
    for item in items:
        room = item.path.relative_to(ROOT / "tests").parts[0]
        if room in {"attack", "browser", "local"}:
            item.add_marker(pytest.mark.thorough)
        if room == "browser" and not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason=f"there is no {CHROMIUM}: `make chromium` installs it"))
        if item.get_closest_marker("emulator") or item.get_closest_marker("package"):
            item.add_marker(pytest.mark.xdist_group(f"{room}.{item.path.stem}"))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where everything is required, a skip fails, but for the one reason above and for an expected failure."""
    if not everything_is_required() or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if SHARED_ABSENT in reason:
        return
    report.outcome = "failed"
    report.longrepr = f"every test must run here (REDRESS_REQUIRE_ALL=1), and this one did not. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
