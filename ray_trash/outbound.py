"""HTTP to other machines as this one reaches them: through its proxies, with the certificate authorities it trusts."""

from __future__ import annotations

import ipaddress
import os
import ssl
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import httpx

from ray_trash.errors import ConfigError

_AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables by which people name their company's certificate authorities, as files or folders."""


def open_client(
    url: str, *, timeout_s: float, headers: dict[str, str], base_url: str = "", follow_redirects: bool = False
) -> httpx.Client:
    """Build a client for what is at a URL; this machine itself is asked directly, whatever proxy is set.

    Raises:
        ConfigError: A variable names a proxy that is none, or authorities that cannot be read.
        ValueError, httpx.InvalidURL: The URL is none.
    """
    httpx.URL(url)
    variable, proxy = _proxy_of(url)
    try:
        return httpx.Client(
            base_url=base_url,
            headers=headers,
            timeout=timeout_s,
            follow_redirects=follow_redirects,
            verify=_trusted() if urlsplit(url).scheme == "https" else True,
            proxy=proxy,
            # httpx refuses some of what people write into no_proxy, and knows no networks there.
            trust_env=False,
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"{variable}={_public(proxy)}: not the address of a proxy: {error}") from error


def way_to(url: str) -> str:
    """Say through which proxy a URL is asked, to be put after it: nothing where it is asked directly."""
    variable, proxy = _proxy_of(url)
    return f" through the proxy {_public(proxy)} of {variable}" if proxy else ""


def _proxy_of(url: str) -> tuple[str, str | None]:
    parts, proxies = urlsplit(url), getproxies()
    for scheme in (parts.scheme, "all"):
        if (proxy := proxies.get(scheme)) and parts.hostname and not _is_direct(parts.hostname):
            return f"{scheme}_proxy", proxy if "://" in proxy else f"http://{proxy}"
    return "", None


def _public(proxy: str | None) -> str:
    # What stands before the @ is a name and a password.
    return (proxy or "").rpartition("@")[2]


def _is_direct(host: str) -> bool:
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
    if host == "localhost" or (address and (address.is_loopback or address.is_unspecified)):
        return True
    for entry in getproxies().get("no", "").split(",") if address else ():
        # httpx and urllib compare names only; people name networks as well, and write brackets.
        with suppress(ValueError):
            if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                return True
    return bool(proxy_bypass(host))


def _trusted() -> ssl.SSLContext:
    """Trust the system's authorities, to which a company adds its own, where httpx would bring a list instead."""
    context = ssl.create_default_context()
    named = {name: os.environ[name] for name in _AUTHORITIES if os.environ.get(name)}
    for name, place in named.items():
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(place) else "cafile": place})
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{name}={place}: no certificates can be read there: {error}") from error
    system = ssl.get_default_verify_paths()
    if not named and not system.cafile and not system.capath:
        context.load_verify_locations(certifi.where())
    return context
