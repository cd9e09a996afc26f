"The campaigns of tests/campaigns at a size that CI can bear; what they found at full size is in benchmarks/results/campaigns"

import subprocess
import sys

import pytest
from run_nb import ROOT


@pytest.mark.parametrize('name, n', dict(options=0, readers=360, states=4, kills=2).items())
def test_campaign(name, n):
    "Nothing that is promised fails"
    script = ROOT / 'tests' / 'campaigns' / f'{name}.py'
    command = [sys.executable, '-W', 'ignore', str(script), '--n', str(n), '--seed', '7', '--check']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
