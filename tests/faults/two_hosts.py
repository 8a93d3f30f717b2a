"""A program: trains on two hosts, breaks things, and checks that the job ends in time, says why, and goes on
to the same result.

    python tests/faults/two_hosts.py [--kills 10]

The hosts are two network namespaces with a cable (a veth pair) between them, so it needs root and iproute2.
torchrun's c10d rendezvous finds the other host by the address of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from infogan_fast.training import checkpoint  # noqa: E402
from infogan_fast.training.run_folder import read_metrics  # noqa: E402

HOSTS = ("infogan-a", "infogan-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
LIMIT = 10  # --rank-timeout
STEPS = 60
FLAGS = [
    *("--image-size", "16", "--images", "60", "--latents", "noise=4,cat=3,uniform=1", "--batch-size", "12"),
    *("--device", "cpu", "--log-every", "2", "--checkpoint-every", "2", "--sample-every", "1000"),
    *("--steps", str(STEPS), "--rank-timeout", str(LIMIT)),
]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[None]:
    """The namespaces, connected."""
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], stderr=subprocess.DEVNULL)
    for host in HOSTS:
        ip("netns", "add", host)
    try:
        ip("link", "add", "cable-a", "netns", HOSTS[0], "type", "veth", "peer", "cable-b", "netns", HOSTS[1])
        for host, address, cable in zip(HOSTS, ADDRESSES, ("cable-a", "cable-b"), strict=True):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", host, "link", "set", cable, "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "del", host)


def start(folder: Path, *flags: str, restarts: int = 0) -> list[subprocess.Popen[bytes]]:
    """torchrun on both hosts, one process each; output goes to FOLDER.a and FOLDER.b."""
    started = []
    for number, (host, cable) in enumerate(zip(HOSTS, ("cable-a", "cable-b"), strict=True)):
        command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two-hosts"]
        command += [f"--rdzv-endpoint={ADDRESSES[0]}:29400", f"--local-addr={ADDRESSES[number]}"]
        command += [f"--rdzv-conf=is_host={1 - number}"]  # it finds that out by name, and they have one name
        command += [f"--max-restarts={restarts}", "-m", "infogan_fast.train", *FLAGS, *flags]
        network = {"GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with open(f"{folder}.{'ab'[number]}", "wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | network,
                start_new_session=True,
            )
        started.append(process)
        time.sleep(0.5 * (1 - number))  # the first hosts the rendezvous
    return started


def wait(started: list[subprocess.Popen[bytes]], seconds: float = 300) -> list[int]:
    return [process.wait(timeout=seconds) for process in started]


def wait_for_row(folder: Path, step: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if any(row["step"] >= step for row in read_metrics(folder)):
            return
        time.sleep(0.05)
    raise SystemExit(f"no row of update {step}: {Path(f'{folder}.a').read_text()[-3000:]}")


def workers() -> dict[int, int]:
    """The training processes by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if b"infogan_fast.train" in (entry / "cmdline").read_bytes():
                values = dict(
                    pair.split(b"=", 1)
                    for pair in (entry / "environ").read_bytes().split(b"\0")
                    if b"=" in pair
                )
                if values.get(b"TORCHELASTIC_RUN_ID") == b"two-hosts":
                    found[int(values[b"RANK"])] = int(entry.name)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def said(folder: Path) -> str:
    """What the first process says last, wherever it was."""
    text = Path(f"{folder}.a").read_text() + Path(f"{folder}.b").read_text()
    found = re.findall(r"^infogan_fast\.train: (.*)$", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"nobody says why the job ended:\n{text}")
    return str(found[0])


def same(one: Path, other: Path) -> bool:
    """Whether two runs have ended alike, to the bit."""
    states = [checkpoint.load_last(run / "checkpoints")[1]["training"] for run in (one, other)]
    first, second = (state["networks"] for state in states)
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains on two hosts, and breaks things.")
    parser.add_argument("--kills", type=int, default=10, help="processes to kill (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    base = Path(tempfile.mkdtemp(prefix="two-hosts-"))
    with two_hosts():
        whole = base / "whole"
        assert wait(start(whole, "--out", str(whole))) == [0, 0], said(whole)
        print(f"undisturbed: {STEPS} updates", flush=True)

        run = base / "cut"
        started = start(run, "--out", str(run))
        wait_for_row(run, 10)
        ip("-n", HOSTS[0], "link", "set", "cable-a", "down")
        cut, processes = time.monotonic(), workers()
        ends: dict[int, float] = {}
        while len(ends) < 2 and time.monotonic() < cut + 120:
            for rank, pid in processes.items():
                if rank not in ends and not _lives(pid):
                    ends[rank] = time.monotonic() - cut
            time.sleep(0.05)
        print(f"link cut: {said(run)}", flush=True)
        print("  processes ended after", ", ".join(f"{ends[r]:.1f} s (rank {r})" for r in sorted(ends)))
        for process, host in zip(started, HOSTS, strict=True):
            try:
                process.wait(timeout=max(0.0, 150 - (time.monotonic() - cut)))
                print(f"  torchrun on {host} ended within {time.monotonic() - cut:.1f} s", flush=True)
            except subprocess.TimeoutExpired:  # it waits for a rendezvous that it cannot reach
                print(f"  torchrun on {host} still waits for the other host after 150 s; killed", flush=True)
                process.kill()
                process.wait()
        ip("-n", HOSTS[0], "link", "set", "cable-a", "up")
        assert wait(start(run, "--resume", str(run))) == [0, 0], said(run)
        assert same(whole, run), "the resumed run differs from the undisturbed one"
        print("  resumed: the same bits as undisturbed", flush=True)

        for rank in range(2):
            run = base / f"restart-{rank}"
            started = start(run, "--out", str(run), restarts=3)
            wait_for_row(run, 20)
            os.kill(workers()[rank], signal.SIGKILL)
            assert wait(started) == [0, 0], said(run)
            assert same(whole, run), f"the run that was started again after a kill of rank {rank} differs"
            print(f"rank {rank} killed: torchrun started the job again, to the same bits", flush=True)

        for number in range(args.kills):
            run, rank, step = base / f"kill-{number}", moments.randrange(2), moments.randrange(2, 40)
            started = start(run, "--out", str(run))
            wait_for_row(run, step)
            time.sleep(moments.random() * 0.2)
            killed, pid = time.monotonic(), workers()[rank]
            os.kill(pid, signal.SIGKILL)
            wait(started)
            seconds = time.monotonic() - killed
            assert f"(process {pid})" in said(run) or rank == 0, said(run)
            assert wait(start(run, "--resume", str(run))) == [0, 0], said(run)
            assert same(whole, run), f"kill {number}: the resumed run differs"
            print(
                f"rank {rank} killed after update {step}: all ended after {seconds:.1f} s, "
                "resumed to the same bits"
            )
            sys.stdout.flush()
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
