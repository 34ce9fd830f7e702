"""What the commands need from outside: the catalog, the tables, the API, AWS and the clock. Tests hand in their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.domain.errors import AccessDeniedError, AwsError, ContractError, RedressError, TransientError

if TYPE_CHECKING:
    import boto3

    from chalicelib.cli.doctor import Check
    from chalicelib.cli.ledger import Books
    from chalicelib.domain.contract import AnyRemediation, Params, State
    from chalicelib.domain.finding import Target
    from chalicelib.flow.classify import Controls
    from chalicelib.flow.command import AnyCommand, CommandResult
    from chalicelib.settings import Settings


class NoAccountError(RedressError):
    """The operator's own credentials are absent or refused; the message says what to do."""


@dataclass(frozen=True)
class Outside:
    """Every door to the outside. `stage` names the deployment; nothing is opened before it is asked for."""

    catalog: Callable[[], "Controls"]
    remediations: Callable[[], "Sequence[AnyRemediation]"]
    books: Callable[[str], "Books"]
    post: Callable[[str, str | None, "AnyCommand"], "CommandResult"]
    read_state: Callable[["AnyRemediation", "Target", "Params"], "State"]
    checks: Callable[[str], "Iterator[Check]"]
    now: Callable[[], datetime]


def real() -> Outside:
    """The real outside, with the operator's own credentials."""
    return Outside(
        catalog=_catalog,
        remediations=_remediations,
        books=_books,
        post=_post,
        read_state=_read_state,
        checks=_checks,
        now=lambda: datetime.now(UTC),
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


def _deployment(stage: str, session: "boto3.Session") -> "Settings":
    """The deployment of that stage in the operator's own account and Region."""
    from botocore.exceptions import BotoCoreError, ClientError

    from chalicelib.settings import Settings

    try:
        account = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise NoAccountError(
            f"AWS does not know you ({error}): log in (aws sso login), or set AWS_PROFILE"
        ) from error
    if not session.region_name:
        raise NoAccountError("the Region is not known: set AWS_REGION to the home Region of the deployment")
    return Settings(stage=stage, account=account, region=session.region_name)


def _books(stage: str) -> "Books":
    from chalicelib.adapters.dynamodb import DynamoCases, Ledger
    from chalicelib.cli.ledger import Books

    session = _session()
    settings = _deployment(stage, session)
    client = session.client("dynamodb")
    return Books(settings.account, Ledger(client, settings), DynamoCases(client, settings).case)


def _post(stage: str, url: str | None, command: "AnyCommand") -> "CommandResult":
    from chalicelib.cli.api import Api

    return Api(_session(), stage, url).post(command)


def _checks(stage: str) -> "Iterator[Check]":
    from chalicelib.cli.doctor import Doctor

    session = _session()
    settings = _deployment(stage, session)
    return Doctor(settings, session.client, lambda: _books(stage), datetime.now(UTC)).checks()  # type: ignore[arg-type]  # one overload for each service


def _read_state(remediation: "AnyRemediation", target: "Target", params: "Params") -> "State":
    session = _session()
    account = _deployment("", session).account
    if account != target.account:
        raise NoAccountError(
            f"your credentials are of account {account}, but the event is of {target.account}"
        )
    state: State = remediation.assess(target, params, OwnReader(session, remediation, target.region))
    return state


class OwnReader:
    """A `contract.Reader` on the operator's own credentials. It makes declared reads and refuses everything else."""

    def __init__(self, session: "boto3.Session", remediation: "AnyRemediation", region: str) -> None:
        self._session = session
        self._declared = {permission.action.lower() for permission in remediation.reads}
        self._region = region

    def read(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:  # noqa: ANN401 -- boto3's own parameters
        """The response of one declared read."""
        return dict(self._call(service, operation, lambda client, name: getattr(client, name)(**params)))

    def pages(self, service: str, operation: str, key: str, /, **params: Any) -> list[Any]:  # noqa: ANN401 -- boto3's own parameters
        """Every element under `key` of every page."""
        found: list[Any] = self._call(
            service,
            operation,
            lambda client, name: [
                one for page in client.get_paginator(name).paginate(**params) for one in page[key]
            ],
        )
        return found

    def _call(self, service: str, operation: str, make: Callable[[Any, str], Any]) -> Any:  # noqa: ANN401 -- an AWS response
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError

        if f"{service}:{operation}".lower() not in self._declared:
            raise ContractError(f"{service}:{operation} is no declared read")
        try:
            client: Any = self._session.client(service, region_name=self._region)  # type: ignore[call-overload]  # the service is data
            return make(client, xform_name(operation))
        except ClientError as error:
            raise _said(service, operation, error.response) from error
        except BotoCoreError as error:
            raise TransientError(service, operation, type(error).__name__, str(error)) from error


def _said(service: str, operation: str, response: Mapping[str, Any]) -> AwsError:
    said = response.get("Error", {})
    code, message = str(said.get("Code", "unknown")), str(said.get("Message", ""))
    denied = code in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
    return (AccessDeniedError if denied else AwsError)(service, operation, code, message)
