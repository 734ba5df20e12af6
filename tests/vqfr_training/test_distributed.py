"""Ranks: alone everything is the identity, together gradients are those of the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vqfr_training.distributed import DistributedContext, distributed_context, single_process

from tests.paths import ROOT

CPU = torch.device("cpu")

# What each of two ranks does: a small network on its half of one batch, two pieces of gradients.
WORK = """
import json, sys
from pathlib import Path
import torch
from torch import nn
import vqfr_training.distributed
from vqfr_training.distributed import distributed_context

vqfr_training.distributed._CHUNK_BYTES = 100  # bytes: the gradients travel in several pieces
torch.manual_seed(3)
network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
unused = nn.Parameter(torch.zeros(2))
batch = torch.randn(8, 6)
with distributed_context() as context:
    share = batch.chunk(context.world_size)[context.rank]
    losses = []
    adam = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(5):
        loss = network(share).square().mean() + network[0].weight.square().mean()
        adam.zero_grad()
        loss.backward()
        context.average_gradients([*network.parameters(), unused])
        adam.step()
        losses.append(context.mean({"total": loss, "rank": torch.tensor(float(context.rank))}))
    torch.manual_seed(context.rank)  # as on machines that draw differently
    drawn = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    count = torch.tensor(context.rank + 5)
    context.broadcast([drawn, count])
    found = {
        "drawn": [count.item(), *drawn.flatten().tolist()],
        "losses": [{k: float(v) for k, v in each.items()} for each in losses],
        "gathered": torch.equal(context.gather(share), batch),
        "unused": unused.grad is None,
        "is_main": context.is_main,
        "weights": [float(p.sum()) for p in network.parameters()],
    }
    Path(sys.argv[1], f"{context.rank}.json").write_text(json.dumps(found))
    context.barrier()
"""


def test_alone_everything_is_the_identity() -> None:
    context = single_process()
    assert (context.rank, context.world_size, context.is_main) == (0, 1, True)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    context.average_gradients([weight])
    assert weight.grad is not None
    assert weight.grad.tolist() == [2, 2, 2]
    losses = {"total": torch.tensor(1.5)}
    assert context.mean(losses) == losses
    latents = torch.rand(2, 3)
    assert torch.equal(context.gather(latents), latents)
    context.broadcast([latents])
    context.barrier()


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed_context() as context:
        assert context.world_size == 1
    assert not torch.distributed.is_initialized()


def test_wrong_teams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"rank must be within 0\.\.0, got 1"):
        DistributedContext(CPU, rank=1)
    with pytest.raises(ValueError, match="2 ranks with"):
        DistributedContext(CPU, world_size=2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(ValueError, match="started 4 ranks here, but there are 2 GPUs"),
        distributed_context(),
    ):
        pass


@pytest.mark.slow
def test_two_ranks_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    path = os.pathsep.join((str(ROOT), str(ROOT / "training")))
    for world_size in (1, 2):
        (tmp_path / str(world_size)).mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [
            "--nproc_per_node",
            str(world_size),
            str(script),
            str(tmp_path / str(world_size)),
        ]
        done = subprocess.run(
            command,
            env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    whole = json.loads((tmp_path / "1" / "0.json").read_text())
    first, second = (json.loads((tmp_path / "2" / f"{r}.json").read_text()) for r in (0, 1))
    totals = [step["total"] for step in whole["losses"]]
    assert totals[-1] < 0.8 * totals[0]
    for each in (first, second):
        assert [step["total"] for step in each["losses"]] == pytest.approx(totals, rel=1e-5)
        assert [step["rank"] for step in each["losses"]] == [0.5] * 5
        assert each["weights"] == pytest.approx(whole["weights"], rel=1e-4, abs=1e-5)
        assert each["gathered"]
        assert each["drawn"] == whole["drawn"]  # the leader's
        assert each["unused"]
    assert (first["is_main"], second["is_main"]) == (True, False)
