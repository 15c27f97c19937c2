"""Transaction logs and snapshots on the disk: appended, rolled, torn, damaged, purged, cut.

What a crash may leave is the end of a log; whatever else is wrong is told with file and position,
and no transaction before it is lost or any behind it served.
"""

from __future__ import annotations

import os
import random
import select
import struct
import zlib
from pathlib import Path

import pytest

from stratalog.errors import (
    CorruptSnapshotError,
    CorruptTxnLogError,
    LogClosedError,
    StratalogError,
)
from stratalog.storage.journal import RESERVE_BYTES_MIN, Journal
from stratalog.storage.zookeeper import purge, snapshots, txn_log
from stratalog.storage.zookeeper.snapshots import SnapshotTarget, list_snapshots, open_snapshot
from stratalog.storage.zookeeper.txn_log import TxnLog, list_logs, read_from, read_log
from stratalog.wire.zookeeper.records import ACL, Id, OpCode
from stratalog.wire.zookeeper.snapshot import SnapshotNode, SnapshotTail, TreeDigest
from stratalog.wire.zookeeper.txn_log import HEADER, encode_record
from stratalog.wire.zookeeper.txns import SetDataTxn, Transaction, TxnDigest, TxnHeader

LIMIT = 1 << 20


def payload(zxid: int, size: int = 30) -> bytes:
    """A transaction whose data has no zero byte and is no other's."""
    header = TxnHeader(0x10001, zxid & 0xFFFF, zxid, 1_700_000_000_000 + zxid, OpCode.SET_DATA)
    data = bytes(1 + (zxid * 7 + i) % 255 for i in range(size))
    return Transaction(header, SetDataTxn("/a", data, 1), TxnDigest(2, zxid)).encode()


PAYLOADS = [payload(zxid, 20 + zxid) for zxid in range(1, 7)]
RECORDS = [encode_record(one) for one in PAYLOADS]
LOG = HEADER + b"".join(RECORDS)
STARTS = [len(HEADER) + sum(map(len, RECORDS[:i])) for i in range(len(RECORDS) + 1)]


def written(directory: Path, data: bytes, zxid: int = 1) -> Path:
    """A log with these bytes."""
    path = directory / f"log.{zxid:x}"
    path.write_bytes(data)
    return path


def until_damage(path: Path) -> tuple[list[int], int | None]:
    """What a log holds before it is damaged, and where; None: it is not."""
    found: list[int] = []
    try:
        for logged in read_log(path, record_bytes_max=LIMIT):
            assert logged.payload == PAYLOADS[logged.zxid - 1]
            found.append(logged.zxid)
    except CorruptTxnLogError as error:
        if error.path != str(path) or error.position is None:
            raise  # it must name both
        return found, error.position
    return found, None


def zxids(path: Path) -> list[int]:
    """What a log holds; each payload is the one that was written."""
    found = []
    for logged in read_log(path, record_bytes_max=LIMIT):
        assert logged.payload == PAYLOADS[logged.zxid - 1]
        found.append(logged.zxid)
    return found


def durable(journal: Journal, end: int) -> None:
    """Wait, as an event loop does, until the journal has synced up to ``end``."""
    while journal.durable() < end:
        assert select.select([journal.fileno()], [], [], 30)[0]
        os.eventfd_read(journal.fileno())


class TestJournal:
    def test_what_was_appended_is_there_and_zeros_follow(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "j", reserve_bytes=RESERVE_BYTES_MIN, head=b"head")
        assert journal.append(b"abc") == 7
        assert journal.append(b"d" * 10_000, request=True) == 10_007
        durable(journal, 10_007)
        data = (tmp_path / "j").read_bytes()
        assert data.startswith(b"headabc" + b"d" * 10_000)
        assert not data[10_007:].strip(b"\0")
        journal.close()
        assert (tmp_path / "j").stat().st_size == 10_007

    def test_not_trimmed_on_request(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "j", reserve_bytes=RESERVE_BYTES_MIN)
        journal.append(b"abc")
        journal.close(trim=False)
        assert (tmp_path / "j").stat().st_size == RESERVE_BYTES_MIN

    def test_closed_is_closed(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "j", reserve_bytes=RESERVE_BYTES_MIN)
        journal.close()
        journal.close()
        with pytest.raises(LogClosedError):
            journal.append(b"x")

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(StratalogError, match="ENOENT"):
            Journal(tmp_path / "no" / "j", reserve_bytes=RESERVE_BYTES_MIN)


class TestWriting:
    def test_groups_become_durable_in_their_order_over_a_roll(self, tmp_path: Path) -> None:
        log = TxnLog(tmp_path, reserve_bytes=0, last_zxid=0)
        assert log.path is None
        assert log.append(PAYLOADS[:2], 1, 2)
        assert not log.append(PAYLOADS[2:3], 3, 3)
        log.roll()
        log.append(PAYLOADS[3:], 4, 6)
        assert log.last_zxid == 6
        seen = [log.durable_zxid()]
        while seen[-1] < 6:
            assert select.select(log.journals(), [], [], 30)[0]
            seen.append(log.durable_zxid())
        assert seen == sorted(seen)
        assert log.path == tmp_path / "log.4"
        log.close()
        assert log.durable_zxid() == 6
        assert [found.first_zxid for found in list_logs(tmp_path)] == [1, 4]
        assert zxids(tmp_path / "log.1") == [1, 2, 3]
        assert zxids(tmp_path / "log.4") == [4, 5, 6]

    def test_bytes_are_those_of_apache(self, tmp_path: Path) -> None:
        log = TxnLog(tmp_path, reserve_bytes=0, last_zxid=0)
        log.append(PAYLOADS, 1, 6)
        log.close()
        assert (tmp_path / "log.1").read_bytes() == LOG

    def test_closing_makes_all_durable(self, tmp_path: Path) -> None:
        log = TxnLog(tmp_path / "deep" / "er", reserve_bytes=0, last_zxid=4)
        assert log.durable_zxid() == 4
        log.append(PAYLOADS[4:], 5, 6)
        log.close()
        assert log.durable_zxid() == 6


class TestTails:
    def test_cut_at_every_byte(self, tmp_path: Path) -> None:
        for cut in range(len(LOG) + 1):
            path = written(tmp_path, LOG[:cut])
            assert zxids(path) == list(range(1, sum(start <= cut for start in STARTS[1:]) + 1))

    def test_torn_in_zeros_at_every_byte(self, tmp_path: Path) -> None:
        for cut in range(len(LOG) + 1):
            path = written(tmp_path, LOG[:cut] + bytes(5000))
            if 0 < cut < len(HEADER) - 8:  # the last 8 of the header are zeros anyway
                with pytest.raises(CorruptTxnLogError):
                    zxids(path)
                continue
            # Of a record only "B" may be missing, and no byte but that tells.
            whole = sum(start <= cut for start in STARTS[1:])
            assert zxids(path) == list(range(1, whole + 1))

    @pytest.mark.parametrize("zeros", [0, 1, 16, 4096, 3 << 20])
    def test_reserved_and_nothing_more(self, tmp_path: Path, zeros: int) -> None:
        assert zxids(written(tmp_path, bytes(zeros))) == []
        assert zxids(written(tmp_path, HEADER + bytes(zeros))) == []

    def test_a_missing_sector_ends_the_log_whatever_follows(self, tmp_path: Path) -> None:
        """Power goes, and of several pages any may have reached the disk."""
        big = [payload(zxid, 700) for zxid in range(1, 30)]
        data = HEADER + b"".join(map(encode_record, big))
        whole_log = written(tmp_path, data)
        ends = [logged.end for logged in read_log(whole_log, record_bytes_max=LIMIT)]
        for sector in range(512, len(data), 512):
            lost = bytearray(data)
            lost[sector : sector + 512] = bytes(len(lost[sector : sector + 512]))
            found = list(read_log(written(tmp_path, bytes(lost)), record_bytes_max=LIMIT))
            whole = sum(end <= sector for end in ends)
            # A checksum begins with 4 zeros, which a lost sector does not change.
            assert [one.zxid for one in found] == list(range(1, whole + 1))

    def test_a_torn_log_is_followed_by_the_next(self, tmp_path: Path) -> None:
        written(tmp_path, LOG[: STARTS[3] + 20] + bytes(100))
        written(tmp_path, HEADER + b"".join(RECORDS[3:]), 4)
        found = [one.zxid for one in read_from(tmp_path, 1, record_bytes_max=LIMIT)]
        assert found == [1, 2, 3, 4, 5, 6]


class TestDamage:
    @pytest.mark.parametrize("behind", [b"", bytes(5000)], ids=["trimmed", "reserved"])
    def test_every_flipped_bit_in_the_middle_is_told(self, tmp_path: Path, behind: bytes) -> None:
        """But for one in the last record, which may be torn: that alone is not served."""
        path = written(tmp_path, LOG + behind)
        for position in range(len(HEADER), len(LOG)):
            damaged = bytearray(LOG + behind)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            number = sum(start <= position for start in STARTS) - 1
            found, at = until_damage(path)
            if at is None:
                assert number == len(RECORDS) - 1, f"bit at {position} cut the log silently"
            else:
                assert at == STARTS[number]
            assert found == list(range(1, number + 1))

    def test_a_piece_that_is_gone_is_told(self, tmp_path: Path) -> None:
        for size in (1, 3, 13, len(RECORDS[2]) - 1):
            data = LOG[: STARTS[2] + 5] + LOG[STARTS[2] + 5 + size :]
            path = written(tmp_path, data)
            assert until_damage(path) == ([1, 2], STARTS[2])

    def test_a_record_that_is_no_transaction_is_told(self, tmp_path: Path) -> None:
        path = written(tmp_path, HEADER + RECORDS[0] + encode_record(b"short") + RECORDS[1])
        with pytest.raises(CorruptTxnLogError) as caught:
            zxids(path)
        assert caught.value.position == STARTS[1]

    @pytest.mark.parametrize("head", [b"ZKSN" + HEADER[4:], HEADER[:7] + b"\3" + HEADER[8:]])
    def test_another_header_is_told(self, tmp_path: Path, head: bytes) -> None:
        with pytest.raises(CorruptTxnLogError) as caught:
            zxids(written(tmp_path, head + RECORDS[0]))
        assert caught.value.path

    def test_longer_than_the_limit_is_told(self, tmp_path: Path) -> None:
        path = written(tmp_path, LOG)
        with pytest.raises(CorruptTxnLogError, match="a record of"):
            list(read_log(path, record_bytes_max=60))

    def test_random_damage_never_serves_what_was_not_written(self, tmp_path: Path) -> None:
        draw = random.Random(4)
        for _ in range(400):
            damaged = bytearray(LOG + bytes(600))
            for _ in range(draw.choice((1, 1, 2, 8))):
                start = draw.randrange(len(damaged))
                size = draw.choice((1, 1, 4, 40, 512))
                fill = draw.choice((bytes(size), draw.randbytes(size)))
                damaged[start : start + size] = fill[: len(damaged) - start]
            found, _ = until_damage(written(tmp_path, bytes(damaged)))
            assert found == list(range(1, len(found) + 1))


class TestManyLogs:
    def filled(self, directory: Path) -> None:
        for first, last in ((1, 2), (3, 3), (4, 6)):
            written(directory, HEADER + b"".join(RECORDS[first - 1 : last]) + bytes(50), first)

    @pytest.mark.parametrize("zxid", range(8))
    def test_read_from(self, tmp_path: Path, zxid: int) -> None:
        self.filled(tmp_path)
        found = [one.zxid for one in read_from(tmp_path, zxid, record_bytes_max=LIMIT)]
        assert found == [one for one in range(1, 7) if one >= zxid]

    def test_an_older_log_is_not_even_opened(self, tmp_path: Path) -> None:
        self.filled(tmp_path)
        written(tmp_path, b"rubbish that is no log", 1)
        assert [one.zxid for one in read_from(tmp_path, 3, record_bytes_max=LIMIT)] == [3, 4, 5, 6]

    @pytest.mark.parametrize("zxid", range(1, 7))
    def test_truncate_after(self, tmp_path: Path, zxid: int) -> None:
        self.filled(tmp_path)
        assert txn_log.truncate_after(tmp_path, zxid, record_bytes_max=LIMIT)
        found = [one.zxid for one in read_from(tmp_path, 0, record_bytes_max=LIMIT)]
        assert found == list(range(1, zxid + 1))
        last = list_logs(tmp_path)[-1].path
        assert last.read_bytes().endswith(b"B")

    @pytest.mark.parametrize("zxid", [0, 7, 99])
    def test_truncate_after_what_is_not_there_changes_nothing(
        self, tmp_path: Path, zxid: int
    ) -> None:
        self.filled(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert not txn_log.truncate_after(tmp_path, zxid, record_bytes_max=LIMIT)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_names(self, tmp_path: Path) -> None:
        for name in ("log.a", "log.10", "log.x", "log", "snapshot.3", "log.-", "catalog.4"):
            (tmp_path / name).touch()
        assert [found.first_zxid for found in list_logs(tmp_path)] == [0xA, 0x10]
        assert list_logs(tmp_path / "none") == []


STAT = (1, 2, 3, 4, 5, 6, 7, 0, 9)
ACLS = {3: (ACL(31, Id("digest", "u:h=")),)}
SESSIONS = {0x100000: 4000}
TAIL = SnapshotTail(TreeDigest(0x5F3, 2, -77), 0x5F3)


def nodes(count: int) -> list[SnapshotNode]:
    draw = random.Random(count)
    made = [SnapshotNode("", b"", -1, *STAT)]
    made += [
        SnapshotNode(f"/{i}", draw.choice((None, b"", draw.randbytes(300), b"\0" * 300)), 3, *STAT)
        for i in range(count)
    ]
    return made


def snapshot(directory: Path, zxid: int, compression: str = "", count: int = 300) -> Path:
    target = SnapshotTarget(directory, zxid, compression=compression)
    target.begin(SESSIONS, ACLS)
    znodes = nodes(count)
    for at in range(0, len(znodes), 7):
        target.nodes(znodes[at : at + 7])
    target.finish(TAIL)
    return target.path


@pytest.mark.parametrize("compression", snapshots.COMPRESSIONS)
class TestSnapshots:
    @pytest.mark.parametrize("count", [0, 1, 300])
    def test_come_back(self, tmp_path: Path, compression: str, count: int) -> None:
        path = snapshot(tmp_path, 0x5F3, compression, count)
        assert path.name == "snapshot.5f3" + (f".{compression}" if compression else "")
        (found,) = list_snapshots(tmp_path)
        assert (found.path, found.zxid, found.compression) == (path, 0x5F3, compression)
        assert snapshots.looks_whole(found)
        reader = open_snapshot(found, field_bytes_max=LIMIT)
        head = reader.head()
        assert (head.sessions, head.acls) == (SESSIONS, ACLS)
        assert list(reader.nodes()) == nodes(count)
        assert reader.tail() == TAIL

    def test_cuts_are_told(self, tmp_path: Path, compression: str) -> None:
        path = snapshot(tmp_path, 1, compression, 20)
        data = path.read_bytes()
        (found,) = list_snapshots(tmp_path)
        older = self.ends_of_older_forms(tmp_path) if not compression else set()
        near = {end + offset for end in older for offset in (-1, 1)}
        for cut in sorted({*range(0, len(data), 7), *near, len(data) - 1}):
            if cut in older:
                continue
            path.write_bytes(data[:cut])
            with pytest.raises(CorruptSnapshotError):
                self.read(found)

    def ends_of_older_forms(self, directory: Path) -> set[int]:
        """Where a snapshot of an older ZooKeeper ends, which has no digest or no last zxid."""
        ends = set()
        for tail in (SnapshotTail(TAIL.digest), SnapshotTail()):
            target = SnapshotTarget(directory / "older", 1)
            target.begin(SESSIONS, ACLS)
            target.nodes(nodes(20))
            target.finish(tail)
            ends.add(target.path.stat().st_size)
        return ends

    def test_flipped_bits_are_told(self, tmp_path: Path, compression: str) -> None:
        path = snapshot(tmp_path, 1, compression, 20)
        data = path.read_bytes()
        (found,) = list_snapshots(tmp_path)
        sound = self.read(found)
        draw = random.Random(5)
        for position in draw.sample(range(len(data)), 150):
            damaged = bytearray(data)
            damaged[position] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            try:
                read = self.read(found)
            except CorruptSnapshotError:
                continue
            # A bit that nobody looks at, such as gzip's time.
            assert compression
            assert read == sound

    @staticmethod
    def read(found: snapshots.SnapshotFile) -> object:
        reader = open_snapshot(found, field_bytes_max=LIMIT)
        head = reader.head()
        return head.sessions, head.acls, list(reader.nodes()), reader.tail()

    def test_unfinished_ones_are_nobodys(self, tmp_path: Path, compression: str) -> None:
        target = SnapshotTarget(tmp_path, 9, compression=compression)
        target.begin(SESSIONS, ACLS)
        assert list_snapshots(tmp_path) == []
        assert len(list(tmp_path.iterdir())) == 1
        snapshots.remove_unfinished(tmp_path)
        assert list(tmp_path.iterdir()) == []
        target.abandon()
        target = SnapshotTarget(tmp_path, 9, compression=compression)
        target.abandon()
        assert list(tmp_path.iterdir()) == []

    def test_half_a_file_does_not_look_whole(self, tmp_path: Path, compression: str) -> None:
        (tmp_path / f"snapshot.1.{compression}".rstrip(".")).write_bytes(b"ZKSN")
        (found,) = list_snapshots(tmp_path)
        assert not snapshots.looks_whole(found)


def test_snappy_is_framed_as_snappy_java_does(tmp_path: Path) -> None:
    cramjam = pytest.importorskip("cramjam")
    data = snapshot(tmp_path, 1, "snappy", 300).read_bytes()
    assert data[:16] == bytes.fromhex("82 534e41505059 00 00000001 00000001")
    plain, at = b"", 16
    sizes = []
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        block = bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + length]))
        sizes.append(len(block))
        plain += block
        at += 4 + length
    assert set(sizes[:-1]) == {32 << 10}
    assert plain == snapshot(tmp_path / "plain", 1, "", 300).read_bytes()


def test_gzip_is_gzip(tmp_path: Path) -> None:
    data = snapshot(tmp_path, 1, "gz", 300).read_bytes()
    assert zlib.decompress(data, wbits=31) == snapshot(tmp_path / "p", 1, "", 300).read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"\x82SNAPPY\x00" + bytes(8) + struct.pack(">i", -1),
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, -1),
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, 1 << 30),
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, 4) + b"\xff\xff\xff\xff",
        b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"\x00\x00",
        b"",
    ],
)
def test_hostile_snappy_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "snapshot.1.snappy").write_bytes(data)
    (found,) = list_snapshots(tmp_path)
    with pytest.raises(CorruptSnapshotError):
        open_snapshot(found, field_bytes_max=LIMIT)


def test_snapshots_come_newest_first(tmp_path: Path) -> None:
    for name in ("snapshot.2", "snapshot.10.gz", "snapshot.a.snappy", "snapshot.b.tmp", "log.1"):
        (tmp_path / name).touch()
    assert [found.zxid for found in list_snapshots(tmp_path)] == [0x10, 0xA, 2]


class TestPurge:
    def directory(self, path: Path, kept: list[int], logs: list[int]) -> None:
        for zxid in kept:
            snapshot(path, zxid, count=1)
        for zxid in logs:
            written(path, LOG, zxid)

    def test_what_a_restart_needs_stays(self, tmp_path: Path) -> None:
        self.directory(tmp_path, [1, 5, 9, 20, 30], [1, 4, 7, 9, 10, 25])
        gone = purge.purge(tmp_path, tmp_path, 3)
        # The third newest is 9: log.9 begins at it, and what came before is in it.
        assert {path.name for path in gone} == {
            "snapshot.1",
            "snapshot.5",
            "log.1",
            "log.4",
            "log.7",
        }
        assert {path.name for path in tmp_path.iterdir()} == {
            "snapshot.9", "snapshot.14", "snapshot.1e", "log.9", "log.a", "log.19",
        }  # fmt: skip
        assert purge.purge(tmp_path, tmp_path, 3) == []

    def test_the_log_that_begins_before_the_oldest_snapshot_stays(self, tmp_path: Path) -> None:
        self.directory(tmp_path, [6, 9, 20, 30], [1, 4, 7, 10])
        assert [path.name for path in purge.purge(tmp_path, tmp_path, 4)] == ["log.1"]

    def test_an_unsound_snapshot_does_not_count(self, tmp_path: Path) -> None:
        self.directory(tmp_path, [1, 5, 9], [1, 6, 12])
        (tmp_path / "snapshot.ff").write_bytes(b"ZKSN half of one")
        assert purge.purge(tmp_path, tmp_path, 3) == []

    def test_without_a_sound_snapshot_nothing_goes(self, tmp_path: Path) -> None:
        written(tmp_path, LOG, 1)
        written(tmp_path, LOG, 7)
        (tmp_path / "snapshot.3").write_bytes(b"half")
        assert purge.purge(tmp_path, tmp_path, 3) == []

    def test_fewer_than_three_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="at least 3"):
            purge.purge(tmp_path, tmp_path, 2)
