"""The terms of the objective beyond the paper's, one module a term."""
