"""Keypoints on digit scenes with as many processes as there are: one, or what `accelerate launch` starts.

python benchmarks/train_many.py                                              # one process, its device is fastai's default
accelerate launch --multi_gpu --num_processes 2 benchmarks/train_many.py     # two, on two GPUs, or on the CPU if there is none
"""

import argparse

import pandas as pd
from fastai.torch_core import num_distrib, rank_distrib, set_seed

import protokp.training.distributed  # noqa: F401, adds methods to KeypointLearner
from protokp.all import (
    DEFAULT_RECIPE,
    Scenes,
    keypoint_learner,
    keypoint_metrics,
    scene_dataloaders,
    sklearn_digits,
)


def scenes(train):
    return Scenes(sklearn_digits(12, train=train), size=(28, 28), min_distance=9, seed=0 if train else 1)


def main(epochs, n, bs, out):
    set_seed(0)  # the same networks everywhere; images and warps will differ
    dls = scene_dataloaders(scenes(True), scenes(False), n_train=n, n_valid=n // 4, bs=bs)
    learn = keypoint_learner(
        dls,
        n_keypoints=4,
        n_prototypes=10,
        kernel_size=11,
        **dict(DEFAULT_RECIPE, width=8, depth=1),
        metrics=keypoint_metrics(10, figures=('coverage', 'localised', 'nmi')),
    )
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
        learn.fit_flat_cos(epochs)  # by all processes
    if rank_distrib():
        return  # from here on by the first alone
    processes = max(num_distrib(), 1)
    print(f'{processes} processes, {learn.opt.iteration} steps on {processes * bs} images each')
    print(pd.DataFrame(learn.recorder.values, columns=learn.recorder.metric_names[1:-1]).round(3).to_string())
    learn.model.save_pretrained(out, processes=processes)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--epochs', type=int, default=10, help='how often through the set')
    p.add_argument('--scenes', type=int, default=512, help='scenes per epoch')
    p.add_argument('--bs', type=int, default=8, help='images a batch, of each process')
    p.add_argument('--out', default='benchmarks/runs/many', help='folder for the model')
    a = p.parse_args()
    main(a.epochs, a.scenes, a.bs, a.out)
