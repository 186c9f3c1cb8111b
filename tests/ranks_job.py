"""What ``torchrun`` runs in test_ranks: trains a line on a dataset, notes the keys of its batches.

Usage: ranks_job.py DATASET NOTES STATE STEPS. Goes on from STATE if that is there; after STEPS
batches the first rank saves the loader's state to it.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from pipeline.loader import make_loader, open_dataset


def main(folder: str, notes: str, saved: str, steps: int) -> None:
    torch.distributed.init_process_group("gloo")
    rank, state = torch.distributed.get_rank(), Path(saved)
    split = open_dataset(folder, key=True)["train"]
    loader = make_loader(split, 16, shuffle=True, seed=5, window=64, drop_last=False)
    if state.exists():
        loader.load_state_dict(json.loads(state.read_text()))
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(split[0]["features"].shape[-1], 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    served = []
    for step, batch in enumerate(loader, 1):
        loss = model(batch["features"].float()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        served.append(batch["key"])
        if step == steps:
            break
    out = Path(notes) / f"{torch.distributed.get_world_size()}-{rank}.json"
    out.write_text(json.dumps(served))
    torch.distributed.barrier()
    if rank == 0:
        state.write_text(json.dumps(loader.state_dict()))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
