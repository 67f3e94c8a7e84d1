// Winograd's transforms (Lavin and Gray, 2016) of the tiles of an image, for the ops of winograd.cpp
// and winograd_conv3x3.cpp.
//
// A tile of 4x4 outputs reads K x K inputs. All transforms are linear: gather (image to
// coefficients) by one matrix, scatter (back) by another, and each is the other's gradient with
// that matrix transposed. The matrices are Cook and Toom's for the points 0, 1, -1, 2 and infinity,
// and -2 for 3x3 (section 4).
#pragma once

#include "common.h"

namespace pgvae {

template <int Rows, int Columns>
struct Matrix {
  float at[Rows][Columns];
};

constexpr Matrix<6, 6> kInput3 = {{{4, 0, -5, 0, 1, 0},
                                   {0, -4, -4, 1, 1, 0},
                                   {0, 4, -4, -1, 1, 0},
                                   {0, -2, -1, 2, 1, 0},
                                   {0, 2, -1, -2, 1, 0},
                                   {0, 4, 0, -5, 0, 1}}};
constexpr Matrix<4, 6> kOutput3 = {
    {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}}};
constexpr Matrix<5, 5> kInput2 = {{{2, -1, -2, 1, 0},
                                   {0, -2, -1, 1, 0},
                                   {0, 2, -3, 1, 0},
                                   {0, -1, 0, 1, 0},
                                   {0, 2, -1, -2, 1}}};
constexpr Matrix<4, 5> kOutput2 = {
    {{1, 1, 1, 1, 0}, {0, 1, -1, 2, 0}, {0, 1, 1, 4, 0}, {0, 1, -1, 8, 1}}};

template <int Rows, int Columns>
constexpr Matrix<Columns, Rows> transposed(const Matrix<Rows, Columns>& m) {
  Matrix<Columns, Rows> result = {};
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Columns; ++j) result.at[j][i] = m.at[i][j];
  return result;
}

constexpr auto kInput3T = transposed(kInput3);
constexpr auto kOutput3T = transposed(kOutput3);
constexpr auto kInput2T = transposed(kInput2);
constexpr auto kOutput2T = transposed(kOutput2);

// The taps of a 3x3 filter, to the coefficients' number in one direction: for F(4, 3) times 24; for
// F(4, 2) times 6, of outputs of even and of odd index after upsampling, which meet two different
// inputs: one of the taps is the first, and the other two are one.
constexpr Matrix<6, 3> kTaps3 = {
    {{6, 0, 0}, {-4, -4, -4}, {-4, 4, -4}, {1, 2, 4}, {1, -2, 4}, {0, 0, 24}}};
constexpr Matrix<5, 3> kTapsEven = {{{3, 0, 0}, {-3, -3, -3}, {-1, 1, 1}, {1, 2, 2}, {0, 6, 6}}};
constexpr Matrix<5, 3> kTapsOdd = {{{3, 3, 0}, {-3, -3, -3}, {-1, -1, 1}, {1, 1, 2}, {0, 0, 6}}};
constexpr auto kTaps3T = transposed(kTaps3);
constexpr auto kTapsEvenT = transposed(kTapsEven);
constexpr auto kTapsOddT = transposed(kTapsOdd);

// Where the tiles of an image are: tile (i, j) starts at pixel 4 i step + offset. Pixels outside of
// the image are zero. Tiles are counted along the rows of all images.
struct Grid {
  int64_t n, h, w, channels;  // of the image
  int64_t rows, columns;      // of tiles
  int64_t step, row_offset, column_offset;

  int64_t tiles() const { return n * rows * columns; }
};

// The tiles of phase k of an input (which it reads from) or of an output (which it writes to).
inline Grid input_grid(int64_t n, int64_t c, int64_t h, int64_t w, bool up2, int phase) {
  STD_TORCH_CHECK(h % 4 == 0 && w % 4 == 0, "height and width are multiples of 4");
  const int64_t a = up2 ? phase / 2 : 0, b = up2 ? phase % 2 : 0;
  return {n, h, w, c, h / 4, w / 4, 1, a - 1, b - 1};
}

inline Grid output_grid(int64_t n, int64_t c, int64_t h, int64_t w, bool up2, int phase) {
  const int64_t step = up2 ? 2 : 1;
  STD_TORCH_CHECK(h % (4 * step) == 0 && w % (4 * step) == 0, "height or width does not tile");
  return {n, h, w, c, h / 4 / step, w / 4 / step, step, up2 ? phase / 2 : 0, up2 ? phase % 2 : 0};
}

// Channels are taken a vector at a time, `Bytes` long.
template <class T, int Bytes>
struct Vector {
  typedef T Lanes __attribute__((vector_size(Bytes)));
  static constexpr int64_t kCount = Bytes / sizeof(T);
};

template <class Lanes, class T>
PGVAE_INLINE void load_lanes(Lanes& to, const T* from, int64_t count) {
  to = Lanes{};
  if (count * int64_t(sizeof(T)) >= int64_t(sizeof to)) std::memcpy(&to, from, sizeof to);
  else std::memcpy(&to, from, count * sizeof(T));
}

template <class Lanes, class T>
PGVAE_INLINE void store_lanes(T* to, const Lanes& lanes, int64_t count) {
  if (count * int64_t(sizeof(T)) >= int64_t(sizeof lanes)) std::memcpy(to, &lanes, sizeof lanes);
  else std::memcpy(to, &lanes, count * sizeof(T));
}

// to[i] = sum_j M[i][j] from[j], elements `stride` apart; M is known to the compiler.
template <class T, const auto& M, int Rows, int Columns, class Lanes>
PGVAE_INLINE void multiply(const Lanes* from, int from_stride, Lanes* to, int to_stride) {
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i) {
    Lanes sum = {};
#pragma GCC unroll 6
    for (int j = 0; j < Columns; ++j)
      if (M.at[i][j] == 1) sum += from[j * from_stride];
      else if (M.at[i][j] == -1) sum -= from[j * from_stride];
      else if (M.at[i][j] != 0) sum += T(M.at[i][j]) * from[j * from_stride];
    to[i * to_stride] = sum;
  }
}

// M from N', for Rows x Rows results of Columns x Columns lanes.
template <class T, const auto& M, const auto& N, int Rows, int Columns, class Lanes>
PGVAE_INLINE void multiply_both(const Lanes (&from)[Columns * Columns], Lanes (&to)[Rows * Rows]) {
  Lanes half[Rows * Columns];
#pragma GCC unroll 6
  for (int j = 0; j < Columns; ++j)
    multiply<T, M, Rows, Columns>(from + j, Columns, half + j, Columns);
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i)
    multiply<T, N, Rows, Columns>(half + i * Columns, 1, to + i * Rows, 1);
}

// Tiles [begin, end) of Side x Side pixels to K x K coefficients each, `stride` numbers apart.
template <class T, const auto& M, int K, int Side, int Bytes>
PGVAE_INLINE void gather(const T* image, T* coefficients, int64_t stride, Grid g, int64_t begin,
                         int64_t end) {
  using V = Vector<T, Bytes>;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile / g.columns, image_row = row / g.rows * g.h;
    const int64_t top = row % g.rows * 4 * g.step + g.row_offset;
    const int64_t left = tile % g.columns * 4 * g.step + g.column_offset;
    for (int64_t c = 0; c < g.channels; c += V::kCount) {
      typename V::Lanes pixels[Side * Side], result[K * K];
      for (int i = 0; i < Side; ++i)
        for (int j = 0; j < Side; ++j) {
          const int64_t y = top + i * g.step, x = left + j * g.step;
          pixels[i * Side + j] = typename V::Lanes{};
          if (y >= 0 && y < g.h && x >= 0 && x < g.w)
            load_lanes(pixels[i * Side + j], image + ((image_row + y) * g.w + x) * g.channels + c,
                       g.channels - c);
        }
      multiply_both<T, M, M, K, Side>(pixels, result);
      T* to = coefficients + (tile - begin) * g.channels + c;
      for (int k = 0; k < K * K; ++k) store_lanes(to + k * stride, result[k], g.channels - c);
    }
  }
}

// The reverse: channels [first, last) of tiles [begin, end) to pixels, which are set, or, where
// tiles overlap, added to.
template <class T, const auto& M, int K, int Side, bool Add, int Bytes>
PGVAE_INLINE void scatter(const T* coefficients, int64_t stride, T* image, Grid g, int64_t begin,
                          int64_t end, int64_t first, int64_t last) {
  using V = Vector<T, Bytes>;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile / g.columns, image_row = row / g.rows * g.h;
    const int64_t top = row % g.rows * 4 * g.step + g.row_offset;
    const int64_t left = tile % g.columns * 4 * g.step + g.column_offset;
    for (int64_t c = first; c < last; c += V::kCount) {
      typename V::Lanes given[K * K], pixels[Side * Side];
      const T* from = coefficients + (tile - begin) * g.channels + c;
      for (int k = 0; k < K * K; ++k) load_lanes(given[k], from + k * stride, last - c);
      multiply_both<T, M, M, Side, K>(given, pixels);
      for (int i = 0; i < Side; ++i)
        for (int j = 0; j < Side; ++j) {
          const int64_t y = top + i * g.step, x = left + j * g.step;
          if (y < 0 || y >= g.h || x < 0 || x >= g.w) continue;
          T* to = image + ((image_row + y) * g.w + x) * g.channels + c;
          typename V::Lanes sum = {};
          if (Add) load_lanes(sum, to, last - c);
          sum += pixels[i * Side + j];
          store_lanes(to, sum, last - c);
        }
    }
  }
}

// Calls f(float{}) or f(double{}).
template <class F>
Tensor with_type(const Tensor& x, const F& f) {
  STD_TORCH_CHECK(x.scalar_type() == wide(x), "Winograd's transforms take float32 or float64");
  return x.scalar_type() == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace pgvae
