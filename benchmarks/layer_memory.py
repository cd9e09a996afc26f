"""Peak memory of a training step in layered mode, with and without chunks, as ratios to K = 6.

    python benchmarks/layer_memory.py        # writes benchmarks/results/layer_memory.json

Each case runs in a process of its own; the memory of a step is the peak resident size less what the process held before it.
"""

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / 'results' / 'layer_memory.json'
SIDE, BATCH, CHUNK, CASES = 64, 4, 2, (6, 12, 30)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(K, chunk):
    import torch

    from protokp.models.protokp import ProtoKP

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ProtoKP(K, 48, kernel_size=9, width=16, depth=2, layered=True, chunk=chunk)
    x = torch.rand(BATCH, 3, SIDE, SIDE)
    before = peak()
    (model(x).image - x).square().mean().backward()
    print(peak() - before)


def main():
    if len(sys.argv) == 3:
        return step(int(sys.argv[1]), int(sys.argv[2]) or None)

    def mb(K, chunk):
        return float(
            subprocess.run(
                [sys.executable, __file__, str(K), str(chunk)], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )

    rows = {f'chunk {c or "none"}': {f'K={K}': round(mb(K, c)) for K in CASES} for c in (0, CHUNK)}
    ratios = {name: {k: round(v / r['K=6'], 2) for k, v in r.items()} for name, r in rows.items()}
    out = dict(
        what=f'MB a training step holds at its peak, {BATCH} images of {SIDE}x{SIDE}, width 16',
        hardware=f'{os.cpu_count()} CPU cores, {platform.machine()}',
        megabytes=rows,
        ratio_to_K6=ratios,
    )
    RESULTS.write_text(json.dumps(out, indent=1) + '\n')
    print(json.dumps(out, indent=1))


if __name__ == '__main__':
    main()
