"""A snapshot of a tree that is in use: slice by slice, while requests are answered.

    walk --> slice --> slice --> slice --> chunk --> a thread sums and writes it, and syncs
             | turn of | rest, if
               the loop  requests came

A slice is taken on the loop, in less than a tenth of a millisecond: the tree stands still for it.
While requests come, the loop rests after each one.  If it did not, it would never sleep, clients on
its own processor could not ask, and all of them would wait for the snapshot instead of its slices.
What is written is synced now and then: the log's syncs wait behind what the disk was given at once,
and a whole snapshot would be a tenth of a second.

Left to others: which snapshots there are, and when (server.py); the file (storage).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from stratalog.core.zookeeper.tree import Tree, Walk
from stratalog.net.loop import off_loop
from stratalog.storage.zookeeper.snapshots import SnapshotTarget

SLICE_ZNODES: Final = 256
"""Znodes taken between two turns of the loop."""

REST_S: Final = 0.001
"""How long the loop rests from it while requests come."""

CHUNK_BYTES: Final = 256 << 10
"""How much the thread gets at a time."""

SYNC_BYTES: Final = 16 << 20
"""How much of it is synced at a time: what the disk takes in some ten milliseconds."""


async def write_znodes(tree: Tree, target: SnapshotTarget, heard: Callable[[], int]) -> None:
    """Write all znodes of a tree that goes on changing.

    Args:
        tree: Whose they are; no other walk goes on.
        target: Where to; it has begun.
        heard: Tells how often requests have come.

    Raises:
        OSError: The system refused.
    """
    walk = Walk(tree)
    slices: list[bytes] = []
    gathered = unsynced = 0
    while (piece := walk.piece(SLICE_ZNODES)) is not None:
        slices.append(piece)
        gathered += len(piece)
        if gathered >= CHUNK_BYTES:
            await off_loop(target.encoded, b"".join(slices))
            unsynced += gathered
            slices, gathered = [], 0
        if unsynced >= SYNC_BYTES:
            await off_loop(target.sync)
            unsynced = 0
        before = heard()
        await asyncio.sleep(0)
        if heard() != before:
            await asyncio.sleep(REST_S)
    await off_loop(target.encoded, b"".join(slices))
