"""Properties files against Java itself: of many thousand texts, the entries that both find."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.peers import maven  # noqa: E402  (the path above must come first)

from stratalog.wire.properties import parse_properties  # noqa: E402  (after the path)

pytestmark = pytest.mark.interop

SEED = 20261121
TEXTS = 20_000
PIECES = [
    b"a", b"b", b"key", b"1", b"=", b":", b" ", b"\t", b"\f", b"\\", b"\\\\", b"\n", b"\r", b"\r\n",
    b"#", b"!", b"\\\n", b"\\\r\n", b"\\u0041", b"\\u00E9", b"\\u12", b"\\ud83d", b"\\t", b"\xe9",
    b"\x00", b"\\ ", b"\\=", b"\x85",
]  # fmt: skip


def ours(data: bytes) -> str:
    try:
        entries = {entry.key: entry.value for entry in parse_properties(data)}
    except ValueError:
        return "no"

    def coded(text: str) -> str:
        return text.encode("utf-16-be", "surrogatepass").hex()

    pairs = sorted((coded(key), coded(value)) for key, value in entries.items())
    return " ".join(["yes", *(f"{key}={value}" for key, value in pairs)])


def test_java_finds_the_same_entries():
    try:
        java = maven.java()
    except maven.PeerUnavailable as reason:
        pytest.skip(str(reason))
    draw = random.Random(SEED)
    texts = [b"".join(draw.choices(PIECES, k=draw.randint(0, 24))) for _ in range(TEXTS)]
    done = subprocess.run(
        [java, str(ROOT / "tools" / "peers" / "PropertiesEntries.java")],
        input="".join(text.hex() + "\n" for text in texts),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    theirs = done.stdout.splitlines()
    assert len(theirs) == len(texts)
    differ = [(text, their, ours(text)) for text, their in zip(texts, theirs, strict=True)
              if their != ours(text)]  # fmt: skip
    assert not differ, f"seed {SEED}: {len(differ)} differ, such as {differ[:3]}"
    refused = theirs.count("no")
    print(f"seed {SEED}: {len(texts)} texts, {refused} refused by both")
    assert 0 < refused < len(texts) // 2
