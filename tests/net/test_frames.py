"""Frames cut out of a stream: at every byte, out of bounds, unframed, and to slow readers."""

from __future__ import annotations

import random

import pytest

from stratalog.net.frames import FrameConnection

FRAMES = [b"", b"a", b"bc" * 40, b"", b"\0" * 7, b"last"]
STREAM = b"".join(len(one).to_bytes(4, "big") + one for one in FRAMES)


class FakeTransport:
    """What asyncio would be: remembers, and never reads or writes a socket."""

    def __init__(self) -> None:
        self.sent = b""
        self.waiting = 0
        self.closing = ""
        self.reading = True
        self.turns: list[str] = []

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return bool(self.closing)

    def close(self) -> None:
        self.closing = self.closing or "close"

    def abort(self) -> None:
        self.closing = "abort"

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.turns.append("pause")

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
        self.turns.append("resume")

    def get_extra_info(self, name: str) -> object:
        return ("10.0.0.1", 4711) if name == "peername" else None


class Connection(FrameConnection):
    """Keeps what it is told."""

    def __init__(self, *, frame_bytes_max: int = 100, unsent_bytes_max: int = 1000) -> None:
        super().__init__(frame_bytes_max=frame_bytes_max, unsent_bytes_max=unsent_bytes_max)
        self.frame_bytes_max = frame_bytes_max
        self.appetite = 1 << 30
        self.groups: list[list[bytes]] = []
        self.told: list[str] = []
        self.raw = b""
        self.heads: list[bytes] = []

    @property
    def frames(self) -> list[bytes]:
        return [one for group in self.groups for one in group]

    def opened(self) -> None:
        self.told.append("opened")

    def frames_received(self, data: bytes, at: int) -> int:
        frames: list[bytes] = []
        while len(data) - at >= 4 and len(frames) < self.appetite:
            length = int.from_bytes(data[at : at + 4], "big", signed=True)
            if not 0 <= length <= min(self.frame_bytes_max, len(data) - at - 4):
                break
            frames.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        if frames:
            self.groups.append(frames)
        self.taking = len(frames) < self.appetite
        return at

    def unframed(self, head: bytes) -> bool:
        self.heads.append(head)
        return head.isalpha()

    def unframed_received(self, data: bytes) -> None:
        self.raw += data

    def refused(self, reason: str) -> None:
        self.told.append(reason)

    def closed(self) -> None:
        self.told.append("closed")

    def writing_resumed(self) -> None:
        self.told.append("resumed")


def opened(**how: int) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(**how), FakeTransport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


class TestCutting:
    def test_all_at_once_come_together(self) -> None:
        connection, _ = opened()
        connection.data_received(STREAM)
        assert connection.groups == [FRAMES]

    def test_cut_at_every_byte(self) -> None:
        for cut in range(len(STREAM) + 1):
            connection, _ = opened()
            for piece in (STREAM[:cut], STREAM[cut:]):
                connection.data_received(piece)
            assert connection.frames == FRAMES
            assert len(connection.groups) <= 2
            assert len(connection.heads) == 1

    def test_byte_by_byte_nothing_comes_early_or_late(self) -> None:
        connection, _ = opened()
        ends = [4 + len(FRAMES[0])]
        for one in FRAMES[1:]:
            ends.append(ends[-1] + 4 + len(one))
        for count, byte in enumerate(STREAM, 1):
            connection.data_received(bytes((byte,)))
            assert connection.frames == FRAMES[: sum(end <= count for end in ends)]

    def test_in_random_pieces(self) -> None:
        draw = random.Random(3)
        for _ in range(200):
            frames = [draw.randbytes(draw.randrange(101)) for _ in range(draw.randrange(1, 9))]
            stream = b"".join(len(one).to_bytes(4, "big") + one for one in frames)
            connection, transport = opened()
            at = 0
            while at < len(stream):
                size = draw.randint(1, 60)
                connection.data_received(stream[at : at + size])
                at += size
            assert connection.frames == frames
            assert transport.closing == ""
            assert not transport.sent


class TestLeaving:
    def test_what_is_left_waits_and_comes_in_its_order(self) -> None:
        draw = random.Random(5)
        for appetite in (1, 2, 5):
            connection, _ = opened()
            connection.appetite = appetite
            at = 0
            while at < len(STREAM):
                size = draw.randint(1, 40)
                connection.data_received(STREAM[at : at + size])
                at += size
            assert len(connection.frames) <= len(FRAMES)
            while len(connection.frames) < len(FRAMES):
                before = len(connection.frames)
                connection.take_kept()
                assert before < len(connection.frames) <= before + appetite
            assert connection.frames == FRAMES
            connection.take_kept()
            assert connection.frames == FRAMES

    def test_a_bad_length_behind_what_was_taken_ends_it(self) -> None:
        connection, transport = opened()
        connection.appetite = 1
        connection.data_received((1).to_bytes(4, "big") + b"a" + b"\xff" * 4)
        assert (connection.frames, transport.closing) == ([b"a"], "close")


class TestBounds:
    @pytest.mark.parametrize("length", [101, 1 << 20, (1 << 31) - 1, -1, -(1 << 31)])
    @pytest.mark.parametrize("before", [0, 2])
    def test_a_length_out_of_bounds_ends_it_before_anything_is_kept(
        self, length: int, before: int
    ) -> None:
        connection, transport = opened()
        good = (3).to_bytes(4, "big") + b"abc"
        connection.data_received(good * before + length.to_bytes(4, "big", signed=True) + b"x" * 50)
        assert connection.frames == [b"abc"] * before
        assert connection.told[1:] == [f"a frame of {length} bytes; at most 100 are taken"]
        assert transport.closing == "close"
        assert connection._kept == b""

    def test_the_longest_is_taken(self) -> None:
        connection, transport = opened()
        connection.data_received((100).to_bytes(4, "big") + bytes(100))
        assert connection.frames == [bytes(100)]
        assert not transport.closing

    def test_nothing_is_taken_of_a_connection_that_is_to_be_closed(self) -> None:
        """What had been read already may still come."""
        connection, transport = opened()
        connection.data_received(b"\x7f\xff\xff\xff")
        connection.data_received((3).to_bytes(4, "big") + b"abc")
        assert connection.frames == []
        assert transport.closing == "close"
        assert len(connection.told) == 2

    def test_no_more_than_a_frame_is_held_back(self) -> None:
        connection, _ = opened()
        connection.data_received(STREAM + (100).to_bytes(4, "big") + bytes(99))
        assert len(connection._kept) == 103


class TestUnframed:
    @pytest.mark.parametrize("cut", range(5))
    def test_a_word_and_what_follows_goes_there(self, cut: int) -> None:
        connection, _ = opened()
        for piece in (b"ruok"[:cut], b"ruok"[cut:] + b"\n", b"more"):
            if piece:
                connection.data_received(piece)
        assert connection.raw == b"ruok\nmore"
        assert connection.heads == [b"ruok"]
        assert connection.groups == []

    def test_only_the_first_bytes_may_be_a_word(self) -> None:
        connection, _ = opened(frame_bytes_max=(1 << 31) - 1)
        connection.data_received((1).to_bytes(4, "big") + b"x" + b"ruok")
        assert connection.heads == [b"\0\0\0\x01"]
        assert connection.raw == b""

    def test_without_words_all_are_lengths(self) -> None:
        class Plain(Connection):
            unframed = FrameConnection.unframed

        connection = Plain()
        transport = FakeTransport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(b"ruok")
        assert transport.closing == "close"


class TestWriting:
    def test_bytes_leave_as_they_are(self) -> None:
        connection, transport = opened()
        connection.write(b"one")
        connection.write(b"two")
        assert transport.sent == b"onetwo"
        assert connection.is_open
        assert connection.peer == ("10.0.0.1", 4711)

    def test_one_who_does_not_read_is_cut_off_beyond_the_limit(self) -> None:
        connection, transport = opened()
        connection.pause_writing()
        transport.waiting = 1000
        connection.write(b"x")
        assert not transport.closing
        transport.waiting = 1001
        connection.write(b"x")
        assert transport.closing == "abort"
        assert connection.told[-1] == "it has not read 1001 bytes"
        before = transport.sent
        connection.write(b"x")
        assert transport.sent == before

    def test_a_big_answer_to_one_who_reads_is_no_offence(self) -> None:
        connection, transport = opened()
        transport.waiting = 5000
        connection.write(b"x" * 5000)
        assert not transport.closing

    def test_pauses_are_told(self) -> None:
        connection, _ = opened()
        assert not connection.writing_paused
        connection.pause_writing()
        assert connection.writing_paused
        connection.resume_writing()
        assert not connection.writing_paused
        assert connection.told[-1] == "resumed"

    def test_reading_stops_and_goes_on_once_each(self) -> None:
        connection, transport = opened()
        connection.resume_reading()
        connection.pause_reading()
        connection.pause_reading()
        connection.resume_reading()
        connection.resume_reading()
        assert transport.turns == ["pause", "resume"]

    def test_nothing_happens_on_what_is_gone(self) -> None:
        connection, transport = opened()
        connection.connection_lost(None)
        assert connection.told == ["opened", "closed"]
        connection.write(b"x")
        connection.pause_reading()
        connection.resume_reading()
        connection.close()
        connection.abort()
        assert not connection.is_open
        assert connection.peer == ("", 0)
        assert (transport.sent, transport.closing, transport.turns) == (b"", "", [])

    def test_nothing_happens_before_it_is_there(self) -> None:
        connection = Connection()
        connection.write(b"x")
        connection.close()
        connection.abort()
        connection.pause_reading()
        assert not connection.is_open
