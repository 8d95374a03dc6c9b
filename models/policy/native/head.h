// Log-probs, KL and their gradients from logits, one row at a time.
//
// Besides the logits, two numbers for each row are saved for the backward pass.

#pragma once

#include "elementwise.h"

namespace thumbloop {

// Sixteen numbers of a row times ``factor``; lanes past the row's end are ``beyond``.
template <typename F, typename Value = typename F::Value>
static inline f32v scaled_values(const Value* row, int i, int tokens, float factor, float beyond) {
    if (i + LANES <= tokens) return F::widen(row + i) * factor;
    f32v out = splat(beyond);
    for (int j = 0; i + j < tokens; j++) out[j] = widen_one(row + i + j) * factor;
    return out;
}

// Sixteen logits of a row; lanes past the row's end have probability 0.
template <typename F, typename Value = typename F::Value>
static inline f32v logits_at(const Value* row, int i, int tokens, float factor) {
    return scaled_values<F>(row, i, tokens, factor, -3.0e38f);
}

// Sixteen logits of the base, ``row - delta``; of the policy if ``delta`` is null.
template <typename F, typename Value = typename F::Value>
static inline f32v logits_at(
    const Value* row, const Value* delta, int i, int tokens, float factor) {
    f32v z = logits_at<F>(row, i, tokens, factor);
    return delta == nullptr ? z : z - scaled_values<F>(delta, i, tokens, factor, 0.0f);
}

// log Σ exp of a row of the base's logits; of the policy's if ``delta`` is null.
template <typename F, typename Value = typename F::Value>
static float log_sum_exp(const Value* row, const Value* delta, int tokens, float factor) {
    f32v highest = splat(-3.0e38f);
    for (int i = 0; i < tokens; i += LANES) {
        f32v z = logits_at<F>(row, delta, i, tokens, factor);
        highest = z > highest ? z : highest;
    }
    float most = highest[0];
    for (int i = 1; i < LANES; i++) most = highest[i] > most ? highest[i] : most;
    f32v total{};
    for (int i = 0; i < tokens; i += LANES)
        total += exp(logits_at<F>(row, delta, i, tokens, factor) - most);
    return most + logf(sum(total));
}

// Computes log π(chosen) of one row. Computes KL(π ‖ base) as well if ``delta`` is not null: the
// logits minus the base's. ``saved`` gets log Σ exp and the mean of ``delta`` under π, for the
// backward pass.
template <typename F, typename Value = typename F::Value>
static void logprob_and_kl(const Value* row, const Value* delta, int tokens, float factor,
    long chosen, float* logprob, float* kl, float* saved) {
    const Value* none = nullptr;
    saved[0] = log_sum_exp<F>(row, none, tokens, factor);
    *logprob = widen_one(row + chosen) * factor - saved[0];
    if (delta == nullptr) return;
    f32v total{};
    for (int i = 0; i < tokens; i += LANES)
        total += exp(logits_at<F>(row, i, tokens, factor) - saved[0]) *
                 scaled_values<F>(delta, i, tokens, factor, 0.0f);
    saved[1] = sum(total);
    *kl = saved[1] - (saved[0] - log_sum_exp<F>(row, delta, tokens, factor));
}

// Replaces one row's logits by their gradient. With p = π(v) and d = delta(v):
// ∂ log π(c) / ∂ z_v = [v = c] - p, and ∂ KL / ∂ z_v = p (d - Σ p d).
template <typename F, typename Value = typename F::Value>
static void logprob_and_kl_backward(Value* row, const Value* delta, int tokens, float factor,
    long chosen, float dlogprob, float dkl, const float* saved) {
    const float z_chosen = widen_one(row + chosen) * factor;
    for (int i = 0; i < tokens; i += LANES) {
        f32v slope = splat(-dlogprob);
        if (delta != nullptr)
            slope += dkl * (scaled_values<F>(delta, i, tokens, factor, 0.0f) - saved[1]);
        f32v dz = exp(logits_at<F>(row, i, tokens, factor) - saved[0]) * slope * factor;
        if (i + LANES <= tokens) {
            F::narrow(row + i, dz);
        } else {
            for (int j = 0; i + j < tokens; j++) narrow_one(row + i + j, dz[j]);
        }
    }
    // Computed again for the chosen token, so that its two terms are rounded once.
    float slope = -dlogprob;
    if (delta != nullptr) slope += dkl * (widen_one(delta + chosen) * factor - saved[1]);
    narrow_one(row + chosen, (expf(z_chosen - saved[0]) * slope + dlogprob) * factor);
}

}  // namespace thumbloop
