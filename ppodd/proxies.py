"""Proxies that the environment names: none for this machine itself, and named where a server cannot be reached."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from urllib.parse import urlsplit

from ppodd.errors import hidden


def bypass_for_loopback(url: str) -> None:
    """Have this process, and those that it starts, ask a server on this machine itself, which no proxy can reach."""
    host = urlsplit(url).hostname
    if not host or not _is_loopback(host) or not proxy_of(url):
        return
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), host]))


def through_proxy(url: str) -> str:
    """What is to be known of a server that did not answer: the proxy that was asked for it, and how to go past it."""
    proxy, host = proxy_of(url), urlsplit(url).hostname
    return f", asked through the proxy {hidden(proxy)} (NO_PROXY={host} goes past it)" if proxy else ""


def proxy_of(url: str) -> str:
    """The proxy for a URL; empty where there is none."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return ""
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all", "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
