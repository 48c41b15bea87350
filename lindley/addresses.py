"""Addresses of servers and buckets: checked, shown without passwords, recognised as of this machine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from lindley.errors import NameRefused

#: User and password of an address; a password may contain an @ that is not escaped.
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,99}")
_AZURE = re.compile(r"([a-z0-9-]{3,63})@([a-z0-9]{3,24})\.dfs\.core\.windows\.net")


@dataclass(frozen=True)
class Bucket:
    """The address of a bucket, or of a prefix in it.

    Parameters
    ----------
    scheme
        ``s3``, ``gs`` or ``az``.
    name
        Of the bucket or container.
    prefix
        What all names begin with, without slashes at its ends; may be empty.
    account
        Of Azure, where the address names it.
    """

    scheme: str
    name: str
    prefix: str = ""
    account: str = ""

    def __str__(self) -> str:
        """Return the address."""
        place = f"{self.scheme}://{self.name}"
        if self.account:
            place = f"abfss://{self.name}@{self.account}.dfs.core.windows.net"
        return f"{place}/{self.prefix}" if self.prefix else place


def is_address(text: str) -> bool:
    """Return whether a text is an address, with a scheme before ``://``, and not the path of a folder."""
    return _SCHEME.match(text) is not None


def bucket_of(text: str) -> Bucket:
    """Return the bucket of an address ``s3://BUCKET/PREFIX``, ``gs://...``, ``az://...`` or ``abfss://...``.

    Raises
    ------
    NameRefused
        If it is something else. Credentials in it are refused, too: they belong into the environment. The
        message does not repeat what may be one.
    """
    scheme, _, rest = text.partition("://")
    host, _, path = rest.rstrip("/").partition("/")
    parts = path.split("/") if path else []
    if all(_PART.fullmatch(part) for part in parts):
        if scheme in {"s3", "gs", "az"} and _BUCKET.fullmatch(host):
            return Bucket(scheme, host, "/".join(parts))
        found = _AZURE.fullmatch(host)
        if scheme == "abfss" and found:
            return Bucket("az", found[1], "/".join(parts), found[2])
    hidden = public(text).partition("?")[0]
    raise NameRefused(
        "The address of the data was refused",
        expected="a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or "
        "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX, whose prefix has letters, digits, '.', '_', "
        "'=' and '-' only and no parts that begin with '.'",
        found=repr(hidden)[:80] + (" with a user or password" if "@" in host and scheme != "abfss" else ""),
        todo="correct LINDLEY_DATA; credentials come from the environment, never from an address",
    )


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
