"What the scripts of this folder share: where and on which code they ran, and files that are written whole or not at all."

import os
import platform
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent


def hardware():
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f'{os.cpu_count()} CPU cores, {platform.machine()}'
    )


def commit():
    "Short hash of what is run, with a + if the library differs from it"

    def git(*a):
        return subprocess.run(['git', *a], cwd=HERE, capture_output=True, text=True).stdout.strip()

    return git('rev-parse', '--short', 'HEAD') + '+' * bool(git('status', '--porcelain', '../protokp'))


def write(path, text):
    "All of it or nothing"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(text)
    part.replace(path)


def number(v, digits=4):
    "A figure as JSON has it: rounded, None for none"
    return round(float(v), digits) if v is not None and v == v else None


def run_options(parser, minutes, bs=None):
    "What every script that trains takes; `HERE.parent` is where benchmarks/ and models/ are"
    add = parser.add_argument
    add('--full', action='store_true', help="the paper's size of networks and images; wants a GPU")
    add('--seed', type=int, default=0)
    add('--epochs', type=int)
    add('--epoch-scenes', type=int, default=1600, help='scenes per epoch, where they are made')
    add('--bs', type=int, default=bs, help='images a batch')
    add('--minutes', type=float, default=minutes, help='of training in all calls together')
    add('--stop-after', type=float, default=float('inf'), help='minutes of this call')
    add('--device', default='cpu')
    add('--out', type=Path, default=HERE.parent, help='where benchmarks/ and models/ are written')
    add('--evaluate', action='store_true', help='evaluate the finished weights and change nothing')
