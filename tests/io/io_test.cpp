// Files written and read: what stays, what is followed, what is refused; JSON from strangers.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/mapped_file.h"
#include "io/file_kind.h"
#include "io/input_file.h"
#include "io/jsonl.h"
#include "io/output_file.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder = temp_path(info->name());
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  std::string at(const std::string& name) const { return folder + "/" + name; }
  std::string make(const std::string& name, std::string_view text) const {
    std::ofstream(at(name), std::ios::binary) << text;
    return at(name);
  }
  static std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static mode_t mode(const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777;
  }
  size_t n_entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }
  std::string folder;
};

template <typename T>
void expect_error(const Result<T>& result, const std::string& words, ErrorCode code = ErrorCode::io) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(words), std::string::npos) << result.error().message;
}

TEST_F(Files, ANewFileHasTheUsualModeAndAnOldOneKeepsIts) {
  const mode_t before = ::umask(027);
  must(write_file(at("new"), "text"));
  EXPECT_EQ(mode(at("new")), 0640u);
  for (const mode_t m : {0600u, 0644u, 0666u, 0700u}) {
    ::chmod(make("old", "old").c_str(), m);
    must(write_file(at("old"), "text"));
    EXPECT_EQ(content(at("old")), "text");
    EXPECT_EQ(mode(at("old")), m);
  }
  ::umask(before);
  EXPECT_EQ(n_entries(), 2u) << "nothing else is left";
}

TEST_F(Files, LinksAreFollowed) {
  make("target", "old");
  fs::create_directories(at("sub"));
  ASSERT_EQ(::symlink("../target", at("sub/link").c_str()), 0);
  ASSERT_EQ(::symlink("sub/link", at("chain").c_str()), 0);
  must(write_file(at("chain"), "text"));
  EXPECT_TRUE(fs::is_symlink(at("chain")) && fs::is_symlink(at("sub/link")));
  EXPECT_EQ(content(at("target")), "text");
  ASSERT_EQ(::symlink("made", at("dangling").c_str()), 0);
  must(check_output(at("dangling"), {}));
  EXPECT_FALSE(fs::exists(at("made"))) << "looking leaves no trace";
  must(write_file(at("dangling"), "text"));
  EXPECT_EQ(content(at("made")), "text");
  EXPECT_TRUE(fs::is_symlink(at("dangling")));
  ASSERT_EQ(::symlink("loop", at("loop").c_str()), 0);
  expect_error(write_file(at("loop"), "text"), "symbolic links");
}

TEST_F(Files, DescriptorsDevicesAndPipesAreWrittenTo) {
  make("open", "");
  const int file = ::open(at("open").c_str(), O_WRONLY);
  ASSERT_GE(file, 0);
  for (const char* name : {"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"}) {
    must(write_file(name + std::to_string(file), "text "));
  }
  EXPECT_EQ(content(at("open")), "text text text ") << "each behind the last";
  ASSERT_EQ(::symlink(("/dev/fd/" + std::to_string(file)).c_str(), at("link").c_str()), 0);
  must(write_file(at("link"), "more"));
  EXPECT_EQ(content(at("open")), "text text text more");
  ::close(file);
  must(write_file("/dev/null", "text"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  expect_error(write_file("/dev/full", "text"), "No space left");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  std::string got;
  std::jthread reader([&] { got = content(at("pipe")); });
  must(write_file(at("pipe"), "text"));
  reader.join();
  EXPECT_EQ(got, "text");
  EXPECT_TRUE(fs::is_fifo(at("pipe")));
}

TEST_F(Files, WhatCannotBeWrittenIsAnErrorAndStays) {
  expect_error(write_file(folder, "text"), "folder");
  expect_error(write_file(at("missing/file"), "text"), "No such file");
  expect_error(write_file(at("new/"), "text"), "folder");
  expect_error(write_file("", "text"), "empty");
  ::chmod(make("protected", "old").c_str(), 0444);
  expect_error(check_output(at("protected"), {}), "write-protected");
  expect_error(write_file(at("protected"), "text"), "write-protected");
  EXPECT_EQ(content(at("protected")), "old");
  EXPECT_EQ(n_entries(), 1u);
}

TEST_F(Files, NoInputIsOverwrittenByWhateverName) {
  const std::vector<std::string> inputs = {at("other"), make("input", "precious")};
  ASSERT_EQ(::symlink("input", at("soft").c_str()), 0);
  ASSERT_EQ(::link(at("input").c_str(), at("hard").c_str()), 0);
  for (const char* name : {"input", "soft", "hard", "./input"}) {
    expect_error(check_output(at(name), inputs), at("input"), ErrorCode::bad_input);
  }
  must(check_output(at("new"), inputs));
  must(check_output("/dev/null", std::vector<std::string>{"/dev/null"}));
}

TEST_F(Files, UnfinishedFilesAreRemovedOnTheWayOut) {
  make("file", "old");
  const pid_t child = ::fork();
  if (child == 0) {  // ended by a signal in the middle of writing
    std::signal(SIGXFSZ, [](int) {
      remove_unfinished_files();
      ::_exit(7);
    });
    const rlimit limit = {4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    (void)write_file(at("file"), std::string(100000, 'x'));
    ::_exit(8);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(content(at("file")), "old");
  EXPECT_EQ(n_entries(), 1u);
}

TEST_F(Files, AFullDiskLeavesWhatWasThere) {
  make("file", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto written = write_file(at("file"), std::string(100000, 'x'));
    ::_exit(!written && written.error().message.find("File too large") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(content(at("file")), "old");
  EXPECT_EQ(n_entries(), 1u);
}

TEST_F(Files, ReadsWhatHasAnEnd) {
  EXPECT_EQ(must(read_file(make("file", "text"))), "text");
  expect_error(read_file(at("missing")), "No such file");
  expect_error(read_file(folder), "Is a directory");
  expect_error(read_file("/dev/zero"), "is a device");
  expect_error(read_file("/dev/urandom"), "is a device");
  expect_error(read_file(make("large", std::string(3 << 20, 'x')), 2 << 20), "more than 2 MiB",
               ErrorCode::bad_input);
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  std::jthread writer([&] { std::ofstream(at("pipe")) << "late"; });
  EXPECT_EQ(must(read_file(at("pipe"))), "late");
  writer.join();
  std::jthread endless([&] {
    std::ofstream out(at("pipe"));
    while (out << std::string(1 << 16, 'x')) continue;
  });
  ::signal(SIGPIPE, SIG_IGN);
  expect_error(read_file(at("pipe"), 4 << 20), "more than 4 MiB", ErrorCode::bad_input);
}

TEST_F(Files, MapsOnlyRegularFilesAndNoticesWhenTheyAreCut) {
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  expect_error(MappedFile::open(at("pipe")), "not a regular file");
  expect_error(MappedFile::open("/dev/zero"), "not a regular file");
  MappedFile file = must(MappedFile::open(make("file", std::string(20000, 'x'))));
  must(file.map());
  must(file.check());
  fs::resize_file(at("file"), 10);
  expect_error(file.check(), "cut short", ErrorCode::corrupt);
  const MappedFile other = must(MappedFile::open(make("other", "some text")));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  make("other", "same size");
  expect_error(other.check(), "replaced while in use", ErrorCode::corrupt);
  char byte = 0;
  expect_error(file.read(&byte, 15000, 1), "cut short", ErrorCode::corrupt);
  // What a handler of SIGBUS does: zeros from there on.
  EXPECT_TRUE(repair_mapped_file(file.data() + 15000));
  EXPECT_EQ(file.data()[15000], 0);
  EXPECT_TRUE(file.faulted());
  EXPECT_FALSE(repair_mapped_file(&byte));
}

TEST(FileKind, SaysWhatItIsAndTheMend) {
  const std::pair<std::string_view, const char*> cases[] = {
      {"%PDF-1.4\nplain ASCII inside"sv, "pdftotext"},
      {"\xEF\xBB\xBF\n%PDF-1.7"sv, "pdftotext"},
      {"PK\x03\x04 word/document.xml"sv, "Word"},
      {"PK\x03\x04 xl/workbook.xml"sv, "Excel"},
      {"PK\x03\x04 ppt/presentation.xml"sv, "PowerPoint"},
      {"PK\x03\x04 mimetypeapplication/vnd.oasis.opendocument.text"sv, "pandoc"},
      {"PK\x03\x04 mimetypeapplication/epub+zip"sv, "EPUB"},
      {"PK\x03\x04 anything"sv, "ZIP"},
      {"{\\rtf1 text}"sv, "RTF"},
      {"\x1F\x8B\x08"sv, "gunzip"},
      {"\xFD\x37zXZ\0\0"sv, "unxz"},
      {"\x28\xB5\x2F\xFD..."sv, "unzstd"},
      {"BZh91AY&SY"sv, "bunzip2"},
      {"\x89PNG\r\n\x1A\n"sv, "image"},
      {"\xFF\xD8\xFF\xE0"sv, "image"},
      {"GIF89a..."sv, "image"},
      {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "libreoffice"},
      {"\xFF\xFEh\0i\0"sv, "iconv -f UTF-16 "},
      {"\xFE\xFF\0h\0i"sv, "iconv -f UTF-16 "},
      {"\xFF\xFE\0\0h\0\0\0"sv, "iconv -f UTF-32 "},
      {"\0\0\xFE\xFF\0\0\0h"sv, "iconv -f UTF-32 "},
      {"h\0i\0 \0t\0h\0e\0r\0e\0"sv, "UTF-16LE"},
      {"\0h\0i\0 \0t\0h\0e\0r\0e"sv, "UTF-16BE"},
      {"GGUF\3\0\0\0"sv, "model"},
      {"some\0thing"sv, "binary"},
  };
  for (const auto& [bytes, words] : cases) {
    const auto kind = what_is(bytes);
    ASSERT_TRUE(kind) << words;
    EXPECT_NE(kind->find(words), std::string::npos) << *kind;
  }
  for (const auto text : {"plain"sv, ""sv, "<html><body>"sv, "PKWARE made ZIP"sv, "On %PDF- files"sv, "BM"sv,
                          "\xEF\xBB\xBFtext"sv, "caf\xC3\xA9"sv, "{\"a\": 1}"sv}) {
    EXPECT_FALSE(what_is(text)) << text;
  }
  EXPECT_EQ(must(as_text("\xEF\xBB\xBFtext", "name")), "text");
  expect_error(as_text("%PDF-1.4", "name"), "pdftotext", ErrorCode::unsupported);
}

TEST(ParseJson, BoundedDepth) {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_TRUE(parse_json(nested(64)).is_array());
  EXPECT_TRUE(parse_json(nested(65)).is_discarded());
  EXPECT_TRUE(parse_json(nested(2000000)).is_discarded());
  EXPECT_TRUE(parse_json(std::string(2000000, '[')).is_discarded());
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_TRUE(parse_json(objects).is_discarded());
  std::string text = "\"";
  text.append(nested(100)).append("\\\"[\"");
  EXPECT_EQ(parse_json(text).get<std::string>().size(), 202u) << "no brackets";
  expect_error(parse_jsonl("file", "{}\n{\"x\":" + nested(70) + "}\n"), "file, line 2: nested more than 64",
               ErrorCode::corrupt);
  expect_error(must(parse_jsonl("file", "{\"n\": 18446744073709551615}"))[0].integer("n"), "2^63",
               ErrorCode::corrupt);
  expect_error(parse_jsonl("file", "{\"n\": 1e999}"), "not a JSON object", ErrorCode::corrupt);
}

}  // namespace
}  // namespace curdkv::testing
