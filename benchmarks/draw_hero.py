"""Draw the picture at the head of the README, from models/trays on photographs that it was not trained on.

    python benchmarks/draw_hero.py          # writes nbs/images/parts.png

Made to be read on a phone: a photograph with a box in the colour of its kind around each part, and a column a kind.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from common import HERE
from matplotlib.patches import Rectangle
from PIL import Image

from protokp.core.detections import load_type_names
from protokp.datasets.trays import write_tray_folder
from protokp.folders.learner import parse_type_names
from protokp.folders.predict import crop_keypoints, predict_images
from protokp.models.protokp import ProtoKP

ROOT = HERE.parent
SEED, N, SHOWN = 99, 24, 2  # of the photographs, and how many are drawn
NAMES = '0=cog,1=-,2=washer,3=nut,4=spring,5=bolt,6=spring,7=spring'
COLOURS = dict(cog='#3f9be0', washer='#38b45d', nut='#ef4a3c', bolt='#ff9b42', spring='#b98af0')


def draw(table, folder):
    "The photographs with most kinds, and crops by kind"
    fig = plt.figure(figsize=(8.4, 5.6), facecolor='w')
    kinds = table.groupby('image').name.nunique().sort_values(ascending=False, kind='stable')
    for i, name in enumerate(kinds.index[:SHOWN]):
        ax = fig.add_axes((0.005 + 0.5 * i, 0.43, 0.49, 0.565))
        ax.imshow(Image.open(folder / name), aspect='auto')
        for row in table[table.image == name].itertuples():
            box = (row.left, row.top), row.right - row.left, row.bottom - row.top
            ax.add_patch(Rectangle(*box, fill=False, lw=3.5, ec=COLOURS[row.name]))
        ax.axis('off')
    best = table.sort_values('score', ascending=False)
    for i, kind in enumerate(COLOURS):
        rows = best[best.name == kind]
        fig.text(
            0.1 + 0.2 * i, 0.36, kind, color=COLOURS[kind], size=24, weight='bold', ha='center', va='center'
        )
        rows = rows.groupby('image', sort=False).head(1).head(4).reset_index(drop=True)
        for j, crop in enumerate(crop_keypoints(rows, folder)):
            ax = fig.add_axes((0.012 + 0.2 * i + 0.09 * (j % 2), 0.165 - 0.16 * (j // 2), 0.086, 0.15))
            ax.imshow(crop)
            ax.axis('off')
    return fig


def main():
    model = ProtoKP.from_pretrained(ROOT / 'models' / 'trays')
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d) / 'trays'
        write_tray_folder(folder, N, seed=SEED)
        types = parse_type_names(load_type_names(model), NAMES)
        table = predict_images(model, folder, names=types, progress=False)
        fig, path = draw(table, folder), ROOT / 'nbs' / 'images' / 'parts.png'
        fig.savefig(path, dpi=110)
        Image.open(path).convert('RGB').quantize(256).save(path, optimize=True)  # a third of the bytes


if __name__ == '__main__':
    main()
