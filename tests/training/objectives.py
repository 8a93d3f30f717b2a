"""Objectives from options by name, those of the terms included."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

from infogan_fast.objective.objective import Objective
from infogan_fast.objective.term import make_terms, term_options
from infogan_fast.options import options_of


def flat(objective: Objective) -> SimpleNamespace:
    """Every option of an objective, of its terms too."""
    values = {name: declared.default for name, declared in term_options().items()}
    values |= {f.name: getattr(objective, f.name) for f in fields(objective) if f.name != "terms"}
    for term in objective.terms:
        values |= {name: getattr(term, name) for name in options_of(type(term))}
    return SimpleNamespace(**values)


def with_options(objective: Objective, **values: Any) -> Objective:
    """The objective with other values of some options."""
    terms = {name: value for name, value in vars(flat(objective)).items() if name in term_options()}
    terms |= {name: value for name, value in values.items() if name in terms}
    own = {name: value for name, value in values.items() if name not in terms}
    return replace(objective, terms=make_terms(terms), **own)


def make_objective(**values: Any) -> Objective:
    """The paper's objective with other values of some options."""
    return with_options(Objective(), **values)
