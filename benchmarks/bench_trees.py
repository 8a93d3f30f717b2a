"""Is this checkout as fast as another one? python benchmarks/bench_trees.py OTHER [--device cuda]

The step of both checkouts, built in place, for both recipes and precisions. Each runs in a process of its own
with its own benchmarks/harness.py; in each round both have a turn, in alternating order. Figures are medians
over all iterations.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import low_precision, machine, parser, prepare, write_json

HERE = Path(__file__).resolve().parents[1]


class Server:
    """A process that times steps of a checkout, see :func:`harness.serve`."""

    def __init__(self, tree: Path, asked: dict[str, Any]) -> None:
        path = os.pathsep.join(map(str, (tree / "benchmarks", tree)))
        inherited = os.environ.get("PYTHONPATH")
        environment = {**os.environ, "PYTHONPATH": path + (os.pathsep + inherited if inherited else "")}
        environment.pop("GOMP_SPINCOUNT", None)  # each checkout sets its own
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import infogan_fast, harness; harness.serve()"],
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(json.dumps(asked))
        if self._read() != "ready\n":
            raise SystemExit(f"{tree}: its process failed as shown above")

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def times(self, count: int) -> list[float]:
        """Seconds of so many steps."""
        self._write(str(count))
        found: list[float] = json.loads(self._read())
        return found

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def compare(other: Path, asked: dict[str, Any], rounds: int, iterations: int) -> dict[str, float]:
    """Median seconds of the step here and there, and their ratio."""
    servers = [Server(tree, asked) for tree in (HERE, other)]
    samples: tuple[list[float], list[float]] = ([], [])
    for server in servers:
        server.times(5)
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            samples[which].extend(servers[which].times(iterations))
    for server in servers:
        server.close()
    here, there = map(statistics.median, samples)
    return {"here": here, "there": there, "ratio": here / there}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("other", type=Path, metavar="OTHER", help="folder of the other checkout")
    options.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    options.add_argument("--iterations", type=int, default=5, metavar="N", help="a turn (default: 5)")
    args = options.parse_args()
    device = prepare(args.device, args.threads)
    results: dict[str, Any] = {"machine": machine(device), "steps": {}}
    precisions = [False] if low_precision(device) is None else [False, True]
    for recipe, amp in itertools.product(("paper", "default"), precisions):
        asked = {"device": args.device, "threads": args.threads, "amp": amp, "options": {"recipe": recipe}}
        row = compare(args.other.resolve(), asked, args.rounds, args.iterations)
        name = f"{recipe} {'--amp' if amp else 'float32'}"
        results["steps"][name] = row
        print(
            f"{name:18} here {row['here'] * 1e3:8.3f} ms, there {row['there'] * 1e3:8.3f} ms, ratio "
            f"{row['ratio']:.3f}",
            flush=True,
        )
    write_json(args.json, results)


if __name__ == "__main__":
    main()
