"""Makes the benches importable: they are commands, not a package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "bench"))
