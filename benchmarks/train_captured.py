"""Train models in turns on one GPU, each step a CUDA graph, on images held in the memory of the device.

    python benchmarks/train_captured.py clevr tetrominoes mnist --seconds 500 --data DIR
    python benchmarks/train_captured.py clevr --seconds 60 --device cpu --bs 4    # the same code without a graph

DIR holds `clevr_like/train.h5` and `clevr_like/test6.h5` (made by protokp render) and `mnist/` (MNIST's IDX files).
Networks train without prototypes; `keep_captured.py` places types at the end and evaluates. Runs take turns on one
stream: replayed on streams of their own at the same time, one of five became NaN (graphs captured on the same stream
may share its workspaces). State is written every minute to OUT/runs/NAME.pt; the same command resumes. A finished run leaves OUT/NAME/ (weights in float16) and OUT/NAME.json (figures and curve).
"""

import argparse
import json
import math
import time
from collections import deque
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from common import HERE, commit, hardware, write
from fastai.torch_core import set_seed

from protokp.datasets.objects import ObjectsDataset
from protokp.metrics.objects import adjusted_rand_index, segment_layers
from protokp.models.protokp import ProtoKP
from protokp.recipes.discovery import CLEVR_RECIPE, TETROMINOES_RECIPE, tetromino_scenes
from protokp.recipes.handwritten import MNIST_RECIPE, handwritten_scenes
from protokp.training.callbacks import PairCallback
from protokp.training.captured import TrainingStep
from protokp.training.losses import KeypointLoss

WIDE = dict(width=32, depth=3)
MODEL = {'n_keypoints', 'n_prototypes', 'kernel_size', 'channels', 'width', 'depth', 'layered', 'tau', 'splat_var',
         'background', 'patch_size', 'stride'}  # fmt: skip
LOSS = {'w_feature', 'w_cluster', 'temperature', 'recon'}
PAIR = {'second', 'padding', 'n_reconstruct'}
RISE = 200  # steps over which the learning rate rises
FLAT = 0.5  # share of the time at the full rate, then a cosine to nothing


def edge_loss(image, target, weight=2.0):
    "Mean squared error of the pixels and of their differences to the right and downwards"
    dx = F.mse_loss(image.diff(dim=-1), target.diff(dim=-1))
    dy = F.mse_loss(image.diff(dim=-2), target.diff(dim=-2))
    return F.mse_loss(image, target) + weight * (dx + dy)


CLEVR = dict(CLEVR_RECIPE, **WIDE, data='clevr', flip=True, lr=3e-3)
RUNS = {
    'clevr': dict(CLEVR, stride=2),
    'clevr-edges': dict(CLEVR, stride=2, recon=edge_loss),
    'clevr-fine': dict(CLEVR, stride=1),
    'clevr-rich': dict(CLEVR, stride=1, recon=edge_loss, channels=64),
    'tetrominoes': dict(TETROMINOES_RECIPE, **WIDE, data='tetrominoes', flip=False),
    'mnist': dict(MNIST_RECIPE, **WIDE, n_keypoints=9, n_prototypes=10, data='mnist', flip=False, stride=2),
}


def scenes_pool(scenes, n, device, chunk=256):
    "Images of a recipe of scenes as bytes"
    parts = [scenes(i.to(device))[0] for i in torch.arange(n).split(chunk)]
    return torch.cat([(x * 255).round().to(torch.uint8) for x in parts])


@cache
def load_images(kind, data, pool, device):
    "Training images (N,3,H,W) as bytes on the device"
    if kind == 'clevr':
        ds = ObjectsDataset(data / 'clevr_like' / 'train.h5', size=CLEVR_RECIPE['image_size'], crop='centre', max_objects=6)  # fmt: skip
        top, bottom, left, right = ds.box
        images = torch.from_numpy(ds.file['image'][:][ds.indices]).permute(0, 3, 1, 2)
        assert (bottom - top, right - left) == ds.size, 'images of another size than the training size'
        return images[..., top:bottom, left:right].contiguous().to(device)
    if kind == 'tetrominoes':
        return scenes_pool(tetromino_scenes().to(device), pool, device)
    scenes = handwritten_scenes('mnist', True, data / 'mnist')
    return scenes_pool(scenes.to(device), pool, device)


def load_valid(kind, a, n=64):
    "A few held-out scenes with their ground truth"
    if kind == 'clevr':
        ds = ObjectsDataset(
            a.data / 'clevr_like' / 'test6.h5', size=CLEVR_RECIPE['image_size'], crop='centre'
        )
        items = [ds[i] for i in range(n)]
        images = torch.stack([x.as_subclass(torch.Tensor) for x, _ in items])
        segmentation = torch.stack([t.segmentation for _, t in items])
        return images.to(a.device), segmentation.to(a.device)
    if kind == 'tetrominoes':
        images, truth = tetromino_scenes(seed=2).to(a.device)(torch.arange(n, device=a.device))
        return images, truth.segmentation
    return None


class Run:
    "One training: images, step, schedule, log"

    def __init__(self, name, a):
        options = RUNS[name]
        set_seed(a.seed)
        self.name, self.a, self.flip = name, a, options['flip']
        self.pool = load_images(options['data'], a.data, a.pool, a.device)
        self.valid = load_valid(options['data'], a)
        self.model = ProtoKP(**{k: v for k, v in options.items() if k in MODEL}).to(a.device).train()
        batch = self.sample(a.bs)
        if self.model.background:
            self.model.start_background(self.sample(256))
        if a.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if a.bf16:
            self.model.compute_in(torch.bfloat16)
        if a.compile:
            self.model.encoder.compile()
            self.model.decoder.compile()
        self.lr = options['lr']
        pair = PairCallback(**{k: v for k, v in options.items() if k in PAIR})
        loss = KeypointLoss(**{k: v for k, v in options.items() if k in LOSS})
        self.step = TrainingStep(self.model, loss, pair, batch, self.lr)
        self.iterations, self.before, self.curve = 0, 0.0, []
        self.load()

    def sample(self, n):
        index = torch.randint(len(self.pool), (n,), device=self.pool.device)
        x = self.pool[index].float() / 255
        if self.flip:
            turned = torch.rand(n, 1, 1, 1, device=x.device) < 0.5
            x = torch.where(turned, x.flip(-1), x)
        return x

    def advance(self, share):
        "One step; `share` of the time is over"
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, share - FLAT) / (1 - FLAT)))
        lr = self.lr * min(1.0, (self.iterations + 1) / RISE) * decay
        self.step(self.sample(self.a.bs), lr)
        self.iterations += 1

    @torch.no_grad()
    def look(self, seconds):
        "Figures on the way"
        row = dict(seconds=round(seconds, 1), iterations=self.iterations)
        row |= {k: float(v) for k, v in self.step.loss_func.parts.items()}
        if self.valid is not None:
            images, segmentation = self.valid
            out = self.model.eval()(images)
            row['ari'] = float(adjusted_rand_index(segmentation, out.alpha.argmax(1)).nanmean())
            row['ari_bg'] = float(adjusted_rand_index(segmentation, segment_layers(out.alpha)).nanmean())
            row['valid_mse'] = float(F.mse_loss(out.image, images))
            self.model.train()
        row = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        self.curve.append(row)
        print(self.name, json.dumps(row), flush=True)

    @property
    def state(self):
        return self.a.out / 'runs' / f'{self.name}-{self.a.seed}.pt'

    def save(self, seconds):
        "Everything needed to resume"
        self.state.parent.mkdir(parents=True, exist_ok=True)
        part = self.state.with_suffix('.part')
        torch.save(
            dict(model=self.model.state_dict(), opt=self.step.opt.state_dict(), seconds=seconds,
                 iterations=self.iterations, curve=self.curve), part
        )  # fmt: skip
        part.replace(self.state)

    def load(self):
        if not self.state.exists():
            return
        state = torch.load(self.state, map_location=self.a.device, weights_only=False)
        with torch.no_grad():
            for k, v in self.model.state_dict().items():
                v.copy_(state['model'][k])
            saved = state['opt']['state']
            for i, p in enumerate(self.step.opt.param_groups[0]['params']):
                for k, v in self.step.opt.state.setdefault(p, {}).items():
                    v.copy_(saved[i][k])
        self.iterations, self.before, self.curve = state['iterations'], state['seconds'], state['curve']

    def finish(self, seconds):
        "Write weights, figures and curve"
        model = self.model.compute_in(None)
        self.look(seconds)
        row = dict(
            run=self.name, seed=self.a.seed, commit=self.a.commit, hardware=hardware(), torch=torch.__version__,
            seconds=round(seconds, 1), beside=self.a.runs, iterations=self.iterations, bs=self.a.bs,
            images=len(self.pool), model=model.config, curve=self.curve,
        )  # fmt: skip
        write(self.a.out / f'{self.name}.json', json.dumps(row, indent=1) + '\n')
        model.cpu().save_pretrained(self.a.out / self.name, dtype=torch.float16,
                                    run={k: row[k] for k in ('run', 'seed', 'commit', 'hardware', 'seconds', 'iterations')})  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='+', choices=list(RUNS))
    p.add_argument('--seconds', type=float, default=500, help='of training, in all calls together')
    p.add_argument(
        '--wall', type=float, help='seconds of the whole call, loading included, instead of --seconds'
    )
    p.add_argument('--stop-after', type=float, default=math.inf, help='seconds of this call')
    p.add_argument('--data', type=Path, required=True)
    p.add_argument('--out', type=Path, default=HERE / 'runs' / 'captured')
    p.add_argument('--device', default='cuda')
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--pool', type=int, default=20000, help='scenes made in advance, where they are made')
    p.add_argument('--every', type=float, default=30, help='seconds between two looks')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--float32', dest='bf16', action='store_false')
    p.add_argument('--compile', action='store_true')
    p.add_argument('--channels-last', action='store_true')
    p.add_argument('--share', type=int, nargs='+', help='steps of each run in a round, one number a run')
    p.add_argument('--no-state', action='store_true')
    a = p.parse_args()
    t0 = time.time()
    a.commit = commit()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    runs = [Run(name, a) for name in a.runs]
    shares = a.share or [1] * len(runs)
    before = max(run.before for run in runs)
    print(f'ready after {time.time() - t0:.0f} s', flush=True)
    if a.wall:
        a.seconds = a.wall - (time.time() - t0)

    ahead = deque()
    start = time.time()
    looked = saved = 0.0
    while True:
        seconds = before + time.time() - start
        if seconds > a.seconds or seconds - before > a.stop_after:
            break
        for run, n in zip(runs, shares):
            for _ in range(n):
                run.advance(min(1.0, seconds / a.seconds))
        if a.device == 'cuda':  # never more than two rounds ahead of the device
            ahead.append(torch.cuda.current_stream().record_event())
            if len(ahead) > 2:
                ahead.popleft().synchronize()
        if seconds - before > looked + a.every:
            looked = seconds - before
            for run in runs:
                run.look(seconds)
        if not a.no_state and seconds - before > saved + 60:
            saved = seconds - before
            for run in runs:
                run.save(seconds)
    seconds = before + time.time() - start
    for run in runs:
        if seconds > a.seconds:
            run.finish(seconds)
        elif not a.no_state:
            run.save(seconds)


if __name__ == '__main__':
    main()
