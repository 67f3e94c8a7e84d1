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

// Of an input of shape `s`. In channels_last a pixel has all channels; where contiguous, channels
// count as images.
Pooling pooling_of(const Shape& s) {
  return {s.n * (s.channels_last ? 1 : s.c) * (s.h / 2) * (s.w / 2), s.h / 2, s.w / 2, s.h, s.w};
}

template <class T>
void run_forward(const Tensor& input, const Tensor& bias, const Tensor& output,
                 const Tensor& saved, float slope, void* stream) {
  const Shape s = shape_of(input);
  const Pooling pooling = pooling_of(s);
  const T* x = data<T>(input);
  const float* b = data<float>(bias);
  T* y = mutable_data<T>(output);
  uint8_t* signs = mutable_data<uint8_t>(saved);
  if (pooling.outputs * s.c == 0) return;
  if (has_vectors<T>(s, {x, y, signs})) {
    const Tiling tiling(s.c / Vector<T>::kSize, pooling.outputs);
    PGVAE_LAUNCH(forward_vectors<T>, tiling.grid(), tiling.block(), stream, x, b, y, signs,
                 pooling, s.c, slope);
  } else {
    const int64_t inner = s.channels_last ? s.c : 1;
    PGVAE_LAUNCH(forward_numbers<T>, dim3(blocks_for(pooling.outputs * inner, kThreads)),
                 dim3(kThreads), stream, x, b, y, signs, pooling, s.c, inner, slope);
  }
  check_launch("bias_act_avg_pool2");
}

template <class T>
void run_backward(const Tensor& grad, const Tensor& saved, const Tensor& input_grad,
                  const Tensor& bias_grad, float slope, void* stream) {
  const Shape s = shape_of(input_grad);
  const Pooling pooling = pooling_of(s);
  const Tensor sums = partial_sums(grad, s.c);
  const T* g = data<T>(grad);
  const uint8_t* signs = data<uint8_t>(saved);
  T* gx = mutable_data<T>(input_grad);
  float *gb = mutable_data<float>(bias_grad), *partial = mutable_data<float>(sums);
  if (pooling.outputs > 0 && has_vectors<T>(s, {g, gx, signs})) {
    const Tiling tiling(s.c / Vector<T>::kSize, pooling.outputs);
    PGVAE_LAUNCH(backward_vectors<T>, tiling.grid(), tiling.block(), stream, g, signs, gx, partial,
                 pooling, s.c, slope);
    check_launch("bias_act_avg_pool2_backward");
    launch_add_partials(partial, gb, tiling.pixel_blocks, s.c, stream);
    return;
  }
  const int64_t inner = s.channels_last ? s.c : 1;
  if (pooling.outputs * inner > 0)
    PGVAE_LAUNCH(backward_numbers<T>, dim3(blocks_for(pooling.outputs * inner, kThreads)),
                 dim3(kThreads), stream, g, signs, gx, pooling, inner, slope);
  check_launch("bias_act_avg_pool2_backward");
  launch_sum_pixels(s, gx, partial, gb, stream);
}

std::tuple<Tensor, Tensor> bias_act_avg_pool2(const Tensor& input, const Tensor& bias,
                                              double slope) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x), half = {s.n, s.c, s.h / 2, s.w / 2, s.channels_last};
  Tensor y = empty_as(x, half), signs = empty_as(x, half, ScalarType::Byte);
  dispatch(x.scalar_type(), [&](auto type) {
    run_forward<decltype(type)>(x, bias, y, signs, slope, device.stream);
  });
  return {y, signs};
}

std::tuple<Tensor, Tensor> bias_act_avg_pool2_backward(const Tensor& grad, const Tensor& saved,
                                                       int64_t height, int64_t width,
                                                       double slope) {
  const OnDevice device(saved);
  const Tensor signs = dense(saved);
  const Shape half = shape_of(signs);
  const Tensor g = pooled_gradient(grad, signs, height, width);
  Tensor gx = empty_as(g, {half.n, half.c, height, width, half.channels_last});
  Tensor gb = empty_1d(g, half.c, ScalarType::Float);
  if (height % 2 || width % 2) torch::stable::zero_(gx);
  dispatch(g.scalar_type(), [&](auto type) {
    run_backward<decltype(type)>(g, signs, gx, gb, slope, device.stream);
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("bias_act_avg_pool2", TORCH_BOX(&bias_act_avg_pool2));
  m.impl("bias_act_avg_pool2_backward", TORCH_BOX(&bias_act_avg_pool2_backward));
}

}  // namespace
}  // namespace pgvae
