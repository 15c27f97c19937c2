"""Transaction logs and snapshots: bytes, ends, damage at every position."""

from __future__ import annotations

import itertools
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalog.errors import CorruptSnapshotError, CorruptTxnLogError
from stratalog.wire.zookeeper import snapshot, txn_log
from stratalog.wire.zookeeper.records import ACL, Id, OpCode
from stratalog.wire.zookeeper.snapshot import (
    SnapshotHead,
    SnapshotNode,
    SnapshotReader,
    SnapshotTail,
    SnapshotWriter,
    TreeDigest,
)
from stratalog.wire.zookeeper.txn_log import encode_record, read_records
from stratalog.wire.zookeeper.txns import SetDataTxn, Transaction, TxnDigest, TxnHeader

LIMIT = 1 << 20
STAT = (1, 2, 3, 4, 5, 6, 7, 0, 9)


def payload(zxid: int, size: int = 3) -> bytes:
    """A transaction that sets some data."""
    header = TxnHeader(0x10001, zxid & 0xFFFF, zxid, 1_700_000_000_000 + zxid, OpCode.SET_DATA)
    return Transaction(header, SetDataTxn("/a", bytes(size), 1), TxnDigest(2, zxid)).encode()


PAYLOADS = [payload(zxid, zxid * 5) for zxid in range(1, 6)]
LOG = txn_log.HEADER + b"".join(map(encode_record, PAYLOADS))


class TestTxnLog:
    def test_header_byte_for_byte(self) -> None:
        assert bytes.fromhex("5a4b4c47 00000002 0000000000000000") == txn_log.HEADER
        txn_log.check_header(LOG)

    def test_record_byte_for_byte(self) -> None:
        assert encode_record(b"abc") == struct.pack(">qi", zlib.adler32(b"abc"), 3) + b"abcB"

    @pytest.mark.parametrize("padding", [0, 1, 11, 12, 5000])
    def test_reads_up_to_the_padding(self, padding: int) -> None:
        records = list(read_records(LOG + bytes(padding), record_bytes_max=LIMIT))
        assert [one.payload for one in records] == PAYLOADS
        assert [one.transaction().header.zxid for one in records] == [1, 2, 3, 4, 5]
        assert records[0].position == 16
        assert records[-1].end == len(LOG)
        assert all(a.end == b.position for a, b in itertools.pairwise(records))

    def test_cut_at_every_byte_loses_only_what_is_cut(self) -> None:
        ends = [one.end for one in read_records(LOG, record_bytes_max=LIMIT)]
        for cut in range(16, len(LOG)):
            read = [one.payload for one in read_records(LOG[:cut], record_bytes_max=LIMIT)]
            assert read == PAYLOADS[: sum(end <= cut for end in ends)]

    def test_a_tail_torn_in_zeros_is_the_end(self) -> None:
        start = list(read_records(LOG, record_bytes_max=LIMIT))[-1].position
        for cut in range(start + 12, len(LOG)):
            torn = LOG[:cut] + bytes(4096)
            read = list(read_records(torn, record_bytes_max=LIMIT))
            assert [one.payload for one in read] == PAYLOADS[:-1]

    def test_every_flipped_bit_of_a_payload_is_told(self) -> None:
        second = list(read_records(LOG, record_bytes_max=LIMIT))[1]
        for position in range(second.position + 12, second.end - 1):
            for bit in range(8):
                damaged = bytearray(LOG)
                damaged[position] ^= 1 << bit
                records = read_records(damaged, record_bytes_max=LIMIT)
                assert next(records).payload == PAYLOADS[0]
                with pytest.raises(CorruptTxnLogError, match="Adler-32") as caught:
                    next(records)
                assert caught.value.position == second.position

    @pytest.mark.parametrize("length", [-1, -(2**31), LIMIT + 1, 2**31 - 1])
    def test_impossible_lengths_are_told(self, length: int) -> None:
        data = txn_log.HEADER + struct.pack(">qi", 0, length) + bytes(100)
        with pytest.raises(CorruptTxnLogError, match=f"a record of {length} bytes"):
            list(read_records(data, record_bytes_max=LIMIT))

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"", "0 bytes are no header"),
            (LOG[:15], "15 bytes are no header"),
            (b"ZKSN" + LOG[4:], "begins with"),
            (LOG[:7] + b"\x03" + LOG[8:], "version 3"),
        ],
    )
    def test_other_headers_are_refused(self, data: bytes, sentence: str) -> None:
        with pytest.raises(CorruptTxnLogError, match=sentence):
            txn_log.check_header(data)

    def test_padding_grows_in_steps(self) -> None:
        step = 64 << 20
        grown = txn_log.file_bytes_with_padding
        assert grown(16, 0, step) == step
        assert grown(step - 4097, step, step) == step
        assert grown(step - 4096, step, step) == 2 * step
        assert grown(step + 5, step, step) == 2 * step
        assert grown(3 * step + 5, step, step) == 4 * step
        assert grown(16, 0, 0) == 0

    def test_names(self) -> None:
        assert txn_log.log_name(0x100000001) == "log.100000001"
        assert snapshot.snapshot_name(0) == "snapshot.0"


NODES = [
    SnapshotNode("", b"", -1, *STAT),
    SnapshotNode("/zookeeper", b"", -1, *STAT),
    SnapshotNode("/a", None, 1, *STAT),
    SnapshotNode("/a/é", b"x" * 100, 2, *STAT),
]
HEAD = SnapshotHead(
    {0x100001: 10_000, -5: 4_000},
    {1: (ACL(31, Id("auth", "")),), 2: (ACL(1, Id("ip", "::1")), ACL(31, Id("digest", "u:h=")))},
)
TAIL = SnapshotTail(TreeDigest(7, 2, -3), 7)


def written(head: SnapshotHead, nodes: list[SnapshotNode], tail: SnapshotTail) -> bytes:
    """A whole snapshot, its znodes in pieces of two."""
    writer = SnapshotWriter()
    pieces = [writer.begin(head.sessions, head.acls)]
    pieces += [writer.nodes(nodes[i : i + 2]) for i in range(0, len(nodes), 2)]
    return b"".join([*pieces, writer.end(tail)])


def read(
    data: bytes, *, digest: bool = True
) -> tuple[SnapshotHead, list[SnapshotNode], SnapshotTail]:
    """All of a snapshot."""
    reader = SnapshotReader(data, field_bytes_max=LIMIT, digest=digest)
    return reader.head(), list(reader.nodes()), reader.tail()


stats = [
    *[st.integers(-(2**63), 2**63 - 1)] * 4,
    *[st.integers(-(2**31), 2**31 - 1)] * 3,
    *[st.integers(-(2**63), 2**63 - 1)] * 2,
]
paths = st.text(st.characters(max_codepoint=0xD7FF), min_size=1).map(lambda t: "/" + t)
nodes = st.lists(
    st.builds(SnapshotNode, paths, st.none() | st.binary(), st.integers(-1, 9), *stats)
)


class TestSnapshot:
    @pytest.mark.parametrize(
        "tail", [TAIL, SnapshotTail(TAIL.digest), SnapshotTail(None, 7), SnapshotTail()]
    )
    def test_comes_back(self, tail: SnapshotTail) -> None:
        data = written(HEAD, NODES, tail)
        assert data.endswith(snapshot.LAST_BYTES)
        assert read(data, digest=tail.digest is not None) == (HEAD, NODES, tail)

    def test_byte_for_byte(self) -> None:
        data = written(SnapshotHead({5: 6}, {}), [SnapshotNode("", b"", -1, *STAT)], SnapshotTail())
        body = bytes.fromhex(
            "5a4b534e 00000002 ffffffffffffffff"
            "00000001 0000000000000005 00000006"
            "00000000"
            "00000000 00000000 ffffffffffffffff"
            "0000000000000001 0000000000000002 0000000000000003 0000000000000004"
            "00000005 00000006 00000007 0000000000000000 0000000000000009"
            "00000001 2f"
        )
        assert data == body + struct.pack(">qi", zlib.adler32(body), 1) + b"/"

    @given(nodes)
    def test_any_tree_comes_back(self, some: list[SnapshotNode]) -> None:
        assert read(written(HEAD, some, TAIL)) == (HEAD, some, TAIL)

    def test_every_flipped_bit_is_told(self) -> None:
        data = written(HEAD, NODES, TAIL)
        for position in range(len(data)):
            if 8 <= position < 16:
                continue  # the dbid is nobody's, but it is part of the sum
            for bit in range(8):
                damaged = bytearray(data)
                damaged[position] ^= 1 << bit
                with pytest.raises(CorruptSnapshotError):
                    read(bytes(damaged))

    def test_every_cut_is_told(self) -> None:
        data = written(HEAD, NODES, TAIL)
        whole = {len(written(HEAD, NODES, SnapshotTail(TAIL.digest))),
                 len(written(HEAD, NODES, SnapshotTail()))}  # fmt: skip
        for cut in range(len(data)):
            if cut in whole:
                continue  # what an older ZooKeeper leaves out
            with pytest.raises(CorruptSnapshotError):
                read(data[:cut])

    def test_bytes_that_follow_are_told(self) -> None:
        with pytest.raises(CorruptSnapshotError, match="3 bytes follow"):
            read(written(HEAD, NODES, TAIL) + b"abc")

    def test_fields_beyond_the_limit_are_refused_unread(self) -> None:
        reader = SnapshotReader(written(HEAD, NODES, TAIL), field_bytes_max=50)
        reader.head()
        with pytest.raises(CorruptSnapshotError, match="a field of 100 bytes"):
            list(reader.nodes())
