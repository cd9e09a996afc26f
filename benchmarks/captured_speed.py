"""What a training step costs on a GPU: eager, as a CUDA graph, as a graph of compiled networks.

    python benchmarks/captured_speed.py            # writes benchmarks/results/captured_speed.json; about two minutes
    python benchmarks/captured_speed.py --check    # only whether graph and eager steps agree

Steps are those of the presets in bf16 with their prototype steps, on images that are already on the device.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import HERE, commit, hardware, write
from fastai.torch_core import set_seed

from protokp.models.protokp import ProtoKP
from protokp.training.callbacks import PairCallback, PrototypeCallback
from protokp.training.captured import TrainingStep
from protokp.training.learner import PRESETS
from protokp.training.losses import KeypointLoss

MODEL = {'n_keypoints', 'n_prototypes', 'kernel_size', 'layered', 'width', 'depth', 'stride', 'background', 'patch_size'}  # fmt: skip
BATCH = dict(mnist=40, clevr6=32)
SMALL = dict(  # what benchmarks/train_captured.py trains
    clevr=dict(n_keypoints=6, n_prototypes=48, kernel_size=11, layered=True, width=32, depth=3, stride=2,
               background='image', patch_size=32, image_size=64, n_reconstruct=1, second=PRESETS['clevr6']['second']),
)  # fmt: skip
SMALL['clevr-fine'] = dict(SMALL['clevr'], stride=1)


def make(name, device='cuda', bf16=True, compiled=False, last=False, capture=True, prototypes=True, bs=None):
    "A step of a preset and its images"
    set_seed(0)
    options = SMALL.get(name) or PRESETS[name]
    side = options['image_size']
    images = torch.rand(bs or BATCH.get(name, 32), 3, side, side, device=device)
    model = ProtoKP(**{k: v for k, v in options.items() if k in MODEL}).to(device).train()
    if last:
        model.to(memory_format=torch.channels_last)
    if bf16:
        model.compute_in(torch.bfloat16)
    if compiled:
        model.encoder.compile()
        model.decoder.compile()
    pair = PairCallback(second=options['second'], n_reconstruct=options.get('n_reconstruct', 2))
    prototype = PrototypeCallback(n_steps=options.get('n_steps', 5)) if prototypes else None
    set_seed(1)
    return TrainingStep(model, KeypointLoss(), pair, images, 1e-3, prototype, capture=capture), images


def milliseconds(step, images, n=30):
    for _ in range(3):
        step(images)
    torch.cuda.synchronize()
    t = time.perf_counter()
    for _ in range(n):
        step(images)
    torch.cuda.synchronize()
    return (time.perf_counter() - t) / n * 1000


def agree(name):
    "Losses of three steps, captured and eager, in float32"
    losses = {}
    for capture in (True, False):
        step, images = make(name, bf16=False, capture=capture, prototypes=False, bs=8)
        set_seed(2)
        losses[capture] = [step(images).item() for _ in range(3)]
    worst = max(abs(a - b) for a, b in zip(*losses.values()))
    print(
        f'{name}: captured {losses[True]}, eager {losses[False]}, largest difference {worst:.2e}', flush=True
    )
    return worst


VARIANTS = {
    'eager': dict(capture=False),
    'graph': {},
    'graph, no prototypes': dict(prototypes=False),
    'graph, compiled': dict(compiled=True),
    'graph, compiled, channels last': dict(compiled=True, last=True),
    'graph, channels last': dict(last=True),
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--check', action='store_true')
    p.add_argument(
        '--warm',
        nargs=2,
        metavar=('NAME', 'VARIANT'),
        help='fill the compiler cache for one variant and stop',
    )
    p.add_argument(
        '--no-warm', action='store_true', help='the compiler cache is filled, and steps were checked'
    )
    p.add_argument('--names', nargs='+', default=['mnist', 'clevr6', 'clevr', 'clevr-fine'])
    p.add_argument('--variants', nargs='+', default=list(VARIANTS))
    p.add_argument('--out', type=Path, default=HERE / 'results' / 'captured_speed.json')
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not a.check
    torch.backends.cudnn.benchmark = True
    if a.warm:
        t = time.time()
        step, images = make(a.warm[0], **VARIANTS[a.warm[1]])
        step(images)
        torch.cuda.synchronize()
        return print('compiled', *a.warm, f'{time.time() - t:.0f} s', flush=True)
    row = dict(hardware=hardware(), torch=torch.__version__, commit=commit(), agree={}, milliseconds={})
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in () if a.no_warm else ('mnist', 'clevr'):
        try:
            row['agree'][name] = agree(name)
        except Exception as e:
            print('agree', name, repr(e)[:1500], flush=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if a.check:
        return
    warm = [(n, v) for n in a.names for v in a.variants if 'compiled' in v and not a.no_warm]
    jobs = [subprocess.Popen([sys.executable, __file__, '--warm', *o]) for o in warm]
    for job in jobs:
        job.wait()
    for name in a.names:
        for variant in a.variants:
            try:
                torch.cuda.empty_cache()
                step, images = make(name, **VARIANTS[variant])
                ms = round(milliseconds(step, images), 2)
                row['milliseconds'].setdefault(name, {})[variant] = ms
                print(name, variant, ms, flush=True)
            except Exception as e:
                print(name, variant, repr(e)[:800], flush=True)
            write(a.out, json.dumps(row, indent=1) + '\n')


if __name__ == '__main__':
    main()
