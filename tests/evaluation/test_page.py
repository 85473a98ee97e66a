"""Pages escape what they show and appear whole or not at all."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from behavejax.evaluation import page

BLOCKS = [
  page.Heading("A & B"), page.Paragraph("x < y"), page.Notes(["<script>"], warning=True),
  page.Table(("name", "n"), [("a|b", "1")], emphasize_first=True), page.Picture("one", Figure(), "see"),
]  # fmt: skip


def test_markdown_and_html(tmp_path):
  page.write_page(tmp_path, "report", "Title", BLOCKS)
  text = (tmp_path / "report.md").read_text()
  assert "| a\\|b | 1 |" in text
  assert "![see](figures/one.png)" in text
  html = (tmp_path / "report.html").read_text()
  assert "<script>" not in html
  assert "x &lt; y" in html
  assert (tmp_path / "figures" / "one.png").stat().st_size > 100


def test_videos_are_played_and_linked(tmp_path):
  film = np.zeros((3, 8, 8, 1), np.uint8)
  page.write_page(tmp_path, "report", "Title", [page.Video("moves", {"true": film}, 10.0, "a < b")])
  assert "(figures/moves.mp4)" in (tmp_path / "report.md").read_text()
  html = (tmp_path / "report.html").read_text()
  assert '<video src="figures/moves.mp4" controls' in html
  assert "a &lt; b" in html
  assert (tmp_path / "figures" / "moves.mp4").stat().st_size > 100


def test_names_from_a_file_do_not_break_a_table():
  text = page.markdown("Title", [page.Table(("name", "n"), [("a\nb", "<i>"), ("c\\|d", "2")])])
  assert "| a b | &lt;i&gt; |" in text
  assert "| c\\\\\\|d | 2 |" in text


def test_folder_is_replaced_whole(tmp_path):
  folder = tmp_path / "report"
  with page.replaced_folder(folder) as temporary:
    (temporary / "a").write_text("old")
  with pytest.raises(RuntimeError, match="broken"), page.replaced_folder(folder) as temporary:
    (temporary / "a").write_text("new")
    raise RuntimeError("broken")
  assert (folder / "a").read_text() == "old"
  with page.replaced_folder(folder) as temporary:
    (temporary / "b").write_text("new")
  assert [p.name for p in folder.iterdir()] == ["b"]
  assert [p.name for p in tmp_path.iterdir()] == ["report"]
