"""Another tree in place of this one, from a snapshot that somebody sends: the command ``restore``.

    bytes --> tree, its ephemerals whose sessions it does not know removed     in a thread
          --> snapshot.tmp: all of it but the end, and synced                  in the same thread
          --> end, rename, sync: snapshot.N; the machine of the new tree;      in one step
              every connection is cut

N is beyond everything that the logs hold, and no less than the zxid of what was sent: a restart
begins with snapshot.N and nothing older is applied to it.  One zxid is left out between the two
lives, so that a restart that could not believe snapshot.N refuses to put the one life's
transactions on the other's tree.

What was on its way is neither answered nor applied: its clients see their connections closed.  They
come back and find the sessions of the snapshot, with all their time before them, and set their
watches again; who is not in it must begin a new session.  Apache's keeps connections, but not their
watches, and has nothing on the disk until the next snapshot.

Left to others: who may do so, and how often (admin.py); the step itself (server.py).

Source: ``ZooKeeperServer.java`` (restoreFromSnapshot), ``RestoreCommand`` of ``Commands.java``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stratalog.core.zookeeper.tree import Tree, Walk
from stratalog.errors import CorruptSnapshotError
from stratalog.server.zookeeper import memory
from stratalog.server.zookeeper.settings import Settings
from stratalog.storage.zookeeper.snapshots import SnapshotTarget, unpacked
from stratalog.wire.zookeeper.snapshot import (
    DIGEST_VERSION,
    SnapshotReader,
    SnapshotTail,
    TreeDigest,
)

ZXID_MAX: Final = (1 << 62) - 1
"""A snapshot from further on is refused: there must be room for transactions."""

_PIECE_NODES: Final = 512
"""Znodes that are written between two turns of other threads."""

_UNNAMED: Final = 0
"""The zxid that a snapshot is written under until its own is known; the file is a ``.tmp``."""


@dataclass(slots=True)
class Replacement:
    """A tree that may take the place of another.

    Attributes:
        tree: It.
        zxid: What the snapshot says it holds.
        target: All of it on the disk, but for the end and the name.
    """

    tree: Tree
    zxid: int
    target: SnapshotTarget

    def settle(self, zxid: int, *, with_zxid: bool) -> None:
        """Give it its zxid, on the disk too.

        Raises:
            OSError: The system refused; it may have the name all the same.
        """
        self.tree.last_zxid = zxid
        self.target.settle(zxid)
        self.target.finish(tail_of(self.tree, with_zxid=with_zxid))


def tail_of(tree: Tree, *, with_zxid: bool) -> SnapshotTail:
    """Return the end of a tree's snapshot.

    Args:
        tree: As it is now.
        with_zxid: Whether its zxid is written (``serializeLastProcessedZxid.enabled``).
    """
    digest = TreeDigest(tree.last_zxid, DIGEST_VERSION, tree.digest) if tree.digests else None
    return SnapshotTail(digest, tree.last_zxid if with_zxid else None)


def read(data: bytes, settings: Settings) -> tuple[Tree, int]:
    """Return the tree of a snapshot, plain or compressed, and its zxid.

    Raises:
        CorruptSnapshotError: It is none, or damaged.
    """
    plain = unpacked(data)
    try:
        tree, tail = _read(plain, settings, digest=True)
    except CorruptSnapshotError:
        # Its writer may have kept no digests, and a last zxid then stands where ours would.
        tree, tail = _read(plain, settings, digest=False)
    zxid = tail.last_zxid
    if zxid is None:
        newest = max(max(node.czxid, node.mzxid, node.pzxid) for node in tree.nodes.values())
        zxid = max(newest, 0 if tail.digest is None else tail.digest.zxid)
    if not 0 <= zxid <= ZXID_MAX:
        raise CorruptSnapshotError(f"it says that it is of zxid {zxid}")
    for session_id in [owner for owner in tree.ephemerals if owner not in tree.sessions]:
        tree.kill_session(session_id)
    return tree, zxid


def _read(data: bytes, settings: Settings, *, digest: bool) -> tuple[Tree, SnapshotTail]:
    limit = settings.options.rules.txn_bytes_max
    reader = SnapshotReader(data, field_bytes_max=limit, digest=digest)
    head = reader.head()
    try:
        tree = Tree.from_snapshot(
            head.sessions, head.acls, reader, extended=settings.extended,
            digests=settings.digests,
        )  # fmt: skip
    except KeyError as error:
        raise CorruptSnapshotError(f"znode {error.args[0]!r} has no parent") from error
    return tree, reader.tail()


def _prepare(data: bytes, settings: Settings, directory: Path) -> Replacement:
    with memory.collector_off():
        tree, zxid = read(data, settings)
    target = SnapshotTarget(directory, _UNNAMED, compression=settings.snapshot_compression)
    try:
        target.begin(tree.sessions, tree.acls.all())
        walk = Walk(tree)
        while (piece := walk.piece(_PIECE_NODES)) is not None:
            target.encoded(piece)
        target.sync()
    except BaseException:
        target.abandon()
        raise
    return Replacement(tree, zxid, target)


async def prepare(data: bytes, settings: Settings, directory: Path) -> Replacement:
    """Do all that takes long in a thread; who is cancelled leaves nothing behind.

    Raises:
        CorruptSnapshotError: The bytes are no sound snapshot.
        OSError: The system refused.
    """
    job = asyncio.get_running_loop().run_in_executor(None, _prepare, data, settings, directory)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        if job.exception() is None:
            job.result().target.abandon()
        raise
