"""The architecture as the includes have it: which folder may know of which, who may see libllama, how long a file is."""
import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ.get("CURDKV_SOURCE", pathlib.Path(__file__).parents[2]))
# What each folder may include beside its own files and the public headers (curdkv/).
MAY = {
    "include": (),
    "base": (),
    "io": ("base",),
    "model": ("base", "io"),
    "cache": ("base",),
    "press": ("base", "io"),
    "text": ("base",),
    "compute": ("base", "model"),
    "attention": ("base", "cache", "compute"),
    "engine": ("base", "model", "cache", "press", "compute", "attention"),
    "store": ("base", "io", "model", "cache", "engine"),
    "eval": ("base", "io"),
    "analysis": ("base", "press", "attention", "engine", "eval"),
    "measure": ("base", "model", "cache", "compute"),
    "report": ("base", "io", "eval"),
    "server": ("base", "io", "text"),
    "apps": ("base", "io", "model", "eval", "analysis", "measure", "report", "server"),
}
SEES_LIBLLAMA = {"src/base/log_capture.cpp", "src/measure/llama_cpp.h"}


def sources():
    """(path from the root, its folder, its text) of everything that is shipped."""
    for top in ("src", "include", "apps"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cpp"):
                parts = path.relative_to(ROOT).parts
                yield path.relative_to(ROOT).as_posix(), parts[1] if top == "src" else top, path.read_text()


class Includes(unittest.TestCase):
    def test_arrows_point_one_way(self):
        n = 0
        for name, folder, text in sources():
            self.assertIn(folder, MAY, f"{name}: which folders may it include?")
            for header in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
                n += 1
                of = header.split("/")[0] if "/" in header else folder
                self.assertIn(of, (folder, "curdkv", *MAY[folder]), f"{name} includes {header}")
        self.assertGreater(n, 500)

    def test_folders_form_no_ring(self):
        for folder in MAY:
            seen, ahead = set(), list(MAY[folder])
            while ahead:
                next_one = ahead.pop()
                self.assertNotEqual(next_one, folder, f"{folder} comes to depend on itself")
                if next_one not in seen:
                    seen.add(next_one)
                    ahead += MAY[next_one]

    def test_libllama_is_seen_by_few(self):
        for name, folder, text in sources():
            if folder != "text" and name not in SEES_LIBLLAMA:
                self.assertNotRegex(text, r"(?m)^#include <(llama|llama-cpp)\.h>", name)

    def test_no_file_is_too_long_to_read(self):
        for name, _, text in sources():
            self.assertLessEqual(text.count("\n"), 350, name)


if __name__ == "__main__":
    unittest.main()
