"""A loaded run, its evaluation, and one module a metric."""
