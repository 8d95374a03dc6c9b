// Log-probs, KL and their gradient from logits, a row at a time: nothing of a row's length is kept
// but the logits themselves.

#pragma once

#include "elementwise.h"

namespace thumbloop {

// Sixteen numbers of a row times ``factor``; beyond the row's end, ``beyond``.
template <typename F, typename Value = typename F::Value>
static inline f32v part_of(const Value* row, int i, int tokens, float factor, float beyond) {
    if (i + LANES <= tokens) return F::widen(row + i) * factor;
    f32v out = splat(beyond);
    for (int j = 0; i + j < tokens; j++) out[j] = widen_one(row + i + j) * factor;
    return out;
}

// Sixteen logits of a row; beyond the row's end, what is as unlikely as can be.
template <typename F, typename Value = typename F::Value>
static inline f32v logits_at(const Value* row, int i, int tokens, float factor) {
    return part_of<F>(row, i, tokens, factor, -3.0e38f);
}

// The same of the base: the row's without what was gained, if anything was.
template <typename F, typename Value = typename F::Value>
static inline f32v logits_at(const Value* row, const Value* gain, int i, int tokens, float factor) {
    f32v z = logits_at<F>(row, i, tokens, factor);
    return gain == nullptr ? z : z - part_of<F>(gain, i, tokens, factor, 0.0f);
}

// log Σ exp of a row, or of the base's.
template <typename F, typename Value = typename F::Value>
static float log_mass(const Value* row, const Value* gain, int tokens, float factor) {
    f32v highest = splat(-3.0e38f);
    for (int i = 0; i < tokens; i += LANES) {
        f32v z = logits_at<F>(row, gain, i, tokens, factor);
        highest = z > highest ? z : highest;
    }
    float most = highest[0];
    for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
    f32v total{};
    for (int i = 0; i < tokens; i += LANES) total += exp(logits_at<F>(row, gain, i, tokens, factor) - most);
    return most + logf(sum(total));
}

// One row: log π(chosen), and KL(π ‖ base) where ``gain`` has its logits minus the base's. ``facts`` are log Σ exp and
// the mean gain under π, for the backward pass.
template <typename F, typename Value = typename F::Value>
static void distribution(const Value* row, const Value* gain, int tokens, float factor, long chosen, float* logprob,
    float* kl, float* facts) {
    const Value* none = nullptr;
    facts[0] = log_mass<F>(row, none, tokens, factor);
    *logprob = widen_one(row + chosen) * factor - facts[0];
    if (gain == nullptr) return;
    f32v total{};
    for (int i = 0; i < tokens; i += LANES)
        total += exp(logits_at<F>(row, i, tokens, factor) - facts[0]) * part_of<F>(gain, i, tokens, factor, 0.0f);
    facts[1] = sum(total);
    *kl = facts[1] - (facts[0] - log_mass<F>(row, gain, tokens, factor));
}

// The gradient of one row's logits, in their place. With p = π(v) and gain g(v):
// ∂ log π(c) / ∂ z_v = [v = c] - p, and ∂ KL / ∂ z_v = p (g(v) - Σ p g).
template <typename F, typename Value = typename F::Value>
static void distribution_backward(Value* row, const Value* gain, int tokens, float factor, long chosen, float dlogprob,
    float dkl, const float* facts) {
    const float z_chosen = widen_one(row + chosen) * factor;
    for (int i = 0; i < tokens; i += LANES) {
        f32v pull = splat(-dlogprob);
        if (gain != nullptr) pull += dkl * (part_of<F>(gain, i, tokens, factor, 0.0f) - facts[1]);
        f32v dz = exp(logits_at<F>(row, i, tokens, factor) - facts[0]) * pull * factor;
        if (i + LANES <= tokens) {
            F::narrow(row + i, dz);
        } else {
            for (int j = 0; i + j < tokens; j++) narrow_one(row + i + j, dz[j]);
        }
    }
    // again for the one token, rounded once
    float pull = -dlogprob;
    if (gain != nullptr) pull += dkl * (widen_one(gain + chosen) * factor - facts[1]);
    narrow_one(row + chosen, (expf(z_chosen - facts[0]) * pull + dlogprob) * factor);
}

}  // namespace thumbloop
