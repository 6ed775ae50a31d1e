#!/usr/bin/env python3
"""A real ClickHouse HTTP server out of the PyPI wheel `chdb-core`.

    target/services/python/bin/python chdb_http.py --path DIR --http-port 8123
    curl 'http://127.0.0.1:8123/?query=SELECT+version()'

The library in the wheel is the whole engine, with the HTTP server of clickhouse-server; clickhouse-local opens it by
`SYSTEM START LISTEN`. The binding `_chdb.query()` runs one clickhouse-local in this process. So: one statement opens the listener,
the next one reads a FIFO that says nothing until we close it, and the last one closes the listener. No request passes through Python.

Prints `READY http=PORT version=VERSION` once it answers. SIGTERM: the listener closes (5 s later if a client keeps an idle
connection), tables are shut down, exit status 0. SIGKILL: what was acknowledged is kept, as with a server.

Not as clickhouse-server: async_insert is accepted and synchronous; no Keeper (Replicated*, ON CLUSTER); the database `default` is an
Overlay, so create your own; one row of system.processes is ours; users come by --extra-users only.
"""

import argparse
import fcntl
import importlib.util
import os
import signal
import sys
import threading

# `default` stays without a password: our own statements come as it.
# clickhouse-local changes three settings of the server: put back, so that a statement `1` is a syntax error again, for instance.
# The profile `readonly` is the one that clickhouse-server is installed with.
USERS = """<clickhouse>
  <profiles>
    <default>
      <implicit_select>0</implicit_select>
      <allow_introspection_functions>0</allow_introspection_functions>
      <storage_file_read_method>pread</storage_file_read_method>
    </default>
    <readonly><readonly>1</readonly></readonly>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default><password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>
    {users}
  </users>
</clickhouse>
"""

CONFIG = """<clickhouse>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{port}</http_port>
  <users_config>users.xml</users_config>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
</clickhouse>
"""


def arguments():
    parser = argparse.ArgumentParser(description="a real ClickHouse HTTP server")
    parser.add_argument("--path", required=True, help="the data; kept between runs, for one server at a time")
    parser.add_argument("--http-port", type=int, default=0, help="0: any free port")
    parser.add_argument("--memory", type=int, default=0, help="what the server may use in bytes; 0: 90 %% of the machine's")
    parser.add_argument("--extra-users", default="", help="XML that is put into <users>")
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when stdin, a pipe, closes: when the parent has died")
    return parser.parse_args()


def engine():
    """The extension itself: `import chdb` would start an engine, and a process can have only one."""
    for path in sys.path:
        library = os.path.join(path, "chdb", "_chdb.abi3.so")
        if os.path.exists(library):
            spec = importlib.util.spec_from_file_location("_chdb", library)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    sys.exit("chdb_http: chdb-core is not installed in this Python: tests/services/install installs it")


def main():
    args = arguments()
    chdb = engine()
    # The engine would take a piped stdin for the data of a table.
    stdin = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    data = os.path.abspath(args.path)
    os.makedirs(data, exist_ok=True)
    os.makedirs(data + ".run", exist_ok=True)
    os.chdir(data + ".run")  # clickhouse-local reads ./config.xml
    lock = open("lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"chdb_http: another server uses {data}")
    with open("users.xml", "w") as file:
        file.write(USERS.format(users=args.extra_users))
    with open("config.xml", "w") as file:
        file.write(CONFIG.format(port=args.http_port, memory=args.memory))
    for left in ("stop", "ready"):
        if os.path.exists(left):
            os.unlink(left)
    os.mkfifo("stop")
    hold = os.open("stop", os.O_RDWR)  # while it is open for writing, the engine waits for its end
    statements = f"""
        SYSTEM START LISTEN HTTP;
        SELECT getServerPort('http_port'), version() INTO OUTFILE '{data}.run/ready' FORMAT TSV;
        SELECT count() FROM file('{data}.run/stop', 'LineAsString', 'l String');
        SYSTEM STOP LISTEN HTTP"""

    end = threading.Event()
    chdb.set_signal_handlers_enabled(0)  # they stay ours
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    error = []

    def serve():
        try:
            answer = chdb.query(statements, "TabSeparated", path=data)
            if answer.has_error():
                error.append(answer.error_message())
        except Exception as exception:
            error.append(str(exception))
        end.set()

    def watch_stdin():
        while os.read(stdin, 4096):
            pass
        end.set()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    if args.stop_on_eof:
        threading.Thread(target=watch_stdin, daemon=True).start()

    ready = ""
    while not ready.endswith("\n") and not end.wait(0.01):
        if os.path.exists("ready"):
            with open("ready") as file:
                ready = file.read()
    if ready.endswith("\n"):
        port, version = ready.split()
        print(f"READY http={port} version={version}", flush=True)
    end.wait()
    os.close(hold)
    server.join(30)
    if server.is_alive():
        error.append("still busy after 30 s")
    if error:
        print("chdb_http:", *error, file=sys.stderr, flush=True)
    os._exit(1 if error else 0)  # the interpreter must not take down an engine that has stopped


if __name__ == "__main__":
    main()
