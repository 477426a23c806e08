#include "convert/chat_template.h"

#include <gtest/gtest.h>

#include "tests/convert/temp_folder.h"

namespace weft {
namespace {

using namespace weft::testing;

Metadata read(const TempFolder& folder, std::string_view config) {
  Metadata metadata;
  read_chat_templates(folder.path(), config, metadata);
  return metadata;
}

TEST(ChatTemplate, OneInTheConfig) {
  const TempFolder folder;
  EXPECT_TRUE(read(folder, "").entries().empty());
  EXPECT_TRUE(read(folder, R"({"chat_template": null})").entries().empty());
  EXPECT_EQ(read(folder, R"({"chat_template": "{{ x }}\n"})").text("tokenizer.chat_template"), "{{ x }}\n");
}

TEST(ChatTemplate, SeveralByName) {
  const TempFolder folder;
  const Metadata m = read(folder, R"({"chat_template": [{"name": "default", "template": "d"},
                                                        {"name": "tool_use", "template": "t"}]})");
  EXPECT_EQ(m.text("tokenizer.chat_template"), "d");
  EXPECT_EQ(m.text("tokenizer.chat_template.tool_use"), "t");
  EXPECT_EQ(m.texts("tokenizer.chat_templates"), std::vector<std::string>{"tool_use"});
}

TEST(ChatTemplate, FilesGoBeforeTheConfig) {
  const TempFolder folder;
  folder.write("chat_template.jinja", "from the file");
  std::filesystem::create_directory(folder.file("additional_chat_templates"));
  folder.write("additional_chat_templates/rag.jinja", "r");
  folder.write("additional_chat_templates/readme.txt", "no template");
  const Metadata m = read(folder, R"({"chat_template": "from the config"})");
  EXPECT_EQ(m.text("tokenizer.chat_template"), "from the file");
  EXPECT_EQ(m.text("tokenizer.chat_template.rag"), "r");
  EXPECT_EQ(m.entries().size(), 3u);
}

TEST(ChatTemplate, WhatIsNoTemplateIsRefused) {
  const TempFolder folder;
  for (const char* config : {R"({"chat_template": 3})", R"({"chat_template": ["x"]})",
                             R"({"chat_template": [{"name": "a b", "template": "x"}]})",
                             R"({"chat_template": [{"name": "a", "template": 1}]})"}) {
    expect_message(error_of([&] { read(folder, config); }), folder.file("tokenizer_config.json") + ": ");
  }
}

}  // namespace
}  // namespace weft
