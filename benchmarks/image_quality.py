"""How good are generated digits, for a classifier? python benchmarks/image_quality.py RUN ... --data-dir DIR

The classifier of infogan_fast.evaluate is trained on real MNIST. Of each run, it then reads --per-class
images of each category of c1, all else drawn from the prior, and of the same count of real test images of
each digit:

share read     of a category's images, how many are read as the digit that the category is matched to (by
               infogan_fast.evaluate, on test images); the mean and the worst category
classes        of all images, the rarest digit's share, times ten: 1 where none is lost
coverage       share of real training images of a digit that have a generated one among the nearest: within
               the distance to their fifth nearest real one, in the classifier's features (Naeem et al. 2020,
               arXiv 2002.09797, section 3.3); real test images show how much there is to reach
style          within a digit, the deviation of slant and of stroke thickness over that of real test images
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import add_data_dir, machine, parser, write_json
from torch import Tensor

from infogan_fast.analysis import morphology
from infogan_fast.analysis.distances import covered
from infogan_fast.analysis.evaluation import match_labels
from infogan_fast.analysis.features import Features, fit_features
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.data import load_images
from infogan_fast.pictures.samples import draw_inputs, make_images, with_codes

MEASURES = (morphology.slant, morphology.thickness)


def deviations(images: Tensor) -> dict[str, float]:
    """Of each measure over images uint8 [N, 1, 28, 28]."""
    pixels = images[:, 0].numpy() / 255
    return {measure.__name__: float(np.nanstd(measure(pixels))) for measure in MEASURES}


def samples(run: Run, category: int, count: int) -> Tensor:
    inputs = draw_inputs(run.generator, run.spec, count, seed=1000 + category)
    fixed = torch.full((count,), category)
    return make_images(run.generator, with_codes(inputs, run.spec, {"c1": fixed}))


def _read(features: Features, images: Tensor) -> Tensor:
    """The digit that the classifier sees in each image, [N]; MNIST's labels are 0 to 9."""
    assert features.read is not None
    return torch.from_numpy(features.read(images))


def score(by_digit: dict[int, Tensor], features: Features, real: dict[str, Any]) -> dict[str, Any]:
    """Of images by the digit that they are meant to show; see the head of this file."""
    shares, read, coverage = {}, [], {}
    style: dict[str, dict[int, float]] = {measure.__name__: {} for measure in MEASURES}
    for digit, images in by_digit.items():
        answers = _read(features, images)
        read.append(answers)
        shares[digit] = float((answers == digit).float().mean())
        coverage[digit] = float(covered(real["features"][digit], features.of(images)).mean())
        for name, value in deviations(images).items():
            style[name][digit] = value / real["deviations"][digit][name]
    counts = torch.bincount(torch.cat(read), minlength=10)
    return {
        "share_read": shares,
        "share_read_mean": float(np.mean(list(shares.values()))),
        "share_read_worst": min(shares.values()),
        "classes": float(counts.min() / counts.sum() * 10),
        "coverage": coverage,
        "coverage_mean": float(np.mean(list(coverage.values()))),
        "coverage_worst": min(coverage.values()),
        "style": style,
        **{f"style_{name}": float(np.mean(list(values.values()))) for name, values in style.items()},
        **{f"style_{name}_worst": min(values.values()) for name, values in style.items()},
    }


def line(name: str, found: dict[str, Any]) -> str:
    return (
        f"{name:34} {found['share_read_mean']:.3f} {found['share_read_worst']:.3f}  {found['classes']:.2f}  "
        f"{found['coverage_mean']:.3f} {found['coverage_worst']:.3f}  "
        + "  ".join(
            f"{found[f'style_{m.__name__}']:.2f} {found[f'style_{m.__name__}_worst']:.2f}" for m in MEASURES
        )
    )


def main() -> None:
    options = parser(__doc__)
    add_data_dir(options)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs on MNIST")
    options.add_argument("--per-class", type=int, default=800, metavar="N", help="images (default: 800)")
    args = options.parse_args()
    train, test = (load_images("mnist", data_dir=args.data_dir, split=split) for split in ("train", "test"))
    assert train.labels is not None
    assert test.labels is not None
    features = fit_features(train, torch.device("cpu"))
    accuracy = float((_read(features, test.images) == test.labels).float().mean())
    print(f"classifier: accuracy {accuracy:.4f} on real test images", flush=True)
    count = args.per_class
    trained, held = (
        {digit: data.images[data.labels == digit][:count] for digit in range(10)} for data in (train, test)
    )
    real = {
        "features": {digit: features.of(images) for digit, images in trained.items()},
        "deviations": {digit: deviations(images) for digit, images in held.items()},
    }
    print(f"{'mean, worst':34} share read   classes  coverage     slant      thickness")
    results: dict[str, Any] = {
        "machine": machine(torch.device("cpu")),
        "features": features.name,
        "classifier_accuracy": accuracy,
        "per_class": count,
        "real test images": score(held, features, real),
        "runs": {},
    }
    print(line("real test images", results["real test images"]), flush=True)
    for folder in args.runs:
        run = load_run(folder, device="cpu")
        assigned = match_labels(run, data="mnist", data_dir=args.data_dir)
        assert assigned is not None
        meant = {int(label): category for category, label in enumerate(assigned) if label is not None}
        made = {digit: samples(run, meant[digit], count) for digit in sorted(meant)}
        name = f"{folder.parent.name}/{folder.name}"
        results["runs"][name] = score(made, features, real)
        print(line(name, results["runs"][name]), flush=True)
    write_json(args.json, results)


if __name__ == "__main__":
    main()
