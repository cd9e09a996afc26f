"""One real photograph: learn from windows of it, find what is on the whole of it.

    python benchmarks/train_coins.py     # ten minutes on a core; weights in models/coins, figures in benchmarks/results/coins.json

`nbs/images/coins.png` is scikit-image's `data.coins()`: Greek coins from Pompeii, Brooklyn Museum, no known copyright restrictions.
It has no annotated boxes, so only the count is evaluated: it shows `COINS` coins.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

import torch
from common import HERE, commit, hardware, write
from PIL import Image

from protokp.cli.folders import protokp_train
from protokp.folders.predict import predict_images
from protokp.models.protokp import ProtoKP

PHOTOGRAPH, MODEL = HERE.parent / 'nbs' / 'images' / 'coins.png', HERE.parent / 'models' / 'coins'
WINDOWS, WINDOW, COINS, ASKED = 160, (120, 160), 24, 40


def windows(folder, seed=0):
    "Pieces of the photograph, anywhere"
    image, draw = Image.open(PHOTOGRAPH), random.Random(seed)
    folder.mkdir()
    for i in range(WINDOWS):
        x, y = (draw.randint(0, whole - part) for whole, part in zip(image.size, WINDOW[::-1]))
        image.crop((x, y, x + WINDOW[1], y + WINDOW[0])).save(folder / f'{i:03d}.png')


def whole_size(model):
    "The photograph's size at the scale that was learned"
    W, H = Image.open(PHOTOGRAPH).size
    return tuple(
        round(whole * small / part / 4) * 4 for whole, small, part in zip((H, W), model.card['size'], WINDOW)
    )


def main():
    code = commit()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        windows(d / 'windows')
        protokp_train(d / 'windows', d / 'out', n_prototypes=6, device='cpu')
        log = [json.loads(o) for o in (d / 'out' / 'log.jsonl').read_text().splitlines()]
        shutil.copytree(d / 'out' / 'model', MODEL, dirs_exist_ok=True)
    model = ProtoKP.from_pretrained(MODEL)
    table = predict_images(model, [PHOTOGRAPH], size=whole_size(model), n_keypoints=ASKED, progress=False)
    scores = sorted(table.score, reverse=True)
    write(
        HERE / 'results' / 'coins.json',
        json.dumps(
            dict(
                what=__doc__.splitlines()[0],
                seed=0,
                windows=WINDOWS,
                window=WINDOW,
                size=model.card['size'],
                whole=whole_size(model),
                kernel_size=model.kernel_size,
                n_keypoints=model.n_keypoints,
                minutes=model.card['minutes'],
                threads=torch.get_num_threads(),
                commit=code,
                hardware=hardware(),
                torch=torch.__version__,
                coins=COINS,
                found=len(table),
                lowest_coin=round(scores[COINS - 1], 3),
                highest_other=round(scores[COINS], 3) if len(scores) > COINS else None,
                curve=log,
            ),
            indent=1,
        )
        + '\n',
    )
    print(table[['x', 'y', 'score', 'type']].round(2).to_string())


if __name__ == '__main__':
    main()
