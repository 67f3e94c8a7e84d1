// moment_kl: the batch's moments over N for each of d dimensions, and its KL to N(0, I):
//   mean = sum z / N,  m2 = sum (z - mean)^2,  v = m2 / N,
//   kl = 1/2 sum_d (v + mean^2 - 1 - log v).
// With `project` each row is first divided by its norm (the unit sphere). Backward:
//   gz = (gkl mean + gmean) / N + (z - mean) (gkl (1 - 1/v) / N + 2 gm2),
// and through the projection: r (gz - z <gz, z>), with <.,.> the sum over d and r = 1 / norm.
#include "common.h"

namespace pgvae {
namespace {

constexpr double kLeastNorm = 1e-12;  // as torch.nn.functional.normalize

template <class A>
PGVAE_CLONES void inverse_norms(const A* z, A* inverse, int64_t begin, int64_t end, int64_t d) {
  for (int64_t n = begin; n < end; ++n) {
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < d; ++k) sum += z[n * d + k] * z[n * d + k];
    inverse[n] = 1 / std::max(std::sqrt(sum), A(kLeastNorm));
  }
}

// Two passes over dimensions [begin, end): no cancellation, whatever the mean.
template <class A>
PGVAE_CLONES void moments(const A* z, const A* scale, A* mean, A* m2, int64_t begin, int64_t end,
                          int64_t count, int64_t d) {
  std::fill(mean + begin, mean + end, A(0));
  std::fill(m2 + begin, m2 + end, A(0));
  for (int64_t n = 0; n < count; ++n)
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) mean[k] += z[n * d + k] * scale[n];
  for (int64_t k = begin; k < end; ++k) mean[k] /= count;
  for (int64_t n = 0; n < count; ++n)
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) {
      const A centred = z[n * d + k] * scale[n] - mean[k];
      m2[k] += centred * centred;
    }
}

template <class A>
PGVAE_CLONES void gradient(const A* z, const A* scale, const A* mean, const A* offset,
                           const A* slope, A* gz, int64_t begin, int64_t end, int64_t d,
                           bool project) {
  for (int64_t n = begin; n < end; ++n) {
    const A r = scale[n];
    A along = 0;
#pragma omp simd reduction(+ : along)
    for (int64_t k = 0; k < d; ++k) {
      const A unit = z[n * d + k] * r, g = offset[k] + (unit - mean[k]) * slope[k];
      gz[n * d + k] = g;
      along += g * unit;
    }
    if (!project) continue;
    if (r >= A(1 / kLeastNorm)) along = 0;  // the clamp's gradient: the norm was not used
#pragma omp simd
    for (int64_t k = 0; k < d; ++k) gz[n * d + k] = r * (gz[n * d + k] - z[n * d + k] * r * along);
  }
}

// What each row is multiplied by: 1, or 1 / norm.
template <class A>
std::vector<A> row_scales(const Tensor& z, bool project) {
  std::vector<A> scale(z.size(0), A(1));
  if (project)
    parallel(z.size(0), z.size(1), [&](int64_t begin, int64_t end) {
      inverse_norms(data<A>(z), scale.data(), begin, end, z.size(1));
    });
  return scale;
}

std::tuple<Tensor, Tensor, Tensor> moment_kl(const Tensor& input, bool project) {
  const Tensor z = latents(input);
  const int64_t count = z.size(0), d = z.size(1);
  Tensor kl = torch::stable::new_empty(z, {}), mean = empty_1d(z, d, wide(z)),
         m2 = empty_1d(z, d, wide(z));
  dispatch(z.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    const std::vector<A> scale = row_scales<A>(z, project);
    A *to_mean = mutable_data<A>(mean), *to_m2 = mutable_data<A>(m2);
    parallel(d, count, [&](int64_t begin, int64_t end) {
      moments(data<A>(z), scale.data(), to_mean, to_m2, begin, end, count, d);
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

// A gradient's numbers, or null where it is absent.
template <class A>
const A* optional_data(const std::optional<Tensor>& g) {
  return g ? data<A>(*g) : nullptr;
}

Tensor moment_kl_backward(std::optional<Tensor> gkl, std::optional<Tensor> gmean,
                          std::optional<Tensor> gm2, const Tensor& input, const Tensor& mean,
                          const Tensor& m2, bool project) {
  const Tensor z = latents(input);
  check_moments(mean, m2, z);
  const auto kl_gradient = moment_gradient(gkl, z), mean_gradient = moment_gradient(gmean, z),
             m2_gradient = moment_gradient(gm2, z);
  const int64_t count = z.size(0), d = z.size(1);
  Tensor gz = torch::stable::empty_like(z);
  dispatch(z.scalar_type(), [&](auto type) {
    using A = Wide<decltype(type)>;
    const std::vector<A> scale = row_scales<A>(z, project);
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
      gradient(data<A>(z), scale.data(), m, offset.data(), slope.data(), mutable_data<A>(gz),
               begin, end, d, project);
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
