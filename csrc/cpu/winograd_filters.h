// Winograd's transform of a weight's taps to filters [phases * K * K, inputs, outputs], and its
// transpose, which is its gradient.
#pragma once

#include "winograd.h"

namespace pgvae {

template <bool Up2>
struct Winograd {
  static constexpr int kPhases = 1, kSide = 6, kCoefficients = 36;
  static constexpr double kTapsScale = 1.0 / (24 * 24);
  static constexpr const auto &input = kInput3, &input_t = kInput3T;
  static constexpr const auto &output = kOutput3, &output_t = kOutput3T;
};
template <>
struct Winograd<true> {
  static constexpr int kPhases = 4, kSide = 5, kCoefficients = 25;
  static constexpr double kTapsScale = 1.0 / (6 * 6);
  static constexpr const auto &input = kInput2, &input_t = kInput2T;
  static constexpr const auto &output = kOutput2, &output_t = kOutput2T;
};

// Where the taps of a weight are, as far apart as `input` and `tap` say; outputs are neighbours.
struct Taps {
  int64_t inputs, outputs, input, tap;

  // A weight in channels_last, [inputs, 9, outputs]: [O, I, 3, 3], for the adjoint.
  static Taps between(int64_t inputs, int64_t outputs) {
    return {inputs, outputs, 9 * outputs, outputs};
  }
  // [9, inputs, outputs]: the same transposed, for the convolution itself.
  static Taps apart(int64_t inputs, int64_t outputs) {
    return {inputs, outputs, outputs, inputs * outputs};
  }
};

// Columns [begin, end) of a matrix [rows, columns] to [columns, rows], by blocks that fit a cache.
struct Transpose {
  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* from, T* to, int64_t rows, int64_t columns, int64_t begin,
                               int64_t end) {
    constexpr int64_t kSide = 16;
    for (int64_t column = begin; column < end; column += kSide)
      for (int64_t row = 0; row < rows; row += kSide)
        for (int64_t r = row; r < std::min(rows, row + kSide); ++r)
          for (int64_t c = column; c < std::min(end, column + kSide); ++c)
            to[c * rows + r] = from[r * columns + c];
  }
};

// Inputs [begin, end) of all filters, which are matrices `apart` numbers apart.
template <bool Up2>
struct ToFilters {
  using W = Winograd<Up2>;

  template <const auto& Rows, const auto& Columns, class V, class T>
  static PGVAE_INLINE void one(const typename V::Lanes (&given)[9], T* to, int64_t apart,
                               int64_t count) {
    typename V::Lanes result[W::kCoefficients];
    multiply_both<T, Rows, Columns, W::kSide, 3>(given, result);
    for (int k = 0; k < W::kCoefficients; ++k)
      store_lanes(to + k * apart, result[k] * T(W::kTapsScale), count);
  }

  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* weight, T* filters, int64_t apart, Taps taps,
                               int64_t begin, int64_t end) {
    using V = Vector<T, Bytes>;
    const int64_t phase = W::kCoefficients * apart;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t o = 0; o < taps.outputs; o += V::kCount) {
        T* to = filters + i * taps.outputs + o;
        const int64_t count = taps.outputs - o;
        typename V::Lanes given[9];
        for (int tap = 0; tap < 9; ++tap)
          load_lanes(given[tap], weight + i * taps.input + tap * taps.tap + o, count);
        if constexpr (Up2) {
          one<kTapsEven, kTapsEven, V>(given, to, apart, count);
          one<kTapsEven, kTapsOdd, V>(given, to + phase, apart, count);
          one<kTapsOdd, kTapsEven, V>(given, to + 2 * phase, apart, count);
          one<kTapsOdd, kTapsOdd, V>(given, to + 3 * phase, apart, count);
        } else {
          one<kTaps3, kTaps3, V>(given, to, apart, count);
        }
      }
  }
};

// The reverse.
template <bool Up2>
struct FromFilters {
  using W = Winograd<Up2>;

  template <const auto& Rows, const auto& Columns, class V, class T>
  static PGVAE_INLINE void one(const T* from, int64_t apart, typename V::Lanes (&sum)[9],
                               int64_t count) {
    typename V::Lanes given[W::kCoefficients], result[9];
    for (int k = 0; k < W::kCoefficients; ++k) load_lanes(given[k], from + k * apart, count);
    multiply_both<T, Rows, Columns, 3, W::kSide>(given, result);
    for (int tap = 0; tap < 9; ++tap) sum[tap] += result[tap];
  }

  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* filters, int64_t apart, T* weight, Taps taps,
                               int64_t begin, int64_t end) {
    using V = Vector<T, Bytes>;
    const int64_t phase = W::kCoefficients * apart;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t o = 0; o < taps.outputs; o += V::kCount) {
        const T* from = filters + i * taps.outputs + o;
        const int64_t count = taps.outputs - o;
        typename V::Lanes sum[9] = {};
        if constexpr (Up2) {
          one<kTapsEvenT, kTapsEvenT, V>(from, apart, sum, count);
          one<kTapsEvenT, kTapsOddT, V>(from + phase, apart, sum, count);
          one<kTapsOddT, kTapsEvenT, V>(from + 2 * phase, apart, sum, count);
          one<kTapsOddT, kTapsOddT, V>(from + 3 * phase, apart, sum, count);
        } else {
          one<kTaps3T, kTaps3T, V>(from, apart, sum, count);
        }
        for (int tap = 0; tap < 9; ++tap)
          store_lanes(weight + i * taps.input + tap * taps.tap + o, sum[tap] * T(W::kTapsScale),
                      count);
      }
  }
};

}  // namespace pgvae
