"What the README promises, done: its ten lines run on a folder of images and give the shapes they say"

import json
import re
import shlex

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from run_nb import ROOT, notebooks, read_cells

import protokp.__main__  # noqa: F401, registers the commands
from protokp.cli.runner import _command_parser, _respelled

matplotlib.use('Agg')
README = (ROOT / 'README.md').read_text()


def test_ten_lines(tmp_path, monkeypatch):
    from protokp.all import digit_scenes

    block = re.search(r'```python\n(.*?)```', README, re.S)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_images').mkdir()
    images, _ = digit_scenes()(torch.arange(6))
    for name, image in zip(['one', *'abcde'], images):
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(
            tmp_path / 'my_images' / f'{name}.png'
        )
    short, n = re.subn(r'fit_flat_cos\(\d+', 'fit_flat_cos(1', block)
    assert n == 1
    names = {}
    exec(short, names)
    promised = re.findall(
        r'\((\d+),(\d*)\)', ''.join(l.split('#')[1] for l in block.splitlines() if l.startswith('kp.'))
    )
    kp = names['kp']
    shapes = [tuple(int(o) for o in p if o) for p in promised]
    assert shapes == [tuple(o.shape) for o in (kp.xy, kp.centre, kp.box, kp.type, kp.score, kp.real)]
    assert (tmp_path / 'my_model' / 'model.safetensors').exists()


def test_figures_are_committed():
    "The figures of the README are those of the committed runs"
    figures = json.loads((ROOT / 'benchmarks/results/clevr.json').read_text())['figures']
    six, ten = (f'{100 * f["ari"]:.1f} %' for f in figures.values())
    assert f'{six} (six objects) and {ten} (ten)' in README


def test_short():
    "The README is read in one go: 700 words, no line over 199 characters"
    assert len(README.split()) <= 700
    assert max(map(len, README.splitlines())) < 200


def test_two_commands():
    "Both set-up commands stand in the README, as CI and users run them"
    assert "```sh\npip install . && protokp demo\n```" in README.replace('``` sh', '```sh')
    assert "```sh\npip install -e '.[dev]' && pytest\n```" in README.replace('``` sh', '```sh')


PAGES = [ROOT / 'README.md', *notebooks()]


def commands(page):
    "Lines of a page's shell blocks that call a command of ours"
    text = (
        page.read_text()
        if page.suffix == '.md'
        else '\n'.join(src for kind, src in read_cells(page) if kind == 'markdown')
    )
    lines = '\n'.join(
        re.findall(r'```(?:sh|bash)\n(.*?)```', text.replace('``` sh', '```sh'), re.S)
    ).splitlines()
    return [
        part for line in lines for part in line.split('&&') if part.split() and part.split()[0] == 'protokp'
    ]


@pytest.mark.parametrize('page', [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_commands_parse(page):
    "What a page tells people to type is what the command takes"
    for line in commands(page):
        name, *args = shlex.split(line, comments=True)[1:]
        parser = _command_parser(name)
        try:
            parser.parse_args([_respelled(a, parser._option_string_actions) for a in args])
        except SystemExit as e:
            pytest.fail(f'{line.strip()}: exit code {e.code}')
