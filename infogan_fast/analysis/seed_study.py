"""One configuration trained with many seeds: subprocesses, evaluation, and selection of a run without labels.

FOLDER/seed-S/      the run of seed S, as training leaves it
FOLDER/seed-S.log   output of its subprocesses
FOLDER/seed-S.json  its evaluation
FOLDER/seeds.json   the figures of all seeds, updated whenever one finishes

The selected run is the one whose codes agree best with those of the other runs on the same real images: what
several runs find independently is more likely a property of the data than of a seed. See
:func:`infogan_fast.analysis.udr.udr`. Neither training nor the selection reads labels; accuracies only
show how well they work.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infogan_fast.analysis.evaluation import read_images
from infogan_fast.analysis.run import load_run
from infogan_fast.analysis.seed_summary import MIN_RUNS, figures, progress_line, summary
from infogan_fast.analysis.udr import udr
from infogan_fast.config import RESUMABLE
from infogan_fast.errors import UserError
from infogan_fast.runtime.files import write_whole
from infogan_fast.runtime.processes import ProcessPool
from infogan_fast.training import checkpoint
from infogan_fast.training.run_folder import read_config, read_metrics

_FORMAT = 1
_NO_SETTINGS = RESUMABLE - {"data", "label"}  # what may differ between the seeds of a study
_MIN_INFORMATION = 0.01
"""Nats; codes with less are left out of the selection, as in Duan et al. 2020, section 4."""

Row = dict[str, Any]
"""What seeds.json has of a seed: ``seed`` and ``failed``, the reason; or the result of :func:`finished_row`.
"""


@dataclass(frozen=True)
class SeedStudy:
    """The runs in a folder, which differ only in their seed."""

    folder: Path
    flags: list[str]
    """Of the train command, for every seed."""
    options: Mapping[str, Any]
    """The options that these flags set."""
    steps: int
    device: str

    @classmethod
    def found(cls, folder: Path, device: str) -> SeedStudy:
        """The study in a folder.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = folder / "seeds.json"
        try:
            settings = json.loads(path.read_text())["settings"]
            return cls(folder, [], settings, int(settings.get("steps", 0)), device)
        except FileNotFoundError:
            raise UserError(f"{folder}: there is no {path}; give the folder of a seeds command") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None

    def prepare(self) -> None:
        """Create the folder, or check that it holds the same configuration.

        Raises:
            UserError: the folder holds something else or cannot be written.
        """
        path = self.folder / "seeds.json"
        if not path.exists():
            self._create()
            return
        try:
            found = json.loads(path.read_text())
            theirs = {k: v for k, v in found["settings"].items() if k not in _NO_SETTINGS}
            same_format = found["format"] == _FORMAT
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); name another folder with --out") from None
        ours = {k: v for k, v in self.options.items() if k not in _NO_SETTINGS}
        if not same_format or theirs != ours:
            differ = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
            raise UserError(
                f"{self.folder} has other settings ({', '.join(differ) or 'another version'} differ); name "
                "another folder with --out"
            )
        for row in self._found():
            if row.get("updates", 0) > self.steps:
                raise UserError(
                    f"--steps is {self.steps}, and seed {row['seed']} in {self.folder} has {row['updates']} "
                    "updates; give that or more, or name another folder with --out"
                )

    def _create(self) -> None:
        folder, path = self.folder, self.folder / "seeds.json"
        foreign = folder.exists() and (
            not folder.is_dir() or any(not each.name.endswith(".part") for each in folder.iterdir())
        )
        if foreign:
            if path.exists():  # another shard was faster
                return self.prepare()
            raise UserError(f"{folder} does not belong to this command; name another folder with --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write_new(path)
        except FileExistsError:
            return self.prepare()  # another shard was faster
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); name another folder with --out"
            ) from None

    def _write_new(self, path: Path) -> None:
        """Write seeds.json, whole, if there is none; of several processes that do it at once, one does.

        Raises:
            FileExistsError: there is one.
            OSError: it cannot be written.
        """
        part = path.with_name(f".seeds-{uuid.uuid4().hex}.part")
        try:
            part.write_text(_as_text(self._contents([])))
            try:
                os.link(part, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                if path.exists():
                    raise FileExistsError(path) from None
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def train(self, seeds: Sequence[int], pool: ProcessPool, *, shard: bool = False) -> dict[str, Any]:
        """Train and evaluate all seeds as far as they are not finished, and select one of all that are in the
        folder.

        A shard leaves seeds.json as it is, and selects none: others train their seeds at the same time.

        Returns:
            The contents of seeds.json; of a shard, the rows of its own seeds. If the pool is interrupted, the
            seeds that are not finished are missing, and none is selected.
        """
        found = {} if shard else {row["seed"]: row for row in _complete(self._found(), self.steps)}
        rows = {seed: row for seed, row in found.items() if "figures" in row}
        for row in found.values():
            if "failed" in row and row["seed"] not in seeds:
                print(f"left out  seed {row['seed']}: {row['failed']}", flush=True)
        result: dict[str, Any] = {}
        with ThreadPoolExecutor(pool.size) as threads, pool.interrupted_by_signals():
            futures = [threads.submit(self.train_seed, seed, pool) for seed in seeds]
            for future in as_completed(futures):
                row = future.result()
                if not (pool.interrupted.is_set() and "failed" in row):
                    rows[row["seed"]] = row
                    result = {"seeds": list(rows.values())} if shard else self.save(list(rows.values()))
                    print(progress_line(row, self.folder), flush=True)
        return result if shard or pool.interrupted.is_set() else self._select(list(rows.values()))

    def collect(self) -> dict[str, Any]:
        """The contents of seeds.json of what is in the folder; select one of the seeds with most updates."""
        rows = self._found()
        return self._select(_complete(rows, max((row.get("updates", 0) for row in rows), default=0)))

    def _found(self) -> list[Row]:
        """The rows of all seeds in the folder; what is not finished has failed."""
        rows: list[Row] = []
        for run in sorted(self.folder.glob("seed-*/")):
            number = run.name.removeprefix("seed-")
            if not number.lstrip("-").isdecimal():
                continue
            evaluation = run.with_suffix(".json")
            try:
                if not evaluation.exists():
                    raise UserError("not finished")
                rows.append(finished_row(int(number), run, evaluation))
            except UserError as error:
                rows.append({"seed": int(number), "failed": str(error)})
        return rows

    def _select(self, rows: list[Row]) -> dict[str, Any]:
        finished = sorted((row for row in rows if "figures" in row), key=lambda row: row["seed"])
        if len(finished) >= MIN_RUNS:
            try:
                self.rank(finished)
            except UserError as error:  # such as images that have moved
                print(f"selected  none: {error}", flush=True)
        return self.save(rows)

    def train_seed(self, seed: int, pool: ProcessPool) -> Row:
        """Do what is missing of a seed's training and evaluation."""
        run, log, evaluation = (self.folder / f"seed-{seed}{suffix}" for suffix in ("", ".log", ".json"))
        try:
            with pool.slot() as slot:
                if not self._is_trained(run):
                    evaluation.unlink(missing_ok=True)
                    flags = [*self.flags, *([] if slot.threads is None else ["--threads", str(slot.threads)])]
                    if checkpoint.listed(run / "checkpoints"):
                        flags += ["--resume", str(run)]
                    else:  # a run without a checkpoint stopped too early to resume
                        flags += ["--seed", str(seed), "--out", str(run), "--overwrite"]
                    if pool.run("train", flags, slot, log):
                        return {"seed": seed, "failed": _last_line(log)}
                if not evaluation.exists():
                    part = evaluation.with_suffix(".json.part")  # so that an evaluation is complete or absent
                    flags = [str(run), "--json", str(part), "--device", self.device]
                    if pool.run("evaluate", flags, slot, log):
                        return {"seed": seed, "failed": _last_line(log)}
                    part.replace(evaluation)
                return finished_row(seed, run, evaluation)
        except UserError as error:  # such as a damaged checkpoint, which does not affect the other seeds
            return {"seed": seed, "failed": str(error)}

    def _is_trained(self, run: Path) -> bool:
        folder = run / "checkpoints"
        return bool(checkpoint.listed(folder)) and checkpoint.load_last(folder)[1]["step"] >= self.steps

    def rank(self, rows: list[Row]) -> None:
        """Give each row of a finished seed its ``agreement``, the score of :func:`udr`.

        The codes are read from the held-out images of the first run; codes with less than 0.01 nats in
        generated images, over those of a code that is not read, are left out. A run that cannot be loaded has
        failed; fewer than :data:`MIN_RUNS` get no score.

        Raises:
            UserError: the images cannot be loaded.
        """
        images, tables, informative, discrete = None, [], [], []
        loaded = []
        for row in rows:
            try:
                run = load_run(self.folder / row["run"], device=self.device)
            except UserError as error:
                del row["figures"]
                row["failed"] = str(error)
                continue
            loaded.append(row)
            if images is None:
                images = run.held_out()[0].images
                discrete = [code.is_categorical for code in run.spec.codes]
            read = read_images(run, images)
            tables.append(np.stack([read[code.name].astype(np.float64) for code in run.spec.codes], 1))
            evaluation = json.loads((self.folder / f"seed-{row['seed']}.json").read_text())
            informative.append([_is_informative(code) for code in evaluation["codes"].values()])
        if len(loaded) < MIN_RUNS:
            return
        scores = udr(tables, discrete_codes=discrete, informative=informative).scores
        for row, score in zip(loaded, scores.tolist(), strict=True):
            row["agreement"] = score

    def save(self, rows: list[Row]) -> dict[str, Any]:
        """Write seeds.json, completely or not at all, and return its contents."""
        result = self._contents(rows)
        text = _as_text(result)
        write_whole(self.folder / "seeds.json", lambda file: file.write(text.encode()))
        return result

    def _contents(self, rows: list[Row]) -> dict[str, Any]:
        ordered = sorted(rows, key=lambda row: row["seed"])
        finished = [row for row in ordered if "figures" in row]
        ranked = [row for row in finished if "agreement" in row]
        return {
            "format": _FORMAT,
            "settings": {k: v for k, v in self.options.items() if k == "steps" or k not in _NO_SETTINGS},
            "seeds": ordered,
            "summary": summary(finished),
            "selected": max(ranked, key=lambda row: row["agreement"])["seed"] if ranked else None,
        }


def _is_informative(code: dict[str, Any]) -> bool:
    """Whether generated images tell of a code, given its part of an evaluation."""
    bounds = [name for name in ("L", "L_fitted") if name in code]
    return max(code[name] - code["chance"][name] for name in bounds) >= _MIN_INFORMATION


def _complete(rows: list[Row], steps: int) -> list[Row]:
    """The rows, of which those with fewer updates have failed: their figures do not go with the others'."""
    result = []
    for row in rows:
        if (updates := row.get("updates", steps)) < steps:
            row = {"seed": row["seed"], "failed": f"has {updates:,} of {steps:,} updates"}
        result.append(row)
    return result


def _as_text(contents: dict[str, Any]) -> str:
    return json.dumps(contents, indent=2, allow_nan=False) + "\n"


def finished_row(seed: int, run: Path, evaluation: Path) -> Row:
    """The row of a finished seed: its ``figures``, see :func:`figures`, the last alarms, the seconds of
    training, and the machine.

    Raises:
        UserError: the file of its evaluation, or the run's metrics, are damaged.
    """
    last = ([{}, *read_metrics(run)])[-1]
    try:
        found = json.loads(evaluation.read_text())
        measured = {"updates": found["updates"], "figures": figures(found)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{evaluation}: cannot be read ({type(error).__name__}); delete it to evaluate again"
        ) from None
    if not {"seconds", "alarms"} <= last.keys():
        raise UserError(f"{run / 'metrics.jsonl'}: its last row is damaged; delete {run} to train again")
    return {
        "seed": seed,
        "run": run.name,
        "seconds": last["seconds"],
        "alarms": last["alarms"],
        "machine": read_config(run)["machine"],
        **measured,
    }


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"no output; see {log}"
