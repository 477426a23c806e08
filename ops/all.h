// The table of contents of the ops: one line each.
#pragma once

#include "ops/activation.h"
#include "ops/candidates.h"
#include "ops/catalogue.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/gelu_gemm.h"
#include "ops/indexing.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/mlp_gemm.h"
#include "ops/moe_experts.h"
#include "ops/moe_route.h"
#include "ops/movement.h"
#include "ops/qkv_gemm.h"
#include "ops/reduce.h"
#include "ops/residual_add.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/sample.h"
#include "ops/softmax.h"
#include "ops/softmax_context.h"
#include "ops/state.h"
#include "ops/vector_matmul.h"

namespace weft {

template <typename... Ops>
struct TypeList {};

using AllOps = TypeList<
    // the fused GPT layer
    Embedding,       //
    QkvGemm,         //
    SoftmaxContext,  //
    VectorMatmul,    //
    Linear,          //
    MlpGemm,         //
    GeluGemm,        //
    ResidualAdd,     //
    MoeRoute,        //
    MoeExperts,      //
    // composites
    LayerNorm,   //
    RmsNorm,     //
    Softmax,     //
    Rope,        //
    Activate,    //
    Candidates,  //
    Sample,      //
    // primitives
    Neg,            //
    Exp,            //
    Log,            //
    Sqrt,           //
    Reciprocal,     //
    Tanh,           //
    Erf,            //
    Sin,            //
    Cos,            //
    Floor,          //
    Abs,            //
    Add,            //
    Sub,            //
    Mul,            //
    Div,            //
    Maximum,        //
    Minimum,        //
    Less,           //
    Equal,          //
    Select,         //
    Constant,       //
    Cast,           //
    ReduceSum,      //
    ReduceMax,      //
    TopK,           //
    Reshape,        //
    Permute,        //
    Slice,          //
    Concat,         //
    Matmul,         //
    BatchMatmul,    //
    IndexedMatmul,  //
    GatherRows,     //
    Iota,           //
    AppendPages,    //
    GatherPages     //
    >;

}  // namespace weft
