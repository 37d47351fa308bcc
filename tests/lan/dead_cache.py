"""The ways in which a cache is dead, and what each costs Nix."""

import subprocess
import time

from debian import NIX, at_once, realise
from lan import PYTHON


def answer(cache, script):
    """Has something else answer where the cache was."""
    cache.stop(cache.nginx)
    cache.start(PYTHON, "-c", "import http.server, pathlib, time\n"
                "class Handler(http.server.BaseHTTPRequestHandler):\n"
                f"    def do_GET(self):\n        {script}\n"
                "http.server.ThreadingHTTPServer(('', 9999), Handler).serve_forever()")
    cache.wait_for_port(9999, "t")


def break_off(cache, then=""):
    """Everything is right but NARs, of which it sends one half."""
    answer(cache, f"body = pathlib.Path('{cache.directory}/cache9999', self.path.removeprefix('/system/')).read_bytes();"
                  " half = len(body) // 2 if '/nar/' in self.path else len(body);"
                  " self.send_response(200); self.send_header('Content-Length', len(body));"
                  f" self.end_headers(); self.wfile.write(body[:half]); {then}")


WAYS = {
    "closed port": lambda cache: cache.stop(cache.nginx),
    "nobody there": lambda cache: cache.run("ip", "link", "set", "eth0", "down"),
    "dropped": lambda cache: cache.drop_by_default(),
    "hang after accept": lambda cache: answer(cache, "time.sleep(100000)"),
    "stall mid-NAR": lambda cache: break_off(cache, "half < len(body) and time.sleep(100000)"),
    "500": lambda cache: answer(cache, "self.send_error(500)"),
    "503": lambda cache: answer(cache, "self.send_error(503)"),
}


def measure(lan, way, binary_cache, limit):
    """Has a cache die that our file and a static list name: for each release, how many seconds a fetch
    takes with both of them; infinity past the limit, not a number where Nix fails."""
    path, content, public = binary_cache
    cache, upstream = lan.host("dying", 151), lan.host("alive", 152)
    # The static list, too, is to ask the cache first.
    cache.serve_cache(content, priority=30)
    upstream.serve_cache(content, priority=40)
    url = f"http://{upstream.address}:9999/system"
    cases = [(release, is_ours) for release in NIX for is_ours in (True, False)]
    # One computer for each: of the kernel's word that nobody is there, only a few a second are heard.
    clients = {case: lan.host(f"client{number}", number) for number, case in enumerate(cases, start=160)}
    for client in clients.values():
        client.write_etc("hosts", f"{cache.address} waterbug.lan\n")
        client.resolve("--methods", "hosts", "--upstream", url)
        (client.directory / "out/static.conf").write_text(
            f"substituters = http://{cache.address}:9999/system {url}\n")
    WAYS[way](cache)
    for client in clients.values():
        # Else the kernel goes on for half a minute as if somebody were there.
        client.run("ip", "neighbour", "flush", "all")

    def seconds(case):
        release, is_ours = case
        client, started = clients[case], time.monotonic()
        try:
            log = realise(client, release, path, public,
                          client.directory / "out" / ("nix.conf" if is_ours else "static.conf"), limit)
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.monotonic() - started if log else float("nan")
    took = at_once(seconds, cases)
    return {release: (took[release, True], took[release, False]) for release in NIX}
