"""The audit log: who changed what, as lines of a logger of its own.

    audit.enable=true   -->  AuditLog.machine: a machine that tells of every change
                        -->  logger stratalog.zookeeper.audit, INFO; a failure is ERROR
    else                -->  the plain machine; nothing of this is there

The logger's level is INFO whatever the level of the others, so that ``--quiet`` hides no line of
it.  Without further ado its lines go where the others go; a program that runs the server gives it
handlers of its own.

Not told, though Apache's tells it: what a restart applies again from its log; it was told when it
happened.

Left to others: what is told, and the form of a line (core/zookeeper/audit.py).

Source: ``ZKAuditProvider.java``, ``Slf4jAuditLogger.java``.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Mapping
from typing import Any, Final

from stratalog.core.zookeeper.audit import Audited, Event, Result
from stratalog.core.zookeeper.identity import Scheme
from stratalog.core.zookeeper.standalone import Options
from stratalog.core.zookeeper.tree import Tree

LOGGER: Final = "stratalog.zookeeper.audit"
_log: Final = logging.getLogger(LOGGER)
_START: Final = "serverStart"
_STOP: Final = "serverStop"


def user_name() -> str:
    """Return who runs this process; ``?``, as Java has it, for a user without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "?"


class AuditLog:
    """Where a server's events go."""

    def __init__(self) -> None:
        self._user = user_name()
        _log.setLevel(logging.INFO)

    def machine(
        self, tree: Tree, options: Options, *, schemes: Mapping[str, Scheme], now_ms: int
    ) -> Audited:
        """Return a machine that tells of its changes here."""
        return Audited(tree, options, schemes=schemes, now_ms=now_ms, **self.arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """What a machine with ears wants beside the rest."""
        return {"user": self._user, "tell": self.tell}

    def tell(self, event: Event) -> None:
        """Write an event's line."""
        level = logging.ERROR if event.result is Result.FAILURE else logging.INFO
        _log.log(level, "%s", event.line)

    def started(self) -> None:
        """The server serves."""
        self.tell(Event(_START, Result.SUCCESS, self._user))

    def start_failed(self) -> None:
        """The server could not start."""
        self.tell(Event(_START, Result.FAILURE, self._user))

    def stopping(self) -> None:
        """The server was told to stop."""
        self.tell(Event(_STOP, Result.INVOKED, self._user))
