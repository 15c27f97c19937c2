"""``stratalog demo``: the whole promise on real input, in seconds, with every answer checked.

    DIR/
      stdlib-0/     every line of the Python standard library, one record each, key = file name
      killed-0/     what a writer left behind that was killed in mid-append, again and again
      zookeeper/    what a coordination service keeps: transaction logs and snapshots

    1  append       a million lines and more, in batches, then one flush: durable
    2  read back    everything, and compare SHA-256 over all values with that of the input
    3  look up      a dozen offsets and a few moments, chosen by a printed seed
    4  verify       every byte of every file
    5  kill -9      a child process appends and tells each acknowledged offset through a pipe; it is
                    killed at a random moment, and every record it was told about must be there

    6  serve        a ZooKeeper, used by kazoo and killed too (demo_zookeeper)

Where the library has fewer lines than asked for, it is read again, and the key says which pass it
was. Any check that fails ends the demo with exit code 1 and the seed to repeat it. The directory
is kept, so that the commands printed at the end work on it; a later demo replaces it, and only
because the file ``stratalog-demo`` in it says that a demo made it.

Left to others: fair measurements with peers beside them (``stratalog bench``). The rates shown here
are one run's, with the clock around Python and everything it does for the demo.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stratalog import Log
from stratalog.cli import demo_zookeeper, screen
from stratalog.cli.demo_report import CheckFailedError, Report, require
from stratalog.cli.parameters import format_bytes, format_timestamp, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = "stratalog-demo"  # a file that says: this directory may be replaced by a demo
RECORDS_DEFAULT: Final = 1_000_000
BATCH_RECORDS: Final = 10_000  # of one append_many call; the engine cuts it into batches
SEGMENT_BYTES: Final = 16 << 20  # small, so that there are several
KILLS: Final = 3
KILL_AFTER_SECONDS: Final = (0.15, 0.45)  # a random moment in between
KILLED_BATCH_RECORDS: Final = 64
CHILD_WAIT_SECONDS_MAX: Final = 30.0


# ---- the input ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """The lines of one file, or as many of them as are still wanted."""

    key: bytes
    lines: list[bytes]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The standard library's source files, read once and gone around as often as needed."""

    files: list[tuple[str, list[bytes]]]
    records: int  # to be delivered in all

    @classmethod
    def load(cls, records: int) -> Corpus:
        """Read every ``.py`` file below the standard library's directory."""
        root = Path(sysconfig.get_path("stdlib"))
        files = []
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if {"site-packages", "dist-packages"}.isdisjoint(relative.parts) and path.is_file():
                lines = path.read_bytes().split(b"\n")
                if not lines[-1]:
                    lines.pop()  # what follows the last newline is no line
                if lines:
                    files.append((str(relative), lines))
        require(bool(files), f"there are no .py files below {root}")
        return cls(files, max(records, sum(len(lines) for _, lines in files)))

    def pieces(self) -> Iterator[Piece]:
        """Yield the records, file by file, until there are enough."""
        left = self.records
        for turn in itertools.count(1):
            for name, lines in self.files:
                if left <= 0:
                    return
                key = name if turn == 1 else f"{name} (pass {turn})"
                yield Piece(key.encode(), lines[:left])
                left -= len(lines)


# ---- the steps ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Written:
    """What was appended, as far as the checks need it again."""

    records: int = 0
    value_bytes: int = 0
    sha256: str = ""
    piece_offsets: list[int] = field(default_factory=list)  # first offset of each piece, rising
    pieces: list[Piece] = field(default_factory=list)
    moments: list[tuple[int, int]] = field(default_factory=list)  # (timestamp_ms, first offset)

    def expected(self, offset: int) -> tuple[bytes, bytes]:
        """Key and value that were appended as record ``offset``."""
        number = bisect.bisect_right(self.piece_offsets, offset) - 1
        piece = self.pieces[number]
        return piece.key, piece.lines[offset - self.piece_offsets[number]]


def append_all(log: Log, corpus: Corpus, report: Report) -> Written:
    """Step 1: append every record, then make all of them durable."""
    written = Written()
    digest = hashlib.sha256()
    values: list[bytes] = []
    keys: list[bytes] = []
    append_seconds = 0.0
    timestamp_ms = 0

    def send(bar: screen.Bar) -> None:
        nonlocal append_seconds, timestamp_ms
        timestamp_ms = max(timestamp_ms, time.time_ns() // 1_000_000)  # never back: moments rise
        started = time.perf_counter()
        first_offset = log.append_many(
            values, keys=keys, timestamps_ms=[timestamp_ms] * len(values)
        )
        append_seconds += time.perf_counter() - started
        require(first_offset == written.records, "offsets are handed out without a gap")
        block = b"\n".join(values)
        digest.update(block + b"\n")
        written.moments.append((timestamp_ms, first_offset))
        written.records += len(values)
        written.value_bytes += len(block) + 1 - len(values)
        bar.advance(len(block))
        values.clear()
        keys.clear()

    total_bytes = sum(sum(map(len, piece.lines)) + len(piece.lines) for piece in corpus.pieces())
    with screen.progress("append", total_bytes) as bar:
        for piece in corpus.pieces():
            written.piece_offsets.append(written.records + len(values))
            written.pieces.append(piece)
            for start in range(0, len(piece.lines), BATCH_RECORDS):
                part = piece.lines[start : start + BATCH_RECORDS]
                values += part
                keys += [piece.key] * len(part)
                if len(values) >= BATCH_RECORDS:
                    send(bar)
        if values:
            send(bar)
    report.step(
        "append",
        f"{written.records:,} records from {len(corpus.files):,} files",
        seconds=append_seconds,
        records=written.records,
        count_bytes=written.value_bytes,
    )
    started = time.perf_counter()
    log.flush()
    seconds = time.perf_counter() - started
    require(
        log.durable_offset == log.log_end_offset == written.records,
        "after flush every record is durable",
    )
    report.step("flush", f"durable below offset {log.durable_offset:,}", seconds=seconds)
    written.sha256 = digest.hexdigest()
    return written


def read_all(log: Log, written: Written, report: Report) -> None:
    """Step 2: read every record and compare a digest over all values."""
    digest = hashlib.sha256()
    records = 0
    started = time.perf_counter()
    with screen.progress("read back", written.value_bytes + written.records) as bar:
        reader = log.read_values()
        while values := list(itertools.islice(reader, BATCH_RECORDS)):
            block = b"\n".join(value for value in values if value is not None)
            digest.update(block)
            digest.update(b"\n")
            records += len(values)
            bar.advance(len(block) + 1)
    seconds = time.perf_counter() - started
    require(records == written.records, f"{written.records:,} records come back, not {records:,}")
    require(digest.hexdigest() == written.sha256, "the values that come back are the ones appended")
    report.step(
        "read back",
        f"SHA-256 {written.sha256[:12]}... of all values agrees",
        seconds=seconds,
        records=records,
        count_bytes=written.value_bytes,
    )


def look_up(log: Log, written: Written, draw: random.Random, report: Report) -> None:
    """Step 3: a dozen random offsets, and the first record at or after a few moments."""
    offsets = [0, written.records - 1, *(draw.randrange(written.records) for _ in range(10))]
    started = time.perf_counter()
    found = [(offset, log.get(offset)) for offset in offsets]
    seconds = time.perf_counter() - started
    for offset, record in found:
        key, value = written.expected(offset)
        require(
            (record.offset, record.key, record.value) == (offset, key, value),
            f"offset {offset} holds the line that was appended there",
        )
    report.step("offsets", f"{len(offsets)} random offsets hold their lines", seconds=seconds)

    moments = [written.moments[0], written.moments[-1]]
    moments += draw.sample(written.moments, min(4, len(written.moments)))
    started = time.perf_counter()
    answers = [log.offset_for_timestamp(timestamp_ms) for timestamp_ms, _ in moments]
    seconds = time.perf_counter() - started
    times_ms = [timestamp_ms for timestamp_ms, _ in written.moments]
    for (timestamp_ms, _), answer in zip(moments, answers, strict=True):
        _, expected = written.moments[bisect.bisect_left(times_ms, timestamp_ms)]
        require(
            answer == expected,
            f"the first record at or after {format_timestamp(timestamp_ms)} is {expected}",
        )
    report.step("times", f"{len(moments)} moments lead to their first record", seconds=seconds)


def verify_log(log: Log, report: Report) -> None:
    """Step 4: every byte of every file, by the engine's own checks."""
    started = time.perf_counter()
    result = log.verify()
    seconds = time.perf_counter() - started
    require(not result.problems, f"verify finds nothing; it found {result.problems[:1]}")
    report.step(
        "verify",
        f"{result.batches:,} batches, indexes agree with data",
        seconds=seconds,
        records=result.records,
    )


def killed_record(offset: int) -> bytes:
    """The value of record ``offset`` in the log of step 5: nothing else may ever stand there."""
    digest = hashlib.sha256(b"%d" % offset).hexdigest()
    return f"{offset} {digest[: offset % 65]}".encode()


def append_until_killed(directory: str) -> None:
    """Body of the child: append for ever, and tell each log end offset once ``append`` returned."""
    with Log(directory, create=True) as log:
        for first_offset in itertools.count(log.log_end_offset, KILLED_BATCH_RECORDS):
            end_offset = first_offset + KILLED_BATCH_RECORDS
            log.append_many([killed_record(offset) for offset in range(first_offset, end_offset)])
            os.write(sys.stdout.fileno(), b"%d\n" % end_offset)


def kill_writers(directory: Path, draw: random.Random, report: Report) -> None:
    """Step 5: kill a writer with SIGKILL in mid-append, reopen, look for what it acknowledged."""
    body = (
        "import sys; from stratalog.cli.demo import append_until_killed; "
        "append_until_killed(sys.argv[1])"
    )
    for _ in range(KILLS):
        acknowledged = 0
        after_seconds = draw.uniform(*KILL_AFTER_SECONDS)
        with subprocess.Popen(
            [sys.executable, "-c", body, str(directory)], stdout=subprocess.PIPE
        ) as child:
            stdout = child.stdout
            require(stdout is not None, "the child has a pipe")
            death = threading.Timer(CHILD_WAIT_SECONDS_MAX, child.kill)
            death.start()
            for number, line in enumerate(stdout or ()):
                acknowledged = int(line)  # a write this short into a pipe is never torn
                if number == 0:
                    death.cancel()
                    death = threading.Timer(after_seconds, child.kill)
                    death.start()
            death.cancel()
        require(acknowledged > 0, "the writer appended something before it was killed")
        require(child.returncode == -signal.SIGKILL, "the writer died of SIGKILL and nothing else")

        started = time.perf_counter()
        with Log(directory) as log:
            seconds = time.perf_counter() - started
            end_offset = log.log_end_offset
            require(
                end_offset >= acknowledged,
                f"all {acknowledged:,} acknowledged records survive; {end_offset:,} are there",
            )
            records = 0
            for record in log.read(0):
                require(
                    record.offset == records and record.value == killed_record(records),
                    f"record {records} is the one that was appended",
                )
                records += 1
            require(records == end_offset, "reading ends where the log ends")
        report.step(
            "kill -9",
            f"all {acknowledged:,} acknowledged are back; reopening",
            seconds=seconds,
        )


# ---- the command -------------------------------------------------------------------------------


def program_name() -> str:
    """How to call this program again from the same place."""
    here = Path(sys.argv[0])
    found = shutil.which("stratalog")
    if here.name != "stratalog" or not here.is_file():
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m stratalog"
    if found is not None and Path(found).samefile(here):
        return "stratalog"
    return shlex.quote(os.path.relpath(here))


def prepare(directory: Path) -> None:
    """Make an empty directory, in the place of what an earlier demo left and of nothing else.

    Raises:
        click.UsageError: something else is there.
    """
    if (directory / MARK).is_file():
        shutil.rmtree(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise click.UsageError(
            f"{directory} is there already and no demo made it; name another place with --dir."
        )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).write_text("made by `stratalog demo`, which may replace it\n")


def show_statistics(log: Log, written: Written, report: Report) -> None:
    """What the log looks like now."""
    stats = log.stats()
    report.say("")
    report.say(
        f"{plural(stats.segment_count, 'segment')}, {format_bytes(stats.log_bytes)} for "
        f"{format_bytes(written.value_bytes)} of values with their keys, "
        f"{plural(stats.sync_count, 'sync')}; "
        f"offsets [{log.log_start_offset}, {log.log_end_offset})"
    )


def next_commands(directory: Path, records: int) -> list[str]:
    """What to try now, with names that exist."""
    program = program_name()
    stdlib = shlex.quote(os.path.relpath(directory / "stdlib-0"))
    middle = records // 2
    return [
        f"{program} log tail {stdlib} -n 5 --format table",
        f"{program} log cat {stdlib} --start {middle} --count 3 --format ndjson",
        f"{program} log find {stdlib} --offset {middle}",
        f"{program} log stat {stdlib}",
        f"{program} log verify {stdlib}",
        f"{program} serve --data-dir {shlex.quote(os.path.relpath(directory / 'zookeeper'))}",
    ]


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-log"),
    show_default=True,
    help="Where to work; replaced if an earlier demo made it.",
)
@click.option("--keep/--no-keep", default=True, help="Leave the directory for a look at it [yes].")
@click.option(
    "--records",
    type=click.IntRange(1),
    default=RECORDS_DEFAULT,
    show_default=True,
    help="At least so many records; never fewer than the library has lines.",
)
@click.option("--seed", type=int, help="Repeat the choices of an earlier demo.")
def demo(directory: Path, keep: bool, records: int, seed: int | None) -> None:
    """See it work on a million real records, with writers killed, and every answer checked.

    The records are the lines of the Python standard library that is installed here. Takes less than
    twenty seconds and about 200 MB of disk.
    """
    prepare(directory)
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    draw = random.Random(seed)  # noqa: S311  (repeatable is the point)
    report = Report()
    report.say(f"stratalog demo in {directory}, seed {seed}", style="bold")
    started = time.perf_counter()
    try:
        corpus = Corpus.load(records)
        with Log(directory / "stdlib-0", create=True, segment_bytes=SEGMENT_BYTES) as log:
            written = append_all(log, corpus, report)
            read_all(log, written, report)
            look_up(log, written, draw, report)
            verify_log(log, report)
            kill_writers(directory / "killed-0", draw, report)
            demo_zookeeper.run(directory / "zookeeper", draw, report)
            show_statistics(log, written, report)
        report.say(
            f"Every check holds; {time.perf_counter() - started:.1f} s in all.", "bold green"
        )
        if keep:
            report.say("")
            report.say("Try next:", style="bold")
            for line in next_commands(directory, written.records):
                report.say(f"  {line}")
    except CheckFailedError as failed:
        raise CheckFailedError(f"{failed.message} (repeat with --seed {seed})") from None
    finally:
        if not keep:
            shutil.rmtree(directory)
