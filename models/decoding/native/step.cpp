// One forward pass of a Llama-like decoder over the tokens of many rows, with one adapter per row.
//
// Each token has a KV cache slot, a position and an adapter. A decoding row has one token; a prompt
// chunk has many. Every phase of a layer runs on all threads. Activations between products are
// fp32; products take them as ``F::Activation`` and sum in fp32.
//
// ``abi.py`` mirrors the structures field by field.

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "attend.h"
#include "draw.h"
#include "products.h"
#include "threads.h"

// Placement new, as <new> declares it; including <new> would need a C++ standard library.
inline void* operator new(size_t, void* memory) noexcept { return memory; }

namespace thumbloop {

constexpr int PANEL = 2 * LANES;  // outputs of a panel of the base's weights
constexpr int MAX_HEAD_SIZE = 256;
constexpr int ROWS_PER_TASK = 64;  // rows that share a panel while it is in the cache

// Weights ``[outputs, inputs]`` in panels of two vectors, outputs padded with zeros.
struct Linear {
    const void* weights;
    const float* bias;  // [panels · PANEL] or null
    int32_t panels;
    int32_t inputs;
};

struct Layer {
    const float* attention_norm;  // [hidden]
    const float* mlp_norm;        // [hidden]
    const float* query_norm;      // [head size] or null
    const float* key_norm;        // [head size] or null
    Linear attention_in;          // queries, keys, values
    Linear attention_out;
    Linear mlp_in;                // each panel: 16 outputs of gate, then the same 16 of up
    Linear mlp_out;
};

struct Model {
    int32_t layers, hidden, heads, kv_heads, head_size, tokens, context;
    int32_t key_column, value_column;  // the first outputs of attention_in for keys and values
    float epsilon, scale;
    const void* embedding;     // [tokens, hidden]
    const float* final_norm;   // [hidden]
    const float* cosines;      // [context, head size]
    const float* sines;        // [context, head size]
    const Layer* layer;
    Linear head;
    void* keys;                // [layers, slots, KV heads, context, head size]
    void* values;
    int64_t layer_stride;  // in values
    int64_t slot_stride;   // in values
};

// The LoRA factors of a linear layer, in which ``parts`` modules may be stacked (queries, keys and
// values, say). ``down`` is [parts · rank, inputs], packed in panels of one vector. ``up`` is
// [panels][2][rank][16] fp32, scaled. ``part`` is [panels][2]: the module of each output vector.
struct LowRank {
    const void* down;
    const float* up;
    const int32_t* part;
    int32_t parts;
};

struct AdapterLayer {
    LowRank attention_in, attention_out, mlp_in, mlp_out;
};

struct Adapter {
    int32_t rank;
    const AdapterLayer* layer;
};

// Adjacent tokens with the same adapter.
struct Group {
    const Adapter* adapter;  // null for the base
    int32_t first, count;
};

struct Step {
    int32_t tokens, groups, outputs;
    const int32_t* ids;        // [tokens]
    const int32_t* slots;      // [tokens]
    const int32_t* positions;  // [tokens]
    const Group* group;
    const int32_t* last;       // [outputs]: the tokens whose next token is drawn
    const float* temperatures; // [outputs]; 0 is greedy
    const double* uniforms;    // [outputs], in [0, 1)
    float* logits;             // [outputs, stride]
    int64_t logits_stride;
    int32_t low_columns;       // the most values of ``parts · rank``, padded to 16
    int32_t* drawn;            // [outputs]
    float* logprobs;           // [outputs]
};

struct Scratch {
    float* residual;   // [tokens, hidden]
    float* low;        // [tokens, low columns]
    float* columns;    // [tokens, attention_in's outputs]
    void* normed;      // [tokens, hidden]: the input of the next product
    void* queries;     // [tokens, heads · head size]
    void* attended;    // [tokens, heads · head size]
    void* inner;       // [tokens, padded inner]
    float* scores;     // [threads, MOST_SHARED, context + 16]
    double* masses;    // [outputs, blocks]
    const Adapter** adapter;  // [tokens]
};

static inline size_t scores_size(const Model& m) { return (size_t)MAX_HEADS * (m.context + LANES); }
static inline int tiles(int rows, int size) { return (rows + size - 1) / size; }
static inline int minimum(int a, int b) { return a < b ? a : b; }

template <typename F>
class Pass {
    typedef typename F::Value Value;
    typedef typename F::Activation Activation;

  public:
    Pass(const Model& model, const Step& step, const Scratch& scratch, Team& team)
        : model_(model), step_(step), scratch_(scratch), team_(team) {}

    void run() {
        team_.phase(step_.groups, [&](int g) {
            for (int t = 0; t < step_.group[g].count; t++)
                scratch_.adapter[step_.group[g].first + t] = step_.group[g].adapter;
        });
        team_.phase(step_.tokens, [&](int t) { embed(t); });
        for (int l = 0; l < model_.layers; l++) layer(l);
        team_.phase(step_.outputs, [&](int o) {
            normalise(scratch_.residual + (long)step_.last[o] * model_.hidden, model_.final_norm,
                model_.hidden, normed(o));
        });
        linear<true>(model_.head, nullptr, 0, (const Activation*)scratch_.normed, model_.hidden,
            step_.outputs, [&](int o, int panel, f32v first, f32v second) {
                float* out = step_.logits + o * step_.logits_stride + panel * PANEL;
                store(out, first);
                store(out + LANES, second);
            });
        team_.phase(step_.outputs, [&](int o) {
            Drawn d =
                draw(step_.logits + o * step_.logits_stride, model_.tokens, step_.temperatures[o],
                    step_.uniforms[o], scratch_.masses + (long)o * tiles(model_.tokens, BLOCK));
            step_.drawn[o] = d.token;
            step_.logprobs[o] = d.logprob;
        });
    }

  private:
    void embed(int t) {
        const Value* from = (const Value*)model_.embedding + (long)step_.ids[t] * model_.hidden;
        for (int i = 0; i < model_.hidden; i += LANES)
            store(scratch_.residual + (long)t * model_.hidden + i, F::widen(from + i));
    }

    void layer(int l) {
        const Layer& w = model_.layer[l];
        const int width = model_.heads * model_.head_size, columns = w.attention_in.panels * PANEL;
        const int inner = w.mlp_in.panels * LANES;

        normalise_rows(w.attention_norm, &AdapterLayer::attention_in, l);
        linear<false>(w.attention_in, &AdapterLayer::attention_in, l,
            (const Activation*)scratch_.normed, model_.hidden, step_.tokens,
            [&](int t, int panel, f32v first, f32v second) {
                float* out = scratch_.columns + (long)t * columns + panel * PANEL;
                store(out, first);
                store(out + LANES, second);
            });
        team_.phase(step_.tokens, [&](int t) { write_kv(w, l, t, columns); });
        team_.phase(step_.tokens * model_.kv_heads,
            [&](int i) { attention(l, i / model_.kv_heads, i % model_.kv_heads); });
        down_project(&AdapterLayer::attention_out, l, (const Activation*)scratch_.attended, width);
        linear<false>(w.attention_out, &AdapterLayer::attention_out, l,
            (const Activation*)scratch_.attended, width, step_.tokens,
            [&](int t, int panel, f32v first, f32v second) {
                add_to_residual(t, panel, first, second);
            });

        normalise_rows(w.mlp_norm, &AdapterLayer::mlp_in, l);
        linear<false>(w.mlp_in, &AdapterLayer::mlp_in, l, (const Activation*)scratch_.normed,
            model_.hidden, step_.tokens, [&](int t, int panel, f32v gate, f32v up) {
                F::store_activation((Activation*)scratch_.inner + (long)t * inner + panel * LANES,
                    gate / (1.0f + exp(-gate)) * up);
            });
        down_project(&AdapterLayer::mlp_out, l, (const Activation*)scratch_.inner, inner);
        linear<false>(w.mlp_out, &AdapterLayer::mlp_out, l, (const Activation*)scratch_.inner,
            inner, step_.tokens, [&](int t, int panel, f32v first, f32v second) {
                add_to_residual(t, panel, first, second);
            });
    }

    static const Value* prefetch_address(const Value* weights) {
        return weights + PREFETCH_BYTES / sizeof(Value);
    }

    Activation* normed(int t) { return (Activation*)scratch_.normed + (long)t * model_.hidden; }

    // RMS norm (arXiv 1910.07467), stored as an activation of the next product.
    void normalise(const float* x, const float* weight, int size, Activation* out) {
        f32v squares{};
        for (int i = 0; i < size; i += LANES) {
            f32v v = load<f32v>(x + i);
            squares += v * v;
        }
        float scale = 1.0f / sqrtf(sum(squares) / size + model_.epsilon);
        for (int i = 0; i < size; i += LANES)
            F::store_activation(out + i, load<f32v>(x + i) * scale * load<f32v>(weight + i));
    }

    void normalise_rows(const float* weight, LowRank AdapterLayer::*factors, int l) {
        team_.phase(tiles(step_.tokens, TILE), [&](int tile) {
            int first = tile * TILE, rows = minimum(TILE, step_.tokens - first);
            for (int t = first; t < first + rows; t++)
                normalise(
                    scratch_.residual + (long)t * model_.hidden, weight, model_.hidden, normed(t));
            down_project_tile(
                factors, l, (const Activation*)scratch_.normed, model_.hidden, first, rows);
        });
    }

    void down_project(LowRank AdapterLayer::*factors, int l, const Activation* x, int width) {
        if (step_.groups == 1 && step_.group[0].adapter == nullptr) return;
        team_.phase(tiles(step_.tokens, TILE), [&](int tile) {
            int first = tile * TILE;
            down_project_tile(factors, l, x, width, first, minimum(TILE, step_.tokens - first));
        });
    }

    // The product with the ``down`` factors, for the rows of one tile.
    void down_project_tile(LowRank AdapterLayer::*factors, int l, const Activation* x, int width,
        int first, int rows) {
        for (int t = first, end = first + rows; t < end;) {
            const Adapter* adapter = scratch_.adapter[t];
            int same = 1;
            while (t + same < end && scratch_.adapter[t + same] == adapter) same++;
            if (adapter != nullptr) {
                const LowRank& p = adapter->layer[l].*factors;
                int panels = tiles(p.parts * adapter->rank, LANES);
                for (int n = 0; n < panels; n++) {
                    Sums<1> sums;
                    const Value* weights = (const Value*)p.down + (long)n * LANES * width;
                    panel_sums<F, 1>(x + (long)t * width, width, same, weights, width,
                        prefetch_address(weights), sums);
                    for (int r = 0; r < same; r++) store(low(t + r) + n * LANES, sums.of[r][0]);
                }
            }
            t += same;
        }
    }

    // The product with a linear layer; adds the bias and the low-rank product unless ``BARE``.
    template <bool BARE, typename Epilogue>
    void linear(const Linear& w, LowRank AdapterLayer::*factors, int l, const Activation* x,
        int width, int rows, const Epilogue& epilogue) {
        team_.phase(w.panels * tiles(rows, ROWS_PER_TASK), [&](int task) {
            int panel = task % w.panels, from = task / w.panels * ROWS_PER_TASK,
                to = minimum(from + ROWS_PER_TASK, rows);
            const Value* weights = (const Value*)w.weights + (long)panel * PANEL * width;
            // The panel that this thread takes next, if all threads keep the same pace.
            const Value* next = weights + (long)team_.size * PANEL * width;
            // Tiles have about equal sizes: 32 rows are 11 + 11 + 10, not 12 + 12 + 8.
            int parts = tiles(to - from, TILE), size = tiles(to - from, parts);
            for (int first = from; first < to; first += size) {
                int count = minimum(size, to - first);
                Sums<2> sums;
                const Value* prefetch = first == from ? prefetch_address(weights) : next;
                panel_sums<F, 2>(
                    x + (long)first * width, width, count, weights, width, prefetch, sums);
                for (int r = 0; r < count; r++) {
                    f32v a = sums.of[r][0], b = sums.of[r][1];
                    if constexpr (!BARE) {
                        if (w.bias != nullptr) {
                            a += load<f32v>(w.bias + panel * PANEL);
                            b += load<f32v>(w.bias + panel * PANEL + LANES);
                        }
                        const Adapter* adapter = scratch_.adapter[first + r];
                        if (adapter != nullptr)
                            up_project(
                                adapter->layer[l].*factors, adapter->rank, first + r, panel, a, b);
                    }
                    epilogue(first + r, panel, a, b);
                }
            }
        });
    }

    // The product with the ``up`` factor, for one row and one panel.
    void up_project(const LowRank& factors, int rank, int t, int panel, f32v& a, f32v& b) {
        const float* up = factors.up + (long)panel * 2 * rank * LANES;
        const float* low_a = low(t) + factors.part[panel * 2] * rank;
        const float* low_b = low(t) + factors.part[panel * 2 + 1] * rank;
        for (int r = 0; r < rank; r++) a += low_a[r] * load<f32v>(up + r * LANES);
        up += rank * LANES;
        for (int r = 0; r < rank; r++) b += low_b[r] * load<f32v>(up + r * LANES);
    }

    void add_to_residual(int t, int panel, f32v first, f32v second) {
        int column = panel * PANEL;
        float* out = scratch_.residual + (long)t * model_.hidden + column;
        store(out, load<f32v>(out) + first);
        if (column + LANES < model_.hidden) store(out + LANES, load<f32v>(out + LANES) + second);
    }

    // Rotates a token's queries and keys by its position, and writes keys and values to its slot.
    void write_kv(const Layer& w, int l, int t, int columns) {
        float* from = scratch_.columns + (long)t * columns;
        const int size = model_.head_size, position = step_.positions[t];
        const float* cosine = model_.cosines + (long)position * size;
        const float* sine = model_.sines + (long)position * size;
        for (int h = 0; h < model_.heads; h++) {
            Value* out = (Value*)scratch_.queries + ((long)t * model_.heads + h) * size;
            rotate(from + h * size, w.query_norm, cosine, sine, model_.scale, out);
        }
        for (int h = 0; h < model_.kv_heads; h++) {
            rotate(from + model_.key_column + h * size, w.key_norm, cosine, sine, 1.0f,
                slot(model_.keys, l, t, h) + (long)position * size);
            Value* out = slot(model_.values, l, t, h) + (long)position * size;
            for (int i = 0; i < size; i += LANES)
                F::narrow(out + i, load<f32v>(from + model_.value_column + h * size + i));
        }
    }

    // Rotary position embedding (arXiv 2104.09864), after the head norm that some models have.
    void rotate(float* x, const float* norm, const float* cosine, const float* sine, float scale,
        Value* out) {
        const int size = model_.head_size, half = size / 2;
        if (norm != nullptr) {
            f32v squares{};
            for (int i = 0; i < size; i += LANES) squares += load<f32v>(x + i) * load<f32v>(x + i);
            float rms = 1.0f / sqrtf(sum(squares) / size + model_.epsilon);
            for (int i = 0; i < size; i += LANES)
                store(x + i, load<f32v>(x + i) * rms * load<f32v>(norm + i));
        }
        float rotated[MAX_HEAD_SIZE];
        for (int i = 0; i < half; i++) {
            rotated[i] = (x[i] * cosine[i] - x[i + half] * sine[i]) * scale;
            rotated[i + half] = (x[i + half] * cosine[i + half] + x[i] * sine[i + half]) * scale;
        }
        for (int i = 0; i < size; i += LANES) F::narrow(out + i, load<f32v>(rotated + i));
    }

    // Attention of the query heads that share one KV head.
    void attention(int l, int t, int kv_head) {
        const int shared = model_.heads / model_.kv_heads;
        const long at = ((long)t * model_.heads + kv_head * shared) * model_.head_size;
        float* scores = scratch_.scores + (long)team_.thread * scores_size(model_);
        attend_sized<F>(model_.head_size, shared, (const Value*)scratch_.queries + at,
            slot(model_.keys, l, t, kv_head), slot(model_.values, l, t, kv_head),
            step_.positions[t] + 1, scores, (Activation*)scratch_.attended + at);
    }

    Value* slot(void* memory, int l, int t, int head) {
        return (Value*)memory + l * model_.layer_stride + step_.slots[t] * model_.slot_stride +
               (long)head * model_.context * model_.head_size;
    }

    float* low(int t) { return scratch_.low + (long)t * step_.low_columns; }

    const Model& model_;
    const Step& step_;
    const Scratch& scratch_;
    Team& team_;

};

// The scratch memory of a step: one allocation, which grows to the largest step so far.
class Arena {
  public:
    ~Arena() { free(memory_); }

    // Returns null if the allocation fails.
    const Scratch* fit(const Model& m, const Step& s, int threads) {
        const Layer& any = m.layer[0];
        const size_t rows = s.tokens, value = sizeof(float);  // the wider of the formats
        const size_t sizes[] = {
            rows * m.hidden * sizeof(float),
            rows * s.low_columns * sizeof(float),
            rows * any.attention_in.panels * PANEL * sizeof(float),
            rows * m.hidden * value,
            rows * m.heads * m.head_size * value,
            rows * m.heads * m.head_size * value,
            rows * any.mlp_in.panels * LANES * value,
            (size_t)threads * scores_size(m) * sizeof(float),
            (size_t)s.outputs * tiles(m.tokens, BLOCK) * sizeof(double),
            rows * sizeof(const Adapter*),
        };
        size_t total = 0;
        for (size_t size : sizes) total += padded(size);
        if (total > capacity_) {
            free(memory_);
            memory_ = (char*)aligned_alloc(CACHE_LINE, total);
            capacity_ = memory_ == nullptr ? 0 : total;
            if (memory_ == nullptr) return nullptr;
        }
        char* next = memory_;
        int i = 0;
        auto take = [&]() { char* out = next; next += padded(sizes[i++]); return (void*)out; };
        scratch_.residual = (float*)take();
        scratch_.low = (float*)take();
        scratch_.columns = (float*)take();
        scratch_.normed = take();
        scratch_.queries = take();
        scratch_.attended = take();
        scratch_.inner = take();
        scratch_.scores = (float*)take();
        scratch_.masses = (double*)take();
        scratch_.adapter = (const Adapter**)take();
        return &scratch_;
    }

  private:
    static size_t padded(size_t size) { return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE; }

    char* memory_ = nullptr;
    size_t capacity_ = 0;
    Scratch scratch_;
};

struct Runtime {
    explicit Runtime(int threads) : pool(threads) {}
    Pool pool;
    Arena arena;
};

struct Job {
    const Model* model;
    const Step* step;
    const Scratch* scratch;
};

template <typename F>
static void run_pass(void* argument, Team& team) {
    const Job& job = *static_cast<Job*>(argument);
    Pass<F>(*job.model, *job.step, *job.scratch, team).run();
}

}  // namespace thumbloop

using namespace thumbloop;

extern "C" {

void* thumbloop_create(int32_t threads) {
    void* memory =
        aligned_alloc(CACHE_LINE, (sizeof(Runtime) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    return memory == nullptr ? nullptr : new (memory) Runtime(threads);
}

void thumbloop_destroy(void* runtime) {
    static_cast<Runtime*>(runtime)->~Runtime();
    free(runtime);
}

// Runs a step on at most ``threads`` threads. Returns 0, or 1 if the allocation fails.
int32_t thumbloop_step(
    void* runtime, const Model* model, const Step* step, int32_t bfloat16, int32_t threads) {
    Runtime& self = *static_cast<Runtime*>(runtime);
    Job job = {model, step, self.arena.fit(*model, *step, self.pool.threads())};
    if (job.scratch == nullptr) return 1;
    const int size = threads < 1 ? 1 : minimum(threads, self.pool.threads());
    self.pool.run(bfloat16 ? &run_pass<BFloat16> : &run_pass<Float32>, &job, size);
    return 0;
}
}
