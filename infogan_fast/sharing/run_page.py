"""The page of a run: what its folder holds, and an explorer of its codes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_fast.analysis.evaluation import match_labels
from infogan_fast.analysis.report import number
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.config import OPTIONS, Config, load_config
from infogan_fast.data.registry import IN_MEMORY
from infogan_fast.errors import NativeError, UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.runtime.device import choose_device
from infogan_fast.sharing.charts import MOST_POINTS, Curve, line_chart
from infogan_fast.sharing.evaluation_part import EvaluationPart, evaluation_part, not_of
from infogan_fast.sharing.explorer import LIMIT, Explorer, make_explorer
from infogan_fast.sharing.page import (
    DAMAGE,
    Section,
    Table,
    duration,
    evenly_spaced,
    finite,
    load_animation,
    load_json,
    load_picture,
    rendered,
)
from infogan_fast.training import checkpoint
from infogan_fast.training.alarms import ALARMS, explained
from infogan_fast.training.run_folder import read_config, read_metrics
from infogan_fast.training.scores import Scores

#: Most grids of samples, and codes with a chart, in a page.
MOST_SAMPLES, MOST_CHARTS = 12, 24
_SAMPLE_BYTES, _ANIMATION_BYTES = 500_000, 4_000_000
_LOSSES = {"d_real": "D, real images", "d_fake": "D, generated images", "g": "G"}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Ringing:
    """An alarm from the first row to the last in which it holds without a break.

    number: its mark in the charts. until: None if it holds in the last row.
    """

    number: int
    name: str
    since: int
    until: int | None
    meaning: str


def run_page(
    folder: Path,
    *,
    evaluation_file: Path | None = None,
    checkpoint_file: Path | None = None,
    device: str = "auto",
    data: str | None = None,
    data_dir: Path | None = None,
    pixel_range: str | None = None,
    label: str | None = None,
) -> str:
    """A page of HTML about a run. What the folder lacks, the page says.

    Args:
        folder, checkpoint_file, device, pixel_range, label: as for
            :func:`infogan_fast.analysis.run.load_run`.
        evaluation_file: what ``evaluate --json`` wrote; by default evaluation.json of the folder, if it is
            there.
        data, data_dir: images by whose labels the explorer names the categories of c1; by default it takes
            those of the evaluation.

    Raises:
        UserError: the folder is no run's, or what is asked for is not there.
    """
    saved = read_config(folder)
    config = load_config(saved["settings"])
    spec = config.latents
    choose_device(device)
    run, no_run = _find_run(folder, checkpoint_file, device, pixel_range, label)
    evaluation, no_evaluation = _find_evaluation(folder, evaluation_file, spec, run)
    names = _names(run, no_run, evaluation, data, data_dir)
    rows = read_metrics(folder)
    rings = ringing(rows)
    chosen = _chosen(config)
    explorer = make_explorer(run, names=names) if run is not None else None
    if run is not None and explorer is None:
        no_run = f"images of {run.image_size} pixels a side do not fit into {LIMIT / 1e6:g} MB"
    return rendered(
        "run.html.jinja",
        title=config.data_name,
        folder=str(folder),
        facts=_facts(saved, config, rows, run),
        unfinished=_unfinished(config, rows, rings, folder),
        explorer=explorer,
        explorer_data=_explorer_data(explorer, run, folder, checkpoint_file),
        explorer_limit=LIMIT,
        no_explorer=no_run,
        traversals=_traversals(folder),
        codes=_codes(spec, rows),
        code_charts=_code_charts(spec, rows, rings),
        losses=_losses(rows, rings),
        rings=rings,
        has_rows=bool(rows),
        samples=_samples(folder),
        evaluation=evaluation,
        no_evaluation=no_evaluation,
        evaluate_command=_evaluate_command(config, folder, checkpoint_file),
        data=_data(folder, saved),
        repeat=_repeat_command(config, chosen),
        settings=_settings(config, chosen),
        machine=_pairs("Machine and versions", {**_part(saved, "machine"), **_part(saved, "versions")}),
        checkpoints=_checkpoints(folder, rows, run),
    )


def _part(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = saved.get(name)
    return found if isinstance(found, dict) else {}


def _pairs(caption: str, values: Mapping[str, Any]) -> Table:
    return Table(
        caption, ["", "value"], [[str(name), str(value)] for name, value in values.items()], words=(1,)
    )


def _find_evaluation(
    folder: Path, given: Path | None, spec: LatentSpec, run: Run | None
) -> tuple[EvaluationPart | None, str]:
    """The evaluation, or why there is none. One that was asked for must be there, and this run's."""
    path = folder / "evaluation.json" if given is None else given
    if given is None and not path.exists():
        return None, "This run has not been evaluated yet."
    try:
        found = load_json(path)
        if found.get("latents") != str(spec):
            raise UserError(f"{path}: is of a run with latents {found.get('latents')}; this one has {spec}")
        if run is not None and (other := not_of(found, run)) is not None:
            raise UserError(f"{path}: {other}")
        return evaluation_part(found, spec), ""
    except UserError as error:
        if given is not None:
            raise UserError(f"--evaluation {error}; write it with evaluate --json") from None
        return None, f"{error}."
    except DAMAGE as error:
        if given is not None:
            raise UserError(
                f"--evaluation {path}: is damaged ({type(error).__name__}: {error}); write it again with "
                "evaluate --json"
            ) from None
        return None, f"{path}: is damaged ({type(error).__name__}: {error})."


def _find_run(
    folder: Path, checkpoint_file: Path | None, device: str, pixel_range: str | None, label: str | None
) -> tuple[Run | None, str]:
    """The run, or why it cannot be loaded. A checkpoint that was asked for must be there."""
    try:
        run = load_run(
            folder, checkpoint_file=checkpoint_file, device=device, pixel_range=pixel_range, label=label
        )
    except NativeError:
        raise
    except UserError as error:
        if checkpoint_file is not None:
            raise
        return None, str(error)
    return run, ""


def _names(
    run: Run | None, no_run: str, evaluation: EvaluationPart | None, data: str | None, data_dir: Path | None
) -> Sequence[str | None] | None:
    """The label of each category of c1: by the given images, else by the evaluation."""
    if data is None and data_dir is None:
        return evaluation.names if evaluation is not None else None
    if run is None:
        raise UserError(f"--data names categories by labels, which needs a checkpoint: {no_run}")
    found = match_labels(run, data=data, data_dir=data_dir)
    if found is None:
        what = "images have no labels" if run.spec.categorical_codes else "run has no categorical code"
        raise UserError(f"--data names categories by labels, and the {what}; leave it out")
    return found


def _facts(saved: Mapping[str, Any], config: Config, rows: Rows, run: Run | None) -> list[tuple[str, str]]:
    """The line under the title: names and values."""
    last = rows[-1] if rows else {}
    data = saved["data"]
    colours = "grey" if data["channels"] == 1 else "colour"
    done = f"{last['step']:,}" if rows else "none"
    facts = [("Updates", f"{done} of {config.steps:,}")]
    if (seconds := finite(last.get("seconds"))) is not None:
        facts.append(("Time", duration(seconds)))
    facts += [
        ("Images", f"{data['images']:,}, {data['image_size']} × {data['image_size']}, {colours}"),
        ("Latents", str(config.latents).replace(",", ", ")),
        ("Seed", str(config.seed)),
    ]
    if run is not None:
        average = ", moving average of the weights" if config.objective.ema > 0 else ""
        facts.append(("Explorer after", f"{run.updates:,} updates{average}"))
    return facts


def _unfinished(config: Config, rows: Rows, rings: Sequence[Ringing], folder: Path) -> str:
    """What to say of a run that has not done all its updates; empty for one that has."""
    done = rows[-1]["step"] if rows else 0
    if any(ring.name == "diverged" and ring.until is None for ring in rings):
        return f"Training stopped at update {done:,} of {config.steps:,}: {explained('diverged')}."
    if done >= config.steps:
        return ""
    again = shlex.join(["python", "-m", "infogan_fast.train", "--resume", str(folder)])
    return (
        f"This run has recorded {done:,} of {config.steps:,} updates: it is still training, or was stopped, "
        f"and {again} continues it."
    )


def _explorer_data(
    explorer: Explorer | None, run: Run | None, folder: Path, checkpoint_file: Path | None
) -> dict[str, Any] | None:
    """What the script reads, with the command that makes the same images."""
    if explorer is None or run is None:
        return None
    words = ["python", "-m", "infogan_fast.generate", str(folder), *_checkpoint_flag(checkpoint_file)]
    words += ["--n", str(explorer.plan.noise), "--seed", str(explorer.data["seed"])]
    return explorer.data | {"command": shlex.join(words)}


def _checkpoint_flag(checkpoint_file: Path | None) -> list[str]:
    return [] if checkpoint_file is None else ["--checkpoint", str(checkpoint_file)]


def _evaluate_command(config: Config, folder: Path, checkpoint_file: Path | None) -> str | None:
    """The command that evaluates what the page shows; None where the images are at no path."""
    if config.data == IN_MEMORY:
        return None
    words = ["python", "-m", "infogan_fast.evaluate", str(folder), *_checkpoint_flag(checkpoint_file)]
    return shlex.join([*words, "--json", str(folder / "evaluation.json")])


def ringing(rows: Rows) -> list[Ringing]:
    """The alarms of a run's rows, in the order in which they rang."""
    spans: list[tuple[str, int, int | None]] = []
    open_: dict[str, int] = {}
    before = 0
    for row in rows:
        named = row.get("alarms")
        holding = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        for name in [name for name in open_ if name not in holding]:
            spans.append((name, open_.pop(name), before))
        for name in holding:
            open_.setdefault(name, row["step"])
        before = row["step"]
    spans += [(name, since, None) for name, since in open_.items()]
    spans.sort(key=lambda span: span[1])
    return [
        Ringing(i, name, since, until, explained(name) if name.partition(" ")[0] in ALARMS else "")
        for i, (name, since, until) in enumerate(spans, 1)
    ]


def _thinned(rows: Rows) -> list[str]:
    if len(rows) <= MOST_POINTS:
        return []
    return [f"Curves show {MOST_POINTS} of the {len(rows):,} rows of metrics.jsonl, evenly spaced."]


def _codes(spec: LatentSpec, rows: Rows) -> Section:
    """The last bounds of each code."""
    section = Section()
    if not rows:
        section.missing.append("metrics.jsonl has no row yet: training adds one every --log-every updates.")
        return section
    # The last row of a run that diverged has no bounds.
    last = next((row for row in reversed(rows) if any(name[:2] == "L_" for name in row)), rows[-1])
    table = []
    for code in spec.codes:
        bound, entropy = finite(last.get(f"L_{code.name}")), finite(last.get(f"H_{code.name}"))
        share = f"{bound / entropy:.0%}" if code.is_categorical and bound is not None and entropy else ""
        kind = f"{code.kind}, {code.size} categories" if code.is_categorical else code.kind
        table.append([code.name, kind, number(bound), number(entropy), share])
    header = ["code", "kind", "L_I, nats", "H, nats", "L_I / H"]
    caption = f"What Q read back from generated images up to update {last['step']:,}"
    section.tables.append(Table(caption, header, table, words=(1,)))
    section.notes += _thinned(rows)
    if spec.n_codes > MOST_CHARTS:
        section.notes.append(f"Charts are of the first {MOST_CHARTS} of {spec.n_codes} codes.")
    return section


def _code_charts(spec: LatentSpec, rows: Rows, rings: Sequence[Ringing]) -> list[str]:
    """A chart of L_I and H over time for each code."""
    steps = [row["step"] for row in rows]
    charts = []
    for code in spec.codes[:MOST_CHARTS] if rows else ():
        bounds = [finite(row.get(f"L_{code.name}")) for row in rows]
        entropies = [finite(row.get(f"H_{code.name}")) for row in rows]
        marks = [(ring.since, str(ring.number)) for ring in rings if ring.name.endswith(f" {code.name}")]
        known = [value for value in bounds if value is not None]
        moved = f"from {known[0]:.3f} to {known[-1]:.3f} nats" if known else "unknown"
        entropy = next((value for value in reversed(entropies) if value is not None), None)
        alt = f"{code.name}: L_I over {steps[-1]:,} updates, {moved}; its entropy H is {number(entropy)}"
        curves = [
            Curve(f"L_I of {code.name}", steps, bounds),
            Curve("H", steps, entropies, None),
        ]
        charts.append(line_chart(code.name, alt, curves, unit="nats", marks=marks, size=(3.7, 2.2)))
    return charts


def _losses(rows: Rows, rings: Sequence[Ringing]) -> list[str]:
    """A chart of the losses over time, and one of the diversity where it was measured."""
    if not rows:
        return []
    steps = [row["step"] for row in rows]
    marks = [(ring.since, str(ring.number)) for ring in rings if not ring.name.startswith(("code", "sigma"))]
    curves = [
        Curve(name, steps, [finite(row.get(key)) for row in rows], i)
        for i, (key, name) in enumerate(_LOSSES.items())
    ]
    last = {curve.name: [value for value in curve.values if value is not None][-1:] for curve in curves}
    ends = ", ".join(f"{name} {number(values[0] if values else None)}" for name, values in last.items())
    alt = f"Losses over {steps[-1]:,} updates; at the end {ends}"
    charts = [line_chart("losses", alt, curves, unit="nats", marks=marks)]
    measured = [(row["step"], value) for row in rows if (value := finite(row.get("diversity"))) is not None]
    if measured:
        alt = f"Diversity of generated images relative to real ones; at the end {measured[-1][1]:.3f}"
        when, values = zip(*measured, strict=True)
        reference = Curve("real images", [0, steps[-1]], [1.0, 1.0], None)
        charts.append(
            line_chart(
                "diversity", alt, [Curve("diversity", when, values), reference], unit="share of variance"
            )
        )
    return charts


def _samples(folder: Path) -> Section:
    section = Section()
    try:
        found = sorted((folder / "samples").glob("*.png"))
    except OSError as error:
        section.missing.append(f"samples/ cannot be read ({error.strerror or error}).")
        return section
    if not found:
        section.missing.append("samples/ has no picture yet: training adds one every --sample-every updates.")
        return section
    for i in evenly_spaced(len(found), MOST_SAMPLES):
        step = found[i].stem.removeprefix("step-")
        when = f"{int(step):,} updates" if step.isdecimal() else found[i].name
        alt = f"Grid of generated images after {when}; each row is a category of c1 where there is one"
        try:
            section.pictures.append(load_picture(found[i], alt, when, limit=_SAMPLE_BYTES))
        except UserError as error:
            section.missing.append(f"{error}.")
    if len(found) > MOST_SAMPLES:
        section.notes.append(f"{MOST_SAMPLES} of the {len(found)} grids in samples/, evenly spaced.")
    return section


def _traversals(folder: Path) -> Section:
    """Pictures of what each code does: training's, and those that traverse may have made."""
    section = Section()
    how = "a row each category of c1, a panel each continuous code, swept from left to right"
    command = shlex.join(["python", "-m", "infogan_fast.traverse", str(folder)])
    stills = {
        "traversal.png": f"Traversal at the end of training: {how}",
        "traverse.png": f"Traversal by traverse: {how}",
    }
    for name, alt in stills.items():
        path = folder / name
        if name == "traversal.png" and not path.exists():
            section.missing.append(
                f"traversal.png is not there: training writes it at its end, and {command} another."
            )
        elif path.exists():
            try:
                section.pictures.append(load_picture(path, alt, name))
            except UserError as error:
                section.missing.append(f"{error}; {command} makes another.")
    path = folder / "traverse.gif"
    if path.exists():
        try:
            alt = "Animation: each panel sweeps a continuous code there and back, for four noise vectors"
            section.pictures.append(load_animation(path, alt, _ANIMATION_BYTES))
        except UserError as error:
            section.missing.append(f"{error}.")
    return section


def _data(folder: Path, saved: Mapping[str, Any]) -> Section:
    section = Section()
    path = folder / "data.txt"
    try:
        section.notes += path.read_text(errors="replace").splitlines()
    except OSError as error:
        section.notes.append(str(saved["data"]["source"]))
        section.missing.append(f"data.txt is not there or cannot be read ({error.strerror or error}).")
    try:
        alt = "Some of the training images, as the networks see them"
        section.pictures.append(load_picture(folder / "data.png", alt))
    except UserError as error:
        section.missing.append(f"{error}.")
    return section


def _chosen(config: Config) -> dict[str, Any] | None:
    """The fewest options, by name, that give this configuration; None if this version cannot."""
    target = config.options()

    def gives(options: Mapping[str, Any]) -> bool:
        try:
            return Config.from_options(options).checked().options() == target
        except UserError:
            return False

    plain = Config().checked().options()
    every = {name: value for name, value in target.items() if value is not None}
    chosen = {name: value for name, value in every.items() if value != plain[name]}
    if not gives(chosen):
        chosen = every
    if not gives(chosen):
        return None
    for name in sorted(chosen, key="preset".__eq__):  # a preset says more than what it stands for
        fewer = {key: value for key, value in chosen.items() if key != name}
        if gives(fewer):
            chosen = fewer
    return chosen


def _repeat_command(config: Config, chosen: Mapping[str, Any] | None) -> str | None:
    """The command that trains this run again; None if there is none."""
    if chosen is None or config.data == IN_MEMORY:
        return None
    words = ["python", "-m", "infogan_fast.train"]
    for name, value in chosen.items():
        flag = OPTIONS[name].flag
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif str(value).startswith("-"):
            words.append(f"{flag}={value}")
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def _settings(config: Config, chosen: Mapping[str, Any] | None) -> list[Table]:
    """The options of the run: first those that differ from what they are by default."""
    values = config.options()

    def row(name: str) -> list[str]:
        value = values[name]
        return [OPTIONS[name].flag, "not set" if value in (None, "") else OPTIONS[name].in_words(value)]

    header = ["option", "value"]
    if chosen is None:
        return [Table("All settings", header, [row(name) for name in values], words=(1,))]
    return [
        Table(
            "Different from the default", header, [row(name) for name in values if name in chosen], words=(1,)
        ),
        Table(
            "As by default, or as the recipe or preset sets them",
            header,
            [row(name) for name in values if name not in chosen],
            words=(1,),
        ),
    ]


def _checkpoints(folder: Path, rows: Rows, run: Run | None) -> Table | None:
    paths = checkpoint.listed(folder / "checkpoints")
    if not paths:
        return None
    best = Scores(rows).best(paths)
    table = []
    for path in paths:
        step = checkpoint.step_of(path)
        roles = ["best L_I"] if path == best else []
        roles += ["last"] if path == paths[-1] else []
        roles += ["shown on this page"] if run is not None and run.updates == step else []
        table.append([path.name, f"{step:,}", f"{path.stat().st_size / 1e6:.1f} MB", ", ".join(roles)])
    return Table("Checkpoints", ["file", "updates", "size", ""], table, words=(3,))
