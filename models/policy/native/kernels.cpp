// The learner's kernels, each run by the thread that calls it.
//
// Number formats: fp32, or bfloat16 where ``bfloat16`` is not 0; sums, functions, rotations and what
// has no stated format are fp32. Strides are in values. Compiled by models/native/build.py.

#include "attention.h"
#include "elementwise.h"
#include "head.h"
#include "multiply.h"

using namespace thumbloop;

// Calls ``code`` with ``F`` as the number format.
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

void thumbloop_norm(const void* x, const void* weight, void* out, int64_t out_stride, int64_t rows, int32_t width,
    float epsilon, int32_t bfloat16) {
    IN_FORMAT(norm<F>((const Value*)x, (const Value*)weight, (Value*)out, out_stride, rows, width, epsilon))
}

void thumbloop_norm_backward(const void* x, const void* weight, const void* dy, int64_t dy_stride, const void* more, void* out,
    int64_t rows, int32_t width, float epsilon, int32_t bfloat16) {
    IN_FORMAT(norm_backward<F>(
        (const Value*)x, (const Value*)weight, (const Value*)dy, dy_stride, (const Value*)more, (Value*)out, rows, width, epsilon))
}

void thumbloop_rotate(void* x, int64_t stride, const float* cosines, const float* sines, int64_t rows, int32_t heads,
    int32_t half, float sign, int32_t bfloat16) {
    IN_FORMAT(rotate<F>((Value*)x, stride, cosines, sines, rows, heads, half, sign))
}

void thumbloop_gate(const void* gates, void* out, int64_t out_stride, int64_t rows, int32_t inner, int32_t bfloat16) {
    IN_FORMAT(gate<F>((const Value*)gates, (Value*)out, out_stride, rows, inner))
}

void thumbloop_gate_backward(const void* gates, const void* d, int64_t d_stride, void* dgates, void* out, int64_t out_stride,
    int64_t rows, int32_t inner, int32_t bfloat16) {
    IN_FORMAT(gate_backward<F>(
        (const Value*)gates, (const Value*)d, d_stride, (Value*)dgates, (Value*)out, out_stride, rows, inner))
}

// Returns 0, or 1 when there is no memory for it.
int32_t thumbloop_attend(const Attention* over, const void* qkv, int64_t stride, void* out, int64_t out_stride, int32_t bfloat16) {
    IN_FORMAT({
        Heads<F> heads(*over, false);
        if (!heads.ready()) return 1;
        heads.forward((const Value*)qkv, stride, (Value*)out, out_stride);
    })
    return 0;
}

// Likewise.
int32_t thumbloop_attend_backward(const Attention* over, const void* qkv, int64_t stride, const void* dout, int64_t dout_stride,
    void* dqkv, int32_t bfloat16) {
    IN_FORMAT({
        Heads<F> heads(*over, true);
        if (!heads.ready()) return 1;
        heads.backward((const Value*)qkv, stride, (const Value*)dout, dout_stride, (Value*)dqkv);
    })
    return 0;
}

// ``facts`` has two numbers a row, for the backward pass. ``gain`` may be null.
void thumbloop_distributions(const void* logits, const void* gain, int64_t rows, int32_t tokens, const float* factors,
    const int64_t* chosen, float* logprobs, float* kl, float* facts, int32_t bfloat16) {
    IN_FORMAT(for (int64_t r = 0; r < rows; r++) {
        const Value* gained = gain == nullptr ? nullptr : (const Value*)gain + r * tokens;
        distribution<F>((const Value*)logits + r * tokens, gained, tokens, factors[r], chosen[r], logprobs + r, kl + r, facts + 2 * r);
    })
}

// Puts the gradient of the logits in their place.
void thumbloop_distributions_backward(void* logits, const void* gain, int64_t rows, int32_t tokens, const float* factors,
    const int64_t* chosen, const float* dlogprobs, const float* dkl, const float* facts, int32_t bfloat16) {
    IN_FORMAT(for (int64_t r = 0; r < rows; r++) {
        const Value* gained = gain == nullptr ? nullptr : (const Value*)gain + r * tokens;
        distribution_backward<F>(
            (Value*)logits + r * tokens, gained, tokens, factors[r], chosen[r], dlogprobs[r], dkl[r], facts + 2 * r);
    })
}

// Of bfloat16 numbers, as fp16 ones where ``float16`` is not 0 and there are such products; see ``Product``.
void thumbloop_multiply(const uint16_t* a, int64_t a_stride, int64_t rows, int64_t inputs, const uint16_t* b, int64_t b_stride,
    int32_t turned, int64_t columns, uint16_t* out, int64_t out_stride, int32_t add, int32_t float16, float* scratch) {
    const Factor factor{b, b_stride, turned != 0};
#if defined(__AVX512FP16__)
    if (float16)
        return Product<AsFloat16>{a, a_stride, rows, inputs, factor, columns, out, out_stride, add != 0, scratch}.compute();
#endif
    Product<AsFloat32>{a, a_stride, rows, inputs, factor, columns, out, out_stride, add != 0, scratch}.compute();
}
}
