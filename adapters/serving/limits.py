"""The limits of a server: what it accepts, how long it works on a request, and who may call it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from ..errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server accepts of a request and of all requests together."""

    max_body_bytes: Annotated[int, "largest body of a request"] = 1_000_000
    max_rows: Annotated[int, "most rows of a request"] = 256
    max_questions: Annotated[int, "most questions of a request on one text"] = 400
    max_queue_tokens: Annotated[int, "tokens that may wait; requests beyond that are answered with 429"] = 65_536
    batch_tokens: Annotated[int, "tokens of a batch from which no further row joins it"] = 2_048
    wait_ms: Annotated[float, "how long a batch waits for other requests under load"] = 3.0
    deadline: Annotated[float, "seconds until a request is answered with 504"] = 30.0
    threads: Annotated[int, "threads that compute batches, each on a core; more answer more, at more CPU a row"] = 1
    intra_op_threads: Annotated[int, "most threads of torch for a request that is alone, where they are quicker"] = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "wait_ms"):
                raise OptionError(f"{name} must be > 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may call a server: a token, the host names by which it is called, and origins of other pages."""

    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    admin: bool = False
    """Whether requests may load adapters and remove them from memory."""

    @classmethod
    def of(
        cls, address: str, token: str | None, hosts: Sequence[str], origins: Sequence[str], *, admin: bool = False
    ) -> Access:
        """Return the access of a server at `address`.

        Raises `OptionError` for an address that isn't loopback without a token or a list of hosts.
        """
        if not is_loopback(address) and not (token and hosts):
            raise OptionError(f"--host {address} is reached from other machines; give --token-file and --allowed-hosts")
        local = ("127.0.0.1", "localhost", "::1") if is_loopback(address) else ()
        return cls(token=token, hosts=(*local, *hosts), origins=tuple(origins), admin=admin)

    def allows_host(self, header: str) -> bool:
        """Return whether a Host header names this server; others come from a page that rebinds a name."""
        return _hostname(f"//{header}") in self.hosts or "*" in self.hosts

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """Return whether a request comes from no page, from this server's page, or from an allowed one."""
        return not origin or origin in self.origins or urlsplit(origin).netloc == host

    def allows_token(self, header: str) -> bool:
        """Return whether an Authorization header has the token, compared in constant time."""
        if self.token is None:
            return True
        kind, _, value = header.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), self.token.encode())


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(address: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
