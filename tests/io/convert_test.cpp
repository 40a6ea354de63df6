// Text made of documents by other programs: stub tools that succeed, fail, say too much, hang, or start
// others.
#include "io/convert.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/stopwatch.h"
#include "support/expect_error.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

class Convert : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder = temp_path(std::string("convert-") + info->name());
    fs::remove_all(folder);
    fs::create_directories(folder);
    settings.path = ":relative:" + folder;
  }
  // A tool that is a shell script; $T is the test's folder.
  void tool(const std::string& name, const std::string& script) const {
    const std::string file = folder + "/" + name;
    std::ofstream(file) << "#!/bin/sh\nPATH=/usr/bin:/bin\nT='" << folder << "'\n" << script << "\n";
    fs::permissions(file, fs::perms::owner_all);
  }
  std::string content(const std::string& name) const {
    std::ifstream file(folder + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Result<Converted> pdf(std::string_view bytes = "%PDF-1.4") const {
    return convert(bytes, Format::pdf, "a.pdf", settings);
  }
  std::string folder;
  ToolSettings settings;
};

// Whether a process that a stub started is gone; a zombie is.
bool is_gone(const std::string& pid) {
  std::string line, state = "Z";
  std::ifstream status("/proc/" + pid + "/status");
  while (std::getline(status, line)) {
    if (line.starts_with("State:")) state = line.substr(7, 1);
  }
  return state == "Z" || state == "X";
}

TEST_F(Convert, BytesGoInAndTextComesOut) {
  tool("pdftotext", "cat; printf '%s\\n' \"$@\" >$T/words");
  std::string bytes = "page one\f \f\xFF two\f";
  const Converted c = must(pdf(bytes));
  EXPECT_EQ(c.text, "page one\n \n\xEF\xBF\xBD two\n");
  EXPECT_EQ(c.tool, "pdftotext");
  EXPECT_EQ(c.n_pages, 3);
  EXPECT_EQ(c.n_blank_pages, 1);
  EXPECT_EQ(c.warning, "");
  EXPECT_EQ(content("words"), "-enc\nUTF-8\n-eol\nunix\n-\n-\n");
  bytes = std::string(3 << 20, 'x');  // more than a pipe holds
  EXPECT_EQ(must(pdf(bytes)).text, bytes);
}

TEST_F(Convert, PandocRunsInItsSandbox) {
  tool("pandoc", "echo \"$*\"");
  for (const auto& [format, reader] : {std::pair{Format::docx, "docx"},
                                       {Format::odt, "odt"},
                                       {Format::epub, "epub"},
                                       {Format::rtf, "rtf"},
                                       {Format::html, "html"}}) {
    const Converted c = must(convert("x", format, "a", settings));
    EXPECT_TRUE(c.text.starts_with(std::string("--sandbox -f ") + reader + " -t plain --wrap=none"))
        << c.text;
    EXPECT_EQ(c.n_pages, 0);
  }
}

TEST_F(Convert, WhatIsNotThereIsSaidWithItsPackage) {
  expect_error(pdf(), ErrorCode::unsupported,
               "a.pdf: is a PDF file, and pdftotext, which makes text of it, is not installed (Debian's "
               "package poppler-utils)");
  expect_error(convert("x", Format::docx, "a", settings), ErrorCode::unsupported, "package pandoc)");
  fs::create_directories(folder + "/pdftotext");          // a folder is no program
  std::ofstream(folder + "/pandoc") << "not executable";  // nor is this
  expect_error(pdf(), ErrorCode::unsupported, "not installed");
  expect_error(convert("x", Format::docx, "a", settings), ErrorCode::unsupported, "not installed");
  EXPECT_EQ(find_tool("sh", ""), "");
  EXPECT_EQ(find_tool("sh", "nowhere:/nowhere:/bin"), "/bin/sh");
  const fs::path before = fs::current_path();
  fs::current_path("/bin");
  EXPECT_EQ(find_tool("sh", ".::"), "");
  fs::current_path(before);
}

TEST_F(Convert, WhatFailsSaysWhy) {
  tool("pdftotext", "echo half a text; printf '\\n  Syntax Error: broken\\nmore\\n' >&2; exit 3");
  expect_error(pdf(), ErrorCode::corrupt, "pdftotext makes no text of it: Syntax Error: broken");
  EXPECT_EQ(pdf().error().message.find("more"), std::string::npos);
  tool("pdftotext", "echo half a text; exit 3");
  expect_error(pdf(), ErrorCode::corrupt, "exit status 3");
  tool("pdftotext", "echo half a text; kill -SEGV $$");
  expect_error(pdf(), ErrorCode::corrupt, "ended by signal 11");
  std::ofstream(folder + "/pdftotext") << "#!/nowhere/interpreter\n";
  expect_error(pdf(), ErrorCode::io, "pdftotext cannot be run: No such file");
  tool("pdftotext", "yes warning | head -c 1000000 >&2; echo text");
  EXPECT_EQ(must(pdf()).warning, "warning");
  tool("pdftotext", "printf '%01000d' 0 >&2; echo text");
  EXPECT_EQ(must(pdf()).warning, std::string(300, '0'));
}

TEST_F(Convert, WhatHoldsNoTextIsAnError) {
  tool("pdftotext", "printf ' \\n\\f\\f'");
  expect_error(pdf(), ErrorCode::bad_input, "no text layer");
  tool("pandoc", ":");
  expect_error(convert("x", Format::docx, "a", settings), ErrorCode::bad_input, "holds no text");
}

TEST_F(Convert, OutputIsBounded) {
  settings.most_bytes = size_t{3} << 20;
  tool("pdftotext", "echo $$ >$T/pid; yes");
  expect_error(pdf(), ErrorCode::bad_input, "pdftotext gives more than 3 MiB");
  EXPECT_TRUE(is_gone(content("pid").substr(0, content("pid").find('\n'))));
  tool("pdftotext", "head -c 3145728 /dev/zero | tr '\\0' x");
  EXPECT_EQ(must(pdf()).text.size(), settings.most_bytes);
}

TEST_F(Convert, TimeIsBoundedAndNothingStaysBehind) {
  settings.most_ms = 300;
  // The first holds its output open by another process, the second closes it and stays.
  for (const char* script :
       {"sleep 60 & echo $! >$T/pid; wait", "exec >&- 2>&-; sleep 60 & echo $! >$T/pid; wait"}) {
    tool("pdftotext", script);
    const Stopwatch watch;
    expect_error(pdf(), ErrorCode::bad_input, "pdftotext takes longer than");
    EXPECT_LT(watch.ms(), 5000);
    const std::string pid = content("pid").substr(0, content("pid").find('\n'));
    ASSERT_NE(pid, "");
    const Stopwatch since;
    while (!is_gone(pid) && since.ms() < 5000) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(is_gone(pid));
  }
}

TEST_F(Convert, TheStopFlagEndsIt) {
  std::atomic<bool> stop{false};
  settings.stop = &stop;
  tool("pdftotext", "sleep 60");
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop = true;
  });
  const Stopwatch watch;
  expect_error(pdf(), ErrorCode::cancelled, "interrupted");
  EXPECT_LT(watch.ms(), 5000);
  later.join();
}

TEST_F(Convert, TheProgramIsGivenNothingElse) {
  // It sees a regular file once, the environment it is given, and SIGPIPE as it begins.
  const std::string ignored = "grep SigIgn /proc/self/status >$T/ignored";
  tool("pdftotext", "ls -l /proc/self/fd | grep -c curdkv-document >$T/files; env >$T/environment; " +
                        ignored + "; test -f /dev/stdin && echo text");
  std::signal(SIGPIPE, SIG_DFL);
  ASSERT_EQ(std::system((ignored.substr(0, ignored.find('$')) + folder + "/before").c_str()), 0);
  std::signal(SIGPIPE, SIG_IGN);
  ASSERT_EQ(setenv("CURDKV_SECRET", "1", 1), 0);
  EXPECT_EQ(must(pdf()).text, "text\n");
  std::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(content("environment").find("CURDKV_SECRET"), std::string::npos);
  EXPECT_EQ(content("files"), "1\n");
  EXPECT_EQ(content("ignored"), content("before"));
  char given[] = "CURDKV_GIVEN=1";
  char* const environment[] = {given, nullptr};
  settings.environment = environment;
  (void)must(pdf());
  EXPECT_NE(content("environment").find(given), std::string::npos);
}

TEST(FormatOf, GoesByContent) {
  const std::pair<std::string_view, std::optional<Format>> cases[] = {
      {"%PDF-1.4\n"sv, Format::pdf},
      {"\xEF\xBB\xBF\n%PDF-1.7"sv, Format::pdf},
      {"PK\3\4....word/document.xml"sv, Format::docx},
      {"PK\3\4....mimetypeapplication/epub+zip"sv, Format::epub},
      {"PK\3\4....application/vnd.oasis.opendocument.text"sv, Format::odt},
      {"PK\3\4....xl/workbook.xml"sv, std::nullopt},
      {"{\\rtf1 x}"sv, Format::rtf},
      {"<!DOCTYPE html>\n<p>"sv, Format::html},
      {"\xEF\xBB\xBF \n<!doctype HTML PUBLIC \"x\">"sv, Format::html},
      {"<html lang=en><body>"sv, Format::html},
      {"<?xml version=\"1.0\"?>\n<!-- made by x -->\n<HTML>"sv, Format::html},
      {"<htmlish> tags"sv, std::nullopt},
      {"<html"sv, std::nullopt},
      {"A page begins with <!doctype html> and <html>."sv, std::nullopt},
      {"<p>a paragraph</p><html>"sv, std::nullopt},
      {"<!-- no end <html>"sv, std::nullopt},
      {"<?xml version=\"1.0\"?><svg>"sv, std::nullopt},
      {"# Title\n<html>\n"sv, std::nullopt},
      {""sv, std::nullopt},
  };
  for (const auto& [bytes, format] : cases) EXPECT_EQ(format_of(bytes), format) << bytes;
}

}  // namespace
}  // namespace curdkv::testing
