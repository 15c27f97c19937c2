"""The harness keeps its own promises: same bytes, honest order, honest arithmetic, nothing lost.

No test here looks at a time. A peer runs with a handful of records, only to see that every byte it
was given comes back, and that a peer which alters one is caught. Where a package or a tool is not
installed, the test is skipped with the peer's own reason.

Left to others: the figures (``stratalog bench``) and our own subjects.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console

from stratalog.benchmark import (
    floors,
    machine,
    model,
    payload,
    peers_foreign,
    peers_python,
    report,
    runner,
)
from stratalog.benchmark.model import (
    ChecksumMismatchError,
    Durability,
    Measurement,
    Operation,
    Subject,
    SubjectFailedError,
    Summary,
    Workload,
)

APPEND = Workload("append", 100, 300, 100, Durability.PROCESS)
GROUP = Workload("group", 100, 12, 4, Durability.GROUP)
RECORD = Workload("record", 100, 3, 1, Durability.RECORD)
SCAN = Workload("scan", 100, 300, 100, Durability.PROCESS, Operation.SCAN)
TOUCHED = Workload("touched", 100, 300, 100, Durability.PROCESS, Operation.SCAN_TOUCHED)
LOOKUP = Workload("lookup", 100, 300, 100, Durability.PROCESS, Operation.LOOKUP, 50)
SINGLE = Workload("single", 100, 20, 1, Durability.PROCESS)
LARGE = Workload("large", 65_536, 32, 16, Durability.PROCESS)
EVERY_KIND = (APPEND, GROUP, RECORD, SCAN, TOUCHED, LOOKUP, SINGLE, LARGE)


@dataclass
class Fake:
    """A subject whose rates are written down: round after round, the next number of seconds."""

    name: str
    language: str = "python"
    settings: str = "invented"
    sync_evidence: str = "none"
    seconds: Sequence[float] = (1.0,)
    missing: str | None = None
    damage: int = 0
    failing: bool = False
    calls: list[str] = field(default_factory=list)
    diary: list[str] = field(default_factory=list)

    def version(self) -> str:
        return "0"

    def available(self) -> str | None:
        return self.missing

    def supports(self, workload: Workload) -> bool:
        return workload.durability is not Durability.RECORD

    def run(self, workload: Workload, directory: Path) -> Measurement:
        assert not list(directory.iterdir()), "every measurement starts in an empty directory"
        (directory / "data").write_bytes(b"x")
        if self.failing:
            raise SubjectFailedError(f"{self.name}: the disk [is] full: {directory}")
        seconds = self.seconds[len(self.calls) % len(self.seconds)]
        self.calls.append(workload.name)
        self.diary.append(self.name)
        return Measurement(
            subject=self.name,
            workload=workload,
            seconds=seconds,
            records=workload.measured_records,
            bytes=workload.measured_bytes,
            cpu_seconds=seconds / 2,
            extra={"payload_crc32": payload.expected_crc32(workload) ^ self.damage},
        )


def options(directory: Path, rounds: int = 1) -> runner.Options:
    return runner.Options(directory=directory, rounds=rounds, quick=True)


@pytest.fixture
def no_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise floors.FloorsMissingError("stratalog-floors is not installed")

    monkeypatch.setattr(floors, "locate", missing)


def floor_run(record_bytes: int = 100, group_records: int = 4, scale: float = 1.0) -> dict:
    names = {
        "store_record": "operations_per_second",
        "map_prefaulted": "bytes_per_second",
        "fdatasync_record": "operations_per_second",
        "fdatasync_group": "operations_per_second",
        "map_read": "bytes_per_second",
        "map_lookup": "operations_per_second",
    }
    entries = {
        name: {
            "unit": unit,
            "rounds": 5,
            "min": 900.0 * scale,
            "median": 1_000.0 * scale,
            "max": 1_100.0 * scale,
        }
        for name, unit in names.items()
    }
    entries["fdatasync_record"] |= {"p50_us": 100.0 * scale, "p99_us": 300.0 * scale}
    return {
        "format": 1,
        "record_bytes": record_bytes,
        "group_records": group_records,
        "crc32c_implementation": "table",
        "floors": entries,
    }


class TestWorkload:
    def test_goes_through_json_and_back(self) -> None:
        for workload in EVERY_KIND:
            assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload

    def test_accepts_the_plain_words_of_the_classes(self) -> None:
        workload = Workload("w", 1, 1, 1, "record", "append")  # type: ignore[arg-type]
        assert workload.durability is Durability.RECORD
        assert workload.operation is Operation.APPEND

    @pytest.mark.parametrize(
        "changes",
        [
            {"records": 0},
            {"record_bytes": 0},
            {"batch_records": 7},
            {"durability": Durability.RECORD},
            {"lookups": 5},
            {"operation": Operation.LOOKUP},
            {"durability": "sometimes"},
        ],
    )
    def test_refuses_what_makes_no_sense(self, changes: dict) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 the enum's own message differs
            replace(APPEND, **changes)

    @pytest.mark.parametrize("quick", [False, True])
    def test_the_usual_ones_have_different_names_and_every_class(self, quick: bool) -> None:
        asked = runner.workloads(quick=quick, seed=5)
        assert len({workload.name for workload in asked}) == len(asked)
        assert {workload.durability for workload in asked} == set(Durability)
        assert {workload.operation for workload in asked} == set(Operation)
        assert {workload.seed for workload in asked} == {5}

    def test_rates_divide_by_wall_time_and_count_records(self) -> None:
        measurement = Measurement("s", APPEND, 2.0, 300, 30_000, 0.5)
        assert measurement.records_per_second == 150
        assert measurement.bytes_per_second == 15_000
        assert measurement.cpu_seconds_per_million_records == pytest.approx(0.5e6 / 300)

    def test_a_summary_is_median_and_extremes(self) -> None:
        assert Summary.of([3, 1, 2]) == Summary(2, 1, 3, 3)
        assert Summary.of([4, 1, 2, 3]) == Summary(2.5, 1, 4, 4)
        with pytest.raises(ValueError, match="at least one round"):
            Summary.of([])


class TestPayload:
    def test_is_the_same_for_a_seed_and_another_for_another(self) -> None:
        first, again = payload.Payload(APPEND), payload.Payload(APPEND)
        assert first.pool == again.pool
        assert first.pool != payload.Payload(replace(APPEND, seed=2)).pool
        assert payload.Payload(LOOKUP).lookups == payload.Payload(LOOKUP).lookups

    def test_cannot_be_compressed(self) -> None:
        pool = payload.Payload(Workload("w", 100, 20_000, 1, Durability.PROCESS)).pool
        assert len(zlib.compress(pool, 9)) > len(pool)

    @pytest.mark.parametrize("records", [1_000, 10_000, 11_000, 23_000])
    def test_stream_and_groups_are_the_same_bytes_as_the_checksum(self, records: int) -> None:
        # More records than the pool holds: the stream goes round it, and not always evenly.
        workload = Workload("w", 100, records, 1_000, Durability.PROCESS)
        source = payload.Payload(workload)
        stream = b"".join(source.stream())
        assert len(stream) == workload.measured_bytes
        assert b"".join(map(b"".join, source.groups())) == stream
        assert {len(group) for group in source.groups()} == {1_000}
        assert zlib.crc32(stream) == payload.expected_crc32(workload)

    def test_a_lookup_checksum_follows_the_order_of_the_lookups(self) -> None:
        source = payload.Payload(LOOKUP)
        stream = list(source.stream())
        wanted = b"".join(stream[offset] for offset in source.lookups)
        assert len(source.lookups) == 50
        assert zlib.crc32(wanted) == payload.expected_crc32(LOOKUP)

    def test_files_for_the_drivers_hold_the_same(self, tmp_path: Path) -> None:
        source = payload.Payload(LOOKUP)
        source.write_pool(tmp_path / "pool")
        source.write_lookups(tmp_path / "lookups")
        words = (tmp_path / "lookups").read_bytes()
        assert (tmp_path / "pool").read_bytes() == source.pool
        assert [
            int.from_bytes(words[i : i + 8], "little") for i in range(0, len(words), 8)
        ] == source.lookups


class TestInterleaving:
    def test_everybody_once_a_round_and_the_first_moves_on(self) -> None:
        subjects = [Fake("A"), Fake("B"), Fake("C")]
        order = [[one.name for one in turn] for turn in runner.interleaved(subjects, 4)]
        assert order == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]
        assert list(runner.interleaved([], 2)) == [[], []]

    @pytest.mark.usefixtures("no_floors")
    def test_a_run_goes_round_by_round(self, tmp_path: Path) -> None:
        diary: list[str] = []
        ours, peer = Fake("ours", diary=diary), Fake("peer", diary=diary)
        runner.measure(options(tmp_path, 3), subjects=[peer], ours=[ours], asked=[APPEND])
        assert diary == ["ours", "peer", "peer", "ours", "ours", "peer"]
        assert not list(tmp_path.iterdir()), "nothing stays behind"


@pytest.mark.usefixtures("no_floors")
class TestRun:
    def test_median_extremes_and_ratios(self, tmp_path: Path) -> None:
        ours = Fake("ours", seconds=(1.0, 3.0, 2.0))
        native = Fake("ours native", language="c", seconds=(0.5,))
        peer = Fake("peer", seconds=(4.0, 5.0, 6.0))
        foreign = Fake("foreign", language="go", seconds=(1.0,))
        result = runner.measure(
            options(tmp_path, 3), subjects=[peer, foreign], ours=[ours, native], asked=[APPEND]
        )
        rows = {row.subject: row for row in result.rows}
        assert rows["ours"].records_per_second == Summary(150, 100, 300, 3)
        assert next(iter(result.rows_of(APPEND))).subject == "ours native"
        # Python is compared to our Python, native to our native.
        assert result.ours_over(rows["peer"]) == pytest.approx(2.5)
        assert result.ours_over(rows["foreign"]) == pytest.approx(2.0)
        assert result.ours_over(rows["ours"]) == pytest.approx(1.0)
        assert result.share_of_floor(rows["peer"]) is None

    def test_a_subject_that_alters_a_byte_has_no_figure(self, tmp_path: Path) -> None:
        liar = Fake("liar", damage=1)
        result = runner.measure(options(tmp_path, 2), subjects=[liar], ours=[], asked=[APPEND])
        assert result.rows == []
        assert [failure.subject for failure in result.failures] == ["liar", "liar"]
        assert "payload CRC-32" in result.failures[0].reason

    @pytest.mark.parametrize("change", [{"records": 299}, {"bytes": 0}, {"extra": {}}])
    def test_missing_records_bytes_or_checksum_are_caught(
        self, tmp_path: Path, change: dict
    ) -> None:
        honest = Fake("honest").run(APPEND, tmp_path)
        runner.verify(honest)
        with pytest.raises(ChecksumMismatchError):
            runner.verify(replace(honest, **change))

    def test_the_missing_and_the_failing_are_named(self, tmp_path: Path) -> None:
        result = runner.measure(
            options(tmp_path),
            subjects=[Fake("absent", missing="not installed: [cc]"), Fake("broken", failing=True)],
            ours=[],
            asked=[APPEND, RECORD],
        )
        assert result.unavailable["absent"] == "not installed: [cc]"
        assert [failure.workload for failure in result.failures] == ["append"]
        text = shown(result)
        assert "not here: absent: not installed: [cc]" in text
        assert "the disk [is] full: DIR/" in text
        assert str(tmp_path) not in text

    def test_peers_are_chosen_by_the_beginning_of_their_names(self) -> None:
        everybody: list[Subject] = [*peers_python.subjects(), *peers_foreign.subjects()]
        assert runner.choose_peers(everybody, ["all"]) == everybody
        assert runner.choose_peers(everybody, ["none"]) == []
        chosen = {subject.name.split()[0] for subject in runner.choose_peers(everybody, ["LMDB"])}
        assert chosen == {"LMDB"}
        with pytest.raises(ValueError, match="no peer is called 'oracle'"):
            runner.choose_peers(everybody, ["oracle"])

    def test_every_subject_has_a_name_of_its_own(self) -> None:
        everybody: list[Subject] = [*peers_python.subjects(), *peers_foreign.subjects()]
        assert len({subject.name for subject in everybody}) == len(everybody)
        assert all(isinstance(subject, Subject) for subject in everybody)
        assert all(subject.sync_evidence and subject.settings for subject in everybody)

    def test_a_peer_that_cannot_skip_syncing_is_not_in_the_process_table(self) -> None:
        raft = next(one for one in peers_foreign.subjects() if one.name == "raft-wal")
        assert not raft.supports(APPEND)
        assert raft.supports(GROUP)
        assert raft.supports(RECORD)
        assert raft.supports(SCAN)


class TestFloors:
    def test_each_workload_has_its_floor(self) -> None:
        runs = [floors.FloorRun.from_json(floor_run())]
        medians = {
            workload.name: floor.median
            for workload in (APPEND, GROUP, RECORD, SCAN, TOUCHED, LOOKUP, SINGLE)
            if (floor := floors.floor_of(workload, runs)) is not None
        }
        assert medians == {
            "append": 10,  # bytes/s over the bytes of a record
            "group": 4_000,  # groups/s times the records of a group
            "record": 1_000,
            "scan": 10,
            "touched": 10,
            "lookup": 1_000,
            "single": 1_000,
        }
        assert floors.floor_of(LARGE, runs) is None
        assert floors.floor_of(replace(GROUP, batch_records=3), runs) is None

    def test_merging_takes_the_median_of_medians_and_the_extremes(self) -> None:
        runs = [floors.FloorRun.from_json(floor_run(scale=scale)) for scale in (1.0, 3.0, 2.0)]
        merged = floors.merge(runs).floors["fdatasync_record"]
        assert merged.summary == Summary(2_000, 900, 3_300, 15)
        assert (merged.p50_us, merged.p99_us) == (200, 600)

    def test_shapes_cover_every_workload_once(self) -> None:
        wanted = floors.shapes([APPEND, GROUP, RECORD, SCAN, LARGE])
        assert wanted == [floors.Shape(100, 4), floors.Shape(65_536, 64)]

    def test_the_program_prints_every_floor(self, tmp_path: Path) -> None:
        try:
            program = floors.locate()
        except floors.FloorsMissingError as missing:
            pytest.skip(str(missing))
        one = floors.run(program, tmp_path, floors.Shape(100, 4), mib=1, seconds=0.05)
        assert one.shape == floors.Shape(100, 4)
        for floor in one.floors.values():
            assert 0 < floor.summary.min <= floor.summary.median <= floor.summary.max
            assert floor.summary.rounds >= 5
        assert one.floors["fdatasync_record"].p99_us is not None
        asked = [w for w in EVERY_KIND if w.record_bytes == 100]
        assert all(floors.floor_of(workload, [one]) is not None for workload in asked)
        assert not list(tmp_path.iterdir()), "its files are unlinked"

    def test_the_program_says_what_is_wrong(self, tmp_path: Path) -> None:
        try:
            program = floors.locate()
        except floors.FloorsMissingError as missing:
            pytest.skip(str(missing))
        with pytest.raises(SubjectFailedError, match="cannot make a file in --dir"):
            floors.run(program, tmp_path / "absent", floors.Shape(100, 4), mib=1, seconds=0)


def shown(result: runner.Report) -> str:
    buffer = io.StringIO()
    report.print_report(result, Console(file=buffer, width=160))
    return buffer.getvalue()


@pytest.fixture
def filled(tmp_path: Path, no_floors: None) -> runner.Report:
    result = runner.measure(
        options(tmp_path, 3),
        subjects=[Fake("peer", seconds=(2.0,))],
        ours=[Fake("ours", seconds=(1.0,))],
        asked=[APPEND, GROUP, RECORD, SCAN, LOOKUP],
    )
    result.floors = [floors.FloorRun.from_json(floor_run(scale=100.0))]
    return result


class TestReport:
    def test_has_a_table_for_each_class_that_has_rows(self, filled: runner.Report) -> None:
        titles = [str(table.title) for table in report.tables(filled)]
        assert [title.split(":")[0] for title in titles] == [
            "Floors",
            "Appends, process-safe",
            "Appends, power-safe per group",
            "Reads, warm",
        ]

    def test_prints_rates_ratios_and_settings(self, filled: runner.Report) -> None:
        text = shown(filled)
        ours = next(line for line in text.splitlines() if line.startswith("│   ours"))
        peer = next(line for line in text.splitlines() if line.startswith("│   peer"))
        assert "300" in ours
        assert "1.00 x" in ours
        assert "30.0%" in ours
        assert "150" in peer
        assert "2.00 x" in peer
        assert "invented" in text
        assert "3 rounds, interleaved, seed 1" in text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.5, "0.50"),
            (9.999, "10.0"),
            (99.96, "100"),
            (999.4, "999"),
            (999.9, "1.00 k"),
            (12_345, "12.3 k"),
            (999_999, "1.00 M"),
            (4.56e6, "4.56 M"),
            (22e9, "22.0 G"),
        ],
    )
    def test_a_rate_has_three_digits_and_its_unit(self, value: float, text: str) -> None:
        assert report.rate(value) == text

    def test_json_holds_everything_and_no_name_of_the_machine(
        self, filled: runner.Report, tmp_path: Path
    ) -> None:
        path = tmp_path / "out.json"
        report.write_json(filled, path)
        value = json.loads(path.read_text())
        assert value["format"] == 1
        assert {row["subject"] for row in value["results"]} == {"ours", "peer"}
        first = value["results"][0]
        assert len(first["rounds"]) == first["records_per_second"]["rounds"] == 3
        assert first["share_of_floor"] is not None
        assert value["subjects"]["peer"]["sync_evidence"] == "none"
        assert [one["name"] for one in value["workloads"]] == [w.name for w in filled.workloads]
        assert str(tmp_path) not in path.read_text()

    def test_the_machine_is_described_without_paths(self, tmp_path: Path) -> None:
        described = machine.describe(tmp_path)
        assert described.cpus >= 1
        assert described.memory_bytes > 0
        assert described.file_system != "unknown"
        assert not any("/" in option for option in described.mount_options.split(","))

    def test_a_chart_is_a_png_or_a_reason(self, filled: runner.Report, tmp_path: Path) -> None:
        path = tmp_path / "chart.png"
        reason = report.write_chart(filled, path)
        if reason is not None:
            assert "matplotlib is not installed" in reason
            pytest.skip(reason)
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_nothing_measured_is_no_chart(self, tmp_path: Path, no_floors: None) -> None:
        empty = runner.measure(options(tmp_path), subjects=[], ours=[], asked=[APPEND])
        assert report.write_chart(empty, tmp_path / "chart.png") is not None
        assert not (tmp_path / "chart.png").exists()

    def test_run_prints_and_writes(
        self, tmp_path: Path, no_floors: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "our_subjects", lambda: ([Fake("ours")], None))
        monkeypatch.setattr(runner, "workloads", lambda **_: [APPEND])
        lines: list[str] = []
        chosen = replace(
            options(tmp_path / "data"),
            peers=("none",),
            json_path=tmp_path / "out.json",
            progress=lines.append,
        )
        buffer = io.StringIO()
        result = report.run(chosen, Console(file=buffer, width=160))
        assert [row.subject for row in result.rows] == ["ours"]
        assert "ours" in buffer.getvalue()
        assert json.loads((tmp_path / "out.json").read_text())["results"]
        assert lines[-1] == "round 1 of 1: append: ours"


PYTHON_PEERS = peers_python.subjects()
FOREIGN_PEERS = peers_foreign.subjects(warmup_seconds=0)


def _runs(subject: Subject, directory: Path) -> int:
    """Run everything a subject supports, each checked for every byte; return how many those are."""
    reason = subject.available()
    if reason is not None:
        pytest.skip(reason)
    assert subject.version()
    supported = [workload for workload in EVERY_KIND if subject.supports(workload)]
    for workload in supported:
        measurement = runner.measure_once(subject, workload, directory)
        assert measurement.subject == subject.name
        assert measurement.seconds > 0
        assert measurement.cpu_seconds >= 0
    return len(supported)


class TestPeers:
    @pytest.mark.parametrize("subject", PYTHON_PEERS, ids=lambda one: one.name)
    def test_a_python_peer_gives_back_every_byte(
        self, subject: peers_python.PythonPeer, tmp_path: Path
    ) -> None:
        assert _runs(subject, tmp_path) >= 1

    @pytest.mark.interop
    @pytest.mark.parametrize("subject", FOREIGN_PEERS, ids=lambda one: one.name)
    def test_a_foreign_peer_gives_back_every_byte(
        self, subject: peers_foreign.ForeignPeer, tmp_path: Path
    ) -> None:
        # A test run downloads nothing; the benchmark does, when somebody asks for these peers.
        if not peers_foreign.cache_directory().is_dir():
            pytest.skip("the drivers are not built; `stratalog bench` builds them")
        assert _runs(subject, tmp_path) >= 5

    def test_every_workload_has_a_python_peer(self) -> None:
        for workload in runner.workloads():
            assert any(subject.supports(workload) for subject in PYTHON_PEERS), workload.name

    def test_a_body_that_raises_is_a_failure_with_its_words(self, tmp_path: Path) -> None:
        broken = replace(PYTHON_PEERS[-1], name="file in no directory")
        with pytest.raises(SubjectFailedError, match="No such file or directory"):
            broken.run(APPEND, tmp_path / "absent")

    def test_a_child_that_prints_no_result_is_a_failure(self) -> None:
        with pytest.raises(SubjectFailedError, match="printed no result"):
            peers_foreign.measurement_from("a library said hello\n", "x", APPEND)

    def test_without_a_checkout_the_drivers_are_said_to_be_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers_foreign, "drivers_directory", lambda: None)
        peers_foreign._go_command.cache_clear()
        try:
            raft = next(one for one in FOREIGN_PEERS if one.name == "raft-wal")
            assert raft.available() == "drivers are in the source checkout"
        finally:
            peers_foreign._go_command.cache_clear()

    def test_without_the_tools_they_are_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        if peers_foreign.drivers_directory() is None:
            pytest.skip("drivers are in the source checkout")
        monkeypatch.setenv("STRATALOG_PEERS", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        peers_foreign._go_command.cache_clear()
        try:
            raft = next(one for one in FOREIGN_PEERS if one.name == "raft-wal")
            assert raft.available() == "not installed: go"
        finally:
            peers_foreign._go_command.cache_clear()


def test_the_model_knows_nothing_of_the_rest() -> None:
    text = Path(model.__file__).read_text(encoding="utf-8")
    assert "from stratalog" not in text
