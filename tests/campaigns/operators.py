"""The properties of tests/test_operators.py on ten thousand examples.

python tests/campaigns/operators.py --n 10000
"""

import os
import re
import subprocess
import sys

from campaign import HERE, Campaign, main


def run(n=10000, seed=0):
    "Try every public function of the operators on examples of hypothesis"
    c, file = Campaign('operators', seed), HERE.parent / 'test_operators.py'
    properties = len(re.findall(r'^@given', file.read_text(), re.M))
    command = [
        sys.executable,
        '-m',
        'pytest',
        '-q',
        '-n',
        str(os.cpu_count()),
        str(file),
        f'--hypothesis-seed={seed}',
    ]
    each = -(-n // properties)
    done = subprocess.run(command, env={**os.environ, 'EXAMPLES': str(each)}, capture_output=True, text=True)
    passed, failed = (int((re.search(rf'(\d+) {w}', done.stdout) or [0, 0])[1]) for w in ('passed', 'failed'))
    c.count('tried', each * properties)
    c.count('properties that hold', passed)
    if failed or passed != properties:
        c.problem(done.stdout[-2000:])
    return c


if __name__ == '__main__':
    sys.exit(main(run, 10000))
