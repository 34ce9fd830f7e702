"""The only way out to the web, for what is no AWS service: identity providers, ticket systems, webhooks.

Addresses come from people's settings, so each request is guarded (SSRF): HTTPS only; the name is resolved once, every
address it has must be one of the public Internet, and the connection goes to the very address that was looked at, with the
certificate checked for the name. No redirect is followed, no proxy of the environment is used, no cookie is kept.
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Timer
from types import MappingProxyType
from typing import Protocol

from chalicelib.domain.errors import AmbiguousError, LaterError, UnreachableError

RETRY_SECONDS = 30
"""When to try again what could not be connected."""

CHUNK = 65536

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!-\"$-~]*)?"
)
"""No user, no fragment, nothing but printable ASCII: one reading only, so that guard and connection mean the same host."""

_HEADER = re.compile(r"[ -~\xa0-\xff]*")
"""What a header's value may hold. http.client refuses some of the rest, with the whole value in its message."""

_INTERNET = IPv6Network("2000::/3")
_DETOURS = (
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("192.0.0.0/24"),
)
"""Public for Python, but leading to an embedded IPv4 address (6to4, RFC 3056), to the nearest of its relays (RFC 7526), to
the protocols' own (RFC 6890), or documentation (RFC 9637)."""

Resolve = Callable[[str, int], Iterable[str]]
"""The addresses of a name, in the order in which to try them, or OSError."""


def addresses(host: str, port: int) -> list[str]:
    """What the machine's resolver says. It takes the time that it takes: DNS has no part in a request's timeout."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """True for a unicast address of the public Internet.

    Not so for private, shared, loopback, link-local (with the metadata service), multicast, reserved or documentation
    addresses (RFC 6890), nor for IPv6 that stands for an IPv4 address: mapped, 6to4, NAT64, Teredo.
    """
    if not address.is_global or address.is_multicast or any(address in one for one in _DETOURS):
        return False
    return isinstance(address, IPv4Address) or address in _INTERNET


@dataclass(frozen=True)
class Answer:
    """What came back, whatever the status. Header names are lower-case; repeated ones are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outward(Protocol):
    """The way out as those see it who use it: `Web`, or what a test puts in its place."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        most_bytes: int,
    ) -> Answer:
        """One request and its answer, or a DeliveryError."""
        ...


class Web:
    """Requests to other people's servers. `allow_loopback` is for the emulated world alone, and lets in plain HTTP there."""

    def __init__(
        self, *, allow_loopback: bool = False, resolve: Resolve = addresses, tls: ssl.SSLContext | None = None
    ) -> None:
        self._allow_loopback = allow_loopback
        self._resolve = resolve
        self._tls = tls

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes | None = None,
        timeout_seconds: float = 5,
        most_bytes: int = 262_144,
    ) -> Answer:
        """One request, sent at most once, and its answer within `timeout_seconds` in all.

        UnreachableError: the guard or the certificate check refused, and nothing was sent. LaterError: nothing was sent
        either, because no connection came about. AmbiguousError: something was sent and no whole answer came back. The
        messages name the host or a header, never path, query, content or a header's value: those may hold secrets.
        """
        parts = _URL.fullmatch(url)
        if parts is None or not 0 < int(parts["port"] or 443) < 65536:  # noqa: PLR2004 -- the ports that there are
            raise UnreachableError("the address is not one that we would connect to: https://host/path")
        secure = parts["scheme"] == "https"
        host = parts["host"].strip("[]")
        port = int(parts["port"] or (443 if secure else 80))
        for name, value in headers.items():
            if not _HEADER.fullmatch(value):
                raise UnreachableError(
                    f"{host}: the header {name} holds a line break or another sign that no header takes; look at the"
                    " credential"
                )
        deadline = time.monotonic() + timeout_seconds
        connection = http.client.HTTPConnection(host, port)
        sock = self._connected(host, port, secure=secure, deadline=deadline)
        connection.sock = sock
        # A timeout of the socket is for each read alone; whoever answers byte by byte would hold us for ever.
        cut = Timer(deadline - time.monotonic(), _shut, [sock])
        cut.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                _shake_hands(sock, host)
            answer = _exchanged(connection, method, parts, headers, body, most_bytes)
        finally:
            cut.cancel()
            sock.close()
        if time.monotonic() >= deadline:  # then it was cut, and what came may be half of it
            raise AmbiguousError(f"{host}: no whole answer within {timeout_seconds} s", RETRY_SECONDS)
        return answer

    def _connected(self, host: str, port: int, *, secure: bool, deadline: float) -> socket.socket:
        """A connection to the first address that takes one, TLS set up and not yet spoken."""
        failure: OSError | None = None
        for address in self._allowed(host, port, secure=secure):
            try:
                plain = socket.create_connection((address, port), max(deadline - time.monotonic(), 0.001))
            except OSError as error:
                failure = error
                continue
            # The body does not wait until the head is acknowledged.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(max(deadline - time.monotonic(), 0.001))
            if not secure:
                return plain
            self._tls = self._tls or ssl.create_default_context()  # reads all authorities: once is enough
            return self._tls.wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        raise LaterError(f"{host}: no connection ({_kind(failure)})", RETRY_SECONDS) from failure

    def _allowed(self, host: str, port: int, *, secure: bool) -> list[str]:
        """The addresses of the host, all of them looked at, or UnreachableError."""
        try:
            found = [ip_address(one) for one in self._resolve(host, port)]
        except (OSError, ValueError) as error:
            raise LaterError(
                f"{host}: its address cannot be found ({_kind(error)})", RETRY_SECONDS
            ) from error
        loopback = self._allow_loopback and all(one.is_loopback for one in found)
        if not found or not (loopback or (secure and all(is_public(one) for one in found))):
            raise UnreachableError(
                f"{host}: not a place to connect to. It takes https, and a name all of whose addresses are public"
            )
        return [str(one) for one in found]


def _shake_hands(sock: ssl.SSLSocket, host: str) -> None:
    try:
        sock.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(
            f"{host}: its certificate does not hold ({error.verify_message}); nothing was sent"
        ) from error
    except OSError as error:
        raise LaterError(f"{host}: no secure connection ({_kind(error)})", RETRY_SECONDS) from error


def _exchanged(
    connection: http.client.HTTPConnection,
    method: str,
    parts: re.Match[str],
    headers: Mapping[str, str],
    body: bytes | None,
    most_bytes: int,
) -> Answer:
    host = parts["host"]
    target = parts["target"] or "/"
    ours = {
        "Host": f"{host}:{parts['port']}" if parts["port"] else host,
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    try:
        connection.request(method, target if target[0] == "/" else f"/{target}", body, {**headers, **ours})
        with connection.getresponse() as response:
            content = b""
            while len(content) <= most_bytes and (more := response.read(CHUNK)):
                content += more
            # http.client takes the end of the stream for the end of the head, and notes half a line as a defect.
            whole = not response.length and not response.headers.defects
            found = {name.lower(): ", ".join(response.headers.get_all(name, [])) for name in response.headers}
            status = response.status
    except (OSError, http.client.HTTPException) as error:
        raise AmbiguousError(
            f"{host}: the connection broke before the answer was whole ({_kind(error)})", RETRY_SECONDS
        ) from error
    if len(content) > most_bytes:
        raise AmbiguousError(f"{host}: its answer is longer than {most_bytes} bytes", RETRY_SECONDS)
    if not whole:
        raise AmbiguousError(f"{host}: the connection broke before the answer was whole", RETRY_SECONDS)
    return Answer(status, MappingProxyType(found), content)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # already closed: nothing to cut
        socket.socket.shutdown(
            sock, socket.SHUT_RDWR
        )  # ssl's own would take the TLS state from under the reader


def _kind(error: Exception | None) -> str:
    return type(error).__name__
