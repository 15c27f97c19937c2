"""What both servers are told alike, and who the clients are.

No session expires during a run: clocks would decide then.  Nothing is synced: a run is about
answers.  TTLs and containers are never swept, for the same reason.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

TICK_MS: Final = 2000
SESSION_MS_MAX: Final = 3_600_000
SUPER: Final = b"super:secret"
USERS: Final = (b"ada:one", b"bob:two")


def digest(user_and_password: bytes) -> str:
    """Return the identity of ``user:password``, computed apart from our server's code."""
    user = user_and_password.split(b":", 1)[0].decode()
    hashed = hashlib.sha1(user_and_password, usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(hashed).decode()}"


SUPER_DIGEST: Final = digest(SUPER)

APACHE_CONFIG: Final[dict[str, object]] = {
    "tickTime": TICK_MS,
    "minSessionTimeout": 2 * TICK_MS,
    "maxSessionTimeout": SESSION_MS_MAX,
    "maxClientCnxns": 0,
}

APACHE_PROPERTIES: Final[dict[str, object]] = {
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
    "zookeeper.forceSync": "no",
    "znode.container.checkIntervalMs": 1 << 30,
    "zookeeper.preAllocSize": 4096,
}
