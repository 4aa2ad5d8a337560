"""Whether an endpoint is on this machine is found out, and looked up again before a private request goes there."""

import socket

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.candidates import Location
from mlx_integrations.router.configured import locator_from
from mlx_integrations.router.location import Locator
from mlx_integrations.settings import Settings

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "mac.test": ["127.0.0.1"],
    "half.test": ["127.0.0.1", "203.0.113.7"],
    "api.test": ["203.0.113.7"],
    "nas.test": ["192.168.1.20"],
    "2130706433": ["127.0.0.1"],
    "empty.test": [],
}


def _resolve(host: str) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror("unknown")
    return NAMES[host]


def _locate(base_url: str | None, *local_hosts: str, model: str | None = None, **proxies: str) -> Location:
    return Locator(local_hosts, resolve=_resolve, proxies=lambda: proxies).locate(base_url, model=model)


@pytest.mark.parametrize(
    ("base_url", "location"),
    [
        (None, "in-process"),
        ("http://127.0.0.1:8080/v1", "loopback"),
        ("http://127.8.9.1", "loopback"),
        ("http://[::1]:8080/v1", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("HTTP://LOCALHOST:11434/v1", "loopback"),
        ("http://localhost./v1", "loopback"),
        ("https://mac.test/v1", "loopback"),
        ("http://2130706433/v1", "loopback"),
        ("http://user:key@127.0.0.1/v1", "loopback"),
        ("http://half.test/v1", "remote"),
        ("http://api.test/v1", "remote"),
        ("http://unknown.test/v1", "remote"),
        ("http://empty.test/v1", "remote"),
        ("http://192.168.1.20/v1", "remote"),
        ("http://0.0.0.0:8000/v1", "remote"),
        ("http://[::ffff:203.0.113.7]/", "remote"),
        ("http://127.0.0.1@api.test/v1", "remote"),
        ("http://127.0.0.1\\@api.test/v1", "remote"),
        ("http://api.test\\@127.0.0.1/v1", "remote"),
        ("http://127.0.0.1 .api.test/v1", "remote"),
        ("http://127.0.0.1.api.test/v1", "remote"),
        ("http://localhost.api.test/v1", "remote"),
        ("http://[::1/v1", "remote"),
        ("unix:///tmp/socket", "remote"),
        ("127.0.0.1:8080", "remote"),
        ("http:///v1", "remote"),
        ("", "remote"),
    ],
)
def test_an_address_is_where_its_host_resolves_to(base_url: str | None, location: Location) -> None:
    assert _locate(base_url) == location


@pytest.mark.parametrize(
    ("base_url", "listed", "location"),
    [
        ("http://nas.test/v1", "nas.test", "listed"),
        ("http://NAS.test:8080/v1", "Nas.Test.", "listed"),
        ("http://nas.test/v1", "192.168.1.20", "listed"),
        ("http://192.168.1.21/v1", "192.168.1.0/24", "listed"),
        ("http://nas.test/v1", "192.168.1.0/24", "listed"),
        ("http://[fd00::5]/v1", "fd00::/8", "listed"),
        ("http://192.168.2.20/v1", "192.168.1.0/24", "remote"),
        ("http://nas.test.api.test/v1", "nas.test", "remote"),
        ("http://half.test/v1", "192.168.1.0/24", "remote"),
        ("http://half.test/v1", "203.0.113.0/24", "listed"),
        ("http://127.0.0.1/v1", "192.168.1.0/24", "loopback"),
    ],
)
def test_hosts_that_the_user_lists_count_as_their_own(base_url: str, listed: str, location: Location) -> None:
    assert _locate(base_url, listed) == location


def test_a_host_that_is_none_is_refused() -> None:
    for host in ("http://nas.test", "nas test", "", "a/b"):
        with pytest.raises(ConfigurationError, match="is no host"):
            Locator([host])


def test_what_goes_through_a_proxy_is_not_on_this_machine() -> None:
    url = "http://127.0.0.1:8080/v1"
    assert _locate(url, http="http://proxy.test:3128") == "remote"
    assert _locate(url, all="socks5://proxy.test") == "remote"
    assert _locate(url, http="http://127.0.0.1:3128") == "remote", "nobody knows where that one sends it"
    assert _locate(url, "127.0.0.1", http="http://proxy.test:3128") == "remote"
    assert _locate(url, https="http://proxy.test:3128") == "loopback", "not for this scheme"
    assert _locate(url, http="http://proxy.test:3128", no="example.org, 127.0.0.1") == "loopback"
    assert _locate(url, http="http://proxy.test:3128", no="*") == "loopback"
    assert _locate(url, http="http://proxy.test:3128", no="127.0.0.0/8") == "remote", "httpx does not know networks"
    assert _locate("http://[::1]/v1", http="http://proxy.test:3128", no="[::1]") == "loopback"
    locator = Locator(resolve=_resolve, proxies=lambda: {"http": "http://proxy.test:3128"})
    assert locator.locate(url, uses_proxies=False) == "loopback", "cloud/ asks loopback directly"


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert Locator().locate("http://127.0.0.1:1/v1") == "loopback"
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    assert Locator().locate("http://127.0.0.1:1/v1") == "remote"


def test_ollama_hands_some_models_to_its_cloud() -> None:
    url = "http://localhost:11434/v1"
    assert _locate(url, model="gpt-oss:20b") == "loopback"
    assert _locate(url, model="gpt-oss:120b-cloud") == "remote"
    assert _locate(url, model="kimi-k2:cloud") == "remote"
    assert _locate(url, model="cloud-atlas:7b") == "loopback"


def test_an_address_is_looked_up_again_after_a_while_and_whenever_it_matters() -> None:
    now, asked = [0.0], list[str]()
    answers = [["127.0.0.1"], ["203.0.113.7"], ["127.0.0.1"]]

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    locator = Locator(resolve=resolve, proxies=dict, clock=lambda: now[0], keep_seconds=5)
    assert locator.locate("http://mac.test/v1") == "loopback"
    now[0] = 4.9
    assert locator.locate("http://mac.test/v1") == "loopback"
    assert len(asked) == 1
    assert locator.locate("http://mac.test/v1", fresh=True) == "remote", "the name points elsewhere now"
    assert locator.locate("http://mac.test/v1") == "remote", "what was found out last counts"
    now[0] = 10.0
    assert locator.locate("http://mac.test/v1") == "loopback"
    assert len(asked) == 3


def test_the_name_of_this_machine_resolves_for_real() -> None:
    assert Locator(proxies=dict).locate("http://localhost:1/v1") == "loopback"


def test_hosts_come_from_the_settings() -> None:
    locator = locator_from(Settings(router={"local_hosts": ["192.168.1.0/24"]}))
    assert locator.locate("http://192.168.1.7:8080/v1", uses_proxies=False) == "listed"
