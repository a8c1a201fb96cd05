"""`compile: true` where nothing can be compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_without_a_cxx_compiler_a_run_is_refused_before_it_begins(tmp_path):
    recipe = ROOT / "configs/digits/smallnet3.yaml"
    command = [sys.executable, ROOT / "tools/distill.py", recipe, "compile=true", "data.limit=64"]
    environment = os.environ | {
        "PATH": str(tmp_path / "nothing"),
        "PYTHONPATH": str(ROOT),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert said.startswith("error: compile: torch.compile does not work here: InvalidCxxCompiler: ")
    assert said.endswith("or set `compile: false`")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
