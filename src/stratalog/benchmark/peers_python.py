"""Peers that a Python program would use instead: LMDB, RocksDB, SQLite, and a bare file.

Each is measured as a Python user uses it, through its usual package, with the settings printed
beside it. A key is the record's offset as eight big-endian bytes, because a key-value store needs
one; packing it is part of what its user pays. Checksums: RocksDB checks its log and its tables,
SQLite its write-ahead log; LMDB and the bare file check nothing.

The durability classes, and how each was confirmed. Small runs under ``strace -f -y``, counting
fdatasync, fsync, msync, and writes to descriptors opened with O_DSYNC, over the whole life of the
process:

    peer      process class             group and record class   50 -> 150 commits
    LMDB      sync=False          0     sync=True                fdatasync 50 -> 150, O_DSYNC alike
    RocksDB   sync off            8+7   WriteOptions.sync        fdatasync 58 -> 158, fsync 7 -> 7
    SQLite    synchronous=OFF     4     synchronous=FULL         fdatasync 59 -> 159
    file      flush()             0     flush() and fdatasync    fdatasync 50 -> 150

Read the slope: one fdatasync for each commit in all four, and for LMDB one more trip to the device,
because it writes its meta page through a descriptor opened with O_DSYNC. The rest, and the few
syncs of the process class, are opening, creating and closing, outside the measurement. Groups of 64
and single records gave the same counts. RocksDB's log is on in all classes, SQLite's journal is WAL
in all classes.

A process-safe commit leaves all of them in the page cache, none in a buffer of the process. One row
is weaker and says so in its name: "LMDB put, one transaction" commits once at the end, so a killed
process loses everything before that. It is what LMDB can do when nothing has to be kept on the way.

Every body follows one order: open; fill if it is a read; the stopwatch around the workload alone;
read everything back for the checksum; close. A fresh process and a fresh directory for each round
(child.py, runner.py).

What it leaves to others: the native peers (peers_foreign.py), repetition and comparison (runner.py,
report.py).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratalog.benchmark.child import Outcome, Stopwatch, measure_in_child
from stratalog.benchmark.model import Durability, Measurement, Operation, Workload
from stratalog.benchmark.payload import Payload

__all__ = ["PythonPeer", "subjects"]

KEY = struct.Struct(">Q")

PROCESS = frozenset({Durability.PROCESS})
ALL = frozenset(Durability)
APPENDS = frozenset({Operation.APPEND})
SCANS = frozenset({Operation.SCAN, Operation.SCAN_TOUCHED})
LOOKUPS = frozenset({Operation.LOOKUP})


def _synced(workload: Workload) -> bool:
    return workload.durability is not Durability.PROCESS


def _outcome(watch: Stopwatch, records: int, total_bytes: int, crc: int) -> Outcome:
    return Outcome(watch=watch, records=records, bytes=total_bytes, payload_crc32=crc)


# ---- LMDB ----------------------------------------------------------------------------------------


def _lmdb_open(workload: Workload, directory: Path) -> Any:
    lmdb = importlib.import_module("lmdb")
    # The map is a reservation of address space, not of disk. A page holds few large records, hence
    # the floor of a page for each record; the last factor leaves room for the pages of old
    # transactions.
    map_bytes = (
        4 * workload.records * max(workload.record_bytes, 256)
        + workload.records // 16 * 4096
        + (256 << 20)
    )
    return lmdb.open(str(directory), map_size=map_bytes, sync=_synced(workload), max_readers=8)


def _lmdb_crc(env: Any) -> int:
    crc = 0
    with env.begin(buffers=True) as txn, txn.cursor() as cursor:
        for value in cursor.iternext(keys=False, values=True):
            crc = zlib.crc32(value, crc)
    return crc


def _lmdb_putmulti_all(env: Any, payload: Payload) -> None:
    pack = KEY.pack
    offset = 0
    for group in payload.groups():
        with env.begin(write=True) as txn, txn.cursor() as cursor:
            cursor.putmulti(
                zip(map(pack, range(offset, offset + len(group))), group, strict=True), append=True
            )
        offset += len(group)


def lmdb_put(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    env = _lmdb_open(workload, directory)
    pack = KEY.pack
    offset = 0
    with Stopwatch() as watch:
        for group in payload.groups():
            with env.begin(write=True) as txn:
                for value in group:
                    txn.put(pack(offset), value, append=True)
                    offset += 1
    crc = _lmdb_crc(env)
    env.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def lmdb_put_one_transaction(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    env = _lmdb_open(workload, directory)
    pack = KEY.pack
    with Stopwatch() as watch, env.begin(write=True) as txn:
        put = txn.put
        for offset, value in enumerate(payload.stream()):
            put(pack(offset), value, append=True)
    crc = _lmdb_crc(env)
    env.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def lmdb_putmulti(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    env = _lmdb_open(workload, directory)
    with Stopwatch() as watch:
        _lmdb_putmulti_all(env, payload)
    crc = _lmdb_crc(env)
    env.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def lmdb_cursor(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    env = _lmdb_open(workload, directory)
    _lmdb_putmulti_all(env, payload)
    records = total_bytes = crc = 0
    with Stopwatch() as watch, env.begin(buffers=True) as txn, txn.cursor() as cursor:
        if workload.operation is Operation.SCAN_TOUCHED:
            for value in cursor.iternext(keys=False, values=True):
                crc = zlib.crc32(value, crc)
                total_bytes += len(value)
                records += 1
        else:
            for value in cursor.iternext(keys=False, values=True):
                total_bytes += len(value)
                records += 1
    if workload.operation is Operation.SCAN:
        crc = _lmdb_crc(env)
    env.close()
    return _outcome(watch, records, total_bytes, crc)


def lmdb_get(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    env = _lmdb_open(workload, directory)
    _lmdb_putmulti_all(env, payload)
    pack = KEY.pack
    records = total_bytes = crc = 0
    with env.begin(buffers=True) as txn:
        get = txn.get
        with Stopwatch() as watch:
            for offset in payload.lookups:
                total_bytes += len(get(pack(offset)))
                records += 1
        for offset in payload.lookups:
            crc = zlib.crc32(get(pack(offset)), crc)
    env.close()
    return _outcome(watch, records, total_bytes, crc)


# ---- RocksDB -------------------------------------------------------------------------------------


def _rocksdb_open(workload: Workload, directory: Path) -> tuple[Any, Any]:
    rocksdict = importlib.import_module("rocksdict")
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    # The payload cannot be compressed; leaving compression on would only spend the peer's time on
    # trying.
    options.set_compression_type(rocksdict.DBCompressionType.none())
    write_options = rocksdict.WriteOptions()
    write_options.sync = _synced(workload)
    db = rocksdict.Rdict(str(directory / "db"), options)
    db.set_write_options(write_options)
    return db, write_options


def _rocksdb_crc(db: Any) -> int:
    crc = 0
    for value in db.values():
        crc = zlib.crc32(value, crc)
    return crc


def _rocksdb_write_all(db: Any, write_options: Any, payload: Payload) -> None:
    write_batch = importlib.import_module("rocksdict").WriteBatch
    pack = KEY.pack
    offset = 0
    for group in payload.groups():
        batch = write_batch(raw_mode=True)
        put = batch.put
        for value in group:
            put(pack(offset), value)
            offset += 1
        db.write(batch, write_options)


def rocksdb_put(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    db, _ = _rocksdb_open(workload, directory)
    pack = KEY.pack
    put = db.put
    with Stopwatch() as watch:
        for offset, value in enumerate(payload.stream()):
            put(pack(offset), value)
    crc = _rocksdb_crc(db)
    db.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def rocksdb_write_batch(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    db, write_options = _rocksdb_open(workload, directory)
    with Stopwatch() as watch:
        _rocksdb_write_all(db, write_options, payload)
    crc = _rocksdb_crc(db)
    db.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def _rocksdb_filled(workload: Workload, directory: Path, payload: Payload) -> Any:
    db, write_options = _rocksdb_open(workload, directory)
    _rocksdb_write_all(db, write_options, payload)
    # Reading starts from tables on disk, as it does in a store that has been running for a while.
    db.flush()
    return db


def rocksdb_iterator(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    db = _rocksdb_filled(workload, directory, payload)
    _rocksdb_crc(db)  # One untimed pass, so that the scan is warm.
    records = total_bytes = crc = 0
    with Stopwatch() as watch:
        if workload.operation is Operation.SCAN_TOUCHED:
            for value in db.values():
                crc = zlib.crc32(value, crc)
                total_bytes += len(value)
                records += 1
        else:
            for value in db.values():
                total_bytes += len(value)
                records += 1
    if workload.operation is Operation.SCAN:
        crc = _rocksdb_crc(db)
    db.close()
    return _outcome(watch, records, total_bytes, crc)


def rocksdb_get(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    db = _rocksdb_filled(workload, directory, payload)
    _rocksdb_crc(db)
    pack = KEY.pack
    get = db.get
    records = total_bytes = crc = 0
    with Stopwatch() as watch:
        for offset in payload.lookups:
            total_bytes += len(get(pack(offset)))
            records += 1
    for offset in payload.lookups:
        crc = zlib.crc32(get(pack(offset)), crc)
    db.close()
    return _outcome(watch, records, total_bytes, crc)


# ---- SQLite --------------------------------------------------------------------------------------

SQLITE_INSERT = "INSERT INTO log VALUES (?, ?)"
SQLITE_SCAN = "SELECT value FROM log ORDER BY offset"
SQLITE_LOOKUP = "SELECT value FROM log WHERE offset = ?"


def _sqlite_open(workload: Workload, directory: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(directory / "log.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if _synced(workload) else 'OFF'}")
    connection.execute("CREATE TABLE log (offset INTEGER PRIMARY KEY, value BLOB NOT NULL)")
    return connection


def _sqlite_crc(connection: sqlite3.Connection) -> int:
    crc = 0
    for (value,) in connection.execute(SQLITE_SCAN):
        crc = zlib.crc32(value, crc)
    return crc


def _sqlite_executemany_all(connection: sqlite3.Connection, payload: Payload) -> None:
    offset = 0
    for group in payload.groups():
        connection.execute("BEGIN")
        connection.executemany(SQLITE_INSERT, enumerate(group, offset))
        connection.execute("COMMIT")
        offset += len(group)


def sqlite_insert(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    connection = _sqlite_open(workload, directory)
    execute = connection.execute
    with Stopwatch() as watch:
        for row in enumerate(payload.stream()):
            execute(SQLITE_INSERT, row)
    crc = _sqlite_crc(connection)
    connection.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def sqlite_executemany(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    connection = _sqlite_open(workload, directory)
    with Stopwatch() as watch:
        _sqlite_executemany_all(connection, payload)
    crc = _sqlite_crc(connection)
    connection.close()
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


def sqlite_scan(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    connection = _sqlite_open(workload, directory)
    _sqlite_executemany_all(connection, payload)
    _sqlite_crc(connection)
    records = total_bytes = crc = 0
    with Stopwatch() as watch:
        if workload.operation is Operation.SCAN_TOUCHED:
            for (value,) in connection.execute(SQLITE_SCAN):
                crc = zlib.crc32(value, crc)
                total_bytes += len(value)
                records += 1
        else:
            for (value,) in connection.execute(SQLITE_SCAN):
                total_bytes += len(value)
                records += 1
    if workload.operation is Operation.SCAN:
        crc = _sqlite_crc(connection)
    connection.close()
    return _outcome(watch, records, total_bytes, crc)


def sqlite_lookup(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    connection = _sqlite_open(workload, directory)
    _sqlite_executemany_all(connection, payload)
    _sqlite_crc(connection)
    execute = connection.execute
    records = total_bytes = crc = 0
    with Stopwatch() as watch:
        for offset in payload.lookups:
            total_bytes += len(execute(SQLITE_LOOKUP, (offset,)).fetchone()[0])
            records += 1
    for offset in payload.lookups:
        crc = zlib.crc32(execute(SQLITE_LOOKUP, (offset,)).fetchone()[0], crc)
    connection.close()
    return _outcome(watch, records, total_bytes, crc)


# ---- a bare file ---------------------------------------------------------------------------------


def file_write(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    """Write the payload and nothing else: the least that any log in Python pays."""
    path = directory / "bare"
    synced = _synced(workload)
    with path.open("wb") as file:
        descriptor = file.fileno()
        with Stopwatch() as watch:
            for group in payload.groups():
                file.writelines(group)
                file.flush()
                if synced:
                    os.fdatasync(descriptor)
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            crc = zlib.crc32(piece, crc)
    return _outcome(watch, workload.records, workload.measured_bytes, crc)


# ---- the subjects --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PythonPeer:
    """One row: a body of this file, and where it may stand in the tables."""

    name: str
    family: str
    body: Callable[[Workload, Path, Payload], Outcome]
    package: str | None
    """The distribution that has to be installed, or None for the standard library."""
    settings: str
    sync_evidence: str
    operations: frozenset[Operation] = APPENDS
    durabilities: frozenset[Durability] = ALL
    single: bool = True
    """Whether batches of one record make sense."""
    batched: bool = True
    """Whether batches of several records make sense."""
    language: str = "python"

    def version(self) -> str:
        """Return the version of the package, or of SQLite's library."""
        if self.family == "SQLite":
            return sqlite3.sqlite_version
        if self.package is None:
            return "standard library"
        version = importlib.metadata.version(self.package)
        if self.family == "LMDB":
            library = ".".join(str(part) for part in importlib.import_module("lmdb").version())
            return f"{self.package} {version}, liblmdb {library}"
        return f"{self.package} {version}"

    def available(self) -> str | None:
        """Return None if its package is installed."""
        if self.package is None or importlib.util.find_spec(self.package) is not None:
            return None
        return f"the Python package {self.package} is not installed"

    def supports(self, workload: Workload) -> bool:
        """Return whether this row has an answer to the workload."""
        if (
            workload.operation not in self.operations
            or workload.durability not in self.durabilities
        ):
            return False
        if workload.is_read:
            return True
        return self.single if workload.batch_records == 1 else self.batched

    def run(self, workload: Workload, directory: Path) -> Measurement:
        """Run the body in a process of its own."""
        return measure_in_child(f"{__name__}:{self.body.__name__}", self.name, workload, directory)


READ_ONLY_EVIDENCE = "a read: nothing to sync"


def subjects() -> list[PythonPeer]:
    """Return every Python peer, installed or not."""
    lmdb_settings = "8-byte keys, append=True, sync=False (process) or True, no checksum"
    lmdb_evidence = (
        "strace: 1 fdatasync and 1 O_DSYNC write of the meta page per commit; none with sync=False"
    )
    rocksdb_settings = (
        "raw mode, 8-byte keys, no compression, write-ahead log on, sync by WriteOptions"
    )
    rocksdb_evidence = "strace: 1 fdatasync per synced write; none per write in the process class"
    sqlite_settings = (
        "INTEGER PRIMARY KEY, WAL, synchronous=OFF (process) or FULL, default checkpoints"
    )
    sqlite_evidence = "strace: 1 fdatasync per commit with FULL; none per commit with OFF"
    return [
        PythonPeer("LMDB put", "LMDB", lmdb_put, "lmdb", lmdb_settings, lmdb_evidence),
        PythonPeer(
            "LMDB putmulti",
            "LMDB",
            lmdb_putmulti,
            "lmdb",
            lmdb_settings,
            lmdb_evidence,
            single=False,
        ),
        PythonPeer(
            "LMDB put, one transaction (nothing kept before its end)",
            "LMDB",
            lmdb_put_one_transaction,
            "lmdb",
            lmdb_settings,
            "not synced, and not even process-safe before its only commit",
            durabilities=PROCESS,
        ),
        PythonPeer(
            "LMDB cursor", "LMDB", lmdb_cursor, "lmdb", "buffers=True", READ_ONLY_EVIDENCE, SCANS
        ),
        PythonPeer(
            "LMDB get", "LMDB", lmdb_get, "lmdb", "buffers=True", READ_ONLY_EVIDENCE, LOOKUPS
        ),
        PythonPeer(
            "RocksDB put",
            "RocksDB",
            rocksdb_put,
            "rocksdict",
            rocksdb_settings,
            rocksdb_evidence,
            batched=False,
        ),
        PythonPeer(
            "RocksDB WriteBatch",
            "RocksDB",
            rocksdb_write_batch,
            "rocksdict",
            rocksdb_settings,
            rocksdb_evidence,
            single=False,
        ),
        PythonPeer(
            "RocksDB iterator",
            "RocksDB",
            rocksdb_iterator,
            "rocksdict",
            "flushed, warm",
            READ_ONLY_EVIDENCE,
            SCANS,
        ),
        PythonPeer(
            "RocksDB get",
            "RocksDB",
            rocksdb_get,
            "rocksdict",
            "flushed, warm",
            READ_ONLY_EVIDENCE,
            LOOKUPS,
        ),
        PythonPeer(
            "SQLite insert",
            "SQLite",
            sqlite_insert,
            None,
            sqlite_settings,
            sqlite_evidence,
            batched=False,
        ),
        PythonPeer(
            "SQLite executemany",
            "SQLite",
            sqlite_executemany,
            None,
            sqlite_settings,
            sqlite_evidence,
            single=False,
        ),
        PythonPeer("SQLite select", "SQLite", sqlite_scan, None, "warm", READ_ONLY_EVIDENCE, SCANS),
        PythonPeer(
            "SQLite select by key",
            "SQLite",
            sqlite_lookup,
            None,
            "warm",
            READ_ONLY_EVIDENCE,
            LOOKUPS,
        ),
        PythonPeer(
            "file write (no framing, no checksum)",
            "file",
            file_write,
            None,
            "writelines() and flush() for each group",
            "strace: 1 fdatasync per group; none in the process class",
        ),
    ]
