"""The load generator counts what it asks, believes no wrong answer, and the harness divides right.

Tiny sizes, no look at a time. Servers that lie are shown to be caught, one lie each; figures that
are written down show that ratios and bounds of the scorecard are what they say.

Left to others: the figures (``stratalog bench zk``).
"""

from __future__ import annotations

import io
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from stratalog.benchmark import programs, zookeeper, zookeeper_report
from stratalog.benchmark import zookeeper_runs as runs
from stratalog.benchmark.machine import describe
from stratalog.benchmark.model import SubjectFailedError
from stratalog.benchmark.runner import Failure
from stratalog.benchmark.zookeeper_servers import (
    APACHE,
    ECHO,
    LOAD_PROGRAM,
    OURS,
    Apache,
    Echo,
    Ours,
)
from stratalog.cli import main

SIZES = runs.Sizes(
    warmup_ms=0,
    measure_ms=50,
    count=600,
    keys=200,
    value_bytes=100,
    znodes=1_500,
    idle_ms=0,
    trigger_sets=0,
    watches=60,
    watch_connections=4,
    sessions=100,
)


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return str(programs.locate(LOAD_PROGRAM))
    except programs.ProgramMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def echo(program: str, tmp_path: Path) -> Iterator[Echo]:
    with Echo(tmp_path) as server:
        server.start()
        yield server


@pytest.fixture
def ours(program: str, tmp_path: Path) -> Iterator[Ours]:
    with Ours(tmp_path) as server:
        server.start()
        yield server


def load(program: str, command: str, port: int, **options: object) -> dict[str, Any]:
    """Run the program; its complaint is the error."""
    named = {"port": port, **{name.replace("_", "-"): value for name, value in options.items()}}
    words = [word for name, value in named.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [program, command, *words], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        assert done.stdout == "", "a failed run prints no figure"
        raise SubjectFailedError(done.stderr)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


# ---- counts --------------------------------------------------------------------------------------


class TestCounts:
    @pytest.mark.parametrize("wanted", runs.LOADS, ids=lambda one: one.key)
    def test_figures_of_a_load_fit_each_other(self, echo: Echo, wanted: runs.Load) -> None:
        seen = runs.run_load(echo, wanted, SIZES, "one", 1)
        assert seen[f"{wanted.key}.requests"] == SIZES.count
        assert seen[f"{wanted.key}.per_second"] > 0
        ordered = [seen[f"{wanted.key}.{name}"]
                   for name in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")]  # fmt: skip
        assert ordered[0] > 0
        assert ordered == sorted(ordered)

    def test_warmup_is_counted_apart(self, program: str, echo: Echo) -> None:
        for warmup in (0, 1, 37, 250):
            seen = load(program, "run", echo.port, op="mix", count=500, warmup_count=warmup)
            assert seen["requests"] == 500
            assert seen["warmup_and_drained"] == warmup
            assert seen["latency"]["requests"] == 500

    def test_the_mix_is_nine_to_one(self, program: str, echo: Echo) -> None:
        seen = load(program, "run", echo.port, op="mix", count=20_000)
        assert 1_800 < seen["sets"] < 2_200
        assert load(program, "run", echo.port, op="get", count=500)["sets"] == 0
        assert load(program, "run", echo.port, op="set", count=500)["sets"] == 500

    def test_by_time(self, program: str, echo: Echo) -> None:
        seen = load(program, "run", echo.port, op="get", measure_ms=30, warmup_ms=10)
        assert seen["requests"] > 0
        assert seen["seconds"] >= 0.03

    def test_every_create_is_a_znode(self, program: str, ours: Ours) -> None:
        client_module = pytest.importorskip("kazoo.client")
        load(program, "run", ours.port, op="create", name="all", count=2_500, connections=2)
        client = client_module.KazooClient(hosts=f"127.0.0.1:{ours.port}")
        client.start(timeout=20)
        try:
            parents = [name for name in client.get_children("/zkload") if name.startswith("all.")]
            children = [len(client.get_children(f"/zkload/{name}")) for name in parents]
            value, _ = client.get(f"/zkload/{parents[0]}")
        finally:
            client.stop()
            client.close()
        assert len(parents) + sum(children) == 2_500
        assert len(value) == 100

    def test_writing_and_syncing(self, program: str, tmp_path: Path) -> None:
        assert load(program, "sync", 0, dir=tmp_path, count=5)["requests"] == 5
        assert not list(tmp_path.iterdir())

    def test_watches_are_all_fired(self, program: str, ours: Ours) -> None:
        for _ in range(2):
            seen = load(program, "watches", ours.port, count=60, connections=4)
            assert (seen["watches"], seen["events"], seen["sets"]) == (60, 60, 15)


class TestSteering:
    def test_marks_add_up(self, program: str, echo: Echo) -> None:
        words = ["--op", "get", "--port", str(echo.port), "--steer", "1", "--window", "1"]
        with subprocess.Popen(
            [program, "run", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as probe:
            assert probe.stdin is not None
            assert probe.stdout is not None
            assert json.loads(probe.stdout.readline()) == {"measuring": True}
            for word in (b"1", b"2", b"0", b"q"):
                probe.stdin.write(word)
                probe.stdin.flush()
            seen = json.loads(probe.communicate(timeout=30)[0])
        assert probe.returncode == 0
        marks = [seen[f"mark_{mark}"]["requests"] for mark in range(4)]
        assert sum(marks) == seen["requests"] == seen["latency"]["requests"]
        assert marks[3] == 0

    @pytest.mark.parametrize("ended", [False, True])
    def test_sessions_are_held_until_told(
        self, program: str, tmp_path: Path, *, ended: bool
    ) -> None:
        with Echo(tmp_path) as server:
            server.start()
            with subprocess.Popen(
                [program, "sessions", "--port", str(server.port), "--count", "90"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as held:  # fmt: skip
                assert held.stdout is not None
                assert json.loads(held.stdout.readline())["sessions"] == 90
                assert held.poll() is None
                if ended:  # the server goes away: that is no idle session
                    server.__exit__(None, None, None)
                    held.wait(30)
                _, complaint = held.communicate(timeout=30)
        assert held.returncode == (1 if ended else 0)
        assert bool(complaint) is ended


# ---- servers that lie ----------------------------------------------------------------------------


def reply(xid: int, zxid: int, err: int, body: bytes) -> bytes:
    return struct.pack(">iqi", xid, zxid, err) + body


def sound(number: int, xid: int, op: int, path: bytes) -> bytes:
    """What a server answers."""
    value = bytes(ord("a") + i * 7 % 26 for i in range(100))
    stat = bytes(68)
    if op == 1:
        return reply(xid, number, 0, struct.pack(">i", len(path)) + path)
    if op == 4:
        return reply(xid, number, 0, struct.pack(">i", 100) + value + stat)
    return reply(xid, number, 0, stat)


Answer = Callable[[int, int, int, bytes], bytes]

LIES: dict[str, tuple[Answer, str]] = {
    "xid": (lambda n, x, o, p: sound(n, x + 1, o, p), "where 10 was due"),
    "zxid": (lambda n, x, o, p: sound(1, x, o, p), "zxid fell"),
    "error": (lambda n, x, o, p: reply(x, n, -101, b""), "1 of 40 requests failed: -101 x 1"),
    "error with a body": (lambda n, x, o, p: reply(x, n, -101, b"x"), "an error with a body"),
    "short": (lambda n, x, o, p: sound(n, x, o, p)[:-1], "a wrong answer"),
    "long": (lambda n, x, o, p: sound(n, x, o, p) + b"x", "a wrong answer"),
    "value": (
        lambda n, x, o, p: sound(n, x, o, p).replace(b"aho", b"ahp"), "a wrong answer",
    ),
    "no header": (lambda n, x, o, p: b"xxx", "a reply of 3 bytes"),
    "event": (lambda n, x, o, p: reply(-1, n, 0, bytes(12)), "nobody asked for"),
}  # fmt: skip


def serve_once(listener: socket.socket, lie: Answer | None, at: int) -> None:
    """Be a server for one connection that lies in its answer to request ``at``, or hangs up."""
    peer, _ = listener.accept()
    with peer, peer.makefile("rwb") as stream:
        for number in range(1 << 20):
            head = stream.read(4)
            if len(head) < 4:
                return
            body = stream.read(int.from_bytes(head, "big"))
            if number == 0:
                answer = struct.pack(">iiqi", 0, 30_000, 7, 16) + bytes(17)
            else:
                xid, op = struct.unpack_from(">ii", body)
                (length,) = struct.unpack_from(">i", body, 8)
                path = body[12 : 12 + length]
                if number != at:
                    answer = sound(number, xid, op, path)
                elif lie is None:
                    return
                else:
                    answer = lie(number, xid, op, path)
            try:
                stream.write(struct.pack(">i", len(answer)) + answer)
                stream.flush()
            except OSError:
                return


def lied_to(program: str, lie: Answer | None) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Two parents and four keys are made first: request 10 is a get.
        server = threading.Thread(target=serve_once, args=(listener, lie, 10), daemon=True)
        server.start()
        try:
            return load(
                program, "run", listener.getsockname()[1], op="get", keys=4, count=40,
                connections=1, window=1,
            )  # fmt: skip
        finally:
            server.join(10)


class TestLies:
    @pytest.mark.parametrize("name", LIES)
    def test_a_lie_is_caught(self, program: str, name: str) -> None:
        lie, complaint = LIES[name]
        with pytest.raises(SubjectFailedError, match=complaint):
            lied_to(program, lie)

    def test_the_truth_is_not(self, program: str) -> None:
        assert lied_to(program, sound)["requests"] == 40

    def test_hanging_up_is(self, program: str) -> None:
        with pytest.raises(SubjectFailedError, match="the server closed it"):
            lied_to(program, None)

    def test_errors_are_counted_by_code(self, program: str, ours: Ours) -> None:
        load(program, "run", ours.port, op="create", name="twice", count=30)
        with pytest.raises(SubjectFailedError, match="30 of 30 requests failed: -110 x 30"):
            load(program, "run", ours.port, op="create", name="twice", count=30)

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["fly"],
            ["run", "--op", "fly"],
            ["run", "--window", "0"],
            ["run", "--window"],
            ["run", "--wings", "2"],
            ["run", "--name", "a/b"],
            ["run", "--count", "5", "--warmup-ms", "5"],
            ["watches", "--count", "5", "--connections", "4"],
            ["sessions", "--count", "0"],
            ["sync"],
        ],
    )
    def test_a_senseless_command_is_refused(self, program: str, words: list[str]) -> None:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("stratalog-zkload: ")


# ---- the harness ---------------------------------------------------------------------------------


class TestHarness:
    def test_every_part_brings_its_figures(self, program: str, tmp_path: Path) -> None:
        told: list[str] = []
        report = zookeeper_report.run(
            zookeeper.Options(
                directory=tmp_path, rounds=1, apache=False, sizes=SIZES, progress=told.append,
                json_path=tmp_path / "report.json",
            ),
            Console(file=io.StringIO()),
        )  # fmt: skip
        assert report.failures == []
        assert report.unavailable == {APACHE: "not asked for"}
        figures = report.figures[OURS]
        for one in runs.LOADS:
            assert figures[f"{one.key}.requests"] == [SIZES.count]
            assert report.figures[ECHO][f"{one.key}.requests"] == [SIZES.count]
        assert figures["tree.znodes"] == [SIZES.znodes]
        assert figures["watches.events"] == [SIZES.watches]
        assert figures["sessions.count"] == [SIZES.sessions]
        for name in ("start.resident_bytes", "tree.resident_bytes", "sessions.resident_bytes"):
            assert figures[name][0] > 1 << 20
        assert len(told) == 1 + len(runs.PARTS)
        kept = json.loads((tmp_path / "report.json").read_text())
        assert kept["figures"][OURS] == figures
        assert {line["verdict"] for line in kept["scorecard"]} <= {
            "met", "NOT MET", "told", "not measured",
        }  # fmt: skip
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

    def test_a_failure_has_its_reason(
        self, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(server: Ours, sizes: runs.Sizes, seed: int) -> dict[str, float]:
            raise SubjectFailedError("the disk [is] full")

        monkeypatch.setitem(zookeeper.PARTS, "start", fail)
        out = io.StringIO()
        report = zookeeper_report.run(
            zookeeper.Options(tmp_path, rounds=1, apache=False, sizes=SIZES, parts=["start"]),
            Console(file=out, width=200),
        )
        assert report.failures == [Failure(OURS, "start", 0, "the disk [is] full")]
        assert "FAILED: stratalog, start, round 1: the disk [is] full" in out.getvalue()

    def test_who_is_first_changes(
        self, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []

        def note(server: Ours, sizes: runs.Sizes, seed: int) -> dict[str, float]:
            order.append(server.name)
            return {"start.seconds": 1.0}

        monkeypatch.setitem(zookeeper.PARTS, "start", note)
        monkeypatch.setattr(Apache, "available", staticmethod(lambda: None))
        monkeypatch.setattr(Apache, "version", staticmethod(lambda: "0"))
        monkeypatch.setattr(Apache, "settings", staticmethod(lambda: "invented"))
        zookeeper.measure(
            zookeeper.Options(directory=tmp_path, rounds=3, sizes=SIZES, parts=["start"])
        )
        assert order == [OURS, APACHE, APACHE, OURS, OURS, APACHE]

    def test_an_unknown_part_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no part 'fly'"):
            zookeeper.measure(zookeeper.Options(directory=tmp_path, parts=["fly"]))

    def test_the_command_line(self) -> None:
        runner = CliRunner()
        refused = runner.invoke(main, ["bench", "zk", "--parts", "fly", "--peers", "none"])
        assert refused.exit_code == 2
        assert "there is no part 'fly'" in refused.output
        misplaced = runner.invoke(main, ["bench", "--quick", "zk"])
        assert misplaced.exit_code == 2
        assert "stand behind it" in misplaced.output
        assert "bench zk --quick" in runner.invoke(main, ["bench", "zk", "--help"]).output

    @pytest.mark.interop
    def test_apache_is_asked_the_same(self, program: str, tmp_path: Path) -> None:
        missing = Apache.available()
        if missing is not None:
            pytest.skip(f"Apache ZooKeeper is not to be had: {missing}")
        report = zookeeper.measure(
            zookeeper.Options(
                directory=tmp_path, rounds=1, sizes=SIZES,
                parts=["pipelined", "watches", "sessions"],
            )
        )  # fmt: skip
        assert report.failures == []
        theirs, our = report.figures[APACHE], report.figures[OURS]
        assert set(theirs) == set(our)
        for name in ("get_pipelined.requests", "watches.events", "sessions.count"):
            assert theirs[name] == our[name]


# ---- arithmetic ----------------------------------------------------------------------------------


def written_down(tmp_path: Path, sizes: runs.Sizes = runs.FULL) -> zookeeper.ZooKeeperReport:
    """A report whose figures are known: ours three times Apache's rate, at a third of its times."""
    report = zookeeper.ZooKeeperReport(
        machine=describe(tmp_path), rounds=3, quick=False, seed=1, sizes=sizes,
        parts=list(runs.PARTS),
    )  # fmt: skip
    for scale in (1.0, 1.1, 0.5):  # the median is of the first
        for subject, factor in ((OURS, 3.0), (APACHE, 1.0)):
            figures = {f"{one.key}.per_second": 1_000 * factor * scale for one in runs.LOADS}
            figures |= {
                f"{one.key}.{name}": 30 / factor * scale
                for one in runs.LOADS
                for name in ("cpu_us", "p50_us", "p99_us", "p999_us")
            }
            figures |= {
                "start.seconds": 0.6 / factor * scale,
                "start.resident_bytes": 90.0 * (1 << 20) / factor * scale,
                "tree.resident_bytes": 3e9 / factor * scale,
                "tree.restart_seconds": 9 / factor * scale,
                "snapshot.p99_ratio": 2.5 * scale,
                "watches.set_seconds": 3 / factor * scale,
                "watches.fire_seconds": 3 / factor * scale,
                "sessions.resident_bytes": 330.0 * (1 << 20) / factor * scale,
            }
            report.add(subject, figures)
    return report


class TestScorecard:
    def test_lines_divide_medians(self, tmp_path: Path) -> None:
        lines = {line.what: line for line in zookeeper_report.score(written_down(tmp_path))}
        rates = [line for what, line in lines.items() if what.endswith(": rate")]
        assert len(rates) == 8
        assert all(line.seen == pytest.approx(3.0) and line.met for line in rates)
        assert lines["getData, 4 connections x 200: rate"].asked == 3.0
        halves = [line for line in lines.values() if line.asked == 0.5]
        assert len(halves) == 7
        assert all(line.seen == pytest.approx(1 / 3) and line.met for line in halves)
        assert lines["start to the first answer"].seen == pytest.approx(0.2)
        assert lines["resident after it"].seen == pytest.approx(30)
        assert lines["the same: restart, over Apache's"].seen == pytest.approx(1 / 3)
        assert lines["p99 of others during its snapshot, over before"].verdict == "NOT MET"
        assert lines["10,000 idle sessions: resident"].verdict == "NOT MET"
        assert lines["100,000 watches set, over Apache's"].verdict == "told"

    def test_fewer_sessions_have_no_bound(self, tmp_path: Path) -> None:
        lines = zookeeper_report.score(written_down(tmp_path, replace(runs.FULL, sessions=10)))
        assert [line.asked for line in lines if "sessions" in line.what] == [None]

    def test_without_apache_no_ratio_is_met(self, tmp_path: Path) -> None:
        report = written_down(tmp_path)
        del report.figures[APACHE]
        verdicts = {line.what: line.verdict for line in zookeeper_report.score(report)}
        assert verdicts["create, 64 synchronous: rate"] == "not measured"
        assert verdicts["start to the first answer"] == "met"

    def test_parts_left_out_have_no_line(self, tmp_path: Path) -> None:
        report = written_down(tmp_path)
        report.parts = ["start"]
        assert len(zookeeper_report.score(report)) == 2

    def test_tables_fit_a_narrow_page(self, tmp_path: Path) -> None:
        out = io.StringIO()
        report = written_down(tmp_path)
        report.unavailable["a peer"] = "no reason"
        zookeeper_report.print_report(report, Console(file=out, width=100))
        text = out.getvalue()
        assert "3.00 k" in text
        assert "3.00 x" in text
        assert "not measured: a peer: no reason" in text
        assert "…" not in text
