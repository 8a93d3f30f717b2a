"""Weights of the mutual information by code. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec


@dataclass(frozen=True)
class CodeWeights:
    """λ of single codes, such as ``c1=1,c2=0.1``.

    by_name: pairs of a code's name and its weight.

    Raises:
        UserError: a code is there twice, or a weight is negative or not finite.
    """

    by_name: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.by_name]
        for name, weight in self.by_name:
            if names.count(name) > 1:
                raise UserError(f"--lambda gives {name} twice; give it once")
            if not 0 <= weight < math.inf:
                raise UserError(f"--lambda is {weight:g} for {name}; expected a number of at least 0")

    @classmethod
    def parse(cls, text: str) -> CodeWeights:
        """Read ``CODE=X,...``; an empty text is none.

        Raises:
            UserError: the text does not follow this grammar.
        """
        pairs = []
        for part in filter(None, text.replace(" ", "").split(",")):
            name, separator, value = part.partition("=")
            try:
                if not (name and separator):
                    raise ValueError
                pairs.append((name, float(value)))
            except ValueError:
                raise UserError(
                    f"--lambda is {text!r}; expected weights by code, such as c1=1,c2=0.1"
                ) from None
        return cls(tuple(pairs))

    def __str__(self) -> str:
        return ",".join(f"{name}={weight!r}" for name, weight in self.by_name)

    def check(self, spec: LatentSpec) -> None:
        """Check that the codes are there.

        Raises:
            UserError: one is not.
        """
        for name, _ in self.by_name:
            if name not in spec.code_names:
                codes = ", ".join(f"{code.name} ({code.kind})" for code in spec.codes)
                raise UserError(f"--lambda names {name}; --latents {spec} has {codes}")
