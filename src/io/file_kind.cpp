#include "io/file_kind.h"

#include <algorithm>

namespace curdkv {
namespace {

using namespace std::string_view_literals;

struct Kind {
  const char* what;
  std::optional<Format> format = {};
};

struct Magic {
  size_t at;
  std::string_view bytes;
  Kind kind;
};

constexpr const char* kOcr = "an image: take its text out first, as tesseract does";
constexpr const char* kSound = "sound or video, not text";

constexpr Magic kMagics[] = {
    {0, "%PDF-"sv, {"a PDF file: make text of it first (pdftotext FILE)", Format::pdf}},
    {0, "%!PS"sv, {"a PostScript file: make text of it first (ps2ascii FILE)"}},
    {0, "{\\rtf"sv, {"an RTF file: make text of it first (pandoc -f rtf -t plain FILE)", Format::rtf}},
    {0, "GGUF"sv, {"a GGUF file, a model rather than a text (a model goes with -m)"}},
    {0,
     "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv,
     {"an old Office file (.doc, .xls or .ppt): make text of it first (libreoffice --headless --convert-to "
      "txt:Text FILE)"}},
    {0, "\xFF\xFE\0\0"sv, {"UTF-32 text: convert it to UTF-8 first (iconv -f UTF-32 -t UTF-8 FILE)"}},
    {0, "\0\0\xFE\xFF"sv, {"UTF-32 text: convert it to UTF-8 first (iconv -f UTF-32 -t UTF-8 FILE)"}},
    {0, "\xFF\xFE"sv, {"UTF-16 text: convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8 FILE)"}},
    {0, "\xFE\xFF"sv, {"UTF-16 text: convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8 FILE)"}},
    {0, "\x1F\x8B"sv, {"compressed by gzip: unpack it first (gunzip FILE)"}},
    {0, "\xFD\x37zXZ\0"sv, {"compressed by xz: unpack it first (unxz FILE)"}},
    {0, "\x28\xB5\x2F\xFD"sv, {"compressed by Zstandard: unpack it first (unzstd FILE)"}},
    {0, "\x04\x22\x4D\x18"sv, {"compressed by LZ4: unpack it first (unlz4 FILE)"}},
    {4, "1AY&SY"sv, {"compressed by bzip2: unpack it first (bunzip2 FILE)"}},
    {0, "7z\xBC\xAF\x27\x1C"sv, {"a 7z archive: unpack it first (7z x FILE)"}},
    {0, "Rar!\x1A\x07"sv, {"a RAR archive: unpack it first (unrar x FILE)"}},
    {257, "ustar"sv, {"a tar archive: unpack it first (tar -xf FILE)"}},
    {0, "\x89PNG\r\n"sv, {kOcr}},
    {0, "\xFF\xD8\xFF"sv, {kOcr}},
    {0, "GIF87a"sv, {kOcr}},
    {0, "GIF89a"sv, {kOcr}},
    {0, "II*\0"sv, {kOcr}},
    {0, "MM\0*"sv, {kOcr}},
    {8, "WEBP"sv, {kOcr}},
    {4, "ftypheic"sv, {kOcr}},
    {4, "ftypavif"sv, {kOcr}},
    {8, "WAVEfmt"sv, {kSound}},
    {4, "ftyp"sv, {kSound}},
    {0, "OggS\0"sv, {kSound}},
    {0, "fLaC\0"sv, {kSound}},
    {0, "ID3\x02"sv, {kSound}},
    {0, "ID3\x03"sv, {kSound}},
    {0, "ID3\x04"sv, {kSound}},
    {0, "\x1A\x45\xDF\xA3"sv, {kSound}},
    {0, "AT&TFORM"sv, {"a DjVu file: make text of it first (djvutxt FILE)"}},
    {60, "BOOKMOBI"sv, {"a Mobipocket book: make text of it first (ebook-convert FILE OUT.txt)"}},
    {0, "SQLite format 3\0"sv, {"an SQLite database, not text"}},
    {0, "\x7F\x45LF"sv, {"a program, not text"}},
    {0, "PAR1"sv, {"a Parquet table, not text"}},
};

// Archives whose members tell what they are; names stand uncompressed in every ZIP file.
Kind zip_kind(std::string_view bytes) {
  const auto names = [&](std::string_view member) { return bytes.find(member) != std::string_view::npos; };
  constexpr Kind kWord = {"a Word file (.docx): make text of it first (pandoc -t plain FILE)", Format::docx};
  if (names("word/document.xml")) return kWord;
  if (names("xl/workbook")) {
    return {"an Excel file (.xlsx): make text of it first (libreoffice --headless --convert-to csv FILE)"};
  }
  if (names("ppt/presentation.xml")) {
    return {
        "a PowerPoint file (.pptx): make text of it first (libreoffice --headless --convert-to pdf FILE, "
        "then pdftotext)"};
  }
  if (names("application/epub+zip")) {
    return {"an EPUB book: make text of it first (pandoc -t plain FILE)", Format::epub};
  }
  if (names("opendocument.text")) {
    return {"an OpenDocument text (.odt): make text of it first (pandoc -t plain FILE)", Format::odt};
  }
  if (names("opendocument.")) {
    return {
        "an OpenDocument file: make text of it first (libreoffice --headless --convert-to txt:Text FILE)"};
  }
  if (names("word/")) return kWord;
  return {"a ZIP archive (as .docx, .xlsx and .epub files are too): unpack or convert it first (unzip FILE)"};
}

// What a file is by its first bytes or, of a ZIP file, by the names in it.
std::optional<Kind> kind_of(std::string_view bytes) {
  if (bytes.starts_with("PK\x03\x04") || bytes.starts_with("PK\x05\x06")) return zip_kind(bytes);
  for (const Magic& m : kMagics) {
    if (bytes.size() > m.at && bytes.substr(m.at).starts_with(m.bytes)) return m.kind;
  }
  // Readers of PDF take a header behind other bytes too.
  const std::string_view start = bytes.substr(0, 1024);
  const size_t pdf = start.find("%PDF-1.");
  if (pdf != std::string_view::npos &&
      start.substr(0, pdf).find_first_not_of("\xEF\xBB\xBF \t\r\n\f\v\0"sv) == std::string_view::npos) {
    return kMagics[0].kind;
  }
  return std::nullopt;
}

// Begins as nothing but a page does, behind comments and an XML declaration.
bool is_html(std::string_view bytes) {
  std::string start(bytes.substr(bytes.starts_with("\xEF\xBB\xBF") ? 3 : 0, 4096));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  constexpr std::string_view kBlanks = " \t\r\n\f";
  std::string_view s = start;
  for (;;) {
    s.remove_prefix(std::min(s.find_first_not_of(kBlanks), s.size()));
    const std::string_view end = s.starts_with("<?xml") ? "?>" : s.starts_with("<!--") ? "-->" : "";
    if (end.empty()) break;
    const size_t at = s.find(end);
    if (at == std::string_view::npos) return false;
    s.remove_prefix(at + end.size());
  }
  for (const std::string_view tag : {"<!doctype html"sv, "<html"sv}) {
    if (s.starts_with(tag) && s.size() > tag.size()) {
      return s[tag.size()] == '>' || kBlanks.find(s[tag.size()]) != std::string_view::npos;
    }
  }
  return false;
}

}  // namespace

std::optional<std::string> what_is(std::string_view bytes) {
  if (const auto kind = kind_of(bytes)) return std::string("is ") + kind->what;
  if (const size_t at = bytes.find('\0'); at != std::string_view::npos) {
    size_t n_zeros = 0;  // of the first bytes, at odd and even places
    const size_t n = std::min<size_t>(bytes.size(), 512);
    for (size_t i = at % 2; i < n; i += 2) n_zeros += bytes[i] == '\0';
    if (n >= 4 && n_zeros * 4 > n) {
      return std::string(
                 "is a binary file, not text, or UTF-16 without a mark: convert that to UTF-8 first "
                 "(iconv -f UTF-16") +
             (at % 2 == 1 ? "LE" : "BE") + " -t UTF-8 FILE)";
    }
    return "is a binary file, not text";
  }
  return std::nullopt;
}

std::optional<Format> format_of(std::string_view bytes) {
  if (const auto kind = kind_of(bytes)) return kind->format;
  if (is_html(bytes)) return Format::html;
  return std::nullopt;
}

}  // namespace curdkv
