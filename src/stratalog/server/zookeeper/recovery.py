"""The tree that a data directory holds: its newest sound snapshot, and the logs after it.

    snapshot.5f3  -->  tree at 0x5f3  -->  log.2a0 from 0x5f4 on, log.a02, ...  -->  tree as it was

A snapshot that cannot be believed is passed over for an older one; the logs make up for it as long
as they reach back that far.  A log that is damaged stops the restart, since skipping would lose
what was acknowledged: the error names file and position.

Transactions follow one another without a gap, but where a new leader's time begins; so they show
what no single file can, and each of these stops the restart too:

    log.5: 5 6 7    log.9: 9 a      8 is missing: a file was removed, or lost its end
    log.5: 5 6 7    log.7: 7' 8     7 is there twice, and not the same (the same twice does no harm)
    snapshot.5 with parts up to 8, logs that end at 7: parts of 8 are in the tree, and 8 is missing

What a crash left at the end of a log is cut off, once all that is known (``Restored.torn``).

Where the transactions carry digests, each is held against the tree, but for those that the snapshot
may have known already.

Source: ``FileTxnSnapLog.java``, ``ZKDatabase.java``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
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
from stratalog.storage.zookeeper.torn import Torn
from stratalog.storage.zookeeper.txn_log import Logged, list_logs, read_from, read_log
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.snapshot import SnapshotTail
from stratalog.wire.zookeeper.txns import DIGEST_VERSION, TxnDigest, TxnHeader, body_fields

ACL_INDEX_END: Final = 1 << 30
"""ACLs are numbered in the order in which they come up; nobody comes so far."""

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
        snapshot_ms: How long the snapshot took to load.
        replay_ms: How long the logs did.
        torn: What crashes left at the ends of logs, for ``mend``.
    """

    tree: Tree
    snapshot: Path | None = None
    snapshot_zxid: int = 0
    fuzzy_until: int = 0
    transactions: int = 0
    snapshot_ms: int = 0
    replay_ms: int = 0
    torn: list[Torn] = field(default_factory=list)


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
        CorruptTxnLogError: A log is damaged, or transactions are missing; names file and position.
        CorruptSnapshotError: There are snapshots, none of them sound; or there are logs and no
            snapshot at all.
        StorageError: The system refused.
    """
    began_ns = time.monotonic_ns()
    restored = _newest(source)
    loaded_ns = time.monotonic_ns()
    restored.snapshot_ms = (loaded_ns - began_ns) // 1_000_000
    tree = restored.tree
    _replay_logs(source, restored)
    restored.replay_ms = (time.monotonic_ns() - loaded_ns) // 1_000_000
    if NOBODYS_ACL in tree.acls:
        _log.error("%s: the logs lack an ACL that it began to use", restored.snapshot)
    return restored


def _replay_logs(source: Source, restored: Restored) -> None:
    """Apply what the logs have after the snapshot, without a gap."""
    tree = restored.tree
    last: Logged | None = None
    repeats = _Repeats(source)
    for logged in read_from(
        source.log_directory,
        restored.snapshot_zxid + 1,
        record_bytes_max=source.field_bytes_max,
        torn=restored.torn,
    ):
        if logged.zxid <= tree.last_zxid:
            repeats.check(logged)
            continue
        if not _follows(tree.last_zxid, logged.zxid) and (last or restored.snapshot):
            raise CorruptTxnLogError(
                f"zxid 0x{logged.zxid:x} comes after 0x{tree.last_zxid:x}: what was between them "
                "is missing",
                path=str(logged.path),
                position=logged.position,
            )
        _replay(tree, logged, compare=logged.zxid >= restored.fuzzy_until)
        restored.transactions += 1
        last = logged
    _see_that_nothing_is_missing(restored, source)
    for torn in restored.torn:
        _log.warning(
            "%s: position %d: %s: %d bytes of a crash are dropped, zxid 0x%x is the last",
            torn.path, torn.position, torn.reason, torn.unread_bytes, tree.last_zxid,
        )  # fmt: skip


def _follows(before: int, zxid: int) -> bool:
    """Tell whether nothing can be between two zxids: the upper halves count leaders."""
    return zxid == before + 1 or zxid >> 32 > before >> 32


def _see_that_nothing_is_missing(restored: Restored, source: Source) -> None:
    tree = restored.tree
    if tree.last_zxid >= restored.fuzzy_until:
        return
    why = (
        f"{restored.snapshot} holds parts of what came up to zxid 0x{restored.fuzzy_until:x}, and "
        f"the logs end at 0x{tree.last_zxid:x}"
    )
    if logs := list_logs(source.log_directory):
        raise CorruptTxnLogError(why, path=str(logs[-1].path))
    _log.warning("%s: the tree may be one that never was", why)  # a snapshot that was copied alone


class _Repeats:
    """Transactions that stand in two logs, held against one another."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._path: Path | None = None
        self._known: dict[int, bytes] = {}

    def check(self, logged: Logged) -> None:
        """See that an earlier log has the same transaction.

        Raises:
            CorruptTxnLogError: It has another one with that zxid, or none.
        """
        if logged.path != self._path:
            self._path = logged.path
            self._known = {}
            for log in list_logs(self._source.log_directory):
                if log.path == logged.path:
                    break
                earlier = read_log(log.path, record_bytes_max=self._source.field_bytes_max)
                self._known |= {one.zxid: one.payload for one in earlier if one.zxid >= logged.zxid}
            _log.warning("%s: zxid 0x%x is in an earlier log too", logged.path, logged.zxid)
        if self._known.get(logged.zxid) != logged.payload:
            raise CorruptTxnLogError(
                f"zxid 0x{logged.zxid:x} is not what an earlier log has, or is out of order",
                path=str(logged.path),
                position=logged.position,
            )


def _replay(tree: Tree, logged: Logged, *, compare: bool) -> None:
    digest = tree.replay(logged.payload)
    if digest is False:
        digest = _replay_odd(tree, logged)
    if compare and not tree.verify(digest):
        _log.error(
            "%s position %d: the tree's digest differs after zxid 0x%x",
            logged.path, logged.position, logged.zxid,
        )  # fmt: skip


def _replay_odd(tree: Tree, logged: Logged) -> int | None:
    """Apply what C leaves to Python; return the digest it carries."""
    try:
        (session_id, _, zxid, time_ms, kind), at = _unpack_header(logged.payload, 0)
        fields, at = body_fields(kind, logged.payload, at)
        digest: int | None = None
        if at < len(logged.payload):
            (_, digest), at = _unpack_digest(logged.payload, at)
        tree.apply(kind, session_id, zxid, time_ms, fields)  # reads the parts of a multi
    except (JuteError, KeyError) as error:
        why = error.message if isinstance(error, JuteError) else f"no type {error} of a part"
        raise CorruptTxnLogError(
            f"zxid 0x{logged.zxid:x}: {why}", path=str(logged.path), position=logged.position
        ) from error
    return digest


def _newest(source: Source) -> Restored:
    snapshots = list_snapshots(source.snapshot_directory)
    refused: CorruptSnapshotError | None = None
    unfinished: SnapshotFile | None = None
    for snapshot in snapshots[:CANDIDATES_MAX]:
        if not looks_whole(snapshot):
            _log.warning("%s was never finished: passed over", snapshot.path)
            unfinished = unfinished or snapshot
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
    if unfinished is not None and unfinished.zxid > 0:  # one of an empty tree may be half written
        raise CorruptSnapshotError(
            "it was never finished, and there is no other", path=str(unfinished.path)
        )
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
    if not all(0 <= index < ACL_INDEX_END for index in head.acls):
        raise CorruptSnapshotError("an ACL's number cannot be", path=str(snapshot.path))
    try:
        tree = Tree.from_snapshot(
            head.sessions, head.acls, reader, extended=source.extended,
            digests=source.digests,
        )  # fmt: skip
    except KeyError as error:
        raise CorruptSnapshotError(
            f"znode {error.args[0]!r} has no parent", path=str(snapshot.path)
        ) from error
    except OverflowError as error:
        raise CorruptSnapshotError("an ACL's number cannot be", path=str(snapshot.path)) from error
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
