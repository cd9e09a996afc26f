"""Object discovery from images alone: train, evaluate on held-out scenes, write figures, curve and weights.

    python benchmarks/train_objects.py tetrominoes                       # half an hour on two cores: 35x35, small networks
    python benchmarks/train_objects.py clevr --train a.h5 --valid b.h5 --more c.h5     # sets made by `protokp render` or `protokp convert`
    python benchmarks/train_objects.py tetrominoes --full --device cuda --minutes 500  # Table 10's settings at 112x112
    python benchmarks/train_objects.py tetrominoes --evaluate               # only evaluate the weights in models/
    python benchmarks/train_objects.py tetrominoes --evaluate --write       # centre and evaluate them with the current library, and keep that

A run writes its state after every epoch to benchmarks/runs/NAME-SEED (never half), stops by itself before `--minutes` are over,
and resumes from there when called again; a finished run leaves benchmarks/results/NAME.json and models/NAME.
`--stop-after` ends one call early without changing the plan, which is how a long run is cut into pieces.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from common import commit, hardware, number, run_options, write
from fastai.torch_core import set_seed

import protokp.training.resume  # noqa: F401, adds methods to KeypointLearner
from protokp.datasets.objects import ObjectsDataset
from protokp.datasets.tetrominoes import Tetrominoes
from protokp.models.protokp import ProtoKP
from protokp.recipes.discovery import (
    _SIDE,
    CLEVR_RECIPE,
    TETROMINOES_RECIPE,
    clevr_learner,
    evaluate_scenes,
    scene_batches,
    tetromino_scenes,
    tetrominoes_learner,
)
from protokp.training.learner import PRESETS

EPOCHS = dict(tetrominoes=50, clevr=6)  # of the run on two cores
CENTRED = 32  # batches of training images that types are centred on again
FULL_EPOCHS = 400  # of Table 10's settings: about the paper's number of iterations at its batch sizes


def learner(a):
    "The run's learner, its options and the sets it is evaluated on"
    given = dict(preset='clevr6' if a.data == 'clevr' else a.data) if a.full else {}
    if a.data == 'tetrominoes':
        options = PRESETS['tetrominoes'] if a.full else TETROMINOES_RECIPE
        side = options['image_size'] if a.full else _SIDE
        learn = tetrominoes_learner(
            n_train=a.epoch_scenes,
            bs=a.bs or options.get('batch_size', 16),
            side=side,
            device=a.device,
            **given,
        )
        test = {
            'held-out scenes': (lambda: scene_batches(tetromino_scenes(side, seed=2), device=a.device), None)
        }
        return learn, options, test, Tetrominoes.names
    options = PRESETS['clevr6'] if a.full else CLEVR_RECIPE
    size = options['image_size']
    learn = clevr_learner(
        a.train or a.valid,
        a.valid,
        size=size,
        bs=a.bs or options.get('batch_size', 8),
        device=a.device,
        **given,
    )

    def batches(path, **kw):
        return lambda: torch.utils.data.DataLoader(
            ObjectsDataset(path, size=size, crop='centre', **kw), batch_size=16
        )

    test = {'at most 6 objects': (batches(a.valid, max_objects=6), None)}
    if a.more:
        test['3 to 10 objects'] = (batches(a.more), 10)
    return learn, options, test, ObjectsDataset(a.valid).names


def evaluated(model, test, names):
    return {
        k: {n: number(v) for n, v in evaluate_scenes(model, f(), names, n_keypoints=K).items()}
        for k, (f, K) in test.items()
    }


def keep(out, name, model, row, names):
    "Figures and weights, with what they are"
    write(out / 'benchmarks' / 'results' / f'{name}.json', json.dumps(row, indent=1) + '\n')
    model.cpu().save_pretrained(
        out / 'models' / name,
        dtype=torch.float16,
        **{k: row[k] for k in ('data', 'seed', 'commit', 'minutes', 'figures')},
        names={k: list(v) for k, v in names.items()},
        licence='Apache-2.0',
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', choices=['tetrominoes', 'clevr'])
    p.add_argument('--train', help='objects file to train on (clevr)')
    p.add_argument('--valid', help='objects file to evaluate on, at most 6 objects are taken (clevr)')
    p.add_argument('--more', help='objects file with up to 10 objects, evaluated with K = 10 (clevr)')
    run_options(p, 30)
    p.add_argument(
        '--write', action='store_true', help='with --evaluate: centre them again and write the figures'
    )
    a = p.parse_args()
    if a.data == 'clevr' and not (a.valid and (a.train or a.evaluate)):
        sys.exit('clevr wants --train and --valid, files made by protokp render or protokp convert')
    name = a.data + '-full' * a.full + (f'-{a.seed}' if a.seed else '')
    made = (
        f'{Path(a.train).name}: {ObjectsDataset(a.train).info["source"]}'
        if a.train
        else 'made as it goes, by protokp.datasets.tetrominoes'
    )
    code = commit()  # what is run, whatever is committed meanwhile
    set_seed(a.seed)
    learn, options, test, names = learner(a)
    weights, results = a.out / 'models' / name, a.out / 'benchmarks' / 'results' / f'{name}.json'
    if a.evaluate:
        model = ProtoKP.from_pretrained(weights).to(a.device)
        if a.write:
            model.centre_types(
                [learn.dls.train.one_batch()[0].as_subclass(torch.Tensor) for _ in range(CENTRED)]
            )
        figures = evaluated(model, test, names)
        if a.write:
            keep(
                a.out, name, model, dict(json.loads(results.read_text()), figures=figures, judged=code), names
            )
        return print(json.dumps(figures, indent=1))

    epochs = a.epochs or (FULL_EPOCHS if a.full else EPOCHS[a.data])
    run = learn.fit_resumable(
        a.out / 'benchmarks' / 'runs' / f'{name}-{a.seed}',
        epochs,
        options['lr'],
        pct_start=0.5,
        minutes=a.minutes,
        stop_after=a.stop_after,
    )
    if run.done < epochs and run.before < 60 * a.minutes * 0.9:
        sys.exit(f'{run.done} of {epochs} epochs done; run again to resume')

    model = learn.model.eval()
    figures = evaluated(model, test, names)
    row = dict(
        run=name,
        data=made,
        seed=a.seed,
        commit=code,
        hardware=hardware(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        minutes=round(run.before / 60, 1),
        epochs=run.done,
        planned=epochs,
        epoch_scenes=len(learn.dls.train_ds),
        model=model.config,
        figures=figures,
        curve=run.curve,
    )
    keep(a.out, name, model, row, names)
    print(json.dumps(figures, indent=1))


if __name__ == '__main__':
    main()
