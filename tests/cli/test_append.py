"""`stratalog log append`: four formats, what is reported, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from stratalog import Log, Record
from stratalog.errors import LogNotFoundError


def records(directory: Path) -> list[Record]:
    with Log(directory, mode="r") as log:
        return list(log.read(copy=True))


def values(directory: Path) -> list[object]:
    return [record.value for record in records(directory)]


def wait_until_there(directory: Path, expected: list[object]) -> None:
    """Look at a log that another process is about to make, until it holds what it should."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(LogNotFoundError):
            if values(directory) == expected:
                return
        assert time.monotonic() < deadline, "the lines wait for more lines"
        time.sleep(0.02)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log"


# ---- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),  # what no newline ends is a line all the same
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"\n", [b""]),
        (b"", []),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),  # nothing but the newline is taken away
        (b"\x00\xff\xfe\n\x1b[31m", [b"\x00\xff\xfe", b"\x1b[31m"]),
        ("größe\n日本\n".encode(), ["größe".encode(), "日本".encode()]),
    ],
)
def test_lines(text, expected, directory, invoke):
    invoke("log", "append", directory, input=text)
    assert values(directory) == expected


def test_a_line_longer_than_one_read(directory, stratalog):
    long = b"x" * 3_000_000
    stratalog("log", "append", directory, input=b"a\n" + long + b"\nb\n")
    assert values(directory) == [b"a", long, b"b"]


def test_keys_before_a_separator(directory, invoke):
    invoke("log", "append", directory, "--key-separator", r"\t", input=b"k\tv\tw\nplain\n\tempty\n")
    assert [(r.key, r.value) for r in records(directory)] == [
        (b"k", b"v\tw"),
        (None, b"plain"),
        (b"", b"empty"),
    ]


def test_files_in_the_order_given(directory, tmp_path, stratalog):
    (tmp_path / "one").write_bytes(b"1\n2\n")
    (tmp_path / "two").write_bytes(b"3\n")
    arguments = ("log", "append", directory, tmp_path / "two", "-", tmp_path / "one")
    stratalog(*arguments, input=b"between\n")
    assert values(directory) == [b"3", b"between", b"1", b"2"]


def test_a_line_is_appended_when_it_comes(directory, spawn, stratalog):
    process = spawn("log", "append", directory, "--no-flush")
    process.stdin.write(b"first\n")
    process.stdin.flush()
    wait_until_there(directory, [b"first"])
    process.stdin.close()
    assert process.wait(30) == 0


# ---- other formats -------------------------------------------------------------------------------


def test_raw_takes_a_file_as_it_is(directory, tmp_path, invoke):
    content = bytes(range(256)) * 100
    (tmp_path / "blob").write_bytes(content)
    invoke("log", "append", directory, tmp_path / "blob", "-", "--format", "raw", input=b"a\nb\n")
    assert values(directory) == [content, b"a\nb\n"]


def test_length_delimited(directory, invoke):
    wanted = [b"", b"a\nb", b"x" * 70_000, b"\x00"]
    stream = b"".join(struct.pack(">I", len(value)) + value for value in wanted)
    invoke("log", "append", directory, "--format", "length-delimited", input=stream)
    assert values(directory) == wanted


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
def test_length_delimited_that_ends_early(cut, directory, stratalog):
    stream = struct.pack(">I", 2) + b"ok" + (struct.pack(">I", 3) + b"cut")[:cut]
    arguments = ("log", "append", directory, "--format", "length-delimited")
    ended = stratalog(*arguments, input=stream, code=1)
    assert "position 6" in ended.err
    assert values(directory) == [b"ok"]


def test_a_length_is_refused_before_the_bytes_are_gathered(directory, stratalog):
    arguments = ("log", "append", directory, "--format", "length-delimited")
    ended = stratalog(*arguments, input=b"GET / HTTP/1.1\r\n\r\n", code=1)
    assert "position 0" in ended.err


def test_ndjson_keeps_the_object_as_it_is_written(directory, invoke):
    line = b'{"b": 1,  "a":"\\u00e9"}'
    arguments = ("log", "append", directory, "--format", "ndjson", "--key-field", "a")
    invoke(*arguments, input=line + b"\n\n" + b'{"b":2}')
    assert [(r.key, r.value) for r in records(directory)] == [
        ("é".encode(), line),
        (None, b'{"b":2}'),
    ]


def test_ndjson_fields(directory, invoke):
    entries = [
        {"k": "key", "v": "text", "t": 1_700_000_000_123, "h": {"a": "1", "b": None}},
        {"k": 7, "v": {"x": [1, None]}, "t": "2026-01-31T12:00:00+01:00"},
        {"k": None, "v": None, "t": "2026-01-31", "h": [{"name": "n", "value_base64": "/w=="}]},
        {"k_base64": "AP8=", "v_base64": "", "t": 0},
    ]
    fields = ("--key-field", "k", "--value-field", "v", "--timestamp-field", "t")
    lines = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
    arguments = ("log", "append", directory, "--format", "ndjson", *fields, "--headers-field", "h")
    invoke(*arguments, input=lines)
    assert [tuple(record)[1:] for record in records(directory)] == [
        (1_700_000_000_123, b"key", b"text", (("a", b"1"), ("b", None))),
        (1_769_857_200_000, b"7", b'{"x":[1,null]}', ()),
        (1_769_817_600_000, None, None, (("n", b"\xff"),)),
        (0, b"\x00\xff", b"", ()),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{nope", "line 2"),
        (b"[1]", "not a JSON object"),
        (b'{"t": [1]}', "neither milliseconds nor a time"),
        (b'{"t": "yesterday"}', "yesterday"),
        (b'{"v_base64": "?"}', "v_base64"),
        (b'{"h": 3}', "neither an object nor a list"),
    ],
)
def test_ndjson_that_is_none(line, complaint, directory, stratalog):
    fields = ("--value-field", "v", "--timestamp-field", "t", "--headers-field", "h")
    arguments = ("log", "append", directory, "--format", "ndjson", *fields)
    ended = stratalog(*arguments, input=b'{"v":"good"}\n' + line + b"\n", code=1)
    assert ended.err.startswith("stratalog: standard input line 2: ")
    assert complaint in ended.err


# ---- what is reported ----------------------------------------------------------------------------


def test_the_summary_says_what_is_durable(directory, stratalog):
    first = stratalog("log", "append", directory, "--json", input=b"a\nb\n").json
    assert first.pop("seconds") >= 0
    assert first == {
        "first_offset": 0,
        "end_offset": 2,
        "records": 2,
        "bytes": 4,
        "durable_offset": 2,
    }
    nothing = stratalog("log", "append", directory, "--json").json
    assert (nothing["first_offset"], nothing["end_offset"], nothing["records"]) == (None, 2, 0)
    second = stratalog("log", "append", directory, input=b"c\n")
    assert "appended 1 record at offsets [2, 3)" in second.text
    assert "durable below 3" in second.text


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("sync", ["none", "interval", "always"])
def test_codecs_and_sync_modes(codec, sync, directory, invoke):
    lines = b"".join(b"line %d\n" % number for number in range(500))
    invoke("log", "append", directory, "--codec", codec, "--sync", sync, input=lines)
    assert values(directory) == lines.splitlines()
    with Log(directory, mode="r") as log:
        assert {batch.codec for batch in log.read_batches()} == {codec}


def test_batches_and_segments_as_asked(numbers):
    with Log(numbers, mode="r") as log:
        assert max(batch.record_count for batch in log.read_batches()) <= 50
        assert len(log.segments()) > 1
        assert all(segment.log_bytes <= 4096 for segment in log.segments())


def test_progress_is_drawn_only_when_it_is_seen(directory, stratalog):
    assert stratalog("log", "append", directory, input=b"a\n").err == ""
    shown = stratalog("log", "append", directory, "--progress", "always", input=b"a\n")
    assert "append" in shown.err


def test_ctrl_c_keeps_and_reports_what_came(directory, spawn):
    process = spawn("log", "append", directory, "--json")
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    wait_until_there(directory, [b"a", b"b"])
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert json.loads(out)["durable_offset"] == 2


# ---- what is refused -----------------------------------------------------------------------------


def test_no_create(directory, stratalog):
    ended = stratalog("log", "append", directory, "--no-create", input=b"a\n", code=1)
    assert ended.err.startswith("stratalog: ")
    assert str(directory) in ended.err
    assert not directory.exists()


def test_a_second_writer_is_refused(directory, stratalog):
    with Log(directory, create=True):
        ended = stratalog("log", "append", directory, input=b"a\n", code=1)
    assert "wait until the other writer" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "xml"],
        ["--key-field", "k"],  # without --format ndjson
        ["--format", "raw", "--key-separator", ":"],
        ["--key-separator", ""],
        ["--segment-bytes", "64 parsecs"],
        ["--batch-records", "0"],
        ["--codec", "rot13"],
        ["/nonexistent/file"],
    ],
)
def test_usage_errors(arguments, directory, invoke):
    invoke("log", "append", directory, *arguments, code=2)
    assert not directory.exists()


def test_a_directory_that_cannot_be_made(tmp_path, stratalog):
    (tmp_path / "file").write_bytes(b"")
    ended = stratalog("log", "append", tmp_path / "file" / "log", input=b"a\n", code=1)
    assert ended.err.startswith("stratalog: ")
    assert len(ended.err.splitlines()) == 1
