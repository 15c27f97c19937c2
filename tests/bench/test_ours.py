"""Our own subjects give back every byte, the extras bring their figures, the scorecard can divide.

Tiny sizes, no look at a time: a figure only has to be there, and the data behind it right. The
scorecard is shown rates that are written down, so that each line's arithmetic can be checked.

Left to others: the harness itself (test_benchmark_harness.py), the figures (``stratalog bench``).
"""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from stratalog.benchmark import (
    extra,
    extra_bodies,
    floors,
    ours,
    programs,
    report,
    runner,
    scorecard,
)
from stratalog.benchmark.model import (
    OUR_PREFIX,
    Durability,
    Measurement,
    Operation,
    Subject,
    SubjectFailedError,
    Summary,
    Workload,
)
from stratalog.benchmark.payload import Payload

APPEND = Workload("append", 100, 300, 100, Durability.PROCESS)
GROUP = Workload("group", 100, 12, 4, Durability.GROUP)
RECORD = Workload("record", 100, 3, 1, Durability.RECORD)
SCAN = Workload("scan", 100, 300, 100, Durability.PROCESS, Operation.SCAN)
TOUCHED = Workload("touched", 100, 300, 100, Durability.PROCESS, Operation.SCAN_TOUCHED)
LOOKUP = Workload("lookup", 100, 300, 100, Durability.PROCESS, Operation.LOOKUP, 50)
SINGLE = Workload("single", 100, 20, 1, Durability.PROCESS)
LARGE = Workload("large", 65_536, 32, 16, Durability.PROCESS)
# Shorter than the checksum's folding, and of a length that is no multiple of anything.
ODD = Workload("odd", 7, 40, 10, Durability.PROCESS, Operation.SCAN_TOUCHED)
UNEVEN = Workload("uneven", 203, 40, 10, Durability.PROCESS, Operation.SCAN_TOUCHED)
EVERY_KIND = (APPEND, GROUP, RECORD, SCAN, TOUCHED, LOOKUP, SINGLE, LARGE, ODD, UNEVEN)

SIZES = extra.Sizes(
    text_records=200,
    durable_records=16,
    scan_records=2_000,
    seeks=50,
    recovery_bytes=1 << 20,
    open_segments=5,
    tree_logs=4,
    small_log_bytes=1 << 20,
    large_log_bytes=2 << 20,
    growth_records=1_000,
)


@pytest.fixture
def program() -> Path:
    try:
        return programs.locate(ours.PROGRAM)
    except programs.ProgramMissingError as missing:
        pytest.skip(str(missing))


def load(command: str, workload: Workload, directory: Path, **options: object) -> Measurement:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return ours.load(workload.name, command, workload, directory, named)


class TestSubjects:
    @pytest.mark.parametrize("subject", ours.subjects(), ids=lambda one: one.name)
    def test_gives_back_every_byte(self, subject: Subject, tmp_path: Path) -> None:
        if (reason := subject.available()) is not None:
            pytest.skip(reason)
        supported = [workload for workload in EVERY_KIND if subject.supports(workload)]
        assert supported
        for workload in supported:
            found = runner.measure_once(subject, workload, tmp_path)
            assert found.seconds > 0
            if not workload.is_read:
                # One sync covers a group, or a record; in the process class there is none.
                synced = workload.durability is not Durability.PROCESS
                groups = workload.records // workload.batch_records
                assert found.extra["syncs"] == (groups if synced else 0)
                assert found.extra["log_bytes"] > workload.measured_bytes

    def test_names_are_different_and_begin_alike(self) -> None:
        names = [subject.name for subject in ours.subjects()]
        assert len(set(names)) == len(names)
        assert all(name.startswith(OUR_PREFIX) for name in names)
        assert all(isinstance(subject, Subject) for subject in ours.subjects())

    def test_every_usual_workload_has_one_in_both_languages(self) -> None:
        for workload in runner.workloads():
            found = {one.language for one in ours.subjects() if one.supports(workload)}
            assert found == {"c", "python"}, workload.name


class TestProgram:
    def test_several_appenders_store_each_record_once(self, program: Path, tmp_path: Path) -> None:
        workload = replace(RECORD, records=64)
        found = load("append", workload, tmp_path, sync="always", threads=8)
        assert found.records == 64
        assert 0 < found.extra["syncs"] <= 64
        assert 0 < found.extra["p50_us"] <= found.extra["p99_us"] <= found.extra["p999_us"]

    def test_recovery_finds_everything(self, program: Path, tmp_path: Path) -> None:
        found = load("recover", APPEND, tmp_path, log_bytes=200_000)
        assert found.extra["log_bytes"] >= 200_000
        assert found.extra["recovered_batches"] > 0
        assert found.extra["discarded_bytes"] == 0
        # The program goes round the pool, which is that of the workload.
        stream = itertools.islice(itertools.cycle(Payload(APPEND).records), found.records)
        assert found.extra["payload_crc32"] == zlib.crc32(b"".join(stream))

    def test_open_counts_its_segments(self, program: Path, tmp_path: Path) -> None:
        found = load("open", replace(APPEND, records=100), tmp_path, count=7)
        assert found.extra["segment_count"] == 7
        assert found.records == 700

    def test_a_tree_counts_blocks(self, program: Path, tmp_path: Path) -> None:
        found = load("tree", replace(APPEND, records=100), tmp_path, count=3)
        on_disk = sum(path.stat().st_blocks * 512 for path in (tmp_path / "data").rglob("*"))
        root = (tmp_path / "data" / "tree").stat().st_blocks * 512
        assert found.extra["disk_bytes_closed"] == on_disk
        assert found.extra["disk_bytes_open"] >= found.extra["disk_bytes_closed"] - root

    def test_seeking_by_time_finds_each_record(self, program: Path, tmp_path: Path) -> None:
        assert load("seek-time", APPEND, tmp_path, lookups=40).records == 40

    @pytest.mark.parametrize(
        ("command", "options", "words"),
        [
            ("fly", {}, "the first argument is one of append, scan"),
            ("append", {"wings": 2}, "unknown option --wings"),
            ("append", {"threads": 0}, "--threads wants a number from 1"),
            ("append", {"records": "many"}, "--records wants a number"),
            ("append", {"records": 7}, "a whole number of batches"),
            ("append", {"sync": "perhaps"}, "--sync is one of"),
            ("append", {"segment-bytes": 5}, "open: SL_E_INVALID"),
            ("append", {"payload": "/nowhere"}, "/nowhere: No such file or directory"),
        ],
    )
    def test_says_what_is_wrong(
        self, program: Path, tmp_path: Path, command: str, options: dict, words: str
    ) -> None:
        with pytest.raises(SubjectFailedError) as failure:
            ours.load("x", command, APPEND, tmp_path, options)
        assert words in str(failure.value)

    def test_without_it_the_reason_is_given(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def missing(name: str) -> Path:
            raise programs.ProgramMissingError(f"{name} is not installed")

        monkeypatch.setattr(programs, "locate", missing)
        native = next(one for one in ours.subjects() if one.language == "c")
        assert native.available() == "stratalog-load is not installed"
        with pytest.raises(SubjectFailedError, match="stratalog-load is not installed"):
            native.run(APPEND, tmp_path)
        probe = next(one for one in extra.probes(SIZES) if one.native)
        assert str(probe.reason_to_skip(tmp_path)).endswith("stratalog-load is not installed")


class TestExtras:
    @pytest.mark.parametrize("probe", extra.probes(SIZES), ids=lambda one: one.name)
    def test_brings_figures(self, probe: extra.Probe, tmp_path: Path) -> None:
        if (reason := probe.reason_to_skip(tmp_path)) is not None:
            pytest.skip(reason)
        figures = probe.run(tmp_path)
        assert figures
        assert all(figure.value > 0 for figure in figures)

    def test_keys_are_different(self, program: Path, tmp_path: Path) -> None:
        names = [probe.name for probe in extra.probes(SIZES)]
        assert len(set(names)) == len(names)

    def test_quick_sizes_are_smaller(self) -> None:
        quick, whole = (extra.Sizes.of(quick=quick, seed=3) for quick in (True, False))
        assert quick.seed == whole.seed == 3
        assert whole.recovery_bytes == 1 << 30
        assert whole.large_log_bytes == 10 << 30
        for name in extra.Sizes.__slots__:
            assert name == "seed" or getattr(quick, name) < getattr(whole, name)

    def test_growth_needs_room(self, tmp_path: Path) -> None:
        growth = next(one for one in extra.probes(extra.Sizes()) if one.name == "growth")
        assert growth.disk_bytes == 25 << 30
        assert growth.once
        vast = replace(growth, native=False, disk_bytes=1 << 70)
        assert "GiB of free disk" in str(vast.reason_to_skip(tmp_path))

    def test_text_has_its_length_and_is_the_same_for_a_seed(self) -> None:
        lines = extra_bodies.text_lines(1, 1_024)
        assert {len(line) for line in lines} == {1_024}
        assert lines == extra_bodies.text_lines(1, 1_024)
        assert lines != extra_bodies.text_lines(2, 1_024)
        assert "text" in json.loads(lines[0])

    def test_rows_are_medians_and_shares_are_of_the_floor(self) -> None:
        ceiling = extra.Ceiling("fdatasync_record", 0.5)
        rate = [extra.Figure("r", "rate", value, "/s", "", ceiling) for value in (100, 400, 200)]
        time = extra.Figure("t", "time", 0.5, "s", "note", extra.Ceiling("crc32c_cold", 1_000))
        rows = extra.collect([rate[0], time, *rate[1:]])
        assert [row.key for row in rows] == ["r", "t"]
        assert rows[0].summary == Summary(200, 100, 400, 3)
        runs = floor_runs(fdatasync_record=1_000, crc32c_cold=8_000)
        assert rows[0].share_of_floor(runs) == pytest.approx(0.1)
        assert rows[1].share_of_floor(runs) == pytest.approx(0.25)
        assert rows[1].share_of_floor([]) is None
        assert rows[1].to_json()["note"] == "note"


def floor_runs(**medians: float) -> list[floors.FloorRun]:
    known = {
        name: floors.Floor(name, "x", Summary(value, value, value, 1))
        for name, value in medians.items()
    }
    return [floors.FloorRun(floors.Shape(100, 64), "table", known)]


def row(workload: str, subject: str, rate: float, *, language: str = "python") -> runner.Row:
    asked = next(one for one in runner.workloads() if one.name == workload)
    records = asked.measured_records
    found = Measurement(
        subject, asked, records / rate, records, records * 100, 1.0, {"log_bytes": records * 110}
    )
    return runner.Row(subject, language, subject.startswith("stratalog"), asked, (found,))


def figure(key: str, value: float, unit: str = "/s") -> extra.ExtraRow:
    return extra.ExtraRow(key, key, unit, Summary.of([value]), "", None, None)


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runner.Report:
    def missing() -> Path:
        raise floors.FloorsMissingError("not here")

    monkeypatch.setattr(floors, "locate", missing)
    options = runner.Options(directory=tmp_path, rounds=1)
    found = runner.measure(options, subjects=[], ours=[], asked=[APPEND])
    found.floors = floor_runs(
        map_prefaulted=4e9,
        map_cold=1e9,
        crc32c_hot=4e9,
        fdatasync_record=10_000.0,
        device_write=1e9,
    )
    found.rows = [
        row(scorecard.BATCHED, "stratalog (C) append", 1e7, language="c"),
        row(scorecard.BATCHED, "stratalog append_many", 6e6),
        row(scorecard.BATCHED, "Chronicle Queue", 4e6, language="java"),
        row(scorecard.BATCHED, "tidwall/wal", 8e6, language="go"),
        row(scorecard.BATCHED, "LMDB putmulti", 3e6),
        row(scorecard.BATCHED, "RocksDB WriteBatch", 1e6),
        row(scorecard.BATCHED, "file write (no framing, no checksum)", 12e6),
        row(scorecard.SINGLE, "stratalog append", 3e6),
        row(scorecard.SINGLE, "RocksDB put", 5e5),
        row(scorecard.SINGLE, "LMDB put, one transaction (nothing kept before its end)", 2e6),
        row(scorecard.SINGLE, "LMDB put", 1e4),
        row(scorecard.SYNCED, "stratalog (C) append_value", 9_000, language="c"),
        row(scorecard.SYNCED, "stratalog append", 8_000),
        row(scorecard.SYNCED, "LMDB put", 4_000),
        row(scorecard.SYNCED, "RocksDB put", 10_000),
        row(scorecard.SCAN, "stratalog (C) cursor", 6e7, language="c"),
        row(scorecard.SCAN, "Chronicle Queue", 3e7, language="java"),
        row(scorecard.SCAN, "stratalog read_values", 5e6),
        row(scorecard.SCAN, "stratalog read", 2e6),
        row(scorecard.SCAN, "LMDB cursor", 4e6),
        row(scorecard.LOOKUP, "stratalog (C) get", 1e6, language="c"),
        row(scorecard.LOOKUP, "stratalog get", 250_000),
    ]
    found.extras = [
        figure("durable_1", 10_000),
        figure("durable_64", 256_000),
        figure("durable_64_bytes", 256_000 * 170, "B/s"),
        figure("durable_64_tickets", 512_000),
        figure("durable_64_tickets_bytes", 512_000 * 170, "B/s"),
        figure("recovery", 0.15, "s"),
        figure("open", 0.06, "s"),
        figure("tree_open", 50 * extra.MIB, "B"),
        figure("growth_append_small", 1e-7, "s"),
        figure("growth_append_large", 1.1e-7, "s"),
        figure("growth_get_small", 1e-6, "s"),
        figure("growth_get_large", 2e-6, "s"),
    ]
    return found


class TestScorecard:
    def test_divides_as_it_says(self, filled: runner.Report) -> None:
        lines = {line.what: line for line in filled.scorecard}
        expected = {
            # 1e7 records/s of 110 stored bytes, over 1 / (1/4e9 + 1/4e9) and 1 / (1/1e9 + 1/4e9)
            "batched append in C over the floor, memcpy + CRC-32C": (None, "not measured"),
            "batched append in C over the floor, stores into a cold map + CRC-32C": (
                1.1 / 0.8,
                "met",
            ),
            "batched append in C over the floor, stores into a pre-faulted map + CRC-32C": (
                1.1 / 2,
                "met",
            ),
            "batched append in C over Chronicle Queue": (2.5, "NOT MET"),
            "the same over the best other peer": (1e7 / 12e6, "NOT MET"),
            "append_many in Python over the best Python peer": (2.0, "NOT MET"),
            "the same over a bare file: no framing, no checksum": (0.5, "told"),
            "append one at a time in Python over RocksDB's put": (6.0, "met"),
            "the same over LMDB's put inside one transaction": (1.5, "met"),
            "durable, one appender in C over a bare write + fdatasync": (0.9, "NOT MET"),
            "the same in Python over LMDB": (2.0, "met"),
            "the same in Python over RocksDB": (0.8, "NOT MET"),
            "the same in Python over SQLite": (None, "not measured"),
            # the lower of 0.8 x 64 x 10,000 and 1e9 / 170
            "durable, 64 appenders on one event loop in C, over 0.8 x 64 x one appender, or the "
            "device": (1.0, "met"),
            "durable, 64 blocking threads in C, over 0.8 x 64 x one appender, or the device": (
                0.5,
                "NOT MET",
            ),
            "scan in C over Chronicle's tailer": (2.0, "met"),
            "the same, every byte touched": (None, "not measured"),
            "values in Python over LMDB's cursor": (1.25, "met"),
            "full records in Python over LMDB's cursor": (0.5, "NOT MET"),
            "the same with copies": (None, "not measured"),
            "point lookup in C": (1.0, "met"),
            "point lookup in Python": (4.0, "NOT MET"),
            "recovery of 1 GiB dirty, warm": (150, "met"),
            "open of 1,000 clean segments": (60, "NOT MET"),
            "disk of 1,000 small logs, all open": (50, "met"),
            "append at 10 GiB over append at 100 MiB, in time": (1.1, "met"),
            "get at 10 GiB over get at 100 MiB, in time": (2.0, "NOT MET"),
            "open at 10 GiB over open at 100 MiB, in time": (None, "not measured"),
        }
        assert list(lines) == list(expected)
        for what, (seen, verdict) in expected.items():
            found = lines[what].seen
            assert found == (None if seen is None else pytest.approx(seen)), what
            assert lines[what].verdict == verdict, what

    def test_bounds_shrink_with_the_sizes_of_a_quick_run(self, filled: runner.Report) -> None:
        filled.quick = True
        sizes = extra.Sizes.of(quick=True, seed=1)
        asked = {line.what: line.asked for line in filled.scorecard}
        assert asked["recovery of 32 MiB dirty, warm"] == pytest.approx(300 / 32)
        name = f"open of {sizes.open_segments} clean segments"
        assert asked[name] == pytest.approx(50 * sizes.open_segments / 1_000)

    def test_the_device_is_the_limit_where_it_is_lower(self, filled: runner.Report) -> None:
        filled.floors = floor_runs(device_write=256_000 * 170.0)
        line = next(line for line in filled.scorecard if line.what.startswith("durable, 64 block"))
        assert line.seen == pytest.approx(1.0)
        assert line.verdict == "met"
        assert "device" in line.note

    def test_nothing_of_ours_has_no_scorecard(self, filled: runner.Report) -> None:
        filled.extras = []
        filled.rows = [one for one in filled.rows if not one.ours]
        assert filled.scorecard == []

    def test_is_printed_and_kept(self, filled: runner.Report, tmp_path: Path) -> None:
        titles = [str(table.title).split(":")[0] for table in report.tables(filled)]
        assert titles[-2:] == ["Ours alone", "Scorecard"]
        report.write_json(filled, tmp_path / "out.json")
        value = json.loads((tmp_path / "out.json").read_text())
        assert len(value["scorecard"]) == len(filled.scorecard)
        assert value["scorecard"][3]["verdict"] == "NOT MET"
        assert [one["key"] for one in value["extras"]][:2] == ["durable_1", "durable_64"]


class TestRun:
    def test_probes_run_in_each_round_and_failures_are_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing() -> Path:
            raise floors.FloorsMissingError("not here")

        def works(directory: Path) -> list[extra.Figure]:
            assert not list(directory.iterdir())
            return [extra.Figure("k", "what", 1.0, "s")]

        def fails(directory: Path) -> list[extra.Figure]:
            raise SubjectFailedError(f"no room in {directory}")

        monkeypatch.setattr(floors, "locate", missing)
        probes = [
            extra.Probe("works", works),
            extra.Probe("once", lambda _: [extra.Figure("o", "once", 1.0, "s")], once=True),
            extra.Probe("fails", fails, once=True),
            extra.Probe("vast", works, disk_bytes=1 << 70),
        ]
        options = runner.Options(directory=tmp_path, rounds=3)
        found = runner.measure(options, subjects=[], ours=[], asked=[], probes=probes)
        assert {one.key: one.summary.rounds for one in found.extras} == {"k": 3, "o": 1}
        assert [one.workload for one in found.failures] == ["fails"]
        assert str(tmp_path) not in found.failures[0].reason
        assert found.notes[0].startswith("skipped: vast: needs")
        assert not list(tmp_path.iterdir())
