"""Contenders as processes, and the virtual environments that torchdistill needs."""

import json
import os
import subprocess
import sysconfig
import venv
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile

from benchmarks.peer_loops import Spec

__all__ = ["Peer", "environment"]

ROOT = Path(__file__).resolve().parents[1]


class Peer:
    """A worker process, as a context manager: it starts and warms up on entry, and ends on exit.

    `threads` sets OMP_NUM_THREADS. RuntimeError, with the end of the worker's output, if it fails.
    """

    def __init__(self, runtime: str, spec: Spec, *, python: str, threads: int | None) -> None:
        text = json.dumps(asdict(spec), default=str)
        self.command = [python, "-W", "ignore", "-m", "benchmarks.peer_worker", runtime, text]
        self.variables = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}

    def __enter__(self) -> "Peer":
        self.words = TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | self.variables,
        )
        try:
            self._answer()
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def run(self) -> float:
        """Run an epoch; return its images per second."""
        assert self.process.stdin is not None
        self.process.stdin.write("epoch\n")
        self.process.stdin.flush()
        return float(self._answer())

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # closes its input, which ends it
        self.words.close()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            self.words.seek(0)
            raise RuntimeError(f"a contender failed:\n{self.words.read()[-3000:]}")
        return answer


def environment(directory: Path, version: str) -> str:
    """Return the Python of a virtual environment with this version of torchdistill.

    It is created in `directory` if it does not exist. All other packages, such as torch, are those
    of the running Python, whose site-packages are on the path.
    """
    place = directory / f"torchdistill-{version}"
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = place / "installed"
    if not done.exists():
        venv.create(place, with_pip=True, clear=True)
        install = ["-m", "pip", "install", "--quiet", "--no-deps", f"torchdistill=={version}"]
        subprocess.run([python, *install], check=True)
        find = "import sysconfig; print(sysconfig.get_path('purelib'))"
        found = subprocess.run([python, "-c", find], check=True, capture_output=True, text=True)
        ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        Path(found.stdout.strip(), "shared.pth").write_text(
            "\n".join(sorted(ours)) + "\n", encoding="utf-8"
        )
        done.touch()
    return str(python)
