// Products of bfloat16 matrices, for processors that multiply other numbers faster (``numbers.h``).
//
// ``out[row][m] = sum_k a[row][k] · b[k][m]``. Numbers are converted on the way, a block of ``a`` at a time, and of ``b`` a
// panel that stays in the second-level cache until all rows have met it. The result is rounded once. Each of its numbers is
// summed in the same order however many rows there are.

#pragma once

#include "factors.h"

namespace thumbloop {

// ``count`` values, of ``MOST`` as a rule: those are copied without a call.
template <int MOST, typename T>
static inline void copy(T* to, const T* from, int count) {
    if (count == MOST)
        memcpy(to, from, sizeof(T) * MOST);
    else
        memcpy(to, from, sizeof(T) * count);
}

template <typename N>
struct Product {
    const uint16_t* a;
    int64_t a_stride;
    int64_t rows;
    int64_t inputs;
    Factor b;
    int64_t columns;
    uint16_t* out;
    int64_t out_stride;
    bool add;        // to what is in ``out``
    float* scratch;  // ``PANEL``, ``rows · (STRIDE + 1)``, and ``rows · columns`` if there are several blocks

    void compute() const {
        for (int64_t from = 0; from < inputs; from += BLOCK) {
            const int count = inputs - from < BLOCK ? inputs - from : BLOCK;
            for (int64_t r = 0; r < rows; r++) factors()[r] = lay_row<N>(a + r * a_stride + from, count, laid() + r * STRIDE);
            for (int64_t first = 0; first < columns; first += WIDEST)
                if (columns - first > N::COLUMNS)
                    meet<2>(from, count, first);
                else
                    meet<1>(from, count, first);
        }
    }

  private:
    static constexpr int WIDEST = 2 * N::COLUMNS;  // columns of a panel; the last one may have half of them
    static constexpr int PANEL = BLOCK * WIDEST * sizeof(typename N::Value) / sizeof(float);

    typename N::Value* panel() const { return (typename N::Value*)scratch; }
    typename N::Activation* laid() const { return (typename N::Activation*)(scratch + PANEL); }
    float* factors() const { return scratch + PANEL + rows * STRIDE; }
    float* totals() const { return factors() + rows; }

    // All rows and one panel.
    template <int VECTORS>
    void meet(int64_t from, int count, int64_t first) const {
        constexpr int MOST = VECTORS * N::COLUMNS, SUMS = MOST / LANES;
        const int among = columns - first < MOST ? columns - first : MOST;
        const Factor part{b.at + (b.turned ? first * b.stride + from : from * b.stride + first), b.stride, b.turned};
        const float factor = pack_panel<N, VECTORS>(part, count, among, panel());
        for (int64_t row = 0; row < rows; row += TILE) {
            const int together = rows - row < TILE ? rows - row : TILE;
            Sums<SUMS> sums;
            for (int r = 0; r < together; r++) __builtin_prefetch(out + (row + r) * out_stride + first, 1, 3);
            N::template tile<VECTORS>(laid() + row * STRIDE, together, panel(), count, sums);
            for (int r = 0; r < together; r++) {
                if (N::SCALED)
                    for (int v = 0; v < SUMS; v++) sums.of[r][v] *= factor * factors()[row + r];
                put<SUMS>(sums.of[r], row + r, first, among, from, from + count == inputs);
            }
        }
    }

    template <int VECTORS>
    void put(f32v* sums, int64_t row, int64_t first, int among, int64_t from, bool last) const {
        constexpr int WIDTH = VECTORS * LANES;
        uint16_t* to = out + row * out_stride + first;
        float* total = totals() + row * columns + first;
        if (from > 0 || add) {
            float before[WIDTH] = {};
            if (from > 0)
                copy<WIDTH>(before, total, among);
            else
                widen_row<BFloat16>(to, among, before);
            for (int v = 0; v < VECTORS; v++) sums[v] += load<f32v>(before + v * LANES);
        }
        if (!last) return copy<WIDTH>(total, (const float*)sums, among);
        uint16_t part[WIDTH], *whole = among == WIDTH ? to : part;
        for (int v = 0; v < VECTORS; v++) BFloat16::narrow(whole + v * LANES, sums[v]);
        if (whole == part) memcpy(to, part, sizeof(uint16_t) * among);
    }
};

}  // namespace thumbloop
