"Two processes learn what one with batches of twice the size does, two batches of half the size as well; and they agree with each other"

import os
import subprocess
import sys

import pytest
import torch
from run_nb import ROOT

pytest.importorskip('accelerate', reason="many processes need `pip install 'protokp[distributed]'`")
pytestmark = pytest.mark.xdist_group('processes')  # one worker, so that the processes start once
LAUNCH = [
    '-m',
    'accelerate.commands.launch',
    '--multi_gpu',
    '--num_processes',
    '2',
    '--num_machines',
    '1',
    '--main_process_port',
    '0',
    '--mixed_precision',
    'no',
    '--dynamo_backend',
    'no',
]
CASES = 'single', 'double', 'layers', 'halves'


def close(a, b, eps):
    "Are two records of tensors and numbers the same, NaN included, to `eps`?"
    a, b = (torch.as_tensor(o, dtype=torch.double) for o in (a, b))
    assert a.shape == b.shape
    torch.testing.assert_close(a, b, rtol=0, atol=eps, equal_nan=True)


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What each of two processes found, and the folder"
    folder = tmp_path_factory.mktemp('many')
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONWARNINGS='ignore')
    p = subprocess.run(
        [sys.executable, *LAUNCH, ROOT / 'tests' / 'many.py', folder],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if p.returncode:
        pytest.fail(p.stdout + p.stderr, pytrace=False)
    return [
        {f.stem: torch.load(f, weights_only=False) for f in (folder / f'process{r}').glob('*.pt')}
        for r in (0, 1)
    ], folder


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    "What one process finds with whole batches"
    import many

    folder = tmp_path_factory.mktemp('one')
    return {
        case: many.train(case, folder, **dict(options, steps_of=1)) for case, options in many.CASES.items()
    }, folder


@pytest.mark.parametrize('case', CASES)
def test_as_one(one, two, case):
    "Losses, prototypes, weights after five iterations and more are those of one process"
    alone, both = one[0][case], [p[case] for p in two[0]]
    got, eps = both[0], 1e-5 if case == 'single' else 1e-9
    assert got['iteration'] == alone['iteration'] == 6 and got['placed'] == alone['placed']
    n = 5 if case == 'single' else None  # in single precision rounding grows
    close(sum(p['losses'] for p in both)[:n] / 2, alone['losses'][:n], eps)
    close(got['P'][:n], alone['P'][:n], eps)
    assert (alone['P'][0] - alone['P'][-1]).abs().max() > 0.01
    if case != 'single':
        for k, w in alone['weights'].items():
            close(got['weights'][k], w, 1e-6 if 'type_' in k else 1e-8)


@pytest.mark.parametrize('case', CASES[1:])
def test_figures(one, two, case):
    "The table, a validation and the predictions are those of one process, each image counted once"
    alone, got = one[0][case], two[0][0][case]
    assert got['names'] == alone['names']
    close(
        [v[1:] for v in got['values']], [v[1:] for v in alone['values']], 1e-6
    )  # the first is fastai's running mean, which knows batches
    close(got['validated'], alone['validated'], 1e-6)
    for a, b in zip(got['preds'], alone['preds']):
        close(a, b, 1e-6)


@pytest.mark.parametrize('case', [*CASES, 'chance'])
def test_agree(two, case):
    "Both processes hold the same, prototypes bit for bit, and see the same figures"
    a, b = (p[case] for p in two[0])
    assert a['P'].equal(b['P'])
    assert all(a['weights'][k].equal(b['weights'][k]) for k in a['weights'])
    close([v[1:] for v in a['values']], [v[1:] for v in b['values']], 0)
    close(a['validated'], b['validated'], 0)
    assert a['left'] == b['left'] == ['TfmdDL', 'ProtoKP', 1]  # nothing of it is left behind


def test_chance(two):
    "Left to themselves the processes warp their images differently"
    a, b = (p['chance'] for p in two[0])
    assert not a['grid'].equal(b['grid'])


def test_first_writes(two):
    "Models are written by the first process alone"
    assert sorted(f.name for f in two[1].rglob('*.pth')) == sorted(f'{c}.pth' for c in (*CASES, 'chance'))
    assert all(f.is_relative_to(two[1] / 'process0') for f in two[1].rglob('*.pth'))


def test_halves(one, two):
    "One process that makes each step of two batches learns what it learns of one"
    import many

    alone, got = one[0]['halves'], many.train('again', one[1], **many.CASES['halves'])
    close(got['losses'], alone['losses'], 1e-9)
    close(got['P'], alone['P'], 1e-9)
