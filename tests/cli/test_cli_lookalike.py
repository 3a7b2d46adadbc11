"""``split.groups: lookalike`` from the command line: the split of the run keeps look-alike images on one side, and a second start
finds the same groups again."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from cli_data import answer, options, write_study
from PIL import Image


def scans(folder: Path) -> Path:
    """Write two classes of twenty scans of two slices each: a picture per scan, much noise of its own per slice (no copies)."""
    rng = np.random.default_rng(0)
    for label in ("mass", "none"):
        (folder / label).mkdir(parents=True)
        for scan in range(20):
            picture = np.kron(rng.uniform(60, 190, (8, 8)), np.ones((16, 16)))
            for part in "ab":
                noisy = picture + np.kron(rng.normal(0, 25, (32, 32)), np.ones((4, 4)))
                Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / label / f"{scan:02d}{part}.png")
    return folder


def test_a_run_by_lookalike_groups_keeps_slices_of_a_scan_on_one_side_and_goes_on_where_it_stopped(tmp_path):
    images = scans(tmp_path / "images")
    forest = [{"model": "forest", "trees": 5}]
    study = write_study(tmp_path / "s.yaml", images, models=forest, split={"groups": "lookalike"}, output=str(tmp_path / "runs"))
    trained = answer("train", study)
    (table,) = (tmp_path / "runs").rglob("split.csv")
    parts = defaultdict(set)
    with table.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            parts[line["path"][:-5]].add(line["part"])
    assert len(parts) == 40
    assert all(len(found) == 1 for found in parts.values())
    assert answer("train", study)["run"] == trained["run"]


def test_a_plan_counts_the_groups_that_its_run_will_keep_whole(tmp_path):
    images = scans(tmp_path / "images")
    wishes = ("split.groups=lookalike", "tracking.enabled=false", "explanation.gallery=0", f"output={tmp_path / 'runs'}")
    facts = answer("plan", images, "--budget", "3s", "--output", tmp_path / "s.yaml", *options(*wishes), "--quiet")["facts"]
    assert facts["images"] == {"mass": 40, "none": 40}
    assert facts["groups"] == {"mass": 20, "none": 20}
