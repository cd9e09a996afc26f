"""Make the notebooks that nbdev wrote to `_proc` ready for Quarto: `project.pre-render` in `_quarto.yml` runs it there.

- A link inside a code fence would be shown as `[name](address)`, and one inside a link breaks both: they become plain names.
- The Colab badge becomes HTML, since Quarto makes a figure with a caption of an image that stands alone.
- Signatures lose `:NoneType`, and the events of fastai's `Callback`, all of which are None.
- A picture gets an alt text, from its heading and the sentence above it, unless its cell has `fig-alt`.
- What an API page imports and sets up before its first function is folded.
- A widget whose state was not saved is shown by its picture.
- Images of this repository are taken from beside the page, not from the network.
"""

import json
import os
import re
from pathlib import Path

RAW = 'https://raw.githubusercontent.com/protokp/protokp/main/nbs/'
LINK = re.compile(r'\[(`[^`\]]+`)\]\([^()\s]*\)')
NESTED = re.compile(r'\[([^\[\]\n]*)\[(`[^`\]]+`)\]\([^()\s]*\)([^\[\]\n]*)\](?=\()')
BADGE = re.compile(r'\[!\[([^\]]+)\]\((\S+badge\S*)\)\]\((\S+)\)')
FENCE = re.compile(r'^( *)(```+|~~~+).*?^\1\2 *$', re.M | re.S)
EVENT = re.compile(r'^ +(?:before|after)_\w+(?::NoneType)?=None,?[^\n]*\n', re.M)
VIEW = 'application/vnd.jupyter.widget-view+json'
PICTURES = {'image/png', 'image/jpeg', 'image/svg+xml'}


def text(o):
    return o if isinstance(o, str) else ''.join(o)


def plain_markdown(src, up=''):
    "Markdown as Quarto shows it best; `up` leads from the page to the site's root"
    parts, end = [], 0
    for m in FENCE.finditer(src):
        parts += [plain_prose(src[end : m.start()], up), plain_code(m[0])]
        end = m.end()
    return ''.join([*parts, plain_prose(src[end:], up)])


def plain_prose(src, up):
    src = NESTED.sub(r'[\1\2\3]', src)
    src = BADGE.sub(r'<a href="\3"><img src="\2" alt="\1"></a>', src)
    return src.replace(RAW, up)


def plain_code(src):
    src = LINK.sub(r'\1', src)
    return EVENT.sub('', src).replace(':NoneType=None', '=None') if src.startswith('```python\n') else src


def sentence(md):
    "The last sentence of prose in markdown, as plain text; '' if there is none"
    blocks = [b for b in re.split(r'\n\s*\n', FENCE.sub('', md)) if re.match(r'[^\W\d_]|[`*_"(]', b.strip())]
    prose = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', blocks[-1] if blocks else '')
    prose = re.sub(r'<[^>]+>|[`*$]', '', ' '.join(prose.split()))
    return re.split(r'(?<=[.!?:]) (?=[A-Z])', prose)[-1].rstrip(':')


def has_picture(cell):
    return any(PICTURES & out.get('data', {}).keys() for out in cell.get('outputs', []))


def options(cell):
    "Names of the `#|` options of a code cell"
    return {m[1] for m in re.finditer(r'^#\| *([\w-]+):', text(cell['source']), re.M)}


def add_option(cell, name, value):
    cell['source'] = f'#| {name}: {json.dumps(value, ensure_ascii=False)}\n{text(cell["source"])}'


def add_alts(cells, title):
    "Give every cell with a picture an alt text"
    heading, above, seen = title, '', []
    for cell in cells:
        src = text(cell['source'])
        if cell['cell_type'] == 'markdown':
            heading = (re.findall(r'^#+ +(.+?)(?: *\{.*\})?$', FENCE.sub('', src), re.M) or [heading])[-1]
            above = sentence(src) or above
        elif cell['cell_type'] == 'code' and has_picture(cell) and 'fig-alt' not in options(cell):
            heading = re.sub(r'[`*]|\[([^\]]*)\]\([^)]*\)', r'\1', heading)
            alt = f'{heading}: {above}' if above else heading
            seen.append(alt)
            nth = f' (figure {seen.count(alt)})' if seen.count(alt) > 1 else ''
            add_option(cell, 'fig-alt', alt + nth)


def fold_setup(cells):
    "Fold the code before the first function of an API page"
    for cell in cells:
        src = text(cell['source'])
        if cell['cell_type'] == 'markdown' and src.startswith('## ') or 'show_doc(' in src:
            return
        if cell['cell_type'] == 'code' and not has_picture(cell) and not options(cell):
            add_option(cell, 'code-summary', 'Imports and set-up')
            add_option(cell, 'code-fold', True)


def saved_widgets(nb):
    "Models of the widgets whose state is in a notebook"
    return nb.get('metadata', {}).get('widgets', {}).get(VIEW.replace('view', 'state'), {}).get('state', {})


def prepare(nb, folder):
    "Change a notebook in place; `folder` is that of the page, from the site's root"
    up = '../' * len(folder.parts)
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown':
            cell['source'] = plain_markdown(text(cell['source']), up)
        for out in cell.get('outputs', []):
            data = out.get('data', {})
            if 'image/png' in data and data.get(VIEW, {}).get('model_id') not in saved_widgets(nb):
                data.pop(VIEW, None)
            if 'text/markdown' in out.get('data', {}):
                out['data']['text/markdown'] = plain_markdown(text(out['data']['text/markdown']), up)
    title = re.search(r'^title: *(.+)$', text(nb['cells'][0]['source']), re.M) if nb['cells'] else None
    add_alts(nb['cells'], title[1].strip('\'"') if title else 'Picture')
    if folder.parts[:1] == ('api',):
        fold_setup(nb['cells'])


def main(root):
    for path in sorted(root.rglob('*.ipynb')):
        if '.ipynb_checkpoints' not in path.parts:
            nb = json.loads(path.read_text(encoding='utf-8'))
            prepare(nb, path.parent.relative_to(root))
            path.write_text(json.dumps(nb, ensure_ascii=False, indent=1), encoding='utf-8')


if __name__ == '__main__' and os.environ.get('QUARTO_PROJECT_RENDER_ALL'):  # not for the README alone
    main(Path.cwd())
