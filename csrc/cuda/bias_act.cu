// bias_act: y = LeakyReLU(x + b); backward gx = g * (y > 0 ? 1 : slope), gb = the sum of gx.
#include "channel_sum.h"

namespace pgvae {
namespace {

// channels_last, channels a multiple of the vector: 16 bytes a thread. Grid: Tiling.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_vectors(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    int64_t pixels, int64_t channels, float slope) {
  constexpr int V = Vector<T>::kSize;
  const int64_t vector = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (vector >= channels / V) return;
  float b[V], v[V];
#pragma unroll
  for (int i = 0; i < V; ++i) b[i] = __ldg(bias + vector * V + i);
  const int64_t step = int64_t(gridDim.x) * blockDim.y;
  for (int64_t p = int64_t(blockIdx.x) * blockDim.y + threadIdx.y; p < pixels; p += step) {
    Vector<T>::load(x + p * channels + vector * V, v);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = leaky_relu(v[i] + b[i], slope);
    Vector<T>::store(y + p * channels + vector * V, v);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_vectors(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ gx,
                     float* __restrict__ partial, int64_t pixels, int64_t channels, float slope) {
  constexpr int V = Vector<T>::kSize;
  const int64_t vector = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const bool mine = vector < channels / V;
  float sum[V] = {}, v[V], out[V];
  const int64_t step = int64_t(gridDim.x) * blockDim.y;
  for (int64_t p = int64_t(blockIdx.x) * blockDim.y + threadIdx.y; mine && p < pixels; p += step) {
    Vector<T>::load(g + p * channels + vector * V, v);
    Vector<T>::load(y + p * channels + vector * V, out);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      v[i] *= out[i] > 0 ? 1 : slope;
      sum[i] += v[i];
    }
    Vector<T>::store(gx + p * channels + vector * V, v);
  }
  leave_partial(sum, partial, vector, channels / V);
}

// Any layout: one number a thread.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_numbers(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    int64_t numbers, int64_t channels, int64_t inner, float slope) {
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < numbers; i += step)
    store(y[i], leaky_relu(load(x[i]) + __ldg(bias + i / inner % channels), slope));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_numbers(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ gx,
                     int64_t numbers, float slope) {
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < numbers; i += step)
    store(gx[i], load(g[i]) * (load(y[i]) > 0 ? 1 : slope));
}

template <class T>
void run_forward(const Tensor& input, const Tensor& bias, const Tensor& output, float slope,
                 void* stream) {
  const Shape s = shape_of(input);
  const T* x = data<T>(input);
  const float* b = data<float>(bias);
  T* y = mutable_data<T>(output);
  const int64_t pixels = s.n * s.pixels();
  if (s.numel() == 0) return;
  if (has_vectors<T>(s, {x, y})) {
    const Tiling tiling(s.c / Vector<T>::kSize, pixels);
    PGVAE_LAUNCH(forward_vectors<T>, tiling.grid(), tiling.block(), stream, x, b, y, pixels, s.c,
                 slope);
  } else {
    PGVAE_LAUNCH(forward_numbers<T>, dim3(blocks_for(s.numel(), kThreads)), dim3(kThreads), stream,
                 x, b, y, s.numel(), s.c, s.channels_last ? 1 : s.pixels(), slope);
  }
  check_launch("bias_act");
}

template <class T>
void run_backward(const Tensor& grad, const Tensor& output, const Tensor& input_grad,
                  const Tensor& bias_grad, float slope, void* stream) {
  const Shape s = shape_of(output);
  const Tensor sums = partial_sums(output, s.c);
  const T *g = data<T>(grad), *y = data<T>(output);
  T* gx = mutable_data<T>(input_grad);
  float *gb = mutable_data<float>(bias_grad), *partial = mutable_data<float>(sums);
  const int64_t pixels = s.n * s.pixels();
  if (pixels > 0 && has_vectors<T>(s, {g, y, gx})) {
    const Tiling tiling(s.c / Vector<T>::kSize, pixels);
    PGVAE_LAUNCH(backward_vectors<T>, tiling.grid(), tiling.block(), stream, g, y, gx, partial,
                 pixels, s.c, slope);
    check_launch("bias_act_backward");
    launch_add_partials(partial, gb, tiling.pixel_blocks, s.c, stream);
    return;
  }
  if (s.numel() > 0)
    PGVAE_LAUNCH(backward_numbers<T>, dim3(blocks_for(s.numel(), kThreads)), dim3(kThreads),
                 stream, g, y, gx, s.numel(), slope);
  check_launch("bias_act_backward");
  launch_sum_pixels(s, gx, partial, gb, stream);
}

Tensor bias_act(const Tensor& input, const Tensor& bias, double slope) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  Tensor y = empty_as(x, shape_of(x));
  dispatch(x.scalar_type(), [&](auto type) {
    run_forward<decltype(type)>(x, bias, y, slope, device.stream);
  });
  return y;
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad, const Tensor& output,
                                             double slope) {
  const OnDevice device(output);
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  Tensor gx = empty_as(y, shape_of(y)), gb = empty_1d(y, y.size(1), ScalarType::Float);
  dispatch(y.scalar_type(), [&](auto type) {
    run_backward<decltype(type)>(g, y, gx, gb, slope, device.stream);
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
}

}  // namespace
}  // namespace pgvae
