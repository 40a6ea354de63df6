#include "eval/qa_data.h"

#include <algorithm>

#include "base/try.h"
#include "io/input_file.h"
#include "io/jsonl.h"

namespace curdkv::eval {
namespace {

// Fields of a JSON document. What is not there as it should be is read as empty, and the first such field is
// remembered.
class Fields {
 public:
  explicit Fields(std::string path) : path_(std::move(path)) {}

  std::string text(const Json& of, const char* name) {
    const Json& value = field(of, name);
    if (!value.is_string()) wrong(name, "no text");
    return value.is_string() ? value.get<std::string>() : "";
  }

  const Json& list(const Json& of, const char* name) {
    const Json& value = field(of, name);
    if (!value.is_array()) wrong(name, "no list");
    return value.is_array() ? value : kNone;
  }

  static bool is_true(const Json& of, const char* name) { return field(of, name) == Json(true); }

  void next_question() { ++n_questions_; }

  void wrong(const std::string& name, const char* what) {
    if (!error_.empty()) return;
    error_ = path_ + ": field '" + name + "' is missing or " + what;
    if (n_questions_ > 0) error_ += ", at question " + std::to_string(n_questions_);
  }

  Result<QaData> checked(QaData data) const {
    if (!error_.empty()) return Error{ErrorCode::corrupt, error_};
    if (data.questions.empty()) return Error{ErrorCode::bad_input, path_ + " has no question"};
    return data;
  }

 private:
  static const Json& field(const Json& of, const char* name) {
    const auto it = of.find(name);  // of anything but an object: none
    return it == of.end() ? kNone : *it;
  }

  inline static const Json kNone;

  std::string path_, error_;
  int64_t n_questions_ = 0;
};

Result<Json> read_json(const std::string& path) {
  CURDKV_TRY(const std::string text, read_text(path));
  Json out = parse_json(text);
  if (out.is_discarded()) return Error{ErrorCode::corrupt, path + " is no JSON"};
  return out;
}

void sort_unique(std::vector<std::string>& items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

size_t index_of(const std::vector<std::string>& documents, const std::string& document) {
  return static_cast<size_t>(std::lower_bound(documents.begin(), documents.end(), document) -
                             documents.begin());
}

// "title\ntext" for each of an entry's [title, [sentence, ...]].
std::vector<std::string> documents_of(Fields& fields, const Json& entry) {
  std::vector<std::string> out;
  for (const Json& document : fields.list(entry, "context")) {
    bool fits =
        document.is_array() && document.size() == 2 && document[0].is_string() && document[1].is_array();
    if (fits) out.push_back(document[0].get<std::string>() + "\n");
    for (size_t i = 0; fits && i < document[1].size(); ++i) {
      fits = document[1][i].is_string();
      if (fits) out.back() += document[1][i].get<std::string>();
    }
    if (!fits) fields.wrong("context", "not made of titles and sentences");
  }
  return out;
}

}  // namespace

Result<QaData> read_squad(const std::string& path) {
  CURDKV_TRY(const Json root, read_json(path));
  Fields fields(path);
  QaData out;
  const Json& articles = fields.list(root, "data");
  for (const Json& article : articles) {
    for (const Json& p : fields.list(article, "paragraphs"))
      out.documents.push_back(fields.text(p, "context"));
  }
  sort_unique(out.documents);
  for (const Json& article : articles) {
    std::vector<size_t> of_article;
    for (const Json& p : fields.list(article, "paragraphs")) {
      of_article.push_back(index_of(out.documents, fields.text(p, "context")));
    }
    size_t i = 0;
    for (const Json& p : fields.list(article, "paragraphs")) {
      const size_t document = of_article[i++];
      for (const Json& question : fields.list(p, "qas")) {
        fields.next_question();
        if (Fields::is_true(question, "is_impossible")) continue;
        QaQuestion q = {fields.text(question, "question"), {}, {document}, of_article};
        std::erase(q.others, document);
        for (const Json& answer : fields.list(question, "answers")) {
          q.answers.push_back(fields.text(answer, "text"));
        }
        out.questions.push_back(std::move(q));
      }
    }
  }
  return fields.checked(std::move(out));
}

Result<QaData> read_hotpotqa(const std::string& path) {
  CURDKV_TRY(const Json root, read_json(path));
  Fields fields(path);
  QaData out;
  if (!root.is_array()) return Error{ErrorCode::corrupt, path + ": expected a list of questions"};
  std::vector<std::vector<std::string>> of_questions;
  for (const Json& entry : root) {
    fields.next_question();
    of_questions.push_back(documents_of(fields, entry));
    out.documents.insert(out.documents.end(), of_questions.back().begin(), of_questions.back().end());
    out.questions.push_back({fields.text(entry, "question"), {fields.text(entry, "answer")}, {}, {}});
  }
  sort_unique(out.documents);
  for (size_t i = 0; i < of_questions.size(); ++i) {
    for (const std::string& document : of_questions[i]) {
      out.questions[i].documents.push_back(index_of(out.documents, document));
    }
  }
  return fields.checked(std::move(out));
}

}  // namespace curdkv::eval
