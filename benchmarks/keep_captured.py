"""Place the types of models trained by train_captured.py, evaluate them on held-out scenes, keep weights and figures.

    python benchmarks/keep_captured.py clevr tetrominoes mnist --data DIR

Reads OUT/NAME and OUT/NAME.json, writes benchmarks/results/NAME.json and models/NAME. Types are clusters on the
neighbour graph of the descriptors of all training scenes (`spectral_prototypes`), or k-means with
`--kmeans`. Keypoints whose scores lie below the first valley of their histogram are no objects, by
`suggest_min_score` on training scenes; no label takes part.
"""

import argparse
import json
from pathlib import Path

import torch
from common import HERE, commit, number, write
from train_captured import RUNS, load_images

import protokp.models.centring  # noqa: F401, adds methods to ProtoKP
from protokp.core.utils import evaluation_mode
from protokp.datasets.objects import ObjectsDataset
from protokp.datasets.tetrominoes import Tetrominoes
from protokp.folders.suggest import suggest_min_score
from protokp.models.protokp import ProtoKP
from protokp.ops.clusters import spectral_prototypes
from protokp.ops.prototypes import kmeans_prototypes
from protokp.recipes.discovery import CLEVR_RECIPE, evaluate_scenes, scene_batches, tetromino_scenes
from protokp.recipes.handwritten import evaluate_handwritten

SIZE = CLEVR_RECIPE['image_size']


def batches(images, n=64):
    return [x.float() / 255 for x in images.split(n)]


def min_score_of(model, images):
    "The cut between objects and spare keypoints, 0 if the histogram has one mode"
    with evaluation_mode(model):
        kps = [model(x, n_reconstruct=0).keypoints for x in batches(images[:1024])]
    scores = torch.cat([kp.score[kp.real] for kp in kps])
    return suggest_min_score(scores).value or 0.0


def figures_of(kind, model, a, min_score):
    "Figures on held-out scenes"
    if kind == 'mnist':
        return evaluate_handwritten(model, 'mnist', a.data / 'mnist')
    if kind == 'tetrominoes':
        scenes = scene_batches(tetromino_scenes(seed=2))
        return {'held-out scenes': evaluate_scenes(model, scenes, Tetrominoes.names, min_score=min_score)}
    names = ObjectsDataset(a.data / 'clevr_like' / 'test6.h5').names
    out = {}
    for label, file, K, most in (
        ('at most 6 objects', 'test6.h5', None, 6),
        ('3 to 10 objects', 'test10.h5', 10, None),
    ):
        ds = ObjectsDataset(a.data / 'clevr_like' / file, size=SIZE, crop='centre', max_objects=most)
        loader = torch.utils.data.DataLoader(ds, batch_size=16)
        out[label] = evaluate_scenes(model, loader, names, K, min_score=min_score)
    return out


def rounded(figures):
    return {k: rounded(v) if isinstance(v, dict) else number(v) for k, v in figures.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='+', choices=list(RUNS))
    p.add_argument('--data', type=Path, required=True)
    p.add_argument('--runs-folder', type=Path, default=HERE / 'runs' / 'captured')
    p.add_argument('--kmeans', action='store_true', help='k-means instead of the manifold')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', type=Path, default=HERE.parent)
    a = p.parse_args()
    for name in a.runs:
        row = json.loads((a.runs_folder / f'{name}.json').read_text())
        model = ProtoKP.from_pretrained(a.runs_folder / name)
        kind = RUNS[name]['data']
        images = load_images(kind, a.data, 3200, 'cpu')
        min_score = min_score_of(model, images)
        place = kmeans_prototypes if a.kmeans else spectral_prototypes
        model.refit_prototypes(batches(images), a.seed, place, min_score)
        figures = rounded(figures_of(kind, model, a, min_score))
        print(name, json.dumps(figures, indent=1), flush=True)
        minutes = round(row['seconds'] / 60, 1)
        row = dict(row, data=f'{kind}, {row["images"]} scenes', minutes=minutes, evaluated=commit(),
                   placed_by='k-means' if a.kmeans else 'manifold', min_score=round(min_score, 3), figures=figures)  # fmt: skip
        write(a.out / 'benchmarks' / 'results' / f'{name}.json', json.dumps(row, indent=1) + '\n')
        card = {
            k: row[k]
            for k in ('data', 'seed', 'commit', 'hardware', 'minutes', 'placed_by', 'min_score', 'figures')
        }
        model.save_pretrained(a.out / 'models' / name, dtype=torch.float16, **card, licence='Apache-2.0')


if __name__ == '__main__':
    main()
