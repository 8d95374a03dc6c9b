// The C interface of the learner's kernels. Each runs on the calling thread.
//
// Tensors passed as ``void*`` are bfloat16 if ``bfloat16`` is not 0, else fp32. Everything else is
// fp32, and so are sums. Strides are in values. models/native/build.py compiles this file.

#include "attention.h"
#include "elementwise.h"
#include "head.h"
#include "multiply.h"

using namespace thumbloop;

// Runs ``code`` with ``F`` as the number format.
#define IN_FORMAT(code)         \
    if (bfloat16) {             \
        typedef BFloat16 F;     \
        typedef F::Value Value; \
        code;                   \
    } else {                    \
        typedef Float32 F;      \
        typedef F::Value Value; \
        code;                   \
    }

extern "C" {

void thumbloop_rms_norm(const void* x, const void* weight, void* out, int64_t out_stride,
    int64_t rows, int32_t width, float epsilon, int32_t bfloat16) {
    IN_FORMAT(rms_norm<F>(
        (const Value*)x, (const Value*)weight, (Value*)out, out_stride, rows, width, epsilon))
}

void thumbloop_rms_norm_backward(const void* x, const void* weight, const void* dy,
    int64_t dy_stride, const void* dresidual, void* out, int64_t rows, int32_t width, float epsilon,
    int32_t bfloat16) {
    IN_FORMAT(rms_norm_backward<F>((const Value*)x, (const Value*)weight, (const Value*)dy,
        dy_stride, (const Value*)dresidual, (Value*)out, rows, width, epsilon))
}

void thumbloop_rotate(void* x, int64_t stride, const float* cosines, const float* sines,
    int64_t rows, int32_t heads, int32_t half, float sign, int32_t bfloat16) {
    IN_FORMAT(rotate<F>((Value*)x, stride, cosines, sines, rows, heads, half, sign))
}

void thumbloop_swiglu(const void* gates, void* out, int64_t out_stride, int64_t rows, int32_t inner,
    int32_t bfloat16) {
    IN_FORMAT(swiglu<F>((const Value*)gates, (Value*)out, out_stride, rows, inner))
}

void thumbloop_swiglu_backward(const void* gates, const void* d, int64_t d_stride, void* dgates,
    void* out, int64_t out_stride, int64_t rows, int32_t inner,
    int32_t bfloat16) {
    IN_FORMAT(swiglu_backward<F>((const Value*)gates, (const Value*)d, d_stride, (Value*)dgates,
        (Value*)out, out_stride, rows, inner))
}

// Returns 0, or 1 if the allocation fails.
int32_t thumbloop_attend(const Attention* over, const void* qkv, int64_t stride, void* out,
    int64_t out_stride, int32_t bfloat16) {
    IN_FORMAT({
        Heads<F> heads(*over, false);
        if (!heads.ready()) return 1;
        heads.forward((const Value*)qkv, stride, (Value*)out, out_stride);
    })
    return 0;
}

// Returns 0, or 1 if the allocation fails.
int32_t thumbloop_attend_backward(const Attention* over, const void* qkv, int64_t stride,
    const void* dout, int64_t dout_stride, void* dqkv, int32_t bfloat16) {
    IN_FORMAT({
        Heads<F> heads(*over, true);
        if (!heads.ready()) return 1;
        heads.backward((const Value*)qkv, stride, (const Value*)dout, dout_stride, (Value*)dqkv);
    })
    return 0;
}

// ``saved`` gets two numbers for each row, for the backward pass. ``delta`` may be null.
void thumbloop_logprobs_and_kl(const void* logits, const void* delta, int64_t rows, int32_t tokens,
    const float* factors, const int64_t* chosen, float* logprobs, float* kl, float* saved,
    int32_t bfloat16) {
    IN_FORMAT(for (int64_t r = 0; r < rows; r++) {
        const Value* row_delta = delta == nullptr ? nullptr : (const Value*)delta + r * tokens;
        logprob_and_kl<F>((const Value*)logits + r * tokens, row_delta, tokens, factors[r],
            chosen[r], logprobs + r, kl + r, saved + 2 * r);
    })
}

// Replaces the logits by their gradient.
void thumbloop_logprobs_and_kl_backward(void* logits, const void* delta, int64_t rows,
    int32_t tokens, const float* factors, const int64_t* chosen, const float* dlogprobs,
    const float* dkl, const float* saved, int32_t bfloat16) {
    IN_FORMAT(for (int64_t r = 0; r < rows; r++) {
        const Value* row_delta = delta == nullptr ? nullptr : (const Value*)delta + r * tokens;
        logprob_and_kl_backward<F>((Value*)logits + r * tokens, row_delta, tokens, factors[r],
            chosen[r], dlogprobs[r], dkl[r], saved + 2 * r);
    })
}

// Multiplies bfloat16 matrices (see ``Product``), in fp16 if ``float16`` is not 0 and compiled in.
void thumbloop_multiply(const uint16_t* a, int64_t a_stride, int64_t rows, int64_t inputs,
    const uint16_t* b, int64_t b_stride, int32_t transposed, int64_t columns, uint16_t* out,
    int64_t out_stride, int32_t add, int32_t float16, float* scratch) {
    const Operand operand{b, b_stride, transposed != 0};
#if defined(__AVX512FP16__)
    if (float16)
        return Product<AsFloat16>{
            a, a_stride, rows, inputs, operand, columns, out, out_stride, add != 0, scratch}
            .compute();
#endif
    Product<AsFloat32>{
        a, a_stride, rows, inputs, operand, columns, out, out_stride, add != 0, scratch}
        .compute();
}
}
