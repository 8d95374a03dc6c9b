// Causal attention of packed rows, forward and backward. The backward pass recomputes the softmax.
//
// A row is a reply with its prompt. The tokens of a prefix that an earlier row also has belong to
// that row. The other tokens are the row's own: they are contiguous, and only they have queries.

#pragma once

#include <stdlib.h>

#include "elementwise.h"
#include "products.h"
#include "transpose.h"

namespace thumbloop {

constexpr int PANEL = 2 * LANES;

// The rows of one pass. ``tokens`` has ``width`` entries for each row; ``lengths`` are used.
struct Attention {
    const int64_t* tokens;
    const int32_t* lengths;
    const int32_t* own_start;  // [rows]: the position of each row's first own token
    int32_t rows, width, kv_heads, group, size;
    float scale;
    int64_t count;  // tokens of all rows
};

static inline int up_to(int x, int input) { return (x + input - 1) / input * input; }

// The scratch memory of a pass, in one allocation.
class Workspace {
  public:
    explicit Workspace(size_t bytes) : memory_((char*)aligned_alloc(64, bytes)), next_(memory_) {}
    ~Workspace() { free(memory_); }
    bool exists() const { return memory_ != nullptr; }
    static size_t aligned(size_t values, size_t size) { return (values * size + 63) / 64 * 64; }
    template <typename T>
    T* take(size_t values) {
        T* out = (T*)next_;
        next_ += aligned(values, sizeof(T));
        return out;
    }

  private:
    char* memory_;
    char* next_;
};

// The number format of the products inside attention; inputs and outputs are in ``F``.
template <typename F>
struct ComputeFormat {
#if defined(THUMBLOOP_FAST_PAIRS)
    typedef F Type;
#else
    typedef Float32 Type;
#endif
};

template <typename F>
class Heads {
    typedef typename F::Value Value;
    typedef typename ComputeFormat<F>::Type Compute;
    typedef typename Compute::Value Element;
    static constexpr int W = Compute::WIDTH;

  public:
    Heads(const Attention& a, bool backward)
        : a_(a),
          padded_width_(up_to(a.width, PANEL)),
          padded_size_(up_to(a.size, PANEL)),
          workspace_(bytes(a, backward)) {
        if (!workspace_.exists()) return;
        const size_t panel = (size_t)padded_width_ * padded_size_;
        keys_ = workspace_.take<Element>(panel);
        values_ = workspace_.take<Element>(panel);
        scores_ = workspace_.take<float>((size_t)TILE * padded_width_);
        weights_ = workspace_.take<Element>((size_t)TILE * padded_width_);
        queries_ = workspace_.take<Element>((size_t)TILE * a.size);
        if (!backward) return;
        keys_by_column_ = workspace_.take<Element>(panel);
        own_queries_ = workspace_.take<Element>(panel);
        own_dout_ = workspace_.take<Element>(panel);
        dscores_ = workspace_.take<float>((size_t)TILE * padded_width_);
        weights_t_ = workspace_.take<Element>((size_t)padded_width_ * transposed_stride(a.width));
        dscores_t_ = workspace_.take<Element>((size_t)padded_width_ * transposed_stride(a.width));
        dkeys_ = workspace_.take<float>((size_t)a.count * 2 * a.kv_heads * a.size);
    }

    bool ready() const { return workspace_.exists(); }

    void forward(const Value* qkv, long stride, Value* out, long out_stride) {
        for (int row = 0; row < a_.rows; row++) {
            if (query_count(row) == 0) continue;
            for (int kv = 0; kv < a_.kv_heads; kv++) {
                pack_by_position(keys_, qkv, stride, row, key_column(kv));
                pack_by_column(values_, qkv, stride, row, value_column(kv));
                for (int h = kv * a_.group; h < (kv + 1) * a_.group; h++)
                    attend_head(qkv, stride, row, h, out, out_stride);
            }
        }
    }

    // ``dqkv`` has the stride of ``qkv``, and every value of it is written.
    void backward(const Value* qkv, long stride, const Value* dout, long dout_stride, Value* dqkv) {
        const long columns = 2L * a_.kv_heads * a_.size;
        memset(dkeys_, 0, sizeof(float) * a_.count * columns);
        for (int row = 0; row < a_.rows; row++) {
            if (query_count(row) == 0) continue;
            for (int kv = 0; kv < a_.kv_heads; kv++) {
                pack_by_position(keys_, qkv, stride, row, key_column(kv));
                pack_by_position(values_, qkv, stride, row, value_column(kv));
                pack_by_column(keys_by_column_, qkv, stride, row, key_column(kv));
                for (int h = kv * a_.group; h < (kv + 1) * a_.group; h++)
                    attend_head_backward(qkv, stride, row, h, kv, dout, dout_stride, dqkv);
            }
        }
        const int keys = key_column(0);
        for (long t = 0; t < a_.count; t++)
            for (long i = 0; i < columns; i++)
                narrow_one(dqkv + t * stride + keys + i, dkeys_[t * columns + i]);
    }

  private:
    static size_t bytes(const Attention& a, bool backward) {
        const size_t most = up_to(a.width, PANEL), size = up_to(a.size, PANEL), v = sizeof(Element);
        size_t total = 2 * Workspace::aligned(most * size, v) + Workspace::aligned(TILE * most, 4) +
                       Workspace::aligned(TILE * most, v) + Workspace::aligned(TILE * a.size, v);
        if (backward)
            total += 3 * Workspace::aligned(most * size, v) + Workspace::aligned(TILE * most, 4) +
                     2 * Workspace::aligned(most * transposed_stride(a.width), v) +
                     Workspace::aligned((size_t)a.count * 2 * a.kv_heads * a.size, 4);
        return total;
    }

    // The row length of the transposed weights: whole tiles, with whole vectors in the last one.
    static int transposed_stride(int count) {
        return up_to(up_to(count, TILE) - TILE + LANES, LANES);
    }
    int key_column(int kv) const { return (a_.kv_heads * a_.group + kv) * a_.size; }
    int value_column(int kv) const { return (a_.kv_heads * (a_.group + 1) + kv) * a_.size; }
    int query_count(int row) const { return a_.lengths[row] - a_.own_start[row]; }
    const int64_t* tokens(int row) const { return a_.tokens + (long)row * a_.width; }
    // The first own token of a row.
    long first_own(int row) const { return tokens(row)[a_.own_start[row]]; }

    // Packs panels whose outputs are positions and whose inputs are a head's columns.
    void pack_by_position(Element* to, const Value* from, long stride, int row, int column) const {
        const int length = a_.lengths[row];
        for (int j = 0; j < up_to(length, PANEL); j++) {
            Element* out = to + (long)(j / PANEL) * PANEL * a_.size + (j % PANEL) * W;
            const Value* in = j < length ? from + tokens(row)[j] * stride + column : nullptr;
            if constexpr (W == 1) {
                if (a_.size % LANES == 0) {
                    if (j % LANES == 0)
                        pack_sixteen_by_position(out, from + column, stride, row, j);
                    continue;
                }
            }
            for (int d = 0; d < a_.size; d += W, out += PANEL * W)
                for (int w = 0; w < W; w++)
                    out[w] = in == nullptr ? Element{} : to_compute(in[d + w]);
        }
    }

    // Packs sixteen positions, from ``j`` on.
    void pack_sixteen_by_position(float* to, const Value* from, long stride, int row, int j) const {
        const int count = a_.lengths[row] - j < LANES ? a_.lengths[row] - j : LANES;
        for (int d = 0; d < a_.size; d += LANES) {
            f32v square[LANES] = {};
            for (int i = 0; i < count; i++)
                square[i] = F::widen(from + tokens(row)[j + i] * stride + d);
            transpose((u32v*)square);
            for (int i = 0; i < LANES; i++) store(to + (d + i) * PANEL, square[i]);
        }
    }

    // Packs panels whose outputs are a head's columns and whose inputs are positions.
    void pack_by_column(Element* to, const Value* from, long stride, int row, int column) const {
        const int length = a_.lengths[row];
        for (int j = 0; j < up_to(length, W); j++)
            pack_position(to, j < length ? from + tokens(row)[j] * stride + column : nullptr, j);
    }

    // Packs the own tokens of a row in the same way.
    void pack_own_by_column(Element* to, const Value* from, long stride, int row) const {
        const int count = query_count(row);
        for (int i = 0; i < up_to(count, W); i++)
            pack_position(to, i < count ? from + (long)i * stride : nullptr, i);
    }

    void pack_position(Element* to, const Value* in, int position) const {
        if constexpr (W == 1) {
            for (int d = 0; d < padded_size_; d += PANEL) {
                Element* out = to + (long)d * padded_width_ + (long)position * PANEL;
                const int count = a_.size - d < PANEL ? a_.size - d : PANEL;
                widen_row<F>(in + d, count, out);
                for (int i = count; i < PANEL; i++) out[i] = 0;
            }
        } else {
            for (int d = 0; d < padded_size_; d++) {
                Element* out = to + (long)(d / PANEL) * PANEL * padded_width_ +
                               (long)(position / W * PANEL + d % PANEL) * W;
                out[position % W] = in == nullptr || d >= a_.size ? Element{} : to_compute(in[d]);
            }
        }
    }

    static Element to_compute(Value x) {
        if constexpr (sizeof(Element) == sizeof(Value))
            return x;
        else
            return widen_one(&x);
    }

    // Returns at most a tile of a head's rows in the compute format, and sets their ``stride``.
    const Element* as_compute_rows(const Value* from, int rows, long& stride) const {
        if constexpr (sizeof(Element) == sizeof(Value)) {
            return from;
        } else {
            for (int r = 0; r < rows; r++)
                widen_row<F>(from + r * stride, a_.size, queries_ + (long)r * a_.size);
            stride = a_.size;
            return queries_;
        }
    }

    // Multiplies ``rows`` rows with panels of ``inputs`` inputs, up to ``columns`` outputs.
    template <typename Store>
    static void products(const Element* x, long stride, int rows, const Element* panels,
        long panel_size, int inputs, int columns, const Store& store_result) {
        for (int n = 0; n < columns; n += PANEL, panels += panel_size) {
            Sums<2> sums;
            panel_sums<Compute, 2>(x, stride, rows, panels, inputs, panels, sums);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < 2; v++)
                    if (n + v * LANES < columns) store_result(r, n + v * LANES, sums.of[r][v]);
        }
    }

    // Writes the attention weights of positions ``from .. from + rows - 1`` to ``scores_``, not yet
    // divided by their sums, which go to ``totals``. Later positions get 0.
    void softmax(const Value* q, long stride, int from, int rows, float* totals) {
        const int end = up_to(from + rows, LANES);
        const Element* queries = as_compute_rows(q, rows, stride);
        products(queries, stride, rows, keys_, (long)PANEL * a_.size, a_.size, end,
            [&](int r, int column, f32v s) {
                store(scores_ + r * padded_width_ + column, s * a_.scale);
            });
        for (int r = 0; r < rows; r++) {
            float* s = scores_ + r * padded_width_;
            const int count = from + r + 1;
            for (int j = count; j < end; j++) s[j] = -INFINITY;
            f32v highest = load<f32v>(s);
            for (int j = LANES; j < end; j += LANES) {
                f32v x = load<f32v>(s + j);
                highest = x > highest ? x : highest;
            }
            float most = highest[0];
            for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
            f32v total{};
            for (int j = 0; j < end; j += LANES) {
                f32v e = exp(load<f32v>(s + j) - most);
                store(s + j, e);
                total += e;
            }
            totals[r] = sum(total);
        }
    }

    void attend_head(const Value* qkv, long stride, int row, int h, Value* out, long out_stride) {
        const int count = query_count(row);
        for (int i = 0; i < count; i += TILE) {
            const int rows = count - i < TILE ? count - i : TILE, from = a_.own_start[row] + i;
            const long token = first_own(row) + i;
            float totals[TILE];
            softmax(qkv + token * stride + (long)h * a_.size, stride, from, rows, totals);
            const int end = up_to(from + rows, LANES);
            for (int r = 0; r < rows; r++)
                for (int j = 0; j < end; j += LANES)
                    Compute::narrow(weights_ + r * padded_width_ + j,
                        load<f32v>(scores_ + r * padded_width_ + j));
            products(weights_, padded_width_, rows, values_, (long)PANEL * padded_width_,
                up_to(from + rows, W), a_.size, [&](int r, int column, f32v s) {
                    F::narrow(
                        out + (token + r) * out_stride + (long)h * a_.size + column, s / totals[r]);
                });
        }
    }

    void attend_head_backward(const Value* qkv, long stride, int row, int h, int kv,
        const Value* dout, long dout_stride, Value* dqkv) {
        const int count = query_count(row), length = a_.lengths[row], own_start = a_.own_start[row];
        const Value* q = qkv + first_own(row) * stride + (long)h * a_.size;
        const Value* d = dout + first_own(row) * dout_stride + (long)h * a_.size;
        Value* dq = dqkv + first_own(row) * stride + (long)h * a_.size;
        const int ld = transposed_stride(count);  // of the transposed weights: [position][query]
        memset(weights_t_, 0, sizeof(Element) * length * ld);
        memset(dscores_t_, 0, sizeof(Element) * length * ld);
        for (int i = 0; i < count; i += TILE) {
            const int rows = count - i < TILE ? count - i : TILE, from = own_start + i;
            const int end = up_to(from + rows, LANES);
            float totals[TILE];
            softmax(q + (long)i * stride, stride, from, rows, totals);
            long d_stride = dout_stride;
            const Element* dout_rows = as_compute_rows(d + (long)i * dout_stride, rows, d_stride);
            products(dout_rows, d_stride, rows, values_, (long)PANEL * a_.size, a_.size, end,
                [&](int r, int column, f32v s) {
                    store(dscores_ + r * padded_width_ + column, s);
                });
            for (int r = 0; r < rows; r++) softmax_backward(r, end, 1.0f / totals[r]);
            store_transposed(from + rows, rows, ld, i);
            products(weights_, padded_width_, rows, keys_by_column_, (long)PANEL * padded_width_,
                up_to(from + rows, W), a_.size, [&](int r, int column, f32v s) {
                    F::narrow(dq + (long)(i + r) * stride + column, s);
                });
        }
        pack_own_by_column(own_queries_, q, stride, row);
        pack_own_by_column(own_dout_, d, dout_stride, row);
        const long columns = 2L * a_.kv_heads * a_.size;
        for (int j = 0; j < length; j += TILE) {
            const int rows = length - j < TILE ? length - j : TILE;
            // Queries before position ``j`` do not attend to it.
            const int skip = j > own_start ? (j - own_start) / W * W : 0,
                      left = up_to(count, W) - skip;
            auto accumulate_into = [&](int part) {
                return [&, part](int r, int column, f32v s) {
                    float* to = dkeys_ + tokens(row)[j + r] * columns +
                                (long)(part * a_.kv_heads + kv) * a_.size + column;
                    store(to, load<f32v>(to) + s);
                };
            };
            products(dscores_t_ + (long)j * ld + skip, ld, rows,
                own_queries_ + (long)skip * PANEL, (long)PANEL * padded_width_, left, a_.size,
                accumulate_into(0));
            products(weights_t_ + (long)j * ld + skip, ld, rows, own_dout_ + (long)skip * PANEL,
                (long)PANEL * padded_width_, left, a_.size, accumulate_into(1));
        }
    }

    // Transposes a tile of weights and of score gradients, whose first query is the ``i``-th.
    void store_transposed(int end, int rows, long ld, int i) {
        if constexpr (W == 1) {
            for (int j = 0; j < end; j += LANES) {
                transpose_block(weights_t_ + j * ld + i, ld, scores_ + j, rows, end - j);
                transpose_block(dscores_t_ + j * ld + i, ld, weights_ + j, rows, end - j);
            }
        } else {
            for (int j = 0; j < end; j++)
                for (int r = 0; r < rows; r++) {
                    narrow_one(weights_t_ + (long)j * ld + i + r, scores_[r * padded_width_ + j]);
                    dscores_t_[(long)j * ld + i + r] = weights_[r * padded_width_ + j];
                }
        }
    }

    // Writes whole vectors; the next tile overwrites the excess.
    void transpose_block(float* to, long ld, const float* from, int rows, int count) const {
        f32v square[LANES] = {};
        for (int r = 0; r < rows; r++) square[r] = load<f32v>(from + r * padded_width_);
        transpose((u32v*)square);
        for (int j = 0; j < LANES && j < count; j++) store(to + j * ld, square[j]);
    }

    // The backward pass of softmax and scale: writes scale · w (dw - Σ w dw) to ``weights_``. The
    // weights, now divided by their sum, stay in ``scores_``.
    void softmax_backward(int r, int end, float inverse_total) {
        float *s = scores_ + r * padded_width_, *ds = dscores_ + r * padded_width_;
        f32v total{};
        for (int j = 0; j < end; j += LANES) {
            f32v w = load<f32v>(s + j) * inverse_total;
            store(s + j, w);
            total += w * load<f32v>(ds + j);
        }
        const float mean = sum(total);
        for (int j = 0; j < end; j += LANES)
            Compute::narrow(weights_ + r * padded_width_ + j,
                load<f32v>(s + j) * (load<f32v>(ds + j) - mean) * a_.scale);
    }

    const Attention& a_;
    const int padded_width_, padded_size_;  // positions and head columns, rounded up to panels
    Workspace workspace_;
    Element *keys_, *values_, *weights_, *queries_, *keys_by_column_, *own_queries_, *own_dout_,
        *weights_t_, *dscores_t_;
    float *scores_, *dscores_, *dkeys_;
};

}  // namespace thumbloop
