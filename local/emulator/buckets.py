"""S3 where MiniStack lacks something: whose bucket a caller expects, and whether a policy is public."""
# ruff: noqa: ANN401 - what MiniStack hands out has no types

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from local.emulator import names

_EXPECTED: Final = "x-amz-expected-bucket-owner"


def patch() -> None:
    """Mend MiniStack's S3. Requests have been authorised when they arrive here."""
    handle = names.SERVICE_HANDLERS.get()["s3"]

    async def mended(
        method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> Any:
        expected = headers.get(_EXPECTED)
        bucket = path.strip("/").split("/", 1)[0]
        if expected and bucket and names.BUCKET_OWNER.get()(bucket) not in {None, expected}:
            status, answered, content = names.S3_ERROR.get()(
                "AccessDenied", "Access Denied", 403, f"/{bucket}"
            )
            return status, answered, b"" if method == "HEAD" else content
        if method != "GET" or "policyStatus" not in query:
            return await handle(method, path, headers, body, query)
        # What stands in the way of the policy (no such bucket, no policy) stands in the way of its status.
        status, answered, content = await handle(method, path, headers, body, {"policy": [""]})
        return (status, answered, content) if status != 200 else _policy_status(content)  # noqa: PLR2004 -- HTTP's own number

    names.SERVICE_HANDLERS.get()["s3"] = mended


def _policy_status(policy: bytes) -> Any:
    public = str(names.POLICY_IS_PUBLIC.get()(policy.decode())).lower()
    answer = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<PolicyStatus xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsPublic>{public}</IsPublic></PolicyStatus>'
    )
    return 200, {"Content-Type": "application/xml"}, answer.encode()
