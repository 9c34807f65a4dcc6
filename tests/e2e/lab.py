"""A real JupyterLab server in a folder of its own, and direct access to the kernels it runs."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jupyter_client.blocking.client import BlockingKernelClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_TIMEOUT = 60.0
EVAL_TIMEOUT = 30.0

SETTINGS: dict[str, dict[str, Any]] = {
    # Nothing may ask the network for news, or put a toast over what a test clicks on.
    "@jupyterlab/apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    # Cells far from the viewport would otherwise exist only once they are scrolled to.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class Kernel:
    """A second client of a running kernel: evaluates expressions beside the page that uses it."""

    def __init__(self, connection_file: Path) -> None:
        self._client = BlockingKernelClient(connection_file=str(connection_file))
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_TIMEOUT)
        self._subshell: str | None = None

    def close(self) -> None:
        """Close the sockets; the kernel lives on."""
        self._client.stop_channels()

    def run(self, code: str, *, while_busy: bool = False) -> None:
        """Execute statements in the user's namespace.

        Parameters
        ----------
        code : str
        while_busy : bool
            Use a subshell, which answers while a cell is running.
        """
        self._execute(code, {}, while_busy=while_busy)

    def eval(self, expression: str, *, while_busy: bool = False) -> Any:
        """Return the value of an expression that JSON can carry; arrays come as nested lists."""
        dumps = f"__import__('json').dumps({expression}, default=lambda value: value.tolist())"
        return json.loads(self._evaluate(dumps, while_busy=while_busy))

    def array(self, expression: str, *, while_busy: bool = False) -> np.ndarray:
        """Return an array, with its dtype and shape."""
        save = (
            "(lambda file, value: (__import__('numpy').save(file, value), "
            "__import__('base64').b64encode(file.getvalue()).decode())[1])"
            f"(__import__('io').BytesIO(), {expression})"
        )
        encoded = self._evaluate(save, while_busy=while_busy)
        return np.load(io.BytesIO(base64.b64decode(encoded)), allow_pickle=False)

    def _evaluate(self, expression: str, *, while_busy: bool) -> str:
        text = self._execute("", {"value": expression}, while_busy=while_busy)["value"]["data"]["text/plain"]
        return ast.literal_eval(text)

    def _execute(self, code: str, expressions: Mapping[str, str], *, while_busy: bool) -> dict[str, Any]:
        content = {
            "code": code,
            "silent": True,
            "store_history": False,
            "user_expressions": dict(expressions),
            "allow_stdin": False,
            "stop_on_error": False,
        }
        for _ in range(20):
            message = self._client.session.msg("execute_request", content)
            if while_busy:
                message["header"]["subshell_id"] = self._subshell_id()
            self._client.shell_channel.send(message)
            reply = self._reply(self._client.get_shell_msg, message)
            if reply["status"] != "aborted":  # by a cell that raised, which takes with it what waits behind it
                break
        else:
            raise KernelError("the kernel aborts whatever it is asked")
        failures = [reply, *(answer for answer in reply.get("user_expressions", {}).values())]
        for failure in failures:
            if failure["status"] == "error":
                raise KernelError("\n".join([f"{failure['ename']}: {failure['evalue']}", *failure["traceback"]]))
        return reply["user_expressions"]

    def _subshell_id(self) -> str:
        if self._subshell is None:
            message = self._client.session.msg("create_subshell_request", {})
            self._client.control_channel.send(message)
            self._subshell = self._reply(self._client.get_control_msg, message)["subshell_id"]
        return self._subshell

    @staticmethod
    def _reply(receive: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + EVAL_TIMEOUT
        while True:
            reply = receive(timeout=max(0.0, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                return reply["content"]


class KernelError(AssertionError):
    """What a test asked the kernel to do raised there."""


class Lab:
    """JupyterLab as a subprocess; a context manager.

    Parameters
    ----------
    root : Path
        An empty folder: it gets the notebooks and every file Jupyter keeps, so nothing of the machine's own
        settings takes part, and nothing is left behind in them.
    settings : mapping, optional
        Further JupyterLab settings by schema name, over the quiet defaults.
    """

    def __init__(self, root: Path, settings: Mapping[str, dict[str, Any]] | None = None) -> None:
        self.token = secrets.token_hex(16)
        self.notebooks = root / "notebooks"
        self.notebooks.mkdir(parents=True)
        self._runtime = root / "runtime"
        self._log = root / "jupyterlab.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._kernels: dict[str, Kernel] = {}
        self._ending: list[threading.Thread] = []
        self._spare: tuple[str, BlockingKernelClient] | None = None
        self.url = ""
        config = root / "config"
        for schema, values in {**SETTINGS, **(settings or {})}.items():
            file = config / "lab" / "user-settings" / f"{schema}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self._environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(config / "lab" / "user-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(config / "lab" / "workspaces"),
            "JUPYTER_NO_CONFIG": "1",
            "IPYTHONDIR": str(root / "ipython"),
            "PYTHONWARNINGS": "default",
        }

    def __enter__(self) -> Self:
        options = {
            "ServerApp.port": 0,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "ServerApp.root_dir": self.notebooks,
            "IdentityProvider.token": self.token,
            "LabApp.news_url": "",
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "LabApp.extension_manager": "readonly",
            "LabApp.collaborative": False,
            # Lets a test wait for the page's own promises instead of guessing from its looks.
            "LabApp.expose_app_in_browser": True,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
                env=self._environment,
                cwd=self.notebooks,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = self._wait_for_url()
        return self

    def __exit__(self, *exception: object) -> None:
        for ending in self._ending:
            ending.join()
        for kernel in self._kernels.values():
            kernel.close()
        if self._spare is not None:
            self._spare[1].stop_channels()
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for_url(self) -> str:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for file in self._runtime.glob("jpserver-*.json"):
                try:
                    url = json.loads(file.read_text())["url"].rstrip("/")
                    self.url = url
                    self.get("/api/status")
                except (OSError, ValueError):
                    continue
                return url
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read_text()}")

    def get(self, path: str) -> Any:
        """Return the JSON answer of the server's REST interface."""
        return self._request("GET", path)

    def _request(self, method: str, path: str, told: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the server this object started
            self.url + path,
            None if told is None else json.dumps(told).encode(),
            {"Authorization": f"token {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            body = response.read()
        return json.loads(body) if body else None

    def give_kernel(self, path: str) -> None:
        """Give a notebook that is about to be opened a new kernel, and start one for the notebook after it.

        A kernel takes seconds to start and to load the model, which it may while a browser is busy.
        """
        if self._spare is not None:
            kernel_id, client = self._spare
            client.stop_channels()
            told = {"path": path, "name": path, "type": "notebook", "kernel": {"id": kernel_id}}
            self._request("POST", "/api/sessions", told)
        kernel_id = self._request("POST", "/api/kernels", {"name": "python3"})["id"]
        client = BlockingKernelClient(connection_file=str(self._runtime / f"kernel-{kernel_id}.json"))
        client.load_connection_file()
        client.start_channels()
        client.execute('import sam3_widget as _; _.Sam3Widget, _.load_model("builtin"); del _', silent=True)
        self._spare = kernel_id, client

    def kernel(self, path: str) -> Kernel:
        """Return a client of the kernel that a notebook runs on, by the notebook's path."""
        (session,) = (session for session in self.get("/api/sessions") if session["path"] == path)
        kernel_id = session["kernel"]["id"]
        if kernel_id not in self._kernels:
            self._kernels[kernel_id] = Kernel(self._runtime / f"kernel-{kernel_id}.json")
        return self._kernels[kernel_id]

    def shut_down(self, path: str) -> None:
        """End the kernel of a notebook, if it has one."""
        for session in self.get("/api/sessions"):
            if session["path"] == path:
                kernel = self._kernels.pop(session["kernel"]["id"], None)
                if kernel is not None:
                    kernel.close()
                # Its last second is of no interest to anybody.
                ending = threading.Thread(target=self._request, args=("DELETE", f"/api/sessions/{session['id']}"))
                ending.start()
                self._ending.append(ending)
