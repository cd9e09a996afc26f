"""What an iteration costs: the method as commonly written, ours, and the two bare U-Nets below which nothing can fall.

    python benchmarks/speed.py                          # everything, on this machine's CPU; writes benchmarks/results/speed.json
    python benchmarks/speed.py --device cuda            # on a GPU: float32, bf16 and compiled; writes benchmarks/results/speed_cuda.json
    python benchmarks/speed.py --presets mnist --parts iterations --rounds 1

All variants of a preset run in turns in one process, so that they share the machine's moods; figures are medians, and what counts are ratios.
Peak memory is of a process of its own for each variant, less what it held before its first iteration (see `memory_of`).
"""

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from common import commit, hardware
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from torch import nn

from protokp.datasets.loaders import scene_dataloaders
from protokp.datasets.scenes import Scenes, sklearn_digits
from protokp.models.protokp import ProtoKP
from protokp.models.unet import UNet
from protokp.ops.prototypes import random_prototypes
from protokp.training.learner import PRESETS, keypoint_learner
from protokp.training.literal import literal_network_step, literal_prototype_steps

HERE = Path(__file__).parent / 'results'
BATCH = dict(mnist=8, clevr6=4, tetrominoes=4, celeba=8, h36m=8)  # what two cores turn over in seconds
PATCH = dict(
    clevr6=48, tetrominoes=56
)  # twice the window and a bit: a keypoint renders an object of about the window's size
NETWORKS = {'n_keypoints', 'n_prototypes', 'kernel_size', 'layered'}  # of a preset


def now(device):
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def options(preset):
    return dict(PRESETS[preset], recon='mse')  # the perceptual loss has a benchmark of its own, perceptual.py


def recipe(side, n):
    return Scenes(sklearn_digits(20), n_objects=n, size=(side, side), min_distance=6)


class Mark(Callback):
    "Adds the time since the last mark to a phase"

    def __init__(self, clock, event, order, phase, device):
        self.order = order

        def mark():
            t = now(device)
            if clock.get('last'):
                clock.setdefault(phase, []).append(t - clock['last'])
            clock['last'] = t

        setattr(self, event, mark)


MARKS = [
    ('before_batch', -100, 'data'),
    ('before_batch', 50, 'warps'),
    ('after_pred', -100, 'forward'),
    ('after_loss', -100, 'losses'),
    ('before_step', -100, 'backward'),
    ('after_step', -100, 'adam'),
    ('after_step', 50, 'prototypes'),
    ('after_batch', 100, 'rest'),
]


class NoValidation(Callback):
    "Training batches alone"

    order = -200

    def before_validate(self):
        from fastai.callback.core import CancelValidException

        raise CancelValidException


class Ours:
    "Iterations of a `Learner`"

    def __init__(self, preset, bs, device='cpu', side=None, bf16=False, compiled=False, last=False, **kwargs):
        set_seed(0)
        opts = options(preset)
        side = side or opts['image_size']
        dls = scene_dataloaders(
            recipe(side, opts['n_keypoints']),
            recipe(side, opts['n_keypoints']),
            n_train=2 * bs,
            n_valid=1,
            bs=bs,
            device=device,
        )
        self.clock = {}
        marks = [Mark(self.clock, *m, device) for m in MARKS]
        self.learn = keypoint_learner(
            dls, preset=preset, cbs=[*marks, NoValidation()], **{**dict(recon='mse'), **kwargs}
        )
        if last:
            self.learn.model.to(memory_format=torch.channels_last)
        if bf16:
            self.learn.to_bf16()
        if compiled:
            self.learn.model.encoder.compile()
            self.learn.model.decoder.compile()

    def run(self):
        "Phases of the second of two iterations, seconds"
        self.clock.clear()
        with self.learn.no_bar(), self.learn.no_logging():
            self.learn.fit(1)
        return [{p: self.clock[p][-1] for _, _, p in MARKS}]


class Literal:
    "Iterations of `protokp.training.literal`"

    def __init__(self, preset, bs, device='cpu', side=None):
        set_seed(0)
        self.opts, self.device = options(preset), device
        side = side or self.opts['image_size']
        self.x = recipe(side, self.opts['n_keypoints'])(torch.arange(bs))[0].to(device)
        self.model = ProtoKP(**{k: v for k, v in self.opts.items() if k in NETWORKS}).to(device)
        self.networks = torch.optim.Adam(
            [p for n, p in self.model.named_parameters() if n != 'prototypes'], lr=1e-3
        )
        self.prototypes = torch.optim.Adam([self.model.prototypes], lr=0.1)

    def run(self):
        t = now(self.device)
        views, _ = literal_network_step(self.model, self.x, self.networks, self.opts)
        half = now(self.device)
        literal_prototype_steps(self.model, views, self.prototypes, self.opts)
        return [dict(networks=half - t, prototypes=now(self.device) - half)]


class Floor(nn.Module):
    "Forward, backward and Adam of two bare U-Nets, one behind the other, on as many images; in layered mode with a decoding a keypoint"

    def __init__(
        self,
        preset,
        bs,
        device='cpu',
        side=None,
        stride=1,
        patch=None,
        bf16=False,
        compiled=False,
        last=False,
        adam=None,
    ):
        super().__init__()
        set_seed(0)
        opts = options(preset)
        side = (side or opts['image_size']) // stride
        out = (4 if opts['layered'] else 3) * stride**2
        self.device, self.bf16, self.each = device, bf16, opts['n_keypoints'] if opts['layered'] else 1
        self.encoder, self.decoder = UNet(3 * stride**2, 32), UNet(32, out)
        self.to(device)
        if last:
            self.to(memory_format=torch.channels_last)
        if compiled:
            self.encoder.compile()
            self.decoder.compile()
        self.x = torch.rand(2 * bs, 3 * stride**2, side, side, device=device)
        self.side = (patch or side * stride) // stride
        self.opt = torch.optim.Adam(self.parameters(), lr=1e-3, **(adam or {}))

    def step(self):
        with torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            features = self.encoder(self.x)[..., : self.side, : self.side]
            image = self.decoder(features.repeat_interleave(self.each, 0) if self.each > 1 else features)
        image.float().square().mean().backward()
        self.opt.step()
        self.opt.zero_grad()

    def run(self):
        t = now(self.device)
        self.step()
        return [dict(all=now(self.device) - t)]


def variants(preset, device, bs, side=None):
    "What runs side by side, by name"
    layered, patch = PRESETS[preset]['layered'], PATCH.get(preset)
    args = dict(device=device, side=side)
    v = dict(
        literal=partial(Literal, preset, bs, **args),
        ours=partial(Ours, preset, bs, **args),
        floor=partial(Floor, preset, bs, **args),
    )
    if layered:
        v |= {
            'ours, patches': partial(Ours, preset, bs, patch_size=patch, **args),
            'floor, patches': partial(Floor, preset, bs, patch=patch, **args),
        }
    v |= {
        'ours, bf16': partial(Ours, preset, bs, bf16=True, **args),
        'floor, bf16': partial(Floor, preset, bs, bf16=True, **args),
        'ours, channels last': partial(Ours, preset, bs, last=True, **args),
    }
    coarse = dict(stride=2, **args)
    v |= {
        'ours, stride 2, bf16': partial(Ours, preset, bs, bf16=True, **coarse),
        'ours, stride 2': partial(Ours, preset, bs, **coarse),
        'floor, stride 2': partial(Floor, preset, bs, **coarse),
    }
    if layered:
        v |= {'ours, stride 2, patches': partial(Ours, preset, bs, patch_size=patch, **coarse)}
    if device == 'cuda':
        for name, kw in {
            'compiled': dict(compiled=True),
            'bf16, compiled': dict(bf16=True, compiled=True),
        }.items():
            v |= {
                f'ours, {name}': partial(Ours, preset, bs, **kw, **args),
                f'floor, {name}': partial(Floor, preset, bs, **kw, **args),
            }
    return v


def iterations(preset, device, bs, rounds):
    "Median seconds of each variant and of its phases, taken in turns"
    made = {name: make() for name, make in variants(preset, device, bs).items()}
    seen = {name: [] for name in made}
    for r in range(rounds + 1):  # the first round warms up
        for name, v in made.items():
            seen[name] += v.run() * (r > 0)
    phases = {
        name: {p: statistics.median(s[p] for s in rows) for p in rows[0]} for name, rows in seen.items()
    }
    seconds = {name: statistics.median(sum(s.values()) for s in rows) for name, rows in seen.items()}
    rows = {
        name: dict(
            seconds=round(seconds[name], 3),
            times_floor=round(seconds[name] / seconds['floor'], 2),
            literal_times=round(seconds['literal'] / seconds[name], 2),
            phases={p: round(t / seconds[name], 4) for p, t in phases[name].items()},
        )
        for name in made
    }
    for name, r in rows.items():
        print(
            f"{preset:12}{name:26}{r['seconds']:8.2f} s {r['times_floor']:6.2f} x floor {r['literal_times']:7.2f} x faster than literal  {r['phases']}",
            flush=True,
        )
    return rows


def memory_of(preset, name, device, bs, side=None, **kwargs):
    "Peak MB of two iterations beyond what the process held before them; run in a process of its own"

    def make(bs, side):
        return (
            Ours(preset, bs, device, side, **kwargs) if kwargs else variants(preset, device, bs, side)[name]()
        )

    make(1, 64).run()  # whatever is loaded at first use is not an iteration's
    gc.collect()
    v = make(bs, side)
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        held, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated
    else:
        held, peak = kernel('VmRSS'), lambda: kernel('VmHWM')
        Path('/proc/self/clear_refs').write_text('5')  # forget the peak so far
    v.run()
    return (peak() - held) / 2**20


def kernel(field):
    "Bytes held now (VmRSS) or at most so far (VmHWM); `ru_maxrss` will not do, it starts from what the parent held"
    return 1024 * int(
        next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(field)).split()[1]
    )


def memory_apart(*args, **kwargs):
    "`memory_of` in another process"
    exact = dict(
        os.environ, MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='65536'
    )  # freed means given back
    out = subprocess.run(
        [sys.executable, __file__, '--memory-of', json.dumps([args, kwargs])],
        capture_output=True,
        text=True,
        env=exact,
    )
    if out.returncode:
        raise RuntimeError(out.stderr[-2000:])
    return round(float(out.stdout.split()[-1]), 1)


def memory(preset, device, bs):
    "Peak MB of each variant, and as a multiple of the floor's"
    mb = {name: memory_apart(preset, name, device, bs) for name in variants(preset, device, bs)}
    if PRESETS[preset]['layered']:
        mb |= {
            f'ours, chunks of 1, K={K}': memory_apart(preset, None, device, bs, chunk=1, n_keypoints=K)
            for K in (6, 30)
        }
    rows = {name: dict(megabytes=m, times_floor=round(m / mb['floor'], 2)) for name, m in mb.items()}
    for name, r in rows.items():
        print(f"{preset:12}{name:26}{r['megabytes']:8.0f} MB {r['times_floor']:6.2f} x floor", flush=True)
    return rows


FALLS = {
    'as it is': {},
    'channels last': dict(last=True),
    'bf16': dict(bf16=True),
    'compiled': dict(compiled=True),
    'compiled, channels last': dict(compiled=True, last=True),
    'fused Adam': dict(adam=dict(fused=True)),
    'foreach Adam': dict(adam=dict(foreach=True)),
    'stride 2': dict(stride=2),
}


def falling(device, bs, rounds):
    "What makes the floor itself fall, each alone, as a multiple of the floor's time"
    made = {name: Floor('mnist', bs, device, **kw) for name, kw in FALLS.items()}
    seen = {name: [] for name in made}
    for r in range(rounds + 2):
        for name, v in made.items():
            seen[name] += [v.run()[0]['all']] * (r > 1)
    rows = {
        name: round(statistics.median(t) / statistics.median(seen['as it is']), 3) for name, t in seen.items()
    }
    print('floor', rows, flush=True)
    return rows


def dearest(device, bs, n=3):
    "The operations an iteration of ours spends most on, as shares of it"
    v = Ours('mnist', bs, device)
    v.run()
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * (
        device == 'cuda'
    )
    with torch.profiler.profile(activities=kinds) as p:
        v.run()
    key = 'self_device_time_total' if device == 'cuda' else 'self_cpu_time_total'
    events = [e for e in p.key_averages() if e.key.startswith('aten::')]
    total = sum(getattr(e, key) for e in events)
    rows = {
        e.key: round(getattr(e, key) / total, 3) for e in sorted(events, key=lambda e: -getattr(e, key))[:n]
    }
    print('dearest', rows, flush=True)
    return rows


def prototype_share(device, per_image, K, rounds):
    "Five prototype steps as a share of an iteration on as many images as give N descriptors"
    rows = []
    for M in (10, 100, 1000):
        for N in (144, 720, 2500, 10000):
            learn = Ours(
                'mnist', 2, device, side=24, n_prototypes=M, kernel_size=5, width=8, depth=1, n_keypoints=2
            ).learn
            learn.create_opt()
            learn.model.to(device)
            D = random_prototypes(N, 32).to(device)
            times = []
            for _ in range(rounds + 1):
                t = now(device)
                learn.prototype.move(D)
                times.append(now(device) - t)
            images = N / (2 * K)
            rows.append(
                dict(
                    M=M,
                    N=N,
                    milliseconds=round(1e3 * statistics.median(times[1:]), 2),
                    images=round(images),
                    share=round(statistics.median(times[1:]) / (images * per_image), 4),
                )
            )
            print('prototype phase', rows[-1], flush=True)
    return rows


def slope(x, y):
    "Exponent p of y ~ x^p, by least squares on logarithms"
    lx, ly = ([math.log(v) for v in s] for s in (x, y))
    mx, my = statistics.mean(lx), statistics.mean(ly)
    return round(sum((a - mx) * (b - my) for a, b in zip(lx, ly)) / sum((a - mx) ** 2 for a in lx), 2)


GROWTH = dict(
    side=(dict(preset='mnist', bs=2), 'side', (48, 96, 192, 384)),
    batch=(dict(preset='mnist', side=48), 'bs', (2, 4, 8, 16)),
    keypoints=(dict(preset='mnist', bs=2, side=96, kernel_size=5), 'n_keypoints', (4, 16, 64, 256)),
    prototypes=(dict(preset='mnist', bs=2, side=96), 'n_prototypes', (10, 100, 1000)),
    layers=(dict(preset='clevr6', bs=1, side=64, kernel_size=9), 'n_keypoints', (3, 6, 12, 24)),
)


def growth(device):
    "Time and memory of an iteration over image side, batch, K and M, each alone, with the exponent of the last two"
    out = {}
    for name, (fixed, key, values) in GROWTH.items():
        args = [dict(dict(bs=2), **{**fixed, key: v}) for v in values]
        made = [Ours(device=device, width=16, **a) for a in args]
        seconds = [[] for _ in values]
        for r in range(3):
            for i, v in enumerate(made):
                seconds[i] += [sum(s.values()) for s in v.run()] * (r > 0)
        del made
        mb = [
            memory_apart(a.pop('preset'), None, device, a.pop('bs'), a.pop('side', None), width=16, **a)
            for a in map(dict, args)
        ]
        s = [statistics.median(t) for t in seconds]
        out[name] = dict(
            over=key,
            fixed=fixed,
            values=list(values),
            seconds=[round(t, 4) for t in s],
            megabytes=mb,
            time_exponent=slope(values[-2:], s[-2:]),
            memory_exponent=slope(values[-2:], mb[-2:]),
        )
        print('growth', name, out[name], flush=True)
    return out


def inference(device, rounds):
    "Keypoints of how many images a second, one at a time and in batches"
    rows = {}
    for preset, stride in (('mnist', 1), ('mnist', 2), ('h36m', 1)):
        opts = options(preset)
        set_seed(0)
        model = ProtoKP(**{k: v for k, v in opts.items() if k in NETWORKS}, stride=stride).to(device).eval()
        for bs in (1, 32):
            x = torch.rand(bs, 3, *[opts['image_size']] * 2, device=device)
            times = []
            with torch.no_grad():
                for _ in range(2 * rounds + 1):
                    t = now(device)
                    model(x, n_reconstruct=0)
                    times.append(now(device) - t)
            rows[f"{preset}, {opts['image_size']} px, stride {stride}, {bs} at a time"] = round(
                bs / statistics.median(times[1:]), 1
            )
    print('images a second', rows, flush=True)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', default='cpu')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--threads', type=int, default=None)
    p.add_argument('--presets', nargs='*', default=list(PRESETS), choices=list(PRESETS))
    p.add_argument('--batch', type=int, default=None, help='images a batch; the paper has 32 to 76')
    p.add_argument(
        '--parts',
        nargs='*',
        default=['iterations', 'memory', 'floor', 'dearest', 'prototypes', 'growth', 'inference'],
    )
    p.add_argument('--out', default=None)
    p.add_argument('--memory-of', default=None)
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.memory_of:
        args, kwargs = json.loads(a.memory_of)
        return print(memory_of(*args, **kwargs))
    file = Path(a.out or HERE / ('speed.json' if a.device == 'cpu' else f'speed_{a.device}.json'))
    out = json.loads(file.read_text()) if file.exists() else {}

    def keep(**kw):
        out.update(kw)
        part = file.with_suffix('.part')
        part.write_text(json.dumps(out, indent=1) + '\n')
        part.replace(file)

    begin = time.time()
    keep(
        commit=commit(),
        hardware=torch.cuda.get_device_name() if a.device == 'cuda' else hardware(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        seed=0,
    )
    for preset in a.presets:
        bs = a.batch or BATCH[preset]
        if 'iterations' in a.parts:
            keep(
                iterations={
                    **out.get('iterations', {}),
                    preset: dict(
                        batch=bs,
                        side=PRESETS[preset]['image_size'],
                        rounds=a.rounds,
                        rows=iterations(preset, a.device, bs, a.rounds),
                    ),
                }
            )
        if 'memory' in a.parts:
            keep(memory={**out.get('memory', {}), preset: dict(batch=bs, rows=memory(preset, a.device, bs))})
    if 'floor' in a.parts:
        keep(floor=falling(a.device, 4, a.rounds))
    if 'dearest' in a.parts:
        keep(dearest=dearest(a.device, 4))
    if 'prototypes' in a.parts:
        bs, rows = out['iterations']['mnist']['batch'], out['iterations']['mnist']['rows']
        keep(
            prototypes=prototype_share(
                a.device, rows['ours']['seconds'] / bs, PRESETS['mnist']['n_keypoints'], a.rounds
            )
        )
    if 'growth' in a.parts:
        keep(growth=growth(a.device))
    if 'inference' in a.parts:
        keep(inference=inference(a.device, a.rounds))
    keep(minutes=round((time.time() - begin) / 60, 1))


if __name__ == '__main__':
    main()
