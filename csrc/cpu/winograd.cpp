// The transforms of Winograd's convolutions (Lavin and Gray, 2016): between images and tiles of
// coefficients [phases * K * K, tiles, channels], whose products over channels are matrix products.
//
//   convolution 3x3:          F(4x4, 3x3): 36 coefficients for 16 outputs.
//   upsampling, then 3x3:     each of the four phases of the output is a 2x2 convolution of the
//                             small image, F(4x4, 2x2): 4 * 25 coefficients for 64 outputs.
//
// A tile of 4x4 outputs (of a phase) reads K x K inputs. All four transforms are linear: gather
// (image to coefficients) by one matrix, scatter (back) by another, and each is the other's gradient
// with that matrix transposed. The matrices are Cook and Toom's for the points 0, 1, -1, 2 and
// infinity, and -2 for 3x3 (section 4).
#include "common.h"

namespace pgvae {
namespace {

// Channels are taken 64 bytes at a time: one AVX-512 register, or two of AVX2.
template <class T>
struct Vector {
  typedef T Lanes __attribute__((vector_size(64)));
};
template <class T>
using Lanes = typename Vector<T>::Lanes;
template <class T>
constexpr int64_t kLanes = 64 / sizeof(T);

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

// Where the tiles of an image are: tile (i, j) starts at pixel 4 i step + offset. Pixels outside of
// the image are zero.
struct Grid {
  int64_t n, h, w, channels;  // of the image
  int64_t rows, columns;      // of tiles
  int64_t step, row_offset, column_offset;
};

template <class T>
PGVAE_INLINE void load_lanes(Lanes<T>& to, const T* from, int64_t count) {
  to = Lanes<T>{};
  if (count >= kLanes<T>) std::memcpy(&to, from, sizeof to);
  else std::memcpy(&to, from, count * sizeof(T));
}

template <class T>
PGVAE_INLINE void store_lanes(T* to, const Lanes<T>& lanes, int64_t count) {
  if (count >= kLanes<T>) std::memcpy(to, &lanes, sizeof lanes);
  else std::memcpy(to, &lanes, count * sizeof(T));
}

// to[i] = sum_j M[i][j] from[j], elements `stride` apart; M is known to the compiler.
template <class T, const auto& M, int Rows, int Columns>
PGVAE_INLINE void multiply(const Lanes<T>* from, int from_stride, Lanes<T>* to, int to_stride) {
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i) {
    Lanes<T> sum = {};
#pragma GCC unroll 6
    for (int j = 0; j < Columns; ++j)
      if (M.at[i][j] == 1) sum += from[j * from_stride];
      else if (M.at[i][j] == -1) sum -= from[j * from_stride];
      else if (M.at[i][j] != 0) sum += T(M.at[i][j]) * from[j * from_stride];
    to[i * to_stride] = sum;
  }
}

// M from M', for Rows x Rows results of Columns x Columns lanes.
template <class T, const auto& M, int Rows, int Columns>
PGVAE_INLINE void multiply_both(const Lanes<T> (&from)[Columns * Columns],
                                Lanes<T> (&to)[Rows * Rows]) {
  Lanes<T> half[Rows * Columns];
#pragma GCC unroll 6
  for (int j = 0; j < Columns; ++j)
    multiply<T, M, Rows, Columns>(from + j, Columns, half + j, Columns);
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i)
    multiply<T, M, Rows, Columns>(half + i * Columns, 1, to + i * Rows, 1);
}

// Tiles of Side x Side pixels to K x K coefficients. Work: rows of tiles of all images.
template <class T, const auto& M, int K, int Side>
PGVAE_CLONES void gather(const T* image, T* coefficients, Grid g, int64_t begin,
                         int64_t end) {
  const int64_t all = g.n * g.rows * g.columns * g.channels;  // numbers of one coefficient
  for (int64_t row = begin; row < end; ++row)
    for (int64_t column = 0; column < g.columns; ++column)
      for (int64_t c = 0; c < g.channels; c += kLanes<T>) {
        const int64_t count = g.channels - c, top = row % g.rows * 4 * g.step + g.row_offset,
                      left = column * 4 * g.step + g.column_offset;
        Lanes<T> pixels[Side * Side], result[K * K];
        for (int i = 0; i < Side; ++i)
          for (int j = 0; j < Side; ++j) {
            const int64_t y = top + i * g.step, x = left + j * g.step;
            const int64_t at = ((row / g.rows * g.h + y) * g.w + x) * g.channels + c;
            pixels[i * Side + j] = Lanes<T>{};
            if (y >= 0 && y < g.h && x >= 0 && x < g.w)
              load_lanes<T>(pixels[i * Side + j], image + at, count);
          }
        multiply_both<T, M, K, Side>(pixels, result);
        T* to = coefficients + (row * g.columns + column) * g.channels + c;
        for (int k = 0; k < K * K; ++k) store_lanes<T>(to + k * all, result[k], count);
      }
}

// The reverse: adds tiles of Side x Side pixels, which may overlap, to an image. Work: channel
// blocks of images, so that no two threads add to one pixel.
template <class T, const auto& M, int K, int Side>
PGVAE_CLONES void scatter(const T* coefficients, T* image, Grid g, int64_t begin,
                          int64_t end) {
  const int64_t all = g.n * g.rows * g.columns * g.channels;
  const int64_t blocks = (g.channels + kLanes<T> - 1) / kLanes<T>;
  for (int64_t work = begin; work < end; ++work)
    for (int64_t row = 0; row < g.rows; ++row)
      for (int64_t column = 0; column < g.columns; ++column) {
        const int64_t n = work / blocks, c = work % blocks * kLanes<T>, count = g.channels - c;
        const int64_t top = row * 4 * g.step + g.row_offset,
                      left = column * 4 * g.step + g.column_offset;
        const T* from =
            coefficients + ((n * g.rows + row) * g.columns + column) * g.channels + c;
        Lanes<T> given[K * K], pixels[Side * Side];
        for (int k = 0; k < K * K; ++k) load_lanes<T>(given[k], from + k * all, count);
        multiply_both<T, M, Side, K>(given, pixels);
        for (int i = 0; i < Side; ++i)
          for (int j = 0; j < Side; ++j) {
            const int64_t y = top + i * g.step, x = left + j * g.step;
            if (y < 0 || y >= g.h || x < 0 || x >= g.w) continue;
            T* to = image + ((n * g.h + y) * g.w + x) * g.channels + c;
            Lanes<T> sum;
            load_lanes<T>(sum, to, count);
            sum += pixels[i * Side + j];
            store_lanes<T>(to, sum, count);
          }
      }
}

// The tiles of phase k of an input (which it reads from) or of an output (which it writes to).
Grid input_grid(int64_t n, int64_t c, int64_t h, int64_t w, bool up2, int phase) {
  STD_TORCH_CHECK(h % 4 == 0 && w % 4 == 0, "height and width are multiples of 4");
  const int64_t a = up2 ? phase / 2 : 0, b = up2 ? phase % 2 : 0;
  return {n, h, w, c, h / 4, w / 4, 1, a - 1, b - 1};
}

Grid output_grid(int64_t n, int64_t c, int64_t h, int64_t w, bool up2, int phase) {
  const int64_t step = up2 ? 2 : 1;
  STD_TORCH_CHECK(h % (4 * step) == 0 && w % (4 * step) == 0, "height or width does not tile");
  return {n, h, w, c, h / 4 / step, w / 4 / step, step, up2 ? phase / 2 : 0, up2 ? phase % 2 : 0};
}

struct Sizes {
  int phases;
  int64_t coefficients;
  explicit Sizes(bool up2) : phases(up2 ? 4 : 1), coefficients(up2 ? 25 : 36) {}
};

using GridOf = Grid(int64_t, int64_t, int64_t, int64_t, bool, int);
template <class T>
using Kernel = void(const T*, T*, Grid, int64_t, int64_t);

template <class T>
Tensor gather_all(const Tensor& given, bool up2, GridOf* grid_of, Kernel<T>* run) {
  STD_TORCH_CHECK(given.dim() == 4, "an image is [N, C, H, W]");
  const Tensor image = in_format(given, true);
  const Sizes sizes(up2);
  const Grid first = grid_of(image.size(0), image.size(1), image.size(2), image.size(3), up2, 0);
  const int64_t tiles = first.n * first.rows * first.columns;
  const int64_t shape[3] = {sizes.phases * sizes.coefficients, tiles, first.channels};
  Tensor result = torch::stable::new_empty(image, {shape, 3});
  for (int phase = 0; phase < sizes.phases; ++phase) {
    const Grid g = grid_of(first.n, first.channels, first.h, first.w, up2, phase);
    T* to = mutable_data<T>(result) + phase * sizes.coefficients * tiles * g.channels;
    parallel(g.n * g.rows, 16 * g.columns * g.channels, [&](int64_t begin, int64_t end) {
      run(data<T>(image), to, g, begin, end);
    });
  }
  return result;
}

template <class T>
Tensor scatter_all(const Tensor& given, int64_t n, int64_t h, int64_t w, bool up2,
                   GridOf* grid_of, Kernel<T>* run) {
  STD_TORCH_CHECK(given.dim() == 3, "coefficients are [K, tiles, C]");
  const Sizes sizes(up2);
  const Tensor coefficients = in_format(given);
  const int64_t channels = given.size(2), blocks = (channels + kLanes<T> - 1) / kLanes<T>;
  const Grid first = grid_of(n, channels, h, w, up2, 0);
  STD_TORCH_CHECK(given.size(0) == sizes.phases * sizes.coefficients &&
                      given.size(1) == n * first.rows * first.columns,
                  "coefficients of another image");
  Tensor image = empty_as(given, {n, channels, h, w, true});
  torch::stable::zero_(image);
  for (int phase = 0; phase < sizes.phases; ++phase) {
    const Grid g = grid_of(n, channels, h, w, up2, phase);
    const T* from = data<T>(coefficients) + phase * sizes.coefficients * given.size(1) * channels;
    parallel(n * blocks, h * w * kLanes<T>, [&](int64_t begin, int64_t end) {
      run(from, mutable_data<T>(image), g, begin, end);
    });
  }
  return image;
}

// Calls f(float{}) or f(double{}).
template <class F>
Tensor with_type(const Tensor& x, const F& f) {
  STD_TORCH_CHECK(x.scalar_type() == wide(x), "Winograd's transforms take float32 or float64");
  return x.scalar_type() == ScalarType::Float ? f(float{}) : f(double{});
}

Tensor winograd_input(const Tensor& image, bool up2) {
  return with_type(image, [&](auto type) {
    using T = decltype(type);
    return gather_all<T>(image, up2, input_grid,
                         up2 ? gather<T, kInput2, 5, 5> : gather<T, kInput3, 6, 6>);
  });
}

Tensor winograd_input_backward(const Tensor& g, int64_t n, int64_t h, int64_t w, bool up2) {
  return with_type(g, [&](auto type) {
    using T = decltype(type);
    return scatter_all<T>(g, n, h, w, up2, input_grid,
                          up2 ? scatter<T, kInput2T, 5, 5> : scatter<T, kInput3T, 6, 6>);
  });
}

Tensor winograd_output(const Tensor& products, int64_t n, int64_t h, int64_t w, bool up2) {
  return with_type(products, [&](auto type) {
    using T = decltype(type);
    return scatter_all<T>(products, n, h, w, up2, output_grid,
                          up2 ? scatter<T, kOutput2, 5, 4> : scatter<T, kOutput3, 6, 4>);
  });
}

Tensor winograd_output_backward(const Tensor& g, bool up2) {
  return with_type(g, [&](auto type) {
    using T = decltype(type);
    return gather_all<T>(g, up2, output_grid,
                         up2 ? gather<T, kOutput2T, 5, 4> : gather<T, kOutput3T, 6, 4>);
  });
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("winograd_input", TORCH_BOX(&winograd_input));
  m.impl("winograd_input_backward", TORCH_BOX(&winograd_input_backward));
  m.impl("winograd_output", TORCH_BOX(&winograd_output));
  m.impl("winograd_output_backward", TORCH_BOX(&winograd_output_backward));
}

}  // namespace
}  // namespace pgvae
