"""One change at a time to the demo's recipe, several seeds, figures on held-out scenes after every epoch.

    python benchmarks/ablate_digits.py                      # everything that is missing from the results
    python benchmarks/ablate_digits.py recipe no-warm-up    # some of it
    python benchmarks/ablate_digits.py --minutes 20         # stop before a run that would begin later than that

Results are added run by run to benchmarks/results/digits_ablation.json, so an interrupted session goes on where it stopped.
"""
import argparse, json, sys, time
from pathlib import Path

import torch
from common import commit, hardware, number, write
from fastai.torch_core import set_seed
from protokp import callback, prototypes
from protokp.callback import PLACING
from protokp.cli import DIGITS, EPOCHS, digits_learner, judge_digits
from protokp.prototypes import RESTARTS

RESULTS = Path(__file__).parent/'results'/'digits_ablation.json'
START = DIGITS['start']

# name -> (what it replaces in the recipe, seeds, epochs)
RUNS = {
    'recipe':             ({}, (0, 1, 2), EPOCHS),
    'narrow Gaussian':    (dict(splat_var=.05), (0, 1), 6),
    'feature weight 100': (dict(w_feature=100.), (0, 1), 6),
    'rate 1e-3':          (dict(lr=1e-3), (0, 1), 6),
    'window 7':           (dict(kernel_size=7), (0, 1), 6),
    'repaint both':       (dict(repaint=2), (0,), 6),
    'no rest':            (dict(start=0, warmup=0), (0, 1), EPOCHS),
    'strong pull':        (dict(w_cluster=.1, warmup=0), (0, 1), EPOCHS),
    'no rest, strong pull': (dict(start=0, warmup=0, w_cluster=.1), (0, 1, 2), EPOCHS),
    'soft types':         (dict(temperature=20.), (0, 1), EPOCHS),
    'no floor':           (dict(floor=0.), (0, 1), EPOCHS),
    'prototype rate 0.1': (dict(lr_prototypes=.1), (0, 1), EPOCHS),
    'one prototype step': (dict(n_steps=1), (0, 1), EPOCHS),
    'no memory':          (dict(memory=1), (0,), EPOCHS),
    'stride 2':           (dict(stride=2), (0, 1, 2), EPOCHS),
    'stride 2, bf16':     (dict(stride=2, BF16=True), (0, 1, 2), EPOCHS),
    'placed on few':      (dict(PLACING=4, RESTARTS=4), (0, 1, 2), EPOCHS),
    "paper's settings":   (dict(start=0, warmup=0, w_cluster=.01, temperature=20., floor=0., memory=1, lr_prototypes=.1, lr=1e-3, w_feature=100., splat_var=.05, tau=.2, repaint=2), (0, 1), EPOCHS),
}


def read(): return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def add(row): write(RESULTS, '[\n' + ',\n'.join(json.dumps(o) for o in [*read(), row]) + '\n]\n')


def run(name, change, seed, epochs, device):
    callback.PLACING, prototypes.RESTARTS = change.get('PLACING', PLACING), change.get('RESTARTS', RESTARTS)
    set_seed(seed)
    learn = digits_learner(device=device, **{k: v for k, v in change.items() if k.islower()})
    if change.get('BF16'): learn.to_bf16()
    begin = time.time()
    learn.fit_flat_cos(epochs, {**DIGITS, **change}['lr'], pct_start=.7)
    seconds = time.time() - begin
    names = list(learn.recorder.metric_names)[1:-1]
    curve = {n: [round(float(v), 4) for v in col] for n, col in zip(names, zip(*learn.recorder.values))}
    figures = {k: number(v) for k, v in judge_digits(learn.model.cpu()).items()}
    return dict(name=name, change=change, seed=seed, epochs=epochs, seconds=round(seconds), commit=commit(), hardware=hardware(), figures=figures, curve=curve)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='runs to make; all if left out')
    p.add_argument('--seeds', type=int, nargs='*', help='only these')
    p.add_argument('--minutes', type=float, default=float('inf'), help='begin no run later than this')
    p.add_argument('--device', default='cpu')
    a = p.parse_args()
    if unknown := set(a.names) - RUNS.keys(): sys.exit(f'unknown {sorted(unknown)}, wanted any of {sorted(RUNS)}')
    begin, done = time.time(), {(r['name'], r['seed']) for r in read()}
    todo = [(n, s) for n in a.names or RUNS for s in RUNS[n][1] if (n, s) not in done and (not a.seeds or s in a.seeds)]
    for name, seed in todo:
        if time.time() - begin > 60*a.minutes: sys.exit('time is up; call again to go on')
        change, _, epochs = RUNS[name]
        row = run(name, change, seed, epochs, a.device)
        add(row)
        print(name, seed, row['figures'], f"{row['seconds']} s", flush=True)


if __name__ == '__main__': main()
