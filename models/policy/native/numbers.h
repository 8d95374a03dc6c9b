// The formats in which bfloat16 numbers are multiplied: fp32, or fp16 where that is twice as fast.
//
// ``pack`` converts columns of a panel, ``convert`` inputs of a row. ``tile`` sums up to ``TILE``
// rows with one panel, in fp32.

#pragma once

#include "products.h"

namespace thumbloop {

constexpr int BLOCK = 1024;                // inputs converted at a time
constexpr int64_t STRIDE = BLOCK + LANES;  // no power of two, which would collide in the cache

typedef uint16_t magnitudes __attribute__((vector_size(64)));  // 32 bfloat16 without signs

// The power of two by which numbers are scaled, and the factor that undoes it.
struct Scale {
    float forward = 1.0f;
    float inverse = 1.0f;
};

struct AsFloat32 : Float32 {
    static constexpr bool SCALED = false;
    static constexpr int COLUMNS = LANES;  // columns of one vector
    static inline Scale fit(magnitudes) { return {}; }
    static inline void pack(Value* to, f32v x, float) { store(to, x); }
    static inline void convert(Activation* to, f32v x, float) { store(to, x); }

    // Not inlined, so that the compiler has registers for the addresses of twelve rows.
    template <int VECTORS>
    __attribute__((noinline)) static void tile(
        const Activation* a, int rows, const Value* panel, int inputs, Sums<VECTORS>& out) {
        panel_sums<Float32, VECTORS>(
            a, STRIDE, rows, panel, inputs, panel + PREFETCH_BYTES / sizeof(Value), out);
    }
};

#if defined(__AVX512FP16__)

// fp16 has more mantissa bits than bfloat16 and a smaller range. Scaled numbers are exact down to
// 2^-20 of the largest of their row or panel, and vanish below 2^-28 of it. Products of ``CHUNK``
// inputs are summed in fp16, whose error is below that of rounding the result to bfloat16
// (bench/products.py). The sums of chunks are added in fp32.
struct AsFloat16 {
    typedef _Float16 Value;
    typedef uint32_t Activation;  // the fp16 number, twice
    typedef _Float16 Sum __attribute__((vector_size(64)));
    typedef _Float16 Half __attribute__((vector_size(32)));
    static constexpr bool SCALED = true;
    static constexpr int COLUMNS = 2 * LANES;
    static constexpr int WIDTH = 1, VALUES = COLUMNS;
    static constexpr int CHUNK = 64;

    // Scales the largest number to between 8 and 16, so that no sum of ``CHUNK`` products exceeds
    // 2^14. Infinity and NaN stay what they are.
    static inline Scale fit(magnitudes largest) {
        constexpr uint32_t LEAST = 4;  // keeps both powers of two normal numbers
        const uint32_t exponent = __builtin_reduce_max(largest) >> 7,
                       top = exponent > LEAST ? exponent : LEAST;
        return {power(257 - top), power(top - 3)};
    }
    static inline void pack(Value* to, f32v x, float scale) {
        store(to, __builtin_convertvector(x * scale, Half));
    }
    static inline void convert(Activation* to, f32v x, float scale) {
        const u32v bits =
            __builtin_convertvector((u16v)__builtin_convertvector(x * scale, Half), u32v);
        store(to, bits | bits << 16);
    }
    static inline Sum accumulate(Sum sum, const Activation* input, const Value* weights) {
        return sum + (Sum)(u32v{} + *input) * load<Sum>(weights);
    }

    template <int VECTORS>
    static void tile(
        const Activation* a, int rows, const Value* panel, int inputs, Sums<2 * VECTORS>& out) {
        for (int from = 0; from < inputs; from += CHUNK) {
            Sums<VECTORS, Sum> part;
            chunk<VECTORS>(a + from, rows, panel + from * VECTORS * COLUMNS,
                inputs - from < CHUNK ? inputs - from : CHUNK, part);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < 2 * VECTORS; v++) {
                    const f32v more = __builtin_convertvector(
                        load<Half>((const Value*)part.of[r] + v * LANES), f32v);
                    out.of[r][v] = from == 0 ? more : out.of[r][v] + more;
                }
        }
    }

  private:
    template <int VECTORS>
    __attribute__((noinline)) static void chunk(
        const Activation* a, int rows, const Value* panel, int inputs, Sums<VECTORS, Sum>& out) {
        panel_sums<AsFloat16, VECTORS>(
            a, STRIDE, rows, panel, inputs, panel + PREFETCH_BYTES / sizeof(Value), out);
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
