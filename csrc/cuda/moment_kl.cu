// moment_kl: mean and m2 over the batch for each of d dimensions, v = m2 / count, and
//   kl = 1/2 sum_d (v + mean^2 - 1 - log v).
// Backward: gz = (gkl mean + gmean) / count + (z - mean) (gkl (1 - 1/v) / count + 2 gm2).
#include "op.h"

namespace pgvae {
namespace {

constexpr int kRows = kThreads / kColumns;

// kColumns dimensions a block; two passes over the batch, so that nothing cancels.
__global__ void __launch_bounds__(kThreads)
    moments(const float* __restrict__ z, float* __restrict__ mean, float* __restrict__ m2,
            int64_t count, int64_t d) {
  const int64_t k = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  const bool mine = k < d;
  float sum = 0;
  for (int64_t n = threadIdx.y; mine && n < count; n += kRows) sum += z[n * d + k];
  const float centre = sum_column<kRows>(sum) / count;
  sum = 0;
  for (int64_t n = threadIdx.y; mine && n < count; n += kRows) {
    const float deviation = z[n * d + k] - centre;
    sum += deviation * deviation;
  }
  sum = sum_column<kRows>(sum);
  if (!mine || threadIdx.y != 0) return;
  mean[k] = centre;
  m2[k] = sum;
}

// One block.
__global__ void __launch_bounds__(kThreads)
    kl_of(const float* __restrict__ mean, const float* __restrict__ m2, float* __restrict__ kl,
          int64_t count, int64_t d) {
  float sum = 0;
  for (int64_t k = threadIdx.x; k < d; k += kThreads) {
    const float v = m2[k] / count;
    sum += v + mean[k] * mean[k] - 1 - logf(v);
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) *kl = sum / 2;
}

struct Gradients {
  const float *kl, *mean, *m2;  // each may be null
};

// One block a row.
__global__ void __launch_bounds__(kThreads)
    gradient(const float* __restrict__ z, const float* __restrict__ mean,
             const float* __restrict__ m2, Gradients of, float* __restrict__ gz, int64_t count,
             int64_t d) {
  const float gkl = of.kl ? *of.kl : 0, samples = count;
#pragma unroll 1  // or registers spill
  for (int64_t k = threadIdx.x; k < d; k += kThreads) {
    const int64_t i = int64_t(blockIdx.x) * d + k;
    float slope = of.m2 ? 2 * of.m2[k] : 0;
    if (of.kl) slope += gkl * (1 - samples / m2[k]) / samples;
    gz[i] = (gkl * mean[k] + (of.mean ? of.mean[k] : 0)) / samples + (z[i] - mean[k]) * slope;
  }
}

std::tuple<Tensor, Tensor, Tensor> moment_kl(const Tensor& input) {
  const OnDevice device(input);
  const Tensor z = latents(input);
  check_number(z.scalar_type() == ScalarType::Float);
  const int64_t count = z.size(0), d = z.size(1);
  Tensor kl = torch::stable::new_empty(z, {}), mean = empty_1d(z, d, ScalarType::Float),
         m2 = empty_1d(z, d, ScalarType::Float);
  float *to_mean = mutable_data<float>(mean), *to_m2 = mutable_data<float>(m2);
  if (d > 0)
    PGVAE_LAUNCH(moments, dim3(ceil_divide(d, kColumns)), dim3(kColumns, kRows), device.stream,
                 data<float>(z), to_mean, to_m2, count, d);
  check_launch("moments");
  PGVAE_LAUNCH(kl_of, dim3(1), dim3(kThreads), device.stream, to_mean, to_m2,
               mutable_data<float>(kl), count, d);
  check_launch("moment_kl");
  return {kl, mean, m2};
}

Tensor moment_kl_backward(std::optional<Tensor> gkl, std::optional<Tensor> gmean,
                          std::optional<Tensor> gm2, const Tensor& input, const Tensor& mean,
                          const Tensor& m2) {
  const OnDevice device(input);
  const Tensor z = latents(input);
  check_number(z.scalar_type() == ScalarType::Float);
  check_moments(mean, m2, z);
  const auto of_kl = moment_gradient(gkl, z), of_mean = moment_gradient(gmean, z),
             of_m2 = moment_gradient(gm2, z);
  const int64_t count = z.size(0), d = z.size(1);
  const Gradients gradients = {optional_data<float>(of_kl), optional_data<float>(of_mean),
                               optional_data<float>(of_m2)};
  Tensor gz = torch::stable::empty_like(z);
  if (count * d == 0) return gz;
  PGVAE_LAUNCH(gradient, dim3(count), dim3(kThreads), device.stream, data<float>(z),
               data<float>(mean), data<float>(m2), gradients, mutable_data<float>(gz), count, d);
  check_launch("moment_kl_backward");
  return gz;
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("moment_kl", TORCH_BOX(&moment_kl));
  m.impl("moment_kl_backward", TORCH_BOX(&moment_kl_backward));
}

}  // namespace
}  // namespace pgvae
