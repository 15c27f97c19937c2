"""The program of rows 105 and 106: damages a coordination server's directory and reads it again.

    python -m tests.trials.damage DIRECTORY COPY SEED torn|flips COUNT

It prints a line per broken promise and at last ``trials NUMBER``.  What a directory says is a tree
after one of its transactions: anything else than one of these, or an error, is a wrong tree.

    torn    in the last log, at any byte: cut; zeros to the end; garbage; and, with some position
            taken for durable, any of the sectors behind it lost
            -> the longest sound prefix, never less than what is durable; garbage may be refused.
            What is mended says the same, and has nothing left to tell.
            A log taken away, or another one in its place, is refused.
    flips   a bit of any log or snapshot -> the same tree, or an error
"""

from __future__ import annotations

import logging
import random
import shutil
import sys
from pathlib import Path

from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import CorruptSnapshotError, CorruptTxnLogError
from stratalog.server.zookeeper.recovery import Restored, Source, restore
from stratalog.storage.zookeeper.snapshots import list_snapshots
from stratalog.storage.zookeeper.torn import SECTOR_BYTES
from stratalog.storage.zookeeper.txn_log import list_logs, mend, read_from, read_log
from stratalog.wire.zookeeper.txn_log import HEADER_BYTES
from stratalog.wire.zookeeper.txns import Transaction, body_fields

from .service import FIELD_BYTES_MAX

State = tuple[int, int, tuple[tuple[int, int], ...]]
"""The last zxid, the tree's digest, the sessions."""


def state_of(tree: Tree) -> State:
    """What must be equal of two trees; the digest is counted anew."""
    tree.check()
    return tree.last_zxid, tree.digest, tuple(sorted(tree.sessions.items()))


class Damage:
    """One directory, as it was and as it is being damaged."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.place = directory / "version-2"
        self.logs = [log.path for log in list_logs(self.place)]
        self.first_zxid = list_logs(self.place)[-1].first_zxid
        for snapshot in list_snapshots(self.place):
            if snapshot.zxid >= self.first_zxid:
                snapshot.path.unlink()  # or it would hold what the torn log lost
        self.states = self._states()
        self.trials = 0
        self.ends: list[int] = []

    def _states(self) -> dict[int, State]:
        tree = Tree()
        states = {0: state_of(tree)}
        for logged in read_from(self.place, 1, record_bytes_max=FIELD_BYTES_MAX):
            header = Transaction.decode(logged.payload).header
            fields, _ = body_fields(header.type, logged.payload, len(header.encode()))
            tree.apply(header.type, header.client_id, header.zxid, header.time, fields)
            states[logged.zxid] = state_of(tree)
        return states

    def read(self) -> Restored:
        """What a restart finds."""
        return restore(Source(self.place, self.place, FIELD_BYTES_MAX))

    def fail(self, sentence: str) -> None:
        """Tell of a broken promise."""
        print(f"trial {self.trials}: {sentence}", flush=True)

    def found(self, expected: set[int], what: str, *, may_refuse: bool) -> Restored | None:
        """Read, and see that it is one of the states of ``expected`` zxids, or refused."""
        self.trials += 1
        try:
            restored = self.read()
            state = state_of(restored.tree)
        except (CorruptTxnLogError, CorruptSnapshotError) as error:
            if not may_refuse:
                self.fail(f"{what}: refused: {error}")
            elif error.path is None:
                self.fail(f"{what}: refused without a path: {error}")
            return None
        except AssertionError as error:
            self.fail(f"{what}: a tree that breaks its rules: {error}")
            return None
        if state not in [self.states[zxid] for zxid in expected]:
            self.fail(
                f"{what}: the tree ends at 0x{state[0]:x}, not at "
                f"{[hex(zxid) for zxid in sorted(expected)]}, or is another one"
            )
        return restored

    # ---- torn tails ----

    def torn(self, count: int) -> None:
        """Tear the last log, so many times, one way after the other."""
        self.gaps()
        log = self.logs[-1]
        whole = log.read_bytes()
        records = list(read_log(log, record_bytes_max=FIELD_BYTES_MAX))
        self.ends = [one.end for one in records]
        data_end = records[-1].end
        ways = (self.cut, self.zeros, self.garbage, self.lost)
        positions = list(range(data_end + 1))
        if count < len(ways) * len(positions):
            positions = self.random.sample(positions, max(1, count // len(ways)))
        for position in positions:
            for way in ways:
                durable, torn = way(whole, position, data_end)
                log.write_bytes(torn)
                # A record is there as long as no byte of it differs.
                intact = next(
                    (at for at in range(data_end) if torn[at : at + 1] != whole[at : at + 1]),
                    data_end,
                )
                ends = [one.zxid for one in records if one.end <= intact]
                expected = ends[-1] if ends else self.first_zxid - 1
                if durable and expected < max(
                    (one.zxid for one in records if one.end <= durable), default=0
                ):
                    raise AssertionError("the trial tore what it called durable")
                what = f"{way.__name__} at {position}, durable to {durable}"
                may_refuse = way == self.garbage or 0 < intact < HEADER_BYTES
                restored = self.found({expected}, what, may_refuse=may_refuse)
                if restored is not None:
                    mend(restored.torn)
                    again = self.found({expected}, f"{what}, mended", may_refuse=False)
                    if again is not None and again.torn:
                        self.fail(f"{what}: mended, and still torn: {again.torn}")
                log.write_bytes(whole)

    def cut(self, whole: bytes, position: int, end: int) -> tuple[int, bytes]:
        """The file ends there."""
        return 0, whole[:position]

    def zeros(self, whole: bytes, position: int, end: int) -> tuple[int, bytes]:
        """Zeros from there on."""
        return 0, whole[:position] + bytes(len(whole) - position)

    def garbage(self, whole: bytes, position: int, end: int) -> tuple[int, bytes]:
        """Some bytes that nobody wrote, up to the end or not."""
        count = min(self.random.choice([1, 20, 600, len(whole)]), len(whole) - position)
        stop = position + count
        return 0, whole[:position] + self.random.randbytes(count) + whole[stop:]

    def lost(self, whole: bytes, position: int, end: int) -> tuple[int, bytes]:
        """Of the sectors behind a record, the last that was synced, some never reached the disk."""
        durable = max([HEADER_BYTES, *(one for one in self.ends if one <= position)])
        torn = bytearray(whole)
        kept = self.random.choice([0.1, 0.5, 0.9])
        start = durable
        while start < end:
            stop = min(start - start % SECTOR_BYTES + SECTOR_BYTES, len(torn))
            if self.random.random() >= kept:
                torn[start:stop] = bytes(stop - start)
            elif self.random.random() < 0.2:
                # Written while it was filled: the rest of its last record is missing.
                pairs = zip(self.ends, self.ends[1:], strict=False)
                inner = [(one, two) for one, two in pairs if start <= one and two <= stop]
                if inner:
                    filled = self.random.randrange(inner[-1][0], inner[-1][1])
                    torn[filled:stop] = bytes(stop - filled)
            start = stop
        return durable, bytes(torn)

    def gaps(self) -> None:
        """A log that is gone, and one that says otherwise than another."""
        oldest = min(snapshot.zxid for snapshot in list_snapshots(self.place))
        read = [log for log in list_logs(self.place) if log.first_zxid > oldest]
        for snapshot in list_snapshots(self.place):
            if snapshot.zxid > oldest:
                snapshot.path.unlink()  # only the oldest is left: every log is needed
        last = {max(self.states)}
        for log in read[:-1]:
            kept = log.path.read_bytes()
            log.path.unlink()
            self.trials += 1
            try:
                self.read()
                self.fail(f"{log.path.name} is gone, and nobody minds")
            except CorruptTxnLogError:
                pass
            log.path.write_bytes(kept)
            # The same transactions twice do no harm; others in their place do.
            twice = self.place / f"log.{log.first_zxid + 1:x}"
            records = list(read_log(log.path, record_bytes_max=FIELD_BYTES_MAX))
            if len(records) < 2 or twice.exists():
                continue
            twice.write_bytes(kept[:HEADER_BYTES] + kept[records[1].position :])
            self.found(last, f"{twice.name} repeats {log.path.name}", may_refuse=False)
            twice.unlink()

    # ---- flipped bits ----

    def flips(self, count: int) -> None:
        """Flip bits, one at a time: all of them, or so many drawn at random."""
        files = self.logs + [snapshot.path for snapshot in list_snapshots(self.place)]
        bits = sum(path.stat().st_size * 8 for path in files)
        chosen = range(bits) if count >= bits else sorted(self.random.sample(range(bits), count))
        last = {max(self.states)}
        start = 0
        for path in files:
            whole = path.read_bytes()
            end = start + len(whole) * 8
            for bit in chosen:
                if start <= bit < end:
                    at = (bit - start) // 8
                    damaged = bytearray(whole)
                    damaged[at] ^= 1 << (bit % 8)
                    path.write_bytes(damaged)
                    what = f"bit {bit % 8} of {path.name} at {at} of {len(whole)}"
                    self.found(last, what, may_refuse=True)
            path.write_bytes(whole)
            start = end


def main() -> None:
    """Damage a copy."""
    logging.disable(logging.CRITICAL)
    original, copy, seed, mode, count = sys.argv[1:]
    shutil.copytree(original, copy)
    damage = Damage(Path(copy), int(seed))
    damage.found({max(damage.states)}, "untouched", may_refuse=False)
    getattr(damage, mode)(int(count))
    print(f"trials {damage.trials}", flush=True)


if __name__ == "__main__":
    main()
