"""Damage files of every kind that is read, and read them: a result, or one error that names the file; no other exception, no
crash, no gigabyte, no minute. Files with checksums must not give another result.

    python tests/campaigns/readers.py --n 10000
"""

import gzip
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import tifffile
import torch
from campaign import Campaign, main
from PIL import Image

from protokp.core.detections import detections_table, load_type_names
from protokp.datasets.digits import MNISTHard, read_idx
from protokp.datasets.objects import ObjectsDataset, check_objects_file, merge_shards, write_shard
from protokp.datasets.tfrecords import TETROMINOES_SCHEMA, read_records, write_records
from protokp.export.corrections import from_cvat, from_label_studio
from protokp.export.onnx import OnnxDetector, export_onnx
from protokp.export.tables import (
    from_coco,
    from_csv,
    from_parquet,
    to_coco,
    to_csv,
    to_cvat,
    to_label_studio,
    to_parquet,
)
from protokp.folders.images import image_size, open_image
from protokp.models.protokp import ProtoKP
from protokp.training.resume import ResumeCallback

SECONDS, MEGABYTES = 20, 1500  # that reading may take, and memory it may add
WEIRD = (
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float('inf'),
    float('nan'),
    '',
    'x' * 300,
    '../../x',
    '\x00',
    [],
    {},
    [[]],
    '=1',
)


def table():
    rows = [(f'{i}.png', 60, 40, 0, 10, 12, 6, 8, 14, 16, 0.9, i % 2, f'type {i % 2}') for i in range(6)]
    return detections_table(rows, [(f'{i}.png', 60, 40) for i in range(7)])


def write_objects(path):
    draw = np.random.default_rng(0)
    segmentation = np.zeros((12, 16), np.uint8)
    segmentation[:6], segmentation[6:, :8] = 1, 2
    scene = dict(segmentation=segmentation, properties=np.zeros((3, 1), int), depth=np.ones(3))
    scenes = [dict(scene, image=draw.integers(0, 255, (12, 16, 3), dtype=np.uint8)) for _ in range(6)]
    write_shard(path, 0, scenes)
    merge_shards(path, 1, dict(shape=['box']))


def read_objects(path):
    check_objects_file(path)
    return [o[0] for o in ObjectsDataset(path)]


def write_hard(path):
    for mode in ('train', 'test'):
        for name, text in ((f'{mode}.txt', 'a.png\n' * 2), (f'{mode}_labels.txt', '1 2 3 4 5 6 7 8 9\n' * 2)):
            path.with_name(name).write_text(text)
    Image.new('RGB', (80, 80)).save(path.with_name('a.png'))
    np.save(path, np.ones((2, 9, 3)))


def write_state(path):
    callback = dict(
        seconds=1.0, epochs=1, curve=[dict(epoch=1)], about={}, format=2, model=dict(w=torch.rand(500))
    )
    torch.save(callback, path)


def read_state(path):
    run = ResumeCallback(path.parent)
    run.load()
    return run.state['model']['w']


MODEL = dict(n_keypoints=2, n_prototypes=3, kernel_size=5, channels=4, width=4, depth=1)


def write_model(path):
    torch.manual_seed(0)
    ProtoKP(**MODEL).save_pretrained(path.parent)


def read_model(path):
    model = ProtoKP.from_pretrained(path.parent)
    load_type_names(model)
    return torch.cat([v.flatten() for v in model.state_dict().values()])


def write_tetrominoes(path, zipped=True):
    draw = np.random.default_rng(0)
    record = {
        k: draw.random(s).astype('f4') if t == 'f4' else draw.integers(0, 255, s, 'u1')
        for k, (t, s) in TETROMINOES_SCHEMA.items()
    }
    write_records(path, [record] * 3, TETROMINOES_SCHEMA, zipped)


def image(form, mode='RGB'):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)
    return lambda path: Image.fromarray(pixels).convert(mode).save(path, form)


def write_png16(path):
    levels = np.random.default_rng(0).integers(0, 4096, (24, 30, 3)).astype('>u2')
    rows = b''.join(b'\0' + row.tobytes() for row in levels)
    parts = (
        (b'IHDR', struct.pack('>IIBBBBB', 30, 24, 16, 2, 0, 0, 0)),
        (b'IDAT', zlib.compress(rows)),
        (b'IEND', b''),
    )
    chunks = [struct.pack('>I', len(d)) + t + d + struct.pack('>I', zlib.crc32(t + d)) for t, d in parts]
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunks))


def write_tiff16(path):
    levels = np.random.default_rng(0).integers(0, 4096, (24, 30, 3)).astype(np.uint16)
    tifffile.imwrite(path, levels, photometric='rgb')


def read_image(path):
    image_size(path)
    return torch.as_tensor(np.asarray(open_image(path)).copy())


IDX = b'\0\0\x08\x02' + np.array([40, 50], '>u4').tobytes() + bytes(range(250)) * 8
KINDS = dict(  # file: how it is written, how it is read, whether damage must be noticed
    coco=('coco.json', lambda p: to_coco(table(), p), from_coco, False),
    cvat=('cvat.xml', lambda p: to_cvat(table(), p), from_cvat, False),
    label_studio=('studio.json', lambda p: to_label_studio(table(), p), from_label_studio, False),
    csv=('table.csv', lambda p: to_csv(table(), p), from_csv, False),
    parquet=('table.parquet', lambda p: to_parquet(table(), p), from_parquet, False),
    idx=('x-idx', lambda p: p.write_bytes(IDX), read_idx, False),
    idx_gz=('x-idx.gz', lambda p: p.write_bytes(gzip.compress(IDX)), read_idx, True),
    tfrecords=(
        'x.tfrecords',
        lambda p: write_tetrominoes(p, False),
        lambda p: [r['image'] for r in read_records(p)],
        True,
    ),
    tfrecords_gz=('x.tfrecords', write_tetrominoes, lambda p: [r['image'] for r in read_records(p)], True),
    objects=('x.h5', write_objects, read_objects, False),
    mnist_hard=('train_keypoints.npy', write_hard, lambda p: MNISTHard(p.parent).objects, False),
    weights=('model.safetensors', write_model, read_model, True),
    config=('config.json', write_model, read_model, False),
    state=('state.pth', write_state, read_state, True),
    onnx=('x.onnx', lambda p: export_onnx(ProtoKP(**MODEL), p, check=False), OnnxDetector, False),
    png=('x.png', image('PNG'), read_image, False),
    png16=('x.png', write_png16, read_image, False),
    tiff16=('x.tif', write_tiff16, read_image, False),
    jpeg=('x.jpg', image('JPEG'), read_image, False),
    tiff=('x.tif', image('TIFF'), read_image, False),
    gif=('x.gif', image('GIF', 'P'), read_image, False),
    webp=('x.webp', image('WEBP'), read_image, False),
)


def damaged_json(text, draw):
    "A value somewhere in a JSON document exchanged, removed or doubled"
    d = json.loads(text)
    for _ in range(draw.randint(1, 3)):
        at, key, value = None, None, d
        while isinstance(value, (dict, list)) and value and (at is None or draw.random() < 0.8):
            at, key = value, draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
            value = at[key]
        if at is None:
            continue
        if draw.random() < 0.2:
            del at[key]
        elif draw.random() < 0.2 and isinstance(at, list):
            at.append(at[key])
        else:
            at[key] = draw.choice(WEIRD)
    return json.dumps(d).encode()


def damaged(data, draw):
    "Bytes with some flipped, cut out, inserted or repeated"
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        at = draw.randrange(len(data) + 1)
        length = draw.choice([1, 2, 4, 16, 200])
        kind = draw.randrange(6)
        if kind < 2 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            data[at : at + length] = draw.randbytes(len(data[at : at + length]))
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = draw.randbytes(length)
        else:
            del data[at:]
    return bytes(data)


def alike(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return np.array_equal(np.asarray(a), np.asarray(b))


def attack(kind, n, seed):
    "Damage and read one kind of file n times; outcomes, problems"
    name, write, read, checked = KINDS[kind]
    draw, outcomes, problems = random.Random(f'{seed} {kind}'), {}, []
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as d:
        good, path = Path(d) / 'good' / name, Path(d) / 'bad' / name
        good.parent.mkdir()
        write(good)
        content, wanted = good.read_bytes(), read(good) if checked else None
        for i in range(n):
            shutil.rmtree(path.parent, ignore_errors=True)
            shutil.copytree(good.parent, path.parent)
            as_json = name.endswith('.json') and draw.random() < 0.7
            path.write_bytes(damaged_json(content, draw) if as_json else damaged(content, draw))
            begin, memory = time.time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                got = read(path)
                same = not checked or alike(got, wanted)
                outcome = 'read' if same else None
                what = 'read, but another result'
            except (OSError, ValueError) as e:
                picture = read is read_image  # its callers name the file
                outcome = 'one error' if picture or str(path.parent) in str(e) else None
                what = f'an error that does not name the file: {e}'
            except BaseException as e:
                outcome, what = None, f'{type(e).__name__}: {str(e)[:200]}'
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
            if time.time() - begin > SECONDS or grown > MEGABYTES:
                outcome, what = None, f'{time.time() - begin:.1f} s, {grown:.0f} MB'
            if outcome:
                outcomes[f'{kind}: {outcome}'] = outcomes.get(f'{kind}: {outcome}', 0) + 1
            else:
                problems.append(f'{kind} {i}: {what}')
    return outcomes, problems


def run(n=10000, seed=0):
    "Damage files and read them, each kind in a process of its own"
    c, each = Campaign('readers', seed), -(-n // len(KINDS))
    with multiprocessing.get_context('fork').Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        jobs = {kind: pool.apply_async(attack, (kind, each, seed)) for kind in KINDS}
        for kind, job in jobs.items():
            try:
                outcomes, problems = job.get(timeout=1200)
            except Exception as e:  # a crash ends the process and not the job
                outcomes, problems = {}, [f'{kind}: {type(e).__name__}: {e}']
            c.count('tried', each)
            for k, v in outcomes.items():
                c.count(k, v)
            for p in problems:
                c.problem(p)
    return c


if __name__ == '__main__':
    sys.exit(main(run, 10000))
