#include "convert/open_model.h"

#include <gtest/gtest.h>

#include "convert/convert.h"
#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "tests/convert/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(OpenModel, AFileIsGguf) {
  const TempFolder folder;
  const auto tiny = tiny_model({.n_layer = 1});
  write_gguf(*tiny, plan_conversion(*tiny, {}), folder.file("m.gguf"));
  const auto opened = open_checkpoint(folder.file("m.gguf"));
  EXPECT_EQ(opened->path(), folder.file("m.gguf"));
  EXPECT_EQ(opened->tensor_names(), tiny->tensor_names());
}

TEST(OpenModel, AFolderIsHuggingFace) {
  const TempFolder folder;
  expect_message(error_of([&] { open_checkpoint(folder.path()); }),
                 folder.path() + ": has neither model.safetensors nor model.safetensors.index.json");
  write_safetensors(folder.file("model.safetensors"), {});
  expect_message(error_of([&] { open_checkpoint(folder.path()); }), "config.json: No such file or directory");
  folder.write("config.json", "{}");
  expect_message(error_of([&] { open_checkpoint(folder.path()); }),
                 folder.file("config.json") + ": metadata key model_type is missing");
}

TEST(OpenModel, WhatIsNoModelIsAnError) {
  const TempFolder folder;
  expect_message(error_of([&] { open_checkpoint(folder.file("none")); }), "cannot open ");
  expect_message(error_of([&] { open_checkpoint(""); }), "cannot open ");
  expect_message(error_of([&] { open_checkpoint("/dev/null"); }), "/dev/null");
  expect_message(error_of([&] { open_checkpoint(folder.write("text", "hello")); }), "is not a GGUF file");
  expect_message(error_of([&] { open_checkpoint(folder.write("empty", "")); }), "truncated at byte 0");
}

}  // namespace
}  // namespace weft
