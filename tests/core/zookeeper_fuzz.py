"""Broken bytes for a machine: frames and snapshots that were whole once, held against Python.

    valid frames --mutations--> frames --+--> in pieces to a pair: C and Python do the same
                                         |
    a valid snapshot --mutations---------+--> loaded by C and by Python: the same tree or error

    python tests/core/zookeeper_fuzz.py --seconds 20 [--seed S] [--round N]

Mutations know where lengths, flags and versions stand.  Round N of seed S is the same each time; a
failure says which it was.  Under sanitizers (sanitized.py fuzz) it also sees bytes read or written
where none should be.
"""

from __future__ import annotations

import argparse
import random
import secrets
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.core.test_zookeeper_fast_files import loads, random_tree, snapshot_of
from tests.core.zookeeper_pair import INT_MAX, INT_MIN, Pair, framed, int32

from stratalog.core.zookeeper._fast import Walk
from stratalog.wire.zookeeper._records import encode_records

FRAMES: Final = 10
NUMBERS: Final = (
    0, 1, 2, 3, 4, 5, 8, 11, 12, 15, 31, 127, 128, 255, 256, 1000, 1001, 4096, 65535, -1, -2, -11,
    INT_MAX, INT_MIN, INT_MAX - 3, 0x00010000,
)  # fmt: skip


def mutate(draw: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change some bytes, and perhaps how many there are."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(out) + 1)
        how = draw.randrange(8)
        if how == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif how == 1 and at < len(out):
            out[at] = draw.choice((0, 1, 2, 0x1F, 0x20, 0x2E, 0x2F, 0x7F, 0x80, 0xC3, 0xFF))
        elif how == 2:
            # Lengths and numbers stand behind the header, and behind the path.
            path = int.from_bytes(out[8:12], "big") if len(out) >= 12 else 0
            place = draw.choice((0, 4, 8, 12 + path, 16 + path, at))
            if place + 4 <= len(out):
                near = int.from_bytes(out[place : place + 4], "big", signed=True)
                number = draw.choice((*NUMBERS, near + 1, near - 1, len(out) - place))
                out[place : place + 4] = (number & 0xFFFFFFFF).to_bytes(4, "big")
        elif how == 3:
            out[at:at] = draw.randbytes(draw.choice((1, 4, 17)))
        elif how == 4:
            del out[at : at + draw.choice((1, 4, 20))]
        elif how == 5:
            del out[at:]
        elif how == 6 and others:
            other = draw.choice(others)
            out[at:] = other[draw.randrange(len(other) + 1) :]
        elif how == 7:
            start = draw.randrange(len(out) + 1)
            out[at:at] = out[start : start + draw.randrange(30)]
    return bytes(out)


def fuzz_frames(name: str) -> tuple[Counter[str], Pair]:
    """One round of frames."""
    pair = Pair(name)
    draw = pair.draw
    counts: Counter[str] = Counter()
    for _ in range(2):
        pair.connect()
    pair.hear()
    pair.commit(len(pair.log))
    for _ in range(draw.choice((2, 6))):
        bodies = [pair.requests.some()[4:] for _ in range(draw.randrange(1, FRAMES))]
        broken = [
            mutate(draw, body, bodies) if draw.random() < 0.4 else body for body in bodies
        ]  # fmt: skip
        data = b"".join(map(framed, broken))
        if draw.random() < 0.1:
            data = mutate(draw, data, [])
        counts["frames"] += len(broken)
        if not pair.links:
            pair.connect()
        link = draw.choice(pair.links)
        cut = draw.randrange(len(data) + 1) if draw.random() < 0.5 else len(data)
        for piece in (data[:cut], data[cut:]):
            if link in pair.left:
                pair.feed(link, piece)
        pair.hear()
        pair.commit(draw.randrange(len(pair.log) + 1))
    pair.hear()
    pair.commit(len(pair.log))
    pair.check()
    return counts, pair


def fuzz_snapshot(draw: random.Random) -> Counter[str]:
    """One round of snapshots, whose seals are right, so that all of it is believed."""
    tree = random_tree(draw.getrandbits(16), znodes=draw.choice((3, 12, 30)))
    data = snapshot_of(tree)
    size = draw.randrange(1, 9)
    walk, pieces = Walk(tree), []
    while (piece := walk.piece(size)) is not None:
        pieces.append(piece)
    assert b"".join(pieces) in data
    assert encode_records(pieces) == b"".join(
        struct.pack(">qi", zlib.adler32(piece), len(piece)) + piece + b"B" for piece in pieces
    )
    end = data.rindex(b"\0\0\0\x01/", 0, len(data) - 13)
    for _ in range(4):
        broken = mutate(draw, data[:end], [data]) + int32(1) + b"/"
        seal = struct.pack(">q", zlib.adler32(broken)) + b"\0\0\0\x01/"
        try:
            fast, slow = loads(broken + seal, extended=tree.extended, most=4096)
        except (OverflowError, IndexError) as error:
            raise AssertionError(f"a snapshot ends in {error!r}: {broken!r}") from error
        assert fast == slow, broken
    return Counter(snapshots=4)


def main(arguments: list[str] | None = None) -> int:
    """Go on for some seconds, or do one round again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", default=None)
    parser.add_argument("--round", type=int, default=None)
    asked = parser.parse_args(arguments)
    seed = asked.seed or secrets.token_hex(4)
    counts: Counter[str] = Counter()
    end, number = time.monotonic() + asked.seconds, asked.round or 0
    while True:
        try:
            more, pair = fuzz_frames(f"{seed}/{number}")
            counts += more
            counts["in C"] += sum(sum(done.values()) for done in pair.in_c().values())
            if number % 4 == 0:
                counts += fuzz_snapshot(random.Random(f"{seed}/{number}"))
        except Exception:  # noqa: BLE001  (whatever it is, it was found here)
            traceback.print_exc()
            print(f"zookeeper_fuzz.py --seed {seed} --round {number}")
            return 1
        number += 1
        if asked.round is not None or time.monotonic() > end:
            break
    print(f"seed {seed}: {number - (asked.round or 0)} rounds, {dict(counts)}")
    if asked.round is None and counts["in C"] < number:
        print("C did next to nothing")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
