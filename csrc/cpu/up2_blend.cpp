// up2_blend: y = (1 - alpha) up2(old) + alpha new, with up2 the nearest upsampling by two.
// Backward: g_old = (1 - alpha) * sum of g over 2x2, g_new = alpha g.
#include "common.h"

namespace pgvae {
namespace {

// One row of `new`; pixels have `channels` numbers (1 where contiguous). old_row is the row above.
template <class T, int64_t Channels>
PGVAE_INLINE void forward_row(const T* old_row, const T* new_row, T* y, int64_t pixels,
                              int64_t count, Wide<T> alpha) {
  using A = Wide<T>;
  const int64_t channels = Channels ? Channels : count;
#pragma omp simd
  for (int64_t j = 0; j < pixels; ++j)
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t i = (2 * j + b) * channels + c;
        const A old = load(old_row[j * channels + c]);
        store(y[i], old + alpha * (load(new_row[i]) - old));
      }
}

template <class T>
PGVAE_CLONES void forward(const T* old_image, const T* new_image, T* y, int64_t begin, int64_t end,
                          int64_t w, int64_t channels, Wide<T> alpha) {
  for (int64_t row = begin; row < end; ++row) {  // of the output: its row / 2 in `old`
    const T *from_old = old_image + row / 2 * w * channels;
    const T* from_new = new_image + row * 2 * w * channels;
    T* to = y + row * 2 * w * channels;
    if (channels == 1) forward_row<T, 1>(from_old, from_new, to, w, channels, alpha);
    else if (channels == 3) forward_row<T, 3>(from_old, from_new, to, w, channels, alpha);
    else forward_row<T, 0>(from_old, from_new, to, w, channels, alpha);
  }
}

template <class T, int64_t Channels>
PGVAE_INLINE void backward_row(const T* top, const T* bottom, T* g_old, T* g_top, T* g_bottom,
                               int64_t pixels, int64_t count, Wide<T> alpha) {
  using A = Wide<T>;
  const int64_t channels = Channels ? Channels : count;
#pragma omp simd
  for (int64_t j = 0; j < pixels; ++j)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t left = 2 * j * channels + c, right = left + channels;
      const A g0 = load(top[left]), g1 = load(top[right]);
      const A g2 = load(bottom[left]), g3 = load(bottom[right]);
      store(g_old[j * channels + c], (1 - alpha) * ((g0 + g1) + (g2 + g3)));
      store(g_top[left], alpha * g0);
      store(g_top[right], alpha * g1);
      store(g_bottom[left], alpha * g2);
      store(g_bottom[right], alpha * g3);
    }
}

template <class T>
PGVAE_CLONES void backward(const T* g, T* g_old, T* g_new, int64_t begin, int64_t end, int64_t w,
                           int64_t channels, Wide<T> alpha) {
  const int64_t length = 2 * w * channels;
  for (int64_t row = begin; row < end; ++row) {  // of `old`
    const T* top = g + row * 2 * length;
    T *to = g_new + row * 2 * length, *to_old = g_old + row * w * channels;
    if (channels == 1)
      backward_row<T, 1>(top, top + length, to_old, to, to + length, w, channels, alpha);
    else if (channels == 3)
      backward_row<T, 3>(top, top + length, to_old, to, to + length, w, channels, alpha);
    else
      backward_row<T, 0>(top, top + length, to_old, to, to + length, w, channels, alpha);
  }
}

Tensor up2_blend(const Tensor& old_images, const Tensor& new_images, const Tensor& alpha) {
  const Tensor fresh = dense(new_images);
  const Shape s = shape_of(fresh);
  const Tensor old = blend_partner(old_images, fresh);
  check_alpha(alpha, fresh);
  Tensor y = empty_as(fresh, s);
  const int64_t channels = s.channels_last ? s.c : 1, images = s.channels_last ? s.n : s.n * s.c;
  dispatch(fresh.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const Wide<T> a = *data<Wide<T>>(alpha);
    parallel(images * s.h, s.w * channels, [&](int64_t begin, int64_t end) {
      forward<T>(data<T>(old), data<T>(fresh), mutable_data<T>(y), begin, end, s.w / 2, channels,
                 a);
    });
  });
  return y;
}

std::tuple<Tensor, Tensor> up2_blend_backward(const Tensor& grad, const Tensor& alpha) {
  const Tensor g = dense(grad);
  const Shape s = shape_of(g);
  check_alpha(alpha, g);
  Tensor g_old = empty_as(g, halved(s));
  Tensor g_new = empty_as(g, s);
  const int64_t channels = s.channels_last ? s.c : 1, images = s.channels_last ? s.n : s.n * s.c;
  dispatch(g.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const Wide<T> a = *data<Wide<T>>(alpha);
    parallel(images * s.h / 2, 2 * s.w * channels, [&](int64_t begin, int64_t end) {
      backward<T>(data<T>(g), mutable_data<T>(g_old), mutable_data<T>(g_new), begin, end, s.w / 2,
                  channels, a);
    });
  });
  return {g_old, g_new};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("up2_blend", TORCH_BOX(&up2_blend));
  m.impl("up2_blend_backward", TORCH_BOX(&up2_blend_backward));
}

}  // namespace
}  // namespace pgvae
