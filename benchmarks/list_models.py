"""List the models of `models/` with their digests, for `ProtoKP.from_pretrained(NAME)`; run it after a model changed

python benchmarks/list_models.py            # writes protokp/weights/models.json
python benchmarks/list_models.py --assets D # and copies what a release with the tag `models-N` holds into folder D
"""

import argparse
import json
import shutil
from hashlib import sha256
from pathlib import Path

from common import HERE, write

from protokp.core.files import MODEL_FILES

MODELS, LIST = HERE.parent / 'models', HERE.parent / 'protokp' / 'weights' / 'models.json'
WHAT = {
    'clevr': 'CLEVR-like scenes, a layer per object',
    'coins': 'coins on a dark ground, windows of a photograph',
    'digits-mnist': 'nine handwritten digits per image, 80×80',
    'digits-mnist-small': 'four handwritten digits per image, 52×52',
    'faces': 'landmarks of rendered faces',
    'figures': 'landmarks of rendered figures of people',
    'nuclei': 'nuclei in fluorescence microscopy, windows of a field',
    'tetrominoes': 'Tetrominoes, a layer per object',
    'trays': 'photographs of bolts, nuts, washers, springs and cogs',
}


def entry(name):
    folder = MODELS / name
    digests = [sha256((folder / file).read_bytes()).hexdigest() for file in MODEL_FILES]
    settings = json.loads((folder / MODEL_FILES[0]).read_text())['model']
    sizes = dict(n_keypoints=settings['n_keypoints'], n_prototypes=settings['n_prototypes'])
    megabytes = round((folder / MODEL_FILES[1]).stat().st_size / 1e6, 1)
    return dict(what=WHAT[name], **sizes, megabytes=megabytes, sha256=dict(zip(MODEL_FILES, digests)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--assets', type=Path, help='folder to copy the files of a release into')
    a = p.parse_args()
    names = sorted(f.parent.name for f in MODELS.glob(f'*/{MODEL_FILES[0]}'))
    write(LIST, json.dumps({name: entry(name) for name in names}, indent=1, ensure_ascii=False) + '\n')
    if a.assets:
        a.assets.mkdir(parents=True, exist_ok=True)
        for name in names:
            for file in MODEL_FILES:
                shutil.copyfile(MODELS / name / file, a.assets / f'{name}-{file}')


if __name__ == '__main__':
    main()
