"""The way out: where it does not go, what it makes of broken connections, and that nothing else decides where it goes."""

import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chalicelib.adapters.web import Answer, Resolve, Web, addresses, is_public
from chalicelib.domain.errors import AmbiguousError, LaterError, UnreachableError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Far:
    """A server that says `says`, piece by piece with `pause` between, to everybody who sent a whole request."""

    def __init__(self, *says: bytes, pause: float = 0, tls: ssl.SSLContext | None = None) -> None:
        self.says, self.pause, self.tls = says, pause, tls
        self.heard: list[bytes] = []
        self.names: list[str | None] = []
        if tls:
            tls.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.over = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.socket.close()

    def _serve(self) -> None:
        while not self.over.is_set():
            connection = self.socket.accept()[0]
            try:
                connection.settimeout(5)
                self._answer(self.tls.wrap_socket(connection, server_side=True) if self.tls else connection)
            except OSError:
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            heard = b""
            while b"\r\n\r\n" not in heard or (b"Content-Length: 4" in heard and not heard.endswith(b"body")):
                more = connection.recv(65536)
                if not more:
                    return
                heard += more
            self.heard.append(heard)
            for piece in self.says:
                connection.sendall(piece)
                if self.over.wait(self.pause):
                    return
            if self.tls and isinstance(connection, ssl.SSLSocket):
                connection.unwrap()

    def url(self, path: str = "/x?y=1", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"


def local(*, tls: ssl.SSLContext | None = None) -> Web:
    """The way out of the emulated world, where every name is this machine."""
    return Web(allow_loopback=True, resolve=lambda _host, _port: ["127.0.0.1"], tls=tls)


def always(found: list[str]) -> Resolve:
    """A resolver to which every name is the same."""
    return lambda _host, _port: found


# -- what is asked and answered ----------------------------------------------------------------------------------------


def test_a_request_and_its_answer() -> None:
    with Far(
        b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-A: 1\r\nX-A: 2\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nno"
    ) as far:
        web = local()
        answer = web.request("POST", far.url(), headers={"X-Key": "k"}, body=b"body")
        assert (answer.status, answer.body) == (429, b"no"), "what a status means is for the caller to say"
        assert (answer.headers["retry-after"], answer.headers["x-a"]) == ("7", "1, 2")
        web.request("GET", far.url("?q"))
    head, _, body = far.heard[0].partition(b"\r\n\r\n")
    assert body == b"body"
    assert head.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{far.port}".encode() in head
    assert b"X-Key: k" in head
    assert far.heard[1].startswith(b"GET /?q HTTP/1.1\r\n")
    assert b"cookie" not in far.heard[1].lower(), "no cookie is kept"


def test_chunks_are_put_together_and_an_unmeasured_answer_is_read_to_its_end() -> None:
    with Far(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"
    ) as far:
        assert local().request("GET", far.url()).body == b"abcde"
    with Far(b"HTTP/1.0 200 OK\r\n\r\nabc", b"de") as far:
        assert local().request("GET", far.url()).body == b"abcde"
    with Far(b"HTTP/1.1 204 No Content\r\n\r\n") as far:
        assert local().request("GET", far.url()) == Answer(204, {}, b"")


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with Far(OK) as target:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target.url()}\r\nContent-Length: 0\r\n\r\n".encode()
        with Far(moved) as far:
            assert local().request("GET", far.url()).status == 302
    assert target.heard == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Far(OK) as proxy, Far(OK) as far:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert local().request("GET", far.url()).body == b"hi"
    assert proxy.heard == []


# -- where it does not go ----------------------------------------------------------------------------------------------

PRIVATE = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9", "169.254.169.254", "169.254.170.2", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.255", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "52.94.236.248",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "192.88.98.1",
    "192.88.100.1",
    "2600:1f18::1",
    "2a05:d018::1",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    for found in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        with pytest.raises(UnreachableError, match=r"hooks\.example: not a place"):
            Web(resolve=always(found)).request("GET", "https://hooks.example/")


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_let_through(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", [one for one in PRIVATE if not ip_address(one).is_loopback])
def test_the_emulated_world_reaches_itself_and_nothing_else(address: str) -> None:
    for found in ([address], ["127.0.0.1", address]):
        for scheme in ("http", "https"):
            with pytest.raises(UnreachableError):
                Web(allow_loopback=True, resolve=always(found)).request("GET", f"{scheme}://hooks.example/")


def test_plain_http_is_for_loopback_in_the_emulated_world() -> None:
    with Far(OK) as far:
        with pytest.raises(UnreachableError):
            Web().request("GET", far.url())
        with pytest.raises(UnreachableError):
            Web().request("GET", far.url(host="localhost"))
    assert far.heard == []
    for loose in (False, True):
        with pytest.raises(UnreachableError):
            Web(allow_loopback=loose, resolve=lambda _host, _port: ["8.8.8.8"]).request(
                "GET", "http://a.example/"
            )


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]"],
)
def test_no_spelling_of_this_machine_gets_through(host: str) -> None:
    with pytest.raises((UnreachableError, LaterError)):
        Web().request("GET", f"https://{host}/")
    if host != "[::1]":
        found = {ip_address(one) for one in addresses(host.strip("[]"), 443)}
        assert not any(is_public(one) for one in found)


def test_a_name_without_an_address_is_for_later_or_not_at_all() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(LaterError, match="cannot be found") as error:
        Web(resolve=unknown).request("GET", "https://hooks.example/secret-path")
    assert not isinstance(error.value, AmbiguousError)
    with pytest.raises(LaterError):
        Web(resolve=lambda _host, _port: ["nonsense"]).request("GET", "https://hooks.example/")
    with pytest.raises(UnreachableError):
        Web(allow_loopback=True, resolve=lambda _host, _port: []).request("GET", "https://hooks.example/")


def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """DNS rebinding: the name is resolved once; a second answer would be another machine."""
    asked = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with Far(OK) as far:
        url = far.url(host="rebind.example")
        assert Web(allow_loopback=True, resolve=rebinding).request("GET", url).body == b"hi"
    assert asked == ["rebind.example"]
    assert f"Host: rebind.example:{far.port}".encode() in far.heard[0]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "//a.example/",
        "a.example",
        "",
        "https://",
        "https:///x",
        "https://user@a.example/",
        "https://user:pass@a.example/",
        "https://a.example@127.0.0.1/",
        "https://a.example\\@127.0.0.1/",
        "https://a.example#@127.0.0.1/",
        "https://a.example/#x",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:/",
        "https://a.example:443x/",
        "https://a.example/a b",
        "https://a.example/\r\nX: y",
        "https://a.example/\n",
        "https://a.example\n/",
        "https://a.exämple/",
        "https://a.example/ä",
        "https://-a.example/",
        "https://a.example./",
        "https://[fe80::1%25eth0]/",
        "HTTPS://a.example/",
        " https://a.example/",
    ],
)
def test_an_address_with_two_readings_is_not_read(url: str) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise AssertionError("looked up")

    with pytest.raises(UnreachableError):
        Web(allow_loopback=True, resolve=resolve).request("GET", url)


# -- what breaks -------------------------------------------------------------------------------------------------------


def failure(far: Far, *, seconds: float = 5, most: int = 1000) -> LaterError:
    began = time.monotonic()
    with pytest.raises(LaterError) as error:
        local().request(
            "POST", far.url("/secret?token=1"), body=b"x", timeout_seconds=seconds, most_bytes=most
        )
    assert time.monotonic() - began < seconds + 3
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)
    assert error.value.retry_after > 0
    return error.value


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\r", "\x00", "\x7f", "\u201d"])
@pytest.mark.parametrize("after", ["", "more"])
def test_a_header_that_no_header_is_is_named_and_not_shown(sign: str, after: str) -> None:
    token = f"Bearer canary{sign}{after}"
    with Far(OK) as far, pytest.raises(UnreachableError, match="the header Authorization holds") as refused:
        local().request("GET", far.url(), headers={"Accept": "*/*", "Authorization": token})
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None
    assert far.heard == []


def test_nobody_there_is_for_later() -> None:
    with Far(OK) as far:
        pass
    assert type(failure(far)) is LaterError


def test_another_address_of_the_name_is_tried() -> None:
    with Far(OK) as far:
        web = Web(allow_loopback=True, resolve=lambda _host, _port: ["::1", "127.0.0.1"])
        assert web.request("GET", far.url()).body == b"hi"


@pytest.mark.parametrize(
    "says",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",),
        (b"SSH-2.0-OpenSSH\r\n",),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,),
    ],
    ids=["nothing", "half a header", "half a body", "half a chunk", "no HTTP", "many headers", "long header"],
)
def test_what_breaks_after_sending_may_have_been_done(says: tuple[bytes, ...]) -> None:
    with Far(*says) as far:
        assert type(failure(far)) is AmbiguousError
    assert len(far.heard) == 1, "nothing is sent twice"


def test_a_long_answer_is_not_read_to_its_end() -> None:
    with Far(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000) as far:
        assert local().request("GET", far.url(), most_bytes=1000).body == b"x" * 1000
        assert "longer than 999" in str(failure(far, most=999))
    with Far(b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 100_000] * 20)) as far:
        assert "longer than" in str(failure(far))


@pytest.mark.parametrize(
    "says",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"h", b"i") * 20,
        tuple(bytes([sign]) for sign in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", *([b"x"] * 200)),
        (b"HTTP/1.1 200 OK\r\n\r\n", *([b"x"] * 200)),
    ],
    ids=["silence", "headers byte by byte", "body byte by byte", "unmeasured body byte by byte"],
)
def test_all_of_it_has_one_timeout(says: tuple[bytes, ...]) -> None:
    pause = 10 if says[1] == b"h" else 0.05
    with Far(*says, pause=pause) as far:
        assert type(failure(far, seconds=0.5)) is AmbiguousError


# -- TLS ---------------------------------------------------------------------------------------------------------------


@contextmanager
def certified(folder: Path, *names: str, days: int = 1) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """A server's context with a certificate for these names, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    yield server, ssl.create_default_context(cadata=pem.decode())


def test_the_certificate_is_checked_for_the_name_and_the_name_is_sent(tmp_path: Path) -> None:
    with certified(tmp_path, "hooks.example") as (server, trusting), Far(OK, tls=server) as far:
        assert local(tls=trusting).request("GET", far.url(host="hooks.example")).body == b"hi"
        with pytest.raises(UnreachableError, match="certificate"):
            local(tls=trusting).request("GET", far.url(host="other.example"))
        with pytest.raises(UnreachableError, match="certificate"):
            local(tls=trusting).request("GET", far.url(host="127.0.0.1"))
        with pytest.raises(UnreachableError, match="certificate"):
            local().request("GET", far.url(host="hooks.example"))
    assert far.names[0] == "hooks.example"
    assert len(far.heard) == 1, "nothing is sent to whom we do not trust"


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    with (
        certified(tmp_path, "hooks.example", days=-1) as (server, trusting),
        Far(OK, tls=server) as far,
        pytest.raises(UnreachableError, match="expired"),
    ):
        local(tls=trusting).request("GET", far.url(host="hooks.example"))
    assert far.heard == []


def test_what_speaks_no_tls_is_for_later() -> None:
    with Cut(b"HTTP/1.1 400 Bad\r\n\r\n") as far:
        with pytest.raises(LaterError, match="no secure connection") as error:
            local().request("GET", far.url().replace("http:", "https:"))
        assert type(error.value) is LaterError


def test_whoever_does_not_shake_hands_is_left() -> None:
    with Cut(b"\x16\x03\x03\x10\x00", *([b"\x02"] * 200), pause=0.05) as far:
        began = time.monotonic()
        with pytest.raises(LaterError) as error:
            local().request("GET", far.url().replace("http:", "https:"), timeout_seconds=0.5)
        assert type(error.value) is LaterError
        assert time.monotonic() - began < 3


def test_an_answer_that_is_cut_under_tls_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Without a length, only TLS's own goodbye says that an answer is over (RFC 8446 §6.1)."""
    says = (b"HTTP/1.1 200 OK\r\n\r\n", b"half")
    with certified(tmp_path, "hooks.example") as (server, trusting), Far(*says, tls=server) as far:
        assert local(tls=trusting).request("GET", far.url(host="hooks.example")).body == b"half"
    with (
        certified(tmp_path, "hooks.example") as (server, trusting),
        Cut(*says, tls=server) as far,
        pytest.raises(AmbiguousError),
    ):
        local(tls=trusting).request("GET", far.url(host="hooks.example"))


class Cut(Far):
    """Speaks at the first word, whatever it was, and hangs up without a goodbye."""

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            for piece in self.says:
                connection.sendall(piece)
                if self.over.wait(self.pause):
                    return
