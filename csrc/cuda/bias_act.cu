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
bool has_vectors(const Activation& a, const BiasAct& args) {
  return a.channels_last && a.c % Vector<T>::kSize == 0 && is_aligned(args.x) &&
         is_aligned(args.out) && is_aligned(args.y);
}

template <class T>
void run_forward(const Activation& a, const BiasAct& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.out);
  const int64_t pixels = a.n * a.h * a.w;
  if (pixels * a.c == 0) return;
  if (has_vectors<T>(a, args)) {
    const Tiling tiling(a.c / Vector<T>::kSize, pixels);
    PGVAE_LAUNCH(forward_vectors<T>, tiling.grid(), tiling.block(), a.stream, x, args.bias, y,
                 pixels, a.c, args.slope);
  } else {
    PGVAE_LAUNCH(forward_numbers<T>, dim3(blocks_for(pixels * a.c, kThreads)), dim3(kThreads),
                 a.stream, x, args.bias, y, pixels * a.c, a.c, a.channels_last ? 1 : a.h * a.w,
                 args.slope);
  }
  check_launch("bias_act");
}

template <class T>
void run_backward(const Activation& a, const BiasAct& args) {
  const T *g = static_cast<const T*>(args.x), *y = static_cast<const T*>(args.y);
  T* gx = static_cast<T*>(args.out);
  const int64_t pixels = a.n * a.h * a.w;
  if (pixels > 0 && has_vectors<T>(a, args)) {
    const Tiling tiling(a.c / Vector<T>::kSize, pixels);
    PGVAE_LAUNCH(backward_vectors<T>, tiling.grid(), tiling.block(), a.stream, g, y, gx,
                 args.partial, pixels, a.c, args.slope);
    check_launch("bias_act_backward");
    launch_add_partials(args.partial, args.bias_gradient, tiling.pixel_blocks, a.c, a.stream);
    return;
  }
  if (pixels * a.c > 0)
    PGVAE_LAUNCH(backward_numbers<T>, dim3(blocks_for(pixels * a.c, kThreads)), dim3(kThreads),
                 a.stream, g, y, gx, pixels * a.c, args.slope);
  check_launch("bias_act_backward");
  launch_sum_pixels(a, gx, args.partial, args.bias_gradient);
}

}  // namespace

void bias_act(const Activation& a, const BiasAct& args) {
  a.number == Number::Float ? run_forward<float>(a, args) : run_forward<bfloat16>(a, args);
}

void bias_act_backward(const Activation& a, const BiasAct& args) {
  a.number == Number::Float ? run_backward<float>(a, args) : run_backward<bfloat16>(a, args);
}

}  // namespace pgvae
