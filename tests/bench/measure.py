"""Times whole processes inside a namespace: reads jobs from standard input, prints results, as JSON.

The input is {"words": [[...], ...], "runs": N}; `{out}` in a word is a fresh directory for each run.
The answer is for each job the wall and CPU times in milliseconds and the exit status, run by run.
"""

import json
import os
import random
import resource
import sys
import tempfile
import time


def run(words):
    """One run: wall time, CPU time, exit status."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as directory:
        words = [word.replace("{out}", f"{directory}/out") for word in words]
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=null)
        _, status = os.waitpid(pid, 0)
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall * 1000, cpu * 1000, os.waitstatus_to_exitcode(status)


def main():
    """Takes turns, so that a noisy moment hits all jobs alike, in another order each time: who comes after one
    that fills the processor's caches is slower, and who comes after one of its kind faster."""
    jobs = json.load(sys.stdin)
    words, order = jobs["words"], random.Random(1)
    for each in words if jobs["runs"] > 1 else ():
        run(each)  # once for the file cache
    runs = [[] for _ in words]
    for _ in range(jobs["runs"]):
        for job in order.sample(range(len(words)), len(words)):
            runs[job].append(run(words[job]))
    json.dump([dict(zip(("wall", "cpu", "status"), zip(*column))) for column in runs], sys.stdout)


main()
