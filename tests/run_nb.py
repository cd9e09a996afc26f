"Run the code cells of one notebook as `nbdev_test` does, with IPython alone: `python tests/run_nb.py nbs/api/00_core.ipynb`"

import json
import os
import re
import sys
import warnings
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NEEDS_NBDEV = re.compile(r'\s*(from nbdev|import nbdev|show_doc\()')


def settings():
    "The `settings.ini` of the project"
    ini = ConfigParser(delimiters='=')
    ini.read(ROOT / 'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def notebooks():
    "Every notebook of the project, in order of path"
    nbs = ROOT / settings()['nbs_path']
    return [
        p for p in sorted(nbs.rglob('*.ipynb')) if not any(o[0] in '._' for o in p.relative_to(nbs).parts)
    ]


def read_cells(path):
    "The cells of a notebook as (type, source) pairs"
    return [
        (c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']
    ]


def directives(src):
    "The `#|` directives that open a cell as a dict, and the code below them"
    lines, found = src.splitlines(), {}
    while lines and (not lines[0].strip() or re.match(r'\s*#\s*\|', lines[0])):
        name, *value = re.split(r'[:\s]+', lines.pop(0).partition('|')[2].strip(), maxsplit=1)
        if name:
            found[name] = ' '.join(value)
    return found, '\n'.join(lines)


def skip_exec(cells):
    "Does the front matter ask that nothing be run?"
    return any(t == 'raw' and re.search(r'^skip_exec:\s*true\b', s, re.M | re.I) for t, s in cells)


def skips(src, flags, nbdev=find_spec('nbdev')):
    "Is this cell left out: flagged, not evaluated, exporting, or in need of an nbdev that is not there?"
    found, code = directives(src)
    if found.keys() & flags or found.get('eval', '').lower() == 'false' or 'nbdev_export(' in src:
        return True
    lines = [o for o in code.splitlines() if o.strip()]
    return not nbdev and bool(lines) and all(NEEDS_NBDEV.match(o) for o in lines)


def shell(path):
    "A fresh shell beside the notebook, with inline figures and no history"
    os.environ['IN_TEST'] = '1'
    os.chdir(path.parent)
    sys.path[:0] = [str(path.parent), str(ROOT)]
    sh = InteractiveShell.instance(config=Config(HistoryManager=dict(enabled=False)), colors='nocolor')
    sh.enable_gui = lambda gui=None: None
    sh.enable_matplotlib('inline')
    return sh


def warnings_are_errors():
    "Turn warnings of this library into errors; a notebook that shows one catches it"
    from protokp.core.files import ProtokpWarning

    warnings.filterwarnings('error', category=ProtokpWarning)


def run(path, flags):
    "Run the notebook's cells up to the first that fails; (cells run, code cells, report of the failure)"
    cells = read_cells(path)
    code = [(i, s) for i, (t, s) in enumerate(cells) if t == 'code' and s.strip()]
    todo = [] if skip_exec(cells) else [o for o in code if not skips(o[1], flags)]
    sh = shell(path)
    warnings_are_errors()
    for n, (i, src) in enumerate(todo):
        with capture_output() as out:
            res = sh.run_cell(directives(src)[1])
        if not res.success:
            return n, len(code), f'{path.name}, cell {i}:\n\n{src}\n\n{out.stdout}{out.stderr}'
    return len(todo), len(code), ''


if __name__ == '__main__':
    flags = set(settings()['tst_flags'].split()) - set(os.environ.get('NB_FLAGS', '').split())
    ran, total, failure = run(Path(sys.argv[1]).resolve(), flags)
    if failure:
        print(failure)
    print(f'{ran} of {total} code cells ran')
    sys.exit(bool(failure))
