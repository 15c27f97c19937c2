"""Every default and limit in one place, units in the names; relations are checked on import.

    *_default     what an option is when it is not given
    *_min, *_max  inclusive bounds; beyond them an argument is refused
    the rest      constants of our own making, chosen by measurement, and none of them on disk

The engine checks its bounds itself (stratalog.h); what stands here twice is compared in the tests.
"""

from __future__ import annotations

from typing import Final

# ---- a log's files ----

SEGMENT_BYTES_DEFAULT: Final = 256 << 20
SEGMENT_BYTES_MIN: Final = 4096
SEGMENT_BYTES_MAX: Final = (1 << 31) - 4096  # positions are signed 32 bit in Kafka's index
SEGMENT_INDEX_BYTES_DEFAULT: Final = 10 << 20
INDEX_INTERVAL_BYTES_DEFAULT: Final = 4096
BATCH_BYTES_DEFAULT: Final = 64 << 10
DECOMPRESSED_BYTES_MAX_DEFAULT: Final = 128 << 20

# ---- durability ----

SYNC_INTERVAL_MS_DEFAULT: Final = 1000
SYNC_INTERVAL_BYTES_DEFAULT: Final = 16 << 20

# ---- reading ----

READ_CHUNK_RECORDS_FIRST: Final = 16
"""Records decoded by a reader's first call: someone who wants one record does not wait for 512."""

READ_CHUNK_RECORDS_MAX: Final = 512
"""Records decoded by one call: enough to spread its 4 us thin, and fewer than the 700 live objects
at which CPython's collector starts looking for garbage among them (2048 a call: a third slower)."""

SPARE_REQUESTS_MAX: Final = 16
"""Request structs kept for the next call of ``get``; more threads make their own."""

# ---- following: sleep between two looks at a log that has nothing new ----

FOLLOW_SLEEP_MS_FIRST: Final = 0.05
FOLLOW_SLEEP_MS_MAX: Final = 5.0
FOLLOW_SLEEP_GROWTH: Final = 1.5

# ---- codecs ----

SNAPPY_BLOCK_BYTES: Final = 32 << 10
"""As snappy-java writes them, which is what Kafka's clients use."""

DECOMPRESS_STEP_BYTES: Final = 64 << 10
"""Least output asked of a decompressor at a time; grows with what it delivered."""

# ---- closing and checking ----

CLOSE_WAIT_MS_MAX: Final = 30_000
"""How long ``close`` waits for another thread's call on the same handle to return."""

VERIFY_PROBLEMS_MAX: Final = 1000
"""Problems reported of one segment; the rest is counted."""


def check_relations() -> None:
    """Compare the constants with each other.

    Raises:
        ValueError: A sentence below does not hold.
    """
    relations = {
        "a segment holds at least one batch of the usual size": (
            SEGMENT_BYTES_DEFAULT >= 2 * BATCH_BYTES_DEFAULT
        ),
        "the default segment lies within its bounds": (
            SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX
        ),
        "positions fit a signed 32-bit integer": SEGMENT_BYTES_MAX <= (1 << 31) - 1,
        "a batch of the usual size fits the decompression bound": (
            BATCH_BYTES_DEFAULT <= DECOMPRESSED_BYTES_MAX_DEFAULT
        ),
        "index entries are not denser than their own size": INDEX_INTERVAL_BYTES_DEFAULT >= 8,
        "chunks of a reader grow": 0 < READ_CHUNK_RECORDS_FIRST <= READ_CHUNK_RECORDS_MAX,
        "a follower's sleep grows": (
            0 < FOLLOW_SLEEP_MS_FIRST < FOLLOW_SLEEP_MS_MAX and FOLLOW_SLEEP_GROWTH > 1
        ),
    }
    broken = [sentence for sentence, holds in relations.items() if not holds]
    if broken:
        raise ValueError(f"config: {'; '.join(broken)}")


check_relations()
