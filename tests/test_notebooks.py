"Every notebook is a test: one item and one process each. `NB_FLAGS=slow pytest` runs the slow cells as well."

import os
import subprocess
import sys

import pytest
from run_nb import ROOT, notebooks

TIMEOUT = 600  # seconds a notebook may take
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
THREADS = max(1, CORES // int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1)))


@pytest.mark.parametrize('nb', notebooks(), ids=lambda o: o.relative_to(ROOT).as_posix())
def test_notebook(nb, record_property):
    "The notebook runs to its end"
    env = dict(os.environ, OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS))
    cmd = [sys.executable, ROOT / 'tests' / 'run_nb.py', nb]
    try:
        p = subprocess.run(
            cmd,
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f'{nb.name} took longer than {TIMEOUT} s', pytrace=False)
    if p.returncode:
        pytest.fail(p.stdout, pytrace=False)
    ran, _, total, *_ = p.stdout.splitlines()[-1].split()
    record_property('cells', (int(ran), int(total)))
