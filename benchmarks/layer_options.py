"""What cheaper layers cost in accuracy: Tetrominoes-like scenes decoded whole, on patches, on coarser maps, on both.

    python benchmarks/layer_options.py        # every missing row; writes benchmarks/results/layer_options.json

The same number of iterations each, a third of what the committed model had, so figures compare with each other and not with the README's.
"""

import json
import time
from pathlib import Path

import torch
from common import commit, hardware
from fastai.torch_core import set_seed

from protokp.datasets.tetrominoes import Tetrominoes
from protokp.recipes.discovery import (
    TETROMINOES_RECIPE,
    evaluate_scenes,
    scene_batches,
    tetromino_scenes,
    tetrominoes_learner,
)

RESULTS = Path(__file__).parent / 'results' / 'layer_options.json'
EPOCHS, PLAN = 12, dict(start=600, warmup=200)
PATCH = 16  # the largest tetromino is 12 px long
OPTIONS = {
    'whole': {},
    'patches': dict(patch_size=PATCH),
    'stride 2': dict(stride=2),
    'stride 2, patches': dict(stride=2, patch_size=PATCH),
}


def run(options, seed=0):
    set_seed(seed)
    learn = tetrominoes_learner(**{**PLAN, **options})
    begin = time.time()
    with learn.no_bar():
        learn.fit_flat_cos(EPOCHS, TETROMINOES_RECIPE['lr'], pct_start=0.7)
    seconds = time.time() - begin
    figures = evaluate_scenes(
        learn.model, scene_batches(tetromino_scenes(seed=2)), Tetrominoes.names, progress=False
    )
    keep = ('ari', 'once', 'kind_one_to_one', 'colour_many_to_one', 'count_exact', 'localised')
    return dict(
        options=options,
        seed=seed,
        epochs=EPOCHS,
        seconds=round(seconds),
        commit=commit(),
        hardware=hardware(),
        threads=torch.get_num_threads(),
        figures={k: round(float(figures[k]), 4) for k in keep},
    )


def main():
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, options in OPTIONS.items():
        if name in rows:
            continue
        rows[name] = run(options)
        part = RESULTS.with_suffix('.part')
        part.write_text(json.dumps(rows, indent=1) + '\n')
        part.replace(RESULTS)
        print(name, rows[name]['seconds'], 's', rows[name]['figures'], flush=True)


if __name__ == '__main__':
    main()
