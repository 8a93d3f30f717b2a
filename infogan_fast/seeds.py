"""``python -m infogan_fast.seeds``: the same training with many seeds, what came of each, and one run chosen
without labels.

OUT/seed-S/      the run of seed S, as training leaves it
OUT/seed-S.log   what its programs said
OUT/seed-S.json  its evaluation
OUT/seeds.json   the figures of all, kept up to date as seeds finish

Seeds are trained in processes of their own, one for each GPU, or one for each CPU thread.
The same command again goes on with what is not finished.

The run that is chosen is the one whose codes agree best with those of the other runs, on the same real
images: what several runs found by themselves is likelier to be a property of the data than of a seed. See
:func:`infogan_fast.analysis.metrics.udr`. Neither training nor the choice reads a label; the accuracies are
there to judge them by.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from infogan_fast.analysis import metrics
from infogan_fast.analysis.run import load_run, read_config
from infogan_fast.cli import Parser
from infogan_fast.config import RESUMABLE, Config
from infogan_fast.config import parse as parse_training
from infogan_fast.errors import UserError
from infogan_fast.evaluate import aligned, number, read_images
from infogan_fast.runtime.device import choose_device
from infogan_fast.runtime.threads import usable_threads
from infogan_fast.training import checkpoint

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAST_INFORMATION = 0.01
"""Nats; a code that holds less is left out of the choice, as in Duan et al. 2020, section 4."""
_LEAST_RUNS = 3  # of two, each agrees with the other as much
_COLUMNS = 12  # more seeds do not fit a terminal
_FORMAT = 1


@dataclass
class Slot:
    """Where one process at a time trains."""

    threads: int | None
    """Of the CPU; None leaves it to the program."""
    environment: dict[str, str] = field(default_factory=dict)


def slots(jobs: int | None, count: int, device: torch.device) -> list[Slot]:
    """Where ``count`` seeds are trained, ``jobs`` at a time; by default one a GPU, or one a CPU thread.

    Raises:
        UserError: more jobs than CPU threads.
    """
    if device.type == "cuda":
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
        jobs = min(jobs or len(cards), count)
        return [Slot(None, {"CUDA_VISIBLE_DEVICES": cards[i % len(cards)]}) for i in range(jobs)]
    threads = usable_threads()
    if jobs is not None and jobs > threads:
        raise UserError(f"--jobs is {jobs}; this process may use {threads} CPU threads, give at most that")
    jobs = min(jobs or threads, count)
    share, rest = divmod(threads, jobs)
    return [Slot(share + (i < rest)) for i in range(jobs)]


class Programs:
    """Runs programs of this package one after another in a thread each, and ends them together."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: str, arguments: list[str], slot: Slot, log: Path) -> int:
        """Run ``python -m infogan_fast.COMMAND``, its output into the log; returns the exit status."""
        environment = os.environ | slot.environment
        if slot.threads is not None:
            environment["OMP_NUM_THREADS"] = str(slot.threads)
        with open(log, "ab") as output:
            with self._lock:
                if self.stopping.is_set():
                    return INTERRUPTED
                program = subprocess.Popen(
                    [sys.executable, "-m", f"infogan_fast.{command}", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    # A terminal's interruption goes to us, and from us to each once: twice would kill it.
                    start_new_session=True,
                )
                self._running.add(program)
            status = program.wait()
            with self._lock:
                self._running.discard(program)
        return status

    def stop(self) -> None:
        """Interrupt what runs, so that training leaves a checkpoint, and start nothing more."""
        with self._lock:
            self.stopping.set()
            for program in self._running:
                program.send_signal(signal.SIGINT)


def train_seed(
    seed: int, settings: Config, flags: list[str], out: Path, programs: Programs, free: queue.Queue[Slot]
) -> dict[str, Any]:
    """Train and evaluate a seed, or what of it is missing; returns its row of seeds.json."""
    folder, log, evaluation = out / f"seed-{seed}", out / f"seed-{seed}.log", out / f"seed-{seed}.json"
    slot = free.get()
    try:
        if not _finished(folder, settings):
            evaluation.unlink(missing_ok=True)
            flags = [*flags, *([] if slot.threads is None else ["--threads", str(slot.threads)])]
            if checkpoint.listed(folder / "checkpoints"):
                where = ["--resume", str(folder)]
            else:  # with nothing to go on from, what is there is a start that was cut off
                where = ["--seed", str(seed), "--out", str(folder), "--overwrite"]
            status = programs.run("train", [*flags, *where], slot, log)
            if status:
                return {"seed": seed, "failed": _last_line(log)}
        if not evaluation.exists():
            part = evaluation.with_suffix(".json.part")  # an evaluation is whole or not there
            device = ["--device", settings.device]
            status = programs.run("evaluate", [str(folder), "--json", str(part), *device], slot, log)
            if status:
                return {"seed": seed, "failed": _last_line(log)}
            part.replace(evaluation)
        return row(seed, folder, json.loads(evaluation.read_text()))
    except UserError as error:  # a damaged checkpoint, of which the other seeds know nothing
        return {"seed": seed, "failed": str(error)}
    finally:
        free.put(slot)


def _finished(folder: Path, settings: Config) -> bool:
    kept = checkpoint.listed(folder / "checkpoints")
    return bool(kept) and checkpoint.load(kept[-1])["step"] >= settings.steps


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"said nothing; see {log}"


def row(seed: int, folder: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What seeds.json says of a run: ``figures``, see :func:`figures`, the alarms it ended with, seconds of
    training, and on what machine."""
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "seed": seed,
        "run": folder.name,
        "updates": evaluation["updates"],
        "seconds": last["seconds"],
        "alarms": last["alarms"],
        "machine": read_config(folder)["machine"],
        "figures": figures(evaluation),
    }


def figures(evaluation: dict[str, Any]) -> dict[str, float]:
    """The figures of an evaluation that are comparable between seeds, by name.

    Every code has its L_I in nats, categorical ones with labels accuracy and NMI too. Which of the continuous
    codes means what differs from seed to seed, so each measure and each known factor has |rho| of the code
    that goes with it, where a code goes with one alone: the assignment is the best of all.
    """
    result = {}
    codes = evaluation["codes"]
    for name, code in codes.items():
        if code["kind"] == "categorical":
            for key in ("accuracy", "nmi"):
                if key in code:
                    result[f"{name} {key}"] = code[key]
        result[f"{name} L_I"] = code["L"]
    for part, value in (("sweeps", "mean"), ("factors", "rho")):
        found = {name: code[part] for name, code in codes.items() if part in code}
        if not found:
            continue
        names, targets = list(found), list(next(iter(found.values())))
        strength = np.array([[abs(found[n][t][value] or 0.0) for t in targets] for n in names])
        verb = "moves" if part == "sweeps" else "reads"
        matched = zip(*linear_sum_assignment(strength, maximize=True), strict=True)
        for j, i in sorted((j, i) for i, j in matched):
            result[f"{verb} {targets[j]}"] = float(strength[i, j])
    if evaluation["disentanglement"]:
        for name in ("mig", "sap", "dci_disentanglement", "factor_vae", "beta_vae"):
            result[name] = evaluation["disentanglement"][name]
    return result


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """``mean``, ``deviation`` (of a sample; 0 for one seed), ``min`` and ``max`` of each figure."""
    result = {}
    for name in rows[0]["figures"] if rows else []:
        values = [r["figures"][name] for r in rows if name in r["figures"]]
        result[name] = {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
            "min": min(values),
            "max": max(values),
        }
    return result


def rank(rows: list[dict[str, Any]], out: Path, device: str) -> None:
    """Give each row ``agreement``, its score by :func:`metrics.udr`, on the held-out images of the first run;
    codes with less than 0.01 nats in generated images are left out."""
    images, tables, informative = None, [], []
    for r in rows:
        run = load_run(out / r["run"], device=device)
        if images is None:
            images = run.held_out()[0].images
        reading = read_images(run, run.encoder(), images)
        tables.append(np.concatenate([reading.categorical, reading.continuous], 1))
        codes = json.loads((out / f"seed-{r['seed']}.json").read_text())["codes"].values()
        informative.append([max(c["L"], c.get("L_fitted", c["L"])) >= _LEAST_INFORMATION for c in codes])
        spec = run.spec
    discrete = [True] * spec.n_categorical + [False] * spec.n_continuous
    scores = metrics.udr(tables, discrete_codes=discrete, informative=informative).scores
    for r, score in zip(rows, scores.tolist(), strict=True):
        r["agreement"] = score


def report(result: dict[str, Any], out: Path) -> str:
    """What seeds.json in that folder holds, as lines for people."""
    rows = [r for r in result["seeds"] if "figures" in r]
    lines = []
    if rows:
        shown = rows if len(rows) <= _COLUMNS else []
        statistics_of = ("mean", "deviation", "min", "max")
        table = [["seed", *(str(r["seed"]) for r in shown), *statistics_of]]
        for name, found in result["summary"].items():
            each = [number(r["figures"].get(name)) for r in shown]
            table.append([name, *each, *(number(found[key]) for key in statistics_of)])
        for name, cells in (
            ("agreement", [number(r.get("agreement")) for r in shown]),
            ("minutes", [f"{r['seconds'] / 60:.1f}" for r in shown]),
        ):
            table.append([name, *cells, *[""] * len(statistics_of)])
        lines += aligned(table)
    for r in result["seeds"]:
        if "failed" in r:
            lines.append(f"seed {r['seed']} FAILED: {r['failed']}")
        elif r["alarms"]:
            lines.append(f"seed {r['seed']} ended with alarms: {', '.join(r['alarms'])}")
    if result["selected"] is not None:
        chosen = next(r for r in rows if r["seed"] == result["selected"])
        lines.append(f"chosen without labels, by agreement with the others: {out / chosen['run']}")
    elif rows:
        lines.append(f"none chosen: agreement takes at least {_LEAST_RUNS} finished runs")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The flags of this command; all others are those of training."""
    result = Parser(
        prog="python -m infogan_fast.seeds",
        description="Train with many seeds, report each run and their mean, and choose one without labels.",
        epilog="All other flags are those of python -m infogan_fast.train, for every seed. The same command "
        "again goes on with what is not finished.",
    )
    result.add_argument("--n", metavar="N", type=int, default=5, help="how many seeds (default: 5)")
    result.add_argument(
        "--first-seed", metavar="S", type=int, default=0, help="train seeds S to S + N - 1 (default: 0)"
    )
    result.add_argument(
        "--jobs",
        metavar="J",
        type=int,
        help="train J at a time (default: one a GPU; on a CPU one a thread, which is the most)",
    )
    result.add_argument("--out", metavar="OUT", type=Path, help="folder (default: runs/DATA-seeds)")
    return result


def main(argv: list[str] | None = None) -> int:
    """Train many seeds. Returns the exit status: 0, 1 where a seed failed, 2 after an error that the user can
    mend, 130 when interrupted."""
    try:
        return _run(argv)
    except UserError as error:
        print(f"infogan_fast.seeds: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str] | None) -> int:
    args, flags = parser().parse_known_args(argv)
    request = parse_training(flags)
    for name, wrong in (("--resume", request.resume), ("--overwrite", request.overwrite)):
        if wrong:
            raise UserError(f"{name} is of one run; leave it out: the same command again goes on by itself")
    for name, remedy in (("seed", "--first-seed and --n"), ("threads", "--jobs, which share the threads")):
        if name in request.given:
            raise UserError(f"--{name} differs between the runs; use {remedy}")
    for name in ("n", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; expected at least 1")
    seeds = range(args.first_seed, args.first_seed + args.n)
    for seed in (seeds[-1], seeds[0]):
        settings = Config.from_options({**request.given, "seed": seed}).checked()
    out: Path = args.out or Path("runs") / f"{settings.data_name}-seeds"
    places = slots(args.jobs, args.n, choose_device(settings.device))
    _prepare(out, dict(request.given))

    share = sorted({slot.threads for slot in places if slot.threads is not None}, reverse=True)
    each = f"on {' or '.join(map(str, share))} CPU threads each" if share else "on a GPU each"
    print(
        f"trains    seeds {seeds[0]} to {seeds[-1]}, {len(places)} at a time {each}; writes {out}", flush=True
    )
    programs, free = Programs(), queue.Queue[Slot]()
    for slot in places:
        free.put(slot)
    rows: dict[int, dict[str, Any]] = {}
    with ThreadPoolExecutor(len(places)) as pool, _interruptible(programs):
        waiting = [pool.submit(train_seed, s, settings, flags, out, programs, free) for s in seeds]
        for done in as_completed(waiting):
            found = done.result()
            if programs.stopping.is_set() and "failed" in found:
                continue
            rows[found["seed"]] = found
            _write(out, dict(request.given), rows)
            print(_line(found, out), flush=True)
    if programs.stopping.is_set():
        print("interrupted; the same command goes on", flush=True)
        return INTERRUPTED
    finished = [rows[s] for s in seeds if "figures" in rows[s]]
    if len(finished) >= _LEAST_RUNS:
        rank(finished, out, settings.device)
    print(report(_write(out, dict(request.given), rows), out))
    return 0 if len(finished) == args.n else 1


@contextlib.contextmanager
def _interruptible(programs: Programs) -> Iterator[None]:
    """An interruption is passed on to the programs, and no more of them are started."""
    before = {kind: signal.getsignal(kind) for kind in _SIGNALS}
    for kind, handler in before.items():
        if kind != signal.SIGHUP or handler is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(kind, lambda *_: programs.stop())
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _prepare(out: Path, given: dict[str, Any]) -> None:
    """Make the folder, or see that it is of the same training."""
    path = out / "seeds.json"
    try:
        found = json.loads(path.read_text())
        theirs = {k: v for k, v in found["settings"].items() if k not in RESUMABLE}
        known = found["format"] == _FORMAT
    except FileNotFoundError:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not of this command; name another folder with --out") from None
        try:
            out.mkdir(parents=True, exist_ok=True)
            _write(out, given, {})
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror}); name another with --out") from None
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name another folder with --out") from None
    ours = {k: v for k, v in given.items() if k not in RESUMABLE}
    if not known or theirs != ours:
        differ = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
        raise UserError(
            f"{out} is of other settings ({', '.join(differ) or 'another version'} differ); name another "
            "folder with --out"
        )


def _write(out: Path, given: dict[str, Any], rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """seeds.json, whole or not at all; returns what it holds."""
    ordered = [rows[seed] for seed in sorted(rows)]
    finished = [r for r in ordered if "figures" in r]
    ranked = [r for r in finished if "agreement" in r]
    result = {
        "format": _FORMAT,
        "settings": {k: v for k, v in given.items() if k == "steps" or k not in RESUMABLE},
        "seeds": ordered,
        "summary": summary(finished),
        "selected": max(ranked, key=lambda r: r["agreement"])["seed"] if ranked else None,
    }
    part = out / "seeds.json.part"
    part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    part.replace(out / "seeds.json")
    return result


def _line(found: dict[str, Any], out: Path) -> str:
    seed = found["seed"]
    if "failed" in found:
        return f"seed {seed:<4} FAILED: {found['failed']}; see {out / f'seed-{seed}.log'}"
    told = ", ".join(f"{name} {number(value)}" for name, value in list(found["figures"].items())[:6])
    return f"seed {seed:<4} {told}; {found['seconds'] / 60:.1f} minutes"


if __name__ == "__main__":
    sys.exit(main())
