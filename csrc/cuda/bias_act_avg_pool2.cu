// bias_act_avg_pool2: y = mean of LeakyReLU(x + b) over 2x2 pixels; bit 2a + b of `signs` says that
// pixel (2i + a, 2j + b) was positive. Backward: gx = g / 4 * (its bit ? 1 : slope).
#include "channel_sum.h"

namespace pgvae {
namespace {

// The signs of a vector of outputs, one byte each, moved at once.
template <int Size>
using Signs = std::conditional_t<Size == 8, uint2, uint32_t>;

// Where the four inputs of an output pixel start, in pixels of the input.
struct Pooling {
  int64_t outputs, h, w, in_h, in_w;  // outputs: n * h * w, h and w of the output

  __device__ __forceinline__ int64_t input(int64_t p) const {
    if (outputs < int64_t(1) << 31) return input_of<uint32_t>(p);  // division is dear in 64 bits
    return input_of<int64_t>(p);
  }

  template <class Index>
  __device__ __forceinline__ int64_t input_of(Index p) const {
    const Index row = p / Index(w), image = row / Index(h);
    return (image * in_h + (row - image * Index(h)) * 2) * in_w + (p - row * Index(w)) * 2;
  }
};

// channels_last, channels a multiple of the vector. Grid: Tiling over output pixels.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_vectors(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    uint8_t* __restrict__ signs, Pooling pooling, int64_t channels, float slope) {
  constexpr int V = Vector<T>::kSize;
  const int64_t vector = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (vector >= channels / V) return;
  float b[V];
#pragma unroll
  for (int i = 0; i < V; ++i) b[i] = __ldg(bias + vector * V + i);
  for (int64_t p = int64_t(blockIdx.x) * blockDim.y + threadIdx.y; p < pooling.outputs;
       p += int64_t(gridDim.x) * blockDim.y) {
    const T* from = x + pooling.input(p) * channels + vector * V;
    const int64_t row = pooling.in_w * channels;
    float v[4][V], sum[V];
    Vector<T>::load(from, v[0]);
    Vector<T>::load(from + channels, v[1]);
    Vector<T>::load(from + row, v[2]);
    Vector<T>::load(from + row + channels, v[3]);
    uint8_t bits[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      sum[i] = 0;
      bits[i] = 0;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float u = v[k][i] + b[i];
        sum[i] += leaky_relu(u, slope);
        bits[i] |= (u > 0) << k;
      }
      sum[i] *= 0.25f;
    }
    Vector<T>::store(y + p * channels + vector * V, sum);
    Signs<V> packed;
    memcpy(&packed, bits, V);
    *reinterpret_cast<Signs<V>*>(signs + p * channels + vector * V) = packed;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_vectors(const T* __restrict__ g, const uint8_t* __restrict__ signs,
                     T* __restrict__ gx, float* __restrict__ partial, Pooling pooling,
                     int64_t channels, float slope) {
  constexpr int V = Vector<T>::kSize;
  const int64_t vector = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const bool mine = vector < channels / V;
  float total[V] = {};
  for (int64_t p = int64_t(blockIdx.x) * blockDim.y + threadIdx.y; mine && p < pooling.outputs;
       p += int64_t(gridDim.x) * blockDim.y) {
    float quarter[V], out[V];
    Vector<T>::load(g + p * channels + vector * V, quarter);
    uint8_t bits[V];
    const Signs<V> packed =
        *reinterpret_cast<const Signs<V>*>(signs + p * channels + vector * V);
    memcpy(bits, &packed, V);
    T* to = gx + pooling.input(p) * channels + vector * V;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        out[i] = 0.25f * quarter[i] * (bits[i] >> k & 1 ? 1 : slope);
        total[i] += out[i];
      }
      Vector<T>::store(to + (k / 2 * pooling.in_w + k % 2) * channels, out);
    }
  }
  leave_partial(total, partial, vector, channels / V);
}

// Any layout: one output a thread. `inner` numbers lie between neighbours of a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_numbers(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    uint8_t* __restrict__ signs, Pooling pooling, int64_t channels, int64_t inner,
                    float slope) {
  for (int64_t o = int64_t(blockIdx.x) * kThreads + threadIdx.x; o < pooling.outputs * inner;
       o += int64_t(gridDim.x) * kThreads) {
    const int64_t p = o / inner, c = inner == 1 ? p / (pooling.h * pooling.w) % channels : o % inner;
    const T* from = x + pooling.input(p) * inner + o % inner;
    float sum = 0;
    int bits = 0;
    for (int k = 0; k < 4; ++k) {
      const float u = load(from[(k / 2 * pooling.in_w + k % 2) * inner]) + __ldg(bias + c);
      sum += leaky_relu(u, slope);
      bits |= (u > 0) << k;
    }
    store(y[o], 0.25f * sum);
    signs[o] = bits;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_numbers(const T* __restrict__ g, const uint8_t* __restrict__ signs,
                     T* __restrict__ gx, Pooling pooling, int64_t inner, float slope) {
  for (int64_t o = int64_t(blockIdx.x) * kThreads + threadIdx.x; o < pooling.outputs * inner;
       o += int64_t(gridDim.x) * kThreads) {
    T* to = gx + pooling.input(o / inner) * inner + o % inner;
    for (int k = 0; k < 4; ++k)
      store(to[(k / 2 * pooling.in_w + k % 2) * inner],
            0.25f * load(g[o]) * (signs[o] >> k & 1 ? 1 : slope));
  }
}

template <class T>
bool has_vectors(const Activation& a, const AvgPool2& args) {
  return a.channels_last && a.c % Vector<T>::kSize == 0 && is_aligned(args.x) &&
         is_aligned(args.out) && is_aligned(args.signs);
}

// In channels_last a pixel has all channels; where contiguous, channels count as images.
Pooling pooling_of(const Activation& a) {
  return {a.n * (a.channels_last ? 1 : a.c) * (a.h / 2) * (a.w / 2), a.h / 2, a.w / 2, a.h, a.w};
}

template <class T>
void run_forward(const Activation& a, const AvgPool2& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.out);
  const Pooling pooling = pooling_of(a);
  if (pooling.outputs * a.c == 0) return;
  if (has_vectors<T>(a, args)) {
    const Tiling tiling(a.c / Vector<T>::kSize, pooling.outputs);
    PGVAE_LAUNCH(forward_vectors<T>, tiling.grid(), tiling.block(), a.stream, x, args.bias, y,
                 args.signs, pooling, a.c, args.slope);
  } else {
    const int64_t inner = a.channels_last ? a.c : 1;
    PGVAE_LAUNCH(forward_numbers<T>, dim3(blocks_for(pooling.outputs * inner, kThreads)),
                 dim3(kThreads), a.stream, x, args.bias, y, args.signs, pooling, a.c, inner,
                 args.slope);
  }
  check_launch("bias_act_avg_pool2");
}

template <class T>
void run_backward(const Activation& a, const AvgPool2& args) {
  const T* g = static_cast<const T*>(args.x);
  T* gx = static_cast<T*>(args.out);
  const Pooling pooling = pooling_of(a);
  if (pooling.outputs * a.c > 0 && has_vectors<T>(a, args)) {
    const Tiling tiling(a.c / Vector<T>::kSize, pooling.outputs);
    PGVAE_LAUNCH(backward_vectors<T>, tiling.grid(), tiling.block(), a.stream, g, args.signs, gx,
                 args.partial, pooling, a.c, args.slope);
    check_launch("bias_act_avg_pool2_backward");
    launch_add_partials(args.partial, args.bias_gradient, tiling.pixel_blocks, a.c, a.stream);
    return;
  }
  const int64_t inner = a.channels_last ? a.c : 1;
  if (pooling.outputs * inner > 0)
    PGVAE_LAUNCH(backward_numbers<T>, dim3(blocks_for(pooling.outputs * inner, kThreads)),
                 dim3(kThreads), a.stream, g, args.signs, gx, pooling, inner, args.slope);
  check_launch("bias_act_avg_pool2_backward");
  launch_sum_pixels(a, gx, args.partial, args.bias_gradient);
}

}  // namespace

void bias_act_avg_pool2(const Activation& a, const AvgPool2& args) {
  a.number == Number::Float ? run_forward<float>(a, args) : run_forward<bfloat16>(a, args);
}

void bias_act_avg_pool2_backward(const Activation& a, const AvgPool2& args) {
  a.number == Number::Float ? run_backward<float>(a, args) : run_backward<bfloat16>(a, args);
}

}  // namespace pgvae
