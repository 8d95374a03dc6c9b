// Products of activations with packed weights: ``out[row][output] = sum_k x[row][k] · w[output][k]``.
// Activations may be in the weights' number format or in ``F::Active``.
//
// Weights are packed in panels of ``VECTORS`` vectors' outputs: ``[panel][input / WIDTH][VECTORS][VALUES / WIDTH][WIDTH]``,
// so a panel is read once, front to back. Each output is summed over the inputs in order, whatever
// the number of rows: a row's result does not depend on what else is in the batch.

#pragma once

#include "vectors.h"

namespace thumbloop {

constexpr int TILE = 12;         // most rows at once
#if defined(__AVX512F__)
constexpr int KEPT = 24;         // vectors of sums that stay in registers: there are 32
#else
constexpr int KEPT = 6;          // each takes two of AVX2's sixteen
#endif
constexpr int FEW = 4;           // rows for which a panel is worth reading once, though their sums do not all stay there
constexpr int AHEAD = 2048;      // bytes of weights to ask the memory for before they are needed

// Sums of one tile and one panel, handed to the epilogue.
template <int VECTORS, typename Sum = f32v>
struct Sums {
    Sum of[TILE][VECTORS];
};

// Sums of ``ROWS`` rows and the panel's ``COUNT`` vectors from ``first`` on. ``soon`` is what to bring into the cache
// meanwhile: what lies ahead in this panel, or, when the panel is in the cache already, another one.
template <typename F, int ROWS, int COUNT, int VECTORS, typename Active>
static inline void tile_sums(
    const Active* x, long stride, const typename F::Value* panel, int inputs,
    const typename F::Value* soon, int first, typename F::Sum (*out)[VECTORS]) {
    typename F::Sum acc[ROWS][COUNT];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < COUNT; v++) acc[r][v] = typename F::Sum{};
    constexpr int STEP = VECTORS * F::VALUES;
    panel += first * F::VALUES;
    soon += first * F::VALUES;
    for (int k = 0; k < inputs; k += F::WIDTH, panel += STEP, soon += STEP) {
#pragma unroll
        for (int v = 0; v < COUNT; v++) __builtin_prefetch(soon + v * F::VALUES, 0, 3);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int v = 0; v < COUNT; v++)
                acc[r][v] = F::accumulate(acc[r][v], x + r * stride + k, panel + v * F::VALUES);
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < COUNT; v++) out[r][first + v] = acc[r][v];
}

// As ``tile_sums``, of ``rows`` rows, 1 to ``ROWS``.
template <typename F, int ROWS, int COUNT, int VECTORS, typename Active>
static inline void few_sums(
    const Active* x, long stride, int rows, const typename F::Value* panel, int inputs,
    const typename F::Value* soon, int first, typename F::Sum (*out)[VECTORS]) {
    if constexpr (ROWS > 1)
        if (rows < ROWS) return few_sums<F, ROWS - 1, COUNT, VECTORS>(x, stride, rows, panel, inputs, soon, first, out);
    tile_sums<F, ROWS, COUNT, VECTORS>(x, stride, panel, inputs, soon, first, out);
}

// Sums of ``rows`` rows (1 .. TILE), each ``stride`` values after the one before.
template <typename F, int VECTORS, typename Active>
static inline void sums_of(
    const Active* x, long stride, int rows, const typename F::Value* panel, int inputs,
    const typename F::Value* soon, Sums<VECTORS, typename F::Sum>& out) {
    if constexpr (TILE * VECTORS <= KEPT) {
        few_sums<F, TILE, VECTORS>(x, stride, rows, panel, inputs, soon, 0, out.of);
    } else if (rows <= FEW) {
        few_sums<F, FEW, VECTORS>(x, stride, rows, panel, inputs, soon, 0, out.of);
    } else {
        for (int r = 0; r < rows; r += KEPT)
            for (int v = 0; v < VECTORS; v++)
                few_sums<F, KEPT, 1>(x + r * stride, stride, rows - r < KEPT ? rows - r : KEPT, panel, inputs, soon, v, out.of + r);
    }
}

}  // namespace thumbloop
