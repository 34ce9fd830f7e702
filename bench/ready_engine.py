"""A fresh process that becomes ready to walk: `app`, the engine, and the four clients of a walk that acts."""

import sys
from typing import Any, cast

import app
from chalicelib import bootstrap
from chalicelib.settings import from_environment

region = from_environment().region
aws = cast("Any", bootstrap.engine().engine.aws)  # the engine and, with it, the clients of dynamodb and sqs
aws._clients._client("ec2", region)  # noqa: SLF001 -- made on first use, which here is now
aws._roles._client()  # noqa: SLF001 -- likewise, of sts
sys.stdout.write(f"ready {app.app.app_name}\n")
sys.stdout.flush()
