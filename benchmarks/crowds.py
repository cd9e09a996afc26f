"""Many small objects in a large image: default settings against ground truth, and beside what one would otherwise do.

    python benchmarks/crowds.py                  # three sets, three seeds, about 5 minutes each on a core
    python benchmarks/crowds.py nuclei --seeds 0 # one of them
    python benchmarks/crowds.py letters --n_prototypes 16   # with more types than by default, in rows of their own
    python benchmarks/crowds.py --large          # a hundred megapixels: memory and minutes of `predict_images`
    pip install scikit-image                     # for the peers; without it they are left out

Sets: `nuclei`, a field of the 2018 Data Science Bowl (BBBC038, CC0; 512x512, 125 nuclei with masks, as shipped with StarDist);
`coins`, scikit-image's photograph of 24 coins (boxes from its own watershed example); `letters`, a page set in DejaVu Sans, photographed
badly: uneven light, blur, noise. Training is `protokp train` on a folder with the one image and no option; the ground truth is used
afterwards. A keypoint is right if it lies within half an object's size of its middle, one keypoint per object. Peers are given the size
of the objects, which `protokp train` estimates.
"""

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch
from common import HERE, commit, hardware, number, write
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from protokp.__main__ import main as protokp
from protokp.folders.predict import predict_images
from protokp.models.protokp import ProtoKP

IMAGES, RUNS, MODELS = HERE.parent / 'nbs' / 'images', HERE / 'runs' / 'crowds', HERE.parent / 'models'
KEPT = 'nuclei', 'coins'  # whose model of seed 0 is committed
TEXT = """It is a truth universally acknowledged, that a
single man in possession of a good fortune,
must be in want of a wife. However little known
the feelings or views of such a man may be on
his first entering a neighbourhood, this truth is
so well fixed in the minds of the surrounding
families, that he is considered the rightful
property of some one or other of their daughters.
My dear Mr. Bennet, said his lady to him one day,
have you heard that Netherfield Park is let at last?
Mr. Bennet replied that he had not. But it is, she
returned; for Mrs. Long has just been here, and she
told me all about it. Mr. Bennet made no answer.
Do you not want to know who has taken it? cried his
wife impatiently. You want to tell me, and I have
no objection to hearing it. This was invitation enough."""


def masks(labels):
    "Middle and size (diameter of a disk of the same area) of each labelled region"
    ids = np.unique(labels)[1:]
    middle = np.array(ndimage.center_of_mass(labels > 0, labels, ids))[:, ::-1]
    size = np.sqrt(np.bincount(labels.ravel())[ids] * 4 / np.pi)
    return pd.DataFrame(dict(x=middle[:, 0], y=middle[:, 1], size=size, kind=''))


def nuclei():
    return np.asarray(Image.open(IMAGES / 'nuclei.png')), masks(
        np.asarray(Image.open(IMAGES / 'nuclei_mask.png'))
    )


def coins():
    "Regions by gradient and markers, as in scikit-image's example of segmentation, done with SciPy"
    image = np.asarray(Image.open(IMAGES / 'coins.png').convert('L'))
    edges = np.hypot(*(ndimage.sobel(image.astype(float), a) for a in (0, 1)))
    markers = np.where(image > 150, 2, np.where(image < 30, 1, 0)).astype(np.int16)
    filled = ndimage.binary_fill_holes(
        ndimage.watershed_ift((edges / edges.max() * 255).astype(np.uint8), markers) == 2
    )
    regions = masks(ndimage.label(filled)[0])
    return image, regions[regions['size'] > 25].reset_index(drop=True)


def letters(size=26, seed=0):
    "A page of text, its letters and their places; small marks (dots, commas) are no objects"
    font = ImageFont.truetype(font_manager.findfont('DejaVu Sans'), size)
    lines, rows = TEXT.splitlines(), []
    page = Image.new('L', (760, 44 * len(lines) + 40), 255)
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        for j, char in enumerate(line):
            x, y = 24 + draw.textlength(line[:j], font), 20 + 44 * i
            draw.text((x, y), char, 0, font)
            if char.isalpha():
                left, top, right, bottom = draw.textbbox((x, y), char, font)
                rows.append(
                    ((left + right - 1) / 2, (top + bottom - 1) / 2, max(right - left, bottom - top), char)
                )
    rng = np.random.default_rng(seed)
    ink = ndimage.gaussian_filter(np.asarray(page, float), 1.0)
    Y, X = np.mgrid[: ink.shape[0], : ink.shape[1]]
    light = 0.6 + 0.35 * X / ink.shape[1] - 0.2 * (Y / ink.shape[0]) ** 2
    noisy = 40 + ink * 0.8 * light + rng.normal(0, 5, ink.shape)
    return noisy.clip(0, 255).astype(np.uint8), pd.DataFrame(rows, columns=['x', 'y', 'size', 'kind'])


SETS = dict(nuclei=nuclei, coins=coins, letters=letters)


def matches(xy, truth):
    "One-to-one pairs of (keypoint, object) within half an object's size"
    gap = np.linalg.norm(xy[:, None] - truth[['x', 'y']].to_numpy(), axis=-1)
    near = gap <= truth['size'].to_numpy() / 2
    i, j = linear_sum_assignment(np.where(near, gap, 1e6))
    return i[near[i, j]], j[near[i, j]]


def figures(xy, truth):
    hits = len(matches(xy, truth)[0])
    recall, precision = hits / len(truth), hits / max(len(xy), 1)
    f1 = 2 * hits / (len(xy) + len(truth))
    return dict(
        recall=number(recall), precision=number(precision), f1=number(f1), count=len(xy), objects=len(truth)
    )


def type_figures(image, table, truth, seed):
    "How well types tell kinds, and k-means on crops of the same keypoints, as many clusters"
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score as nmi

    i, j = matches(table[['x', 'y']].to_numpy(), truth)
    kinds, rows = truth.kind.to_numpy()[j], table.iloc[i]
    side = int(truth['size'].median()) // 2 * 2
    padded = np.pad(image, side, 'edge')
    crops = [
        padded[round(y) + side // 2 :, round(x) + side // 2 :][: side + 1, : side + 1].ravel()
        for x, y in zip(rows.x, rows.y)
    ]
    crops = np.array(crops, float)
    crops = (crops - crops.mean(1, keepdims=True)) / crops.std(1, keepdims=True)
    groups = KMeans(rows.type.nunique(), n_init=10, random_state=seed).fit_predict(crops)

    def purity(labels):
        return pd.crosstab(labels, kinds).max(axis=1).sum() / len(kinds)

    return {
        name: dict(nmi=number(nmi(kinds, g)), many_to_one=number(purity(g)), types=len(set(g)))
        for name, g in (('types', rows.type.to_numpy()), ('k-means on crops', groups))
    }


def train(name, image, seed, options):
    "A folder with one image, the command, and what it finds"
    out = RUNS / '-'.join(map(str, (name, seed, *options.values())))
    with tempfile.TemporaryDirectory() as d:
        Image.fromarray(image).save(f'{d}/{name}.png')
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            given = [f'--{k}={v}' for k, v in options.items()]
            protokp(['train', d, f'--out={out}', f'--seed={seed}', '--device=cpu', *given])
        began = time.time()
        table = predict_images(out / 'model', f'{d}/{name}.png', progress=False)
    return out, table, time.time() - began, log.getvalue()


def peers(image, truth):
    "What one would do without a network, told the size of the objects"
    if not find_spec('skimage'):
        return {}
    from skimage import feature, filters, measure, segmentation

    grey = image.astype(float)
    low, high = np.percentile(grey, (0.5, 99))
    grey = ((grey - low) / (high - low)).clip(0, 1)
    side = truth['size'].median()
    dark = np.median(grey[tuple(truth[['y', 'x']].round().astype(int).to_numpy().T)]) < np.median(grey)
    grey = 1 - grey if dark else grey

    sigma = side / 2 / np.sqrt(2)
    blobs = feature.blob_log(grey, sigma * 0.7, sigma * 1.4, 5, threshold=0.1)[:, 1::-1]
    smooth = filters.gaussian(grey, 1)
    inside = smooth > filters.threshold_otsu(smooth)
    depth = ndimage.distance_transform_edt(inside)
    peaks = feature.peak_local_max(depth, min_distance=round(side / 3), labels=measure.label(inside))
    seeds = np.zeros(grey.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parts = measure.regionprops(segmentation.watershed(-depth, seeds, mask=inside))
    watershed = np.array([p.centroid[::-1] for p in parts if p.area > (side / 3) ** 2])
    usual = truth.iloc[(truth['size'] - side).abs().argsort().iloc[0]]
    r, (x, y) = round(side * 0.6), usual[['x', 'y']].astype(float).round().astype(int)
    patch = grey[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1]
    answer = feature.match_template(grey, patch, pad_input=True)
    template = feature.peak_local_max(answer, min_distance=round(side / 3), threshold_abs=0.5)[:, ::-1]
    found = {'blob_log': blobs, 'Otsu, distance, watershed': watershed, 'template matching': template}
    return {name: figures(xy.reshape(-1, 2), truth) for name, xy in found.items()}


def run(name, seed, options):
    image, truth = SETS[name]()
    out, table, seconds, log = train(name, image, seed, options)
    model = ProtoKP.from_pretrained(out / 'model')
    row = dict(set=name, seed=seed, options=options, **figures(table[['x', 'y']].to_numpy(), truth))
    row |= dict(count_error=number(abs(row['count'] - row['objects']) / row['objects']))
    if truth.kind.any():
        row['kinds'] = type_figures(image, table, truth, seed)
    card = model.card
    return row | dict(
        minutes=card['minutes'],
        seconds_to_predict=number(seconds, 1),
        scale=number(card['scale']),
        window=card['size'],
        n_keypoints=model.n_keypoints,
        min_score=card['types']['min_score'],
        threads=torch.get_num_threads(),
        commit=commit(),
        hardware=hardware(),
    )


PREDICT = """
import sys, time
from protokp.folders.predict import predict_images

def peak():  # of this process alone; getrusage counts its parent's as well
    return next(int(o.split()[1]) / 1e3 for o in open('/proc/self/status') if o.startswith('VmHWM'))

base, began = peak(), time.time()
table = predict_images(sys.argv[1], sys.argv[2], progress=False)
print(base, peak(), time.time() - began, len(table))
"""


def large():
    "The field of nuclei, mirrored and repeated to a hundred megapixels; the process that predicts is measured"
    field = np.asarray(Image.open(IMAGES / 'nuclei.png'))
    four = np.block([[field, field[:, ::-1]], [field[::-1], field[::-1, ::-1]]])
    rows = []
    with tempfile.TemporaryDirectory() as d:
        for side in (512, 3500, 10000):
            n = -(-side // len(four))
            Image.fromarray(np.tile(four, (n, n))[:side, :side]).save(f'{d}/{side}.png', compress_level=1)
            argv = [sys.executable, '-W', 'ignore', '-c', PREDICT, MODELS / 'nuclei', f'{d}/{side}.png']
            said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
            base, peak, seconds, count = map(float, said)
            rows.append(
                dict(
                    megapixels=number(side**2 / 1e6, 1),
                    megabytes_before=round(base),
                    megabytes=round(peak),
                    seconds=number(seconds, 1),
                    objects=int(count),
                )
            )
            print(rows[-1], flush=True)
    return rows


def place(row):
    "Where a row is in the results"
    return list(SETS).index(row['set']), row['options'].get('n_prototypes', 0), row['seed']


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('sets', nargs='*', choices=[[], *SETS], help='all if left out')
    p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--n_prototypes', type=int, help='types, if another number than by default')
    p.add_argument('--large', action='store_true', help='memory on a hundred megapixels, with models/nuclei')
    a = p.parse_args()
    options = {} if a.n_prototypes is None else dict(n_prototypes=a.n_prototypes)
    path = HERE / 'results' / 'crowds.json'
    results = json.loads(path.read_text()) if path.exists() else dict(runs=[], peers={}, large=[])
    if a.large:
        results['large'] = large()
    else:
        for name in a.sets or SETS:
            results['peers'][name] = peers(*SETS[name]())
            for seed in a.seeds:
                row = run(name, seed, options)
                if seed == 0 and name in KEPT and not options:
                    shutil.copytree(RUNS / f'{name}-0' / 'model', MODELS / name, dirs_exist_ok=True)
                print(row, flush=True)
                key = name, seed, options
                others = [r for r in results['runs'] if (r['set'], r['seed'], r['options']) != key]
                results['runs'] = sorted([*others, row], key=place)
                write(path, json.dumps(results, indent=1) + '\n')
    results['what'] = __doc__.splitlines()[0]
    write(path, json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
