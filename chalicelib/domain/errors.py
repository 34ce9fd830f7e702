"""The exception tree, all of it.

Every error that Redress raises is a `RedressError`; what the service said is an `AwsError` with its code, so that a
remediation can catch one code by name at the call that may raise it and let everything else go up.
"""


class RedressError(Exception):
    """Root of the tree: anything that Redress itself refuses or cannot do."""


class CatalogError(RedressError):
    """A catalog file is wrong; the message names the file and the line."""


class ContractError(RedressError):
    """A remediation, a plan or a record breaks its own promise."""


class MalformedEventError(RedressError):
    """The message is no event at all; it is left to the dead-letter queue, which keeps it."""


class RefusedCommandError(RedressError):
    """A person asked for something that the engine does not do; the message says why and what to do instead."""


class TargetGoneError(RedressError):
    """The target no longer exists, said by the service in the account and Region of the finding."""


class StoreError(RedressError):
    """Our own tables could not be read or written: nothing may be changed, the message goes back to its queue."""


class UnreadableError(StoreError):
    """Items of our own tables that cannot be read, told of when all the others have been handed out."""


class OversizeError(StoreError):
    """What was to be written is larger than an item may be; nothing was written, and no retry will change that."""


class ConflictError(StoreError):
    """A conditional write lost: somebody else moved the case on since it was read."""


class BusyError(RedressError):
    """The target is in another run's hands; come back in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GuardError(RedressError):
    """A guard stopped the run before a write: frozen, over a limit, or out of lease."""


class FrozenError(GuardError):
    """The kill switch is on for this scope."""


class LimitError(GuardError):
    """The run's reservation no longer fits the limits."""


class LeaseError(GuardError):
    """The call could outlive the lease, so it is not started."""


class UndeclaredCallError(GuardError):
    """A remediation asked for an operation that it does not declare."""


class AwsError(RedressError):
    """What a service answered instead of doing what it was asked: `code` is its error code, `request_id` its request."""

    def __init__(
        self, service: str, operation: str, code: str, message: str, request_id: str | None = None
    ) -> None:
        super().__init__(f"{service}:{operation}: {code}: {message}")
        self.service = service
        self.operation = operation
        self.code = code
        self.request_id = request_id


class AccessDeniedError(AwsError):
    """The role that made the call lacks the right."""


class TransientError(AwsError):
    """Throttled, timed out or unavailable: the same call may go through later, so the message returns to its queue."""


class DeliveryError(RedressError):
    """Something could not be told outside. Nothing is decided by that, and nothing is lost: what to tell stands in the outbox."""


class LaterError(DeliveryError):
    """The other side is busy, down or unreachable, and did nothing: try again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AmbiguousError(LaterError):
    """The other side may have done it: the connection broke after the request was sent. Look before trying again."""


class UnreachableError(DeliveryError):
    """There is no such channel, project or page, or we are not let in: another destination is needed, or a person's hand."""


class MessageGoneError(UnreachableError):
    """The message that was to be changed is deleted, or can be changed no more: post a new one."""


class RejectedError(DeliveryError):
    """The other side understood and refused: the same request will be refused again."""


class SignInError(RedressError):
    """Nobody was signed in: the message says why, in words that give an attacker nothing."""
