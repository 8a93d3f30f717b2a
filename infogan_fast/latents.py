"""The latent specification: what the generator is fed and how Q's output is laid out."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from infogan_fast.errors import UserError

NOISE_KINDS = ("normal", "uniform")
#: Limits of a specification: columns of the generator's input, and codes.
MAX_COLUMNS, MAX_CODES = 65_536, 1_024
CONTINUOUS_KINDS = ("uniform", "normal", "bernoulli")

#: Entropy of a continuous code's prior in nats: U(-1, 1), N(0, 1) and a fair coin.
PRIOR_ENTROPY = {
    "uniform": math.log(2.0),
    "normal": 0.5 * math.log(2.0 * math.pi * math.e),
    "bernoulli": math.log(2.0),
}

#: The largest number of float32, in which the generator takes a code.
_LARGEST = 2.0**128 - 2.0**104

_GRAMMAR = (
    "expected comma-separated parts such as noise=62,cat=10,uniform=2 "
    "(kinds: noise=N or noise=N:uniform, cat=K, cat=P/P/... or cat=K:learned, uniform=N, normal=N, "
    "bernoulli=N; cat may repeat)"
)


@dataclass(frozen=True)
class Code:
    """One structured code c of a :class:`LatentSpec`, and the columns where it lies.

    name: ``"c1"``, ``"c2"``, ...
    kind: ``"categorical"``, ``"uniform"``, ``"normal"`` or ``"bernoulli"``.
    index: its position among the categorical codes, or among the other codes.
    size: number of categories; 1 for the other kinds.
    entropy: of its prior in nats; the differential entropy for uniform and normal codes.
    input_columns: where the generator's input has its one-hot vector or its value.
    q_columns: where Q's output has its logits, or its mean (the logit of a Bernoulli code).
    log_variance_column: of Q's output, for a uniform or normal code whose variance Q learns; else None.
    probabilities: the prior of a categorical code; None for a uniform one, and for other kinds.
    learned: whether training changes that prior, which begins uniform.
    """

    name: str
    kind: str
    index: int
    size: int
    entropy: float
    input_columns: slice
    q_columns: slice
    log_variance_column: int | None = None
    probabilities: tuple[float, ...] | None = None
    learned: bool = False

    @property
    def is_categorical(self) -> bool:
        """Whether its value is one of several categories."""
        return self.kind == "categorical"

    @property
    def is_ordered(self) -> bool:
        """Whether its values are real numbers: uniform and normal codes, for which Q gives a Gaussian."""
        return self.kind in ("uniform", "normal")

    @property
    def accepts(self) -> str:
        """The values that the code takes, in words."""
        return {
            "categorical": f"a categorical code and takes a whole number, 0 to {self.size - 1}",
            "uniform": "a uniform code and takes a number, from -1 to 1 in training",
            "normal": "a normal code and takes a number, mostly from -2 to 2 in training",
            "bernoulli": "a Bernoulli code and takes 0 or 1",
        }[self.kind]

    def value(self, value: str | float) -> int | float:
        """Check a value for this code: an int for a categorical code, else a float.

        Raises:
            UserError: the code does not take this value.
        """
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        valid = abs(number) <= _LARGEST and not (isinstance(value, str) and "_" in value)
        if self.is_categorical:
            written_whole = not isinstance(value, str) or value.strip().isdecimal()
            valid = valid and written_whole and number in range(self.size)
        elif self.kind == "bernoulli":
            valid = valid and number in (0, 1)
        if not valid:
            raise UserError(f"{self.name} is {self.accepts}; {value!r} is not one")
        return int(number) if self.is_categorical else number


@dataclass(frozen=True)
class LatentSpec:
    """Noise z and structured codes c of an InfoGAN (Chen et al. 2016, arXiv 1606.03657, sections 3 and 5).

    The generator's input has the columns ``[noise | one-hot of each categorical | continuous codes]``. Q's
    output has ``[logits of each categorical | one column a continuous code | log-variances]``: the column of
    a uniform or normal code is the mean of Q's Gaussian, that of a Bernoulli code its logit; log-variances,
    one for each uniform or normal code, follow when the variance is learned. Codes are named c1, c2, ...:
    categorical ones first, then continuous.

    Args:
        noise_dim: incompressible noise dimensions, 0 or more.
        categorical_sizes: number of categories of each categorical code, each at least 2.
        continuous_kinds: ``"uniform"`` for U(-1, 1), ``"normal"`` for N(0, 1) or ``"bernoulli"`` for a fair
            coin in {0, 1}, one entry a code.
        noise: ``"normal"`` for N(0, 1) or ``"uniform"`` for U(-1, 1).
        categorical_probabilities: for each categorical code its prior (normalised here) or None for a uniform
            one.
        categorical_learned: for each categorical code whether training learns its prior. The probabilities
            are then those learned so far, and no part of the text.

    Raises:
        UserError: a size, kind or probability is not valid.
    """

    noise_dim: int = 62
    categorical_sizes: tuple[int, ...] = (10,)
    continuous_kinds: tuple[str, ...] = ("uniform", "uniform")
    noise: str = "normal"
    categorical_probabilities: tuple[tuple[float, ...] | None, ...] = field(default=())
    categorical_learned: tuple[bool, ...] = field(default=())

    def __post_init__(self) -> None:
        self._check()
        # A trace of PyTorch's cannot enter the lock that a cached_property has before Python 3.12.
        _ = self.operator_arguments, self.latent_dim, self.codes, self.ordered_codes

    def _check(self) -> None:
        self._make_plain()
        if not self.categorical_learned:
            object.__setattr__(self, "categorical_learned", (False,) * len(self.categorical_sizes))
        if len(self.categorical_learned) != len(self.categorical_sizes):
            raise UserError(
                f"categorical_learned has {len(self.categorical_learned)} entries for "
                f"{len(self.categorical_sizes)} categorical codes; give one for each"
            )
        if not self.categorical_probabilities:
            object.__setattr__(self, "categorical_probabilities", (None,) * len(self.categorical_sizes))
        if self.noise_dim < 0:
            raise UserError(f"noise_dim is {self.noise_dim}; expected 0 or more")
        if self.noise not in NOISE_KINDS:
            raise UserError(f"noise is {self.noise!r}; expected one of {', '.join(NOISE_KINDS)}")
        for size in self.categorical_sizes:
            if size < 2:
                raise UserError(
                    f"categorical_sizes has {size}; a categorical code needs at least 2 categories"
                )
        for kind in self.continuous_kinds:
            if kind not in CONTINUOUS_KINDS:
                raise UserError(
                    f"continuous_kinds has {kind!r}; expected one of {', '.join(CONTINUOUS_KINDS)}"
                )
        if self.n_codes > MAX_CODES:
            raise UserError(f"{self.n_codes:,} codes; the limit is {MAX_CODES:,}")
        if self.latent_dim > MAX_COLUMNS:
            raise UserError(
                f"noise and codes have {self.latent_dim:,} columns together; the limit is {MAX_COLUMNS:,}"
            )
        if self.latent_dim == 0:
            raise UserError(
                "the latent specification is empty; give noise or codes, for example noise=62,cat=10"
            )
        if len(self.categorical_probabilities) != len(self.categorical_sizes):
            raise UserError(
                f"categorical_probabilities has {len(self.categorical_probabilities)} entries for "
                f"{len(self.categorical_sizes)} categorical codes; give one (or None) for each"
            )
        normalised: list[tuple[float, ...] | None] = []
        for size, prior in zip(self.categorical_sizes, self.categorical_probabilities, strict=True):
            if prior is None:
                normalised.append(None)
                continue
            if len(prior) != size:
                raise UserError(f"categorical_probabilities gives {len(prior)} values for {size} categories")
            possible = all(0 <= p <= 2 for p in prior)  # false of NaN
            total = math.fsum(prior) if possible else math.nan
            if not abs(total - 1.0) <= 1e-3:
                raise UserError(
                    f"probabilities {'/'.join(map(str, prior))[:200]} must be non-negative and sum to 1; "
                    f"they sum to {total:g}"
                )
            normalised.append(prior if abs(total - 1.0) < 1e-12 else tuple(p / total for p in prior))
        object.__setattr__(self, "categorical_probabilities", tuple(normalised))

    def _make_plain(self) -> None:
        """Turn sequences into tuples and NumPy's numbers into Python's, as a text of them reads back."""
        try:
            plain = {
                "noise_dim": operator.index(self.noise_dim),
                "categorical_sizes": tuple(map(operator.index, self.categorical_sizes)),
                "continuous_kinds": tuple(map(str, self.continuous_kinds)),
                "categorical_probabilities": tuple(
                    None if prior is None else tuple(map(float, prior))
                    for prior in self.categorical_probabilities
                ),
                "categorical_learned": tuple(map(bool, self.categorical_learned)),
            }
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the latent specification: {error}; sizes are whole numbers, priors lists"
            ) from None
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str) -> LatentSpec:
        """Read a specification such as ``noise=62,cat=10,uniform=2``.

        Args:
            text: comma-separated ``kind=value`` parts, spaces ignored. ``noise=N`` (or ``noise=N:uniform``)
                at most once; ``cat=K`` a categorical code with K categories, ``cat=P/P/...`` one with these
                probabilities, ``cat=K:learned`` one whose probabilities training learns; ``uniform=N``,
                ``normal=N``, ``bernoulli=N`` add N continuous codes.

        Raises:
            UserError: the text does not follow this grammar.
        """
        noise_dim: int | None = None
        noise = "normal"
        sizes: list[int] = []
        priors: list[tuple[float, ...] | None] = []
        learned: list[bool] = []
        kinds: list[str] = []
        for part in text.replace(" ", "").split(","):
            kind, separator, value = part.partition("=")
            if not separator or not value:
                raise UserError(f"latents {text!r}: cannot read {part!r}; {_GRAMMAR}")
            try:
                if kind == "noise":
                    if noise_dim is not None:
                        raise UserError(f"latents {text!r}: noise is given twice; give it once")
                    count, _, chosen = value.partition(":")
                    noise_dim, noise = _count(count), chosen or "normal"
                elif kind == "cat":
                    value, colon, how = value.partition(":")
                    if colon and how != "learned":
                        raise UserError(f"cannot read {part!r}; {_GRAMMAR}")
                    if colon and "/" in value:
                        raise UserError(f"{part}: a learned prior begins uniform; give cat=K:learned")
                    learned.append(bool(colon))
                    if "/" in value:
                        prior = tuple(float(p) for p in value.split("/"))
                        sizes.append(len(prior))
                        priors.append(prior)
                    else:
                        sizes.append(_count(value))
                        priors.append(None)
                elif kind in CONTINUOUS_KINDS:
                    count_of_kind = _count(value)
                    if count_of_kind > MAX_CODES:
                        raise UserError(f"{count_of_kind:,} {kind} codes; the limit is {MAX_CODES:,}")
                    kinds += [kind] * count_of_kind
                else:
                    raise UserError(f"latents {text!r}: unknown kind {kind!r}; {_GRAMMAR}")
            except UserError as error:
                raise (
                    error if str(error).startswith("latents") else UserError(f"latents {text!r}: {error}")
                ) from None
            except ValueError:
                raise UserError(f"latents {text!r}: cannot read {part!r}; {_GRAMMAR}") from None
        try:
            return cls(noise_dim or 0, tuple(sizes), tuple(kinds), noise, tuple(priors), tuple(learned))
        except UserError as error:
            raise UserError(f"latents {text!r}: {error}") from None

    def __str__(self) -> str:
        parts = [f"noise={self.noise_dim}" + (":uniform" if self.noise == "uniform" else "")]
        for code in self.categorical_codes:
            given = None if code.learned else code.probabilities
            part = f"cat={code.size}" if given is None else "cat=" + "/".join(map(repr, given))
            parts.append(part + (":learned" if code.learned else ""))
        previous = ""
        counts: list[tuple[str, int]] = []
        for kind in self.continuous_kinds:
            counts.append((kind, counts.pop()[1] + 1) if kind == previous else (kind, 1))
            previous = kind
        parts += [f"{kind}={count}" for kind, count in counts]
        return ",".join(parts)

    @property
    def n_categorical(self) -> int:
        """Number of categorical codes."""
        return len(self.categorical_sizes)

    @property
    def n_continuous(self) -> int:
        """Number of continuous codes, Bernoulli ones included."""
        return len(self.continuous_kinds)

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return self.n_categorical + self.n_continuous

    @property
    def code_names(self) -> tuple[str, ...]:
        """``("c1", "c2", ...)``, categorical codes first."""
        return tuple(code.name for code in self.codes)

    @cached_property
    def latent_dim(self) -> int:
        """Columns of the generator's input."""
        return self.noise_dim + sum(self.categorical_sizes) + self.n_continuous

    @cached_property
    def codes(self) -> tuple[Code, ...]:
        """The codes c1, c2, ..., categorical ones first."""
        codes: list[Code] = []
        offset = 0
        for i, (size, prior) in enumerate(
            zip(self.categorical_sizes, self.categorical_probabilities, strict=True)
        ):
            entropy = math.log(size) if prior is None else -math.fsum(p * math.log(p) for p in prior if p > 0)
            columns = slice(offset, offset + size)
            inputs = slice(self.noise_dim + offset, self.noise_dim + offset + size)
            name = f"c{len(codes) + 1}"
            learned = self.categorical_learned[i]
            codes.append(Code(name, "categorical", i, size, entropy, inputs, columns, None, prior, learned))
            offset += size
        log_variance = offset + len(self.continuous_kinds)
        for i, kind in enumerate(self.continuous_kinds):
            column = log_variance if kind != "bernoulli" else None
            log_variance += kind != "bernoulli"
            columns = slice(offset + i, offset + i + 1)
            inputs = slice(self.noise_dim + offset + i, self.noise_dim + offset + i + 1)
            codes.append(Code(f"c{len(codes) + 1}", kind, i, 1, PRIOR_ENTROPY[kind], inputs, columns, column))
        return tuple(codes)

    @property
    def categorical_codes(self) -> tuple[Code, ...]:
        """The categorical codes."""
        return self.codes[: self.n_categorical]

    @property
    def continuous_codes(self) -> tuple[Code, ...]:
        """The other codes: uniform, normal and Bernoulli ones."""
        return self.codes[self.n_categorical :]

    @cached_property
    def ordered_codes(self) -> tuple[Code, ...]:
        """The uniform and normal codes."""
        return tuple(code for code in self.codes if code.is_ordered)

    @cached_property
    def operator_arguments(self) -> tuple[list[int], list[int], tuple[float, ...] | None]:
        """categorical_sizes, continuous_kinds and categorical_cdf as the operators take them."""
        cdf: list[float] = []
        for size, prior in zip(self.categorical_sizes, self.categorical_probabilities, strict=True):
            probabilities = prior or (1.0 / size,) * size
            last = max(i for i, probability in enumerate(probabilities) if probability > 0)
            cumulative = 0.0
            for i, probability in enumerate(probabilities):
                cumulative += probability
                # A uniform number that rounds to 1 is still the last possible category's.
                cdf.append(cumulative if i < last else 2.0)
        given = self.has_learned_priors or any(self.categorical_probabilities)
        kinds = [CONTINUOUS_KINDS.index(kind) for kind in self.continuous_kinds]
        return list(self.categorical_sizes), kinds, tuple(cdf) if given else None

    @property
    def has_learned_priors(self) -> bool:
        """Whether training learns the prior of a categorical code."""
        return any(self.categorical_learned)

    def with_priors(self, learned: Sequence[Sequence[float]]) -> LatentSpec:
        """The same codes with these probabilities, one list for each code whose prior is learned.

        Raises:
            UserError: they are too few or too many, or no probabilities of its categories.
        """
        if not learned and not self.has_learned_priors:
            return self
        if len(learned) != sum(self.categorical_learned):
            raise UserError(
                f"{len(learned)} priors for {sum(self.categorical_learned)} codes that learn theirs"
            )
        given = iter(learned)
        priors = [
            tuple(next(given)) if changes else prior
            for changes, prior in zip(self.categorical_learned, self.categorical_probabilities, strict=True)
        ]
        return replace(self, categorical_probabilities=tuple(priors))

    def code(self, name: str) -> Code:
        """The code of that name.

        Raises:
            UserError: there is none; the text lists the codes.
        """
        for code in self.codes:
            if code.name == name:
                return code
        known = ", ".join(f"{code.name} ({code.accepts})" for code in self.codes)
        raise UserError(f"there is no code {name!r}; there are {known}")

    def q_dim(self, learned_variance: bool = True) -> int:
        """Columns of Q's output, with or without log-variances."""
        gaussians = len(self.ordered_codes) if learned_variance else 0
        return sum(self.categorical_sizes) + self.n_continuous + gaussians


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise UserError(f"{value} is negative; counts are 0 or more")
    return value
