"""The interface of a term of the objective, and the terms in this package. Imports no torch at the top.

A module of this package that defines a subclass of :class:`Term` adds a term: its options become flags, the
training step calls it, and its metrics and tensors are recorded and saved. A term either states what one
operator computes for all such terms (:meth:`Term.agreement`), or computes its gradient itself
(:meth:`Term.add_gradient`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from infogan_fast.errors import UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.objective.transformation import Transformation
from infogan_fast.options import Option, options_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from infogan_fast import ops


@dataclass(frozen=True)
class Answers:
    """Q's outputs for the real images and their copies, or a gradient with respect to them.

    values: [A + 2B, q_dim], float32 or float64: for A copies near images (0 where no term asks for them), for
        B real images, and for their B transformed copies in the same order.
    near_rows: A. The near copies are of the first A real images.
    log_variance: ln sigma^2 of Q's Gaussians where it is fixed; None where Q's output has it.
    slant: [B], by how much each transformed copy leans more than its image; see
        :func:`infogan_fast.ops.transform_images`.
    """

    values: Tensor
    near_rows: int = 0
    log_variance: float | None = None
    slant: Tensor | None = None

    @property
    def near(self) -> Tensor:
        """[A, q_dim]: the near copies' rows."""
        return self.values[: self.near_rows]

    @property
    def pairs(self) -> Tensor:
        """[2B, q_dim]: the real images' rows, then their transformed copies'."""
        return self.values[self.near_rows :]


@dataclass(frozen=True)
class Term:
    """A term of the discriminator's and Q's losses that is measured on real images.

    A subclass is a frozen dataclass whose fields are its options; the field called like the term is its
    weight, 0 for none.
    """

    name: ClassVar[str]
    #: Whether it is measured wherever another term makes copies, even with a weight of 0.
    measured_with_any: ClassVar[bool] = False

    @property
    def weight(self) -> float:
        """Its weight in the losses; 0 for none."""
        weight: float = getattr(self, self.name)
        return weight

    @property
    def near_copies(self) -> str | None:
        """Which copies near the first images it needs, ``adversarial`` or ``bent``; None for none."""
        return None

    def check(self, spec: LatentSpec, transformation: Transformation) -> None:
        """Check that the term can be used with these codes and copies.

        Raises:
            UserError: it cannot; the text names the flag and the remedy.
        """

    def continuous_code(self, spec: LatentSpec) -> Code | None:
        """The uniform or normal code that the term gives a meaning to, which no other term may use."""
        return None

    def at(self, update: int) -> Term | None:
        """The term as the update after ``update`` others computes it; None if it does not."""
        return self if self.weight > 0 else None

    def changes_at(self) -> dict[str, tuple[int, ...]]:
        """Updates after which :meth:`at` changes, by the option's name; a CUDA graph must stop there."""
        return {}

    def metrics(self, spec: LatentSpec) -> tuple[str, ...]:
        """Names of the values that it measures."""
        return ()

    def state(self, spec: LatentSpec, dtype: torch.dtype, device: torch.device) -> dict[str, list[Tensor]]:
        """Tensors that last from update to update, by the name that they are saved under."""
        return {}

    def restart(self, state: dict[str, list[Tensor]]) -> None:
        """Reset the state, in place: Q's head starts again."""

    def agreement(
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement | None:
        """Add the term to what :func:`infogan_fast.ops.agreement` computes.

        Args:
            parts: of the other terms.
            spec: the layout of Q's outputs.
            state: of :meth:`state`, which the operator updates in place.

        Returns:
            The parts with this term; None where :meth:`add_gradient` computes it.
        """
        return None

    def add_gradient(
        self, answers: Answers, gradient: Answers, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> Tensor | None:
        """Add the gradient of the weighted term with respect to Q's answers, for a term without
        :meth:`agreement`.

        Args:
            answers: constants; nothing is differentiated through them.
            gradient: added to in place, laid out as the answers.
            spec: the layout of Q's outputs.
            state: of :meth:`state`; updated in place.

        Returns:
            The values of :meth:`metrics`, one dimension; None without any.
        """
        raise NotImplementedError


@cache
def term_types() -> dict[str, type[Term]]:
    """Every term in this package by name, in the order of the flags."""
    package = importlib.import_module("infogan_fast.objective")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != _NEEDS_TORCH:
            importlib.import_module(f"infogan_fast.objective.{module.name}")
    return {term.name: term for term in sorted(Term.__subclasses__(), key=lambda term: term.name)}


_NEEDS_TORCH = "copies"  # it holds no term, and --help should not wait for torch


@cache
def term_options() -> dict[str, Option]:
    """The options of every term, by name."""
    return {name: found for term in term_types().values() for name, found in options_of(term).items()}


def make_terms(values: Mapping[str, Any]) -> tuple[Term, ...]:
    """Every term with its options; without an option, its term is off."""
    return tuple(
        term(**{name: values[name] for name in options_of(term) if name in values})
        for term in term_types().values()
    )


def check_terms(terms: Sequence[Term], spec: LatentSpec, transformation: Transformation) -> None:
    """Check that the terms can be used with these codes and copies, and together.

    Raises:
        UserError: they cannot; the text names the flags and the remedy.
    """
    for term in terms:
        term.check(spec, transformation)
    users: dict[str, list[Term]] = {}
    for term in terms:
        code = term.continuous_code(spec) if term.weight else None
        if code is not None:
            users.setdefault(code.name, []).append(term)
    for name, several in users.items():
        if len(several) > 1:
            flags = " and ".join(f"--{term.name} {term.weight:g}" for term in several)
            raise UserError(
                f"{flags} need a uniform or normal code each, and --latents {spec} has only {name}; "
                f"leave one out, or add a code, for example --latents {spec},uniform=1"
            )


def needs(flag: str, value: float, kind: str, spec: LatentSpec, example: str) -> UserError:
    """The error for a term whose kind of code the specification lacks."""
    return UserError(
        f"{flag} {value:g} needs a {kind} code, and --latents {spec} has none; leave it out, or add one, for "
        f"example --latents {spec},{example}"
    )
