"""`stratalog log stat`, `verify` and `truncate`, and the outermost command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratalog import Log


def flip(path: Path, position: int) -> None:
    """Turn one bit over."""
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def first_segment(directory: Path) -> Path:
    return directory / f"{0:020d}.log"


# ---- stat ----------------------------------------------------------------------------------------


def test_stat(numbers, stratalog):
    entry = stratalog("log", "stat", numbers, "--json").json
    assert (entry["log_start_offset"], entry["log_end_offset"]) == (0, 1000)
    assert entry["segment_count"] == len(entry["segments"]) > 1
    assert entry["log_bytes"] == sum(each["log_bytes"] for each in entry["segments"])
    assert entry["writer_alive"] is False
    ends = [each["end_offset"] for each in entry["segments"]]
    assert [each["base_offset"] for each in entry["segments"]] == [0, *ends[:-1]]
    text = stratalog("log", "stat", numbers).text
    assert "[0, 1000)" in text
    assert "00000000000000000000.log" in text
    with Log(numbers):
        assert stratalog("log", "stat", numbers, "--json").json["writer_alive"] is True


# ---- verify --------------------------------------------------------------------------------------


def test_verify_a_sound_log(numbers, stratalog):
    ended = stratalog("log", "verify", numbers)
    assert ended.text.startswith("sound: 1,000 records")
    assert stratalog("log", "verify", numbers, "--json").json["ok"] is True
    assert "verify" in stratalog("log", "verify", numbers, "--progress", "always").err


def test_verify_names_the_damage(numbers, stratalog):
    flip(first_segment(numbers), 100)
    ended = stratalog("log", "verify", numbers, code=1)
    assert first_segment(numbers).name in ended.text
    assert "position" in ended.text
    assert ended.err == ""
    report = stratalog("log", "verify", numbers, "--json", code=1).json
    assert report["ok"] is False
    assert report["problem_count"] == len(report["problems"]) > 0
    assert report["problems"][0]["path"].endswith(first_segment(numbers).name)


def test_reading_damage(numbers, stratalog):
    with Log(numbers, mode="r") as log:
        second = [batch.position for batch in log.read_batches()][1]
    flip(first_segment(numbers), second + 80)
    ended = stratalog("log", "cat", numbers, code=1)
    assert ended.lines == [str(number) for number in range(50)]  # all that stands before it
    assert "--skip-corrupt" in ended.err
    assert len(ended.err.splitlines()) == 1
    saved = stratalog("log", "cat", numbers, "--skip-corrupt").lines
    assert saved == [str(number) for number in range(1000) if not 50 <= number < 100]


# ---- truncate ------------------------------------------------------------------------------------


def offsets(directory: Path) -> tuple[int, int]:
    with Log(directory, mode="r") as log:
        return log.log_start_offset, log.log_end_offset


def test_truncate_both_ends(numbers, stratalog):
    plan = stratalog("log", "truncate", numbers, "--before", 500, "--dry-run", "--json").json
    assert (plan["gone_start_offset"], plan["gone_end_offset"]) == (0, 500)
    assert plan["dry_run"] is True
    assert plan["gone_segments"][0] == first_segment(numbers).name
    assert offsets(numbers) == (0, 1000)

    done = stratalog("log", "truncate", numbers, "--before", 500, "--yes", "--json").json
    assert (done["log_start_offset"], done["log_end_offset"]) == (500, 1000)
    assert not any((numbers / name).exists() for name in plan["gone_segments"])

    assert "dropped" in stratalog("log", "truncate", numbers, "--from", 900, "--yes").text
    assert offsets(numbers) == (500, 900)
    assert stratalog("log", "cat", numbers).lines == [str(n) for n in range(500, 900)]
    stratalog("log", "verify", numbers)


def test_truncate_asks_and_takes_no_for_an_answer(numbers, invoke, monkeypatch):
    monkeypatch.setattr("stratalog.cli.log_commands.someone_is_there", lambda: True)
    invoke("log", "truncate", numbers, "--from", 10, input=b"n\n", code=1)
    assert offsets(numbers) == (0, 1000)
    invoke("log", "truncate", numbers, "--from", 10, input=b"y\n")
    assert offsets(numbers) == (0, 10)


def test_truncate_does_nothing_when_nobody_can_answer(numbers, stratalog):
    ended = stratalog("log", "truncate", numbers, "--from", 10, code=2)
    assert "--yes" in ended.err
    assert offsets(numbers) == (0, 1000)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--before", 1, "--from", 2], ["--before", 1001, "--yes"], ["--from", 1001, "--yes"]],
)
def test_truncate_usage_errors(arguments, numbers, invoke):
    invoke("log", "truncate", numbers, *arguments, code=2)
    assert offsets(numbers) == (0, 1000)


# ---- the outermost command -----------------------------------------------------------------------


def test_version(stratalog):
    assert stratalog("--version").text.startswith("stratalog 0.")


@pytest.mark.parametrize(
    "path",
    [
        [],
        ["log"],
        ["demo"],
        ["bench"],
        *(
            ["log", name]
            for name in ["append", "cat", "tail", "stat", "verify", "find", "truncate"]
        ),
    ],
)
def test_help_has_examples_and_fits(path, invoke):
    text = invoke(*path, "--help").output
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "Examples:" in text or path in (["log"], ["demo"])


def test_unknown_commands(invoke):
    invoke("logs", code=2)
    invoke("log", "dance", code=2)


def test_a_message_is_one_line_even_for_a_strange_name(tmp_path, stratalog):
    ended = stratalog("log", "cat", tmp_path / "two\nlines", code=1)
    assert len(ended.err.splitlines()) == 1


def test_json_is_one_document_a_line(numbers, stratalog):
    for arguments in (["stat"], ["verify"], ["find", "--offset", 1]):
        name, *rest = arguments
        out = stratalog("log", name, numbers, *rest, "--json").lines
        assert len(out) == 1
        assert isinstance(json.loads(out[0]), dict)
