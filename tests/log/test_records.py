"""The bytes of records against hand-written Kafka ones, and batches against an outside CRC."""

from __future__ import annotations

import struct

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stratalog
from stratalog import errors
from stratalog.log.records import (
    Record,
    decode_headers,
    decode_records,
    decode_varint,
    encode_headers,
    encode_varint,
)

# Worked out by hand from the grammar in DefaultRecord.java: key "k", value "v", header h = x.
RECORD = bytes.fromhex(
    "18"  # length 12
    "00"  # attributes
    "00"  # timestamp delta 0
    "00"  # offset delta 0
    "02 6b"  # key, 1 byte
    "02 76"  # value, 1 byte
    "02"  # one header
    "02 68"  # name, 1 byte
    "02 78"  # value, 1 byte
)
TOMBSTONE = bytes.fromhex(
    "10"  # length 8
    "00"
    "c8 01"  # timestamp delta 100
    "02"  # offset delta 1
    "02 6b"
    "01"  # value: null
    "00"  # no headers
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"), (-1, "01"), (1, "02"), (-2, "03"), (63, "7e"), (-64, "7f"), (64, "80 01"),
        (-65, "81 01"), (300, "d8 04"), (8191, "fe 7f"), (8192, "80 80 01"),
        (2**31 - 1, "fe ff ff ff 0f"), (-(2**31), "ff ff ff ff 0f"),
        (2**63 - 1, "fe ff ff ff ff ff ff ff ff 01"), (-(2**63), "ff ff ff ff ff ff ff ff ff 01"),
    ],
)  # fmt: skip
def test_varints_of_kafka(value, encoded):
    data = bytes.fromhex(encoded)
    assert encode_varint(value) == data
    assert decode_varint(b"?" + data, 1) == (value, 1 + len(data))


def test_varints_that_do_not_end():
    with pytest.raises(IndexError):
        decode_varint(b"\x80\x80", 0)
    with pytest.raises(errors.CorruptLogError):
        decode_varint(b"\x80" * 11, 0)


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_headers_round_trip(headers):
    data, count = encode_headers(headers)
    assert count == len(headers)
    assert decode_headers(b"123" + data, 3, count) == tuple(headers)


def test_headers_against_hand_written_bytes():
    assert encode_headers([("h", b"x")]) == (RECORD[-4:], 1)
    assert encode_headers({"h": None}) == (bytes.fromhex("02 68 01"), 1)
    assert encode_headers({"é": b""}) == (bytes.fromhex("04 c3 a9 00"), 1)


@pytest.mark.parametrize("data", ["02", "02 68", "02 68 04 78", "7f 68", "02 ff 00"])
def test_damaged_headers(data):
    with pytest.raises(errors.CorruptLogError):
        decode_headers(bytes.fromhex(data), 0, 1)


def test_the_engine_writes_hand_written_records(log):
    log.append_many([b"v", None], keys=[b"k", b"k"], headers=[{"h": b"x"}, ()],
                    timestamps_ms=[1000, 1100])  # fmt: skip
    (batch,) = log.read_batches()
    assert bytes(batch.data[61:]) == RECORD + TOMBSTONE
    decoded = decode_records(RECORD + TOMBSTONE, count=2, base_offset=0, base_timestamp_ms=1000)
    assert list(decoded) == [
        Record(0, 1000, b"k", b"v", (("h", b"x"),)),
        Record(1, 1100, b"k", None, ()),
    ]


@pytest.mark.parametrize("data", [RECORD[:-1], RECORD + b"\x00", b"\x18", b""])
def test_damaged_records(data):
    with pytest.raises(errors.CorruptLogError):
        list(decode_records(data, count=1, base_offset=0, base_timestamp_ms=0))


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_batch_headers_against_the_grammar_and_an_outside_crc(log_path, codec):
    with stratalog.Log(log_path, create=True, leader_epoch=7) as log:
        log.append(b"first")
        log.append_many([b"x" * n for n in range(100)], codec=codec,
                        timestamps_ms=[50 + n % 10 for n in range(100)])  # fmt: skip
        batch = list(log.read_batches())[1]
        raw = bytes(batch.data)
        file = log_path / f"{0:020d}.log"
        assert file.read_bytes()[batch.position : batch.position + len(raw)] == raw
    (base_offset, length, epoch, magic, crc, attributes, last_delta, base_ms, max_ms, producer_id,
     producer_epoch, base_sequence, count) = struct.unpack_from(">qiibIhiqqqhii", raw)  # fmt: skip
    assert (base_offset, epoch, magic, last_delta, count) == (1, 7, 2, 99, 100)
    assert length == len(raw) - 12
    assert crc == batch.crc == crc32c.crc32c(raw[21:])
    assert attributes == ["none", "gzip", "snappy", "lz4", "zstd"].index(codec)
    assert (base_ms, max_ms) == (50, 59)
    assert (producer_id, producer_epoch, base_sequence) == (-1, -1, -1)
    assert (batch.leader_epoch, batch.base_offset, batch.last_offset) == (7, 1, 100)


def test_batches_travel_between_logs(log, tmp_path):
    log.append_many([b"%d" % i for i in range(5000)], codec="zstd")
    log.append_many([b"%d" % i for i in range(5000, 9000)])
    raw = b"".join(batch.data for batch in log.read_batches())
    with stratalog.Log(tmp_path / "copy", create=True) as copy:
        copy.append(b"shift")
        assert copy.append_batch(raw, leader_epoch=3) == 1
        assert copy.log_end_offset == 9001
        assert {batch.leader_epoch for batch in copy.read_batches(1)} == {3}
        assert [bytes(v) for v in copy.read_values(1)] == [b"%d" % i for i in range(9000)]
        assert copy.verify().ok
    with stratalog.Log(tmp_path / "follower", create=True) as follower:
        assert follower.append_replicated(raw) == 0
        assert list(follower.read()) == list(log.read())
