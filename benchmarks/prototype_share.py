"""Time of the prototype phase as a share of a training iteration, both measured in one run.

python benchmarks/prototype_share.py      # writes benchmarks/results/prototype_share.json
"""

import json
import time
from pathlib import Path

import torch
from common import commit, hardware
from fastai.callback.core import Callback
from fastai.torch_core import set_seed

from protokp.datasets.loaders import scene_dataloaders
from protokp.datasets.scenes import Scenes, sklearn_digits
from protokp.recipes.digits import digits_learner
from protokp.training.learner import keypoint_learner

RESULTS = Path(__file__).parent / 'results' / 'prototype_share.json'


class Stopwatch(Callback):
    "Sums the time of whole training iterations and of what PrototypeCallback does in them"

    order = -20

    def __init__(self, skip=5):
        self.skip, self.iteration, self.phase, self.n = skip, 0.0, 0.0, 0

    def before_fit(self):
        inner = self.learn.prototype.after_step

        def timed():
            begin = time.perf_counter()
            inner()
            if self.train_iter >= self.skip:
                self.phase += time.perf_counter() - begin

        self.learn.prototype.after_step = timed

    def before_batch(self):
        self.begin = time.perf_counter()

    def after_train(self):
        self.phase, self.iteration = self.phase / max(self.n, 1), self.iteration / max(self.n, 1)


class Stop(Callback):
    "Ends the iteration's clock after every other callback"

    order = 100

    def after_batch(self):
        if not self.training or self.train_iter <= self.learn.stopwatch.skip:
            return
        self.learn.stopwatch.iteration += time.perf_counter() - self.learn.stopwatch.begin
        self.learn.stopwatch.n += 1


def measure(learn):
    watch = Stopwatch()
    learn.add_cbs([watch, Stop()])
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    return dict(
        iteration_ms=round(1e3 * watch.iteration, 1),
        prototype_ms=round(1e3 * watch.phase, 2),
        share=round(watch.phase / watch.iteration, 4),
        iterations=watch.n,
    )


def main():
    set_seed(0)
    digits = lambda train: Scenes(sklearn_digits(20, train), n_objects=9, size=(80, 80), min_distance=10)
    mnist = scene_dataloaders(digits(True), digits(False), n_train=15 * 8, n_valid=8, bs=8, device='cpu')
    rows = {
        'demo: 16 pairs of 28x28, width 16, 512 descriptors, 5 steps': measure(
            digits_learner(n_train=16 * 60, n_valid=8, start=1, warmup=0)
        ),
        'mnist preset: 8 pairs of 80x80, width 32, 144 descriptors, 5 steps': measure(
            keypoint_learner(mnist, preset='mnist')
        ),
    }
    for name, r in rows.items():
        print(f"{name}: {r['prototype_ms']:.1f} of {r['iteration_ms']:.0f} ms, {100 * r['share']:.1f} %")
    RESULTS.write_text(
        json.dumps(
            dict(commit=commit(), hardware=hardware(), threads=torch.get_num_threads(), seed=0, rows=rows),
            indent=1,
        )
        + '\n'
    )


if __name__ == '__main__':
    main()
