"""Landmarks from images alone: train without labels, read landmarks out, write figures, curve and weights.

    python benchmarks/train_landmarks.py faces                        # synthetic faces, some minutes on one core
    python benchmarks/train_landmarks.py figures                      # synthetic people
    python benchmarks/train_landmarks.py faces --evaluate                # evaluate the weights in models/ again and change nothing
    python benchmarks/train_landmarks.py celeba --path DIR --full --device cuda --minutes 500   # CelebA in the wild, evaluated on MAFL
    python benchmarks/train_landmarks.py h36m --path DIR --full --device cuda --minutes 500     # Human3.6M

`--full` takes Table 10's settings (with faces and figures too, at the paper's image size; the perceptual loss wants VGG16's weights).
A run writes its state after every epoch to benchmarks/runs/NAME-SEED, stops by itself before `--minutes` are over, and resumes from
there when called again; a finished run leaves benchmarks/results/NAME.json and models/NAME.
"""

import argparse
import json
import sys

import torch
from common import commit, hardware, number, run_options, write
from fastai.torch_core import set_seed

import protokp.training.resume  # noqa: F401, adds methods to KeypointLearner
from protokp.datasets.celeba import celeba_dataloaders, mafl_dataloaders
from protokp.datasets.figures import MIRRORED_JOINTS
from protokp.datasets.h36m import h36m_dataloaders
from protokp.metrics.readout import readout_error
from protokp.models.protokp import ProtoKP
from protokp.recipes.people import (
    _EPOCHS,
    FACES_RECIPE,
    FIGURES_RECIPE,
    evaluate_faces,
    evaluate_figures,
    evaluate_several_faces,
    face_scenes,
    faces_learner,
    figure_scenes,
    figures_learner,
)
from protokp.training.learner import PRESETS, keypoint_learner

FULL_EPOCHS = 100
PRESET = dict(faces='celeba', celeba='celeba', figures='h36m', h36m='h36m')


def learner(a):
    "The learner, its learning rate, and what evaluates its model"
    full = dict(preset=PRESET[a.data]) if a.full else {}
    options = {
        **(
            PRESETS[PRESET[a.data]]
            if a.full
            else FACES_RECIPE
            if PRESET[a.data] == 'celeba'
            else FIGURES_RECIPE
        )
    }
    side = options.get('image_size', 80 if PRESET[a.data] == 'celeba' else 112)
    kw = dict(device=a.device, bs=a.bs or options.get('batch_size', 16))
    made = dict(kw, n_train=a.epoch_scenes)
    if a.data == 'faces':
        scenes = face_scenes(size=(side, side), height=(0.7 * side, 0.88 * side)) if a.full else face_scenes()
        return (
            faces_learner(scenes=scenes, **made, **full),
            options['lr'],
            lambda m: evaluate_faces(m, scenes),
        )
    if a.data == 'figures':
        scenes = figure_scenes(size=(side, side)) if a.full else figure_scenes()
        return (
            figures_learner(scenes=scenes, **made, **full),
            options['lr'],
            lambda m: evaluate_figures(m, scenes),
        )
    if not a.path:
        sys.exit(f'{a.data} wants --path, the folder of its files; `protokp check` says what is missing')
    if a.data == 'celeba':
        mafl = mafl_dataloaders(a.path, size=side, **kw)
        learn, evaluate = (
            keypoint_learner(celeba_dataloaders(a.path, size=side, **kw), **(full or options)),
            lambda m: readout_error(m, mafl.train.new(shuffle=False, drop_last=False), mafl.valid),
        )
    else:
        dls = h36m_dataloaders(a.path, size=side, **kw)
        learn, evaluate = (
            keypoint_learner(dls, **(full or options)),
            lambda m: readout_error(
                m, dls.train.new(shuffle=False, drop_last=False), dls.valid, swap=MIRRORED_JOINTS
            ),
        )
    return learn, options['lr'], evaluate


def figures_of(model, evaluate, a):
    "The read-out, and for faces several per image"
    out = {
        k: [number(x) for x in v] if isinstance(v, list) else number(v)
        for k, v in evaluate(model).figures.items()
    }
    if a.data == 'faces' and not a.full:
        out['several'] = {k: number(v) for k, v in evaluate_several_faces(model).items()}
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', choices=list(PRESET))
    p.add_argument('--path', help='folder of CelebA or Human3.6M')
    run_options(p, 60)
    a = p.parse_args()
    name = a.data + '-full' * a.full + (f'-{a.seed}' if a.seed else '')
    code = commit()  # what is run, whatever is committed meanwhile
    set_seed(a.seed)
    learn, lr, evaluate = learner(a)
    learn.model.to(a.device)
    if a.evaluate:
        return print(
            json.dumps(
                figures_of(ProtoKP.from_pretrained(a.out / 'models' / name).to(a.device), evaluate, a),
                indent=1,
            )
        )

    folder, epochs = (
        a.out / 'benchmarks' / 'runs' / f'{name}-{a.seed}',
        a.epochs or (FULL_EPOCHS if a.full else _EPOCHS[a.data]),
    )
    first = folder / 'before.json'
    if not first.exists():
        write(first, json.dumps(figures_of(learn.model, evaluate, a)))
    set_seed(a.seed)
    learn.to_bf16()
    run = learn.fit_resumable(folder, epochs, lr, minutes=a.minutes, stop_after=a.stop_after)
    if run.done < epochs and run.before < 60 * a.minutes * 0.9:
        sys.exit(f'{run.done} of {epochs} epochs done; run again to resume')

    model = learn.to_fp32().model.eval()
    row = dict(
        run=name,
        data='synthetic' if a.data in ('faces', 'figures') else a.data,
        seed=a.seed,
        commit=code,
        hardware=hardware(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        minutes=round(run.before / 60, 1),
        epochs=run.done,
        planned=epochs,
        epoch_images=len(learn.dls.train_ds),
        model=model.config,
        before=json.loads(first.read_text()),
        figures=figures_of(model, evaluate, a),
        curve=run.curve,
    )
    write(a.out / 'benchmarks' / 'results' / f'{name}.json', json.dumps(row, indent=1) + '\n')
    if a.seed == 0:
        model.cpu().save_pretrained(
            a.out / 'models' / name,
            dtype=torch.float16,
            **{k: row[k] for k in ('data', 'seed', 'commit', 'minutes', 'figures')},
            licence='Apache-2.0',
        )
    print(json.dumps({k: row[k] for k in ('before', 'figures')}, indent=1))


if __name__ == '__main__':
    main()
