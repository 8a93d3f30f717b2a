"""A short run is disturbed at each system call on its files; run this file to try all of them.

Training writes and reads its folder through a preloaded library (inject.c), which lets the n-th call fail,
write half of its bytes, or end the process, for each n. After that the user's remedy is tried: the same
command again with --resume, or from the start where there is no checkpoint. The same is done to the second
half of a run, which --resume continues. What must come out:

- no traceback, and an exit status of 0, 1 (something is missing, and was said to be), 2 (an error that names
  the folder), or the signal's;
- with the remedy, the weights of an undisturbed run, to the bit;
- the rows of metrics.jsonl and the pictures of an undisturbed run, except after status 1 or 2, when rows may
  be missing but none may differ.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KILL_BEFORE, KILL_AFTER, HALF = -1, -2, -3
ACTIONS = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EINTR": errno.EINTR,
    "EDQUOT": errno.EDQUOT,
    "EROFS": errno.EROFS,
    "half": HALF,
    "kill before": KILL_BEFORE,
    "kill after": KILL_AFTER,
}
#: Kinds that also stay: a full disk is full for the next call too.
STAYING = ("ENOSPC", "EROFS")
FLAGS = [
    *("--images", "40", "--image-size", "16", "--batch-size", "8", "--latents", "noise=2,cat=2,uniform=1"),
    *("--device", "cpu", "--threads", "1", "--steps", "4", "--checkpoint-every", "2", "--sample-every", "2"),
    *("--log-every", "1", "--keep-checkpoints", "1", "--recipe", "paper"),
]


@dataclass(frozen=True)
class Outcome:
    """What a run left, without what differs from run to run."""

    weights: str
    rows: tuple[str, ...]
    pictures: dict[str, str]


def built(folder: Path) -> Path:
    """The library, compiled into this folder."""
    library = folder / "inject.so"
    compiler = os.environ.get("CC", "cc")
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(HERE / "inject.c"), "-ldl"], check=True)
    return library


def in_child(log: Path, work: Callable[[], int]) -> int:
    """Run in a fork with its output in a file; returns the exit status, or minus the signal."""
    process = os.fork()
    if process == 0:
        status = 99
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = work()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def outcome(run: Path) -> Outcome:
    """What a complete run left."""
    from infogan_fast.training import checkpoint

    _, state, _ = checkpoint.load_last(run / "checkpoints")
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif hasattr(value, "numpy"):
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())

    # The sums of metrics since the last row belong to a row, not to the weights.
    add({name: value for name, value in state["training"].items() if name not in ("terms", "updates")})
    rows = []
    for line in (run / "metrics.jsonl").read_bytes().split(b"\n"):
        try:
            rows.append(json.dumps({**json.loads(line), "seconds": 0}))
        except ValueError:
            continue  # what was cut short
    pictures = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.png"))
    }
    return Outcome(digest.hexdigest(), tuple(rows), pictures)


class Trials:
    """Disturbed runs in one folder, in forks of this process, which has imported everything.

    Args:
        folder: for the runs and what they print.
        resumed: disturb the second half of a run instead of a whole one.
    """

    def __init__(self, folder: Path, resumed: bool) -> None:
        from infogan_fast.train import main
        from infogan_fast.training import session  # noqa: F401 -- once, not in each fork

        self.main, self.folder, self.run = main, folder, folder / "run"
        self.inject = ctypes.CDLL(os.environ["LD_PRELOAD"]).inject
        self.inject.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
        self.log = folder / "output"
        self.half: Path | None = None
        self.older: dict[
            str, str
        ] = {}  # pictures of the first half, which may stay where none can be written
        self.calls: list[str] = []
        if resumed:
            self.half = folder / "half"
            assert self._train(["--steps", "2", "--out", str(self.half)], 0, 0, False) == 0
            self.older = outcome(self.half).pictures

    def _start(self) -> list[str]:
        """Put the run's folder there, if it is to be resumed; returns the flags for it."""
        if self.half is None:
            return ["--out", str(self.run)]
        shutil.copytree(self.half, self.run)
        return ["--resume", str(self.run)]

    def undisturbed(self) -> Outcome:
        """Train, and note the calls."""
        calls = self.folder / "calls"
        status = self._train(self._start(), 0, 0, False, calls)
        assert status == 0, self.log.read_text()
        self.calls = calls.read_text().splitlines()
        found = outcome(self.run)
        shutil.rmtree(self.run)
        return found

    def _train(
        self, flags: list[str], number: int, action: int, staying: bool, calls: Path | None = None
    ) -> int:
        def work() -> int:
            if number or calls:
                log = None if calls is None else str(calls).encode()
                self.inject(str(self.run).encode(), number, action, staying, log)
            return self.main([*FLAGS, *flags])

        return in_child(self.log, work)

    def problem(self, wanted: Outcome, number: int, action: int, staying: bool) -> str | None:
        """Disturb the call of this number; returns what was wrong with what came of it."""
        try:
            status = self._train(self._start(), number, action, staying)
            said = self.log.read_text(errors="replace")
            if "Traceback" in said or status not in (0, 1, 2, -signal.SIGKILL):
                return f"status {status}: {said[-300:]}"
            if status == 2 and str(self.run) not in said:
                return f"the error does not name the folder: {said[-500:]}"
            if status in (1, 2) and not said.strip():
                return f"status {status} without a word"
            first = status
            if status in (2, -signal.SIGKILL):
                has_checkpoint = any((self.run / "checkpoints").glob("step-*.pt"))
                again = ["--resume"] if has_checkpoint else ["--overwrite", "--out"]
                status = self._train([*again, str(self.run)], 0, 0, False)
                said = self.log.read_text(errors="replace")
                if status != 0:
                    return f"after status {first}, {again[0]} gave {status}: {said[-1500:]}"
            return self._difference(wanted, outcome(self.run), whole=first in (0, -signal.SIGKILL))
        finally:
            shutil.rmtree(self.run, ignore_errors=True)

    def _difference(self, wanted: Outcome, found: Outcome, *, whole: bool) -> str | None:
        if found.weights != wanted.weights:
            return "other weights"
        if whole and found != wanted:
            return f"rows or pictures differ: {len(found.rows)} rows, {sorted(found.pictures)}"
        if others := [row for row in found.rows if row not in wanted.rows]:
            return f"a row differs: {others[0]}"
        for name, value in found.pictures.items():
            if value not in (wanted.pictures.get(name), self.older.get(name)):
                return f"{name} differs"
        left = [path for path in self.run.rglob("*") if path.name.endswith(".part")]
        return f"{left[0]} is left over" if left and whole else None


def main(argv: Sequence[str] | None = None) -> int:
    """Disturb calls; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the trials, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    parser.add_argument("--only", action="append", choices=ACTIONS, help="this kind of fault; may repeat")
    args = parser.parse_args(argv)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as name:
        folder = Path(name)
        if "inject.so" not in os.environ.get("LD_PRELOAD", ""):
            environment = {**os.environ, "LD_PRELOAD": str(built(folder)), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
            return subprocess.run(command, env=environment).returncode
        whole = Trials(folder, resumed=False)
        wanted = whole.undisturbed()
        problems = 0
        for trials in (whole, Trials(folder, resumed=True)):
            assert trials.undisturbed() == wanted, "two undisturbed runs differ"
            every = [
                (number, kind, staying)
                for number in range(1, len(trials.calls) + 1)
                for kind in args.only or ACTIONS
                for staying in ([False, True] if kind in STAYING else [False])
            ]
            chosen = random.Random(args.seed).sample(every, max(1, round(args.share * len(every))))
            for number, kind, staying in sorted(chosen):
                found = trials.problem(wanted, number, ACTIONS[kind], staying)
                if found is not None:
                    problems += 1
                    from_on = " and all after it" if staying else ""
                    call = f"call {number}, {trials.calls[number - 1]}, {kind}{from_on}"
                    print(f"{'resumed, ' if trials.half else ''}{call}: {found}", flush=True)
            what = "a resumed run" if trials.half else "a run"
            print(f"{what}: {len(trials.calls)} calls, {len(chosen)} trials")
        print(f"{problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
