// Converts the operands of a product: rows of the first, and panels of columns of the second.

#pragma once

#include "elementwise.h"
#include "numbers.h"
#include "transpose.h"

namespace thumbloop {

// A matrix ``[inputs][columns]``, or the transposed storage ``[columns][inputs]`` of one.
struct Operand {
    const uint16_t* data;
    int64_t stride;
    bool transposed;
};

// Updates 32 running maxima of the magnitudes of ``count`` numbers; number ``i`` counts for i % 32.
static inline void update_largest(const uint16_t* from, int count, magnitudes& largest) {
    constexpr int COUNT = sizeof(magnitudes) / sizeof(*from);
    constexpr uint16_t SIZE = 0x7fff;
    int i = 0;
    for (; i + COUNT <= count; i += COUNT)
        largest = __builtin_elementwise_max(largest, load<magnitudes>(from + i) & SIZE);
    magnitudes rest{};
    for (int j = 0; i + j < count; j++) rest[j] = from[i + j] & SIZE;
    largest = __builtin_elementwise_max(largest, rest);
}

// Converts ``count`` inputs to ``N::Activation``; returns the factor that undoes their scaling.
template <typename N>
static inline float convert_row(const uint16_t* from, int count, typename N::Activation* to) {
    magnitudes largest{};
    if (N::SCALED) update_largest(from, count, largest);
    const Scale scale = N::fit(largest);
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        N::convert(to + i, BFloat16::widen(from + i), scale.forward);
    if (i < count) {
        float rest[LANES] = {};
        widen_row<BFloat16>(from + i, count - i, rest);
        N::convert(to + i, load<f32v>(rest), scale.forward);
    }
    return scale.inverse;
}

// Packs 16 columns of a transposed operand, ``stride`` values apart, into rows of ``width``.
template <typename N>
static inline void pack_transposed(const uint16_t* from, int64_t stride, int inputs, float scale,
    typename N::Value* to, int width) {
    int k = 0;
    for (; k + 2 * LANES <= inputs; k += 2 * LANES) {
        u32v pairs[LANES];
        for (int i = 0; i < LANES; i++) pairs[i] = load<u32v>(from + i * stride + k);
        transpose(pairs);
        for (int i = 0; i < LANES; i++) {
            typename N::Value* data = to + (k + 2 * i) * width;
            N::pack(data, (f32v)(pairs[i] << 16), scale);
            N::pack(data + width, (f32v)(pairs[i] & (u32v{} + 0xffff0000u)), scale);
        }
    }
    for (; k < inputs; k++) {
        float row[LANES];
        for (int i = 0; i < LANES; i++) row[i] = widen_one(from + i * stride + k);
        N::pack(to + k * width, load<f32v>(row), scale);
    }
}

// Packs the first ``columns`` columns as ``[inputs][VECTORS · N::COLUMNS]``, padded with zeros.
// Returns the factor that undoes the scaling of the panel.
template <typename N, int VECTORS>
static inline float pack_panel(
    const Operand& b, int inputs, int columns, typename N::Value* panel) {
    constexpr int WIDTH = VECTORS * N::COLUMNS;
    const int spans = b.transposed ? columns : inputs, length = b.transposed ? inputs : columns;
    magnitudes largest{};
    if (N::SCALED)
        for (int span = 0; span < spans; span++)
            update_largest(b.data + span * b.stride, length, largest);
    const Scale scale = N::fit(largest);
    if (columns < WIDTH) memset(panel, 0, sizeof(*panel) * WIDTH * inputs);
    int m = 0;
    for (; m + LANES <= columns; m += LANES)
        if (b.transposed)
            pack_transposed<N>(
                b.data + m * b.stride, b.stride, inputs, scale.forward, panel + m, WIDTH);
        else
            for (int k = 0; k < inputs; k++)
                N::pack(panel + k * WIDTH + m, BFloat16::widen(b.data + k * b.stride + m),
                    scale.forward);
    if (m == columns) return scale.inverse;
    for (int k = 0; k < inputs; k++) {
        float rest[LANES] = {};
        for (int i = m; i < columns; i++)
            rest[i - m] = widen_one(b.data + (b.transposed ? i * b.stride + k : k * b.stride + i));
        N::pack(panel + k * WIDTH + m, load<f32v>(rest), scale.forward);
    }
    return scale.inverse;
}

}  // namespace thumbloop
