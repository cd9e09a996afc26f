"""Kill `protokp train` at random moments, and during what it writes last, and run the same command again: the model, its
log and its names must be those of a run that was left alone.

    python tests/campaigns/kills.py --n 40

Half of the kills fall anywhere, half after the last epoch. A third of the runs is killed twice.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from campaign import Campaign, main, silent
from safetensors.torch import load_file

from protokp.cli.training import train_folder
from protokp.datasets.trays import write_tray_folder

OPTIONS = dict(n_keypoints=5, n_prototypes=3, kernel_size=9, size=(32, 48), bs=4, repeats=1, epochs=4)


def start(images, out):
    "A training in a process of its own"
    if pid := os.fork():
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        with silent():
            train_folder(images, out, device='cpu', precision='float32', **OPTIONS)
        code = 0
    finally:
        os._exit(code)


def wait(pid):
    "Its exit code, negative for a signal"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def epochs(out):
    log = out / 'log.jsonl'
    return len(log.read_text().splitlines()) if log.exists() else 0


def result(out):
    "What must be alike: weights, settings and log without times"
    config = json.loads((out / 'model' / 'config.json').read_text())
    config['card'].pop('minutes', None)
    log = [json.loads(l) for l in (out / 'log.jsonl').read_text().splitlines()]
    log = [{k: v for k, v in row.items() if k != 'seconds'} for row in log]
    return load_file(out / 'model' / 'model.safetensors'), config, log


def kill_once(images, out, draw, last, seconds):
    "Start a run and kill it, anywhere or after the last epoch; whether it was still there"
    pid = start(images, out)
    if last:
        while epochs(out) < OPTIONS['epochs'] and os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, seconds[1]))
    else:
        time.sleep(draw.uniform(0, seconds[0]))
    try:
        os.kill(pid, signal.SIGKILL)
        return wait(pid) == -signal.SIGKILL
    except (ProcessLookupError, ChildProcessError):
        return False


def run(n=40, seed=0):
    "Kill trainings and compare what becomes of them"
    c, draw = Campaign('kills', seed), random.Random(seed)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        write_tray_folder(d / 'images', 12, sizes=((48, 64),), seed=1)
        begin = time.time()
        assert wait(start(d / 'images', d / 'whole')) == 0
        whole, seconds = result(d / 'whole'), time.time() - begin
        begin = time.time()
        assert wait(start(d / 'images', d / 'whole')) == 0  # nothing but the last part
        seconds = seconds, time.time() - begin
        for i in range(n):
            out, last = d / f'run{i}', i % 2 == 1
            for _ in range(2 if draw.random() < 1 / 3 else 1):
                c.count('kills', kill_once(d / 'images', out, draw, last, seconds))
            c.count('tried')
            if code := wait(start(d / 'images', out)):
                c.problem(f'run {i}: exit code {code}')
                continue
            (tensors, config, log), (wanted, *rest) = result(out), whole
            same = tensors.keys() == wanted.keys() and all(v.equal(wanted[k]) for k, v in tensors.items())
            left = [f.name for f in out.rglob('*.part')]
            if not same or [config, log] != rest or left:
                c.problem(
                    f'run {i}: weights {same}, settings and log {[config == rest[0], log == rest[1]]}, {left}'
                )
            else:
                c.count('killed after the last epoch, equal' if last else 'killed anywhere, equal')
    return c


if __name__ == '__main__':
    sys.exit(main(run, 40))
