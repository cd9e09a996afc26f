"""How far off `suggest_kernel_size`, `suggest_n_keypoints` and `suggest_min_score` are, on scenes with ground truth.

python benchmarks/suggestions.py     # half a minute; writes benchmarks/results/suggestions.json
"""

import json

import torch
from common import HERE, commit, hardware, number, write

from protokp.datasets.faces import Faces
from protokp.datasets.objects import ObjectsDataset, small_clevr
from protokp.datasets.scenes import Scenes, sklearn_digits
from protokp.datasets.tetrominoes import Tetrominoes
from protokp.folders.predict import predict_images
from protokp.folders.suggest import suggest_kernel_size, suggest_min_score, suggest_n_keypoints
from protokp.models.protokp import ProtoKP
from protokp.recipes.digits import demo_model

N = 64  # images of each kind


def object_sizes(truth):
    "Longer sides of all objects, and their number per image"
    objects = getattr(truth, 'objects', truth)
    there = objects[..., 4] >= 0
    return objects[..., 2:4].amax(-1)[there].median().item(), there.sum(1)


def clevr():
    data = ObjectsDataset(small_clevr(), size=64)
    images, truths = zip(*(data[i] for i in range(N)))
    return torch.stack([i.as_subclass(torch.Tensor) for i in images]), *object_sizes(
        torch.stack([t.objects for t in truths])
    )


def scenes(recipe):
    images, truth = recipe(torch.arange(N))
    return images, *object_sizes(truth)


def faces(recipe, side):
    images, truth = recipe(torch.arange(N))
    return images, side, (~truth.points[..., 0].isnan()).any(-1).sum(1)


def off(counts, n):
    return number((torch.as_tensor(counts) - n).abs().float().mean(), 2)


def from_pictures(name, images, side, n, kernel_size=None):
    window = suggest_kernel_size(images)
    b = kernel_size or window.value
    K = suggest_n_keypoints(images, b) if b else None
    return dict(
        pictures=name,
        side=side,
        window=window.value,
        by_eye=kernel_size,
        most=int(n.max()),
        K=K and K.value,
        off=K and off(K.counts, n),
    )


def after_a_run(name, model, images, n, K):
    table = predict_images(model, images, n_keypoints=K, size='own', progress=False)
    found = suggest_n_keypoints(table)
    return dict(
        pictures=name,
        asked=K,
        cut=number(suggest_min_score(table).value, 2),
        K=found.value,
        most=int(n.max()),
        off=off(found.counts, n),
    )


def digits(n, size):
    return scenes(Scenes(sklearn_digits(12, False), n, size, 9, seed=4))


def main():
    tetrominoes, solid = scenes(Tetrominoes(size=(28, 28), cell=4)), clevr()
    pictures = [
        from_pictures('`Tetrominoes(size=(28,28), cell=4)`', *tetrominoes),
        from_pictures(
            'one to five faces, `Faces(size=(96,96), n_faces=(1,5), height=(28,36))`',
            *faces(Faces(size=(96, 96), n_faces=(1, 5), height=(28, 36)), 32),
        ),
        from_pictures('`small_clevr()` at 64×64, objects of several sizes', *solid),
        from_pictures('the same, window by eye', *solid, kernel_size=7),
        from_pictures('one face, `Faces()` on 48×48', *faces(Faces(), 40)),
    ]
    demo, few = demo_model(), [digits(k, (40, 40)) for k in (1, 3, 6)]
    mixed, n = torch.cat([x for x, _, _ in few]), torch.cat([n for _, _, n in few])
    four, _, n4 = digits(4, (28, 28))
    runs = [
        after_a_run('the digits demo; 1, 3 or 6 digits on 40×40', demo, mixed, n, 8),
        after_a_run('the same; 4 digits on 28×28', demo, four, n4, 8),
        after_a_run('the same; K as many as there are', demo, four, n4, 4),
        after_a_run(
            'Tetrominoes; 3 pieces on 28×28',
            ProtoKP.from_pretrained(HERE.parent / 'models' / 'tetrominoes'),
            tetrominoes[0],
            tetrominoes[2],
            6,
        ),
        after_a_run(
            'CLEVR-like, a barely trained model; 3 to 10 objects',
            ProtoKP.from_pretrained(HERE.parent / 'models' / 'clevr'),
            solid[0],
            solid[2],
            14,
        ),
    ]
    write(
        HERE / 'results' / 'suggestions.json',
        json.dumps(
            dict(
                what=__doc__.splitlines()[0],
                commit=commit(),
                hardware=hardware(),
                images=N,
                pictures=pictures,
                runs=runs,
            ),
            indent=1,
            ensure_ascii=False,
        )
        + '\n',
    )
    for r in (*pictures, *runs):
        print(r)


if __name__ == '__main__':
    main()
