"""Downloads of published data sets; nothing is fetched unless asked for."""

import hashlib
import http.client
import os
import pathlib
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request

from tqdm import tqdm

from behavejax.config import did_you_mean
from behavejax.errors import InputError

DOWNLOADS = {
  "hapt": (
    "https://archive.ics.uci.edu/static/public/341/"
    "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
    "",  # the publisher states no digest
  ),
}
"""Data set -> (address, SHA-256); an empty digest must be given by the user."""

_CHUNK = 1 << 16


def download(name: str, folder: pathlib.Path, *, sha256: str = "") -> pathlib.Path:
  """Fetches a data set into `folder`, or returns it if it is there with the right digest.

  Raises:
    InputError: unknown name, no digest pinned or given, or as `fetch`.
  """
  if name not in DOWNLOADS:
    raise InputError(f"no download is known for config.data.name={name!r}{did_you_mean(name, DOWNLOADS)}")
  address, pinned = DOWNLOADS[name]
  if not (sha256 or pinned):
    raise InputError(
      f"no SHA-256 is pinned for {name!r}: give the one you trust with --sha256, "
      f"or fetch {address} yourself into {folder}"
    )
  return fetch(address, folder / f"{name}.zip", sha256=sha256 or pinned)


def fetch(address: str, path: pathlib.Path, *, sha256: str) -> pathlib.Path:
  """Downloads one file over https, resuming an earlier attempt; the file appears only when its digest is right.

  Plain http is accepted from this very machine only.

  Raises:
    InputError: not https, unreachable, cut off (repeat to resume), or a wrong digest.
  """
  _check_secure(address)
  if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
    raise InputError(f"a SHA-256 is 64 hexadecimal digits, got {sha256!r} (--sha256)")
  if path.exists() and _digest(path) == sha256.lower():
    return path
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.part")
  have = partial.stat().st_size if partial.exists() else 0
  request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
  try:
    with urllib.request.build_opener(_SecureRedirects).open(request, timeout=30) as answer:
      resumed = answer.status == http.client.PARTIAL_CONTENT
      _receive(answer, partial, have if resumed else 0)
  except urllib.error.HTTPError as error:
    if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
      raise InputError(f"{address}: {error.code} {error.reason}") from error
  except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
    raise InputError(f"{address}: {error}; repeat the command to resume") from error
  found = _digest(partial)
  if found != sha256.lower():
    partial.unlink()
    raise InputError(f"{address}: SHA-256 is {found}, expected {sha256}; the file was thrown away")
  os.replace(partial, path)
  return path


def _check_secure(address: str) -> None:
  parts = urllib.parse.urlsplit(address)
  if parts.scheme != "https" and (parts.scheme, parts.hostname) not in (("http", "localhost"), ("http", "127.0.0.1")):
    raise InputError(f"refusing to download over {parts.scheme or 'no scheme'}: {address}")


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
  """Follows a redirect only to where `fetch` itself would go."""

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    _check_secure(newurl)
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(answer: http.client.HTTPResponse, partial: pathlib.Path, have: int) -> None:
  expected = int(answer.headers.get("Content-Length") or 0) + have
  with (
    partial.open("ab" if have else "wb") as file,
    tqdm(total=expected or None, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=None) as bar,
  ):
    while chunk := answer.read(_CHUNK):
      file.write(chunk)
      bar.update(len(chunk))
  if expected and partial.stat().st_size < expected:
    raise http.client.IncompleteRead(b"", expected - partial.stat().st_size)


def _digest(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
