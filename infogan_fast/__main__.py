"""``python -m infogan_fast COMMAND ...``: the same as ``infogan-fast COMMAND ...``."""

import sys

from infogan_fast.cli import main

sys.exit(main())
