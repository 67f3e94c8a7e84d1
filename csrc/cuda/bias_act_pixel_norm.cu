// bias_act_pixel_norm: with u = x + b, r = 1 / sqrt(mean_C(a^2) + eps), <., .> the mean over C,
//   norm_first:  a = u,            y = LeakyReLU(r a),  gu = r (g slope(y) - y / slope(y) <g, y>)
//   else:        a = LeakyReLU(u), y = r a,             gu = r (g - y <g, y>) slope(y)
#include "channel_sum.h"

namespace pgvae {
namespace {

__device__ __forceinline__ float before_norm(float u, bool norm_first, float slope) {
  return norm_first ? u : leaky_relu(u, slope);
}

__device__ __forceinline__ float after_norm(float normed, bool norm_first, float slope) {
  return norm_first ? leaky_relu(normed, slope) : normed;
}

__device__ __forceinline__ float input_gradient(float g, float y, float r, float mean,
                                                bool norm_first, float slope,
                                                float inverse_slope) {
  const bool positive = y > 0;
  if (norm_first)
    return r * ((positive ? g : g * slope) - (positive ? y : y * inverse_slope) * mean);
  const float normed = r * (g - y * mean);
  return positive ? normed : normed * slope;
}

// channels_last: `Lanes` lanes of a warp share a pixel, each with `Each` vectors in registers, so
// that every number is read once. Vectors beyond the channels count as zero.
template <class T, int Lanes, int Each, bool NormFirst>
__global__ void __launch_bounds__(kThreads)
    forward_vectors(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    float* __restrict__ rstd, int64_t pixels, int channels, float slope,
                    float eps) {
  constexpr int V = Vector<T>::kSize;
  const int lane = threadIdx.x % Lanes;
  float b[Each][V];
#pragma unroll
  for (int k = 0; k < Each; ++k)
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int c = (k * Lanes + lane) * V + i;
      b[k][i] = c < channels ? __ldg(bias + c) : 0;
    }
  constexpr int kPixels = kThreads / Lanes;  // of a block at a time
  // All lanes of a warp stay in the loop as long as one has a pixel: the sums need them all.
  const int64_t end = (pixels + kPixels - 1) / kPixels * kPixels;
  for (int64_t p = int64_t(blockIdx.x) * kPixels + threadIdx.x / Lanes; p < end;
       p += int64_t(gridDim.x) * kPixels) {
    float v[Each][V], sum = 0;
#pragma unroll
    for (int k = 0; k < Each; ++k) {
      const int c = (k * Lanes + lane) * V;
      const bool mine = p < pixels && c < channels;
      if (mine) Vector<T>::load(x + p * channels + c, v[k]);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        v[k][i] = mine ? before_norm(v[k][i] + b[k][i], NormFirst, slope) : 0;
        sum += v[k][i] * v[k][i];
      }
    }
    const float r = rsqrtf(sum_lanes<Lanes>(sum) / channels + eps);
    if (p >= pixels) continue;
#pragma unroll
    for (int k = 0; k < Each; ++k) {
      const int c = (k * Lanes + lane) * V;
#pragma unroll
      for (int i = 0; i < V; ++i) v[k][i] = after_norm(v[k][i] * r, NormFirst, slope);
      if (c < channels) Vector<T>::store(y + p * channels + c, v[k]);
    }
    if (lane == 0) rstd[p] = r;
  }
}

// As above; each thread keeps the bias gradient of its channels, and the block leaves one sum.
template <class T, int Lanes, int Each, bool NormFirst>
__global__ void __launch_bounds__(kThreads)
    backward_vectors(const T* __restrict__ g, const T* __restrict__ y,
                     const float* __restrict__ rstd, T* __restrict__ gx,
                     float* __restrict__ partial, int64_t pixels, int channels, float slope,
                     float inverse_slope) {
  constexpr int V = Vector<T>::kSize, kPixels = kThreads / Lanes;
  const int lane = threadIdx.x % Lanes;
  float total[Each][V] = {};
  const int64_t end = (pixels + kPixels - 1) / kPixels * kPixels;
  for (int64_t p = int64_t(blockIdx.x) * kPixels + threadIdx.x / Lanes; p < end;
       p += int64_t(gridDim.x) * kPixels) {
    float of_g[Each][V], of_y[Each][V], sum = 0;
#pragma unroll
    for (int k = 0; k < Each; ++k) {
      const int c = (k * Lanes + lane) * V;
      const bool mine = p < pixels && c < channels;
      if (mine) {
        Vector<T>::load(g + p * channels + c, of_g[k]);
        Vector<T>::load(y + p * channels + c, of_y[k]);
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (!mine) of_g[k][i] = of_y[k][i] = 0;
        sum += of_g[k][i] * of_y[k][i];
      }
    }
    const float mean = sum_lanes<Lanes>(sum) / channels;
    if (p >= pixels) continue;
    const float r = __ldg(rstd + p);
#pragma unroll
    for (int k = 0; k < Each; ++k) {
      const int c = (k * Lanes + lane) * V;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        of_g[k][i] =
            input_gradient(of_g[k][i], of_y[k][i], r, mean, NormFirst, slope, inverse_slope);
        total[k][i] += of_g[k][i];
      }
      if (c < channels) Vector<T>::store(gx + p * channels + c, of_g[k]);
    }
  }
  // Lanes of one warp with the same channels first, then the warps one after another.
  __shared__ float sums[Lanes * Each * V];
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int k = 0; k < Each; ++k)
#pragma unroll
    for (int i = 0; i < V; ++i)
#pragma unroll
      for (int mask = Lanes; mask < 32; mask *= 2)
        total[k][i] += __shfl_xor_sync(0xffffffffu, total[k][i], mask);
  for (int turn = 0; turn < kThreads / 32; ++turn) {
    if (warp == turn && threadIdx.x % 32 < Lanes)
#pragma unroll
      for (int k = 0; k < Each; ++k)
#pragma unroll
        for (int i = 0; i < V; ++i) {
          float& to = sums[(k * Lanes + lane) * V + i];
          to = turn == 0 ? total[k][i] : to + total[k][i];
        }
    __syncthreads();
  }
  for (int c = threadIdx.x; c < channels; c += kThreads)
    partial[int64_t(blockIdx.x) * channels + c] = sums[c];
}

// Any layout: a thread walks the channels of its pixel twice.
struct Walk {
  int64_t pixels, per_image, channels, channel_stride;

  __device__ __forceinline__ int64_t start(int64_t p) const {
    return channel_stride == 1 ? p * channels : p / per_image * channels * per_image + p % per_image;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_numbers(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ y,
                    float* __restrict__ rstd, Walk walk, bool norm_first, float slope, float eps) {
  for (int64_t p = int64_t(blockIdx.x) * kThreads + threadIdx.x; p < walk.pixels;
       p += int64_t(gridDim.x) * kThreads) {
    const int64_t start = walk.start(p);
    float sum = 0;
    for (int64_t c = 0; c < walk.channels; ++c) {
      const float u = load(x[start + c * walk.channel_stride]) + __ldg(bias + c);
      const float a = before_norm(u, norm_first, slope);
      sum += a * a;
    }
    const float r = rsqrtf(sum / walk.channels + eps);
    rstd[p] = r;
    for (int64_t c = 0; c < walk.channels; ++c) {
      const int64_t i = start + c * walk.channel_stride;
      const float a = before_norm(load(x[i]) + __ldg(bias + c), norm_first, slope);
      store(y[i], after_norm(a * r, norm_first, slope));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_numbers(const T* __restrict__ g, const T* __restrict__ y,
                     const float* __restrict__ rstd, T* __restrict__ gx, Walk walk,
                     bool norm_first, float slope, float inverse_slope) {
  for (int64_t p = int64_t(blockIdx.x) * kThreads + threadIdx.x; p < walk.pixels;
       p += int64_t(gridDim.x) * kThreads) {
    const int64_t start = walk.start(p);
    float sum = 0;
    for (int64_t c = 0; c < walk.channels; ++c) {
      const int64_t i = start + c * walk.channel_stride;
      sum += load(g[i]) * load(y[i]);
    }
    const float r = __ldg(rstd + p), mean = sum / walk.channels;
    for (int64_t c = 0; c < walk.channels; ++c) {
      const int64_t i = start + c * walk.channel_stride;
      store(gx[i], input_gradient(load(g[i]), load(y[i]), r, mean, norm_first, slope,
                                  inverse_slope));
    }
  }
}

template <int N>
using Int = std::integral_constant<int, N>;

// Calls f with the lanes and vectors a pixel needs; false where no kernel has enough.
template <class T, class F>
bool with_lanes(int64_t channels, const F& f) {
  const int64_t vectors = channels / Vector<T>::kSize;
  if (vectors <= 1) f(Int<1>(), Int<1>());
  else if (vectors <= 2) f(Int<2>(), Int<1>());
  else if (vectors <= 4) f(Int<4>(), Int<1>());
  else if (vectors <= 8) f(Int<8>(), Int<1>());
  else if (vectors <= 16) f(Int<16>(), Int<1>());
  else if (vectors <= 32) f(Int<32>(), Int<1>());
  else if (vectors <= 64) f(Int<32>(), Int<2>());
  else if (vectors <= 128 && sizeof(T) == 4) f(Int<32>(), Int<sizeof(T) == 4 ? 4 : 2>());
  else return false;
  return true;
}

Walk walk_of(const Shape& s) {
  return {s.n * s.pixels(), s.pixels(), s.c, s.channels_last ? 1 : s.pixels()};
}

template <class T, bool NormFirst>
void run_forward(const Tensor& input, const Tensor& bias, const Tensor& output,
                 const Tensor& saved, float slope, float eps, void* stream) {
  const Shape s = shape_of(input);
  const T* x = data<T>(input);
  const float* b = data<float>(bias);
  T* y = mutable_data<T>(output);
  float* rstd = mutable_data<float>(saved);
  const int64_t pixels = s.n * s.pixels();
  if (pixels == 0) return;
  const bool done = has_vectors<T>(s, {x, y}) && with_lanes<T>(s.c, [&](auto lanes, auto each) {
    PGVAE_LAUNCH((forward_vectors<T, decltype(lanes)::value, decltype(each)::value, NormFirst>),
                 dim3(blocks_for(pixels, kThreads / lanes)), dim3(kThreads), stream, x, b, y, rstd,
                 pixels, int(s.c), slope, eps);
  });
  if (!done)
    PGVAE_LAUNCH(forward_numbers<T>, dim3(blocks_for(pixels, kThreads)), dim3(kThreads), stream, x,
                 b, y, rstd, walk_of(s), NormFirst, slope, eps);
  check_launch("bias_act_pixel_norm");
}

template <class T, bool NormFirst>
void run_backward(const Tensor& grad, const Tensor& output, const Tensor& saved,
                  const Tensor& input_grad, const Tensor& bias_grad, float slope, void* stream) {
  const Shape s = shape_of(output);
  const Tensor sums = partial_sums(output, s.c);
  const T *g = data<T>(grad), *y = data<T>(output);
  const float* rstd = data<float>(saved);
  T* gx = mutable_data<T>(input_grad);
  float *gb = mutable_data<float>(bias_grad), *partial = mutable_data<float>(sums);
  const int64_t pixels = s.n * s.pixels();
  int blocks = 0;  // that leave a partial sum
  if (pixels > 0 && has_vectors<T>(s, {g, y, gx}))
    with_lanes<T>(s.c, [&](auto lanes, auto each) {
      blocks = blocks_for(pixels, int64_t(kThreads) / lanes * 4);
      PGVAE_LAUNCH(
          (backward_vectors<T, decltype(lanes)::value, decltype(each)::value, NormFirst>),
          dim3(blocks), dim3(kThreads), stream, g, y, rstd, gx, partial, pixels, int(s.c), slope,
          1 / slope);
    });
  if (pixels > 0 && blocks == 0)
    PGVAE_LAUNCH(backward_numbers<T>, dim3(blocks_for(pixels, kThreads)), dim3(kThreads), stream,
                 g, y, rstd, gx, walk_of(s), NormFirst, slope, 1 / slope);
  check_launch("bias_act_pixel_norm_backward");
  if (blocks > 0) launch_add_partials(partial, gb, blocks, s.c, stream);
  else launch_sum_pixels(s, gx, partial, gb, stream);
}

std::tuple<Tensor, Tensor> bias_act_pixel_norm(const Tensor& input, const Tensor& bias,
                                               bool norm_first, double slope, double eps) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x);
  Tensor y = empty_as(x, s), rstd = empty_as(x, {s.n, 1, s.h, s.w, false}, ScalarType::Float);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    auto* run = norm_first ? run_forward<T, true> : run_forward<T, false>;
    run(x, bias, y, rstd, slope, eps, device.stream);
  });
  return {y, rstd};
}

std::tuple<Tensor, Tensor> bias_act_pixel_norm_backward(const Tensor& grad, const Tensor& output,
                                                        const Tensor& rstd, bool norm_first,
                                                        double slope) {
  const OnDevice device(output);
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  check_rstd(rstd, y);
  Tensor gx = empty_as(y, shape_of(y)), gb = empty_1d(y, y.size(1), ScalarType::Float);
  dispatch(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    auto* run = norm_first ? run_backward<T, true> : run_backward<T, false>;
    run(g, y, rstd, gx, gb, slope, device.stream);
  });
  return {gx, gb};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("bias_act_pixel_norm", TORCH_BOX(&bias_act_pixel_norm));
  m.impl("bias_act_pixel_norm_backward", TORCH_BOX(&bias_act_pixel_norm_backward));
}

}  // namespace
}  // namespace pgvae
