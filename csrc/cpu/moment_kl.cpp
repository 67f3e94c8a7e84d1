// moment_kl: the batch's moments over N for each of d dimensions, and its KL to N(0, I):
//   mean = sum z / N,  m2 = sum (z - mean)^2,  v = m2 / N,
//   kl = 1/2 sum_d (v + mean^2 - 1 - log v).
// Backward: gz = (gkl mean + gmean) / N + (z - mean) (gkl (1 - 1/v) / N + 2 gm2).
#include "common.h"

namespace pgvae {
namespace {

// Two passes over dimensions [begin, end): no cancellation, whatever the mean.
template <class A>
PGVAE_CLONES void moments(const A* z, A* mean, A* m2, int64_t begin, int64_t end, int64_t count,
                          int64_t d) {
  std::fill(mean + begin, mean + end, A(0));
  std::fill(m2 + begin, m2 + end, A(0));
  for (int64_t n = 0; n < count; ++n)
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) mean[k] += z[n * d + k];
  for (int64_t k = begin; k < end; ++k) mean[k] /= count;
  for (int64_t n = 0; n < count; ++n)
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) {
      const A centred = z[n * d + k] - mean[k];
      m2[k] += centred * centred;
    }
}

template <class A>
PGVAE_CLONES void gradient(const A* z, const A* mean, const A* offset, const A* slope, A* gz,
                           int64_t begin, int64_t end, int64_t d) {
  for (int64_t n = begin; n < end; ++n)
#pragma omp simd
    for (int64_t k = 0; k < d; ++k)
      gz[n * d + k] = offset[k] + (z[n * d + k] - mean[k]) * slope[k];
}

std::tuple<Tensor, Tensor, Tensor> moment_kl(const Tensor& input) {
  const Tensor z = latents(input);
  const int64_t count = z.size(0), d = z.size(1);
  Tensor kl = torch::stable::new_empty(z, {}), mean = empty_1d(z, d, wide(z)),
         m2 = empty_1d(z, d, wide(z));
  dispatch(z.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    A *to_mean = mutable_data<A>(mean), *to_m2 = mutable_data<A>(m2);
    parallel(d, count, [&](int64_t begin, int64_t end) {
      moments(data<A>(z), to_mean, to_m2, begin, end, count, d);
    });
    A sum = 0;
    for (int64_t k = 0; k < d; ++k) {
      const A v = to_m2[k] / count;
      sum += v + to_mean[k] * to_mean[k] - 1 - std::log(v);
    }
    *mutable_data<A>(kl) = sum / 2;
  });
  return {kl, mean, m2};
}

Tensor moment_kl_backward(std::optional<Tensor> gkl, std::optional<Tensor> gmean,
                          std::optional<Tensor> gm2, const Tensor& input, const Tensor& mean,
                          const Tensor& m2) {
  const Tensor z = latents(input);
  check_moments(mean, m2, z);
  const auto kl_gradient = moment_gradient(gkl, z), mean_gradient = moment_gradient(gmean, z),
             m2_gradient = moment_gradient(gm2, z);
  const int64_t count = z.size(0), d = z.size(1);
  Tensor gz = torch::stable::empty_like(z);
  dispatch(z.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    const A *m = data<A>(mean), *sums = data<A>(m2);
    const A *of_kl = optional_data<A>(kl_gradient), *of_mean = optional_data<A>(mean_gradient),
            *of_m2 = optional_data<A>(m2_gradient);
    std::vector<A> offset(d), slope(d);
    for (int64_t k = 0; k < d; ++k) {
      const A g = of_kl ? *of_kl : A(0);
      offset[k] = (g * m[k] + (of_mean ? of_mean[k] : A(0))) / count;
      slope[k] = (of_m2 ? 2 * of_m2[k] : A(0)) + (of_kl ? g * (1 - count / sums[k]) / count : 0);
    }
    parallel(count, d, [&](int64_t begin, int64_t end) {
      gradient(data<A>(z), m, offset.data(), slope.data(), mutable_data<A>(gz), begin, end, d);
    });
  });
  return gz;
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("moment_kl", TORCH_BOX(&moment_kl));
  m.impl("moment_kl_backward", TORCH_BOX(&moment_kl_backward));
}

}  // namespace
}  // namespace pgvae
