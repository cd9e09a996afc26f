"""Every public function of the operators on whatever `hypothesis` thinks of: shapes, types, extremes. EXAMPLES=460 pytest
tests/test_operators.py tries ten thousand; by default it is a few hundred."""

import os

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings

from protokp.ops.clusters import spectral_clusters, spectral_prototypes
from protokp.ops.keypoints import nms, sample_at, soft_argmax, top_k
from protokp.ops.mixture import assign_prototypes, largest_remainders, mixture_weights, sample_mixture
from protokp.ops.prototypes import kmeans_prototypes, live_prototypes, prototype_loss, random_prototypes
from protokp.ops.render import alpha_blend, splat, splat_each
from protokp.ops.warp import (
    WARP_SIZES,
    WarpSize,
    apply_tps,
    draw_plates,
    fit_tps,
    inside_image,
    random_tps,
    warp,
    warp_pair,
)
from protokp.ops.wasserstein import random_projections, sliced_wasserstein

settings.register_profile(
    'operators',
    max_examples=int(os.environ.get('EXAMPLES', 15)),
    deadline=None,
    derandomize='EXAMPLES' not in os.environ,  # the same in every run of the tests
    suppress_health_check=list(HealthCheck),
)
settings.load_profile('operators')
FEW, SIDE, SEED = st.integers(1, 6), st.integers(1, 17), st.integers(0, 2**31 - 1)
FLOATS = st.sampled_from([torch.float32, torch.float64])
ODD = st.integers(0, 5).map(lambda n: 2 * n + 1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def rand(seed, *shape, dtype=torch.float32):
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype)


def units(seed, n, C, dtype=torch.float32):
    "Unit vectors, some of them alike or opposite"
    x = F.normalize(torch.randn(n, C, generator=seeded(seed), dtype=dtype), dim=1)
    same = rand(seed + 1, n) < 0.2
    return torch.where(same[:, None], x[:1] * (1 - 2 * (rand(seed + 2, n, 1) < 0.5).to(dtype)), x)


@given(FEW, SIDE, SIDE, ODD, SEED, FLOATS, st.booleans())
def test_nms(B, H, W, b, seed, dtype, plateaus):
    score = rand(seed, B, 1, H, W, dtype=dtype)
    score = (4 * score).round() / 4 if plateaus else score
    if b // 2 >= max(H, W):
        with pytest.raises(ValueError, match='kernel_size'):
            nms(score, b)
        return
    kept = nms(score, b)
    r = b // 2
    for i, y, x in (kept > 0).squeeze(1).nonzero().tolist():
        window = score[i, 0, max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1]
        assert score[i, 0, y, x] == window.max()
    assert ((kept == 0) | (kept == score)).all() and kept.shape == score.shape
    assert (kept.flatten(1).amax(1) == score.flatten(1).amax(1)).all()


@given(FEW, SIDE, SIDE, st.integers(0, 30), SEED, FLOATS)
def test_top_k(B, H, W, k, seed, dtype):
    score = rand(seed, B, 1, H, W, dtype=dtype)
    if not 1 <= k <= H * W:
        with pytest.raises(ValueError, match='keypoints'):
            top_k(score, k)
        return
    xy = top_k(score, k)
    value = score.flatten(1).gather(1, xy[..., 1] * W + xy[..., 0])
    assert xy.shape == (B, k, 2) and xy.dtype == torch.int64
    assert value.equal(score.flatten(1).sort(1, descending=True).values[:, :k])


@given(FEW, SIDE, SIDE, ODD, FEW, SEED, FLOATS, st.floats(1e-3, 1e3))
def test_soft_argmax(B, H, W, b, K, seed, dtype, tau):
    if b // 2 >= max(H, W) or K > H * W:
        return
    score = rand(seed, B, 1, H, W, dtype=dtype).requires_grad_()
    peaks = top_k(score, K)
    xy = soft_argmax(score, peaks, b, tau)
    assert xy.isfinite().all() and ((xy - peaks).abs() <= b // 2 + 1e-3).all()
    assert (xy >= -1e-3).all() and (xy <= torch.tensor([W, H]) - 1 + 1e-3).all()
    xy.sum().backward()
    assert score.grad.isfinite().all()


@given(FEW, FEW, SIDE, SIDE, FEW, SEED, FLOATS)
def test_sample_at(B, C, H, W, K, seed, dtype):
    fmap = rand(seed, B, C, H, W, dtype=dtype)
    xy = (rand(seed + 1, B, K, 2, dtype=dtype) * 3 - 1) * torch.tensor([W, H])  # beyond the border as well
    got = sample_at(fmap, xy)
    assert got.shape == (B, K, C)
    assert (got <= fmap.flatten(2).amax(2)[:, None] + 1e-5).all() and (
        got >= fmap.flatten(2).amin(2)[:, None] - 1e-5
    ).all()
    whole = xy.round().clamp(min=0).minimum(torch.tensor([W - 1, H - 1], dtype=dtype))
    x, y = whole.long().unbind(-1)
    exact = fmap.flatten(2).gather(2, (y * W + x)[:, None].expand(-1, C, -1)).mT
    assert torch.allclose(sample_at(fmap, whole), exact, atol=1e-6)


@given(FEW, FEW, FEW, SIDE, SIDE, SEED, FLOATS, st.floats(1e-4, 1e3))
def test_splat(B, K, C, H, W, seed, dtype, var):
    xy = (rand(seed, B, K, 2, dtype=dtype) * 2 - 0.5) * torch.tensor([W, H])
    features = rand(seed + 1, B, K, C, dtype=dtype)
    each, total = splat_each(xy, features, (H, W), var), splat(xy, features, (H, W), var)
    assert each.shape == (B, K, C, H, W) and total.shape == (B, C, H, W)
    assert torch.allclose(each.sum(1), total, atol=1e-4)
    assert torch.allclose(each.sum((-1, -2)), features, atol=1e-4)  # the mass of each


@given(FEW, FEW, SIDE, SIDE, SEED, FLOATS, st.floats(0, 100), st.booleans())
def test_alpha_blend(B, K, H, W, seed, dtype, strength, background):
    layers = strength * (2 * rand(seed, B, K, 4, H, W, dtype=dtype) - 1)
    ground = rand(seed + 1, 4, H, W, dtype=dtype) if background else None
    image, alpha = alpha_blend(layers, ground)
    assert image.shape == (B, 3, H, W) and alpha.shape == (B, K, H, W)
    assert ((image >= 0) & (image <= 1 + 1e-5)).all() and (alpha >= 0).all()
    assert (
        (alpha.sum(1) <= 1 + 1e-5).all()
        if background
        else torch.allclose(alpha.sum(1), torch.ones_like(alpha[:, 0]))
    )


@given(FEW, st.integers(4, 12), SEED, FLOATS)
def test_tps(B, P, seed, dtype):
    control = rand(seed, B, P, 2, dtype=dtype)
    target = rand(seed + 1, B, P, 2, dtype=dtype)
    try:
        coef = fit_tps(control, target)
    except ValueError as e:
        assert 'on one line' in str(e)
        return
    near = torch.cdist(control, control) + 9 * torch.eye(P, dtype=dtype)
    if near.min() > 0.02:
        assert torch.allclose(
            apply_tps(control, control, coef), target, atol=0.05 if dtype == torch.float32 else 1e-6
        )


@given(FEW, FEW, SIDE, SIDE, SEED, st.sampled_from(sorted(WARP_SIZES)))
def test_warps(B, C, H, W, seed, size):
    x = rand(seed, B, C, H, W)
    control, coef = random_tps(B, WARP_SIZES[size], torch.ones(2), seeded(seed))
    assert control.shape == (B, 16, 2) and coef.isfinite().all()
    pair = warp_pair(x, WARP_SIZES['first'], WARP_SIZES[size], generator=seeded(seed))
    plates = draw_plates(B, (H, W), WARP_SIZES['first'], WARP_SIZES[size], x.device, seeded(seed))
    again = warp_pair(x, WARP_SIZES['first'], WARP_SIZES[size], plates=plates)
    for a, b in zip(pair, again):
        assert a.equal(b)
    for view in (pair.first, pair.second):
        assert view.shape == x.shape and view.isfinite().all() and (view <= x.amax() + 1e-5).all()
    assert pair.inside.equal(inside_image(pair.grid, (H, W)))
    still = WarpSize(1.0, 0.0, 0.0, 0.0, 0.0)
    assert torch.allclose(warp_pair(x, still, still).second, x, atol=1e-2)
    assert warp(x, pair.grid).shape == x.shape


@given(st.integers(1, 60), st.integers(1, 12), st.integers(2, 9), SEED, FLOATS)
def test_assignment(N, M, C, seed, dtype):
    descriptors, prototypes = units(seed, N, C, dtype), units(seed + 7, M, C, dtype)
    owner = assign_prototypes(descriptors, prototypes)
    distance = torch.cdist(descriptors, prototypes)
    assert (distance.gather(1, owner[:, None])[:, 0] <= distance.amin(1) + 1e-3).all()
    for about in ('mean', 'prototype'):
        weights = mixture_weights(descriptors, prototypes, about=about)
        assert (weights >= 0).all() and torch.allclose(weights.sum(), torch.ones((), dtype=dtype))
    assert 0 <= live_prototypes(descriptors, prototypes) <= min(N, M)


@given(
    st.integers(1, 200),
    st.integers(0, 10**9),
    SEED,
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_largest_remainders(M, n, seed, dtype):
    weights = rand(seed, M).square()
    weights = (weights / weights.sum()).to(dtype)
    if weights.sum() == 0:
        return
    count = largest_remainders(weights, n)
    assert count.sum() == n and (count >= 0).all()
    share = weights.double() / weights.double().sum() * n
    assert ((count - share).abs() <= 1 + 1e-6 * n).all()


@given(
    st.integers(1, 80),
    st.integers(1, 12),
    st.integers(2, 9),
    SEED,
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_prototype_loss(N, M, C, seed, dtype):
    descriptors, prototypes = units(seed, N, C).to(dtype), units(seed + 7, M, C).to(dtype).requires_grad_()
    loss = prototype_loss(prototypes, descriptors, n_projections=9, generator=seeded(seed))
    loss.backward()
    assert loss.isfinite() and loss >= 0 and prototypes.grad.isfinite().all()
    samples = sample_mixture(prototypes.detach(), mixture_weights(descriptors, prototypes.detach()), N)
    assert samples.shape == (N, C)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(2, 9), SEED)
def test_placing(N, M, C, seed):
    descriptors = units(seed, N, C)
    assert torch.allclose(random_prototypes(M, C, seeded(seed)).norm(dim=1), torch.ones(M))
    if N < M:
        with pytest.raises(ValueError, match='descriptors for'):
            kmeans_prototypes(descriptors, M)
        return
    with pytest.warns() if len(descriptors.unique(dim=0)) < M else torch.no_grad():  # scikit-learn warns
        placed = kmeans_prototypes(descriptors, M)
    assert placed.shape == (M, C) and torch.allclose(placed.norm(dim=1), torch.ones(M), atol=1e-5)


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 20), SEED, FLOATS)
def test_wasserstein(N, C, L, seed, dtype):
    x, y = rand(seed, N, C, dtype=dtype).requires_grad_(), rand(seed + 1, N, C, dtype=dtype)
    lines = random_projections(C, L, like=x, generator=seeded(seed))
    assert torch.allclose(lines.norm(dim=0), torch.ones(L, dtype=dtype))
    there, back = sliced_wasserstein(x, y, projections=lines), sliced_wasserstein(y, x, projections=lines)
    assert torch.allclose(there, back) and there >= 0
    mixed = x[torch.randperm(N, generator=seeded(seed))]
    assert sliced_wasserstein(x, mixed, projections=lines) < 1e-9
    there.backward()
    assert x.grad.isfinite().all()


@given(st.integers(1, 60), FEW, st.integers(1, 8), st.integers(1, 14), SEED, FLOATS)
def test_spectral_clusters(N, C, n, k, seed, dtype):
    x = units(seed, N, C, dtype)
    if N < max(2 * n, k + 1):
        with pytest.raises(ValueError, match='over more images'):
            spectral_clusters(x, n, n_neighbors=k)
        return
    found = spectral_clusters(x, n, n_neighbors=k)
    assert found.labels.shape == (N,) and found.labels.min() >= 0 and found.labels.max() < n
    assert (found.sure > 0).all() and (found.sure <= 1 + 1e-6).all()
    assert -1e-9 <= found.cut <= 1 and -1e-9 <= found.evenness <= 1 + 1e-9
    if N > 12:
        P = spectral_prototypes(x, n)
        assert P.shape == (n, C) and P.dtype == dtype
        assert torch.allclose(P.norm(dim=1), torch.ones(n, dtype=dtype), atol=1e-4)
