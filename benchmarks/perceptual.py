"""Time and memory of the perceptual loss beside a bare training step, at the celeba preset's size.

    python benchmarks/perceptual.py                # on this CPU, one thread; writes benchmarks/results/perceptual.json
    python benchmarks/perceptual.py --device cuda  # on a GPU; writes benchmarks/results/perceptual_cuda.json

Every case runs in a process of its own. A bare step is the preset's model on so many images, squared error, backward and Adam.
The perceptual loss is timed alone, forward and backward to the image; its VGG16 has random weights, which cost what trained ones do.
Times are the least of the repeats: of processor time on the CPU (one thread, so that neighbours on the machine count little), of wall time on a GPU. Memory on the CPU is the peak resident size (`ru_maxrss`) less what the process held before its first step;
on a GPU it is `torch.cuda.max_memory_allocated` less what was allocated before.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / 'results'
PRESET, CHUNK, SEED = 'celeba', 4, 0
CASES = {'cpu': (1, 4, 16), 'cuda': (8, 32, 64)}
REPEATS = {'cpu': 3, 'cuda': 20}
WARM = {'cpu': 1, 'cuda': 5}


def measure(kind, n, device):
    "Seconds and megabytes of a step: `bare`, `perceptual` (the loss alone), `with` or `chunked` (a step with the loss)"
    import torch
    import torch.nn.functional as F

    from protokp.models.protokp import ProtoKP
    from protokp.training.learner import PRESETS, _accepted
    from protokp.training.perceptual import PerceptualLoss, untrained_vgg16

    if device == 'cpu':
        torch.set_num_threads(1)
    torch.manual_seed(SEED)
    preset = PRESETS[PRESET]
    side = preset['image_size']
    model = ProtoKP(
        **{k: v for k, v in preset.items() if k in _accepted(ProtoKP) | {'n_keypoints', 'n_prototypes'}}
    ).to(device)
    opt = torch.optim.Adam(model.parameters(), lr=preset['lr'])
    loss = (
        F.mse_loss
        if kind == 'bare'
        else PerceptualLoss(untrained_vgg16(SEED), chunk=CHUNK if kind == 'chunked' else None).to(device)
    )
    x, y = torch.rand(2, n, 3, side, side, device=device)
    image = y.clone().requires_grad_()

    def bytes_():
        return (
            torch.cuda.max_memory_allocated()
            if device == 'cuda'
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )

    def step():
        if kind == 'perceptual':
            loss(image, x).backward()
            image.grad = None
        else:
            opt.zero_grad()
            loss(model(x).image, x).backward()
            opt.step()
        if device == 'cuda':
            torch.cuda.synchronize()

    before, times, clock = bytes_(), [], time.process_time if device == 'cpu' else time.perf_counter
    for _ in range(WARM[device]):
        step()
    for _ in range(REPEATS[device]):
        begin = clock()
        step()
        times.append(clock() - begin)
    print(json.dumps(dict(s=min(times), mb=(bytes_() - before) / 2**20, side=side)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', default='cpu', choices=list(CASES))
    p.add_argument('--case', nargs=2, metavar=('KIND', 'IMAGES'), help='one case, in this process')
    a = p.parse_args()
    if a.case:
        return measure(a.case[0], int(a.case[1]), a.device)
    from common import commit, hardware

    def run(kind, n):
        out = subprocess.run(
            [sys.executable, __file__, '--device', a.device, '--case', kind, str(n)],
            capture_output=True,
            text=True,
            env=dict(os.environ, OMP_NUM_THREADS='1') if a.device == 'cpu' else None,
        )
        if out.returncode:
            raise RuntimeError(f'{kind} with {n} images failed:\n{out.stderr}')
        return json.loads(out.stdout.splitlines()[-1])

    begin, rows, side = time.time(), [], None
    for n in CASES[a.device]:
        r = {kind: run(kind, n) for kind in ('bare', 'perceptual', 'with', 'chunked')}
        side = r['bare']['side']
        rows.append(
            dict(
                images=n,
                bare_s=round(r['bare']['s'], 4),
                perceptual_s=round(r['perceptual']['s'], 4),
                ratio=round(r['perceptual']['s'] / r['bare']['s'], 2),
                with_s=round(r['with']['s'], 4),
                chunked_s=round(r['chunked']['s'], 4),
                bare_mb=round(r['bare']['mb']),
                with_mb=round(r['with']['mb']),
                chunked_mb=round(r['chunked']['mb']),
            )
        )
        print(json.dumps(rows[-1]), flush=True)
    out = dict(
        what=__doc__.splitlines()[0],
        commit=commit(),
        hardware=hardware(),
        device=a.device,
        threads=1 if a.device == 'cpu' else None,
        seed=SEED,
        preset=PRESET,
        side=side,
        weights='random',
        chunk=CHUNK,
        duration_s=round(time.time() - begin),
        rows=rows,
    )
    path = RESULTS / ('perceptual.json' if a.device == 'cpu' else f'perceptual_{a.device}.json')
    path.write_text(json.dumps(out, indent=1) + '\n')
    print('wrote', path)


if __name__ == '__main__':
    main()
