// From one row of logits to a token, with the log-prob of the distribution that it is drawn from.

#pragma once

#include <math.h>

#include "vectors.h"

namespace thumbloop {

constexpr int BLOCK = 512;  // tokens whose mass is summed before it is searched

struct Drawn {
    int token;
    float logprob;
};

// Inverse-transform sampling of ``softmax(logits / temperature)``, or the most probable token at
// temperature 0, its log-prob taken at temperature 1. ``logits`` has room for ``tokens`` rounded up
// to ``BLOCK``; what is beyond ``tokens`` is overwritten. ``uniform`` is in [0, 1).
static inline Drawn draw(float* logits, int tokens, float temperature, double uniform, double* masses) {
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
        for (int i = b * BLOCK; i < (b + 1) * BLOCK; i += LANES) mass += exp((load<f32v>(logits + i) - top) * scale);
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
                chosen = i + lane;  // the last one with any mass, if rounding keeps the sum below
                before += mass[lane];
                if (before > target) goto found;
            }
        }
    }
found:
    if (chosen < 0) {  // greedy; or a last block whose every mass rounds to 0
        for (chosen = 0; chosen < tokens && !(logits[chosen] == top);) chosen++;
        if (chosen == tokens) return {-1, 0};  // not a number: the weights are broken
    }
    return {chosen, (float)((logits[chosen] - top) * scale - log(total))};
}

}  // namespace thumbloop
