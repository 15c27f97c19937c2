"""Messages and transactions of ZooKeeper: golden bytes, old forms, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.zookeeper_samples import OPEN, STAT, all_records, sample

from stratalog.errors import JuteError
from stratalog.wire.jute import Record
from stratalog.wire.zookeeper import messages, txns
from stratalog.wire.zookeeper.messages import (
    REPLIES,
    REQUESTS,
    ConnectRequest,
    CreateRequest,
    DeleteRequest,
    ErrorResponse,
    PathResponse,
    SetDataRequest,
    decode_connect_request,
    decode_multi,
    encode_multi_request,
    encode_multi_response,
)
from stratalog.wire.zookeeper.records import OpCode, StatPersisted
from stratalog.wire.zookeeper.txns import Transaction, TxnDigest, TxnHeader


@pytest.mark.parametrize("record", all_records(), ids=lambda one: one.__name__)
def test_every_record_comes_back(record: type[Record]) -> None:
    one = sample(record)
    assert record.decode(one.encode()) == one


def test_sizes_that_clients_rely_on() -> None:
    assert len(STAT.encode()) == 68
    assert len(StatPersisted(1, 2, 3, 4, 5, 6, 7, 8, 9).encode()) == 60
    assert len(ConnectRequest(0, 0, 10_000, 0, bytes(16)).encode()) == 45
    assert len(messages.ConnectResponse(0, 10_000, 1, bytes(16)).encode()) == 37
    assert len(messages.ReplyHeader(1, 2, 0).encode()) == 16


def test_a_create_request_byte_for_byte() -> None:
    assert CreateRequest("/a", b"x", OPEN, 1).encode() == bytes.fromhex(
        "00000002 2f61 00000001 78"
        "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65"
        "00000001"
    )


def test_a_connect_request_of_an_old_client_lacks_read_only() -> None:
    request = ConnectRequest(0, 7, 10_000, 0, bytes(16), True)
    assert decode_connect_request(request.encode()) == (request, True)
    old, told = decode_connect_request(request.encode()[:-1])
    assert old.last_zxid_seen == 7
    assert not old.read_only
    assert not told
    assert decode_connect_request(request.encode() + b"later") == (request, True)
    for frame in (request.encode()[:-2], b""):
        with pytest.raises(JuteError):
            decode_connect_request(frame)


class TestMulti:
    OPERATIONS = (
        (OpCode.CREATE, CreateRequest("/a", None, OPEN, 0)),
        (OpCode.SET_DATA, SetDataRequest("/a", b"1", 0)),
        (OpCode.DELETE, DeleteRequest("/b", -1)),
    )

    def test_comes_back(self) -> None:
        data = encode_multi_request(self.OPERATIONS)
        assert decode_multi(data, REQUESTS) == list(self.OPERATIONS)
        assert decode_multi(encode_multi_request(()), REQUESTS) == []

    def test_results_with_errors_byte_for_byte(self) -> None:
        results = ((OpCode.CREATE, PathResponse("/a")), (OpCode.ERROR, ErrorResponse(-101)))
        data = encode_multi_response(results)
        assert data == bytes.fromhex(
            "00000001 00 00000000 00000002 2f61ffffffff 00 ffffff9b ffffff9bffffffff 01 ffffffff"
        )
        assert decode_multi(data, REPLIES) == list(results)

    def test_refuses_what_is_none(self) -> None:
        whole = encode_multi_request(self.OPERATIONS)
        with pytest.raises(JuteError, match="follow"):
            decode_multi(whole + b"\x00", REQUESTS)
        with pytest.raises(JuteError):
            decode_multi(whole[:-9], REQUESTS)
        with pytest.raises(JuteError, match="99 is no operation"):
            decode_multi(bytes.fromhex("00000063 00 ffffffff"), REQUESTS)


class TestTransaction:
    HEADER = TxnHeader(0x1000, 2, 0x100000003, 1_700_000_000_000, OpCode.SET_DATA)
    BODY = txns.SetDataTxn("/a", b"x", 4)

    @pytest.mark.parametrize("digest", [None, TxnDigest(2, -5)])
    def test_comes_back(self, digest: TxnDigest | None) -> None:
        one = Transaction(self.HEADER, self.BODY, digest)
        assert Transaction.decode(one.encode()) == one

    @pytest.mark.parametrize("kind", sorted(txns.BODIES))
    def test_every_type_comes_back(self, kind: int) -> None:
        header = TxnHeader(1, 2, 3, 4, kind)
        one = Transaction(header, sample(txns.BODIES[kind]), TxnDigest(2, 9))
        assert Transaction.decode(one.encode()) == one

    def test_a_create_without_parent_cversion_is_read(self) -> None:
        header = TxnHeader(1, 2, 3, 4, OpCode.CREATE)
        old = txns.CreateTxnV0("/a", b"x", OPEN, False)
        read = Transaction.decode(header.encode() + old.encode())
        assert read.body == txns.CreateTxn("/a", b"x", OPEN, False, -1)

    def test_a_close_without_its_paths_is_read(self) -> None:
        header = TxnHeader(1, 2, 3, 4, OpCode.CLOSE_SESSION)
        assert Transaction.decode(header.encode()).body == txns.CloseSessionTxn(())

    def test_refusals(self) -> None:
        with pytest.raises(JuteError, match="77 is no type"):
            Transaction.decode(TxnHeader(1, 2, 3, 4, 77).encode())
        whole = Transaction(self.HEADER, self.BODY, TxnDigest(2, 1)).encode()
        with pytest.raises(JuteError, match="1 bytes follow"):
            Transaction.decode(whole + b"\x00")
        for cut in range(len(whole)):
            if cut == len(whole) - 12:
                continue  # whole, without a digest
            with pytest.raises(JuteError):
                Transaction.decode(whole[:cut])


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_read(data: bytes) -> None:
    for record in all_records():
        try:
            value, end = record.decode_from(data)
        except JuteError:
            continue
        assert end <= len(data)
        assert record.decode_from(value.encode())[0] == value
