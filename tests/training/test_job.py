"""Jobs of torchrun: one result, resumption by another number of processes, and what becomes of a job when one
of its processes fails."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from networks.narrow import narrow
from training.runs import rows, weights

from infogan_fast.runtime.job import _Shared, _Watch
from infogan_fast.training import checkpoint

SMALL = [
    "--image-size",
    "16",
    "--network",
    narrow(),
    "--latents",
    "noise=4,cat=3,uniform=1",
    "--batch-size",
    "12",
    "--device",
    "cpu",
]
FLAGS = [*SMALL, "--images", "60", "--log-every", "2", "--sample-every", "1000", "--rank-timeout", "60"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TRAIN = ["-m", "infogan_fast.train"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@contextmanager
def job(size: int, *flags: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A job while it runs, in a process group that is ended with the block."""
    command = [*TORCHRUN, f"--nproc-per-node={size}", *options, *TRAIN, *FLAGS, *flags]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for each in _family(process.pid):
            os.kill(each, signal.SIGKILL)
        process.wait()


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


def run(size: int, *flags: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit status and output."""
    with job(size, *flags, options=options) as process:
        output, _ = process.communicate(timeout=300)
        return process.returncode, output


def disturbed(what: str, tmp_path: Path, *flags: str) -> tuple[int, str]:
    """Exit status and output of a job of two in which something is wrong."""
    program = str(Path(__file__).with_name("disturbed.py"))
    command = [*TORCHRUN, "--nproc-per-node=2", program, what, *FLAGS, "--out", str(tmp_path / "run"), *flags]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, timeout=300
    )
    return process.returncode, process.stdout


def rank_of(pid: int) -> int | None:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    found = [each for each in environment if each.startswith(b"RANK=")]
    return int(found[0].removeprefix(b"RANK=")) if found else None


def wait_for_row(out: Path, step: int) -> None:
    for _ in range(3600):
        if (out / "metrics.jsonl").is_file() and any(row["step"] >= step for row in rows(out)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{out} has no row of update {step}")


def process_of(process: subprocess.Popen[str], rank: int) -> int:
    (found,) = (pid for pid in _family(process.pid) if rank_of(pid) == rank)
    return found


def message(output: str) -> str:
    """What the first process said last."""
    found = re.findall(r"^infogan_fast\.train: (.*)$", output, re.MULTILINE)
    assert len(found) == 1, output
    return str(found[0])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight updates of one process."""
    out = tmp_path_factory.mktemp("job") / "alone"
    command = [sys.executable, *TRAIN, *FLAGS, "--steps", "8", "--out", str(out)]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty updates of two processes."""
    out = tmp_path_factory.mktemp("job") / "undisturbed"
    status, output = run(2, "--steps", "60", "--checkpoint-every", "2", "--out", str(out))
    assert status == 0, output
    return out


def test_a_job_is_resumed_by_another_number_of_processes(alone: Path, tmp_path: Path) -> None:
    """By two, by one, then by three: the run of one process, but for the order of sums."""
    out = tmp_path / "run"
    status, output = run(2, "--steps", "4", "--out", str(out))
    assert status == 0 and "processes 2, 6 images each" in output
    one = [sys.executable, *TRAIN, "--resume", str(out), "--steps", "6"]
    subprocess.run(one, check=True, env=ENVIRONMENT)
    resume = [*TORCHRUN, "--nproc-per-node=3", *TRAIN, "--resume", str(out), "--steps", "8"]
    subprocess.run(resume, check=True, env=ENVIRONMENT)
    assert [row["step"] for row in rows(out)] == [2, 4, 6, 8]
    # Not the weights: the sums' order decides the sign of what Adam makes of tiny gradients.
    for row, right in zip(rows(out), rows(alone), strict=True):
        assert row["nll_c1"] == pytest.approx(right["nll_c1"], abs=0.05)
    names = {path.name for path in out.iterdir()}
    written = {"config.json", "metrics.jsonl", "samples", "checkpoints", "traversal.png"}
    assert names == {*written, "data.txt", "data.png"}


def test_a_killed_process_ends_the_job_and_is_named(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with job(2, "--steps", "100000", "--checkpoint-every", "2", "--out", str(out)) as process:
        wait_for_row(out, 4)
        pid = process_of(process, 1)
        os.kill(pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=180)
    assert process.returncode != 0
    found = message(output)
    assert re.match(rf"rank 1 on \S+ \(process {pid}\) has not been heard of for \d+ s", found), output
    kept = checkpoint.listed(out / "checkpoints")
    assert f"the last checkpoint is {kept[-1]}: continue with --resume {out}" in found
    assert checkpoint.load_last(out / "checkpoints")[1]["step"] >= 4


def test_a_process_that_hangs_ends_the_job_in_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--checkpoint-every", "2", "--rank-timeout", "10")
    with job(2, "--steps", "100000", *flags, "--out", str(out)) as process:
        wait_for_row(out, 4)
        pid = process_of(process, 1)
        first = process_of(process, 0)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(1200):  # the time limit of 10 seconds, and a slow machine
            if first not in _family(process.pid):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the first process waits on")
        os.kill(pid, signal.SIGKILL)  # torchrun would wait 30 seconds
        output, _ = process.communicate(timeout=180)
    assert f"(process {pid}) has not been heard of" in message(output)


def test_a_process_whose_main_thread_hangs_is_named(tmp_path: Path) -> None:
    """It is alive, and the other one, which waits for it, is not at fault."""
    status, output = disturbed("hangs", tmp_path, "--steps", "100", "--rank-timeout", "10")
    assert status != 0
    assert re.match(
        r"rank 1 on \S+ \(process \d+\) hangs after update 6: no progress for \d+ s", message(output)
    )


def test_what_came_before_the_first_message_is_no_stall() -> None:
    """Images may take longer to load than the time limit."""
    found: list[str] = []
    store: Any = SimpleNamespace(get=lambda _: b"rank", compare_set=lambda *given: found.append(given[2]))
    watch = _Watch(store, cast(Any, SimpleNamespace(is_writing=False, written=-math.inf)))
    now, position = time.monotonic(), [0, 0]
    watch.limit = 10.0
    for connected, stalled in ((None, False), (now - 1, False), (now - 20, True)):
        watch._moved = dict.fromkeys(range(2), (position, now - 60))
        watch.connected = connected
        watch._look_at([f"[{rank}, [0, 0]]" for rank in range(2)])
        assert bool(found) == stalled


def test_the_end_of_a_long_write_is_progress() -> None:
    """The first process may write for longer than the time limit; its next message comes a little later."""
    found: list[str] = []
    store: Any = SimpleNamespace(get=lambda _: b"rank", compare_set=lambda *given: found.append(given[2]))
    now, position = time.monotonic(), [0, 0]
    for is_writing, written, stalled in (
        (True, now - 60, False),
        (False, now - 1, False),
        (False, now - 11, True),
    ):
        watch = _Watch(store, cast(Any, SimpleNamespace(is_writing=is_writing, written=written)))
        watch.limit, watch.connected = 10.0, now - 90
        watch._moved = dict.fromkeys(range(2), (position, now - 60))
        watch._look_at([f"[{rank}, [0, 0]]" for rank in range(2)])
        assert bool(found) == stalled
    joined = _Shared.__new__(_Shared)
    with joined.writing():
        assert joined.is_writing
    assert not joined.is_writing and joined.written >= now


def test_an_error_is_shown_where_it_happens_and_named(tmp_path: Path) -> None:
    status, output = disturbed("fails", tmp_path, "--steps", "100", "--checkpoint-every", "2")
    assert status != 0
    assert re.search(r"disturbed.py.*in disturbed\n.*\n.*KeyError: 'a planted error'", output), output
    assert re.match(
        r"rank 1 on \S+ \(process \d+\): KeyError: 'a planted error'; the last ch", message(output)
    )


def test_divergence_is_reported_once_with_its_own_remedy(tmp_path: Path) -> None:
    status, output = disturbed("diverges", tmp_path, "--steps", "100")
    assert status != 0
    found = message(output)
    assert found.startswith("training diverged by update 2: g is 1.0e+06") and "continue with" not in found


def test_nobody_is_taken_for_dead_while_the_first_process_writes(tmp_path: Path) -> None:
    status, output = disturbed("writes slowly", tmp_path, "--steps", "8", "--rank-timeout", "8")
    assert status == 0, output


def test_an_interrupted_process_stops_all_at_the_same_update(tmp_path: Path) -> None:
    """The signal that Slurm sends before a job's time is over, to one of the processes."""
    out = tmp_path / "run"
    options = ("--max-restarts=1",)  # which has nothing more to do
    with job(2, "--steps", "100000", "--out", str(out), options=options) as process:
        wait_for_row(out, 4)
        pid = process_of(process, 1)
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR1)  # schedulers and torchrun may both send one
        output, _ = process.communicate(timeout=180)
    (saved,) = re.findall(r"stopped after update ([\d,]+), saved; continue with --resume", output)
    assert checkpoint.load_last(out / "checkpoints")[1]["step"] == int(saved.replace(",", ""))


def test_torchrun_starts_a_failed_job_again_and_it_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--max-restarts=1",)
    with job(2, "--steps", "60", "--checkpoint-every", "2", "--out", str(out), options=options) as process:
        wait_for_row(out, 6)
        os.kill(process_of(process, 1), signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert re.search(r"60 updates of 12 images, from update \d+", output), output
    assert [row["step"] for row in rows(out)] == [*range(2, 61, 2)]
    final = weights(undisturbed)
    for name, tensor in weights(out).items():
        assert torch.equal(tensor, final[name]), name


#: Trains with two seeds. In the second training a process fails, once.
TWICE = """
import os, sys
from pathlib import Path
import infogan_fast
from infogan_fast.training.step import TrainingStep

out, failed = Path(sys.argv[1]), Path(sys.argv[1]) / "failed"
for seed in (0, 1):
    if seed == 1 and os.environ["RANK"] == "1" and not failed.exists():
        failed.touch()
        raise KeyError("planted")
    run = infogan_fast.train(
        seed=seed, out=out / str(seed), image_size=16, images=60, latents="noise=4,cat=3,uniform=1",
        network=sys.argv[2], batch_size=12, device="cpu", steps=2, progress=False,
    )
    print("trained", seed, run.updates, (out / str(seed)).stat().st_mtime_ns, flush=True)
"""


def test_a_script_trains_twice_and_goes_on_where_it_failed(tmp_path: Path) -> None:
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    command = [*TORCHRUN, "--nproc-per-node=2", "--max-restarts=1", str(script), str(tmp_path), narrow()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        assert json.loads((tmp_path / str(seed) / "config.json").read_text())["settings"]["seed"] == seed
        assert [row["step"] for row in rows(tmp_path / str(seed))] == [2]
    first = re.findall(r"trained 0 2 (\d+)", done.stdout)
    assert len(first) >= 3 and len(set(first)) == 1, done.stdout  # before and after the restart, trained once


def different(tmp_path: Path, size: int, shell: str) -> str:
    """The message of a job whose processes run a shell's line, in which R is the rank."""
    script = f'R=$RANK; exec "{sys.executable}" {shlex.join([*TRAIN, *FLAGS])} --steps 4 {shell}'
    command = [*TORCHRUN, f"--nproc-per-node={size}", "--no-python", "bash", "-c", script]
    process = subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, timeout=300
    )
    assert process.returncode != 0
    return message(process.stderr)


def test_flags_that_differ_are_named(tmp_path: Path) -> None:
    found = different(tmp_path, 3, "--out run --lr-g 0.00$((R == 2 ? 2 : 1))")
    assert re.match(
        r"rank 2 on \S+ \(process \d+\): --lr-g is 0.002 in this process and 0.001 in the first; start all",
        found,
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_images_that_differ_are_named(tmp_path: Path, grey_images: Path) -> None:
    for number in range(2):
        (tmp_path / f"images{number}").symlink_to(grey_images)
    other = tmp_path / "other"
    other.mkdir()
    for picture in list(grey_images.rglob("*.png"))[1:]:
        (other / picture.name).symlink_to(picture)
    # The same path, with other contents on another host.
    found = different(
        tmp_path,
        2,
        "--out run --data here/images $(mkdir -p $R/here; "
        f"ln -sfn $([ $R = 0 ] && echo {grey_images} || echo {other}) $R/here/images; cd $R) ",
    )
    assert "digest of the images" in found or "here" in found


def test_a_bad_request_is_reported_once(tmp_path: Path) -> None:
    status, output = run(2, "--steps", "4", "--batch-size", "13", "--out", str(tmp_path / "run"))
    assert status != 0
    expected = "--batch-size is 13; expected a multiple of the job's 2 processes, such as 12"
    assert expected in message(output)


def test_a_run_that_is_there_is_not_replaced(alone: Path) -> None:
    """Nor continued when torchrun starts the refused job once more."""
    before = (alone / "metrics.jsonl").read_bytes()
    status, output = run(2, "--steps", "8", "--out", str(alone), options=("--max-restarts=1",))
    assert status != 0 and output.count("holds a run: continue it with --resume") == 2
    assert (alone / "metrics.jsonl").read_bytes() == before
    assert json.loads((alone / "config.json").read_text())["settings"]["steps"] == 8


def test_other_commands_are_of_one_process(alone: Path) -> None:
    command = [*TORCHRUN, "--nproc-per-node=2", "-m", "infogan_fast.evaluate", str(alone)]
    process = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert process.returncode != 0
    assert "infogan_fast.evaluate: evaluate is a command of one process; start it without" in process.stderr
