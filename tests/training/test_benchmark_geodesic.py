"""What the benchmark of codebooks prints at a small size."""

import re

from behavejax.training import benchmark_geodesic


def test_each_part_is_timed_and_both_assignments_agree():
  lines = list(benchmark_geodesic.parts(size=400, dim=3, codes=40, neighbours=6, restarts=1, repeats=5))
  timed = {
    line.split()[0]: float(line.split()[1]) for line in lines if re.match(r" *[a-z]+ +[\d.]+ \([\d.]+\) s", line)
  }
  assert list(timed) == ["graph", "metric", "seeds", "clustering", "all", "joining", "assignment"]
  assert timed["all"] <= timed["graph"] + timed["metric"] + timed["clustering"] + 0.02
  assert re.search(r"times as fast \(\d+ by CPU time\); 100.00% of the codes agree, distances to 0.0e\+00", lines[-1])
