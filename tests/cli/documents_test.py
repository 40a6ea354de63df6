"""Documents that are no text: converted by the tools that are there, by content and never by name, and never silently."""
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest
import zipfile

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL], check=True)
ASK = ("run", "-m", MODEL, "-t", "1", "-n", "4", "-q", "What?", "--json")
STUBS = path("stubs")
os.mkdir(STUBS)
ENV = {**os.environ, "PATH": STUBS}  # no tool but the stubs
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
HTML = '<!DOCTYPE html>\n<html><head><title>T</title><script>var x;</script></head><body><p>Mara &amp; <b>Ingrid</b></p></body></html>'


def pdf(*pages):
    """A PDF file; a page is lines of text."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>",
               b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(len(pages))), len(pages)),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for i, lines in enumerate(pages):
        text = "".join(f"BT /F1 10 Tf 50 {700 - 12 * k} Td ({line}) Tj ET\n" for k, line in enumerate(lines)).encode()
        objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>" % (5 + 2 * i))
        objects.append(b"<</Length %d>>stream\n%sendstream" % (len(text), text))
    out, table = b"%PDF-1.4\n", b""
    for i, content in enumerate(objects):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (i + 1, content)
    size = len(objects) + 1
    return out + (b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
                  % (size, table, size, len(out)))


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr({"types": "[Content_Types].xml", "rels": "_rels/.rels", "document": "word/document.xml"}[name], text)
    return out.getvalue()


def docx(*paragraphs):
    body = "".join(f"<w:p><w:r><w:t>{p}</w:t></w:r></w:p>" for p in paragraphs)
    return zipped(
        types=f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        rels=f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="a" Type="{OFFICE}" Target="word/document.xml"/></Relationships>',
        document=f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>')


def stub(name, script):
    write(f"stubs/{name}", "#!/bin/sh\nPATH=/usr/bin:/bin\n" + script + "\n")
    os.chmod(path(f"stubs/{name}"), 0o755)


class Documents(Case):
    def setUp(self):
        for name in os.listdir(STUBS):
            os.remove(os.path.join(STUBS, name))

    def same(self, args, text, notes, **kwargs):
        """The document given by args is read as this text, and stderr says so."""
        out, err = self.curdkv(*ASK, *args, **kwargs)
        said = self.json(*ASK, "-p", text)
        out = json.loads(out)
        self.assertEqual(out["n_context_tokens"], said["n_context_tokens"], args)
        self.assertEqual(out["answers"][0]["answer"], said["answers"][0]["answer"])
        for note in notes:
            self.assertIn(note, err)
        return err


class Stubbed(Documents):
    def test_files_pipes_and_names(self):
        stub("pdftotext", "printf 'One.\\n\\fTwo.\\n\\f\\f'")
        notes = "3 pages converted by pdftotext, 1 of them without text"
        text = "One.\nTwo.\n"
        for name in ("a.pdf", "a.txt", "-rf", "$(touch x); 'y'.pdf"):  # content counts, and no name is an option
            self.same((f"--file={write(name, pdf(['x']))}",), text, [f"note: {path(name)}: {notes}"], env=ENV)
        self.same(("-f", "-enc"), text, ["-enc: 3 pages"], env=ENV, cwd=os.path.dirname(write("-enc", pdf(["x"]))))
        with open(path("a.pdf")) as stdin:
            self.same(("-f", "-"), text, [f"note: standard input: {notes}"], env=ENV, stdin=stdin)
        self.same(("-f", path("a.pdf"), "-p", "and", "-f", path("a.txt")), text + "and\n" + text, [], env=ENV)
        self.same(("-f", write("broken.txt", "A %PDF-1.4 of text.")), "A %PDF-1.4 of text.", [], env=ENV)
        self.assertFalse(os.path.exists("x"))

    def test_every_command_takes_them(self):
        stub("pdftotext", "for i in 1 2 3 4 5 6 7 8 9; do echo the king in the north is an ant; done; printf '\\f'")
        name = write("a.pdf", pdf(["x"]))
        for command in (("perplexity", "--press", "knorm"), ("analyze", "-o", path("a.html"))):
            _, err = self.curdkv(command[0], "-m", MODEL, "-t", "1", "-f", name, *command[1:], env=ENV)
            self.assertIn("1 page converted by pdftotext", err)

    def test_html_is_what_surely_is_html(self):
        stub("pandoc", "cat >/dev/null; echo Mara")
        self.same(("-f", write("page", HTML)), "Mara\n", ["page: converted by pandoc"], env=ENV)
        self.assertNotIn("pandoc", self.same(("-f", path("page"), "--as", "text"), HTML, [], env=ENV))
        tags = "<p>This text holds <html> and <b>tags</b>.</p>\n"
        self.assertNotIn("pandoc", self.same(("-f", write("tags.html", tags)), tags, [], env=ENV))
        self.fails(1, "is not UTF-8 text", *ASK, "-f", write("latin1", HTML.encode() + b"\xe9"), env=ENV)
        self.fails(2, "--as", *ASK, "-f", path("page"), "--as", "html", env=ENV)
        self.fails(1, "(pdftotext FILE)", *ASK, "-f", write("a.pdf", pdf(["x"])), "--as", "text", env=ENV)

    def test_what_goes_wrong(self):
        pages, word, page = write("a.pdf", pdf(["x"])), write("a.docx", docx("x")), write("page", HTML)
        self.fails(1, "a PDF file, and pdftotext, which makes text of it, is not installed (Debian's package poppler-utils)",
                   *ASK, "-f", pages, env=ENV)
        self.fails(1, "a Word file (.docx), and pandoc, which makes text of it, is not installed (Debian's package pandoc)",
                   *ASK, "-f", word, env=ENV)
        self.fails(1, "(Debian's package pandoc); --as text takes it as it is", *ASK, "-f", page, env=ENV)
        self.fails(1, "not installed", *ASK, "-f", pages, env={})
        stub("pdftotext", "echo some text; echo 'Syntax Error: no xref' >&2; exit 1")
        self.fails(1, "a PDF file, and pdftotext makes no text of it: Syntax Error: no xref", *ASK, "-f", pages, env=ENV)
        stub("pdftotext", "printf '\\f'")
        self.fails(1, "no text layer", *ASK, "-f", pages, env=ENV)
        stub("pdftotext", "yes the king in the north")
        self.fails(1, "pdftotext gives more than 256 MiB", *ASK, "-f", pages, env=ENV, timeout=60)
        stub("pdftotext", "echo text; echo 'Syntax Warning: odd font' >&2")
        _, err = self.curdkv(*ASK, "-f", pages, env=ENV)
        self.assertIn("converted by pdftotext; it says: Syntax Warning: odd font", err)
        stub("pdftotext", "echo half a text; exit 1")
        ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self.fails(1, "exit status 1", *ASK, "-f", pages, env=ENV, preexec_fn=ignore)

    def test_interrupts(self):
        stub("pdftotext", f"echo $$ >{path('pid')}; sleep 60; echo text")
        name = write("a.pdf", pdf(["x"]))
        for number in (signal.SIGINT, signal.SIGTERM):
            run = subprocess.Popen([CURDKV, *ASK, "-f", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)
            while not os.path.exists(path("pid")) or not os.path.getsize(path("pid")):
                self.assertIsNone(run.poll())
                time.sleep(0.01)
            start = time.time()
            run.send_signal(number)
            out, err = run.communicate(timeout=20)
            self.assertLess(time.time() - start, 2)
            self.assertEqual((run.returncode, out, err.strip()), (130, "", "interrupted"))
            with open(path("pid")) as file:
                with self.assertRaises(ProcessLookupError):  # it was ended and waited for
                    os.kill(int(file.read()), 0)
            os.remove(path("pid"))


class Real(Documents):
    """With the tools of this machine, where it has them."""

    def of(self, tool, name, data, text, note):
        if shutil.which(tool) is None:
            self.skipTest(f"{tool} is not installed here")
        self.same(("-f", write(name, data)), text, [f"{name}: {note}"])
        with open(path(name)) as stdin:
            self.same(("-f", "-"), text, [f"standard input: {note}"], stdin=stdin)

    def test_pdf(self):
        self.of("pdftotext", "a.pdf", pdf(["Mara is", "here."], [], ["Bye."]), "Mara is\nhere.\n\nBye.\n\n",
                "3 pages converted by pdftotext, 1 of them without text\n")

    def test_pdf_without_text(self):
        if shutil.which("pdftotext") is None:
            self.skipTest("pdftotext is not installed here")
        self.fails(1, "no text layer", *ASK, "-f", write("scan.pdf", pdf([], [])))
        self.fails(1, "pdftotext makes no text of it: Syntax Error", *ASK, "-f", write("cut.pdf", pdf(["x"])[:300]))

    def test_docx(self):
        line = "word " * 40 + "end"  # no lines are broken
        self.of("pandoc", "a.docx", docx("Mara.", line), f"Mara.\n\n{line}\n", "converted by pandoc\n")
        self.fails(1, "a Word file (.docx), and pandoc makes no text of it: ", *ASK, "-f", write("b.docx", zipped(document="<w:t>x")))

    def test_html(self):
        self.of("pandoc", "a.html", HTML, "Mara & Ingrid\n", "converted by pandoc\n")

    def test_rtf(self):
        self.of("pandoc", "a.rtf", b"{\\rtf1 Mara\\par}", "Mara\n", "converted by pandoc\n")

    def test_pages_show_no_files(self):
        secret = write("secret.txt", "sesame")
        page = f'<html><body><p>Mara</p><iframe src="{secret}"></iframe><object data="file://{secret}">x</object></body></html>'
        if shutil.which("pandoc") is None:
            self.skipTest("pandoc is not installed here")
        done = self.json(*ASK, "-f", write("evil.html", page))
        self.assertLess(done["n_context_tokens"], self.json(*ASK, "-p", "Mara sesame")["n_context_tokens"])


class Truncated(Documents):
    C = 500
    LIMITED = ("-c", str(C))
    GAP = b"\n[...]\n"

    def kept(self, data, how, *args):
        """How many bytes (the tiny model's tokens) of a document are kept, and what is said."""
        out, err = self.curdkv(*ASK, "-f", write("long.txt", data), *self.LIMITED, "--truncate", how, *args)
        out = json.loads(out)
        template = self.json(*ASK, "-p", "x")["n_context_tokens"] - 1
        n = out["n_context_tokens"] - template - (len(self.GAP) if how == "middle" else 0)
        self.assertEqual(out["n_truncated"], len(data) - n)
        self.assertRegex(err, f"note: the document has {len(data)} tokens.* {len(data) - n} ")
        return n, out

    def test_what_is_kept(self):
        words = " ".join(f"a{i * i % 997}" for i in range(600)).encode()
        signs = "".join(f"{i * i % 97}\u20ac\U0001f600" for i in range(400)).encode()
        _, err = self.curdkv(*ASK, "-f", write("long.txt", words), *self.LIMITED, code=1)
        n_all = int(re.search(r"with the question (\d+)", err)[1])
        self.assertIn("; --truncate head, tail or middle keeps a part", err)
        room = self.C - (n_all - len(words)) - 4  # for the document, beside template, question and answer
        for data in (words, signs):
            for how in ("head", "tail", "middle"):
                n, out = self.kept(data, how)
                most = room - (len(self.GAP) if how == "middle" else 0)
                self.assertTrue(most - (0 if data is words else 6) <= n <= most, (how, n, most))
                head = {"head": n, "tail": 0, "middle": (most + 1) // 2}[how]
                while data[head] & 0xC0 == 0x80:  # whole characters
                    head -= 1
                tail = len(data) - (n - head)
                text = data[:head] + (self.GAP if how == "middle" else b"") + data[tail:]
                text.decode()
                _, err = self.curdkv(*ASK, "-p", text, *self.LIMITED)
                self.assertNotIn("there is room", err)
                same = self.json(*ASK, "-p", text, *self.LIMITED)
                self.assertEqual(same["n_context_tokens"], out["n_context_tokens"])
                self.assertEqual(same["answers"][0]["answer"], out["answers"][0]["answer"])
        # Not one token more would have left room for the answer but the one that need not be read.
        self.assertIn("there is room for 3 tokens", self.curdkv(*ASK, "-p", words[:room + 2], *self.LIMITED)[1])
        self.assertEqual(self.kept(words, "head", "-n", "-1")[0], room + 4 - 256)
        bounded = ("-n", "300", "--press", "streamingllm", "--decode-budget", "40", "--decode-interval", "30", "--temp", "0")
        self.assertEqual(self.kept(words, "tail", *bounded)[0], room + 4 - 70)

    def test_what_fits_is_whole(self):
        for args in ((), ("--truncate", "head")):
            out, err = self.curdkv(*ASK, "-p", "a short one", *args)
            self.assertEqual(json.loads(out)["n_truncated"], 0)
            self.assertNotIn("left out", err)

    def test_what_cannot_be(self):
        name = write("long.txt", "word " * 3000)
        self.fails(1, "there is no room for a part of the document", *ASK, "-f", name, "-c", "500", "-n", "490", "--truncate", "tail")
        self.fails(2, "--truncate", *ASK, "-f", name, "--truncate", "left")


if __name__ == "__main__":
    unittest.main(verbosity=2)  # what is skipped is said
