"""A program: ``python -m infogan_fast.train`` with something wrong in one process of a job.

torchrun ... disturbed.py WHAT [OPTION ...]
"""

from __future__ import annotations

import os
import sys
import time

from infogan_fast.train import main as train
from infogan_fast.training.loop import Loop
from infogan_fast.training.metric_sums import MetricSums


def main() -> int:
    what, *flags = sys.argv[1:]
    update, save, take = Loop._update, Loop._save, MetricSums.take_means
    second = os.environ["RANK"] == "1"

    def disturbed(self: Loop) -> None:
        if self.done == 6 and second and what == "hangs":
            time.sleep(1000)
        if self.done == 6 and second and what == "fails":
            raise KeyError("a planted error")
        update(self)

    def slow(self: Loop) -> None:
        if what == "writes slowly" and not second:
            with self.job.writing():
                time.sleep(12)
        save(self)

    def diverged(self: MetricSums, updates: int) -> dict[str, float]:
        return take(self, updates) | ({"g": 1e6} if what == "diverges" else {})

    Loop._update, Loop._save = disturbed, slow  # type: ignore[method-assign]
    MetricSums.take_means = diverged  # type: ignore[method-assign]
    return train(flags)


if __name__ == "__main__":
    sys.exit(main())
