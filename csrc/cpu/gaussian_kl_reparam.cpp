// gaussian_kl_reparam: z = mu + e^(lv/2) noise and kl = -1/2 sum_d (1 + lv - mu^2 - e^lv).
// Backward: gmu = gz + gkl mu, glv = gz noise e^(lv/2) / 2 + gkl (e^lv - 1) / 2.
#include "common.h"

namespace pgvae {
namespace {

PGVAE_INLINE double exp_of(double x) { return std::exp(x); }

// e^x to 1e-7: 2^k e^r with |r| <= log(2) / 2, e^r by its Taylor series, 2^k by its bits; 0 where
// the result would be denormal. Unlike std::exp it becomes vector code.
PGVAE_INLINE float exp_of(float x) {
  constexpr float kLowest = -87.3365f, kHighest = 88.7228f;
  const float clamped = std::min(std::max(x, kLowest), kHighest);
  const float k = std::nearbyint(clamped * 1.44269504f);
  const float r = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
  float series = 1 / 5040.0f;
  series = series * r + 1 / 720.0f;
  series = series * r + 1 / 120.0f;
  series = series * r + 1 / 24.0f;
  series = series * r + 1 / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1;
  series = series * r + 1;
  // Twice half of the exponent: 2^128 has no bits of its own.
  const int32_t half = int32_t(k) / 2, rest = int32_t(k) - half;
  const int32_t half_bits = (half + 127) << 23, rest_bits = (rest + 127) << 23;
  float by_half, by_rest;
  std::memcpy(&by_half, &half_bits, 4);
  std::memcpy(&by_rest, &rest_bits, 4);
  const float result = series * by_half * by_rest;
  return x > kHighest ? INFINITY : x < kLowest ? 0.0f : x == x ? result : x;
}

template <class A>
PGVAE_CLONES void forward(const A* mu, const A* logvar, const A* noise, A* z, A* kl, int64_t begin,
                          int64_t end, int64_t d, int64_t mu_stride, int64_t logvar_stride) {
  for (int64_t n = begin; n < end; ++n) {
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < d; ++k) {
      const A m = mu[n * mu_stride + k], lv = logvar[n * logvar_stride + k];
      const A std = exp_of(lv / 2);
      z[n * d + k] = m + std * noise[n * d + k];
      sum += (std * std - 1 - lv) + m * m;
    }
    kl[n] = sum / 2;
  }
}

template <class A>
PGVAE_CLONES void backward(const A* gz, const A* gkl, const A* mu, const A* logvar, const A* noise,
                           A* gmu, A* glogvar, int64_t begin, int64_t end, int64_t d,
                           int64_t mu_stride, int64_t logvar_stride) {
  for (int64_t n = begin; n < end; ++n) {
    const A g = gkl[n];
#pragma omp simd
    for (int64_t k = 0; k < d; ++k) {
      const A m = mu[n * mu_stride + k], std = exp_of(logvar[n * logvar_stride + k] / 2);
      const A of_z = gz[n * d + k];
      gmu[n * d + k] = of_z + g * m;
      glogvar[n * d + k] = (of_z * noise[n * d + k] * std + g * (std * std - 1)) / 2;
    }
  }
}

std::tuple<Tensor, Tensor> gaussian_kl_reparam(const Tensor& mean, const Tensor& log_variance,
                                               const Tensor& epsilon) {
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon);
  check_same_latents(mu, logvar);
  check_same_latents(mu, noise);
  const int64_t count = mu.size(0), d = mu.size(1);
  Tensor z = torch::stable::empty_like(noise), kl = empty_1d(mu, count, wide(mu));
  dispatch(mu.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    parallel(count, d, [&](int64_t begin, int64_t end) {
      forward(data<A>(mu), data<A>(logvar), data<A>(noise), mutable_data<A>(z),
              mutable_data<A>(kl), begin, end, d, mu.stride(0), logvar.stride(0));
    });
  });
  return {z, kl};
}

std::tuple<Tensor, Tensor> gaussian_kl_reparam_backward(const Tensor& grad_z, const Tensor& grad_kl,
                                                        const Tensor& mean,
                                                        const Tensor& log_variance,
                                                        const Tensor& epsilon) {
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon), gz = latents(grad_z), gkl = row_gradient(grad_kl, mu);
  check_same_latents(mu, logvar);
  check_same_latents(mu, noise);
  check_same_latents(mu, gz);
  const int64_t count = mu.size(0), d = mu.size(1);
  Tensor gmu = torch::stable::empty_like(noise), glogvar = torch::stable::empty_like(noise);
  dispatch(mu.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    parallel(count, d, [&](int64_t begin, int64_t end) {
      backward(data<A>(gz), data<A>(gkl), data<A>(mu), data<A>(logvar), data<A>(noise),
               mutable_data<A>(gmu), mutable_data<A>(glogvar), begin, end, d, mu.stride(0),
               logvar.stride(0));
    });
  });
  return {gmu, glogvar};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("gaussian_kl_reparam", TORCH_BOX(&gaussian_kl_reparam));
  m.impl("gaussian_kl_reparam_backward", TORCH_BOX(&gaussian_kl_reparam_backward));
}

}  // namespace
}  // namespace pgvae
