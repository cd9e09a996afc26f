"What the README promises, done: its ten lines run on a folder of pictures and give the shapes they say"
import re

import matplotlib
import numpy as np
import torch
from PIL import Image
from run_nb import ROOT

matplotlib.use('Agg')
README = (ROOT/'README.md').read_text()


def test_ten_lines(tmp_path, monkeypatch):
    from protokp.all import digit_scenes
    block = re.search(r'```python\n(.*?)```', README, re.S)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path/'my_images').mkdir()
    images, _ = digit_scenes()(torch.arange(6))
    for name, image in zip(['one', *'abcde'], images):
        Image.fromarray((image.permute(1, 2, 0).numpy()*255).astype(np.uint8)).save(tmp_path/'my_images'/f'{name}.png')
    short, n = re.subn(r'fit_flat_cos\(\d+', 'fit_flat_cos(1', block)
    assert n == 1
    names = {}
    exec(short, names)
    promised = re.findall(r'\((\d+),(\d*)\)', ''.join(l.split('#')[1] for l in block.splitlines() if l.startswith('kp.')))
    kp = names['kp']
    shapes = [tuple(int(o) for o in p if o) for p in promised]
    assert shapes == [tuple(o.shape) for o in (kp.xy, kp.centre, kp.box, kp.type, kp.score, kp.real)]
    assert (tmp_path/'my_model'/'model.safetensors').exists()


def test_two_commands():
    "Both set-up commands stand in the README, as CI and users run them"
    assert "```sh\npip install . && protokp_demo\n```" in README.replace('``` sh', '```sh')
    assert "```sh\npip install -e '.[dev]' && pytest\n```" in README.replace('``` sh', '```sh')
