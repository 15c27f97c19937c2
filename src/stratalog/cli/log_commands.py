"""``stratalog log``: one log at the shell, by the names of the tools people know.

    append     files and pipes into the log                          writes
    cat        records out of it, by offset or by time               reads
    tail       the last records, and what comes after them           reads
    stat       segments, offsets, bytes                              reads
    verify     every byte of every file                              reads
    find       one record and its place on disk                      reads
    truncate   drop records at either end                            writes

What reads opens the directory read-only: it takes no lock, changes nothing, and works beside a
writer in another process. What writes takes the lock, and the engine recovers what an unclean end
left behind before the first record is added.

A command that has written ends with a flush, so that what it reports is durable and not merely
appended; ``append --no-flush`` leaves the disk its own time.

Left to others: what bytes become records (``input``), what records look like (``output``,
``screen``), how a command ends (``cli/__init__``).
"""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stratalog import Log
from stratalog.cli import EXIT_FAILURE, EXIT_INTERRUPTED, Command, complain
from stratalog.cli.input import JsonFields, Source, blocks
from stratalog.cli.output import RecordWriter, hex_lines, print_json, record_entry
from stratalog.cli.parameters import (
    byte_size,
    describe_bytes,
    format_bytes,
    format_timestamp,
    per_second,
    plural,
    timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stratalog import Record

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
FOLLOW_SLEEP_SECONDS: Final = 0.02  # between two looks; what one look found is printed at once
RECORD_FORMATS: Final = ("lines", "ndjson", "raw", "hex", "table")

directory_argument = click.argument(
    "directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
progress_option = click.option(
    "--progress",
    "show_progress",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Draw a bar on standard error; auto: if that is a terminal.",
)


@click.group()
def log() -> None:
    """Append to, read and look after a log."""


def separator(value: str) -> bytes:
    r"""Bytes between key and value, with ``\t`` and the like for what is hard to type."""
    try:
        return value.encode().decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        return value.encode()


@contextmanager
def advancing(what: str, total_bytes: int | None, when: str) -> Iterator[Callable[[int], None]]:
    """Yield a function to be told of each step of a long command; it draws a bar if one is seen."""
    if when == "never" or (when == "auto" and not sys.stderr.isatty()):
        yield lambda _step: None
        return
    from stratalog.cli import screen  # noqa: PLC0415  (rich is slow to import)

    with screen.progress(what, total_bytes, when=when) as bar:
        yield bar.advance


# ---- append ------------------------------------------------------------------------------------


@dataclass(slots=True)
class AppendSummary:
    """What one ``append`` did: offsets ``[first_offset, end_offset)``, and what of them is durable.

    ``bytes`` is what was read from the sources. ``first_offset`` is ``None`` if nothing came.
    """

    first_offset: int | None
    end_offset: int
    durable_offset: int
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def sentence(self) -> str:
        """The summary for people."""
        if self.first_offset is None:
            return f"no records came; the log ends at offset {self.end_offset}"
        return (
            f"appended {plural(self.records, 'record')}"
            f" at offsets [{self.first_offset}, {self.end_offset})"
            f", {format_bytes(self.bytes)} in {self.seconds:.2f} s"
            f" ({per_second(self.records, self.seconds):,.0f} records/s);"
            f" durable below {self.durable_offset}"
        )


@log.command(
    cls=Command,
    examples=(
        "journalctl -f -o json | stratalog log append journal --format ndjson",
        "stratalog log append photos *.jpg --format raw --segment-bytes 1GiB",
        "stratalog log append users users.ndjson --format ndjson --key-field id --codec zstd",
        "stratalog log cat old --format ndjson | stratalog log append new --format ndjson \\",
        "    --key-field key --value-field value --timestamp-field timestamp_ms \\",
        "    --headers-field headers",
    ),
)
@directory_argument
@click.argument(
    "files",
    metavar="[FILE]...",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "ndjson", "raw", "length-delimited"]),
    default="lines",
    show_default=True,
    help="lines: a record a line. ndjson: a JSON object a line. raw: a record a file. "
    "length-delimited: 4 bytes big-endian length, then the record.",
)
@click.option(
    "--key-separator",
    type=separator,
    help=r"lines: what stands before it is the key, e.g. '\t'.",
)
@click.option("--key-field", help="ndjson: the field with the key.")
@click.option("--value-field", help="ndjson: the field with the value; default the whole object.")
@click.option("--timestamp-field", help="ndjson: the field with the time, ISO 8601 or ms.")
@click.option("--headers-field", help="ndjson: the field with the headers.")
@click.option("--codec", type=click.Choice(CODECS), default="none", show_default=True)
@click.option(
    "--sync",
    type=click.Choice(["none", "interval", "always"]),
    default="none",
    show_default=True,
    help="When to make records durable. none: once, at the end.",
)
@click.option(
    "--batch-records",
    type=click.IntRange(1),
    help="At most so many records in a batch; default as many as --batch-bytes holds.",
)
@click.option(
    "--batch-bytes", type=byte_size, metavar="SIZE", help="About so long a batch [64KiB]."
)
@click.option(
    "--segment-bytes", type=byte_size, metavar="SIZE", help="Roll segments here [256MiB]."
)
@click.option("--create/--no-create", default=True, help="Make the log if it is not there [yes].")
@click.option("--flush/--no-flush", default=True, help="Make all durable at the end [yes].")
@progress_option
@json_option
@click.pass_context
def append(
    ctx: click.Context,
    directory: Path,
    files: tuple[str, ...],
    form: str,
    key_separator: bytes | None,
    key_field: str | None,
    value_field: str | None,
    timestamp_field: str | None,
    headers_field: str | None,
    codec: str,
    sync: str,
    batch_records: int | None,
    batch_bytes: int | None,
    segment_bytes: int | None,
    create: bool,
    flush: bool,
    show_progress: str,
    as_json: bool,
) -> None:
    """Append records, from files or a pipe.

    Reads FILEs in order; "-" is standard input, and so is no FILE at all.
    """
    fields = JsonFields(key_field, value_field, timestamp_field, headers_field)
    if form != "ndjson" and any(asdict(fields).values()):
        raise click.UsageError("--...-field options belong to --format ndjson.")
    if form != "lines" and key_separator is not None:
        raise click.UsageError("--key-separator belongs to --format lines.")
    if key_separator == b"":
        raise click.BadParameter("is empty", param_hint="--key-separator")
    sources = [Source(name) for name in files or ("-",)]
    sizes_bytes = [source.size_bytes for source in sources]
    total_bytes = None if None in sizes_bytes else sum(size or 0 for size in sizes_bytes)
    options: dict[str, Any] = {"segment_bytes": segment_bytes, "batch_bytes": batch_bytes}
    options = {name: setting for name, setting in options.items() if setting is not None}
    interrupted = False
    started = time.perf_counter()
    with Log(directory, create=create, sync=sync, codec=codec, **options) as target:
        summary = AppendSummary(None, target.log_end_offset, target.durable_offset)
        try:
            with advancing("append", total_bytes, show_progress) as advance:
                for block in itertools.chain.from_iterable(
                    blocks(source, form, fields=fields, key_separator=key_separator)
                    for source in sources
                ):
                    for piece in block.cut(batch_records or len(block.values)):
                        first_offset = target.append_many(
                            piece.values,
                            keys=piece.keys,
                            timestamps_ms=piece.timestamps_ms,
                            headers=piece.headers,
                        )
                        if summary.first_offset is None:
                            summary.first_offset = first_offset
                        summary.records += len(piece.values)
                        summary.bytes += piece.source_bytes
                        advance(piece.source_bytes)
        except KeyboardInterrupt:
            interrupted = True  # what came until now is kept, and reported as usual
        if flush:
            target.flush()
        summary.end_offset = target.log_end_offset
        summary.durable_offset = target.durable_offset
        summary.seconds = round(time.perf_counter() - started, 6)
    if as_json:
        print_json(asdict(summary))
    else:
        click.echo(summary.sentence())
    if interrupted:
        ctx.exit(EXIT_INTERRUPTED)


# ---- cat and tail --------------------------------------------------------------------------------

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(RECORD_FORMATS),
    default="lines",
    show_default=True,
    help="lines: value and newline. ndjson: a JSON object a line. raw: values back to back. "
    "hex, table: for eyes.",
)
key_separator_option = click.option(
    "--key-separator", type=separator, help=r"lines: print key and this before the value."
)
skip_option = click.option(
    "--skip-corrupt", is_flag=True, help="Go on after damage, at the next sound batch."
)


def write_all(writer: RecordWriter, records: Iterable[Record], next_offset: int = 0) -> int:
    """Write ``records`` to the last; return the offset after the last one written.

    What came before a failure is printed before the failure is.

    Args:
        writer: Where to.
        records: What to write.
        next_offset: What to return if there are none.
    """
    try:
        for record in records:
            writer.write(record)
            next_offset = record.offset + 1
    except BrokenPipeError:
        raise  # nobody is there to print for
    except Exception:
        writer.flush()
        raise
    writer.flush()
    return next_offset


@log.command(
    cls=Command,
    examples=(
        "stratalog log cat events --start 1000 --count 10",
        "stratalog log cat events --from-time 2026-01-31T12:00 --format table",
        "stratalog log cat events --format ndjson | jq .value",
    ),
)
@directory_argument
@click.option("--start", type=click.IntRange(0), help="First offset [the log's first].")
@click.option("--end", type=click.IntRange(0), help="Stop before this offset [the log's end].")
@click.option(
    "--from-time", type=timestamp, metavar="TIME", help="Start with the first record at or after."
)
@click.option("--count", "-n", type=click.IntRange(0), help="Print at most so many records.")
@format_option
@key_separator_option
@skip_option
def cat(
    directory: Path,
    start: int | None,
    end: int | None,
    from_time: int | None,
    count: int | None,
    form: str,
    key_separator: bytes | None,
    skip_corrupt: bool,
) -> None:
    """Print records, oldest first.

    TIME is ISO 8601 (UTC if it names no zone) or milliseconds since 1970.
    """
    if start is not None and from_time is not None:
        raise click.UsageError("--start and --from-time exclude each other.")
    with Log(directory, mode="r") as source:
        if from_time is not None:
            start = first_offset_at(source, from_time)
        records = source.read(start, end_offset=end, skip_corrupt=skip_corrupt)
        write_all(RecordWriter(form, key_separator=key_separator), itertools.islice(records, count))


def first_offset_at(source: Log, timestamp_ms: int) -> int:
    """The offset ``--from-time`` means: the log's end if everything is older."""
    offset = source.offset_for_timestamp(timestamp_ms)
    return source.log_end_offset if offset is None else offset


@log.command(
    cls=Command,
    examples=(
        "stratalog log tail events",
        "stratalog log tail events -n 0 -f --format ndjson",
    ),
)
@directory_argument
@click.option("--count", "-n", type=click.IntRange(0), default=10, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@format_option
@key_separator_option
@skip_option
def tail(
    directory: Path,
    count: int,
    follow: bool,
    form: str,
    key_separator: bytes | None,
    skip_corrupt: bool,
) -> None:
    """Print the last records and follow the log.

    With -f every record that a writer adds is printed as it comes, until Ctrl-C.
    """
    with Log(directory, mode="r") as source:
        writer = RecordWriter(form, key_separator=key_separator)
        start = max(source.log_start_offset, source.log_end_offset - count)
        start = write_all(writer, source.read(start, skip_corrupt=skip_corrupt), start)
        while follow:
            time.sleep(FOLLOW_SLEEP_SECONDS)
            start = write_all(writer, source.read(start, skip_corrupt=skip_corrupt), start)


# ---- stat and verify -----------------------------------------------------------------------------


@log.command(
    cls=Command,
    examples=(
        "stratalog log stat events",
        "stratalog log stat events --json | jq .log_end_offset",
    ),
)
@directory_argument
@json_option
def stat(directory: Path, as_json: bool) -> None:
    """Show segments, offsets and bytes."""
    with Log(directory, mode="r") as source:
        stats = source.stats()
        segments = source.segments()
    if as_json:
        entry = {"directory": str(directory), **asdict(stats)}
        print_json({**entry, "segments": [asdict(segment) for segment in segments]})
        return
    from stratalog.cli import screen  # noqa: PLC0415  (rich is slow to import)

    facts = [
        ("directory", str(directory)),
        ("offsets", f"[{stats.log_start_offset}, {stats.log_end_offset})"),
        ("durable below", f"{stats.durable_offset}"),
        ("data", describe_bytes(stats.log_bytes)),
        ("reserved", describe_bytes(stats.reserved_bytes)),
        ("writer", "one has it open" if stats.writer_alive else "none"),
    ]
    if stats.pinned_bytes:
        facts.append(("pinned", describe_bytes(stats.pinned_bytes)))
    if stats.recovered_batches or stats.recovery_discarded_bytes:
        facts.append(
            (
                "recovery",
                (
                    f"{stats.recovered_batches:,} batches checked, "
                    f"{stats.recovery_discarded_bytes:,} bytes of a torn tail left out, "
                    f"{stats.recovery_later_batches:,} sound batches seen beyond it"
                ),
            )
        )
    if stats.damage_offset is not None:
        facts.append(("repaired", f"records from offset {stats.damage_offset} on were lost"))
    for name, content in facts:
        click.echo(f"{click.style(f'{name:<14}', bold=True)} {content}")
    click.echo()
    screen.print_table(
        ("segment", "offsets", "bytes", "index", "time index", "latest record"),
        (
            (
                segment_name(segment.base_offset),
                f"[{segment.base_offset}, {segment.end_offset})",
                f"{segment.log_bytes:,}",
                f"{segment.index_entries:,}",
                f"{segment.time_index_entries:,}",
                format_timestamp(
                    -1 if segment.max_timestamp_ms is None else segment.max_timestamp_ms
                ),
            )
            for segment in segments
        ),
        right=("bytes", "index", "time index"),
        stretch="offsets",
    )


def segment_name(base_offset: int) -> str:
    """The file that holds a segment's records, as Kafka names it."""
    return f"{base_offset:020d}.log"


@log.command(
    cls=Command,
    examples=(
        "stratalog log verify events",
        "stratalog log verify events --json | jq -r '.problems[].path'",
    ),
)
@directory_argument
@progress_option
@json_option
@click.pass_context
def verify(ctx: click.Context, directory: Path, show_progress: str, as_json: bool) -> None:
    """Read every byte and report damage.

    Checks framing, checksums, every record, their order, and both indexes against the data.
    Ends with 0 if nothing is wrong, 1 if damage was found, 2 if the command line makes no sense.
    Damage to an index costs time and no records: a writer builds it anew.
    """
    started = time.perf_counter()
    with Log(directory, mode="r") as source:
        total_bytes = source.stats().log_bytes
        with advancing("verify", total_bytes, show_progress) as advance:
            report = source.verify(progress=advance)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"ok": report.ok, **asdict(report), "bytes": total_bytes})
    else:
        for problem in report.problems:
            click.echo(str(problem))
        unlisted = report.problem_count - len(report.problems)
        if unlisted:
            click.echo(f"and {unlisted:,} more")
        verdict = "sound" if report.ok else plural(report.problem_count, "problem")
        click.echo(
            f"{verdict}: {plural(report.records, 'record')} in {plural(report.batches, 'batch')}"
            f" in {plural(report.segments, 'segment')}"
            f", {format_bytes(total_bytes)} in {seconds:.2f} s"
        )
    if not report.ok:
        ctx.exit(EXIT_FAILURE)


# ---- find ----------------------------------------------------------------------------------------


@log.command(
    cls=Command,
    examples=(
        "stratalog log find events --offset 123456",
        "stratalog log find events --time 2026-01-31T12:00:00Z --json",
        "stratalog log find users --key 42 --all",
    ),
)
@directory_argument
@click.option("--offset", type=click.IntRange(0), help="The record with this offset.")
@click.option("--time", "moment", type=timestamp, metavar="TIME", help="The first one since then.")
@click.option("--key", help="The records with this key; reads the log from its start.")
@click.option("--all", "find_all", is_flag=True, help="With --key: every one, not just the first.")
@json_option
@click.pass_context
def find(
    ctx: click.Context,
    directory: Path,
    offset: int | None,
    moment: int | None,
    key: str | None,
    find_all: bool,
    as_json: bool,
) -> None:
    """Find one record and its place on disk.

    Prints the record, its segment file, and its batch's position there.

    Exits with 1 if there is no such record.
    """
    if sum(choice is not None for choice in (offset, moment, key)) != 1:
        raise click.UsageError("Give one of --offset, --time and --key.")
    if find_all and key is None:
        raise click.UsageError("--all belongs to --key.")
    with Log(directory, mode="r") as source:
        found: Iterable[Record]
        if offset is not None:
            found = [source.get(offset)]
        elif moment is not None:
            found = itertools.islice(source.read(first_offset_at(source, moment)), 1)
        else:
            wanted = (key or "").encode()
            found = (each for each in source.read() if each.key == wanted)
            found = found if find_all else itertools.islice(found, 1)
        count = 0
        for count, record in enumerate(found, start=1):  # noqa: B007  (counted)
            show_place(source, directory, record, as_json=as_json)
    if not count:
        complain("no such record")
        ctx.exit(EXIT_FAILURE)


def show_place(source: Log, directory: Path, record: Record, *, as_json: bool) -> None:
    """Print ``record`` and where its batch stands on disk."""
    batch = next(iter(source.read_batches(record.offset)))
    path = directory / segment_name(batch.segment_base_offset)
    if as_json:
        place = {
            "path": str(path),
            "position": batch.position,
            "batch_base_offset": batch.base_offset,
            "batch_last_offset": batch.last_offset,
            "batch_bytes": batch.batch_bytes,
            "codec": batch.codec,
        }
        print_json({**record_entry(record), **place})
        return
    for line in hex_lines(record):
        click.echo(line)
    click.echo(
        f"  in {path} at position {batch.position}: batch of offsets {batch.base_offset} to "
        f"{batch.last_offset}, {plural(batch.batch_bytes, 'byte')}, codec {batch.codec}"
    )


# ---- truncate ------------------------------------------------------------------------------------


def someone_is_there() -> bool:
    """Whether a question can be answered."""
    return sys.stdin.isatty()


@log.command(
    cls=Command,
    examples=(
        "stratalog log truncate events --before 100000 --dry-run",
        "stratalog log truncate events --from 123456 --yes",
    ),
)
@directory_argument
@click.option("--before", type=click.IntRange(0), help="Drop every record below this offset.")
@click.option("--from", "start", type=click.IntRange(0), help="Drop this offset and all above.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and keep it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def truncate(
    ctx: click.Context,
    directory: Path,
    before: int | None,
    start: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Drop records at either end, for good.

    Dropping the beginning frees whole segments only; records before the offset are hidden at once,
    and their bytes go when their segment has nothing else to keep.
    """
    if (before is None) == (start is None):
        raise click.UsageError("Give one of --before and --from.")
    with Log(directory, mode="r") as source:
        segments = source.segments()
        low, high = source.log_start_offset, source.log_end_offset
    at = before if before is not None else start or 0
    if not low <= at <= high:
        raise click.UsageError(f"offset {at} is outside of [{low}, {high}].")
    gone_start, gone_end = (low, at) if before is not None else (at, high)
    gone = [
        segment
        for segment in segments
        if gone_start <= segment.base_offset and segment.end_offset <= gone_end
    ]
    entry = {
        "directory": str(directory),
        "gone_start_offset": gone_start,
        "gone_end_offset": gone_end,
        "gone_segments": [segment_name(segment.base_offset) for segment in gone],
        "gone_segment_bytes": sum(segment.log_bytes for segment in gone),
    }
    sentence = (
        f"offsets [{gone_start}, {gone_end}), up to {plural(gone_end - gone_start, 'record')}; "
        f"{len(gone)} of {len(segments)} segments as a whole, "
        f"{format_bytes(sum(segment.log_bytes for segment in gone))}"
    )
    if not dry_run:
        if not yes:
            if not someone_is_there():
                raise click.UsageError("nobody is there to ask; say --yes if you mean it.")
            if not click.confirm(f"Drop {sentence}. For good?", err=True):
                complain("nothing was dropped")
                ctx.exit(EXIT_FAILURE)
        with Log(directory) as target:
            if before is not None:
                target.truncate_prefix(before)
            else:
                target.truncate_suffix(at)
            entry["log_start_offset"] = target.log_start_offset
            entry["log_end_offset"] = target.log_end_offset
    if as_json:
        print_json({"dry_run": dry_run, **entry})
    else:
        click.echo(f"{'would drop' if dry_run else 'dropped'} {sentence}")
