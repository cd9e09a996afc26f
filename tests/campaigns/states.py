"""Damage the state of a run and resume it: a flipped bit, a file cut short, a stretch of zeros. The model must be that of
a run that was left alone, resumed from the state before; a run whose states are both damaged must be refused.

    python tests/campaigns/states.py --n 200
"""

import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from campaign import Campaign, main, silent
from fastai.torch_core import set_seed

import protokp.training.resume  # noqa: F401, adds methods to KeypointLearner
from protokp.datasets.loaders import scene_dataloaders
from protokp.datasets.scenes import Scenes, sklearn_digits
from protokp.training.learner import keypoint_learner

DIGITS = sklearn_digits(8)
SIZES = dict(kernel_size=7, channels=4, width=4, depth=1, start=0.6, warmup=0.2, memory=3, n_steps=2)


def fit(path, **kw):
    set_seed(0)
    scenes = (Scenes(DIGITS, 2, (16, 16), 7, seed=s) for s in (0, 1))
    learn = keypoint_learner(scene_dataloaders(*scenes, 16, 4, bs=4, device='cpu'), 2, 3, **SIZES)
    with silent(), learn.no_bar(), learn.no_logging():
        learn.fit_resumable(path, 4, 1e-3, **kw)
    return learn.model.state_dict()


def damage(file, draw):
    "Damage a file in one of three ways; which"
    data, at = bytearray(file.read_bytes()), draw.randrange(file.stat().st_size)
    kind = draw.choice(['flipped bit', 'flipped bit', 'cut short', 'zeros'])
    if kind == 'flipped bit':
        data[at] ^= 1 << draw.randrange(8)
    elif kind == 'cut short':
        del data[at:]
    else:
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    file.write_bytes(data)
    return kind


def run(n=200, seed=0):
    "Damage states and compare what becomes of the runs"
    c, draw = Campaign('states', seed), random.Random(seed)
    with tempfile.TemporaryDirectory() as d, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        d = Path(d)
        whole = fit(d / 'whole')
        for _ in range(2):
            fit(d / 'half', stop_after=0)
        for i in range(n):
            both = i % 10 == 9
            shutil.rmtree(d / 'run', ignore_errors=True)
            shutil.copytree(d / 'half', d / 'run')
            kinds = [damage(d / 'run' / f'state{o}.pth', draw) for o in ['', '_previous'][: 1 + both]]
            c.count('tried')
            try:
                model = fit(d / 'run')
            except ValueError as e:
                c.count(f'{" and ".join(kinds)}: refused') if both and 'start over' in str(e) else c.problem(
                    str(e)
                )
                continue
            same = all(v.equal(whole[k]) for k, v in model.items())
            c.count(f'{kinds[0]}: equal') if same else c.problem(f'{kinds}: another model')
    return c


if __name__ == '__main__':
    sys.exit(main(run, 200))
