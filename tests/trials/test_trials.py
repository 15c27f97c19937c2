"""The quick form of each reliability trial: all of them together take under five minutes.

A row that needs root, loop devices, strace or nbdkit is skipped with the reason where those are not
there.  What is asserted is the command's own verdict: promises kept, faults fired, planted bug
caught.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROWS = (
    *(1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12),
    *(101, 103, 105, 106, 108, 109, 125, 126, 128, 129, 134, 135),
)

pytestmark = [pytest.mark.trial]


@pytest.mark.parametrize("row", ROWS)
def test_row_holds_and_catches_its_planted_bug(row: int, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.trials", str(row), "--quick", "--json", str(results)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert results.exists(), done.stdout + done.stderr
    (result,) = json.loads(results.read_text())
    if result["status"] == "skipped":
        pytest.skip(result["why"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["fired"] > 0
    assert result["caught"] != ""
