"""Layers on ggml's RPC servers: the same answers, and an error where a server is lost."""
import json
import os
import socket
import subprocess
import threading
import unittest

from harness import BUILD, CURDKV, Case, path, write
from rpc_servers import RpcServer
from server import Server

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000"], check=True)
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 30)
RUN = ("run", "-m", MODEL, "-t", "1", "-f", DOCUMENT, "-q", "What is in the north?", "--press", "adacurdkv",
       "--compression-ratio", "0.5")


def refuse(listener):
    with listener.accept()[0] as connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Rpc(Case):
    def test_answers_are_those_of_this_machine(self):
        expected, _ = self.curdkv(*RUN, "-n", "8")
        with RpcServer() as a, RpcServer() as b:
            both = a.address + "," + b.address
            self.assertEqual(self.curdkv(*RUN, "-n", "8", "--rpc", both)[0], expected)
            self.assertEqual(self.curdkv(*RUN, "-n", "8", "--rpc", both, "-ngl", "1")[0], expected)
            with Server(MODEL, "--rpc", both) as server:
                self.assertEqual(server.request("POST", "/v1/completions", {"prompt": "an ant", "max_tokens": 8})[0], 200)

    def test_what_is_no_server(self):
        self.fails(2, "'nowhere' is no RPC server's address", *RUN, "--rpc", "nowhere")
        self.fails(2, "is no RPC server's address", *RUN, "--rpc", "127.0.0.1:70000")
        with RpcServer() as server:
            pass
        self.fails(1, f"the RPC server {server.address} cannot be reached", *RUN, "--rpc", server.address)
        with socket.create_server(("127.0.0.1", 0)) as other:  # something else listens there
            address = "127.0.0.1:%d" % other.getsockname()[1]
            threading.Thread(target=refuse, args=(other,)).start()
            self.fails(1, f"the RPC server {address} does not speak", *RUN, "--rpc", address)

    def test_a_server_is_lost_between_two_questions(self):
        with RpcServer() as a, RpcServer() as b:
            chat = subprocess.Popen([CURDKV, "chat", "-m", MODEL, "-t", "1", "-n", "4", "--rpc", a.address + "," + b.address],
                                    text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            chat.stdin.write("What is in the north?\n")
            chat.stdin.flush()
            self.assertNotEqual(chat.stdout.readline(), "")
            b.kill()
            _, err = chat.communicate("And in the south?\n", timeout=60)
            self.assertEqual(chat.returncode, 1, err)
            self.assertIn(f"error: the RPC server {b.address} was lost", err)

    def test_a_server_is_lost_during_an_answer(self):
        body = {"prompt": "an ant", "max_tokens": 90000, "ignore_eos": True, "stream": True}
        with RpcServer() as a, RpcServer() as b, Server(MODEL, "--rpc", a.address + "," + b.address) as server:
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps(body))
            response = connection.getresponse()
            self.assertIn(b'"text"', response.readline())
            b.kill()
            last = [line for line in response if line.startswith(b"data: ")][-1]
            self.assertIn(f"the RPC server {b.address} was lost", json.loads(last[6:])["error"]["message"])
            connection.close()
            for _ in range(2):  # the layers are gone, and the server says so
                status, _, text = server.request("POST", "/v1/completions", {"prompt": "an ant", "max_tokens": 2})
                self.assertEqual(status, 500, text)
                self.assertIn(b.address, str(text))
            self.assertEqual(server.request("GET", "/health")[0], 200)


if __name__ == "__main__":
    unittest.main()
