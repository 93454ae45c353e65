"""Other machines are asked through the proxies and authorities that this one has, and this one directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_trash.download import Patience, download
from ray_trash.errors import ClusterError, ConfigError, DataError
from ray_trash.outbound import way_to
from ray_trash.serve.client import Client
from tests.company_proxy import CompanyProxy, company_proxy
from tests.standin import CARD, stand_in

DEAD = "127.0.0.1:9"
URL = "https://elsewhere.invalid/x"
PATIENT = Patience(timeout_s=10.0, attempts=1)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompanyProxy]:
    with company_proxy(tmp_path, host="elsewhere.invalid", content=b"content") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_company_s_proxy_is_trusted_by_the_authority_that_a_variable_names(
    name: str, proxy: CompanyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(proxy.authority))
    download(URL, tmp_path / "x", max_bytes=100, patience=PATIENT)
    assert (tmp_path / "x").read_bytes() == b"content"
    assert proxy.hosts == ["elsewhere.invalid:443"]


def test_a_proxy_whose_authority_is_unknown_is_not_trusted(proxy: CompanyProxy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be reached through the proxy \S+ of https_proxy: .*CERTIFICATE"):
        download(URL, tmp_path / "x", max_bytes=100, patience=PATIENT)


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/absent.pem")
    with pytest.raises(DataError, match=r"SSL_CERT_FILE=/absent\.pem: no certificates can be read there"):
        download(URL, tmp_path / "x", max_bytes=100, patience=PATIENT)
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE=/absent\.pem: no certificates can be read there"):
        Client("https://elsewhere.invalid")


@pytest.mark.parametrize("no_proxy", ["", "[::1],10.0.0.0/8", "not a name"])
@pytest.mark.parametrize("proxy_url", [f"http://{DEAD}", f"socks5://{DEAD}", "ftp://x", "http://127.0.0.1:port"])
def test_an_endpoint_on_this_machine_is_asked_directly(
    proxy_url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy_url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("SSL_CERT_FILE", "/absent.pem")
    with stand_in() as endpoint, Client(endpoint.url, retries=0) as client:
        assert client.model() == CARD


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_fails_is_named_without_its_password(
    scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://user:secret@{DEAD}")
    with (
        Client("http://elsewhere.invalid:8000", retries=0) as client,
        pytest.raises(ClusterError, match=f":8000 through the proxy {DEAD} of {variable}: cannot be reached") as raised,
    ):
        client.model()
    assert "secret" not in str(raised.value)


def test_a_proxy_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "ftp://proxy.invalid")
    with pytest.raises(ConfigError, match=r"^http_proxy=ftp://proxy\.invalid: not the address of a proxy"):
        Client("http://elsewhere.invalid:8000")


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("[fd00::1]", "[fd00::1]", True),
        ("fd00::/16", "[fd00::1]", True),
        ("corp.example", "a.corp.example", True),
        ("*", "elsewhere.invalid", True),
        ("", "elsewhere.invalid", False),
        ("", "0.0.0.0", True),
        ("", "localhost", True),
    ],
)
def test_hosts_and_networks_are_excepted_from_proxies(
    no_proxy: str, host: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    said = "" if is_direct else " through the proxy http://proxy.invalid:3128 of http_proxy"
    assert way_to(f"http://{host}:8000/x") == said
