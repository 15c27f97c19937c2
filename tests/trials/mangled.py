"""The program of row 125 for files: logs and snapshots that lie, with checksums that are right.

    python -m tests.trials.mangled DIRECTORY COPY SEED COUNT

Row 106 shows that a checksum catches what a disk does.  Here somebody who can compute checksums has
written the file: in a record of a log, or in the body of a snapshot, bytes are changed, taken out,
put in, or replaced by lengths and counts that cannot be, and the checksums are made to fit.

What is read is a tree, or refused with an error of ours that names the file; nothing else, and
without more memory than MEMORY_BYTES_MAX.  A line is printed per broken promise, and at last
``trials NUMBER refused NUMBER``.
"""

from __future__ import annotations

import logging
import random
import resource
import shutil
import struct
import sys
import traceback
import zlib
from pathlib import Path

from stratalog.errors import StratalogError
from stratalog.server.zookeeper.recovery import Source, restore
from stratalog.storage.zookeeper.snapshots import list_snapshots
from stratalog.storage.zookeeper.txn_log import list_logs, read_log
from stratalog.wire.zookeeper.txn_log import RECORD_OVERHEAD_BYTES

from .service import FIELD_BYTES_MAX

MEMORY_BYTES_MAX = 1 << 30
"""Of address space: an allocation by a lying length fails at once."""

HOSTILE = (-(2**31), -2, -1, 0, 1, 7, 0xFFFF, 0xFFFFF, 2**24, 2**30, 2**31 - 1)
"""Lengths and counts that lie."""

_SEAL_BYTES = 13
_TAIL_BYTES = _SEAL_BYTES + 20 + _SEAL_BYTES + 8 + _SEAL_BYTES
_RECORD = struct.Struct(">qi")


def mangle(data: bytes, draw: random.Random) -> bytes:
    """Change some bytes: one of six ways, sometimes two of them."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2))):
        at = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 1, 4, 8, 40))
        way = draw.randrange(6)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif way in (1, 2):
            changed[at : at + 4] = struct.pack(">i", draw.choice(HOSTILE))
        elif way == 3:
            del changed[at : at + length]
        elif way == 4:
            changed[at:at] = draw.randbytes(length)
        else:
            start = draw.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + length]
    return bytes(changed)


def sealed(body: bytes, tail: bytes) -> bytes:
    """Put the seals of a snapshot behind its body; ``tail`` is what was there."""
    whole = body + _seal(body)
    whole += tail[_SEAL_BYTES : _SEAL_BYTES + 20]
    whole += _seal(whole)
    whole += tail[2 * _SEAL_BYTES + 20 : 2 * _SEAL_BYTES + 28]
    return whole + _seal(whole)


def _seal(data: bytes) -> bytes:
    return struct.pack(">qi", zlib.adler32(data), 1) + b"/"


class Mangler:
    """One directory, and what was found wrong with its readers."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.trials = self.refused = 0
        self.logs = [log.path for log in list_logs(place)]
        self.snapshots = [one.path for one in list_snapshots(place)]

    def snapshot(self) -> tuple[Path, bytes, bytes]:
        """Mangle the last snapshot: its path, what was in it, what is."""
        path = max(self.snapshots, key=lambda one: int(one.name.split(".")[1], 16))
        whole = path.read_bytes()
        body, tail = whole[:-_TAIL_BYTES], whole[-_TAIL_BYTES:]
        return path, whole, sealed(body[:16] + mangle(body[16:], self.random), tail)

    def log(self) -> tuple[Path, bytes, bytes]:
        """Mangle one record of a log."""
        path = self.random.choice(self.logs)
        whole = path.read_bytes()
        records = list(read_log(path, record_bytes_max=FIELD_BYTES_MAX))
        start = self.random.choice(records).position
        (_, length) = _RECORD.unpack_from(whole, start)
        at = start + _RECORD.size
        # Behind the length of the session id it may be anything; mostly the zxid stays.
        kept = self.random.choice((0, 24, 24, 24, 36))
        payload = whole[at : at + kept] + mangle(whole[at + kept : at + length], self.random)
        record = _RECORD.pack(zlib.adler32(payload), len(payload)) + payload + b"B"
        after = whole[start + length + RECORD_OVERHEAD_BYTES :]
        return path, whole, whole[:start] + record + after

    def run(self, count: int) -> None:
        """Mangle and read."""
        while self.trials < count:
            choose = self.snapshot if self.random.random() < 0.4 else self.log
            path, before, after = choose()
            path.write_bytes(after)
            others = (
                [one for one in self.snapshots if one != path] if choose == self.snapshot else []
            )
            for one in others:
                one.rename(one.with_name(f"hidden-{one.name}"))
            self.trials += 1
            try:
                tree = restore(Source(self.place, self.place, FIELD_BYTES_MAX)).tree
                sum(1 for _ in tree.snapshot_nodes())  # it can be written again
            except StratalogError as error:
                self.refused += 1
                if str(self.place) not in str(error):
                    print(f"{path.name} is refused, and nothing says where: {error}", flush=True)
            except Exception as error:  # noqa: BLE001  (whatever it is, it is not ours)
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"mangled {path.name}, number {self.trials}: {type(error).__name__}: {error} "
                    f"at {Path(where.filename).name}:{where.lineno}",
                    flush=True,
                )
            finally:
                path.write_bytes(before)
                for one in others:
                    one.with_name(f"hidden-{one.name}").rename(one)


def main() -> None:
    """Mangle a copy."""
    logging.disable(logging.CRITICAL)
    original, copy, seed, count = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    shutil.copytree(original, copy)
    mangler = Mangler(Path(copy) / "version-2", int(seed))
    mangler.run(int(count))
    print(f"trials {mangler.trials} refused {mangler.refused}", flush=True)


if __name__ == "__main__":
    main()
