// Causal attention of packed rows, forward and backward; what a softmax needs is made again.
//
// A row is a reply with its prompt. Its tokens may be anywhere: those that it shares with an earlier
// row are that row's. It owns the rest, which are one after another, and only these ask.

#pragma once

#include <stdlib.h>

#include "elementwise.h"
#include "products.h"
#include "transpose.h"

namespace thumbloop {

constexpr int PANEL = 2 * LANES;

// What attention is over. ``tokens`` has ``width`` entries a row, of which ``lengths`` count.
struct Attention {
    const int64_t* tokens;
    const int32_t* lengths;
    const int32_t* owned;  // from which position on a row owns its tokens
    int32_t rows, width, kv_heads, group, size;
    float scale;
    int64_t count;  // tokens of all rows
};

static inline int up_to(int x, int input) { return (x + input - 1) / input * input; }

// Memory for a pass, from one allocation.
class Room {
  public:
    explicit Room(size_t bytes) : memory_((char*)aligned_alloc(64, bytes)), next_(memory_) {}
    ~Room() { free(memory_); }
    bool exists() const { return memory_ != nullptr; }
    static size_t of(size_t values, size_t size) { return (values * size + 63) / 64 * 64; }
    template <typename T>
    T* take(size_t values) {
        T* out = (T*)next_;
        next_ += of(values, sizeof(T));
        return out;
    }

  private:
    char* memory_;
    char* next_;
};

// The number format of what is multiplied; what comes and goes is in ``F``.
template <typename F>
struct Inside {
#if defined(THUMBLOOP_FAST_PAIRS)
    typedef F Format;
#else
    typedef Float32 Format;
#endif
};

template <typename F>
class Heads {
    typedef typename F::Value Value;
    typedef typename Inside<F>::Format I;
    typedef typename I::Value Inner;
    static constexpr int W = I::WIDTH;

  public:
    Heads(const Attention& a, bool backward)
        : a_(a), most_(up_to(a.width, PANEL)), size_(up_to(a.size, PANEL)), room_(bytes(a, backward)) {
        if (!room_.exists()) return;
        const size_t panel = (size_t)most_ * size_;
        keys_ = room_.take<Inner>(panel);
        values_ = room_.take<Inner>(panel);
        scores_ = room_.take<float>((size_t)TILE * most_);
        weights_ = room_.take<Inner>((size_t)TILE * most_);
        asked_ = room_.take<Inner>((size_t)TILE * a.size);
        if (!backward) return;
        keys_down_ = room_.take<Inner>(panel);
        asking_ = room_.take<Inner>(panel);
        given_ = room_.take<Inner>(panel);
        dscores_ = room_.take<float>((size_t)TILE * most_);
        turned_ = room_.take<Inner>((size_t)most_ * room_for(a.width));
        dturned_ = room_.take<Inner>((size_t)most_ * room_for(a.width));
        dkeys_ = room_.take<float>((size_t)a.count * 2 * a.kv_heads * a.size);
    }

    bool ready() const { return room_.exists(); }

    void forward(const Value* qkv, long stride, Value* out, long out_stride) {
        for (int row = 0; row < a_.rows; row++) {
            if (asks(row) == 0) continue;
            for (int kv = 0; kv < a_.kv_heads; kv++) {
                across(keys_, qkv, stride, row, key_column(kv));
                down(values_, qkv, stride, row, value_column(kv));
                for (int h = kv * a_.group; h < (kv + 1) * a_.group; h++) look(qkv, stride, row, h, out, out_stride);
            }
        }
    }

    // ``dqkv`` has the rows' stride of ``qkv`` and is written to wholly.
    void backward(const Value* qkv, long stride, const Value* dout, long dout_stride, Value* dqkv) {
        const long columns = 2L * a_.kv_heads * a_.size;
        memset(dkeys_, 0, sizeof(float) * a_.count * columns);
        for (int row = 0; row < a_.rows; row++) {
            if (asks(row) == 0) continue;
            for (int kv = 0; kv < a_.kv_heads; kv++) {
                across(keys_, qkv, stride, row, key_column(kv));
                across(values_, qkv, stride, row, value_column(kv));
                down(keys_down_, qkv, stride, row, key_column(kv));
                for (int h = kv * a_.group; h < (kv + 1) * a_.group; h++)
                    look_back(qkv, stride, row, h, kv, dout, dout_stride, dqkv);
            }
        }
        const int keys = key_column(0);
        for (long t = 0; t < a_.count; t++)
            for (long i = 0; i < columns; i++) narrow_one(dqkv + t * stride + keys + i, dkeys_[t * columns + i]);
    }

  private:
    static size_t bytes(const Attention& a, bool backward) {
        const size_t most = up_to(a.width, PANEL), size = up_to(a.size, PANEL), v = sizeof(Inner);
        size_t total = 2 * Room::of(most * size, v) + Room::of(TILE * most, 4) + Room::of(TILE * most, v) + Room::of(TILE * a.size, v);
        if (backward)
            total += 3 * Room::of(most * size, v) + Room::of(TILE * most, 4) + 2 * Room::of(most * room_for(a.width), v) +
                     Room::of((size_t)a.count * 2 * a.kv_heads * a.size, 4);
        return total;
    }

    // Room for so many that ask: for whole tiles, the last one's vectors included.
    static int room_for(int count) { return up_to(up_to(count, TILE) - TILE + LANES, LANES); }
    int key_column(int kv) const { return (a_.kv_heads * a_.group + kv) * a_.size; }
    int value_column(int kv) const { return (a_.kv_heads * (a_.group + 1) + kv) * a_.size; }
    int asks(int row) const { return a_.lengths[row] - a_.owned[row]; }
    const int64_t* tokens(int row) const { return a_.tokens + (long)row * a_.width; }
    // The first of the tokens that a row owns; the others follow.
    long first(int row) const { return tokens(row)[a_.owned[row]]; }

    // Panels whose outputs are positions and whose inputs are a head's columns.
    void across(Inner* to, const Value* from, long stride, int row, int column) const {
        const int length = a_.lengths[row];
        for (int j = 0; j < up_to(length, PANEL); j++) {
            Inner* out = to + (long)(j / PANEL) * PANEL * a_.size + (j % PANEL) * W;
            const Value* in = j < length ? from + tokens(row)[j] * stride + column : nullptr;
            if constexpr (W == 1) {
                if (a_.size % LANES == 0) {
                    if (j % LANES == 0) across_turned(out, from + column, stride, row, j);
                    continue;
                }
            }
            for (int d = 0; d < a_.size; d += W, out += PANEL * W)
                for (int w = 0; w < W; w++) out[w] = in == nullptr ? Inner{} : inner(in[d + w]);
        }
    }

    // Sixteen positions of them, from ``j`` on.
    void across_turned(float* to, const Value* from, long stride, int row, int j) const {
        const int count = a_.lengths[row] - j < LANES ? a_.lengths[row] - j : LANES;
        for (int d = 0; d < a_.size; d += LANES) {
            f32v square[LANES] = {};
            for (int i = 0; i < count; i++) square[i] = F::widen(from + tokens(row)[j + i] * stride + d);
            transpose((u32v*)square);
            for (int i = 0; i < LANES; i++) store(to + (d + i) * PANEL, square[i]);
        }
    }

    // Panels whose outputs are a head's columns and whose inputs are positions.
    void down(Inner* to, const Value* from, long stride, int row, int column) const {
        const int length = a_.lengths[row];
        for (int j = 0; j < up_to(length, W); j++)
            lay(to, j < length ? from + tokens(row)[j] * stride + column : nullptr, j);
    }

    // The same of what a row owns, from its first on.
    void down_owned(Inner* to, const Value* from, long stride, int row) const {
        const int count = asks(row);
        for (int i = 0; i < up_to(count, W); i++) lay(to, i < count ? from + (long)i * stride : nullptr, i);
    }

    void lay(Inner* to, const Value* in, int position) const {
        if constexpr (W == 1) {
            for (int d = 0; d < size_; d += PANEL) {
                Inner* out = to + (long)d * most_ + (long)position * PANEL;
                const int count = a_.size - d < PANEL ? a_.size - d : PANEL;
                widen_row<F>(in + d, count, out);
                for (int i = count; i < PANEL; i++) out[i] = 0;
            }
        } else {
            for (int d = 0; d < size_; d++) {
                Inner* out = to + (long)(d / PANEL) * PANEL * most_ + (long)(position / W * PANEL + d % PANEL) * W;
                out[position % W] = in == nullptr || d >= a_.size ? Inner{} : inner(in[d]);
            }
        }
    }

    static Inner inner(Value x) {
        if constexpr (sizeof(Inner) == sizeof(Value))
            return x;
        else
            return widen_one(&x);
    }

    // Rows of a head as products take them, at most a tile; ``stride`` becomes theirs.
    const Inner* rows_of(const Value* from, int rows, long& stride) const {
        if constexpr (sizeof(Inner) == sizeof(Value)) {
            return from;
        } else {
            for (int r = 0; r < rows; r++) widen_row<F>(from + r * stride, a_.size, asked_ + (long)r * a_.size);
            stride = a_.size;
            return asked_;
        }
    }

    // Products of ``rows`` rows with panels from ``inputs`` inputs on, up to ``columns`` outputs.
    template <typename Take>
    static void products(const Inner* x, long stride, int rows, const Inner* panels, long panel_size, int inputs, int columns,
        const Take& take) {
        for (int n = 0; n < columns; n += PANEL, panels += panel_size) {
            Sums<2> sums;
            panel_sums<I, 2>(x, stride, rows, panels, inputs, panels, sums);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < 2; v++)
                    if (n + v * LANES < columns) take(r, n + v * LANES, sums.of[r][v]);
        }
    }

    // Attention weights of positions ``from .. from + rows - 1`` into ``scores_``, not yet divided by
    // their sums; 0 for what comes later.
    void weigh(const Value* q, long stride, int from, int rows, float* totals) {
        const int seen = up_to(from + rows, LANES);
        const Inner* asked = rows_of(q, rows, stride);
        products(asked, stride, rows, keys_, (long)PANEL * a_.size, a_.size, seen,
            [&](int r, int column, f32v s) { store(scores_ + r * most_ + column, s * a_.scale); });
        for (int r = 0; r < rows; r++) {
            float* s = scores_ + r * most_;
            const int count = from + r + 1;
            for (int j = count; j < seen; j++) s[j] = -INFINITY;
            f32v highest = load<f32v>(s);
            for (int j = LANES; j < seen; j += LANES) {
                f32v x = load<f32v>(s + j);
                highest = x > highest ? x : highest;
            }
            float most = highest[0];
            for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
            f32v total{};
            for (int j = 0; j < seen; j += LANES) {
                f32v e = exp(load<f32v>(s + j) - most);
                store(s + j, e);
                total += e;
            }
            totals[r] = sum(total);
        }
    }

    void look(const Value* qkv, long stride, int row, int h, Value* out, long out_stride) {
        const int count = asks(row);
        for (int i = 0; i < count; i += TILE) {
            const int rows = count - i < TILE ? count - i : TILE, from = a_.owned[row] + i;
            const long token = first(row) + i;
            float totals[TILE];
            weigh(qkv + token * stride + (long)h * a_.size, stride, from, rows, totals);
            const int seen = up_to(from + rows, LANES);
            for (int r = 0; r < rows; r++)
                for (int j = 0; j < seen; j += LANES) I::narrow(weights_ + r * most_ + j, load<f32v>(scores_ + r * most_ + j));
            products(weights_, most_, rows, values_, (long)PANEL * most_, up_to(from + rows, W), a_.size,
                [&](int r, int column, f32v s) {
                    F::narrow(out + (token + r) * out_stride + (long)h * a_.size + column, s / totals[r]);
                });
        }
    }

    void look_back(const Value* qkv, long stride, int row, int h, int kv, const Value* dout, long dout_stride, Value* dqkv) {
        const int count = asks(row), length = a_.lengths[row], owned = a_.owned[row];
        const Value* q = qkv + first(row) * stride + (long)h * a_.size;
        const Value* d = dout + first(row) * dout_stride + (long)h * a_.size;
        Value* dq = dqkv + first(row) * stride + (long)h * a_.size;
        const int ld = room_for(count);  // of the turned weights: [position][asking]
        memset(turned_, 0, sizeof(Inner) * length * ld);
        memset(dturned_, 0, sizeof(Inner) * length * ld);
        for (int i = 0; i < count; i += TILE) {
            const int rows = count - i < TILE ? count - i : TILE, from = owned + i;
            const int seen = up_to(from + rows, LANES);
            float totals[TILE];
            weigh(q + (long)i * stride, stride, from, rows, totals);
            long d_stride = dout_stride;
            const Inner* given = rows_of(d + (long)i * dout_stride, rows, d_stride);
            products(given, d_stride, rows, values_, (long)PANEL * a_.size, a_.size, seen,
                [&](int r, int column, f32v s) { store(dscores_ + r * most_ + column, s); });
            for (int r = 0; r < rows; r++) bend(r, seen, 1.0f / totals[r]);
            keep_turned(from + rows, rows, ld, i);
            products(weights_, most_, rows, keys_down_, (long)PANEL * most_, up_to(from + rows, W), a_.size,
                [&](int r, int column, f32v s) { F::narrow(dq + (long)(i + r) * stride + column, s); });
        }
        down_owned(asking_, q, stride, row);
        down_owned(given_, d, dout_stride, row);
        const long columns = 2L * a_.kv_heads * a_.size;
        for (int j = 0; j < length; j += TILE) {
            const int rows = length - j < TILE ? length - j : TILE;
            // Nobody before position ``j`` looks at it.
            const int skip = j > owned ? (j - owned) / W * W : 0, left = up_to(count, W) - skip;
            auto onto = [&](int part) {
                return [&, part](int r, int column, f32v s) {
                    float* to = dkeys_ + tokens(row)[j + r] * columns + (long)(part * a_.kv_heads + kv) * a_.size + column;
                    store(to, load<f32v>(to) + s);
                };
            };
            products(dturned_ + (long)j * ld + skip, ld, rows, asking_ + (long)skip * PANEL, (long)PANEL * most_, left, a_.size, onto(0));
            products(turned_ + (long)j * ld + skip, ld, rows, given_ + (long)skip * PANEL, (long)PANEL * most_, left, a_.size, onto(1));
        }
    }

    // Weights and gradients of scores, of all that ask, by position: of a tile from the ``i``-th on.
    void keep_turned(int seen, int rows, long ld, int i) {
        if constexpr (W == 1) {
            for (int j = 0; j < seen; j += LANES) {
                turn_into(turned_ + j * ld + i, ld, scores_ + j, rows, seen - j);
                turn_into(dturned_ + j * ld + i, ld, weights_ + j, rows, seen - j);
            }
        } else {
            for (int j = 0; j < seen; j++)
                for (int r = 0; r < rows; r++) {
                    narrow_one(turned_ + (long)j * ld + i + r, scores_[r * most_ + j]);
                    dturned_[(long)j * ld + i + r] = weights_[r * most_ + j];
                }
        }
    }

    // A whole vector each; the tile after this one writes over what is too much.
    void turn_into(float* to, long ld, const float* from, int rows, int count) const {
        f32v square[LANES] = {};
        for (int r = 0; r < rows; r++) square[r] = load<f32v>(from + r * most_);
        transpose((u32v*)square);
        for (int j = 0; j < LANES && j < count; j++) store(to + j * ld, square[j]);
    }

    // Of a softmax: ds = w (dw - Σ w dw), here times the scores' scale, into ``weights_``; the weights
    // themselves, divided by their sum, stay in ``scores_``.
    void bend(int r, int seen, float share) {
        float *s = scores_ + r * most_, *ds = dscores_ + r * most_;
        f32v total{};
        for (int j = 0; j < seen; j += LANES) {
            f32v w = load<f32v>(s + j) * share;
            store(s + j, w);
            total += w * load<f32v>(ds + j);
        }
        const float mean = sum(total);
        for (int j = 0; j < seen; j += LANES)
            I::narrow(weights_ + r * most_ + j, load<f32v>(s + j) * (load<f32v>(ds + j) - mean) * a_.scale);
    }

    const Attention& a_;
    const int most_, size_;  // a row's positions and a head's columns, rounded up to panels
    Room room_;
    Inner *keys_, *values_, *weights_, *asked_, *keys_down_, *asking_, *given_, *turned_, *dturned_;
    float *scores_, *dscores_, *dkeys_;
};

}  // namespace thumbloop
