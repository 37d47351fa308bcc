"""A LAN on one machine: a bridge, and hosts that are network namespaces.

Every host has real programs in it. Everything started is ended, by process id, when the LAN
closes, and its namespaces go with it.
"""

import ipaddress
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

NETWORK = ipaddress.ip_network("10.77.0.0/24")
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("CACHE_RESOLVER") or str(
    REPOSITORY / "target/static/x86_64/cache-resolver"
)
PYTHON = "/usr/bin/python3"
# A system call that the program's own filter lacks ends it, here.
os.environ["CACHE_RESOLVER_TRAP"] = "1"
READY_SECONDS = 10
COUNTER = itertools.count()


def sh(*words, check=True, **options):
    """Runs a command and returns it, its output as text."""
    return subprocess.run(words, check=check, text=True, capture_output=True, **options)


def wait_until(condition, what, seconds=READY_SECONDS):
    """Polls until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def make_binary_cache(directory, count=1):
    """Signed store paths in a binary cache: the paths, the cache's directory, the public key."""
    nix = ("nix", "--extra-experimental-features", "nix-command")
    secret = directory / "secret"
    secret.write_text(sh(*nix, "key", "generate-secret", "--key-name", "test-1").stdout)
    public = sh(*nix, "key", "convert-secret-to-public", input=secret.read_text()).stdout.strip()
    store, paths = f"local?root={directory}/store", []
    for number in range(count):
        content = directory / f"content{number}"
        content.write_text(f"hello from path {number}\n" * 1000)
        paths.append(sh(*nix, "store", "add-file", "--store", store, content).stdout.strip())
    sh(*nix, "store", "sign", "--store", store, "--key-file", secret, *paths)
    sh(*nix, "copy", "--from", store, "--to", f"file://{directory}/cache", *paths)
    return paths, directory / "cache", public


class Lan:
    """A bridge in a namespace of its own; `host()` plugs another host into it."""

    def __init__(self, network=NETWORK):
        self.network = network
        self.prefix = f"cr{os.getpid()}x{next(COUNTER)}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cache-resolver-lan-"))
        self.directory.chmod(0o755)  # tests run as other users, too
        self.hosts = []
        self.switch = f"{self.prefix}-switch"
        sh("ip", "netns", "add", self.switch)
        self.in_switch("ip", "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        self.in_switch("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        self.in_switch("ip", "link", "set", "lan", "up")

    def in_switch(self, *words, **options):
        """Runs a command where the bridge is."""
        return sh("ip", "netns", "exec", self.switch, *words, **options)

    def host(self, name, number=None, ipv6=False, plugged=True):
        """Adds a host with the `number`th address of the network."""
        host = Host(self, name, number, ipv6, plugged)
        self.hosts.append(host)
        return host

    def close(self):
        """Ends all processes, then removes everything."""
        for host in self.hosts:
            host.close()
        sh("ip", "netns", "del", self.switch)
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Host:
    """A host in a LAN."""

    def __init__(self, lan, name, number, ipv6, plugged):
        self.lan = lan
        self.name = name
        self.namespace = f"{lan.prefix}-{name}"
        self.directory = lan.directory / name
        self.directory.mkdir()
        self.processes = []
        self.address = str(lan.network[number]) if number else None
        self.prefix_length = lan.network.prefixlen
        # `ip netns exec` puts these over the files in /etc.
        self.etc = pathlib.Path("/etc/netns") / self.namespace
        self.etc.mkdir(parents=True)
        self.write_etc("resolv.conf", "nameserver 127.0.0.1\n")
        self.write_etc("hosts", "127.0.0.1 localhost\n")
        sh("ip", "netns", "add", self.namespace)
        for setting in ("all.disable_ipv6=" + str(int(not ipv6)), "default.accept_dad=0"):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{setting}")
        self.run("ip", "link", "set", "lo", "up")
        if plugged:
            self.plug()

    def plug(self):
        """Connects the host to the switch, and gives it its address."""
        self.port = f"p{os.getpid()}x{next(COUNTER)}"  # no switch has two of them
        sh("ip", "link", "add", "eth0", "netns", self.namespace, "type", "veth",
           "peer", "name", self.port, "netns", self.lan.switch)
        self.lan.in_switch("ip", "link", "set", self.port, "master", "lan", "up")
        self.run("ip", "link", "set", "eth0", "up")
        wait_until(self.is_connected, f"{self.name}: eth0")
        if self.address:
            self.add_address(self.address)

    def is_connected(self):
        """Whether packets pass both ways. The kernel brings up a cable's far end when it finds the time:
        late where it is still removing the namespaces of the test before."""
        states = ((self.run, "eth0/operstate", "up"),
                  (self.lan.in_switch, f"{self.port}/brport/state", "3"))  # BR_STATE_FORWARDING
        return all(run("cat", f"/sys/class/net/{file}").stdout.strip() == state
                   for run, file, state in states)

    def move(self, to):
        """Plugs the host's cable into another LAN's switch; its addresses stay."""
        self.lan.in_switch("ip", "link", "set", self.port, "netns", to.switch)
        to.in_switch("ip", "link", "set", self.port, "master", "lan", "up")
        self.lan = to

    def add_address(self, address):
        """Adds an IPv4 address of the LAN."""
        self.run("ip", "address", "add", f"{address}/{self.prefix_length}", "brd", "+", "dev", "eth0")

    def write_etc(self, name, content):
        """Writes a file that stands in /etc for this host alone."""
        (self.etc / name).write_text(content)

    def run(self, *words, check=True, **options):
        """Runs a command on this host."""
        return sh("ip", "netns", "exec", self.namespace, *map(str, words), check=check, **options)

    def start(self, *words, **options):
        """Starts a program on this host that runs until the LAN closes; what it says is in its `log`."""
        path = self.directory / f"log{next(COUNTER)}"
        with open(path, "w") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *map(str, words)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options)
        process.log = path
        self.processes.append(process)
        return process

    def stop(self, process):
        """Ends one program."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.remove(process)

    def close(self):
        """Ends the host's programs and removes it."""
        for process in list(self.processes):
            self.stop(process)
        sh("ip", "netns", "del", self.namespace)
        shutil.rmtree(self.etc)

    def wait_for_port(self, port, kind):
        """Waits until something listens; `kind` is `t` for TCP, `u` for UDP."""
        def listens():
            return self.run("ss", "-Hln", f"-{kind}", f"sport = :{port}").stdout != ""
        wait_until(listens, f"{self.name}: port {port}")

    # The programs that our users run.

    def serve_cache(self, content=None, port=9999, priority=41, extra=""):
        """nginx with a binary cache at /system, with the `content` of another or empty; returns the
        directory that it serves."""
        root = self.directory / f"cache{port}"
        root.mkdir(exist_ok=True)
        if content:
            shutil.copytree(content, root, dirs_exist_ok=True)
        (root / "nix-cache-info").write_text(
            f"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: {priority}\n")
        config = self.directory / f"nginx{port}.conf"
        work = self.directory / f"nginx{port}"
        work.mkdir(exist_ok=True)
        temporary = "".join(
            f"{kind}_temp_path {work}/{kind};" for kind in
            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(
            f"user root; pid {work}/pid; error_log stderr; worker_processes 1;"
            f"events {{}} http {{ {temporary} access_log {work}/access.log;"
            f"server {{ listen {port} default_server; listen [::]:{port} default_server;"
            f"{extra} location /system/ {{ alias {root}/; }} }} }}")
        self.nginx = self.start("nginx", "-c", config, "-g", "daemon off;")
        self.wait_for_port(port, "t")
        return root

    def requests(self, port=9999):
        """What has been asked of the cache that this host serves: nginx's log, line by line."""
        return (self.directory / f"nginx{port}/access.log").read_text().splitlines()

    def serve_dns(self, *options):
        """dnsmasq that knows only what the options say."""
        server = self.start(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
            "--no-hosts", "--user=root", "--pid-file=", "--log-facility=-",
            *options)
        self.wait_for_port(53, "u")
        return server

    def serve_unbound(self, *local_data):
        """unbound that is the authority for lan. and knows these records."""
        config = self.directory / "unbound.conf"
        data = "".join(f"  local-data: '{record}'\n" for record in local_data)
        config.write_text(
            "server:\n  interface: 0.0.0.0\n  access-control: 0.0.0.0/0 allow\n"
            f"  username: ''\n  chroot: ''\n  directory: '{self.directory}'\n  pidfile: ''\n"
            "  use-syslog: no\n  do-daemonize: no\n  do-not-query-localhost: no\n"
            f"  local-zone: 'lan.' static\n{data}"
            "remote-control:\n  control-enable: no\n")
        self.start("unbound", "-d", "-c", config)
        self.wait_for_port(53, "u")

    def announce_by_avahi(self, name="waterbug"):
        """avahi-daemon that calls this host `name`.local; no D-Bus, its own /run."""
        config = self.directory / "avahi.conf"
        config.write_text(
            f"[server]\nhost-name={name}\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=no\n"
            "allow-interfaces=eth0\nratelimit-interval-usec=0\n"
            "[publish]\npublish-hinfo=no\npublish-workstation=no\n")
        process = self.start(
            "sh", "-c",
            f"mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && exec avahi-daemon"
            f" --no-drop-root --no-chroot --no-rlimits -f {config}")
        wait_until(lambda: "Server startup complete" in process.log.read_text(), "avahi")
        return process

    def announce_by_zeroconf(self, name="waterbug"):
        """python-zeroconf that answers for `name`.local, at the addresses that are not link-local."""
        addresses = self.addresses("global")
        script = (
            "import threading, zeroconf\n"
            f"addresses = {addresses}\n"
            "versions = {':' in address for address in addresses}\n"
            "v = zeroconf.IPVersion\n"
            "v = v.All if len(versions) == 2 else v.V6Only if True in versions else v.V4Only\n"
            "z = zeroconf.Zeroconf(interfaces=addresses, ip_version=v)\n"
            "z.register_service(zeroconf.ServiceInfo('_http._tcp.local.', 'x._http._tcp.local.',\n"
            f"    port=9999, parsed_addresses=addresses, server='{name}.local.'))\n"
            "print('ready', flush=True)\n"
            "threading.Event().wait()\n")
        process = self.start(PYTHON, "-c", script)
        wait_until(lambda: "ready" in process.log.read_text(), "zeroconf")
        return process

    def announce_by_mdnsd(self, name="waterbug"):
        """mdnsd, which calls its host by the name of its service."""
        services = self.directory / "mdns.d"
        services.mkdir()
        (services / "http.service").write_text(
            f"name {name}\ntype _http._tcp\nport 9999\n")
        process = self.start("mdnsd", "-n", "-l", "debug", "-i", "eth0", services)
        wait_until(lambda: "Send Publish" in process.log.read_text(), "mdnsd")
        return process

    def addresses(self, scope):
        """The addresses of a scope: `global` or `link`."""
        links = json.loads(self.run("ip", "-json", "address", "show", "dev", "eth0").stdout)
        return [a["local"] for a in links[0]["addr_info"] if a["scope"] == scope]

    def drop_by_default(self):
        """NixOS's default firewall: stateful, and drops what nobody asked for."""
        rules = """table inet firewall { chain input {
            type filter hook input priority 0; policy drop;
            ct state established,related accept
            iifname lo accept
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        }
        }
        """
        self.run("nft", "-f", "-", input=rules)

    def resolve(self, *options, program=PROGRAM, user=None, check=True):
        """Runs the program here and returns what it did."""
        return Resolved(self, [program, *map(str, options)], user, check)

    def run_containers(self, count, bridge="docker0"):
        """A bridge that joins containers, as Docker makes it; they are where the switch is."""
        self.run("ip", "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
        self.run("ip", "address", "add", "172.17.0.1/16", "brd", "+", "dev", bridge)
        lines = [f"link set {bridge} up"]
        for number in range(count):
            lines += [f"link add veth{number} type veth peer name {self.name}{number}"
                      f" netns {self.lan.switch}",
                      f"link set veth{number} master {bridge} up"]
        self.run("ip", "-batch", "-", input="\n".join(lines))
        self.lan.in_switch("ip", "-batch", "-", input="\n".join(
            f"link set {self.name}{number} up" for number in range(count)))

    def packets_sent(self, interface="eth0"):
        """How many packets have left through an interface."""
        links = json.loads(self.run("ip", "-json", "-statistics", "link", "show", interface).stdout)
        return links[0]["stats64"]["tx"]["packets"]


class Resolved:
    """One run of the program."""

    def __init__(self, host, words, user, check):
        self.directory = host.directory / "out"
        if user:
            self.directory.mkdir(exist_ok=True)
            os.chown(self.directory, user, user)
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *words]
        if "--output-dir" not in words:
            words += ["--output-dir", str(self.directory)]
        started = time.monotonic()
        result = host.run(*words, check=False, timeout=70)
        self.seconds = time.monotonic() - started
        self.status, self.log, self.stdout = result.returncode, result.stderr, result.stdout
        if check and self.status != 0:
            raise AssertionError(f"exit status {self.status}: {self.log}")

    def read(self, name):
        """The content of one of the files, or None."""
        path = self.directory / name
        return path.read_text() if path.exists() else None

    @property
    def address(self):
        """The address that was found, or None."""
        content = self.read("waterbug-ip")
        return content and content.strip()

    @property
    def nix_conf(self):
        """The nix.conf that was written."""
        return self.read("nix.conf")
