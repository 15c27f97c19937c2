"""Columns, read by the real consumers: the same records, no copy, nothing left behind.

pyarrow is the judge of the layout (``validate(full=True)``), of addresses and of lifetimes; polars,
duckdb and pandas read the same object where they are installed.  The hand-made consumer, and every
failing allocation, are in tests/native/test_arrow.c.
"""

from __future__ import annotations

import contextlib
import gc
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from stratalog import Log
from stratalog.errors import InvalidArgumentError, LogClosedError, OffsetOutOfRangeError

pa = pytest.importorskip("pyarrow")

NAMES = ["offset", "timestamp", "key", "value"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    """A log of small segments, closed at the end of the test if the test did not."""
    with contextlib.closing(Log(tmp_path / "log", create=True, segment_bytes=64 << 10)) as log:
        yield log


def fill(log, count, *, seed=1, codec="none", batch_records=100):
    """Append records of all kinds: nulls, empty values, and lengths around the 12 inlined bytes."""
    draw = random.Random(seed)
    lengths = [None, 0, 1, 4, 11, 12, 13, 100, 1000]
    keys = [
        None if (n := draw.choice(lengths)) is None else draw.randbytes(n) for _ in range(count)
    ]
    values = [
        None if (n := draw.choice(lengths)) is None else draw.randbytes(n) for _ in range(count)
    ]
    times = [1_700_000_000_000 + 3 * i for i in range(count)]
    for start in range(0, count, batch_records):
        part = slice(start, start + batch_records)
        log.append_many(
            values[part], keys=keys[part], timestamps_ms=times[part], codec=codec, atomic=True
        )
    return keys, values, times


def milliseconds(times):
    return [round((time - EPOCH).total_seconds() * 1000) for time in times]


def assert_same(table, log, start_offset=None, end_offset=None):
    """Compare a table with what ``Log.read`` gives, record by record."""
    records = list(log.read(start_offset, end_offset=end_offset, copy=True))
    table.validate(full=True)
    assert table.column_names == NAMES
    assert table["offset"].to_pylist() == [record.offset for record in records]
    assert table["timestamp"].cast("int64").to_pylist() == [r.timestamp_ms for r in records]
    assert table["key"].to_pylist() == [record.key for record in records]
    assert table["value"].to_pylist() == [record.value for record in records]


def buffers(array):
    """The variadic buffers of a binary_view array: those after validity and views."""
    return [buffer for buffer in array.buffers()[2:] if buffer is not None]


def assert_nothing_pinned(log):
    gc.collect()
    assert log.stats().pinned_bytes == 0


# ---- the same records ----


def test_schema_says_what_the_stream_delivers(log):
    columns = log.columns()
    expected = pa.schema(
        [
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("timestamp", pa.timestamp("ms", "UTC"), nullable=False),
            pa.field("key", pa.binary_view()),
            pa.field("value", pa.binary_view()),
        ]
    )
    assert pa.schema(columns) == expected
    assert pa.table(columns).schema == expected


def test_an_empty_log_gives_an_empty_table(log):
    assert pa.table(log.columns()).num_rows == 0


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_table_equals_the_records(log, codec):
    keys, values, times = fill(log, 3000, codec=codec)
    table = pa.table(log.columns())
    assert_same(table, log)
    assert table["key"].to_pylist() == keys
    assert table["value"].to_pylist() == values
    assert milliseconds(table["timestamp"].to_pylist()) == times
    del table
    assert_nothing_pinned(log)


def test_plain_and_compressed_batches_of_one_record_share_arrays(log):
    for i in range(600):
        log.append_many([b"%d" % i * 20], codec="lz4" if i % 3 else "none")
    table = pa.table(log.columns())
    assert_same(table, log)
    assert table["value"].num_chunks == 1


def test_many_segments(log):
    fill(log, 20_000)
    assert len(log.segments()) > 10
    assert_same(pa.table(log.columns()), log)


@pytest.mark.parametrize("length", [0, 1, 4, 11, 12, 13, 14])
def test_short_values_stand_in_their_views(log, length):
    log.append_many([bytes([i]) * length for i in range(256)])
    table = pa.table(log.columns())
    table.validate(full=True)
    assert table["value"].to_pylist() == [bytes([i]) * length for i in range(256)]
    pinned = log.stats().pinned_bytes
    assert (pinned > 0) == (length > 12)  # a column of short values holds no memory of the log


def test_all_null_and_late_keys(log):
    log.append_many([None] * 500)
    assert pa.table(log.columns())["key"].null_count == 500
    assert pa.table(log.columns())["value"].null_count == 500
    log.append_many([b"v"] * 5, keys=[b"a key that is not short"] * 5)
    table = pa.table(log.columns())
    assert table["key"].null_count == 500
    assert_same(table, log)


def test_headers_do_not_disturb(log):
    log.append(b"value of some length", key=b"k", headers=[("name", b"x" * 50)])
    log.append(b"another one of some length")
    assert_same(pa.table(log.columns()), log)


# ---- ranges ----


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_start_and_end_offset(log, codec):
    fill(log, 1000, codec=codec)
    edges = [0, 1, 99, 100, 101, 500, 999, 1000]
    for start in edges:
        for end in edges:
            table = pa.table(log.columns(start, end))
            assert table["offset"].to_pylist() == list(range(start, end))
    assert_same(pa.table(log.columns(150, 250)), log, 150, 250)
    del table
    assert_nothing_pinned(log)


def test_the_end_is_fixed_when_columns_are_made(log):
    log.append_many([b"x"] * 10)
    columns = log.columns()
    log.append_many([b"y"] * 10)
    assert (columns.start_offset, columns.end_offset) == (0, 10)
    assert pa.table(columns).num_rows == 10
    assert pa.table(columns).num_rows == 10  # and a second reading gives the same
    assert "0 to 10" in repr(columns)


def test_after_truncation(log):
    fill(log, 5000)
    columns = log.columns()
    log.truncate_prefix(2500)
    log.truncate_suffix(4000)
    with pytest.raises(OffsetOutOfRangeError):
        columns.__arrow_c_stream__()
    assert_same(pa.table(log.columns()), log)
    assert log.columns().start_offset == 2500


def test_a_reader_in_the_log_directory_sees_the_writers_records(log):
    fill(log, 500)
    with Log(log.path, mode="r") as reader:
        assert_same(pa.table(reader.columns()), log)
        fill(log, 500, seed=2)
        assert_same(pa.table(reader.columns()), log)


# ---- no copy ----


def test_values_are_the_bytes_of_the_mapped_segment(log):
    values = [bytes([i]) * (13 + i) for i in range(200)]
    log.append_many(values, atomic=True)
    (batch,) = log.read_batches()
    disk = pa.py_buffer(batch.data)  # same memory: pyarrow tells its address
    array = pa.table(log.columns())["value"].chunk(0)
    (window,) = buffers(array)
    assert disk.address <= window.address
    assert window.address + window.size <= disk.address + disk.size
    assert bytes(batch.data[window.address - disk.address :][:13]) == values[0]


def test_the_window_is_what_the_values_span_not_the_segment(log):
    log.append_many([b"some value of 24 bytes.."] * 1000, atomic=True)
    array = pa.table(log.columns(500, 510))["value"].chunk(0)
    assert sum(buffer.size for buffer in buffers(array)) < 10 * 100


# ---- lifetimes ----


def test_arrays_outlive_stream_truncation_and_log(log):
    keys, values, _ = fill(log, 5000)
    table = pa.table(log.columns())
    one_value = table["value"].chunk(0).slice(0, 50)
    assert log.stats().pinned_bytes > 0
    log.truncate_prefix(4990)
    log.truncate_suffix(4991)
    log.append_many([b"something else entirely"] * 1000)
    log.flush()
    assert table["value"].to_pylist() == values
    log.close()
    gc.collect()
    assert table["value"].to_pylist() == values
    assert table["key"].to_pylist() == keys
    del table
    gc.collect()
    assert one_value.to_pylist() == values[:50]


def test_closing_ends_a_stream_that_is_still_read(log):
    _, values, _ = fill(log, 40_000)
    reader = pa.RecordBatchReader.from_stream(log.columns())
    first = reader.read_next_batch()
    columns = log.columns()
    log.close()
    assert first["value"].to_pylist() == values[: first.num_rows]
    with pytest.raises(OSError, match="the log was closed"):
        reader.read_all()
    with pytest.raises(LogClosedError):
        columns.__arrow_c_stream__()
    assert pa.schema(columns).names == NAMES
    assert "closed" in repr(columns)


def test_columns_keep_their_log_open(tmp_path):
    log = Log(tmp_path / "log", create=True)
    log.append(b"v")
    columns = log.columns()
    del log
    gc.collect()
    assert pa.table(columns).num_rows == 1
    columns._log.close()


def test_nothing_leaks_when_nothing_is_read(log):
    fill(log, 2000)
    for _ in range(50):
        log.columns().__arrow_c_stream__()
        log.columns().__arrow_c_schema__()
        pa.RecordBatchReader.from_stream(log.columns())
        reader = pa.RecordBatchReader.from_stream(log.columns())
        reader.read_next_batch()
        del reader
    assert_nothing_pinned(log)


def test_pins_come_back_with_the_last_array(log):
    fill(log, 20_000)
    chunks = [batch["value"] for batch in pa.RecordBatchReader.from_stream(log.columns())]
    assert log.stats().pinned_bytes > 0
    random.Random(7).shuffle(chunks)
    while chunks:
        chunks.pop()
    assert_nothing_pinned(log)


def test_a_capsule_may_die_after_the_log(log):
    fill(log, 100)
    capsules = [log.columns().__arrow_c_stream__(), log.columns().__arrow_c_schema__()]
    log.close()
    del capsules
    gc.collect()


def test_capsules_that_live_until_the_interpreter_ends(tmp_path):
    program = (
        "import sys, stratalog\n"
        "log = stratalog.Log(sys.argv[1], create=True)\n"
        "log.append_many([b'a value that is not short'] * 100)\n"
        "columns = log.columns()\n"
        "kept = [columns.__arrow_c_stream__(), columns.__arrow_c_schema__()]\n"
        "kept.append(kept)\n"
        "sys.modules['kept'] = kept\n"
        "log.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- what a consumer may ask for ----


@pytest.mark.parametrize("key_type", ["binary", "large_binary", "binary_view"])
@pytest.mark.parametrize("value_type", ["binary", "large_binary", "binary_view"])
def test_requested_binary_forms(log, key_type, value_type):
    keys, values, _ = fill(log, 20_000)
    schema = pa.schema(
        [
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("timestamp", pa.timestamp("ms", "UTC"), nullable=False),
            pa.field("key", getattr(pa, key_type)()),
            pa.field("value", getattr(pa, value_type)()),
        ]
    )
    table = pa.RecordBatchReader.from_stream(log.columns(), schema=schema).read_all()
    assert table.schema == schema
    table.validate(full=True)
    assert table["key"].to_pylist() == keys
    assert table["value"].to_pylist() == values
    if "binary_view" not in (key_type, value_type):
        assert log.stats().pinned_bytes == 0  # copies hold nothing of the log


def test_an_unknown_type_is_passed_over_and_other_columns_are_refused(log):
    log.append(b"text that is not so short", key=b"key")
    columns = log.columns()
    as_text = pa.schema([("offset", "int64"), ("timestamp", "int64"), ("key", "string"),
                         ("value", "string")])  # fmt: skip
    stream = columns.__arrow_c_stream__(as_text.__arrow_c_schema__())
    given = pa.RecordBatchReader._import_from_c_capsule(stream)
    assert given.schema.field("value").type == pa.binary_view()
    for fields in ([("offset", "int64")], [(name, "binary") for name in reversed(NAMES)]):
        with pytest.raises(InvalidArgumentError, match="requested schema"):
            columns.__arrow_c_stream__(pa.schema(fields).__arrow_c_schema__())
    with pytest.raises(ValueError, match="PyCapsule"):
        columns.__arrow_c_stream__(object())


# ---- damage ----


def test_records_before_damage_are_delivered_then_the_place_is_named(log):
    for _ in range(5):
        log.append_many([b"a value of some length"] * 10, atomic=True)
    log.flush()
    batch = list(log.read_batches())[3]
    path = log.path / f"{batch.segment_base_offset:020}.log"
    position = batch.position
    log.close()
    data = bytearray(path.read_bytes())
    data[position + 100] ^= 1
    path.write_bytes(data)
    with Log(log.path, mode="r") as damaged:
        reader = pa.RecordBatchReader.from_stream(damaged.columns())
        assert reader.read_next_batch().num_rows == 30
        for _ in range(2):  # as long as one asks
            with pytest.raises(OSError, match=f"SL_E_CORRUPT.*{path.name}.*{position}"):
                reader.read_next_batch()


# ---- threads ----


def test_readers_side_by_side_while_the_writer_goes_on(log):
    _, values, _ = fill(log, 10_000, codec="lz4")  # the codec takes the GIL inside get_next
    failures = []
    stop = threading.Event()

    def read():
        try:
            for _ in range(5):
                table = pa.table(log.columns(0, 10_000))
                assert table["value"].to_pylist() == values
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            failures.append(error)

    def write():
        while not stop.is_set():
            log.append_many([b"another value, not a short one"] * 10, codec="lz4")

    threads = [threading.Thread(target=read) for _ in range(4)]
    writer = threading.Thread(target=write)
    for thread in [*threads, writer]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    writer.join()
    assert failures == []
    assert_nothing_pinned(log)


def test_close_while_others_read(tmp_path):
    for seed in range(10):
        log = Log(tmp_path / str(seed), create=True, segment_bytes=64 << 10)
        fill(log, 5000, seed=seed, codec="lz4" if seed % 2 else "none")
        outcomes = []

        def read(log=log, outcomes=outcomes):
            try:
                while True:
                    outcomes.append(pa.table(log.columns(0, 5000)).num_rows)
            except (OSError, LogClosedError) as error:
                outcomes.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(outcomes) < 3:
            time.sleep(0.001)
        log.close()
        for thread in threads:
            thread.join()
        assert {outcome for outcome in outcomes if isinstance(outcome, int)} == {5000}
        assert sum(not isinstance(outcome, int) for outcome in outcomes) == 3


# ---- other consumers ----


def test_polars(log):
    polars = pytest.importorskip("polars")
    keys, values, times = fill(log, 20_000)
    frame = polars.DataFrame(log.columns())
    assert frame.columns == NAMES
    assert frame["key"].to_list() == keys
    assert frame["value"].to_list() == values
    assert frame["timestamp"].dt.epoch("ms").to_list() == times
    long = frame.filter(polars.col("value").bin.size() == 1000)["value"].to_list()
    log.close()
    assert long == [value for value in values if value is not None and len(value) == 1000]


def test_duckdb(log):
    duckdb = pytest.importorskip("duckdb")
    keys, values, times = fill(log, 20_000)
    columns = log.columns()  # duckdb finds it by its name
    query = 'select count(*), count(key), sum(octet_length(value)), max(epoch_ms("timestamp"))'
    with duckdb.connect() as connection:
        (got,) = connection.sql(f"{query} from columns").fetchall()
        some = connection.sql(
            'select key, value from columns where "offset" between 100 and 119 order by "offset"'
        ).fetchall()
    assert columns.end_offset == 20_000
    size = sum(len(value) for value in values if value is not None)
    assert got == (20_000, sum(key is not None for key in keys), size, times[-1])
    assert some == list(zip(keys[100:120], values[100:120], strict=True))


def test_pandas(log):
    pandas = pytest.importorskip("pandas", minversion="3")
    keys, values, _ = fill(log, 1000)
    frame = pandas.DataFrame.from_arrow(log.columns())
    assert list(frame.columns) == NAMES
    assert [value if isinstance(value, bytes) else None for value in frame["value"]] == values
    assert [key if isinstance(key, bytes) else None for key in frame["key"]] == keys
