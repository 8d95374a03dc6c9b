// Samples a token from one row of logits, with its log-prob under the sampled distribution.

#pragma once

#include <math.h>

#include "vectors.h"

namespace thumbloop {

constexpr int BLOCK = 512;  // tokens of a block; sampling picks a block, then a token within it

struct Drawn {
    int token;
    float logprob;
};

// Inverse-transform sampling from ``softmax(logits / temperature)``. At temperature 0, returns the
// most probable token with its log-prob at temperature 1. The token is -1 if the logits are NaN.
//
// ``logits`` has room for ``tokens`` rounded up to ``BLOCK``; the padding is overwritten.
// ``uniform`` is in [0, 1). ``masses`` is scratch, one value for each block.
static inline Drawn draw(
    float* logits, int tokens, float temperature, double uniform, double* masses) {
    int blocks = (tokens + BLOCK - 1) / BLOCK;
    for (int i = tokens; i < blocks * BLOCK; i++) logits[i] = -INFINITY;
    f32v most = load<f32v>(logits);
    for (int i = 0; i < blocks * BLOCK; i += LANES) {
        f32v x = load<f32v>(logits + i);
        most = x > most ? x : most;
    }
    float top = most[0];
    for (int i = 1; i < LANES; i++) top = most[i] > top ? most[i] : top;

    float scale = temperature > 0 ? 1.0f / temperature : 1.0f;
    double total = 0;
    for (int b = 0; b < blocks; b++) {
        f32v mass{};
        for (int i = b * BLOCK; i < (b + 1) * BLOCK; i += LANES)
            mass += exp((load<f32v>(logits + i) - top) * scale);
        total += masses[b] = sum(mass);
    }
    int chosen = -1;
    if (temperature > 0) {
        double target = uniform * total, before = 0;
        int b = 0;
        while (b < blocks - 1 && before + masses[b] <= target) before += masses[b++];
        for (int i = b * BLOCK; i < (b + 1) * BLOCK; i += LANES) {
            f32v mass = exp((load<f32v>(logits + i) - top) * scale);
            for (int lane = 0; lane < LANES; lane++) {
                if (mass[lane] <= 0) continue;
                chosen = i + lane;  // the last token with mass, if rounding keeps the sum too low
                before += mass[lane];
                if (before > target) goto found;
            }
        }
    }
found:
    if (chosen < 0) {  // greedy, or every mass of the last block rounds to 0
        for (chosen = 0; chosen < tokens && !(logits[chosen] == top);) chosen++;
        if (chosen == tokens) return {-1, 0};  // NaN
    }
    return {chosen, (float)((logits[chosen] - top) * scale - log(total))};
}

}  // namespace thumbloop
