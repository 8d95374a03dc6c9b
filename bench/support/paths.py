"""Where the checkout lies, and where benches leave their figures."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout. Benches start their own processes here, as `python -m bench.…`."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Questions that people wrote; the folder next to the checkout need not be there."""
RESULTS = ROOT / "bench" / "results"
