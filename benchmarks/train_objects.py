"""Object discovery from images alone: train, judge on held-out scenes, write figures, curve and weights.

    python benchmarks/train_objects.py tetrominoes                       # half an hour on two cores: 35x35, small networks
    python benchmarks/train_objects.py clevr --train a.h5 --valid b.h5 --more c.h5     # sets made by `protokp_render` or `protokp_convert`
    python benchmarks/train_objects.py tetrominoes --full --device cuda --minutes 500  # Table 10's settings at 112x112
    python benchmarks/train_objects.py tetrominoes --judge               # only judge the weights in models/
    python benchmarks/train_objects.py tetrominoes --judge --write       # centre and judge them with the library as it is, and keep that

A run writes its state after every epoch to benchmarks/runs/NAME-SEED (never half), stops by itself before `--minutes` are over,
and goes on from there when called again; a finished run leaves benchmarks/results/NAME.json and models/NAME.
`--stop-after` ends one call early without changing the plan, which is how a long run is cut into pieces.
"""
import argparse, json, os, platform, subprocess, sys, time
from pathlib import Path

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import SkipToEpoch
from fastai.torch_core import set_seed
from protokp.discovery import CLEVR_RECIPE, SIDE, TETROMINOES_RECIPE, clevr_learner, judge_scenes, scene_batches, tetromino_scenes, tetrominoes_learner
from protokp.learner import PRESETS
from protokp.model import ProtoKP
from protokp.objects import ObjectsDataset
from protokp.tetrominoes import Tetrominoes

HERE = Path(__file__).parent
EPOCHS = dict(tetrominoes=50, clevr=6)  # of the run on two cores
CENTRED = 32                             # batches of training images that types are centred on again
FULL_EPOCHS = 400                        # of Table 10's settings: about the paper's number of iterations at its batch sizes


def hardware():
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f'{os.cpu_count()} CPU cores, {platform.machine()}'


def commit():
    def git(*a): return subprocess.run(['git', *a], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return git('rev-parse', '--short', 'HEAD') + '+' * bool(git('status', '--porcelain', '../protokp'))


def write(path, text):
    "All of it or nothing"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part'); part.write_text(text); part.replace(path)


class State(Callback):
    "Writes everything a run needs to go on, after each epoch, and ends the call when time is up"
    order = 90

    def __init__(self, folder, seconds, stop_after):
        self.folder, self.limit, self.stop_after = folder, seconds, stop_after
        self.before, self.done, self.curve = 0., 0, []
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def file(self): return self.folder/'state.pth'

    @property
    def spent(self): return self.before + time.time() - self.begin

    def resume(self, learn):
        "Epochs done before"
        if not self.file.exists(): return 0
        s = torch.load(self.file, map_location=next(learn.model.parameters()).device, weights_only=True)
        learn.model.load_state_dict(s['model']); learn.create_opt(); learn.opt.load_state_dict(s['opt'])
        self.before, self.done, self.curve = s['seconds'], s['epochs'], s['curve']
        for f in learn.dls.train.after_batch.fs:
            if hasattr(f, 'drawn'): f.drawn = s['drawn']
        torch.set_rng_state(s['rng'].cpu())
        return s['epochs']

    def before_fit(self): self.begin = self.started = time.time()

    def before_train(self): self.epoch_began = time.time()

    def after_epoch(self):
        if self.epoch < self.done: return  # skipped
        names = self.recorder.metric_names[1:-1]
        row = dict(epoch=self.epoch + 1, iteration=self.learn.opt.iteration, seconds=round(self.spent),
                   **{n: round(float(v), 4) if v == v else None for n, v in zip(names, self.recorder.log[1:])})
        self.curve.append(row)
        with open(self.folder/'log.jsonl', 'a') as f: f.write(json.dumps(row) + '\n')
        drawn = max([getattr(f, 'drawn', 0) for f in self.dls.train.after_batch.fs], default=0)
        part = self.file.with_suffix('.part')
        torch.save(dict(model=self.model.state_dict(), opt=self.learn.opt.state_dict(), epochs=self.epoch + 1, seconds=self.spent,
                        curve=self.curve, drawn=drawn, rng=torch.get_rng_state()), part)
        part.replace(self.file)
        epoch, now = time.time() - self.epoch_began, time.time()
        if self.spent + 1.2*epoch > self.limit or now - self.started + 1.2*epoch > self.stop_after: raise CancelFitException


def learner(a):
    "The run's learner, its options and the sets it is judged on"
    given = dict(preset='clevr6' if a.data == 'clevr' else a.data) if a.full else {}
    if a.data == 'tetrominoes':
        options = PRESETS['tetrominoes'] if a.full else TETROMINOES_RECIPE
        side = options['image_size'] if a.full else SIDE
        learn = tetrominoes_learner(n_train=a.epoch_scenes, bs=a.bs or options.get('batch_size', 16), side=side, device=a.device, **given)
        test = {'held-out scenes': (lambda: scene_batches(tetromino_scenes(side, seed=2), device=a.device), None)}
        return learn, options, test, Tetrominoes.names
    options = PRESETS['clevr6'] if a.full else CLEVR_RECIPE
    size = options['image_size']
    learn = clevr_learner(a.train or a.valid, a.valid, size=size, bs=a.bs or options.get('batch_size', 8), device=a.device, **given)
    def batches(path, **kw): return lambda: torch.utils.data.DataLoader(ObjectsDataset(path, size=size, crop='centre', **kw), batch_size=16)
    test = {'at most 6 objects': (batches(a.valid, max_objects=6), None)}
    if a.more: test['3 to 10 objects'] = (batches(a.more), 10)
    return learn, options, test, ObjectsDataset(a.valid).names


def judged(model, test, names):
    def number(v): return round(float(v), 4) if v == v else None
    return {k: {n: number(v) for n, v in judge_scenes(model, f(), names, n_keypoints=K).items()} for k, (f, K) in test.items()}


def keep(out, name, model, row, names):
    "Figures and weights, with what they are"
    write(out/'benchmarks'/'results'/f'{name}.json', json.dumps(row, indent=1) + '\n')
    model.cpu().save_pretrained(out/'models'/name, dtype=torch.float16, **{k: row[k] for k in ('data', 'seed', 'commit', 'minutes', 'figures')},
                                names={k: list(v) for k, v in names.items()}, licence='Apache-2.0')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', choices=['tetrominoes', 'clevr'])
    p.add_argument('--train', help='objects file to learn from (clevr)')
    p.add_argument('--valid', help='objects file to judge on, at most 6 objects are taken (clevr)')
    p.add_argument('--more', help='objects file with up to 10 objects, judged with K = 10 (clevr)')
    p.add_argument('--full', action='store_true', help="Table 10's settings; wants a GPU")
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--epochs', type=int)
    p.add_argument('--epoch-scenes', type=int, default=1600, help='scenes an epoch')
    p.add_argument('--bs', type=int, help='images a batch')
    p.add_argument('--minutes', type=float, default=30, help='of training in all calls together')
    p.add_argument('--stop-after', type=float, default=float('inf'), help='minutes of this call')
    p.add_argument('--device', default='cpu')
    p.add_argument('--out', type=Path, default=HERE.parent, help='where benchmarks/ and models/ are written')
    p.add_argument('--judge', action='store_true', help='judge the finished weights and change nothing')
    p.add_argument('--write', action='store_true', help='with --judge: centre them anew and write the figures')
    a = p.parse_args()
    if a.data == 'clevr' and not (a.valid and (a.train or a.judge)): sys.exit('clevr wants --train and --valid, files made by protokp_render or protokp_convert')
    name = a.data + '-full' * a.full + (f'-{a.seed}' if a.seed else '')
    made = f'{Path(a.train).name}: {ObjectsDataset(a.train).info["source"]}' if a.train else 'made as it goes, by protokp.tetrominoes'
    code = commit()  # what is run, whatever is committed meanwhile
    set_seed(a.seed)
    learn, options, test, names = learner(a)
    weights, results = a.out/'models'/name, a.out/'benchmarks'/'results'/f'{name}.json'
    if a.judge:
        model = ProtoKP.from_pretrained(weights).to(a.device)
        if a.write: model.centre_types([learn.dls.train.one_batch()[0].as_subclass(torch.Tensor) for _ in range(CENTRED)])
        figures = judged(model, test, names)
        if a.write: keep(a.out, name, model, dict(json.loads(results.read_text()), figures=figures, judged=code), names)
        return print(json.dumps(figures, indent=1))

    epochs = a.epochs or (FULL_EPOCHS if a.full else EPOCHS[a.data])
    state = State(a.out/'benchmarks'/'runs'/f'{name}-{a.seed}', 60*a.minutes, 60*a.stop_after)
    learn.add_cb(state)
    done = state.resume(learn)
    if done < epochs: learn.fit_flat_cos(epochs, options['lr'], pct_start=.5, cbs=SkipToEpoch(done))  # fastai's fit_flat_cos forgets its start_epoch
    done = state.curve[-1]['epoch']
    if done < epochs and state.curve[-1]['seconds'] < 60*a.minutes*.9: sys.exit(f'{done} of {epochs} epochs done; call again to go on')

    model = learn.model.eval()
    figures = judged(model, test, names)
    row = dict(run=name, data=made, seed=a.seed, commit=code, hardware=hardware(), threads=torch.get_num_threads(), torch=torch.__version__, minutes=round(state.curve[-1]['seconds']/60, 1),
               epochs=done, planned=epochs, epoch_scenes=len(learn.dls.train_ds), model=model.config, figures=figures, curve=state.curve)
    keep(a.out, name, model, row, names)
    print(json.dumps(figures, indent=1))


if __name__ == '__main__': main()
