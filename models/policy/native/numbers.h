// What bfloat16 numbers are multiplied as: fp32, or fp16 where the processor has twice as many products of these a second.
//
// ``pack`` makes columns of a panel and ``lay`` inputs of a row. ``tile`` sums up to ``TILE`` rows with one panel; sums are fp32.

#pragma once

#include "products.h"

namespace thumbloop {

constexpr int BLOCK = 1024;                 // inputs at a time
constexpr int64_t STRIDE = BLOCK + LANES;   // rows of a power of two would meet in few places of the first-level cache

typedef uint16_t sizes __attribute__((vector_size(64)));  // of 32 bfloat16 numbers, without their signs

// Powers of two that numbers are multiplied with, and their sums divided by.
struct Scale {
    float there = 1.0f;
    float back = 1.0f;
};

struct AsFloat32 : Float32 {
    static constexpr bool SCALED = false;
    static constexpr int COLUMNS = LANES;  // of one vector
    static inline Scale fit(sizes) { return {}; }
    static inline void pack(Value* to, f32v x, float) { store(to, x); }
    static inline void lay(Activation* to, f32v x, float) { store(to, x); }

    // Not inlined: among a caller's variables the compiler finds no registers for the addresses of twelve rows.
    template <int VECTORS>
    __attribute__((noinline)) static void tile(
        const Activation* a, int rows, const Value* panel, int inputs, Sums<VECTORS>& out) {
        panel_sums<Float32, VECTORS>(a, STRIDE, rows, panel, inputs, panel + PREFETCH_BYTES / sizeof(Value), out);
    }
};

#if defined(__AVX512FP16__)

// A bfloat16 number has fewer digits than an fp16 one, which therefore is exact down to 2^-20 of the largest of its row or
// panel, and 2^-28 of that is the least there is. Products of ``CHUNK`` inputs are summed in fp16, which errs less than to
// round the result to bfloat16 does (bench/products.py); such sums are added in fp32.
struct AsFloat16 {
    typedef _Float16 Value;
    typedef uint32_t Activation;  // the number twice
    typedef _Float16 Sum __attribute__((vector_size(64)));
    typedef _Float16 Half __attribute__((vector_size(32)));
    static constexpr bool SCALED = true;
    static constexpr int COLUMNS = 2 * LANES;
    static constexpr int WIDTH = 1, VALUES = COLUMNS;
    static constexpr int CHUNK = 64;

    // The largest becomes 8 to 16, so no sum of ``CHUNK`` products exceeds 2^14. What is not finite stays so.
    static inline Scale fit(sizes largest) {
        constexpr uint32_t LEAST = 4;  // keeps both powers normal
        const uint32_t exponent = __builtin_reduce_max(largest) >> 7, top = exponent > LEAST ? exponent : LEAST;
        return {power(257 - top), power(top - 3)};
    }
    static inline void pack(Value* to, f32v x, float scale) { store(to, __builtin_convertvector(x * scale, Half)); }
    static inline void lay(Activation* to, f32v x, float scale) {
        const u32v bits = __builtin_convertvector((u16v)__builtin_convertvector(x * scale, Half), u32v);
        store(to, bits | bits << 16);
    }
    static inline Sum accumulate(Sum sum, const Activation* input, const Value* weights) {
        return sum + (Sum)(u32v{} + *input) * load<Sum>(weights);
    }

    template <int VECTORS>
    static void tile(const Activation* a, int rows, const Value* panel, int inputs, Sums<2 * VECTORS>& out) {
        for (int from = 0; from < inputs; from += CHUNK) {
            Sums<VECTORS, Sum> part;
            chunk<VECTORS>(a + from, rows, panel + from * VECTORS * COLUMNS, inputs - from < CHUNK ? inputs - from : CHUNK, part);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < 2 * VECTORS; v++) {
                    const f32v more = __builtin_convertvector(load<Half>((const Value*)part.of[r] + v * LANES), f32v);
                    out.of[r][v] = from == 0 ? more : out.of[r][v] + more;
                }
        }
    }

  private:
    template <int VECTORS>
    __attribute__((noinline)) static void chunk(
        const Activation* a, int rows, const Value* panel, int inputs, Sums<VECTORS, Sum>& out) {
        panel_sums<AsFloat16, VECTORS>(a, STRIDE, rows, panel, inputs, panel + PREFETCH_BYTES / sizeof(Value), out);
    }

    static inline float power(uint32_t exponent) {
        const uint32_t bits = exponent << 23;
        float out;
        memcpy(&out, &bits, sizeof(out));
        return out;
    }
};

#endif

}  // namespace thumbloop
