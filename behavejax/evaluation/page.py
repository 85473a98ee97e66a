"""A page of headings, paragraphs, tables and figures, written as Markdown and as HTML."""

import dataclasses
import html
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from matplotlib.figure import Figure

from behavejax.evaluation import figures, films


@dataclasses.dataclass(frozen=True)
class Heading:
  text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
  text: str


@dataclasses.dataclass(frozen=True)
class Notes:
  """A list; `warning` marks what a reader must not overlook."""

  items: Sequence[str]
  warning: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of text or numbers; the first column is left-aligned, the first row may be the one that counts."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  emphasize_first: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure, saved as `figures/NAME.png`; the text says what to look for."""

  name: str
  figure: Figure
  text: str


@dataclasses.dataclass(frozen=True)
class Video:
  """Films to be seen beside each other, saved as `figures/NAME.mp4`; the text says what to look for."""

  name: str
  films: Mapping[str, films.Film]
  rate_hz: float
  text: str


Block = Heading | Paragraph | Notes | Table | Picture | Video

_CSS = """
:root { color-scheme: light }
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2330; max-width: 960px; margin: 2.5rem auto;
  padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin-bottom: .3rem }
h2 { font-size: 1.2rem; margin-top: 2.4rem; border-bottom: 1px solid #dfe3ea }
table { border-collapse: collapse; margin: 1rem 0; font-size: .94rem; font-variant-numeric: tabular-nums }
th, td { padding: .32rem .8rem; border-bottom: 1px solid #e6e9ef; text-align: right }
th:first-child, td:first-child { text-align: left } th { color: #566074; font-weight: 600 }
tr.first td { font-weight: 650; background: #eef4fb }
img, video { max-width: 100%; height: auto; margin-top: .6rem }
figure { margin: 1.2rem 0 }
figcaption { color: #566074; font-size: .92rem }
ul.warning { background: #fff4e0; border-left: 4px solid #d9772b; padding: .7rem .7rem .7rem 2rem }
"""


def markdown(title: str, blocks: Sequence[Block]) -> str:
  """The page as Markdown."""
  lines = [f"# {title}", ""]
  for block in blocks:
    match block:
      case Heading(text):
        lines += [f"## {text}", ""]
      case Paragraph(text):
        lines += [text, ""]
      case Notes(items, _):
        lines += [*(f"- {item}" for item in items), ""]
      case Table(header, rows, _):
        lines += [_row(header), _row(["---", *["---:"] * (len(header) - 1)]), *(_row(row) for row in rows), ""]
      case Picture(name, _, text):
        lines += [f"![{text}](figures/{name}.png)", "", f"*{text}*", ""]
      case Video(name, _, _, text):
        lines += [f"[{text}](figures/{name}.mp4)", ""]
  return "\n".join(lines)


def html_page(title: str, blocks: Sequence[Block]) -> str:
  """The page as HTML with its style inside; figures lie beside it."""
  body = "\n".join(_html(block) for block in blocks)
  return (
    f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
    f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>\n'
    f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
  )


def write_page(folder: pathlib.Path, stem: str, title: str, blocks: Sequence[Block]) -> None:
  """Writes `STEM.md`, `STEM.html` and `figures/*.png` and `*.mp4` into an existing folder."""
  (folder / f"{stem}.md").write_text(markdown(title, blocks), encoding="utf-8")
  (folder / f"{stem}.html").write_text(html_page(title, blocks), encoding="utf-8")
  drawn = [block for block in blocks if isinstance(block, Picture | Video)]
  if drawn:
    (folder / "figures").mkdir(exist_ok=True)
  for block in drawn:
    if isinstance(block, Picture):
      figures.save(block.figure, folder / "figures" / f"{block.name}.png")
    else:
      path = folder / "figures" / f"{block.name}.mp4"
      films.write_mp4(path, films.side_by_side(block.films), rate_hz=block.rate_hz)


@contextmanager
def replaced_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """A temporary folder that takes the place of `folder` when the block ends well, and vanishes when not.

  What `folder` held before stays until the new one is complete, and comes back if it cannot be put in place.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
  try:
    temporary.chmod(0o755)
    yield temporary
    old = temporary.with_name(f"{temporary.name}.old")
    if folder.exists():
      os.rename(folder, old)
    try:
      os.rename(temporary, folder)
    except OSError:
      if old.exists():
        os.rename(old, folder)
      raise
    shutil.rmtree(old, ignore_errors=True)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _row(cells: Sequence[str]) -> str:
  return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: str) -> str:
  """Names from a user's file can hold anything; a line break would end the table."""
  return html.escape(" ".join(str(cell).split()), quote=False).replace("\\", "\\\\").replace("|", "\\|")


def _html(block: Block) -> str:
  match block:
    case Heading(text):
      return f"<h2>{html.escape(text)}</h2>"
    case Paragraph(text):
      return f"<p>{html.escape(text)}</p>"
    case Notes(items, warning):
      style = ' class="warning"' if warning else ""
      return f"<ul{style}>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"
    case Table(header, rows, emphasize_first):
      head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
      cells = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
      lines = [f"<tr>{row}</tr>" for row in cells]
      if emphasize_first and cells:
        lines[0] = f'<tr class="first">{cells[0]}</tr>'
      return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    case Picture(name, _, text):
      text = html.escape(text)
      return f'<figure><img src="figures/{name}.png" alt="{text}"><figcaption>{text}</figcaption></figure>'
    case Video(name, _, _, text):
      text = html.escape(text)
      shown = f'<video src="figures/{name}.mp4" controls loop muted></video>'
      return f"<figure>{shown}<figcaption>{text}</figcaption></figure>"
