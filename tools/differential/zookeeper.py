"""One random stream of operations into Apache ZooKeeper and into ours: everything must be equal.

    python -m tools.differential.zookeeper --seed 1 --operations 100000 [--hard-quotas]

    stream --step--> both servers at once --frames--> shown without clocks and ids --> equal?
       ^                                                            |
       +---------------- what Apache's answered --------------------+

At the end every connection is flushed, the super user walks both trees, both servers stop, and
Apache's classes read both data directories: same zxid, sessions, znodes, ACLs and stored numbers,
and no warning about ours.  Our own server holds its tree against its rules.

The first difference ends the run; it is printed with the seed and the steps before it.

``DIFFERENCES`` says where we differ on purpose; the stream does not go there.

Exit code 0: equal, 1: not, 2: a server could not be had.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tools.differential.link import WAIT_S_MAX, Link, Silence, framed, request
from tools.differential.profile import APACHE_CONFIG, APACHE_PROPERTIES, SUPER
from tools.differential.replies import CLOSED, Eyes, Shown, is_reply, sorted_acl
from tools.differential.stream import (
    SLOTS,
    Ask,
    Drop,
    Open,
    Request,
    Restart,
    Resume,
    Step,
    Stream,
)
from tools.peers import zookeeper as peers
from tools.peers.maven import PeerUnavailable

from stratalog.core.zookeeper.sessions import password_of
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.messages import (
    Children2Response,
    ConnectRequest,
    CreateRequest,
    PathRequest,
    PathWatchRequest,
    ReplyHeader,
)
from stratalog.wire.zookeeper.records import ACL, Id, OpCode, StatPersisted

if TYPE_CHECKING:
    from types import TracebackType

DIFFERENCES: Final[dict[str, str]] = {
    "deleteContainer from a client": (
        "Apache's deletes without asking for a permission; we refuse the opcode, which only a "
        "server has a use for"
    ),
    "createSession as a request": (
        "Apache's answers it like a first frame and lets a client set timeouts beyond the limits; "
        "to us it is an unknown opcode"
    ),
    "createTTL with flags that mean no TTL, and a negative ttl": (
        "Apache's logs a transaction that ends its process when it is applied, at every restart "
        "too; we answer BAD_ARGUMENTS"
    ),
    "a wrong password for a session in use": (
        "Apache's closes the connection that has it before looking at the password, so anybody may "
        "cut anybody off; we look first"
    ),
    "quota figures that are no numbers, in a stats znode": (
        "they end Apache's process with the next change below the quota; we count them as none.  "
        "So do limits directly below /zookeeper/quota, or deleted elsewhere below /zookeeper"
    ),
    "addWatch of a null path": (
        "Apache's keeps it, and nothing can ever fire it; we answer MARSHALLING_ERROR"
    ),
    "a null or negative count of items": (
        "we read null as no items and refuse the negative; Apache's reads both as none, but fails "
        "with MARSHALLING_ERROR where its code does not expect the null"
    ),
    "a null scheme or id in an ACL of several entries": (
        "Apache's stumbles over it while it looks for duplicates and answers MARSHALLING_ERROR; we "
        "judge each entry on its own"
    ),
    "what follows the error of a multiRead": (
        "Apache's sends the answers that it had, which no client reads behind an error; we send "
        "nothing"
    ),
    "createContainer with flags that say ephemeral": (
        "Apache's takes it for an ephemeral until it is applied, and for a container from then on; "
        "to us it is a container at once"
    ),
    "an auth between requests on their way": (
        "Apache's judges a read by who the client was when it arrived; we judge a read that waits "
        "behind a write by who it is when its turn comes"
    ),
}
"""Where we differ on purpose, and why."""

LAST_STEPS: Final = 12
_unpack_acls: Final = unpacker(ACL)
_unpack_stat: Final = unpacker(StatPersisted)


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        seed: What it was made from.
        operations: How many requests were sent, and sessions asked for.
        difference: What differed, in words and with both sides; "" when nothing did.
        answers: How often each opcode was answered with each error.
        multis: How often a multi was carried out (0), or failed in a part, with each error.
        events: How many events of each type came.
        sessions: How many began.
        restarts: How often both servers were started again on their files.
        expiries: How many sessions expired.
    """

    seed: int
    operations: int = 0
    difference: str = ""
    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    multis: Counter[int] = field(default_factory=Counter)
    events: Counter[int] = field(default_factory=Counter)
    sessions: int = 0
    restarts: int = 0
    expiries: int = 0

    def table(self) -> str:
        """Return what was done, as lines."""
        done = f"{self.operations} operations, {self.sessions} sessions, {self.restarts} restarts, "
        done += f"{self.expiries} expiries"
        events = f"{self.events.total()} events {dict(sorted(self.events.items()))}"
        lines = [f"seed {self.seed}: {done}, {events}"]
        kinds = sorted({kind for kind, _ in self.answers})
        for kind in kinds:
            errors = {err: n for (one, err), n in sorted(self.answers.items()) if one == kind}
            lines.append(f"  opcode {kind:>4}: {errors}")
        lines.append(f"  multis: {dict(sorted(self.multis.items()))}")
        lines.append(self.difference or "equal")
        return "\n".join(lines)


# ---- the two servers ----


class Apache:
    """Apache's server on a directory."""

    def __init__(self, directory: Path, *, hard_quotas: bool) -> None:
        properties = dict(APACHE_PROPERTIES)
        if hard_quotas:
            properties["zookeeper.enforceQuota"] = "true"
        self.data_dir = directory
        self._peer = peers.ZooKeeperPeer(directory, APACHE_CONFIG, properties=properties)

    def start(self) -> str:
        """Start it; return where it listens."""
        self._peer.start()
        return self._peer.address

    def stop(self) -> str:
        """End it; return what is wrong with it."""
        self._peer.stop()
        return ""

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._peer.kill()


class Ours:
    """Our server on a directory."""

    def __init__(self, directory: Path, *, hard_quotas: bool, plant: str) -> None:
        self.data_dir = directory
        self._command = [sys.executable, "-m", "tools.differential.ours", str(directory)]
        self._command += ["--hard-quotas"] if hard_quotas else []
        self._command += ["--plant", plant] if plant else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it; return where it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith("listening on "):
            raise RuntimeError(f"our server did not start: {line!r}")
        return line.removeprefix("listening on ").strip()

    def stop(self) -> str:
        """End it; return what it says is wrong with it."""
        if self._process is None:
            return "our server was never started"
        self._process.terminate()
        said, _ = self._process.communicate(timeout=60)
        code, self._process = self._process.returncode, None
        return "" if code == 0 else f"our server ended with {code}: {said}"

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=60)
            self._process = None


# ---- one side of the comparison ----


@dataclass
class _Place:
    link: Link | None = None
    session_id: int = 0
    seen_zxid: int = 0


class Side:
    """One server, its connections, and how its frames are seen."""

    def __init__(self, server: Apache | Ours) -> None:
        self.server = server
        self.eyes = Eyes()
        self._address = server.start()
        self._places = [_Place() for _ in range(SLOTS + 2)]
        self._old: list[Link] = []

    def send(self, step: Step) -> None:
        """Do a step's part of the client; what comes back is taken by ``take``."""
        place = self._places[step.slot]
        if isinstance(step, Restart):
            self._restart(kill=step.kill)
        elif isinstance(step, Drop):
            self._hang_up(place)
        elif isinstance(step, Open):
            self._hang_up(place)
            place.session_id = 0
            first = ConnectRequest(
                0, step.last_zxid, step.timeout_ms, 0, step.password, step.read_only
            ).encode()
            if not step.with_read_only:
                first = first[:-1]
            self._begin(place, first + step.trailing)
        elif isinstance(step, Resume):
            self._send_resume(place, step)
        elif place.link is not None:
            frames = [request(one.xid, one.kind, one.body) for one in step.requests]
            place.link.send(b"".join(frames) + step.raw)

    def _restart(self, *, kill: bool) -> None:
        for place in self._places:
            self._hang_up(place)
        if kill:
            self.server.kill()
        elif wrong := self.server.stop():
            raise RuntimeError(wrong)
        self._address = self.server.start()

    def _send_resume(self, place: _Place, step: Resume) -> None:
        session_id, password = place.session_id, password_of(place.session_id)
        zxid = place.seen_zxid
        if step.how == "wrong":
            password = bytes(15) + b"\1"
        elif step.how == "unknown":
            session_id, password = 1 << 40, password_of(1 << 40)
        elif step.how == "ahead":
            zxid += 1 << 30
        if place.link is not None:
            self._old.append(place.link)
            place.link = None
        first = ConnectRequest(0, zxid, 3_600_000, session_id, password).encode()
        self._begin(place, first if step.with_read_only else first[:-1])

    def _begin(self, place: _Place, first: bytes) -> None:
        place.link = Link(self._address)
        place.link.send(framed(first))

    def _hang_up(self, place: _Place) -> None:
        if place.link is not None:
            place.link.close()
            place.link = None

    def take(self, step: Step) -> list[Shown]:
        """Return what came back on the step's connection, as it is shown."""
        place = self._places[step.slot]
        if isinstance(step, Drop | Restart) or place.link is None:
            return []
        if isinstance(step, Open | Resume):
            return self._take_first(place)
        frames: list[bytes | None] = []
        waiting = step.replies
        while waiting or step.closes:
            frame = place.link.receive()
            frames.append(frame)
            if frame is None:
                self._hang_up(place)
                break
            waiting -= is_reply(frame)
        asked = [(one.kind, one.xid) for one in step.requests]
        shown = self.eyes.show(frames, asked)
        zxids = [one[3] for one in shown if one[0] == "reply"]
        place.seen_zxid = max([place.seen_zxid, *zxids])
        return shown

    def _take_first(self, place: _Place) -> list[Shown]:
        if place.link is None:
            return []
        shown, response = self.eyes.connected(place.link.receive())
        all_shown = [shown]
        if response is None:
            if shown != CLOSED and place.link.receive() is None:
                all_shown.append(CLOSED)
            self._hang_up(place)
        else:
            place.session_id = response.session_id
        for old in self._old:  # whoever comes back is thrown off the connection of before
            frame = old.receive()
            while frame is not None:
                all_shown.append(("on the old connection", frame.hex()))
                frame = old.receive()
            old.close()
            all_shown.append(("the old connection", *CLOSED))
        self._old.clear()
        return all_shown

    def wait_until_gone(self, slot: int, path: str) -> None:
        """Ask on a connection until a znode is gone; nothing of it is shown."""
        link = self._places[slot].link
        end = time.monotonic() + WAIT_S_MAX
        asked = request(1, OpCode.EXISTS, PathWatchRequest(path, watch=False))
        err = 0
        while link is not None and err == 0:
            if time.monotonic() > end:
                raise Silence(f"{path} is still there after {WAIT_S_MAX} s")
            time.sleep(0.1)
            link.send(asked)
            frame = link.receive()
            err = -1 if frame is None else ReplyHeader.decode_from(frame)[0].err

    def close(self) -> str:
        """Hang up everywhere and stop the server; return what is wrong with it."""
        for place in self._places:
            self._hang_up(place)
        for old in self._old:
            old.close()
        return self.server.stop()


# ---- the run ----


class Run:
    """One seed against two servers."""

    def __init__(
        self, seed: int, directory: Path, *, hard_quotas: bool = False, plant: str = ""
    ) -> None:
        self.outcome = Outcome(seed)
        self._stream = Stream(seed, hard_quotas=hard_quotas)
        self._last: deque[Step] = deque(maxlen=LAST_STEPS)
        self._dirs = directory / "apache", directory / "ours"
        apache = Apache(self._dirs[0], hard_quotas=hard_quotas)
        ours = Ours(self._dirs[1], hard_quotas=hard_quotas, plant=plant)
        self._sides: tuple[Side, ...] = ()
        try:
            for server in (apache, ours):
                self._sides += (Side(server),)
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> list[str]:
        sides, self._sides = self._sides, ()
        return [wrong for side in sides if (wrong := side.close())]

    def go(
        self, operations: int, restart_every: int, *, expiries: bool, directories: bool
    ) -> Outcome:
        """Do steps until so many operations are done, or one side answers otherwise."""
        outcome = self.outcome
        restart_at = restart_every // 2
        while outcome.operations < operations and not outcome.difference:
            if 0 < restart_at <= outcome.operations:
                if expiries:
                    self._expire()
                step: Step = Restart(kill=outcome.restarts % 2 == 0)
                restart_at += restart_every
                outcome.restarts += 1
            else:
                step = self._stream.step()
            shown = self._both(step)
            if not outcome.difference:
                self._count(step, shown)
                self._stream.learn(step, shown)
        if not outcome.difference:
            self._end(directories=directories)
        return outcome

    def _expire(self) -> None:
        """Let a session expire that has an ephemeral, while another one waits for it."""
        slot, observer = SLOTS, SLOTS + 1
        path, acl = "/expires", (ACL(31, Id("world", "anyone")),)
        self._both(Open(observer, 3_600_000))
        self._both(Open(slot, 1))
        create = CreateRequest(path, b"", acl, 1).encode()
        shown = self._both(Ask(slot, (Request(int(OpCode.CREATE), 1, create),), 1))
        if not self.outcome.difference:
            if shown[-1][4] == 0:
                self._both(Drop(slot))
                for side in self._sides:
                    side.wait_until_gone(observer, path)
                self.outcome.expiries += 1
            else:
                self._both(_close(slot))
            self._both(_close(observer))

    def _both(self, step: Step) -> list[Shown]:
        """Do a step on both sides; note the difference if there is one."""
        self._last.append(step)
        for side in self._sides:
            side.send(step)
        seen: list[list[Shown]] = []
        for side in self._sides:
            try:
                seen.append(side.take(step))
            except Silence as silence:
                seen.append([("silence", str(silence))])
        if seen[0] != seen[1] or seen[0][:1] == [("silence",)]:
            self._differ(*seen)
        return seen[0]

    def _differ(self, apache: list[Shown], ours: list[Shown]) -> None:
        lines = [f"difference at operation {self.outcome.operations}; the last steps:"]
        lines += [f"  {step}" for step in self._last]
        for number in range(max(len(apache), len(ours))):
            left = apache[number] if number < len(apache) else None
            right = ours[number] if number < len(ours) else None
            mark = "  " if left == right else "! "
            lines += [f"{mark}Apache's: {left}", f"{mark}ours:     {right}"]
        self.outcome.difference = "\n".join(lines)

    def _count(self, step: Step, shown: list[Shown]) -> None:
        outcome = self.outcome
        outcome.operations += len(step.requests) if isinstance(step, Ask) else 1
        for one in shown:
            if one[0] == "reply":
                outcome.answers[one[1], one[4]] += 1
                if one[1] == OpCode.MULTI and isinstance(one[5], list):
                    errors = [getattr(part, "err", 0) for _, part in one[5]]
                    outcome.multis[next((err for err in errors if err), 0)] += 1
            elif one[0] == "event":
                outcome.events[one[3]] += 1
            elif one[0] == "connected":
                outcome.sessions += isinstance(step, Open)

    # ---- the end ----

    def _end(self, *, directories: bool) -> None:
        for number in range(SLOTS):
            ping = Request(int(OpCode.PING), -2, b"")
            self._both(Ask(number, (ping,), 1))
        self._walk()
        for side in self._sides:
            if late := side.eyes.backwards():
                self._note(f"times go backwards at zxids {late[:5]}")
        eyes = [side.eyes for side in self._sides]
        for wrong in self._stop():
            self._note(wrong)
        if directories and not self.outcome.difference:
            self._compare_directories(eyes)

    def _note(self, difference: str) -> None:
        self.outcome.difference = self.outcome.difference or difference

    def _walk(self) -> None:
        """Let the super user read every znode in every way."""
        slot = SLOTS
        self._both(Open(slot, 60_000))
        auth = b"".join((bytes(4), b"\0\0\0\6digest", len(SUPER).to_bytes(4, "big"), SUPER))
        self._both(Ask(slot, (Request(int(OpCode.AUTH), -4, auth),), 1))
        waiting, xid = ["/"], 0
        while waiting and not self.outcome.difference:
            path = waiting.pop()
            watch = PathWatchRequest(path, watch=False).encode()
            plain = PathRequest(path).encode()
            kinds = ((OpCode.GET_CHILDREN2, watch), (OpCode.GET_DATA, watch),
                     (OpCode.GET_ACL, plain), (OpCode.GET_ALL_CHILDREN_NUMBER, plain))  # fmt: skip
            asked = tuple(
                Request(int(kind), xid + at, body) for at, (kind, body) in enumerate(kinds, 1)
            )
            xid += len(kinds)
            shown = self._both(Ask(slot, asked, len(asked)))
            for one in shown:
                if isinstance(one[-1], Children2Response):
                    top = path.rstrip("/")
                    waiting += [f"{top}/{name}" for name in one[-1].children]

    def _compare_directories(self, eyes: list[Eyes]) -> None:
        apache, ours = (peers.read_directory(directory) for directory in self._dirs)
        if warned := _warnings(ours) - _warnings(apache):
            self._note(f"Apache's classes warn of our directory only: {sorted(warned)[:5]}")
        shown = [_tree(tree, eye) for tree, eye in zip((apache, ours), eyes, strict=True)]
        for path in sorted(shown[0].keys() | shown[1].keys()):
            left, right = shown[0].get(path), shown[1].get(path)
            if left != right:
                self._note(f"on the disk {path!r} is {left} with Apache's, {right} with ours")


def _close(slot: int) -> Ask:
    return Ask(slot, (Request(int(OpCode.CLOSE_SESSION), 2, b""),), 1, closes=True)


def _warnings(tree: peers.Tree) -> set[str]:
    """Return what Apache's classes warned of; quotas of the stream lack parts on both sides."""
    return set(re.findall(r"(?:ERROR|WARN) .*?(?= \(org)", "\n".join(tree.warnings)))


def _tree(tree: peers.Tree, eyes: Eyes) -> dict[str, Any]:
    """Show what a data directory holds."""
    shown: dict[str, Any] = {"zxid": tree.zxid}
    for session_id, timeout_ms in tree.sessions.items():
        shown[f"session {eyes.session(session_id)}"] = timeout_ms
    for path, (data, acl, stat) in tree.nodes.items():
        entries, at = [], 0
        while at < len(acl):
            fields, at = _unpack_acls(acl, at)
            entries.append(ACL(*fields))
        numbers = StatPersisted(*_unpack_stat(stat, 0)[0])
        owner = numbers.ephemeral_owner
        shown[path or "/"] = (
            data, sorted_acl(tuple(entries)), numbers.czxid, numbers.mzxid, numbers.pzxid,
            eyes.time(numbers.czxid, numbers.ctime), eyes.time(numbers.mzxid, numbers.mtime),
            numbers.version, numbers.cversion, numbers.aversion, eyes.sessions.get(owner, owner),
        )  # fmt: skip
    return shown


def run(
    seed: int,
    operations: int,
    *,
    hard_quotas: bool = False,
    plant: str = "",
    restart_every: int = 0,
    expiries: bool = False,
    directories: bool = True,
) -> Outcome:
    """Run one seed in directories of its own.

    Args:
        seed: Of the stream.
        operations: How many.
        hard_quotas: Let both servers enforce quotas.
        plant: A bug of ours to find, by its name in ours.py.
        restart_every: So many operations lie between restarts; 0: there are none.
        expiries: Let a session expire before each restart, which takes some seconds.
        directories: Let Apache's classes read both directories at the end.

    Raises:
        PeerUnavailable: Apache's server cannot be had; the message says why.
    """
    directory = Path(tempfile.mkdtemp(prefix="stratalog-differential-"))
    try:
        with Run(seed, directory, hard_quotas=hard_quotas, plant=plant) as one:
            return one.go(operations, restart_every, expiries=expiries, directories=directories)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Run one seed and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--hard-quotas", action="store_true", help="zookeeper.enforceQuota")
    parser.add_argument("--restart-every", type=int, default=10_000, help="operations; 0: never")
    parser.add_argument("--plant", default="", help="a bug of ours to find: see ours.py")
    arguments = parser.parse_args()
    try:
        outcome = run(
            arguments.seed,
            arguments.operations,
            hard_quotas=arguments.hard_quotas,
            plant=arguments.plant,
            restart_every=arguments.restart_every,
            expiries=True,
        )
    except PeerUnavailable as reason:
        print(f"Apache ZooKeeper is not to be had: {reason}")
        return 2
    print(outcome.table())
    return 1 if outcome.difference else 0


if __name__ == "__main__":
    sys.exit(main())
