"""`stratalog log cat`, `tail` and `find`: which records, in which form, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stratalog import Log

T0 = 1_700_000_000_000


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Nulls, emptiness, text of the world, bytes that are none, and headers."""
    directory = tmp_path / "strange"
    with Log(directory, create=True) as log:
        log.append(b"plain", timestamp_ms=T0)
        log.append(None, key=b"gone", timestamp_ms=T0 + 1)
        log.append("日本 größe".encode(), key="schlüssel".encode(), timestamp_ms=T0 + 2)
        log.append(b"\x00\xff\n\x1b[2J", key=b"\xfe", timestamp_ms=T0 + 3)
        headers = [("n", b"1"), ("n", None), ("b", b"\xff")]
        log.append(b"", key=b"", timestamp_ms=T0 + 4, headers=headers)
    return directory


# ---- cat -----------------------------------------------------------------------------------------


def test_cat_gives_back_what_was_appended(numbers, stratalog):
    assert stratalog("log", "cat", numbers).out == b"".join(b"%d\n" % n for n in range(1000))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--start", 998], [998, 999]),
        (["--start", 1000], []),
        (["--start", 5, "--end", 8], [5, 6, 7]),
        (["--start", 5, "--end", 5], []),
        (["--start", 8, "--end", 5], []),
        (["--end", 2], [0, 1]),
        (["--start", 998, "--end", 5000], [998, 999]),
        (["--count", 3], [0, 1, 2]),
        (["-n", 0], []),
        (["--start", 10, "--count", 1], [10]),
        (["--from-time", 0, "--count", 1], [0]),
        (["--from-time", "2999-01-01"], []),
    ],
)
def test_cat_ranges(arguments, expected, numbers, invoke):
    result = invoke("log", "cat", numbers, *arguments)
    assert result.output.split() == [str(number) for number in expected]


@pytest.mark.parametrize(
    "moment", [T0 + 2, "2023-11-14T22:13:20.002Z", "2023-11-14T22:13:20.002", "20231114T221320.002"]
)
def test_cat_from_a_time(moment, strange, invoke):
    result = invoke("log", "cat", strange, "--from-time", moment, "--count", 1)
    assert result.output == "日本 größe\n"


def test_cat_raw_is_the_bytes_and_nothing_else(tmp_path, stratalog):
    content = bytes(range(256)) * 1000
    (tmp_path / "blob").write_bytes(content)
    stratalog("log", "append", tmp_path / "log", tmp_path / "blob", "--format", "raw")
    assert stratalog("log", "cat", tmp_path / "log", "--format", "raw").out == content


def test_cat_keys(strange, stratalog):
    out = stratalog("log", "cat", strange, "--key-separator", "=", "--count", 3).out
    assert out == "plain\ngone=\nschlüssel=日本 größe\n".encode()


def test_cat_ndjson(strange, stratalog):
    entries = [json.loads(line) for line in stratalog(*cat_ndjson(strange)).lines]
    assert entries[0] == {
        "offset": 0,
        "timestamp_ms": T0,
        "key": None,
        "value": "plain",
        "headers": [],
    }
    assert entries[1]["value"] is None
    assert entries[2]["key"] == "schlüssel"
    assert base64.b64decode(entries[3]["value_base64"]) == b"\x00\xff\n\x1b[2J"
    assert "value" not in entries[3]
    assert entries[4]["headers"] == [
        {"name": "n", "value": "1"},
        {"name": "n", "value": None},
        {"name": "b", "value_base64": "/w=="},
    ]


def cat_ndjson(directory: Path) -> list[object]:
    return ["log", "cat", directory, "--format", "ndjson"]


def test_ndjson_goes_out_and_in_without_loss(strange, tmp_path, stratalog):
    exported = stratalog(*cat_ndjson(strange)).out
    fields = ("--key-field", "key", "--value-field", "value")
    fields += ("--timestamp-field", "timestamp_ms", "--headers-field", "headers")
    copy = tmp_path / "copy"
    stratalog("log", "append", copy, "--format", "ndjson", *fields, input=exported)
    assert stratalog(*cat_ndjson(copy)).out == exported


@pytest.mark.parametrize("form", ["hex", "table"])
def test_what_is_for_eyes_cannot_steer_a_terminal(form, strange, stratalog):
    out = stratalog("log", "cat", strange, "--format", form).text
    assert "\x1b" not in out
    assert "\x00" not in out
    assert "2023-11-14T22:13:20.000Z" in out


def test_a_table_into_a_pipe_has_a_hundred_columns_and_no_rules(tmp_path, stratalog):
    stratalog("log", "append", tmp_path / "log", input=b"v" * 5000 + b"\n[bold]no markup\n")
    lines = stratalog("log", "cat", tmp_path / "log", "--format", "table").lines
    assert len(lines) == 3
    assert all(len(line) <= 100 for line in lines)
    assert "[bold]no markup" in lines[2]


@pytest.mark.parametrize("form", ["lines", "ndjson", "raw", "hex", "table"])
def test_a_closed_pipe_ends_quietly(form, tmp_path, stratalog, spawn):
    lines = b"".join(b"%d\n" % number for number in range(200_000))
    stratalog("log", "append", tmp_path / "log", input=lines)
    process = spawn("log", "cat", tmp_path / "log", "--format", form)
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""


def test_head_of_a_shell(numbers):
    line = f"set -o pipefail; {sys.executable} -m stratalog log cat {numbers} | head -n 1"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"0\n", b"")


def test_usage_errors_of_reading(numbers, invoke):
    invoke("log", "cat", numbers, "--start", 1, "--from-time", 0, code=2)
    invoke("log", "cat", numbers, "--start", "-1", code=2)
    invoke("log", "cat", numbers, "--from-time", "noon", code=2)
    invoke("log", "cat", code=2)
    invoke("log", "find", numbers, code=2)
    invoke("log", "find", numbers, "--offset", 1, "--key", "k", code=2)
    invoke("log", "find", numbers, "--offset", 1, "--all", code=2)


def test_a_start_beyond_the_end(numbers, stratalog):
    ended = stratalog("log", "cat", numbers, "--start", 1001, code=1)
    assert "1001" in ended.err
    assert "stratalog log stat" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["cat", "tail", "stat", "verify"])
def test_no_log_there(name, tmp_path, stratalog):
    ended = stratalog("log", name, tmp_path / "nowhere", code=1)
    assert str(tmp_path / "nowhere") in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "nowhere").exists()


# ---- tail ----------------------------------------------------------------------------------------


def test_tail(numbers, invoke):
    assert invoke("log", "tail", numbers).output.split() == [str(n) for n in range(990, 1000)]
    assert invoke("log", "tail", numbers, "-n", 2).output == "998\n999\n"
    assert invoke("log", "tail", numbers, "-n", 0).output == ""
    assert len(invoke("log", "tail", numbers, "-n", 5000).output.split()) == 1000


def test_tail_follows_a_writer_of_another_process_until_ctrl_c(numbers, spawn):
    process = spawn("log", "tail", numbers, "-n", 1, "-f")
    alarm = threading.Timer(60, process.kill)
    alarm.start()
    assert process.stdout.readline() == b"999\n"
    with Log(numbers) as log:
        for number in range(1000, 1020):
            log.append(b"%d" % number)
            assert process.stdout.readline() == b"%d\n" % number
    with Log(numbers) as log:  # a writer that ends and one that begins are one story
        log.append_many([b"x", b"y"])
    assert process.stdout.readline() + process.stdout.readline() == b"x\ny\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    alarm.cancel()
    assert process.stderr.read() == b""


# ---- find ----------------------------------------------------------------------------------------


def test_find_by_offset_names_the_place(numbers, stratalog):
    found = stratalog("log", "find", numbers, "--offset", 777, "--json").json
    assert (found["offset"], found["value"]) == (777, "777")
    assert found["batch_base_offset"] <= 777 <= found["batch_last_offset"]
    data = Path(found["path"]).read_bytes()
    batch = data[found["position"] :][: found["batch_bytes"]]
    assert int.from_bytes(batch[:8], "big") == found["batch_base_offset"]
    assert b"777" in batch
    text = stratalog("log", "find", numbers, "--offset", 777).text
    assert f"at position {found['position']}" in text


def test_find_by_time_and_by_key(strange, stratalog):
    assert stratalog("log", "find", strange, "--time", T0 + 1, "--json").json["offset"] == 1
    assert stratalog("log", "find", strange, "--key", "schlüssel", "--json").json["offset"] == 2
    with Log(strange) as log:
        log.append(b"back", key=b"gone")
    every = stratalog("log", "find", strange, "--key", "gone", "--all", "--json").lines
    assert [json.loads(line)["offset"] for line in every] == [1, 5]


@pytest.mark.parametrize(
    "what", [["--offset", 5000], ["--time", "2999-01-01"], ["--key", "nobody"]]
)
def test_find_nothing(what, strange, stratalog):
    ended = stratalog("log", "find", strange, *what, code=1)
    assert ended.out == b""
    assert ended.err.startswith("stratalog: ")
