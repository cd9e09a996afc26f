"""Give every option of every command values that it cannot have: exit code 2, one error, nothing written.

python tests/campaigns/options.py
"""

import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from inspect import signature
from io import StringIO
from pathlib import Path

from campaign import Campaign, main

from protokp.__main__ import main as protokp
from protokp.cli.runner import _COMMANDS, _command_parser
from protokp.core.options import OPTIONS, Bounds

VALUES = ('0', '-1', 'nan', 'inf', '-inf', 'x', '', '1.5', '1e400', '99999999999999999999', '0x10', '½')
TEXT = {
    'path',
    'out',
    'model',
    'names',
    'items',
    'source',
    'dest',
    'crops',
    'kind',
}  # any text is one of these
CHECKED_LATE = {'device'}  # by what is there


def allowed(name, kind, value):
    "Whether the table of bounds has a place for a value"
    try:
        number = kind(value)
    except ValueError:
        return False
    bounds = OPTIONS.get(name)
    return bounds.holds(number) if isinstance(bounds, Bounds) else bounds is not None and number in bounds


def call(*arguments):
    "Exit code and what was printed"
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            protokp(arguments)
        except SystemExit as e:
            return e.code or 0, err.getvalue()
        except BaseException as e:
            return type(e).__name__, str(e)
    return 0, err.getvalue()


def run(n=0, seed=0):
    "Give options values that they cannot have"
    c = Campaign('options', seed)
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)
        Path('images').mkdir()
        for command, function in _COMMANDS.items():
            parameters = signature(function).parameters
            needed = ['images' for p in parameters.values() if p.default is p.empty]
            for action in _command_parser(command)._actions:
                name, text = action.dest, action.dest in TEXT | CHECKED_LATE
                if not action.option_strings or action.nargs == 0 or text or name not in parameters:
                    continue
                for value in VALUES:
                    kind = action.type or str
                    if name != 'size' and allowed(name, kind, value) or name == 'size' and not value:
                        continue
                    c.count('tried')
                    code, err = call(command, *needed, f'{action.option_strings[-1]}={value}')
                    last = err.strip().splitlines()[-1:]
                    said = len(last) == 1 and name.replace('_', '') in last[0].replace('_', '').replace(
                        '-', ''
                    )
                    if code != 2 or not said:
                        c.problem(f'{command} --{name}={value!r}: exit code {code}, {last}')
                    else:
                        c.count('exit code 2, the option named')
            if left := [f for f in os.listdir() if f != 'images']:
                c.problem(f'{command}: wrote {left}')
        os.chdir(here)
    return c


if __name__ == '__main__':
    sys.exit(main(run, 0))
