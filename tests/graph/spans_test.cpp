// The share of a step in gaps, and what each kernel adds: of intervals that follow, overlap, nest, or are not there.
#include "graph/spans.h"

#include <gtest/gtest.h>

#include <numeric>

namespace weft {
namespace {

constexpr uint64_t kFirst = 7, kSecond = 8;  // launches

Span span(std::string name, int64_t start_us, int64_t end_us, uint64_t launch = kFirst) {
  return {.name = std::move(name), .start_ns = start_us * 1000, .end_ns = end_us * 1000, .launch = launch};
}

double sum_of_rows(const SpanReport& report) {
  return std::accumulate(report.rows.begin(), report.rows.end(), 0.0,
                         [](double sum, const SpanReport::Row& row) { return sum + row.added_us; });
}

TEST(Spans, NoneIsNoStepAndNoShare) {
  const SpanReport report = report_spans({}, 3);
  EXPECT_EQ(report.step_us, 0);
  EXPECT_EQ(report.gap_share(), 0);
  EXPECT_TRUE(report.rows.empty());
  EXPECT_NE(report.table().find("adds us"), std::string::npos);
}

TEST(Spans, GapsInsideALaunchAndBetweenLaunches) {
  // Two steps: a [0, 10] gap 2 b [12, 20], gap 5, a copy [25, 26], gap 4, and once more a [30, 40] gap 2 b [42, 50].
  const SpanReport report =
      report_spans({.list = {span("b", 42, 50, kSecond), span("a", 0, 10), span("copy", 25, 26, 0), span("b", 12, 20),
                             span("a", 30, 40, kSecond)},
                    .lost = 1},
                   2);
  EXPECT_DOUBLE_EQ(report.step_us, 25);
  EXPECT_DOUBLE_EQ(report.busy_us, 18.5);
  EXPECT_DOUBLE_EQ(report.gap_us, 2);
  EXPECT_DOUBLE_EQ(report.between_gap_us, 4.5);
  EXPECT_DOUBLE_EQ(report.gap_share(), 6.5 / 25);
  EXPECT_EQ(report.lost, 1u);
  ASSERT_EQ(report.rows.size(), 3u);
  EXPECT_EQ(report.rows[0].name, "a");  // 10 and, with the gap before it, 14
  EXPECT_DOUBLE_EQ(report.rows[0].added_us, 12);
  EXPECT_DOUBLE_EQ(report.rows[0].gap_us, 2);
  EXPECT_DOUBLE_EQ(report.rows[0].mean_us, 10);
  EXPECT_EQ(report.rows[1].name, "b");
  EXPECT_EQ(report.rows[1].count, 2u);
  EXPECT_DOUBLE_EQ(report.rows[1].added_us, 10);
  EXPECT_DOUBLE_EQ(report.rows[2].added_us, 3);
  EXPECT_DOUBLE_EQ(report.rows[2].gap_us, 2.5);
  EXPECT_DOUBLE_EQ(sum_of_rows(report), report.step_us);
}

TEST(Spans, LaunchesOutsideGraphsHaveTheirGapsBetweenLaunches) {
  const SpanReport report = report_spans({.list = {span("a", 0, 1, 0), span("a", 2, 3, 0)}}, 1);
  EXPECT_DOUBLE_EQ(report.gap_us, 0);
  EXPECT_DOUBLE_EQ(report.between_gap_us, 1);
}

TEST(Spans, AKernelThatWaitsInsideItsPredecessorAddsWhatComesAfterIt) {
  // b's blocks are there from 4 on, and can only work from 10 on; c is there before both end.
  const SpanReport report = report_spans({.list = {span("a", 0, 10), span("b", 4, 13), span("c", 8, 20)}}, 1);
  EXPECT_DOUBLE_EQ(report.step_us, 20);
  EXPECT_DOUBLE_EQ(report.busy_us, 20);
  EXPECT_DOUBLE_EQ(report.gap_share(), 0);
  ASSERT_EQ(report.rows.size(), 3u);
  EXPECT_EQ(report.rows[0].name, "a");
  EXPECT_EQ(report.rows[1].name, "c");
  EXPECT_DOUBLE_EQ(report.rows[1].added_us, 7);
  EXPECT_DOUBLE_EQ(report.rows[1].mean_us, 12);
  EXPECT_DOUBLE_EQ(report.rows[2].added_us, 3);
  EXPECT_DOUBLE_EQ(sum_of_rows(report), report.step_us);
}

TEST(Spans, WhatRunsBesideALongerOneAddsNothingAndHidesNoGap) {
  // The gap is from the end of the long one, not from that of the last that started.
  const SpanReport report = report_spans(
      {.list = {span("long", 0, 10), span("beside", 2, 5), span("beside", 2, 2), span("next", 11, 12)}}, 1);
  EXPECT_DOUBLE_EQ(report.step_us, 12);
  EXPECT_DOUBLE_EQ(report.gap_us, 1);
  EXPECT_DOUBLE_EQ(report.busy_us, 11);
  EXPECT_EQ(report.rows.back().name, "beside");
  EXPECT_EQ(report.rows.back().count, 2u);
  EXPECT_DOUBLE_EQ(report.rows.back().added_us, 0);
  EXPECT_DOUBLE_EQ(report.rows.back().mean_us, 1.5);
}

TEST(Spans, TimesOfARealClockKeepTheirNanoseconds) {
  const int64_t now = int64_t{1'800'000'000} * 1'000'000'000 + 1;
  const SpanReport report = report_spans({.list = {{.name = "a", .start_ns = now, .end_ns = now + 3},
                                                   {.name = "b", .start_ns = now + 4, .end_ns = now + 5}}},
                                         1);
  EXPECT_DOUBLE_EQ(report.step_us, 0.005);
  EXPECT_DOUBLE_EQ(report.between_gap_us, 0.001);
}

TEST(Spans, TheTableCutsLongNamesOnly) {
  const std::string name(200, 'n');
  const std::string table = report_spans({.list = {span(name, 0, 10), span("short<1>", 10, 11)}}, 1).table();
  EXPECT_EQ(table.find(name), std::string::npos);
  EXPECT_NE(table.find("nnn..."), std::string::npos);
  EXPECT_NE(table.find("short<1> "), std::string::npos);
}

TEST(Spans, KernelNamesAreShort) {
  EXPECT_EQ(short_kernel_name("void weft::cuda::(anonymous namespace)::gemv<weft::cuda::QuantizedRow<weft::cuda::"
                              "FormatIQ4_NL>, 1, false>(weft::cuda::GemvArgs, weft::cuda::(anonymous namespace)::"
                              "Blocks<weft::cuda::QuantizedRow<weft::cuda::FormatIQ4_NL> >)"),
            "gemv<QuantizedRow<FormatIQ4_NL>, 1, false>");
  EXPECT_EQ(short_kernel_name("plain(float*, int)"), "plain");
  EXPECT_EQ(short_kernel_name("void other::name<void (*)(float)>(int)"), "other::name<void (*)(float)>");
  EXPECT_EQ(short_kernel_name("cutlass_80_tensorop"), "cutlass_80_tensorop");
  EXPECT_EQ(short_kernel_name("(memory set)"), "(memory set)");
  EXPECT_EQ(short_kernel_name(""), "");
}

}  // namespace
}  // namespace weft
