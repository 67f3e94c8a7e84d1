// gaussian_kl_reparam: z = mu + e^(lv/2) noise and kl = -1/2 sum_d (1 + lv - mu^2 - e^lv).
// Backward: gmu = gz + gkl mu, glv = gz noise e^(lv/2) / 2 + gkl (e^lv - 1) / 2.
#include "op.h"

namespace pgvae {
namespace {

// [count, d]; rows of mu and logvar may be further apart than d.
struct Posterior {
  const float *mu, *logvar, *noise;
  int64_t count, d, mu_stride, logvar_stride;

  Posterior(const Tensor& mean, const Tensor& log_variance, const Tensor& epsilon)
      : mu(data<float>(mean)), logvar(data<float>(log_variance)), noise(data<float>(epsilon)),
        count(mean.size(0)), d(mean.size(1)), mu_stride(mean.stride(0)),
        logvar_stride(log_variance.stride(0)) {
    check_number(mean.scalar_type() == ScalarType::Float);
    check_same_latents(mean, log_variance);
    check_same_latents(mean, epsilon);
  }
};

// One block a row.
__global__ void __launch_bounds__(kThreads) forward(Posterior q, float* z, float* kl) {
  const int64_t n = blockIdx.x;
  const float *mu = q.mu + n * q.mu_stride, *logvar = q.logvar + n * q.logvar_stride;
  float sum = 0;
  for (int64_t k = threadIdx.x; k < q.d; k += kThreads) {
    const float m = mu[k], lv = logvar[k], std = expf(0.5f * lv);
    z[n * q.d + k] = m + std * q.noise[n * q.d + k];
    sum += (std * std - 1 - lv) + m * m;
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) kl[n] = sum / 2;
}

__global__ void __launch_bounds__(kThreads)
    backward(Posterior q, const float* gz, const float* gkl, float* gmu, float* glogvar) {
  const int64_t n = blockIdx.x;
  const float *mu = q.mu + n * q.mu_stride, *logvar = q.logvar + n * q.logvar_stride;
  const float of_kl = gkl[n];
  for (int64_t k = threadIdx.x; k < q.d; k += kThreads) {
    const int64_t i = n * q.d + k;
    const float of_z = gz[i], std = expf(0.5f * logvar[k]);
    gmu[i] = of_z + of_kl * mu[k];
    glogvar[i] = 0.5f * (of_z * q.noise[i] * std + of_kl * (std * std - 1));
  }
}

std::tuple<Tensor, Tensor> gaussian_kl_reparam(const Tensor& mean, const Tensor& log_variance,
                                               const Tensor& epsilon) {
  const OnDevice device(mean);
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon);
  const Posterior q(mu, logvar, noise);
  Tensor z = torch::stable::empty_like(noise), kl = empty_1d(mu, q.count, ScalarType::Float);
  if (q.count == 0) return {z, kl};
  PGVAE_LAUNCH(forward, dim3(q.count), dim3(kThreads), device.stream, q, mutable_data<float>(z),
               mutable_data<float>(kl));
  check_launch("gaussian_kl_reparam");
  return {z, kl};
}

std::tuple<Tensor, Tensor> gaussian_kl_reparam_backward(const Tensor& grad_z, const Tensor& grad_kl,
                                                        const Tensor& mean,
                                                        const Tensor& log_variance,
                                                        const Tensor& epsilon) {
  const OnDevice device(mean);
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon), gz = latents(grad_z), gkl = row_gradient(grad_kl, mu);
  const Posterior q(mu, logvar, noise);
  check_same_latents(mu, gz);
  Tensor gmu = torch::stable::empty_like(noise), glogvar = torch::stable::empty_like(noise);
  if (q.count * q.d == 0) return {gmu, glogvar};
  PGVAE_LAUNCH(backward, dim3(q.count), dim3(kThreads), device.stream, q, data<float>(gz),
               data<float>(gkl), mutable_data<float>(gmu), mutable_data<float>(glogvar));
  check_launch("gaussian_kl_reparam_backward");
  return {gmu, glogvar};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("gaussian_kl_reparam", TORCH_BOX(&gaussian_kl_reparam));
  m.impl("gaussian_kl_reparam_backward", TORCH_BOX(&gaussian_kl_reparam_backward));
}

}  // namespace
}  // namespace pgvae
