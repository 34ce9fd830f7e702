"""One JSON secret of AWS Secrets Manager, remembered for five minutes. What is in it never leaves by repr, error or log.

botocore writes whole responses into its own log at DEBUG: no function of ours switches that on.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import JsonValue

from chalicelib.adapters.aws import aws_error
from chalicelib.domain.errors import StoreError
from chalicelib.domain.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

KEPT = timedelta(minutes=5)
"""For so long a secret is not read again: a key that was taken out opens nothing afterwards."""


class Secrets:
    """The secret `name`, read with secretsmanager:GetSecretValue. Where it cannot be read or has another shape: StoreError."""

    def __init__(self, client: "SecretsManagerClient", name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._kept: tuple[datetime, dict[str, JsonValue]] | None = None

    def texts(self, *path: str) -> tuple[str, ...]:
        """The texts under that path of keys, the first of them the newest; one text is a list of one, and nothing is empty.

        Without what stands around them: `echo token |` leaves a line break behind, which is part of no credential.
        """
        found = self._at(path)
        listed = found if isinstance(found, list) else [] if found is None else [found]
        texts = tuple(text for one in listed if isinstance(one, str) and (text := one.strip()))
        return texts if len(texts) == len(listed) else self._misshapen(path, "a text, or a list of texts")

    def fields(self, *path: str) -> Mapping[str, str]:
        """The named texts under that path of keys, as `texts` has them; empty when there is nothing."""
        found = self._at(path)
        named = {} if found is None else found
        if not isinstance(named, dict):
            return self._misshapen(path, "an object of texts")
        texts = {name: text.strip() for name, text in named.items() if isinstance(text, str)}
        return texts if len(texts) == len(named) else self._misshapen(path, "an object of texts")

    def _at(self, path: tuple[str, ...]) -> JsonValue:
        found: JsonValue = self._read()
        for depth, key in enumerate(path):
            if not isinstance(found, dict):
                return self._misshapen(path[:depth], "an object")
            found = found.get(key)
            if found is None:
                return None
        return found

    def _read(self) -> dict[str, JsonValue]:
        now = self._clock.now()
        if self._kept is None or not timedelta() <= now - self._kept[0] < KEPT:
            self._kept = now, self._fetched()
        return self._kept[1]

    def _fetched(self) -> dict[str, JsonValue]:
        try:
            text = self._client.get_secret_value(SecretId=self._name).get("SecretString", "")
        except (ClientError, BotoCoreError) as error:
            raise StoreError(
                f"secret {self._name}: {aws_error(error, 'secretsmanager', 'GetSecretValue')}. Nothing is taken for it; look"
                " whether it exists and the function's role may read it"
            ) from error
        secret = _parsed(text)
        # Raised out here, and not while handling: json's error keeps the whole text.
        return secret if isinstance(secret, dict) else self._misshapen((), "a JSON object")

    def _misshapen(self, path: tuple[str, ...], expected: str) -> NoReturn:
        where = f" at {'.'.join(path)}" if path else ""
        raise StoreError(
            f"secret {self._name}: what it holds{where} is not {expected}; docs/operating.md shows how it looks"
        )


def _parsed(text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed
