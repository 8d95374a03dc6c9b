// Attention of one query head of one token to what its slot holds.

#pragma once

#include <math.h>

#include "vectors.h"

namespace thumbloop {

// Softmax of ``scores[0 .. count - 1]`` in place, not yet divided; returns the sum.
// The array must have room for ``count`` rounded up to 16.
static inline float exponentials(float* scores, int count) {
    float most = scores[0];
    for (int i = 1; i < count; i++) most = scores[i] > most ? scores[i] : most;
    for (int i = count; i % LANES; i++) scores[i] = -INFINITY;
    f32v total{};
    for (int i = 0; i < count; i += LANES) {
        f32v e = exp(load<f32v>(scores + i) - most);
        store(scores + i, e);
        total += e;
    }
    return sum(total);
}

// ``COUNT`` is the head size over 16; ``keys`` and ``values`` are ``[positions][head size]``;
// ``query`` is scaled already; ``out`` is ``[head size]`` fp32; ``scores`` is scratch.
template <typename F, int COUNT>
static inline void attend(
    const typename F::Value* query, const typename F::Value* keys, const typename F::Value* values,
    int positions, float* scores, typename F::Value* out) {
    constexpr int SIZE = COUNT * LANES;
    for (int p = 0; p < positions; p++) scores[p] = sum(F::template products<COUNT>(query, keys + (long)p * SIZE));
    float total = exponentials(scores, positions);
    f32v acc[COUNT] = {};
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < COUNT; i++) acc[i] += scores[p] * F::widen(values + (long)p * SIZE + i * LANES);
    for (int i = 0; i < COUNT; i++) F::narrow(out + i * LANES, acc[i] / total);
}

template <typename F>
static inline void attend_sized(
    int head_size, const typename F::Value* query, const typename F::Value* keys,
    const typename F::Value* values, int positions, float* scores, typename F::Value* out) {
    switch (head_size / LANES) {
        case 1: return attend<F, 1>(query, keys, values, positions, scores, out);
        case 2: return attend<F, 2>(query, keys, values, positions, scores, out);
        case 4: return attend<F, 4>(query, keys, values, positions, scores, out);
        case 5: return attend<F, 5>(query, keys, values, positions, scores, out);
        case 6: return attend<F, 6>(query, keys, values, positions, scores, out);
        case 8: return attend<F, 8>(query, keys, values, positions, scores, out);
        default: return attend<F, 16>(query, keys, values, positions, scores, out);
    }
}

}  // namespace thumbloop
