// One forward pass of a Llama-like decoder over tokens of many rows, each with an adapter of its own.
//
// A token knows its slot of the KV memory, its position, and its adapter; a decoding row brings one
// token, a prompt chunk brings many. All of a layer's phases run on all threads. Activations between
// products are fp32; products take them in the number format's ``Active`` and add up in fp32.
//
// The structures are mirrored field by field in ``abi.py``.

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "attend.h"
#include "draw.h"
#include "products.h"
#include "threads.h"

// Construction in memory that is there already; what the standard header <new> declares, without
// needing a standard library to be built first.
inline void* operator new(size_t, void* memory) noexcept { return memory; }

namespace thumbloop {

constexpr int PANEL = 2 * LANES;  // outputs of a panel of the base's weights
constexpr int MOST_HEAD = 256;    // largest head size
constexpr int FAR = 64;           // rows of one task: the panel stays in the cache for these

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
    Linear mlp_in;   // each panel: 16 of gate, then the same 16 of up
    Linear mlp_out;
};

struct Model {
    int32_t layers, hidden, heads, kv_heads, head_size, tokens, context;
    int32_t key_column, value_column;  // where keys and values start in attention_in's outputs
    float epsilon, scale;
    const void* embedding;     // [tokens, hidden]
    const float* final_norm;   // [hidden]
    const float* cosines;      // [context, head size]
    const float* sines;        // [context, head size]
    const Layer* layer;
    Linear head;
    void* keys;                // [layers, slots, KV heads, context, head size]
    void* values;
    int64_t layer_stride;      // values from one layer's memory to the next
    int64_t slot_stride;
};

// A low-rank pair beside a linear layer. ``down`` is packed in panels of one vector:
// [parts · rank, inputs] padded to 16. ``up`` is [panels][2][rank][16] fp32, scaled.
// ``part`` says which rank rows of ``down`` each vector of each panel takes: [panels][2].
struct Pair {
    const void* down;
    const float* up;
    const int32_t* part;
    int32_t parts;
};

struct AdapterLayer {
    Pair attention_in, attention_out, mlp_in, mlp_out;
};

struct Adapter {
    int32_t rank;
    const AdapterLayer* layer;
};

// Tokens of one adapter are neighbours.
struct Group {
    const Adapter* adapter;  // null: the base
    int32_t first, count;
};

struct Step {
    int32_t tokens, groups, outputs;
    const int32_t* ids;        // [tokens]
    const int32_t* slots;      // [tokens]
    const int32_t* positions;  // [tokens]
    const Group* group;
    const int32_t* last;       // [outputs]: the tokens after which one is drawn
    const float* temperatures; // [outputs]; 0 is greedy
    const double* uniforms;    // [outputs], in [0, 1)
    float* logits;             // [outputs, stride]
    int64_t logits_stride;
    int32_t low_columns;       // most rank rows of any adapter's pair, padded to 16
    int32_t* drawn;            // [outputs]
    float* logprobs;           // [outputs]
};

struct Scratch {
    float* residual;   // [tokens, hidden]
    float* low;        // [tokens, low columns]
    float* columns;    // [tokens, attention_in's outputs]
    void* narrow;      // [tokens, hidden]: what the next product takes
    void* queries;     // [tokens, heads · head size]
    void* attended;    // [tokens, heads · head size]
    void* inner;       // [tokens, padded inner]
    float* scores;     // [threads, MOST_SHARED, context + 16]
    double* masses;    // [outputs, blocks]
    const Adapter** adapter;  // [tokens]
};

static inline size_t scores_size(const Model& m) { return (size_t)MOST_SHARED * (m.context + LANES); }
static inline int tiles(int rows, int size) { return (rows + size - 1) / size; }
static inline int least(int a, int b) { return a < b ? a : b; }

template <typename F>
class Pass {
    typedef typename F::Value Value;
    typedef typename F::Active Active;

  public:
    Pass(const Model& model, const Step& step, const Scratch& scratch, Team& team)
        : m_(model), s_(step), b_(scratch), team_(team) {}

    void run() {
        team_.phase(s_.groups, [&](int g) {
            for (int t = 0; t < s_.group[g].count; t++) b_.adapter[s_.group[g].first + t] = s_.group[g].adapter;
        });
        team_.phase(s_.tokens, [&](int t) { embed(t); });
        for (int l = 0; l < m_.layers; l++) layer(l);
        team_.phase(s_.outputs, [&](int o) {
            normalise(b_.residual + (long)s_.last[o] * m_.hidden, m_.final_norm, m_.hidden, narrow(o));
        });
        product<true>(m_.head, nullptr, 0, (const Active*)b_.narrow, m_.hidden, s_.outputs,
            [&](int o, int panel, f32v first, f32v second) {
                float* out = s_.logits + o * s_.logits_stride + panel * PANEL;
                store(out, first);
                store(out + LANES, second);
            });
        team_.phase(s_.outputs, [&](int o) {
            Drawn d = draw(s_.logits + o * s_.logits_stride, m_.tokens, s_.temperatures[o], s_.uniforms[o],
                b_.masses + (long)o * tiles(m_.tokens, BLOCK));
            s_.drawn[o] = d.token;
            s_.logprobs[o] = d.logprob;
        });
    }

  private:
    void embed(int t) {
        const Value* from = (const Value*)m_.embedding + (long)s_.ids[t] * m_.hidden;
        for (int i = 0; i < m_.hidden; i += LANES) store(b_.residual + (long)t * m_.hidden + i, F::widen(from + i));
    }

    void layer(int l) {
        const Layer& w = m_.layer[l];
        const int width = m_.heads * m_.head_size, columns = w.attention_in.panels * PANEL;
        const int inner = w.mlp_in.panels * LANES;

        normalised(w.attention_norm, &AdapterLayer::attention_in, l);
        product<false>(w.attention_in, &AdapterLayer::attention_in, l, (const Active*)b_.narrow, m_.hidden, s_.tokens,
            [&](int t, int panel, f32v first, f32v second) {
                float* out = b_.columns + (long)t * columns + panel * PANEL;
                store(out, first);
                store(out + LANES, second);
            });
        team_.phase(s_.tokens, [&](int t) { place(w, l, t, columns); });
        team_.phase(s_.tokens * m_.kv_heads, [&](int i) { look(l, i / m_.kv_heads, i % m_.kv_heads); });
        lowered(&AdapterLayer::attention_out, l, (const Active*)b_.attended, width);
        product<false>(w.attention_out, &AdapterLayer::attention_out, l, (const Active*)b_.attended, width, s_.tokens,
            [&](int t, int panel, f32v first, f32v second) { add(t, panel, first, second); });

        normalised(w.mlp_norm, &AdapterLayer::mlp_in, l);
        product<false>(w.mlp_in, &AdapterLayer::mlp_in, l, (const Active*)b_.narrow, m_.hidden, s_.tokens,
            [&](int t, int panel, f32v gate, f32v up) {
                F::activate((Active*)b_.inner + (long)t * inner + panel * LANES, gate / (1.0f + exp(-gate)) * up);
            });
        lowered(&AdapterLayer::mlp_out, l, (const Active*)b_.inner, inner);
        product<false>(w.mlp_out, &AdapterLayer::mlp_out, l, (const Active*)b_.inner, inner, s_.tokens,
            [&](int t, int panel, f32v first, f32v second) { add(t, panel, first, second); });
    }

    static const Value* ahead(const Value* weights) { return weights + AHEAD / sizeof(Value); }

    Active* narrow(int t) { return (Active*)b_.narrow + (long)t * m_.hidden; }

    // Root mean square norm, as products take it.
    void normalise(const float* x, const float* weight, int size, Active* out) {
        f32v squares{};
        for (int i = 0; i < size; i += LANES) {
            f32v v = load<f32v>(x + i);
            squares += v * v;
        }
        float scale = 1.0f / sqrtf(sum(squares) / size + m_.epsilon);
        for (int i = 0; i < size; i += LANES) F::activate(out + i, load<f32v>(x + i) * scale * load<f32v>(weight + i));
    }

    void normalised(const float* weight, Pair AdapterLayer::*pair, int l) {
        team_.phase(tiles(s_.tokens, TILE), [&](int tile) {
            int first = tile * TILE, rows = least(TILE, s_.tokens - first);
            for (int t = first; t < first + rows; t++)
                normalise(b_.residual + (long)t * m_.hidden, weight, m_.hidden, narrow(t));
            lower(pair, l, (const Active*)b_.narrow, m_.hidden, first, rows);
        });
    }

    void lowered(Pair AdapterLayer::*pair, int l, const Active* x, int width) {
        if (s_.groups == 1 && s_.group[0].adapter == nullptr) return;
        team_.phase(tiles(s_.tokens, TILE), [&](int tile) {
            int first = tile * TILE;
            lower(pair, l, x, width, first, least(TILE, s_.tokens - first));
        });
    }

    // The first half of each low-rank product, for the rows of one tile.
    void lower(Pair AdapterLayer::*pair, int l, const Active* x, int width, int first, int rows) {
        for (int t = first, end = first + rows; t < end;) {
            const Adapter* adapter = b_.adapter[t];
            int same = 1;
            while (t + same < end && b_.adapter[t + same] == adapter) same++;
            if (adapter != nullptr) {
                const Pair& p = adapter->layer[l].*pair;
                int panels = tiles(p.parts * adapter->rank, LANES);
                for (int n = 0; n < panels; n++) {
                    Sums<1> sums;
                    const Value* weights = (const Value*)p.down + (long)n * LANES * width;
                    sums_of<F, 1>(x + (long)t * width, width, same, weights, width, ahead(weights), sums);
                    for (int r = 0; r < same; r++) store(low(t + r) + n * LANES, sums.of[r][0]);
                }
            }
            t += same;
        }
    }

    // The product with a linear layer, its bias and its low-rank pairs added, by panels and rows.
    template <bool BARE, typename Epilogue>
    void product(const Linear& w, Pair AdapterLayer::*pair, int l, const Active* x, int width, int rows,
        const Epilogue& epilogue) {
        team_.phase(w.panels * tiles(rows, FAR), [&](int task) {
            int panel = task % w.panels, from = task / w.panels * FAR, to = least(from + FAR, rows);
            const Value* weights = (const Value*)w.weights + (long)panel * PANEL * width;
            // The panel that this thread takes next, if all go on at the same pace.
            const Value* next = weights + (long)team_.size * PANEL * width;
            // Tiles of about the same size: 32 rows are 11 + 11 + 10, not 12 + 12 + 8.
            int parts = tiles(to - from, TILE), size = tiles(to - from, parts);
            for (int first = from; first < to; first += size) {
                int count = least(size, to - first);
                Sums<2> sums;
                const Value* soon = first == from ? ahead(weights) : next;
                sums_of<F, 2>(x + (long)first * width, width, count, weights, width, soon, sums);
                for (int r = 0; r < count; r++) {
                    f32v a = sums.of[r][0], b = sums.of[r][1];
                    if constexpr (!BARE) {
                        if (w.bias != nullptr) {
                            a += load<f32v>(w.bias + panel * PANEL);
                            b += load<f32v>(w.bias + panel * PANEL + LANES);
                        }
                        const Adapter* adapter = b_.adapter[first + r];
                        if (adapter != nullptr) raise(adapter->layer[l].*pair, adapter->rank, first + r, panel, a, b);
                    }
                    epilogue(first + r, panel, a, b);
                }
            }
        });
    }

    // The second half of a low-rank product, for one row and one panel.
    void raise(const Pair& pair, int rank, int t, int panel, f32v& a, f32v& b) {
        const float* up = pair.up + (long)panel * 2 * rank * LANES;
        const float* low_a = low(t) + pair.part[panel * 2] * rank;
        const float* low_b = low(t) + pair.part[panel * 2 + 1] * rank;
        for (int r = 0; r < rank; r++) a += low_a[r] * load<f32v>(up + r * LANES);
        up += rank * LANES;
        for (int r = 0; r < rank; r++) b += low_b[r] * load<f32v>(up + r * LANES);
    }

    void add(int t, int panel, f32v first, f32v second) {
        int column = panel * PANEL;
        float* out = b_.residual + (long)t * m_.hidden + column;
        store(out, load<f32v>(out) + first);
        if (column + LANES < m_.hidden) store(out + LANES, load<f32v>(out + LANES) + second);
    }

    // Turn a token's queries and keys by its position, and write keys and values to its slot.
    void place(const Layer& w, int l, int t, int columns) {
        float* from = b_.columns + (long)t * columns;
        const int size = m_.head_size, position = s_.positions[t];
        const float* cosine = m_.cosines + (long)position * size;
        const float* sine = m_.sines + (long)position * size;
        for (int h = 0; h < m_.heads; h++) {
            Value* out = (Value*)b_.queries + ((long)t * m_.heads + h) * size;
            turn(from + h * size, w.query_norm, cosine, sine, m_.scale, out);
        }
        for (int h = 0; h < m_.kv_heads; h++) {
            turn(from + m_.key_column + h * size, w.key_norm, cosine, sine, 1.0f, slot(m_.keys, l, t, h) + (long)position * size);
            Value* out = slot(m_.values, l, t, h) + (long)position * size;
            for (int i = 0; i < size; i += LANES) F::narrow(out + i, load<f32v>(from + m_.value_column + h * size + i));
        }
    }

    // Rotary position embedding (arXiv 2104.09864), after the norm that some models put before it.
    void turn(float* x, const float* norm, const float* cosine, const float* sine, float scale, Value* out) {
        const int size = m_.head_size, half = size / 2;
        if (norm != nullptr) {
            f32v squares{};
            for (int i = 0; i < size; i += LANES) squares += load<f32v>(x + i) * load<f32v>(x + i);
            float rms = 1.0f / sqrtf(sum(squares) / size + m_.epsilon);
            for (int i = 0; i < size; i += LANES) store(x + i, load<f32v>(x + i) * rms * load<f32v>(norm + i));
        }
        float turned[MOST_HEAD];
        for (int i = 0; i < half; i++) {
            turned[i] = (x[i] * cosine[i] - x[i + half] * sine[i]) * scale;
            turned[i + half] = (x[i + half] * cosine[i + half] + x[i] * sine[i + half]) * scale;
        }
        for (int i = 0; i < size; i += LANES) F::narrow(out + i, load<f32v>(turned + i));
    }

    // Attention of the query heads that share a head of keys and values.
    void look(int l, int t, int kv_head) {
        const int shared = m_.heads / m_.kv_heads;
        const long at = ((long)t * m_.heads + kv_head * shared) * m_.head_size;
        float* scores = b_.scores + (long)team_.thread * scores_size(m_);
        attend_sized<F>(m_.head_size, shared, (const Value*)b_.queries + at, slot(m_.keys, l, t, kv_head),
            slot(m_.values, l, t, kv_head), s_.positions[t] + 1, scores, (Active*)b_.attended + at);
    }

    Value* slot(void* memory, int l, int t, int head) {
        return (Value*)memory + l * m_.layer_stride + s_.slots[t] * m_.slot_stride + (long)head * m_.context * m_.head_size;
    }

    float* low(int t) { return b_.low + (long)t * s_.low_columns; }

    const Model& m_;
    const Step& s_;
    const Scratch& b_;
    Team& team_;

};

// Memory for one step, cut from one allocation that grows to the largest step seen.
class Arena {
  public:
    ~Arena() { free(memory_); }

    // Returns null when there is no memory.
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
            memory_ = (char*)aligned_alloc(LINE, total);
            capacity_ = memory_ == nullptr ? 0 : total;
            if (memory_ == nullptr) return nullptr;
        }
        char* next = memory_;
        int i = 0;
        auto take = [&]() { char* out = next; next += padded(sizes[i++]); return (void*)out; };
        cut_.residual = (float*)take();
        cut_.low = (float*)take();
        cut_.columns = (float*)take();
        cut_.narrow = take();
        cut_.queries = take();
        cut_.attended = take();
        cut_.inner = take();
        cut_.scores = (float*)take();
        cut_.masses = (double*)take();
        cut_.adapter = (const Adapter**)take();
        return &cut_;
    }

  private:
    static size_t padded(size_t size) { return (size + LINE - 1) / LINE * LINE; }

    char* memory_ = nullptr;
    size_t capacity_ = 0;
    Scratch cut_;
};

struct Machine {
    explicit Machine(int threads) : pool(threads) {}
    Pool pool;
    Arena arena;
};

struct Job {
    const Model* model;
    const Step* step;
    const Scratch* scratch;
};

template <typename F>
static void work(void* argument, Team& team) {
    const Job& job = *static_cast<Job*>(argument);
    Pass<F>(*job.model, *job.step, *job.scratch, team).run();
}

}  // namespace thumbloop

using namespace thumbloop;

extern "C" {

void* thumbloop_machine(int32_t threads) {
    void* memory = aligned_alloc(LINE, (sizeof(Machine) + LINE - 1) / LINE * LINE);
    return memory == nullptr ? nullptr : new (memory) Machine(threads);
}

void thumbloop_release(void* machine) {
    static_cast<Machine*>(machine)->~Machine();
    free(machine);
}

// Runs a step on at most ``threads`` threads. Returns 0, or 1 when there is no memory for it.
int32_t thumbloop_step(void* machine, const Model* model, const Step* step, int32_t bfloat16, int32_t threads) {
    Machine& here = *static_cast<Machine*>(machine);
    Job job = {model, step, here.arena.fit(*model, *step, here.pool.threads())};
    if (job.scratch == nullptr) return 1;
    const int size = threads < 1 ? 1 : least(threads, here.pool.threads());
    here.pool.run(bfloat16 ? &work<BFloat16> : &work<Float32>, &job, size);
    return 0;
}
}
