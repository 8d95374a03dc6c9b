// Transposes blocks of 16 by 16.

#pragma once

#include "vectors.h"

namespace thumbloop {

// Transposes 16 rows of 16 in place. Each round interleaves the first half of the rows with the
// second half.
static inline void transpose(u32v* square) {
    constexpr int HALF = LANES / 2;
    for (int round = 0; round < 4; round++) {
        u32v riffled[LANES];
        for (int i = 0; i < HALF; i++) {
            riffled[2 * i] = __builtin_shufflevector(square[i], square[i + HALF], 0, 16, 1, 17, 2,
                18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            riffled[2 * i + 1] = __builtin_shufflevector(square[i], square[i + HALF], 8, 24, 9, 25,
                10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(square, riffled, sizeof(riffled));
    }
}

}  // namespace thumbloop
