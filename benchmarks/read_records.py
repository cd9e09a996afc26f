"""Time to read a CLEVR-sized record, here and with the general reader `tfrecord`, both in one run on the same files.

    pip install tfrecord                      # what is compared with; it brings crc32c along
    pip install zlib-ng                       # if the quick inflater is to be measured too
    python benchmarks/read_records.py         # writes benchmarks/results/read_records.json

Both readers end with the same arrays, which is checked. `tfrecord` leaves the checksums alone; here they are always checked.
"""

import json
import statistics
import sys
import tempfile
import time
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from common import commit, hardware
from tfrecord import tfrecord_loader

from protokp.datasets import tfrecords
from protokp.datasets.tfrecords import CLEVR_SCHEMA, read_records, write_records

RESULTS = Path(__file__).parent / 'results' / 'read_records.json'
RECORDS, ROUNDS = 6, 7


def scene(seed):
    "A record of CLEVR's shapes; the image is shaded and noisy, so that it compresses about as badly as a rendered one"
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:240, :320]
    image = (120 + 40 * np.sin(x / 60) + 30 * np.cos(y / 50))[..., None] + rng.normal(0, 2, (240, 320, 3))
    masks = np.zeros((11, 240, 320), bool)
    for k in range(1, 7):
        disc = (x - rng.integers(40, 280)) ** 2 + (y - rng.integers(40, 200)) ** 2 < rng.integers(15, 40) ** 2
        masks[:, disc], masks[k, disc] = False, True
        image[disc] = rng.integers(0, 255, 3) + rng.normal(0, 4, (disc.sum(), 3))
    masks[0] = ~masks[1:].any(0)
    out = {
        k: rng.integers(0, 4, s).astype('u1') if t == 'u1' else rng.normal(size=s).astype('f4')
        for k, (t, s) in CLEVR_SCHEMA.items()
    }
    return dict(out, image=image.clip(0, 255).astype('u1'), mask=masks[..., None] * np.uint8(255))


def ours(path, zipped):
    return list(read_records(path, CLEVR_SCHEMA))


def theirs(path, zipped):
    arrays = lambda r: {
        k: (v.view('u1') if v.dtype.kind == 'S' else v).reshape(CLEVR_SCHEMA[k][1]) for k, v in r.items()
    }
    return [arrays(r) for r in tfrecord_loader(str(path), None, compression_type='gzip' if zipped else None)]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x[k], y[k]) for x, y in zip(a, b) for k in CLEVR_SCHEMA)


def clock(read, path, zipped):
    "Milliseconds a record"
    begin = time.perf_counter()
    n = len(read(path, zipped))
    return 1e3 * (time.perf_counter() - begin) / n


def measure(path, zipped, variants):
    "Medians over rounds in which the readers take turns"
    rows = {name: [] for name in ['tfrecord', *variants]}
    for _ in range(ROUNDS):
        rows['tfrecord'].append(clock(theirs, path, zipped))
        for name, (crc, inflater) in variants.items():
            tfrecords._quick_crc32c, tfrecords.zlib = crc, inflater
            rows[name].append(clock(ours, path, zipped))
    ms = {name: statistics.median(v) for name, v in rows.items()}
    return {name: dict(ms=round(v, 2), times_faster=round(ms['tfrecord'] / v, 1)) for name, v in ms.items()}


def main():
    quick, inflater = tfrecords._quick_crc32c, tfrecords.zlib
    variants = {'NumPy alone': (None, zlib), 'with crc32c': (quick, zlib)}
    if inflater is not zlib:
        variants['with crc32c and zlib-ng'] = quick, inflater
    with tempfile.TemporaryDirectory() as d:
        result = dict(
            hardware=hardware(),
            commit=commit(),
            python=sys.version.split()[0],
            versions={
                p: version(p)
                for p in ('numpy', 'tfrecord', 'protobuf', 'crc32c', *['zlib-ng'] * (inflater is not zlib))
            },
            records=RECORDS,
            rounds=ROUNDS,
            what='milliseconds a CLEVR-sized record of 3.2 MB, medians, files in the page cache; tfrecord checks no checksums',
        )
        for zipped in (True, False):
            path = write_records(Path(d) / f'clevr{zipped}', map(scene, range(RECORDS)), CLEVR_SCHEMA, zipped)
            assert same(ours(path, zipped), theirs(path, zipped))
            result['gzipped' if zipped else 'not zipped'] = dict(
                kB_a_record=round(path.stat().st_size / RECORDS / 1e3), **measure(path, zipped, variants)
            )
    part = RESULTS.with_suffix('.part')
    part.write_text(json.dumps(result, indent=1) + '\n')
    part.replace(RESULTS)
    print(RESULTS.read_text())


if __name__ == '__main__':
    main()
