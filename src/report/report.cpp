#include "report/report.h"

#include "base/format.h"
#include "base/try.h"
#include "eval/result_file.h"
#include "io/input_file.h"
#include "report/html.h"
#include "report/page_texts.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

// Predictions of one model under the same settings.
struct Run {
  Json settings;
  std::vector<Prediction> predictions;
};

// Drawn from what 'curdkv analyze' wrote.
struct Figure {
  std::string title, model, html;
};

class Report {
 public:
  Result<void> add(const std::string& path) {
    CURDKV_TRY(const std::string text, read_text(path));
    CURDKV_TRY(const std::vector<JsonLine> lines, parse_jsonl(path, text));
    if (lines.empty()) return Error{ErrorCode::bad_input, path + " holds no predictions"};
    for (const JsonLine& line : lines) {
      if (line.has("figure")) {
        CURDKV_CHECK(add_figure(line));
        continue;
      }
      if (line.has("engine")) {
        CURDKV_CHECK(add_speed(line));
        continue;
      }
      CURDKV_TRY(Prediction p, from_json(line));
      add_prediction(std::move(p));
    }
    return {};
  }

  std::string page() const {
    std::string body, contents;
    int number = 0;
    for (const Run& run : runs_) {
      for (const Benchmark benchmark : {Benchmark::ruler, Benchmark::longbench}) {
        const Summary s = Summary::of(run.predictions, benchmark);
        if (s.empty()) continue;
        const std::string id = format("b%d", ++number), title = title_of(run, benchmark);
        contents += "<a href=\"#" + id + "\">" + title + "</a>";
        body += "<section id=" + id + "><h2>" + title + "</h2>\n" + settings_of(run, s) + sections_of(s) +
                "</section>\n";
      }
    }
    for (const SpeedRun& run : speed_runs_) {
      const std::string id = format("b%d", ++number),
                        title = "Speed and memory, " + escaped(run.settings.value("model", ""));
      contents += "<a href=\"#" + id + "\">" + title + "</a>";
      body += "<section id=" + id + "><h2>" + title + "</h2>\n<dl>" + terms_of(run.settings) + "</dl>\n" +
              speed_section(run) + "</section>\n";
    }
    for (const Figure& figure : figures_) {
      const std::string id = format("b%d", ++number), title = figure.title + ", " + escaped(figure.model);
      contents += "<a href=\"#" + id + "\">" + title + "</a>";
      body += "<section id=" + id + "><h2>" + title + "</h2>\n" + figure.html + "</section>\n";
    }
    return "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\n<meta name=viewport "
           "content=\"width=device-width, initial-scale=1\">\n<title>curdkv: what compression costs</title>\n"
           "<link rel=icon href=\"data:,\">\n<style>" +
           std::string(kReportStyle) +
           "</style></head>\n<body><h1>What compressing the KV cache costs</h1>\n<nav>" + contents +
           "</nav>\n" + body +
           (body.find("class=view") == std::string::npos
                ? ""
                : "<script>" + std::string(kReportScript) + "</script>") +
           "</body></html>\n";
  }

 private:
  void add_prediction(Prediction p) {
    for (Run& run : runs_) {
      if (run.settings == p.run) {
        run.predictions.push_back(std::move(p));
        return;
      }
    }
    runs_.push_back({p.run, {}});
    runs_.back().predictions.push_back(std::move(p));
  }

  // Rows of one model under the same settings, whatever file they come from.
  Result<void> add_speed(const JsonLine& line) {
    CURDKV_TRY(SpeedRow row, speed_row(line));
    Json settings;
    for (const char* name : {"model", "n_threads", "type_k", "type_v", "version"}) {
      settings[name] = line.object().value(name, Json());
    }
    for (SpeedRun& run : speed_runs_) {
      if (run.settings == settings) {
        run.rows.push_back(std::move(row));
        return {};
      }
    }
    speed_runs_.push_back({settings, {std::move(row)}});
    return {};
  }

  Result<void> add_figure(const JsonLine& figure) {
    const struct {
      const char *name, *title;
      Result<std::string> (*draw)(const JsonLine&);
    } kinds[] = {{"document", "What the presses kept", document_view},
                 {"attention-vs-loss", "Attention against loss", attention_vs_loss_section},
                 {"reconstruction", "Reconstruction of attention", reconstruction_section},
                 {"heads", "Budgets and overlaps", heads_section}};
    CURDKV_TRY(const std::string name, figure.text("figure"));
    for (const auto& kind : kinds) {
      if (name != kind.name) continue;
      CURDKV_TRY(std::string model, figure.text("model"));
      CURDKV_TRY(std::string html, kind.draw(figure));
      figures_.push_back({kind.title, std::move(model), std::move(html)});
      return {};
    }
    return figure.error("there is no figure '" + name + "'");
  }

  static std::string title_of(const Run& run, Benchmark benchmark) {
    const std::string model = run.settings.is_object() ? run.settings.value("model", "") : "";
    return std::string(to_string(benchmark)) + (model.empty() ? "" : ", " + escaped(model));
  }

  static std::string terms_of(const Json& settings) {
    std::string out;
    if (!settings.is_object()) return out;
    for (const auto& [name, value] : settings.items()) {
      if (value.empty() || value == "") continue;
      out += "<dt>" + escaped(name) + "</dt><dd>" +
             escaped(value.is_string() ? value.get<std::string>() : value.dump()) + "</dd>";
    }
    return out;
  }

  static std::string settings_of(const Run& run, const Summary& s) {
    std::string out = "<dl>" + terms_of(run.settings);
    std::string samples;
    for (const TaskInfo* task : s.tasks()) {
      samples +=
          (samples.empty() ? "" : ", ") + std::string(task->paper_name) + format(" %zu", s.n_samples(*task));
    }
    out += "<dt>samples</dt><dd>" + samples + "</dd></dl>\n";
    if (s.n_left_out() > 0) {
      out += format("<p>%lld samples are left out, as not every press has answered them.</p>\n",
                    static_cast<long long>(s.n_left_out()));
    }
    return out;
  }

  static std::string sections_of(const Summary& s) {
    if (!s.has(kFullCache))
      return "<p>The full cache's answers are missing, so there is nothing to compare with.</p>\n";
    return "<h3>Answers against bytes</h3>\n" + answers_against_bytes(s) + "<h3>Scores</h3>\n" +
           score_tables(s) + "<h3>Score against ratio</h3>\n" + score_curves(s) + ablation(s) +
           "<h3>Ranks</h3>\n" + rank_diagrams(s) + "<h3>Memory and speed</h3>\n" + cost_table(s);
  }

  std::vector<Run> runs_;
  std::vector<SpeedRun> speed_runs_;
  std::vector<Figure> figures_;
};

}  // namespace

Result<std::string> make_report(std::span<const std::string> paths) {
  Report report;
  for (const std::string& path : paths) CURDKV_CHECK(report.add(path));
  return report.page();
}

}  // namespace curdkv::report
