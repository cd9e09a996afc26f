"The notebooks keep their layers: imports only go down, exports are documented, explicit and few"

import ast
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from run_nb import ROOT, directives, notebooks, read_cells, settings

LIB = settings()['lib_name']
EXPORTS = {'export', 'exports', 'exporti'}
IMPORTS = ast.Import, ast.ImportFrom
DEFS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
FLOORS = (  # from the ground up: a subpackage imports from itself and from those before it
    'core',
    'datasets',
    'ops',
    'models',
    'metrics',
    'visualize',
    'training',
    'recipes',
    'folders',
    'export',
    'cli',
    'all',
    '__main__',
)
MAX_PUBLIC = 350  # names in all `__all__` together
MAX_ALL = 90  # names that `from protokp.all import *` brings
MAX_CELL = 65  # lines of an exported cell, blank ones and comments not counted
MAX_BODY = 40  # lines of a function's body as formatted
MAX_LINE = 110  # characters


def code_cells(nb):
    "Directives, source and syntax tree of every code cell"
    for kind, src in read_cells(nb):
        if kind == 'code':
            found, code = directives(src)
            yield found, code, ast.parse(TransformerManager().transform_cell(code))


def exported(nb):
    return [tree for found, _, tree in code_cells(nb) if EXPORTS & found.keys()]


def default_exp(nb):
    return next((d['default_exp'] for d, *_ in code_cells(nb) if 'default_exp' in d), None)


def number(nb):
    m = re.match(r'\d+', nb.name)
    return int(m[0]) if m else 0


def place(module, numbers):
    "Where a module stands: its floor, and its number on it"
    return FLOORS.index(module.split('.')[0]), numbers[module]


def imported(tree):
    "The modules of this library that a tree imports, dotted, without the library's name"
    for o in ast.walk(tree):
        if isinstance(o, ast.Import):
            names = [a.name for a in o.names]
        elif isinstance(o, ast.ImportFrom):
            assert not o.level, f'{ast.unparse(o)}: write the module in full, nbdev makes it relative'
            in_package = o.module == LIB or o.module.removeprefix(f'{LIB}.') in FLOORS[:-1]
            names = [f'{o.module}.{a.name}' for a in o.names] if in_package else [o.module]
        else:
            continue
        yield from (n.removeprefix(f'{LIB}.') for n in names if n.startswith(f'{LIB}.'))


NBS = notebooks()
API = [o for o in NBS if (ROOT / 'nbs' / 'api') in o.parents]
NUMBER = {default_exp(o): number(o) for o in API}


def each(nbs):
    return pytest.mark.parametrize('nb', nbs, ids=lambda o: o.relative_to(ROOT / 'nbs').as_posix())


@each(API)
def test_name(nb):
    "A module is named as its notebook's folder and file, less the number, and no two share a number"
    folder = nb.parent.relative_to(ROOT / 'nbs' / 'api').as_posix()
    stem = re.sub(r'^\d\d_', '', nb.stem)
    stem = '__main__' if stem == 'main' else stem  # nbdev reads no file that begins with _
    assert next(src for _, src in read_cells(nb)).startswith(f'# {nb.stem.lstrip("_0123456789")}\n')
    assert default_exp(nb) == (stem if folder == '.' else f'{folder}.{stem}')
    assert [o.name for o in API if o.parent == nb.parent and number(o) == number(nb)] == [
        nb.name
    ] or folder == '.'


@each(API)
def test_imports_go_down(nb):
    "A notebook imports from lower floors, and on its own from smaller numbers, in examples and tests as well"
    names = {o for _, _, tree in code_cells(nb) for o in imported(tree)} - {'__version__'}
    unknown = names - NUMBER.keys()
    assert not unknown, f'{nb.name} imports from {sorted(unknown)}, which no notebook exports'
    here = place(default_exp(nb), NUMBER)
    upward = sorted(o for o in names if place(o, NUMBER) >= here)
    assert not upward, f'{nb.name} imports from its own place or above: {upward}'


@each(API)
def test_imports_are_explicit(nb):
    "Exported cells import by name"
    stars = [
        ast.unparse(o)
        for tree in exported(nb)
        for o in ast.walk(tree)
        if isinstance(o, ast.ImportFrom) and o.names[0].name == '*'
    ]
    assert not stars, f'{nb.name} exports {stars}'


@each(API)
def test_imports_stand_alone(nb):
    "A cell that imports and is not exported does nothing else: the docs run it without its neighbours"
    for found, _, tree in code_cells(nb):
        src = ast.unparse(tree)
        if EXPORTS & found.keys() or found.get('eval') == 'false' or 'nbdev_export()' in src:
            continue
        alone = all(isinstance(o, IMPORTS) for o in tree.body)
        mixed = any(isinstance(o, IMPORTS) for o in ast.walk(tree))
        assert alone or not mixed, f'{nb.name} mixes imports with code:\n{src}'


@each(API)
def test_exports_are_documented(nb):
    "Every public function, class and method has a docstring that says what it does"
    for tree in exported(nb):
        for o in tree.body:
            if not isinstance(o, DEFS) or o.name[0] == '_':
                continue
            doc = ast.get_docstring(o)
            assert doc, f'{nb.name}: {o.name} has no docstring'
            asks = re.match(r'(What|Where|How|Which|Who|Whose|Whether|When)\b', doc)
            assert not asks, f'{nb.name}: the docstring of {o.name} begins with {asks[0]!r}, wanted a verb'


@each(API)
def test_exports_are_short(nb):
    "Exported cells and the functions in them fit on a screen"
    for found, src, tree in code_cells(nb):
        if not EXPORTS & found.keys():
            continue
        lines = [o for o in src.splitlines() if o.strip() and not o.strip().startswith('#')]
        assert len(lines) <= MAX_CELL, f'{nb.name}: a cell of {len(lines)} lines:\n{src[:200]}'
        for f in ast.walk(tree):
            if isinstance(f, ast.FunctionDef):
                n = f.end_lineno - f.body[0].lineno + 1
                assert n <= MAX_BODY, (
                    f'{nb.name}: the body of {f.name} has {n} lines, wanted at most {MAX_BODY}'
                )


@each(NBS)
def test_cells_are_plain(nb):
    "Short lines, one statement per line, no empty cell"
    for kind, src in read_cells(nb):
        assert src.strip(), f'{nb.name} has an empty cell'
        if kind != 'code' or 'google.colab' in src:
            continue
        long = [o for o in src.splitlines() if len(o) > MAX_LINE]
        assert not long, f'{nb.name}: {len(long[0])} characters, wanted at most {MAX_LINE}:\n{long[0]}'
        tree = ast.parse(re.sub(r'^\s*[%!].*$', '', src, flags=re.M))
        lines = [o.lineno for o in ast.walk(tree) if isinstance(o, ast.stmt)]
        twice = [line for line in lines if lines.count(line) > 1]
        assert not twice, f'{nb.name}: several statements on a line:\n{src.splitlines()[twice[0] - 1]}'


@each(NBS)
def test_outputs_are_for_readers(nb):
    "No committed warning and no path of the machine that ran the notebook"
    for cell in json.loads(nb.read_text())['cells']:
        for output in cell.get('outputs', []):
            text = json.dumps({k: v for k, v in output.items() if k in ('name', 'text', 'traceback')})
            wrong = output.get('name') == 'stderr' or re.search(r'/(tmp|home|work|root)/', text)
            assert not wrong, f'{nb.name}: run it again, without warnings and in a temporary folder:\n{text}'


@pytest.mark.parametrize(
    'nb', [o for o in NBS if o not in API], ids=lambda o: o.relative_to(ROOT / 'nbs').as_posix()
)
def test_exports_nothing(nb):
    "Tutorials and explanations are there to be read"
    assert not exported(nb) and default_exp(nb) is None


@each(NBS)
def test_title_stands_alone(nb):
    "The first cell is title and promise and nothing else: the docs make the page's head of it"
    src = next(src for kind, src in read_cells(nb) if kind == 'markdown')
    message = f'{nb.name} begins with more than its title and one line of promise:\n{src}'
    assert re.fullmatch(r'# .+\n+> .+', src.strip()), message


BADGE = 'https://colab.research.google.com/assets/colab-badge.svg'


@each([o for o in NBS if o.name != 'index.ipynb'])
def test_opens_in_colab(nb):
    "Below the title a badge with the notebook's path, then a hidden cell that fetches the package"
    ini, path = settings(), nb.relative_to(ROOT)
    repo = f"{ini['user']}/{ini['repo']}"
    target = f"https://colab.research.google.com/github/{repo}/blob/{ini['branch']}/{path.as_posix()}"
    (_, badge), (kind, setup) = read_cells(nb)[1:3]
    wanted = f'[![Open in Colab]({BADGE})]({target})'
    assert badge.strip() == wanted, f'{path}: the second cell must be this badge:\n{wanted}'
    found, code = directives(setup)
    hidden = kind == 'code' and 'hide' in found and found.get('eval') == 'false'
    template = '`nbs/api/core/06_utils.ipynb` has one to copy'
    assert hidden, f'{path}: the third cell must be the hidden set-up cell for Colab; {template}'
    folder = f"%cd -q /content/{ini['repo']}/{path.parent.as_posix()}"
    assert f'https://github.com/{repo} ' in code and folder in code, (
        f'{path}: the set-up cell must have {folder!r}'
    )
    assert code.count('assert not _exit_code') == 2, f'{path}: a step that fails must say so'
    assert '[dev]' not in code, f'{path}: whoever reads a page needs less than its developers'
    assert exec_elsewhere(code) == []


def exec_elsewhere(code):
    "What a setup cell asks the shell to do outside Colab"
    asked = []

    class Shell:
        def __getattr__(self, name):
            return lambda *args: asked.append((name, args))

    exec(TransformerManager().transform_cell(code), dict(get_ipython=Shell))
    return asked


def public_names():
    "Every name in an `__all__`, and the module it belongs to"
    for path in sorted((ROOT / LIB).rglob('*.py')):
        if path.stem in ('all', '_modidx', '__init__'):
            continue
        body = ast.parse(path.read_text(encoding='utf-8')).body
        values = [
            o.value for o in body if isinstance(o, ast.Assign) and ast.unparse(o.targets[0]) == '__all__'
        ]
        yield from ((name, path) for value in values for name in ast.literal_eval(value))


def test_public_names_are_few():
    "The public face stays small, and a name means one thing in the whole package"
    names = Counter(name for name, _ in public_names())
    assert len(names) <= MAX_PUBLIC, (
        f'{len(names)} public names, wanted at most {MAX_PUBLIC}: begin helpers with _'
    )
    twice = [n for n, count in names.items() if count > 1]
    assert not twice, f'more than one module exports {twice}'


def test_public_names_are_used():
    "Every public name stands in an example, a test, a benchmark or another module"
    scripts = [
        p.read_text(encoding='utf-8') for d in ('tests', 'benchmarks') for p in (ROOT / d).glob('*.py')
    ]
    examples = [src for nb in NBS for found, src, _ in code_cells(nb) if not EXPORTS & found.keys()]
    words = Counter(re.findall(r'\w+', '\n'.join(scripts + examples)))
    for path in (ROOT / LIB).rglob('*.py'):
        if path.stem not in ('all', '_modidx'):
            code = re.sub(r'__all__ = \[.*?\]', '', path.read_text(encoding='utf-8'), flags=re.S)
            words.update(re.findall(r'\w+', code))
    unused = [name for name, _ in public_names() if words[name] < 2]  # the definition is one
    assert not unused, f'nothing uses {unused}: begin them with _, or show them in an example'


def modules_after(statement):
    "The modules of the library that a statement loads in a fresh process"
    code = f"import sys; {statement}; print(*[m for m in sys.modules if m.startswith('{LIB}')])"
    out = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert not out.returncode, out.stderr
    return set(out.stdout.split())


def test_prediction_needs_no_learner():
    "Predicting on images loads nothing of the training"
    loaded = modules_after(f'import {LIB}.folders.predict, {LIB}.export.onnx')
    assert not {m for m in loaded if m.startswith(f'{LIB}.training')}


def test_learner_needs_no_object_metrics():
    "The learner loads neither object metrics nor layer figures"
    loaded = modules_after(f'import {LIB}.training.learner')
    assert not loaded & {f'{LIB}.metrics.objects', f'{LIB}.visualize.layers'}


def test_commands_answer_at_once():
    "Help, version and wrong arguments load nothing heavy: commands import it when they run"
    code = f"import sys, {LIB}.__main__; print(*sys.modules)"
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {'torch', 'fastai', 'matplotlib', 'pandas', 'numpy', 'PIL', 'sklearn', 'h5py'}
    assert not heavy & set(out.stdout.split())
