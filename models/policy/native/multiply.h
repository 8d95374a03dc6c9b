// Products of bfloat16 matrices on processors that multiply other formats faster (``numbers.h``).
//
// ``out[row][m] = sum_k a[row][k] · b[k][m]``. Operands are converted in blocks of inputs. A panel
// of ``b`` stays in the second-level cache while all rows are multiplied with it. The result is
// rounded once, and each number is summed in the same order for any number of rows.

#pragma once

#include "operands.h"

namespace thumbloop {

// Copies ``count`` values; ``MOST`` of them, the usual case, compile to plain moves.
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
    Operand b;
    int64_t columns;
    uint16_t* out;
    int64_t out_stride;
    bool add;        // whether the product is added to ``out``
    float* scratch;  // PANEL + rows · (STRIDE + 1), + rows · columns with more than BLOCK inputs

    void compute() const {
        for (int64_t from = 0; from < inputs; from += BLOCK) {
            const int count = inputs - from < BLOCK ? inputs - from : BLOCK;
            for (int64_t r = 0; r < rows; r++)
                row_scales()[r] =
                    convert_row<N>(a + r * a_stride + from, count, converted() + r * STRIDE);
            for (int64_t first = 0; first < columns; first += MAX_COLUMNS)
                if (columns - first > N::COLUMNS)
                    multiply_panel<2>(from, count, first);
                else
                    multiply_panel<1>(from, count, first);
        }
    }

  private:
    static constexpr int MAX_COLUMNS = 2 * N::COLUMNS;  // of a panel; the last may have half
    static constexpr int PANEL = BLOCK * MAX_COLUMNS * sizeof(typename N::Value) / sizeof(float);

    typename N::Value* panel() const { return (typename N::Value*)scratch; }
    typename N::Activation* converted() const { return (typename N::Activation*)(scratch + PANEL); }
    float* row_scales() const { return scratch + PANEL + rows * STRIDE; }
    float* totals() const { return row_scales() + rows; }

    // Multiplies all rows with one panel.
    template <int VECTORS>
    void multiply_panel(int64_t from, int count, int64_t first) const {
        constexpr int MOST = VECTORS * N::COLUMNS, SUMS = MOST / LANES;
        const int width = columns - first < MOST ? columns - first : MOST;
        const Operand operand{
            b.data + (b.transposed ? first * b.stride + from : from * b.stride + first), b.stride,
            b.transposed};
        const float panel_scale = pack_panel<N, VECTORS>(operand, count, width, panel());
        for (int64_t row = 0; row < rows; row += TILE) {
            const int tile_rows = rows - row < TILE ? rows - row : TILE;
            Sums<SUMS> sums;
            for (int r = 0; r < tile_rows; r++)
                __builtin_prefetch(out + (row + r) * out_stride + first, 1, 3);
            N::template tile<VECTORS>(converted() + row * STRIDE, tile_rows, panel(), count, sums);
            for (int r = 0; r < tile_rows; r++) {
                if (N::SCALED)
                    for (int v = 0; v < SUMS; v++)
                        sums.of[r][v] *= panel_scale * row_scales()[row + r];
                store_sums<SUMS>(sums.of[r], row + r, first, width, from, from + count == inputs);
            }
        }
    }

    template <int VECTORS>
    void store_sums(
        f32v* sums, int64_t row, int64_t first, int width, int64_t from, bool last) const {
        constexpr int WIDTH = VECTORS * LANES;
        uint16_t* to = out + row * out_stride + first;
        float* total = totals() + row * columns + first;
        if (from > 0 || add) {
            float before[WIDTH] = {};
            if (from > 0)
                copy<WIDTH>(before, total, width);
            else
                widen_row<BFloat16>(to, width, before);
            for (int v = 0; v < VECTORS; v++) sums[v] += load<f32v>(before + v * LANES);
        }
        if (!last) return copy<WIDTH>(total, (const float*)sums, width);
        uint16_t part[WIDTH], *whole = width == WIDTH ? to : part;
        for (int v = 0; v < VECTORS; v++) BFloat16::narrow(whole + v * LANES, sums[v]);
        if (whole == part) memcpy(to, part, sizeof(uint16_t) * width);
    }
};

}  // namespace thumbloop
