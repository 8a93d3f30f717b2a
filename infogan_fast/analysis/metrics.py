"""Scores of codes against known labels and factors: clustering accuracy, and the disentanglement metrics of
the literature.

``codes`` is a representation [N, D], one row an image (Q's output, say), ``factors`` [N, m] what the images
were drawn from; both are numeric, and taken as float64. Some columns are discrete, their values mere names:
by default those that hold nothing but whole numbers, otherwise as ``discrete_codes`` and ``discrete_factors``
say, one bool a column. The scores of finite samples are biased, by an amount that depends on the sample's
size: the defaults are those that published figures were computed with (the papers', or where a paper is
silent those of Locatello et al. 2019, arXiv 1811.12359, appendix), and too few rows are an error.

Every function is deterministic: what is random in it follows from ``seed``. All that take codes and factors
raise UserError where these are empty, not finite, too few or constant in a factor (of which a correlation is
0), and ValueError for shapes that do not fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import LinearSVC

from infogan_fast.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 20

Sampler = Callable[[int | None, np.random.Generator, int, int], Floats]
"""``sample(fixed_factor, rng, groups, size)`` gives representations [groups, size, D]. A group's images share
one value of the fixed factor, drawn anew for each group, and differ at random in all else; with None nothing
is fixed. See :func:`table_sampler` and :func:`drawing_sampler`.
"""

_CHUNK = 8192  # representations asked of a Sampler at once, which bounds the memory that its images take


@dataclass(frozen=True, eq=False)
class Matching:
    """How code values and labels go together, see :func:`match_clusters`."""

    assignment: dict[int, int]
    """Label of each code value that got one; no two share a label."""
    accuracy: float
    table: Ints
    """Counts [code values, labels], both in ascending order of their value."""
    nmi: float
    """Mutual information over the mean of both entropies, in [0, 1]."""
    ari: float
    """Rand index adjusted for chance: 1 for equal partitions, 0 expected of random ones, may be negative."""


def match_clusters(predicted: ArrayLike, labels: ArrayLike) -> Matching:
    """Match the values of a categorical code to labels one to one so that most images agree.

    The unsupervised clustering accuracy (Xie et al. 2016, arXiv 1511.06335, section 4), by the Hungarian
    method. Where there are more values than labels, or fewer, the surplus stays unmatched and its images
    count as wrong.

    Args:
        predicted: value of the code, int [N].
        labels: int [N].

    Raises:
        UserError: there are no images.
        ValueError: not two equally long vectors of integers.
    """
    columns = [np.asarray(predicted), np.asarray(labels)]
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise ValueError(f"predicted is {columns[0].shape}, labels {columns[1].shape}; expected [N] both")
    if not len(columns[0]):
        raise UserError("there are no images to match; give at least one")
    for name, column in zip(("predicted", "labels"), columns, strict=True):
        if not np.issubdtype(column.dtype, np.integer):
            raise ValueError(f"{name} is {column.dtype}; expected integers")
    (code_values, codes), (label_values, names) = (np.unique(c, return_inverse=True) for c in columns)
    table = np.zeros((len(code_values), len(label_values)), np.int64)
    np.add.at(table, (codes, names), 1)
    rows, matched = linear_sum_assignment(table, maximize=True)
    return Matching(
        {int(code_values[i]): int(label_values[j]) for i, j in zip(rows, matched, strict=True)},
        float(table[rows, matched].sum() / table.sum()),
        table,
        float(normalized_mutual_info_score(names, codes, average_method="arithmetic")),
        float(adjusted_rand_score(names, codes)),
    )


def rank_correlations(codes: ArrayLike, factors: ArrayLike) -> Floats:
    """Spearman's rho [D, m], in [-1, 1], of each code with each factor; 0 where either is constant."""
    codes, factors = _pair(codes, factors)
    ranks = [rankdata(table, axis=0) for table in (codes, factors)]
    return _correlations(ranks[0], ranks[1])


@dataclass(frozen=True, eq=False)
class GapScore:
    """A mean over factors of how far the best code dimension is ahead of the second: MIG and SAP."""

    score: float
    """Mean of the gaps, in [0, 1]."""
    gaps: Floats
    """[m]"""
    table: Floats
    """What each dimension tells of each factor, [D, m]: mutual information in nats (MIG), R^2 or balanced
    accuracy (SAP).
    """


def mig(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_codes: Sequence[bool] | None = None,
    discrete_factors: Sequence[bool] | None = None,
    bins: int = BINS,
    samples: int = 10_000,
    seed: int = 0,
) -> GapScore:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942, section 4), in [0, 1].

    For each factor, the difference between the two largest mutual informations with a code dimension, over
    the factor's entropy. Continuous columns are cut into ``bins`` equal parts of their range. Of a single
    dimension the second largest is 0.

    Args:
        codes: [N, D].
        factors: [N, m].
        samples: rows to use, drawn from the N.
    """
    codes, factors = _pair(codes, factors)
    rows = _rows(len(codes), samples, seed)
    binned = _binned(codes[rows], _discrete(codes, discrete_codes), bins)
    names = _binned(factors[rows], _discrete(factors, discrete_factors), bins)
    _require_variation(names)
    information = np.array([[_mutual_information(c, f) for f in names.T] for c in binned.T])
    entropy = np.array([_mutual_information(f, f) for f in names.T])
    return _gaps(information, entropy)


def sap(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    train: int = 10_000,
    test: int = 5_000,
    seed: int = 0,
) -> GapScore:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848, section 3), in [0, 1].

    For each factor, the difference between the two code dimensions that predict it best, each alone. A
    dimension's score is the squared correlation with a continuous factor; for a discrete one the balanced
    accuracy on the test rows of linear SVMs, one for each pair of classes: on a line those are thresholds,
    as the paper has it, and classes in the middle can be told apart too. A constant dimension has score 0,
    and so has the second one where there is only one: next to those, even an uninformative dimension is
    ahead by the accuracy of guessing.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows that the SVMs are fitted and tested on, drawn from the N; a correlation takes both.
    """
    codes, factors = _pair(codes, factors)
    discrete = _discrete(factors, discrete_factors)
    rows = _rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    _require_variation(factors[:train])
    active = ~_constant(codes)
    codes = _standardised(codes, codes[:train])
    table = _correlations(codes, factors) ** 2
    table[~active] = 0
    for j in np.flatnonzero(discrete):
        names = np.unique(factors[:, j], return_inverse=True)[1]
        for i in np.flatnonzero(active):
            # Newton's method on the primal problem: with one feature it takes a few steps
            model = OneVsOneClassifier(LinearSVC(dual=False, class_weight="balanced"))
            model.fit(codes[:train, i : i + 1], names[:train])
            right = model.predict(codes[train:, i : i + 1]) == names[train:]
            table[i, j] = np.mean([right[names[train:] == name].mean() for name in np.unique(names[train:])])
    return _gaps(table, np.ones(len(discrete)))


@dataclass(frozen=True, eq=False)
class DciScore:
    """See :func:`dci`."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Floats
    """Relative importance of each dimension for each factor, [D, m]."""
    error: Floats
    """Error on the test rows over that of guessing, [m]: 0 is perfect."""


def dci(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    train: int = 10_000,
    test: int = 5_000,
    seed: int = 0,
) -> DciScore:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018, section 2).

    Each factor is predicted from all dimensions by a random forest (of the paper's two predictors the one
    that also sees what is not linear): ten trees, whose depth is chosen on a fifth of the training rows that
    is held out. Every split may use every dimension; the usual random choice among a few would have the
    forest use dimensions that tell it nothing.

    Disentanglement, in [0, 1], is one minus the entropy, in units of log m, of a dimension's importance over
    factors, as a mean over dimensions weighted by importance. Completeness, in [0, 1], is the same of a
    factor's importance over dimensions, in units of log D, as a mean over factors. With a single factor or
    dimension there is nothing to be confused with, and the one or the other is 1; where no dimension tells
    anything both are 0. Informativeness is one minus the mean of the errors, so that higher is better and 0
    is as good as guessing (slightly below it is possible). A continuous factor's error is the root mean
    squared one over that of the training rows' mean, as in the paper; a discrete one's the share of wrong
    answers over that of the commonest class.

    A forest finds some dimension important even for a factor that no dimension tells of: judge the first two
    scores together with the third.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows to fit and to test on, drawn from the N.
    """
    codes, factors = _pair(codes, factors)
    discrete = _discrete(factors, discrete_factors)
    rows = _rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    _require_variation(factors[:train])
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    error = np.empty(factors.shape[1])
    for j, named in enumerate(discrete):
        target = np.unique(factors[:, j], return_inverse=True)[1] if named else factors[:, j]
        importance[:, j], error[j] = _forest(codes, target, train, bool(named), seed)
    weights = importance.sum(1) / (importance.sum() or 1.0)
    return DciScore(
        float(weights @ _concentration(importance)),
        float(_concentration(importance.T).mean()),
        float(1 - error.mean()),
        importance,
        error,
    )


def table_sampler(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    bins: int = BINS,
) -> Sampler:
    """A Sampler that draws rows of codes [N, D] whose factors [N, m] are known, with replacement.

    A group's rows have the same value of a discrete factor, or a continuous one within the same of ``bins``
    equal parts of its range; a value is as likely as it is frequent. Give many rows a value: where a group
    draws the same few again and again, every dimension seems fixed.
    """
    codes, factors = _pair(codes, factors)
    names = _binned(factors, _discrete(factors, discrete_factors), bins)
    _require_variation(names)
    order = np.argsort(names, axis=0, kind="stable")
    counts = [np.bincount(column) for column in names.T]

    def sample(fixed_factor: int | None, rng: np.random.Generator, groups: int, size: int) -> Floats:
        if fixed_factor is None:
            return codes[rng.integers(len(codes), size=(groups, size))]
        value = names[rng.integers(len(codes), size=groups), fixed_factor]
        count = counts[fixed_factor]
        first = np.cumsum(count) - count
        picked = rng.integers(count[value][:, None], size=(groups, size)) + first[value][:, None]
        return codes[order[picked, fixed_factor]]

    return sample


def drawing_sampler(
    draw: Callable[[np.random.Generator, int], Floats],
    represent: Callable[[Floats, np.random.Generator], ArrayLike],
) -> Sampler:
    """A Sampler for images that can be drawn with any factors.

    Args:
        draw: ``draw(rng, n)`` gives factors [n, m] at random, each independent of the others.
        represent: ``represent(factors, rng)`` draws an image for each row and gives its representation
            [n, D]; what the factors leave open (a digit's style, say) comes from rng.
    """

    def sample(fixed_factor: int | None, rng: np.random.Generator, groups: int, size: int) -> Floats:
        factors = draw(rng, groups * size)
        if fixed_factor is not None:
            factors = np.array(factors)
            factors[:, fixed_factor] = np.repeat(factors[::size, fixed_factor], size)
        codes = np.asarray(represent(factors, rng), np.float64)
        return codes.reshape(groups, size, -1)

    return sample


@dataclass(frozen=True, eq=False)
class FactorVaeScore:
    """See :func:`factor_vae_score`."""

    score: float
    votes: Ints
    """Training votes [D, m]: how often a dimension varied least when a factor was fixed."""


def factor_vae_score(
    sample: Sampler,
    n_factors: int,
    *,
    discrete_codes: Sequence[bool] | None = None,
    batch: int = 100,
    train: int = 800,
    test: int = 5_000,
    survey: int = 10_000,
    seed: int = 0,
) -> FactorVaeScore:
    """The FactorVAE metric (Kim and Mnih 2018, arXiv 1802.05983, section 4), in [0, 1].

    A vote fixes one factor, chosen at random, in a batch of images, and names the dimension with the lowest
    variance, relative to its variance when nothing is fixed. The classifier that says for each dimension the
    factor it got most of the training votes from is scored by its accuracy on the test votes; about 1 / m is
    chance. The variance of a discrete dimension is Gini's, as in the paper: half the share of pairs that
    differ. Constant dimensions take no part; where all are constant the score is 0.

    Args:
        sample: gives the representations, with dimensions D.
        n_factors: m, at least 2.
        batch: images a vote.
        train: votes that the classifier is made of.
        test: further votes that it is scored on.
        survey: images that the variances with nothing fixed are taken over.

    Raises:
        UserError: there are fewer than 2 factors, or a representation is not finite.
        ValueError: batch is less than 2.
    """
    _require_factors(n_factors)
    if batch < 2:
        raise ValueError(f"batch is {batch}; a variance takes 2 or more")
    rng = np.random.default_rng(seed)
    codes, discrete, active = _survey(sample, rng, survey, discrete_codes)
    if not active.any():
        return FactorVaeScore(0.0, np.zeros((len(active), n_factors), np.int64))
    total = _variances(codes[None], discrete)[0]
    votes = []
    for count in (train, test):
        table = np.zeros((len(active), n_factors), np.int64)
        for factor, groups in _interventions(sample, rng, n_factors, count, 1, batch):
            groups = groups[:, 0]
            relative = np.full((len(groups), len(active)), np.inf)
            np.divide(_variances(groups, discrete), total, out=relative, where=active)
            np.add.at(table[:, factor], relative.argmin(1), 1)
        votes.append(table)
    answer = votes[0].argmax(1)
    return FactorVaeScore(float(votes[1][np.arange(len(answer)), answer].sum() / test), votes[0])


def beta_vae_score(
    sample: Sampler,
    n_factors: int,
    *,
    discrete_codes: Sequence[bool] | None = None,
    pairs: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    seed: int = 0,
) -> float:
    """The beta-VAE metric (Higgins et al. 2017, section 3), in [0, 1].

    Accuracy, on the test points, of a linear classifier that tells which factor was fixed. A point is the
    mean over pairs of images that share the factor's value (another one for each pair) of the absolute
    difference of their codes; of a discrete code, the share of pairs that differ. About 1 / m is chance. The
    classifier is a logistic regression fitted to convergence, on points with mean 0 and variance 1, so that
    the codes' scale plays no part; the paper's is of this form, trained by gradient descent.

    Args:
        sample: gives the representations.
        n_factors: m, at least 2.
        pairs: pairs of images a point.
        train, test: points to fit the classifier with and to score it on.

    Raises:
        UserError: there are fewer than 2 factors, or a representation is not finite.
    """
    _require_factors(n_factors)
    rng = np.random.default_rng(seed)
    _, discrete, _ = _survey(sample, rng, 1000, discrete_codes)
    points: list[Floats] = []
    fixed: list[Ints] = []
    for count in (train, test):
        parts, names = [], []
        for factor, groups in _interventions(sample, rng, n_factors, count, pairs, 2):
            difference = np.abs(groups[..., 0, :] - groups[..., 1, :])
            parts.append(np.where(discrete, difference != 0, difference).mean(1))
            names.append(np.full(len(groups), factor))
        points.append(np.concatenate(parts))
        fixed.append(np.concatenate(names))
    model = LogisticRegression(max_iter=1000)
    model.fit(_standardised(points[0], points[0]), fixed[0])
    return float(model.score(_standardised(points[1], points[0]), fixed[1]))


@dataclass(frozen=True, eq=False)
class Ranking:
    """See :func:`udr`."""

    scores: Floats
    """[models], in [0, 1]; NaN where there is no other model to compare with."""
    pairs: Floats
    """[models, models], symmetric: how far two models agree code by code; NaN on the diagonal."""


def udr(
    codes: Sequence[ArrayLike], *, discrete_codes: Sequence[bool] | None = None, informative: ArrayLike = True
) -> Ranking:
    """Unsupervised disentanglement ranking (Duan et al. 2020, arXiv 1905.12614, section 4): how well the
    codes of each model are found again, one for one, in those of the others. No label or factor is read.

    With R the similarity of each code of one model with each of the other, and of a code the largest of its
    similarities squared over their sum, a pair's score is the mean of that over the codes of both. It is 1
    where every code has one partner, which it equals. A model's score is the median over its pairs.

    R of two ordered codes is |Spearman's rho|, as in the paper. The paper has no discrete codes; of two, R is
    here their normalised mutual information, as in :func:`match_clusters`, and of a discrete and an ordered
    one the correlation ratio of the ordered one's ranks, the square root of their variance between values of
    the discrete one over all their variance.

    Args:
        codes: what each model reads from the same N images, [N, D] each.
        discrete_codes: which of the codes are discrete, the same for all models.
        informative: bool [models, D], or one for all: codes to leave out where false, as the paper does with
            those that hold less than 0.01 nats.

    Raises:
        UserError: codes are empty or not finite.
        ValueError: there is no model, or shapes do not fit.
    """
    tables = [_matrix(f"codes of model {i}", table) for i, table in enumerate(codes)]
    if len({table.shape for table in tables}) != 1:
        shapes = [table.shape for table in tables]
        raise ValueError(f"codes has the shapes {shapes}; expected at least one, and all the same [N, D]")
    named = _discrete(np.concatenate(tables), discrete_codes)
    kept = np.broadcast_to(np.asarray(informative, bool), (len(tables), len(named)))
    columns = [
        [
            (column if n else rankdata(column), bool(n))
            for column, n in zip(table.T[use], named[use], strict=True)
        ]
        for table, use in zip(tables, kept, strict=True)
    ]
    pairs = np.full((len(tables), len(tables)), np.nan)
    for i, j in itertools.combinations(range(len(tables)), 2):
        alike = np.array([[_similarity(*a, *b) for b in columns[j]] for a in columns[i]])
        alike = alike.reshape(len(columns[i]), len(columns[j]))
        strengths = []
        for table in (alike, alike.T):
            total = table.sum(1)
            best = table.max(1, initial=0.0)
            strengths.append(np.divide(best**2, total, out=np.zeros_like(total), where=total > 0))
        each = np.concatenate(strengths)
        pairs[i, j] = pairs[j, i] = each.mean() if len(each) else 0.0
    others = [np.delete(row, i) for i, row in enumerate(pairs)]
    return Ranking(np.array([np.median(row) if len(row) else np.nan for row in others]), pairs)


def _similarity(a: Floats, a_named: bool, b: Floats, b_named: bool) -> float:
    """Of two codes of which the ordered ones are ranks, in [0, 1]; 0 where one is constant."""
    if a_named and b_named:
        return float(normalized_mutual_info_score(a, b)) if np.ptp(a) and np.ptp(b) else 0.0
    if not (a_named or b_named):
        return abs(float(_correlations(a[:, None], b[:, None])[0, 0]))
    names, ranks = (a, b) if a_named else (b, a)
    total = ranks.var()
    groups = np.unique(names, return_inverse=True)[1]
    counts = np.bincount(groups)
    between = (counts * (np.bincount(groups, ranks) / counts - ranks.mean()) ** 2).sum() / len(ranks)
    return float(np.sqrt(min(1.0, between / total))) if total > 0 else 0.0


def _matrix(name: str, values: ArrayLike) -> Floats:
    table = np.asarray(values)
    if table.ndim != 2:
        raise ValueError(f"{name} has the shape {table.shape}; expected two axes, one row an image")
    if not table.size:
        raise UserError(f"{name} is {table.shape[0]} x {table.shape[1]}, which is empty")
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        column = int(np.flatnonzero(~np.isfinite(table).all(0))[0])
        raise UserError(f"{name} has values that are not finite in column {column}; leave those rows out")
    return table


def _pair(codes: ArrayLike, factors: ArrayLike) -> tuple[Floats, Floats]:
    codes, factors = _matrix("codes", codes), _matrix("factors", factors)
    if len(codes) != len(factors):
        raise ValueError(f"codes has {len(codes)} rows and factors {len(factors)}; expected as many")
    return codes, factors


def _rows(count: int, wanted: int, seed: int) -> Ints:
    """As many rows as wanted, in random order: those of a data set may be sorted."""
    if count < wanted:
        raise UserError(
            f"there are {count} rows and {wanted} are wanted; give more, or ask for fewer samples "
            "(figures of other sample sizes do not compare)"
        )
    return np.random.default_rng(seed).permutation(count)[:wanted]


def _discrete(table: Floats, given: Sequence[bool] | None) -> NDArray[np.bool_]:
    if given is None:
        return (table == np.round(table)).all(0)
    if len(given) != table.shape[1]:
        raise ValueError(f"{len(given)} columns are said to be discrete or not; there are {table.shape[1]}")
    return np.array(given, bool)


def _constant(table: Floats) -> NDArray[np.bool_]:
    """Columns that do not vary by more than float32 rounds."""
    return np.ptp(table, axis=0) <= 1e-6 * np.abs(table).max(0)


def _require_variation(factors: NDArray[Any]) -> None:
    if same := np.flatnonzero(np.ptp(factors, axis=0) == 0).tolist():
        raise UserError(f"factor {same[0]} has the same value in all rows; leave it out of the factors")


def _require_factors(count: int) -> None:
    if count < 2:
        raise UserError(f"the factors to tell apart are {count}; give 2 or more")


def _standardised(table: Floats, reference: Floats) -> Floats:
    """With the reference's mean 0 and variance 1; constant columns are 0 in the reference."""
    scale = np.where(_constant(reference), 1.0, reference.std(0))
    return (table - reference.mean(0)) / scale


def _correlations(a: Floats, b: Floats) -> Floats:
    """Pearson's, [columns of a, columns of b]; 0 where a column is constant."""
    a, b = (np.where(_constant(table), 0.0, _standardised(table, table)) for table in (a, b))
    return np.clip(a.T @ b / len(a), -1.0, 1.0)


def _binned(table: Floats, discrete: NDArray[np.bool_], bins: int) -> Ints:
    """Each column as numbers from 0: the names of a discrete one, the parts of a continuous one's range."""
    result = np.empty(table.shape, np.int64)
    for j, column in enumerate(table.T):
        if discrete[j]:
            result[:, j] = np.unique(column, return_inverse=True)[1]
        else:
            edges = np.linspace(column.min(), column.max(), bins + 1)[1:-1]
            result[:, j] = np.searchsorted(edges, column, side="right")
    return result


def _mutual_information(a: Ints, b: Ints) -> float:
    """In nats, of the empirical distribution."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    joint /= len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return max(0.0, float((joint[seen] * np.log(joint[seen] / independent[seen])).sum()))


def _gaps(table: Floats, scale: Floats) -> GapScore:
    second, first = np.sort(np.vstack([np.zeros_like(table[:1]), table]), axis=0)[-2:]
    gaps = (first - second) / scale
    return GapScore(float(gaps.mean()), gaps, table)


def _forest(codes: Floats, target: NDArray[Any], train: int, named: bool, seed: int) -> tuple[Floats, float]:
    """Importance [D] of the dimensions in predicting the target [N], and the error on rows from train on."""
    kind = RandomForestClassifier if named else RandomForestRegressor

    def fit(depth: int, rows: int) -> Any:
        # one seed for all targets: a tie between dimensions is not broken anew for each
        model = kind(n_estimators=10, max_depth=depth, max_features=None, random_state=seed)
        return model.fit(codes[:rows], target[:rows])

    held = max(1, train // 5)
    scores = {
        depth: fit(depth, train - held).score(codes[train - held : train], target[train - held : train])
        for depth in (2, 4, 8, 16)
    }
    model = fit(max(scores, key=lambda depth: scores[depth]), train)
    wrong = _error(model.predict(codes[train:]), target[train:], named)
    guess = np.bincount(target[:train]).argmax() if named else target[:train].mean()
    guessed = _error(np.broadcast_to(guess, target[train:].shape), target[train:], named)
    return model.feature_importances_, wrong / guessed if guessed else wrong


def _error(answer: NDArray[Any], target: NDArray[Any], named: bool) -> float:
    if named:
        return float(np.mean(answer != target))
    return math.sqrt(np.mean((answer - target) ** 2))


def _concentration(importance: Floats) -> Floats:
    """One minus the entropy of each row, in units of the largest that it could have; 0 for a row of zeros."""
    total = importance.sum(1, keepdims=True)
    share = np.divide(importance, total, out=np.zeros_like(importance), where=total > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return np.where(total[:, 0] > 0, 1 - entropy / math.log(max(2, importance.shape[1])), 0.0)


def _survey(
    sample: Sampler, rng: np.random.Generator, count: int, discrete: Sequence[bool] | None
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Representations [count, D] with nothing fixed, and which dimensions are discrete and which vary."""
    parts = [sample(None, rng, 1, min(_CHUNK, count - start))[0] for start in range(0, count, _CHUNK)]
    codes = _matrix("the representation", np.concatenate(parts))
    return codes, _discrete(codes, discrete), ~_constant(codes)


def _interventions(
    sample: Sampler, rng: np.random.Generator, n_factors: int, count: int, groups: int, size: int
) -> Iterator[tuple[int, Floats]]:
    """``count`` points in parts that share the factor that is fixed: it, and codes [points, groups, size, D]
    with a value of the factor for each group.
    """
    for factor, wanted in enumerate(np.bincount(rng.integers(n_factors, size=count), minlength=n_factors)):
        step = max(1, _CHUNK // (groups * size))
        for start in range(0, int(wanted), step):
            points = min(step, int(wanted) - start)
            codes = sample(factor, rng, points * groups, size)
            if not np.isfinite(codes).all():
                raise UserError(f"the representation is not finite for some image with factor {factor} fixed")
            yield factor, codes.reshape(points, groups, size, -1)


def _variances(groups: Floats, discrete: NDArray[np.bool_]) -> Floats:
    """Sample variance [groups, D] within each group of [groups, size, D]; Gini's of discrete dimensions."""
    result = groups.var(1, ddof=1)
    size = groups.shape[1]
    for j in np.flatnonzero(discrete):
        values, names = np.unique(groups[..., j], return_inverse=True)
        counts = np.zeros((len(groups), len(values)))
        np.add.at(counts, (np.arange(len(groups))[:, None], names.reshape(groups.shape[:2])), 1)
        result[:, j] = (size * size - (counts**2).sum(1)) / (2 * size * (size - 1))
    return result
