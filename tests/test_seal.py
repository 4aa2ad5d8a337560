"""What else in the process sends is switched off, and whoever reaches for another machine is seen."""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from mlx_integrations.errors import PrivacyError
from mlx_integrations.offline import VARIABLES
from mlx_integrations.seal import Contact, NetworkWatch, is_loopback_address, seal, watch_network


@pytest.fixture
def refusing() -> Iterator[NetworkWatch]:
    with watch_network(refuses=True, on_contact=lambda contact: None) as watch:
        yield watch


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[:2]


WAYS = """
import asyncio, json, socket
from mlx_integrations.errors import PrivacyError
from mlx_integrations.seal import seal

def connect(family=socket.AF_INET, kind=socket.SOCK_STREAM, address=("203.0.113.7", 443), how="connect"):
    with socket.socket(family, kind) as plain:
        plain.settimeout(0.1)
        getattr(plain, how)(*((b"x",) if how == "sendto" else ([b"x"], [], 0) if how == "sendmsg" else ()), address)

def over_asyncio(host):
    async def open_connection():
        async with asyncio.timeout(1):
            await asyncio.open_connection(host, 443)
    asyncio.run(open_connection())

def over_httpx(host):
    import httpx
    with httpx.Client(trust_env=False, timeout=0.1) as client:
        client.get(f"http://{host}/")

def in_a_thread():
    async def run():
        await asyncio.to_thread(connect)
    asyncio.run(run())

ways = {
    "connect": connect,
    "connect_ex": lambda: connect(how="connect_ex"),
    "ipv6": lambda: connect(socket.AF_INET6, address=("2001:db8::1", 443)),
    "sendto": lambda: connect(kind=socket.SOCK_DGRAM, how="sendto"),
    "sendmsg": lambda: connect(kind=socket.SOCK_DGRAM, how="sendmsg"),
    "create_connection": lambda: socket.create_connection(("203.0.113.7", 443), timeout=0.1),
    "getaddrinfo": lambda: socket.getaddrinfo("elsewhere.invalid", 443),
    "gethostbyname": lambda: socket.gethostbyname("elsewhere.invalid"),
    "gethostbyname_ex": lambda: socket.gethostbyname_ex("elsewhere.invalid"),
    "gethostbyaddr": lambda: socket.gethostbyaddr("elsewhere.invalid"),
    "asyncio": lambda: over_asyncio("203.0.113.7"),
    "asyncio name": lambda: over_asyncio("elsewhere.invalid"),
    "httpx": lambda: over_httpx("203.0.113.7"),
    "httpx name": lambda: over_httpx("elsewhere.invalid"),
    "thread": in_a_thread,
}
seal(watch="refuse", on_contact=lambda contact: None)
open_ways = {}
for name, go in ways.items():
    try:
        go()
    except PrivacyError:
        continue
    except Exception as error:
        open_ways[name] = repr(error)
    else:
        open_ways[name] = "open"
print(json.dumps(open_ways))
"""


def test_no_way_to_another_machine_is_open() -> None:
    # A process of its own: in this one, no test is let through to where the watch stands.
    done = subprocess.run([sys.executable, "-c", WAYS], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "{}\n", done.stdout + done.stderr


def _reach() -> None:
    """Look up a name that no server has, https://www.rfc-editor.org/rfc/rfc6761."""
    socket.gethostbyname("elsewhere.invalid")


async def _open(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


def test_other_threads_are_watched(refusing: NetworkWatch) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            _reach()
        except PrivacyError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert list(refusing.contacts) == [Contact(event="socket.gethostbyname", host="elsewhere.invalid")]


def test_a_contact_says_who_and_on_which_port() -> None:
    with watch_network(on_contact=lambda contact: None) as watch:
        watch.see("socket.connect", (None, ("203.0.113.7", 443)))
    assert list(watch.contacts) == [Contact(event="socket.connect", host="203.0.113.7", port=443)]


def test_this_machine_can_be_reached(refusing: NetworkWatch, server: tuple[str, int]) -> None:
    with socket.create_connection(server):
        pass
    with socket.create_connection(("localhost", server[1])):
        pass
    asyncio.run(_open(*server))
    socket.gethostbyname(socket.gethostname())
    left, right = socket.socketpair()
    left.close()
    right.close()
    assert not refusing.contacts


def test_a_watch_may_only_report(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Contact] = []
    with watch_network(on_contact=told.append) as watch, contextlib.suppress(OSError):
        _reach()
    assert told == list(watch.contacts) == [Contact(event="socket.gethostbyname", host="elsewhere.invalid")]
    with watch_network(), caplog.at_level(logging.WARNING), contextlib.suppress(OSError):
        _reach()
    assert "tries to reach `elsewhere.invalid`" in caplog.text


def test_what_is_told_of_a_contact_may_reach_out_itself() -> None:
    told: list[Contact] = []

    def tell(contact: Contact) -> None:
        told.append(contact)
        with contextlib.suppress(OSError):
            socket.gethostbyname("log.invalid")

    with watch_network(on_contact=tell) as watch, contextlib.suppress(OSError):
        _reach()
    assert [contact.host for contact in told] == ["elsewhere.invalid"]
    assert [contact.host for contact in watch.contacts] == ["elsewhere.invalid", "log.invalid"]


def test_hosts_can_be_allowed_and_a_watch_ends() -> None:
    with watch_network(refuses=True, allow_hosts=["Elsewhere.Invalid"]) as watch, contextlib.suppress(OSError):
        _reach()
    watch.close()
    with contextlib.suppress(OSError):
        socket.gethostbyname("other.invalid")
    assert not watch.contacts


def test_sealing_switches_off_what_others_send() -> None:
    told: list[dict[str, bool]] = []
    langsmith = cast("ModuleType", SimpleNamespace(configure=lambda **values: told.append(values)))
    environ: dict[str, str] = {"LANGSMITH_TRACING": "true"}
    assert seal(environ=environ, modules={"langsmith": langsmith}) is None
    assert environ == VARIABLES
    assert told == [{"enabled": False}]
    watch = seal(watch="refuse", environ={}, modules={})
    assert watch is not None
    with watch, pytest.raises(PrivacyError):
        _reach()


def test_tracing_that_was_in_use_ends_when_the_process_is_sealed() -> None:
    # A process of its own: what is sealed stays sealed. The server counts what a tracer would have been told.
    code = """
import http.server, os, threading
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.send_response(202); self.end_headers()
    do_GET = do_PATCH = do_POST
    def log_message(self, *values): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_API_KEY="x",
                  LANGSMITH_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import wait_for_all_tracers
step = RunnableLambda(lambda text: text)
step.invoke("before-8151623"); wait_for_all_tracers()
assert any(b"before-8151623" in body for body in seen), "the trap does not catch anything"
from mlx_integrations.seal import seal
seal(); seen.clear()
step.invoke("after-8151623"); wait_for_all_tracers()
assert not any(b"8151623" in body for body in seen), seen
print("sealed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "sealed\n", done.stderr


def test_importing_it_watches_nothing() -> None:
    code = "import mlx_integrations.seal as s; assert not s._is_hooked and not s._watches; print('quiet')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "quiet\n"


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("128.0.0.1", False),
        ("::ffff:8.8.8.8", False),
        ("fe80::1%lo0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_an_address_is_this_machines_own_or_not(address: str, is_loopback: bool) -> None:
    assert is_loopback_address(address) is is_loopback


def test_events_without_a_host_are_nobodys_business() -> None:
    with watch_network(refuses=True, on_contact=lambda contact: None) as watch:
        for arguments in [(None, "/tmp/socket"), (None, b"\0abstract"), (None, (0, 0)), (None, None), (None, ("", 80))]:
            watch.see("socket.connect", cast("tuple[Any, ...]", arguments))
        watch.see("socket.getaddrinfo", (None, 80, 0, 0, 0))
        watch.see("socket.getaddrinfo", ("203.0.113.7", 80, 0, 0, 0))
    assert not watch.contacts
