"""Addresses of servers: shown without passwords, and recognised as those of this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

#: User and password of an address; a password may contain an @ that is not escaped.
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")


def public(text: str) -> str:
    """Return text without the user and password of any address in it, as in ``http://user:word@host``."""
    return _USER.sub("", text)


def on_loopback(address: str) -> bool:
    """Return whether an address is a loopback address, which only this machine can reach.

    Raises
    ------
    ValueError
        If it is not an address.
    """
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
