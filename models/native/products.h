// Matrix products with packed weights: ``out[row][output] = sum_k x[row][k] · w[output][k]``.
// Activations are in the weights' number format or in ``F::Activation``.
//
// Weights are packed in panels of ``VECTORS`` vectors of outputs, each
// ``[input / WIDTH][VECTORS][VALUES / WIDTH][WIDTH]``, so that a panel is read once, in order. Each
// output is summed over the inputs in one order for any number of rows. The result of a row
// therefore does not depend on the other rows of the batch.

#pragma once

#include "vectors.h"

namespace thumbloop {

constexpr int TILE = 12;  // the most rows of a tile
#if defined(__AVX512F__)
constexpr int MAX_REGISTER_SUMS = 24;  // vectors of sums kept in the 32 registers of AVX-512
#else
constexpr int MAX_REGISTER_SUMS = 6;  // likewise in the 16 of AVX2, two for each vector
#endif
// Up to this many rows, one pass over a panel is faster than several, though some sums spill.
constexpr int FEW_ROWS = 4;
constexpr int PREFETCH_BYTES = 2048;  // distance of the prefetch, ahead of the weights in use

// The sums of one tile with one panel.
template <int VECTORS, typename Sum = f32v>
struct Sums {
    Sum of[TILE][VECTORS];
};

// Sums ``ROWS`` rows with the panel's ``COUNT`` vectors from ``first`` on. ``prefetch`` is the
// memory to load into the cache meanwhile: a later part of this panel, or another panel.
template <typename F, int ROWS, int COUNT, int VECTORS, typename Activation>
static inline void tile_sums(
    const Activation* x, long stride, const typename F::Value* panel, int inputs,
    const typename F::Value* prefetch, int first, typename F::Sum (*out)[VECTORS]) {
    typename F::Sum acc[ROWS][COUNT];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < COUNT; v++) acc[r][v] = typename F::Sum{};
    constexpr int STEP = VECTORS * F::VALUES;
    panel += first * F::VALUES;
    prefetch += first * F::VALUES;
    for (int k = 0; k < inputs; k += F::WIDTH, panel += STEP, prefetch += STEP) {
#pragma unroll
        for (int v = 0; v < COUNT; v++) __builtin_prefetch(prefetch + v * F::VALUES, 0, 3);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int v = 0; v < COUNT; v++)
                acc[r][v] = F::accumulate(acc[r][v], x + r * stride + k, panel + v * F::VALUES);
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < COUNT; v++) out[r][first + v] = acc[r][v];
}

// Calls ``tile_sums`` for ``rows`` rows, 1 to ``ROWS``.
template <typename F, int ROWS, int COUNT, int VECTORS, typename Activation>
static inline void few_sums(
    const Activation* x, long stride, int rows, const typename F::Value* panel, int inputs,
    const typename F::Value* prefetch, int first, typename F::Sum (*out)[VECTORS]) {
    if constexpr (ROWS > 1)
        if (rows < ROWS)
            return few_sums<F, ROWS - 1, COUNT, VECTORS>(
                x, stride, rows, panel, inputs, prefetch, first, out);
    tile_sums<F, ROWS, COUNT, VECTORS>(x, stride, panel, inputs, prefetch, first, out);
}

// Sums ``rows`` rows (1 .. TILE) with a whole panel. Rows are ``stride`` values apart.
template <typename F, int VECTORS, typename Activation>
static inline void panel_sums(
    const Activation* x, long stride, int rows, const typename F::Value* panel, int inputs,
    const typename F::Value* prefetch, Sums<VECTORS, typename F::Sum>& out) {
    if constexpr (TILE * VECTORS <= MAX_REGISTER_SUMS) {
        few_sums<F, TILE, VECTORS>(x, stride, rows, panel, inputs, prefetch, 0, out.of);
    } else if (rows <= FEW_ROWS) {
        few_sums<F, FEW_ROWS, VECTORS>(x, stride, rows, panel, inputs, prefetch, 0, out.of);
    } else {
        for (int r = 0; r < rows; r += MAX_REGISTER_SUMS)
            for (int v = 0; v < VECTORS; v++)
                few_sums<F, MAX_REGISTER_SUMS, 1>(x + r * stride, stride,
                    rows - r < MAX_REGISTER_SUMS ? rows - r : MAX_REGISTER_SUMS, panel, inputs,
                    prefetch, v, out.of + r);
    }
}

}  // namespace thumbloop
