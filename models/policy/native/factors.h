// The factors of a product, made ready: rows of the first one, and panels of columns of the second.

#pragma once

#include "elementwise.h"
#include "numbers.h"
#include "transpose.h"

namespace thumbloop {

// ``[inputs][columns]``, or that turned: a column's inputs side by side.
struct Factor {
    const uint16_t* at;
    int64_t stride;
    bool turned;
};

// Keeps the largest sizes met in each of 32 places, which ``count`` numbers go through in turn.
static inline void keep_largest(const uint16_t* from, int count, sizes& largest) {
    constexpr int MANY = sizeof(sizes) / sizeof(*from);
    constexpr uint16_t SIZE = 0x7fff;
    int i = 0;
    for (; i + MANY <= count; i += MANY) largest = __builtin_elementwise_max(largest, load<sizes>(from + i) & SIZE);
    sizes rest{};
    for (int j = 0; i + j < count; j++) rest[j] = from[i + j] & SIZE;
    largest = __builtin_elementwise_max(largest, rest);
}

// Makes ``N::Activation`` of ``count`` inputs; returns what their sums are to be multiplied with.
template <typename N>
static inline float lay_row(const uint16_t* from, int count, typename N::Activation* to) {
    sizes largest{};
    if (N::SCALED) keep_largest(from, count, largest);
    const Scale scale = N::fit(largest);
    int i = 0;
    for (; i + LANES <= count; i += LANES) N::lay(to + i, BFloat16::widen(from + i), scale.there);
    if (i < count) {
        float rest[LANES] = {};
        widen_row<BFloat16>(from + i, count - i, rest);
        N::lay(to + i, load<f32v>(rest), scale.there);
    }
    return scale.back;
}

// Sixteen columns of a turned factor, each ``stride`` after the one before, into rows of ``width``.
template <typename N>
static inline void pack_turned(const uint16_t* from, int64_t stride, int inputs, float scale, typename N::Value* to, int width) {
    int k = 0;
    for (; k + 2 * LANES <= inputs; k += 2 * LANES) {
        u32v pairs[LANES];
        for (int i = 0; i < LANES; i++) pairs[i] = load<u32v>(from + i * stride + k);
        transpose(pairs);
        for (int i = 0; i < LANES; i++) {
            typename N::Value* at = to + (k + 2 * i) * width;
            N::pack(at, (f32v)(pairs[i] << 16), scale);
            N::pack(at + width, (f32v)(pairs[i] & (u32v{} + 0xffff0000u)), scale);
        }
    }
    for (; k < inputs; k++) {
        float row[LANES];
        for (int i = 0; i < LANES; i++) row[i] = widen_one(from + i * stride + k);
        N::pack(to + k * width, load<f32v>(row), scale);
    }
}

// Makes ``[inputs][VECTORS · N::COLUMNS]`` of the ``columns`` first columns; what is beside them is 0. Returns what sums of
// products with it are to be multiplied with.
template <typename N, int VECTORS>
static inline float pack_panel(const Factor& b, int inputs, int columns, typename N::Value* panel) {
    constexpr int WIDTH = VECTORS * N::COLUMNS;
    const int lines = b.turned ? columns : inputs, length = b.turned ? inputs : columns;
    sizes largest{};
    if (N::SCALED)
        for (int line = 0; line < lines; line++) keep_largest(b.at + line * b.stride, length, largest);
    const Scale scale = N::fit(largest);
    if (columns < WIDTH) memset(panel, 0, sizeof(*panel) * WIDTH * inputs);
    int m = 0;
    for (; m + LANES <= columns; m += LANES)
        if (b.turned)
            pack_turned<N>(b.at + m * b.stride, b.stride, inputs, scale.there, panel + m, WIDTH);
        else
            for (int k = 0; k < inputs; k++) N::pack(panel + k * WIDTH + m, BFloat16::widen(b.at + k * b.stride + m), scale.there);
    if (m == columns) return scale.back;
    for (int k = 0; k < inputs; k++) {
        float rest[LANES] = {};
        for (int i = m; i < columns; i++) rest[i - m] = widen_one(b.at + (b.turned ? i * b.stride + k : k * b.stride + i));
        N::pack(panel + k * WIDTH + m, load<f32v>(rest), scale.there);
    }
    return scale.back;
}

}  // namespace thumbloop
