"""moto behind MiniStack's front door: EC2 and a few services that MiniStack lacks or gets wrong.

MiniStack authenticates, authorises and picks the account; only then does a request reach moto, in process and
without a web server. moto's stores are not written for threads, so one lock covers every answer.
"""
# ruff: noqa: ANN401 - what MiniStack and moto hand out has no types

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from local.emulator import names

SERVICES: Final = ("ec2", "guardduty", "securityhub", "macie2", "redshift")
_REQUEST_ID: Final = re.compile(r"(<(requestId|RequestId|RequestID|RequestID)>)[^<]*(</\2>)")

Answer = tuple[int, dict[str, str], bytes]


class Hybrid:
    """The moto services of one emulator process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[str, list[tuple[re.Pattern[str], Any]]] = {}

    def install(self) -> None:
        """Register every service with MiniStack; moto itself is imported later, see `warm`."""
        for service in SERVICES:
            names.register_moto_service(service, self._handler(service))

    def warm(self) -> None:
        """Import moto's EC2 now (about a second, mostly its data files), off the serving thread."""
        with self._lock:
            self._compiled("ec2")

    def _handler(self, service: str) -> Any:
        async def handle(
            method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
        ) -> Answer:
            account, region = names.GET_ACCOUNT.get()(), names.GET_REGION.get()()
            return await asyncio.to_thread(
                self._answer, service, account, region, method, path, headers, body, query
            )

        return handle

    def _compiled(self, service: str) -> list[tuple[re.Pattern[str], Any]]:
        if service not in self._routes:
            from local.emulator.patches import patch_moto  # noqa: PLC0415 - moto is slow to import

            if service == "ec2":
                patch_moto()
            self._routes[service] = [(re.compile(p), answer) for p, answer in names.moto_paths(service)]
        return self._routes[service]

    def _answer(
        self,
        service: str,
        account: str,
        region: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, list[str]],
    ) -> Answer:
        url = f"https://{service}.{region}.amazonaws.com{path}"
        with self._lock:
            routes = self._compiled(service)
            answer = next((found for pattern, found in routes if pattern.match(url)), None)
            if answer is None:
                return 404, {"Content-Type": "application/json"}, b'{"__type": "UnknownOperationException"}'
            kept = {k: v for k, v in headers.items() if k not in {"host", "content-length"}}
            text = f"{url}?{urlencode(query, doseq=True)}" if query else url
            request = names.MOTO_REQUEST.get().from_primitives(
                method, text, {**kept, "x-moto-account-id": account}, body
            )
            status, answered, content = answer(request, text, request.headers)
        raw = content.encode() if isinstance(content, str) else bytes(content)
        # moto answers every EC2 call with one constant request id; on AWS it identifies the call.
        raw = _REQUEST_ID.sub(rf"\g<1>{uuid.uuid4()}\g<3>", raw.decode()).encode() if raw[:1] == b"<" else raw
        plain = {str(k): str(v) for k, v in dict(answered).items() if str(k).lower() != "content-length"}
        return int(status), plain, raw
