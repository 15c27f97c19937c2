"""Codecs: Kafka's framing, round trips, and outputs that never pass their limit."""

from __future__ import annotations

import gzip
import tracemalloc

import cramjam
import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalog import errors
from stratalog.log import codecs

NUMBERS = [1, 2, 3, 4]
DATA = b"".join(b"line %d of a text\n" % i for i in range(20_000))


@pytest.mark.parametrize("codec", NUMBERS)
@given(data=st.binary(max_size=2000))
def test_round_trip(codec, data):
    packed = codecs.compress(codec, data)
    assert codecs.decompress(codec, packed, len(data)) == data


@pytest.mark.parametrize("codec", NUMBERS)
@pytest.mark.parametrize("n_bytes", [0, 1, 32 << 10, (32 << 10) + 1, 64 << 10, len(DATA)])
def test_sizes_around_block_bounds(codec, n_bytes):
    data = DATA[:n_bytes]
    assert codecs.decompress(codec, codecs.compress(codec, data), 1 << 30) == data


@pytest.mark.parametrize("codec", NUMBERS)
def test_the_limit_is_exact(codec):
    packed = codecs.compress(codec, DATA)
    assert codecs.decompress(codec, packed, len(DATA)) == DATA
    with pytest.raises(codecs.CodecDataError, match="exceeds"):
        codecs.decompress(codec, packed, len(DATA) - 1)


@pytest.mark.parametrize("codec", NUMBERS)
def test_a_bomb_allocates_no_more_than_its_limit(codec):
    bomb = codecs.compress(codec, bytes(256 << 20))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(codecs.CodecDataError):
            codecs.decompress(codec, bomb, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) + 4 * limit


@pytest.mark.parametrize("codec", NUMBERS)
def test_cut_short(codec):
    packed = codecs.compress(codec, DATA)
    for n_bytes in (len(packed) - 1, len(packed) // 2, 5, 1):
        with pytest.raises(Exception):  # noqa: B017, PT011  # each package has errors of its own
            codecs.decompress(codec, packed[:n_bytes], 1 << 30)


@pytest.mark.parametrize("codec", NUMBERS)
@given(data=st.binary(min_size=1, max_size=200))
def test_garbage_is_refused_or_small(codec, data):
    try:
        unfolded = codecs.decompress(codec, data, 10_000)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # each package has errors of its own
        return
    assert len(unfolded) <= 10_000


@pytest.mark.parametrize(("codec", "level"), [(1, 1), (1, 9), (3, 9), (4, 1), (4, 19)])
def test_levels(codec, level):
    data = DATA[:50_000]
    assert codecs.decompress(codec, codecs.compress(codec, data, level), 1 << 30) == data


def test_gzip_is_gzip_and_members_join():
    assert gzip.decompress(codecs.compress(1, DATA)) == DATA
    assert codecs.decompress(1, gzip.compress(b"one") + gzip.compress(b"two"), 100) == b"onetwo"


def test_lz4_is_the_frame_that_kafka_reads():
    frame = codecs.compress(3, DATA)
    info = lz4.frame.get_frame_info(frame)
    assert info["block_linked"] is False
    assert info["block_size_id"] == lz4.frame.BLOCKSIZE_MAX64KB
    assert info["content_checksum"] is False
    assert info["block_checksum"] is False
    assert info["content_size"] == 0
    assert frame[4:6] == b"\x60\x40"  # version 1, independent blocks, nothing else; 64 KiB
    assert codecs.decompress(3, lz4.frame.compress(DATA), 1 << 30) == DATA


def test_snappy_is_xerial_and_raw_is_read():
    framed = codecs.compress(2, DATA)
    assert framed[:16] == bytes.fromhex("82 53 4e 41 50 50 59 00 00 00 00 01 00 00 00 01")
    first_bytes = int.from_bytes(framed[16:20], "big")
    block = bytes(cramjam.snappy.decompress_raw(framed[20 : 20 + first_bytes]))
    assert block == DATA[: 32 << 10]
    assert codecs.decompress(2, bytes(cramjam.snappy.compress_raw(DATA)), 1 << 30) == DATA
    assert codecs.decompress(2, framed + framed, 1 << 30) == DATA + DATA


def test_zstd_is_zstd():
    assert bytes(cramjam.zstd.decompress(codecs.compress(4, DATA))) == DATA


def test_a_batch_that_unfolds_too_far_is_a_codec_error(log_path):
    import stratalog

    with stratalog.Log(log_path, create=True, codec="zstd") as log:
        log.append_many([bytes(1000)] * 5000, atomic=True)
    with (
        stratalog.Log(log_path, mode="r", decompressed_bytes_max=1 << 20) as log,
        pytest.raises(errors.CodecError) as caught,
    ):
        list(log.read())
    assert isinstance(caught.value.__cause__, codecs.CodecDataError)
    assert caught.value.offset == 0
