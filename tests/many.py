"Trainings small enough to repeat in several ways: what `test_distributed.py` compares. Run as a script, it is one of the processes: `many.py FOLDER`"

import sys
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation
from fastai.torch_core import get_model, num_distrib, rank_distrib, set_seed

import protokp.training.distributed  # noqa: F401, adds methods to KeypointLearner
from protokp.core.process_group import process_group
from protokp.datasets.loaders import scene_dataloaders
from protokp.datasets.scenes import Scenes, sklearn_digits
from protokp.datasets.tetrominoes import Tetrominoes
from protokp.metrics.keypoints import keypoint_metrics
from protokp.metrics.objects import object_metrics
from protokp.ops.warp import WARP_SIZES, WarpPair, warp_pair
from protokp.training.learner import keypoint_learner

BATCH, EPOCH, VALID = (
    8,
    24,
    33,
)  # images per step over all processes; images per epoch; images to evaluate on, which do not divide
DIGITS = dict(kernel_size=9, width=4, depth=1, lr_prototypes=0.005)
PIECES = dict(
    kernel_size=9,
    width=4,
    depth=1,
    layered=True,
    background='image',
    chunk=2,
    padding='border',
    lr_prototypes=0.005,
)

CASES = dict(
    single=dict(
        DIGITS, double=False, lr=1e-4
    ),  # single precision, where larger steps soon decide near ties differently
    double=dict(DIGITS, start=0.3, warmup=0.3, memory=2, fits=2),  # prototypes by k-means, and a second fit
    layers=dict(
        PIECES, start=0.3, warmup=0.3, memory=2
    ),  # layers in chunks, a background, scenes to evaluate on
    halves=dict(DIGITS, start=0.3, warmup=0.3, steps_of=2),
)  # each step of two batches


def digits(train):
    return Scenes(
        sklearn_digits(12, train), n_objects=3, size=(24, 24), min_distance=7, seed=0 if train else 1
    )


def pieces(train):
    return Tetrominoes(size=(28, 28), cell=4, seed=0 if train else 1)


class Double(Callback):
    "Double precision, as far as fastai allows"

    order = -20

    def before_batch(self):
        self.learn.xb = tuple(x.double() for x in self.learn.xb)


class Record(Callback):
    "The loss averages in single precision; and what is to be compared, after each batch and step"

    order = 12

    def before_fit(self):
        if not hasattr(self, 'losses'):
            self.losses, self.P = [], []
        if self.fixed:
            self.learn.prototype.generator = torch.Generator().manual_seed(7)

    def after_batch(self):
        self.learn.loss = self.learn.loss.float()
        if self.training:
            self.losses.append(torch.stack([v.double() for v in self.learn.loss_func.parts.values()]))
            self.grid = self.learn.loss_func.pair.grid

    def after_step(self):
        self.P.append(get_model(self.model).prototypes.detach().clone())


def train(case, folder, fixed=True, whole=BATCH, double=True, fits=1, steps_of=1, **options):
    "One process's training: in each step `whole` images, of which this process has its part, in `steps_of` batches"
    n, rank = max(num_distrib(), 1), rank_distrib()
    bs, layered = whole // n // steps_of, options.get('layered', False)
    recipe = pieces if layered else digits
    set_seed(0)
    dls = scene_dataloaders(recipe(True), recipe(False), n_train=EPOCH, n_valid=VALID, bs=bs, device='cpu')
    dls.loaders[1] = dls.valid.new(bs=16 // n)
    metrics = (
        object_metrics(6, Tetrominoes.names, ('ari', 'once', 'localised', 'distance'))
        if layered
        else keypoint_metrics(6)
    )
    record = Record()
    record.fixed = fixed
    learn = keypoint_learner(
        dls,
        3,
        6,
        path=folder,
        metrics=metrics,
        cbs=[record] + [Double()] * double + [GradientAccumulation(whole // n)] * (steps_of > 1),
        **options,
    )
    if double:
        learn.model.double()
    calls = iter(range(1000))

    def views(x):  # an image of a step is warped alike in every process
        step, i = divmod(next(calls), steps_of)
        part = slice((i * n + rank) * bs, (i * n + rank + 1) * bs)
        every = x.new_zeros(whole, *x.shape[1:])
        every[part] = x
        return WarpPair(
            *(
                t[part]
                for t in warp_pair(
                    every,
                    WARP_SIZES['first'],
                    WARP_SIZES['mnist'],
                    options.get('padding', 'zeros'),
                    torch.Generator().manual_seed(step),
                )
            )
        )

    if fixed:
        learn.pair.views = views

    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging():
        for _ in range(fits):
            learn.fit(1 if fits > 1 else 2)
        learn.save(case)
        out = dict(
            values=learn.recorder.values,
            validated=learn.validate(),
            preds=learn.get_preds()[0][1:] if not layered else (),
        )
        per_step = torch.stack(record.losses).view(-1, steps_of, len(record.losses[0])).mean(1)
    return dict(
        out,
        names=list(learn.recorder.metric_names),
        losses=per_step,
        P=torch.stack(record.P),
        weights=learn.model.state_dict(),
        grid=record.grid,
        iteration=learn.opt.iteration,
        placed=learn.opt.placed,
        left=[type(learn.dls.train).__name__, type(learn.model).__name__, process_group(learn).size],
    )


def main(folder):
    "All cases, and one with warps left to chance"
    own = folder / f'process{rank_distrib()}'
    own.mkdir(parents=True)
    for case, options in CASES.items():
        torch.save(train(case, own, **options), own / f'{case}.pt')
    torch.save(
        train('chance', own, fixed=False, start=0.3, memory=2, double=False, **DIGITS), own / 'chance.pt'
    )


if __name__ == '__main__':
    main(Path(sys.argv[1]))
