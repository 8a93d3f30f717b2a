"""What the demo page computes: images with chosen codes, and how Q reads a picture. Imports no gradio."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from infogan_fast.analysis.codes import read_codes
from infogan_fast.analysis.run import Run, in_batches
from infogan_fast.data import pictures
from infogan_fast.data.image_set import Selection
from infogan_fast.errors import RunWarning, UserError
from infogan_fast.latents import Code
from infogan_fast.pictures import grids
from infogan_fast.pictures.samples import shown_categories, to_pixels
from infogan_fast.sharing.evaluation_part import not_of

#: Codes that the page has a control for; the others are drawn with the noise.
MOST_CODES = 32
#: What the page can show of chosen codes.
ONE, NOISES, CATEGORIES = "one image", "16 noises", "each category"
#: Noise vectors of a row of categories, of the grid of noises, and of what is made of a reading.
COLUMNS, NOISES_SHOWN, REMADE = 8, 16, 9
MAX_PIXELS = 50_000_000
_EXAMPLES = 16


@dataclass(frozen=True)
class Reading:
    """What Q reads from one image.

    probabilities: of each category, by the name of the categorical code; of a 1, of a Bernoulli code.
    means, sigmas: of Q's Gaussians, by the name of the uniform or normal code.
    values: of all codes, for the generator: the most likely category or bit, or the mean.
    """

    probabilities: dict[str, list[float]]
    means: dict[str, float]
    sigmas: dict[str, float]
    values: dict[str, int | float]


@dataclass(frozen=True, eq=False)
class Answers:
    """A run behind the page; see :func:`prepare`.

    encoder: Q for real images; None where these are not at hand.
    missing: why there is no encoder.
    names: of the categories, by the name of the code.
    examples: real images uint8 [N, C, S, S], at most 16.
    """

    run: Run
    encoder: nn.Sequential | None
    missing: str
    names: dict[str, list[str]]
    examples: Tensor

    @property
    def codes(self) -> tuple[Code, ...]:
        """The codes that the page has a control for."""
        return self.run.spec.codes[:MOST_CODES]

    @property
    def on_dark(self) -> bool:
        """Whether real images are mostly dark, so that a drawing on white paper needs inverting."""
        return len(self.examples) > 0 and float(self.examples.float().mean()) < 127.5

    def images(self, show: str, seed: int, values: Mapping[str, Any]) -> Image.Image:
        """A picture of :meth:`Run.generate` with this seed and these codes: one image at its own size, or a
        grid of enlarged ones.

        Args:
            show: one of :data:`ONE`, :data:`NOISES` and :data:`CATEGORIES`; that has a row for each of the
                :func:`shown_categories` of the first categorical code, and the noise of a column is the same.

        Raises:
            UserError: a value is out of range, or ``show`` is unknown.
        """
        if show == ONE:
            return as_picture(to_pixels(self.run.generate(1, seed=seed, **values))[0])
        if show == NOISES:
            return self._grid(self.run.generate(NOISES_SHOWN, seed=seed, **values), math.isqrt(NOISES_SHOWN))
        first = next(iter(self.run.spec.categorical_codes), None)
        if show != CATEGORIES or first is None:
            raise UserError(f"{show!r} cannot be shown of this run")
        rows = [
            self.run.generate(COLUMNS, seed=seed, **{**values, first.name: category})
            for category in shown_categories(first).tolist()
        ]
        return self._grid(torch.cat(rows), COLUMNS)

    def _grid(self, images: Tensor, columns: int) -> Image.Image:
        scale = grids.scale_for(self.run.image_size)
        return grids.image_grid(to_pixels(images), columns, scale=scale)

    def seen(self, data: bytes, *, invert: bool, background: str | None = None) -> Tensor:
        """A picture as the network sees it, uint8 [C, S, S]: read as the run's training pictures are.

        Args:
            data: of its file, in any format that training reads.
            invert: make dark pixels light, and light ones dark.
            background: what transparency is laid on; by default the run's.

        Raises:
            UserError: it is damaged, no picture, or has more than 50 million pixels.
        """
        _check_size(data)
        selection = Selection(
            image_size=self.run.image_size,
            channels=self.run.channels,
            crop=self.run.config.crop,
            background=background or self.run.config.background,
            count=1,
            skip_damaged=True,  # there is no other, so that it is an error all the same
        )
        file = pictures.PictureFile("the picture", lambda: io.BytesIO(data), len(data))
        image = pictures.decode([file], selection, "the picture").images[0]
        return 255 - image if invert else image

    def read(self, image: Tensor) -> Reading:
        """What Q reads from an image uint8 [C, S, S].

        Raises:
            UserError: there is no encoder.
        """
        if self.encoder is None:
            raise UserError(self.missing)
        spec = self.run.spec
        output = in_batches(self.encoder, image[None], self.run.device)
        read = {name: value.item() for name, value in read_codes(spec, output).items()}
        probabilities, means, sigmas = {}, {}, {}
        values: dict[str, int | float] = {}
        for code in spec.codes:
            values[code.name] = read[code.name]
            if code.is_categorical:
                probabilities[code.name] = output[0, code.q_columns].double().softmax(0).tolist()
            elif code.kind == "bernoulli":
                probabilities[code.name] = [read[code.name]]
                values[code.name] = int(read[code.name] >= 0.5)
            else:
                means[code.name] = read[code.name]
                sigmas[code.name] = self._sigma(code, output[0])
        return Reading(probabilities, means, sigmas, values)

    def _sigma(self, code: Code, output: Tensor) -> float:
        fixed = self.run.config.objective.fixed_log_variance
        if fixed is None:
            assert code.log_variance_column is not None
            # The loss clamps it, too.
            fixed = min(max(float(output[code.log_variance_column]), -10.0), 10.0)
        return math.exp(fixed / 2)

    def made_of(self, reading: Reading, seed: int) -> Image.Image:
        """What the generator makes of a reading: nine images with its codes, each with another noise."""
        return self._grid(self.run.generate(REMADE, seed=seed, **reading.values), math.isqrt(REMADE))


def prepare(run: Run, data: str | None, data_dir: Path | None) -> Answers:
    """Load what the page needs next to the run: Q's batch statistics, real images and names of categories.

    Args:
        data, data_dir: as for :meth:`Run.load_images`.

    Raises:
        UserError: the data that is asked for cannot be loaded. That of the run may be missing.
    """
    names = category_names(run)
    nothing = torch.empty(0, run.channels, run.image_size, run.image_size, dtype=torch.uint8)
    try:
        encoder = run.encoder if data is None and data_dir is None else run.encoder_for(**_at(data, data_dir))
        return Answers(run, encoder, "", names, _examples(run, data, data_dir))
    except UserError as error:
        if data or data_dir:
            raise
        # Images can be made without any data: the run may have been moved to another machine.
        return Answers(run, None, str(error), names, nothing)


def _at(data: str | None, data_dir: Path | None) -> dict[str, Any]:
    return {"data": data, "data_dir": data_dir}


def _examples(run: Run, data: str | None, data_dir: Path | None) -> Tensor:
    try:
        images = run.load_images("train", **_at(data, data_dir), count=_EXAMPLES).images
    except UserError:  # there are fewer
        images = run.load_images("train", **_at(data, data_dir)).images
    return images[:_EXAMPLES].clone()


def category_names(run: Run) -> dict[str, list[str]]:
    """Names for the categories of each categorical code: ``7 (c1 = 3)`` where evaluation.json in the run's
    folder matches them to labels, else their numbers.

    A file that is damaged, or of another checkpoint, is left aside with a warning.
    """
    names = {code.name: [str(i) for i in range(code.size)] for code in run.spec.categorical_codes}
    path = run.folder / "evaluation.json"
    if not names or not path.is_file():
        return names
    try:
        found = json.loads(path.read_bytes())
        if (other := not_of(found, run)) is not None:
            raise ValueError(other)
        for code in run.spec.categorical_codes:
            assigned = found["codes"][code.name].get("assignment")
            if assigned is None:
                continue
            if len(assigned) != code.size:
                raise ValueError(f"names {len(assigned)} of {code.size} categories of {code.name}")
            for i, label in enumerate(assigned):
                names[code.name][i] = (
                    f"{code.name} = {i}" if label is None else f"{label} ({code.name} = {i})"
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else "is damaged, or no evaluation"
        warnings.warn(
            f"{path}: {reason}, so categories have no names; write it with infogan_fast.evaluate --json",
            RunWarning,
            stacklevel=2,
        )
        return {code.name: [str(i) for i in range(code.size)] for code in run.spec.categorical_codes}
    return names


def as_picture(image: Tensor) -> Image.Image:
    """An image uint8 [C, S, S] as a picture, grey or RGB."""
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def _check_size(data: bytes) -> None:
    """Refuse what announces too many pixels, before they are decoded."""
    size = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    size = f"{picture.width} x {picture.height}"
        except Image.DecompressionBombError:
            size = "far too many"
        except Exception:  # decoding says what is wrong with it
            return
    if size:
        raise UserError(
            f"the picture has {size} pixels; the page takes {MAX_PIXELS:,} at most: make it smaller"
        )
