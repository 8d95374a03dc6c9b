// RMS norm, rotary embedding and SwiGLU of a decoder layer, forward and backward.
//
// Each function passes over memory once. Rows are ``stride`` values apart. Sums and functions are
// computed in fp32 for every number format.

#pragma once

#include <math.h>

#include "vectors.h"

namespace thumbloop {

// Conversions of single values, for the ends of rows whose length is no multiple of 16.
static inline float widen_one(const float* from) { return *from; }
static inline float widen_one(const uint16_t* from) {
    uint32_t bits = (uint32_t)*from << 16;
    float out;
    memcpy(&out, &bits, sizeof(out));
    return out;
}
static inline void narrow_one(float* to, float x) { *to = x; }
static inline void narrow_one(uint16_t* to, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    *to = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Converts a row to fp32.
template <typename F, typename Value = typename F::Value>
static inline void widen_row(const Value* from, int count, float* to) {
    int i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, F::widen(from + i));
    for (; i < count; i++) to[i] = widen_one(from + i);
}

// RMS norm (arXiv 1910.07467): out = w x r with r = (mean x² + ε)^-½. ``width`` is a multiple
// of 16.
template <typename F, typename Value = typename F::Value>
static void rms_norm(const Value* x, const Value* weight, Value* out, long out_stride, long rows,
    int width, float epsilon) {
    for (long t = 0; t < rows; t++, x += width, out += out_stride) {
        f32v squares{};
        for (int i = 0; i < width; i += LANES) {
            f32v v = F::widen(x + i);
            squares += v * v;
        }
        const float r = 1.0f / sqrtf(sum(squares) / width + epsilon);
        for (int i = 0; i < width; i += LANES)
            F::narrow(out + i, F::widen(x + i) * r * F::widen(weight + i));
    }
}

// out = r (w dy) - x r³ mean(x w dy) + dresidual; ``dresidual`` may be null.
template <typename F, typename Value = typename F::Value>
static void rms_norm_backward(const Value* x, const Value* weight, const Value* dy, long dy_stride,
    const Value* dresidual, Value* out, long rows, int width, float epsilon) {
    for (long t = 0; t < rows; t++, x += width, dy += dy_stride, out += width) {
        f32v squares{}, common{};
        for (int i = 0; i < width; i += LANES) {
            f32v v = F::widen(x + i);
            squares += v * v;
            common += v * F::widen(weight + i) * F::widen(dy + i);
        }
        const float r = 1.0f / sqrtf(sum(squares) / width + epsilon);
        const float correction = sum(common) * r * r * r / width;
        for (int i = 0; i < width; i += LANES) {
            f32v d = F::widen(weight + i) * F::widen(dy + i) * r - F::widen(x + i) * correction;
            if (dresidual != nullptr) d += F::widen(dresidual + t * width + i);
            F::narrow(out + i, d);
        }
    }
}

// Rotates the first ``heads`` heads of each row in place (arXiv 2104.09864). ``sign`` -1 inverts
// the rotation.
template <typename F, typename Value = typename F::Value>
static void rotate(Value* x, long stride, const float* cosines, const float* sines, long rows,
    int heads, int half, float sign) {
    for (long t = 0; t < rows; t++, x += stride, cosines += half, sines += half)
        for (int h = 0; h < heads; h++) {
            Value* first = x + (long)h * 2 * half;
            Value* second = first + half;
            int i = 0;
            for (; i + LANES <= half; i += LANES) {
                f32v a = F::widen(first + i), b = F::widen(second + i);
                f32v c = load<f32v>(cosines + i), s = load<f32v>(sines + i) * sign;
                F::narrow(first + i, a * c - b * s);
                F::narrow(second + i, b * c + a * s);
            }
            for (; i < half; i++) {
                float a = widen_one(first + i), b = widen_one(second + i), c = cosines[i],
                      s = sines[i] * sign;
                narrow_one(first + i, a * c - b * s);
                narrow_one(second + i, b * c + a * s);
            }
        }
}

static inline f32v sigmoid(f32v x) {
    const f32v least = splat(-80.0f);
    return 1.0f / (1.0f + exp(-(x < least ? least : x)));
}

// SwiGLU: silu(first half) · second half. ``inner``, the length of a half, is a multiple of 16.
template <typename F, typename Value = typename F::Value>
static void swiglu(const Value* gates, Value* out, long out_stride, long rows, int inner) {
    for (long t = 0; t < rows; t++, gates += 2 * inner, out += out_stride)
        for (int i = 0; i < inner; i += LANES) {
            f32v a = F::widen(gates + i);
            F::narrow(out + i, a * sigmoid(a) * F::widen(gates + inner + i));
        }
}

// Writes the gradient of ``gates``, and the output of ``swiglu`` once more.
template <typename F, typename Value = typename F::Value>
static void swiglu_backward(const Value* gates, const Value* d, long d_stride, Value* dgates,
    Value* out, long out_stride, long rows, int inner) {
    for (long t = 0; t < rows;
        t++, gates += 2 * inner, dgates += 2 * inner, d += d_stride, out += out_stride)
        for (int i = 0; i < inner; i += LANES) {
            f32v a = F::widen(gates + i), b = F::widen(gates + inner + i), dout = F::widen(d + i);
            f32v s = sigmoid(a), silu = a * s;
            F::narrow(out + i, silu * b);
            F::narrow(dgates + inner + i, dout * silu);
            F::narrow(dgates + i, dout * b * (s + silu * (1.0f - s)));
        }
}

}  // namespace thumbloop
