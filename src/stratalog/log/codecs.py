r"""Codecs: what C calls to compress and decompress the records of one batch.

    id  codec   bytes on disk                                             from
    1   gzip    gzip members (RFC 1952)                                   zlib
    2   snappy  xerial framing, drawn below; raw snappy is read too       cramjam
    3   lz4     one LZ4 frame: 64 KiB independent blocks, no checksums    lz4
                of content, no content size: what Kafka's reader takes
    4   zstd    zstd frames (RFC 8878)                                    cramjam

Xerial framing is snappy-java's stream format, which every Kafka client writes:

    0                 8          12         16         20
    +-----------------+----------+----------+----------+----------------+----------+---
    | 82 S N A P P Y 0| version 1| compat. 1| be32 len | raw snappy,    | be32 len | ...
    +-----------------+----------+----------+----------+ <= 32 KiB in --+----------+---

The header may come again between blocks: streams may be joined end to end.

Bounded.  A few bytes can claim to unfold into gigabytes.  Every decompressor here writes into the
caller's sl_buffer and stops once the output passes ``limit_bytes``; the buffer grows with what
has really been produced (zstd: by doubling), never to a length that the input merely claims,
except for snappy, whose claim is compared with the limit first.

Packages are imported at the first use of their codec: a log without compression loads none.

Left to others: which codec a batch names and what its limit is (batch.c).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

from stratalog import config
from stratalog.errors import InvalidArgumentError
from stratalog.log._binding import INT32_MIN, check, codec_failure, ffi, lib

CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CODEC_NAMES: Final = {number: name for name, number in CODECS.items()}

XERIAL_HEADER: Final = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_MAGIC: Final = XERIAL_HEADER[:8]


class CodecDataError(Exception):
    """Compressed bytes make no sense, or unfold past the limit; becomes a CodecError's cause."""


def codec_number(name: str) -> int:
    """Return the id of a codec, as batches carry it.

    Raises:
        InvalidArgumentError: There is no codec of this name.
    """
    number = CODECS.get(name)
    if number is None:
        raise InvalidArgumentError(f"codec {name!r} is none of {', '.join(CODECS)}")
    return number


class Output:
    """An ``sl_buffer`` that takes bytes up to a limit.

    The memory is malloc's and the caller's; this object lives as long as one call of a codec.
    """

    __slots__ = ("_buffer", "limit_bytes")

    def __init__(self, buffer: Any, limit_bytes: int) -> None:
        self._buffer = buffer
        self.limit_bytes = limit_bytes
        buffer.bytes = 0

    @property
    def room_bytes(self) -> int:
        """How many more bytes the limit allows."""
        return self.limit_bytes - int(self._buffer.bytes)

    def write(self, data: Any) -> None:
        """Append ``data``, any contiguous buffer.

        Raises:
            CodecDataError: The limit is passed.
        """
        n_bytes = len(data)
        used = self._buffer.bytes
        if used + n_bytes > self.limit_bytes:
            raise CodecDataError(f"output exceeds {self.limit_bytes} bytes")
        capacity = self._buffer.capacity
        if used + n_bytes > capacity:
            wanted = max(used + n_bytes, min(2 * capacity, self.limit_bytes))
            check(lib.sl_buffer_reserve(self._buffer, wanted))
        ffi.memmove(self._buffer.data + used, data, n_bytes)
        self._buffer.bytes = used + n_bytes

    def reserve(self, n_bytes: int) -> memoryview:
        """Return the next ``n_bytes`` as writable memory, valid until the next reserve or write."""
        used = self._buffer.bytes
        check(lib.sl_buffer_reserve(self._buffer, used + n_bytes))
        return memoryview(ffi.buffer(self._buffer.data + used, n_bytes))

    def commit(self, n_bytes: int) -> None:
        """Count ``n_bytes`` of the reserved memory as written.

        Raises:
            CodecDataError: The limit is passed.
        """
        if n_bytes > self.room_bytes:
            raise CodecDataError(f"output exceeds {self.limit_bytes} bytes")
        self._buffer.bytes += n_bytes


# ---- gzip ----


def _gzip_compress(data: memoryview, level: int | None, out: Output) -> None:
    squeezer = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
    out.write(squeezer.compress(data))
    out.write(squeezer.flush())


def _gzip_decompress(data: memoryview, out: Output) -> None:
    remaining: Any = data
    while len(remaining):  # members may be joined
        unfold = zlib.decompressobj(31)
        step = max(config.DECOMPRESS_STEP_BYTES, 4 * len(data))
        while not unfold.eof:
            # One byte more than allowed, so that passing the limit is seen and not just reached.
            piece = unfold.decompress(remaining, min(step, out.room_bytes + 1))
            out.write(piece)
            remaining = unfold.unconsumed_tail
            if not piece and not remaining and not unfold.eof:
                raise CodecDataError("gzip data ends in the middle of a member")
        remaining = unfold.unused_data


# ---- snappy ----


def _snappy_compress(data: memoryview, _level: int | None, out: Output) -> None:
    from cramjam import snappy  # noqa: PLC0415  # loaded with its first use

    out.write(XERIAL_HEADER)
    for start in range(0, len(data), config.SNAPPY_BLOCK_BYTES):
        block = snappy.compress_raw(data[start : start + config.SNAPPY_BLOCK_BYTES])
        out.write(struct.pack(">i", len(block)))
        out.write(block)


def _snappy_block(block: memoryview, out: Output) -> None:
    from cramjam import snappy  # noqa: PLC0415  # loaded with its first use

    claimed = snappy.decompress_raw_len(block)
    if claimed > out.room_bytes:
        raise CodecDataError(f"output exceeds {out.limit_bytes} bytes")
    # Snappy's densest element gives 64 bytes for 3; a larger claim is a lie, so do not allocate.
    if claimed > 64 * len(block):
        raise CodecDataError("snappy block claims more than its bytes can hold")
    if claimed:
        out.commit(snappy.decompress_raw_into(block, out.reserve(claimed)))


def _snappy_decompress(data: memoryview, out: Output) -> None:
    if data[:8] != _XERIAL_MAGIC:
        _snappy_block(data, out)
        return
    position = 0
    while position < len(data):
        if data[position : position + 8] == _XERIAL_MAGIC:
            position += len(XERIAL_HEADER)
            continue
        if position + 4 > len(data):
            raise CodecDataError("snappy data ends within a block length")
        (block_bytes,) = struct.unpack_from(">i", data, position)
        position += 4
        if not 0 <= block_bytes <= len(data) - position:
            raise CodecDataError("snappy block is longer than the data")
        _snappy_block(data[position : position + block_bytes], out)
        position += block_bytes


# ---- lz4 ----


def _lz4_compress(data: memoryview, level: int | None, out: Output) -> None:
    import lz4.frame  # noqa: PLC0415  # loaded with its first use

    out.write(
        lz4.frame.compress(
            data,
            compression_level=0 if level is None else level,
            block_size=lz4.frame.BLOCKSIZE_MAX64KB,
            block_linked=False,
            content_checksum=False,
            block_checksum=False,
            store_size=False,
        )
    )


def _lz4_decompress(data: memoryview, out: Output) -> None:
    import lz4.frame  # noqa: PLC0415  # loaded with its first use

    unfold = lz4.frame.LZ4FrameDecompressor()
    step = max(config.DECOMPRESS_STEP_BYTES, 4 * len(data))
    piece = unfold.decompress(data, min(step, out.room_bytes + 1))
    out.write(piece)
    while not unfold.eof:
        if unfold.needs_input:
            raise CodecDataError("lz4 data ends in the middle of the frame")
        piece = unfold.decompress(b"", min(step, out.room_bytes + 1))
        out.write(piece)


# ---- zstd ----


def _zstd_compress(data: memoryview, level: int | None, out: Output) -> None:
    from cramjam import zstd  # noqa: PLC0415  # loaded with its first use

    out.write(zstd.compress(data, level=3 if level is None else level))


def _zstd_decompress(data: memoryview, out: Output) -> None:
    import cramjam  # noqa: PLC0415  # loaded with its first use

    room = max(config.DECOMPRESS_STEP_BYTES, 4 * len(data))
    while True:
        room = min(room, out.limit_bytes + 1)  # never 0: cramjam takes no empty target
        try:
            out.commit(cramjam.zstd.decompress_into(data, out.reserve(room)))
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):  # the one answer that more room can cure
                raise CodecDataError(f"zstd: {error}") from error
            if room > out.limit_bytes:
                raise CodecDataError(f"output exceeds {out.limit_bytes} bytes") from error
            room *= 4
        else:
            return


# ---- what C calls ----

_COMPRESS: Final[dict[int, Callable[[memoryview, int | None, Output], None]]] = {
    1: _gzip_compress,
    2: _snappy_compress,
    3: _lz4_compress,
    4: _zstd_compress,
}
_DECOMPRESS: Final[dict[int, Callable[[memoryview, Output], None]]] = {
    1: _gzip_decompress,
    2: _snappy_decompress,
    3: _lz4_decompress,
    4: _zstd_decompress,
}
_UNBOUNDED: Final = 1 << 62


def _view(data: Any, n_bytes: int) -> memoryview:
    """C memory as a read-only memoryview, valid during the call only."""
    return memoryview(ffi.buffer(data, n_bytes)).toreadonly() if n_bytes else memoryview(b"")


def _remember(_kind: object, error: BaseException, _trace: object) -> int:
    """Keep what a codec raised for the exception that its caller will see."""
    codec_failure.error = error
    return -1


@ffi.def_extern(onerror=_remember)  # type: ignore[untyped-decorator, unused-ignore]
def sl_python_compress(codec: int, level: int, data: Any, n_bytes: int, out: Any) -> int:
    """Compress one batch's records into ``out``; the C side of ``sl_compress_fn``."""
    _COMPRESS[codec](
        _view(data, n_bytes), None if level == INT32_MIN else level, Output(out, _UNBOUNDED)
    )
    return 0


@ffi.def_extern(onerror=_remember)  # type: ignore[untyped-decorator, unused-ignore]
def sl_python_decompress(codec: int, data: Any, n_bytes: int, limit: int, out: Any) -> int:
    """Decompress one batch's records into ``out``; the C side of ``sl_decompress_fn``."""
    _DECOMPRESS[codec](_view(data, n_bytes), Output(out, limit))
    return 0


def compress(codec: int, data: bytes | memoryview, level: int | None = None) -> bytes:
    """Compress ``data`` as a batch of that codec carries it.

    Args:
        codec: 0 to 4.
        data: The records, back to back.
        level: The codec's own scale, or None for its default.

    Returns:
        The compressed bytes, the caller's.
    """
    if codec == 0:
        return bytes(data)
    out = ffi.new("sl_buffer *")
    try:
        _COMPRESS[codec](memoryview(data), level, Output(out, _UNBOUNDED))
        return bytes(ffi.buffer(out.data, out.bytes))
    finally:
        lib.sl_buffer_free(out)


def decompress(codec: int, data: bytes | memoryview, limit_bytes: int) -> bytes:
    """Undo :func:`compress`, never producing more than ``limit_bytes``.

    Raises:
        CodecDataError: The bytes make no sense or unfold past the limit.  The packages raise
            errors of their own as well; all of them mean damage.
    """
    if codec == 0:
        return bytes(data)
    out = ffi.new("sl_buffer *")
    try:
        _DECOMPRESS[codec](memoryview(data), Output(out, limit_bytes))
        return bytes(ffi.buffer(out.data, out.bytes))
    finally:
        lib.sl_buffer_free(out)


def _register() -> None:
    for number in _COMPRESS:
        check(lib.sl_codec_register(number, lib.sl_python_compress, lib.sl_python_decompress))


_register()
