"""curdkv where memory is short: an error and exit code 1, or the right answer; no signal, no hang, nothing halved.

CURDKV_EVERY_ALLOCATION=1 lets each of the first 300 allocations fail (minutes); else a sample."""
import os
import resource
import subprocess
import tempfile
import unittest

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
MAKE_MODEL = os.path.join(BUILD, "make_tiny_model")
subprocess.run([MAKE_MODEL, MODEL, "2048"], check=True)
SHIM = os.path.join(BUILD, "libfail_allocations.so")
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 12)
RUN = ("run", "-m", MODEL, "-f", DOCUMENT, "-q", "What?", "-n", "3", "-t", "2", "--press", "adacurdkv")
EVAL = ("eval", "-m", MODEL, "-t", "1", "--task", "niah_single_1", "--samples", "1", "--context-tokens", "2000", "-n", "2",
        "--press", "knorm")
COMPRESS = ("compress", "-m", MODEL, "-f", DOCUMENT, "-t", "2", "--press", "adacurdkv", "--compression-ratio", "0.5")
SAVED = path("saved.kvc")
SAVED_RUN = ("run", "-m", MODEL, "--context", SAVED, "-q", "What?", "-n", "3", "-t", "2")
CHAT = ("chat", "-m", MODEL, "-f", DOCUMENT, "-n", "3", "-t", "2", "--press", "ridgekv", "--compression-ratio", "0.5",
        "--chat-budget", "64")
QUESTIONS = "What is it?\nWhy is it in the north?\n/ask-again\nWhere is it?\n"
FOLDER = tempfile.TemporaryDirectory()
EACH = os.environ.get("CURDKV_EVERY_ALLOCATION") == "1"


def sampled(first, last, n):
    """Some n of first to last, closer at the beginning; or every one of them up to 300."""
    if EACH:
        return [*range(first, min(last, 300) + 1)] + [k for k in sampled_over(first, last, n) if k > 300]
    return sampled_over(first, last, n)


def sampled_over(first, last, n):
    return sorted({first + round((last - first) * (i / (n - 1)) ** 2) for i in range(n)})


def command(args):
    """The command line; what writes a file gets a folder of its own (an evaluation would go on with one it finds)."""
    output = ["-o", os.path.join(tempfile.mkdtemp(dir=FOLDER.name), "output")] if args[0] in ("eval", "compress") else []
    return [CURDKV, *args, *output]


class Memory(Case):
    def outcome(self, args, what, limit=None, **env):
        """Runs curdkv; returns (exit code, stdout) once both are found to be in order; of compress its file instead."""
        def restrict():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if limit:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        line = command(args)
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, preexec_fn=restrict,
                              input=QUESTIONS if args[0] == "chat" else "", env={**os.environ, **env})
        self.assertIn(done.returncode, (0, 1), f"{what}: {done.stderr}")
        if done.returncode == 1:
            # What a library allocates before main() it reports itself.
            errors = [line for line in done.stderr.splitlines() if "error" in line or line.startswith("libgomp: Out of")]
            self.assertTrue(1 <= len(errors) <= (4 if args[0] == "chat" else 1), f"{what}: {done.stderr}")  # one a line
            self.assertEqual(done.stderr.splitlines()[-1], errors[-1], what)
        if args[0] != "compress":
            return done.returncode, done.stdout
        folder, name = os.path.split(line[-1])
        if done.returncode == 1 and not os.listdir(folder):
            return 1, ""
        self.assertEqual(os.listdir(folder), [name], what)
        with open(line[-1], "rb") as file:
            return done.returncode, file.read()

    def count(self, args, least):
        done = subprocess.run(command(args), capture_output=True, text=True, check=True,
                              input=QUESTIONS if args[0] == "chat" else "",
                              env={**os.environ, "LD_PRELOAD": SHIM, "FAIL_COUNT": "1", "FAIL_FROM": str(least)})
        return int(done.stderr.rsplit("allocations: ", 1)[1])

    def fail_each(self, args, least, n):
        """Allocations of at least so many bytes fail, n of them, one by one and all from there on."""
        _, expected = self.outcome(args, "nothing fails")
        made = self.count(args, least)
        for all_from_there in ("0", "1"):
            for k in sampled(1, made, n):
                code, out = self.outcome(args, f"allocation {k} of at least {least} bytes, all: {all_from_there}",
                                         LD_PRELOAD=SHIM, FAIL_AT=str(k), FAIL_FROM=str(least), FAIL_ALL=all_from_there)
                # Memory may end once the file is in its place: then it is the whole one.
                if code == 0 or args[0] == "compress" and out:
                    self.assertEqual(out, expected, f"allocation {k} of at least {least} bytes")

    def test_an_allocation_fails(self):
        self.fail_each(RUN, 0, 30)

    def test_a_large_allocation_fails(self):
        self.fail_each(RUN, 4096, 20)

    def test_an_allocation_of_an_evaluation_fails(self):
        self.fail_each(EVAL, 4096, 10)

    def test_an_allocation_of_a_saved_context_fails(self):
        self.curdkv(*COMPRESS, "-o", SAVED)
        for args in (COMPRESS, SAVED_RUN, ("inspect", SAVED)):
            self.fail_each(args, 0, 8)
            if args[0] != "inspect":
                self.fail_each(args, 4096, 6)

    def test_an_allocation_of_a_chat_fails(self):
        self.fail_each(CHAT, 0, 12)
        self.fail_each(CHAT, 4096, 8)

    def test_the_address_space_is_limited(self):
        least = 55 + (os.path.getsize(CURDKV) >> 20)  # MiB that the system's loader needs for the program
        for args in (RUN, EVAL):
            _, expected = self.outcome(args, "no limit")
            codes = []
            for i in range(20 if EACH else 8):
                code, out = self.outcome(args, "limited", limit=(least + 20 * (i if EACH else 2 * i)) << 20)
                if code == 0:
                    self.assertEqual(out, expected)
                codes.append(code)
            self.assertIn(1, codes)

    @unittest.skipIf(len(os.sched_getaffinity(0)) == 1, "a single processor: no thread is started")
    def test_threads_that_cannot_be_started(self):
        def leave_no_room_for_a_stack():
            resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        _, err = self.curdkv(*RUN, code=1, preexec_fn=leave_no_room_for_a_stack)
        self.assertIn("2 threads cannot be started", err)

    def test_sizes_follow_the_tokens_and_not_the_file(self):
        huge = path("huge.gguf")
        subprocess.run([MAKE_MODEL, huge, str(1 << 30)], check=True)
        small = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)  # noqa: E731
        args = [a if a != MODEL else huge for a in RUN]
        self.assertEqual(self.curdkv(*args, preexec_fn=small)[0], self.curdkv(*RUN)[0])
        wide = ("-c", str(1 << 24), "-b", "65536")
        self.assertEqual(self.curdkv(*RUN, *wide, preexec_fn=small)[0], self.curdkv(*RUN)[0])


if __name__ == "__main__":
    unittest.main()
