"""One change at a time to the demo's recipe, several seeds, figures on held-out scenes after every epoch.

    python benchmarks/ablate_digits.py                      # everything that is missing from the results
    python benchmarks/ablate_digits.py recipe no-warm-up    # some of it
    python benchmarks/ablate_digits.py --minutes 20         # stop before a run that would begin later than that

Results are added run by run to benchmarks/results/digits_ablation.json, so an interrupted session resumes where it stopped.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch
from common import commit, hardware, number, write
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from protokp.ops import prototypes
from protokp.ops.prototypes import _RESTARTS
from protokp.recipes import digits as cli
from protokp.recipes.digits import _EPOCHS, DIGITS_RECIPE, digits_learner, evaluate_digits
from protokp.training import callbacks as callback
from protokp.training.callbacks import _PLACING

RESULTS = Path(__file__).parent / 'results' / 'digits_ablation.json'
START = DIGITS_RECIPE['start']
HALF = dict(stride=2, BF16=True)
BASE = dict(stride=1)  # what the changes are made to: the recipe as it was before it got stride 2

# name -> (what it replaces in the recipe, seeds, epochs)
RUNS = {
    'recipe': ({}, (0, 1, 2), _EPOCHS),
    'narrow Gaussian': (dict(splat_var=0.05), (0, 1), 6),
    'feature weight 100': (dict(w_feature=100.0), (0, 1), 6),
    'rate 1e-3': (dict(lr=1e-3), (0, 1), 6),
    'window 7': (dict(HALF, kernel_size=7), (0, 1), _EPOCHS),
    'repaint both': (dict(n_reconstruct=2), (0,), 6),
    'no rest': (dict(start=0, warmup=0), (0, 1), _EPOCHS),
    'strong pull': (dict(w_cluster=0.1, warmup=0), (0, 1), _EPOCHS),
    'no rest, strong pull': (dict(start=0, warmup=0, w_cluster=0.1), (0, 1, 2), _EPOCHS),
    'soft types': (dict(HALF, temperature=20.0), (0, 1), _EPOCHS),
    'no floor': (dict(HALF, floor=0.0), (0, 1), _EPOCHS),
    'prototype rate 0.1': (dict(HALF, lr_prototypes=0.1), (0, 1), _EPOCHS),
    'one prototype step': (dict(HALF, n_steps=1), (0, 1), _EPOCHS),
    'no memory': (dict(HALF, memory=1), (0,), _EPOCHS),
    'stride 2': (dict(stride=2), (0, 1, 2), _EPOCHS),  # the recipe of today
    'stride 2, bf16': (dict(stride=2, BF16=True), (0, 1, 2), _EPOCHS),
    'placed on few': (dict(PLACING=4, RESTARTS=4), (0, 1, 2), _EPOCHS),
    # on maps of half the resolution, where a run is a minute: each against 'stride 2, bf16'
    'descriptor of 16': (dict(HALF, channels=16), (0, 1), _EPOCHS),
    'descriptor of 64': (dict(HALF, channels=64), (0, 1), _EPOCHS),
    'networks 32 wide': (dict(HALF, width=32), (0, 1), _EPOCHS),
    'one halving': (dict(HALF, depth=1), (0, 1), _EPOCHS),
    'three halvings': (dict(HALF, depth=3), (0, 1), _EPOCHS),
    'averaged weights': (dict(HALF, EMA=0.98), (0, 1, 2), _EPOCHS),
    'one cycle': (dict(HALF, ONE_CYCLE=True), (0, 1), _EPOCHS),
    'prototype rate falls': (dict(HALF, final_lr=0.05), (0, 1), _EPOCHS),
    'larger batch': (dict(HALF, BATCH=32), (0, 1), _EPOCHS),
    'placed later': (dict(HALF, start=900, warmup=100), (0, 1, 2), _EPOCHS),
    "paper's settings": (
        dict(
            HALF,
            start=0,
            warmup=0,
            w_cluster=0.01,
            temperature=20.0,
            floor=0.0,
            memory=1,
            lr_prototypes=0.1,
            lr=1e-3,
            w_feature=100.0,
            splat_var=0.05,
            tau=0.2,
            n_reconstruct=2,
        ),
        (0, 1),
        _EPOCHS,
    ),
}


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def add(row):
    write(RESULTS, '[\n' + ',\n'.join(json.dumps(o) for o in [*read(), row]) + '\n]\n')


class Average(Callback):
    "Exponential moving average of the weights, for evaluation at the end"

    def __init__(self, decay):
        self.decay, self.mean = decay, None

    def after_step(self):
        if self.mean is None:
            self.mean = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        self.mean.update_parameters(self.model)

    def take(self, model):
        model.load_state_dict(self.mean.module.state_dict())
        with torch.no_grad():
            model.prototypes.copy_(torch.nn.functional.normalize(model.prototypes, dim=1))


def run(name, change, seed, epochs, device):
    callback._PLACING, prototypes._RESTARTS = (
        change.get('PLACING', _PLACING),
        change.get('RESTARTS', _RESTARTS),
    )
    set_seed(seed)
    bs = change.get('BATCH', cli._BATCH)
    scenes = cli._PER_EPOCH * bs // cli._BATCH  # as many iterations
    with patch.object(cli, '_BATCH', bs):
        learn = digits_learner(
            n_train=scenes, device=device, **{k: v for k, v in {**BASE, **change}.items() if k.islower()}
        )
    if change.get('BF16'):
        learn.to_bf16()
    average = Average(change['EMA']) if 'EMA' in change else None
    if average:
        learn.add_cb(average)
    begin, lr = time.time(), {**DIGITS_RECIPE, **change}['lr']
    learn.fit_one_cycle(epochs, lr) if change.get('ONE_CYCLE') else learn.fit_flat_cos(
        epochs, lr, pct_start=0.7
    )
    seconds = time.time() - begin
    if average:
        average.take(learn.model)
    names = list(learn.recorder.metric_names)[1:-1]
    curve = {n: [round(float(v), 4) for v in col] for n, col in zip(names, zip(*learn.recorder.values))}
    figures = {k: number(v) for k, v in evaluate_digits(learn.model.cpu()).items()}
    return dict(
        name=name,
        change=change,
        seed=seed,
        epochs=epochs,
        seconds=round(seconds),
        commit=commit(),
        hardware=hardware(),
        figures=figures,
        curve=curve,
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='runs to make; all if left out')
    p.add_argument('--seeds', type=int, nargs='*', help='only these')
    p.add_argument('--minutes', type=float, default=float('inf'), help='begin no run later than this')
    p.add_argument('--device', default='cpu')
    a = p.parse_args()
    if unknown := set(a.names) - RUNS.keys():
        sys.exit(f'unknown {sorted(unknown)}, wanted any of {sorted(RUNS)}')
    begin, done = time.time(), {(r['name'], r['seed']) for r in read()}
    todo = [
        (n, s)
        for n in a.names or RUNS
        for s in RUNS[n][1]
        if (n, s) not in done and (not a.seeds or s in a.seeds)
    ]
    for name, seed in todo:
        if time.time() - begin > 60 * a.minutes:
            sys.exit('time is up; run again to resume')
        change, _, epochs = RUNS[name]
        row = run(name, change, seed, epochs, a.device)
        add(row)
        print(name, seed, row['figures'], f"{row['seconds']} s", flush=True)


if __name__ == '__main__':
    main()
