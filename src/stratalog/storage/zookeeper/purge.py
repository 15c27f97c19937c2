"""Purging: what no restart needs goes.

    snapshots    the newest N that look whole stay, and whatever is newer than the oldest of them
    logs         those stay that hold anything after the oldest snapshot that stays: all that begin
                 behind it, and the last that begins at or before it

Source: ``PurgeTxnLog.java``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stratalog.storage.zookeeper.snapshots import list_snapshots, looks_whole
from stratalog.storage.zookeeper.txn_log import list_logs

SNAPSHOTS_MIN: Final = 3


def purgeable(log_directory: Path, snapshot_directory: Path, snapshots: int) -> list[Path]:
    """Return the files that can go, the oldest first.

    Args:
        log_directory: ``version-2`` of the log directory.
        snapshot_directory: ``version-2`` of the data directory.
        snapshots: How many stay, at least SNAPSHOTS_MIN.

    Raises:
        ValueError: Fewer than SNAPSHOTS_MIN are to stay.
    """
    if snapshots < SNAPSHOTS_MIN:
        raise ValueError(f"{snapshots} snapshots: at least {SNAPSHOTS_MIN} must stay")
    kept = [found for found in list_snapshots(snapshot_directory) if looks_whole(found)][:snapshots]
    if not kept:
        return []
    oldest = kept[-1].zxid
    old_snapshots = [
        found.path for found in reversed(list_snapshots(snapshot_directory)) if found.zxid < oldest
    ]
    logs = list_logs(log_directory)
    at_or_before = [log for log in logs if log.first_zxid <= oldest]
    return old_snapshots + [log.path for log in at_or_before[:-1]]


def purge(log_directory: Path, snapshot_directory: Path, snapshots: int) -> list[Path]:
    """Remove them; return which."""
    gone = purgeable(log_directory, snapshot_directory, snapshots)
    for path in gone:
        path.unlink(missing_ok=True)
    return gone
