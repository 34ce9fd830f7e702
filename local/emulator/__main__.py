"""`python -m local.emulator`: the emulated AWS in the foreground, on loopback only.

It owns one temporary folder, ends its Lambda workers and removes the folder when it stops. With `--lifeline`
it stops when its standard input closes, so that it never outlives the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

CLOCK = "clock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; 0 when that went well."""
    options = _options(arguments)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    port = int(listener.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="redress-emulator-"))
    try:
        # MiniStack reads its environment when it is imported, which `_serve` does and nothing before.
        _prepare_environment(options, port, folder)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(name)s] %(message)s")
        asyncio.run(_serve(options, listener, port, folder / CLOCK))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--account", default="111111111111", help="the home account")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--auth", action="store_true", help="check signatures and IAM policies")
    parser.add_argument(
        "--delay", type=float, default=0.0, help="seconds from a call to its CloudTrail event"
    )
    parser.add_argument("--lambda-concurrency", type=int, default=6)
    parser.add_argument(
        "--regions", nargs="+", default=[], help="those that are switched on; default: AWS's own"
    )
    parser.add_argument("--ready-file", type=Path, help="written, as JSON, once requests are served")
    parser.add_argument("--lifeline", action="store_true", help="stop when standard input closes")
    return parser.parse_args(arguments)


def _prepare_environment(options: argparse.Namespace, port: int, folder: Path) -> None:
    for name in [key for key in os.environ if key.startswith(("AWS_", "MOTO_", "MINISTACK_", "LAMBDA_"))]:
        del os.environ[name]
    # Functions inherit this environment. What their zip forgot must not be found in the project's folder.
    # What is on their path besides holds nothing but the hook that lets `World.shift_clock` move their clock.
    os.environ.update(
        {
            "PYTHONPATH": str(Path(__file__).resolve().parent / "worker"),
            "REDRESS_LOCAL_CLOCK": str(folder / CLOCK),
            "AUTH": "true" if options.auth else "false",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": options.account,
            "MINISTACK_REGION": options.region,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "0",
            "LOG_LEVEL": "INFO",
            "TMPDIR": str(folder),
            # Nothing here may look for a Docker daemon: the emulator runs without one.
            "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
            "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            "REDRESS_LOCAL_REGIONS": " ".join(options.regions),
        }
    )
    tempfile.tempdir = str(folder)


async def _serve(options: argparse.Namespace, listener: socket.socket, port: int, clock: Path) -> None:
    from hypercorn.asyncio import serve  # noqa: PLC0415 -- after the environment is prepared
    from hypercorn.config import Config  # noqa: PLC0415 -- after the environment is prepared

    from local.emulator import names  # noqa: PLC0415 -- after the environment is prepared
    from local.emulator.hybrid import Hybrid  # noqa: PLC0415 -- after the environment is prepared
    from local.emulator.patches import patch_ministack  # noqa: PLC0415 -- after the environment is prepared
    from local.emulator.server import Server  # noqa: PLC0415 -- after the environment is prepared

    gone = names.missing("ministack")
    if gone:
        raise RuntimeError("MiniStack has changed under us:\n" + "\n".join(gone))
    hybrid = Hybrid()
    hybrid.install()
    patch_ministack(options.lambda_concurrency)
    application = Server(options.account, options.region, options.delay, clock)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has no loop signal handlers
            loop.add_signal_handler(number, stop.set)
    if options.lifeline:
        _watch_lifeline(loop, stop)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # hypercorn closes it
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.05
    config.loglevel = "WARNING"

    async def until_stopped() -> None:
        _announce(options, port)
        threading.Thread(target=hybrid.warm, name="import-moto", daemon=True).start()
        await stop.wait()

    try:
        await serve(application, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]  # our ASGI types are wider than hypercorn's
    finally:
        names.stop_lambda()


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _announce(options: argparse.Namespace, port: int) -> None:
    ready = {"endpoint": f"http://127.0.0.1:{port}", "account": options.account, "region": options.region}
    if options.ready_file is None:
        sys.stdout.write(f"emulated AWS at {ready['endpoint']}, account {options.account}\n")
        sys.stdout.flush()
        return
    # Renamed into place, so that a reader never sees half of it.
    partial = options.ready_file.with_suffix(".partial")
    partial.write_text(json.dumps(ready))
    partial.replace(options.ready_file)


if __name__ == "__main__":
    outcome = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is cleaned up; letting Python take moto's tables apart piece by piece would cost half a second more.
    os._exit(outcome)
