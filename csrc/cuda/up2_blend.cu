// up2_blend: y = old + alpha (new - old), old the pixel above in the image of half the size.
// Backward: g_old = (1 - alpha) * sum of g over 2x2, g_new = alpha g.
#include "op.h"

namespace pgvae {
namespace {

// In channels_last a pixel has `inner` = c numbers; where contiguous it has one, and channels
// count as images. h and w are those of the large image; rows of all images count on.
struct Images {
  int64_t numbers, w, inner;

  // Of number i of the large image, in the small one.
  __device__ __forceinline__ int64_t small(int64_t i) const {
    const int64_t length = w * inner, row = i / length, column = i % length;
    return row / 2 * (length / 2) + column / inner / 2 * inner + column % inner;
  }
};

// 16 bytes of the large image a thread: they lie in one row, as its length is a multiple of them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_vectors(const T* __restrict__ old_images, const T* __restrict__ new_images,
                    T* __restrict__ y, const float* __restrict__ alpha, Images images) {
  constexpr int V = Vector<T>::kSize;
  const float a = __ldg(alpha);
  const int64_t length = images.w * images.inner, vectors = images.numbers / V;
  for (int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x; k < vectors;
       k += int64_t(gridDim.x) * kThreads) {
    const int64_t row = k * V / length;
    const int column = int(k * V % length), inner = int(images.inner);
    const T* above = old_images + row / 2 * (length / 2);
    float v[V];
    Vector<T>::load(new_images + k * V, v);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int at = column + i, pixel = at / inner;
      const float old = load(above[pixel / 2 * inner + (at - pixel * inner)]);
      v[i] = old + a * (v[i] - old);
    }
    Vector<T>::store(y + k * V, v);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_numbers(const T* __restrict__ old_images, const T* __restrict__ new_images,
                    T* __restrict__ y, const float* __restrict__ alpha, Images images) {
  const float a = __ldg(alpha);
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < images.numbers;
       i += int64_t(gridDim.x) * kThreads) {
    const float old = load(old_images[images.small(i)]);
    store(y[i], old + a * (load(new_images[i]) - old));
  }
}

// One number of the small image a thread, and the four of the large one below it. Index: 32 bits
// where they suffice, as division is dear in 64.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    backward(const T* __restrict__ g, T* __restrict__ g_old, T* __restrict__ g_new,
             const float* __restrict__ alpha, Index numbers, Index half, Index inner) {
  const float a = __ldg(alpha);
  for (Index i = Index(blockIdx.x) * kThreads + threadIdx.x; i < numbers;
       i += Index(gridDim.x) * kThreads) {
    const Index row = i / half, column = i - row * half, pixel = column / inner;
    const Index first = (row * 2 * half + pixel * inner) * 2 + (column - pixel * inner);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Index at = first + k / 2 * 2 * half + k % 2 * inner;
      const float value = load(g[at]);
      sum += value;
      store(g_new[at], a * value);
    }
    store(g_old[i], (1 - a) * sum);
  }
}

Images images_of(const Shape& s) { return {s.numel(), s.w, s.channels_last ? s.c : 1}; }

template <class T>
void run_forward(const Tensor& old_images, const Tensor& new_images, const Tensor& weight,
                 const Tensor& output, void* stream) {
  const Images images = images_of(shape_of(new_images));
  const T *old = data<T>(old_images), *fresh = data<T>(new_images);
  const float* alpha = data<float>(weight);
  T* y = mutable_data<T>(output);
  if (images.numbers == 0) return;
  constexpr int V = Vector<T>::kSize;
  const bool vectors = images.w * images.inner % V == 0 && images.w * images.inner < 1 << 30 &&
                       is_aligned(fresh) && is_aligned(y);
  const dim3 grid(blocks_for(vectors ? images.numbers / V : images.numbers, kThreads));
  PGVAE_LAUNCH((vectors ? forward_vectors<T> : forward_numbers<T>), grid, dim3(kThreads), stream,
               old, fresh, y, alpha, images);
  check_launch("up2_blend");
}

template <class T>
void run_backward(const Tensor& grad, const Tensor& weight, const Tensor& old_grad,
                  const Tensor& new_grad, void* stream) {
  const Images images = images_of(shape_of(grad));
  if (images.numbers == 0) return;
  const T* g = data<T>(grad);
  const float* alpha = data<float>(weight);
  T *g_old = mutable_data<T>(old_grad), *g_new = mutable_data<T>(new_grad);
  const dim3 grid(blocks_for(images.numbers / 4, kThreads));
  const int64_t half = images.w * images.inner / 2;
  if (images.numbers < int64_t(1) << 31)
    PGVAE_LAUNCH((backward<T, uint32_t>), grid, dim3(kThreads), stream, g, g_old, g_new, alpha,
                 uint32_t(images.numbers / 4), uint32_t(half), uint32_t(images.inner));
  else
    PGVAE_LAUNCH((backward<T, int64_t>), grid, dim3(kThreads), stream, g, g_old, g_new, alpha,
                 images.numbers / 4, half, images.inner);
  check_launch("up2_blend_backward");
}

Tensor up2_blend(const Tensor& old_images, const Tensor& new_images, const Tensor& alpha) {
  const OnDevice device(new_images);
  const Tensor fresh = dense(new_images), old = blend_partner(old_images, fresh);
  check_alpha(alpha, fresh);
  Tensor y = empty_as(fresh, shape_of(fresh));
  dispatch(fresh.scalar_type(), [&](auto type) {
    run_forward<decltype(type)>(old, fresh, alpha, y, device.stream);
  });
  return y;
}

std::tuple<Tensor, Tensor> up2_blend_backward(const Tensor& grad, const Tensor& alpha) {
  const OnDevice device(grad);
  const Tensor g = dense(grad);
  const Shape s = shape_of(g);
  check_alpha(alpha, g);
  Tensor g_old = empty_as(g, halved(s)), g_new = empty_as(g, s);
  dispatch(g.scalar_type(), [&](auto type) {
    run_backward<decltype(type)>(g, alpha, g_old, g_new, device.stream);
  });
  return {g_old, g_new};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("up2_blend", TORCH_BOX(&up2_blend));
  m.impl("up2_blend_backward", TORCH_BOX(&up2_blend_backward));
}

}  // namespace
}  // namespace pgvae
