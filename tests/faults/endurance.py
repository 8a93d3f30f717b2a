"""Train, resume, evaluate and generate in one process, again and again: what it holds must not grow.

``python tests/faults/endurance.py --minutes 60`` prints memory, threads and open files as it goes. The exit
status is 1 if the last fifth of the rounds holds more than the second fifth: 32 MiB, a thread or a file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import infogan_fast

#: What is held, and how much more of it counts as growth.
ALLOWED = {"MiB": 32.0, "threads": 0.5, "files": 0.5}


def held() -> dict[str, float]:
    """What this process holds: memory in MiB, threads, and open files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "MiB": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "files": len(os.listdir("/proc/self/fd")),
    }


def one_round(out: Path, seed: int) -> None:
    options: dict[str, Any] = {
        "images": 400,
        "image_size": 16,
        "batch_size": 32,
        "latents": "noise=8,cat=10,uniform=2",
    }
    infogan_fast.train(out=out, overwrite=True, steps=40, seed=seed, progress=False, **options)
    infogan_fast.train(resume=out, steps=80, progress=False)
    run = infogan_fast.load_run(out)
    run.evaluate(images=200)
    run.generate(64)
    run.traversal()


def main(argv: Sequence[str] | None = None) -> int:
    """Repeat for so many minutes; the exit status is 1 if anything has grown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args(argv)
    rounds: list[dict[str, float]] = []
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end or len(rounds) < 10:
            one_round(Path(folder) / "run", len(rounds))
            rounds.append(held())
            if len(rounds) % 10 == 1:
                shown = ", ".join(f"{value:,.0f} {name}" for name, value in rounds[-1].items())
                print(f"round {len(rounds)}: {shown}", flush=True)
    fifth = len(rounds) // 5
    grown = 0
    for name, allowed in ALLOWED.items():
        early = statistics.median(each[name] for each in rounds[fifth : 2 * fifth])
        late = statistics.median(each[name] for each in rounds[-fifth:])
        grown += late - early > allowed
        print(f"{name}: {early:,.1f} early, {late:,.1f} late{' GROWN' if late - early > allowed else ''}")
    print(f"{len(rounds)} rounds")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
