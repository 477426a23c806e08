// The table of contents of the weight formats: one line each.
#pragma once

#include <array>

#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"
#include "ops/quant/find.h"
#include "ops/quant/iq1_m.h"
#include "ops/quant/iq1_s.h"
#include "ops/quant/iq2_s.h"
#include "ops/quant/iq2_xs.h"
#include "ops/quant/iq2_xxs.h"
#include "ops/quant/iq3_s.h"
#include "ops/quant/iq3_xxs.h"
#include "ops/quant/iq4_nl.h"
#include "ops/quant/iq4_xs.h"
#include "ops/quant/mxfp4.h"
#include "ops/quant/q2_k.h"
#include "ops/quant/q3_k.h"
#include "ops/quant/q4_0.h"
#include "ops/quant/q4_1.h"
#include "ops/quant/q4_k.h"
#include "ops/quant/q5_0.h"
#include "ops/quant/q5_1.h"
#include "ops/quant/q5_k.h"
#include "ops/quant/q6_k.h"
#include "ops/quant/q8_0.h"
#include "ops/quant/tq1_0.h"
#include "ops/quant/tq2_0.h"

namespace weft::quant {

inline constexpr std::array kAllTypes = {
    &f32,      //
    &f16,      //
    &bf16,     //
    &q4_0,     //
    &q4_1,     //
    &q5_0,     //
    &q5_1,     //
    &q8_0,     //
    &q2_K,     //
    &q3_K,     //
    &q4_K,     //
    &q5_K,     //
    &q6_K,     //
    &iq1_s,    //
    &iq1_m,    //
    &iq2_xxs,  //
    &iq2_xs,   //
    &iq2_s,    //
    &iq3_xxs,  //
    &iq3_s,    //
    &iq4_nl,   //
    &iq4_xs,   //
    &mxfp4,    //
    &tq1_0,    //
    &tq2_0,    //
};

}  // namespace weft::quant
