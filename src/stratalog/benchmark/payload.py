"""The bytes that every subject stores: from a seed, the same for all, incompressible.

    pool      |record 0|record 1| ... |record p-1|     random bytes, about one MiB, whole groups
    stream     record i of the workload is pool record i mod p

The pool is small on purpose: a program appends a record it has just made, so the record is in the
cache. It is larger than the window of any block compressor a log would use (64 KiB), so repeating
it does not make the stream compressible. It holds a whole number of groups, so that a group is
always one slice of it.

Python subjects make the pool in their own process; native drivers read it from a file, and the
order of the lookups from another one. Both come from the same seed, so the bytes and the order are
the same by construction and the checksums below hold for everybody.

The checksum is CRC-32 as in zlib, and not CRC-32C: the standard libraries of Python, Go and Java
all have it, and it is nobody's storage format here, so no subject can answer from a checksum it
happens to have stored.

What this leaves to others: when to check (the subjects do it outside the measurement), and what to
do about a wrong checksum (runner.py).
"""

from __future__ import annotations

import functools
import random
import sys
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

from stratalog.benchmark.model import Operation, Workload

__all__ = ["Payload", "expected_crc32"]

POOL_BYTES = 1 << 20


class Payload:
    """The records of one workload.

    ``pool`` holds ``pool_records`` records of ``record_bytes`` each, ``records`` the same as a list
    of bytes objects; ``lookups`` are the offsets to look up, in the order that all subjects share.
    """

    def __init__(self, workload: Workload) -> None:
        self.record_bytes = workload.record_bytes
        self.count = workload.records
        self.batch_records = workload.batch_records
        batches = max(1, POOL_BYTES // (workload.record_bytes * workload.batch_records))
        self.pool_records = min(batches * workload.batch_records, workload.records)
        # random.Random.randbytes is stable across Python versions for one seed; the seed names the
        # record size too, so that two sizes do not share a prefix.
        source = random.Random(f"stratalog payload {workload.seed} {workload.record_bytes}")
        self.pool = source.randbytes(self.pool_records * workload.record_bytes)
        # All lists are made here and not on first use: first use is inside somebody's measurement.
        size = workload.record_bytes
        self.records = [self.pool[i : i + size] for i in range(0, len(self.pool), size)]
        size = workload.batch_records
        self._groups = [self.records[i : i + size] for i in range(0, self.pool_records, size)]
        order = random.Random(f"stratalog lookups {workload.seed} {workload.records}")
        self.lookups = [order.randrange(self.count) for _ in range(workload.lookups)]

    def stream(self) -> Iterator[bytes]:
        """Yield every record of the workload in order, one bytes object each."""
        records = self.records
        full, rest = divmod(self.count, self.pool_records)
        for _ in range(full):
            yield from records
        yield from records[:rest]

    def groups(self) -> Iterator[list[bytes]]:
        """Yield every group of the workload in order, as a list of ``batch_records`` bytes objects.

        The lists are made once and handed out again and again; a subject must not change them.
        """
        groups = self._groups
        full, rest = divmod(self.count // self.batch_records, len(groups))
        for _ in range(full):
            yield from groups
        yield from groups[:rest]

    def write_pool(self, path: Path) -> None:
        """Write the pool as it is: the records one after another."""
        path.write_bytes(self.pool)

    def write_lookups(self, path: Path) -> None:
        """Write the offsets as little-endian unsigned 64-bit words."""
        words = array("Q", self.lookups)
        if sys.byteorder == "big":
            words.byteswap()
        path.write_bytes(words.tobytes())


@functools.lru_cache(maxsize=64)
def expected_crc32(workload: Workload) -> int:
    """Return the CRC-32 that a subject must give back for this workload."""
    payload = Payload(workload)
    crc = 0
    if workload.operation is Operation.LOOKUP:
        records = payload.records
        for offset in payload.lookups:
            crc = zlib.crc32(records[offset % payload.pool_records], crc)
        return crc
    full, rest = divmod(workload.records, payload.pool_records)
    for _ in range(full):
        crc = zlib.crc32(payload.pool, crc)
    return zlib.crc32(payload.pool[: rest * workload.record_bytes], crc)
