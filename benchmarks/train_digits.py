"""Digits from scenes alone: train without labels, evaluate on held-out digits in held-out scenes, write figures, curve and weights.

    python benchmarks/train_digits.py demo                                     # 28x28, four of scikit-learn's digits: what the wheel ships
    python benchmarks/train_digits.py mnist-small --mnist DIR                  # 52x52, four real MNIST digits, as dense as the full scene
    python benchmarks/train_digits.py mnist --mnist DIR --minutes 60           # MNIST-Hard-like: 80x80, nine digits
    python benchmarks/train_digits.py mnist --mnist DIR --device cuda --full   # the same with wide networks and whole maps, for a GPU
    python benchmarks/train_digits.py mnist --mnist DIR --evaluate                # evaluate the weights in models/ and change nothing

Two fits: places and descriptors first, without a cluster loss; then types, by labels from the descriptors' neighbours (`SelfLabelCallback`).
Each writes its state after every epoch below benchmarks/runs/NAME-SEED (never half), a line of log.jsonl with it, stops by itself before
`--minutes` are over, and resumes from there when called again. A finished run leaves benchmarks/results/digits-NAME.json and models/digits-NAME, that of the demo protokp/weights/digits.
"""

import argparse
import json
import sys

import torch
from common import commit, hardware, number, run_options, write
from fastai.torch_core import set_seed

import protokp.training.resume  # noqa: F401, adds methods to KeypointLearner
from protokp.models.protokp import ProtoKP
from protokp.recipes.handwritten import _EPOCHS, _FULL, _SCENES, evaluate_handwritten, handwritten_learner
from protokp.training.refine import SelfLabelCallback

REFINE_LR = 1.5e-3


def figures_of(model, a):
    "On held-out digits; raw and centred localisation are both there; a model trained on small scenes is evaluated on full ones as well"

    def evaluated(scenes):
        return {k: number(v) for k, v in evaluate_handwritten(model, scenes, a.mnist).items()}

    return dict(evaluated(a.scenes), **({'whole': evaluated('mnist')} if a.scenes == 'mnist-small' else {}))


def keep(model, path, row):
    model.cpu().save_pretrained(
        path,
        dtype=torch.float16,
        **{k: row[k] for k in ('data', 'scenes', 'seed', 'commit', 'minutes', 'figures')},
        licence='Apache-2.0',
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('scenes', choices=list(_SCENES))
    p.add_argument('--mnist', help="folder of MNIST's IDX files; fastai's data folder if left out")
    run_options(p, 60, bs=16)
    p.add_argument('--float32', action='store_true', help='no bfloat16 in the networks')
    p.add_argument('--refine', type=int, help='epochs of the second fit')
    a = p.parse_args()
    name = f'digits-{a.scenes}' + '-full' * a.full + (f'-{a.seed}' if a.seed else '')
    weights = a.out / 'protokp' / 'weights' / 'digits' if name == 'digits-demo' else a.out / 'models' / name
    code = commit()  # what is run, whatever is committed meanwhile
    results = a.out / 'benchmarks' / 'results' / f'{name}.json'
    if a.evaluate:
        model = ProtoKP.from_pretrained(weights).to(a.device)
        figures = figures_of(model, a)
        return print(json.dumps(figures, indent=1))

    set_seed(a.seed)
    options = dict(_FULL if a.full else {}, w_cluster=0.0)
    learn = handwritten_learner(
        a.scenes, a.mnist, n_train=a.epoch_scenes, bs=a.bs, device=a.device, **options
    )
    if not a.float32:
        learn.to_bf16()
    usual, usual_refine = _EPOCHS[a.scenes]
    epochs, refine_epochs = a.epochs or usual, a.refine or usual_refine
    folder = a.out / 'benchmarks' / 'runs' / f'{name}-{a.seed}'
    fits, minutes, labels = [], a.minutes, SelfLabelCallback(every=1, seed=a.seed)
    for part, n, lr, share, cbs in (
        ('places', epochs, learn.lr, 0.7, []),
        ('types', refine_epochs, REFINE_LR, 0.5, [labels]),
    ):
        limits = dict(minutes=minutes, stop_after=a.stop_after)
        fits.append(learn.fit_resumable(folder / part, n, lr, pct_start=share, cbs=cbs, **limits))
        minutes = max(minutes - fits[-1].before / 60, 0)
        if fits[-1].done < n and minutes > 0.1 * a.minutes:
            sys.exit(f'{part}: {fits[-1].done} of {n} epochs done; run again to resume')

    model = learn.to_fp32().model.eval()
    row = dict(
        run=name,
        data=_SCENES[a.scenes]['data'],
        scenes=_SCENES[a.scenes],
        seed=a.seed,
        commit=code,
        hardware=hardware(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        minutes=round(sum(fit.before for fit in fits) / 60, 1),
        epochs=[fit.done for fit in fits],
        planned=[epochs, refine_epochs],
        epoch_scenes=a.epoch_scenes,
        bs=a.bs,
        model=model.config,
        figures=figures_of(model, a),
        curve=[row for fit in fits for row in fit.curve],
        rounds=labels.rounds,
    )
    write(results, json.dumps(row, indent=1) + '\n')
    if a.seed == 0:
        keep(model, weights, row)
    print(json.dumps(row['figures'], indent=1))


if __name__ == '__main__':
    main()
