// Products of bfloat16 matrices with fp32 numbers, for processors that multiply those faster.
//
// ``out[row][m] = sum_k a[row][k] · b[k][m]``. Numbers are widened on the way, a block of ``a`` at a time, and of ``b`` a panel
// that stays in the second-level cache until all rows have met it. The result is rounded once. Each of its numbers is summed in
// the same order however many rows there are.

#pragma once

#include "elementwise.h"
#include "products.h"
#include "turn.h"

namespace thumbloop {

constexpr int BLOCK = 1024;                 // inputs at a time
constexpr int64_t STRIDE = BLOCK + LANES;   // rows of a power of two would meet in few places of the first-level cache
constexpr int WIDEST = 2 * LANES;           // columns of a panel; the last one may have half of them

// ``[inputs][columns]``, or that turned: a column's inputs side by side.
struct Factor {
    const uint16_t* at;
    int64_t stride;
    bool turned;
};

// Sixteen columns of a turned factor, each ``stride`` after the one before, into rows of ``width``.
static inline void widen_turned(const uint16_t* from, int64_t stride, int inputs, float* to, int width) {
    int k = 0;
    for (; k + 2 * LANES <= inputs; k += 2 * LANES) {
        u32v pairs[LANES];
        for (int i = 0; i < LANES; i++) pairs[i] = load<u32v>(from + i * stride + k);
        turn(pairs);
        for (int i = 0; i < LANES; i++) {
            float* at = to + (k + 2 * i) * width;
            store(at, pairs[i] << 16);
            store(at + width, pairs[i] & (u32v{} + 0xffff0000u));
        }
    }
    for (; k + LANES <= inputs; k += LANES) {
        f32v square[LANES];
        for (int i = 0; i < LANES; i++) square[i] = BFloat16::widen(from + i * stride + k);
        turn((u32v*)square);
        for (int i = 0; i < LANES; i++) store(to + (k + i) * width, square[i]);
    }
    for (; k < inputs; k++)
        for (int i = 0; i < LANES; i++) to[k * width + i] = widen_one(from + i * stride + k);
}

// Makes ``[inputs][VECTORS · 16]`` of the ``columns`` first columns; what is beside them is 0.
template <int VECTORS>
static inline void widen_panel(const Factor& b, int inputs, int columns, float* panel) {
    constexpr int WIDTH = VECTORS * LANES;
    if (columns < WIDTH) memset(panel, 0, sizeof(float) * WIDTH * inputs);
    if (!b.turned) {
        for (int k = 0; k < inputs; k++) widen_row<BFloat16>(b.at + k * b.stride, columns, panel + k * WIDTH);
        return;
    }
    int m = 0;
    for (; m + LANES <= columns; m += LANES) widen_turned(b.at + m * b.stride, b.stride, inputs, panel + m, WIDTH);
    for (; m < columns; m++)
        for (int k = 0; k < inputs; k++) panel[k * WIDTH + m] = widen_one(b.at + m * b.stride + k);
}

// Not inlined: among a caller's variables the compiler finds no registers for the addresses of twelve rows.
template <int VECTORS>
__attribute__((noinline)) static void tile(const float* a, int rows, const float* panel, int inputs, Sums<VECTORS>& out) {
    sums_of<Float32, VECTORS>(a, STRIDE, rows, panel, inputs, panel + AHEAD / sizeof(float), out);
}

// ``count`` values, of ``MOST`` as a rule: those are copied without a call.
template <int MOST, typename T>
static inline void copy(T* to, const T* from, int count) {
    if (count == MOST)
        memcpy(to, from, sizeof(T) * MOST);
    else
        memcpy(to, from, sizeof(T) * count);
}

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
    float* scratch;  // ``BLOCK · WIDEST`` for a panel, ``rows · STRIDE``, and ``rows · columns`` if there are several blocks

    void compute() const {
        for (int64_t from = 0; from < inputs; from += BLOCK) {
            const int count = inputs - from < BLOCK ? inputs - from : BLOCK;
            for (int64_t r = 0; r < rows; r++) widen_row<BFloat16>(a + r * a_stride + from, count, widened() + r * STRIDE);
            for (int64_t first = 0; first < columns; first += WIDEST)
                if (columns - first > LANES)
                    meet<2>(from, count, first);
                else
                    meet<1>(from, count, first);
        }
    }

  private:
    float* widened() const { return scratch + BLOCK * WIDEST; }
    float* totals() const { return widened() + rows * STRIDE; }

    // All rows and one panel.
    template <int VECTORS>
    void meet(int64_t from, int count, int64_t first) const {
        const int most = VECTORS * LANES, among = columns - first < most ? columns - first : most;
        const Factor part{b.at + (b.turned ? first * b.stride + from : from * b.stride + first), b.stride, b.turned};
        widen_panel<VECTORS>(part, count, among, scratch);
        for (int64_t row = 0; row < rows; row += TILE) {
            const int together = rows - row < TILE ? rows - row : TILE;
            Sums<VECTORS> sums;
            for (int r = 0; r < together; r++) __builtin_prefetch(out + (row + r) * out_stride + first, 1, 3);
            tile(widened() + row * STRIDE, together, scratch, count, sums);
            for (int r = 0; r < together; r++) put<VECTORS>(sums.of[r], row + r, first, among, from, from + count == inputs);
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
