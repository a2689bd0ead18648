"""`sharpzo serve` with 16 clients at once, against one photo after the other in Python.

    python benchmarks/serve.py            # 10,000 requests in 20 rounds; writes results/serve.json
    python benchmarks/serve.py --small    # of a tower of random weights; results/serve-small.json

The run: the default method with the embedded model (``--small``: gda with a tower of 2 blocks and
32 x 32 pixels, so that what remains is the service itself), fitted to the demo's photos; its 500
test photos are sent as PNG. In each round 16 clients, each a process, send 500 photos together,
each the next one as soon as it has an answer; one more client is ended by SIGKILL while it sends
and waits. Every answer is checked against the class that `PromptClassifier.predict` gives for all
photos. Then this process classifies 50 of the photos one after the other by `Models.predict`, which
keeps the tower as the service does, and 2 by `PromptClassifier.predict`, which opens it for each
call.

A machine that others use is faster in one minute than in the next, so ratios are taken within a
round, and their median counts. Processor seconds are those of the service (from /proc), and of
this process. Peak: the most resident memory of the service (VmHWM), seen from outside. The service
has as many threads as `taskset` allows. After each round the result is written.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
CLIENTS = 16


def client(port: int, folder: Path) -> None:
    """One client: for a line with the numbers of photos, a line with what came back."""
    photos = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
    for line in sys.stdin:
        found, again = [], 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for number in json.loads(line):
            begin = time.perf_counter()
            while True:
                try:
                    connection.request("POST", "/", photos[number])
                    answer = connection.getresponse()
                    break
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    again += 1  # it was idle for long: the photo was never taken
                    connection.close()
            said = json.loads(answer.read())
            seconds = time.perf_counter() - begin
            found.append((number, answer.status, said.get("label"), seconds))
        connection.close()
        print(json.dumps({"answers": found, "reconnected": again}), flush=True)


class Clients:
    """Client processes, which stay."""

    def __init__(self, port: int, folder: Path, many: int) -> None:
        line = [sys.executable, __file__, "--client", str(port), str(folder)]
        self.processes = [
            subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(many)
        ]

    def begin(self, numbers: list[int]) -> None:
        """Deal the photos out."""
        for k, process in enumerate(self.processes):
            assert process.stdin is not None
            print(json.dumps(numbers[k :: len(self.processes)]), file=process.stdin, flush=True)

    def answers(self) -> list[dict[str, Any]]:
        """What all of them got, once they have it."""
        return [json.loads(one.stdout.readline()) for one in self.processes if one.stdout]


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def timed(work: Any) -> tuple[float, float]:
    """Seconds and processor seconds of some work in this process."""
    wall, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=500, help="of a round")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        client(int(args.client[0]), Path(args.client[1]))
        return
    from PIL import Image

    from sharpzo import Models, PromptClassifier
    from sharpzo.data.demo import load_demo

    with tempfile.TemporaryDirectory() as scratch:
        run, folder = Path(scratch) / "run", Path(scratch) / "photos"
        demo = load_demo(1)
        PromptClassifier(**(small(Path(scratch)) if args.small else {})).fit(demo).save(run)
        folder.mkdir()
        for k, photo in enumerate(demo.test.photos):
            Image.fromarray(photo.decode()).save(folder / f"{k:03}.png")
        paths = sorted(folder.glob("*.png"))
        single = PromptClassifier.load(run)
        wanted = single.predict(paths).tolist()
        with Models(run) as models:
            models.predict(paths[0])
            measure(args, run, folder, paths, wanted, models, single)


def small(folder: Path) -> dict[str, Any]:
    """What to fit to a tower of random weights."""
    tests = Path(__file__).parent.parent / "tests"
    sys.path[:0] = [str(tests), str(tests / "towers")]
    import random_models

    vision = {**random_models.VISION, "image_size": 32, "patch_size": 8}
    random_models.save_clip(folder / "model", random_models.TEXT, vision)
    return {"method": "gda", "model": str(folder / "model")}


def measure(
    args: Any, run: Path, folder: Path, paths: list[Path], wanted: list[str], models: Any,
    single: Any,
) -> None:  # fmt: skip
    line = [sys.executable, "-m", "sharpzo", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(re.findall(r":(\d+);", server.stdout.readline())[0])
    clients = Clients(port, folder, CLIENTS)
    rounds: list[dict[str, float]] = []
    seconds: list[float] = []
    wrong = lost = reconnected = 0
    for number in range(args.rounds):
        victim = Clients(port, folder, 1)
        victim.begin([k % len(paths) for k in range(5000)])
        numbers = [(number * 37 + k) % len(paths) for k in range(args.requests)]
        begin, before = time.perf_counter(), processor_seconds(server.pid)
        clients.begin(numbers)
        time.sleep(0.5)
        victim.processes[0].send_signal(signal.SIGKILL)
        found = clients.answers()
        wall, own = time.perf_counter() - begin, processor_seconds(server.pid) - before
        answers = [answer for one in found for answer in one["answers"]]
        reconnected += sum(one["reconnected"] for one in found)
        lost += args.requests - len(answers)
        wrong += sum(status != 200 or label != wanted[k] for k, status, label, _ in answers)
        seconds += [one for *_, one in answers]
        few = [paths[k] for k in numbers[:50]]

        def one_by_one(few: list[Path] = few) -> None:
            for path in few:
                models.predict(path)

        def opened_each_time(few: list[Path] = few) -> None:
            for path in few[:2]:
                single.predict(path)

        alone, opened = timed(one_by_one), timed(opened_each_time)
        rounds.append(
            {
                "serve_ms": 1000 * wall / args.requests,
                "serve_processor_ms": 1000 * own / args.requests,
                "one_by_one_ms": 20 * alone[0],
                "one_by_one_processor_ms": 20 * alone[1],
                "opened_each_time_ms": 500 * opened[0],
                "opened_each_time_processor_ms": 500 * opened[1],
            }
        )
        result = summary(rounds, seconds) | {
            "requests": len(seconds), "clients": CLIENTS, "killed": number + 1, "lost": lost,
            "wrong": wrong, "reconnected": reconnected, "peak_mb": round(peak_mb(server.pid)),
            "cores": len(os.sched_getaffinity(0)), "rounds": rounds,
        }  # fmt: skip
        file = RESULTS / ("serve-small.json" if args.small else "serve.json")
        file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print({k: v for k, v in result.items() if k != "rounds"}, flush=True)
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    assert not lost
    assert not wrong


def summary(rounds: list[dict[str, float]], seconds: list[float]) -> dict[str, Any]:
    """Medians over rounds of ratios within one, and percentiles over all requests."""
    ordered = sorted(seconds)
    at = {name: ordered[min(int(share * len(ordered)), len(ordered) - 1)]
          for name, share in (("50", 0.5), ("95", 0.95), ("99", 0.99))}  # fmt: skip

    def ratio(name: str, other: str) -> float:
        return round(median(one[other] / one[name] for one in rounds), 2)

    return {
        "throughput_over_one_by_one": ratio("serve_ms", "one_by_one_ms"),
        "processor_time_of_one_by_one_over_serve": ratio(
            "serve_processor_ms", "one_by_one_processor_ms"
        ),
        "throughput_over_opened_each_time": ratio("serve_ms", "opened_each_time_ms"),
        "latency_ms": {name: round(1000 * one) for name, one in at.items()},
        "slowest_ms": round(1000 * ordered[-1]),
        "latency_over_one_by_one": {
            name: round(1000 * one / median(r["one_by_one_ms"] for r in rounds), 1)
            for name, one in at.items()
        },
    }


if __name__ == "__main__":
    main()
