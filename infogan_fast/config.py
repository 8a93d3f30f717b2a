"""The configuration of a training run: its options, and the checks across them.

``python -m infogan_fast.config`` prints docs/options.md. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infogan_fast.constants import DEVICES, MIN_SIZE
from infogan_fast.data.background import parse_background
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.data.registry import IN_MEMORY, SOURCES, check_data_dir, is_published
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.architecture import (
    AUTO,
    NETWORKS,
    Architecture,
    architecture,
    parse_network,
)
from infogan_fast.objective.code_weights import CodeWeights
from infogan_fast.objective.consistency import Consistency
from infogan_fast.objective.objective import MI_GRADIENTS, SCHEDULES, Objective
from infogan_fast.objective.term import make_terms, term_options
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import Option, markdown, option, options_of
from infogan_fast.presets import PRESETS
from infogan_fast.recipes import ALWAYS, DEFAULT, LEARNED_PRIOR, NEED_TWO_CONTINUOUS_CODES, PAPER, RECIPES
from infogan_fast.runtime.files import expanded

LINEAR_LIBRARIES = ("auto", "onednn", "mkl")
MATMUL_PRECISIONS = ("highest", "high")
BATCH_NORMS = ("global", "local")
REDUCE_DTYPES = ("float32", "bfloat16")

Updates = tuple[int, int]


def parse_updates(text: str) -> Updates:
    """Read ``START:STOP``.

    Raises:
        UserError: it is not that.
    """
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise UserError(f"--profile is {text!r}; expected START:STOP, such as 100:110")
    return int(start), int(stop)


@dataclass(frozen=True)
class Config:
    """Every setting of a run, by the name of its flag. The options of the objective's terms are in ``terms``.

    What the recipe decides is None until :meth:`checked` fills it in.
    """

    # -- data
    data: str = option(
        next(iter(SOURCES)),
        f"images by name ({', '.join(SOURCES)}), or a folder, archive or file of them, see docs/data.md",
        details="Of a resumed run it may name another place of the same images.",
        group="data",
        metavar="NAME|PATH",
        resumable=True,
    )
    data_dir: str | None = option(
        None,
        "folder of the files of MNIST and other published images",
        group="data",
        kind=str,
        shown="the cache folder, downloading",
        metavar="DIR",
        resumable=True,
    )
    images: int | None = option(
        None, "train on this many images", group="data", kind=int, shown="all", low=1, metavar="N"
    )
    image_size: int | None = option(
        None,
        f"resize to this many pixels a side, at least {MIN_SIZE}",
        group="data",
        kind=int,
        shown="as they are",
        low=MIN_SIZE,
        metavar="PIXELS",
    )
    channels: int | None = option(
        None, "1: grey, 3: colour", group="data", kind=int, shown="as they are", choices=(1, 3)
    )
    pixel_range: PixelRange | None = option(
        None,
        "values of black and white in arrays, such as 0..1, -1..1 or 0..65535",
        details="Without it the range of floating-point and 16-bit arrays is found where it is beyond doubt. "
        "Values outside of a given range are an error.",
        group="data",
        kind=PixelRange,
        shown="0..255 of uint8, else as found",
        parse=PixelRange.parse,
        metavar="LOW..HIGH",
    )
    label: str | None = option(
        None,
        "which labels to take of data that has several, for evaluation",
        details="An array, a column, a factor or an attribute, such as `coarse` of CIFAR-100.",
        group="data",
        kind=str,
        shown="the first",
        metavar="NAME",
        resumable=True,
    )
    crop: bool = option(
        True,
        "cut the middle square out of pictures instead of stretching them",
        group="data",
    )
    background: str = option(
        "white",
        "what transparent pictures are laid on: white, black, a grey from 0 to 255, or #rrggbb",
        details="Runs of versions without this option keep black.",
        group="data",
        parse=parse_background,
        metavar="COLOUR",
    )
    skip_damaged: bool = option(
        False,
        "leave out pictures that cannot be read",
        details="Their names and the reasons are in the run's `left-out.txt`.",
        group="data",
    )
    # -- latents and networks
    preset: str | None = option(
        None,
        "settings of the paper's experiment on these images, where they are not given",
        details="Network, codes, weights, learning rates, size of the images and, where they are known by "
        "name, the images. `infogan_fast/presets.py` has the tables.",
        group="latents and networks",
        kind=str,
        shown="none",
        choices=tuple(PRESETS),
    )
    latents: LatentSpec = option(
        LatentSpec(),
        "noise and codes: noise=N[:uniform], cat=K[:learned] (may repeat), uniform=N, normal=N, bernoulli=N",
        details="`noise=N:uniform` draws noise from U(-1, 1); `cat=P/P/...` gives a categorical code these "
        "probabilities, `cat=K:learned` those with which the categories are found in the images. Codes are "
        "named c1, c2, ..., categorical ones first.",
        group="latents and networks",
        parse=LatentSpec.parse,
        metavar="SPEC",
    )
    network: str = option(
        AUTO,
        f"{AUTO}: the paper's for MNIST, fitted to the size of the images; {', '.join(NETWORKS)}: the "
        "paper's for these; or a table of layers",
        details="A table such as `D: conv 64 s2, conv 128 s2 bn, fc 1024 bn; Q: fc 128 bn; G: fc 1024 bn, fc "
        "7x7x128 bn, up 64 s2 bn, up 1 s2 sigmoid`; `infogan_fast/networks/architecture.py` explains it.",
        group="latents and networks",
        parse=parse_network,
        metavar="NAME|TABLE",
    )
    leaky_slope: float = option(
        0.1,
        "slope of the discriminator's leaky units",
        group="latents and networks",
        low=0,
        high=1,
        metavar="X",
    )
    # -- objective
    recipe: str = option(
        RECIPES[0],
        "values for what is not given; paper: the paper's objective alone",
        details="`default` adds consistency to the paper's objective on data sets that it is known to help, "
        "with values that suit it. Options override either recipe.",
        group="objective",
        choices=RECIPES,
    )
    lambda_categorical: float | None = option(
        None,
        "weight of the mutual information of each categorical code",
        group="objective",
        kind=float,
        low=0,
        metavar="X",
        by_recipe=True,
    )
    lambda_continuous: float = option(
        Objective.lambda_continuous,
        "weight of the mutual information of each other code",
        group="objective",
        low=0,
        metavar="X",
    )
    lambda_: CodeWeights = option(
        CodeWeights(),
        "weights of the mutual information by code, such as c1=1,c2=0.1",
        details="Codes that are not named have that of their kind. In Python it is called `lambda_`.",
        group="objective",
        shown="by kind",
        parse=CodeWeights.parse,
        metavar="CODE=X,...",
    )
    fixed_sigma: float | None = option(
        None,
        "standard deviation of Q's Gaussians",
        group="objective",
        kind=float,
        shown="learned",
        low=math.exp(-5),  # the log-variance that Q may learn lies between -10 and 10
        high=math.exp(5),
        expected="a number from 0.0068 to 148",
        metavar="X",
    )
    mi_gradient: str = option(
        Objective.mi_gradient,
        "what the mutual information trains besides Q",
        details="`generator`: the generator and Q; `trunk`: the discriminator's trunk too.",
        group="objective",
        choices=MI_GRADIENTS,
    )
    schedule: str = option(
        Objective.schedule,
        "one-stage: both players' gradients at the same weights, in less time",
        details="`alternating`: the generator learns from the updated discriminator, as in the paper.",
        group="objective",
        choices=SCHEDULES,
    )
    transformation: Transformation | None = option(
        None,
        "largest change of the copies, such as rotation=15,scale=0.1",
        details="`rotation` in degrees, `scale`, `shear`, `shift` as a share of the side, `colour` as a "
        "share, `flip=1` to mirror half of the copies; a part that is left out is 0.",
        group="objective",
        kind=Transformation,
        shown="by data set",
        parse=Transformation.parse,
        metavar="SPEC",
    )
    restart_q: int | None = option(
        None,
        "updates after which Q's head starts again; 0: never",
        details="Q would keep the categories that it found in the poor features of the first updates.",
        group="objective",
        kind=int,
        low=0,
        metavar="N",
        by_recipe=True,
        in_updates=True,
    )
    # -- optimisation
    steps: int = option(
        1500,
        "updates of each player",
        details="Adam counts them in float32 in a checkpoint.",
        group="optimisation",
        low=1,
        high=2**24 - 1,
        metavar="N",
        resumable=True,
        in_updates=True,
    )
    # One image has no batch statistics.
    batch_size: int = option(128, "images an update", group="optimisation", low=2, metavar="B")
    seed: int = option(
        0,
        "seed of weights, latents, data order and drawings",
        group="optimisation",
        low=-(2**63),
        high=2**63 - 1,
        expected="a 64-bit integer",
        metavar="S",
    )
    lr_d: float = option(
        Objective.lr_d, "Adam's learning rate: discriminator", group="optimisation", above=0, metavar="X"
    )
    lr_q: float | None = option(
        None,
        "Adam's learning rate: Q's head",
        group="optimisation",
        kind=float,
        above=0,
        metavar="X",
        by_recipe=True,
    )
    lr_g: float = option(
        Objective.lr_g, "Adam's learning rate: generator", group="optimisation", above=0, metavar="X"
    )
    beta1: float = option(
        Objective.beta1, "Adam's decay of the mean", group="optimisation", low=0, below=1, metavar="X"
    )
    beta2: float = option(
        Objective.beta2, "Adam's decay of the variance", group="optimisation", low=0, below=1, metavar="X"
    )
    ema: float | None = option(
        None,
        "decay of an average of the networks' weights; 0: none",
        details="What a run makes and reads comes from the average, which training itself does not use. It "
        "makes better images, and reads MNIST better from about 2,500 updates on. In update t the decay is "
        "at most 1 - 9 / (t + 10): 0.999 is reached after 9,000. With 0 the last weights are used.",
        group="optimisation",
        kind=float,
        low=0,
        below=1,
        metavar="X",
        by_recipe=True,
    )
    # -- machine
    amp: bool = option(
        False, "mixed precision: bfloat16, or float16 on CUDA devices without it", group="machine"
    )
    device: str = option(
        "auto", "auto takes CUDA where there is a device", group="machine", choices=DEVICES, resumable=True
    )
    threads: int | None = option(
        None,
        "CPU threads",
        group="machine",
        kind=int,
        shown="as many as the process may use",
        low=1,
        high=1024,  # with tens of thousands the system has no more, and OpenMP ends the process
        metavar="N",
        resumable=True,
    )
    linear: str = option(
        "auto",
        "library of float32 linear layers on a CPU; auto: oneDNN on AMD",
        group="machine",
        choices=LINEAR_LIBRARIES,
    )
    matmul_precision: str = option(
        "highest",
        "precision of float32 matrix products on a GPU; high: TF32, faster, 10 bits of mantissa",
        group="machine",
        choices=MATMUL_PRECISIONS,
    )
    deterministic: bool = option(
        False,
        "the same bits on the same hardware, or an error",
        details="Two updates are run twice at the start and compared. PyTorch uses deterministic algorithms "
        "alone. A run continues only on the hardware, with the threads and the PyTorch that it began with.",
        group="machine",
    )
    cuda_graph: bool | None = option(
        None,
        "replay the iteration as one CUDA graph",
        group="machine",
        kind=bool,
        shown="on a CUDA device",
        resumable=True,
    )
    steps_per_replay: int = option(
        1,
        "updates in one CUDA graph; --steps and every --...-every must be multiples of it",
        group="machine",
        low=1,
        metavar="K",
        resumable=True,
    )
    profile: Updates | None = option(
        None,
        "profile these updates: for Nsight on CUDA, into profile.json on a CPU",
        group="machine",
        kind=tuple,
        shown="none",
        parse=parse_updates,
        metavar="START:STOP",
        resumable=True,
    )
    profile_phases: bool = option(
        False,
        "run the profiled updates outside the graph, a range for each phase",
        group="machine",
        resumable=True,
    )
    # -- several processes
    batch_norm: str = option(
        BATCH_NORMS[0],
        "rows of which batch normalisation takes statistics: of all processes, or each one's own",
        details="`global`: the result is that of one process, at the cost of a message for each layer and "
        "pass; `local`: faster, and another result for another number of processes.",
        group="several processes",
        choices=BATCH_NORMS,
    )
    reduce_dtype: str = option(
        REDUCE_DTYPES[0],
        "dtype in which gradients are averaged over the processes; bfloat16 halves the bytes sent",
        group="several processes",
        choices=REDUCE_DTYPES,
    )
    rank_timeout: float = option(
        300.0,
        "seconds without a sign of life, or of progress, after which a process is taken for dead",
        details="The job then ends, the first process says which one it was, and the last checkpoint stays. "
        "While the first process writes files, the others wait for it ten times as long.",
        group="several processes",
        low=5,
        metavar="SECONDS",
        resumable=True,
    )
    # -- output
    log_every: int = option(
        25,
        "updates between rows of metrics.jsonl",
        group="output",
        low=1,
        metavar="N",
        resumable=True,
        in_updates=True,
    )
    sample_every: int = option(
        500,
        "updates between grids in samples/",
        group="output",
        low=1,
        metavar="N",
        resumable=True,
        in_updates=True,
    )
    checkpoint_every: int = option(
        1000,
        "updates between checkpoints",
        group="output",
        low=1,
        metavar="N",
        resumable=True,
        in_updates=True,
    )
    keep_checkpoints: int = option(
        3,
        "how many of the last checkpoints to keep, besides the best",
        details="The best is the one, among those without alarms, in which the codes' lower bounds of mutual "
        "information, `L_CODE`, come closest to their entropies; `--checkpoint best` of the other commands "
        "takes it.",
        group="output",
        low=1,
        metavar="N",
        resumable=True,
    )
    tensorboard: bool = option(
        False,
        "write rows, pictures and settings for TensorBoard, into RUN/tensorboard",
        details="`tensorboard --logdir runs` compares the runs in a folder; see docs/logging.md.",
        group="output",
        resumable=True,
    )
    # -- options that the terms of the objective declare
    terms: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> Config:
        """The configuration with these options, by name; None counts as not given.

        Args:
            given: values, or texts where a flag takes a text. Validity is left to :meth:`checked`.

        Raises:
            UserError: an option is not known, or its value has another type or cannot be parsed.
        """
        for name in given:
            if name not in OPTIONS:
                close = difflib.get_close_matches(name.lower().replace("-", "_"), OPTIONS, 1)
                suggestion = f"; did you mean {close[0]}?" if close else ""
                raise UserError(f"there is no option {name!r}{suggestion}")
        values = {name: OPTIONS[name].convert(v) for name, v in given.items() if v is not None}
        preset = values.get("preset")
        if preset is not None:
            OPTIONS["preset"].check(preset)
            if "data" not in {*PRESETS[preset], *values}:
                raise UserError(
                    f"--preset {preset}: the paper's images are not known by name; give yours: --data PATH"
                )
            known = {name: OPTIONS[name].convert(value) for name, value in PRESETS[preset].items()}
            values = {**known, **values}
        terms = {name: values.pop(name) for name in list(values) if name in term_options()}
        if (
            "latents" in values and values["latents"].has_learned_priors
        ):  # what another run learned is no option
            values["latents"] = LatentSpec.parse(str(values["latents"]))
        return cls(**values, terms=terms)

    def get(self, name: str) -> Any:
        """The value of an option by name; None where it is not decided yet."""
        return self.terms.get(name) if name in term_options() else getattr(self, name)

    def options(self) -> dict[str, Any]:
        """Every option by name, in values that JSON has: what config.json holds."""
        return {name: _plain(self.get(name)) for name in OPTIONS}

    def changed(self, values: Mapping[str, Any]) -> Config:
        """This configuration with other values of some options, by name."""
        known = {name: self.get(name) for name in OPTIONS}
        return Config.from_options({**known, **values})

    @property
    def data_name(self) -> str:
        """The data's name, or the last part of a path; folders are named after it."""
        known = self.data in SOURCES or self.data == IN_MEMORY
        return self.data if known else expanded(self.data).resolve().name

    @property
    def objective(self) -> Objective:
        """The objective of a checked configuration."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Objective) if f.name != "terms"}
        own["transformation"] = self.transformation or Transformation()
        return Objective(**own, terms=make_terms(self.terms))

    def checked(self) -> Config:
        """This configuration, with what the recipe decides filled in.

        Raises:
            UserError: it is not valid; the text names the flag.
        """
        for name, declared in OPTIONS.items():
            declared.check(self.get(name))
        check_data_dir(self.data, self.data_dir)
        self._check_codes()
        self._check_network()
        result = self._by_recipe()
        result._check_updates()
        result._check_copies()
        return result

    @property
    def folder_of_data(self) -> str | None:
        """``data_dir`` where it has a meaning: versions before this check ignored it elsewhere."""
        return self.data_dir if is_published(self.data) else None

    def _check_codes(self) -> None:
        if self.latents.n_codes == 0:
            raise UserError(
                f"--latents {self.latents}: InfoGAN needs at least one code, "
                f"for example {self.latents},cat=10"
            )

        self.lambda_.check(self.latents)

    def _check_network(self) -> None:
        """Check that the network is for images of the size asked for, as far as it is known."""
        if self.network != AUTO:
            own = Architecture.of(self.network)
            architecture(self.network, self.image_size or own.image_size, self.channels or own.channels)

    def _by_recipe(self) -> Config:
        """With the recipe's values where options are not given, and the default copies if any."""
        source = SOURCES.get(self.data)
        transformation = source.transformation if source is not None else None
        consistency = self.terms.get("consistency")
        if consistency is None:
            known = self.recipe == "default" and transformation and self.latents.n_categorical
            consistency = DEFAULT["consistency"] if known else PAPER["consistency"]
        decided = PAPER | {name: DEFAULT[name] for name in ALWAYS if self.recipe == "default"}
        if consistency and self.recipe == "default":
            decided = DEFAULT | (dict(source.recipe) if source is not None else {})
            if self.latents.has_learned_priors and self.get("balance_until") != 0:
                decided = decided | LEARNED_PRIOR
            if len(self.latents.ordered_codes) < 2:
                decided = decided | dict.fromkeys(NEED_TWO_CONTINUOUS_CODES, 0.0)
        if self.transformation is not None and not self.transformation.bend:
            decided = decided | {"bending": 0.0}
        missing = {name: value for name, value in decided.items() if self.get(name) is None}
        result = self.changed(missing | {"consistency": consistency})
        if any(term.weight for term in make_terms(result.terms)) and result.transformation is None:
            return result.changed({"transformation": transformation or Transformation()})
        return result

    def check_effects(self, given: Mapping[str, Any]) -> None:
        """Refuse what changes nothing: options of codes that there are none of, or of a term that is off.

        Args:
            given: the options that the user gave, by name.

        Raises:
            UserError: one of them changes nothing.
        """
        spec = self.latents
        of_codes = {
            "lambda_categorical": ("categorical", spec.n_categorical),
            "lambda_continuous": ("continuous", spec.n_continuous),
            "fixed_sigma": ("uniform or normal", len(spec.ordered_codes)),
        }
        off = {
            name: f"--{term.name}"
            for term in make_terms(self.terms)
            if not term.weight
            for name in options_of(type(term))
        }
        for name in (name for name, value in given.items() if value):
            shown = f"{OPTIONS[name].flag} {self.get(name)}"
            kind, count = of_codes.get(name, ("", 1))
            if not count:
                raise UserError(f"{shown} is of {kind} codes, and --latents {spec} has none; leave it out")
            if name in off:
                raise UserError(f"{shown} needs {off[name]} WEIGHT, such as 1; leave it out, or give both")

    def _check_copies(self) -> None:
        """Check that the terms go with the codes and the copies, and that copies are used."""
        objective = self.objective
        objective.measured_terms(self.latents)
        if self.transformation is not None and not any(term.weight for term in objective.terms):
            flags = ", ".join(f"--{term.name}" for term in objective.terms if term.name != "consistency")
            raise UserError(
                f"--transformation {self.transformation} needs --consistency WEIGHT, such as 1, or one of "
                f"{flags}"
            )

    def _check_updates(self) -> None:
        """Check that graphs and profiles stop where the loop does."""
        count = self.steps_per_replay
        if self.cuda_graph is False and count > 1:
            raise UserError(f"--steps-per-replay {count} needs --cuda-graph")
        for name, declared in OPTIONS.items():
            if declared.in_updates and (value := self.get(name)) % count:
                near = -(-value // count) * count
                raise UserError(
                    f"{declared.flag} is {value}; expected a multiple of --steps-per-replay {count}: give "
                    f"{declared.flag} {near}, or --steps-per-replay {math.gcd(value, count)}"
                )
        parts, until = Consistency.PARTS_OF_BALANCE, self.get("balance_until")
        if until % (parts * count) and count > 1:
            near = -(-until // (parts * count)) * parts * count
            raise UserError(
                f"--balance-until is {until}, of which balance falls at fifteenths; expected a multiple of "
                f"{parts} x --steps-per-replay {count}: give --balance-until {near}"
            )
        if self.profile is None:
            if self.profile_phases:
                raise UserError("--profile-phases needs --profile START:STOP")
            return
        start, stop = self.profile
        if start % count or stop % count or stop > self.steps:
            raise UserError(
                f"--profile is {start}:{stop}; expected multiples of --steps-per-replay {count}, up to "
                f"--steps {self.steps}"
            )

    def resumed(self, given: Mapping[str, Any]) -> Config:
        """The configuration with which a run of this one continues, given these options.

        Raises:
            UserError: an option contradicts the run.
        """
        asked = Config.from_options({"data": self.data, **given})
        # A profile belongs to one session, and may be of updates that are done.
        kept = dataclasses.replace(self, profile=None, profile_phases=False, data_dir=self.folder_of_data)
        given = {name: asked.get(name) for name in given if asked.get(name) is not None}
        for name, value in given.items():
            OPTIONS[name].check(value)
        clashes = [
            f"{OPTIONS[name].flag} ({_plain(self.get(name))} in the run, {_plain(value)} given)"
            for name, value in given.items()
            if not OPTIONS[name].resumable and _plain(value) != _plain(self.get(name))
        ]
        if clashes:
            raise UserError(
                f"a resumed run keeps its settings: leave out {', '.join(clashes)}, or start a new run"
            )
        changed = kept.changed(given)
        if "data_dir" not in given:  # what the images were in before they moved
            changed = dataclasses.replace(changed, data_dir=changed.folder_of_data)
        return changed.checked()


def _all_options() -> dict[str, Option]:
    """The options of the configuration with those of the terms among the objective's."""
    own, terms = options_of(Config), term_options()
    result: dict[str, Option] = {}
    for name, declared in own.items():
        result[name] = declared
        if name == "schedule":
            result |= {key: dataclasses.replace(term, default=None) for key, term in terms.items()}
    return {
        name: dataclasses.replace(declared, shown=_shown_by_recipe(declared))
        if declared.by_recipe
        else declared
        for name, declared in result.items()
    }


def _shown_by_recipe(declared: Option) -> str:
    name = declared.name
    special = {key: source.recipe[name] for key, source in SOURCES.items() if name in source.recipe}
    shown = declared.in_words(DEFAULT[name])
    shown += "".join(f", {key} {declared.in_words(value)}" for key, value in special.items())
    return f"{shown}; paper: {declared.in_words(PAPER[name])}"


def _plain(value: Any) -> Any:
    """A value of an option as JSON has it."""
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return str(value) if isinstance(value, (LatentSpec, Transformation, CodeWeights, PixelRange)) else value


#: Every option by name, in the order of ``--help``.
OPTIONS = _all_options()
#: Options that runs of an earlier version do not have; their defaults are what those runs did.
_ADDED = frozenset(
    {
        *("network", "matmul_precision", "deterministic", "batch_norm", "reduce_dtype", "rank_timeout"),
        *("skip_damaged", "preset", "lambda_", "pixel_range", "label", "tensorboard"),
    }
)
#: Options that runs of an earlier version do not have, with what those runs did.
_BEFORE = {"background": "black", "balance_end": 0.0, "balance_until": 0, "bending": 0.0}
#: What ``--network auto`` was called in runs of an earlier version.
_OLD_AUTO = "infogan"
#: Options that runs of an earlier version have, with the only value that this version reproduces.
_REMOVED = {"compile": False}
RESUMABLE = frozenset(name for name, declared in OPTIONS.items() if declared.resumable)


def load_config(saved: Mapping[str, Any]) -> Config:
    """The configuration in a run's config.json.

    Raises:
        UserError: it is of another version.
    """
    kept = {**_BEFORE, **saved}
    kept = {name: value for name, value in kept.items() if (name, value) not in _REMOVED.items()}
    if kept.get("network") == _OLD_AUTO:
        kept["network"] = AUTO
    if differing := sorted((set(kept) ^ set(OPTIONS)) - _ADDED):
        raise UserError(
            f"config.json is of another version of infogan_fast: {', '.join(differing)} differ; use that "
            "version, or train again"
        )
    return Config.from_options(kept)


def differing(config: Config, saved: Mapping[str, Any]) -> list[str]:
    """The options in which the settings of a checkpoint, as JSON has them, differ from those of its run, but
    for those that may change on the way.

    Raises:
        UserError: they are of another version.
    """
    theirs, own = load_config(saved).options(), config.options()
    return [name for name in own if name not in {*RESUMABLE, "linear"} and theirs[name] != own[name]]


def options_page() -> str:
    """docs/options.md."""
    return (
        "# Options of training\n\n"
        "`python -m infogan_fast.train --help` lists these options in short; the Python API takes them by "
        "name with underscores, as in `infogan_fast.train(batch_size=64)`. Where the default column has two "
        "values, the recipe decides: the first is that of the default recipe where consistency is on, with "
        "the data sets that differ, and the second is the paper's. Where consistency is off, the second "
        "applies, except for `--ema`.\n" + markdown(OPTIONS)
    )


if __name__ == "__main__":
    print(options_page(), end="")
