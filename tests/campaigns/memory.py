"""Predict for a long time and fit many times in one process: memory must level off.

python tests/campaigns/memory.py --minutes 60 --n 50
"""

import gc
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from campaign import Campaign, main, silent
from PIL import Image

from protokp.folders.predict import predict_images
from protokp.recipes.digits import demo_model, digits_learner

PAGE, GROWTH = 4096, 0.05  # bytes; share that memory may grow by once it is warm


def megabytes():
    gc.collect()
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE / 2**20


def judge(c, what, seen):
    "Compare the last quarter with the second"
    n = len(seen) // 4
    before, after = np.median(seen[n : 2 * n]), np.median(seen[-n:])
    c.count(f'{what}: MB after a quarter', round(float(before)))
    c.count(f'{what}: MB in the end', round(float(after)))
    if after > before * (1 + GROWTH):
        c.problem(f'{what}: {before:.0f} MB became {after:.0f} MB')


def run(n=50, seed=0, minutes=60.0):
    "Measure the memory of predictions and fits"
    c, model, draw = Campaign('memory', seed), demo_model(), np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as d:
        for i in range(64):  # of many sizes
            size = draw.integers(20, 400, 2)
            Image.fromarray(draw.integers(0, 255, (*size, 3), dtype=np.uint8)).save(Path(d) / f'{i}.png')
        seen, end = [], time.time() + 60 * minutes
        while time.time() < end or len(seen) < 8:
            for size in (28, 56, (28, 84), 'own'):
                c.count(
                    'images predicted',
                    len(predict_images(model, d, size=size, progress=False).attrs['images']),
                )
            seen.append(megabytes())
    judge(c, 'predictions', seen)
    seen = []
    for _ in range(max(n, 8)):
        learn = digits_learner(n_train=32, n_valid=16, start=1)
        with silent(), learn.no_bar(), learn.no_logging():
            learn.fit_flat_cos(1, 1e-3)
        c.count('fits')
        seen.append(megabytes())
    judge(c, 'fits', seen)
    c.count('tried', c.counts['images predicted'] + c.counts['fits'])
    return c


if __name__ == '__main__':
    sys.exit(main(run, 50, minutes=60.0))
