"""What a server with limits has beside the others: the machine behind gates, its chance and clock.

    any limit given  -->  Throttle.machine: a machine behind gates, with ears or without
    else             -->  the plain machine; nothing of this is there

The bucket of tokens belongs to the server and not to the machine: it outlives a restore.

Left to others: the gates (core/zookeeper/throttle.py), the audit log (audit.py).

Source: ``ZooKeeperServer.java``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stratalog.core.zookeeper.audit import Audited
from stratalog.core.zookeeper.identity import Scheme
from stratalog.core.zookeeper.standalone import Options, Standalone
from stratalog.core.zookeeper.throttle import BlueThrottle, Throttled, ThrottleOptions
from stratalog.core.zookeeper.tree import Tree

if TYPE_CHECKING:
    from stratalog.server.zookeeper.audit import AuditLog


class ThrottledAudited(Throttled, Audited):
    """Behind gates and with ears: what waits at a gate is not told of yet."""


class Throttle:
    """The limits of a server.

    Attributes:
        options: What they are.
        blue: What lets sessions begin.
    """

    def __init__(self, options: ThrottleOptions, now_ms: int) -> None:
        self.options = options
        self.blue = BlueThrottle(options, now_ms)
        self._random = random.Random()  # noqa: S311  (who is turned away)

    def wake(self, machine: Standalone) -> None:
        """Let a machine of ours look at what waits: time has passed."""
        if isinstance(machine, Throttled):
            machine.wake()

    def machine(
        self,
        tree: Tree,
        options: Options,
        *,
        schemes: Mapping[str, Scheme],
        now_ms: int,
        audit: AuditLog | None,
    ) -> Throttled:
        """Return a machine behind these limits, which tells ``audit`` of its changes."""
        kind, more = (Throttled, {}) if audit is None else (ThrottledAudited, audit.arguments)
        return kind(
            tree, options, schemes=schemes, now_ms=now_ms, throttle=self.options, blue=self.blue,
            draw=self._random.random, **more,
        )  # fmt: skip
