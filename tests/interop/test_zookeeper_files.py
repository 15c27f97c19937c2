"""Our records and files of ZooKeeper against Apache's own classes, both ways.

records      each of ours is read by Apache's class of that name and written again: same bytes
their files  a data directory written by Apache's FileTxnSnapLog: every record decodes, and what
we write of it again is the same byte for byte
our files    a directory that holds only bytes of ours: Apache's server would find the same tree,
digest and sessions in it, and has nothing to warn of
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.wire.zookeeper_samples import all_records, sample
from tools.peers import zookeeper

from stratalog.wire.zookeeper import messages, records, snapshot, txn_log, txns
from stratalog.wire.zookeeper.snapshot import SnapshotReader, SnapshotWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stratalog.wire.jute import Record

LIMIT = 1 << 22

# Records of ours that serve several of Apache's; all others have Apache's name.
APACHE_NAMES: dict[str, tuple[str, ...]] = {
    "PathRequest": (
        "GetACLRequest", "SyncRequest", "GetAllChildrenNumberRequest", "GetEphemeralsRequest",
    ),
    "PathWatchRequest": (
        "ExistsRequest", "GetDataRequest", "GetChildrenRequest", "GetChildren2Request",
    ),
    "WatchTypeRequest": ("CheckWatchesRequest", "RemoveWatchesRequest"),
    "SaslRequest": ("GetSASLRequest", "SetSASLResponse"),
    "PathResponse": ("CreateResponse", "SyncResponse"),
    "StatResponse": ("ExistsResponse", "SetDataResponse", "SetACLResponse"),
    "DataResponse": ("GetDataResponse",),
    "ACLResponse": ("GetACLResponse",),
    "NamesResponse": ("GetChildrenResponse", "GetEphemeralsResponse"),
    "Children2Response": ("GetChildren2Response",),
    "NumberResponse": ("GetAllChildrenNumberResponse",),
    "Empty": (),
}  # fmt: skip


def apache_names(record: type[Record]) -> list[str]:
    """Apache's classes with the bytes of ``record``, below org.apache.zookeeper."""
    if record.__module__ == txns.__name__:
        return [f"txn.{record.__name__}"]
    if record.__module__ == records.__name__ or record is messages.ClientInfo:
        return [f"data.{record.__name__}"]
    return [f"proto.{name}" for name in APACHE_NAMES.get(record.__name__, (record.__name__,))]


@pytest.fixture(scope="module", autouse=True)
def need_zookeeper() -> None:
    """Skip with the reason where Apache ZooKeeper cannot run."""
    try:
        zookeeper.jars()
    except zookeeper.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")


def test_every_record_is_apaches() -> None:
    asked = [(name, sample(one).encode()) for one in all_records() for name in apache_names(one)]
    assert len(asked) > 60
    for (name, data), (answer, shown) in zip(asked, zookeeper.transcode(asked), strict=True):
        assert answer == data, f"{name}: {shown}"


def logs_of(directory: Path) -> list[Path]:
    """The transaction logs, by their first zxid."""
    found = (directory / "version-2").glob("log.*")
    return sorted(found, key=lambda path: int(path.name.partition(".")[2], 16))


def snapshots_of(directory: Path) -> list[Path]:
    """The snapshots, oldest first."""
    found = (directory / "version-2").glob("snapshot.*")
    return sorted(found, key=lambda path: int(path.name.partition(".")[2], 16))


def read_log(path: Path) -> Iterator[txn_log.LogRecord]:
    """The records of one log."""
    data = path.read_bytes()
    txn_log.check_header(data)
    return txn_log.read_records(data, record_bytes_max=LIMIT)


def rewritten(data: bytes) -> bytes:
    """A snapshot read by our reader and written by our writer."""
    reader, writer = SnapshotReader(data, field_bytes_max=LIMIT), SnapshotWriter()
    head = reader.head()
    begin = writer.begin(head.sessions, head.acls)
    nodes = writer.nodes(reader.nodes())
    return begin + nodes + writer.end(reader.tail())


class TestTheirFiles:
    def test_logs_come_back_byte_for_byte(self, scratch: Path) -> None:
        zookeeper.write_directory(scratch, seed=1)
        mine = []
        for path in logs_of(scratch):
            whole = txn_log.HEADER
            for record in read_log(path):
                one = record.transaction()
                assert one.encode() == record.payload
                whole += txn_log.encode_record(one.encode())
                digest = None if one.digest is None else one.digest.encode()
                mine.append((one.header.encode(), one.body.encode(), digest))
            data = path.read_bytes()
            assert data.startswith(whole)
            assert not any(data[len(whole) :])
        assert mine == zookeeper.read_logs(scratch)
        assert len({header[-4:] for header, _, _ in mine}) >= 11  # types of transactions

    def test_snapshots_come_back_byte_for_byte(self, scratch: Path) -> None:
        zookeeper.write_directory(scratch, seed=2)
        paths = snapshots_of(scratch)
        assert len(paths) == 2
        for path in paths:
            data = path.read_bytes()
            assert rewritten(data) == data
            reader = SnapshotReader(data, field_bytes_max=LIMIT)
            reader.head()
            assert len(list(reader.nodes())) > 20
            tail = reader.tail()
            assert tail.digest is not None
            assert path.name == snapshot.snapshot_name(tail.last_zxid or 0)


class TestOurFiles:
    @pytest.mark.parametrize("seed", [3, 4])
    def test_apache_finds_the_same_tree(self, scratch: Path, seed: int) -> None:
        theirs, ours = scratch / "theirs", scratch / "ours"
        wanted = zookeeper.write_directory(theirs, seed)
        (ours / "version-2").mkdir(parents=True)
        for path in snapshots_of(theirs):
            (ours / "version-2" / path.name).write_bytes(rewritten(path.read_bytes()))
        for path in logs_of(theirs):
            payloads = [record.transaction().encode() for record in read_log(path)]
            whole = txn_log.HEADER + b"".join(map(txn_log.encode_record, payloads))
            padded = txn_log.file_bytes_with_padding(len(whole), 0, 64 << 10)
            (ours / "version-2" / path.name).write_bytes(whole.ljust(padded, b"\x00"))
        found = zookeeper.read_directory(ours)
        assert found.warnings == []
        assert found == wanted
        assert len(found.nodes) > 35

    def test_apache_replays_our_log_alone(self, scratch: Path) -> None:
        """Without the later snapshot, so that our log decides."""
        wanted = zookeeper.write_directory(scratch, seed=5)
        snapshots_of(scratch)[-1].unlink()
        for path in logs_of(scratch):
            payloads = [record.transaction().encode() for record in read_log(path)]
            path.write_bytes(txn_log.HEADER + b"".join(map(txn_log.encode_record, payloads)))
        found = zookeeper.read_directory(scratch)
        assert (found.zxid, found.digest, found.nodes) == (wanted.zxid, wanted.digest, wanted.nodes)
