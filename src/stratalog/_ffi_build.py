"""The binding is generated, never written by hand: this program makes the source of ``_native``.

    native/include/stratalog.h  --.
    native/src/arrow.h          --+-- text between the cffi marks --> cffi --> _native.c
    src/stratalog/_native_*.c   --'   (SL_API stripped)                        (limited API)

A C declaration has one home, its header.  What stands there between ``/* cffi: begin */`` and
``/* cffi: end */`` is plain enough for cffi's parser; the C compiler then compares every struct and
function with the real header, so a difference stops the build instead of a process.

Two things come on top: the codecs, which C calls and Python implements (``extern "Python"``), and
the ``_native_*.c`` files: C that exists for Python's sake and is therefore no part of libstratalog.

Run by CMake while the wheel is built (``python _ffi_build.py HEADER TARGET``); never imported and
not shipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cffi

BEGIN_MARK = "/* cffi: begin */"
END_MARK = "/* cffi: end */"

# C calls these and cffi takes the GIL; an exception inside becomes -1, which C takes for failure.
CALLBACKS = """
extern "Python" int sl_python_compress(int32_t codec, int32_t level, const uint8_t *in,
                                       size_t in_bytes, sl_buffer *out);
extern "Python" int sl_python_decompress(int32_t codec, const uint8_t *in, size_t in_bytes,
                                         size_t limit_bytes, sl_buffer *out);
"""


def declarations(text: str, name: str) -> str:
    """Return what stands between the cffi marks of ``text``, made palatable for cffi.

    Args:
        text: A C header or source.
        name: Its file name, for the error.

    Returns:
        The declarations without ``SL_API``.

    Raises:
        ValueError: The marks are missing, doubled or crossed.
    """
    if text.count(BEGIN_MARK) != 1 or text.count(END_MARK) != 1:
        raise ValueError(f"{name}: expected one {BEGIN_MARK!r} and one {END_MARK!r}")
    start = text.index(BEGIN_MARK) + len(BEGIN_MARK)
    end = text.index(END_MARK)
    if end < start:
        raise ValueError(f"{name}: {END_MARK!r} stands before {BEGIN_MARK!r}")
    return text[start:end].replace("SL_API ", "")


def generate(header: Path, target: Path) -> None:
    """Write the C source of the extension module ``stratalog._native`` to ``target``.

    Args:
        header: The public header; the engine's sources are looked for beside it.
        target: File to write.  Left alone when its content would not change.
    """
    arrow = header.parent.parent / "src" / "arrow.h"
    ffi = cffi.FFI()
    for declared in (header, arrow):
        ffi.cdef(declarations(declared.read_text(), declared.name))
    preamble = '#include "stratalog.h"\n#include "../src/arrow.h"\n'
    for part in sorted(Path(__file__).parent.glob("_native_*.c")):
        ffi.cdef(declarations(part.read_text(), part.name))
        preamble += f'#line 1 "{part.name}"\n{part.read_text()}\n'
    ffi.cdef(CALLBACKS)
    ffi.set_source("stratalog._native", preamble, py_limited_api=True)
    ffi.emit_c_code(str(target))


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]))
