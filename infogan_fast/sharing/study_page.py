"""The page of a folder of the seeds command: its runs side by side, and which one was chosen."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_fast.analysis.report import number
from infogan_fast.analysis.seed_summary import MIN_RUNS
from infogan_fast.errors import UserError
from infogan_fast.sharing.page import (
    DAMAGE,
    PICTURE_BYTES,
    Picture,
    Table,
    duration,
    finite,
    load_json,
    load_picture,
    rendered,
)

_STATISTICS = ("mean", "deviation", "min", "max")
#: Most seeds side by side in the table of figures; of more, a table of the runs follows the statistics.
MOST_COLUMNS = 10
_PICTURES_BYTES = 20_000_000


@dataclass(frozen=True)
class Seed:
    """A run of the study: its picture or what is wrong, and the lines under it."""

    number: int
    chosen: bool
    picture: Picture | None
    lines: list[str]
    problem: str


def study_page(folder: Path) -> str:
    """A page of HTML about the runs of a study.

    Raises:
        UserError: seeds.json is damaged.
    """
    path = folder / "seeds.json"
    found = load_json(path)
    try:
        return _page(folder, found)
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(
            f"{path}: is damaged ({type(error).__name__}: {error}); write it again with seeds --report --out "
            f"{folder}"
        ) from None


def _page(folder: Path, found: Mapping[str, Any]) -> str:
    rows = found["seeds"]
    finished = [row for row in rows if "figures" in row]
    selected = found["selected"]
    limit = min(PICTURE_BYTES, _PICTURES_BYTES // max(1, len(rows)))
    return rendered(
        "study.html.jinja",
        title=str(found["settings"].get("data", "strokes")),
        folder=str(folder),
        facts=[
            ("Seeds", f"{len(finished)} finished of {len(rows)}"),
            ("Chosen", "none" if selected is None else f"seed {selected}"),
        ],
        why=_why(found, finished),
        seeds=[_seed(folder, row, selected, limit) for row in rows],
        figures=_figures(found["summary"], finished) if finished else [],
        settings=Table(
            "Settings of every run, where they were given",
            ["option", "value"],
            [[str(name), str(value)] for name, value in found["settings"].items()],
        ),
        continue_command=shlex.join(["python", "-m", "infogan_fast.seeds", "--report", "--out", str(folder)]),
    )


def _why(found: Mapping[str, Any], finished: list[dict[str, Any]]) -> str:
    selected = found["selected"]
    if selected is None and len(finished) >= MIN_RUNS:
        return (
            "No run is chosen yet: the study is still running, was interrupted, or one of its runs or the "
            "images cannot be loaded; the command below tells."
        )
    if selected is None:
        return (
            f"No run is chosen: agreement needs at least {MIN_RUNS} finished runs, and {len(finished)} "
            f"{'is' if len(finished) == 1 else 'are'}."
        )
    row = next(row for row in finished if row["seed"] == selected)
    others = sorted((r["agreement"] for r in finished if r is not row and "agreement" in r), reverse=True)
    next_best = f"; the next one has {number(others[0])}" if others else ""
    return (
        f"Seed {selected} was chosen without labels: its codes agree best with those of the other runs on "
        f"the same real images, with a score of {number(row['agreement'])}{next_best}."
    )


def _seed(folder: Path, row: Mapping[str, Any], selected: Any, limit: int) -> Seed:
    seed = int(row["seed"])
    if "figures" not in row:
        return Seed(seed, False, None, [], f"Failed: {row.get('failed', 'seeds.json does not say why')}")
    name = Path(str(row["run"])).name  # of a folder in the study, whatever the file says
    lines = [f"{row['updates']:,} updates in {duration(float(row['seconds']))}"]
    if "agreement" in row:
        lines.append(f"agreement {number(row['agreement'])}")
    if row["alarms"]:
        lines.append(f"ended with alarms: {', '.join(map(str, row['alarms']))}")
    picture, problem = None, ""
    try:
        alt = f"Traversal of seed {seed}: a row each category of c1, a panel each continuous code"
        picture = load_picture(folder / name / "traversal.png", alt, limit=limit)
    except UserError as error:
        problem = f"{error}."
    return Seed(seed, seed == selected, picture, lines, problem)


def _figures(summary: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[Table]:
    """The figures with mean and deviation, and each run's next to them or, of many runs, below."""
    shown = rows if len(rows) <= MOST_COLUMNS else []
    blank = [""] * len(_STATISTICS)
    table = []
    for name, found in summary.items():
        cells = [number(finite(row["figures"].get(name))) for row in shown]
        table.append([name, *(number(finite(found[key])) for key in _STATISTICS), *cells])
    if shown:
        table.append(["agreement", *blank, *(number(finite(row.get("agreement"))) for row in shown)])
        table.append(["minutes", *blank, *(f"{row['seconds'] / 60:.1f}" for row in shown)])
    header = ["figure", *_STATISTICS, *(f"seed {row['seed']}" for row in shown)]
    tables = [Table("Figures over the finished runs", header, table)]
    if not shown:
        names = list(summary)
        by_run = [
            [
                f"seed {row['seed']}",
                *(number(finite(row["figures"].get(name))) for name in names),
                number(finite(row.get("agreement"))),
                f"{row['seconds'] / 60:.1f}",
            ]
            for row in rows
        ]
        tables.append(Table("Figures of each run", ["run", *names, "agreement", "minutes"], by_run))
    return tables
