"""What breaks while it runs: killed, frozen, starved of disk, memory, descriptors and time.

Whatever happens, each file is the old one or the new one, the run ends in time and says what is wrong, and the
next run is right.
"""

import contextlib
import json
import os
import pathlib
import signal
import time

import pytest

from faults import FILES, TEMPORARY, is_whole
from lan import PROGRAM, PYTHON, REPOSITORY
from test_hostile import real_time

pytestmark = pytest.mark.alone

FAULTS = pathlib.Path(__file__).with_name("faults.py")
SEED = int(os.environ.get("CACHE_RESOLVER_SEED", time.time()))
FALLBACK = "# Written by cache-resolver. No local cache answered.\nsubstituters = https://cache.nixos.org\n"
FOUND = """# Written by cache-resolver. waterbug answered at ADDRESS:9999.
substituters = http://ADDRESS:9999/system?priority=30 https://cache.nixos.org
connect-timeout = 10
download-attempts = 3
stalled-download-timeout = 30
fallback = true
"""
NOT_FOUND = {"nix.conf": FALLBACK}
# Calls that make, fill, name and remove files, and the errors that a disk gives.
WRITING = ("mkdir", "openat", "fchown", "flock", "write", "fsync", "close", "rename", "link", "unlink", "umask")
DISK_ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
# Seconds for all runs of a test, on a busy machine.
TIMEOUT = 60
# What the program promises, in seconds.
LATE_MAX = 0.1
STOP_MAX = 0.05
# Who waits for nobody has ended by then; who waits for a writer of a FIFO has not.
WAIT_MAX = 2
# How often it is tried: a machine that is busy with other things is late, too.
RUNS = 3
KILLS = 1000


def experiment(host, what, **options):
    """Does something to many runs on the host, whose files are in memory as those in /run: how each has ended. What
    else the machine does is to delay them little; but shell commands that go wrong must not hold up all else."""
    place = host.directory / "memory"
    place.mkdir(exist_ok=True)
    command = f"mount -t tmpfs tmpfs {place} && exec nice -n -20 {PYTHON} {FAULTS} {what} {PROGRAM} {place}"
    with contextlib.nullcontext() if what == "run" else real_time():
        return json.loads(host.run("sh", "-c", command, input=json.dumps(options), timeout=TIMEOUT).stdout)


def run_all(host, jobs, workers=2):
    """Runs shell commands on the host: how each has ended."""
    return experiment(host, "run", jobs=list(jobs), workers=workers)


def run_in_time(host, jobs, seconds):
    """The same, all side by side; none takes longer than that, and who does is tried again, alone."""
    jobs = list(jobs)
    results = run_all(host, jobs, workers=len(jobs))
    for number, result in enumerate(results):
        for _ in range(RUNS):
            if results[number]["seconds"] >= seconds:
                [results[number]] = run_all(host, [{key: result[key] for key in jobs[number]}])
        assert results[number]["seconds"] < seconds, results[number]
    return results


def assert_whole(result, *allowed):
    """Each file is one of those that are allowed, or not there; the run has ended by itself, and says why it failed."""
    assert result["status"] in (0, 1), result
    files = result["files"]
    for name in ("nix.conf", "waterbug-ip"):
        assert files.get(name) in [None, *(each.get(name) for each in allowed)], result
    assert is_whole(files.get("explain") or "\n"), result
    if result["status"] == 0:
        assert files.get("nix.conf"), result
    else:
        assert "cannot write" in result["said"], result


def found(cache):
    """What stands in the files where the cache is found."""
    return {"waterbug-ip": f"{cache.address}\n", "nix.conf": FOUND.replace("ADDRESS", cache.address)}


@pytest.fixture
def decisions(cache, client):
    """Override files that decide otherwise, one that there is none, the other that there is a cache: its address."""
    for name, order in (("none", "none"), ("cache", cache.address)):
        (client.directory / name).write_text(order + "\n")
    return [str(client.directory / name) for name in ("none", "cache")]


def test_killed_at_any_moment(client, decisions):
    print("CACHE_RESOLVER_SEED =", SEED)
    result = experiment(client, "kill", seed=SEED, count=KILLS, decisions=decisions)
    print(result)
    assert result["wrong"] == []
    assert result["left"] > KILLS / 50, "few were killed while they wrote"


def scenes(client, cache, decisions):
    """Runs that write in each of the ways there are, with what they do it over and what they may leave."""
    none, one = decisions
    decide = 'exec $TRACE $PROGRAM --output-dir $OUT --override'
    # The first call that is made but once, and when a signal is heard already.
    stop = decide.replace("$TRACE", "$TRACE -e inject=geteuid:signal=TERM")
    before = "$PROGRAM -q --output-dir $OUT --override"
    either = [found(cache), NOT_FOUND]
    return {
        "first": (":", f"{decide} {one}", either),
        "none any more": (f"{before} {one}", f"{decide} {none}", either),
        "found again": (f"{before} {none}", f"{decide} {one}", either),
        "stopped": (":", f"{stop} {client.directory}/missing", [NOT_FOUND]),
    }


def test_the_disk_fails_at_any_call(client, cache, decisions):
    """The error comes at the first call of a kind, in another run at the second, and so on to the last."""
    whole = f"$PROGRAM -q --output-dir $OUT --override {decisions[1]}"
    # An injected error reaches the filter as call number -1: no trap here.
    trace = "strace -qq -E CACHE_RESOLVER_TRAP -o $OUT.trace -e trace=" + ",".join((*WRITING, "geteuid"))
    prepared = scenes(client, cache, decisions)
    counted = run_all(client, [{"command": f"{before}; TRACE=\"{trace}\"; {command}", "then": "cat $OUT.trace >&2",
                                "scene": scene} for scene, (before, command, _) in prepared.items()])
    jobs = []
    for result in counted:
        assert_whole(result, *prepared[result["scene"]][-1])
        before, command, _ = prepared[result["scene"]]
        calls = [line.split("(")[0] for line in result["then"]["said"].splitlines()]
        for call in WRITING:
            for number in range(1, calls.count(call) + 1):
                for error in DISK_ERRORS:
                    failing = f"{trace} -e inject={call}:error={error}:when={number}"
                    jobs.append({"command": f"{before}; TRACE=\"{failing}\"; {command}", "then": whole,
                                 "scene": result["scene"], "call": call})
    assert len(jobs) > 200, jobs
    results = run_all(client, jobs)
    for result in results:
        assert_whole(result, *prepared[result["scene"]][-1])
        # What cannot be removed, and a lock that the file system knows nothing of.
        left = {"unlink": TEMPORARY, "flock": {".lock"}}.get(result["call"], set())
        assert result["files"].keys() <= FILES | left, result
        assert_recovers(result, cache)
    assert sum(result["status"] for result in results) > len(jobs) / 10, "the errors have met nothing"


def assert_recovers(result, cache):
    """The next run is right, and leaves nothing but its files."""
    assert result["then"]["status"] == 0, result
    files = dict(result["then"]["files"])
    files.pop("explain")
    assert files == found(cache), result


# Below this the kernel cannot start the program: its stack has 132 KiB, the program 140, and what it keeps in reserve
# 1024. It says so by SIGSEGV, before the first instruction.
STARTS_AT_KIB = 1312
MEMORY_STEP_KIB = 16


def test_little_memory(client, cache, decisions):
    """As much as there may be, or less, down to where nothing starts: found, or out of memory and the fallback."""
    command = f"exec prlimit --as={{}} $PROGRAM --output-dir $OUT --override {decisions[1]}"
    limits = [8192, 4096, 2048, *range(STARTS_AT_KIB + 256, STARTS_AT_KIB - 256, -MEMORY_STEP_KIB)]
    results = run_all(client, [{"command": command.format(kib * 1024), "kib": kib} for kib in limits])
    ended = {"found": 0, "out of memory": 0, "not started": 0}
    for result in results:
        if result["kib"] < STARTS_AT_KIB and result["status"] == -signal.SIGSEGV:
            assert not result["files"] and not result["said"], result
            ended["not started"] += 1
            continue
        assert result["status"] == 0, result
        assert_whole(result, found(cache), NOT_FOUND)
        out_of_memory = "cache-resolver: out of memory\n" in result["said"]
        assert ("waterbug-ip" in result["files"]) != out_of_memory, result
        ended["out of memory" if out_of_memory else "found"] += 1
    print(ended)
    assert results[0]["files"]["nix.conf"] == found(cache)["nix.conf"], "8 MiB are plenty"
    assert all(ended.values()), ended


def test_memory_ends_in_the_middle(client, cache):
    """Each time that memory is asked of the kernel, from the first to the last of a long report. Who was to stay says
    by its status that it has not."""
    trace = "strace -qq -E CACHE_RESOLVER_TRAP --seccomp-bpf -f -o $OUT.trace -e trace=mmap"
    # A network that is not there, so that all is asked and much is told.
    whole = ("$PROGRAM -v --json --output-dir $OUT --methods sweep --sweep 10.78.0.0/22 --sweep-rate 4000"
             " --budget 1.5 >/dev/null")
    [counted] = run_all(client, [{"command": f"{trace} {whole}", "then": "cat $OUT.trace >&2"}])
    calls = counted["then"]["said"].count("mmap(")
    assert calls >= 3, counted
    failing = f"exec {trace} -e inject=mmap:error=ENOMEM:when={{}}+ {whole}"
    jobs = [{"command": failing.format(number) + option, "expected": status}
            for option, status in (("", 0), (" --watch", 1)) for number in range(1, calls + 1)]
    for result in run_all(client, jobs, workers=calls):
        assert result["status"] == result["expected"] and "out of memory" in result["said"], result
        assert_whole({**result, "status": 0}, found(cache), NOT_FOUND)


# Enough to find a cache, whatever the way.
DESCRIPTORS = 16


def test_few_descriptors(client, cache, decisions):
    """As few as there may be, down to none: found or not in time, written or said why not."""
    command = "exec prlimit --nofile={} $PROGRAM --output-dir $OUT {}"
    options = ("", f"--override {decisions[1]}", "--methods sweep")
    limits = range(DESCRIPTORS, -1, -1)
    jobs = ({"command": command.format(limit, f"--budget 1 {option}"), "limit": limit} for option in options
            for limit in limits)
    for result in run_in_time(client, jobs, 1 + LATE_MAX):
        if result["limit"]:  # poll(2) wants one for each that it looks at: then nothing can be said
            assert_whole(result, found(cache), NOT_FOUND)
    for result in run_all(client, ({"command": command.format(DESCRIPTORS, option)} for option in options)):
        assert result["files"]["nix.conf"] == found(cache)["nix.conf"], result


def test_few_descriptors_and_a_signal(client):
    """It is heard where the system has no descriptor for it."""
    command = "prlimit --nofile={} $PROGRAM --output-dir $OUT & sleep 0.3; kill $!; wait $!"
    run_in_time(client, ({"command": command.format(limit)} for limit in range(17)), 0.3 + LATE_MAX)


def test_no_proc_and_no_sys(client, cache, router):
    router.serve_dns(f"--host-record=waterbug.lan,{cache.address}")
    command = "exec unshare --mount sh -c '{}; exec $PROGRAM --output-dir $OUT {}'"
    jobs = [{"command": command.format("; ".join(f"mount -t tmpfs tmpfs {place}" for place in places), option)}
            for places in (["/proc"], ["/sys"], ["/sys", "/proc"]) for option in ("", "--methods sweep")]
    for result in run_all(client, jobs):
        assert result["status"] == 0 and result["seconds"] < 3, result
        assert_whole(result, found(cache))
        assert "waterbug-ip" in result["files"], result


@pytest.mark.parametrize("options", ["size={}k,nr_inodes=20", "size=1m,nr_inodes={}"])
def test_a_small_disk(client, cache, decisions, options):
    """Pages or files for nothing, for the first thing that is written, the second, and so on."""
    none, one = decisions
    whole = f"$PROGRAM -q --output-dir $OUT --override {one}"
    jobs = [{"command": f"mkdir $OUT && mount -t tmpfs -o size=1m,nr_inodes=20 tmpfs $OUT && cd $OUT && {before}"
                        f" mount -o remount,{options.format(room)} $OUT; $PROGRAM --output-dir $OUT --override {one}",
             "then": f"mount -o remount,size=1m,nr_inodes=20 $OUT && exec {whole}"}
            for room in range(4, 33, 4) for before in ("", f"$PROGRAM -q --output-dir $OUT --override {none};")]
    results = run_all(client, jobs)
    for result in results:
        assert_whole(result, found(cache), NOT_FOUND)
        assert result["files"].keys() <= FILES, result
        assert_recovers(result, cache)
    assert {result["status"] for result in results} == {0, 1}


# What may stand where a file of ours is to be; `$FILE` is its place, and 65534 another user.
IN_OUR_PLACE = (
    "touch $FILE; chown 65534 $FILE; chmod 666 $FILE", "mkfifo -m 666 $FILE; chown 65534 $FILE", "mkdir -p $FILE/full",
    "ln -s $FILE $FILE", "ln -s /dev/full $FILE", "mknod $FILE c 1 5", "echo precious >$OUT/other; ln $OUT/other $FILE",
)


def test_what_stands_in_our_place(client, cache, decisions):
    """Whatever it is: replaced, or said to be in the way, and nobody waits for it."""
    whole = f"$PROGRAM -q --output-dir $OUT --override {decisions[1]}"
    jobs = [{"command": f"mkdir $OUT; FILE=$OUT/{name}; {place}; {whole}", "name": name, "place": place,
             "then": f"rm -rf $OUT/{name}; cat $OUT/other >&2; {whole}"}
            for name in sorted(FILES | TEMPORARY) for place in IN_OUR_PLACE]
    for result in run_all(client, jobs):
        assert result["seconds"] < WAIT_MAX, result
        is_in_the_way = result["name"] in ("nix.conf", "waterbug-ip") and "mkdir" in result["place"]
        assert result["status"] == is_in_the_way, result
        files = result["files"]
        if result["status"] == 0:
            assert {name: files[name] for name in found(cache)} == found(cache), result
        else:
            assert "cannot write" in result["said"], result
        assert files.keys() <= FILES | {"other", result["name"]}, result
        assert files.get("other") in (None, "precious\n"), result
        result["then"]["files"].pop("other", None)
        assert_recovers(result, cache)


def test_the_directory_becomes_a_symlink(client, cache, decisions):
    """Between any two calls that see it: each file is in one place or the other, whole, and the next run is right."""
    none, one = decisions
    calls = ("mkdir", "openat", "newfstatat", "flock", "write", "fsync", "rename", "unlink")
    trace = "strace -qq -E CACHE_RESOLVER_TRAP -o $OUT.trace -e trace=" + ",".join(calls)
    before = f"$PROGRAM -q --output-dir $OUT --override {none}"
    whole = f"$PROGRAM -q --output-dir $OUT --override {one}"
    [counted] = run_all(client, [{"command": f"{before}; {trace} {whole}", "then": "cat $OUT.trace >&2"}])
    names = [line.split("(")[0] for line in counted["then"]["said"].splitlines()]
    # Once it stands still the other place is put there, and it goes on.
    swap = ("until grep -qs 'stopped by' $OUT.trace; do sleep 0.002; kill -0 $! || break; done;"
            " mv $OUT $OUT.old; mkdir $OUT.new; ln -s $OUT.new $OUT; read -r process </proc/$!/task/$!/children;"
            " kill -CONT $process; wait $!")
    jobs = [{"command": f"{before}; {trace} -e inject={call}:signal=STOP:when={number} {whole} & {swap}",
             "then": f"cat $OUT.old/nix.conf >&2; exec {whole}"}
            for call in calls for number in range(1, names.count(call) + 1)]
    assert len(jobs) > 20, names
    in_old = 0
    for result in run_all(client, jobs):
        # What the old place has in the end.
        old = result["then"]["said"]
        assert old in (FALLBACK, found(cache)["nix.conf"]), result
        in_old += old != FALLBACK
        files = result["files"]
        assert_whole({**result, "files": {"nix.conf": old, **files}}, found(cache), NOT_FOUND)
        if result["status"] == 0:
            assert found(cache)["nix.conf"] in (old, files.get("nix.conf")), result
        assert_recovers(result, cache)
    assert 0 < in_old < len(jobs), "some runs have written before, some after"


# How often SIGTERM is sent in a run that looks everywhere and finds nothing, and how long that takes, in seconds.
TERMS, SEARCH_SECONDS = 120, 2.2
def test_sigterm_in_every_phase(client, router):
    """At steps over the whole run, closer together at its start; who was not heard in time is tried again, alone."""
    delays = [SEARCH_SECONDS * (step / TERMS) ** 2 for step in range(TERMS)]
    results = experiment(client, "term", delays=delays, workers=16, options=[])
    for result in results:
        for _ in range(RUNS):
            if result["seconds"] < STOP_MAX:
                break
            [result] = experiment(client, "term", delays=[result["delay"]], workers=1, options=[])
        assert result["seconds"] < STOP_MAX, result
        # Before the first instruction it ends us as it ends others.
        assert result["status"] == 0 or (result["status"] == -signal.SIGTERM and result["delay"] < 0.01), result
        if result["status"] == 0:
            assert result["files"]["nix.conf"] == FALLBACK and result["files"].keys() <= FILES, result
    print(sum(result["is_running"] for result in results), max(result["seconds"] for result in results),
          [result["delay"] for result in results if result["status"]])
    assert sum(result["is_running"] for result in results) > 0.9 * TERMS


# What poll(2) had left to wait when it was frozen it waits afterwards, without a word to us (signal(7)): between two
# packets of a search at most so many seconds.
POLL_MAX = 0.3


def test_frozen_for_a_while(client, router):
    """The budget counts while nothing runs: over soon if it is spent, and on with the search if not."""
    frozen = 3
    runs = [[at, budget] for at in (0.0005, 0.002, 0.01, 0.05, 0.1, 0.3, 0.6, 0.9) for budget in (1, frozen + 1.5)]
    for result in experiment(client, "freeze", runs=runs, seconds=frozen, options=[]):
        late = result["ended"] - max(result["went_on"], result["budget"])
        print(result["at"], result["budget"], late)
        assert late < LATE_MAX + POLL_MAX, result
        assert result["status"] in (0, 75) and result["files"]["nix.conf"] == FALLBACK, result


BUSY = 8


def test_on_a_busy_machine(client, router):
    """Eight loops beside it that never rest."""
    loops = [client.start("sh", "-c", "while :; do :; done") for _ in range(BUSY)]
    late = []
    try:
        while len(late) < RUNS and min(late, default=LATE_MAX) >= LATE_MAX:
            late.append(client.resolve("--budget", 1, check=False).seconds - 1)
    finally:
        for loop in loops:
            client.stop(loop)
    assert min(late) < LATE_MAX, late


def test_the_wall_clock_decides_nothing():
    """It cannot be set back for one program: no namespace has it, and it is read without a system call. So: it is read
    in one place, where the watcher asks whether a file was changed too lately to know it by its time."""
    sources = {path: path.read_text() for path in (REPOSITORY / "src").rglob("*.rs")}
    for word, places in (("CLOCK_REALTIME", {"sys/mod.rs": 1}), ("seconds_since_1970", {"sys/mod.rs": 1, "run.rs": 1}),
                         ("SystemTime", {})):
        counts = {str(path.relative_to(REPOSITORY / "src")): source.count(word) for path, source in sources.items()}
        assert {path: count for path, count in counts.items() if count} == places
