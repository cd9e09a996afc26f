"What the campaigns share: options, a count of what happened, and where the results are written."

import argparse
import json
import os
import platform
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
SHOWN = 20  # problems that are kept in words


class Campaign:
    "Counts of what happened, and what should not have, in words"

    def __init__(self, name, seed=0):
        self.name, self.seed, self.counts, self.problems, self.begin = name, seed, Counter(), [], time.time()

    def count(self, what, n=1):
        self.counts[what] += n

    def problem(self, what):
        self.counts['problems'] += 1
        self.problems.append(what)

    def row(self):
        return dict(
            campaign=self.name,
            tried=self.counts['tried'],
            problems=self.counts['problems'],
            outcomes={k: n for k, n in sorted(self.counts.items()) if k not in ('tried', 'problems')},
            examples=self.problems[:SHOWN],
            seed=self.seed,
            seconds=round(time.time() - self.begin),
            commit=commit(),
            hardware=f'{os.cpu_count()} CPU cores, {platform.machine()}',
            python=platform.python_version(),
        )


def commit():
    "Short hash of what is run, with a + if the library differs from it"

    def git(*a):
        return subprocess.run(['git', *a], cwd=HERE, capture_output=True, text=True).stdout.strip()

    return git('rev-parse', '--short', 'HEAD') + '+' * bool(git('status', '--porcelain', '../../protokp'))


def main(run, default, **options):
    "Run a campaign from the command line and write its results to benchmarks/results/campaigns"
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument('--n', type=int, default=default, help='how many to try')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--check', action='store_true', help='write nothing, end with 1 if there are problems'
    )
    for name, value in options.items():
        parser.add_argument(f'--{name}', type=type(value), default=value)
    options = vars(parser.parse_args())
    check = options.pop('check')
    c = run(**options)
    text = json.dumps(c.row(), indent=1) + '\n'
    print(text)
    if check:
        return min(c.counts['problems'], 1)
    folder = HERE.parent.parent / 'benchmarks' / 'results' / 'campaigns'
    folder.mkdir(exist_ok=True)
    (folder / f'{c.name}.json').write_text(text)


@contextmanager
def silent():
    "Nothing on standard output and error, of this process and its libraries"
    kept, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1), os.dup2(null, 2)
        yield
    finally:
        for i, handle in enumerate(kept, 1):
            os.dup2(handle, i)
            os.close(handle)
        os.close(null)
