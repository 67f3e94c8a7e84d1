// winograd_conv3x3: y = a 3x3 convolution with padding 1 of narrow layers, after nearest upsampling
// x2 if `up2`, and its gradients. A few tiles at a time go through all three steps, so that their
// coefficients stay in the cache. See winograd.cpp for what there is in wide layers.
#include <memory>

#include "winograd_filters.h"

namespace pgvae {
namespace {

constexpr int64_t kTiles = 24;     // of a block
constexpr int64_t kMostParts = 8;  // of a sum over tiles
constexpr int64_t kLeastPart = 8;  // blocks of a part, as sums of parts cost time too
constexpr int64_t kApart = 16;     // numbers between matrices, which share cache sets without

// c[r][.] (+)= sum_p a[r * a_row + p * a_step] b[p][.], for Rows rows of Vectors vectors.
template <class V, int Rows, int Vectors, bool Add, class T>
PGVAE_INLINE void product(const T* a, int64_t a_row, int64_t a_step, const T* b, int64_t b_row,
                          T* c, int64_t c_row, int64_t depth) {
  typename V::Lanes sum[Rows][Vectors] = {};
  for (int64_t p = 0; p < depth; ++p) {
    typename V::Lanes right[Vectors];
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j)
      std::memcpy(&right[j], b + p * b_row + j * V::kCount, sizeof right[j]);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      const T left = a[r * a_row + p * a_step];
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) sum[r][j] += left * right[j];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      T* to = c + r * c_row + j * V::kCount;
      typename V::Lanes old = {};
      if (Add) std::memcpy(&old, to, sizeof old);
      old += sum[r][j];
      std::memcpy(to, &old, sizeof old);
    }
}

// Any number of rows, `columns` a multiple of a vector.
template <class T, int Bytes, bool Add>
PGVAE_INLINE void matrix_product(const T* a, int64_t a_row, int64_t a_step, const T* b, T* c,
                                 int64_t rows, int64_t columns, int64_t depth) {
  using V = Vector<T, Bytes>;
  int64_t j = 0;
  for (; j + 2 * V::kCount <= columns; j += 2 * V::kCount) {
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6)
      product<V, 6, 2, Add>(a + r * a_row, a_row, a_step, b + j, columns, c + r * columns + j,
                            columns, depth);
    for (; r + 4 <= rows; r += 4)
      product<V, 4, 2, Add>(a + r * a_row, a_row, a_step, b + j, columns, c + r * columns + j,
                            columns, depth);
    for (; r < rows; ++r)
      product<V, 1, 2, Add>(a + r * a_row, a_row, a_step, b + j, columns, c + r * columns + j,
                            columns, depth);
  }
  for (; j < columns; j += V::kCount)
    for (int64_t r = 0; r < rows; ++r)
      product<V, 1, 1, Add>(a + r * a_row, a_row, a_step, b + j, columns, c + r * columns + j,
                            columns, depth);
}

// The tiles of an input and of an output, by phase.
struct Pair {
  int64_t n, inputs, outputs, h, w;  // h, w of the input
  bool up2;

  Grid input(int phase) const { return input_grid(n, inputs, h, w, up2, phase); }
  Grid output(int phase) const {
    return output_grid(n, outputs, up2 ? 2 * h : h, up2 ? 2 * w : w, up2, phase);
  }
  int64_t tiles() const { return input(0).tiles(); }
};

// Tiles [begin, end) of x to those of y; with Adjoint, of y's gradient, all of their images, to
// those of x's, which is zero before. Phase by phase: the filters of one stay in the cache.
// `space`: for kTiles tiles of both.
template <bool Up2, bool Adjoint>
struct Convolve {
  using W = Winograd<Up2>;

  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* x, const T* filters, T* y, Pair pair, T* space,
                               int64_t begin, int64_t end) {
    for (int phase = 0; phase < W::kPhases; ++phase) {
      const Grid from = Adjoint ? pair.output(phase) : pair.input(phase);
      const Grid to = Adjoint ? pair.input(phase) : pair.output(phase);
      const int64_t given = kTiles * from.channels + kApart;
      const int64_t made = kTiles * to.channels + kApart;
      const int64_t matrix = from.channels * to.channels + kApart;
      T* products = space + W::kCoefficients * given;
      for (int64_t first = begin; first < end; first += kTiles) {
        const int64_t last = std::min(end, first + kTiles);
        if constexpr (Adjoint)
          gather<T, W::output_t, W::kSide, 4, Bytes>(x, space, given, from, first, last);
        else
          gather<T, W::input, W::kSide, W::kSide, Bytes>(x, space, given, from, first, last);
        for (int k = 0; k < W::kCoefficients; ++k)
          matrix_product<T, Bytes, false>(space + k * given, from.channels, 1,
                                          filters + (phase * W::kCoefficients + k) * matrix,
                                          products + k * made, last - first, to.channels,
                                          from.channels);
        if constexpr (Adjoint)
          scatter<T, W::input_t, W::kSide, W::kSide, true, Bytes>(products, made, y, to, first,
                                                                  last, 0, to.channels);
        else
          scatter<T, W::output, W::kSide, 4, false, Bytes>(products, made, y, to, first, last, 0,
                                                           to.channels);
      }
    }
  }
};

// The filters' gradient: the sum over tiles [begin, end) of products of x's and of y's gradient's.
// `space`: for kTiles tiles of both.
template <bool Up2>
struct Correlate {
  using W = Winograd<Up2>;

  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* x, const T* g, T* filters, Pair pair, T* space,
                               int64_t begin, int64_t end) {
    const int64_t given = kTiles * pair.inputs + kApart, made = kTiles * pair.outputs + kApart;
    const int64_t matrix = pair.inputs * pair.outputs + kApart;
    T* gradients = space + W::kCoefficients * given;
    for (int phase = 0; phase < W::kPhases; ++phase) {
      const Grid from = pair.input(phase), to = pair.output(phase);
      for (int64_t first = begin; first < end; first += kTiles) {
        const int64_t last = std::min(end, first + kTiles);
        gather<T, W::input, W::kSide, W::kSide, Bytes>(x, space, given, from, first, last);
        gather<T, W::output_t, W::kSide, 4, Bytes>(g, gradients, made, to, first, last);
        for (int k = 0; k < W::kCoefficients; ++k) {
          const T *left = space + k * given, *right = gradients + k * made;
          T* sum = filters + (phase * W::kCoefficients + k) * matrix;
          if (first == begin)
            matrix_product<T, Bytes, false>(right, 1, pair.outputs, left, sum, pair.outputs,
                                            pair.inputs, last - first);
          else
            matrix_product<T, Bytes, true>(right, 1, pair.outputs, left, sum, pair.outputs,
                                           pair.inputs, last - first);
        }
      }
    }
  }
};

template <bool Up2, class T>
std::unique_ptr<T[]> space_for(const Pair& pair) {
  const int64_t of_one = kTiles * (pair.inputs + pair.outputs) + 2 * kApart;
  return std::unique_ptr<T[]>(new T[Winograd<Up2>::kCoefficients * of_one]);
}

template <bool Up2, bool Adjoint, class T>
Tensor convolved(const Tensor& given, const Tensor& weight, const Pair& pair) {
  using W = Winograd<Up2>;
  const Tensor x = in_format(given, true);
  const Grid to = Adjoint ? pair.input(0) : pair.output(0);
  Tensor y = empty_as(x, {to.n, to.channels, to.h, to.w, true});
  if (Adjoint) torch::stable::zero_(y);
  const int64_t matrix = pair.inputs * pair.outputs + kApart;
  const std::unique_ptr<T[]> filters(new T[W::kCoefficients * W::kPhases * matrix]);
  const Tensor taps = in_format(weight, true);
  if (Adjoint) {
    widest<ToFilters<Up2>>(data<T>(taps), filters.get(), matrix,
                           Taps::between(pair.outputs, pair.inputs), 0, pair.outputs);
  } else {
    const int64_t rows = pair.outputs, columns = 9 * pair.inputs;
    const std::unique_ptr<T[]> turned(new T[rows * columns]);
    widest<Transpose>(data<T>(taps), turned.get(), rows, columns, 0, columns);
    widest<ToFilters<Up2>>(static_cast<const T*>(turned.get()), filters.get(), matrix,
                           Taps::apart(pair.inputs, pair.outputs), 0, pair.inputs);
  }
  // Blocks begin where the sizes say, and no two threads add to one image.
  const int64_t tiles = pair.tiles(), of_image = tiles / pair.n;
  const int64_t unit = Adjoint ? (kTiles + of_image - 1) / of_image * of_image : kTiles;
  parallel((tiles + unit - 1) / unit, unit * 16 * 36 * pair.inputs,
           [&](int64_t begin, int64_t end) {
             const auto space = space_for<Up2, T>(pair);
             widest<Convolve<Up2, Adjoint>>(data<T>(x), static_cast<const T*>(filters.get()),
                                            mutable_data<T>(y), pair, space.get(), begin * unit,
                                            std::min(tiles, end * unit));
           });
  return y;
}

template <bool Up2, class T>
Tensor correlated(const Tensor& input, const Tensor& grad, const Pair& pair) {
  using W = Winograd<Up2>;
  const Tensor x = in_format(input, true), g = in_format(grad, true);
  Tensor weight = empty_as(x, {pair.outputs, pair.inputs, 3, 3, true});
  const int64_t matrix = pair.inputs * pair.outputs + kApart;
  const int64_t size = W::kPhases * W::kCoefficients * matrix;
  const int64_t tiles = pair.tiles(), blocks = (tiles + kTiles - 1) / kTiles;
  const int64_t per_part = std::max(kLeastPart, (blocks + kMostParts - 1) / kMostParts) * kTiles;
  const int64_t parts = (tiles + per_part - 1) / per_part;
  const std::unique_ptr<T[]> sums(new T[parts * size]);
  torch::stable::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    const auto space = space_for<Up2, T>(pair);
    for (int64_t part = first; part < last; ++part)
      widest<Correlate<Up2>>(data<T>(x), data<T>(g), &sums[part * size], pair, space.get(),
                             part * per_part, std::min(tiles, (part + 1) * per_part));
  });
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[part * size + i];
  widest<FromFilters<Up2>>(static_cast<const T*>(sums.get()), matrix, mutable_data<T>(weight),
                           Taps::between(pair.outputs, pair.inputs), 0, pair.outputs);
  return weight;
}

Pair pair_of(const Tensor& input, int64_t outputs, bool up2) {
  STD_TORCH_CHECK(input.dim() == 4, "an image is [N, C, H, W]");
  STD_TORCH_CHECK(input.size(0) > 0, "there are no images");
  STD_TORCH_CHECK(input.size(1) % 16 == 0 && outputs % 16 == 0, "channels are multiples of 16");
  return {input.size(0), input.size(1), outputs, input.size(2), input.size(3), up2};
}

Tensor winograd_conv3x3(const Tensor& x, const Tensor& weight, bool up2) {
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 &&
                      weight.size(1) == x.size(1) && weight.scalar_type() == x.scalar_type(),
                  "a weight is [O, I, 3, 3], in the dtype of x");
  const Pair pair = pair_of(x, weight.size(0), up2);
  return with_type(x, [&](auto type) {
    using T = decltype(type);
    return up2 ? convolved<true, false, T>(x, weight, pair)
               : convolved<false, false, T>(x, weight, pair);
  });
}

Tensor winograd_conv3x3_input(const Tensor& g, const Tensor& weight, bool up2) {
  STD_TORCH_CHECK(g.dim() == 4 && weight.dim() == 4 && weight.size(2) == 3 &&
                      weight.size(3) == 3 && weight.size(0) == g.size(1) &&
                      weight.scalar_type() == g.scalar_type(),
                  "a weight is [O, I, 3, 3], in the dtype of the gradient [N, O, H, W]");
  const int64_t scale = up2 ? 2 : 1;
  const Pair pair = {g.size(0),         weight.size(1), g.size(1), g.size(2) / scale,
                     g.size(3) / scale, up2};
  STD_TORCH_CHECK(pair.n > 0 && pair.inputs % 16 == 0 && pair.outputs % 16 == 0,
                  "channels are multiples of 16");
  return with_type(g, [&](auto type) {
    using T = decltype(type);
    return up2 ? convolved<true, true, T>(g, weight, pair)
               : convolved<false, true, T>(g, weight, pair);
  });
}

Tensor winograd_conv3x3_weight(const Tensor& x, const Tensor& g, bool up2) {
  const Pair pair = pair_of(x, g.size(1), up2);
  const Grid to = pair.output(0);
  STD_TORCH_CHECK(g.dim() == 4 && g.size(0) == to.n && g.size(2) == to.h && g.size(3) == to.w &&
                      g.scalar_type() == x.scalar_type(),
                  "the gradient is of another image, or dtype");
  return with_type(x, [&](auto type) {
    using T = decltype(type);
    return up2 ? correlated<true, T>(x, g, pair) : correlated<false, T>(x, g, pair);
  });
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("winograd_conv3x3", TORCH_BOX(&winograd_conv3x3));
  m.impl("winograd_conv3x3_input", TORCH_BOX(&winograd_conv3x3_input));
  m.impl("winograd_conv3x3_weight", TORCH_BOX(&winograd_conv3x3_weight));
}

}  // namespace
}  // namespace pgvae
