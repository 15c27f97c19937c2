"""A record batch as it stands on disk: header fields, raw bytes, and its records decoded.

    position 0              8             12            16     17     21           23
    +-----------------------+-------------+-------------+------+------+------------+------------
    | base offset      i64  | length  i32 | epoch   i32 | 2 i8 | crc  | attributes | last offset
    +-----------------------+-------------+-------------+------+-u32--+-------i16--+-delta i32--
    27                      35            43            51     53       57            61
    ------------------------+-------------+-------------+------+--------+-------------+---------
    base timestamp     i64  | max ts. i64 | producer i64| ep.  | base   | record      | records,
    ------------------------+-------------+-------------+--i16-+seq i32-+-count   i32-+compressed

    length    bytes that follow it; the whole batch has 12 more
    crc       CRC-32C from position 21 to the end: offset and epoch may change without it
    attributes  bits 0..2 codec, 3 timestamps are append time, 4 transactional, 5 control,
                6 base timestamp is a delete horizon

C decodes and checks the header (batch.c, sl_batch_check); what is here reads its result.

Left to others: records (records.py), codecs (codecs.py).

Source: Kafka ``DefaultRecordBatch.java``; KIP-98, KIP-32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from stratalog import config
from stratalog.errors import CodecError
from stratalog.log import codecs
from stratalog.log.records import Record, decode_records

BATCH_OVERHEAD_BYTES: Final = 61
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_DELETE_HORIZON: Final = 0x40
_CODEC_MASK: Final = 0x07


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch of a log.

    Attributes:
        data: The whole batch as on disk, a read-only memoryview of ``batch_bytes`` bytes; it
            keeps the memory alive by itself, after close too.
        segment_base_offset: Which segment it stands in.
        position: Byte place of ``data[0]`` in that segment's file.
        base_offset: First offset.
        last_offset: Last offset, inclusive; record_count may be smaller after compaction.
        leader_epoch: -1 for none.
        crc: As stored.
        attributes: As stored; the properties below read it.
        record_count: Records inside.
        base_timestamp_ms: What the records' deltas count from, or the delete horizon.
        max_timestamp_ms: Latest timestamp inside.
        producer_id: -1 for none.
        producer_epoch: -1 for none.
        base_sequence: -1 for none.
    """

    data: memoryview
    segment_base_offset: int
    position: int
    base_offset: int
    last_offset: int
    leader_epoch: int
    crc: int
    attributes: int
    record_count: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int

    @classmethod
    def from_view(cls, view: Any, data: memoryview) -> Batch:
        """Copy the header of an ``sl_batch_view`` whose bytes are ``data``."""
        header = view.header
        return cls(
            data=data,
            segment_base_offset=view.segment_base_offset,
            position=view.position,
            base_offset=header.base_offset,
            last_offset=header.last_offset,
            leader_epoch=header.leader_epoch,
            crc=header.crc,
            attributes=header.attributes,
            record_count=header.record_count,
            base_timestamp_ms=header.base_timestamp_ms,
            max_timestamp_ms=header.max_timestamp_ms,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            base_sequence=header.base_sequence,
        )

    @property
    def batch_bytes(self) -> int:
        """Length of the whole batch."""
        return len(self.data)

    @property
    def codec(self) -> str:
        """Name of the codec: "none", "gzip", "snappy", "lz4", "zstd"."""
        number = self.attributes & _CODEC_MASK
        return codecs.CODEC_NAMES.get(number, f"unknown {number}")

    @property
    def is_append_time(self) -> bool:
        """Whether every record has the time of its append, ``max_timestamp_ms``."""
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        """Whether a producer's transaction wrote it."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        """Whether it holds a marker (commit, abort) instead of a user's records."""
        return bool(self.attributes & _CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        """Whether ``base_timestamp_ms`` is the time after which tombstones may go."""
        return bool(self.attributes & _DELETE_HORIZON)

    def records(
        self, *, decompressed_bytes_max: int = config.DECOMPRESSED_BYTES_MAX_DEFAULT
    ) -> Iterator[Record]:
        """Decode the records, in Python: for looking closely, not for speed.

        Args:
            decompressed_bytes_max: Bound of the records' bytes after decompression.

        Yields:
            Records; key and value are slices of ``data``, or of the decompressed bytes.

        Raises:
            CodecError: The records cannot be decompressed within the bound.
            CorruptLogError: The bytes inside are not ``record_count`` records.
        """
        payload: memoryview | bytes = self.data[BATCH_OVERHEAD_BYTES:]
        codec = self.attributes & _CODEC_MASK
        if codec:
            try:
                payload = memoryview(codecs.decompress(codec, payload, decompressed_bytes_max))
            except Exception as error:  # each codec package has errors of its own
                raise CodecError(
                    f"codec {self.codec} cannot decompress the batch",
                    offset=self.base_offset,
                    position=self.position,
                ) from error
        for record in decode_records(
            payload,
            count=self.record_count,
            base_offset=self.base_offset,
            base_timestamp_ms=self.base_timestamp_ms,
        ):
            if self.is_append_time:
                yield record._replace(timestamp_ms=self.max_timestamp_ms)
            else:
                yield record

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def __len__(self) -> int:
        return self.record_count

    def __repr__(self) -> str:
        return (
            f"<Batch offsets {self.base_offset} to {self.last_offset}, {self.record_count} "
            f"records, {self.batch_bytes} bytes, codec {self.codec}>"
        )
