"Check that every internal link of a built site finds its page and its anchor: `python .ci/check_links.py _docs`"

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import yaml

CONFIG = Path(__file__).resolve().parent.parent / '_quarto.yml'


class Page(HTMLParser):
    "The links and the anchors of one HTML file"

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.anchors = path, [], {'', 'top'}
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k in ('href', 'src') and v:
                self.links.append(v)
            elif k in ('id', 'name') and v:
                self.anchors.add(v)


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
    "The number of pages, and every broken link as `page: link`"
    pages = {p.resolve(): Page(p) for p in sorted(root.rglob('*.html'))}
    broken = set()
    for page in pages.values():
        for link in page.links:
            file, anchor = target(page, link, root, site) or (page.path, '')
            if not file.exists() or file in pages and anchor not in pages[file].anchors:
                broken.add(f'{page.path.relative_to(root)}: {link}')
    return len(pages), sorted(broken)


if __name__ == '__main__':
    site = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))['website']['site-url']
    pages, broken = check(Path(sys.argv[1]), site.rstrip('/'))
    print(*broken, f'{pages} pages, {len(broken)} broken links', sep='\n')
    sys.exit(bool(broken) or not pages)
