"""Run the benchmark: `python bench/run.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# In place of this folder, whose file names would hide other modules.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
