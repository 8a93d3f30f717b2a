"""What the benchmarks on MNIST share: where its files are, and the images."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from infogan_fast.data import ImageSet, load_images


def parser(description: str | None) -> argparse.ArgumentParser:
    """With --data-dir and --json."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("INFOGAN_FAST_MNIST"),
        metavar="DIR",
        help="folder of the MNIST files (default: INFOGAN_FAST_MNIST, or the cache folder, downloading)",
    )
    result.add_argument("--json", type=Path, metavar="FILE")
    return result


def add_training(parser: argparse.ArgumentParser, updates: int) -> None:
    """--updates, by default so many, --every, --batch-size, --seeds, --threads and --device."""
    parser.add_argument(
        "--updates", type=int, default=updates, metavar="N", help=f"at most (default: {updates})"
    )
    parser.add_argument("--every", type=int, default=250, metavar="N", help="between looks (default: 250)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="B")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))


def load(data_dir: Path | None) -> tuple[ImageSet, ImageSet]:
    """Training and test images, with labels."""
    return load_images("mnist", data_dir=data_dir), load_images("mnist", data_dir=data_dir, split="test")
