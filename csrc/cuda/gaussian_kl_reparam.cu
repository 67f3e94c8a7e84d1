// gaussian_kl_reparam: z = mu + e^(lv/2) noise and kl = -1/2 sum_d (1 + lv - mu^2 - e^lv).
// Backward: gmu = gz + gkl mu, glv = gz noise e^(lv/2) / 2 + gkl (e^lv - 1) / 2.
#include "device.h"
#include "launch.h"

namespace pgvae {
namespace {

// One block a row.
__global__ void __launch_bounds__(kThreads) forward(GaussianKl args) {
  const int64_t n = blockIdx.x;
  const float *mu = args.mu + n * args.mu_stride, *logvar = args.logvar + n * args.logvar_stride;
  float sum = 0;
  for (int64_t k = threadIdx.x; k < args.d; k += kThreads) {
    const float m = mu[k], lv = logvar[k], std = expf(0.5f * lv);
    args.z[n * args.d + k] = m + std * args.noise[n * args.d + k];
    sum += (std * std - 1 - lv) + m * m;
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) args.kl[n] = sum / 2;
}

__global__ void __launch_bounds__(kThreads) backward(GaussianKl args) {
  const int64_t n = blockIdx.x;
  const float *mu = args.mu + n * args.mu_stride, *logvar = args.logvar + n * args.logvar_stride;
  const float gkl = args.kl_gradient[n];
  for (int64_t k = threadIdx.x; k < args.d; k += kThreads) {
    const int64_t i = n * args.d + k;
    const float gz = args.z_gradient[i], std = expf(0.5f * logvar[k]);
    args.mu_gradient[i] = gz + gkl * mu[k];
    args.logvar_gradient[i] = 0.5f * (gz * args.noise[i] * std + gkl * (std * std - 1));
  }
}

}  // namespace

void gaussian_kl_reparam(const GaussianKl& args) {
  if (args.count == 0) return;
  PGVAE_LAUNCH(forward, dim3(args.count), dim3(kThreads), args.stream, args);
  check_launch("gaussian_kl_reparam");
}

void gaussian_kl_reparam_backward(const GaussianKl& args) {
  if (args.count * args.d == 0) return;
  PGVAE_LAUNCH(backward, dim3(args.count), dim3(kThreads), args.stream, args);
  check_launch("gaussian_kl_reparam_backward");
}

}  // namespace pgvae
