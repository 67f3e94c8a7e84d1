// bias_act: y = LeakyReLU(x + b). The backward reads the sign of y, not x.
#include "common.h"

namespace pgvae {
namespace {

// A plane is a stretch of `size` numbers under one bias (contiguous), or a pixel of `size`
// channels under one bias each (channels_last).
template <class T, bool PerChannel>
PGVAE_CLONES void forward(const T* x, const Wide<T>* bias, T* y, int64_t begin, int64_t end,
                          int64_t size, int64_t channels, Wide<T> slope) {
  for (int64_t plane = begin; plane < end; ++plane) {
    const Wide<T>* b = PerChannel ? bias : bias + plane % channels;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i)
      store(y[plane * size + i],
            leaky_relu(load(x[plane * size + i]) + (PerChannel ? b[i] : *b), slope));
  }
}

template <class T, bool PerChannel>
PGVAE_CLONES void backward(const T* g, const T* y, T* gx, Wide<T>* gb, int64_t begin, int64_t end,
                           int64_t size, int64_t channels, Wide<T> slope) {
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t start = plane * size;
    if (PerChannel) {
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        const Wide<T> value = load(g[start + i]) * (load(y[start + i]) > 0 ? Wide<T>(1) : slope);
        store(gx[start + i], value);
        gb[i] += value;
      }
    } else {
      Wide<T> sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < size; ++i) {
        const Wide<T> value = load(g[start + i]) * (load(y[start + i]) > 0 ? Wide<T>(1) : slope);
        store(gx[start + i], value);
        sum += value;
      }
      gb[plane % channels] += sum;
    }
  }
}

// How many planes there are, and how long each is.
std::tuple<int64_t, int64_t> planes(const Shape& s) {
  return s.channels_last ? std::tuple(s.n * s.pixels(), s.c) : std::tuple(s.n * s.c, s.pixels());
}

Tensor bias_act(const Tensor& input, const Tensor& bias, double slope) {
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x);
  Tensor y = empty_as(x, s);
  const auto [count, size] = planes(s);
  dispatch(x.scalar_type(), [&, count = count, size = size](auto type) {
    using T = decltype(type);
    auto* run = s.channels_last ? forward<T, true> : forward<T, false>;
    parallel(count, size, [&](int64_t begin, int64_t end) {
      run(data<T>(x), data<Wide<T>>(bias), mutable_data<T>(y), begin, end, size, s.c, slope);
    });
  });
  return y;
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad, const Tensor& output,
                                             double slope) {
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  const Shape s = shape_of(y);
  Tensor gx = empty_as(y, s), gb = empty_1d(y, s.c, wide(y));
  const auto [count, size] = planes(s);
  dispatch(y.scalar_type(), [&, count = count, size = size](auto type) {
    using T = decltype(type);
    auto* run = s.channels_last ? backward<T, true> : backward<T, false>;
    parallel_sum(count, size, s.c, mutable_data<Wide<T>>(gb),
                 [&](int64_t begin, int64_t end, Wide<T>* partial) {
                   run(data<T>(g), data<T>(y), mutable_data<T>(gx), partial, begin, end, size,
                       s.c, slope);
                 });
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
}

}  // namespace
}  // namespace pgvae
