"""Training on more pictures than memory holds: seconds an update, next to a small set that fits.

    python benchmarks/bench_large.py --pictures 200000 --memory 2000

Writes two TARs of JPEGs, one with few of them, and trains on them in two processes that take turns, with the
same settings. A control group (version 1 or 2) limits the memory of the one with many pictures, including
what the system caches of files on its behalf; without the right to make one, the bench says so and does not
limit it. Files are kept in --folder for another time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

#: Updates, as many as are asked for with each line of the input.
WORKER = """
import json, mmap, sys, time
import torch
from infogan_fast.config import Config
from infogan_fast.data import load_images
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.runtime.threads import tune_allocator
from infogan_fast.training.step import TrainingStep

path, amp, updates = sys.argv[1], sys.argv[2] == "amp", int(sys.argv[3])
tune_allocator()
started = time.monotonic()
data = load_images(path)
loaded = time.monotonic() - started
config = Config.from_options({"recipe": "paper"}).checked()
size, channels = data.images.shape[-1], data.images.shape[1]
networks = InfoGAN(config.latents, size, channels)
step = TrainingStep(config.latents, networks, config.objective, data.images, 128,
                    amp=torch.bfloat16 if amp else None, prefetch=data.mapped is not None)
if data.mapped is not None:
    data.mapped.madvise(mmap.MADV_RANDOM)
for _ in range(5):
    step()
mapped = data.mapped is not None
print(json.dumps({"loaded": loaded, "mapped": mapped, "bytes": data.images.numel()}), flush=True)
for line in sys.stdin:
    times = []
    for _ in range(updates):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    print(json.dumps(times), flush=True)
"""


def write_pictures(path: Path, count: int, size: int) -> None:
    """A TAR of colour JPEGs: smooth random pictures, all different."""
    if path.exists():
        return
    draws = np.random.default_rng(0)
    part = path.with_suffix(".part")
    with tarfile.open(part, "w") as archive:
        for i in range(count):
            coarse = draws.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=85)
            member = tarfile.TarInfo(f"pictures/{i:07}.jpg")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)
    part.replace(path)


@contextlib.contextmanager
def limited(mebibytes: int) -> Iterator[Path | None]:
    """A control group with that much memory; None where none can be made."""
    name = f"bench-large-{uuid.uuid4().hex[:8]}"
    for root, limit in (
        (Path("/sys/fs/cgroup"), "memory.max"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    ):
        group = root / name
        try:
            group.mkdir()
            if not (group / "cgroup.procs").exists():
                raise OSError(f"{root} holds no control groups")
            (group / limit).write_text(str(mebibytes << 20))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield group
        finally:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                time.sleep(0.1)
        return
    yield None


def start(path: Path, precision: str, updates: int, group: Path | None) -> subprocess.Popen[str]:
    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), precision, str(updates)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=enter,
    )


def answer(worker: subprocess.Popen[str]) -> object:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a process ended with status {worker.wait()}")
    return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--few", type=int, default=4_000, help="pictures of the small set")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--memory", type=int, default=2000, help="MiB for the process on all pictures")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--updates", type=int, default=10, help="in each round")
    parser.add_argument("--folder", type=Path, default=Path("bench-large"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("INFOGAN_FAST_CACHE", str(args.folder / "cache"))
    precision = "amp" if args.amp else "float32"
    few, many = (args.folder / f"{count}-{args.size}.tar" for count in (args.few, args.pictures))
    write_pictures(few, args.few, args.size)
    write_pictures(many, args.pictures, args.size)
    times: dict[str, list[float]] = {"few": [], "many": []}
    with limited(args.memory) as group:
        if group is None:
            print("memory is not limited: no control group can be made here", file=sys.stderr)
        workers = {
            "few": start(few, precision, args.updates, None),
            "many": start(many, precision, args.updates, group),
        }
        heads = {name: answer(worker) for name, worker in workers.items()}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
                times[name] += answer(worker)  # type: ignore[arg-type]
        for worker in workers.values():
            worker.communicate()
    medians = {name: statistics.median(of) for name, of in times.items()}
    means = {name: statistics.fmean(of) for name, of in times.items()}
    result = {
        "pictures": args.pictures,
        "few": args.few,
        "size": args.size,
        "memory_mib": args.memory if group is not None else None,
        "precision": precision,
        "heads": heads,
        "median_seconds": medians,
        "mean_seconds": means,
        "ratio_of_medians": medians["many"] / medians["few"],
        "ratio_of_means": means["many"] / means["few"],
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
