"""What the commands need from outside: the catalog, the tables, the API, AWS and the clock. Tests hand in their own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chalicelib.domain.errors import RedressError

if TYPE_CHECKING:
    import boto3

    from chalicelib.cli.doctor import Check
    from chalicelib.cli.ledger import Books
    from chalicelib.domain.contract import AnyRemediation, Params, Reader, State
    from chalicelib.domain.finding import Target
    from chalicelib.flow.classify import Controls
    from chalicelib.flow.command import AnyCommand
    from chalicelib.flow.desk import CommandResult
    from chalicelib.settings import Settings


class NoAccountError(RedressError):
    """The operator's own credentials are absent or refused; the message says what to do."""


class NobodyThereError(RedressError):
    """Something is to be confirmed, and there is no terminal."""


@dataclass(frozen=True)
class Outside:
    """Every door to the outside. `stage` names the deployment; nothing is opened before it is asked for."""

    catalog: Callable[[], "Controls"]
    remediations: Callable[[], "Sequence[AnyRemediation]"]
    books: Callable[[str], "Books"]
    post: Callable[[str, str | None, "AnyCommand"], "CommandResult"]
    address: Callable[[str, str | None], str]
    read_state: Callable[["AnyRemediation", "Target", "Params"], "State"]
    checks: Callable[[str], "Iterator[Check]"]
    now: Callable[[], datetime]
    confirm: Callable[[str], bool]


def real() -> Outside:
    """The real outside, with the operator's own credentials."""
    return Outside(
        catalog=_catalog,
        remediations=_remediations,
        books=_books,
        post=_post,
        address=_address,
        read_state=_read_state,
        checks=_checks,
        now=lambda: datetime.now(UTC),
        confirm=_confirm,
    )


def _catalog() -> "Controls":
    from chalicelib import catalog

    return catalog.load()


def _remediations() -> "Sequence[AnyRemediation]":
    import remediations

    return tuple(remediations.discover())


def _session() -> "boto3.Session":
    import boto3

    return boto3.Session()


def deployment(stage: str, session: "boto3.Session") -> "Settings":
    """The deployment of that stage in the operator's own account and Region."""
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

    from chalicelib.settings import Settings

    try:
        account = session.client("sts").get_caller_identity()["Account"]
    except (EndpointConnectionError, HTTPClientError) as error:
        raise NoAccountError(
            f"AWS cannot be reached ({error}): check the network, and AWS_ENDPOINT_URL if it is set"
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise NoAccountError(
            f"AWS does not know you ({error}): log in (aws sso login), or set AWS_PROFILE"
        ) from error
    if not session.region_name:
        raise NoAccountError("the Region is not known: set AWS_REGION to the home Region of the deployment")
    return Settings(stage=stage, account=account, region=session.region_name)


def _books(stage: str) -> "Books":
    from chalicelib.adapters.dynamodb import DynamoSettings, Ledger
    from chalicelib.cli.ledger import Books

    session = _session()
    settings = deployment(stage, session)
    client = session.client("dynamodb")
    stands = DynamoSettings(client, settings)
    return Books(settings.account, Ledger(client, settings), stands.case, stands.dossier)


def _post(stage: str, url: str | None, command: "AnyCommand") -> "CommandResult":
    from chalicelib.cli.api import Api

    return Api(_session(), stage, url).post(command)


def _address(stage: str, url: str | None) -> str:
    from chalicelib.cli.api import Api

    return Api(_session(), stage, url).address


def _checks(stage: str) -> "Iterator[Check]":
    from chalicelib.cli.doctor import Doctor

    session = _session()
    settings = deployment(stage, session)
    return Doctor(settings, session.client, lambda: _books(stage), datetime.now(UTC)).checks()  # type: ignore[arg-type]  # one overload for each service


def _confirm(question: str) -> bool:
    """Whether the person at the terminal says yes; NobodyThereError when there is no terminal to ask at."""
    import sys

    import typer

    if not sys.stdin.isatty():
        raise NobodyThereError("nobody is at a terminal to confirm it: look at it first, then say --yes")
    return typer.confirm(question, err=True)


def _read_state(remediation: "AnyRemediation", target: "Target", params: "Params") -> "State":
    """The resource as it is now, by the engine's own reader, signed with the operator's own credentials."""
    session = _session()
    settings = deployment("", session)
    if settings.account != target.account:
        raise NoAccountError(
            f"your credentials are of account {settings.account}, but the event is of {target.account}"
        )
    state: State = remediation.assess(target, params, own_reader(session, settings, remediation, target))
    return state


def own_reader(
    session: "boto3.Session", settings: "Settings", remediation: "AnyRemediation", target: "Target"
) -> "Reader":
    """A reader of the remediation's declared reads on the operator's own credentials, and of nothing else."""
    from chalicelib.adapters.aws import Clients, DeclaredReader, Session
    from chalicelib.adapters.clock import SystemClock

    def own() -> Session:
        credentials = session.get_credentials()
        if credentials is None:
            raise NoAccountError("no AWS credentials were found: log in (aws sso login), or set AWS_PROFILE")
        keys = credentials.get_frozen_credentials()
        never = datetime.max.replace(tzinfo=UTC)
        return Session(
            settings.account, keys.access_key or "", keys.secret_key or "", keys.token or "", never
        )

    return DeclaredReader(Clients(settings), SystemClock(), remediation, target.region, own)
