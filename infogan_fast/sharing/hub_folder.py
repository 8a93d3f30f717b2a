"""What a folder for the Hugging Face Hub holds next to the networks: a model card and a picture."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from infogan_fast.analysis.report import report
from infogan_fast.analysis.run import Run
from infogan_fast.data.registry import IN_MEMORY, SOURCES
from infogan_fast.errors import UserError
from infogan_fast.sharing.evaluation_part import not_of
from infogan_fast.sharing.metadata import FORMAT
from infogan_fast.training import run_folder

_CARD = """---
library_name: pytorch
pipeline_tag: unconditional-image-generation
tags:
- infogan
- gan
- disentanglement
- representation-learning
---

# InfoGAN of {title}

![{picture}](traversal.png)

An [InfoGAN](https://arxiv.org/abs/1606.03657), trained by infogan_fast {version} on {images:,} images
without labels: {updates:,} updates, batches of {batch_size}. The generator makes images of
{size} x {size} pixels, {colours}, from noise and codes; {encoder}.

**License:** none is given. Before you publish this folder, add a `license:` to the header of this file, and
see what the terms of the training images allow.

## Codes

{codes}

Columns are counted from 0, the last one included. L_I is a lower bound on the mutual information of a code
and the image, H the entropy of the code, in nats: L_I close to H means that Q can read the code from the
image, L_I close to 0 that the generator ignores it. {measured}
{evaluation}
## Use

`infogan_networks.py` needs PyTorch and safetensors, nothing else.

```python
from infogan_networks import draw, load

generator, encoder = load("model.safetensors")
latents = draw(16)  # float32 [16, {latents}], each part from its prior
images = generator(latents)  # float32 [16, {channels}, {size}, {size}] in [0, 1]
{use}```

`config.json` says in which columns of the latents and of Q's answers each code lies. Networks: `{network}`.
"""


def check_free(folder: Path) -> None:
    """Check that a folder is new, empty or an earlier export.

    Raises:
        UserError: it holds something else.
    """
    if not folder.is_dir() or not any(path for path in folder.iterdir() if path.name[:8] != ".export-"):
        return
    try:
        ours = json.loads((folder / "config.json").read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise UserError(f"--out {folder}: is not empty, and no earlier export; give a new folder")


def read_evaluation(run: Run, path: Path | None) -> str | None:
    """The report of an evaluation of this run, as text; None where there is none.

    Args:
        path: of what ``evaluate --json`` wrote; by default RUN/evaluation.json, which may be absent.

    Raises:
        UserError: it cannot be read, or is another run's.
    """
    file = path or run.folder / "evaluation.json"
    if path is None and not file.exists():
        return None
    try:
        found = json.loads(file.read_text())
        other = not_of(found, run)
        text = report({**found, "run": run.folder.resolve().name, "data": _public(found["data"], run)})
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise UserError(f"{file}: is not what evaluate --json writes ({reason}); evaluate again") from None
    if other is not None:
        raise UserError(f"{file}: {other}; evaluate again, or give another file with --evaluation")
    return text


def _public(data: dict[str, Any], run: Run) -> dict[str, Any]:
    """The description of an evaluation's images without paths of this machine."""
    own = data.get("own", True)  # of an earlier version, which did not say
    source = _title(run) if own else re.sub(r"^[^:]*/", "", data["source"])
    why_not = data["why_not"]
    if why_not is not None and "/" in why_not:
        why_not = "it has no test split"
    return {**data, "source": source, "why_not": why_not}


def card(run: Run, metadata: dict[str, Any], evaluation: str | None, *, with_encoder: bool) -> bytes:
    """README.md: what the networks are, with the run's figures.

    Args:
        metadata: see :func:`infogan_fast.sharing.metadata.describe`.
        evaluation: see :func:`read_evaluation`.
    """
    rows = [row for row in run_folder.read_metrics(run.folder) if row["step"] <= run.updates]
    row = rows[-1] if rows else {}
    lines = ["| code | kind | prior | columns of the latents | columns of Q's answers | L_I | H |"]
    lines.append("| --- | --- | --- | --- | --- | ---: | ---: |")
    if metadata["noise"]["size"]:
        noise = metadata["noise"]
        lines.append(f"| noise | | {noise['prior']} | {_columns(noise['latents'])} | | | |")
    for code in metadata["codes"]:
        kind, prior = code["kind"], code["prior"]
        if kind == "categorical":
            kind = f"categorical, {code['size']} categories"
            prior = "uniform" if len(set(prior)) == 1 else ", ".join(f"{p:g}" for p in prior)
        answers = ", ".join(f"{what.replace('_', ' ')} {_columns(c)}" for what, c in code["answers"].items())
        figures = [_figure(row.get(f"{letter}_{code['name']}")) for letter in "LH"]
        cells = [code["name"], kind, prior, _columns(code["latents"]), answers, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    measured = "This run has no figures of them."
    if row:
        measured = f"The figures are of training, at {row['step']:,} updates."
    text = _CARD.format(
        title=_markdown(_title(run)),
        picture="A sweep of each code that is no category, with all else as it is"
        if run.spec.continuous_codes
        else "Images of each category; a column has the same noise",
        version=run_folder.read_config(run.folder).get("versions", {}).get("infogan_fast", "?"),
        images=run.train_images,
        updates=run.updates,
        batch_size=run.config.batch_size,
        size=run.image_size,
        channels=run.channels,
        colours={1: "grey", 3: "in colour"}[run.channels],
        encoder="the encoder, Q, reads the codes from images" if with_encoder else "the encoder is not here",
        codes="\n".join(lines),
        measured=measured,
        evaluation="" if evaluation is None else f"\n## Evaluation\n\n{_fenced(evaluation)}\n",
        latents=metadata["latent_columns"],
        use=f"answers = encoder(images)  # float32 [16, {metadata['answer_columns']}]\n"
        if with_encoder
        else "",
        network=metadata["network"],
    )
    return text.encode(errors="backslashreplace")


def picture(run: Run) -> bytes:
    """traversal.png: what each code changes, at the run's checkpoint."""
    buffer = io.BytesIO()
    run.traversal().save(buffer, format="png")
    return buffer.getvalue()


def _title(run: Run) -> str:
    """What the run was trained on: a published name, or of a path the last part, which says less of a
    machine."""
    if run.config.data == IN_MEMORY or run.config.data in SOURCES:
        return run.config.data
    return Path(run.config.data).name


def _markdown(text: str) -> str:
    """A user's text, in one line, that Markdown and HTML show as it is."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;")


def _fenced(text: str) -> str:
    """A block of code that no run of backticks in it can end."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _columns(columns: list[int]) -> str:
    first, end = columns
    return str(first) if end - first == 1 else f"{first} to {end - 1}"


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""
