"The site: what is done to pages before Quarto renders them, what the link checker finds, and that every page has a place"

import importlib.util
import sys
from pathlib import PurePosixPath

import yaml
from run_nb import ROOT, notebooks


def script(name):
    "A script of .ci as a module"
    spec = importlib.util.spec_from_file_location(name, ROOT / '.ci' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


docs, links = script('prepare_docs'), script('check_links')


def picture():
    return {'data': {'image/png': '', docs.VIEW: {'model_id': 'a'}}}


def code(source, *outputs):
    return dict(cell_type='code', source=source, outputs=list(outputs))


def page(*cells, **metadata):
    head = dict(cell_type='raw', source='---\ntitle: keypoints\n---')
    return dict(cells=[head, *cells], metadata=metadata)


def test_links_in_code():
    "A link inside a fence is a name, inside a link as well, and elsewhere it stays"
    fence = (
        '```python\ndef f(\n    x, # from [`nms`](https://a.b/c#nms)\n    y:NoneType=None, # or none\n)\n```'
    )
    assert (
        docs.plain_markdown(fence) == '```python\ndef f(\n    x, # from `nms`\n    y=None, # or none\n)\n```'
    )
    assert docs.plain_markdown('as [`nms`](k.html) does') == 'as [`nms`](k.html) does'
    assert docs.plain_markdown('[see [`nms`](k.html) there](x.html)') == '[see `nms` there](x.html)'


def test_callback_events():
    "The events of a callback are not printed, its own arguments are"
    fence = (
        '```python\nclass C(\n    after_fit:NoneType=None,\n    before_batch=None,\n    every:int=1,\n)\n```'
    )
    assert docs.plain_markdown(fence) == '```python\nclass C(\n    every:int=1,\n)\n```'


def test_badge_and_images():
    "A badge becomes HTML; images of the repository are beside the page"
    badge = '[![Open in Colab](https://c.b/colab-badge.svg)](https://c.b/x.ipynb)'
    html = '<a href="https://c.b/x.ipynb"><img src="https://c.b/colab-badge.svg" alt="Open in Colab"></a>'
    assert docs.plain_markdown(badge) == html
    assert (
        docs.plain_markdown(f'<img src="{docs.RAW}images/parts.png">', '../')
        == '<img src="../images/parts.png">'
    )


def test_alt_text():
    "A picture is described by its heading and the sentence above it, unless its cell says so itself"
    prose = dict(
        cell_type='markdown', source='## Soft-argmax\n\nOne thing. The `sum` is taken [here](x.html):'
    )
    cells = code('plot()', picture()), code('#| fig-alt: "mine"\nplot()', picture()), code('1 + 1')
    nb = page(prose, *cells, code('again()', picture()))
    docs.prepare(nb, PurePosixPath('tutorials'))
    _, _, auto, own, none, second = (docs.text(c['source']) for c in nb['cells'])
    assert auto == '#| fig-alt: "Soft-argmax: The sum is taken here"\nplot()'
    assert second == '#| fig-alt: "Soft-argmax: The sum is taken here (figure 2)"\nagain()'
    assert own == '#| fig-alt: "mine"\nplot()' and none == '1 + 1'
    again = [docs.text(c['source']) for c in nb['cells']]
    docs.prepare(nb, PurePosixPath('tutorials'))
    assert [docs.text(c['source']) for c in nb['cells']] == again


def test_folded_setup():
    "An API page folds what stands before its first function"
    show = code('#| echo: false\n#| output: asis\nshow_doc(nms)')
    nb = page(code('import torch'), show, code('import after'))
    docs.prepare(nb, PurePosixPath('api/ops'))
    assert [docs.text(c['source']).startswith('#| code-fold: true') for c in nb['cells']] == [
        False,
        True,
        False,
        False,
    ]


def test_widgets():
    "A widget whose state is not saved is shown by its picture"
    for saved, left in (({}, False), ({'a': {}}, True)):
        state = {docs.VIEW.replace('view', 'state'): dict(state=saved)}
        nb = page(code('x', picture()), widgets=state)
        docs.prepare(nb, PurePosixPath('tutorials'))
        assert (docs.VIEW in nb['cells'][1]['outputs'][0]['data']) is left


def test_checker(tmp_path):
    "A link that is shown, and a picture without alt text, are faults; what a program printed is not"
    file = tmp_path / 'x.html'
    printed = '<div class="cell-output cell-output-stdout"><pre>[q](r)</pre></div>'
    file.write_text(f'<p>a [b](c)<p><img src="x.png">{printed}<p>d [e](f)')
    assert links.Page(file).faults == ['a picture without alt text: x.png', '](c)', '](f)']
    pages, faults = links.check(tmp_path, 'https://a.b')
    assert pages == 1 and len(faults) == 4  # and x.png is not there


def test_every_page_has_a_place():
    "The sidebar lists each notebook, by its name or by a glob"
    config = yaml.safe_load((ROOT / '_quarto.yml').read_text())
    listed = []
    for section in config['website']['sidebar']['contents']:
        contents = section['contents']
        listed += [contents] if isinstance(contents, str) else contents
    pages = [o.relative_to(ROOT / 'nbs') for o in notebooks()]
    assert not [p for p in pages if not any(p.match(g) for g in listed)]
    menu = next(o['menu'] for o in config['website']['navbar']['left'] if 'menu' in o)
    assert {p.as_posix() for p in pages if p.parts[0] == 'tutorials'} == set(menu)
