"""Everything we want to know from a GPU, in order of worth and within a time.

    python -m benchmarks.gpu [--minutes 9] [--output FILE] [--resume] [--smoke]

Self-tests; our kernel beside torchvision's at every level; v1, v2 and lite with plain PyTorch in
float16, bfloat16 and float32, with inductor and, where it is installed, TensorRT, at 1, 4, 8 and 16
faces at once, with memory and the share of the GPU's arithmetic limit; training of v1; a film of
1080p from file to file. The record (results/gpu.json unless named) is written after each part, so
that what was done survives a stop; `--resume` goes on with what was not done, or failed. Parts run
in processes of their own until one fails or crashes; then the next begins afresh.

It needs torch, torchvision, numpy, safetensors and triton; the film needs all that a restoration
does, and is skipped where that is not installed. `--smoke` runs tiny shapes on a CPU (with numba),
to see that the code works. Exits with 3 where there is no GPU.
"""

import argparse
import faulthandler
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vqfr_engines.own_process import answer_request, in_own_process

RESULTS = Path(__file__).parent / "results"
# A part is not begun with less than this left.
LEAST_SECONDS = 5.0
GOOD = ("passed", "skipped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    if 60 * options.minutes <= LEAST_SECONDS:
        parser.error(f"--minutes must be above {LEAST_SECONDS / 60:.2f}, got {options.minutes:g}")
    until = time.monotonic() + 60 * options.minutes
    old = read(options.output) if options.resume else {"parts": {}}
    write(options.output, old)
    with tempfile.TemporaryDirectory(prefix="vqfr-media-gpu-") as folder:
        run(options.output, smoke=options.smoke, folder=Path(folder), until=until)
    record = read(options.output)
    if "plan" not in record:
        print("benchmarks.gpu needs an NVIDIA GPU, and there is none here", file=sys.stderr)
        return 3
    print(record["machine_line"])
    for name in record["plan"]:
        print(line(name, record["parts"].get(name)))
    print(options.output)
    failed = any(found["outcome"] == "failed" for found in record["parts"].values())
    return 1 if failed else 0


def run(output: Path, *, smoke: bool, folder: Path, until: float) -> None:
    """Has the parts done that the record in `output` does not hold, until `until` (monotonic).

    Raises:
        RuntimeError: a process ended before its first part.
    """
    over = [name for name, found in read(output)["parts"].items() if found["outcome"] in GOOD]
    while (left := until - time.monotonic()) > LEAST_SECONDS:
        request = {
            "smoke": smoke,
            "over": over,
            "output": str(output.absolute()),
            "folder": str(folder),
            "seconds": left,
        }
        ended = in_own_process("benchmarks.gpu", request, seconds=left)
        record = read(output)
        under_way = record.pop("under_way", None)
        if under_way is not None:
            late = until - time.monotonic() <= LEAST_SECONDS
            record["parts"][under_way] = {
                "outcome": "stopped" if late else "failed",
                "detail": ended.fault,
                "log": ended.log,
                "figures": {},
            }
            write(output, record)
            over += [*record.get("done", []), under_way]
        elif ended.answer is None:
            raise RuntimeError(f"no part was begun: {ended.fault}")
        elif not ended.answer:  # nothing is left, or no time
            return
        else:
            over += ended.answer


def work(request: Mapping[str, Any]) -> list[str]:
    """Does parts one after the other until one fails or the time is over; the names of those done.

    Runs in a process of its own. Before each part its name is in the record, so that a crash is
    known to be its own; one that takes too long ends the process.
    """
    import torch
    from vqfr_engines.machine_facts import facts_line, machine_facts

    from benchmarks.gpu_parts import all_parts, measured, small_weights, smoke_parts

    began, output, folder = time.monotonic(), Path(request["output"]), Path(request["folder"])
    if not request["smoke"] and not torch.cuda.is_available():
        return []
    device = torch.device("cpu" if request["smoke"] else "cuda:0")
    parts = smoke_parts(small_weights(folder)) if request["smoke"] else all_parts()
    record = read(output)
    facts = machine_facts(str(device))
    record |= {"machine": facts, "machine_line": facts_line(facts)}
    record |= {"plan": [part.name for part in parts], "done": []}
    write(output, record)
    for part in parts:
        if part.name in request["over"]:
            continue
        if request["seconds"] - (time.monotonic() - began) < LEAST_SECONDS:
            break
        write(output, {**record, "under_way": part.name})
        faulthandler.dump_traceback_later(part.seconds, exit=True)
        found = measured(part, device=device, folder=folder)
        faulthandler.cancel_dump_traceback_later()
        record["parts"][part.name] = found
        record["done"].append(part.name)
        write(output, record)
        if found["outcome"] == "failed":  # what it did to the GPU must not fail the next
            break
        if device.type == "cuda":
            torch.cuda.empty_cache()
    done: list[str] = record["done"]
    return done


def line(name: str, found: Mapping[str, Any] | None) -> str:
    """Tells of a part in one line."""
    if found is None:
        return f"not done  {name}"
    told = found["detail"] or ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in found["figures"].items()
    )
    return f"{found['outcome']:9} {name}: {told}"


def read(path: Path) -> dict[str, Any]:
    """Reads the record so far; empty where there is none."""
    if not path.is_file():
        return {"parts": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the record as a whole file, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = {**record, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    arriving = path.with_name(f".{path.name}.part")
    arriving.write_text(json.dumps(dated, indent=1) + "\n", encoding="utf-8")
    arriving.replace(path)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith("request.json"):
        answer_request(work)
    else:
        sys.exit(main())
