"""No float64 on the model's device: Apple's GPUs have none. The CPU plays the device, and what `Tensor.cpu` returns is marked
as having left it."""

import pytest
import torch
from fastai.torch_core import set_seed
from torch.overrides import TorchFunctionMode

from protokp.datasets.tetrominoes import Tetrominoes
from protokp.models.protokp import ProtoKP
from protokp.recipes.digits import digits_learner, evaluate_digits
from protokp.recipes.discovery import evaluate_scenes


class OnHost(torch.Tensor):
    "A tensor that has left the device; so is whatever comes of it"


class NoFloat64(TorchFunctionMode):
    "Raise where an operation on the device returns float64"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu:
            return out.as_subclass(OnHost)
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if tensors and not any(isinstance(a, OnHost) for a in tensors):
            for o in out if isinstance(out, (tuple, list)) else [out]:
                assert not (isinstance(o, torch.Tensor) and o.dtype == torch.float64), f'{func}: float64'
        return out


def test_the_mode_notices():
    x = torch.ones(3)
    with NoFloat64():
        assert x.cpu().double().sum().item() == 3
        with pytest.raises(AssertionError, match='float64'):
            x.double()
        with pytest.raises(AssertionError, match='float64'):
            x.to(torch.float64)


def test_training_and_evaluation():
    set_seed(0)
    learn = digits_learner(n_train=128)
    learn.prototype.start = 2
    with NoFloat64(), learn.no_logging(), learn.no_bar():
        learn.fit(1, 1e-3)
        figures = evaluate_digits(learn.model, 8)
    assert learn.opt.placed == 2 and 'coverage' in figures


@pytest.mark.parametrize('background', [None, 'image'])
def test_objects(background):
    set_seed(0)
    model = ProtoKP(4, 6, 7, width=8, layered=True, background=background)
    recipe = Tetrominoes(size=(28, 28), cell=4)
    images, truth = recipe(torch.arange(4))
    with NoFloat64():
        model.centre_types([images])
        figures = evaluate_scenes(model, [(images, truth)], recipe.names, progress=False)
    assert 'ari' in figures
