"""A folder of photographs, as `protokp train` learns it: 200 synthetic trays of parts, evaluated on 128 others.

    python benchmarks/train_trays.py                        # everything that is missing from the results, 6 minutes a run
    python benchmarks/train_trays.py recipe --seeds 0       # some of it
    python benchmarks/train_trays.py --evaluate                # the weights in models/trays again

Rows are added run by run, and a run that was stopped resumes; they are in benchmarks/results/trays.json; the recipe's first seed leaves its weights in models/trays.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from common import HERE, commit, hardware, number, write
from fastai.torch_core import set_seed

import protokp.training.refine  # noqa: F401, adds methods to KeypointLearner
import protokp.training.resume  # noqa: F401, adds methods to KeypointLearner
from protokp.datasets.trays import write_tray_folder
from protokp.folders.learner import folder_learner, refit_prototypes
from protokp.folders.predict import match_ground_truth, predict_images
from protokp.models.protokp import ProtoKP
from protokp.training.monitor import FlipScoreMapCallback

RESULTS, MODEL = HERE / 'results' / 'trays.json', HERE.parent / 'models' / 'trays'
N_TRAIN, N_TEST, EPOCHS, LR = 200, 128, 24, 3e-3
TRAIN_SEED, TEST_SEED = 11, 99

# name -> (options of `folder_learner`, seeds); not the library's: `upright`, `bf16`, `pictures`, `refine`, which has those of
# `refine_types`; `as_trained` are then the figures before it
ANY_ANGLE = dict(n_epoch=8, every=4, invariant='rotation')
RUNS = {
    'recipe': ({}, (0, 1, 2)),
    'score map not flipped': (dict(upright=False), (0, 1, 2)),
    'types placed later': (dict(start=0.55), (0,)),
    'refined': (dict(start=0.55, refine=dict(n_epoch=8, every=4)), (0, 1, 2)),
    'refined at any angle': (dict(start=0.55, refine=ANY_ANGLE), (0, 1, 2)),
    'twelve types': (dict(n_prototypes=12), (0,)),
    '50 images': (dict(pictures=50), (0,)),
    '20 images': (dict(pictures=20), (0,)),
    '50 images, refined at any angle': (dict(pictures=50, refine=ANY_ANGLE), (0,)),
}


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def pictures(d, n=N_TRAIN):
    "Training photographs, and test photographs with their ground truth"
    if n:
        write_tray_folder(d / 'trays', n, seed=TRAIN_SEED)
    write_tray_folder(d / 'test', N_TEST, seed=TEST_SEED, truth=d / 'test.csv')


def evaluate(model, folder):
    "Shares of parts found, of those with the right type once types are named by their most frequent kind, and of parts found twice"
    table, truth = (predict_images(model, folder / 'test', progress=False), pd.read_csv(folder / 'test.csv'))
    matched = match_ground_truth(table, truth)
    found = matched[matched.found > 0]
    named = found.groupby('type').kind.transform(lambda k: k.mode()[0])
    kept = table[table.type.isin(live(table, truth))]
    return {
        k: number(v)
        for k, v in dict(
            found=len(found) / len(truth),
            named=(named == found.kind).mean(),
            twice=(matched.found > 1).mean(),
            spare=match_ground_truth(kept, truth).attrs['spare'] / len(kept),
            off=(found.off / found.width).median(),
            n=len(truth),
        ).items()
    }


def live(table, truth):
    "Types whose keypoints mostly lie on parts, those that a user would keep"
    on = {
        t: 1 - match_ground_truth(rows, truth).attrs['spare'] / len(rows) for t, rows in table.groupby('type')
    }
    return [t for t, share in on.items() if share > 0.5]


def run(name, seed):
    options, _ = RUNS[name]
    kw = {k: v for k, v in options.items() if k not in ('upright', 'bf16', 'pictures', 'refine')}
    n = options.get('pictures', N_TRAIN)
    set_seed(seed)
    code = commit()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        pictures(d, n)
        learn = folder_learner(d / 'trays', device='cpu', **kw)
        if options.get('bf16', True):
            learn.to_bf16()
        if not options.get('upright', True):
            learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, FlipScoreMapCallback)])
        log = learn.fit_resumable(
            HERE / 'runs' / f"trays-{name.replace(' ', '-').replace(',', '')}-{seed}", EPOCHS, LR
        )
        minutes = log.before / 60
        learn.model.card = dict(size=learn.dls.size)
        if 'refine' not in options:
            learn.to_fp32()
            as_trained = evaluate(learn.model, d)
        refit_prototypes(learn)
        if 'refine' in options:
            as_trained, begin = evaluate(learn.model, d), time.time()
            with learn.no_bar():
                learn.refine_types(**options['refine'])
            minutes += (time.time() - begin) / 60
            learn.to_fp32()
        figures = evaluate(learn.model, d)
    row = dict(
        name=name,
        options=options,
        seed=seed,
        pictures=n,
        size=learn.dls.size,
        kernel_size=learn.model.kernel_size,
        n_keypoints=learn.model.n_keypoints,
        n_prototypes=learn.model.n_prototypes,
        epochs=log.done,
        steps=len(learn.dls.train) * log.done,
        minutes=round(minutes, 1),
        threads=torch.get_num_threads(),
        commit=code,
        hardware=hardware(),
        as_trained=as_trained,
        figures=figures,
        curve=log.curve,
    )
    if (name, seed) == ('recipe', 0):
        learn.save_pretrained(
            MODEL,
            seed=seed,
            data=f'{N_TRAIN} photographs of `write_tray_folder(seed={TRAIN_SEED})`',
            minutes=row['minutes'],
            commit=code,
        )
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='runs to make; all if left out')
    p.add_argument('--seeds', type=int, nargs='*', help='only these')
    p.add_argument('--minutes', type=float, default=float('inf'), help='begin no run later than this')
    p.add_argument(
        '--evaluate', action='store_true', help='evaluate the committed weights and change nothing'
    )
    a = p.parse_args()
    if a.evaluate:
        with tempfile.TemporaryDirectory() as d:
            pictures(Path(d), n=0)
            sys.exit(print(json.dumps(evaluate(ProtoKP.from_pretrained(MODEL), Path(d)), indent=1)))
    if unknown := set(a.names) - RUNS.keys():
        sys.exit(f'unknown {sorted(unknown)}, wanted any of {sorted(RUNS)}')
    begin = time.time()
    for name, seed in [(n, s) for n in a.names or RUNS for s in RUNS[n][1] if not a.seeds or s in a.seeds]:
        if any((r['name'], r['seed']) == (name, seed) for r in read()):
            continue
        if time.time() - begin > 60 * a.minutes:
            sys.exit('time is up; run again to resume')
        row = run(name, seed)
        order = list(RUNS)
        rows = sorted([*read(), row], key=lambda r: (order.index(r['name']), r['seed']))
        write(RESULTS, '[\n' + ',\n'.join(json.dumps(o) for o in rows) + '\n]\n')
        print(name, seed, row['figures'], f"{row['minutes']} min", flush=True)


if __name__ == '__main__':
    main()
