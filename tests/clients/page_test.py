"""The page at /: a document is read, asked about, shown and deleted in a browser, without an error on its console.

CURDKV_SCREENSHOTS=FOLDER keeps pictures of what it looked like.
"""
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cli"))
from harness import BUILD, Case, path, write  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402
from server import Server  # noqa: E402

MODEL = os.environ.get("CURDKV_PAGE_MODEL") or path("tiny.gguf")
if not os.path.exists(MODEL):
    subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000", "2", "32"], check=True)
TEXT = "The thing in the north is an ant. " * 60
PICTURES = os.environ.get("CURDKV_SCREENSHOTS")


class Page(Case):
    def setUp(self):
        self.server = Server(MODEL, "--press", "recommended", "--compression-ratio", "0.8", "-n", "24",
                             "--contexts", path(self._testMethodName), *self.options())
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

    def options(self):
        return ("--api-key-file", write("keys.txt", "secret\n")) if "key" in self._testMethodName else ()

    def tearDown(self):
        self.browser.close()
        self.playwright.stop()
        with self.server:
            pass

    def open(self, **options):
        page = self.browser.new_page(**options)
        self.errors = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.goto(f"http://127.0.0.1:{self.server.port}/")
        page.set_default_timeout(60000)
        return page

    def picture(self, page, name):
        if PICTURES:
            page.screenshot(path=os.path.join(PICTURES, name + ".png"), full_page=True)

    def read(self, page, text=TEXT):
        page.get_by_label("Paste a text").fill(text)
        page.get_by_role("button", name="Read it").click()
        expect(page.locator("#contexts li")).to_have_count(1, timeout=120000)
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled(timeout=60000)

    def test_a_document_is_read_asked_shown_and_deleted(self):
        page = self.open()
        expect(page.locator("#press")).to_have_value("recommended")
        self.picture(page, "empty")
        text = open(os.environ["CURDKV_PAGE_DOCUMENT"]).read() if "CURDKV_PAGE_DOCUMENT" in os.environ else TEXT
        self.read(page, text)
        expect(page.locator("#about")).to_contain_text("% of what it would")
        expect(page.locator("#shading span").first).to_be_attached()
        self.assertGreater(page.locator("#shading span").count(), 300)
        shades = set(page.eval_on_selector_all("#shading span", "all => all.map(e => e.style.background)"))
        self.assertGreater(len(shades), 3)
        page.get_by_label("the full cache's answer beside it").check()
        page.get_by_label("Question").fill(os.environ.get("CURDKV_PAGE_QUESTION", "What is an ant?"))
        page.get_by_label("Question").press("Enter")
        expect(page.locator(".answer .soft")).to_have_count(2)
        for i in (0, 1):
            expect(page.locator(".answer .soft").nth(i)).to_contain_text("tokens a second", timeout=120000)
            self.assertNotEqual(page.locator(".answer .text").nth(i).inner_text().strip(), "")
        expect(page.locator("#contexts li")).to_have_count(2)
        self.picture(page, "asked")
        page.get_by_label("Question").fill("And why?")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".turn")).to_have_count(2)
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled(timeout=120000)
        page.get_by_role("button", name="Forget the turns").click()
        expect(page.locator(".turn")).to_have_count(0)
        page.get_by_role("button", name="Pin").first.click()
        expect(page.get_by_role("button", name="Unpin")).to_have_count(1)
        page.get_by_role("button", name="Delete").first.click()
        expect(page.locator("#contexts li")).to_have_count(1)
        self.assertEqual(self.errors, [])

    def test_a_key_is_asked_for(self):
        page = self.open()
        page.get_by_label("The server asks for a key").fill("secret")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#model")).to_contain_text(".gguf")
        expect(page.locator("#key-section")).to_be_hidden()
        self.assertEqual([e for e in self.errors if "401" not in e], [])

    def test_tabs_are_enough_and_a_phone_is_wide_enough(self):
        page = self.open(viewport={"width": 375, "height": 700}, color_scheme="dark")
        expect(page.locator("#press")).to_have_value("recommended")
        reached = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        self.assertLessEqual({"text", "file", "press", "ratio", "read", "question"}, reached)
        self.read(page)
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 375)
        unnamed = page.eval_on_selector_all("button, input, select, textarea", """all => all.filter(e =>
            !(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent.trim()).map(e => e.outerHTML)""")
        self.assertEqual(unnamed, [])
        self.picture(page, "phone-dark")
        self.assertEqual(self.errors, [])


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        print("no Chromium on this machine: the page was not looked at (apt-get install chromium)")
        sys.exit(0)
    unittest.main()
