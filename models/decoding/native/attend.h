// Grouped-query attention of one token: the query heads that share one KV head.

#pragma once

#include <math.h>

#include "vectors.h"

namespace thumbloop {

constexpr int MAX_HEADS = 4;  // the most query heads of one pass over keys and values

// Replaces ``scores[0 .. count - 1]`` by exp(score - maximum), and returns their sum.
// The array must have room for ``count`` rounded up to 16.
static inline float exponentials(float* scores, int count) {
    for (int i = count; i % LANES; i++) scores[i] = -INFINITY;
    f32v highest = load<f32v>(scores);
    for (int i = LANES; i < count; i += LANES) {
        f32v x = load<f32v>(scores + i);
        highest = x > highest ? x : highest;
    }
    float most = highest[0];
    for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
    f32v total{};
    for (int i = 0; i < count; i += LANES) {
        f32v e = exp(load<f32v>(scores + i) - most);
        store(scores + i, e);
        total += e;
    }
    return sum(total);
}

// Attention of ``HEADS`` query heads; ``COUNT`` is the head size over 16. ``keys`` and ``values``
// are ``[positions][head size]``. ``queries``, already scaled, and ``out`` are
// ``[HEADS][head size]``.
// ``scores`` is scratch of ``stride`` values for each head.
template <typename F, int COUNT, int HEADS>
static inline void attend(const typename F::Value* queries, const typename F::Value* keys,
    const typename F::Value* values, int positions, float* scores, long stride,
    typename F::Activation* out) {
    constexpr int SIZE = COUNT * LANES;
    int p = 0;
    for (; p + LANES <= positions; p += LANES)
        for (int h = 0; h < HEADS; h++) {
            f32v products[LANES];
            for (int i = 0; i < LANES; i++)
                products[i] =
                    F::template products<COUNT>(queries + h * SIZE, keys + (long)(p + i) * SIZE);
            store(scores + h * stride + p, sums(products));
        }
    for (; p < positions; p++)
        for (int h = 0; h < HEADS; h++)
            scores[h * stride + p] =
                sum(F::template products<COUNT>(queries + h * SIZE, keys + (long)p * SIZE));
    float totals[HEADS];
    for (int h = 0; h < HEADS; h++) totals[h] = exponentials(scores + h * stride, positions);
    f32v acc[HEADS][COUNT] = {};
    for (p = 0; p < positions; p++)
        for (int i = 0; i < COUNT; i++) {
            f32v value = F::widen(values + (long)p * SIZE + i * LANES);
            for (int h = 0; h < HEADS; h++) acc[h][i] += scores[h * stride + p] * value;
        }
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < COUNT; i++)
            F::store_activation(out + h * SIZE + i * LANES, acc[h][i] / totals[h]);
}

template <typename F, int COUNT>
static inline void attend_group(
    int heads, const typename F::Value* queries, const typename F::Value* keys,
    const typename F::Value* values, int positions, float* scores, typename F::Activation* out) {
    constexpr int SIZE = COUNT * LANES;
    // The sums of all heads of a pass must fit in registers.
    constexpr int HEADS_AT_ONCE = COUNT <= 4 ? MAX_HEADS : COUNT <= 8 ? 2 : 1;
    const long stride = (positions + LANES - 1) / LANES * LANES;
    while (heads > 0) {
        int now = heads < HEADS_AT_ONCE ? heads : HEADS_AT_ONCE;
        switch (now) {
            case 1:
                attend<F, COUNT, 1>(queries, keys, values, positions, scores, stride, out);
                break;
            case 2:
                attend<F, COUNT, 2>(queries, keys, values, positions, scores, stride, out);
                break;
            case 3:
                attend<F, COUNT, 3>(queries, keys, values, positions, scores, stride, out);
                break;
            default:
                attend<F, COUNT, 4>(queries, keys, values, positions, scores, stride, out);
                break;
        }
        heads -= now;
        queries += now * SIZE;
        out += now * SIZE;
    }
}

template <typename F>
static inline void attend_sized(
    int head_size, int heads, const typename F::Value* queries, const typename F::Value* keys,
    const typename F::Value* values, int positions, float* scores, typename F::Activation* out) {
    switch (head_size / LANES) {
        case 1: return attend_group<F, 1>(heads, queries, keys, values, positions, scores, out);
        case 2: return attend_group<F, 2>(heads, queries, keys, values, positions, scores, out);
        case 4: return attend_group<F, 4>(heads, queries, keys, values, positions, scores, out);
        case 5: return attend_group<F, 5>(heads, queries, keys, values, positions, scores, out);
        case 6: return attend_group<F, 6>(heads, queries, keys, values, positions, scores, out);
        case 8: return attend_group<F, 8>(heads, queries, keys, values, positions, scores, out);
        default: return attend_group<F, 16>(heads, queries, keys, values, positions, scores, out);
    }
}

}  // namespace thumbloop
