#include "eval/longbench.h"

namespace curdkv::eval {
namespace {

struct Templates {
  std::string_view task, context, question, answer_prefix;
  std::string_view strip = "";  // from the end of the row's input
};

// Several documents, one question.
constexpr std::string_view kPassages =
    "Answer the question based on the given passages. Only give me the answer and do not output any other "
    "words.\n\nThe following are given passages.\n{context}\n\nAnswer the question based on the given "
    "passages. Only give me the answer and do not output any other words.\n\n";

// kvpress evaluation/benchmarks/longbench/create_huggingface_dataset.py; the words are LongBench's own
// (dataset2prompt.json), slips included.
constexpr Templates kTemplates[] = {
    {"narrativeqa",
     "You are given a story, which can be either a novel or a movie script, and a question. Answer the "
     "question asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\n"
     "Story: {context}\n\nNow, answer the question based on the story asconcisely as you can, using a single "
     "phrase if possible. Do not provide any explanation.\n\n",
     "Question: {input}\n\n", "Answer:"},
    {"qasper",
     "You are given a scientific article and a question. Answer the question as concisely as you can, using "
     "a single phrase or sentence if possible. If the question cannot be answered based on the information "
     "in the article, write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", "
     "or \"unanswerable\". Do not provide any explanation.\n\nArticle: {context}\n\n Answer the question "
     "based on the above article as concisely as you can, using a single phrase or sentence if possible. If "
     "the question cannot be answered based on the information in the article, write \"unanswerable\". If "
     "the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not provide any "
     "explanation.\n\n",
     "Question: {input}\n\n", "Answer:"},
    {"multifieldqa_en",
     "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based "
     "on the above text, only give me the answer and do not output any other words.\n\n",
     "Question: {input}\n", "Answer:"},
    {"hotpotqa", kPassages, "Question: {input}\n", "Answer:"},
    {"2wikimqa", kPassages, "Question: {input}\n", "Answer:"},
    {"musique", kPassages, "Question: {input}\n", "Answer:"},
    {"gov_report",
     "You are given a report by a government agency. Write a one-page summary of the report.\n\nReport:\n"
     "{context}\n\n",
     "Now, write a one-page summary of the report.\n\n", "Summary:"},
    {"qmsum",
     "You are given a meeting transcript and a query containing a question or instruction. Answer the query "
     "in one or more sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the above "
     "meeting transcript in one or more sentences.\n\n",
     "Query: {input}\n", "Answer:"},
    {"multi_news",
     "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\n",
     "Now, write a one-page summary of all the news.\n\n", "Summary:"},
    {"trec",
     "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n",
     "{input}", "Type:", "Type:"},
    {"triviaqa",
     "Answer the question based on the given passage. Only give me the answer and do not output any other "
     "words. The following are some examples.\n\n{context}\n\n",
     "{input}", "Answer:", "Answer:"},
    {"samsum",
     "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n",
     "{input}", "Summary:", "Summary:"},
    {"passage_count",
     "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please "
     "carefully read these paragraphs and determine how many unique paragraphs there are after removing "
     "duplicates. In other words, how many non-repeating paragraphs are there in total?\n\n{context}\n\n",
     "Please enter the final count of unique paragraphs after removing duplicates. The output format should "
     "only contain the number, such as 1, 2, 3, and so on.\n\n",
     "The final answer is: "},
    {"passage_retrieval_en",
     "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the "
     "abstract is from.\n\n{context}\n\nThe following is an abstract.\n\n",
     "{input}\n\nPlease enter the number of the paragraph that the abstract is from. The answer format must "
     "be like \"Paragraph 1\", \"Paragraph 2\", etc.\n\n",
     "The answer is: "},
    {"lcc", "Please complete the code given below. \n{context}", "{input}", "Next line of code:\n"},
    {"repobench-p", "Please complete the code given below. \n{context}", "{input}", "Next line of code:\n"},
};

std::string filled(std::string_view pattern, std::string_view name, const std::string& value) {
  std::string out(pattern);
  const size_t at = out.find(name);
  if (at != std::string::npos) out.replace(at, name.size(), value);
  return out;
}

}  // namespace

Result<void> fill_templates(std::string_view task, const std::string& context, const std::string& input,
                            Sample& out) {
  for (const Templates& t : kTemplates) {
    if (t.task != task) continue;
    std::string asked = input;
    if (!t.strip.empty() && asked.ends_with(t.strip)) asked.resize(asked.size() - t.strip.size());
    out.context = filled(t.context, "{context}", context);
    out.question = filled(t.question, "{input}", asked);
    out.answer_prefix = t.answer_prefix;
    return {};
  }
  return Error{ErrorCode::internal, "no LongBench template for " + std::string(task)};
}

}  // namespace curdkv::eval
