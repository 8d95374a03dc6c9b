// Products of activations with packed weights: ``out[row][output] = sum_k x[row][k] · w[output][k]``.
// Activations may be in the weights' number format or in ``F::Active``.
//
// Weights are packed in panels of ``VECTORS`` vectors' outputs: ``[panel][input / WIDTH][VECTORS][VALUES / WIDTH][WIDTH]``,
// so a panel is read once, front to back. Each output is summed over the inputs in order, whatever
// the number of rows: a row's result does not depend on what else is in the batch.

#pragma once

#include "vectors.h"

namespace thumbloop {

constexpr int TILE = 12;         // most rows at once: their sums stay in registers
constexpr int AHEAD = 2048;      // bytes of weights to ask the memory for before they are needed

// Sums of one tile and one panel, handed to the epilogue.
template <int VECTORS, typename Sum = f32v>
struct Sums {
    Sum of[TILE][VECTORS];
};

// ``soon`` is what to bring into the cache meanwhile: what lies ahead in this panel, or, when the
// panel is in the cache already, another one.
template <typename F, int ROWS, int VECTORS, typename Active>
static inline void tile_sums(
    const Active* x, long stride, const typename F::Value* panel, int inputs,
    const typename F::Value* soon, Sums<VECTORS, typename F::Sum>& out) {
    typename F::Sum acc[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) acc[r][v] = typename F::Sum{};
    constexpr int STEP = VECTORS * F::VALUES;
    for (int k = 0; k < inputs; k += F::WIDTH, panel += STEP, soon += STEP) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) __builtin_prefetch(soon + v * F::VALUES, 0, 3);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int v = 0; v < VECTORS; v++)
                acc[r][v] = F::accumulate(acc[r][v], x + r * stride + k, panel + v * F::VALUES);
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) out.of[r][v] = acc[r][v];
}

// Sums of ``rows`` rows (1 .. TILE), each ``stride`` values after the one before.
template <typename F, int VECTORS, typename Active>
static inline void sums_of(
    const Active* x, long stride, int rows, const typename F::Value* panel, int inputs,
    const typename F::Value* soon, Sums<VECTORS, typename F::Sum>& out) {
    switch (rows) {
        case 1: return tile_sums<F, 1, VECTORS>(x, stride, panel, inputs, soon, out);
        case 2: return tile_sums<F, 2, VECTORS>(x, stride, panel, inputs, soon, out);
        case 3: return tile_sums<F, 3, VECTORS>(x, stride, panel, inputs, soon, out);
        case 4: return tile_sums<F, 4, VECTORS>(x, stride, panel, inputs, soon, out);
        case 5: return tile_sums<F, 5, VECTORS>(x, stride, panel, inputs, soon, out);
        case 6: return tile_sums<F, 6, VECTORS>(x, stride, panel, inputs, soon, out);
        case 7: return tile_sums<F, 7, VECTORS>(x, stride, panel, inputs, soon, out);
        case 8: return tile_sums<F, 8, VECTORS>(x, stride, panel, inputs, soon, out);
        case 9: return tile_sums<F, 9, VECTORS>(x, stride, panel, inputs, soon, out);
        case 10: return tile_sums<F, 10, VECTORS>(x, stride, panel, inputs, soon, out);
        case 11: return tile_sums<F, 11, VECTORS>(x, stride, panel, inputs, soon, out);
        default: return tile_sums<F, 12, VECTORS>(x, stride, panel, inputs, soon, out);
    }
}

}  // namespace thumbloop
