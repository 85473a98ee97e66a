"""Downloads resume, are checked, and appear whole or not at all."""

import functools
import hashlib
import http.server
import threading

import pytest

from behavejax.data import download
from behavejax.errors import InputError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
  def __init__(self, log, *args):
    self.log = log
    super().__init__(*args)

  def do_GET(self):
    if self.path == "/moved":
      self.send_response(302)
      self.send_header("Location", "http://127.0.0.2:9/file")  # refused by name; were it followed, it stays here
      self.end_headers()
      return
    if self.path == "/whole_only":
      del self.headers["Range"]
    start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    self.log.append(start)
    if start >= len(CONTENT):
      self.send_error(416)
      return
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(CONTENT) - start))
    self.end_headers()
    self.wfile.write(CONTENT[start : start + 300_000] if self.path == "/breaks" else CONTENT[start:])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  log = []
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, log)) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", log
    server.shutdown()


def test_interrupted_download_resumes(server, tmp_path):
  address, log = server
  path = tmp_path / "file.zip"
  with pytest.raises(InputError, match=r"repeat the command to resume"):
    download.fetch(f"{address}/breaks", path, sha256=DIGEST)
  assert not path.exists()
  download.fetch(f"{address}/breaks", path, sha256=DIGEST)
  assert path.read_bytes() == CONTENT
  assert log == [0, 300_000]
  assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]
  download.fetch(f"{address}/whole", path, sha256=DIGEST)  # there already: nothing is asked for
  assert len(log) == 2


def test_wrong_digest_leaves_nothing(server, tmp_path):
  with pytest.raises(InputError, match=r"SHA-256 is .*, expected 00ff00ff"):
    download.fetch(f"{server[0]}/whole", tmp_path / "file.zip", sha256="00ff" * 16)
  assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_resume_starts_over(server, tmp_path):
  (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
  download.fetch(f"{server[0]}/whole_only", tmp_path / "file.zip", sha256=DIGEST)
  assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server, tmp_path):
  (tmp_path / "file.zip.part").write_bytes(CONTENT)
  download.fetch(f"{server[0]}/whole", tmp_path / "file.zip", sha256=DIGEST)
  assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]


def test_a_redirect_to_plain_http_is_refused(server, tmp_path):
  with pytest.raises(InputError, match=r"refusing to download over http: http://127.0.0.2:9/file"):
    download.fetch(f"{server[0]}/moved", tmp_path / "file", sha256=DIGEST)


def test_refusals(tmp_path):
  with pytest.raises(InputError, match=r"refusing to download over file"):
    download.fetch(f"file://localhost{tmp_path}/secret", tmp_path / "file", sha256=DIGEST)
  with pytest.raises(InputError, match=r"64 hexadecimal digits, got 'abc'"):
    download.fetch("https://127.0.0.1:9/file", tmp_path / "file", sha256="abc")
  with pytest.raises(InputError, match=r"refusing to download over http"):
    download.fetch("http://example.org/file", tmp_path / "file", sha256=DIGEST)
  with pytest.raises(InputError, match=r"no download is known for config.data.name='hpat'; did you mean 'hapt'"):
    download.download("hpat", tmp_path)
  with pytest.raises(InputError, match=r"no SHA-256 is pinned for 'hapt'.*--sha256"):
    download.download("hapt", tmp_path)
