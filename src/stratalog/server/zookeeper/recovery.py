"""The tree that a data directory holds: its newest sound snapshot, and the logs after it.

    snapshot.5f3  -->  tree at 0x5f3  -->  log.2a0 from 0x5f4 on, log.a02, ...  -->  tree as it was

A snapshot that cannot be believed is passed over for an older one; the logs make up for it as long
as they reach back that far.  A log that is damaged stops the restart, since skipping would lose
what was acknowledged: the error names file and position.

Where the transactions carry digests, each is held against the tree, but for those that the snapshot
may have known already.

Source: ``FileTxnSnapLog.java``, ``ZKDatabase.java``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stratalog.core.zookeeper.identity import NOBODYS_ACL
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import CorruptSnapshotError, CorruptTxnLogError, JuteError
from stratalog.storage.zookeeper.snapshots import (
    CANDIDATES_MAX,
    SnapshotFile,
    list_snapshots,
    looks_whole,
    open_snapshot,
)
from stratalog.storage.zookeeper.txn_log import Logged, list_logs, read_from
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.snapshot import SnapshotTail
from stratalog.wire.zookeeper.txns import DIGEST_VERSION, TxnDigest, TxnHeader, body_fields

_log: Final = logging.getLogger("stratalog.zookeeper")
_unpack_header: Final = unpacker(TxnHeader)
_unpack_digest: Final = unpacker(TxnDigest)


@dataclass(slots=True)
class Restored:
    """A tree, and where it came from.

    Attributes:
        tree: With everything applied.
        snapshot: The snapshot it began with, None where there was none.
        snapshot_zxid: That of the snapshot's name.
        fuzzy_until: The snapshot may hold later states up to this zxid; there digests agree again.
        transactions: How many came from logs.
    """

    tree: Tree
    snapshot: Path | None = None
    snapshot_zxid: int = 0
    fuzzy_until: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A data directory, and how it is read.

    Attributes:
        log_directory: ``version-2`` of the log directory.
        snapshot_directory: ``version-2`` of the data directory.
        field_bytes_max: A longer path, data or transaction is damage.
        extended: Whether znodes may have a time to live.
        digests: Whether digests are kept.
        trust_empty: Logs without a snapshot are believed (``snapshot.trust.empty``).
    """

    log_directory: Path
    snapshot_directory: Path
    field_bytes_max: int
    extended: bool = False
    digests: bool = True
    trust_empty: bool = False


def restore(source: Source) -> Restored:
    """Bring back the tree.

    Raises:
        CorruptTxnLogError: A log is damaged; names file and position.
        CorruptSnapshotError: There are snapshots, none of them sound; or there are logs and no
            snapshot at all.
        StorageError: The system refused.
    """
    restored = _newest(source)
    tree = restored.tree
    for logged in read_from(
        source.log_directory, restored.snapshot_zxid + 1, record_bytes_max=source.field_bytes_max
    ):
        if logged.zxid <= tree.last_zxid:
            _log.warning("%s: zxid 0x%x follows 0x%x", logged.path, logged.zxid, tree.last_zxid)
        _replay(tree, logged, compare=logged.zxid >= restored.fuzzy_until)
        restored.transactions += 1
    if NOBODYS_ACL in tree.acls:
        _log.error("%s: the logs lack an ACL that it began to use", restored.snapshot)
    return restored


def _replay(tree: Tree, logged: Logged, *, compare: bool) -> None:
    try:
        (session_id, _, zxid, time_ms, kind), at = _unpack_header(logged.payload, 0)
        fields, at = body_fields(kind, logged.payload, at)
        digest = None
        if at < len(logged.payload):
            (_, digest), at = _unpack_digest(logged.payload, at)
    except JuteError as error:
        raise CorruptTxnLogError(
            f"zxid 0x{logged.zxid:x}: {error.message}",
            path=str(logged.path),
            position=logged.position,
        ) from error
    tree.apply(kind, session_id, zxid, time_ms, fields)
    if compare and not tree.verify(digest):
        _log.error(
            "%s position %d: the tree's digest differs after zxid 0x%x",
            logged.path, logged.position, zxid,
        )  # fmt: skip


def _newest(source: Source) -> Restored:
    snapshots = list_snapshots(source.snapshot_directory)
    refused: CorruptSnapshotError | None = None
    for snapshot in snapshots[:CANDIDATES_MAX]:
        if not looks_whole(snapshot):
            _log.warning("%s was never finished: passed over", snapshot.path)
            continue
        try:
            return _load(snapshot, source)
        except CorruptSnapshotError as error:
            refused = CorruptSnapshotError(
                error.message, path=str(snapshot.path), position=error.position
            )
            _log.warning("%s: passed over", refused)
    if refused is not None:
        raise refused
    if not source.trust_empty and any(
        log.path.stat().st_size > 0 for log in list_logs(source.log_directory)
    ):
        raise CorruptSnapshotError(
            "there are transaction logs and no snapshot: something was removed; "
            "snapshot.trust.empty=true starts from the logs alone",
            path=str(source.snapshot_directory),
        )
    return Restored(Tree(extended=source.extended, digests=source.digests))


def _load(snapshot: SnapshotFile, source: Source) -> Restored:
    try:
        return _load_with(snapshot, source, digest=True)
    except CorruptSnapshotError:
        # Its writer may have kept no digests, and a last zxid then stands where ours would.
        return _load_with(snapshot, source, digest=False)


def _load_with(snapshot: SnapshotFile, source: Source, *, digest: bool) -> Restored:
    reader = open_snapshot(snapshot, field_bytes_max=source.field_bytes_max, digest=digest)
    head = reader.head()
    try:
        tree = Tree.from_snapshot(
            head.sessions, head.acls, reader.nodes(), extended=source.extended,
            digests=source.digests,
        )  # fmt: skip
    except KeyError as error:
        raise CorruptSnapshotError(
            f"znode {error.args[0]!r} has no parent", path=str(snapshot.path)
        ) from error
    tail = reader.tail()
    tree.last_zxid = snapshot.zxid
    return Restored(tree, snapshot.path, snapshot.zxid, _fuzzy_until(tree, snapshot, tail))


def _fuzzy_until(tree: Tree, snapshot: SnapshotFile, tail: SnapshotTail) -> int:
    known = tail.digest
    if known is None:
        return max(snapshot.zxid, tail.last_zxid or 0)
    exact = known.zxid == snapshot.zxid and known.version == DIGEST_VERSION
    if exact and not tree.verify(known.digest):
        _log.error("%s: the tree's digest differs from the one it carries", snapshot.path)
    return max(snapshot.zxid, known.zxid)
