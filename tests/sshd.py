"""An OpenSSH server of the test's own on loopback: its keys, port, configuration and client in one folder."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Sshd:
    """A running server as the current user; `command` reaches it. Raises RuntimeError where it cannot start."""

    def __init__(self, folder: Path) -> None:
        if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
            raise RuntimeError("openssh-server and openssh-client are not installed")
        self.folder = folder
        folder.mkdir(mode=0o700)
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)], check=True
            )
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        if os.geteuid() == 0:  # where the server runs as root it wants this folder
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = folder / "sshd.log"
        for tries_left in reversed(range(5)):
            self.port = _free_port()
            self._configure()
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                self._await()
                return
            except BaseException as error:
                self.close()
                taken = isinstance(error, RuntimeError) and "in use" in self.log.read_text()
                if not (taken and tries_left):  # somebody else got the port meanwhile
                    raise

    def _configure(self) -> None:
        # The account of a bare container may be locked, which only PAM overlooks.
        locked = os.geteuid() == 0 and _shadow(getpass.getuser()).startswith("!")
        server = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",  # temporary folders are everybody's
            "UsePAM": "yes" if locked else "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PrintMotd": "no",
        }
        (self.folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in server.items()))
        host = (self.folder / "host_key.pub").read_text().rsplit(" ", 1)[0]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host}\n")
        client = {
            "HostName": "127.0.0.1",
            "Port": self.port,
            "User": pwd.getpwuid(os.geteuid()).pw_name,
            "IdentityFile": self.folder / "user_key",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ControlPath": "none",
        }
        text = "Host board\n" + "".join(f"  {key} {value}\n" for key, value in client.items())
        (self.folder / "ssh_config").write_text(text)

    @property
    def command(self) -> list[str]:
        """What reaches a shell on the board."""
        return ["ssh", "-F", str(self.folder / "ssh_config"), "board"]

    @property
    def logins(self) -> int:
        """How many connections were let in so far."""
        return self.log.read_text().count("Accepted publickey")

    def sessions(self) -> list[int]:
        """Processes of the server that serve a connection now, oldest first."""
        return sorted(child for child in _descendants(self._process.pid) if "sshd" in _name(child))

    def cut(self) -> None:
        """Kill all connections at once, as a cable that is pulled; what they started lives on."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def _await(self) -> None:
        until = time.monotonic() + 100
        said = ""
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"sshd does not start: {self.log.read_text().strip()}")
            done = subprocess.run([*self.command, "echo", "here"], capture_output=True, text=True, timeout=200)
            if done.stdout.strip() == "here":
                return
            said = done.stderr.strip()
            time.sleep(0.1)
        raise RuntimeError(f"sshd lets nobody in: {said}; it says: {self.log.read_text().strip()[-500:]}")

    def close(self) -> None:
        """End the server and its connections."""
        self.cut()
        self._process.terminate()
        self._process.wait(200)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _shadow(user: str) -> str:
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1] for line in lines if line.startswith(user + ":")), "")


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return children + [found for child in children for found in _descendants(child)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
