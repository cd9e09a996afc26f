"""Types that are kinds, on the demo's digits: what self-labelling gains, round by round, and what it owes to which part.

    python benchmarks/refine_digits.py                      # everything that is missing from the results, 3 minutes a run
    python benchmarks/refine_digits.py recipe --seeds 0     # some of it

Each run trains places and descriptors without a cluster loss (`fit_flat_cos(11)`), then types (`refine_types(24)`). Rows are added run by
run to benchmarks/results/refine_digits.json: accuracy on held-out digits after each epoch, what the labels of the first round are worth
beside k-means on the same descriptors, and the number of kinds that `suggest_n_prototypes` sees in them.
"""

import argparse
import json
import time
from unittest.mock import patch

import torch
from common import HERE, commit, hardware, number, write
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from sklearn.cluster import KMeans

import protokp.training.refine as refine
from protokp.metrics.keypoints import match_keypoints, one_to_one
from protokp.ops.clusters import SpectralClusters, spectral_clusters, suggest_n_prototypes
from protokp.recipes.digits import digit_scenes, digits_learner, evaluate_digits, find_keypoints

RESULTS = HERE / 'results' / 'refine_digits.json'
BASE, EPOCHS, LR, SCENES = 11, 24, 3e-3, 1600
PLAIN = dict(w_cluster=0.0)

# name -> (options of the learner, of `refine_types`, seeds); `kmeans` is this script's
RUNS = {
    'recipe': (PLAIN, {}, (0, 1, 2)),
    'labels by k-means': (PLAIN, dict(kmeans=True), (0,)),
    'a round each epoch': (PLAIN, dict(every=1), (0,)),
    'weight 0.03': (PLAIN, dict(weight=0.03), (0,)),
    'weight 0.5': (PLAIN, dict(weight=0.5), (0,)),
    'sixteen types': (dict(PLAIN, n_prototypes=16), {}, (0,)),
}


def kmeans_clusters(descriptors, n, seed=0):
    "k-means in the place of `spectral_clusters`; all labels are sure"
    labels = torch.as_tensor(KMeans(n, n_init=10, random_state=seed).fit_predict(descriptors.numpy())).long()
    return SpectralClusters(labels, torch.ones(len(labels)), float('nan'), float('nan'))


def descriptors_of(model, n=SCENES):
    "Descriptors of training scenes, and the digits they belong to, -1 for none"
    images, objects = digit_scenes(seed=5)(torch.arange(n))
    kp = find_keypoints(model, images)
    owner = match_keypoints(kp.centre, kp.real, objects)
    digit = torch.full(kp.score.shape, -1)
    image, k = (owner >= 0).nonzero(as_tuple=True)
    digit[image, owner[image, k]] = objects[image, k, 4].long()
    return kp.descriptor[kp.real], digit[kp.real]


def accuracy(labels, digits):
    "One-to-one"
    known = digits >= 0
    table = torch.zeros(10, 10, dtype=torch.long)
    table.index_put_((labels[known], digits[known]), torch.tensor(1), accumulate=True)
    return number(one_to_one(table))


def first_labels(model):
    "What clusters of the untouched descriptors are worth"
    descriptors, digits = descriptors_of(model)
    out = {}
    for name, cluster in dict(kmeans=kmeans_clusters, spectral=spectral_clusters).items():
        begin = time.time()
        out[name] = accuracy(cluster(descriptors, 10).labels, digits)
        out[f'{name}_seconds'] = number(time.time() - begin, 1)
    suggested = suggest_n_prototypes(descriptors, range(4, 17))
    agreement = {n: number(v, 3) for n, v in suggested.agreement.items()}
    return dict(out, n=len(descriptors), kinds=suggested.value, agreement=agreement)


class Curve(Callback):
    "Evaluate after each epoch"

    order = 60

    def before_fit(self):
        self.rows, self.spent, self.begin = [], 0.0, time.time()

    def after_epoch(self):
        now = time.time()
        f = evaluate_digits(self.model)
        row = {k: number(f[k]) for k in ('one_to_one', 'many_to_one', 'localised')}
        self.rows.append(dict(epoch=self.epoch + 1, seconds=number(now - self.begin - self.spent, 1), **row))
        self.spent += time.time() - now


def run(name, seed):
    options, how, _ = RUNS[name]
    how = dict(how)
    cluster = kmeans_clusters if how.pop('kmeans', False) else spectral_clusters
    set_seed(seed)
    begin, code = time.time(), commit()
    learn = digits_learner(n_valid=64, **options).to_bf16()
    learn.metrics, curve = [], Curve()
    with learn.no_bar(), learn.no_logging(), patch.object(refine, 'spectral_clusters', cluster):
        learn.fit_flat_cos(BASE, LR)
        base_minutes = (time.time() - begin) / 60
        before, labels = evaluate_digits(learn.model.eval()), first_labels(learn.model)
        rounds = learn.refine_types(EPOCHS, seed=seed, cbs=[curve], **how).rounds
    learn.to_fp32()
    figures = evaluate_digits(learn.model.eval())
    return dict(
        name=name,
        options=options,
        refine=RUNS[name][1],
        seed=seed,
        minutes=number(base_minutes + curve.rows[-1]['seconds'] / 60, 1),
        base_minutes=number(base_minutes, 1),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        commit=code,
        hardware=hardware(),
        labels=labels,
        before={k: number(v) for k, v in before.items()},
        figures={k: number(v) for k, v in figures.items()},
        rounds=[{k: number(v) for k, v in r.items()} for r in rounds],
        curve=curve.rows,
    )


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='runs to make; all if left out')
    p.add_argument('--seeds', type=int, nargs='*', help='only these')
    a = p.parse_args()
    if unknown := set(a.names) - RUNS.keys():
        p.error(f'unknown {sorted(unknown)}, wanted any of {sorted(RUNS)}')
    for name in a.names or RUNS:
        for seed in RUNS[name][2]:
            if (a.seeds and seed not in a.seeds) or any(
                (r['name'], r['seed']) == (name, seed) for r in read()
            ):
                continue
            row = run(name, seed)
            write(RESULTS, '[\n' + ',\n'.join(json.dumps(o) for o in [*read(), row]) + '\n]\n')
            print(name, seed, row['figures'], f"{row['minutes']} min", flush=True)


if __name__ == '__main__':
    main()
