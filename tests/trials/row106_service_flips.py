"""Row 106: every bit of a coordination server's logs and snapshots flipped, one at a time.

damage.py does it.  A flipped bit is told with file and position, or the tree is the same: a
snapshot is passed over for an older one and the logs after it.  A damaged record is never taken for
the end of its log, the last record neither.
"""

from __future__ import annotations

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .row105_service_torn import damage

NUMBER = 106
TITLE = "every bit of a server's files flipped"
QUICK = 500
FULL = 4_000_000
BUG = Bug(
    "damage ends a log as a torn tail does",
    "storage/zookeeper/txn_log.py",
    "    if reason is None:\n",
    "    if False:\n",
)


def missing() -> str | None:
    """Any file system will do."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Make a directory, and flip its bits."""
    damage(bench, "flips", 1)
