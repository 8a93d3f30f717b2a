"""Train on your own images through the Python API, and save a picture of what each code does.

    python examples/own_images.py --data ~/pictures --image-size 32
    python examples/own_images.py

Without --data it trains on an array of rings and crosses that it draws, to show that `data` can be an array.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import infogan_fast


def rings_and_crosses(count: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Images uint8 [count, size, size]: a ring or a cross, of random radius, turned at random."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1.0, 1.0, size)
    radius = rng.uniform(0.4, 0.8, (count, 1, 1))
    angle = rng.uniform(-0.5, 0.5, (count, 1, 1))
    x = axis * np.cos(angle) - axis[:, None] * np.sin(angle)
    y = axis * np.sin(angle) + axis[:, None] * np.cos(angle)
    distance = np.hypot(x, y)
    to_ring = np.abs(distance - radius)
    to_cross = np.where(distance < radius, np.minimum(np.abs(x), np.abs(y)), 1.0)
    is_ring = rng.random((count, 1, 1)) < 0.5
    ink = np.clip(1.5 - np.where(is_ring, to_ring, to_cross) * size / 3, 0.0, 1.0)
    return (255 * ink).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a folder of pictures, a .npy or .npz file, or a folder of IDX files")
    parser.add_argument("--image-size", type=int, help="resize to this many pixels a side")
    parser.add_argument("--latents", default="noise=62,cat=2,uniform=2")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("runs/own-images"))
    parser.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    args = parser.parse_args()

    run = infogan_fast.train(
        data=rings_and_crosses(5000) if args.data is None else args.data,
        image_size=args.image_size,
        latents=args.latents,
        steps=args.steps,
        batch_size=args.batch_size,
        # What leaves a class unchanged depends on the images, so it is for you to say: see docs/recipe.md.
        consistency=1.0,
        transformation="rotation=10,scale=0.15,shift=0.06",
        out=args.out,
        overwrite=args.overwrite,
    )
    picture = args.out / "codes.png"
    run.traversal().save(picture)
    print(f"{picture} shows what each code does")


if __name__ == "__main__":
    main()
