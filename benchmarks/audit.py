"""How fast is the audit: against cleanvision on the same folders, and from a few thousand images to a hundred thousand.

    python benchmarks/audit.py --data FOLDER [FOLDER...] --peer-python /path/to/other/venv/bin/python
    python benchmarks/audit.py --scale

``--data``: every run is a process of its own, timed from its start to its end, with an empty cache; the two take turns, and who
begins changes from repeat to repeat. The files are read once before, so that neither waits for the disk. cleanvision runs with
its defaults (``Imagelab(data_path=...).find_issues()``, all cores) in an environment of its own: ``pip install cleanvision``.

``--scale``: draws that many small pictures that are alike as medical images are and no copies of one another, audits them with an
empty cache, changes the time of ten files and audits again. Everything drawn is removed at the end.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fresh_process import VITRAIL, Ended, run_fresh
from vitrail.engine import available_cores
from vitrail.storage import write_record

PEER = """
import json, sys
from importlib.metadata import version
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
lab.find_issues()
found = lab.issue_summary.set_index("issue_type")["num_images"].to_dict()
answer = {"version": version("cleanvision"), "images": len(lab.issues), "found": {k: int(v) for k, v in found.items()}}
open(sys.argv[2], "w").write(json.dumps(answer))
"""
MIB = 2**20


# ---------------------------------------------------------------------------------------------------- against cleanvision


def audited(folder: Path, output: Path) -> tuple[Ended, dict[str, object]]:
    """Run ``vitrail audit`` on a folder; return how it ended and what it printed."""
    ended = run_fresh([*VITRAIL, "audit", str(folder), "--output", str(output), "--quiet", "--json"])
    if ended.exit_code:
        sys.exit(f"vitrail audit {folder}: {ended.errors}")
    return ended, json.loads(ended.output)


def peer_looked(python: Path, folder: Path, scratch: Path) -> tuple[Ended, dict[str, object]]:
    """Run cleanvision on a folder; return how it ended and what it found, or the last line it said when it gave up."""
    answer = scratch / "peer.json"
    answer.unlink(missing_ok=True)
    ended = run_fresh([str(python), "-c", PEER, str(folder), str(answer)], cwd=scratch)
    if ended.exit_code or not answer.exists():
        return ended, {"gave_up": (ended.errors.strip().splitlines() or ["without a word"])[-1][:200]}
    return ended, json.loads(answer.read_text())


def spread(seconds: Sequence[float], images: int) -> dict[str, float]:
    """Return lowest, middle and highest number of images per second."""
    rates = sorted(images / value for value in seconds)
    return {"min": round(rates[0], 1), "median": round(statistics.median(rates), 1), "max": round(rates[-1], 1)}


def compare(folder: Path, *, peer: Path | None, repeats: int) -> dict[str, object]:
    """Time both on one folder, taking turns."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()
    times: dict[str, list[float]] = {"vitrail": [], "cleanvision": []}
    own: dict[str, object] = {}
    other: dict[str, object] = {}
    for repeat in range(repeats):
        turns = ["vitrail", "cleanvision"] if peer is not None else ["vitrail"]
        for who in turns if repeat % 2 == 0 else reversed(turns):
            with tempfile.TemporaryDirectory() as scratch:
                if who == "vitrail":
                    ended, own = audited(folder, Path(scratch) / "runs")
                elif peer is not None:
                    ended, other = peer_looked(peer, folder, Path(scratch))
            times[who].append(ended.seconds)
            print(f"  {folder.name}, {who}: {ended.seconds:.2f} s", flush=True)
    images = int(str(own["images"]))
    findings: list[dict[str, object]] = own["findings"]  # type: ignore[assignment]
    checks = len(findings) + len(own["passed"]) + len(own["not_applicable"])  # type: ignore[arg-type]
    result: dict[str, object] = {"folder": folder.name, "images": images, "repeats": repeats}
    result["vitrail"] = {
        "seconds": [round(value, 2) for value in times["vitrail"]],
        "images_per_second": spread(times["vitrail"], images),
        "checks": checks,
        "found": {str(finding["code"]): finding["count"] for finding in findings},
    }
    if peer is not None:
        result["cleanvision"] = {"seconds": [round(value, 2) for value in times["cleanvision"]], **other}
        if "gave_up" not in other:
            rates = spread(times["cleanvision"], int(str(other["images"])))
            pairs = [theirs / ours for theirs, ours in zip(times["cleanvision"], times["vitrail"], strict=True)]
            result["cleanvision"] |= {"images_per_second": rates, "checks": len(other["found"])}  # type: ignore[operator, arg-type]
            result["times_as_fast"] = round(statistics.median(pairs), 2)
    return result


def print_comparison(result: dict[str, object]) -> None:
    """Print both, and the ratio."""
    print(f"\n{result['folder']}: {result['images']:,} images, {result['repeats']} runs each")
    for who in ("vitrail", "cleanvision"):
        one: dict[str, object] = result.get(who, {})  # type: ignore[assignment]
        if "gave_up" in one:
            print(f"  {who:<12} gave up: {one['gave_up']}")
        elif one:
            rates: dict[str, float] = one["images_per_second"]  # type: ignore[assignment]
            found = ", ".join(f"{name} {number}" for name, number in one["found"].items() if number)  # type: ignore[union-attr]
            print(f"  {who:<12} {rates['median']:>8.1f} images/s ({rates['min']:.1f} to {rates['max']:.1f})")
            print(f"  {'':<12} {one['checks']} checks; found: {found or 'nothing'}")
    if "times_as_fast" in result:
        print(f"  vitrail is {result['times_as_fast']} times as fast (median of the runs in pairs)")


# ---------------------------------------------------------------------------------------------------- scale

_FIELD = 1280  # side of the random fields that pictures are cut from
_CLASSES = ("a", "b", "c", "d")
_PER_JOB = 500


@cache
def _fields() -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Return random fields of several grains, deviation 1, and the head that all pictures share."""
    rng = np.random.default_rng(0)
    fields = []
    for cell in (40, 34, 28, 16, 16, 6):
        coarse = rng.integers(0, 256, size=(_FIELD // cell + 1,) * 2, dtype=np.uint8)
        field = np.asarray(Image.fromarray(coarse).resize((_FIELD, _FIELD), Image.Resampling.BICUBIC), dtype=np.float32)
        fields.append((field - field.mean()) / field.std())
    y, x = np.mgrid[-1:1:288j, -1:1:288j].astype(np.float32)
    radius = np.sqrt((x / 0.78) ** 2 + (y / 0.92) ** 2)
    head = 0.55 * (radius < 0.86) + 1.0 * (np.abs(radius - 0.95) < 0.05)
    soft = Image.fromarray((head * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(3))
    return fields, np.asarray(soft, dtype=np.float32) / 255.0


def picture(number: int) -> bytes:
    """Return one JPEG of about 200 to 256 pixels: a head that all share, filled with a texture of its own.

    The texture is a weighted sum of cuts from independent random fields: two pictures are near copies only if all their cuts
    fall on nearly the same places, which for 100,000 pictures happens less than once in a thousand data sets.
    """
    fields, head = _fields()
    rng = np.random.default_rng((1, number))
    rows, columns = (int(side) for side in rng.integers(200, 257, size=2))
    top, left = ((288 - side) // 2 + int(rng.integers(-12, 13)) for side in (rows, columns))
    shape = head[top : top + rows, left : left + columns]
    texture = np.zeros((rows, columns), dtype=np.float32)
    weights = rng.uniform(0.6, 1.4, size=len(fields)) * (1.0, 1.0, 1.0, 0.7, 0.7, 0.4)
    for field, weight in zip(fields, weights, strict=True):
        down, right = rng.integers(0, _FIELD - 256, size=2)
        texture += np.float32(weight) * field[down : down + rows, right : right + columns]
    pixels = shape * (np.float32(rng.uniform(110, 150)) + np.float32(16) * texture)
    pixels += 4.0 * rng.random(pixels.shape, dtype=np.float32)
    stream = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _draw_some(folder: Path, numbers: range) -> None:
    for number in numbers:
        path = folder / _CLASSES[number % len(_CLASSES)] / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))


def draw(folder: Path, count: int) -> None:
    """Draw ``count`` pictures into class folders, on all cores."""
    jobs = [range(start, min(start + _PER_JOB, count)) for start in range(0, count, _PER_JOB)]
    with ProcessPoolExecutor(available_cores()) as pool:
        list(pool.map(_draw_some, [folder] * len(jobs), jobs))


def scaled(count: int, scratch: Path) -> dict[str, object]:
    """Draw ``count`` pictures, audit them twice, and say how long it took and how much memory."""
    folder, output = scratch / f"images-{count}", scratch / f"runs-{count}"
    started = time.perf_counter()
    draw(folder, count)
    print(f"  {count:,} pictures drawn in {time.perf_counter() - started:.0f} s", flush=True)
    first, found = audited(folder, output)
    print(f"  {count:,} pictures audited in {first.seconds:.1f} s", flush=True)
    files = sorted(folder.rglob("*.jpg"))
    for path in files[:: max(1, len(files) // 10)][:10]:
        os.utime(path, (0, 0))
    again, _ = audited(folder, output)
    findings: list[dict[str, object]] = found["findings"]  # type: ignore[assignment]
    return {
        "images": count,
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6),
        "seconds": round(first.seconds, 2),
        "milliseconds_per_image": round(1000 * first.seconds / count, 3),
        "peak_mib": round(first.peak_bytes / MIB),
        "private_peak_mib": round(first.private_bytes / MIB),
        "seconds_after_touching_10": round(again.seconds, 2),
        "share_after_touching_10": round(again.seconds / first.seconds, 3),
        "found": {str(finding["code"]): finding["count"] for finding in findings},
    }


def print_scale(results: Sequence[dict[str, object]]) -> None:
    """Print one line per size, and how the time per image grows."""
    print(f"\n{'images':>9}{'seconds':>10}{'ms/image':>10}{'peak MiB':>10}{'private':>9}{'10 touched':>12}{'share':>8}")
    for one in results:
        print(
            f"{one['images']:>9,}{one['seconds']:>10}{one['milliseconds_per_image']:>10}{one['peak_mib']:>10}"
            f"{one['private_peak_mib']:>9}{one['seconds_after_touching_10']:>12}{one['share_after_touching_10']:>8}"
        )
        print(f"{'':>9} found: {one['found'] or 'nothing'}")
    first, last = results[0], results[-1]
    ratio = float(str(last["milliseconds_per_image"])) / float(str(first["milliseconds_per_image"]))
    print(f"time per image, {last['images']:,} against {first['images']:,}: {ratio:.2f} times")


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of images")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with cleanvision; without it, vitrail alone")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each on each folder")
    parser.add_argument("--scale", type=int, nargs="*", help="numbers of pictures to draw [3000 100000]")
    parser.add_argument("--scratch", type=Path, help="folder for what is drawn [the system's]")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/audit.json"), help="where to write the figures")
    options = parser.parse_args()
    if not options.data and options.scale is None:
        parser.error("nothing to do: give --data FOLDER or --scale")
    figures: dict[str, object] = {"cores": available_cores()}
    comparisons = []
    for folder in options.data:
        comparisons.append(compare(folder.resolve(), peer=options.peer_python, repeats=options.repeats))
        print_comparison(comparisons[-1])
    figures["data"] = comparisons
    if options.scale is not None:
        results = []
        for count in options.scale or [3000, 100_000]:
            with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                results.append(scaled(count, Path(scratch)))
        print_scale(results)
        figures["scale"] = results
    write_record(options.json, figures)


if __name__ == "__main__":
    main()
