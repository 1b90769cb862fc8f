"""Where the benchmarks keep what they make: `.bench/` is scratch, `bench/results/` is committed."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".bench"
ENVIRONMENTS = SCRATCH / "env"
MODELS = SCRATCH / "models"
CONVERTED = SCRATCH / "converted"
LOGS = SCRATCH / "logs"
SERVERS = ROOT / "bench" / "servers"
RESULTS = ROOT / "bench" / "results"
