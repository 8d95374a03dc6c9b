// Log-probs, KL and their gradient from logits, a row at a time: nothing of a row's length is kept
// but the logits themselves.

#pragma once

#include "elementwise.h"

namespace thumbloop {

// Sixteen logits of a row times ``factor``; beyond the row's end, what is as unlikely as can be.
template <typename F, typename Value = typename F::Value>
static inline f32v logits_at(const Value* row, int i, int tokens, float factor) {
    if (i + LANES <= tokens) return F::widen(row + i) * factor;
    f32v out = splat(-3.0e38f);
    for (int j = 0; i + j < tokens; j++) out[j] = widen_one(row + i + j) * factor;
    return out;
}

// log Σ exp of a row.
template <typename F, typename Value = typename F::Value>
static float log_mass(const Value* row, int tokens, float factor) {
    f32v highest = splat(-3.0e38f);
    for (int i = 0; i < tokens; i += LANES) {
        f32v z = logits_at<F>(row, i, tokens, factor);
        highest = z > highest ? z : highest;
    }
    float most = highest[0];
    for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
    f32v total{};
    for (int i = 0; i < tokens; i += LANES) total += exp(logits_at<F>(row, i, tokens, factor) - most);
    return most + logf(sum(total));
}

// One row: log π(chosen), and KL(π ‖ base) where there are logits of the base.
template <typename F, typename Value = typename F::Value>
static void distribution(const Value* row, const Value* base, int tokens, float factor, long chosen, float* logprob,
    float* kl, float* masses) {
    masses[0] = log_mass<F>(row, tokens, factor);
    *logprob = widen_one(row + chosen) * factor - masses[0];
    if (base == nullptr) return;
    masses[1] = log_mass<F>(base, tokens, factor);
    f32v total{};
    for (int i = 0; i < tokens; i += LANES) {
        f32v z = logits_at<F>(row, i, tokens, factor);
        total += exp(z - masses[0]) * (z - logits_at<F>(base, i, tokens, factor));
    }
    *kl = sum(total) - (masses[0] - masses[1]);
}

// The gradient of one row's logits, in their place. With p = π(v):
// ∂ log π(c) / ∂ z_v = [v = c] - p, and ∂ KL / ∂ z_v = p (log p / q - KL).
template <typename F, typename Value = typename F::Value>
static void distribution_backward(Value* row, const Value* base, int tokens, float factor, long chosen, float dlogprob,
    float dkl, float kl, const float* masses) {
    const float more = widen_one(row + chosen);
    const float shift = base == nullptr ? 0.0f : masses[0] - masses[1] + kl;
    for (int i = 0; i < tokens; i += LANES) {
        f32v z = logits_at<F>(row, i, tokens, factor);
        f32v pull = splat(-dlogprob);
        if (base != nullptr) pull += dkl * (z - logits_at<F>(base, i, tokens, factor) - shift);
        f32v dz = exp(z - masses[0]) * pull * factor;
        if (i + LANES <= tokens) {
            F::narrow(row + i, dz);
        } else {
            for (int j = 0; i + j < tokens; j++) narrow_one(row + i + j, dz[j]);
        }
    }
    // again for the one token, rounded once
    float z = more * factor, pull = -dlogprob;
    if (base != nullptr) pull += dkl * (z - widen_one(base + chosen) * factor - shift);
    narrow_one(row + chosen, (expf(z - masses[0]) * pull + dlogprob) * factor);
}

}  // namespace thumbloop
