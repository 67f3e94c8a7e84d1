// bias_act_pixel_norm: with u = x + b and r = 1 / sqrt(mean_C(a^2) + eps),
//   norm_first:  a = u,            y = LeakyReLU(r a)   (PIONEER)
//   else:        a = LeakyReLU(u), y = r a              (PGGAN)
// saves y and r. Backward, <.,.> the mean over channels, m = <g, y>:
//   else:        gu = r (g - y m) * slope(y)
//   norm_first:  gu = r (g slope(y) - y / slope(y) m)   as the slopes cancel in <., .>
#include "common.h"

namespace pgvae {
namespace {

template <class A, bool NormFirst>
PGVAE_INLINE A before_norm(A u, A slope) {
  return NormFirst ? u : leaky_relu(u, slope);
}

template <class A, bool NormFirst>
PGVAE_INLINE A after_norm(A normed, A slope) {
  return NormFirst ? leaky_relu(normed, slope) : normed;
}

template <class A, bool NormFirst>
PGVAE_INLINE A input_gradient(A g, A y, A r, A m, A slope, A inverse_slope) {
  const bool positive = y > 0;
  if (NormFirst)
    return r * ((positive ? g : g * slope) - (positive ? y : y * inverse_slope) * m);
  const A normed = r * (g - y * m);
  return positive ? normed : normed * slope;
}

// channels_last: pixels [begin, end), each a row of channels.
template <class T, bool NormFirst>
PGVAE_CLONES void forward_rows(const T* x, const Wide<T>* bias, T* y, Wide<T>* rstd,
                               int64_t begin, int64_t end, int64_t channels, Wide<T> slope,
                               Wide<T> eps) {
  using A = Wide<T>;
  for (int64_t p = begin; p < end; ++p) {
    const T* row = x + p * channels;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; ++c) {
      const A a = before_norm<A, NormFirst>(load(row[c]) + bias[c], slope);
      sum += a * a;
    }
    const A r = 1 / std::sqrt(sum / channels + eps);
    rstd[p] = r;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const A a = before_norm<A, NormFirst>(load(row[c]) + bias[c], slope);
      store(y[p * channels + c], after_norm<A, NormFirst>(a * r, slope));
    }
  }
}

template <class T, bool NormFirst>
PGVAE_CLONES void backward_rows(const T* g, const T* y, const Wide<T>* rstd, T* gx, Wide<T>* gb,
                                int64_t begin, int64_t end, int64_t channels, Wide<T> slope) {
  using A = Wide<T>;
  for (int64_t p = begin; p < end; ++p) {
    const T *g_row = g + p * channels, *y_row = y + p * channels;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; ++c) sum += load(g_row[c]) * load(y_row[c]);
    const A m = sum / channels, r = rstd[p], inverse_slope = 1 / slope;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const A value = input_gradient<A, NormFirst>(load(g_row[c]), load(y_row[c]), r, m, slope,
                                                   inverse_slope);
      store(gx[p * channels + c], value);
      gb[c] += value;
    }
  }
}

// Contiguous: tiles [begin, end) of up to kTile pixels of an image, all channels of them.
constexpr int64_t kTile = 64;

struct Tile {
  int64_t start;  // of its first channel, in numbers
  int64_t pixel;  // its first pixel
  int64_t width;

  Tile(int64_t tile, int64_t channels, int64_t pixels) {
    const int64_t per_image = (pixels + kTile - 1) / kTile;
    const int64_t image = tile / per_image, first = tile % per_image * kTile;
    start = image * channels * pixels + first;
    pixel = image * pixels + first;
    width = std::min(kTile, pixels - first);
  }
};

template <class T, bool NormFirst>
PGVAE_CLONES void forward_tiles(const T* x, const Wide<T>* bias, T* y, Wide<T>* rstd,
                                int64_t begin, int64_t end, int64_t channels, int64_t pixels,
                                Wide<T> slope, Wide<T> eps) {
  using A = Wide<T>;
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(t, channels, pixels);
    A sum[kTile] = {}, *r = rstd + tile.pixel;
    for (int64_t c = 0; c < channels; ++c) {
      const T* from = x + tile.start + c * pixels;
#pragma omp simd
      for (int64_t i = 0; i < tile.width; ++i) {
        const A a = before_norm<A, NormFirst>(load(from[i]) + bias[c], slope);
        sum[i] += a * a;
      }
    }
#pragma omp simd
    for (int64_t i = 0; i < tile.width; ++i) r[i] = 1 / std::sqrt(sum[i] / channels + eps);
    for (int64_t c = 0; c < channels; ++c) {
      const T* from = x + tile.start + c * pixels;
      T* to = y + tile.start + c * pixels;
#pragma omp simd
      for (int64_t i = 0; i < tile.width; ++i) {
        const A a = before_norm<A, NormFirst>(load(from[i]) + bias[c], slope);
        store(to[i], after_norm<A, NormFirst>(a * r[i], slope));
      }
    }
  }
}

template <class T, bool NormFirst>
PGVAE_CLONES void backward_tiles(const T* g, const T* y, const Wide<T>* rstd, T* gx, Wide<T>* gb,
                                 int64_t begin, int64_t end, int64_t channels, int64_t pixels,
                                 Wide<T> slope) {
  using A = Wide<T>;
  const A inverse_slope = 1 / slope;
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(t, channels, pixels);
    const A* r = rstd + tile.pixel;
    A m[kTile] = {};
    for (int64_t c = 0; c < channels; ++c) {
      const T *from_g = g + tile.start + c * pixels, *from_y = y + tile.start + c * pixels;
#pragma omp simd
      for (int64_t i = 0; i < tile.width; ++i) m[i] += load(from_g[i]) * load(from_y[i]);
    }
    for (int64_t i = 0; i < tile.width; ++i) m[i] /= channels;
    for (int64_t c = 0; c < channels; ++c) {
      const T *from_g = g + tile.start + c * pixels, *from_y = y + tile.start + c * pixels;
      T* to = gx + tile.start + c * pixels;
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < tile.width; ++i) {
        const A value = input_gradient<A, NormFirst>(load(from_g[i]), load(from_y[i]), r[i], m[i],
                                                     slope, inverse_slope);
        store(to[i], value);
        sum += value;
      }
      gb[c] += sum;
    }
  }
}

int64_t tiles(const Shape& s) { return s.n * ((s.pixels() + kTile - 1) / kTile); }

std::tuple<Tensor, Tensor> bias_act_pixel_norm(const Tensor& input, const Tensor& bias,
                                               bool norm_first, double slope, double eps) {
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x);
  Tensor y = empty_as(x, s), rstd = empty_as(x, {s.n, 1, s.h, s.w, false}, wide(x));
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const T* from = data<T>(x);
    const Wide<T>* b = data<Wide<T>>(bias);
    T* to = mutable_data<T>(y);
    Wide<T>* r = mutable_data<Wide<T>>(rstd);
    if (s.channels_last) {
      auto* run = norm_first ? forward_rows<T, true> : forward_rows<T, false>;
      parallel(s.n * s.pixels(), s.c, [&](int64_t begin, int64_t end) {
        run(from, b, to, r, begin, end, s.c, slope, eps);
      });
    } else {
      auto* run = norm_first ? forward_tiles<T, true> : forward_tiles<T, false>;
      parallel(tiles(s), s.c * kTile, [&](int64_t begin, int64_t end) {
        run(from, b, to, r, begin, end, s.c, s.pixels(), slope, eps);
      });
    }
  });
  return {y, rstd};
}

std::tuple<Tensor, Tensor> bias_act_pixel_norm_backward(const Tensor& grad, const Tensor& output,
                                                        const Tensor& rstd, bool norm_first,
                                                        double slope) {
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  const Shape s = shape_of(y);
  check_rstd(rstd, y);
  Tensor gx = empty_as(y, s), gb = empty_1d(y, s.c, wide(y));
  dispatch(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = Wide<T>;
    const T *from_g = data<T>(g), *from_y = data<T>(y);
    const A* r = data<A>(rstd);
    T* to = mutable_data<T>(gx);
    A* sums = mutable_data<A>(gb);
    if (s.channels_last) {
      auto* run = norm_first ? backward_rows<T, true> : backward_rows<T, false>;
      parallel_sum(s.n * s.pixels(), s.c, s.c, sums, [&](int64_t begin, int64_t end, A* partial) {
        run(from_g, from_y, r, to, partial, begin, end, s.c, slope);
      });
    } else {
      auto* run = norm_first ? backward_tiles<T, true> : backward_tiles<T, false>;
      parallel_sum(tiles(s), s.c * kTile, s.c, sums, [&](int64_t begin, int64_t end, A* partial) {
        run(from_g, from_y, r, to, partial, begin, end, s.c, s.pixels(), slope);
      });
    }
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("bias_act_pixel_norm", TORCH_BOX(&bias_act_pixel_norm));
  m.impl("bias_act_pixel_norm_backward", TORCH_BOX(&bias_act_pixel_norm_backward));
}

}  // namespace
}  // namespace pgvae
