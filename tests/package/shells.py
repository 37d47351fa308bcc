"""Shells with a terminal, in which somebody types."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time

# What a shell may take to start, or to answer a key; a busy machine needs it.
TIMEOUT = 30
# Printed by each shell when it waits for a command, and by nothing else.
PROMPT = "ready> "


class Shell:
    """bash, zsh or fish, interactive, with the completions that are below `share` and a `cache-resolver` that
    records its arguments. The current directory is `home`."""

    def __init__(self, name, share, home):
        self.name, self.home, self.record = name, home, home / "record"
        tools = home / "bin"
        tools.mkdir(parents=True)
        (tools / "cache-resolver").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{self.record}.new\n'
                                              f"mv {self.record}.new {self.record}\n")
        (tools / "cache-resolver").chmod(0o755)
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(home), "XDG_DATA_DIRS": f"{share}:/usr/share",
                       "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data"),
                       "XDG_RUNTIME_DIR": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        command = getattr(self, f"_{name}")(share)
        master, terminal = pty.openpty()
        self.terminal = master
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment,
                                        cwd=home, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(terminal)
        self.said = ""
        self._wait_for(lambda: PROMPT in self.said)

    def _bash(self, _share):
        (self.home / "rc").write_text(f"PS1='{PROMPT}'\nbind 'set enable-bracketed-paste off'\n"
                                      ". /usr/share/bash-completion/bash_completion\n")
        return ["bash", "--noprofile", "--rcfile", self.home / "rc", "-i"]

    def _zsh(self, share):
        (self.home / ".zshrc").write_text(f"PS1='{PROMPT}'\nfpath=({share}/zsh/site-functions $fpath)\n"
                                          "autoload -U compinit && compinit -u\nunsetopt zle_bracketed_paste\n")
        return ["zsh", "-i"]

    def _fish(self, _share):
        (self.home / "config/fish").mkdir(parents=True)
        (self.home / "config/fish/config.fish").write_text(
            f"set -g fish_greeting\nfunction fish_prompt; echo -n '{PROMPT}'; end\n")
        return ["fish", "-i"]

    def _wait_for(self, is_there):
        """Takes what the shell prints, which has to go somewhere, until it is there."""
        deadline = time.monotonic() + TIMEOUT
        while not is_there():
            assert time.monotonic() < deadline, f"{self.name}: {self.said!r}"
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.said += os.read(self.terminal, 65536).decode(errors="replace")

    def type(self, line):
        """The arguments that cache-resolver gets when this is typed after its name, tabs and all."""
        self.record.unlink(missing_ok=True)
        self.said = ""
        os.write(self.terminal, f"cache-resolver {line}\r".encode())
        self._wait_for(self.record.exists)
        self._wait_for(lambda: PROMPT in self.said.rpartition("\n")[2] or self.said.count(PROMPT) > 1)
        return self.record.read_text().splitlines()

    def close(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

