"""Run the whole test suite with other interpreters, each in an environment with its own packages.

python tests/campaigns/worlds.py --pythons /path/to/one/bin/python,/path/to/another/bin/python
"""

import re
import subprocess
import sys

from campaign import HERE, Campaign, main

ASK = '''import platform, importlib.metadata as m
print(f'Python {platform.python_version()}, ' + ', '.join(f'{p} {m.version(p)}' for p in ('torch', 'fastai', 'fastcore')))'''


def run(n=0, seed=0, pythons=''):
    "Run the test suite in each environment"
    c = Campaign('worlds', seed)
    for python in pythons.split(','):
        world = subprocess.run([python, '-c', ASK], capture_output=True, text=True).stdout.strip()
        done = subprocess.run(
            [python, '-m', 'pytest', '-q'], cwd=HERE.parent.parent, capture_output=True, text=True
        )
        count = {
            w: int((re.search(rf'(\d+) {w}', done.stdout) or [0, 0])[1])
            for w in ('passed', 'failed', 'error')
        }
        c.count('tried', sum(count.values()))
        c.count(f'{world}: passed', count['passed'])
        for line in re.findall(r'^(?:FAILED|ERROR) .*', done.stdout, re.M):
            c.problem(f'{world}: {line}')
        if done.returncode and not count['failed'] + count['error']:
            c.problem(f'{world}: {done.stdout[-500:]}{done.stderr[-500:]}')
    return c


if __name__ == '__main__':
    sys.exit(main(run, 0, pythons=sys.executable))
