"""Runs the program many times inside a host, does something to each run, and says how each has ended.

    faults.py run|kill|term|freeze PROGRAM DIRECTORY <OPTIONS

It is started in the host's namespace once for a whole series, because `ip netns exec` would take longer than the
runs. Options and results are JSON.
"""

import concurrent.futures
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time

# The names that a run gives to files; one that was killed may leave any of them, and no others.
FILES = {"nix.conf", "waterbug-ip", "explain"}
TEMPORARY = {f"{name}.new" for name in FILES} | {".lock"}
# A moment is taken from this many times what a run takes, so that some come at its very end.
MOMENT_MAX = 1.1
# A killed series is followed by a whole run this often: what is left may pile up in between.
WHOLE_RUN_EVERY = 25
# Some are asked to end just before they are killed, so that what that starts is hit as well.
TERM_BEFORE_KILL_SHARE = 0.2
TERM_BEFORE_KILL_SECONDS = 0.0005


def start(words):
    """Starts the program with nobody to read it."""
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def content(directory):
    """Every file of the directory with what is in it; null for what is no file."""
    if not directory.is_dir():
        return {}
    return {path.name: path.read_text() if path.is_file() and not path.is_symlink() else None
            for path in directory.iterdir()}


class Killed:
    """A directory whose runs are killed at random moments."""

    def __init__(self, program, directory, seed, count, decisions):
        self.words = [program, "-q", "--output-dir", str(directory)]
        self.directory, self.count, self.decisions = directory, count, decisions
        self.random = random.Random(seed)
        self.most_left = 0

    def run(self, override):
        """A run that nobody disturbs: what it writes, and the seconds it took."""
        started = time.monotonic()
        assert subprocess.run([*self.words, "--override", override], check=False).returncode == 0
        return content(self.directory), time.monotonic() - started

    def series(self):
        """Kills runs until `count` were hit: what is wrong, how many left something, and the most that was left."""
        wrong, hits, left = [], 0, 0
        wanted, seconds = {}, []
        for _ in range(5):
            for override in self.decisions:
                files, took = self.run(override)
                files.pop("explain")
                wanted[override] = files
                seconds.append(took)
        usual = statistics.median(seconds)
        expected = {name: [files.get(name) for files in wanted.values()] for name in ("nix.conf", "waterbug-ip")}
        turn = 0
        while hits < self.count and not wrong:
            turn += 1
            override = self.random.choice(self.decisions)
            if turn % WHOLE_RUN_EVERY == 0:
                files, _ = self.run(override)
                explained = files.pop("explain", "")
                # It goes with the next cache that is found: where there is none it is not looked for.
                if not wanted[override].get("waterbug-ip"):
                    files.pop("waterbug-ip.new", None)
                if files != wanted[override] or not is_whole(explained):
                    wrong.append(["the next run", override, files])
                if self.random.random() < 0.5:
                    for name in FILES:
                        (self.directory / name).unlink(missing_ok=True)
                continue
            hits += self.kill(override, usual)
            files = content(self.directory)
            for name, either in expected.items():
                if files.get(name) not in [None, *either]:
                    wrong.append(["neither old nor new", name, files[name]])
            if not is_whole(files.get("explain", "\n")):
                wrong.append(["part of an explanation", files["explain"]])
            leftovers = files.keys() - FILES
            left += bool(leftovers)
            self.most_left = max(self.most_left, len(leftovers))
            if leftovers - TEMPORARY:
                wrong.append(["what nobody will remove", sorted(leftovers)])
        return {"wrong": wrong, "hits": hits, "left": left, "most_left": self.most_left, "usual": usual}

    def kill(self, override, usual):
        """Kills one run: whether it was still there."""
        process = start([*self.words, "--override", override])
        time.sleep(self.random.uniform(0, usual * MOMENT_MAX))
        if self.random.random() < TERM_BEFORE_KILL_SHARE:
            process.terminate()
            time.sleep(self.random.uniform(0, TERM_BEFORE_KILL_SECONDS))
        process.kill()
        return process.wait() == -signal.SIGKILL


def is_whole(explanation):
    """Whether an explanation has both its ends."""
    return explanation == "\n" or (explanation.startswith(("FOUND", "NOT FOUND")) and explanation.endswith("\n"))


def kill(program, directory, options):
    """Kills runs at random moments."""
    killed = Killed(program, directory / "killed", options["seed"], options["count"], options["decisions"])
    return killed.series()


def term(program, directory, options):
    """Sends SIGTERM after each of the delays: the seconds until the end, and what was left."""
    def one(numbered):
        number, delay = numbered
        place = directory / f"term{number}"
        process = start([program, "-q", "--output-dir", str(place), *options["options"]])
        time.sleep(delay)
        is_running = process.poll() is None
        process.terminate()
        asked = time.monotonic()
        status = process.wait()
        return {"delay": delay, "seconds": time.monotonic() - asked, "status": status, "is_running": is_running,
                "files": content(place)}
    return in_parallel(options["workers"], one, enumerate(options["delays"]))


def freeze(program, directory, options):
    """Stops each run for a while, `at` seconds after its start: when it went on and when it ended, from its start."""
    def one(numbered):
        number, (at, budget) = numbered
        place = directory / f"frozen{number}"
        started = time.monotonic()
        process = start([program, "-q", "--budget", str(budget), "--output-dir", str(place), *options["options"]])
        time.sleep(at)
        process.send_signal(signal.SIGSTOP)
        time.sleep(options["seconds"])
        process.send_signal(signal.SIGCONT)
        went_on = time.monotonic() - started
        status = process.wait()
        return {"at": at, "budget": budget, "went_on": went_on, "ended": time.monotonic() - started, "status": status,
                "files": content(place)}
    return in_parallel(len(options["runs"]), one, enumerate(options["runs"]))


def run(program, directory, options):
    """Runs shell commands that know `$PROGRAM`, and each its own directory `$OUT`: how each has ended. Whatever `then`
    says is run afterwards in the same place."""
    def one(numbered):
        number, job = numbered
        place = directory / f"run{number}"
        environment = {**os.environ, "PROGRAM": program, "OUT": str(place)}
        result = {}
        for step in ("command", "then"):
            started = time.monotonic()
            ended = subprocess.run(["sh", "-c", job.get(step, ":")], env=environment, capture_output=True, text=True,
                                   stdin=subprocess.DEVNULL, check=False)
            result[step] = {"seconds": time.monotonic() - started, "status": ended.returncode, "said": ended.stderr,
                            "files": content(place)}
        return {**job, **result["command"], "then": result["then"]}
    return in_parallel(options["workers"], one, enumerate(options["jobs"]))


def in_parallel(workers, function, items):
    """The results for all items, so many at a time."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


if __name__ == "__main__":
    what, program, directory = sys.argv[1:]
    os.umask(0o022)
    experiment = {"run": run, "kill": kill, "term": term, "freeze": freeze}[what]
    print(json.dumps(experiment(program, pathlib.Path(directory), json.load(sys.stdin))))
