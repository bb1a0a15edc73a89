"""The benchmark is not part of the installed package: it is found where the project is."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
