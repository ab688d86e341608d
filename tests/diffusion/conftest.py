"""Makes the checkout's benchmarks importable: the diffusers oracle is shared with `diffbot bench solvers`."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)
