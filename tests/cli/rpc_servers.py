"""ggml's RPC servers for tests. As a program, rpc_servers.py COMMAND...: runs it with one, whose address is in
CURDKV_TEST_RPC."""
import os
import socket
import subprocess
import sys
import time

SERVER = os.path.join(os.environ["CURDKV_BUILD"], "rpc_server")


class RpcServer:
    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % s.getsockname()[1]
        self.process = subprocess.Popen([SERVER, self.address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 60
        while not self.listens():
            if self.process.poll() is not None or time.time() > deadline:
                raise AssertionError("no RPC server at " + self.address)
            time.sleep(0.02)

    def listens(self):
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


if __name__ == "__main__":
    with RpcServer() as server:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, "CURDKV_TEST_RPC": server.address}).returncode)
