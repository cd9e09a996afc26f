"The notebooks keep their layers: imports only go down, exports are documented and explicit"
import ast, re

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from run_nb import ROOT, directives, notebooks, read_cells, settings

LIB = settings()['lib_name']
EXPORTS = {'export', 'exports', 'exporti'}
IMPORTS = ast.Import, ast.ImportFrom


def code_cells(nb):
    "(directives, syntax tree) of every code cell"
    for kind, src in read_cells(nb):
        if kind != 'code': continue
        found, code = directives(src)
        yield found, ast.parse(TransformerManager().transform_cell(code))


def exported(nb): return [tree for found, tree in code_cells(nb) if EXPORTS & found.keys()]
def default_exp(nb): return next((d['default_exp'] for d, _ in code_cells(nb) if 'default_exp' in d), None)
def number(nb): return int(m[0]) if (m := re.match(r'\d+', nb.name)) else None


def imported(tree, package=LIB):
    "The modules of this library that a tree imports"
    for o in ast.walk(tree):
        if isinstance(o, ast.Import): names = [a.name for a in o.names]
        elif isinstance(o, ast.ImportFrom):
            base = '.'.join(filter(None, [package if o.level else '', o.module]))
            names = [f'{base}.{a.name}' for a in o.names] if base == package else [base]
        else: continue
        yield from (n.split('.')[1] for n in names if n.startswith(package + '.'))


NBS = notebooks()
API = [o for o in NBS if o.parent.name == 'api']
LAYER = {default_exp(o): number(o) for o in API}
each = pytest.mark.parametrize('nb', API, ids=lambda o: o.stem)


@each
def test_name(nb):
    "A module is named as its notebook, less the number, and no two share a number"
    assert re.sub(r'^\d\d_', '', nb.stem) == default_exp(nb)
    assert [o.name for o in API if number(o) == number(nb)] == [nb.name]


@each
def test_imports_go_down(nb):
    "A notebook imports from notebooks of smaller number alone"
    names = {o for _, tree in code_cells(nb) for o in imported(tree)}
    unknown = names - LAYER.keys() - {'__version__'}
    assert not unknown, f'{nb.name} imports from {sorted(unknown)}, which no notebook exports'
    upward = {o: LAYER[o] for o in names & LAYER.keys() if LAYER[o] >= number(nb)}
    assert not upward, f'{nb.name} imports from its own layer or above: {upward}'


@each
def test_imports_are_explicit(nb):
    "Exported cells import by name; `all`, which gathers the library, is the one exception"
    if default_exp(nb) == 'all': return
    stars = [ast.unparse(o) for tree in exported(nb) for o in ast.walk(tree)
             if isinstance(o, ast.ImportFrom) and o.names[0].name == '*']
    assert not stars, f'{nb.name} exports {stars}'


@each
def test_imports_stand_alone(nb):
    "A cell that imports and is not exported does nothing else: the documentation runs it without its neighbours"
    for found, tree in code_cells(nb):
        src = ast.unparse(tree)
        if EXPORTS & found.keys() or found.get('eval') == 'false' or 'nbdev_export()' in src: continue
        alone = all(isinstance(o, IMPORTS) for o in tree.body)
        assert alone or not any(isinstance(o, IMPORTS) for o in ast.walk(tree)), f'{nb.name} mixes imports with code:\n{src}'


@each
def test_exports_are_documented(nb):
    "Every public function, class and method that is exported says what it does"
    defs = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [o.name for tree in exported(nb) for o in tree.body
            if isinstance(o, defs) and o.name[0] != '_' and not ast.get_docstring(o)]
    assert not bare, f'{nb.name} exports without a docstring: {bare}'


@pytest.mark.parametrize('nb', [o for o in NBS if o not in API], ids=lambda o: o.relative_to(ROOT).as_posix())
def test_exports_nothing(nb):
    "Tutorials and explanations are there to be read"
    assert not exported(nb) and default_exp(nb) is None


@pytest.mark.parametrize('nb', NBS, ids=lambda o: o.stem)
def test_title_stands_alone(nb):
    "The first cell is title and promise and nothing else: the documentation turns it into the page's head and drops the rest"
    src = next(src for kind, src in read_cells(nb) if kind == 'markdown')
    assert re.fullmatch(r'# .+\n+> .+', src.strip()), f'{nb.name} begins with more than its title and one line of promise:\n{src}'


@pytest.mark.parametrize('nb', [o for o in NBS if o.name != 'index.ipynb'], ids=lambda o: o.stem)
def test_opens_in_colab(nb):
    "Below the title a badge with the notebook's own path, then a hidden cell that fetches the package and goes where the notebook lies"
    ini, path = settings(), nb.relative_to(ROOT)
    repo = f"{ini['user']}/{ini['repo']}"
    (_, badge), (kind, setup) = read_cells(nb)[1:3]
    assert f"https://colab.research.google.com/github/{repo}/blob/{ini['branch']}/{path.as_posix()})" in badge
    found, code = directives(setup)
    assert kind == 'code' and 'hide' in found and found.get('eval') == 'false'
    assert f'https://github.com/{repo} ' in code and f"%cd -q /content/{ini['repo']}/{path.parent.as_posix()}" in code
    assert exec_elsewhere(code) == []


def exec_elsewhere(code):
    "What a setup cell asks the shell to do outside Colab"
    asked = []
    class Shell:
        def __getattr__(self, name): return lambda *args: asked.append((name, args))
    exec(TransformerManager().transform_cell(code), dict(get_ipython=Shell))
    return asked
