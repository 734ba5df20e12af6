"""What a run wrote down of itself."""

import json
from pathlib import Path
from typing import Any


def losses(out: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_a_step"} for line in lines]
