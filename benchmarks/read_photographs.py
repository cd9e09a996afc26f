"""How long a folder of large photographs takes to read: as a whole, as `KeypointDataLoaders` reads it, and from memory.

    python benchmarks/read_photographs.py

All ways take turns in one process on the same synthetic JPEG files of 12 megapixels; only ratios are worth quoting. The
medians go to benchmarks/results/read_photographs.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from common import HERE, commit, hardware, number, write
from PIL import Image

from protokp.folders.images import KeypointDataLoaders, open_image

SIZE, FITTED, BATCH = (3000, 4000), (96, 128), 16


def write_photographs(folder, n, seed=0):
    "Blurred colours under grain, which compress about as badly as a photograph"
    draw = np.random.default_rng(seed)
    for i in range(n):
        colours = Image.fromarray(draw.integers(0, 255, (75, 100, 3), dtype=np.uint8))
        photograph = np.asarray(colours.resize(SIZE[::-1], Image.Resampling.BICUBIC)).astype(int)
        photograph += draw.integers(-12, 12, (*SIZE, 1))
        Image.fromarray(photograph.clip(0, 255).astype(np.uint8)).save(folder / f'{i}.jpg', quality=90)


def cpu_seconds(work):
    "CPU seconds of the process and its threads"
    before = time.process_time()
    work()
    return time.process_time() - before


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        write_photographs(Path(d), BATCH + 2)
        options = dict(size=FITTED, bs=BATCH, valid_pct=0.05, device='cpu', num_workers=0, progress=False)
        kept = KeypointDataLoaders.from_folder(d, **options)
        read = KeypointDataLoaders.from_folder(d, in_memory=False, **options)
        files = kept.train_ds.items[:BATCH]
        ways = {
            'decoded whole': lambda: [open_image(f).resize(FITTED[::-1]) for f in files],
            'decoded at a fraction': lambda: next(iter(read.train)),
            'from memory': lambda: next(iter(kept.train)),
        }
        seconds = {name: [] for name in ways}
        for _ in range(a.rounds):
            for name, work in ways.items():
                seconds[name].append(cpu_seconds(work))
    row = dict(
        what=f'CPU seconds of a batch of {BATCH} JPEG files of {SIZE[1]}x{SIZE[0]} pixels, at {FITTED[1]}x{FITTED[0]}',
        rounds=a.rounds,
        seconds={name: number(statistics.median(s)) for name, s in seconds.items()},
        commit=commit(),
        hardware=hardware(),
    )
    write(HERE / 'results' / 'read_photographs.json', json.dumps(row, indent=1))
    print(json.dumps(row, indent=1))


if __name__ == '__main__':
    main()
