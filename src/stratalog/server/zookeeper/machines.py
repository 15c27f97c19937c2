"""Which machine a server runs, chosen once as it starts.

    no audit log, no limit     the plain one
    audit.enable               one with ears      (audit.py)
    a limit                    one behind gates   (throttle.py), with ears or without

What a server does not ask for is not even loaded.

Left to others: what the machines do (core/zookeeper).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stratalog.core.zookeeper.standalone import Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.server.zookeeper.settings import Settings

if TYPE_CHECKING:
    from stratalog.server.zookeeper.audit import AuditLog
    from stratalog.server.zookeeper.throttle import Throttle


class Machines:
    """What makes the machines of one server, one tree after the other.

    Attributes:
        audit: Where changes are told; None: nowhere.
        limits: What limits there are; None: none.
    """

    audit: AuditLog | None = None
    limits: Throttle | None = None

    def __init__(self, settings: Settings, now_ms: int) -> None:
        self._settings = settings
        if settings.audit:
            from stratalog.server.zookeeper.audit import AuditLog  # noqa: PLC0415  (most have none)

            self.audit = AuditLog()
        if settings.throttle.limits:
            from stratalog.server.zookeeper.throttle import Throttle  # noqa: PLC0415  (the same)

            self.limits = Throttle(settings.throttle, now_ms)

    def of(self, tree: Tree, now_ms: int) -> Standalone:
        """Return the machine of a tree."""
        settings = self._settings
        make: Callable[..., Standalone] = Standalone
        if self.audit is not None:
            make = self.audit.machine
        if self.limits is not None:
            make = partial(self.limits.machine, audit=self.audit)
        machine = make(tree, settings.options, schemes=settings.schemes, now_ms=now_ms)
        if not settings.digest_auth:
            del machine.schemes["digest"]
        return machine
