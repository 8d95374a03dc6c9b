// Vectors of 16 fp32 lanes, and the two number formats of weights and KV cache.
//
// The code uses the compiler's vector types, so it builds for any instruction set. AVX512-BF16 has
// one instruction for the dot product of bfloat16 pairs, and one for rounding to bfloat16. Where
// that dot product is slow, THUMBLOOP_FAST_PAIRS is not defined: the decoder then widens weights
// and takes fp32 activations, and the learner computes attention in fp32.

#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace thumbloop {

constexpr int LANES = 16;

typedef float f32v __attribute__((vector_size(64)));
typedef int32_t i32v __attribute__((vector_size(64)));
typedef uint32_t u32v __attribute__((vector_size(64)));
typedef uint16_t u16v __attribute__((vector_size(32)));

template <typename V, typename T>
static inline V load(const T* from) {
    V out;
    memcpy(&out, from, sizeof(V));
    return out;
}

template <typename V, typename T>
static inline void store(T* to, V value) {
    memcpy(to, &value, sizeof(V));
}

// Broadcasts by bits: the compiler cannot drop an addition to fp32 zero, because it changes -0.
static inline f32v splat(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (f32v)(u32v{} + bits);
}

static inline float sum(f32v v) {
    typedef float f8 __attribute__((vector_size(32)));
    typedef float f4 __attribute__((vector_size(16)));
    f8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    f4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}

// Returns the sums of 16 vectors, in order. Each level adds halves of two vectors into one.
static inline f32v sums(const f32v* v) {
    f32v four[4];
    for (int i = 0; i < 4; i++) {
        f32v two[2];
        for (int j = 0; j < 2; j++) {
            f32v a = v[4 * i + 2 * j], b = v[4 * i + 2 * j + 1];
            two[j] = __builtin_shufflevector(
                         a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                     __builtin_shufflevector(
                         a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
        }
        four[i] = __builtin_shufflevector(
                      two[0], two[1], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                  __builtin_shufflevector(
                      two[0], two[1], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    f32v half[2];
    for (int i = 0; i < 2; i++) {
        f32v a = four[2 * i], b = four[2 * i + 1];
        half[i] = __builtin_shufflevector(
                      a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                  __builtin_shufflevector(
                      a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
    return __builtin_shufflevector(
               half[0], half[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(
               half[0], half[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// e^x for x <= 88, and 0 below -87. The relative error is about 2e-7 (Cephes' expf polynomial).
static inline f32v exp(f32v x) {
    const f32v low = splat(-87.0f);
    i32v zero = x < low;
    x = zero ? low : x;
    f32v n = x * 1.44269504088896341f;
    const f32v magic = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
    f32v rounded = (n + magic) - magic;
    f32v r = x - rounded * 0.693359375f;
    r = r - rounded * -2.12194440e-4f;
    f32v p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    i32v exponent = __builtin_convertvector(rounded, i32v) << 23;
    f32v out = (f32v)((i32v)p + exponent);
    return zero ? f32v{} : out;
}

// The number formats of weights and KV cache. A weight vector holds 16 outputs times ``WIDTH``
// inputs, ``VALUES`` in all. Products take activations as ``Activation`` and sum in ``Sum``.

struct Float32 {
    typedef float Value;
    typedef float Activation;
    typedef f32v Sum;
    static constexpr int WIDTH = 1, VALUES = LANES;
    static inline f32v widen(const Value* from) { return load<f32v>(from); }
    static inline void narrow(Value* to, f32v v) { store(to, v); }
    static inline void store_activation(Activation* to, f32v v) { store(to, v); }
    static inline f32v accumulate(f32v acc, const Value* input, const Value* weights) {
        return acc + splat(*input) * load<f32v>(weights);
    }
    // Multiplies ``16 · COUNT`` values and sums the products by lane.
    template <int COUNT>
    static inline f32v products(const Value* a, const Value* b) {
        f32v out{};
        for (int i = 0; i < COUNT; i++)
            out += load<f32v>(a + i * LANES) * load<f32v>(b + i * LANES);
        return out;
    }
};

struct BFloat16 {
    typedef uint16_t Value;
#if defined(THUMBLOOP_FAST_PAIRS)
    typedef uint16_t Activation;
#else
    typedef float Activation;
#endif
    typedef f32v Sum;
    static constexpr int WIDTH = 2, VALUES = 2 * LANES;
    static inline f32v widen(const Value* from) {
        return (f32v)(__builtin_convertvector(load<u16v>(from), u32v) << 16);
    }
    // Rounds to nearest, ties to even.
    static inline void narrow(Value* to, f32v v) {
#if defined(__AVX512BF16__)
        store(to, _mm512_cvtneps_pbh((__m512)v));
#else
        u32v bits = (u32v)v;
        bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        store(to, __builtin_convertvector(bits, u16v));
#endif
    }
    static inline void store_activation(uint16_t* to, f32v v) { narrow(to, v); }
    static inline void store_activation(float* to, f32v v) { store(to, v); }
    // The even inputs are the lower halves of the weights' pairs; the odd ones are summed next.
    static inline f32v accumulate(f32v acc, const float* input, const Value* weights) {
        u32v pairs = load<u32v>(weights);
        acc += splat(input[0]) * (f32v)(pairs << 16);
        return acc + splat(input[1]) * (f32v)(pairs & (u32v{} + 0xffff0000u));
    }
    static inline f32v accumulate(f32v acc, const Value* input, const Value* weights) {
        uint32_t pair;
        memcpy(&pair, input, sizeof(pair));
        return dot(acc, u32v{} + pair, load<u32v>(weights));
    }
    template <int COUNT>
    static inline f32v products(const Value* a, const Value* b) {
        f32v out{};
        if constexpr (COUNT % 2 == 0) {
            for (int i = 0; i < COUNT / 2; i++)
                out = dot(out, load<u32v>(a + i * 2 * LANES), load<u32v>(b + i * 2 * LANES));
        } else {
            for (int i = 0; i < COUNT; i++) out += widen(a + i * LANES) * widen(b + i * LANES);
        }
        return out;
    }

  private:
    static inline f32v dot(f32v acc, u32v a, u32v b) {
#if defined(__AVX512BF16__)
        return (f32v)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
        const u32v high = u32v{} + 0xffff0000u;
        acc += (f32v)(a << 16) * (f32v)(b << 16);
        return acc + (f32v)(a & high) * (f32v)(b & high);
#endif
    }
};

}  // namespace thumbloop
