"""Check a built site: every internal link finds its page and its anchor, no link is shown as `[name](address)`, every
picture has an alt text. `python .ci/check_links.py _docs`"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import yaml

CONFIG = Path(__file__).resolve().parent.parent / '_quarto.yml'


RAW_LINK = re.compile(r'\]\([^()\s]+\)')
VOID = {'area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr'}


class Page(HTMLParser):
    "The links, anchors and faults of one HTML file"

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.anchors, self.faults = path, [], {'', 'top'}, []
        self.open, self.shown = (
            [],
            [],
        )  # tags that text stands in, None for what need not read well; visible text
        self.feed(path.read_text(encoding='utf-8'))
        self.faults += RAW_LINK.findall(''.join(self.shown))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]
        self.anchors |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        if tag == 'img' and not attrs.get('alt'):
            self.faults.append(f'a picture without alt text: {attrs.get("src", "")[:60]}')
        if tag not in VOID:
            printed = 'cell-output-stdout' in attrs.get('class', '')  # what a program printed stays as it is
            self.open.append((tag, printed or tag in ('script', 'style')))

    def handle_endtag(self, tag):
        at = max((i for i, (t, _) in enumerate(self.open) if t == tag), default=len(self.open))
        del self.open[at:]

    def handle_data(self, data):
        if not any(hides for _, hides in self.open):
            self.shown.append(data)


def target(page, link, root, site):
    "The file and the anchor that a link leads to, or None where it leaves the site"
    folder = page.path.parent
    if link.startswith(site):
        folder, link = root, link.removeprefix(site).lstrip('/') or 'index.html'
    path, anchor = urldefrag(link)
    url = urlsplit(path)
    if url.scheme or url.netloc:
        return
    file = folder / unquote(url.path) if url.path else page.path
    return (file / 'index.html' if file.is_dir() else file).resolve(), unquote(anchor)


def check(root, site):
    "The number of pages, and every fault as `page: link`"
    pages = {p.resolve(): Page(p) for p in sorted(root.rglob('*.html'))}
    broken = set()
    for page in pages.values():
        broken |= {f'{page.path.relative_to(root)}: {fault}' for fault in page.faults}
        for link in page.links:
            file, anchor = target(page, link, root, site) or (page.path, '')
            if not file.exists() or file in pages and anchor not in pages[file].anchors:
                broken.add(f'{page.path.relative_to(root)}: {link}')
    return len(pages), sorted(broken)


if __name__ == '__main__':
    site = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))['website']['site-url']
    pages, broken = check(Path(sys.argv[1]), site.rstrip('/'))
    print(*broken, f'{pages} pages, {len(broken)} faults', sep='\n')
    sys.exit(bool(broken) or not pages)
