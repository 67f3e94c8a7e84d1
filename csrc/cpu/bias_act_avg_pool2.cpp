// bias_act_avg_pool2: y = mean of LeakyReLU(x + b) over 2x2 pixels; an odd last row or column is
// left out. Saves one byte for an output: bit 2a + b says that pixel (2i + a, 2j + b) was positive.
#include "common.h"

namespace pgvae {
namespace {

// An image (channels_last) or one channel of it (contiguous) is a block of rows; a pixel then has
// `channels` numbers, or one. `pixels` is the length of an output row, `height` the input's.
struct Blocks {
  int64_t count, channels, rows, pixels, height, width;

  explicit Blocks(const Shape& s)
      : count(s.channels_last ? s.n : s.n * s.c), channels(s.channels_last ? s.c : 1),
        rows(s.h / 2), pixels(s.w / 2), height(s.h), width(s.w) {}

  int64_t all_rows() const { return count * rows; }
  int64_t output(int64_t row) const { return row * pixels * channels; }
  int64_t top(int64_t row) const { return (row / rows * height + row % rows * 2) * width * channels; }
};

template <class T>
PGVAE_INLINE void forward_at(const T* top, const T* bottom, int64_t next, Wide<T> b, T& y,
                             uint8_t& signs, Wide<T> slope) {
  using A = Wide<T>;
  const A u0 = load(top[0]) + b, u1 = load(top[next]) + b;
  const A u2 = load(bottom[0]) + b, u3 = load(bottom[next]) + b;
  const A sum = leaky_relu(u0, slope) + leaky_relu(u1, slope) + leaky_relu(u2, slope) +
                leaky_relu(u3, slope);
  store(y, sum * A(0.25));
  signs = (u0 > 0) | (u1 > 0) << 1 | (u2 > 0) << 2 | (u3 > 0) << 3;
}

template <class T>  // -> the sum of the four gradients
PGVAE_INLINE Wide<T> backward_at(T g, uint8_t signs, T* top, T* bottom, int64_t next,
                                 Wide<T> slope) {
  using A = Wide<T>;
  const A quarter = load(g) * A(0.25), small = quarter * slope;
  const A g0 = signs & 1 ? quarter : small, g1 = signs & 2 ? quarter : small;
  const A g2 = signs & 4 ? quarter : small, g3 = signs & 8 ? quarter : small;
  store(top[0], g0);
  store(top[next], g1);
  store(bottom[0], g2);
  store(bottom[next], g3);
  return (g0 + g1) + (g2 + g3);
}

// One output row in channels_last; Channels: known to the compiler, or 0. Short loops want it.
template <class T, int64_t Channels>
PGVAE_INLINE void forward_row(const T* top, const T* bottom, const Wide<T>* bias, T* y,
                              uint8_t* signs, int64_t pixels, int64_t count, Wide<T> slope) {
  const int64_t channels = Channels ? Channels : count;
  for (int64_t j = 0; j < pixels; ++j)
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c)
      forward_at(top + 2 * j * channels + c, bottom + 2 * j * channels + c, channels, bias[c],
                 y[j * channels + c], signs[j * channels + c], slope);
}

template <class T, int64_t Channels>
PGVAE_INLINE void backward_row(const T* g, const uint8_t* signs, T* top, T* bottom, Wide<T>* gb,
                               int64_t pixels, int64_t count, Wide<T> slope) {
  const int64_t channels = Channels ? Channels : count;
  for (int64_t j = 0; j < pixels; ++j)
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c)
      gb[c] += backward_at(g[j * channels + c], signs[j * channels + c],
                           top + 2 * j * channels + c, bottom + 2 * j * channels + c, channels,
                           slope);
}

// Output rows [begin, end). The vector loop runs over channels, or over a row of one channel.
template <class T, bool ChannelsLast>
PGVAE_CLONES void forward(const T* x, const Wide<T>* bias, T* y, uint8_t* signs, int64_t begin,
                          int64_t end, Blocks blocks, int64_t channels, Wide<T> slope) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t to = blocks.output(row);
    const T *top = x + blocks.top(row), *bottom = top + blocks.width * blocks.channels;
    if (!ChannelsLast) {
      const Wide<T> b = bias[row / blocks.rows % channels];
#pragma omp simd
      for (int64_t j = 0; j < blocks.pixels; ++j)
        forward_at(top + 2 * j, bottom + 2 * j, 1, b, y[to + j], signs[to + j], slope);
    } else if (channels == 16) {
      forward_row<T, 16>(top, bottom, bias, y + to, signs + to, blocks.pixels, 16, slope);
    } else if (channels == 32) {
      forward_row<T, 32>(top, bottom, bias, y + to, signs + to, blocks.pixels, 32, slope);
    } else {
      forward_row<T, 0>(top, bottom, bias, y + to, signs + to, blocks.pixels, channels, slope);
    }
  }
}

template <class T, bool ChannelsLast>
PGVAE_CLONES void backward(const T* g, const uint8_t* signs, T* gx, Wide<T>* gb, int64_t begin,
                           int64_t end, Blocks blocks, int64_t channels, Wide<T> slope) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t from = blocks.output(row), pixels = blocks.pixels;
    T *top = gx + blocks.top(row), *bottom = top + blocks.width * blocks.channels;
    if (!ChannelsLast) {
      Wide<T> sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < pixels; ++j)
        sum += backward_at(g[from + j], signs[from + j], top + 2 * j, bottom + 2 * j, 1, slope);
      gb[row / blocks.rows % channels] += sum;
    } else if (channels == 16) {
      backward_row<T, 16>(g + from, signs + from, top, bottom, gb, pixels, 16, slope);
    } else if (channels == 32) {
      backward_row<T, 32>(g + from, signs + from, top, bottom, gb, pixels, 32, slope);
    } else {
      backward_row<T, 0>(g + from, signs + from, top, bottom, gb, pixels, channels, slope);
    }
  }
}

std::tuple<Tensor, Tensor> bias_act_avg_pool2(const Tensor& input, const Tensor& bias,
                                              double slope) {
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x), half = {s.n, s.c, s.h / 2, s.w / 2, s.channels_last};
  const Blocks blocks(s);
  Tensor y = empty_as(x, half), signs = empty_as(x, half, ScalarType::Byte);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    auto* run = s.channels_last ? forward<T, true> : forward<T, false>;
    parallel(blocks.all_rows(), 4 * blocks.pixels * blocks.channels,
             [&](int64_t begin, int64_t end) {
               run(data<T>(x), data<Wide<T>>(bias), mutable_data<T>(y),
                   mutable_data<uint8_t>(signs), begin, end, blocks, s.c, slope);
             });
  });
  return {y, signs};
}

std::tuple<Tensor, Tensor> bias_act_avg_pool2_backward(const Tensor& grad, const Tensor& saved,
                                                       int64_t height, int64_t width,
                                                       double slope) {
  const Tensor signs = dense(saved);
  const Shape half = shape_of(signs);
  const Tensor g = pooled_gradient(grad, signs, height, width);
  const Shape s = {half.n, half.c, height, width, half.channels_last};
  const Blocks blocks(s);
  Tensor gx = empty_as(g, s), gb = empty_1d(g, s.c, wide(g));
  if (height % 2 || width % 2) torch::stable::zero_(gx);
  dispatch(g.scalar_type(), [&](auto type) {
    using T = decltype(type);
    auto* run = s.channels_last ? backward<T, true> : backward<T, false>;
    parallel_sum(blocks.all_rows(), 4 * blocks.pixels * blocks.channels, s.c,
                 mutable_data<Wide<T>>(gb), [&](int64_t begin, int64_t end, Wide<T>* partial) {
                   run(data<T>(g), data<uint8_t>(signs), mutable_data<T>(gx), partial, begin, end,
                       blocks, s.c, slope);
                 });
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("bias_act_avg_pool2", TORCH_BOX(&bias_act_avg_pool2));
  m.impl("bias_act_avg_pool2_backward", TORCH_BOX(&bias_act_avg_pool2_backward));
}

}  // namespace
}  // namespace pgvae
