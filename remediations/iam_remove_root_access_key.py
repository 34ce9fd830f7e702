"""The root user of the account has no access key, active or not. A person removes it: no API of the account can.

It always ends as a ticket, with the steps. It is declined too when IAM does not say whether there is a key.
"""

from datetime import datetime

from chalicelib.domain.contract import (
    NOTHING_TO_DO,
    Cause,
    Declined,
    Params,
    Permission,
    Plan,
    Reader,
    Remediation,
    Risk,
    RunRecord,
    State,
    Step,
    shell,
)
from chalicelib.domain.finding import Target
from chalicelib.domain.shape import mapping


class NoParams(Params):
    """One key is too many."""


class RootKeys(State):
    """How many access keys the root user has, by IAM's account summary; None when it does not say."""

    present: int | None

    @property
    def compliant(self) -> bool:
        """True when IAM said that there is none."""
        return self.present == 0


def assess(target: Target, params: NoParams, aws: Reader) -> RootKeys:
    summary = mapping(aws.read("iam", "GetAccountSummary").get("SummaryMap"))
    return RootKeys(present=summary.get("AccountAccessKeysPresent"))


def plan(target: Target, params: NoParams, state: RootKeys, cause: Cause, as_of: datetime) -> Plan:
    if state.compliant:
        return NOTHING_TO_DO
    why = (
        "IAM does not say whether the root user has one: look at the root user's security credentials"
        if state.present is None
        else "only the root user can delete its keys, and a deleted key never comes back: a person signs in and does it"
    )
    return Plan(declined=(Declined(what=f"access keys of the root user of {target.account}", why=why),))


def undo(target: Target, run: RunRecord[RootKeys], now: RootKeys) -> Plan:
    return NOTHING_TO_DO


def survey(place: Target, params: NoParams, aws: Reader) -> tuple[Target, ...]:
    return (place,)


def by_hand(target: Target, state: RootKeys) -> tuple[Step, ...]:
    return (
        Step(
            console="As an administrator: IAM > Credential report > Download credential report. In the row <root_account>,"
            " access_key_1_last_used_date, …_region and …_service (and access_key_2_…) tell when, where and for what the"
            " keys were last used. Whatever uses one gets a role first.",
            command=shell("aws", "iam", "generate-credential-report"),
        ),
        Step(
            console=f"Sign in to account {target.account} as the root user, with its mail address and MFA: nobody else can"
            " see its keys. Account name (upper right) > Security credentials > Access keys > the key > Actions >"
            " Deactivate. In GovCloud the root user has no console: the AWS CLI, signing with the key itself, deletes"
            " it."
        ),
        Step(
            console="Wait until it is certain that nothing fails. Then Access keys > the key > Actions > Delete, with its"
            " id typed to confirm. It never comes back."
        ),
        Step(
            console="As an administrator again: AccountAccessKeysPresent is 0. The next sweep sees it and closes the"
            " ticket.",
            command=shell(
                "aws", "iam", "get-account-summary", "--query", "SummaryMap.AccountAccessKeysPresent"
            ),
        ),
    )


def as_code(target: Target, state: RootKeys) -> str:
    return "# No Terraform resource manages the root user's access keys: a person signs in as root and deletes them.\n"


REMEDIATION = Remediation(
    id="iam_remove_root_access_key",
    controls=("iam-root-access-key",),
    summary="Opens a ticket with the steps when the root user has an access key, which only root itself can delete.",
    risk=Risk.HIGH,
    reads=(Permission("iam:GetAccountSummary"),),
    writes=(),
    undo_writes=(),
    params=NoParams,
    state=RootKeys,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=survey,
    by_hand=by_hand,
    as_code=as_code,
    everywhere="account",
)
