"""What a training run is set to: the flags, their checks, and how a resumed run takes them over."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from infogan_fast.cli import Parser
from infogan_fast.data import BUILT_IN
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import MIN_SIZE
from infogan_fast.networks.linear import LINEAR_CHOICES, onednn_missing
from infogan_fast.objective.consistency import TRANSFORMATIONS, Transformation, ordered_codes
from infogan_fast.runtime.device import DEVICE_CHOICES
from infogan_fast.training.step import MI_GRADIENTS, SCHEDULES, Objective

#: What is optimised where the flags do not say.
RECIPES = ("default", "paper")
#: Beside consistency. With a larger lambda, codes that the generator has hit upon hold on to what they mean
#: before Q has seen enough of the images to know better; with a faster Q it does so in time. Without balance,
#: or with that of every batch by itself, two classes may come to share a value for good. Equivariance and
#: invariance are of two of several uniform or normal codes.
_CONSISTENT = {
    "lambda_categorical": 0.1,
    "lr_q": 1e-3,
    "balance": 1.0,
    "joint_ema": 0.9,
    "equivariance": 0.0,
    "invariance": 0.02,
    "smoothness": 0.0,
    "smoothness_until": 1500,
    "restart_q": 500,
}
#: What leans is told apart by its slant, else slant may tell apart two values of a categorical code. Of
#: drawings, where the styles of a digit are as distinct as digits, a lambda of 0.1 lets the generator put two
#: digits in a category, told apart by a continuous code.
_CONSISTENT_BY_DATA = {
    "mnist": _CONSISTENT | {"equivariance": 0.3, "smoothness": 1.0},
    "strokes": _CONSISTENT | {"equivariance": 0.3, "lambda_categorical": 0.3},
}
_PAPER = {name: getattr(Objective, name) for name in _CONSISTENT}


@dataclass(frozen=True)
class Settings:
    """Every setting of a run, by the name of its flag; the defaults are the flags' defaults.

    What the recipe decides is None until :meth:`checked` fills it in.
    """

    data: str = "strokes"
    data_dir: str | None = None
    images: int | None = None
    image_size: int | None = None
    channels: int | None = None
    crop: bool = True
    latents: str = "noise=62,cat=10,uniform=2"
    leaky_slope: float = 0.1
    mi_gradient: str = Objective.mi_gradient
    schedule: str = Objective.schedule
    recipe: str = RECIPES[0]
    consistency: float | None = None
    balance: float | None = None
    joint_ema: float | None = None
    equivariance: float | None = None
    invariance: float | None = None
    smoothness: float | None = None
    smoothness_until: int | None = None
    transformation: str | None = None
    restart_q: int | None = None
    lambda_categorical: float | None = None
    lambda_continuous: float = Objective.lambda_continuous
    fixed_sigma: float | None = Objective.fixed_sigma
    steps: int = 1500
    batch_size: int = 128
    seed: int = 0
    lr_d: float = Objective.lr_d
    lr_q: float | None = None
    lr_g: float = Objective.lr_g
    beta1: float = Objective.beta1
    beta2: float = Objective.beta2
    ema: float = Objective.ema
    amp: bool = False
    device: str = "auto"
    threads: int | None = None
    linear: str = "auto"
    cuda_graph: bool | None = None
    steps_per_replay: int = 1
    compile: bool = False
    profile: str | None = None
    profile_phases: bool = False
    log_every: int = 25
    sample_every: int = 500
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3

    @property
    def spec(self) -> LatentSpec:
        """The latents."""
        return LatentSpec.parse(self.latents)

    @property
    def data_name(self) -> str:
        """The data's name, of a path its last part; folders are named after it."""
        return self.data if self.data in BUILT_IN else Path(self.data).expanduser().resolve().name

    @property
    def profiled(self) -> tuple[int, int] | None:
        """The updates behind the run when profiling starts and stops."""
        if self.profile is None:
            return None
        start, _, stop = self.profile.partition(":")
        if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
            raise UserError(f"--profile is {self.profile!r}; expected START:STOP, such as 100:110")
        return int(start), int(stop)

    @property
    def objective(self) -> Objective:
        """What the step is to optimise, of settings that are checked."""
        values = {f.name: getattr(self, f.name) for f in fields(Objective)}
        made_by = (
            Transformation() if self.transformation is None else Transformation.parse(self.transformation)
        )
        return Objective(**values | {"transformation": made_by})

    def checked(self) -> Settings:
        """These settings, with what the recipe decides, in their canonical form.

        Raises:
            UserError: one is out of range; the text names its flag.
        """
        _at_least(self, 1, "steps", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints")
        _at_least(self, 1, "images", "threads", "steps_per_replay")
        _at_least(self, MIN_SIZE, "image_size")
        _at_least(self, 0, "restart_q", "smoothness_until")
        # One image has no batch statistics.
        _at_least(self, 2, "batch_size")
        for name in ("lr_d", "lr_q", "lr_g", "fixed_sigma"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"{_flag(name)} is {value}; expected a number above 0")
        if self.fixed_sigma is not None and abs(2 * math.log(self.fixed_sigma)) > 10:
            raise UserError(f"--fixed-sigma is {self.fixed_sigma}; expected a number from 0.0068 to 148")
        weights = ("lambda_categorical", "lambda_continuous", "consistency", "balance")
        for name in (*weights, "equivariance", "invariance", "smoothness", "leaky_slope"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{_flag(name)} is {value}; expected a number of at least 0")
        for name in ("beta1", "beta2", "ema", "joint_ema"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"{_flag(name)} is {value}; expected at least 0 and below 1")
        if not -(2**63) <= self.seed < 2**63:
            raise UserError(f"--seed is {self.seed}; expected a 64-bit integer")
        if self.linear == "onednn" and (why := onednn_missing()) is not None:
            raise UserError(f"--linear onednn: {why}; leave --linear out")
        if self.cuda_graph is False and self.steps_per_replay > 1:
            raise UserError(f"--steps-per-replay {self.steps_per_replay} needs --cuda-graph")
        for name in ("steps", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_replay:
                raise UserError(
                    f"{_flag(name)} is {getattr(self, name)}; expected a multiple of --steps-per-replay "
                    f"{self.steps_per_replay}"
                )
        if self.profiled is not None:
            start, stop = self.profiled
            if start % self.steps_per_replay or stop % self.steps_per_replay or stop > self.steps:
                raise UserError(
                    f"--profile is {self.profile}; expected multiples of --steps-per-replay "
                    f"{self.steps_per_replay}, up to --steps {self.steps}"
                )
        elif self.profile_phases:
            raise UserError("--profile-phases needs --profile START:STOP")
        spec = self.spec
        if spec.n_codes == 0:
            raise UserError(
                f"--latents {self.latents}: InfoGAN needs at least one code, "
                f"for example {self.latents},cat=10"
            )
        consistency, transformation = self.consistency, self.transformation
        if consistency is None:
            wanted = self.recipe == "default" and self.data in TRANSFORMATIONS and spec.n_categorical > 0
            consistency = 1.0 if wanted else 0.0
        for name, weight in (("consistency", consistency), ("smoothness", self.smoothness)):
            if weight and not spec.n_categorical:
                raise UserError(
                    f"--{name} {weight:g}: it is of categorical codes, and --latents {spec} has none; "
                    f"leave it out, or add one, for example --latents {spec},cat=10"
                )
        for name in ("balance", "joint_ema"):
            if getattr(self, name) and not consistency:
                raise UserError(
                    f"{_flag(name)} {getattr(self, name):g} needs --consistency WEIGHT, such as 1"
                )
        ordered = len(ordered_codes(spec))
        asked = [name for name in ("equivariance", "invariance") if getattr(self, name)]
        if len(asked) > ordered:
            what = " and ".join(f"{_flag(name)} {getattr(self, name):g}" for name in asked)
            raise UserError(
                f"{what}: each is of another uniform or normal code, and --latents {spec} has {ordered}; "
                f"leave it out, or add two, for example --latents {spec},uniform=2"
            )
        decided = _PAPER
        if consistency and self.recipe == "default":
            decided = _CONSISTENT_BY_DATA.get(self.data, _CONSISTENT)
            # What one code is to leave alone, another must be there to take.
            if ordered < 2:
                decided = decided | {"equivariance": 0.0, "invariance": 0.0}
        missing: dict[str, Any] = {n: value for n, value in decided.items() if getattr(self, n) is None}
        result = replace(self, latents=str(spec), consistency=consistency, **missing)
        for name in ("restart_q", "smoothness_until"):
            if getattr(result, name) % self.steps_per_replay:
                raise UserError(
                    f"{_flag(name)} is {getattr(result, name)}; expected a multiple of --steps-per-replay "
                    f"{self.steps_per_replay}"
                )
        if consistency or result.equivariance or result.invariance or result.smoothness:
            ranges = TRANSFORMATIONS.get(self.data, Transformation())
            if transformation is not None:
                ranges = Transformation.parse(transformation)
            if result.equivariance and not ranges.has_slants:
                raise UserError(
                    f"--equivariance {result.equivariance:g} is to how far copies are turned, and those of "
                    f"--transformation {ranges} are mirrored, or not turned; give --equivariance 0, or "
                    "rotation or shear without flip"
                )
            return replace(result, transformation=str(ranges))
        if transformation is not None:
            raise UserError(
                f"--transformation {transformation} needs --consistency WEIGHT, such as 1, --equivariance, "
                "--invariance or --smoothness"
            )
        return result


#: Settings that a resumed run may change: they say how long it runs and what it leaves, not what it computes.
CHANGEABLE = frozenset(
    {
        "steps",
        "data_dir",
        "threads",
        "device",
        "cuda_graph",
        "steps_per_replay",
        "profile",
        "profile_phases",
        "log_every",
        "sample_every",
        "checkpoint_every",
        "keep_checkpoints",
    }
)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _at_least(settings: Settings, least: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"{_flag(name)} is {value}; expected at least {least}")


def parser() -> argparse.ArgumentParser:
    """The flags. What is not given is absent from the namespace, so that a resumed run knows what was asked
    for."""
    result = Parser(
        prog="python -m infogan_fast.train",
        description="Train an InfoGAN on images, without labels. "
        "With no options: on built-in drawings of digits.",
        argument_default=argparse.SUPPRESS,
    )
    defaults = Settings()

    def add(group: Any, name: str, text: str, default: str | None = None, **how: Any) -> None:
        value = getattr(defaults, name)
        if default is None:
            default = ("on" if value else "off") if isinstance(value, bool) else str(value)
        if isinstance(value, bool) or name == "cuda_graph":
            how["action"] = argparse.BooleanOptionalAction
        group.add_argument(_flag(name), help=f"{text} (default: {default})", **how)

    data = result.add_argument_group("data")
    add(
        data,
        "data",
        f"{', '.join(BUILT_IN)}, or a path: a folder of pictures, a .npy or .npz file, a folder of IDX files",
        metavar="NAME|PATH",
    )
    add(data, "data_dir", "folder of the MNIST files", "the cache folder, downloading", metavar="DIR")
    add(data, "images", "train on this many images", "all", type=int, metavar="N")
    add(
        data,
        "image_size",
        f"resize to this many pixels a side, at least {MIN_SIZE}",
        "as they are",
        type=int,
        metavar="PIXELS",
    )
    add(data, "channels", "1: grey, 3: colour", "as they are", type=int, choices=(1, 3))
    add(data, "crop", "cut the middle square out of pictures that are not square, instead of stretching them")

    model = result.add_argument_group("latents and networks")
    add(
        model,
        "latents",
        "noise=N, cat=K (repeatable), uniform=N, normal=N, bernoulli=N; "
        "noise=N:uniform draws noise from U(-1, 1)",
        metavar="SPEC",
    )
    add(model, "leaky_slope", "slope of the discriminator's leaky units", type=float, metavar="X")

    what = result.add_argument_group("objective")
    add(
        what,
        "lambda_categorical",
        "weight of the mutual information of each categorical code",
        f"{_CONSISTENT['lambda_categorical']} with the default recipe's consistency, on strokes "
        f"{_CONSISTENT_BY_DATA['strokes']['lambda_categorical']}, else {_PAPER['lambda_categorical']}",
        type=float,
        metavar="X",
    )
    add(
        what,
        "lambda_continuous",
        "weight of the mutual information of each other code",
        type=float,
        metavar="X",
    )
    add(
        what,
        "mi_gradient",
        "what the mutual information trains: generator and Q, or the discriminator's trunk too",
        choices=MI_GRADIENTS,
    )
    add(
        what,
        "schedule",
        "alternating: the generator learns from the updated discriminator, as in the paper; one-stage: both "
        "players' gradients at the same weights, which takes less arithmetic",
        choices=SCHEDULES,
    )
    add(
        what,
        "recipe",
        "default: the paper's objective, with consistency where it is known to help, and what suits that; "
        "paper: the paper's alone. Other options override either",
        choices=RECIPES,
    )
    add(
        what,
        "consistency",
        "weight of the agreement of Q's categorical codes on a real image and a transformed copy of it, "
        "without which a code need not be a class; takes about a quarter more time",
        f"1 with the default recipe on {', '.join(TRANSFORMATIONS)}, 0 on your own images",
        type=float,
        metavar="X",
    )
    add(
        what,
        "balance",
        "of consistency: weight with which the values of a categorical code are to be equally frequent over "
        "the images, so that no two classes share one",
        f"{_CONSISTENT['balance']} with the default recipe's consistency, else {_PAPER['balance']}",
        type=float,
        metavar="X",
    )
    add(
        what,
        "joint_ema",
        "of consistency: decay an update of the average over batches in which agreement and frequencies are "
        "measured; 0: each batch by itself",
        f"{_CONSISTENT['joint_ema']} with the default recipe's consistency, else {_PAPER['joint_ema']}",
        type=float,
        metavar="X",
    )
    add(
        what,
        "equivariance",
        "weight with which Q reads the first uniform or normal code higher by as much as a copy is turned, "
        "so that it becomes the slant, the same way in every category",
        f"{_CONSISTENT_BY_DATA['mnist']['equivariance']} with the default recipe on mnist and strokes and "
        "two such codes, else 0",
        type=float,
        metavar="X",
    )
    add(
        what,
        "invariance",
        "weight with which Q reads the last uniform or normal code alike from an image and its copy, so that "
        "what copies change is left to the other codes",
        f"{_CONSISTENT['invariance']} with the default recipe's consistency and two such codes, else 0",
        type=float,
        metavar="X",
    )
    add(
        what,
        "smoothness",
        "weight with which Q's categorical codes are read alike from a real image and a copy near it that "
        "is made to be read otherwise; takes about a sixth more time as long as it lasts",
        f"{_CONSISTENT_BY_DATA['mnist']['smoothness']} with the default recipe on mnist, else 0",
        type=float,
        metavar="X",
    )
    add(
        what,
        "smoothness_until",
        "updates after which smoothness ends, since what it is to prevent is decided early, and what it "
        "keeps together may have to be told apart later; 0: never",
        f"{_CONSISTENT['smoothness_until']} with the default recipe's consistency, else "
        f"{_PAPER['smoothness_until']}",
        type=int,
        metavar="N",
    )
    add(
        what,
        "transformation",
        "largest change of the copies: rotation=DEGREES, scale, shear, shift=SHARE of the side, "
        "colour=SHARE, flip=0|1; what is left out is 0",
        f"{TRANSFORMATIONS['mnist']}; on strokes without shear; on fashion-mnist "
        f"{TRANSFORMATIONS['fashion-mnist']}",
        metavar="SPEC",
    )
    add(
        what,
        "restart_q",
        "updates after which Q's head starts anew, since the features that it found its first categories in "
        "were poor; 0: never",
        f"{_CONSISTENT['restart_q']} with the default recipe's consistency, else {_PAPER['restart_q']}",
        type=int,
        metavar="N",
    )
    add(what, "fixed_sigma", "standard deviation of Q's Gaussians", "learned", type=float, metavar="X")

    how = result.add_argument_group("optimisation")
    add(how, "steps", "updates of each player", type=int, metavar="N")
    add(how, "batch_size", "images an update", type=int, metavar="B")
    add(how, "seed", "of weights, latents, data order and drawings", type=int, metavar="S")
    add(how, "lr_d", "Adam's learning rate of the discriminator", type=float, metavar="X")
    add(
        how,
        "lr_q",
        "of Q's head",
        f"{_CONSISTENT['lr_q']} with the default recipe's consistency, else {_PAPER['lr_q']}",
        type=float,
        metavar="X",
    )
    add(how, "lr_g", "of the generator", type=float, metavar="X")
    add(how, "beta1", "Adam's decay of the mean", type=float, metavar="X")
    add(how, "beta2", "Adam's decay of the variance", type=float, metavar="X")
    add(
        how,
        "ema",
        "decay an update of an average of the generator's weights, used for pictures; smaller at first. "
        "0.999 makes them better",
        "0: none",
        type=float,
        metavar="X",
    )

    machine = result.add_argument_group("machine")
    add(machine, "amp", "mixed precision: bfloat16, or float16 on CUDA devices without it")
    add(machine, "device", "auto takes CUDA where there is a device", choices=DEVICE_CHOICES)
    add(machine, "threads", "CPU threads", "as many as the process may use", type=int, metavar="N")
    add(
        machine,
        "linear",
        "library of float32 linear layers on a CPU; auto: oneDNN on AMD",
        choices=("auto", *LINEAR_CHOICES),
    )

    add(machine, "cuda_graph", "replay the iteration as one CUDA graph", "on a CUDA device")
    add(
        machine,
        "steps_per_replay",
        "updates in one graph; --steps and the --...-every must be multiples",
        type=int,
        metavar="K",
    )
    add(machine, "compile", "torch.compile the networks; for GPUs, on a CPU it is slower")
    add(
        machine,
        "profile",
        "profile updates START to STOP: on CUDA for Nsight's capture range, on a CPU into profile.json",
        "none",
        metavar="START:STOP",
    )
    add(machine, "profile_phases", "run those updates outside of the graph, so that each phase has its range")

    output = result.add_argument_group("output")
    output.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/DATA-seedS)")
    output.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    output.add_argument(
        "--resume",
        metavar="RUN",
        help="continue a run from its last checkpoint with its settings; may be given with "
        + ", ".join(sorted(_flag(name) for name in CHANGEABLE)),
    )
    add(output, "log_every", "updates between rows of metrics.jsonl", type=int, metavar="N")
    add(output, "sample_every", "updates between grids in samples/", type=int, metavar="N")
    add(output, "checkpoint_every", "updates between checkpoints", type=int, metavar="N")
    add(output, "keep_checkpoints", "how many of the last checkpoints are kept", type=int, metavar="N")
    return result


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    given: dict[str, Any]
    """Settings that were given, by name."""
    out: Path | None
    overwrite: bool
    resume: Path | None


def parse(argv: list[str] | None) -> Request:
    """Read the command line.

    Raises:
        UserError: it cannot be read, or options exclude one another.
    """
    given = vars(parser().parse_args(argv))
    out, overwrite, resume = given.pop("out", None), given.pop("overwrite", False), given.pop("resume", None)
    if resume is not None and (out is not None or overwrite):
        raise UserError(
            f"--resume {resume} continues in its own folder; leave {'--out' if out else '--overwrite'} out"
        )
    return Request(
        given, None if out is None else Path(out), overwrite, None if resume is None else Path(resume)
    )


def resumed(saved: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The settings of a run from its config.json, changed by the flags that may change them.

    Raises:
        UserError: a flag contradicts the run, or the settings are of another version.
    """
    known = {field.name for field in fields(Settings)}
    if unknown := sorted(set(saved) ^ known):
        raise UserError(f"config.json is of another version of infogan_fast: {', '.join(unknown)} differ")
    # What was profiled belongs to one sitting, and may lie behind the run by now.
    settings = replace(Settings(**saved), profile=None, profile_phases=False)
    whole = settings
    if any(given.get(name) == 0 for name in ("consistency", "equivariance", "invariance", "smoothness")):
        # What the run has beside them is not what is wrong with that.
        whole = replace(settings, transformation=None, balance=None, joint_ema=None)
    asked = asdict(replace(whole, **given).checked())
    clashes = [
        f"{_flag(name)} ({saved[name]} in the run, {given[name]} given)"
        for name in given
        if name not in CHANGEABLE and asked[name] != saved[name]
    ]
    if clashes:
        raise UserError(
            f"a resumed run keeps its settings: leave out {', '.join(clashes)}, or start a new run"
        )
    return replace(settings, **{name: asked[name] for name in given})
