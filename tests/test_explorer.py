"""The explorer in a real browser: a notebook in JupyterLab is opened, types are named and merged, the slider is moved, all is saved, and it is there again after the kernel was restarted.

`python tests/test_explorer.py MODEL _IMAGES.pt SHOTS` does the same with a trained model and a tensor of images, and leaves screenshots in a folder."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'
TOKEN = 'explorer'
WAIT = 30  # seconds that anything may take; in milliseconds for playwright
SIZE = dict(width=1040, height=1300)
CELL = '''import torch
from protokp.folders.explorer import TypeExplorer
explorer = TypeExplorer('model', torch.load('images.pt'))
explorer'''


def missing():
    "Why this cannot be tried here, or nothing"
    if not find_spec('jupyterlab'):
        return 'JupyterLab is not installed: pip install jupyterlab'
    if not find_spec('playwright'):
        return 'playwright is not installed: pip install playwright'
    if not browser_path():
        return f'no browser found, looked for {", ".join(BROWSERS)}: apt install chromium'


def browser_path():
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def small_model(folder):
    "A model with random weights whose prototypes are descriptors of its own, and images: all that widgets ask for; gives a score in the middle"
    import torch

    from protokp.datasets.scenes import Scenes, sklearn_digits
    from protokp.models.protokp import ProtoKP

    torch.manual_seed(0)
    images = Scenes(sklearn_digits(12), size=(28, 28), min_distance=9)(torch.arange(24))[0]
    model = ProtoKP(4, 6, kernel_size=7, channels=8, width=8, depth=1).eval()
    with torch.no_grad():
        model.prototypes.copy_(model(images, n_reconstruct=0).keypoints.descriptor.flatten(0, 1)[::16])
    model.save_pretrained(folder / 'model')
    torch.save(images, folder / 'images.pt')
    return round(model(images, n_reconstruct=0).keypoints.score.median().item(), 2)


def write_notebook(folder):
    cell = dict(cell_type='code', id='explore', metadata={}, outputs=[], execution_count=None, source=CELL)
    spec = dict(display_name='Python 3', language='python', name='python3')
    (folder / 'explore.ipynb').write_text(
        json.dumps(dict(cells=[cell], metadata=dict(kernelspec=spec), nbformat=4, nbformat_minor=5))
    )


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def ask(url, method='GET'):
    "Talk to the server; None if it does not answer yet"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method, headers=dict(Authorization=f'token {TOKEN}')),
            timeout=10,
        ) as r:
            return json.loads(r.read() or 'null')
    except OSError:
        return None


@contextmanager
def jupyter(folder):
    "A JupyterLab on a folder, with settings of its own"
    home = folder / '.home'
    quiet = home / 'config/lab/user-settings/@jupyterlab/apputils-extension'
    quiet.mkdir(parents=True)
    (quiet / 'notification.jupyterlab-settings').write_text(
        json.dumps(dict(fetchNews='false', checkForUpdates=False))
    )
    places = {f'JUPYTER_{k}_DIR': str(home / k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')} | dict(
        IPYTHONDIR=str(home / 'ipython'),
        JUPYTERLAB_SETTINGS_DIR=str(home / 'config/lab/user-settings'),
        JUPYTERLAB_WORKSPACES_DIR=str(home / 'workspaces'),
        JUPYTER_PREFER_ENV_PATH='1',
        OMP_NUM_THREADS='1',
    )
    url, log = f'http://127.0.0.1:{free_port()}', open(folder / 'server.log', 'w')
    server = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'jupyterlab',
            '--no-browser',
            '--allow-root',
            '--expose-app-in-browser',
            f'--port={url.rpartition(":")[2]}',
            '--ServerApp.ip=127.0.0.1',
            '--ServerApp.port_retries=0',
            f'--IdentityProvider.token={TOKEN}',
            f'--ServerApp.root_dir={folder}',
        ],
        cwd=folder,
        env={**os.environ, **places},
        stdout=log,
        stderr=log,
    )
    try:
        begin = time.time()
        while ask(f'{url}/api/status') is None:
            assert server.poll() is None and time.time() - begin < WAIT, (folder / 'server.log').read_text()[
                -2000:
            ]
            time.sleep(0.2)
        yield url
    finally:
        for s in ask(f'{url}/api/sessions') or []:
            ask(f'{url}/api/sessions/{s["id"]}', 'DELETE')
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=['--no-sandbox', '--headless=new'])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(WAIT * 1000)
        yield page
        browser.close()


class Notebook:
    "The notebook as a user sees it"

    def __init__(self, page, url):
        self.page, self.url = page, url

    def open(self):
        self.page.goto(f'{self.url}/doc/tree/explore.ipynb?token={TOKEN}')
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
        )
        self.run()

    def run(self):
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        self.page.wait_for_selector('.protokp-card')

    def restart(self):
        for k in ask(f'{self.url}/api/kernels'):
            ask(f'{self.url}/api/kernels/{k["id"]}/restart', 'POST')

    def card(self, t):
        return self.page.locator(f'.protokp-type-{t}')

    def types(self):
        return [
            int(re.search(r'protokp-type-(\d+)', c)[1])
            for c in self.page.locator('.protokp-card').evaluate_all('cs => cs.map(c => c.className)')
        ]

    def head(self, t):
        return self.card(t).locator('b').inner_text()

    def names_drawn(self):
        return self.page.locator('svg text').all_text_contents()

    def name(self, t, name):
        field = self.card(t).locator('input[type=text]')
        field.fill(name)
        field.press('Enter')
        self.until(lambda: self.head(t) == name)

    def merge(self, t, into):
        self.card(t).locator('select').select_option(label=into)
        self.until(lambda: self.head(t) == into)

    def slide(self, steps):
        "Move the handle with the keyboard, as many steps to the right"
        handle = self.page.locator('.noUi-handle').first
        handle.focus()
        for _ in range(steps // 5):
            handle.press('PageUp')
        for _ in range(steps % 5):
            handle.press('ArrowRight')

    def cut(self):
        return float(self.page.locator('.widget-readout').first.inner_text())

    def kept(self):
        return int(
            re.search(r'(\d+) of \d+ keypoints', self.page.locator('.jp-OutputArea').first.inner_text())[1]
        )

    def press(self, label):
        self.page.locator('.jp-OutputArea button', has_text=label).click()

    def says(self, words):
        self.until(lambda: words in self.page.locator('.jp-OutputArea').first.inner_text())

    def until(self, true):
        begin = time.time()
        while not true():
            assert time.time() - begin < WAIT, self.page.locator('.jp-OutputArea').first.inner_text()[:2000]
            self.page.wait_for_timeout(50)

    def steady(self, look):
        "What is seen once it stays so for half a second"
        seen = [look()]

        def stays():
            self.page.wait_for_timeout(500)
            seen.append(look())
            return seen[-1] == seen[-2]

        self.until(stays)
        return seen[-1]

    def shoot(self, file):
        if file:
            self.page.locator('.jp-OutputArea-output').last.screenshot(path=str(file))


def explore(page, url, folder, names=('first', 'second'), shots=None, cut=0.85):
    "All that a user does with it"

    def shot(name):
        return shots and Path(shots) / f'explorer_{name}.png'

    nb = Notebook(page, url)
    nb.open()
    a, b, c = nb.types()[:3]
    nb.shoot(shot('opened'))

    nb.name(a, names[0])
    nb.says(f'type {a} is called {names[0]}')
    nb.until(lambda: names[0] in nb.names_drawn())
    nb.name(b, names[1])
    nb.card(c).locator('input[type=text]').fill(names[0])
    nb.card(c).locator('input[type=text]').press('Enter')
    nb.says(f'type {c} counts as {names[0]}')
    assert nb.card(c).locator('input[type=text]').is_disabled()

    before = nb.kept()
    nb.slide(round(100 * cut))
    nb.says(f'scores from {cut:g}')
    moved = nb.steady(nb.kept)
    assert moved < before and nb.cut() == cut, (moved, before, nb.cut())
    nb.slide(3)
    nb.until(lambda: abs(nb.cut() - cut - 0.03) < 0.005)
    nb.shoot(shot('moved'))
    nb.press('Undo')
    nb.says('undone: scores from')
    nb.until(lambda: nb.cut() == 0 and nb.kept() == before)  # the whole way of the slider is one step
    nb.slide(round(100 * cut))
    nb.until(lambda: nb.kept() == moved)
    nb.card(b).locator('input[type=checkbox]').check()
    nb.says(f'{names[1]} is dropped')
    nb.until(lambda: names[1] not in nb.names_drawn())
    nb.press('Undo')
    nb.says('undone: ')
    nb.until(lambda: not nb.card(b).locator('input[type=checkbox]').is_checked())
    nb.press('Save')
    nb.says('saved in')
    nb.says('2 named, 1 merged, 0 dropped')
    nb.shoot(shot('saved'))

    kept = json.loads((folder / 'model/config.json').read_text())['card']['types']
    assert (kept['names'][a], kept['names'][b], kept['merged'][c], round(kept['min_score'], 2)) == (
        *names,
        a,
        cut,
    )

    nb.restart()
    page.goto('about:blank')
    nb.open()
    nb.until(lambda: nb.cut() == cut)
    assert (nb.head(a), nb.head(b), nb.head(c), nb.kept()) == (names[0], names[1], names[0], moved)
    assert nb.card(a).locator('input[type=text]').input_value() == names[0]
    nb.shoot(shot('again'))
    assert nb.card(c).locator('select').input_value() == names[0]


@pytest.mark.skipif(bool(missing()), reason=missing() or '')
def test_explorer(tmp_path):
    "Rename, merge, slide, undo, save, restart: the names are there"
    cut = small_model(tmp_path)
    write_notebook(tmp_path)
    with jupyter(tmp_path) as url, chromium() as page:
        explore(page, url, tmp_path, cut=cut)


if __name__ == '__main__':
    from tempfile import TemporaryDirectory

    model, images, shots = map(Path, sys.argv[1:])
    shots.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        shutil.copytree(model, tmp / 'model')
        shutil.copy(images, tmp / 'images.pt')
        write_notebook(tmp)
        with jupyter(tmp) as url, chromium() as page:
            explore(page, url, tmp, ('eight', 'five'), shots)
