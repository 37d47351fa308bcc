"""The sheet that the scenes fill: printed as it grows, then written as RESULTS.md with its pictures."""

import datetime
import os
import pathlib
import platform
import re
import subprocess
import threading

from lan import REPOSITORY, sh
from probe import HERE

SETTINGS = "set terminal svg size 760,{height} font 'sans,13' background 'white'\nset grid\nset output '{path}'\n"


def number(value):
    """A figure with three digits that say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine():
    """Where it was measured: the processor, the kernel, the system."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    kernel = platform.release().split("-")[0]
    return (f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB of memory,"
            f" Linux {kernel}, {system[1]}")


def load():
    """How busy the machine is: the load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


class Section:
    """What one scene has measured."""

    def __init__(self, scene, lock):
        self.name, self.title, self.lock = scene.__name__, " ".join(scene.__doc__.split()), lock
        self.times, self.rows, self.missed = [], [], 0
        self.picture, self.addresses = {}, []

    def time(self, what, times):
        """Takes the times of commands that took turns."""
        self.times.append((what, times))
        return times

    def compare(self, what, ours, other, theirs, goal):
        """Takes a comparison: ours may be at most `goal` times theirs."""
        is_met = ours <= goal * theirs
        self.missed += not is_met
        ratio = f"{ours / theirs:.3f}" if theirs else "-"
        self.rows.append((what, number(ours), other, number(theirs), ratio, f"{goal:.3f}", "" if is_met else "MISSED"))
        with self.lock:
            print("{:<58} {:>8} {:<30} {:>8} {:>7} {:>7} {}".format(*self.rows[-1]), flush=True)

    def render(self):
        """The section in Markdown."""
        lines = [f"## {self.name}", "", self.title, "", f"    tests/bench/run {self.name}", ""]
        if self.rows:
            lines += ["| what (ms unless said) | ours | against | theirs | ratio | at most | |",
                      "|---|---:|---|---:|---:|---:|---|"]
            lines += ["| " + " | ".join(row) + " |" for row in self.rows] + [""]
        if self.times:
            lines += ["| command | runs | median, ms | worst, ms | CPU, ms |", "|---|---:|---:|---:|---:|"]
            lines += [times_row(times) for _, group in self.times for times in group] + [""]
        return lines


def times_row(times):
    """A command's row in a table."""
    figures = len(times.walls), number(times.wall), number(times.worst), number(times.cpu)
    return "| " + " | ".join(map(str, (f"`{shorten(times.words)}`", *figures))) + " |"


def shorten(words):
    """A command as one would type it, without where it happens to lie."""
    text = words[2] if words[:2] == ["sh", "-c"] else " ".join(words)
    for found, instead in ((f"{REPOSITORY}/target/static/x86_64/", ""), (f"{REPOSITORY}/", ""), ("{out}", "OUT"), ("|", "\\|")):
        text = text.replace(found, instead)
    for found, instead in (("/tmp/cache-resolver-lan-[^/ ]*", "LAN"), (r"test-1:\S+", "KEY"), (r"/nix/store/\S+", "PATH")):
        text = re.sub(found, instead, text)
    return text


def programs(words):
    """The programs that a command runs."""
    known = "cache-resolver|limit|getent|nc|dig|curl|avahi-resolve|nmap|fping|arp-scan|masscan|fetch"
    found = re.findall(rf"(?<![\w.-])({known})(?= )(?:.* (-s[ST]))?", shorten(words).replace("tests/bench/", "").replace("LAN/client/", ""))
    return " + ".join(" ".join(filter(None, both)) for both in found).replace("fetch", "nix-store")


class Sheet:
    """All sections of a run."""

    def __init__(self):
        self.sections, self.lock = [], threading.Lock()
        self.load = load()
        print(f"{'what (ms unless said)':<58} {'ours':>8} {'against':<30} {'theirs':>8} {'ratio':>7} {'at most':>7}")

    def section(self, scene):
        """A new section, which is not printed before the others."""
        self.sections.append(Section(scene, self.lock))
        return self.sections[-1]

    @property
    def missed(self):
        """How many goals were missed."""
        return sum(section.missed for section in self.sections)

    def write(self, skipped):
        """Writes RESULTS.md and the pictures."""
        rows = sum(len(section.rows) for section in self.sections)
        commit = sh("git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD").stdout.strip()
        lines = [
            "# Results", "",
            "Written by `tests/bench/run`, which says at its head how to read them. Commands of a scene took turns in"
            " one run; a ratio is that of medians, unless the worst run is what counts (not_found, any_address).", "",
            f"- {datetime.date.today()}, commit {commit} (x86_64, `initrd/build-static`)",
            f"- {machine()}",
            f"- load averages before: {self.load}; after: {load()}",
            f"- {rows - self.missed} of {rows} goals met", *[f"- {line}" for line in skipped], "",
            "![By name, all runs](by-name.svg)", "", "![Medians](medians.svg)", "",
            "![Nothing named, by address](any-address.svg)", ""]
        for section in self.sections:
            lines += section.render()
        (HERE / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
        self.draw_by_name()
        self.draw_medians()
        self.draw_addresses()

    def draw_by_name(self):
        """How many of the runs by name had ended after a time."""
        curves = next(section.picture for section in self.sections if section.picture)
        data = [f"$data{index} << end\n" + "".join(
            f"{wall} {100 * (rank + 1) / len(times.walls)}\n" for rank, wall in enumerate(times.walls)) + "end\n"
            for index, times in enumerate(curves.values())]
        plots = ", ".join(f"$data{index} with steps linewidth 2 title '{name}'" for index, name in enumerate(curves))
        draw("by-name", 380, "".join(data) + "set logscale x\nset key left top\nset xlabel 'milliseconds'\n"
             "set ylabel 'runs that have ended, %'\nset title 'Found by DNS on a LAN'\nset yrange [0:100]\n"
             f"plot {plots}\n")

    def draw_medians(self):
        """The medians of all commands that took turns; ours is the first of each group."""
        bars = [(f"{what.replace('_', ' ')}: {programs(times.words)}", times.wall, int(times is group[0]))
                for section in self.sections for what, group in section.times if len(group) > 1 for times in group]
        count = len(bars)
        data = "$data << end\n" + "".join(
            f"{count - row} {wall} {is_ours} \"{name}\"\n" for row, (name, wall, is_ours) in enumerate(bars)) + "end\n"
        draw("medians", 120 + 19 * count, data + "set logscale x\nset key off\nset xlabel 'milliseconds, median'\n"
             f"set xrange [0.3:*]\nset yrange [0.3:{count}.7]\nset style fill solid\nset ytics font ',11'\n"
             "set title 'cache-resolver (dark) and what one would use instead'\n"
             "plot $data using (0.3):1:(0.3):2:($1-0.38):($1+0.38):($3 == 1 ? 0x1f4e79 : 0xc8c8c8):ytic(4)"
             " with boxxyerror linecolor rgb variable\n")

    def draw_addresses(self):
        """How long it takes to find the cache, by its address."""
        points = next(section.addresses for section in self.sections if section.addresses)
        data = "$data << end\n" + "".join(f"{address} {wall}\n" for address, wall in points) + "end\n"
        draw("any-address", 320, data + "set key off\nset xrange [0:255]\nset yrange [0:1300]\n"
             "set xlabel 'the last part of its address; ours is 50'\nset ylabel 'milliseconds'\n"
             "set title 'Nothing named: until the cache is found'\n"
             "plot 1200 with lines dashtype 2, $data with points pointtype 7 linecolor rgb '#1f4e79'\n")


def draw(name, height, commands):
    """Has gnuplot make a picture."""
    settings = SETTINGS.format(height=height, path=HERE / f"{name}.svg")
    subprocess.run(["gnuplot"], input=settings + commands, text=True, check=True)
