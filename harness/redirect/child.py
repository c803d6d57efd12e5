"""Redirecting child processes through their environment, with a mark that proves it took.

`sitecustomize` runs before anything else in a Python child, and `--require` in a node child. Both are
switched off without a word by some flags (`python -I`, `-E`, `-S`), hence the marks: a child that
left none may be talking to the real exchange, and is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.redirect import hook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.redirect.hook import Gate

_SITECUSTOMIZE = '''\
"""Put in front of the path by harness: leads the real hosts to its exchange."""
import importlib.machinery, importlib.util, os, sys

_here = os.path.dirname(os.path.abspath(__file__))
try:
    _spec = importlib.util.spec_from_file_location("_harness_redirect_hook", os.environ["{hook}"])
    _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
    _module.install_in_child()
except Exception as problem:
    sys.stderr.write("harness: the redirect could not be installed: %r\\n" % (problem,))
    os._exit(2)
# The machine may have a sitecustomize of its own, which this one hides.
_path = [p for p in sys.path if os.path.abspath(p or ".") != _here]
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _path)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
'''

_NODE = """\
// Put before the program by harness: leads the real hosts to its exchange.
'use strict';
const net = require('net'), fs = require('fs'), path = require('path');
const ports = JSON.parse(process.env.HARNESS_REDIRECT_PORTS);
const hosts = new RegExp(process.env.HARNESS_REDIRECT_HOSTS);
const original = net.Socket.prototype.connect;
const asked = {};
// Where the parent wants host:port to lead. Node cannot wait for an answer here, so a short-lived node waits for it.
const ask = (host, port) => {
  const [gateHost, gatePort] = process.env.HARNESS_REDIRECT_GATE.split(':');
  const script = `const s = require('net').connect(${gatePort}, '${gateHost}');
    s.end(process.argv[1]); s.pipe(process.stdout);`;
  const env = Object.assign({}, process.env, { NODE_OPTIONS: '' });
  const options = { env, timeout: 20000, encoding: 'utf8' };
  const answer = require('child_process').execFileSync(process.execPath, ['-e', script, `${host} ${port}\\n`], options);
  return answer.startsWith('ok ') ? Number(answer.trim().split(' ')[2]) : undefined;
};
const lead = (host, port) => {
  if (!hosts.test(host)) return undefined;
  if (ports[port] !== undefined) return ports[port];
  const key = `${host} ${port}`;
  if (!(key in asked)) {
    try { asked[key] = ask(host, port); } catch (problem) { return undefined; }
  }
  return asked[key];
};
const local = (h) => !h || h === 'localhost' || h === '::1' || h.startsWith('127.');
net.Socket.prototype.connect = function (...args) {
  const normal = Array.isArray(args[0]) ? args[0] : net._normalizeArgs(args);
  const options = normal[0];
  if (options && !options.path && !local(options.host)) {
    const target = lead(options.host, String(options.port));
    if (target === undefined) {
      const error = new Error(`getaddrinfo ENOTFOUND ${options.host} (not redirected by harness)`);
      error.code = 'ENOTFOUND';
      process.nextTick(() => this.destroy(error));
      return this;
    }
    // A copy: the certificate is checked against the host in the original.
    const moved = [Object.assign({}, options, { host: '127.0.0.1', port: target, lookup: undefined }), normal[1]];
    if (typeof Object.getOwnPropertySymbols(normal)[0] === 'symbol') {
      moved[Object.getOwnPropertySymbols(normal)[0]] = true;
    }
    return original.call(this, moved);
  }
  return original.apply(this, args);
};
fs.writeFileSync(path.join(process.env.HARNESS_REDIRECT_MARKERS, String(process.pid)), process.execPath);
"""

NODE_HOSTS = r"(^|\\.)(binance\\.(com|vision|us)|binancefuture\\.com)$".replace("\\\\", "\\")


class ChildRedirect:
    """
    Everything that child processes need to be redirected, in a private folder.

    Args:
        gate: where to dial; asked by the children over loopback.
        cafile: PEM of the session CA.
        ports: for node, which is slow to ask: real port to local port; what is not in it is asked for once.
    """

    def __init__(self, gate: Gate, cafile: str | None, ports: Mapping[int, int] | None = None) -> None:
        self._gate = gate
        self._cafile = cafile
        self._ports = dict(ports or {})
        self._folder = tempfile.TemporaryDirectory(prefix="harness-redirect-", ignore_cleanup_errors=True)
        root = Path(self._folder.name)
        (root / "python").mkdir()
        (root / "marks").mkdir()
        (root / "python" / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(hook=hook.HOOK), encoding="utf-8")
        (root / "redirect.js").write_text(_NODE, encoding="utf-8")
        self._root = root
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="harness-gate", daemon=True)

    def __enter__(self) -> Self:
        """Begin to answer children."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop answering: children that are left can reach nothing."""
        self._listener.close()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """The variables to add to a child's environment; proxy variables must be taken out as well (`clean`)."""
        host, port = self._listener.getsockname()
        path = str(self._root / "python")
        if os.environ.get("PYTHONPATH"):
            path += os.pathsep + os.environ["PYTHONPATH"]
        options = f"--require {self._root / 'redirect.js'} {os.environ.get('NODE_OPTIONS', '')}".strip()
        found = {
            hook.GATE: f"{host}:{port}",
            hook.MARKERS: str(self._root / "marks"),
            hook.HOOK: hook.__file__,
            "PYTHONPATH": path,
            "NODE_OPTIONS": options,
            "HARNESS_REDIRECT_PORTS": json.dumps(self._ports),
            "HARNESS_REDIRECT_HOSTS": NODE_HOSTS,
        }
        if self._cafile:
            found |= dict.fromkeys(hook.TRUST_VARIABLES, self._cafile)
            found |= {hook.CAFILE: self._cafile, "NODE_EXTRA_CA_CERTS": self._cafile}
        return found

    def taken_by(self) -> dict[int, str]:
        """Processes in which the redirect took: pid and program."""
        marks = {}
        for mark in (self._root / "marks").iterdir():
            with contextlib.suppress(OSError, ValueError):
                marks[int(mark.name)] = mark.read_text(encoding="utf-8")
        return marks

    def _serve(self) -> None:
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(asking,), name="harness-gate-answer", daemon=True).start()

    def _answer(self, asking: socket.socket) -> None:
        with asking, contextlib.suppress(OSError):
            host, _, port = asking.makefile().readline().strip().rpartition(" ")
            try:
                target, number = self._gate(host, int(port))
                answer = f"ok {target} {number}\n"
            except socket.gaierror as problem:
                answer = f"fail {problem.errno or socket.EAI_NONAME} {problem.strerror or problem}\n"
            except (OSError, ValueError) as problem:
                answer = f"fail {socket.EAI_AGAIN} {problem}\n"
            asking.sendall(answer.encode())


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that would lead traffic past us."""
    unwanted = {name for word in hook.PROXY_VARIABLES for name in (word, word.lower())}
    return {name: value for name, value in environment.items() if name not in unwanted}
