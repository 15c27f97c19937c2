"""`stratalog demo`: it runs, checks, says no when a check fails, and leaves others alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratalog import Log
from stratalog.cli import demo


def test_demo(tmp_path, stratalog):
    directory = tmp_path / "demo"
    ended = stratalog("demo", "--dir", directory, "--records", 1, "--seed", 7)
    assert "Every check holds" in ended.text
    assert all(len(line) <= 100 for line in ended.lines if line.startswith("ok"))
    assert "\x1b" not in ended.text
    with Log(directory / "stdlib-0", mode="r") as log:
        assert log.log_end_offset > 10_000
    stratalog("log", "verify", directory / "killed-0")
    again = stratalog("demo", "--dir", directory, "--records", 1, "--no-keep")
    assert "Try next" not in again.text
    assert not directory.exists()


def test_a_directory_that_no_demo_made_is_left_alone(tmp_path, stratalog):
    (tmp_path / "precious").write_text("mine")
    ended = stratalog("demo", "--dir", tmp_path, code=2)
    assert "--dir" in ended.err
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_check_that_fails_ends_the_demo(tmp_path, invoke, monkeypatch):
    """A planted bug: the log gives back one value that was never appended."""
    honest = Log.read_values

    def lies(self, *arguments, **options):
        for number, value in enumerate(honest(self, *arguments, **options)):
            yield b"lie" if number == 1234 else value

    monkeypatch.setattr(Log, "read_values", lies)
    result = invoke("demo", "--dir", tmp_path / "demo", "--records", 1, "--seed", 7, code=1)
    assert "check failed" in result.output
    assert "--seed 7" in result.output


def test_the_corpus_goes_around_when_more_is_asked_for(monkeypatch):
    corpus = demo.Corpus([("a.py", [b"1", b"2"]), ("b.py", [b"3"])], records=5)
    assert [(piece.key, piece.lines) for piece in corpus.pieces()] == [
        (b"a.py", [b"1", b"2"]),
        (b"b.py", [b"3"]),
        (b"a.py (pass 2)", [b"1", b"2"]),
    ]


@pytest.mark.parametrize("offset", [0, 64, 65, 1_000_000])
def test_the_records_of_the_killed_writer_differ(offset):
    assert demo.killed_record(offset).startswith(b"%d " % offset)
    assert demo.killed_record(offset) != demo.killed_record(offset + 1)


def test_names_are_quoted(tmp_path):
    directory = Path("with blank")
    lines = demo.next_commands(directory, 10)
    assert all("'with blank/" in line for line in lines)
