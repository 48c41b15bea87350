"""Addresses of servers: what of them may be shown, and whether they are on this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

#: User and password of an address; a password may hold an @ that nobody escaped.
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")


def public(text: str) -> str:
    """Return text without the user and password of any address in it, as in ``http://user:word@host``."""
    return _USER.sub("", text)


def on_loopback(address: str) -> bool:
    """Return whether an address names this machine by a name that no other machine can reach.

    Raises
    ------
    ValueError
        If it is no address.
    """
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
