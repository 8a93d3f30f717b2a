"""``python -m infogan_fast.seeds``: train with many seeds and select a run without labels.

See :mod:`infogan_fast.analysis.seed_study` for the files and for how the run is selected.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infogan_fast.cli import Parser, as_path, command
from infogan_fast.constants import INTERRUPTED
from infogan_fast.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The options of this command; all others are those of training."""
    result = Parser(
        prog="python -m infogan_fast.seeds",
        description="Train with many seeds, report each run and their mean, and select one without labels.",
        epilog="All other options are those of python -m infogan_fast.train, for every seed. Run the same "
        "command again to continue what is not finished.",
    )
    result.add_argument("--n", metavar="N", type=int, default=5, help="number of seeds (default: 5)")
    result.add_argument(
        "--first-seed", metavar="S", type=int, default=0, help="train seeds S to S + N - 1 (default: 0)"
    )
    result.add_argument(
        "--jobs",
        metavar="J",
        type=int,
        help="train J at a time (default: one per GPU; on a CPU one per thread, which is the maximum)",
    )
    result.add_argument(
        "--shard",
        metavar="I/N",
        help="train every N-th of these seeds, from number I on, counted from 0: a job of an array",
    )
    result.add_argument(
        "--report",
        action="store_true",
        help="train nothing: report the finished seeds in OUT, and select one",
    )
    result.add_argument("--out", metavar="OUT", type=as_path, help="folder (default: runs/DATA-seeds)")
    return result


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"--shard is {text!r}; expected I/N with I from 0 to N - 1, such as 0/8")
    return int(index), int(count)


@command("seeds")
def main(argv: Sequence[str] | None = None) -> int:
    """Train many seeds. Returns the exit status: 0, 1 if a seed failed, 130 when interrupted."""
    args, flags = parser().parse_known_args(argv)

    from infogan_fast.analysis.seed_study import SeedStudy
    from infogan_fast.analysis.seed_summary import report
    from infogan_fast.config import Config
    from infogan_fast.request import parse
    from infogan_fast.runtime.device import choose_device
    from infogan_fast.runtime.processes import ProcessPool, slots

    request = parse(flags)
    for name, given in (("--resume", request.resume), ("--overwrite", request.overwrite)):
        if given:
            raise UserError(f"{name} is for a single run; leave it out: the same command again continues")
    for name, remedy in (("seed", "--first-seed and --n"), ("threads", "--jobs, which share the threads")):
        if name in request.given:
            raise UserError(f"--{name} differs between the runs; use {remedy}")
    for name in ("n", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; expected at least 1")
    index, count = (0, 1) if args.shard is None else _shard(args.shard)
    seeds = range(args.first_seed, args.first_seed + args.n)[index::count]
    if args.report:
        if args.shard is not None:
            raise UserError("--shard trains a part of the seeds, --report reports all of them; leave one out")
        return _report(args.out, request.given)
    if not seeds:
        raise UserError(
            f"--shard {index}/{count} of --n {args.n} seeds has none; give at most {args.n} shards"
        )
    for seed in (seeds[-1], seeds[0]):
        config = Config.from_options({**request.given, "seed": seed}).checked()
        config.check_effects(request.given)

    out: Path = args.out or Path("runs") / f"{config.data_name}-seeds"
    resources = slots(args.jobs, len(seeds), choose_device(config.device))
    study = SeedStudy(out, flags, request.given, config.steps, config.device)
    study.prepare()
    threads = sorted({slot.threads for slot in resources if slot.threads is not None}, reverse=True)
    share = f"CPU threads for each: {' or '.join(map(str, threads))}" if threads else "a GPU for each"
    which = f"{seeds[0]} to {seeds[-1]}" + (f" in steps of {count}" if count > 1 else "")
    print(f"trains    seeds {which}, {len(resources)} at a time, {share}; writes {out}")
    sys.stdout.flush()
    pool = ProcessPool(resources)
    result = study.train(seeds, pool, shard=args.shard is not None)
    if pool.interrupted.is_set():
        print("interrupted; run the same command again to continue", flush=True)
        return INTERRUPTED
    if args.shard is None:
        print(report(result, out))
    else:
        print(f"shard {index}/{count} ends; --report --out {out} reports all, and selects one")
    return 0 if all("figures" in row for row in result["seeds"]) else 1


def _report(out: Path | None, given: Mapping[str, Any]) -> int:
    """Report the seeds that are finished in a folder, and select one."""
    from infogan_fast.analysis.seed_study import SeedStudy
    from infogan_fast.analysis.seed_summary import report

    if out is None:
        raise UserError("--report needs --out OUT, the folder of the seeds")
    if flags := ", ".join(f"--{name.replace('_', '-')}" for name in given if name != "device"):
        raise UserError(f"--report reads the settings in {out}; leave {flags} out")
    study = SeedStudy.found(out, given.get("device", "auto"))
    result = study.collect()
    print(report(result, out))
    return 0 if all("figures" in row for row in result["seeds"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
