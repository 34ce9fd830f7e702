"""Ticket systems, each behind `domain.delivery.TicketSystem`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chalicelib.adapters.tickets.github import GitHub
from chalicelib.adapters.tickets.jira import Jira
from chalicelib.adapters.tickets.opscenter import OpsCenter
from chalicelib.adapters.tickets.servicenow import ServiceNow
from chalicelib.adapters.tickets.webhook import Webhook
from chalicelib.adapters.web import Outward
from chalicelib.domain.delivery import TicketSystem
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


def system_of(
    integration: Integration, credentials: Mapping[str, str], web: Outward, ssm: "SSMClient", clock: Clock
) -> TicketSystem:
    """The system that the integration names; UnreachableError, with what to do, when it or its credentials do not suffice."""
    match integration.system:
        case "jira":
            return Jira(integration, credentials, web)
        case "servicenow":
            return ServiceNow(integration, credentials, web)
        case "github":
            return GitHub(integration, credentials, web)
        case "opscenter":
            return OpsCenter(integration, ssm)
        case "webhook":
            return Webhook(integration, credentials, web, clock)
